"""SAM: an embedding for every voxel, learnt from overlapping crops whose coordinates are known.

SAM is Self-supervised Anatomical eMbedding (Yan et al., TMI 2022), not Segment Anything. Distances are in the unit of
the coordinates, mm.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl_nb.methods.alice.checks import MODES, check_counts, check_distances, check_temperature, per_axis
from medssl_nb.networks.anatomical import AnatomicalEmbedding, AnatomicalEmbeddingNet
from medssl_nb.precision import at_least_float32

__all__ = [
    "AnatomicalEmbedding",
    "AnatomicalEmbeddingNet",
    "anatomical_embedding_loss",
    "coarse_contrastive_loss",
    "fine_contrastive_loss",
    "info_nce_loss",
    "resized_coarse",
    "sample_overlapping_views",
]

_BLOCK = 4_000_000  # distances held at a time: 16 MB in float32


# ---------------------------------------------------------------- views
def sample_overlapping_views(
    volume: Tensor,
    crop_size: Sequence[int],
    *,
    spacing: float | Sequence[float] = 1.0,
    scale_range: Sequence[float] = (0.8, 1.2),
    overlap_probability: float = 0.8,
    noise_std: float = 0.03,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Two random crops of one volume, each resized by a factor of its own, and where each of their voxels comes from.

    A crop of L = round(crop_size * scale) voxels from index o is resized linearly to c = crop_size; its voxel k lies at
    spacing * (o + (k + 0.5) L / c - 0.5). Of a crop that is magnified (L < c) the outermost voxels lie up to half a
    voxel beyond the crop and repeat its border.

    Args:
        volume: (C, *S), 2 or 3 axes.
        crop_size: voxels of a view along each axis.
        spacing: mm per voxel, one number or one for each axis.
        scale_range: smallest and largest factor, above 0; below 1 magnifies.
        overlap_probability: how often both crops hold one common random voxel; otherwise their places are independent,
            and they may overlap or not.
        noise_std: of Gaussian noise that is added to each view at last, in the unit of the volume.
        generator: on the CPU.

    Returns:
        Views (2, C, *crop_size) and coordinates (2, n, *crop_size) in mm from the centre of the volume's first voxel.

    Raises:
        ValueError: an argument out of its range, or a crop that may become larger than the volume.
    """
    size, crop = volume.shape[1:], tuple(int(c) for c in crop_size)
    low, high = _checked_views(volume, crop, scale_range, overlap_probability, noise_std)
    mm = per_axis("spacing", spacing, len(size)).to(volume.device)

    def draw() -> float:
        return float(torch.rand((), generator=generator, dtype=torch.float64))

    common = [int(draw() * side) for side in size] if draw() < overlap_probability else None
    views, places = [], []
    for _ in range(2):
        scale = low + (high - low) * draw()
        extent = [max(1, round(c * scale)) for c in crop]
        start = []
        for i, (side, length) in enumerate(zip(size, extent, strict=True)):
            first, last = (0, side - length) if common is None else (max(0, common[i] - length + 1), common[i])
            start.append(first + int(draw() * (min(last, side - length) - first + 1)))
        box = volume[(slice(None), *(slice(o, o + n) for o, n in zip(start, extent, strict=True)))]
        views.append(_resized(box[None], crop)[0])
        axes = [
            mm[i] * (o + (torch.arange(c, device=volume.device) + 0.5).double() * n / c - 0.5)
            for i, (o, n, c) in enumerate(zip(start, extent, crop, strict=True))
        ]
        places.append(torch.stack(torch.meshgrid(*axes, indexing="ij")))
    views = torch.stack(views)
    if noise_std:
        views = views + noise_std * torch.randn(views.shape, generator=generator).to(views)
    wide = torch.promote_types(views.dtype, torch.float32)  # mm of several hundred lose digits in half precision
    return views, torch.stack(places).to(wide)


