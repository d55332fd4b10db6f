"""Patches told apart: mean embeddings of grid cells, patch discrimination, hypersphere mixup."""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl_nb.methods.local_discrimination.checks import check_maps, check_positive
from medssl_nb.methods.local_discrimination.normalization import l2_normalize
from medssl_nb.methods.local_discrimination.views import DiscriminationBatch, undo_views
from medssl_nb.precision import at_least_float32

_POOL = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
_BLOCK = 2**21  # numbers of a block of the square matrix of similarities: 8 MB in float32


def center_weights(
    window_size: Sequence[int],
    sigma: float = 0.5,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """A bell over a window, sum 1: W(i) ~ exp(-1/(2 sigma^2) sum_d u_d^2), u_d = (i_d - (s_d - 1)/2) / (s_d / 2).

    The formula is ours; of the paper only the picture of a bell is known.

    Args:
        window_size: s, voxels along each axis, from 1.
        sigma: width in half windows; `math.inf` is the plain mean.

    Returns:
        Tensor of shape `window_size`.

    Raises:
        ValueError: a side below 1, sigma not above 0.
    """
    size = tuple(int(s) for s in window_size)
    if not size or min(size) < 1:
        raise ValueError(f"window_size gives at least 1 voxel for each axis, got {tuple(window_size)}.")
    _check_sigma(sigma)
    weights = torch.ones((), dtype=dtype, device=device)
    for line in line_weights(size, sigma, dtype, device):
        weights = weights[..., None] * line
    return weights


def line_weights(
    size: Sequence[int], sigma: float, dtype: torch.dtype, device: torch.device | str | None
) -> list[Tensor]:
    """The bell is a product of lines: one (s_d,) for each axis, sum 1."""
    lines = []
    for s in size:
        u = (torch.arange(s, dtype=torch.float64) - (s - 1) / 2) / (s / 2)
        lines.append(torch.softmax(-u.square() / (2 * sigma**2), dim=0).to(device=device, dtype=dtype))
    return lines


def patch_embeddings(
    embeddings: Tensor,
    grid_size: int | Sequence[int],
    *,
    weighting: Literal["mean", "center"] = "mean",
    sigma: float = 0.5,
) -> Tensor:
    """One unit vector for each cell of a grid: the (weighted) mean of its voxels' embeddings, back on the sphere.

    Args:
        embeddings: z, (B, D, *S).
        grid_size: cells along each axis, one number for all.
        weighting: "mean" (adaptive average: sides need not divide), or "center" with `center_weights` in each cell
            (sides must divide).
        sigma: of "center".

    Returns:
        (B, D, *grid).

    Raises:
        ValueError: a grid larger than the map or below 1, sides that do not divide, sigma not above 0, an unknown
            weighting.
    """
    check_maps("embeddings", embeddings)
    size = tuple(embeddings.shape[2:])
    grid = (grid_size,) * len(size) if isinstance(grid_size, Integral) else tuple(grid_size)
    if len(grid) != len(size) or not all(1 <= g <= s for g, s in zip(grid, size, strict=True)):
        raise ValueError(f"grid_size must be 1 to the side along each axis of {size}, got {grid_size!r}.")
    if weighting not in ("mean", "center"):
        raise ValueError(f'weighting is "mean" or "center", got {weighting!r}.')
    _check_sigma(sigma)
    z = at_least_float32(embeddings)
    with torch.autocast(z.device.type, enabled=False):
        if weighting == "mean":
            return l2_normalize(_POOL[len(size)](z, grid), dim=1)
        if any(s % g for s, g in zip(size, grid, strict=True)):
            raise ValueError(f'weighting "center" needs a grid_size that divides the sides {size}, got {grid}.')
        cell = [s // g for s, g in zip(size, grid, strict=True)]
        for axis, line in enumerate(line_weights(cell, sigma, z.dtype, z.device), start=2):
            # (.., g * s, ..) -> (.., g, s, ..): weigh s and sum it away, one axis after the other
            cells = z.unflatten(axis, (-1, len(line))).movedim(axis + 1, -1)
            z = cells @ line
        return l2_normalize(z, dim=1)


def patch_discrimination_loss(
    first: Tensor, second: Tensor, *, temperature: float = 0.1, detach_targets: bool = True
) -> Tensor:
    """Each patch recognises its other view, and pushes every other patch away.

    With the N = 2M rows x of both views, i+ the other view of i, and P(j|i) = softmax over j != i of
    x_i . sg(x_j) / temperature:  L = -1/N sum_i [log P(i+|i) + sum_{j != i, i+} log(1 - P(j|i))].

    The matrix of similarities is never held as a whole: blocks of its rows give the loss and, in the same pass, the
    gradient. Memory grows with N, time with N^2.

    Args:
        first, second: (M, D) or (B, D, *grid), unit vectors of the two views, taken as they are.
        temperature: above 0.
        detach_targets: no gradient to x_j, as in the released code; both views learn all the same, since every row is
            an anchor once. False: to both sides of each product.

    Returns:
        Scalar; ln(N - 1) + (N - 2) ln((N - 1) / (N - 2)), about ln(N - 1) + 1, when all patches are alike. 1 - P is
        clamped to the machine epsilon.

    Raises:
        ValueError: fewer than 2 rows in a view, shapes that differ, temperature not above 0.
    """
    if first.shape != second.shape or first.ndim < 2:
        raise ValueError(
            f"first and second must be (M, D) or (B, D, *grid) of one shape, got {tuple(first.shape)} and "
            f"{tuple(second.shape)}."
        )
    check_positive("temperature", temperature)
    rows = torch.cat([_as_rows(first), _as_rows(second)])
    if len(rows) < 4:
        raise ValueError(
            f"first and second need at least 2 patches each: without a negative nothing is told apart; "
            f"got {len(rows) // 2}."
        )
    with torch.autocast(rows.device.type, enabled=False):
        return _PatchDiscrimination.apply(rows, temperature, detach_targets)


class _PatchDiscrimination(torch.autograd.Function):
    """Loss and gradient from one walk over blocks of rows of the similarity matrix.

    For anchor i, with s = x_i . x_j / temperature and w_j = P_j / (1 - P_j) for negatives (0 elsewhere, and where 1 - P
    is clamped): dL_i/ds_j = P_j - [j = i+] + w_j - P_j sum_k w_k.
    """

    @staticmethod
    def forward(ctx, rows: Tensor, temperature: float, detach_targets: bool) -> Tensor:
        count, learns = len(rows), ctx.needs_input_grad[0]
        everyone = torch.arange(count, device=rows.device)
        partner = everyone.roll(-(count // 2))  # (i + M) mod N
        total, gradient = rows.new_zeros(()), torch.zeros_like(rows) if learns else None
        for anchors in everyone.split(max(1, _BLOCK // count)):
            index, own = torch.arange(len(anchors), device=rows.device), partner[anchors]
            share = rows[anchors] @ (rows.T / temperature)  # similarities (n, N), share P after the softmax
            share[index, anchors] = -torch.inf
            positive = share[index, own] - share.logsumexp(dim=1)  # log P(i+|i)
            share = share.softmax(dim=1)
            rest = 1 - share
            rest[index, own] = 1  # not a negative: log 1 = 0
            clamped = rest.clamp(min=torch.finfo(rows.dtype).eps)
            total -= (positive + clamped.log().sum(dim=1)).sum()
            if learns:
                slope = torch.where(rest == clamped, share / clamped, 0.0)  # w
                slope[index, own] = 0
                slope += share * (1 - slope.sum(dim=1, keepdim=True))
                slope[index, own] -= 1
                gradient[anchors] += slope @ rows
                if not detach_targets:
                    gradient += slope.T @ rows[anchors]
        if learns:
            ctx.save_for_backward(gradient / (count * temperature))
        return total / count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, None, None


def hypersphere_mixup_targets(patches_a: Tensor, patches_b: Tensor, weights: Tensor) -> Tensor:
    """Where the patches of a blend belong on the sphere: lambda p_a + (1 - lambda) p_b, renormalised, no gradient.

    A chord put back on the sphere, not an arc: half way only for lambda = 0.5. Of opposite patches at 0.5: zero.

    Args:
        patches_a, patches_b: (B, D, *grid), unit vectors of view 1.
        weights: lambda, (B,), in [0, 1].

    Raises:
        ValueError: shapes that differ, weights not (B,) or outside [0, 1].
    """
    if patches_a.shape != patches_b.shape or patches_a.ndim < 2:
        raise ValueError(
            f"patches_a and patches_b must be (B, D, *grid) of one shape, got {tuple(patches_a.shape)} and "
            f"{tuple(patches_b.shape)}."
        )
    if tuple(weights.shape) != (len(patches_a),):
        raise ValueError(f"weights must be ({len(patches_a)},), one for each pair; got {tuple(weights.shape)}.")
    if ((weights < 0) | (weights > 1)).any():
        raise ValueError(f"weights are shares in [0, 1], found {float(weights.min())} to {float(weights.max())}.")
    a, b = at_least_float32(patches_a.detach()), at_least_float32(patches_b.detach())
    shares = weights.detach().to(a).view(-1, *[1] * (a.ndim - 1))
    return l2_normalize(shares * a + (1 - shares) * b, dim=1)


def hypersphere_mixup_loss(
    mixed: Tensor, patches_a: Tensor, patches_b: Tensor, weights: Tensor, *, temperature: float = 0.1
) -> Tensor:
    """Patches of the blends recognise their targets: `patch_discrimination_loss` on [mixed; targets].

    Targets carry no gradient; as anchors they count in the value.

    Args:
        mixed: (B, D, *grid), patches of the blended images.
        patches_a, patches_b, weights: see `hypersphere_mixup_targets`.
        temperature: above 0.
    """
    return patch_discrimination_loss(
        mixed, hypersphere_mixup_targets(patches_a, patches_b, weights).to(mixed.device), temperature=temperature
    )


def patch_losses(patches: Tensor, batch: DiscriminationBatch, *, temperature: float = 0.1) -> tuple[Tensor, Tensor]:
    """Patch discrimination of the first and the second views, and hypersphere mixup.

    Args:
        patches: (5B, D, *grid) in the order of `DiscriminationBatch`; the moves of the second views are undone here.
        batch: its mix weights and transforms; its images are not read.
        temperature: above 0.

    Returns:
        Two scalars.

    Raises:
        ValueError: patches that are not 5B, and as the losses.
    """
    pairs = len(batch.mix_weights)
    if patches.ndim < 3 or len(patches) != 5 * pairs:
        raise ValueError(f"patches must be (5B, D, *grid) with B = {pairs}, got {tuple(patches.shape)}.")
    a1, b1, a2, b2, mixed = patches.split(pairs)
    first = torch.cat([a1, b1])
    second = torch.cat([undo_views(a2, batch.transforms_a), undo_views(b2, batch.transforms_b)])
    return (
        patch_discrimination_loss(first, second, temperature=temperature),
        hypersphere_mixup_loss(mixed, a1, b1, batch.mix_weights, temperature=temperature),
    )


def _as_rows(patches: Tensor) -> Tensor:
    """(B, D, *grid) to rows (B * cells, D), ordered (image, *grid)."""
    patches = at_least_float32(patches)
    return patches if patches.ndim == 2 else patches.movedim(1, -1).flatten(0, -2)


def _check_sigma(sigma: float) -> None:
    if not sigma > 0 or math.isnan(sigma):
        raise ValueError(f"sigma must be above 0 (math.inf is the plain mean), got {sigma!r}.")
