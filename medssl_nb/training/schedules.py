"""Values that change during a training: learning rates, momentum, weight decay, temperatures."""

import math
from numbers import Integral

import torch
from torch import Tensor


def cosine_schedule(
    base: float, final: float, epochs: int, steps_per_epoch: int, warmup_epochs: int = 0, start: float = 0.0
) -> Tensor:
    """One value per step: a straight warm-up from `start` to `base`, then half a cosine towards `final`.

    v_i = final + (base - final) / 2 * (1 + cos(pi * i / n)), i = 0 .. n - 1, for the n steps after the warm-up. The
    last step is one short of `final`. The warm-up includes both its ends, so `base` occurs twice.

    Args:
        base: value after the warm-up.
        final: value that the cosine approaches; may lie above `base` (momentum, weight decay).
        epochs, steps_per_epoch: at least 1 each.
        warmup_epochs: 0 to `epochs`; all of them leave no cosine.
        start: first value of the warm-up.

    Returns:
        float64, shape (epochs * steps_per_epoch,).

    Raises:
        ValueError: a count that is no whole number or out of range, a value that is not finite.
    """
    _check_count("epochs", epochs, low=1)
    _check_count("steps_per_epoch", steps_per_epoch, low=1)
    _check_count("warmup_epochs", warmup_epochs, low=0, high=epochs, high_name="epochs")
    for name, value in (("base", base), ("final", final), ("start", start)):
        if not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value}.")
    warmup_steps = warmup_epochs * steps_per_epoch
    steps = epochs * steps_per_epoch - warmup_steps
    warmup = torch.linspace(start, base, warmup_steps, dtype=torch.float64)
    phase = torch.arange(steps, dtype=torch.float64) * (math.pi / max(steps, 1))
    return torch.cat([warmup, final + 0.5 * (base - final) * (1 + torch.cos(phase))])


def teacher_temperature_schedule(
    start: float, end: float, warmup_epochs: int, epochs: int, delay_epochs: int = 0
) -> Tensor:
    """One temperature per epoch: `delay_epochs` of `start`, a straight line to `end`, then `end`.

    Args:
        start, end: temperatures above 0; the line of `warmup_epochs` values includes both.
        warmup_epochs, delay_epochs: 0 or more, together at most `epochs`.
        epochs: at least 1.

    Returns:
        float64, shape (epochs,).

    Raises:
        ValueError: a temperature that is not finite and above 0, counts out of range.
    """
    for name, value in (("start", start), ("end", end)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} is a temperature, a finite number above 0, got {value}.")
    _check_count("epochs", epochs, low=1)
    _check_count("warmup_epochs", warmup_epochs, low=0)
    _check_count("delay_epochs", delay_epochs, low=0)
    rest = epochs - warmup_epochs - delay_epochs
    if rest < 0:
        raise ValueError(
            f"warmup_epochs {warmup_epochs} + delay_epochs {delay_epochs} are more than epochs {epochs}; "
            "shorten them or train longer."
        )
    delay = torch.full((delay_epochs,), start, dtype=torch.float64)
    line = torch.linspace(start, end, warmup_epochs, dtype=torch.float64)
    return torch.cat([delay, line, torch.full((rest,), end, dtype=torch.float64)])


def warmup_cosine_lr(
    epoch: float,
    *,
    base_lr: float,
    multiplier: float,
    warmup_epochs: int = 10,
    max_epochs: int,
    min_lr: float = 1e-7,
) -> float:
    """Learning rate of one epoch: a straight rise from `base_lr` to base_lr * multiplier, then half a cosine.

    For epoch <= warmup_epochs: base_lr * ((multiplier - 1) * epoch / warmup_epochs + 1). Later, with the peak
    base_lr * multiplier: min_lr + (peak - min_lr) / 2 * (1 + cos(pi * (epoch - warmup_epochs - 1) / n)),
    n = max_epochs - warmup_epochs. The peak holds for two epochs; `min_lr` would be reached at max_epochs + 1.

    Args:
        epoch: 0 to max_epochs + 1; fractions are allowed.
        base_lr: rate of epoch 0, above 0.
        multiplier: peak / base_lr, at least 1.
        warmup_epochs: 0 to `max_epochs`; 0 starts at the peak.
        max_epochs: at least 1.
        min_lr: 0 up to the peak.

    Raises:
        ValueError: an argument out of its range.
    """
    _check_count("max_epochs", max_epochs, low=1)
    _check_count("warmup_epochs", warmup_epochs, low=0, high=max_epochs, high_name="max_epochs")
    if not 0 <= epoch <= max_epochs + 1:
        raise ValueError(f"epoch lies between 0 and max_epochs + 1 = {max_epochs + 1}, got {epoch}.")
    if not 0 < base_lr < math.inf:
        raise ValueError(f"base_lr must be finite and above 0, got {base_lr}.")
    if not 1 <= multiplier < math.inf:
        raise ValueError(f"multiplier is the peak over base_lr, at least 1, got {multiplier}.")
    peak = base_lr * multiplier
    if not 0 <= min_lr <= peak:
        raise ValueError(f"min_lr lies between 0 and the peak base_lr * multiplier = {peak:g}, got {min_lr}.")
    if epoch <= warmup_epochs:
        return base_lr * ((multiplier - 1) * epoch / warmup_epochs + 1) if warmup_epochs else peak
    phase = math.pi * (epoch - warmup_epochs - 1) / max(max_epochs - warmup_epochs, 1)
    return min_lr + 0.5 * (peak - min_lr) * (1 + math.cos(phase))


def _check_count(name: str, value: int, *, low: int, high: int | None = None, high_name: str = "") -> None:
    if not isinstance(value, Integral) or value < low:
        raise ValueError(f"{name} must be a whole number of at least {low}, got {value!r}.")
    if high is not None and value > high:
        raise ValueError(f"{name} {value} is more than {high_name} {high}; shorten it or train longer.")
