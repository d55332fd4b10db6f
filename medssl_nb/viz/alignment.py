"""Pictures of matching: one place in two patients, and pairs of views with the score of their match."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from medssl_nb.viz.arrays import as_volume, known_spacing
from medssl_nb.viz.figures import png, show
from medssl_nb.viz.layers import Layers, extent_mm, stack_layers
from medssl_nb.viz.marks import MARK_STYLES, Mark, as_marks
from medssl_nb.viz.planes import plane_of, planes_worth_showing, slice_view
from medssl_nb.viz.slices import draw_planes
from medssl_nb.viz.windows import apply_window, window_range

MATCH, TRUE, BACK = "match", "true place", "back"
_SIGNS = dict(zip((MATCH, TRUE, BACK), MARK_STYLES, strict=True))
_INK, _SOFT_INK = "#20262d", "#595959"
_PASSED, _MARK = "#2a74b8", "#ff2a88"
_MIDDLE = "#ffe45c"
_DIMMED = 0.3  # opacity of a refused pair
_COLUMNS = 3  # tiles in a row
_NAME = 42  # letters of a name above a tile


# ---------------------------------------------------------------- one place in two patients
def show_alignment(query, key, point: Sequence[int], found: Sequence[int], **options) -> None:
    """Show a place in one patient and where it was found in another: a row of planes for each.

    Args:
        query, key: volumes (X, Y, Z) or (1, X, Y, Z); their grids may differ.
        point: voxel of the query. `found`: voxel of the key.
        **options:
            heat: similarity (X, Y, Z) on the key's grid, drawn from 0 (and below) to 1.
            truth: true place in the key, fractions between voxels too; one beyond the volume is not drawn.
            returned: voxel of the query that the found one is matched back to.
            spacing_mm: mm per voxel of the query. `key_spacing_mm`: of the key; None is the same.
            window: of both, as in `show_slice`; None chooses for each.
            opacity: of the heat.
            planes: names of the planes; None shows those that have an area.
            names: of the two patients.
            title: a line above.

    Raises:
        ValueError: what cannot be drawn, places outside their volume.
    """
    draw, size = _alignment_drawing(*_alignment_rows(query, key, point, found, **options))
    show(draw, size)


def alignment_png(query, key, point: Sequence[int], found: Sequence[int], *, dpi: int = 90, **options) -> bytes:
    """The picture of `show_alignment` as PNG bytes; the same input gives the same bytes."""
    return layers_alignment_png(*_alignment_rows(query, key, point, found, **options), dpi=dpi)


def layers_alignment_png(patients: Sequence["Patient"], planes=None, title: str | None = None, *, dpi=90) -> bytes:
    """PNG bytes of patients whose layers are put together already, a row of planes for each."""
    draw, size = _alignment_drawing(patients, planes, title)
    return png(draw, size, dpi)


class Patient(NamedTuple):
    """One row of a picture of matching."""

    layers: Layers
    centre: tuple[int, int, int]  # voxel that all planes go through
    name: str


def place_marks(places: Mapping[str, Sequence[float]] | None, shape: Sequence[int]) -> tuple[Mark, ...]:
    """Marks of {"match" | "true place" | "back": voxel}, each with a sign of its own; errors as `as_marks`."""
    return tuple(Mark(mark.name, mark.voxel, *_SIGNS[mark.name]) for mark in as_marks(places, shape))


def within(point: Sequence[float], shape: Sequence[int]) -> bool:
    """Whether a point (x, y, z) lies in a volume of `shape`; one that is not known (NaN) does not."""
    place = np.asarray(point, float)
    return bool(((place >= -0.5) & (place < np.asarray(shape) - 0.5)).all())


def _alignment_rows(
    query,
    key,
    point,
    found,
    *,
    heat=None,
    truth=None,
    returned=None,
    spacing_mm: Sequence[float] | None = None,
    key_spacing_mm: Sequence[float] | None = None,
    window=None,
    opacity: float = 0.6,
    planes: Sequence[str] | None = None,
    names: Sequence[str] = ("patient A", "patient B"),
    title: str | None = None,
) -> tuple[list[Patient], Sequence[str] | None, str | None]:
    look = {"window": window, "opacity": opacity}
    here = stack_layers(query, spacing_mm=spacing_mm, **look)
    spacing = known_spacing(key, key_spacing_mm) or known_spacing(query, spacing_mm)
    there = stack_layers(key, spacing_mm=spacing, heat=heat, heat_range=(0.0, 1.0), **look)
    back = {} if returned is None else {BACK: returned}
    known = {} if truth is None or not within(truth, there.grey.shape) else {TRUE: truth}
    here = replace(here, marks=place_marks(back, here.grey.shape))
    there = replace(there, marks=place_marks({MATCH: found, **known}, there.grey.shape))
    return [Patient(here, point, names[0]), Patient(there, found, names[1])], planes, title


def _alignment_drawing(patients: Sequence[Patient], planes, title) -> tuple[Callable, tuple[float, float]]:
    planes = list(planes or planes_worth_showing(patients[0].layers.grey.shape))
    heights = [max(extent_mm(one.layers, plane)[1] for plane in planes) for one in patients]
    widths = [sum(extent_mm(one.layers, plane)[0] for plane in planes) for one in patients]
    scale = 2.7 / max(heights)  # inches per mm

    def draw(figure) -> None:
        parts = figure.subfigures(len(patients), 1, squeeze=False, height_ratios=[h * scale + 1.25 for h in heights])
        for part, (layers, centre, name) in zip(parts[:, 0], patients, strict=True):
            draw_planes(part, layers, centre, planes=planes, title=name)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=11)

    lines = title.count("\n") + 1 if title else 0
    return draw, (
        max(widths) * scale + 0.5 * len(planes) + 0.9,
        sum(heights) * scale + 1.25 * len(heights) + 0.22 * lines,
    )


# ---------------------------------------------------------------- pairs of views
class PairTile(NamedTuple):
    """Two views side by side as they are drawn, and what is known of them."""

    views: tuple[np.ndarray, np.ndarray]  # middle slices (rows, columns) uint8, first row on top
    size: tuple[float, float]  # width and height of one view
    name: str
    score: float | None
    error: float | None  # mm


def pair_tiles(
    pairs: Sequence,
    *,
    errors_mm: Sequence[float | None] | None = None,
    names: Sequence[str] | None = None,
    window=None,
    plane: str = "axial",
    spacing_mm: Sequence[float] | None = None,
    scored: bool = True,
) -> list[PairTile]:
    """Tiles of pairs of views: the slices through the middle, which is the matched place.

    Args:
        pairs: with attributes `query` and `key` (1, X, Y, Z), or (1, X, Y) in 2D, of one size, and `score`.
        errors_mm: of each pair; None or NaN is not known.
        names: of each pair.
        window: for all; None is the 0.5 and 99.5 percentile of all views.
        plane: of the slices; views in 2D have one.
        spacing_mm: mm per voxel, for true proportions.
        scored: whether the scores are shown.

    Raises:
        ValueError: no pairs, numbers that do not fit them, scores that are no numbers, other shapes, several channels.
    """
    if len(pairs) == 0:
        raise ValueError("pairs is empty: there is nothing to show; give at least one pair of views.")
    errors = _one_each(errors_mm, len(pairs), "errors_mm")
    names = _one_each(names, len(pairs), "names")
    views = [_view(getattr(pair, side), f"{side} of pair {k}") for k, pair in enumerate(pairs) for side in _SIDES]
    shape = views[0].shape
    if other := [view.shape for view in views if view.shape != shape]:
        raise ValueError(f"views of pairs must have one size; found {shape} and {other[0]}.")
    ends = window_range(np.stack(views) if window is None else views[0], window)
    axes = plane_of(plane)
    slices = [
        np.round(255 * apply_window(slice_view(view, plane, shape[axes.fixed] // 2), ends)).astype(np.uint8)
        for view in views
    ]
    spacing = known_spacing(views[0], spacing_mm) or (1.0, 1.0, 1.0)
    size = shape[axes.column] * spacing[axes.column], shape[axes.row] * spacing[axes.row]
    scores = [_score(pair.score, k) if scored else None for k, pair in enumerate(pairs)]
    each = zip(slices[::2], slices[1::2], names, scores, errors, strict=True)
    return [
        PairTile((query, key), size, name or "", score, None if error is None or error != error else float(error))
        for query, key, name, score, error in each
    ]


def tile_order(tiles: Sequence[PairTile], by: str = "score") -> list[int]:
    """Places of the tiles, best first: highest "score" or lowest "error"; what is not known comes last."""
    values = [(None if tile.score is None else -tile.score) if by == "score" else tile.error for tile in tiles]
    return sorted(range(len(tiles)), key=lambda k: np.inf if values[k] is None else values[k])  # stable


def passing(tiles: Sequence[PairTile], threshold: float) -> list[bool]:
    """Whether each tile's score is above the threshold; without a score nothing is refused."""
    return [tile.score is None or tile.score > threshold for tile in tiles]


