"""Clusters of voxels whose mean embeddings agree across images: assignments, regions, prototypes, read-out."""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl_nb.methods.local_discrimination.checks import (
    check_clusters,
    check_maps,
    check_mask,
    check_mode,
    check_positive,
    check_same_voxels,
)
from medssl_nb.methods.local_discrimination.normalization import l1_normalize, l2_normalize
from medssl_nb.precision import at_least_float32


class TargetSegmentation(NamedTuple):
    """Two soft maps (B, *S) of one cluster: what the clustering head says, and how alike the embeddings are to it."""

    assignment: Tensor
    similarity: Tensor


def cluster_assignments(
    logits: Tensor, *, mode: Literal["sigmoid_l1", "softmax"] = "sigmoid_l1", eps: float = 1e-9
) -> Tensor:
    """Soft assignment of each voxel: a_k = (sigmoid(o_k) + eps) / sum_j (sigmoid(o_j) + eps), or softmax.

    With sigmoids one high logit is not enough: the others must close.

    Args:
        logits: o, (B, K, *S).
        mode: "sigmoid_l1" as in the released code, or "softmax".
        eps: makes a voxel uniform where all sigmoids are 0.

    Returns:
        (B, K, *S), sums 1 over K; float32, or float64 for float64.

    Raises:
        ValueError: an unknown mode, fewer than 2 clusters.
    """
    check_mode("mode", mode)
    if logits.ndim < 2:
        raise ValueError(f"logits must be (B, K, *S), got {tuple(logits.shape)}.")
    check_clusters("logits", logits.shape[1])
    logits = at_least_float32(logits)
    if mode == "softmax":
        return logits.softmax(dim=1)
    return l1_normalize(logits.sigmoid(), dim=1, eps=eps)


def region_embeddings(
    embeddings: Tensor, assignments: Tensor, *, mask: Tensor | None = None, eps: float = 1e-10
) -> Tensor:
    """Mean embedding of each cluster in each image, on the sphere: r_nk = m_nk / (||m_nk|| + eps), m_nk = 1/V sum a z.

    One matrix product (K, V) (V, D) for each image.

    Args:
        embeddings: z, (B, D, *S).
        assignments: a, (B, K, *S).
        mask: (B, *S), voxels that count; the mean still divides by all voxels.
        eps: an empty cluster gives (almost) zero.

    Returns:
        (B, K, D).

    Raises:
        ValueError: batch or sides that differ, a mask of another shape, fewer than 2 clusters.
    """
    check_same_voxels(embeddings, assignments)
    check_clusters("assignments", assignments.shape[1])
    z, a = _of_one_type(embeddings, assignments)
    if mask is not None:
        check_mask(mask, len(z), z.shape[2:])
        a = a * mask.to(a)[:, None]
    with torch.autocast(z.device.type, enabled=False):
        sums = a.flatten(2) @ z.flatten(2).transpose(1, 2)  # (B, K, V) @ (B, V, D) -> (B, K, D)
    return l2_normalize(sums / z[0, 0].numel(), dim=2, eps=eps)


def region_prototypes(regions: Tensor) -> Tensor:
    """Mean region of each cluster over the images of the batch, on the sphere: (B, K, D) -> (K, D)."""
    _check_regions(regions)
    return l2_normalize(at_least_float32(regions).mean(dim=0), dim=1)


def region_discrimination_loss(
    regions: Tensor,
    *,
    prototypes: Tensor | None = None,
    temperature: float = 0.2,
    detach_prototypes: bool = False,
) -> Tensor:
    """Region k of each image must be nearest to prototype k.

    L = -1/(B K) sum_nk log softmax_j(r_nk . c_j / temperature) at j = k.

    Args:
        regions: r, (B, K, D).
        prototypes: c, (K, D); None: those of this batch, `region_prototypes`, and the gradient flows through them too.
        temperature: above 0.
        detach_prototypes: no gradient through the prototypes.

    Returns:
        Scalar; ln K when all regions are alike.

    Raises:
        ValueError: fewer than 2 clusters, prototypes not (K, D), temperature not above 0.
    """
    _check_regions(regions)
    check_positive("temperature", temperature)
    regions = at_least_float32(regions)
    prototypes = region_prototypes(regions) if prototypes is None else at_least_float32(prototypes).to(regions.dtype)
    if prototypes.shape != regions.shape[1:]:
        raise ValueError(f"prototypes must be (K, D) = {tuple(regions.shape[1:])}, got {tuple(prototypes.shape)}.")
    if detach_prototypes:
        prototypes = prototypes.detach()
    with torch.autocast(regions.device.type, enabled=False):
        logits = regions @ prototypes.T / temperature  # (B, K, K)
        own = torch.arange(regions.shape[1], device=regions.device).repeat(len(regions))
        return F.cross_entropy(logits.flatten(0, 1), own)


