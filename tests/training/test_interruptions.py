"""Runs that are stopped, killed, starved of disk space or fed with NaN: what is left goes on to the same numbers.

Started as a program (`python test_interruptions.py`), this file is the forge of its own tests: it imports everything
once and then forks a training for each line it reads, so that a test can afford dozens of kills.
"""

import copy
import errno
import io
import itertools
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import Timeout
from torch import nn

from medssl_nb.data import load_cohort
from medssl_nb.methods.baselines import MaskedAutoencoding, ViewContrast
from medssl_nb.networks import build_encoder, load_encoder
from medssl_nb.training import NonFiniteLoss, PretextTask, Profile, ema_update, pretrain, read_checkpoint, read_history
from medssl_nb.training.loop import _clip

NETWORK = {"network": "FeatureUNet", "channels": [4, 8], "norm": "instance"}
QUICK = {"steps": 6, "batch_size": 2, "crop": (16, 16, 16), "checkpoint_every": 2, "health_every": 2}
CLOCKS = ("seconds", "seconds_left", "checkpoint")  # what two equal runs may say differently


@cache
def cohort():
    return load_cohort("phantom", train=3, validation=0, test=0, shape=(20, 18, 16), spacing_mm=(16, 16, 16))


class Averaged(PretextTask):
    """All that a method may have to carry over an interruption: a teacher, a centre, a counter, dropout, pairs."""

    name = "averaged"
    group_size = 2

    def __init__(self, encoder):
        super().__init__(encoder)
        self.teacher = copy.deepcopy(encoder).requires_grad_(False)
        self.dropout = nn.Dropout(0.3)
        self.register_buffer("centre", torch.zeros(encoder.feature_channels[-1]))
        self.register_buffer("seen", torch.tensor(0))
        self._batch_mean = None

    def views(self, volumes, generator):
        other = volumes.roll(1, dims=0)  # mixes the two of a pair
        return {
            "clean": volumes,
            "noisy": volumes + 0.3 * torch.randn(volumes.shape, generator=generator) + 0.1 * other,
        }

    def losses(self, views, progress):
        with torch.no_grad():
            target = self.teacher.feature_maps(views["clean"])[-1]
            self._batch_mean = target.mean((0, 2, 3, 4))
        centred = target - self.centre.view(1, -1, 1, 1, 1)
        difference = self.dropout(self.encoder.feature_maps(views["noisy"])[-1]) - centred
        return {"total": difference.square().mean() * (1 + progress), "bias": difference.mean()}

    def after_step(self, progress):
        ema_update(self.teacher, self.encoder, 0.5 + 0.5 * progress)
        self.centre.lerp_(self._batch_mean, 0.1)
        self.seen += 1

    def health(self):
        return {"steps seen": float(self.seen)}


TASKS = {"masked": MaskedAutoencoding, "contrast": ViewContrast, "averaged": Averaged}


