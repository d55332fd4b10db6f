"""What several functions of this method ask of their arguments."""

import math
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor

MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}  # of F.interpolate, by the number of axes


def check_temperature(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be above 0 and finite, got {value!r}.")


def check_distances(**values: float) -> None:
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(f"{name} is a distance in mm from 0, got {value!r}.")


def check_counts(low: int, **values: int) -> None:
    for name, value in values.items():
        if not isinstance(value, Integral) or value < low:
            raise ValueError(f"{name} is a whole number from {low}, got {value!r}.")


def check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} lies between 0 and 1, got {value!r}.")


def per_axis(name: str, value: float | Sequence[float], axes: int) -> Tensor:
    """One number above 0 for each axis, float64."""
    numbers = torch.as_tensor(value, dtype=torch.float64).cpu()
    if numbers.shape not in ((), (axes,)) or not ((numbers > 0) & numbers.isfinite()).all():
        raise ValueError(f"{name} is a number above 0, or one for each of {axes} axes; got {value!r}.")
    return numbers.expand(axes)