def assignment_entropy(
    assignments: Tensor, *, kind: Literal["binary", "categorical"] = "binary", eps: float = 1e-30
) -> Tensor:
    """How undecided the assignments are, in bits: mean over images, clusters and voxels.

    Binary (released code): -a log2(a + eps) - (1 - a) log2(1 - a + eps), each cluster a question of its own.
    Categorical: -a log2(a + eps).

    Args:
        assignments: a, (B, K, *S).
        kind: which of the two.
        eps: keeps the logarithm finite; 0 in float16, so half precision is raised to float32.

    Raises:
        ValueError: an unknown kind, fewer than 2 clusters.
    """
    if kind not in ("binary", "categorical"):
        raise ValueError(f'kind is "binary" or "categorical", got {kind!r}.')
    check_maps("assignments", assignments)
    check_clusters("assignments", assignments.shape[1])
    a = at_least_float32(assignments)
    entropy = -a * torch.log2(a + eps)
    if kind == "binary":
        entropy = entropy - (1 - a) * torch.log2(1 - a + eps)
    return entropy.mean()


def cluster_area_loss(
    assignments: Tensor, *, target_fraction: float = 1 / 16, norm: Literal["l2", "l1"] = "l2"
) -> Tensor:
    """Each cluster shall fill a share of each image: mean over images and clusters of (mean a - target)^2, or of |.|.

    Written but never used in the released code.

    Args:
        assignments: a, (B, K, *S).
        target_fraction: the share, 0 to 1.
        norm: "l2" or "l1".

    Raises:
        ValueError: an unknown norm, a share outside [0, 1], fewer than 2 clusters.
    """
    if norm not in ("l2", "l1"):
        raise ValueError(f'norm is "l2" or "l1", got {norm!r}.')
    if not 0 <= target_fraction <= 1:
        raise ValueError(f"target_fraction is a share of the image, 0 to 1, got {target_fraction!r}.")
    check_maps("assignments", assignments)
    check_clusters("assignments", assignments.shape[1])
    off = at_least_float32(assignments).flatten(2).mean(dim=2) - target_fraction
    return (off.square() if norm == "l2" else off.abs()).mean()


def cosine_segmentation(embeddings: Tensor, regions: Tensor, *, temperature: float = 0.2) -> Tensor:
    """Which region each voxel's embedding is nearest to: softmax_k(z_u . r_k / temperature).

    Args:
        embeddings: z, (B, D, *S).
        regions: r, (B, K, D), of the same images.
        temperature: above 0.

    Returns:
        (B, K, *S), sums 1 over K.

    Raises:
        ValueError: images or D that differ, fewer than 2 clusters, temperature not above 0.
    """
    check_maps("embeddings", embeddings)
    _check_regions(regions)
    check_positive("temperature", temperature)
    if regions.shape[0] != embeddings.shape[0] or regions.shape[2] != embeddings.shape[1]:
        raise ValueError(
            f"embeddings (B, D, *S) and regions (B, K, D) must agree in B and D, got {tuple(embeddings.shape)} and "
            f"{tuple(regions.shape)}."
        )
    z, r = _of_one_type(embeddings, regions)
    with torch.autocast(z.device.type, enabled=False):
        similarity = r @ z.flatten(2)  # (B, K, D) @ (B, D, V) -> (B, K, V)
    return (similarity / temperature).softmax(dim=1).unflatten(2, z.shape[2:])


def segment_target(
    embeddings: Tensor,
    assignments: Tensor,
    *,
    target: int = 0,
    mask: Tensor | None = None,
    temperature: float = 0.2,
) -> TargetSegmentation:
    """Both readings of one cluster: the head's own map, and how near each embedding is to that cluster's region.

    Regions are those of each image by itself, inside the mask. Cut either map at 0.5 for a segmentation.

    Args:
        embeddings: (B, D, *S).
        assignments: (B, K, *S).
        target: the cluster, 0 to K - 1.
        mask: (B, *S), for example the body; both maps are 0 outside.
        temperature: see `cosine_segmentation`.

    Raises:
        ValueError: a target that does not exist, and as `region_embeddings`.
    """
    check_same_voxels(embeddings, assignments)
    if not 0 <= target < assignments.shape[1]:
        raise ValueError(f"target is a cluster from 0 to {assignments.shape[1] - 1}, got {target!r}.")
    regions = region_embeddings(embeddings, assignments, mask=mask)
    similarity = cosine_segmentation(embeddings, regions, temperature=temperature)[:, target]
    assignment = at_least_float32(assignments)[:, target]
    if mask is not None:
        assignment, similarity = assignment * mask.to(assignment), similarity * mask.to(similarity)
    return TargetSegmentation(assignment, similarity)


def _check_regions(regions: Tensor) -> None:
    if regions.ndim != 3 or len(regions) < 1:
        raise ValueError(f"regions must be (B, K, D), got {tuple(regions.shape)}.")
    check_clusters("regions", regions.shape[1])


def _of_one_type(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    first, second = at_least_float32(first), at_least_float32(second)
    kept = torch.promote_types(first.dtype, second.dtype)
    return first.to(kept), second.to(kept)
