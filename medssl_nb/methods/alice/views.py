"""Finding the same place in two patients, and pairs of crops made from it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl_nb.data.crops import crop_around_point
from medssl_nb.methods.alice.checks import check_counts, per_axis
from medssl_nb.methods.alice.embedding import resized_coarse
from medssl_nb.networks.anatomical import AnatomicalEmbedding
from medssl_nb.precision import at_least_float32

__all__ = [
    "ViewPair",
    "crop_around_point",
    "match_points",
    "mine_view_pair",
    "sample_foreground_point",
    "similarity_map",
]
_BLOCK = 4_000_000  # similarities held at a time: 16 MB in float32


class ViewPair(NamedTuple):
    """Crops of two patients around what is taken for the same place.

    Attributes:
        query, key: (C, *crop_size).
        query_point, key_point: (n,) voxel indices of their centres in the two volumes.
        score: similarity at the match, -1 to 1.
        tries: how many points were looked up.
    """

    query: Tensor
    key: Tensor
    query_point: Tensor
    key_point: Tensor
    score: float
    tries: int


def similarity_map(query: AnatomicalEmbedding, key: AnatomicalEmbedding, index: Tensor) -> Tensor:
    """How alike each voxel of the key is to some voxels of the query: s = (<f, f'> + <c, c'>) / 2.

    c is the coarse map resized linearly to the fine grid, at unit length again.

    Args:
        query, key: embeddings of one volume each, fine (E, *S_f), coarse (E, *S_c).
        index: (P, n) int64 voxels on the fine grid of the query.

    Returns:
        (P, *S_f of the key), -1 to 1, float32 (float64 for float64).

    Raises:
        ValueError: embeddings that do not fit together or are not finite, an index outside the query's grid.
    """
    _check_embeddings(query, key)
    fine, coarse = _vectors(key)
    f, c = _at(query, index)
    with torch.autocast(f.device.type, enabled=False):
        return (0.5 * (f @ fine + c @ coarse)).unflatten(1, key.fine.shape[1:])


@torch.no_grad()
def match_points(
    query: AnatomicalEmbedding,
    key: AnatomicalEmbedding,
    points: Tensor,
    *,
    key_shape: Sequence[int],
    query_scale: float | Sequence[float] = 1.0,
    key_scale: float | Sequence[float] = 1.0,
    stride: int | Sequence[int] = 2,
) -> tuple[Tensor, Tensor]:
    """The voxels of the key that are most like some points of the query.

    A point p of the query image is voxel floor(p * query_scale / stride) of its embedding, moved onto the grid if it
    lies beyond; the voxel m of the key's embedding with the largest similarity (see `similarity_map`) is point
    floor((stride * m + 0.5) / key_scale) of the key image, moved into it if it lies beyond.

    Similarities are held in blocks: 16 MB beside the embeddings, whatever the number of points.

    Args:
        query, key: embeddings of one volume each, fine (E, *S_f), coarse (E, *S_c).
        points: (P, n) int64 voxel indices in the query image.
        key_shape: voxels of the key image along each axis.
        query_scale, key_scale: mm per voxel of the image over mm per voxel that the network saw, above 0.
        stride: of the fine grid.

    Returns:
        (P, n) int64 voxel indices in the key image, (P,) similarities. Of equals the first in memory order: in a
        constant image every voxel is like every other, with similarity 1.

    Raises:
        ValueError: embeddings that do not fit together or are not finite, points or scales of another shape.
    """
    _check_embeddings(query, key)
    axes = key.fine.ndim - 1
    if points.ndim != 2 or points.shape[1] != axes or points.is_floating_point():
        raise ValueError(
            f"points are whole voxel indices (P, {axes}), got {points.dtype} of shape {tuple(points.shape)}."
        )
    shape = torch.tensor(tuple(key_shape))
    if shape.shape != (axes,) or not (shape > 0).all():
        raise ValueError(f"key_shape has a number of voxels for each of {axes} axes, got {tuple(key_shape)}.")
    step = per_axis("stride", stride, axes)
    to_grid = per_axis("query_scale", query_scale, axes) / step
    scale = per_axis("key_scale", key_scale, axes)
    grid = torch.tensor(query.fine.shape[1:])
    index = (points.cpu().double() * to_grid).floor().long().clamp(min=torch.zeros_like(grid), max=grid - 1)
    best, score = _best(_at(query, index.to(query.fine.device)), _vectors(key))
    matched = torch.stack(torch.unravel_index(best, key.fine.shape[1:]), dim=1).cpu().double()
    matched = ((step * matched + 0.5) / scale).floor().long().clamp(min=torch.zeros_like(shape), max=shape - 1)
    return matched.to(points.device), score


def sample_foreground_point(
    volume: Tensor,
    *,
    threshold: float = 0.0,
    margin: int = 10,
    max_tries: int = 10_000,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A random voxel above `threshold`, at least `margin` voxels from every face.

    Args:
        volume: (*S).
        max_tries: draws; if none of them is above the threshold, any voxel within the margin will do.
        generator: on the CPU.

    Returns:
        (n,) int64 voxel indices.

    Raises:
        ValueError: a margin that leaves no voxel, numbers out of range.
    """
    check_counts(0, margin=margin, max_tries=max_tries)
    size = torch.tensor(volume.shape)
    if volume.ndim < 1 or (2 * margin >= size).any():
        raise ValueError(
            f"margin {margin} from both faces leaves nothing of a volume of {tuple(volume.shape)} voxels; take less."
        )
    draws = torch.rand(max_tries + 1, volume.ndim, generator=generator, dtype=torch.float64)
    points = margin + (draws * (size - 2 * margin)).long()  # the last one is for a volume without foreground
    bright = volume[tuple(points[:-1].to(volume.device).T)] > threshold
    return points[int(bright.int().argmax()) if bright.any() else -1]