def mean_error(tiles: Sequence[PairTile]) -> float | None:
    """Mean of the errors that are known, mm."""
    known = [tile.error for tile in tiles if tile.error is not None]
    return float(np.mean(known)) if known else None


class YieldCurve(NamedTuple):
    """What is left at each threshold."""

    thresholds: np.ndarray  # (T,) rising
    kept: np.ndarray  # (T,) share of pairs that pass
    errors: np.ndarray  # (T,) mean error of those in mm, NaN where it is not known


def yield_curve(tiles: Sequence[PairTile], thresholds: Sequence[float]) -> YieldCurve:
    """Share of the pairs that pass each threshold, and their mean error."""
    left = [[tile for tile, passed in zip(tiles, passing(tiles, t), strict=True) if passed] for t in thresholds]
    errors = [mean_error(one) for one in left]
    kept = [len(one) / len(tiles) for one in left]
    return YieldCurve(
        np.asarray(thresholds, float), np.array(kept), np.array([np.nan if e is None else e for e in errors])
    )


def show_view_pairs(pairs: Sequence, **options) -> None:
    """Show pairs of views, best first, those below a threshold dimmed, and the yield at every threshold.

    Args:
        pairs, **options: as in `pair_tiles`, and
            threshold: pairs pass whose score is above it; None draws no yield and dims nothing.
            order: "score" or "error".
            first: number of tiles left out at the start. `size`: tiles shown.
            title: a line above.

    Raises:
        ValueError: as `pair_tiles`.
    """
    draw, size = _pairs_drawing(*_chosen_tiles(pairs, **options))
    show(draw, size)


