"""Hard patches weigh more (ARL / RRL), and two opinions on "lesion" must agree (CCL).

The terms' roles come from the abstracts of the paper (arXiv 2309.04312); the formulas are this project's reading of
them, except `relative_ranking_loss`, which is that of Hard Patches Mining (arXiv 2304.05919).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl_nb.methods.adaptive_masking.checks import check_mask, check_positive, check_values
from medssl_nb.precision import at_least_float32
from medssl_nb.training.losses import masked_reconstruction_loss, reconstruction_error

__all__ = [
    "adaptive_masking_loss",
    "category_consistency_loss",
    "hard_patches",
    "masked_reconstruction_loss",
    "reconstruction_error",
    "relative_ranking_loss",
    "relative_reconstruction_loss",
    "relative_weights",
]


@torch.no_grad()
def relative_weights(
    errors: Tensor, mask: Tensor, kind: Literal["relative", "attention"] = "relative", strength: float = 1.0
) -> Tensor:
    """How much each hidden patch counts, by its error relative to the other hidden patches of its volume.

    w_i = M a_i / sum_j a_j over the M hidden patches, with a_i = (e_i / mean e)^strength ("relative") or
    exp(strength e_i / mean e) ("attention", a softmax). They average 1; where all errors are 0 all are 1.

    Args:
        errors: (B, N), not negative.
        mask: bool (B, N), True = hidden.
        kind: "relative" or "attention".
        strength: 0 makes all weights 1; the larger, the more the hardest patches count.

    Returns:
        (B, N), 0 where nothing is hidden, without gradient; float32 (float64 for float64).

    Raises:
        ValueError: shapes that differ, a mask that is not bool, an unknown kind, a negative strength.
    """
    _check_errors(errors, mask)
    if kind not in ("relative", "attention"):
        raise ValueError(f'kind is "relative" or "attention", got {kind!r}.')
    check_positive("strength", strength, inclusive=True)
    e, number = _hidden_errors(errors, mask)
    largest = e.amax(dim=1, keepdim=True)
    some = largest > 0
    if kind == "relative":  # over the largest, not the mean: the same weights, and no power overflows
        a = torch.where(some, e / torch.where(some, largest, 1), 1) ** strength
    else:
        mean = torch.where(some, e.sum(dim=1, keepdim=True) / number, 1)
        a = torch.exp(strength * (e - largest) / mean)
    a = torch.where(mask, a, 0)
    return a * number / torch.where(mask.any(dim=1, keepdim=True), a.sum(dim=1, keepdim=True), 1)


def relative_reconstruction_loss(
    errors: Tensor, mask: Tensor, kind: Literal["relative", "attention"] = "relative", strength: float = 1.0
) -> Tensor:
    """Mean error of the hidden patches, each times its `relative_weights`: sum(m w e) / max(1, sum(m)).

    The weights carry no gradient: the gradient of each patch is the plain one times its weight.

    Args and errors: as `relative_weights`.
    """
    weights = relative_weights(errors, mask, kind, strength)
    return masked_reconstruction_loss(weights * at_least_float32(errors), mask)


def relative_ranking_loss(scores: Tensor, errors: Tensor, mask: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Predicted difficulty must put the hidden patches of a volume in the order of their errors (Hard Patches Mining).

    Mean over ordered pairs (i, j) of hidden patches of one volume with different errors: -log(sigmoid(s_j - s_i) + eps)
    where e_j > e_i, and -log(1 - sigmoid(s_j - s_i) + eps) where e_j < e_i.

    Args:
        scores: (B, N), one of each patch, as the model's `difficulty_head` gives them.
        errors: (B, N).
        mask: bool (B, N), True = hidden.
        epsilon: above 0, keeps the logarithm finite.

    Returns:
        Scalar with gradient to `scores` only; 0 where there is no pair. Memory grows with N^2.
    """
    _check_errors(errors, mask)
    check_values("scores", scores, errors.shape)
    check_positive("epsilon", epsilon)
    s, e = at_least_float32(scores), errors.detach()
    both = mask[:, :, None] & mask[:, None, :]
    harder = both & (e[:, None, :] > e[:, :, None])  # [b, i, j]: j is harder than i
    # Since 1 - sigmoid(x) = sigmoid(-x), the pairs (i, j) and (j, i) give the same term: one of each is enough.
    log_share = -torch.log(torch.sigmoid(s[:, None, :] - s[:, :, None]) + epsilon)
    return torch.where(harder, log_share, 0).sum() / harder.sum().clamp(min=1)


