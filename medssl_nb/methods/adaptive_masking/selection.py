"""Masked patch selection (MPS) and the masking ratio (AMR): which patches are hidden, and how many.

Names of the parts follow the abstracts of the paper (arXiv 2309.04312); the formulas are this project's reading.
"""

import math
from numbers import Integral
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from medssl_nb.methods.adaptive_masking.checks import check_mask, check_values
from medssl_nb.precision import at_least_float32

_AT_ONCE = 2**23  # differences kept in memory at a time, if one cluster needs no more


class KMeansResult(NamedTuple):
    """Clusters of the patches of each volume.

    Attributes:
        labels: int64 (B, N), 0 to K - 1, and -1 for patches that took no part.
        centroids: (B, K, F).
        inertia: (B,), sum of squared distances of the valid patches to their centroids.
    """

    labels: Tensor
    centroids: Tensor
    inertia: Tensor


@torch.no_grad()
def kmeans(
    features: Tensor,
    clusters: int = 2,
    *,
    initial_centroids: Tensor | None = None,
    valid: Tensor | None = None,
    iterations: int = 50,
    restarts: int = 4,
    generator: torch.Generator | None = None,
) -> KMeansResult:
    """k-means by Lloyd's algorithm, for every volume of a batch at once, each by itself.

    label_i = argmin_k ||f_i - mu_k||^2 (the lower k of two equal ones), mu_k = mean of its patches; repeated until the
    labels of a volume stay. An empty cluster takes the patch that lies farthest from its own centroid, unless all lie
    on theirs; then it stays empty and keeps its centroid.

    Args:
        features: (B, N, F).
        clusters: K, at least 1. Where a volume has fewer different patches, some clusters stay empty.
        initial_centroids: (B, K, F), where to start; the result then has no chance in it and `restarts` no effect. None
            starts by k-means++ (each next centre drawn with probability proportional to the squared distance to the
            nearest one so far).
        valid: bool (B, N), patches that take part; None is all. A volume without any: labels -1, inertia 0.
        iterations: at most this many.
        restarts: starts tried for each volume; the lowest inertia wins.
        generator: for k-means++; None is PyTorch's default one. The same state gives the same result.

    Returns:
        `KMeansResult`, on the device of `features`, float32 (float64 for float64), without gradient.

    Raises:
        ValueError: shapes that do not fit, counts below 1, valid features that are not finite.
    """
    _check_kmeans(features, clusters, initial_centroids, valid, iterations, restarts)
    f = at_least_float32(features)
    valid = torch.ones(f.shape[:2], dtype=torch.bool, device=f.device) if valid is None else valid
    # Patches last, (B, F, N): sums over a few features are then many times faster than over the last axis.
    f = torch.where(valid[:, None], f.transpose(1, 2), 0).contiguous()
    if not f.isfinite().all():
        raise ValueError("features of valid patches hold NaN or infinity, which lie near no centre: mend the volume.")
    with torch.autocast(f.device.type, enabled=False):
        if initial_centroids is not None:
            return _lloyd(f, valid, initial_centroids.to(f), iterations)
        device = "cpu" if generator is None else generator.device
        drawn = torch.rand((restarts, len(f), clusters), generator=generator, device=device)
        many, everywhere = f.repeat(restarts, 1, 1), valid.repeat(restarts, 1)  # restart after restart
        start = _spread_out(many, everywhere, drawn.flatten(0, 1).to(f.device))
        tried = _lloyd(many, everywhere, start, iterations)
    best = tried.inertia.view(restarts, -1).argmin(dim=0)  # (B,)
    rows = best * len(f) + torch.arange(len(f), device=f.device)
    return KMeansResult(*(part[rows] for part in tried))


