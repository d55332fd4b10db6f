"""How often a voxel is in cluster i of one view and in cluster j of the other, and what that says: mutual information.

Formulas as in the released code (github.com/jizongFox/Contrast-You); the paper's body was not at hand.
"""

from itertools import product

import torch
from torch import Tensor

from medssl_nb.methods.boundary_infomax.checks import check_mask, check_pair, check_positive, check_square
from medssl_nb.precision import at_least_float32


def joint_probability(
    probs_a: Tensor, probs_b: Tensor, *, symmetric: bool = True, mask: Tensor | None = None
) -> Tensor:
    """Joint matrix of the clusters of two views: P = 1/N sum over samples and voxels of a(x) b(x)^T.

    Args:
        probs_a, probs_b: (B, K, *S), cluster probabilities of the same voxels, sums 1 over K.
        symmetric: (P + P^T) / 2 instead of P.
        mask: (B, 1, *S) bool or weights from 0: the mean is weighted.

    Returns:
        (K, K), sums to 1, float32 (float64 for float64); row sums are the usage of clusters in view A.

    Raises:
        ValueError: shapes that differ, fewer than 2 clusters, nothing in it, no probabilities, a mask that does not fit
            or is 0 everywhere.
    """
    check_pair(probs_a, probs_b)
    a, b = (p.flatten(2) for p in _of_one_type(probs_a, probs_b))  # (B, K, N)
    if mask is None:
        total = a.shape[0] * a.shape[2]
    else:
        check_mask(mask, len(a), probs_a.shape[2:])
        weights = mask.to(a.dtype).flatten(2)  # (B, 1, N)
        a, total = a * weights, weights.sum()
    with torch.autocast(a.device.type, enabled=False):
        joint = (a @ b.transpose(1, 2)).sum(dim=0) / total  # (B, K, N) @ (B, N, K) -> (K, K)
    return (joint + joint.T) / 2 if symmetric else joint


def displaced_joint_probability(
    probs_a: Tensor,
    probs_b: Tensor,
    *,
    radius: int,
    symmetric: bool = False,
    match_released_code: bool = False,
) -> Tensor:
    """Joint matrices of a voxel in view B and its neighbours in view A (IIC for segmentation; radius 0 is this method).

    P^(u)_ij = 1/Z_u sum over samples and voxels x, both x and x + u inside, of a_i(x + u) b_j(x).

    Args:
        probs_a, probs_b: (B, K, *S), sums 1 over K.
        radius: r from 0, below the smallest side; displacements u run from -r to r along each axis.
        symmetric: (P + P^T) / 2 for each displacement.
        match_released_code: as the released code does it: the smallest entry of all (detached) is subtracted and 1e-8
            added before each matrix is scaled, which distorts near-uniform ones, and the whole tensor sums to 1.

    Returns:
        ((2r + 1,) * d + (K, K)), each matrix sums to 1; entry [u..., i, j] belongs to the displacement u - r.

    Raises:
        ValueError: as `joint_probability`; a radius outside its range.
    """
    check_pair(probs_a, probs_b)
    size = probs_a.shape[2:]
    if not (isinstance(radius, int) and 0 <= radius < min(size)):
        raise ValueError(f"radius is a whole number from 0, below the smallest side {min(size)}; got {radius!r}.")
    a, b = _of_one_type(probs_a, probs_b)
    sums = []
    with torch.autocast(a.device.type, enabled=False):
        for u in product(range(-radius, radius + 1), repeat=len(size)):
            here = [slice(max(0, -d), n - max(0, d)) for d, n in zip(u, size, strict=True)]  # x, with x + u inside
            there = [slice(max(0, d), n - max(0, -d)) for d, n in zip(u, size, strict=True)]  # x + u
            pair = a[(..., *there)].flatten(2) @ b[(..., *here)].flatten(2).transpose(1, 2)
            sums.append(pair.sum(dim=0))
    joints = torch.stack(sums)  # (displacements, K, K)
    if match_released_code:
        joints = joints - joints.detach().min() + 1e-8
    joints = joints / joints.sum(dim=(1, 2), keepdim=True)
    if symmetric:
        joints = (joints + joints.transpose(1, 2)) / 2
    if match_released_code:
        joints = joints / joints.sum()
    return joints.view(*[2 * radius + 1] * len(size), *joints.shape[1:])


