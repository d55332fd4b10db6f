"""The memory estimate: by hand, by law, and against what PyTorch and the operating system say of a real step."""

import copy
import json
import random
import subprocess
import sys
from itertools import accumulate, pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from medssl_nb.methods.baselines import MaskedAutoencoding, ViewContrast
from medssl_nb.networks import build_encoder
from medssl_nb.training import MemoryEstimate, PretextTask, Profile, estimate_memory, pretrain
from medssl_nb.training.batches import Crop, make_views
from medssl_nb.training.loop import make_optimizer
from medssl_nb.training.memory import OVERHEAD, require_memory

UNET = {"network": "FeatureUNet", "channels": [4, 8], "norm": "instance"}
TRANSFORMER = {
    "network": "MaskedPatchTransformer",
    "volume_size": [32] * 3,
    "patch_size": 4,
    "hidden_size": 48,
    "layers": 3,
    "heads": 3,
}


class Squares(PretextTask):
    """Keeps the volume and their product with one weight, that one twice."""

    group_size = 2

    def __init__(self):
        super().__init__(nn.Linear(1, 1))
        self.weight = nn.Parameter(torch.tensor(2.0))
        self.teacher = nn.Linear(9, 10, bias=False).requires_grad_(False)
        self.groups = []

    def views(self, volumes, generator):
        assert len(volumes) == self.group_size
        return {"x": volumes}

    def losses(self, views, progress):
        y = views["x"] * self.weight
        return {"total": (y * y).mean()}


def settings(batch_size=4, side=16, **changes):
    return Profile(batch_size=batch_size, crop=(side,) * 3, **changes)


def unet_task(method=MaskedAutoencoding):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return method(build_encoder(UNET))


# ---------------------------------------------------------------- by hand
def test_estimate_by_hand():
    found = estimate_memory(Squares(), settings(batch_size=6, side=8))
    volumes = 6 * 8**3 * 4  # bytes
    assert found.activations == 2 * volumes + 3 * volumes  # volume and product; the batch itself, its views, spare
    assert (found.parameters, found.gradients, found.optimizer) == (3, 12, 24)
    assert found.weights == 4 * (3 + 90)  # the frozen teacher needs a place, but no gradient
    assert found.volumes == 6 and found.overhead == 550_000_000
    assert found.workspace == 4 * volumes  # the largest thing kept, four times
    assert found.total == 372 + 12 + 24 + 9 * volumes + 550_000_000


def test_it_says_what_it_is_made_of():
    estimate = MemoryEstimate(10_000_000, 10_000_000, 20_000_000, 2_000_000_000, 500_000_000, 4, 2_500_000, 300_000_000)
    assert str(estimate) == (
        "2.8 GB per process: 2.50 GB for 4 volume(s) at once, 0.04 GB for 2.50 million weights with gradients and "
        "optimiser, 0.3 GB for libraries"
    )


def test_more_channels_of_the_volume_and_a_card():
    one, three = (estimate_memory(Squares(), settings(), in_channels=c) for c in (1, 3))
    assert three.activations == 3 * one.activations
    assert estimate_memory(Squares(), settings(), device="cuda:1").overhead == OVERHEAD["cuda"]


# ---------------------------------------------------------------- laws
@pytest.mark.parametrize("method", [MaskedAutoencoding, ViewContrast])
def test_memory_grows_with_the_batch_and_with_the_voxels(method):
    task = unet_task(method)
    four, eight = (estimate_memory(task, settings(batch_size=b)) for b in (4, 8))
    assert eight.activations == pytest.approx(2 * four.activations, rel=0.01)
    assert (eight.weights, eight.gradients, eight.optimizer) == (four.weights, four.gradients, four.optimizer)
    larger = estimate_memory(task, settings(side=32))
    assert 7 < larger.activations / four.activations < 9


def test_parts_and_processes_share_it():
    task = unet_task()
    whole = estimate_memory(task, settings(batch_size=8)).activations
    assert estimate_memory(task, settings(batch_size=8, accumulate=2)).activations == pytest.approx(whole / 2, rel=0.01)
    assert estimate_memory(task, settings(batch_size=8), processes=4).activations == pytest.approx(whole / 4, rel=0.01)


def test_half_precision_keeps_half():
    full, half = (estimate_memory(unet_task(), settings(precision=p)) for p in ("32-true", "bf16-mixed"))
    assert 0.5 < half.activations / full.activations < 0.6  # the volumes themselves stay as they are
    assert half.weights == full.weights


def test_one_volume_is_enough_where_the_method_compares_none():
    alone = estimate_memory(unet_task(), settings(batch_size=1))
    assert 2 * alone.activations == pytest.approx(
        estimate_memory(unet_task(), settings(batch_size=2)).activations, rel=1e-4
    )
    with pytest.raises(ValueError, match="a contrast needs other samples"):
        estimate_memory(unet_task(ViewContrast), settings(batch_size=1))


def test_neither_the_task_nor_any_random_number_of_the_caller_changes():
    def state():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()

    task = unet_task().eval()
    before, numbers = copy.deepcopy(task.state_dict()), state()
    estimate_memory(task, settings())
    assert state() == numbers
    torch.testing.assert_close(task.state_dict(), before, rtol=0, atol=0)
    assert not task.training and all(p.grad is None for p in task.parameters())


