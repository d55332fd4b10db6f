"""How long, how large, how fast: the settings of a pre-training run that no method owns."""

from dataclasses import asdict, dataclass, fields
from typing import Literal

# What may differ when a stopped run goes on: none of it changes a number.
_FREE = ("checkpoint_every", "health_every", "workers", "cache_gb", "check_memory")


@dataclass(frozen=True)
class Profile:
    """Settings of one pre-training run.

    Attributes:
        steps: optimiser steps.
        batch_size: volumes per optimiser step, over all processes and all `accumulate` parts.
        crop: voxels of the box that is cut from each volume.
        spacing_mm: volumes are resampled to this grid first; None leaves each as it is.
        optimizer: "adamw" or "radam".
        learning_rate, final_learning_rate: cosine from the first to the second after the warm-up.
        warmup: share of the steps in which the rate rises from 0.
        weight_decay, final_weight_decay: cosine from the first to the second; None keeps it. Biases and 1-D parameters
            (norms) are not decayed.
        betas: of the optimiser.
        clip_norm: largest norm of the gradient, None for no clipping.
        clip_each_parameter: clip every parameter tensor by itself, not the gradient as a whole.
        accumulate: parts into which a process cuts its share of the batch, one after the other, to save memory. Losses
            that compare samples of a batch then see the samples of a part.
        precision: "32-true"; "bf16-mixed" or "16-mixed" on GPUs.
        seed: every random number of the run follows from it and from the step.
        checkpoint_every, health_every: steps between checkpoints and between readings of the collapse meters.
        workers: processes that load volumes; 0 loads in the run itself.
        cache_gb: prepared volumes are kept in memory up to this size (per worker).
        check_memory: refuse a run that will not fit.
    """

    steps: int = 120
    batch_size: int = 4
    crop: tuple[int, ...] = (32, 32, 32)
    spacing_mm: tuple[float, ...] | None = None
    optimizer: Literal["adamw", "radam"] = "adamw"
    learning_rate: float = 2e-3
    final_learning_rate: float = 0.0
    warmup: float = 0.1
    weight_decay: float = 0.01
    final_weight_decay: float | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float | None = 1.0
    clip_each_parameter: bool = False
    accumulate: int = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    seed: int = 0
    checkpoint_every: int = 50
    health_every: int = 10
    workers: int = 0
    cache_gb: float = 2.0
    check_memory: bool = True

    def __post_init__(self):
        for name in ("crop", "spacing_mm", "betas"):  # TOML and JSON bring lists
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("steps", "batch_size", "accumulate", "checkpoint_every", "health_every"):
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= 1):
                raise ValueError(f"{name} is a whole number from 1, got {value!r}.")
        if not (len(self.crop) in (2, 3) and all(isinstance(n, int) and n >= 1 for n in self.crop)):
            raise ValueError(f"crop is a number of voxels per axis, such as (32, 32, 32); got {self.crop!r}.")
        if self.spacing_mm is not None and not (len(self.spacing_mm) == 3 and all(s > 0 for s in self.spacing_mm)):
            raise ValueError(f"spacing_mm is three positive numbers or None, got {self.spacing_mm!r}.")
        if self.optimizer not in ("adamw", "radam"):
            raise ValueError(f'optimizer is "adamw" or "radam", got {self.optimizer!r}.')
        if self.precision not in ("32-true", "bf16-mixed", "16-mixed"):
            raise ValueError(f'precision is "32-true", "bf16-mixed" or "16-mixed", got {self.precision!r}.')
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup is a share of the steps, 0 to 1, got {self.warmup!r}.")
        for name in ("learning_rate", "final_learning_rate", "weight_decay", "cache_gb"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is not negative, got {getattr(self, name)!r}.")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm is positive, or None for no clipping; got {self.clip_norm!r}.")

    def per_process(self, processes: int) -> int:
        """Volumes that one process loads at a time (one of its `accumulate` parts)."""
        if self.batch_size % (processes * self.accumulate):
            raise ValueError(
                f"batch_size {self.batch_size} must divide into {processes} process(es) x {self.accumulate} part(s); "
                f"take a multiple of {processes * self.accumulate}."
            )
        return self.batch_size // (processes * self.accumulate)

    def identity(self) -> dict:
        """The settings that decide the numbers of the run, as plain values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items() if k not in _FREE}

    @classmethod
    def known(cls) -> tuple[str, ...]:
        """Names of all settings."""
        return tuple(f.name for f in fields(cls))
