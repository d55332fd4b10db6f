"""Points marked on slices: a sign of its own shape and colour for each, with its name."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from medssl_nb.viz.planes import AXIS_NAMES, plane_of

# Told apart by shape too. The first is the colour of crosshairs, the second that of outlines of the truth.
MARK_STYLES = (("#ffe45c", "ring"), ("#5cf2ff", "square"), ("#ff9ae0", "diamond"))
_MARKERS = {"ring": "o", "square": "s", "diamond": "D"}


class Mark(NamedTuple):
    """A named point and how it is drawn."""

    name: str
    voxel: tuple[float, float, float]  # between voxels too
    colour: str
    shape: str  # "ring", "square" or "diamond"


def as_marks(marks: Mapping[str, Sequence[float]] | None, shape: Sequence[int]) -> tuple[Mark, ...]:
    """Marks of {name: voxel (x, y, z)}, styled in this order; fractions lie between voxels, None is no marks.

    Raises:
        ValueError: more than three, not three numbers each, outside the volume of `shape`.
    """
    marks = {} if marks is None else dict(marks)
    if len(marks) > len(MARK_STYLES):
        raise ValueError(f"at most {len(MARK_STYLES)} marks can be told apart, got {len(marks)}: {', '.join(marks)}.")
    return tuple(
        Mark(str(name), point_inside(voxel, shape, f"mark {name!r}"), *style)
        for (name, voxel), style in zip(marks.items(), MARK_STYLES, strict=False)
    )


def point_inside(voxel, shape: Sequence[int], name: str) -> tuple[float, float, float]:
    """Three numbers of a point, whole or fractional, in a volume of `shape`; ValueError if it is none."""
    point = np.asarray(voxel, float)
    if point.shape != (3,) or not np.isfinite(point).all():
        raise ValueError(f"{name} is a point, three numbers (x, y, z) in voxels; got {voxel}.")
    if (point < -0.5).any() or (point >= np.asarray(shape) - 0.5).any():
        raise ValueError(
            f"{name} {point.tolist()} lies outside the volume of shape {tuple(shape)}. Points count voxels from 0, not "
            "mm (medssl_nb.data.mm_to_voxel); leave out what lies beyond the volume."
        )
    return tuple(float(v) for v in point)


def nearest_voxel(point: Sequence[float]) -> tuple[int, int, int]:
    """Voxel that a point lies in."""
    return tuple(int(np.floor(v + 0.5)) for v in point)


def draw_marks(ax, marks: Sequence[Mark], plane: str, index: int, shape, spacing) -> None:
    """Draw marks onto matplotlib axes in mm; of one that lies off the slice a dashed sign and where it is."""
    from matplotlib.patheffects import withStroke

    axes = plane_of(plane)
    for number, mark in enumerate(marks):
        x, y = ((shape[a] - mark.voxel[a] - 0.5) * spacing[a] for a in (axes.column, axes.row))
        here = nearest_voxel(mark.voxel)[axes.fixed]
        off = here != index
        sign = {"marker": _MARKERS[mark.shape], "facecolors": "none", "s": 70 if mark.shape == "ring" else 170}
        for colour, width, line in (("black", 3.0, "-"), (mark.colour, 1.5, (0, (1.5, 1.5)) if off else "-")):
            ax.scatter([x], [y], edgecolors=colour, linewidths=width, linestyles=line, clip_on=False, zorder=3, **sign)
        right = x < 0.6 * shape[axes.column] * spacing[axes.column]
        ax.annotate(
            f"{mark.name}, {AXIS_NAMES[axes.fixed]} = {here}" if off else mark.name,
            (x, y),
            (7 if right else -7, -9 if number % 2 else 9),
            textcoords="offset points",
            ha="left" if right else "right",
            va="center",
            color=mark.colour,
            fontsize=8,
            fontweight="bold",
            path_effects=[withStroke(linewidth=2, foreground="black")],
        )