def view_pairs_png(pairs: Sequence, *, dpi: int = 90, **options) -> bytes:
    """The picture of `show_view_pairs` as PNG bytes; the same input gives the same bytes."""
    draw, size = _pairs_drawing(*_chosen_tiles(pairs, **options))
    return png(draw, size, dpi)


def tiles_png(shown: Sequence[PairTile], tiles: Sequence[PairTile], threshold, title=None, *, dpi: int = 90) -> bytes:
    """PNG bytes of the tiles shown, above them the yield of all tiles."""
    draw, size = _pairs_drawing(shown, tiles, threshold, title)
    return png(draw, size, dpi)


def thresholds_of(tiles: Sequence[PairTile]) -> np.ndarray:
    """Hundredths from just below the lowest score to the highest."""
    scores = [tile.score for tile in tiles]
    low, high = int(np.floor(100 * min(scores) - 1e-9)), int(np.ceil(100 * max(scores) + 1e-9))
    return np.arange(low, high + 1) / 100


_SIDES = ("query", "key")


def _chosen_tiles(pairs, *, threshold=None, order: str = "score", first: int = 0, size: int = 9, title=None, **look):
    if order not in ("score", "error"):
        raise ValueError(f"order is 'score' or 'error', got {order!r}.")
    tiles = pair_tiles(pairs, **look)
    chosen = tile_order(tiles, order)[first : first + size]
    if not chosen:
        raise ValueError(f"first leaves out {first} of {len(tiles)} pairs, so that none is left; choose a smaller one.")
    return [tiles[k] for k in chosen], tiles, threshold, title


