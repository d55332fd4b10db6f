"""One marked point, found again in other images: centre-sensitive embeddings and their similarity map.

That embeddings are averaged with a weight on the centre is known from the paper's abstract and figure; formula, window
and the search from coarse to fine are ours.
"""

from collections.abc import Sequence
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

from medssl_nb.methods.local_discrimination.checks import check_maps, check_mask
from medssl_nb.methods.local_discrimination.normalization import l2_normalize
from medssl_nb.methods.local_discrimination.patches import line_weights
from medssl_nb.precision import at_least_float32


class LandmarkResult(NamedTuple):
    """Where a landmark was found.

    Attributes:
        points: (B, ndim) int64, voxel indices.
        similarity: (B,), cosine there, with the last window.
        maps: (B, *S), similarity of every voxel with the last window, also outside the mask.
    """

    points: Tensor
    similarity: Tensor
    maps: Tensor


def center_sensitive_embeddings(embeddings: Tensor, window_size: int | Sequence[int], *, sigma: float = 0.5) -> Tensor:
    """Mean of the embeddings around each voxel, with a bell on the centre, back on the sphere.

    v'_u = sum_o W(o) v_{u+o} / (|| . || + eps), W = `center_weights`; outside the image v = 0. The bell is separable:
    along each axis one product with a banded matrix.

    Args:
        embeddings: v, (B, D, *S).
        window_size: odd, voxels, one number or one for each axis; may exceed the image. 1 keeps single voxels.
        sigma: width of the bell in half windows; `math.inf` is the plain mean.

    Returns:
        (B, D, *S), unit vectors.

    Raises:
        ValueError: an even window or one below 1, sigma not above 0.
    """
    check_maps("embeddings", embeddings)
    v = at_least_float32(embeddings)
    window = _checked_window(window_size, v.ndim - 2)
    if not sigma > 0:
        raise ValueError(f"sigma must be above 0 (math.inf is the plain mean), got {sigma!r}.")
    with torch.autocast(v.device.type, enabled=False):
        for axis, line in enumerate(line_weights(window, sigma, v.dtype, v.device), start=2):
            if len(line) > 1:
                v = (v.movedim(axis, -1) @ _banded(line, v.shape[axis]).T).movedim(-1, axis)
        return l2_normalize(v, dim=1)


def similarity_map(query: Tensor, support_vector: Tensor) -> Tensor:
    """M(u) = v_u . s for every voxel u, cosine if both are unit vectors.

    Args:
        query: v, (B, D, *S).
        support_vector: s, (D,) or one for each image, (B, D).

    Returns:
        (B, *S).

    Raises:
        ValueError: other lengths.
    """
    check_maps("query", query)
    batch, channels = query.shape[:2]
    if tuple(support_vector.shape) not in ((channels,), (batch, channels)):
        raise ValueError(
            f"support_vector must be ({channels},) or ({batch}, {channels}) for a query of {channels} channels, got "
            f"{tuple(support_vector.shape)}."
        )
    v = at_least_float32(query)
    s = support_vector.to(v).expand(batch, channels)
    with torch.autocast(v.device.type, enabled=False):
        return (s[:, None] @ v.flatten(2)).view(batch, *v.shape[2:])


