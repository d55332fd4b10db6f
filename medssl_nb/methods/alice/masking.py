"""What the student does not see: cubes or columns of the image."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from medssl_nb.methods.alice.checks import check_share


def random_patch_mask(
    size: Sequence[int],
    patch_size: int = 16,
    ratio: float = 0.75,
    *,
    mode: Literal["column", "patch"] = "column",
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Hide ceil(cells * ratio) cells of a grid, drawn without replacement.

    Args:
        size: voxels along each axis, multiples of `patch_size`.
        patch_size: side of a cell.
        ratio: share of hidden cells, 0 to 1.
        mode: "column": the grid covers the first two of three axes, and a cell goes through the whole third one, as in
            the released code; "patch": cubes (squares in 2D), as the paper's figure draws them.
        generator: on the CPU.

    Returns:
        bool (*size), True = hidden.

    Raises:
        ValueError: sizes that are no multiples, a ratio or mode out of range, "column" without three axes.
    """
    if mode not in ("column", "patch"):
        raise ValueError(f'mode is "column" or "patch", got {mode!r}.')
    size = tuple(size)
    if mode == "column" and len(size) != 3:
        raise ValueError(f'mode "column" needs 3 axes, got size {size}; with other numbers of axes take mode="patch".')
    check_share("ratio", ratio)
    if patch_size < 1 or not size or any(side < 1 or side % patch_size for side in size):
        raise ValueError(f"every side of size {size} must be a multiple of patch_size {patch_size}; crop or pad.")
    grid = [side // patch_size for side in (size[:2] if mode == "column" else size)]
    cells = math.prod(grid)
    hidden = torch.zeros(cells, dtype=torch.bool)
    hidden[torch.randperm(cells, generator=generator)[: math.ceil(cells * ratio)]] = True
    return expand_patch_mask(hidden.view(grid).to(device), size)


def expand_patch_mask(patch_mask: Tensor, size: Sequence[int]) -> Tensor:
    """A mask of cells as a mask of voxels: each voxel takes the cell that it lies in.

    Args:
        patch_mask: bool, one axis for each of `size`, or one fewer: then it goes on along the last axis.
        size: voxels along each axis.

    Returns:
        bool (*size).

    Raises:
        ValueError: axes that do not fit, more cells than voxels.
    """
    size = tuple(size)
    axes = patch_mask.ndim
    if axes not in (len(size), len(size) - 1) or axes < 1:
        raise ValueError(
            f"patch_mask has one axis for each of size {size}, or one fewer; got shape {tuple(patch_mask.shape)}."
        )
    if any(not 0 < cells <= side for cells, side in zip(patch_mask.shape, size, strict=False)):
        raise ValueError(f"patch_mask of {tuple(patch_mask.shape)} cells does not fit into {size} voxels.")
    mask = patch_mask.bool()
    for axis in range(axes):
        voxels = torch.arange(size[axis], device=mask.device)
        mask = mask.index_select(axis, voxels * patch_mask.shape[axis] // size[axis])
    return mask if axes == len(size) else mask[..., None].expand(size).clone()


def mask_volume(volume: Tensor, mask: Tensor, fill_value: float = 0.0) -> Tensor:
    """`volume` with `fill_value` where `mask` is True.

    Args:
        volume: (..., *S).
        mask: bool, broadcast to the volume.

    Raises:
        ValueError: a mask that is not bool or does not broadcast to the volume.
    """
    if mask.dtype != torch.bool:
        raise ValueError(f"mask is a bool tensor, True = hidden; got {mask.dtype}.")
    try:
        wide = mask.expand_as(volume)
    except RuntimeError:
        raise ValueError(
            f"mask of shape {tuple(mask.shape)} does not broadcast to a volume of {tuple(volume.shape)}."
        ) from None
    return volume.masked_fill(wide, fill_value)