@torch.no_grad()
def hard_patches(errors: Tensor, mask: Tensor, threshold: float = 0.0) -> Tensor:
    """Hidden patches that are harder than usual in their volume: e_i > mean + threshold * sd over the hidden ones.

    Args:
        errors: (B, N).
        mask: bool (B, N), True = hidden.
        threshold: (population) standard deviations above the mean.

    Returns:
        bool (B, N), False where nothing is hidden; no patch is hard where all errors are equal.
    """
    _check_errors(errors, mask)
    if not abs(threshold) < float("inf"):
        raise ValueError(f"threshold is a finite number of standard deviations, got {threshold!r}.")
    e, number = _hidden_errors(errors, mask)
    mean = e.sum(dim=1, keepdim=True) / number
    deviation = torch.where(mask, (e - mean).square(), 0).sum(dim=1, keepdim=True).div(number).sqrt()
    largest, smallest = e.amax(dim=1, keepdim=True), torch.where(mask, e, torch.inf).amin(dim=1, keepdim=True)
    return mask & (e > mean + threshold * deviation) & (largest > smallest)


def category_consistency_loss(
    tokens: Tensor,
    lesion: Tensor,
    targets: Tensor,
    mask: Tensor,
    temperature: float = 0.1,
    valid: Tensor | None = None,
) -> Tensor:
    """Tokens of hard patches move towards what clustering calls lesion, those of easy ones towards background.

    Two prototypes stand for the categories of a volume: mu_L and mu_B, the mean directions of the (unit) tokens that
    clustering calls lesion and not. With q = softmax(z . mu / temperature) over the two, the loss is the mean of
    -[h log q_L + (1 - h) log q_B] over hidden, valid patches, in volumes that have a valid patch of each category.

    Args:
        tokens: (B, N, D) of a pass over the whole volume (`MaskedPatchTransformer.encode`). In tokens of the masked
            pass the prototypes would learn "hidden" against "visible".
        lesion: bool (B, N), the clustering's opinion.
        targets: h, bool (B, N) such as `hard_patches`, or numbers in [0, 1].
        mask: bool (B, N), True = hidden.
        temperature: above 0.
        valid: bool (B, N), patches that count; None is all.

    Returns:
        Scalar with gradient to the tokens of hidden patches only; 0 where no volume has both categories.

    Raises:
        ValueError: shapes that differ, masks that are not bool, targets outside [0, 1], a temperature of 0 or less.
    """
    if tokens.ndim != 3:
        raise ValueError(f"tokens must be (B, N, D), got {tuple(tokens.shape)}.")
    check_mask("lesion", lesion, tokens.shape[:2])
    check_mask("mask", mask, tokens.shape[:2])
    _check_targets(targets, tokens.shape[:2])
    check_positive("temperature", temperature)
    if valid is None:
        valid = torch.ones_like(lesion)
    check_mask("valid", valid, tokens.shape[:2])
    with torch.autocast(tokens.device.type, enabled=False):
        z = F.normalize(at_least_float32(tokens), dim=-1, eps=1e-12)  # (B, N, D)
        members = torch.stack([valid & ~lesion, valid & lesion], dim=1)  # (B, 2, N): background, lesion
        prototypes = F.normalize(members.to(z.dtype) @ z.detach(), dim=-1, eps=1e-12)  # (B, 2, D)
        log_q = F.log_softmax(z @ prototypes.transpose(1, 2) / temperature, dim=-1)  # (B, N, 2)
        h = targets.detach().to(z.dtype)
        loss = -(h * log_q[..., 1] + (1 - h) * log_q[..., 0])
    counted = mask & valid & members.any(dim=2).all(dim=1, keepdim=True)
    return torch.where(counted, loss, 0).sum() / counted.sum().clamp(min=1)


