"""Pictures of matrices: the joint matrix of two views' clusters with its marginals, and maps of one slice in a row.

`show_...` draws into a notebook, `..._png` gives PNG bytes: the same input gives the same bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from medssl_nb.viz.colours import CONTOUR_COLOUR, heat_palette
from medssl_nb.viz.figures import png, show
from medssl_nb.viz.layers import outline_segments
from medssl_nb.viz.windows import short_number

LINE_COLOUR = "#ffffff"
USAGE_COLOURS = ("#e69f00", "#2a7fd4")  # rows (view A), columns (view B)
_INK = "#1a1a1a"
_SOFT_INK = "#595959"
_FRAME = "#a0a0a0"


# ---------------------------------------------------------------- joint matrix
def show_joint_matrix(joint, **options) -> None:
    """Show a joint matrix of clusters, and beside it how much each cluster is used in either view.

    Colours run with the root of the share, so that a cell a hundred times weaker than the strongest still shows. They
    end at 1/K or at the largest cell, whichever is more: a uniform matrix is dark, a balanced diagonal bright.

    Args:
        joint: (K, K) numpy array or tensor, entries from 0, sum 1: rows clusters of view A, columns of view B.
        **options:
            cell: (i, j) to frame, None for none.
            title: lines above.

    Raises:
        ValueError: no such matrix, or a cell outside it.
    """
    show(*_joint_picture(joint, **options))


def joint_matrix_png(joint, *, dpi: int = 90, **options) -> bytes:
    """The picture of `show_joint_matrix` as PNG bytes."""
    return png(*_joint_picture(joint, **options), dpi)


def as_joint(joint) -> np.ndarray:
    """Joint matrix (K, K) float64 that is one: K from 2, entries from 0, sum 1.

    Raises:
        ValueError: another shape, or no shares that sum to 1 (within 1e-3).
    """
    matrix = square_matrix(joint, "joint is")
    if not (matrix.min() >= 0 and abs(matrix.sum() - 1) <= 1e-3):
        raise ValueError(
            f"joint holds shares from 0 that sum to 1, found a smallest of {matrix.min():.4g} and a sum of "
            f"{matrix.sum():.4g}; make it with joint_probability."
        )
    return matrix


def joint_codes(joint: np.ndarray) -> tuple[np.ndarray, float]:
    """Colour of each cell as uint8 number in the palette, and the share that has the last one."""
    top = max(float(joint.max()), 1 / len(joint))
    return np.round(255 * np.sqrt(joint / top)).astype(np.uint8), top


def checked_cell(cell, clusters: int, what: str = ": cluster of view A, cluster of view B") -> tuple[int, int] | None:
    """(i, j) of a matrix of so many clusters; None and () are none.

    Args:
        what: says in messages what i and j are.

    Raises:
        ValueError: no pair of whole numbers, or one outside the matrix.
    """
    numbers = np.asarray(() if cell is None else cell)
    if numbers.shape == (0,):
        return None
    if numbers.shape != (2,) or numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() >= clusters:
        raise ValueError(f"cell is (i, j){what}, each from 0 to {clusters - 1}, or None; got {cell}.")
    return int(numbers[0]), int(numbers[1])


def _joint_picture(joint, *, cell=None, title: str | None = None) -> tuple[Callable, tuple[float, float]]:
    matrix = as_joint(joint)
    cell = checked_cell(cell, len(matrix))

    def draw(figure) -> None:
        from matplotlib.colors import ListedColormap, PowerNorm

        ratios = {"width_ratios": (5, 1), "height_ratios": (1, 5)}
        (above, corner), (ax, beside) = figure.subplots(2, 2, **ratios)
        corner.set_axis_off()
        top = joint_codes(matrix)[1]
        colours = ListedColormap(heat_palette() / 255)
        image = ax.imshow(matrix, cmap=colours, norm=PowerNorm(0.5, 0, top), aspect="auto", interpolation="nearest")
        _draw_usage(above, beside, matrix)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_ticks(numbered(len(matrix)))
        ax.tick_params(length=0, labelsize=8.5, colors=_SOFT_INK)
        ax.set_xlabel("cluster in view B", color=_SOFT_INK)
        ax.set_ylabel("cluster in view A", color=_SOFT_INK)
        ticks = {value: short_number(value) for value in (0, top / 4, top)}
        finish_matrix(image, [ax, beside], cell, ticks, "share of voxels", title)

    return draw, matrix_size(title)


def _draw_usage(above, beside, matrix: np.ndarray) -> None:
    """Column sums above, row sums beside; a dashed line where all clusters would be equally used."""
    places, even = np.arange(len(matrix)), 1 / len(matrix)
    most = max(matrix.sum(axis=0).max(), matrix.sum(axis=1).max(), even)  # both sides on one scale
    beside.barh(places, matrix.sum(axis=1), height=0.8, color=USAGE_COLOURS[0])
    above.bar(places, matrix.sum(axis=0), width=0.8, color=USAGE_COLOURS[1])
    beside.axvline(even, color=_INK, linewidth=0.9, linestyle=(0, (3, 2)))
    above.axhline(even, color=_INK, linewidth=0.9, linestyle=(0, (3, 2)))
    beside.set_ylim(len(matrix) - 0.5, -0.5)
    above.set_xlim(-0.5, len(matrix) - 0.5)
    beside.set_title("used in A", fontsize=8.5, color=_SOFT_INK, loc="left")
    above.set_title("used in B", fontsize=8.5, color=_SOFT_INK, loc="left")
    for ax, axis in ((above, above.yaxis), (beside, beside.xaxis)):
        axis.set_ticks([0, most], labels=["0", f"{100 * most:.0f} %"])
        (ax.set_ylim if ax is above else ax.set_xlim)(0, 1.03 * most)
        (ax.yaxis if ax is beside else ax.xaxis).set_ticks([])
        ax.tick_params(length=2, labelsize=8, colors=_SOFT_INK)
        ax.spines[["top", "right", "left" if ax is above else "bottom"]].set_visible(False)


# ---------------------------------------------------------------- any matrix of clusters
def square_matrix(values, what: str) -> np.ndarray:
    """(K, K) float64 of an array or tensor, K from 2.

    Args:
        what: begins the message: "joint is".

    Raises:
        ValueError: another shape.
    """
    matrix = np.asarray(values.detach().cpu().double() if hasattr(values, "detach") else values, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise ValueError(f"{what} one matrix (K, K) with K from 2, got shape {matrix.shape}; of several take one.")
    return matrix


def numbered(clusters: int) -> list[int]:
    """Clusters whose number is written: all of a few, every fifth of many."""
    return list(range(0, clusters, 1 if clusters <= 16 else 5))


def matrix_size(title: str | None) -> tuple[float, float]:
    """Width and height in inches of a matrix with lines above it."""
    return 4.6, 5.0 + 0.18 * (0 if title is None else title.count("\n") + 1)


def finish_matrix(
    image, axes, cell: tuple[int, int] | None, ticks: Mapping[float, str], name: str, title: str | None
) -> None:
    """Frame a cell, and draw the scale of the colours below and lines above.

    Args:
        image: of the matrix, as matplotlib's `imshow` gives it.
        axes: list of those that the scale takes its room from; the matrix lies in the first.
        ticks: {value: text} on the scale.
        name: of the scale.
    """
    if cell is not None:
        _frame(axes[0], cell)
    bar = axes[0].figure.colorbar(image, ax=axes, location="bottom", shrink=0.6, aspect=30, pad=0.02)
    bar.set_ticks(list(ticks), labels=list(ticks.values()))
    bar.ax.tick_params(length=2, labelsize=8, colors=_SOFT_INK)
    bar.set_label(name, fontsize=8.5, color=_SOFT_INK)
    bar.outline.set_visible(False)
    if title:
        axes[0].figure.suptitle(title, x=0.01, ha="left", fontsize=9.5)


def _frame(ax, cell: tuple[int, int]) -> None:
    from matplotlib.patches import Rectangle

    corner = (cell[1] - 0.5, cell[0] - 0.5)
    for colour, width in (("black", 4.0), (CONTOUR_COLOUR, 2.0)):
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=colour, linewidth=width, clip_on=False, zorder=5))


# ---------------------------------------------------------------- maps of one slice
class MapPicture(NamedTuple):
    """One map of a slice as displayed, first row on top, and the values of its first and last colour."""

    name: str
    values: np.ndarray  # (rows, columns)
    range: tuple[float, float]
    grey: bool = False
    lined: bool = True  # whether lines are drawn over it


def map_codes(picture: MapPicture) -> np.ndarray:
    """Values as uint8 (rows, columns): 0 and below the range's low end, 255 its high end and above."""
    low, high = picture.range
    return np.round(255 * np.clip((picture.values - low) / (high - low), 0, 1)).astype(np.uint8)