def mutual_information(joint: Tensor) -> Tensor:
    """I = sum_ij P_ij log(P_ij / (p_i p'_j)) in nats, with 0 log 0 = 0: 0 to log K. For measuring; no epsilon.

    Args:
        joint: (..., K, K), each matrix sums to 1.

    Returns:
        (...).
    """
    check_square(joint)
    P = at_least_float32(joint)
    entropy_of = torch.special.entr  # -x log x, 0 at 0
    marginals = entropy_of(P.sum(dim=-1)).sum(dim=-1) + entropy_of(P.sum(dim=-2)).sum(dim=-1)
    return marginals - entropy_of(P).sum(dim=(-2, -1))


def iic_loss(joint: Tensor, *, marginal_weight: float = 1.0, eps: float = 1e-5) -> Tensor:
    """Negative mutual information, as trained by IIC.

    L = -sum_ij P_ij [log(P_ij + eps) - weight log(p_i + eps) - weight log(p'_j + eps)].

    Args:
        joint: (..., K, K); the mean over leading axes is returned.
        marginal_weight: lambda, how strongly clusters shall be equally used.
        eps: keeps the logarithms finite.

    Returns:
        Scalar; about 0 for a uniform joint and for one cluster, -log K for I/K and for any permutation of it.
    """
    check_square(joint)
    check_positive("eps", eps)
    P = at_least_float32(joint)
    inner = torch.log(P + eps) - marginal_weight * _log_marginals(P, eps)
    return -(P * inner).sum(dim=(-2, -1)).mean()


def regularized_mi_loss(
    joint: Tensor, *, alpha: float = 0.5, marginal_weight: float = 1.0, eps: float = 1e-5
) -> Tensor:
    """Mutual information pulled towards the balanced diagonal joint I/K.

    L = -sum_ij T_ij log(P_ij + eps) + weight sum_ij P_ij [log(p_i + eps) + log(p'_j + eps)] with
    T = alpha I/K + (1 - alpha) P. The gradient flows through P everywhere, in T too.

    Args:
        joint: (K, K).
        alpha: 0 is IIC; 1 counts the diagonal alone.
        marginal_weight: lambda, as in `iic_loss`.
        eps: keeps the logarithms finite.

    Returns:
        Scalar; its minimum, -log K, is at I/K, and for alpha > 0 nowhere else.

    Raises:
        ValueError: alpha outside [0, 1], a joint that is not (K, K) with K from 2.
    """
    check_square(joint)
    if joint.ndim != 2:
        raise ValueError(f"joint must be one matrix (K, K), got {tuple(joint.shape)}; average the losses of several.")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha lies from 0 (plain IIC) to 1 (the diagonal alone), got {alpha!r}.")
    check_positive("eps", eps)
    P = at_least_float32(joint)
    clusters = P.shape[-1]
    target = alpha * torch.eye(clusters, dtype=P.dtype, device=P.device) / clusters + (1 - alpha) * P
    return -(target * torch.log(P + eps)).sum() + marginal_weight * (P * _log_marginals(P, eps)).sum()


def _of_one_type(probs_a: Tensor, probs_b: Tensor) -> tuple[Tensor, Tensor]:
    a, b = at_least_float32(probs_a), at_least_float32(probs_b)
    kept = torch.promote_types(a.dtype, b.dtype)
    return a.to(kept), b.to(kept)


def _log_marginals(P: Tensor, eps: float) -> Tensor:
    """log(p_i + eps) + log(p'_j + eps) at [..., i, j]."""
    rows, columns = P.sum(dim=-1, keepdim=True), P.sum(dim=-2, keepdim=True)
    return torch.log(rows + eps) + torch.log(columns + eps)
