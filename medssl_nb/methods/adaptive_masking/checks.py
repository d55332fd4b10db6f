"""What the functions of this method ask of masks and patch-wise values."""

from collections.abc import Sequence

import torch
from torch import Tensor


def check_mask(name: str, mask: Tensor, shape: Sequence[int] | None = None) -> None:
    """ValueError unless `mask` is bool (B, N), of `shape` if given."""
    if mask.dtype != torch.bool:
        raise ValueError(f"{name} must be a bool tensor (B, N), got {mask.dtype}; from numbers: {name} > 0.")
    check_values(name, mask, shape)


def check_values(name: str, values: Tensor, shape: Sequence[int] | None = None) -> None:
    """ValueError unless `values` has one number for each patch: (B, N), of `shape` if given."""
    if values.ndim != 2 or (shape is not None and tuple(values.shape) != tuple(shape)):
        expected = "(B, N)" if shape is None else f"(B, N) = {tuple(shape)}"
        raise ValueError(f"{name} must have one entry for each patch, {expected}; got {tuple(values.shape)}.")


def check_positive(name: str, value: float, least: float = 0.0, *, inclusive: bool = False) -> None:
    """ValueError unless `value` lies above `least` (or on it)."""
    if not (value >= least if inclusive else value > least) or value == float("inf"):
        raise ValueError(f"{name} must be {'at least' if inclusive else 'above'} {least:g} and finite, got {value!r}.")
