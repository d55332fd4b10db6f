"""Losses that two or more methods share."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl_nb.precision import at_least_float32


def reconstruction_error(
    prediction: Tensor, target: Tensor, kind: Literal["l2", "l1"] = "l2", normalize_target: bool = False
) -> Tensor:
    """Mean squared (or absolute) difference within each patch.

    e_i = 1/V sum_j (prediction_ij - target_ij)^2, or the sum of absolute values.

    Args:
        prediction, target: (B, N, V): V values of each of N patches.
        kind: "l2" or "l1".
        normalize_target: shift and divide each target patch to mean 0 and variance 1 first (unbiased variance + 1e-6).

    Returns:
        (B, N), with gradient to `prediction` only; half types are computed in float32.

    Raises:
        ValueError: shapes that differ or are not (B, N, V), an unknown kind, `normalize_target` with V = 1.
    """
    if prediction.ndim != 3 or prediction.shape != target.shape:
        raise ValueError(
            f"prediction and target are (B, N, V) and alike, got {tuple(prediction.shape)} and {tuple(target.shape)}."
        )
    if kind not in ("l2", "l1"):
        raise ValueError(f'kind is "l2" or "l1", got {kind!r}.')
    prediction, target = at_least_float32(prediction), at_least_float32(target.detach())
    if normalize_target:
        if target.shape[-1] < 2:
            raise ValueError(f"normalize_target needs at least 2 values in a patch, got V = {target.shape[-1]}.")
        mean, variance = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
        target = (target - mean) / (variance + 1e-6).sqrt()
    difference = prediction - target
    return (difference.square() if kind == "l2" else difference.abs()).mean(-1)


def masked_reconstruction_loss(errors: Tensor, mask: Tensor) -> Tensor:
    """Mean error of the hidden patches of the batch: sum(m e) / max(1, sum(m)).

    Args:
        errors: (B, N).
        mask: bool (B, N), True = hidden.

    Raises:
        ValueError: shapes that differ, a mask that is not bool.
    """
    if errors.ndim != 2 or errors.shape != mask.shape:
        raise ValueError(f"errors and mask are (B, N) and alike, got {tuple(errors.shape)} and {tuple(mask.shape)}.")
    if mask.dtype != torch.bool:
        raise ValueError(f"mask is a bool tensor, True = hidden; got {mask.dtype}.")
    hidden = torch.where(mask, at_least_float32(errors), 0.0)
    return hidden.sum() / mask.sum().clamp(min=1)


def info_nce_loss(
    embeddings_a: Tensor, embeddings_b: Tensor, labels: Tensor | None = None, *, temperature: float = 0.07
) -> Tensor:
    """Pull samples with the same label together, push all others apart (supervised form of InfoNCE).

    With s_uv = z_u . z_v / temperature over all 2B unit vectors z and P(u) the others with the label of u:
    loss = -mean_u mean_{v in P(u)} [s_uv - log sum_{w != u} exp(s_uw)].

    Args:
        embeddings_a, embeddings_b: (B, D), two views of the same samples; scaled to unit length here.
        labels: (B,) whole numbers; None: each sample's only positive is its other view (SimCLR).
        temperature: positive.

    Returns:
        Scalar, float32 (float64 for float64). When all embeddings are equal and there are no labels: ln(2B - 1).

    Raises:
        ValueError: shapes that differ or are not (B, D), B < 2, labels of another length, temperature <= 0.
    """
    if embeddings_a.ndim != 2 or embeddings_a.shape != embeddings_b.shape or len(embeddings_a) < 2:
        raise ValueError(
            f"embeddings are two tensors (B, D) of one shape with B >= 2, got {tuple(embeddings_a.shape)} and "
            f"{tuple(embeddings_b.shape)}; a contrast needs other samples."
        )
    if not temperature > 0:
        raise ValueError(f"temperature is positive, got {temperature!r}.")
    size = len(embeddings_a)
    if labels is None:
        labels = torch.arange(size, device=embeddings_a.device)
    elif labels.shape != (size,):
        raise ValueError(f"labels are one whole number for each of {size} samples, got shape {tuple(labels.shape)}.")
    with torch.autocast(embeddings_a.device.type, enabled=False):
        z = F.normalize(at_least_float32(torch.cat([embeddings_a, embeddings_b])), dim=1)  # (2B, D)
        itself = torch.eye(2 * size, dtype=torch.bool, device=z.device)
        similarity = (z @ z.T / temperature).masked_fill(itself, -torch.inf)  # (2B, 2B)
        log_share = similarity - similarity.logsumexp(dim=1, keepdim=True)
        both = torch.cat([labels, labels])
        positive = (both[:, None] == both[None, :]) & ~itself
        per_sample = log_share.masked_fill(~positive, 0).sum(1) / positive.sum(1)
        return -per_sample.mean()
