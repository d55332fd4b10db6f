"""Cluster borders where the image has edges: entropy as a soft border, an edge map, and their local correlation.

Formulas as in the released code (github.com/jizongFox/Contrast-You); the third dimension and `spacing` are ours.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl_nb.methods.boundary_infomax.checks import check_mask, check_positive, check_simplex
from medssl_nb.precision import at_least_float32

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def cluster_entropy(probs: Tensor, *, eps: float = 1e-16) -> Tensor:
    """E(x) = -sum_k p_k(x) log(p_k(x) + eps): 0 inside a cluster, up to log K on the border between clusters.

    Args:
        probs: (B, K, *S), sums 1 over K.
        eps: keeps the logarithm finite.

    Returns:
        (B, *S) in nats.
    """
    check_simplex("probs", probs)
    check_positive("eps", eps)
    p = at_least_float32(probs)
    return -(p * torch.log(p + eps)).sum(dim=1)


def gradient_magnitude(
    image: Tensor,
    *,
    spacing: Sequence[float] | None = None,
    boundary: Literal["replicate", "wrap"] = "replicate",
) -> Tensor:
    """Length of the backward difference, mean over channels: 1/C sum_c sqrt(sum_k (I_c(x) - I_c(x - e_k))^2).

    Args:
        image: (B, C, *S).
        spacing: mm per voxel of each axis; None takes differences per voxel.
        boundary: what lies before the first voxel: itself ("replicate"), or the last one ("wrap", as in the released
            code: a false edge wherever the two faces differ).

    Returns:
        (B, 1, *S), float32 (float64 for float64). Where it is 0, its gradient is taken as 0.

    Raises:
        ValueError: an image of another rank, a spacing that does not fit, an unknown boundary.
    """
    if image.ndim not in (3, 4, 5) or 0 in image.shape:
        raise ValueError(f"image must be (B, C, *S) with 1 to 3 axes S, none empty; got {tuple(image.shape)}.")
    axes = image.ndim - 2
    if boundary not in ("replicate", "wrap"):
        raise ValueError(f'boundary is "replicate" or "wrap", got {boundary!r}.')
    steps = (1.0,) * axes if spacing is None else tuple(spacing)
    if len(steps) != axes or not all(0 < step < math.inf for step in steps):
        raise ValueError(f"spacing is one positive number for each of {axes} axes, got {spacing!r}.")
    x = at_least_float32(image)
    squares = 0
    for axis, step in enumerate(steps, 2):
        before = x.roll(1, dims=axis)
        if boundary == "replicate":
            first = x.narrow(axis, 0, 1)
            before = torch.cat([first, x.narrow(axis, 0, x.shape[axis] - 1)], dim=axis)
        squares = squares + ((x - before) / step).square()
    some = squares > 0  # the root's slope at 0 is infinite
    return torch.where(some, torch.where(some, squares, 1).sqrt(), 0).mean(dim=1, keepdim=True)


def min_max_normalize(x: Tensor, *, eps: float = 1e-6) -> Tensor:
    """(x - min) / (max - min + eps), minimum and maximum of each sample and without gradient; constant input gives 0.

    Args:
        x: (B, ...).
        eps: above 0.
    """
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(f"x must be (B, ...) with at least one value for each sample, got {tuple(x.shape)}.")
    check_positive("eps", eps)
    x = at_least_float32(x)
    flat = x.detach().flatten(1)
    shape = (-1, *[1] * (x.ndim - 1))
    low, high = flat.amin(dim=1).view(shape), flat.amax(dim=1).view(shape)
    return (x - low) / (high - low + eps)


@torch.no_grad()
def edge_target(
    image: Tensor,
    *,
    power: float = 0.75,
    spacing: Sequence[float] | None = None,
    boundary: Literal["replicate", "wrap"] = "replicate",
) -> Tensor:
    """Edges of the image, from 0 to 1 within each sample, raised to `power`: below 1 weak edges count more.

    Args:
        image: (B, C, *S), any value range.
        power: above 0.
        spacing, boundary: see `gradient_magnitude`.

    Returns:
        (B, 1, *S) in [0, 1), without gradient.
    """
    check_positive("power", power)
    return min_max_normalize(gradient_magnitude(image, spacing=spacing, boundary=boundary)) ** power


def local_cross_correlation(
    first: Tensor, second: Tensor, *, window: int | Sequence[int] = 5, eps: float = 1e-5
) -> Tensor:
    """Squared correlation of two maps in a window around each voxel.

    cc = max(cross, eps)^2 / (max(var_1, eps) max(var_2, eps)) with window sums of products minus products of window
    sums over n; outside the map is 0, n is always the full window. Two flat windows count as a perfect match (1), a
    negative correlation as none.

    Args:
        first, second: (B, 1, *S).
        window: odd number of voxels, one or one per axis.
        eps: above 0.

    Returns:
        (B, 1, *S) in (0, 1]; float32 (float64 for float64), also under autocast.

    Raises:
        ValueError: shapes that differ or have more than one channel, a window that is even or does not fit.
    """
    if first.shape != second.shape or first.ndim not in (3, 4, 5) or first.shape[1] != 1:
        raise ValueError(
            f"first and second must be (B, 1, *S) and alike, got {tuple(first.shape)} and {tuple(second.shape)}."
        )
    check_positive("eps", eps)
    window = _window(window, first.ndim - 2)
    with torch.autocast(first.device.type, enabled=False):
        i, j = at_least_float32(first), at_least_float32(second)
        kept = torch.promote_types(i.dtype, j.dtype)
        i, j = i.to(kept), j.to(kept)
        sums = _box_sums(torch.cat([i, j, i * i, j * j, i * j], dim=1), window)
        i_sum, j_sum, ii, jj, ij = sums.chunk(5, dim=1)
        n = math.prod(window)
        cross = (ij - i_sum * j_sum / n).clamp(min=eps)
        variances = (ii - i_sum.square() / n).clamp(min=eps) * (jj - j_sum.square() / n).clamp(min=eps)
        return cross.square() / variances


def boundary_loss(
    probs: Tensor,
    image: Tensor,
    *,
    window: int | Sequence[int] = 5,
    power: float = 0.75,
    eps: float = 1e-5,
    spacing: Sequence[float] | None = None,
    boundary: Literal["replicate", "wrap"] = "replicate",
    mask: Tensor | None = None,
) -> Tensor:
    """Minus the mean local correlation of the clusters' (normalised) entropy and the image's edges.

    Args:
        probs: (B, K, *S), sums 1 over K.
        image: (B, C, *S'), any value range; resized (linearly) where its size differs.
        window, eps: see `local_cross_correlation`.
        power, spacing, boundary: see `edge_target`; spacing is that of the probabilities' grid.
        mask: (B, 1, *S) bool or weights from 0; the mean is weighted.

    Returns:
        Scalar in [-1, 0). Flat background alone brings it near -1: only differences of it mean anything.
    """
    check_simplex("probs", probs)
    target = _target(image, probs, power, spacing, boundary)
    return _against_target(probs, target, window, eps, mask)


def _target(image: Tensor, probs: Tensor, power: float, spacing, boundary: str) -> Tensor:
    """Edge target on the grid of `probs`."""
    if image.ndim != probs.ndim or len(image) != len(probs):
        raise ValueError(
            f"image must be (B, C, *S) with the batch and axes of the probabilities {tuple(probs.shape)}, got "
            f"{tuple(image.shape)}."
        )
    image, size = at_least_float32(image.detach()), tuple(probs.shape[2:])
    if tuple(image.shape[2:]) != size:
        image = F.interpolate(image, size=size, mode=_LINEAR[len(size)], align_corners=False)
    return edge_target(image, power=power, spacing=spacing, boundary=boundary)


def _against_target(probs: Tensor, target: Tensor, window, eps: float, mask: Tensor | None) -> Tensor:
    entropy = min_max_normalize(cluster_entropy(probs)[:, None])  # (B, 1, *S)
    correlation = local_cross_correlation(entropy, target, window=window, eps=eps)
    if mask is None:
        return -correlation.mean()
    check_mask(mask, len(probs), probs.shape[2:])
    weights = mask.to(correlation.dtype)
    return -(correlation * weights).sum() / weights.sum()


def _window(window: int | Sequence[int], axes: int) -> tuple[int, ...]:
    sides = (window,) * axes if isinstance(window, int) else tuple(window)
    if len(sides) != axes or not all(isinstance(w, int) and w >= 1 and w % 2 for w in sides):
        raise ValueError(f"window is an odd number of voxels, one or one for each of {axes} axes; got {window!r}.")
    return sides


def _box_sums(x: Tensor, window: tuple[int, ...]) -> Tensor:
    """Sums over a window around each voxel, 0 outside: one axis after the other, d w additions instead of w^d.

    Shifted copies are added because that keeps nothing for the backward pass; on a CPU it also takes half the time of
    pooling, and windows are too small for running sums to win.
    """
    axes = len(window)
    for axis, side in enumerate(window):
        if side > 1:
            margins = [0] * 2 * axes  # F.pad counts from the last axis
            margins[2 * (axes - 1 - axis)] = margins[2 * (axes - 1 - axis) + 1] = side // 2
            padded, length = F.pad(x, margins), x.shape[axis + 2]
            first, *others = (padded.narrow(axis + 2, shift, length) for shift in range(side))
            x = sum(others, start=first)
    return x