def _checked_views(volume, crop, scale_range, overlap_probability, noise_std) -> tuple[float, float]:
    size = tuple(volume.shape[1:])
    if len(size) not in (2, 3) or len(crop) != len(size) or min(crop, default=0) < 1:
        raise ValueError(
            f"volume is (C, *S) with 2 or 3 axes and crop_size has a number from 1 for each; got "
            f"{tuple(volume.shape)} and {crop}."
        )
    if not volume.is_floating_point():
        raise ValueError(f"volume must hold grey values as floating point numbers, got {volume.dtype}.")
    if len(scale_range) != 2 or not 0 < scale_range[0] <= scale_range[1] < math.inf:
        raise ValueError(f"scale_range is (smallest, largest) with 0 < smallest <= largest, got {tuple(scale_range)}.")
    if any(c * scale_range[1] > side for c, side in zip(crop, size, strict=True)):
        raise ValueError(
            f"crops of {crop} voxels, enlarged by up to {scale_range[1]:g}, exceed the volume of {size}; take smaller "
            "crops or a smaller scale_range, or pad the volume."
        )
    if not 0 <= overlap_probability <= 1:
        raise ValueError(f"overlap_probability lies between 0 and 1, got {overlap_probability}.")
    if not 0 <= noise_std < math.inf:
        raise ValueError(f"noise_std is finite and not negative, got {noise_std}.")
    return float(scale_range[0]), float(scale_range[1])


# ---------------------------------------------------------------- losses
def info_nce_loss(positive: Tensor, negatives: Tensor, temperature: float = 0.5) -> Tensor:
    """Mean over queries of -log [ e^(s+/t) / (e^(s+/t) + sum_j e^(s_j/t)) ].

    Args:
        positive: (N,) similarities s+, N from 1.
        negatives: (N, K) similarities s_j; -inf stands for a negative that is missing and adds nothing.
        temperature: t, above 0.

    Returns:
        Scalar, float32 (float64 for float64); 0 for queries without negatives.

    Raises:
        ValueError: shapes that do not fit, no query, temperature not above 0.
    """
    check_temperature("temperature", temperature)
    if positive.ndim != 1 or negatives.ndim != 2 or len(positive) != len(negatives) or not len(positive):
        raise ValueError(
            f"positive is (N,) and negatives (N, K) with N from 1, got {tuple(positive.shape)} and "
            f"{tuple(negatives.shape)}."
        )
    with torch.autocast(positive.device.type, enabled=False):
        logits = torch.cat([at_least_float32(positive)[:, None], at_least_float32(negatives)], dim=1) / temperature
        return (logits.logsumexp(dim=1) - logits[:, 0]).mean()


