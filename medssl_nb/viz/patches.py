"""Pictures of patches: patch-wise values laid on the voxel grid, patches in feature space, the masking ratio by epoch.

`show_...` draws into a notebook, `..._png` gives PNG bytes: the same input gives the same bytes.
"""

import io
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from medssl_nb.viz.colours import CLUSTER_COLOURS
from medssl_nb.viz.figures import png, show

_INK = "#1a1a1a"
_SOFT_INK = "#595959"
_MARK = "#ff2a88"


class PatchStyle(NamedTuple):
    """What patches of one kind are called, and their colour "#rrggbb"."""

    name: str
    colour: str


# ---------------------------------------------------------------- patches and voxels
def patch_map(values, grid_size: Sequence[int], patch_size: int | Sequence[int]) -> np.ndarray:
    """Lay one value per patch on the voxels of that patch.

    Args:
        values: (N,) or (1, N), numpy array or tensor; patches row-major over the grid, last axis fastest.
        grid_size: patches along each axis, 2 or 3 numbers, product N.
        patch_size: side of a patch in voxels, one number or one per axis.

    Returns:
        Array of shape grid_size * patch_size per axis, same dtype.

    Raises:
        ValueError: sizes that are no whole numbers >= 1, or another number of values than patches.
    """
    grid = _sizes(grid_size, len(tuple(grid_size)), "grid_size")
    patch = _sizes(patch_size, len(grid), "patch_size")
    voxels = patch_values(values, math.prod(grid), "values").reshape(grid)
    for axis, side in enumerate(patch):
        voxels = np.repeat(voxels, side, axis)
    return voxels


def patch_values(values, count: int, name: str) -> np.ndarray:
    """One value per patch as a numpy array (N,), from an array, a list or a tensor, (N,) or (1, N).

    Raises:
        ValueError: another shape.
    """
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.shape not in ((count,), (1, count)):
        raise ValueError(
            f"{name} holds one value for each of {count} patches, shape ({count},), got shape {array.shape}. "
            f"Of a batch (B, N) take one volume: {name}[0]."
        )
    return array.reshape(count)