def mine_view_pair(
    query_volume: Tensor,
    key_volume: Tensor,
    query_embedding: AnatomicalEmbedding,
    key_embedding: AnatomicalEmbedding,
    crop_size: Sequence[int],
    *,
    min_score: float = 0.7,
    max_tries: int = 101,
    threshold: float = 0.0,
    margin: int = 10,
    query_scale: float | Sequence[float] = 1.0,
    key_scale: float | Sequence[float] = 1.0,
    stride: int | Sequence[int] = 2,
    generator: torch.Generator | None = None,
) -> ViewPair:
    """Draw foreground points of one patient until one has a match above `min_score` in another; crop around both.

    If none of `max_tries` points passes, the best of them is taken (the released code takes the last).

    Args:
        query_volume, key_volume: (C, *S) or (*S); foreground is where some channel is above `threshold`.
        query_embedding, key_embedding: of these volumes, see `match_points`.
        crop_size: voxels along each axis; outside a volume crops are 0.
        margin: voxels that points keep from the faces, see `sample_foreground_point`.

    Returns:
        The pair, with its score, whatever it is.

    Raises:
        ValueError: what `match_points`, `sample_foreground_point` and `crop_around_point` refuse, no try.
    """
    if max_tries < 1:
        raise ValueError(f"max_tries counts from 1, got {max_tries}.")
    axes = query_embedding.fine.ndim - 1
    for name, volume in (("query_volume", query_volume), ("key_volume", key_volume)):
        if volume.ndim not in (axes, axes + 1):
            raise ValueError(
                f"{name} is (C, *S) or (*S) with {axes} axes, as the embeddings, got {tuple(volume.shape)}."
            )
    bright = query_volume.amax(0) if query_volume.ndim > axes else query_volume
    best, tries = None, 0
    # The first point passes more often than not; should it fail, all others are looked up in one walk through the key.
    for count in (1, max_tries - 1):
        points = [
            sample_foreground_point(bright, threshold=threshold, margin=margin, generator=generator)
            for _ in range(count)
        ]
        if not points:
            break
        matched, scores = match_points(
            query_embedding,
            key_embedding,
            torch.stack(points),
            key_shape=key_volume.shape[-axes:],
            query_scale=query_scale,
            key_scale=key_scale,
            stride=stride,
        )
        passed = (scores > min_score).nonzero()[:, 0].tolist()
        which = passed[0] if passed else int(scores.argmax())
        tries += passed[0] + 1 if passed else count
        if best is None or passed or scores[which] > best[0]:
            best = float(scores[which]), points[which], matched[which]
        if passed:
            break
    score, point, partner = best
    query, key = crop_around_point(query_volume, point, crop_size), crop_around_point(key_volume, partner, crop_size)
    return ViewPair(query, key, point, partner, score, tries)


