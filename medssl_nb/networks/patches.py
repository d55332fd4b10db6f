"""A volume as a list of small boxes and back, and random choices of the boxes to hide.

Patches are numbered row-major over the grid (last axis fastest). Inside a patch the voxels run row-major, the channel
last. This is the order of the published masked autoencoders and of the tokens of MONAI's `ViT`.
"""

import math
import numbers
from collections.abc import Sequence

import torch
from torch import Tensor


def patchify(volume: Tensor, patch_size: int | Sequence[int]) -> Tensor:
    """Cut volumes into patches that do not overlap.

    Args:
        volume: (B, C, X, Y) or (B, C, X, Y, Z), any dtype.
        patch_size: side of a patch in voxels, one number or one per axis.

    Returns:
        (B, N, V): N = product of side / patch side, V = C * voxels of a patch; same dtype and device.

    Raises:
        ValueError: another rank, or a side that is not a multiple of `patch_size`.
    """
    if volume.ndim not in (4, 5):
        raise ValueError(
            f"patchify: volume must be (B, C, X, Y) or (B, C, X, Y, Z), got {tuple(volume.shape)}; volume[None] adds B."
        )
    batch, channels, *size = volume.shape
    patch = per_axis(patch_size, len(size))
    grid = patch_grid(size, patch)
    split = [part for pair in zip(grid, patch, strict=True) for part in pair]
    parts = volume.reshape(batch, channels, *split)  # (B, C, gx, px, gy, py, ...)
    axes = range(2, parts.ndim)
    parts = parts.permute(0, *axes[::2], *axes[1::2], 1)  # (B, gx, gy, ..., px, py, ..., C)
    return parts.reshape(batch, math.prod(grid), math.prod(patch) * channels)


def unpatchify(patches: Tensor, patch_size: int | Sequence[int], grid_size: Sequence[int], channels: int = 1) -> Tensor:
    """Put patches back into place: the exact inverse of `patchify`.

    Args:
        patches: (B, N, V).
        patch_size: side of a patch in voxels, one number or one per axis.
        grid_size: patches along each axis, 2 or 3 numbers, product N.
        channels: C; V must be C * voxels of a patch.

    Returns:
        (B, C, *S) with S = grid_size * patch_size per axis.

    Raises:
        ValueError: N or V do not match the other arguments.
    """
    grid = tuple(grid_size)
    if len(grid) not in (2, 3):
        raise ValueError(f"unpatchify: grid_size needs 2 or 3 numbers, one per axis, got {grid}.")
    patch = per_axis(patch_size, len(grid))
    expected = (math.prod(grid), math.prod(patch) * channels)
    if patches.ndim != 3 or tuple(patches.shape[1:]) != expected:
        raise ValueError(
            f"unpatchify: grid_size {grid}, patch_size {patch} and channels {channels} need patches "
            f"(B, {expected[0]}, {expected[1]}), got {tuple(patches.shape)}."
        )
    parts = patches.reshape(len(patches), *grid, *patch, channels)  # (B, gx, gy, ..., px, py, ..., C)
    axes = len(grid)
    woven = [axis for k in range(1, axes + 1) for axis in (k, k + axes)]
    parts = parts.permute(0, 2 * axes + 1, *woven)  # (B, C, gx, px, gy, py, ...)
    return parts.reshape(len(patches), channels, *(g * p for g, p in zip(grid, patch, strict=True)))


def random_masks(batch_size: int, num_patches: int, ratio: float, generator: torch.Generator | None = None) -> Tensor:
    """Hide patches at random, the same number in every volume.

    Args:
        batch_size: B, at least 1.
        num_patches: N, at least 2: one patch is always hidden and one always visible.
        ratio: share of patches to hide, above 0 and below 1.
        generator: CPU generator; None is PyTorch's default one.

    Returns:
        bool (B, N) on the CPU, True = hidden, so that every machine gets the same masks; move it to the volume's
        device. In each row floor(ratio * N + 1/2) are True, at least 1 and at most N - 1.
    """
    if batch_size < 1 or num_patches < 2:
        raise ValueError(
            f"random_masks: needs batch_size >= 1 and num_patches >= 2 (one hidden, one visible), "
            f"got {batch_size} and {num_patches}."
        )
    if not 0 < ratio < 1:
        raise ValueError(f"random_masks: ratio is the hidden share, above 0 and below 1, got {ratio}; 75 % is 0.75.")
    count = min(max(math.floor(ratio * num_patches + 0.5), 1), num_patches - 1)
    noise = torch.rand(batch_size, num_patches, generator=generator, device="cpu")
    hidden = noise.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros(batch_size, num_patches, dtype=torch.bool, device="cpu").scatter_(1, hidden, True)


def per_axis(patch_size: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """`patch_size` as one whole number per axis, each at least 1."""
    patch = (patch_size,) * axes if isinstance(patch_size, numbers.Number) else tuple(patch_size)
    if len(patch) != axes or any(not isinstance(p, numbers.Integral) or p < 1 for p in patch):
        raise ValueError(f"patch_size is one whole number >= 1 or one for each of {axes} axes, got {patch_size!r}.")
    return tuple(int(p) for p in patch)


def patch_grid(size: Sequence[int], patch_size: Sequence[int]) -> tuple[int, ...]:
    """Patches along each axis of a volume with sides `size`."""
    if any(s % p or s < p for s, p in zip(size, patch_size, strict=True)):
        raise ValueError(
            f"every side must be a multiple of its patch_size: got sides {tuple(size)} and patch_size "
            f"{tuple(patch_size)}; crop or pad the volume, or choose another patch_size."
        )
    return tuple(s // p for s, p in zip(size, patch_size, strict=True))
