"""Slices as radiologists read them: which voxel stands where in a picture of an RAS+ volume.

Array axes grow to the patient's Right, Anterior, Superior side (x, y, z). The reader faces the patient, so the
patient's right is on the left of axial and coronal pictures.

| plane | fixed | rows, top to bottom | columns, left to right |
|--|--|--|--|
| axial | z | A to P | R to L |
| coronal | y | S to I | R to L |
| sagittal | x | S to I | A to P |
"""

import operator
from typing import NamedTuple

import numpy as np

from medssl_nb.viz.arrays import as_volume


class Plane(NamedTuple):
    """Array axes of one viewing plane. Rows and columns both run against their axis: large indices come first."""

    fixed: int
    row: int
    column: int
    letters: tuple[str, str, str, str]  # left, right, top, bottom


PLANES = {
    "axial": Plane(fixed=2, row=1, column=0, letters=("R", "L", "A", "P")),
    "coronal": Plane(fixed=1, row=2, column=0, letters=("R", "L", "S", "I")),
    "sagittal": Plane(fixed=0, row=2, column=1, letters=("A", "P", "S", "I")),
}
AXIS_NAMES = "xyz"


def plane_of(name: str) -> Plane:
    """The plane of that name, or ValueError naming the three there are."""
    if name not in PLANES:
        raise ValueError(f'plane is "axial", "coronal" or "sagittal", got {name!r}.')
    return PLANES[name]


def axial_view(volume, z: int) -> np.ndarray:
    """Slice z of an RAS+ volume, seen from the feet: rows A to P, columns R to L. Shape (Y, X)."""
    return slice_view(volume, "axial", z)


def coronal_view(volume, y: int) -> np.ndarray:
    """Slice y of an RAS+ volume, seen from the front: rows S to I, columns R to L. Shape (Z, X)."""
    return slice_view(volume, "coronal", y)


def sagittal_view(volume, x: int) -> np.ndarray:
    """Slice x of an RAS+ volume, seen from the patient's left: rows S to I, columns A to P. Shape (Z, Y)."""
    return slice_view(volume, "sagittal", x)


def slice_view(volume, plane: str, index: int) -> np.ndarray:
    """Slice of an RAS+ volume as displayed, first row on top.

    Args:
        volume: numpy array or tensor, (X, Y, Z) or (1, X, Y, Z).
        plane: "axial", "coronal" or "sagittal".
        index: voxel number along the fixed axis (z, y or x), from 0.

    Raises:
        ValueError: unknown plane, or no such slice.
    """
    return oriented(as_volume(volume), plane, index)


def oriented(array: np.ndarray, plane: str, index: int) -> np.ndarray:
    """`slice_view` of an array (X, Y, Z) that is known to be one; also for heat maps with NaN."""
    axes = plane_of(plane)
    index = operator.index(index)
    slices = array.shape[axes.fixed]
    if not 0 <= index < slices:
        raise ValueError(
            f"{plane} slice {AXIS_NAMES[axes.fixed]} = {index} does not exist; this volume has 0 to {slices - 1}."
        )
    cut = np.moveaxis(array, axes.fixed, 0)[index]  # the two axes left are in the order x, y, z: column, then row
    return cut.T[::-1, ::-1]


def to_picture(voxel, plane: str, shape) -> tuple[int, int]:
    """Row and column at which `voxel` (x, y, z) stands in the picture of its slice."""
    axes = plane_of(plane)
    return shape[axes.row] - 1 - int(voxel[axes.row]), shape[axes.column] - 1 - int(voxel[axes.column])


def planes_worth_showing(shape) -> list[str]:
    """Planes whose pictures have an area: a volume of one slice has one, others have all three."""
    wide = [name for name, p in PLANES.items() if shape[p.row] > 1 and shape[p.column] > 1]
    return wide or ["axial"]