def patch_at(voxel: Sequence[int], grid_size: Sequence[int], patch_size: int | Sequence[int]) -> int:
    """Number of the patch that voxel (x, y, z) lies in."""
    patch = _sizes(patch_size, len(tuple(grid_size)), "patch_size")
    place = [v // side for v, side in zip(voxel, patch, strict=True)]
    if any(not 0 <= k < n for k, n in zip(place, grid_size, strict=True)):
        size = tuple(n * side for n, side in zip(grid_size, patch, strict=True))
        raise ValueError(f"voxel {tuple(voxel)} lies outside the volume of shape {size}; count from 0.")
    return int(np.ravel_multi_index(place, tuple(grid_size)))


def patch_centre(patch: int, grid_size: Sequence[int], patch_size: int | Sequence[int]) -> tuple[int, ...]:
    """Voxel in the middle of a patch (of an even side the second of the two middle ones)."""
    if not 0 <= patch < math.prod(grid_size):
        raise ValueError(f"there are {math.prod(grid_size)} patches, numbered from 0; got patch {patch}.")
    sides = _sizes(patch_size, len(tuple(grid_size)), "patch_size")
    place = np.unravel_index(patch, tuple(grid_size))
    return tuple(int(k) * side + side // 2 for k, side in zip(place, sides, strict=True))


def patch_share(mask, patch_size: int | Sequence[int]) -> np.ndarray:
    """Share of each patch's voxels that `mask` (X, Y, Z) marks, (N,), 0 to 1; sides are multiples of the patch's."""
    inside = np.asarray(mask) != 0
    patch = _sizes(patch_size, inside.ndim, "patch_size")
    if any(n % side for n, side in zip(inside.shape, patch, strict=True)):
        raise ValueError(f"sides {inside.shape} must be multiples of patch_size {patch}; crop or pad the mask.")
    split = [part for n, side in zip(inside.shape, patch, strict=True) for part in (n // side, side)]
    return inside.reshape(split).mean(axis=tuple(range(1, 2 * len(patch), 2))).reshape(-1)


def cluster_styles(clusters: int, lesion_clusters: Sequence[int] = ()) -> dict[int, PatchStyle]:
    """Name and colour of clusters 0 to clusters - 1; those called lesion say so."""
    lesion = set(lesion_clusters)
    return {
        k: PatchStyle(
            f"cluster {k}{', called lesion' if k in lesion else ''}", CLUSTER_COLOURS[k % len(CLUSTER_COLOURS)]
        )
        for k in range(clusters)
    }


def _sizes(size: int | Sequence[int], axes: int, name: str) -> tuple[int, ...]:
    sizes = (size,) * axes if isinstance(size, numbers.Number) else tuple(size)
    if axes not in (2, 3) or len(sizes) != axes or any(not isinstance(n, numbers.Integral) or n < 1 for n in sizes):
        raise ValueError(f"{name} needs whole numbers >= 1, one for each of 2 or 3 axes, got {size!r}.")
    return tuple(int(n) for n in sizes)


# ---------------------------------------------------------------- patches in feature space
def show_patch_scatter(points, labels, **options) -> None:
    """Show patches in the plane of two features, coloured by cluster; a cluster called lesion has squares.

    Args:
        points: (N, 2) features of the patches.
        labels: (N,) cluster of each, from 0; -1 was not clustered and is not drawn.
        **options:
            styles: {cluster: PatchStyle}; None names all clusters by their number.
            squares: clusters drawn as squares.
            ringed: (N,) bool, patches with a ring around their point: those that truly hold lesion.
            centres: (K, 2) written with the cluster's number; None takes the mean of each cluster's points.
            names: what the two features are.
            selected: number of a patch to mark, -1 for none.
            title: a line above.

    Raises:
        ValueError: shapes that do not agree.
    """
    draw, size = _scatter_picture(points, labels, **options)
    show(draw, size)


def patch_scatter_png(points, labels, *, dpi: int = 90, **options) -> bytes:
    """The picture of `show_patch_scatter` as PNG bytes."""
    draw, size = _scatter_picture(points, labels, **options)
    return png(draw, size, dpi)


def cluster_centres(points: np.ndarray, labels: np.ndarray, clusters: int) -> np.ndarray:
    """Mean point of each cluster, (K, F); NaN where a cluster is empty."""
    rows = [points[labels == k] for k in range(clusters)]
    return np.stack([row.mean(axis=0) if len(row) else np.full(points.shape[1], np.nan) for row in rows])


def _scatter_picture(
    points,
    labels,
    *,
    styles: Mapping[int, PatchStyle] | None = None,
    squares: Sequence[int] = (),
    ringed=None,
    centres=None,
    names: Sequence[str] = ("mean", "standard deviation"),
    selected: int = -1,
    title: str | None = None,
) -> tuple[Callable, tuple[float, float]]:
    points = np.asarray(points, float)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0:
        raise ValueError(f"points are two features of each patch, (N, 2) with N > 0, got shape {points.shape}.")
    labels = patch_values(labels, len(points), "labels")
    ringed = np.zeros(len(points), bool) if ringed is None else patch_values(ringed, len(points), "ringed").astype(bool)
    clusters = max(int(labels.max()) + 1, 0)
    styles = cluster_styles(clusters) if styles is None else styles
    centres = cluster_centres(points, labels, clusters) if centres is None else np.asarray(centres, float)

    def draw(figure) -> None:
        ax = figure.subplots()
        for k in sorted(styles, key=lambda k: -(labels == k).sum()):  # small clusters on top
            name, colour = styles[k]
            shown = points[labels == k]
            look = {"marker": "s" if k in squares else "o", "s": 26, "linewidths": 0.5, "edgecolors": "#404040"}
            if len(shown):
                ax.scatter(*shown.T, color=colour, label=f"{name} ({len(shown)})", **look)
        true = points[ringed & (labels >= 0)]
        if len(true):
            look = {"s": 95, "facecolors": "none", "edgecolors": _INK, "linewidths": 1.0}
            ax.scatter(*true.T, label=f"truly lesion ({len(true)})", **look)
        for k, centre in enumerate(centres):
            if np.isfinite(centre).all():
                _write_number(ax, str(k), centre)
        if selected >= 0 and labels[selected] >= 0:
            look = {"marker": "D", "s": 150, "facecolors": "none", "edgecolors": _MARK, "linewidths": 2.0}
            ax.scatter(*points[selected], label=f"patch {selected}", **look)
        _dress(ax, title or "Patches by their features", *names)
        ax.legend(loc="upper left", bbox_to_anchor=(0, -0.17), frameon=False, fontsize=8.5, borderaxespad=0, ncols=2)

    return draw, (4.4, 4.4)


def _write_number(ax, text: str, place) -> None:
    from matplotlib.patheffects import withStroke

    around = [withStroke(linewidth=3, foreground="white")]
    look = {"ha": "center", "va": "center", "fontsize": 13, "fontweight": "bold", "color": _INK}
    ax.text(*place, text, path_effects=around, zorder=5, **look)


# ---------------------------------------------------------------- the masking ratio by epoch
def show_ratio_curve(ratios, hidden, **options) -> None:
    """Show the hidden share of patches by epoch, and from where on all lesion patches are hidden.

    Args:
        ratios: (T,) masking ratio of epochs 0 to T - 1.
        hidden: (T,) number of patches hidden in each epoch.
        **options:
            lesion_patches: patches called lesion, which are hidden first. Epochs that hide as many are shaded.
            valid_patches: patches that may be hidden.
            epoch: the epoch to mark, None for none.
            title: a line above.

    Raises:
        ValueError: lists of different length, or an epoch that is not among them.
    """
    draw, size = _ratio_picture(ratios, hidden, **options)
    show(draw, size)


def ratio_curve_png(ratios, hidden, *, dpi: int = 90, **options) -> bytes:
    """The picture of `show_ratio_curve` as PNG bytes."""
    draw, size = _ratio_picture(ratios, hidden, **options)
    return png(draw, size, dpi)


def _ratio_picture(
    ratios,
    hidden,
    *,
    lesion_patches: int,
    valid_patches: int,
    epoch: int | None = None,
    title: str | None = None,
) -> tuple[Callable, tuple[float, float]]:
    ratios, hidden = np.asarray(ratios, float), np.asarray(hidden)
    if ratios.ndim != 1 or ratios.shape != hidden.shape or len(ratios) == 0:
        raise ValueError(
            f"ratios and hidden need one number for each epoch, got shapes {ratios.shape} and {hidden.shape}."
        )
    if epoch is not None and not 0 <= epoch < len(ratios):
        raise ValueError(f"epoch counts from 0 to {len(ratios) - 1}, got {epoch}.")
    epochs = np.arange(len(ratios))
    gone = (hidden >= lesion_patches) & (lesion_patches > 0)

    def draw(figure) -> None:
        figure.set_layout_engine("none")  # finding room for the labels takes longer than drawing them
        ax = figure.add_axes((0.08, 0.17, 0.62, 0.72))
        ax.set_ylim(0, 100)
        ax.set_xlim(-0.5, len(ratios) - 0.5)
        for first, last in _runs_of(gone):
            label = None if ax.patches else "all lesion patches hidden"
            ax.axvspan(first - 0.5, last + 0.5, color="#ff2a88", alpha=0.13, linewidth=0, label=label)
        ax.plot(epochs, 100 * ratios, color="#0000d6", linewidth=1.8, label="hidden share")
        if lesion_patches > 0:
            share = 100 * lesion_patches / valid_patches
            ax.axhline(share, color=_INK, linestyle=(0, (5, 3)), linewidth=1, label=f"{lesion_patches} lesion patches")
        if epoch is not None:
            ax.axvline(epoch, color=_MARK, linewidth=1)
            ax.plot(epoch, 100 * ratios[epoch], "o", color=_MARK, markersize=9)
        _dress(ax, title or f"Hidden share of {valid_patches} patches", "epoch", "hidden (%)")
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=8.5, borderaxespad=0)

    return draw, (7.2, 2.8)


def _runs_of(flags: np.ndarray) -> list[tuple[int, int]]:
    """(first, last) of each unbroken run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return [(int(first), int(stop) - 1) for first, stop in edges.reshape(-1, 2)]


# ---------------------------------------------------------------- figures
def join_pngs(pictures: Sequence[bytes], *, beside: bool = False) -> bytes:
    """PNG pictures as one, below or beside each other on white; the same pictures give the same bytes."""
    from matplotlib.image import imread, imsave

    arrays = [
        np.round(255 * imread(io.BytesIO(picture), format="png")[..., :3]).astype(np.uint8) for picture in pictures
    ]
    if beside:
        arrays = [array.swapaxes(0, 1) for array in arrays]
    width = max(array.shape[1] for array in arrays)
    padded = [np.pad(a, ((0, 0), (0, width - a.shape[1]), (0, 0)), constant_values=255) for a in arrays]
    joined = np.concatenate(padded)
    stream = io.BytesIO()
    whole = np.ascontiguousarray(joined.swapaxes(0, 1) if beside else joined)
    imsave(stream, whole, format="png", metadata={"Software": None})  # no version in it
    return stream.getvalue()


def _dress(ax, title: str, x_name: str, y_name: str) -> None:
    ax.set_title(title, loc="left", fontsize=10.5, pad=6)
    ax.set_xlabel(x_name, color=_SOFT_INK)
    ax.set_ylabel(y_name, color=_SOFT_INK)
    ax.tick_params(length=3, width=0.6, labelsize=8.5, colors=_SOFT_INK)
    ax.grid(linewidth=0.4, color="#dddddd")
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
