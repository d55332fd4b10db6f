"""Where a voxel lies: affines, spacing, cropping, resampling and random views whose geometry is known.

Points are rows of an (N, 3) array. Voxel points count from 0 at the centre of the first voxel; mm points are RAS+
scanner coordinates. An affine A (4, 4) joins them: mm = A[:3, :3] @ voxel + A[:3, 3].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def spacing_mm(affine) -> tuple[float, float, float]:
    """Distance between neighbouring voxel centres along each array axis, in mm: the column lengths of the affine."""
    lengths = np.linalg.norm(_matrix(affine)[:3, :3], axis=0)
    return tuple(float(n) for n in lengths)


def orientation(affine) -> str:
    """Direction in which each array axis grows, such as "RAS" (what `read_volume` returns) or "LPS"."""
    import nibabel

    return "".join(nibabel.aff2axcodes(_matrix(affine)))


def check_ras(affine) -> None:
    """Raise ValueError unless the array axes run to the Right, the Anterior and the Superior side."""
    runs = orientation(affine)
    if runs != "RAS":
        raise ValueError(
            f"the axes of this volume run to {runs}, not to RAS, so left and right would be wrong. "
            "Read it with medssl_nb.data.read_volume, which turns it, or turn it with nibabel.as_closest_canonical."
        )


def voxel_to_mm(affine, points) -> np.ndarray:
    """Voxel indices (N, 3), whole or fractional, to RAS mm (N, 3) float64."""
    matrix, points = _matrix(affine), _points(points)
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def mm_to_voxel(affine, points) -> np.ndarray:
    """RAS mm (N, 3) to fractional voxel indices (N, 3) float64; round them to name a voxel."""
    matrix, points = _matrix(affine), _points(points)
    return np.linalg.solve(matrix[:3, :3], (points - matrix[:3, 3]).T).T


def crop(volume, start: Sequence[int], size: Sequence[int], fill: float = 0.0):
    """Cut a box out of a volume and keep every voxel's place in mm.

    Args:
        volume: MetaTensor (C, X, Y, Z).
        start: first voxel of the box, (3,) whole numbers; may be negative.
        size: voxels along each axis, (3,), each at least 1.
        fill: value where the box reaches beyond the volume (CT: -1000, air).

    Returns:
        MetaTensor (C, *size) whose affine starts at voxel `start`.

    Raises:
        ValueError: sizes below 1, or a box that does not touch the volume.
    """
    import torch

    start, size, shape = (np.asarray(v) for v in (start, size, volume.shape[-3:]))
    if any(v.shape != (3,) or (v != np.round(v)).any() for v in (start, size)):
        raise ValueError(f"crop: start and size are three whole numbers, got {start.tolist()} and {size.tolist()}.")
    start, size = start.astype(int), size.astype(int)
    stop = start + size
    low, high = np.maximum(start, 0), np.minimum(stop, shape)
    if (size < 1).any() or (high <= low).any():
        raise ValueError(
            f"crop: a box of {size.tolist()} voxels from {start.tolist()} does not overlap a volume of "
            f"{shape.tolist()}; start counts voxels from 0, size is at least 1."
        )
    box = torch.full((volume.shape[0], *size.tolist()), fill, dtype=volume.dtype, device=volume.device)
    inside = tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))
    source = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    box[(slice(None), *inside)] = volume.as_tensor()[(slice(None), *source)]
    affine = _matrix(volume.affine).copy()
    affine[:3, 3] = voxel_to_mm(affine, start[None])[0]
    return _with_affine(box, affine, volume)


def resample(volume, new_spacing_mm: float | Sequence[float], *, label: bool = False):
    """Bring a volume to another spacing (MONAI `SpatialResample`): the first voxel keeps its centre, all else its mm.

    Args:
        volume: MetaTensor (C, X, Y, Z).
        new_spacing_mm: one number or three, in mm, each above 0.
        label: True for label maps (nearest neighbour, type kept), False for images (linear, float32).
    """
    wanted = np.broadcast_to(np.asarray(new_spacing_mm, float), (3,))
    if not (np.isfinite(wanted).all() and (wanted > 0).all()):
        raise ValueError(f"resample: spacing is in mm and above 0, got {new_spacing_mm}.")
    old, shape = np.array(spacing_mm(volume.affine)), np.array(volume.shape[-3:])
    grid = _matrix(volume.affine).copy()
    grid[:3, :3] *= wanted / old
    size = np.round((shape - 1) * old / wanted).astype(int) + 1  # from the first centre to the last, as near as it gets
    return _sampled(volume, volume.affine, grid, size, label=label)


def random_affine(
    generator: torch.Generator,
    *,
    rotation_degrees: float = 10.0,
    scale: float = 0.1,
    shift_mm: float = 5.0,
    centre_mm: Sequence[float] = (0.0, 0.0, 0.0),
) -> np.ndarray:
    """A random movement of the body in RAS mm: rotation, scaling about `centre_mm`, then a shift.

    Each rotation angle lies in ± `rotation_degrees`, each axis is stretched by a factor between 1 - `scale` and
    1 + `scale`, each shift lies in ± `shift_mm`. Draws come from `generator` (on the CPU), so every machine agrees.

    Returns:
        Matrix (4, 4) float64 that takes a point's place before to its place after.
    """
    import torch

    if not (0 <= scale < 1 and rotation_degrees >= 0 and shift_mm >= 0):
        raise ValueError(
            "random_affine needs rotation_degrees >= 0, 0 <= scale < 1 and shift_mm >= 0, "
            f"got {rotation_degrees}, {scale} and {shift_mm}."
        )
    draws = 2 * torch.rand(9, generator=generator, dtype=torch.float64).numpy() - 1  # each in [-1, 1)
    linear = _rotation(np.radians(rotation_degrees) * draws[:3]) @ np.diag(1 + scale * draws[3:6])
    centre = np.asarray(centre_mm, float)
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre - linear @ centre + shift_mm * draws[6:]
    return matrix


def move(volume, matrix, *, label: bool = False, fill: float = 0.0):
    """Move the anatomy by `matrix` and sample it again on the volume's own grid (MONAI `SpatialResample`).

    What lay at the mm point p lies at `move_points(matrix, p)` afterwards: a landmark moves with its organ.

    Args:
        volume: MetaTensor (C, X, Y, Z).
        matrix: (4, 4), invertible, RAS mm to RAS mm, for example from `random_affine`.
        label: True for label maps (nearest neighbour, type kept), False for images (linear, float32).
        fill: value of what comes in from outside (CT: -1000, air).
    """
    grid, matrix = _matrix(volume.affine), _matrix(matrix)
    if not np.isfinite(matrix).all() or not np.allclose(matrix[3], [0, 0, 0, 1]):
        raise ValueError(f"move: the matrix needs finite numbers and the last row 0 0 0 1, got {matrix.tolist()}.")
    if abs(np.linalg.det(matrix[:3, :3])) < 1e-6:
        raise ValueError(f"move: the matrix squeezes the volume flat and cannot be undone: {matrix.tolist()}.")
    # Moving a body and giving it a moved affine are one thing; what is left is to look at it on the old grid.
    return _sampled(volume, matrix @ grid, grid, volume.shape[-3:], label=label, fill=fill)


def move_points(matrix, points) -> np.ndarray:
    """Points (N, 3) in mm after the movement `matrix` (4, 4); `numpy.linalg.inv(matrix)` brings them back."""
    return voxel_to_mm(matrix, points)


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Rotation about x, then y, then z by `angles` (3,) in radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def _sampled(volume, lies_at, grid, size, *, label: bool, fill: float | None = None):
    """`volume`, lying at the affine `lies_at`, seen on another grid; outside: `fill`, or the nearest voxel for None."""
    import torch
    from monai.transforms import SpatialResample

    outside = 0 if fill is None else fill
    tensor = volume.as_tensor()
    if label:  # sampling calculates in float32, so large label numbers travel as small codes; code 0 is outside
        values, codes = torch.unique(tensor, return_inverse=True)
        values = torch.cat([torch.tensor([outside], dtype=values.dtype, device=values.device), values])
        source = codes + 1
    else:
        source = tensor.double() - outside
    padding = "border" if fill is None else "zeros"
    look = SpatialResample(mode="nearest" if label else "bilinear", padding_mode=padding, dtype=torch.float64)
    grid, size = torch.from_numpy(_matrix(grid)), tuple(int(n) for n in size)
    seen = look(_with_affine(source.double(), _matrix(lies_at), volume), dst_affine=grid, spatial_size=size)
    if label:
        return _with_affine(values[seen.as_tensor().round().long()], grid.numpy(), volume)
    return (seen + outside).float()


def _with_affine(tensor: torch.Tensor, affine: np.ndarray, like):
    """MetaTensor of `tensor` with a new affine and what else is known of `like` (its file name)."""
    import torch
    from monai.data import MetaTensor

    known = {key: value for key, value in like.meta.items() if key != "affine"}
    return MetaTensor(tensor, affine=torch.from_numpy(affine), meta=known)


def _matrix(affine) -> np.ndarray:
    matrix = np.asarray(affine, np.float64)
    if matrix.shape != (4, 4):
        raise ValueError(f"an affine is a (4, 4) matrix, got shape {matrix.shape}.")
    return matrix


def _points(points) -> np.ndarray:
    array = np.asarray(points, np.float64)
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"points are rows (N, 3), got shape {array.shape}; for one point write [[x, y, z]].")
    return array