def locate_landmark(
    query_embeddings: Tensor,
    support_embeddings: Tensor,
    support_point: Sequence[int],
    *,
    window_sizes: Sequence[int | Sequence[int]],
    sigma: float = 0.5,
    mask: Tensor | None = None,
) -> LandmarkResult:
    """Find in each query the voxel whose surroundings are most like those of the marked point.

    With several windows from coarse to fine: the first searches everywhere (inside the mask), each next one only
    within half of the window just used, about the best place so far.

    Args:
        query_embeddings: (B, D, *S).
        support_embeddings: (1, D, *S'), of the image in which the point was marked.
        support_point: voxel index in it.
        window_sizes: odd, at least one; see `center_sensitive_embeddings`.
        sigma: likewise.
        mask: (B, *S) bool, where to look.

    Returns:
        The voxel with the highest similarity, of equals the first in memory order.

    Raises:
        ValueError: no window or an even one, a point outside or of a wrong length, a mask without a voxel for some
            image, other than one support, channels that differ.
    """
    check_maps("query_embeddings", query_embeddings)
    check_maps("support_embeddings", support_embeddings)
    if len(support_embeddings) != 1:
        raise ValueError(f"support_embeddings must hold one image (1, D, *S), got {len(support_embeddings)}.")
    if support_embeddings.shape[1] != query_embeddings.shape[1] or support_embeddings.ndim != query_embeddings.ndim:
        raise ValueError(
            "query_embeddings and support_embeddings must have as many channels and axes, got "
            f"{tuple(query_embeddings.shape)} and {tuple(support_embeddings.shape)}."
        )
    size = tuple(query_embeddings.shape[2:])
    point = _checked_point(support_point, support_embeddings.shape[2:])
    windows = [_checked_window(window, len(size)) for window in window_sizes]
    if not windows:
        raise ValueError("window_sizes must name at least one window, such as (7,); got none.")
    candidates = torch.ones(len(query_embeddings), *size, dtype=torch.bool, device=query_embeddings.device)
    if mask is not None:
        check_mask(mask, len(query_embeddings), size)
        candidates = mask.to(candidates.device, torch.bool)
        if not candidates.flatten(1).any(dim=1).all():
            empty = (~candidates.flatten(1).any(dim=1)).nonzero().flatten().tolist()
            raise ValueError(f"mask must leave somewhere to look in every image; it is empty for image(s) {empty}.")
    for window in windows:
        support = _around(support_embeddings, point, window, sigma)
        maps = similarity_map(center_sensitive_embeddings(query_embeddings, window, sigma=sigma), support)
        similarity, index = maps.masked_fill(~candidates, -torch.inf).flatten(1).max(dim=1)
        points = torch.stack(torch.unravel_index(index, size), dim=1)
        candidates = candidates & _near(points, size, window)
    return LandmarkResult(points, similarity, maps)


def _around(support: Tensor, point: Sequence[int], window: Sequence[int], sigma: float) -> Tensor:
    """Centre-sensitive embedding (D,) at one point, from no more of the image than its window."""
    starts = [max(0, p - s // 2) for p, s in zip(point, window, strict=True)]
    box = tuple(slice(a, p + s // 2 + 1) for a, p, s in zip(starts, point, window, strict=True))
    averaged = center_sensitive_embeddings(support[(..., *box)], window, sigma=sigma)[0]
    return averaged[(slice(None), *(p - a for p, a in zip(point, starts, strict=True)))]


def _near(points: Tensor, size: Sequence[int], window: Sequence[int]) -> Tensor:
    """Voxels within half a window of each point, (B, *S) bool."""
    near = torch.ones(len(points), *size, dtype=torch.bool, device=points.device)
    for axis, (side, s) in enumerate(zip(size, window, strict=True)):
        close = (torch.arange(side, device=points.device) - points[:, axis, None]).abs() <= s // 2  # (B, side)
        near &= close.view(len(points), *(side if k == axis else 1 for k in range(len(size))))
    return near


def _banded(line: Tensor, side: int) -> Tensor:
    """(side, side): row u holds the window's weights about u; what falls outside the image is cut off."""
    half = len(line) // 2
    offset = torch.arange(side, device=line.device) - torch.arange(side, device=line.device)[:, None]
    return torch.where(offset.abs() <= half, line[(offset + half).clamp(0, len(line) - 1)], 0.0)


def _checked_window(window: int | Sequence[int], dims: int) -> tuple[int, ...]:
    sides = (window,) * dims if isinstance(window, Integral) else tuple(window)
    if len(sides) != dims or not all(isinstance(s, Integral) and s >= 1 and s % 2 for s in sides):
        raise ValueError(f"a window has an odd number of voxels from 1 along each of {dims} axes, got {window!r}.")
    return sides


def _checked_point(point: Sequence[int], size: Sequence[int]) -> tuple[int, ...]:
    given = tuple(point.tolist() if isinstance(point, Tensor) else point)
    found = tuple(int(p) for p in given)
    inside = len(found) == len(size) and all(0 <= p < s for p, s in zip(found, size, strict=True))
    if not inside or found != given:
        raise ValueError(
            f"support_point must be a voxel index of the support's {len(size)} axes, 0 to below {tuple(size)}; got "
            f"{given}."
        )
    return found