def _lloyd(f: Tensor, valid: Tensor, start: Tensor, iterations: int) -> KMeansResult:
    """Assign and average until nothing changes; a volume that is done drops out while others go on."""
    clusters, ranks = start.shape[1], _ranks(start.shape[1], f.device)
    done, rows, before = start.clone(), valid.any(dim=1).nonzero()[:, 0], None
    x, counted, centroids = f[rows], valid[rows], start[rows]
    for _ in range(iterations):
        rank, distance = _assign(x, counted, centroids, ranks)
        if before is not None:
            going = (rank != before).any(dim=1)
            if not going.all():
                done[rows] = centroids
                rows, x, counted, centroids = rows[going], x[going], counted[going], centroids[going]
                rank, distance = rank[going], distance[going]
        if not len(rows):
            break
        before = rank
        centroids = _updated(x, rank, distance, centroids, ranks)
    done[rows] = centroids
    rank, distance = _assign(f, valid, done, ranks)
    labels = torch.where(rank > 0, clusters - rank.long(), -1)
    return KMeansResult(labels, done, distance.sum(dim=1))


def _ranks(clusters: int, device: torch.device) -> Tensor:
    """(K, 1): K for the first cluster down to 1 for the last. 0 stands for "takes no part".

    In the place of labels, because the largest rank of several nearest clusters is the lowest label, and small whole
    numbers are compared many times faster than an `argmin` over few clusters is found.
    """
    dtype = torch.int8 if clusters <= 127 else torch.int32
    return torch.arange(clusters, 0, -1, device=device).to(dtype)[:, None]


def _assign(x: Tensor, valid: Tensor, centroids: Tensor, ranks: Tensor) -> tuple[Tensor, Tensor]:
    """Rank of the nearest cluster and squared distance to it, (B, N) each; 0 and 0 where not valid."""
    distances = _squared_distances(x, centroids)  # (B, K, N)
    nearest = distances.amin(dim=1)
    rank = ((distances <= nearest[:, None]).to(ranks.dtype) * ranks).amax(dim=1)
    return rank.masked_fill_(~valid, 0), nearest.masked_fill_(~valid, 0)


def _squared_distances(x: Tensor, centroids: Tensor) -> Tensor:
    """Of all patches (B, F, N) to all centres (B, K, F) of their volume: (B, K, N)."""
    # Sums of squared differences: |f|^2 - 2 f.mu + |mu|^2 loses the digits that decide near ties.
    if x.numel() * centroids.shape[1] <= _AT_ONCE:
        return (x[:, None] - centroids[..., None]).square_().sum(dim=2)
    return torch.stack([(x - mu[..., None]).square_().sum(dim=1) for mu in centroids.unbind(dim=1)], dim=1)


def _updated(x: Tensor, rank: Tensor, distance: Tensor, centroids: Tensor, ranks: Tensor) -> Tensor:
    """Mean of the patches of each cluster (B, K, F), empty ones re-seeded; one that stays empty keeps its centroid."""
    member = (rank[:, None] == ranks).to(x.dtype)  # (B, K, N)
    number = member.sum(dim=2, keepdim=True)
    if not number.all():
        member = (_reseeded(rank, distance, len(ranks))[:, None] == ranks).to(x.dtype)
        number = member.sum(dim=2, keepdim=True)
    total = member @ x.transpose(1, 2)  # (B, K, F)
    return torch.where(number > 0, total / number.clamp(min=1), centroids)


def _reseeded(rank: Tensor, distance: Tensor, clusters: int) -> Tensor:
    """Ranks in which each empty cluster has got the patch farthest from its centroid, one patch once."""
    rank, left = rank.clone(), distance.clone()
    for own in range(clusters, 0, -1):
        empty = ~(rank == own).any(dim=1)
        far, patch = left.max(dim=1)
        row = (empty & (far > 0)).nonzero()[:, 0]
        rank[row, patch[row]], left[row, patch[row]] = own, 0
    return rank