# ---------------------------------------------------------------- parts
def _vectors(embedding: AnatomicalEmbedding) -> tuple[Tensor, Tensor]:
    """Fine and resized coarse vectors of every voxel of the fine grid, (E, N) each."""
    fine, coarse = (at_least_float32(x) for x in embedding)
    return fine.flatten(1), resized_coarse(coarse[None], fine.shape[1:])[0].flatten(1)


def _at(embedding: AnatomicalEmbedding, index: Tensor) -> tuple[Tensor, Tensor]:
    """Fine and resized coarse vectors at voxels (P, n) of the fine grid, (P, E) each."""
    size = embedding.fine.shape[1:]
    grid = torch.tensor(size, device=index.device)
    if index.ndim != 2 or index.shape[1] != len(grid) or index.is_floating_point():
        raise ValueError(
            f"index has whole voxels (P, {len(grid)}) of the fine grid, got {index.dtype} {tuple(index.shape)}."
        )
    outside = ((index < 0) | (index >= grid)).any(dim=1)
    if outside.any():
        raise ValueError(
            f"index {index[outside][0].tolist()} lies outside the fine grid of {tuple(size)} voxels; it counts on the "
            "embedding's grid, not in the image."
        )
    fine, coarse = (at_least_float32(x) for x in embedding)
    # The resized coarse map at these voxels alone; grid_sample counts from -1 to 1 and names the last axis first.
    places = ((2 * index + 1).to(coarse) / grid.to(coarse) - 1).flip(1).view(1, -1, *[1] * (len(size) - 1), len(size))
    sampled = F.grid_sample(coarse[None], places, padding_mode="border", align_corners=False).flatten(2)[0]
    return fine[(slice(None), *index.T)].T, F.normalize(sampled, dim=0).T


def _best(wanted: tuple[Tensor, Tensor], vectors: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Number (P,) of the voxel whose vectors are most like those wanted, and how alike they are."""
    (f, c), (fine, coarse) = wanted, vectors
    f, c = 0.5 * f, 0.5 * c
    score = f.new_full((len(f),), -torch.inf)
    number = torch.zeros(len(f), dtype=torch.int64, device=f.device)
    block = max(1, _BLOCK // max(1, len(f)))
    with torch.autocast(f.device.type, enabled=False):
        for start in range(0, fine.shape[1], block):
            part = slice(start, start + block)
            value, place = torch.addmm(f @ fine[:, part], c, coarse[:, part]).max(dim=1)
            number = torch.where(value > score, place + start, number)
            score = torch.maximum(value, score)
    return number, score


def _check_embeddings(query: AnatomicalEmbedding, key: AnatomicalEmbedding) -> None:
    for name, embedding in (("query", query), ("key", key)):
        fine, coarse = embedding
        if fine.ndim not in (3, 4) or coarse.ndim != fine.ndim or coarse.shape[0] != fine.shape[0]:
            raise ValueError(
                f"{name} is the embedding of one volume, fine (E, *S_f) and coarse (E, *S_c) with 2 or 3 axes; got "
                f"{tuple(fine.shape)} and {tuple(coarse.shape)}."
            )
        if not (fine.isfinite().all() and coarse.isfinite().all()):
            raise ValueError(f"the {name} embedding holds NaN or infinity, so nothing is most alike.")
    if query.fine.shape[0] != key.fine.shape[0] or query.fine.ndim != key.fine.ndim:
        raise ValueError(
            f"query and key must come from one network, got fine maps {tuple(query.fine.shape)} and "
            f"{tuple(key.fine.shape)}."
        )
