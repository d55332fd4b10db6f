"""The pre-training loop: a generator of step records, the same code on a laptop's CPU and on several nodes of GPUs."""

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from medssl_nb.training.batches import CropDataset, StepSampler, batches, make_views
from medssl_nb.training.checkpoints import (
    CHECKPOINT,
    ENCODER,
    append_history,
    check_same_run,
    clear_drafts,
    cut_history,
    read_checkpoint,
    write_checkpoint,
)
from medssl_nb.training.memory import estimate_memory, free_device_bytes, require_memory
from medssl_nb.training.optimisation import clip_gradients_per_parameter, parameter_groups
from medssl_nb.training.profile import Profile
from medssl_nb.training.randomness import default_generators, seed_of
from medssl_nb.training.schedules import cosine_schedule
from medssl_nb.training.task import PretextTask, Views


@dataclass(frozen=True)
class StepRecord:
    """What one step did.

    Attributes:
        step, steps: this step, from 1, of how many.
        losses: "total" and its terms, mean over processes and parts.
        learning_rate: of this step.
        gradient_norm: before clipping.
        health: collapse meters, in the steps where they were read.
        seconds: this step took.
        seconds_left: until the end of the run, from the pace of this run so far.
        checkpoint: the file, in the steps that wrote one.
    """

    step: int
    steps: int
    losses: dict[str, float]
    learning_rate: float
    gradient_norm: float
    health: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    seconds_left: float = 0.0
    checkpoint: str | None = None


class NonFiniteLoss(RuntimeError):
    """A loss or gradient became NaN or infinite; the message names the step, the terms and the last good checkpoint."""


def pretrain(
    task: PretextTask,
    cohort,
    profile: Profile,
    *,
    folder: str | os.PathLike | None = None,
    about: Mapping | None = None,
    accelerator: str = "auto",
    devices: int = 1,
) -> Iterator[StepRecord]:
    """Train `task` on the unlabelled images of `cohort`, one record per step; stop iterating at any time.

    With a `folder`, checkpoints are written there; calling again with the same settings goes on from the last one, to
    the same numbers as a run that was never stopped (on the CPU to the last digit), and a finished run is loaded:
    `task` then holds its weights and there is nothing left to yield. Started by `torchrun` or `fabric run`, the
    processes share each batch. Every random number follows from `profile.seed` and the step (see
    `medssl_nb.training.randomness`); the generators of the caller are left alone.

    Args:
        task: trained in place, on the CPU again when the run ends.
        cohort: a `Cohort`; only `cohort.unlabelled` is read.
        profile: how long, how large, how fast.
        folder: for `checkpoint.pt`, `history.jsonl` and, at the end, `encoder.safetensors`; None keeps nothing.
        about: further facts for the encoder's card, such as the recipe's name.
        accelerator: "auto", "cpu", "cuda", "mps".
        devices: processes on this machine, one per GPU; `torchrun` and `fabric run` say it themselves.

    Yields:
        `StepRecord` for each step that this call does.

    Raises:
        ValueError: the folder holds a run with other settings, or a setting does not fit.
        MemoryError: the run would not fit; says how to make it smaller.
        NonFiniteLoss: names the last good checkpoint. Later checkpoints were not written.
        RuntimeError: another process is writing to `folder`.
    """
    if folder is not None and not hasattr(task.encoder, "description"):
        raise ValueError("the encoder has no description to be saved with; make it with networks.build_encoder({...}).")
    fabric = make_fabric(profile.precision, accelerator, devices)
    with ExitStack() as stack:
        if folder is not None:
            folder = Path(folder)
            folder.mkdir(parents=True, exist_ok=True)
            if fabric.is_global_zero:
                stack.enter_context(_only_writer(folder))
        fabric.barrier()
        yield from _run(fabric, task, cohort, profile, folder, dict(about or {}))


def make_fabric(precision: str = "32-true", accelerator: str = "auto", devices: int = 1):
    """A launched `Fabric` for this process, whoever started it.

    `torchrun` says by environment variables how many processes there are (left to "auto", Fabric would start as many
    separate trainings on a CPU); `fabric run` sets variables of its own, which win over arguments.
    """
    from lightning_fabric import Fabric

    if precision == "16-mixed" and accelerator in ("auto", "cpu") and not torch.cuda.is_available():
        raise ValueError('precision "16-mixed" needs an NVIDIA GPU; on a CPU take "32-true".')
    by_fabric_run = os.environ.get("LT_CLI_USED") == "1"
    by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ and not by_fabric_run
    nodes = 1
    if by_torchrun:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    # Parts of a network that a method does not train yet get no gradient in some steps; plain DDP would stop there.
    shared = "ddp_find_unused_parameters_true"
    if by_fabric_run:
        if int(os.environ.get("LT_DEVICES", "1")) * int(os.environ.get("LT_NUM_NODES", "1")) > 1:
            os.environ["LT_STRATEGY"] = shared
        return Fabric(precision=None if "LT_PRECISION" in os.environ else precision)
    fabric = Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy=shared if devices * nodes > 1 else "auto",
        precision=precision,
    )
    fabric.launch()
    return fabric