def fine_contrastive_loss(
    fine: Tensor,
    coarse: Tensor,
    coordinates: Tensor,
    valid: Tensor | None = None,
    *,
    positive_radius: float = 5.0,
    ignore_radius: float = 3.0,
    max_candidates: int = 2000,
    max_queries: int = 100,
    hard_negatives: int = 2000,
    sampled_negatives: int = 500,
    temperature: float = 0.5,
    generator: torch.Generator | None = None,
) -> Tensor:
    """InfoNCE between two views of one volume on the fine map, with hard and diverse negatives.

    Queries are valid voxels in the box that both views share whose nearest voxel of the other view, their positive, is
    less than `positive_radius` away. (If the first view has none, both take those within 0.5 mm of the best distance.)
    Negatives are voxels of both views at least `ignore_radius` away: of the `hard_negatives` with the largest
    <f_i, f_j> + <c_i, c_j>, `sampled_negatives` at random. Only fine similarities enter the loss; the coarse map gets
    no gradient. Views that share no box: random voxels of the first are pushed away from the voxels most like them.

    Distances are held in blocks: memory grows with max_candidates and max_queries times voxels, never with voxels^2.

    Args:
        fine: (2, E, *S_f) unit vectors.
        coarse: (2, E, *S_c) unit vectors, any grid.
        coordinates: (2, n, *S_f) in mm.
        valid: bool (2, 1, *S_f), voxels that may ask; None: all.
        max_candidates, max_queries: of each view, kept at random.
        temperature: of `info_nce_loss`.
        generator: on the CPU; only used where a limit is below what is there.

    Returns:
        Scalar, float32 (float64 for float64): mean over the queries of both directions.

    Raises:
        ValueError: shapes that do not fit, numbers out of range, a view without a valid voxel.
    """
    check_distances(positive_radius=positive_radius, ignore_radius=ignore_radius)
    check_counts(1, max_candidates=max_candidates, max_queries=max_queries)
    check_counts(0, hard_negatives=hard_negatives, sampled_negatives=sampled_negatives)
    check_temperature("temperature", temperature)
    _check_fine(fine, coarse, coordinates, valid)
    with torch.autocast(fine.device.type, enabled=False):
        f = at_least_float32(fine).flatten(2).transpose(1, 2)  # (2, N, E)
        x = at_least_float32(coordinates).flatten(2).transpose(1, 2)  # (2, N, n)
        ok = torch.ones_like(x[..., 0], dtype=torch.bool) if valid is None else valid.flatten(1)
        found = _fine_queries(x, ok, positive_radius, max_candidates, max_queries, generator)
        if found is None:
            return _push_apart(f[0], x[0], ignore_radius, max_queries, sampled_negatives, temperature, generator)
        with torch.no_grad():
            c = resized_coarse(at_least_float32(coarse), fine.shape[2:]).flatten(2).transpose(1, 2)
            both = torch.cat([f, c], dim=2).flatten(0, 1)  # (2N, 2E): one product gives <f, f'> + <c, c'>
        voxels, places = f.flatten(0, 1), x.flatten(0, 1)  # of both views, (2N, E) and (2N, n)
        limits = (ignore_radius, hard_negatives, sampled_negatives, generator)
        positive, negatives = zip(*(_contrast(voxels, both, places, *pair, *limits) for pair in found), strict=True)
        return info_nce_loss(torch.cat(positive), torch.cat(negatives), temperature)


def coarse_contrastive_loss(
    coarse: Tensor,
    coordinates: Tensor,
    *,
    positive_radius: float = 25.0,
    ignore_radius: float = 5.0,
    axial_radius: float = 6.0,
    axial_axis: int = 0,
    hard_negatives: int = 250,
    sampled_negatives: int = 200,
    global_negatives: int = 300,
    temperature: float = 0.5,
    generator: torch.Generator | None = None,
) -> Tensor:
    """InfoNCE between two views of each volume on the coarse map, with voxels of other volumes as negatives too.

    A voxel's positive is its nearest voxel in the other view, if it is less than `positive_radius` away, and less than
    `axial_radius` along the body. Negatives are voxels of both views at least `ignore_radius` away, hard and diverse as
    in `fine_contrastive_loss`, and `global_negatives` random voxels of the other volumes. Where the first view has no
    such voxel, every voxel of both views is pushed away from the `sampled_negatives` voxels most like it.

    Args:
        coarse: (V, 2, E, *S_c) unit vectors: two views of each of V volumes.
        coordinates: (V, 2, n, *S_c) in mm.
        axial_axis: which axis runs along the body; the volumes of this package are (X, Y, Z), there it is 2.
        generator: on the CPU; only used where a limit is below what is there.

    Returns:
        Scalar, float32 (float64 for float64): mean over the queries of a volume, then over volumes.

    Raises:
        ValueError: shapes that do not fit, numbers out of range.
    """
    check_distances(positive_radius=positive_radius, ignore_radius=ignore_radius, axial_radius=axial_radius)
    check_counts(
        0, hard_negatives=hard_negatives, sampled_negatives=sampled_negatives, global_negatives=global_negatives
    )
    check_temperature("temperature", temperature)
    _check_coarse(coarse, coordinates, axial_axis)
    with torch.autocast(coarse.device.type, enabled=False):
        c = at_least_float32(coarse).flatten(3).transpose(2, 3)  # (V, 2, N, E)
        x = at_least_float32(coordinates).flatten(3).transpose(2, 3)
        losses = []
        for volume in range(len(c)):
            own = c[volume].flatten(0, 1)  # (2N, E)
            others = torch.cat([c[:volume], c[volume + 1 :]]).flatten(0, 2)
            others = others[_some(torch.arange(len(others), device=own.device), global_negatives, generator)]
            found = _coarse_queries(x[volume], positive_radius, axial_radius, axial_axis)
            if found is None:
                most = (own @ own.T).topk(min(sampled_negatives + 1, len(own)), dim=1).values
                positive, negatives, asked = most[:, 0], most[:, 1:], torch.arange(len(own), device=own.device)
            else:
                asked, answer = found
                limits = (ignore_radius, hard_negatives, sampled_negatives, generator)
                positive, negatives = _contrast(own, own, x[volume].flatten(0, 1), asked, answer, *limits)
            losses.append(info_nce_loss(positive, torch.cat([negatives, own[asked] @ others.T], dim=1), temperature))
        return torch.stack(losses).mean()


