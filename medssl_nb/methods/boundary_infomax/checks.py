"""What the functions of this method ask of cluster probabilities."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_HALF = (torch.float16, torch.bfloat16)


def check_simplex(name: str, probs: Tensor) -> None:
    """ValueError unless `probs` (B, K, *S) are finite, not negative, and sum to 1 over the clusters."""
    if probs.ndim not in (3, 4, 5) or not probs.is_floating_point():
        raise ValueError(f"{name} must be probabilities (B, K, *S) with 1 to 3 axes S, got {tuple(probs.shape)}.")
    if probs.shape[1] < 2:
        raise ValueError(f"{name} must have at least 2 clusters along axis 1, got {probs.shape[1]}.")
    if 0 in probs.shape:
        raise ValueError(f"{name} must hold at least one sample and one voxel, got {tuple(probs.shape)}.")
    tolerance = 1e-2 if probs.dtype in _HALF else 1e-3
    with torch.no_grad():
        smallest = float(probs.min())  # NaN and infinity show in one of the two
        error = float((probs.sum(dim=1, dtype=torch.promote_types(probs.dtype, torch.float32)) - 1).abs().max())
    if not (smallest >= 0 and error <= tolerance):
        raise ValueError(
            f"{name} must be probabilities that sum to 1 over axis 1 (within {tolerance:g}), found a smallest value of "
            f"{smallest:.4g} and a sum that is {error:.4g} off; from logits: logits.softmax(dim=1)."
        )


def check_pair(probs_a: Tensor, probs_b: Tensor) -> None:
    """ValueError unless both are simplices of one shape."""
    if probs_a.shape != probs_b.shape:
        raise ValueError(
            f"probs_a and probs_b must have one shape, got {tuple(probs_a.shape)} and {tuple(probs_b.shape)}."
        )
    check_simplex("probs_a", probs_a)
    check_simplex("probs_b", probs_b)


def check_mask(mask: Tensor, batch: int, size: Sequence[int]) -> None:
    """ValueError unless `mask` (B, 1, *S) holds weights that are not negative and not all 0."""
    if tuple(mask.shape) != (batch, 1, *size):
        raise ValueError(f"mask must be {(batch, 1, *size)}, one weight for each voxel; got {tuple(mask.shape)}.")
    total = float(mask.sum(dtype=torch.float64))
    if not (float(mask.min()) >= 0 and 0 < total < math.inf):
        raise ValueError(
            f"mask must hold finite weights from 0, some above it; got a smallest of {float(mask.min()):.4g} and a sum "
            f"of {total:.4g}."
        )


def check_square(joint: Tensor) -> None:
    """ValueError unless `joint` ends in (K, K) with K from 2."""
    if joint.ndim < 2 or joint.shape[-1] != joint.shape[-2] or joint.shape[-1] < 2:
        raise ValueError(f"joint must end in (K, K) with K from 2, got {tuple(joint.shape)}; see joint_probability.")


def check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be above 0 and finite, got {value!r}.")