def _spread_out(x: Tensor, valid: Tensor, drawn: Tensor) -> Tensor:
    """Centres (B, K, F) by k-means++; `drawn` (B, K) are the uniform numbers that decide."""
    allowed = (valid | ~valid.any(dim=1, keepdim=True)).double()  # without a valid patch any centre will do
    weight, centres, nearest = allowed, [], None
    for share in drawn.double().unbind(dim=1):
        total = weight.cumsum(dim=1)
        # rounding may carry share * total up to the end: stay among the patches that have a weight
        wanted = torch.minimum(share * total[:, -1], torch.nextafter(total[:, -1], torch.zeros_like(share)))
        patch = torch.searchsorted(total, wanted[:, None], right=True)  # (B, 1)
        centres.append(torch.take_along_dim(x, patch[:, None], dim=2)[..., 0])  # (B, F)
        distance = _squared_distances(x, centres[-1][:, None])[:, 0].double() * allowed
        nearest = distance if nearest is None else torch.minimum(nearest, distance)
        weight = torch.where(nearest.sum(dim=1, keepdim=True) > 0, nearest, allowed)
    return torch.stack(centres, dim=1)


def lesion_category(labels: Tensor, clusters: int = 2, *, scores: Tensor | None = None) -> Tensor:
    """Which patches the clustering calls lesion: those of one cluster. A guess, made without any label.

    Args:
        labels: int64 (B, N) with values -1 (took no part) to clusters - 1.
        clusters: K.
        scores: (B, N); the cluster with the highest mean score is the lesion: mean intensity where lesions are bright,
            or reconstruction error. None: the smallest cluster that is not empty, since lesions are rare. The lower
            index of two equal ones.

    Returns:
        bool (B, N). All False in a volume with fewer than two clusters that are not empty.

    Raises:
        ValueError: labels that are not int64 (B, N) or lie outside -1 to clusters - 1, scores of another shape.
    """
    if not (isinstance(clusters, Integral) and clusters >= 1):
        raise ValueError(f"clusters is a whole number from 1, got {clusters!r}.")
    if labels.dtype != torch.int64:
        raise ValueError(f"labels must be int64 (B, N), as `kmeans` returns them; got {labels.dtype}.")
    check_values("labels", labels)
    if labels.numel() and not (labels.min() >= -1 and labels.max() < clusters):
        raise ValueError(
            f"labels lie from -1 to clusters - 1 = {clusters - 1}, got {int(labels.min())} to {int(labels.max())}."
        )
    member = labels[..., None] == torch.arange(clusters, device=labels.device)  # (B, N, K)
    number = member.sum(dim=1)  # (B, K)
    if scores is None:
        chosen = torch.where(number > 0, number, labels.shape[1] + 1).argmin(dim=1)
    else:
        check_values("scores", scores, labels.shape)
        total = torch.where(member, at_least_float32(scores)[..., None], 0).sum(dim=1)
        chosen = torch.where(number > 0, total / number.clamp(min=1), -torch.inf).argmax(dim=1)
    two = (number > 0).sum(dim=1) >= 2
    return (labels == chosen[:, None]) & two[:, None]


def masking_ratio(
    epoch: float,
    epochs: int,
    start: float = 0.25,
    end: float = 0.75,
    schedule: Literal["linear", "cosine", "geometric"] = "linear",
) -> float:
    """Share of the patches to hide at one time of the training (AMR; our reading).

    With s = epoch / (epochs - 1) (1 if there is one epoch): start + (end - start) s, or with (1 - cos(pi s)) / 2 in the
    place of s ("cosine"), or start (end / start)^s ("geometric").

    Args:
        epoch: 0 to epochs - 1; fractions are allowed.
        epochs: at least 1.
        start, end: shares above 0 and below 1, in either order.
        schedule: "linear", "cosine" or "geometric".

    Raises:
        ValueError: an argument outside its range.
    """
    if not (isinstance(epochs, Integral) and epochs >= 1):
        raise ValueError(f"epochs is a whole number from 1, got {epochs!r}.")
    if not 0 <= epoch <= epochs - 1:
        raise ValueError(f"epoch runs from 0 to epochs - 1 = {epochs - 1}, got {epoch!r}.")
    for name, value in (("start", start), ("end", end)):
        if not 0 < value < 1:
            raise ValueError(f"{name} is a share of the patches, above 0 and below 1; got {value!r} (75 % is 0.75).")
    if schedule not in ("linear", "cosine", "geometric"):
        raise ValueError(f'schedule is "linear", "cosine" or "geometric", got {schedule!r}.')
    s = 1.0 if epochs == 1 else epoch / (epochs - 1)
    if schedule == "geometric":
        return start * (end / start) ** s
    return start + (end - start) * (s if schedule == "linear" else (1 - math.cos(math.pi * s)) / 2)