# ---------------------------------------------------------------- refusing
def test_what_does_not_fit_is_refused_with_advice():
    estimate = MemoryEstimate(0, 0, 0, 4_000_000_000, 1_000_000_000, 4, 1, 0)
    require_memory(estimate, 5_000_000_000, "cpu")
    with pytest.raises(MemoryError) as caught:
        require_memory(estimate, 4_999_999_999, "cuda:0")
    message = str(caught.value)
    assert message.startswith("this run needs about 5.0 GB per process") and "cuda:0 has 5.0 GB free" in message
    assert "a smaller batch_size, accumulate=2 (the same batch in two parts), a smaller crop" in message
    assert "check_memory=False" in message


def test_one_volume_cannot_be_parted():
    with pytest.raises(
        MemoryError, match='a smaller crop, a narrower network, precision="bf16-mixed" on a GPU'
    ) as caught:
        require_memory(MemoryEstimate(0, 0, 0, 4_000_000_000, 0, 1, 1, 0), 1e9, "cpu")
    assert "batch_size" not in str(caught.value)


def test_a_run_that_does_not_fit_never_starts(tiny_cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("medssl_nb.training.loop.free_device_bytes", lambda device: 1e6)
    task = unet_task()
    weights = copy.deepcopy(task.state_dict())
    run = pretrain(task, tiny_cohort, settings(batch_size=2, steps=1), folder=tmp_path, accelerator="cpu")
    with pytest.raises(MemoryError, match=r"this run needs about 0\.6 GB per process: .*; cpu has 0\.0 GB free"):
        next(run)
    torch.testing.assert_close(task.state_dict(), weights, rtol=0, atol=0)
    assert not (tmp_path / "checkpoint.pt").exists()
    unchecked = settings(batch_size=2, steps=1, check_memory=False)
    assert len(list(pretrain(task, tiny_cohort, unchecked, folder=tmp_path, accelerator="cpu"))) == 1
    # Loading what is finished takes no training's memory.
    assert not list(pretrain(task, tiny_cohort, settings(batch_size=2, steps=1), folder=tmp_path, accelerator="cpu"))


# ---------------------------------------------------------------- measured
def real_step(task, profile):
    volumes = torch.rand((profile.batch_size, 1, *profile.crop))
    crops = Crop(volumes, torch.full((len(volumes), 3), 0.5))
    task.losses(make_views(task, crops, 0, 0, range(len(volumes))), 0.0)["total"].backward()


def peak_of_tensors(action):
    """Most bytes that tensors held at once while `action` ran, on top of those before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        action()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())))


@pytest.mark.parametrize(
    "method, encoder", [(MaskedAutoencoding, UNET), (ViewContrast, UNET), (MaskedAutoencoding, TRANSFORMER)]
)
def test_tensors_of_a_real_step_take_about_what_was_estimated(method, encoder):
    task, profile = method(build_encoder(encoder)), settings(batch_size=4, side=32)
    estimate = estimate_memory(task, profile)
    real_step(task, profile)  # gradients are there before the measurement
    peak = peak_of_tensors(lambda: real_step(task, profile))
    assert 0.8 < (estimate.activations + estimate.workspace) / peak < 1.8


def test_the_estimate_itself_takes_little():
    task, profile = unet_task(), settings(batch_size=16, side=32)
    peak = peak_of_tensors(lambda: estimate_memory(task, profile))
    assert peak < 0.2 * estimate_memory(task, profile).activations


class Convolutions(nn.Module):
    """An encoder that needs nothing but PyTorch: the process that is measured starts fast."""

    spatial_dims, in_channels, feature_channels, feature_strides = 3, 1, (16,), ((1, 1, 1),)

    def __init__(self):
        super().__init__()
        widths = (1, 16, 16, 16)
        layers = (nn.Sequential(nn.Conv3d(a, b, 3, padding=1), nn.ReLU()) for a, b in pairwise(widths))
        self.layers = nn.Sequential(*layers)

    def feature_maps(self, volume):
        return [self.layers(volume)]


def measure():
    """Bytes the operating system gave to this process for two steps, and the estimate."""
    import resource

    import psutil

    task, profile = ViewContrast(Convolutions()), settings(batch_size=4, side=48)
    optimizer = make_optimizer(task, profile)
    real_step(task, settings(batch_size=2, side=8))
    before = psutil.Process().memory_info().rss
    for _ in range(2):
        real_step(task, profile)
        optimizer.step()
        optimizer.zero_grad()
    if sys.platform == "linux":  # getrusage would tell the peak of the process that started this one, if larger
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        peak = int(status["VmHWM"].split()[0]) * 1024
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    estimate = estimate_memory(task, profile)
    print(json.dumps({"measured": peak - before, "estimate": estimate.total - estimate.overhead}))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell the peak this way")
def test_the_operating_system_agrees_within_a_factor_of_two():
    ended = subprocess.run([sys.executable, __file__], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    found = SimpleNamespace(**json.loads(ended.stdout.splitlines()[-1]))
    assert found.measured > 1e8
    assert 0.5 < found.estimate / found.measured < 2


if __name__ == "__main__":
    measure()
