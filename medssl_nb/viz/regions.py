"""Pictures of regions and shapes: how alike the clusters of two images are, and how a contest runs step by step.

`show_...` draws into a notebook, `..._png` gives PNG bytes: the same input gives the same bytes.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from medssl_nb.viz.clusters import cluster_colours
from medssl_nb.viz.colours import heat_palette
from medssl_nb.viz.figures import png, show
from medssl_nb.viz.matrices import checked_cell, finish_matrix, matrix_size, numbered, square_matrix

_INK = "#1a1a1a"
_SOFT_INK = "#595959"
_EMPTY = 0.5  # a region of a cluster without voxels has a length near 0, every other one near 1


# ---------------------------------------------------------------- cosines of regions
def show_region_matrix(cosines, **options) -> None:
    """Show how alike the regions of two images are: a cell for each pair of clusters, a dot on the nearest of each row.

    Zero is black, so that directions that have nothing in common are dark; -1 is pale blue and 1 pale orange.

    Args:
        cosines: (K, K) numpy array or tensor, -1 to 1: rows clusters of one image, columns of another (or prototypes).
        **options:
            nearest: (K,) column of the dot in each row, -1 for none; None takes the largest cosine of each row.
            cell: (i, j) to frame, None for none.
            row_name, column_name: what rows and columns are.
            title: lines above.

    Raises:
        ValueError: no such matrix, more than 40 clusters, or a cell outside it.
    """
    show(*_region_picture(cosines, **options))


def region_matrix_png(cosines, *, dpi: int = 90, **options) -> bytes:
    """The picture of `show_region_matrix` as PNG bytes."""
    return png(*_region_picture(cosines, **options), dpi)


def as_cosines(cosines) -> np.ndarray:
    """Cosines (K, K) float64, K from 2 to 40, each from -1 to 1.

    Raises:
        ValueError: another shape, NaN, or numbers that are no cosines (by more than 1e-3).
    """
    matrix = square_matrix(cosines, "cosines are")
    cluster_colours(len(matrix))  # refuses more than can be told apart
    if not (np.abs(matrix) <= 1 + 1e-3).all():
        raise ValueError(
            f"cosines lie from -1 to 1, found {matrix.min():.4g} to {matrix.max():.4g}; make them of regions of length "
            "1: regions_a @ regions_b.T."
        )
    return matrix.clip(-1, 1)


def cosine_codes(cosines: np.ndarray) -> np.ndarray:
    """Colour of each cosine as uint8 number in the palette: 0 for -1, 255 for 1."""
    return np.round(127.5 * (cosines + 1)).astype(np.uint8)


def nearest_columns(cosines: np.ndarray, filled_rows=None, filled_columns=None) -> np.ndarray:
    """(K,) int64: column with the largest cosine of each row, the first of equals; -1 in an empty row.

    Args:
        cosines: (K, K).
        filled_rows, filled_columns: (K,) bool, whether the cluster has a region; None: all have. An empty column is
            nearest to nothing.
    """
    rows, columns = (np.ones(len(cosines), bool) if f is None else f for f in (filled_rows, filled_columns))
    nearest = np.where(columns, cosines, -np.inf).argmax(axis=1)
    return np.where(rows & columns.any(), nearest, -1)


def filled_regions(regions: np.ndarray) -> np.ndarray:
    """(..., K) bool of regions (..., K, D): whether the cluster has any voxel; without one its region is zero."""
    return np.linalg.norm(regions, axis=-1) > _EMPTY


def checked_pair(cell, clusters: int) -> tuple[int, int] | None:
    """(i, j), a row and a column of a matrix of so many clusters; None and () are none.

    Raises:
        ValueError: no pair of whole numbers, or one outside the matrix.
    """
    return checked_cell(cell, clusters, ", a row and a column")


def _region_picture(
    cosines,
    *,
    nearest=None,
    cell=None,
    row_name: str = "cluster of one image",
    column_name: str = "cluster of another image",
    title: str | None = None,
) -> tuple[Callable, tuple[float, float]]:
    matrix = as_cosines(cosines)
    nearest = nearest_columns(matrix) if nearest is None else np.asarray(nearest)
    cell = checked_pair(cell, len(matrix))

    def draw(figure) -> None:
        from matplotlib.colors import ListedColormap

        ax = figure.subplots()
        colours = ListedColormap(heat_palette("difference") / 255)
        image = ax.imshow(matrix, cmap=colours, vmin=-1, vmax=1, interpolation="nearest")
        rows = np.flatnonzero(nearest >= 0)
        dot = min(36.0, 6000 / len(matrix) ** 2)
        ax.scatter(nearest[rows], rows, s=dot, color="white", edgecolors="black", linewidths=0.7, zorder=4)
        _name_clusters(ax, len(matrix))
        ax.set_xlabel(column_name, color=_SOFT_INK)
        ax.set_ylabel(row_name, color=_SOFT_INK)
        finish_matrix(image, [ax], cell, {-1: "−1", 0: "0", 1: "1"}, "cosine; dot: nearest in the row", title)

    return draw, matrix_size(title)


def _name_clusters(ax, clusters: int) -> None:
    """Numbers (of many every fifth) and the colour of each cluster along the left and the upper side."""
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(numbered(clusters))
    ax.tick_params(length=0, labelsize=8.5, colors=_SOFT_INK, bottom=False, labelbottom=False, labeltop=True, pad=12)
    ax.xaxis.set_label_position("top")
    thick = 0.022 * clusters
    place = {"width": 1, "color": list(cluster_colours(clusters)), "linewidth": 0, "clip_on": False}
    every = np.arange(clusters)
    ax.bar(every, np.full(clusters, -thick), bottom=-0.5 - 0.4 * thick, **place)
    place["height"] = place.pop("width")
    ax.barh(every, np.full(clusters, -thick), left=-0.5 - 0.4 * thick, **place)
    ax.set_xlim(-0.5, clusters - 0.5)
    ax.set_ylim(clusters - 0.5, -0.5)
    ax.spines[:].set_visible(False)


# ---------------------------------------------------------------- values by step
class StepLine(NamedTuple):
    """One line of a curve by step; NaN where nothing was measured."""

    name: str
    values: np.ndarray  # (T,)
    colour: str
    dashed: bool = False


class StepPlot(NamedTuple):
    """Lines over the same steps, and the level to compare them with."""

    what: str  # the upright axis counts
    lines: tuple[StepLine, ...]
    top: float  # end of the upright axis, which begins at 0
    level: float | None = None
    level_name: str = ""


def step_plot_png(
    steps: Sequence[int], plot: StepPlot, *, chosen: int | None = None, title=None, dpi: int = 90
) -> bytes:
    """Lines by step as PNG bytes; the place `chosen` of `steps` is marked."""
    steps = np.asarray(steps)

    def draw(figure) -> None:
        ax = figure.subplots()
        ax.set_ylim(0, plot.top)
        if plot.level is not None:
            ax.axhline(plot.level, color=_SOFT_INK, linestyle=":", linewidth=1.2, label=plot.level_name)
        if chosen is not None:
            ax.axvline(steps[chosen], color=_INK, linewidth=1)
        for line in plot.lines:
            look = {"color": line.colour, "linestyle": "--" if line.dashed else "-", "marker": "o", "markersize": 3.5}
            ax.plot(steps, line.values, label=line.name, linewidth=1.8, **look)
            if chosen is not None:
                ax.plot(steps[chosen], line.values[chosen], "o", color=line.colour, markeredgecolor=_INK, markersize=9)
        ax.set_xlabel("step of training", color=_SOFT_INK)
        ax.set_ylabel(plot.what, color=_SOFT_INK)
        ax.tick_params(length=3, width=0.6, labelsize=8.5, colors=_SOFT_INK)
        ax.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside upper left", frameon=False, fontsize=8.5, ncols=1, title=title, alignment="left")

    return png(draw, (4.4, 3.4 + 0.2 * len(plot.lines)), dpi)


def numbers_or_none(values: np.ndarray) -> list[float | None]:
    """Values for the browser, which knows no NaN."""
    return [None if np.isnan(value) else float(value) for value in values]