# ---------------------------------------------------------------- the run
class _Step(nn.Module):
    """One forward pass of a task, in the shape that Fabric wraps.

    The views travel sealed: Fabric would round plain tensor arguments to half precision under mixed precision, the
    voxels that are to be reconstructed too.
    """

    def __init__(self, task: PretextTask):
        super().__init__()
        self.task = task

    def forward(self, views: "_Sealed", progress: float) -> dict[str, Tensor]:
        return self.task.losses(views.content, progress)


class _Sealed:
    def __init__(self, content: Views):
        self.content = content


def _run(fabric, task, cohort, profile, folder, about) -> Iterator[StepRecord]:
    dataset = CropDataset(cohort.unlabelled, profile)
    identity = run_identity(task, cohort, profile, dataset.volume(0).shape)
    stored = _stored(folder, identity)
    done = stored["step"] if stored else 0
    if stored:
        task.load_state_dict(stored["task"])
    if done < profile.steps:
        dataset.take_aim(task.aim(dataset.volume, len(dataset.cases)), task.group_size or 1)
    if profile.check_memory and done < profile.steps:
        estimate = estimate_memory(
            task, profile, in_channels=len(dataset[0, 0].volume), processes=fabric.world_size, device=str(fabric.device)
        )
        require_memory(estimate, free_device_bytes(fabric.device), str(fabric.device))
    task.train()
    raw_optimizer = make_optimizer(task, profile)
    raw_optimizer.zero_grad()  # a step that was interrupted may have left gradients on the task
    model, optimizer = fabric.setup(_Step(task), raw_optimizer)
    if stored:
        optimizer.load_state_dict(stored["optimizer"])
        fabric.strategy.precision.load_state_dict(stored["precision"])
    if folder is not None and fabric.is_global_zero:
        clear_drafts(folder)
        cut_history(folder, done)
    sampler = StepSampler(profile, done, fabric.global_rank, fabric.world_size)
    loader = iter(batches(dataset, sampler, pin_memory=fabric.device.type == "cuda"))
    rates, decays = schedules(profile)
    began, good = time.perf_counter(), folder / CHECKPOINT if stored else None
    for step in range(done, profile.steps):
        started, progress = time.perf_counter(), step / profile.steps
        set_schedule(raw_optimizer, rates[step], decays[step])
        losses = _forward_and_backward(fabric, model, task, loader, sampler, step, good)
        norm = _clip(fabric, model, optimizer, profile)
        if not math.isfinite(norm) and profile.precision != "16-mixed":  # there the gradient scaler leaves the step out
            raise _not_finite(f"the gradient's norm is {norm}", losses, step, good)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            task.after_step(progress)
        last = step + 1 == profile.steps
        saves = folder is not None and (last or (step + 1) % profile.checkpoint_every == 0)
        now = time.perf_counter()
        record = StepRecord(
            step=step + 1,
            steps=profile.steps,
            losses=losses,
            learning_rate=rates[step],
            gradient_norm=norm,
            health=task.health() if last or (step + 1) % profile.health_every == 0 else {},
            seconds=now - started,
            seconds_left=(now - began) / (step + 1 - done) * (profile.steps - step - 1),
            checkpoint=str(folder / CHECKPOINT) if saves else None,
        )
        if folder is not None and fabric.is_global_zero:
            append_history(folder, asdict(record))
        if saves:  # after the history: of a kill between the two comes a record too many, which is cut, none too few
            state = {"step": step + 1, "run": identity, "task": task.state_dict(), "optimizer": optimizer.state_dict()}
            state["precision"] = fabric.strategy.precision.state_dict()
            good = _save(fabric, folder, state)
        yield record
    task.to("cpu").eval()
    if folder is not None and fabric.is_global_zero and not _is_saved(task.encoder, folder / ENCODER):
        _save_encoder(task, cohort, folder, identity, about)
    fabric.barrier()


def run_identity(task: PretextTask, cohort, profile: Profile, first_shape: Sequence[int]) -> dict:
    """Plain values that decide a run's numbers, as JSON has them: a checkpoint gives them back the same."""
    found = {
        "task": task.name,
        "encoder": dict(getattr(task.encoder, "description", {})),
        "settings": task.settings(),
        "cohort": {
            "name": cohort.name,
            "cases": len(cohort.unlabelled),
            "names": seed_of(*(c.name for c in cohort.unlabelled)),
            "first_shape": list(first_shape),  # a generated cohort of another size
        },
        "profile": profile.identity(),
    }
    try:
        return json.loads(json.dumps(found))
    except TypeError as error:
        raise ValueError(
            f"{task.name}: settings() and the encoder's description are kept in checkpoints and must be plain values "
            f"(text, numbers, lists, dicts): {error}."
        ) from None


def make_optimizer(task: PretextTask, profile: Profile) -> torch.optim.Optimizer:
    """AdamW or RAdam (with decoupled decay) over what is trained; biases and 1-D parameters are not decayed."""
    groups = parameter_groups(task)
    for group, decayed in zip(groups, (True, False), strict=True):
        group["decayed"] = decayed
    options = {"lr": profile.learning_rate, "betas": profile.betas, "weight_decay": profile.weight_decay}
    if profile.optimizer == "adamw":
        return torch.optim.AdamW(groups, **options)
    return torch.optim.RAdam(groups, **options, decoupled_weight_decay=True)