def make_task(kind="masked", **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TASKS[kind](build_encoder(NETWORK), **options)


def settings(**changes):
    return Profile(**{**QUICK, **changes})


def train(folder, kind="masked", task=None, until=None, **changes):
    """Train, to the end or until a step was done and the generator is closed. Returns the records."""
    records = []
    run = pretrain(task or make_task(kind), cohort(), settings(**changes), folder=folder, accelerator="cpu")
    for record in run:
        records.append(record)
        if record.step == until:
            run.close()
    return records


def numbers(folder):
    return [{k: v for k, v in record.items() if k not in CLOCKS} for record in read_history(folder)]


def assert_same_run(folder, undisturbed):
    """History (each step once, no gap), weights, buffers and optimiser, to the last digit; nothing else lies about."""
    found, expected = read_checkpoint(folder), read_checkpoint(undisturbed)
    assert [r["step"] for r in numbers(folder)] == list(range(1, expected["step"] + 1))
    assert numbers(folder) == numbers(undisturbed)
    assert found["step"] == expected["step"] and found["run"] == expected["run"]
    for part in ("task", "optimizer"):
        torch.testing.assert_close(found[part], expected[part], rtol=0, atol=0)
    ours, theirs = (load_encoder(f / "encoder.safetensors").state_dict() for f in (folder, undisturbed))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in undisturbed.iterdir())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Folder of a run that nothing disturbs, made once for all tests of one kind."""

    @cache
    def run(kind="masked", **changes):
        folder = tmp_path_factory.mktemp("undisturbed")
        train(folder, kind, **changes)
        return folder

    return run


# ---------------------------------------------------------------- stopped


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("kind", TASKS)
def test_a_run_stopped_after_every_single_step_ends_as_if_it_were_not(kind, every, undisturbed, tmp_path):
    for step in range(1, QUICK["steps"]):
        records = train(tmp_path, kind, until=step, checkpoint_every=every)
        first = (step - 1) // every * every + 1  # from the last checkpoint on, what came after it once more
        assert [r.step for r in records] == list(range(first, step + 1))
    train(tmp_path, kind, checkpoint_every=every)
    assert_same_run(tmp_path, undisturbed(kind))


@pytest.mark.parametrize(
    "kind, changes",
    [
        ("masked", {"accumulate": 2}),
        ("averaged", {"batch_size": 4, "accumulate": 2, "optimizer": "radam", "final_weight_decay": 0.2}),
        ("contrast", {"clip_each_parameter": True, "clip_norm": 0.01, "workers": 1, "steps": 4}),
    ],
)
def test_other_settings_survive_a_stop_too(kind, changes, undisturbed, tmp_path):
    for stop in (1, 3):
        train(tmp_path, kind, until=stop, **changes)
    train(tmp_path, kind, **changes)
    assert_same_run(tmp_path, undisturbed(kind, **{**changes, "workers": 0}))


def test_the_same_task_goes_on_and_says_what_it_did(undisturbed, tmp_path):
    task = make_task()
    train(tmp_path, task=task, until=3)
    records = train(tmp_path, task=task)
    assert [r.step for r in records] == [3, 4, 5, 6] and {r.steps for r in records} == {6}
    assert [r.checkpoint for r in records] == [None, str(tmp_path / "checkpoint.pt")] * 2
    assert [bool(r.health) for r in records] == [False, True] * 2
    assert_same_run(tmp_path, undisturbed())
    assert not task.training and task.encoder.description == NETWORK


def test_what_changes_no_number_may_change(undisturbed, tmp_path):
    train(tmp_path, until=2)
    train(tmp_path, checkpoint_every=1, health_every=2, cache_gb=0.0, check_memory=False)
    assert_same_run(tmp_path, undisturbed())


def test_a_finished_run_is_loaded_and_nothing_is_done(undisturbed):
    folder = undisturbed()
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir() if p.suffix != ".jsonl"}
    task, weights = make_task(), make_task().state_dict()
    assert train(folder, task=task) == []
    assert not torch.equal(task.state_dict()["hidden_value"], weights["hidden_value"])
    torch.testing.assert_close(task.state_dict(), read_checkpoint(folder)["task"], rtol=0, atol=0)
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir() if p.suffix != ".jsonl"} == before


@pytest.mark.parametrize("name", ["encoder.safetensors", "encoder.md"])
def test_an_encoder_that_is_missing_is_written_again(name, undisturbed, tmp_path):
    train(tmp_path)
    (tmp_path / name).unlink()
    assert train(tmp_path) == []
    assert_same_run(tmp_path, undisturbed())


def test_a_run_begun_anew_replaces_the_encoder_of_the_old_one(undisturbed, tmp_path):
    train(tmp_path, seed=1)
    (tmp_path / "checkpoint.pt").rename(tmp_path.with_suffix(".moved-away"))
    train(tmp_path)
    assert_same_run(tmp_path, undisturbed())


def test_the_random_numbers_of_the_caller_are_left_alone(tmp_path):
    def state():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()

    task, before = make_task("averaged"), state()
    for _ in pretrain(task, cohort(), settings(steps=2), folder=tmp_path, accelerator="cpu"):
        assert state() == before
    assert state() == before


def test_what_the_caller_draws_between_steps_changes_nothing(undisturbed, tmp_path):
    for _ in pretrain(make_task("averaged"), cohort(), settings(), folder=tmp_path, accelerator="cpu"):
        torch.manual_seed(int(time.time_ns() % 1000))
        np.random.seed(torch.randint(100, ()).item())
    assert_same_run(tmp_path, undisturbed("averaged"))


# ---------------------------------------------------------------- errors and Ctrl-C on the way


class Fails(MaskedAutoencoding):
    """Raises `error` once, at the `at`-th call of `where`."""

    def __init__(self, encoder, where, at, error):
        super().__init__(encoder)
        self.where, self.left, self.raised = where, at, error

    def _maybe(self, where):
        self.left -= where == self.where
        if where == self.where and self.left == 0:
            raise self.raised

    def views(self, volumes, generator):
        self._maybe("views")
        return super().views(volumes, generator)

    def losses(self, views, progress):
        self._maybe("losses")
        return super().losses(views, progress)

    def after_step(self, progress):
        self._maybe("after_step")


TASKS_THAT_FAIL = [
    ("views", 6, ValueError("a view went wrong")),
    ("losses", 8, RuntimeError("a loss went wrong")),  # in the second part of a step, with gradients of the first
    ("losses", 2, KeyboardInterrupt()),
    ("views", 5, Timeout("a cache elsewhere")),  # not to be taken for that of the folder's own lock
    ("after_step", 4, KeyboardInterrupt()),  # the weights have moved, the checkpoint is not written
]


@pytest.mark.parametrize("where, at, error", TASKS_THAT_FAIL)
def test_an_error_or_an_interrupt_passes_on_and_the_same_task_resumes(where, at, error, undisturbed, tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = Fails(build_encoder(NETWORK), where, at, error)
    with pytest.raises(type(error)) as caught:
        train(tmp_path, task=task, accumulate=2, checkpoint_every=1)
    assert caught.value is error
    if (tmp_path / "checkpoint.pt").exists():
        train(tmp_path, task=task, accumulate=2, checkpoint_every=1)
    else:
        train(tmp_path, accumulate=2)  # nothing was kept: an interrupted first step is begun with fresh weights
    assert_same_run(tmp_path, undisturbed(accumulate=2))


def test_an_interrupt_while_the_checkpoint_is_written(undisturbed, tmp_path, monkeypatch):
    train(tmp_path, until=2)
    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", lambda state, stream: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
    assert read_checkpoint(tmp_path)["step"] == 2 and not list(tmp_path.glob(".writing-*"))
    train(tmp_path)
    assert_same_run(tmp_path, undisturbed())


def test_a_full_disk_leaves_the_old_checkpoint(undisturbed, tmp_path, monkeypatch):
    train(tmp_path, until=2)
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def half(state, stream):
        stream.write(before[: len(before) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", half)
        with pytest.raises(OSError, match="No space left on device"):
            train(tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before and not list(tmp_path.glob(".writing-*"))
    train(tmp_path)
    assert_same_run(tmp_path, undisturbed())


# ---------------------------------------------------------------- what is in the folder


def test_a_history_whose_last_line_is_cut_is_mended(undisturbed, tmp_path):
    train(tmp_path, until=3)
    history = tmp_path / "history.jsonl"
    for left in (lambda last: last - 1, lambda last: last // 2, lambda last: 1):  # no newline, half a record, "{"
        whole = history.read_bytes()
        last = len(whole.splitlines(keepends=True)[-1])  # a record holds times, so its length changes from run to run
        history.write_bytes(whole[: len(whole) - last + left(last)])
        train(tmp_path, until=3)
        assert [r["step"] for r in read_history(tmp_path)] == [1, 2, 3]
    train(tmp_path)
    assert_same_run(tmp_path, undisturbed())


def foreign(kind):
    stream = io.BytesIO()
    if kind == "weights":
        torch.save({"weight": torch.ones(2)}, stream)
    elif kind == "newer format":
        torch.save({"format": 99}, stream)
    elif kind == "objects":
        torch.save({"format": 1, "path": Path("/")}, stream)
    return stream.getvalue() or {"empty": b"", "text": b"hello world\n", "noise": random.Random(0).randbytes(999)}[kind]


@pytest.mark.parametrize("kind", ["weights", "newer format", "objects", "empty", "text", "noise"])
def test_a_foreign_checkpoint_is_refused_by_name_and_left_alone(kind, tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(foreign(kind))
    reason = {"weights": "has format None", "newer format": "has format 99"}.get(kind, "is damaged or no checkpoint")
    with pytest.raises(ValueError, match=f"{path} {reason}.*Move it away to start this run anew"):
        train(tmp_path)
    assert path.read_bytes() == foreign(kind)
    path.unlink()
    assert len(train(tmp_path, steps=1)) == 1  # the lock is free


def test_a_damaged_checkpoint_is_refused_wherever_it_is_damaged(undisturbed, tmp_path):
    whole = (undisturbed() / "checkpoint.pt").read_bytes()
    path, rng = tmp_path / "checkpoint.pt", random.Random(0)
    for length in [0, 1, 2, 4, *(rng.randrange(len(whole)) for _ in range(60)), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"{path} is damaged or no checkpoint"):
            read_checkpoint(tmp_path)
    expected = read_checkpoint(undisturbed())
    refused = 0
    for place in (rng.randrange(len(whole)) for _ in range(150)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << rng.randrange(8)]) + whole[place + 1 :])
        try:
            found = read_checkpoint(tmp_path)
        except ValueError:
            refused += 1
        else:  # the bit stood where nothing is stored
            torch.testing.assert_close(found["task"], expected["task"], rtol=0, atol=0)
            torch.testing.assert_close(found["optimizer"], expected["optimizer"], rtol=0, atol=0)
    assert refused > 75


@pytest.mark.parametrize(
    "kind, changes, message",
    [
        ("masked", {"learning_rate": 0.5}, "profile.learning_rate was 0.002 and is now 0.5"),
        ("masked", {"steps": 8, "seed": 3}, "profile.seed was 0 and is now 3; profile.steps was 6 and is now 8"),
        ("contrast", {}, "task was 'masked_autoencoding' and is now 'view_contrast'"),
        ("masked", {"task": {"mask_ratio": 0.5}}, "settings.mask_ratio was 0.6 and is now 0.5"),
    ],
)
def test_other_settings_are_refused_with_both_values(kind, changes, message, undisturbed):
    folder = undisturbed()
    before = (folder / "checkpoint.pt").read_bytes()
    task = make_task(kind, **changes.pop("task", {}))
    with pytest.raises(ValueError, match=f"{folder} holds a run with other settings: .*{message}.*another folder"):
        train(folder, task=task, **changes)
    assert (folder / "checkpoint.pt").read_bytes() == before


def test_another_cohort_or_network_is_refused(undisturbed):
    other = load_cohort("phantom", train=2, validation=0, test=0, shape=(20, 18, 16), spacing_mm=(16, 16, 16))
    with pytest.raises(ValueError, match=r"cohort\.cases was 3 and is now 2; cohort\.names was"):
        next(pretrain(make_task(), other, settings(), folder=undisturbed(), accelerator="cpu"))
    task = MaskedAutoencoding(build_encoder({**NETWORK, "channels": [4, 6]}))
    with pytest.raises(ValueError, match=r"encoder.channels was \[4, 8\] and is now \[4, 6\]"):
        train(undisturbed(), task=task)


def test_tuples_and_numpy_numbers_among_the_settings_go_on(tmp_path):
    more = {}

    class Particular(MaskedAutoencoding):
        def settings(self):
            return {"sides": (4, 8), "ratio": np.float64(0.5), "names": {1: "one"}, **more}

    for until in (2, None):
        task = Particular(build_encoder({**NETWORK, "channels": (4, 8)}))
        records = train(tmp_path, task=task, until=until, learning_rate=np.float64(1e-3))
    assert [r.step for r in records] == [3, 4, 5, 6]
    more["path"] = tmp_path
    with pytest.raises(ValueError, match=r"masked_autoencoding: settings\(\) .* must be plain values .*Path"):
        train(tmp_path, task=task)


def test_two_writers_in_one_folder(undisturbed, tmp_path):
    first = pretrain(make_task(), cohort(), settings(), folder=tmp_path, accelerator="cpu")
    next(first)
    with pytest.raises(RuntimeError, match=f"another process is writing to {tmp_path}; wait for it"):
        train(tmp_path)
    assert [r.step for r in first] == [2, 3, 4, 5, 6]  # the first one notices nothing
    assert_same_run(tmp_path, undisturbed())
    assert train(tmp_path) == []


# ---------------------------------------------------------------- NaN and infinity


class Diverges(MaskedAutoencoding):
    """NaN in the loss, or infinity in the gradient alone, from progress `at` on."""

    def __init__(self, encoder, what, at):
        super().__init__(encoder)
        self.what, self.at, self.calls = what, at, 0

    def losses(self, views, progress):
        losses = super().losses(views, progress)
        self.calls += 1
        if progress < self.at:
            return losses
        if self.what == "gradient":  # value 0; its gradient 3e38 * 10 does not fit
            difference = self.hidden_value - self.hidden_value.detach()
            return {**losses, "total": losses["total"] + (difference * 10 * 3e38).sum()}
        if self.what == "second part" and self.calls % 2:
            return losses
        return {**losses, "total": losses["total"] * float("nan")}


@pytest.mark.parametrize(
    "what, says",
    [
        ("loss", r"a loss is not finite \(total nan, reconstruction [0-9.]+\)"),
        ("second part", r"a loss is not finite \(total nan, reconstruction [0-9.]+\)"),
        ("gradient", r"the gradient's norm is (inf|nan) \(total [0-9.]+, reconstruction [0-9.]+\)"),
    ],
)
@pytest.mark.parametrize("each", [False, True])
def test_a_run_that_diverges_stops_before_the_weights_are_touched(what, says, each, tmp_path):
    task = Diverges(build_encoder(NETWORK), what, at=3 / 6)
    path = tmp_path / "checkpoint.pt"
    changes = {"accumulate": 2, "clip_each_parameter": each}
    run = pretrain(task, cohort(), settings(**changes), folder=tmp_path, accelerator="cpu")
    for _ in range(3):
        next(run)
    weights = copy.deepcopy(dict(task.named_parameters()))
    with pytest.raises(NonFiniteLoss, match=f"^step 4: {says}. The last good checkpoint is {path};"):
        next(run)
    torch.testing.assert_close(dict(task.named_parameters()), weights, rtol=0, atol=0)
    assert read_checkpoint(tmp_path)["step"] == 2
    assert all(torch.isfinite(t).all() for t in read_checkpoint(tmp_path)["task"].values())
    assert [r["step"] for r in read_history(tmp_path)] == [1, 2, 3]
    task.calls = 0
    with pytest.raises(NonFiniteLoss, match=f"^step 4: .*The last good checkpoint is {path};"):  # again, not past it
        train(tmp_path, task=task, **changes)
    assert read_checkpoint(tmp_path)["step"] == 2


def test_a_first_step_that_diverges_has_no_checkpoint_to_go_back_to(tmp_path):
    task = Diverges(build_encoder(NETWORK), "loss", at=0.0)
    with pytest.raises(NonFiniteLoss, match=r"^step 1: .*No checkpoint had been written"):
        train(tmp_path, task=task)
    with pytest.raises(NonFiniteLoss, match=r"^step 1: .*No checkpoint had been written"):
        train(None, task=task)
    assert not (tmp_path / "checkpoint.pt").exists() and not (tmp_path / "encoder.safetensors").exists()


def test_gradients_enlarged_for_half_precision_are_clipped_by_their_true_size():
    from lightning_fabric.plugins.precision import MixedPrecision

    network = nn.Linear(3, 1, bias=False)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    fabric = SimpleNamespace(strategy=SimpleNamespace(precision=MixedPrecision("16-mixed", "cuda", scaler=scaler)))
    scaler.scale(network(torch.tensor([[0.3, 0.0, 0.4]])).sum()).backward()
    norm = _clip(
        fabric, network, SimpleNamespace(optimizer=optimizer), settings(clip_each_parameter=True, clip_norm=2.0)
    )
    assert norm == pytest.approx(0.5)
    torch.testing.assert_close(network.weight.grad, torch.tensor([[0.3, 0.0, 0.4]]))


# ---------------------------------------------------------------- killed


class Forge:
    """Trainings as children of a process of their own, which has imported everything and never trained itself."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.ready = False

    def wait(self):
        """Until it can fork."""
        self.ready = self.ready or self.process.stdout.readline() == "ready\n"

    def train(self, folder, *, die=None, after_s=None, limit=None, **changes):
        """One attempt. Returns None if it ended by itself, -9 if it was killed, or its error."""
        self.wait()
        order = {"folder": str(folder), "die": die, "after_s": after_s, "limit": limit, "changes": changes}
        self.process.stdin.write(json.dumps(order) + "\n")
        return json.loads(self.process.stdout.readline())

    def stop(self):
        self.process.kill()
        self.process.wait(60)
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture(scope="module", autouse=True)
def running_forge():
    """Started before the first test, so that it imports while others run."""
    running = Forge() if hasattr(os, "fork") else None
    yield running
    if running:
        running.stop()