def map_palette(picture: MapPicture) -> np.ndarray:
    """(256, 3) uint8: greys of an image, colours of scores."""
    return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1) if picture.grey else heat_palette()


def map_row_png(
    pictures: Sequence[MapPicture],
    *,
    lines: Sequence[np.ndarray] = (),
    outline: np.ndarray | None = None,
    pixel: tuple[float, float] = (1.0, 1.0),
    letters: Sequence[str] = (),
    title: str | None = None,
    dpi: int = 90,
) -> bytes:
    """Maps of one slice side by side as PNG bytes.

    Args:
        pictures: maps of one shape (rows, columns).
        lines: each (N, 2), (column, row) where the first voxel spans 0 to 1; drawn in pictures that are `lined`.
        outline: bool (rows, columns), outlined in the first picture.
        pixel: width and height of a voxel, in any unit.
        letters: of the left, right, upper and lower side, written in the first picture.
        title: lines above.
    """
    rows, columns = pictures[0].values.shape
    height = min(2.4 * rows * pixel[1] / (columns * pixel[0]), 3.6)

    def draw(figure) -> None:
        axes = figure.subplots(1, len(pictures), squeeze=False)[0]
        for ax, picture in zip(axes, pictures, strict=True):
            colours = map_palette(picture)[map_codes(picture)]
            extent = (0, columns, rows, 0)
            ax.imshow(colours, extent=extent, interpolation="nearest", aspect=pixel[1] / pixel[0])
            ax.set_title(picture.name, loc="left", fontsize=9.5)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set(color=_FRAME, linewidth=0.6)
            for line in lines if picture.lined else ():
                ax.plot(*line.T, color="black", linewidth=2.4)
                ax.plot(*line.T, color=LINE_COLOUR, linewidth=1.2)
        if outline is not None:
            _draw_outline(axes[0], outline)
        _write_letters(axes[0], letters)
        if not all(picture.grey for picture in pictures):
            _draw_scale(figure, axes, next(picture for picture in pictures if not picture.grey))
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=10)

    return png(draw, (2.4 * len(pictures) + 0.7, height + 0.85), dpi)