def schedules(profile: Profile) -> tuple[list[float], list[float]]:
    """Learning rate and weight decay of every step; the first rate is one part of the warm-up, not 0."""
    warmup = round(profile.warmup * profile.steps)
    first = profile.learning_rate / max(1, warmup)
    rates = cosine_schedule(profile.learning_rate, profile.final_learning_rate, profile.steps, 1, warmup, first)
    final = profile.weight_decay if profile.final_weight_decay is None else profile.final_weight_decay
    return rates.tolist(), cosine_schedule(profile.weight_decay, final, profile.steps, 1).tolist()


def set_schedule(optimizer: torch.optim.Optimizer, rate: float, decay: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
        group["weight_decay"] = decay if group["decayed"] else 0.0


def _forward_and_backward(fabric, model, task, loader, sampler, step, good) -> dict[str, float]:
    """Gradients of one step, part by part. Returns the mean losses over parts and processes."""
    profile, sums = sampler.profile, {}
    for part in range(profile.accumulate):
        crops = fabric.to_device(next(loader))
        with default_generators(fabric.device, seed_of(profile.seed, "losses", step, part, fabric.global_rank)):
            views = make_views(task, crops, profile.seed, step, sampler.places(part))
            with fabric.no_backward_sync(model, enabled=part < profile.accumulate - 1):
                losses = model(_Sealed(views), step / profile.steps)
                values = fabric.all_reduce(torch.stack([v.detach().float() for v in losses.values()]), reduce_op="mean")
                for name, value in zip(losses, values.tolist(), strict=True):
                    sums[name] = sums.get(name, 0.0) + value / profile.accumulate
                if not all(map(math.isfinite, sums.values())):
                    raise _not_finite("a loss is not finite", sums, step, good)
                fabric.backward(losses["total"] / profile.accumulate)
    return sums


def _clip(fabric, model, optimizer, profile: Profile) -> float:
    """Clip the gradient as the profile says. Returns its norm before."""
    if profile.clip_each_parameter and profile.clip_norm is not None:
        fabric.strategy.precision.unscale_gradients(optimizer.optimizer)  # half precision trains on enlarged ones
        return math.sqrt(sum(n**2 for n in clip_gradients_per_parameter(model, profile.clip_norm)))
    limit = math.inf if profile.clip_norm is None else profile.clip_norm
    return float(fabric.clip_gradients(model, optimizer, max_norm=limit, error_if_nonfinite=False))


def _not_finite(what: str, losses: Mapping[str, float], step: int, good: Path | None) -> NonFiniteLoss:
    terms = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    kept = f"The last good checkpoint is {good}" if good else "No checkpoint had been written"
    return NonFiniteLoss(
        f"step {step + 1}: {what} ({terms}). {kept}; the run would only repeat this from there. Look at the input "
        "(constant or empty crops?), lower learning_rate or clip_norm, or use precision 32-true, in a new folder."
    )


def _save(fabric, folder: Path, state: Mapping) -> Path:
    """Write the checkpoint in the first process; the others wait until it is there. It holds finite numbers only."""
    broken = [n for n, t in state["task"].items() if t.is_floating_point() and not t.isfinite().all()]
    if broken:
        raise NonFiniteLoss(
            f"step {state['step']}: {broken[0]} holds NaN or infinity, though the losses did not. No checkpoint was "
            "written; the one before, if there is one, is good. Look at what after_step does."
        )
    if fabric.is_global_zero:
        write_checkpoint(folder, state)
    fabric.barrier()
    return folder / CHECKPOINT


def _stored(folder: Path | None, identity: Mapping) -> dict | None:
    if folder is None:
        return None
    stored = read_checkpoint(folder)
    if stored:
        check_same_run(folder, stored["run"], identity)
    return stored


@contextmanager
def _only_writer(folder: Path):
    """Hold the folder's lock: two runs in one folder would overwrite each other."""
    from filelock import FileLock, Timeout

    try:
        held = FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout:
        raise RuntimeError(f"another process is writing to {folder}; wait for it, or give another folder.") from None
    with held:
        yield


def _is_saved(encoder: nn.Module, path: Path) -> bool:
    """Whether file and card are there and hold these weights, not those of an older run in the same folder."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not (path.exists() and path.with_suffix(".md").exists()):
        return False
    try:
        stored = load_file(path)
    except SafetensorError:
        return False
    weights = encoder.state_dict()
    return stored.keys() == weights.keys() and all(torch.equal(stored[name], weights[name]) for name in weights)


def _save_encoder(task, cohort, folder: Path, identity: Mapping, about: Mapping) -> None:
    import medssl_nb
    from medssl_nb.machine import commit_of
    from medssl_nb.networks import save_encoder

    facts = {"recipe": "none", "commit": commit_of(Path(medssl_nb.__file__).parent), **about}
    save_encoder(task.encoder, folder / ENCODER, method=task.name, data=cohort.name, run=identity, **facts)