def adaptive_masking_loss(
    prediction: Tensor,
    target: Tensor,
    mask: Tensor,
    *,
    tokens: Tensor | None = None,
    lesion: Tensor | None = None,
    valid: Tensor | None = None,
    error: Literal["l2", "l1"] = "l2",
    normalize_target: bool = False,
    weighting: Literal["relative", "attention"] = "relative",
    strength: float = 1.0,
    hard_threshold: float = 0.0,
    temperature: float = 0.1,
    reconstruction_weight: float = 1.0,
    relative_weight: float = 1.0,
    consistency_weight: float = 0.1,
) -> dict[str, Tensor]:
    """The whole loss of a step: weighted sum of reconstruction, RRL and CCL.

    Args:
        prediction, target: patches (B, N, V).
        mask: bool (B, N), True = hidden.
        tokens, lesion: (B, N, D) of the whole volume and bool (B, N); together, or neither (then CCL is 0).
        valid: bool (B, N), patches that count for CCL.
        error, normalize_target: see `reconstruction_error`.
        weighting, strength: see `relative_weights`.
        hard_threshold: see `hard_patches`. temperature: see `category_consistency_loss`.
        reconstruction_weight, relative_weight, consistency_weight: of the three terms in "total".

    Returns:
        "total" and its terms "reconstruction", "relative", "consistency" (scalars with graph, not yet weighted);
        "errors" (B, N) detached; "hard" bool (B, N).

    Raises:
        ValueError: `tokens` without `lesion` or the reverse, and whatever the terms refuse.
    """
    if (tokens is None) != (lesion is None):
        given, missing = ("tokens", "lesion") if lesion is None else ("lesion", "tokens")
        raise ValueError(f"tokens and lesion come together or not at all; got {given} without {missing}.")
    if error not in ("l2", "l1"):
        raise ValueError(f'error is "l2" or "l1", got {error!r}.')
    if weighting not in ("relative", "attention"):
        raise ValueError(f'weighting is "relative" or "attention", got {weighting!r}.')
    errors = reconstruction_error(prediction, target, error, normalize_target)
    hard = hard_patches(errors, mask, hard_threshold)
    terms = {
        "reconstruction": masked_reconstruction_loss(errors, mask),
        "relative": relative_reconstruction_loss(errors, mask, weighting, strength),
        "consistency": errors.new_zeros(())
        if tokens is None
        else category_consistency_loss(tokens, lesion, hard, mask, temperature, valid),
    }
    total = (
        reconstruction_weight * terms["reconstruction"]
        + relative_weight * terms["relative"]
        + consistency_weight * terms["consistency"]
    )
    return {"total": total, **terms, "errors": errors.detach(), "hard": hard}


def _hidden_errors(errors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Errors (B, N) with 0 where nothing is hidden, and the number of hidden patches (B, 1), at least 1."""
    e = torch.where(mask, at_least_float32(errors), 0)
    return e, mask.sum(dim=1, keepdim=True).clamp(min=1)


def _check_errors(errors: Tensor, mask: Tensor) -> None:
    check_values("errors", errors)
    check_mask("mask", mask, errors.shape)


def _check_targets(targets: Tensor, shape) -> None:
    check_values("targets", targets, shape)
    if targets.dtype == torch.bool:
        return
    if not targets.is_floating_point() or not ((targets >= 0) & (targets <= 1)).all():
        raise ValueError(
            f"targets are bool, or numbers from 0 (background) to 1 (lesion); got {targets.dtype} "
            f"from {float(targets.min()):g} to {float(targets.max()):g}."
        )
