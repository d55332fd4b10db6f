"""Cut the same random box out of volumes that belong together."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def pad_to(volume: Tensor, size: Sequence[int]) -> Tensor:
    """`volume` (C, *S) padded on both ends to at least `size`: images with their minimum, whole numbers with 0."""
    missing = [max(0, wanted - side) for wanted, side in zip(size, volume.shape[1:], strict=True)]
    if not any(missing):
        return volume
    ends = [end for m in reversed(missing) for end in (m // 2, m - m // 2)]  # F.pad counts from the last axis
    value = volume.min().item() if volume.is_floating_point() else 0
    return F.pad(volume, ends, value=value)


def crop_at(volume: Tensor, start: Sequence[int], size: Sequence[int]) -> Tensor:
    """The box of `size` voxels from voxel `start` of `volume` (C, *S)."""
    return volume[(slice(None), *(slice(a, a + n) for a, n in zip(start, size, strict=True)))]


def crop_around_point(
    volume: Tensor, center: Tensor | Sequence[int], size: Sequence[int], pad_value: float = 0.0
) -> Tensor:
    """The box of `size` voxels that starts at center - size // 2; parts outside the volume are `pad_value`.

    Args:
        volume: (..., *S); as many last axes as `size` has.
        center: voxel index for each of them, 0 to S.
        size: may exceed the volume.

    Returns:
        (..., *size), a copy.

    Raises:
        ValueError: axes that do not fit, a centre outside the volume, a size below 1.
    """
    size = tuple(int(n) for n in size)
    centre = [int(c) for c in center]
    whole = volume.shape[volume.ndim - len(size) :]
    if not size or len(size) > volume.ndim or len(centre) != len(size) or min(size) < 1:
        raise ValueError(
            f"center and size have a whole number for each of the last axes of {tuple(volume.shape)}, sizes from 1; "
            f"got {centre} and {size}."
        )
    if any(not 0 <= c <= side for c, side in zip(centre, whole, strict=True)):
        raise ValueError(f"center {centre} lies outside the volume of {tuple(whole)} voxels; it is in voxels, not mm.")
    crop = volume.new_full((*volume.shape[: volume.ndim - len(size)], *size), pad_value)
    source, target = [...], [...]
    for c, n, side in zip(centre, size, whole, strict=True):
        start = c - n // 2
        first, last = max(0, start), min(side, start + n)
        source.append(slice(first, last))
        target.append(slice(first - start, last - start))
    crop[tuple(target)] = volume[tuple(source)]
    return crop


def random_crop(
    volumes: Sequence[Tensor], size: Sequence[int], generator: torch.Generator, *, around: Sequence[int] | None = None
) -> list[Tensor]:
    """One box of `size` at one random place, the same in all `volumes`; sides that are too short are padded first.

    Args:
        volumes: tensors (C, *S) of one grid *S, such as an image and its label map.
        size: voxels of the box along each axis.
        generator: CPU generator; one number is drawn per axis.
        around: a voxel that shall lie in the box (as near its centre as the border allows), with a random shift of up
            to a quarter of the box; None: anywhere.

    Returns:
        Tensors (C, *size): views where nothing was padded, without affine (the place is not kept: `random_start`).
    """
    grids = {tuple(v.shape[1:]) for v in volumes}
    if len(grids) != 1 or len(next(iter(grids))) != len(size):
        raise ValueError(
            f"volumes of one grid and a box with as many axes are needed, got {sorted(grids)} and {tuple(size)}."
        )
    grid = next(iter(grids))
    start = random_start(grid, size, generator, around=around)
    return [crop_at(pad_to(torch.as_tensor(v), size), start, size) for v in volumes]


def random_start(
    grid: Sequence[int], size: Sequence[int], generator: torch.Generator, *, around: Sequence[int] | None = None
) -> list[int]:
    """First voxel of a random box, counted in the grid that `pad_to` makes of `grid`; see `random_crop`."""
    room = [max(0, side - n) for side, n in zip(grid, size, strict=True)]
    draws = torch.rand(len(size), generator=generator).tolist()
    if around is None:
        return [min(int(u * (r + 1)), r) for u, r in zip(draws, room, strict=True)]
    offset = [max(0, n - side) // 2 for n, side in zip(size, grid, strict=True)]  # voxels that padding puts before
    centre = [p + o + round((u - 0.5) * n / 2) for p, o, u, n in zip(around, offset, draws, size, strict=True)]
    return [min(max(c - n // 2, 0), r) for c, n, r in zip(centre, size, room, strict=True)]


def place_of(start: Sequence[int], size: Sequence[int], grid: Sequence[int]) -> list[float]:
    """Where a box lies among all places it could have: 0 (at the first face) to 1 (at the last) along each axis.

    0.5 where it has no choice.

    Args:
        start: first voxel of the box, as `random_start` counts.
        size: its voxels along each axis.
        grid: voxels of the volume, before padding.
    """
    room = [side - n for n, side in zip(size, grid, strict=True)]
    return [a / r if r > 0 else 0.5 for a, r in zip(start, room, strict=True)]
