"""Two processes that share a batch compute what one would, whoever starts them.

Started by `torchrun` or `fabric run`, this file is the program of its own tests: each process writes what it saw to
`rank<r>.pt` in the folder given.
"""

import os
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from medssl_nb.training import NonFiniteLoss, PretextTask, Profile, gather, info_nce_loss, pretrain, read_history

STEPS, BATCH = 4, 4
KINDS = ("masked", "contrast", "adaptive", "infomax", "infomax masked", "discrimination", "embedding", "alice")
# Adam divides by the gradient's size, so that the rounding of a small one moves its weight, by up to the learning rate
# where gradients are as steep as those of clusters, or are nothing but rounding, as for a bias before an instance norm;
# see the test in float64.
STEEP = ("infomax", "infomax masked", "discrimination", "embedding", "alice")
ROUNDING = {kind: {"rtol": 1e-5, "atol": 5e-3 if kind in STEEP else 1e-4} for kind in KINDS}
LIMITS = ("max_candidates", "max_queries", "hard_negatives", "sampled_negatives")
LOSSES = {"rel": 1e-4}  # a contrast at temperature 0.07 enlarges rounding further


# ---------------------------------------------------------------- what is trained
@cache
def cohort():
    from medssl_nb.data import load_cohort

    return load_cohort("phantom", train=3, validation=0, test=0, shape=(20, 18, 16), spacing_mm=(16, 16, 16))


def settings(**changes):
    values = {"steps": STEPS, "batch_size": BATCH, "crop": (16, 16, 16), "checkpoint_every": 2, "check_memory": False}
    return Profile(**{**values, **changes})


def make_task(kind, double=False):
    """A baseline, reproducibly initialised; in float64, so that agreement is not a question of rounding, if wanted."""
    from medssl_nb.methods.adaptive_masking import AdaptiveMasking
    from medssl_nb.methods.alice import Alice, AnatomicalEmbeddingTask
    from medssl_nb.methods.baselines import MaskedAutoencoding, ViewContrast
    from medssl_nb.methods.boundary_infomax import BoundaryInfoMax
    from medssl_nb.methods.local_discrimination import LocalDiscrimination
    from medssl_nb.networks import build_encoder

    methods = {"masked": MaskedAutoencoding, "contrast": ViewContrast, "adaptive": AdaptiveMasking}
    methods |= {"discrimination": LocalDiscrimination, "embedding": AnatomicalEmbeddingTask, "alice": Alice}
    method = methods.get(kind, BoundaryInfoMax)
    network = {"network": "FeatureUNet", "channels": [4, 8], "norm": "instance"}
    if kind == "adaptive":
        network = {"network": "MaskedPatchTransformer", "volume_size": [16, 16, 16], "patch_size": 4}
        network |= {"hidden_size": 12, "layers": 1, "heads": 2, "mlp_size": 16}

    if kind == "embedding":
        network = {"network": "AnatomicalEmbeddingNet", "widths": [8] * 4, "embedding_dim": 6, "strides": [2, 2, 2, 1]}
    if kind == "alice":
        network = {"network": "ConvBackbone", "widths": [4, 4, 8, 8]}

    class Double(method):
        def views(self, *known, **where):
            views = super().views(*known, **where)
            return {name: v.double() if v.is_floating_point() else v for name, v in views.items()}

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = build_encoder(network)
        clusters = {"num_clusters": 5, "num_heads": 2, "projection": 8, "window": 3, "temperature": 0.5}
        clusters["mask_outside"] = "masked" in kind
        options = {
            "adaptive": {"foreground": "above minimum"},  # patients hide different numbers
            "infomax": clusters,
            "infomax masked": clusters,  # and see different shares of the frame
            # batch norm would have statistics of each process
            "discrimination": {"head_norm": "instance", "num_clusters": 5, "grid": 2, "stage_two": 0.5},
            # limits that nothing reaches, and no negatives of other volumes: each process would draw its own
            "embedding": {
                "view_size": (12, 12, 12),
                "spacing_mm": 16.0,
                "fine": {"positive_radius": 25.0, "ignore_radius": 40.0, **dict.fromkeys(LIMITS, 10**6)},
                "coarse": {"positive_radius": 200.0, "axial_radius": 200.0, **dict.fromkeys(LIMITS[2:], 10**6)}
                | {"global_negatives": 0},
            },
            # dropout would be drawn by each process
            "alice": {"pairs": "random", "margin": 3, "mask_size": 8, "hidden_dim": 12, "bottleneck_dim": 8}
            | {"out_dim": 10, "casa_hidden_dim": 12, "casa_heads": 2, "casa_head_dim": 4, "casa_dropout": 0.0},
        }.get(kind, {})
        return Double(encoder, **options).double() if double else method(encoder, **options)