@pytest.fixture
def forge(running_forge):
    return running_forge or pytest.skip("this system cannot fork")


def serve():
    """Read orders, fork a training for each, kill it when told, say how it ended."""
    __import__("lightning_fabric")
    cohort().unlabelled[0].normalised()
    make_task("contrast")
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        to_read, to_write = os.pipe()
        child = os.fork()
        if not child:
            attempt(to_write, **order)
        if order["after_s"] is not None and not select.select([to_read], [], [], order["after_s"])[0]:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)  # the pipe may stay open longer, in a data loader's worker
        ended = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else json.loads(os.read(to_read, 10_000))
        os.close(to_read), os.close(to_write)
        print(json.dumps(ended), flush=True)


def attempt(to_write, folder, die, after_s, limit, changes):
    """Train in this child, write to the pipe how it ended, and leave without returning."""
    ended = None
    try:
        if die:
            arm(*die)
        if limit:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        train(Path(folder), **changes)
    except Exception as error:
        ended = f"{type(error).__name__}: {error}"
    finally:
        os.write(to_write, json.dumps(ended).encode())
        os._exit(0)


def arm(name, when, count):
    """Make this process kill itself at its `count`-th call of a function: before, half-way through or after it."""
    import safetensors.torch

    from medssl_nb.training import loop

    owner, attribute = {
        "torch.save": (torch, "save"),
        "os.fsync": (os, "fsync"),
        "os.replace": (os, "replace"),
        "save_file": (safetensors.torch, "save_file"),
        "append_history": (loop, "append_history"),
    }[name]
    real, calls = getattr(owner, attribute), itertools.count(1)

    def deadly(*args, **options):
        if next(calls) != count:
            return real(*args, **options)
        if when == "half":
            write_half(name, real, args, options)
        elif when == "after":
            real(*args, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, attribute, deadly)