def inner_outline(inside: np.ndarray) -> np.ndarray:
    """`outline_segments` without what lies on the edge of the picture, where nothing ends but the picture."""
    lines, (rows, columns) = outline_segments(inside), inside.shape
    on_edge = [((lines[..., axis] == end).all(axis=1)) for axis, last in ((0, columns), (1, rows)) for end in (0, last)]
    return lines[~np.any(on_edge, axis=0)]


def _draw_outline(ax, inside: np.ndarray) -> None:
    from matplotlib.collections import LineCollection

    ax.add_collection(LineCollection(inner_outline(inside), colors=CONTOUR_COLOUR, linewidths=1.0))


def _write_letters(ax, letters: Sequence[str]) -> None:
    from matplotlib.patheffects import withStroke

    around = [withStroke(linewidth=2.2, foreground="black")]
    for letter, place in zip(letters, ((0.05, 0.5), (0.95, 0.5), (0.5, 0.95), (0.5, 0.05)), strict=False):
        look = {"ha": "center", "va": "center", "color": "white", "fontsize": 9.5, "fontweight": "bold"}
        ax.text(*place, letter, transform=ax.transAxes, path_effects=around, **look)


def _draw_scale(figure, axes, picture: MapPicture) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    low, high = picture.range
    scale = ScalarMappable(Normalize(low, high), ListedColormap(map_palette(picture) / 255))
    bar = figure.colorbar(scale, ax=list(axes), shrink=0.8, aspect=22, pad=0.02)
    bar.set_ticks([low, (low + high) / 2, high], labels=[short_number(v) for v in (low, (low + high) / 2, high)])
    bar.ax.tick_params(length=2, labelsize=8, colors=_SOFT_INK)
    bar.outline.set_visible(False)