def anatomical_embedding_loss(
    embedding: AnatomicalEmbedding,
    coordinates: Tensor,
    valid: Tensor | None = None,
    *,
    fine_options: Mapping | None = None,
    coarse_options: Mapping | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Both losses of SAM: mean over volumes of the fine one, plus the coarse one.

    Args:
        embedding: of the stacked views of V volumes, (2V, E, ...), in the order v0a, v0b, v1a, ...
        coordinates: (V, 2, n, *S) in mm on the grid of the input, resized here (linear, `align_corners=False`).
        valid: bool (V, 2, 1, *S), resized to the nearest; None: all.
        fine_options, coarse_options: arguments of `fine_contrastive_loss` and `coarse_contrastive_loss`.
        generator: of both.

    Returns:
        "fine", "coarse" and their sum "total".

    Raises:
        ValueError: shapes that do not fit, and what the two losses refuse.
    """
    fine, coarse = embedding
    count = len(coordinates)
    if coordinates.ndim < 4 or coordinates.shape[1] != 2 or len(fine) != 2 * count or len(coarse) != 2 * count:
        raise ValueError(
            f"coordinates are (V, 2, n, *S) and embeddings those of 2V views, got {tuple(coordinates.shape)}, "
            f"{tuple(fine.shape)} and {tuple(coarse.shape)}."
        )
    if valid is not None and (
        valid.shape != (*coordinates.shape[:2], 1, *coordinates.shape[3:]) or valid.dtype != torch.bool
    ):
        raise ValueError(
            f"valid is bool (V, 2, 1, *S) = {(*coordinates.shape[:2], 1, *coordinates.shape[3:])}, got {valid.dtype} "
            f"{tuple(valid.shape)}."
        )
    with torch.autocast(fine.device.type, enabled=False):
        x = at_least_float32(coordinates).flatten(0, 1)
        x_fine = _resized(x, fine.shape[2:]).unflatten(0, (count, 2))
        x_coarse = _resized(x, coarse.shape[2:]).unflatten(0, (count, 2))
    ok = [None] * count
    if valid is not None:
        ok = F.interpolate(valid.flatten(0, 1).float(), size=fine.shape[2:], mode="nearest").bool()
        ok = ok.unflatten(0, (count, 2))
    options = dict(fine_options or {})
    pairs = zip(fine.unflatten(0, (count, 2)), coarse.unflatten(0, (count, 2)), x_fine, ok, strict=True)
    fine_loss = torch.stack([fine_contrastive_loss(*pair, **options, generator=generator) for pair in pairs]).mean()
    coarse_loss = coarse_contrastive_loss(
        coarse.unflatten(0, (count, 2)), x_coarse, **dict(coarse_options or {}), generator=generator
    )
    return {"fine": fine_loss, "coarse": coarse_loss, "total": fine_loss + coarse_loss}


def resized_coarse(coarse: Tensor, size: Sequence[int]) -> Tensor:
    """The coarse map (N, E, *S_c) on the grid `size` of the fine one: resized linearly, to unit length again."""
    return F.normalize(_resized(coarse, size), dim=1)


# ---------------------------------------------------------------- parts
# The short cut by a matrix product cancels for coordinates of several hundred mm in float32.
EXACT = "donot_use_mm_for_euclid_dist"


def _fine_queries(x, valid, radius, max_candidates, max_queries, generator):
    """For each view, (queries, their partners in the other view) as voxel numbers among the 2N of both views.

    None if the views share no box.
    """
    boxes = [(places[ok].amin(0), places[ok].amax(0)) for places, ok in zip(x, valid, strict=True)]
    low, high = torch.maximum(boxes[0][0], boxes[1][0]), torch.minimum(boxes[0][1], boxes[1][1])
    if not (low <= high).all():
        return None
    candidates = [
        _some((ok & (places >= low).all(1) & (places <= high).all(1)).nonzero()[:, 0], max_candidates, generator)
        for places, ok in zip(x, valid, strict=True)
    ]
    near = [_nearest(x[view][candidates[view]], x[1 - view]) for view in (0, 1)]
    kept = [distance < radius for distance, _ in near]
    if not kept[0].any():
        kept = [distance < distance.min() + 0.5 if len(distance) else distance < 0 for distance, _ in near]
    if not any(k.any() for k in kept):
        return None  # the box lies between the voxels of both views
    found = []
    for view in (0, 1):
        which = _some(kept[view].nonzero()[:, 0], max_queries, generator)
        count = x.shape[1]
        found.append((candidates[view][which] + view * count, near[view][1][which] + (1 - view) * count))
    return found


def _coarse_queries(x: Tensor, radius: float, axial_radius: float, axis: int) -> tuple[Tensor, Tensor] | None:
    """Queries of both views and their partners, as voxel numbers among the 2N of both; None if the first has none."""
    count, asked, answer = x.shape[1], [], []
    for view in (0, 1):
        distance, partner = _nearest(x[view], x[1 - view])
        along = (x[view][:, axis] - x[1 - view][partner][:, axis]).abs()
        kept = (distance < radius) & (along < axial_radius)
        if view == 0 and not kept.any():
            return None
        asked.append(kept.nonzero()[:, 0] + view * count)
        answer.append(partner[kept] + (1 - view) * count)
    return torch.cat(asked), torch.cat(answer)


@torch.no_grad()
def _nearest(points: Tensor, voxels: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (P,) to the nearest of `voxels` (N, n) and its number (P,); of equals the first."""
    block = max(1, _BLOCK // len(voxels))
    found = [torch.cdist(part, voxels, compute_mode=EXACT).min(dim=1) for part in points.split(block)]
    return torch.cat([part.values for part in found]), torch.cat([part.indices for part in found])


def _contrast(
    vectors, ranking, places, asked, answer, ignore_radius, hard, sampled, generator
) -> tuple[Tensor, Tensor]:
    """Similarities of the queries `asked` with their positives, (Q,), and with their negatives, (Q, K).

    Negatives are hard by the products of `ranking` (N, D); similarities are those of `vectors` (N, E).
    """
    with torch.no_grad():
        near = torch.cdist(places[asked], places, compute_mode=EXACT) < ignore_radius
        hardness = (ranking[asked] @ ranking.T).masked_fill_(near, -torch.inf)
        chosen, there = _hard_and_diverse(hardness, hard, sampled, generator)
    negatives = torch.einsum("qe,qke->qk", vectors[asked], vectors[chosen]).masked_fill(~there, -torch.inf)
    return (vectors[asked] * vectors[answer]).sum(1), negatives


def _push_apart(vectors, places, ignore_radius, max_queries, sampled, temperature, generator) -> Tensor:
    """Loss of a view without a partner: random voxels, each its own positive, against the voxels most like them."""
    asked = _some(torch.arange(len(vectors), device=vectors.device), max_queries, generator)
    positive, negatives = _contrast(vectors, vectors, places, asked, asked, ignore_radius, sampled, sampled, generator)
    return info_nce_loss(positive, negatives, temperature)


def _hard_and_diverse(scores: Tensor, hard: int, sampled: int, generator) -> tuple[Tensor, Tensor]:
    """Of the `hard` best columns of each row of `scores` (Q, N), `sampled` at random; and which of them are no -inf."""
    best = scores.topk(min(hard, scores.shape[1]), dim=1)
    if sampled < best.indices.shape[1]:
        luck = torch.rand(best.indices.shape, generator=generator).to(scores.device)
        luck[best.values.isinf()] = -1.0  # what is there goes first
        drawn = luck.topk(sampled, dim=1).indices
        return best.indices.gather(1, drawn), ~best.values.gather(1, drawn).isinf()
    return best.indices, ~best.values.isinf()


def _some(numbers: Tensor, limit: int, generator) -> Tensor:
    """At most `limit` of `numbers`, at random."""
    if len(numbers) <= limit:
        return numbers
    return numbers[torch.randperm(len(numbers), generator=generator)[:limit].to(numbers.device)]


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps, size=tuple(size), mode=MODES[len(size)], align_corners=False)


def _check_fine(fine: Tensor, coarse: Tensor, coordinates: Tensor, valid: Tensor | None) -> None:
    size = tuple(fine.shape[2:])
    if len(fine) != 2 or len(coarse) != 2 or len(coordinates) != 2:
        raise ValueError(
            f"a contrast is between 2 views of one volume, got fine {tuple(fine.shape)}, coarse {tuple(coarse.shape)} "
            f"and coordinates {tuple(coordinates.shape)}."
        )
    if len(size) not in (2, 3) or coarse.ndim != fine.ndim or coarse.shape[1] != fine.shape[1]:
        raise ValueError(
            f"fine is (2, E, *S_f) and coarse (2, E, *S_c) with 2 or 3 axes, got {tuple(fine.shape)} and "
            f"{tuple(coarse.shape)}."
        )
    if coordinates.shape != (2, len(size), *size):
        raise ValueError(f"coordinates are (2, n, *S_f) = {(2, len(size), *size)}, got {tuple(coordinates.shape)}.")
    if valid is None:
        return
    if valid.shape != (2, 1, *size) or valid.dtype != torch.bool:
        raise ValueError(f"valid is bool (2, 1, *S_f) = {(2, 1, *size)}, got {valid.dtype} {tuple(valid.shape)}.")
    if not valid.flatten(1).any(1).all():
        empty = int((~valid.flatten(1).any(1)).nonzero()[0, 0])
        raise ValueError(f"valid: view {empty} has no valid voxel, so it cannot be asked; leave this pair out.")


def _check_coarse(coarse: Tensor, coordinates: Tensor, axial_axis: int) -> None:
    axes = coarse.ndim - 3
    if axes not in (2, 3) or coarse.shape[1] != 2:
        raise ValueError(f"coarse is (V, 2, E, *S_c): 2 views of each volume, got {tuple(coarse.shape)}.")
    wanted = (len(coarse), 2, axes, *coarse.shape[3:])
    if coordinates.shape != wanted:
        raise ValueError(f"coordinates are (V, 2, n, *S_c) = {wanted}, got {tuple(coordinates.shape)}.")
    if not -axes <= axial_axis < axes:
        raise ValueError(f"axial_axis is one of the {axes} axes, got {axial_axis}.")