def write_half(name, real, args, options):
    if name == "torch.save":
        whole = io.BytesIO()
        real(args[0], whole)
        args[1].write(whole.getvalue()[: len(whole.getvalue()) // 2])
        return args[1].flush()
    path = args[0] / "history.jsonl" if name == "append_history" else Path(args[1])
    before = path.read_bytes() if path.exists() else b""
    real(*args, **options)
    whole = path.read_bytes()
    return path.write_bytes(whole[: (len(before) + len(whole)) // 2])


@pytest.mark.parametrize(
    "name, when",
    [
        ("torch.save", "before"),
        ("torch.save", "half"),
        ("torch.save", "after"),
        ("os.fsync", "before"),
        ("os.replace", "before"),
        ("os.replace", "after"),
        ("append_history", "before"),
        ("append_history", "half"),
        ("append_history", "after"),
    ],
)
def test_a_kill_inside_a_write_leaves_the_old_file_or_the_new_one(name, when, forge, undisturbed, tmp_path):
    done, leftovers = 0, 0
    for count in range(1, 9):  # the first attempt dies at its first call, the second at its second, ...
        if forge.train(tmp_path, die=(name, when, count), steps=4, checkpoint_every=1) is None:
            break
        stored = read_checkpoint(tmp_path)  # raises if it is half-written
        step = stored["step"] if stored else 0
        assert done <= step <= done + count
        assert {r["step"] for r in read_history(tmp_path)} >= set(range(1, step + 1))  # no step without its record
        done, leftovers = step, leftovers + len(list(tmp_path.glob(".writing-*")))
    else:
        pytest.fail("the run never came to its end")
    assert count > 2 and done > 0
    assert leftovers or name == "append_history"
    assert_same_run(tmp_path, undisturbed(steps=4))


@pytest.mark.parametrize(
    "name, when, count", [("save_file", "half", 1), ("os.replace", "after", 2), ("os.replace", "before", 3)]
)
def test_a_kill_while_the_encoder_is_written(name, when, count, forge, undisturbed, tmp_path):
    train(tmp_path, steps=4)
    (tmp_path / "encoder.safetensors").unlink()
    (tmp_path / "encoder.md").unlink()
    assert forge.train(tmp_path, die=(name, when, count), steps=4) == -signal.SIGKILL
    assert list(tmp_path.glob(".writing-*"))
    assert forge.train(tmp_path, steps=4) is None
    assert_same_run(tmp_path, undisturbed(steps=4))


def test_kills_at_random_moments(forge, undisturbed, tmp_path):
    options = {"kind": "averaged", "checkpoint_every": 1}
    forge.wait()
    began = time.perf_counter()
    assert forge.train(tmp_path / "calm", **options) is None
    longest_s = 0.7 * (time.perf_counter() - began)
    assert_same_run(tmp_path / "calm", undisturbed("averaged"))  # another process, the same last digit
    rng, runs, reached = random.Random(0), itertools.count(), []
    while len(reached) < 16:
        folder = tmp_path / f"run {next(runs)}"
        while ended := forge.train(folder, after_s=rng.random() * longest_s, **options):
            assert ended == -signal.SIGKILL
            reached.append(len(read_history(folder)))
            longest_s *= 1.05  # comes to an end on a machine that has become slower, too
        assert_same_run(folder, undisturbed("averaged"))
    assert len(set(reached)) > 3  # kills met the run early and late


def test_a_killed_run_with_workers_can_go_on_at_once(forge, undisturbed, tmp_path):
    changes = {"workers": 1, "steps": 4}
    assert forge.train(tmp_path, die=("os.replace", "after", 2), **changes) == -signal.SIGKILL
    assert forge.train(tmp_path, **changes) is None  # orphaned workers do not hold the folder
    assert_same_run(tmp_path, undisturbed(steps=4))


def test_another_process_may_not_write_to_the_folder_of_this_one(forge, tmp_path):
    run = pretrain(make_task(), cohort(), settings(), folder=tmp_path, accelerator="cpu")
    next(run)
    assert f"RuntimeError: another process is writing to {tmp_path}" in forge.train(tmp_path)
    run.close()
    assert forge.train(tmp_path) is None


def test_a_disk_that_is_really_full(forge, undisturbed, tmp_path):
    train(tmp_path, until=2)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    assert "File too large" in forge.train(tmp_path, limit=len(before) // 2)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before and not list(tmp_path.glob(".writing-*"))
    assert forge.train(tmp_path) is None
    assert_same_run(tmp_path, undisturbed())


if __name__ == "__main__":
    serve()


def test_weights_broken_by_after_step_are_not_saved(tiny_cohort, tiny_encoder, tmp_path):
    class Breaks(MaskedAutoencoding):
        def after_step(self, progress):
            if progress >= 0.5:
                self.hidden_value.fill_(torch.nan)

    task = Breaks(tiny_encoder, patch_size=8)
    profile = Profile(steps=4, batch_size=2, crop=(16, 16, 16), checkpoint_every=1, check_memory=False)
    with pytest.raises(NonFiniteLoss, match="step 3: hidden_value holds NaN"):
        list(pretrain(task, tiny_cohort, profile, folder=tmp_path))
    assert read_checkpoint(tmp_path)["step"] == 2
    assert read_checkpoint(tmp_path)["task"]["hidden_value"].isfinite().all()


def test_a_generated_cohort_of_another_size_is_another_run(tiny_cohort, tiny_encoder, tmp_path):
    from medssl_nb.data import load_cohort

    profile = Profile(steps=1, batch_size=2, crop=(16, 16, 16), check_memory=False)
    task = MaskedAutoencoding(tiny_encoder, patch_size=8)
    list(pretrain(task, tiny_cohort, profile, folder=tmp_path))
    larger = load_cohort("phantom", train=6, validation=1, test=1, shape=(24, 20, 20), spacing_mm=(14, 14, 17))
    with pytest.raises(ValueError, match="first_shape"):
        next(pretrain(task, larger, profile, folder=tmp_path))