class Light(PretextTask):
    """Counts what it sees; needs neither MONAI nor a cohort of patients."""

    name, seen = "light", None

    def __init__(self, spoiled_rank=None):
        super().__init__(nn.Conv3d(1, 2, 3))
        for parameter in self.parameters():
            nn.init.constant_(parameter, 0.1)
        self.seen, self.spoiled_rank = [], spoiled_rank

    def views(self, volumes, generator):
        self.seen.append(float(volumes.mean()))
        return {"volume": volumes}

    def losses(self, views, progress):
        loss = (self.encoder(views["volume"]) - 1).square().mean()
        return {"total": loss * float("nan") if self.spoiled_rank == int(os.environ.get("RANK", 0)) else loss}


def light_cohort():
    """Four volumes that are told apart by their mean."""
    generator = torch.Generator().manual_seed(0)
    volumes = [i + torch.rand(1, 6, 6, 6, generator=generator) for i in range(4)]
    cases = [
        SimpleNamespace(name=str(i), normalised=lambda v=v: SimpleNamespace(as_tensor=lambda: v))
        for i, v in enumerate(volumes)
    ]
    return SimpleNamespace(name="light", unlabelled=cases)


LIGHT = {"crop": (4, 4, 4), "warmup": 0.0}


def weights(task):
    return {name: p.detach().clone() for name, p in task.named_parameters()}


def run(task, **options):
    """Losses of every step and the weights afterwards, of a run in this process or with others."""
    until = options.pop("until", None)
    folder, changes = options.pop("folder", None), options
    losses, records = [], pretrain(task, cohort(), settings(**changes), folder=folder)
    for record in records:
        losses.append(record.losses["total"])
        if record.step == until:
            records.close()
    return {"losses": losses, "weights": weights(task)}


# ---------------------------------------------------------------- the program
def embeddings():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(6, 5, generator=generator, dtype=torch.float64) for _ in range(2)]