def select_masked_patches(
    lesion: Tensor,
    ratio: float,
    *,
    lesion_share: float = 1.0,
    valid: Tensor | None = None,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw which patches are hidden, those called lesion first.

    Of n valid patches M = floor(ratio n + 1/2) are hidden (at least 1, at most n - 1; none if n < 2), among them
    g = min(valid lesion patches, floor(lesion_share M + 1/2)) that are reserved for lesion patches. Each patch has a
    random number u: hidden are the g lesion patches with the largest u, then of all others, lesion or not, the M - g
    with the largest u.

    Args:
        lesion: bool (B, N), what the clustering calls lesion.
        ratio: share of the valid patches to hide, above 0 and below 1.
        lesion_share: 1 hides lesions first, 0 is the plain random mask of masked autoencoders.
        valid: bool (B, N), patches that may be hidden; None is all.
        noise: (B, N), the numbers u; None draws them.
        generator: where they are drawn from; None is PyTorch's default generator of the device.

    Returns:
        bool (B, N) on the device of `lesion`, True = hidden.

    Raises:
        ValueError: shapes that differ, a mask that is not bool, a share outside its range.
    """
    check_mask("lesion", lesion)
    if not 0 < ratio < 1:
        raise ValueError(
            f"ratio is the hidden share of the patches, above 0 and below 1; got {ratio!r} (75 % is 0.75)."
        )
    if not 0 <= lesion_share <= 1:
        raise ValueError(f"lesion_share lies from 0 (random) to 1 (lesions first), got {lesion_share!r}.")
    if valid is None:
        valid = torch.ones_like(lesion)
    check_mask("valid", valid, lesion.shape)
    if noise is None:
        device = lesion.device if generator is None else generator.device
        noise = torch.rand(lesion.shape, generator=generator, device=device)
    check_values("noise", noise, lesion.shape)
    noise = noise.to(lesion.device)
    lesion = lesion & valid
    n = valid.sum(dim=1)
    budget = torch.where(n < 2, 0, (ratio * n.double() + 0.5).floor().clamp(min=1).minimum((n - 1).double()))
    reserved = (lesion_share * budget + 0.5).floor().minimum(lesion.sum(dim=1).double())
    first = _largest(noise, lesion, reserved)
    return first | _largest(noise, valid & ~first, budget - reserved)


def _largest(noise: Tensor, among: Tensor, count: Tensor) -> Tensor:
    """The `count` (B,) patches with the largest noise of those in `among`; the lower index of two equal ones."""
    order = torch.where(among, noise, -torch.inf).argsort(dim=1, descending=True, stable=True)
    place = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    return among & (place < count[:, None])


def _check_kmeans(features, clusters, initial_centroids, valid, iterations, restarts) -> None:
    for name, value in (("clusters", clusters), ("iterations", iterations), ("restarts", restarts)):
        if not (isinstance(value, Integral) and value >= 1):
            raise ValueError(f"{name} is a whole number from 1, got {value!r}.")
    if features.ndim != 3 or not features.is_floating_point() or 0 in features.shape[1:]:
        raise ValueError(
            f"features must be numbers (B, N, F) with N and F from 1, got {features.dtype} {tuple(features.shape)}."
        )
    if valid is not None:
        check_mask("valid", valid, features.shape[:2])
    expected = (len(features), clusters, features.shape[-1])
    if initial_centroids is not None and tuple(initial_centroids.shape) != expected:
        raise ValueError(f"initial_centroids must be (B, K, F) = {expected}, got {tuple(initial_centroids.shape)}.")