def _pairs_drawing(shown, tiles, threshold, title) -> tuple[Callable, tuple[float, float]]:
    rows = -(-len(shown) // _COLUMNS)
    width, height = shown[0].size
    tall = 1.25 * height / width  # inches; a view is 1.25 wide
    above = 0.56 if any(tile.name for tile in shown) else 0.42
    scored = threshold is not None and tiles[0].score is not None

    def draw(figure) -> None:
        heights = ([1.75] if scored else []) + [rows * (tall + above)]
        parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        if scored:
            _draw_yield(parts[0], tiles, threshold)
        axes = parts[-1].subplots(rows, _COLUMNS, squeeze=False).flat
        for ax, tile in zip(axes, shown, strict=False):
            _draw_tile(ax, tile, threshold if scored else None)
        for ax in list(axes)[len(shown) :]:
            ax.remove()
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=10.5)

    lines = title.count("\n") + 1 if title else 0
    return draw, (_COLUMNS * 2.75, 1.75 * scored + rows * (tall + above) + 0.22 * lines)


def _draw_tile(ax, tile: PairTile, threshold: float | None) -> None:
    width, height = tile.size
    passed = threshold is None or tile.score > threshold
    for left, view in zip((0, 1.06 * width), tile.views, strict=True):
        extent = (left, left + width, height, 0)
        ax.imshow(view, cmap="gray", vmin=0, vmax=255, extent=extent, alpha=1 if passed else _DIMMED)
        ax.plot(left + width / 2, height / 2, "+", color=_MIDDLE, markersize=7, markeredgewidth=1)
    ax.set(xlim=(0, 2.06 * width), ylim=(height, 0), aspect="equal")
    ax.axis("off")
    name = tile.name if len(tile.name) <= _NAME else f"{tile.name[: _NAME - 1]}…"
    lines = "\n".join([name] * bool(name) + [tile_words(tile, threshold)])
    ax.set_title(lines, fontsize=8, loc="left", color=_INK if passed else _SOFT_INK, pad=3)


def tile_words(tile: PairTile, threshold: float | None) -> str:
    """What stands with a tile: score and whether it passes, error."""
    score = [] if tile.score is None else [f"{tile.score:.2f}".replace("-", "−")]
    if score and threshold is not None:
        score = [f"{score[0]} {'✓' if tile.score > threshold else '✗ refused'}"]
    error = [] if tile.error is None else [f"{tile.error:.1f} mm off"]
    return " · ".join(score + error)


def _draw_yield(figure, tiles, threshold: float) -> None:
    curve = yield_curve(tiles, thresholds_of(tiles))
    panels = [("pairs that pass (%)", 100 * curve.kept)]
    if np.isfinite(curve.errors).any():
        panels.append(("their mean error (mm)", curve.errors))
    for ax, (name, values) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        ax.plot(curve.thresholds, values, color=_PASSED, linewidth=1.8)
        ax.axvline(threshold, color=_MARK, linewidth=1.2)
        ax.set_ylim(0, 1.06 * np.nanmax(values))
        ax.set_title(name, loc="left", fontsize=9.5, pad=4)
        ax.set_xlabel("threshold of the score", fontsize=8.5, color=_SOFT_INK)
        ax.tick_params(length=2, width=0.6, labelsize=8, colors=_SOFT_INK)
        ax.spines[["top", "right"]].set_visible(False)


def _view(view, name: str) -> np.ndarray:
    """(X, Y, Z) of a view (1, X, Y, Z), or (1, X, Y) in 2D."""
    array = view[..., None] if len(view.shape) == 3 and view.shape[0] == 1 else view
    return as_volume(array, name)


def _one_each(values, count: int, name: str) -> list:
    values = [None] * count if values is None else list(values)
    if len(values) != count:
        raise ValueError(f"{name} has {len(values)} entries for {count} pairs; give one for each.")
    return values


def _score(score, place: int) -> float:
    if not np.isfinite(score):
        raise ValueError(f"pair {place} has the score {score}; pairs without scores go into random_pairs.")
    return float(score)