def contrast(layer, rank=0, processes=1):
    """InfoNCE over 6 samples, of which each process holds a part."""
    mine = slice(rank * 6 // processes, (rank + 1) * 6 // processes)
    return info_nce_loss(*(gather(layer(part[mine])) for part in embeddings()), temperature=0.2)


def make_layer():
    layer = nn.Linear(5, 3, bias=False, dtype=torch.float64)
    layer.weight.data = torch.linspace(-1, 1, 15, dtype=torch.float64).view(3, 5).sin()
    return layer


def check_gathering(rank):
    import torch.distributed as dist

    layer = make_layer()
    loss = contrast(layer, rank, 2)
    loss.backward()
    mean = layer.weight.grad.clone()
    dist.all_reduce(mean)
    plain = gather(torch.tensor([[10.0 * rank], [10.0 * rank + 1]]))
    return {"loss": loss.item(), "gradient": mean / 2, "plain": plain.flatten().tolist()}


def share_light():
    """Train with default arguments, whoever started this process."""
    task = Light()
    records = list(pretrain(task, light_cohort(), settings(**LIGHT)))
    world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    return {"world": world, "seen": task.seen, "losses": [r.losses["total"] for r in records], "weights": weights(task)}


def refusals():
    messages = {}
    for name, error, task, changes in [
        ("batch of 3", ValueError, Light(), {"batch_size": 3}),
        ("NaN in one", NonFiniteLoss, Light(spoiled_rank=1), {}),
    ]:
        try:
            list(pretrain(task, light_cohort(), settings(**{**LIGHT, **changes})))
        except error as caught:
            messages[name] = str(caught)
    return messages


def main(folder, which):
    rank = int(os.environ["RANK"])
    found = {"light": share_light()}
    if which == "all":
        found |= {"gathering": check_gathering(rank), "refusals": refusals()}
        for kind in KINDS:
            found[kind] = run(make_task(kind), folder=folder / kind)
            found[f"{kind} double"] = run(make_task(kind, double=True))
            found[f"{kind} half"] = run(make_task(kind), folder=folder / f"{kind} half", until=2)
        again = make_task("masked")
        found["finished"] = run(again, folder=folder / "masked")
    torch.save(found, folder / f"rank{rank}.pt")
    torch.distributed.destroy_process_group()


# ---------------------------------------------------------------- the tests
def launch(folder, which, *command):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "MASTER_ADDR": "127.0.0.1"}
    ended = subprocess.run(
        [str(part) for part in (*command, __file__, folder, which)], env=environment, capture_output=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr.decode()[-4000:]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def torchrun_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("torchrun")


@pytest.fixture(scope="module")
def by_torchrun(torchrun_folder):
    """What each of two processes saw."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2)
    return launch(torchrun_folder, "all", sys.executable, *torchrun)


@cache
def alone(kind, **options):
    return run(make_task(kind, **({"double": options.pop("double")} if "double" in options else {})), **options)


def test_a_contrast_of_gathered_samples_has_the_gradient_of_one_process(by_torchrun):
    layer = make_layer()
    loss = contrast(layer)
    loss.backward()
    for found in by_torchrun:
        assert found["gathering"]["loss"] == pytest.approx(loss.item(), rel=1e-12)
        torch.testing.assert_close(found["gathering"]["gradient"], layer.weight.grad, rtol=1e-10, atol=1e-13)
        assert found["gathering"]["plain"] == [0, 1, 10, 11]


def test_one_process_gathers_nothing():
    samples = torch.rand(3, 2, requires_grad=True)
    assert gather(samples) is samples


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_train_as_one_does(kind, by_torchrun):
    for found in by_torchrun:
        assert found[kind]["losses"] == pytest.approx(alone(kind)["losses"], **LOSSES)
        torch.testing.assert_close(found[kind]["weights"], alone(kind)["weights"], **ROUNDING[kind])
    torch.testing.assert_close(by_torchrun[0][kind]["weights"], by_torchrun[1][kind]["weights"], rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_rounding_is_different(kind, by_torchrun):
    one, two = alone(kind, double=True), by_torchrun[0][f"{kind} double"]
    torch.testing.assert_close(two["weights"], one["weights"], rtol=1e-10, atol=1e-10)


def test_two_parts_train_as_two_processes_do(by_torchrun):
    parts = alone("masked", double=True, accumulate=2)
    torch.testing.assert_close(parts["weights"], by_torchrun[0]["masked double"]["weights"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_one_process_goes_on_where_two_stopped(kind, by_torchrun, torchrun_folder):
    folder = torchrun_folder / f"{kind} half"
    task = make_task(kind)
    rest = run(task, folder=folder)
    assert [*by_torchrun[0][f"{kind} half"]["losses"], *rest["losses"]] == pytest.approx(
        alone(kind)["losses"], **LOSSES
    )
    torch.testing.assert_close(rest["weights"], alone(kind)["weights"], **ROUNDING[kind])
    assert [r["step"] for r in read_history(folder)] == [1, 2, 3, 4]


def test_one_history_one_checkpoint_one_encoder(by_torchrun, torchrun_folder):
    folder = torchrun_folder / "masked"
    names = {".lock", "checkpoint.pt", "encoder.md", "encoder.safetensors", "history.jsonl"}
    assert {p.name for p in folder.iterdir()} == names
    assert [r["step"] for r in read_history(folder)] == [1, 2, 3, 4]
    assert [r["losses"]["total"] for r in read_history(folder)] == by_torchrun[1]["masked"]["losses"]
    for found in by_torchrun:  # a finished run is loaded by both
        assert found["finished"]["losses"] == []
        torch.testing.assert_close(found["finished"]["weights"], found["masked"]["weights"], rtol=0, atol=0)


def assert_shared(found, monkeypatch):
    """Each of two processes saw one half of every batch of one training."""
    monkeypatch.delenv("RANK", raising=False)
    one = share_light()
    assert one["world"] == 1 and len(one["seen"]) == STEPS * BATCH
    assert [f["world"] for f in found] == [2, 2]
    halves = [f["seen"] for f in found]
    for step in range(STEPS):
        both = [mean for half in halves for mean in half[step * 2 : step * 2 + 2]]
        assert both == one["seen"][step * BATCH : (step + 1) * BATCH]
    for f in found:
        assert f["losses"] == pytest.approx(one["losses"], rel=1e-5)
        torch.testing.assert_close(f["weights"], one["weights"], **ROUNDING["masked"])


def test_torchrun_shares_the_batch(by_torchrun, monkeypatch):
    assert_shared([found["light"] for found in by_torchrun], monkeypatch)


def test_fabric_run_shares_the_batch(tmp_path, monkeypatch):
    # What `fabric run --devices 2 --accelerator cpu` does when `click` has read its command line.
    program = (
        "import sys; from argparse import Namespace; from lightning_fabric.cli import main; "
        "main(Namespace(script=sys.argv[1], devices='2', accelerator='cpu', strategy=None, precision=None, num_nodes=1,"
        f" node_rank=0, main_address='127.0.0.1', main_port={free_port()}), sys.argv[2:])"
    )
    found = launch(tmp_path, "light", sys.executable, "-c", program)
    assert_shared([f["light"] for f in found], monkeypatch)


def test_a_batch_that_does_not_divide_is_refused_with_one_that_would(by_torchrun):
    for found in by_torchrun:
        assert "batch_size 3 must divide into 2 process(es)" in found["refusals"]["batch of 3"]
        assert "take a multiple of 2" in found["refusals"]["batch of 3"]


def test_nan_in_one_process_stops_both(by_torchrun):
    for found in by_torchrun:
        assert "step 1: a loss is not finite (total nan)" in found["refusals"]["NaN in one"]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
