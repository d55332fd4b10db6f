"""How much memory a run will take, found out on one sample before the run starts."""

import copy
from dataclasses import dataclass

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from medssl_nb.training.batches import Crop, make_views
from medssl_nb.training.profile import Profile
from medssl_nb.training.randomness import default_generators, generator_of
from medssl_nb.training.task import PretextTask

OVERHEAD = {"cpu": 0.55e9, "cuda": 0.8e9}  # libraries and kernels, beside the tensors
WORKSPACE = 4  # times the largest activation: gradients into and out of a layer, copies that convolutions make
_STATES = 2  # AdamW and RAdam keep two numbers per weight


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that one process needs on its device.

    Attributes:
        weights: parameters and buffers, also of a teacher.
        gradients, optimizer: of the trained parameters.
        activations: what the forward pass keeps for the backward pass, for `volumes` volumes at once.
        workspace: what the backward pass needs beside that.
        volumes: volumes per part of a step.
        parameters: number of trained numbers.
        overhead: libraries, beside the tensors.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    workspace: int
    volumes: int
    parameters: int
    overhead: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.workspace + self.overhead

    def __str__(self) -> str:
        pass_, states = self.activations + self.workspace, self.weights + self.gradients + self.optimizer
        return (
            f"{self.total / 1e9:.1f} GB per process: {pass_ / 1e9:.2f} GB for {self.volumes} volume(s) at once, "
            f"{states / 1e9:.2f} GB for {self.parameters / 1e6:.2f} million weights with gradients and optimiser, "
            f"{self.overhead / 1e9:.1f} GB for libraries"
        )


def estimate_memory(
    task: PretextTask, profile: Profile, *, in_channels: int = 1, processes: int = 1, device: str = "cpu"
) -> MemoryEstimate:
    """Estimate what `pretrain(task, ..., profile)` needs on `device`, without training and without that device.

    One group of noise volumes goes through the forward pass of a copy of the task on the CPU; what autograd would keep
    is counted and dropped at once, so the estimate itself needs little memory. Activations grow with the number of
    volumes; under mixed precision they are taken at half their size.
    """
    size = profile.per_process(processes)
    probe = copy.deepcopy(task).cpu().train()
    group = min(task.group_size or size, size) if size > 1 else 1
    group = max(group, min(size, 2))  # contrasts need a second sample
    volumes = torch.rand((group, in_channels, *profile.crop), generator=generator_of("memory"))
    cpu = torch.device("cpu")
    with default_generators(cpu, 0):
        crops = Crop(volumes, torch.full((group, 3), 0.5))
        views = make_views(probe, crops, profile.seed, 0, range(group))
    kept = _CountSaved(probe)
    with default_generators(cpu, 0), torch.autograd.graph.saved_tensors_hooks(kept.pack, kept.unpack):
        probe.losses(views, 0.0)
    trained = sum(p.numel() for p in task.parameters() if p.requires_grad)
    all_bytes = sum(t.numel() * t.element_size() for t in (*task.parameters(), *task.buffers()))
    half = 0.5 if profile.precision != "32-true" else 1.0
    return MemoryEstimate(
        weights=all_bytes,
        gradients=4 * trained,
        optimizer=4 * _STATES * trained,
        activations=round(half * kept.bytes * size / group) + volumes.numel() * 4 * 3 * size // group,
        workspace=round(half * WORKSPACE * kept.largest * size / group),
        volumes=size,
        parameters=trained,
        overhead=round(OVERHEAD["cuda" if device.startswith("cuda") else "cpu"]),
    )


class _CountSaved:
    """Adds up the bytes autograd wants to keep, each storage once, and lets go of them."""

    def __init__(self, module: torch.nn.Module):
        # Weak references: an address alone may belong to another storage once the first is gone.
        self.seen = {StorageWeakRef(p.untyped_storage()) for p in module.parameters()}
        self.bytes = self.largest = 0

    def pack(self, tensor: torch.Tensor):
        storage = tensor.untyped_storage()
        if (reference := StorageWeakRef(storage)) not in self.seen:
            self.seen.add(reference)
            self.bytes += storage.nbytes()
            self.largest = max(self.largest, storage.nbytes())
        return None

    def unpack(self, kept):
        raise RuntimeError("a pass that only counts memory has no backward pass")


def require_memory(estimate: MemoryEstimate, free_bytes: float, where: str) -> None:
    """Refuse a run that will not fit.

    Raises:
        MemoryError: with what is needed, what is free, and how to make the run smaller.
    """
    if estimate.total <= free_bytes:
        return
    advice = [
        "a smaller batch_size" if estimate.volumes > 1 else "a smaller crop",
        "accumulate=2 (the same batch in two parts)" if estimate.volumes > 1 else "a narrower network",
        "a smaller crop" if estimate.volumes > 1 else 'precision="bf16-mixed" on a GPU',
        "several processes",
    ]
    raise MemoryError(
        f"this run needs about {estimate}; {where} has {free_bytes / 1e9:.1f} GB free. Make it smaller: "
        f"{', '.join(advice)}. check_memory=False in the profile tries it all the same."
    )


def free_device_bytes(device: torch.device) -> float:
    """Memory free on the device of a run."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    from medssl_nb.machine import free_memory_bytes

    return free_memory_bytes()
