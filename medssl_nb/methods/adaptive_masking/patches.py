"""Which patches are tissue, and a few numbers for each patch that clustering can compare."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from medssl_nb.methods.adaptive_masking.checks import check_mask
from medssl_nb.networks.patches import patchify, unpatchify
from medssl_nb.precision import at_least_float32

__all__ = ["foreground_patches", "patch_features", "patchify", "unpatchify"]


def foreground_patches(
    volume: Tensor, patch_size: int | Sequence[int], threshold: float = 0.0, min_fraction: float = 0.1
) -> Tensor:
    """Patches with enough tissue in them.

    A voxel is tissue if its brightest channel lies above `threshold`. Ask for 0.9 where patches are clustered (patches
    on the edge, half air, look like no tissue and form a cluster of their own), for 0.1 where they are masked (edges
    are tissue too).

    Args:
        volume: (B, C, *S), 2 or 3 axes; best before intensities are normalised (MRI: threshold 0, CT: about -500 HU).
        patch_size: side of a patch in voxels, one number or one per axis.
        threshold: intensity that tissue exceeds.
        min_fraction: share of a patch's voxels that must be tissue, above 0, at most 1.

    Returns:
        bool (B, N), patches in the order of `patchify`.

    Raises:
        ValueError: a `min_fraction` outside its range, a volume that does not fit `patch_size`.
    """
    if not 0 < min_fraction <= 1:
        raise ValueError(f"min_fraction is a share of a patch's voxels, above 0 and at most 1; got {min_fraction!r}.")
    if volume.ndim not in (4, 5):
        raise ValueError(f"volume is (B, C, X, Y) or (B, C, X, Y, Z), got {tuple(volume.shape)}; volume[None] adds B.")
    tissue = at_least_float32(volume).amax(dim=1, keepdim=True) > threshold
    inside = patchify(tissue, patch_size)  # (B, N, voxels of a patch)
    return inside.double().mean(-1) >= min_fraction


def patch_features(
    volume: Tensor,
    patch_size: int | Sequence[int],
    kind: Literal["statistics", "peak", "voxels"] = "statistics",
    valid: Tensor | None = None,
    standardize: bool = True,
    quantile: float = 0.95,
) -> Tensor:
    """A few numbers for each patch.

    Args:
        volume: (B, C, *S), 2 or 3 axes.
        patch_size: side of a patch in voxels, one number or one per axis.
        kind: "statistics": mean of each channel, then (population) standard deviation of each, F = 2C; "peak": an upper
            quantile of each channel, F = C, for lesions smaller than a patch; "voxels": the patch itself, F = V.
        valid: bool (B, N), patches over which features are standardised; None, or a volume without any: all.
        standardize: shift and scale each feature to mean 0 and deviation 1 in each volume: (f - mean) / (sd + 1e-6).
        quantile: of "peak", above 0, at most 1; linear between sorted values.

    Returns:
        (B, N, F), float32 (float64 for float64).

    Raises:
        ValueError: an unknown kind, a quantile outside its range, a `valid` that does not fit.
    """
    if kind not in ("statistics", "peak", "voxels"):
        raise ValueError(f'kind is "statistics", "peak" or "voxels", got {kind!r}.')
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile lies above 0 and is at most 1, got {quantile!r}; the 95th percentile is 0.95.")
    patches = at_least_float32(patchify(volume, patch_size))
    by_channel = patches.unflatten(-1, (-1, volume.shape[1]))  # (B, N, voxels, C)
    if kind == "voxels":
        features = patches
    elif kind == "peak":
        features = _upper_quantile(by_channel, quantile)
    else:
        deviation = by_channel.var(dim=2, correction=0).sqrt()
        features = torch.cat([by_channel.mean(dim=2), deviation], dim=-1)
    if valid is not None:
        check_mask("valid", valid, features.shape[:2])
    return _standardised(features, valid) if standardize else features


def _upper_quantile(values: Tensor, quantile: float) -> Tensor:
    """Quantile along the voxels of (B, N, voxels, C): (B, N, C)."""
    ordered = values.sort(dim=2).values  # torch.quantile refuses large inputs
    place = quantile * (values.shape[2] - 1)
    below = int(place)
    above = min(below + 1, values.shape[2] - 1)
    return torch.lerp(ordered[:, :, below], ordered[:, :, above], place - below)


def _standardised(features: Tensor, valid: Tensor | None) -> Tensor:
    """Features with mean 0 and deviation 1 over the valid patches of each volume."""
    valid = torch.ones_like(features[..., 0], dtype=torch.bool) if valid is None else valid
    counted = (valid | ~valid.any(dim=1, keepdim=True))[..., None]  # no valid patch: all of them
    # From one of the patches on: the differences of equal patches are exactly 0, their mean's rounding is not.
    first = counted.int().argmax(dim=1, keepdim=True)
    features = features - torch.take_along_dim(features, first, dim=1)
    number = counted.sum(dim=1, keepdim=True)
    mean = torch.where(counted, features, 0).sum(dim=1, keepdim=True) / number
    variance = torch.where(counted, (features - mean).square(), 0).sum(dim=1, keepdim=True) / number
    return (features - mean) / (variance.sqrt() + 1e-6)
