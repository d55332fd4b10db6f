"""All losses of the method, and their sum."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from medssl_nb.methods.boundary_infomax.boundaries import (
    _against_target,
    _target,
    boundary_loss,
    cluster_entropy,
    edge_target,
    gradient_magnitude,
    local_cross_correlation,
    min_max_normalize,
)
from medssl_nb.methods.boundary_infomax.checks import check_simplex
from medssl_nb.methods.boundary_infomax.joint import (
    displaced_joint_probability,
    iic_loss,
    joint_probability,
    mutual_information,
    regularized_mi_loss,
)
from medssl_nb.training.losses import info_nce_loss

__all__ = [
    "BoundaryInfoMaxTerms",
    "boundary_infomax_loss",
    "boundary_loss",
    "cluster_entropy",
    "displaced_joint_probability",
    "edge_target",
    "gradient_magnitude",
    "iic_loss",
    "info_nce_loss",
    "joint_probability",
    "local_cross_correlation",
    "min_max_normalize",
    "mutual_information",
    "regularized_mi_loss",
]


class BoundaryInfoMaxTerms(NamedTuple):
    """Terms of the loss on the decoder's clusters.

    Attributes:
        total: weighted sum.
        mutual_information, boundary: means over heads (and views), not weighted.
        joints: (S, K, K), one for each head.
    """

    total: Tensor
    mutual_information: Tensor
    boundary: Tensor
    joints: Tensor


def boundary_infomax_loss(
    probs_a: Sequence[Tensor],
    probs_b: Sequence[Tensor],
    image: Tensor,
    *,
    mi_weight: float = 1.0,
    boundary_weight: float = 1.0,
    alpha: float = 0.5,
    marginal_weight: float = 1.0,
    symmetric: bool = True,
    window: int | Sequence[int] = 5,
    power: float = 0.75,
    spacing: Sequence[float] | None = None,
    boundary: Literal["replicate", "wrap"] = "replicate",
    mask: Tensor | None = None,
) -> BoundaryInfoMaxTerms:
    """Regularised mutual information of the two views' clusters, and their borders against the image's edges.

    Args:
        probs_a, probs_b: one (B, K, *S) for each head.
        image: (B, C, *S'), the transformed image of view A, in whose frame both views lie.
        mi_weight, boundary_weight: of the two terms; a boundary weight of 0 skips that term.
        alpha, marginal_weight: see `regularized_mi_loss`. symmetric, mask: see `joint_probability`.
        window, power, spacing, boundary: see `boundary_loss`.

    Raises:
        ValueError: no heads, or another number of them in the two views; whatever the terms refuse.
    """
    check_heads(probs_a, probs_b)
    joints = head_joints(probs_a, probs_b, symmetric=symmetric, mask=mask)
    information = head_information(joints, alpha=alpha, marginal_weight=marginal_weight)
    edges = information.new_zeros(())
    if boundary_weight != 0:
        options = {"window": window, "power": power, "spacing": spacing, "boundary": boundary, "mask": mask}
        edges = head_boundaries(probs_a, probs_b, image, **options)
    total = mi_weight * information + boundary_weight * edges
    return BoundaryInfoMaxTerms(total, information, edges, joints)


def check_heads(probs_a: Sequence[Tensor], probs_b: Sequence[Tensor]) -> None:
    if len(probs_a) != len(probs_b) or len(probs_a) == 0:
        raise ValueError(
            f"probs_a and probs_b hold one tensor for each head, at least one; got {len(probs_a)} and {len(probs_b)}."
        )
    shapes = list(dict.fromkeys(tuple(probs.shape) for probs in (*probs_a, *probs_b)))
    if len(shapes) > 1:
        raise ValueError(f"probs_a and probs_b of all heads must have one shape (B, K, *S), got {shapes}.")


def head_joints(
    probs_a: Sequence[Tensor], probs_b: Sequence[Tensor], *, symmetric: bool = True, mask: Tensor | None = None
) -> Tensor:
    """`joint_probability` of each head, (S, K, K)."""
    pairs = zip(probs_a, probs_b, strict=True)
    return torch.stack([joint_probability(a, b, symmetric=symmetric, mask=mask) for a, b in pairs])


def head_information(joints: Tensor, **options) -> Tensor:
    """Mean of `regularized_mi_loss` over heads: joints (S, K, K), its options."""
    return torch.stack([regularized_mi_loss(joint, **options) for joint in joints]).mean()


def head_boundaries(
    probs_a: Sequence[Tensor],
    probs_b: Sequence[Tensor],
    image: Tensor,
    *,
    window: int | Sequence[int] = 5,
    power: float = 0.75,
    spacing: Sequence[float] | None = None,
    boundary: Literal["replicate", "wrap"] = "replicate",
    mask: Tensor | None = None,
) -> Tensor:
    """Mean of `boundary_loss` over heads and views, against one edge target that is made once."""
    target = _target(image, probs_a[0], power, spacing, boundary)
    for probs in (*probs_a, *probs_b):
        check_simplex("probs", probs)
    return torch.stack([_against_target(p, target, window, 1e-5, mask) for p in (*probs_a, *probs_b)]).mean()
