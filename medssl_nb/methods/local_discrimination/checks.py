"""What several functions of this method ask of their arguments."""

import math
from collections.abc import Sequence

from torch import Tensor


def check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be above 0 and finite, got {value!r}.")


def check_maps(name: str, maps: Tensor) -> None:
    """ValueError unless `maps` are (B, C, *S) with one to three axes and none empty."""
    if maps.ndim not in (3, 4, 5) or 0 in maps.shape:
        raise ValueError(f"{name} must be (B, C, *S) with 1 to 3 axes S, none empty; got {tuple(maps.shape)}.")


def check_same_voxels(embeddings: Tensor, assignments: Tensor) -> None:
    """ValueError unless both are maps of the same images on the same grid."""
    check_maps("embeddings", embeddings)
    check_maps("assignments", assignments)
    if embeddings.shape[:1] + embeddings.shape[2:] != assignments.shape[:1] + assignments.shape[2:]:
        raise ValueError(
            "embeddings (B, D, *S) and assignments (B, K, *S) must agree in B and S, got "
            f"{tuple(embeddings.shape)} and {tuple(assignments.shape)}."
        )


def check_clusters(name: str, count: int) -> None:
    if count < 2:
        raise ValueError(f"{name} must have at least 2 clusters to tell apart, got {count}.")


def check_mask(mask: Tensor, batch: int, size: Sequence[int]) -> None:
    """ValueError unless `mask` is (B, *S)."""
    if tuple(mask.shape) != (batch, *size):
        raise ValueError(f"mask must be (B, *S) = {(batch, *size)}, one value for each voxel; got {tuple(mask.shape)}.")


def check_mode(name: str, mode: str) -> None:
    if mode not in ("sigmoid_l1", "softmax"):
        raise ValueError(f'{name} is "sigmoid_l1" or "softmax", got {mode!r}.')


def checked_plane(axes: Sequence[int], dims: int, name: str = "rot90_axes") -> tuple[int, int]:
    """Two different spatial axes, counted from 0."""
    if len(axes) != 2:
        raise ValueError(f"{name} names two axes, got {tuple(axes)}.")
    return tuple(checked_axes(axes, dims, name))


def checked_axes(axes: Sequence[int], dims: int, name: str) -> list[int]:
    """Spatial axes counted from 0."""
    counted = [int(axis) % dims for axis in axes if -dims <= axis < dims]
    if len(counted) < len(axes) or len(set(counted)) < len(counted):
        raise ValueError(f"{name} names different spatial axes from {-dims} to {dims - 1}, got {tuple(axes)}.")
    return counted
