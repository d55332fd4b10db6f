"""Which mined pairs would training see at this threshold? Pairs of views, best first, with what is left of them."""

import io
import textwrap
from base64 import b64encode
from collections.abc import Sequence
from html import escape, unescape

import anywidget
import ipywidgets
import numpy as np
import traitlets

from medssl_nb.viz.alignment import (
    PairTile,
    mean_error,
    pair_tiles,
    passing,
    thresholds_of,
    tile_order,
    tile_words,
    tiles_png,
    yield_curve,
)
from medssl_nb.widgets.picture import WithPicture
from medssl_nb.widgets.scripts import script
from medssl_nb.widgets.setting import Setting

MINED, RANDOM = "mined", "random"
SCORE, ERROR = "score", "error"
METHOD_THRESHOLD = 0.7
_KEY = "Left the query, right the key; the cross in the middle of each is the matched place."
_LINE = 110  # letters above the picture


class TilePage(anywidget.AnyWidget):
    """HTML that Python writes; its script keeps JupyterLab from taking the arrow keys of the controls beside it."""

    _esm = script("keep_arrows.js", "tile_page.js")

    value = traitlets.Unicode("").tag(sync=True)


class ViewPairGallery(WithPicture, ipywidgets.VBox):
    """Pairs of views as tiles, best first; those that a threshold of the score refuses are dimmed.

    A pair passes if its score is above the threshold, as in `mine_view_pair`.
    Without a browser: set `.threshold`, `.first`, `.order` or `.source`; read
        kept: number of mined pairs that pass.
        shown: places, in the list given, of the pairs on the page.
        line.value: how many pass, and how good they are. where.value: which are on the page.

    Args:
        pairs: `ViewPair`s, views (1, X, Y, Z) of one size (2D: (1, X, Y)).
        random_pairs: pairs of the same size for contrast, whose scores are not looked at.
        errors_mm: of each mined pair the distance of the matched place from the true one; None or NaN: not known.
        names: of each mined pair.
        window: for all, as in `SliceCanvas`; None is the 0.5 and 99.5 percentile of all views.
        size: tiles on a page.
        random_errors_mm: as `errors_mm`, of the random pairs.
        threshold: to start with; None is the method's 0.7, or the nearest end of the slider.
        spacing_mm: mm per voxel, for true proportions.
        plane: of the slices through the middle.
        title: a line above.

    Raises:
        ValueError: no pairs, views of several sizes or channels, lists that do not fit, scores that are no numbers.
    """

    threshold = Setting("the score that a pair must exceed")
    order = Setting("what the tiles are sorted by")
    source = Setting("which pairs are shown")

    def __init__(
        self,
        pairs: Sequence,
        *,
        random_pairs: Sequence | None = None,
        errors_mm: Sequence[float | None] | None = None,
        names: Sequence[str] | None = None,
        window=None,
        size: int = 9,
        random_errors_mm: Sequence[float | None] | None = None,
        threshold: float | None = None,
        spacing_mm: Sequence[float] | None = None,
        plane: str = "axial",
        title: str = "",
    ):
        if size < 1:
            raise ValueError(f"size is the number of tiles on a page, 1 or more; got {size}.")
        if random_errors_mm is not None and random_pairs is None:
            raise ValueError("random_errors_mm belongs to random_pairs, which are missing; give both.")
        look = {"window": window, "plane": plane, "spacing_mm": spacing_mm}
        self._tiles = {MINED: pair_tiles(pairs, errors_mm=errors_mm, names=names, **look)}
        if random_pairs is not None:
            self._tiles[RANDOM] = pair_tiles(random_pairs, errors_mm=random_errors_mm, scored=False, **look)
        self.size, self.title = size, title
        self._scores = thresholds_of(self._tiles[MINED])
        self._drawn: dict[tuple[str, int], str] = {}  # (source, place) -> SVG of a tile
        self._curve = yield_curve(self._tiles[MINED], self._scores)
        known = any(tile.error is not None for tiles in self._tiles.values() for tile in tiles)
        self.controls = _controls(self._scores, list(self._tiles), [SCORE] + [ERROR] * known, size, self._most)
        if threshold is not None:
            self.threshold = threshold
        self.line, self.curves, self.where = (ipywidgets.HTML() for _ in range(3))
        self.grid = TilePage()
        self.controls["source"].observe(self._change_source, names="value")
        self.controls["order"].observe(self._back_to_start, names="value")
        for name in ("threshold", "first"):
            self.controls[name].observe(self._show, names="value")
        self._change_source()
        row = ipywidgets.HBox(self._shown_controls(), layout={"flex_flow": "row wrap"})
        titles = [ipywidgets.HTML(f"<b>{escape(title)}</b>")] if title else []
        super().__init__(children=[*titles, row, self.line, self.curves, self.where, self.grid, ipywidgets.HTML(_KEY)])

    # ---- what Python and the reader both set ----

    @property
    def first(self) -> int:
        """Number of tiles before the page, a multiple of `size`."""
        return self.controls["first"].value

    @first.setter
    def first(self, first: int) -> None:
        if first not in range(0, len(self._now), self.size):
            last = (len(self._now) - 1) // self.size * self.size
            raise ValueError(f"first is the start of a page, 0 to {last} in steps of {self.size}; got {first}.")
        self.controls["first"].value = first

    # ---- what can be read ----

    @property
    def kept(self) -> int:
        """Number of mined pairs whose score is above the threshold."""
        return sum(self._passing)

    @property
    def shown(self) -> tuple[int, ...]:
        """Places of the pairs on the page, in the list given."""
        start = self.first
        return tuple(tile_order(self._now, self.order)[start : start + self.size])

    @property
    def _now(self) -> list[PairTile]:
        return self._tiles[self.source]

    @property
    def _passing(self) -> list[bool]:
        return passing(self._tiles[MINED], self._least)

    @property
    def _least(self) -> float:
        return round(self.threshold, 6)  # a slider's 0.1 + 0.1 + 0.1

    @property
    def _most(self) -> int:
        """Pairs of the longer list."""
        return max(len(tiles) for tiles in self._tiles.values())

    # ---- what follows what ----

    def _change_source(self, change=None) -> None:
        first = self.controls["first"]
        last = (len(self._now) - 1) // self.size * self.size
        first.value = 0
        first.max = max(last, self.size)  # a slider needs two ends
        first.layout.display = None if last else "none"
        self.controls["threshold"].disabled = self.source == RANDOM
        self._show()

    def _back_to_start(self, change=None) -> None:
        self.controls["first"].value = 0
        self._show()

    def _show(self, change=None) -> None:
        self.line.value, self.where.value = escape(self._words()), escape(self._where())
        self.curves.value = self._curves() if self.source == MINED else ""
        self.grid.value = self._page()

    # ---- words and pictures ----

    def _words(self) -> str:
        if self.source == RANDOM:
            error = mean_error(self._now)
            known = "" if error is None else f"; their mean error is {error:.1f} mm"
            return f"{len(self._now)} random pairs, which nothing refuses{known}"
        sides = [[tile for tile, ok in zip(self._now, self._passing, strict=True) if ok == side] for side in (1, 0)]
        kept, refused = map(mean_error, sides)
        counted = f"{self.kept} of {len(self._now)} pairs pass {self._least:.2f}".replace("-", "−")
        errors = []
        if kept is not None:
            errors.append(f"their mean error is {kept:.1f} mm")
        if refused is not None:
            errors.append(f"{'mean error ' * (kept is None)}of the refused {refused:.1f} mm")
        return f"{counted}; {', '.join(errors)}" if errors else counted

    def _where(self) -> str:
        first, shown = self.first, len(self.shown)
        sorted_by = [tile.score if self.order == SCORE else tile.error for tile in self._now]
        order = _ORDERED[self.order] if any(value is not None for value in sorted_by) else ""
        return f"shown: {first + 1} to {first + shown} of {len(self._now)}{order}"

    def _page(self) -> str:
        threshold = self._least if self.source == MINED else None
        tiles = "".join(self._tile(place, threshold) for place in self.shown)
        return f"<div style='{_GRID}'>{tiles}</div>"

    def _tile(self, place: int, threshold: float | None) -> str:
        tile = self._now[place]
        if (self.source, place) not in self._drawn:
            self._drawn[self.source, place] = _views_svg(tile)
        refused = threshold is not None and tile.score <= threshold
        dimmed = f"opacity:{_DIMMED}" if refused else ""
        words, name = escape(tile_words(tile, threshold)), escape(tile.name)
        named = f"<div style='{_NAME}' title='{name}'>{name}</div>" if name else ""
        said = f"{name} {words}".strip()
        return (
            f"<figure style='margin:0;min-width:0'><figcaption style='{_CAPTION}'>{named}{words}</figcaption>"
            f"<div role='img' aria-label='{said}' style='{dimmed}'>{self._drawn[self.source, place]}</div></figure>"
        )

    def _curves(self) -> str:
        panels = [_curve_svg("pairs that pass", "%", self._scores, 100 * self._curve.kept, self._least)]
        if np.isfinite(self._curve.errors).any():
            name = "mean error of those"
            panels.append(_curve_svg(name, " mm", self._scores, self._curve.errors, self._least))
        return f"<div style='display:flex;flex-wrap:wrap;gap:4px 30px;margin-bottom:8px'>{''.join(panels)}</div>"

    def _shown_controls(self) -> list:
        choices = ("order", "source")
        return [box for name, box in self.controls.items() if name not in choices or len(box.options) > 1]

    def _static_png(self) -> bytes:
        parts = self.title, unescape(self.line.value), self._where()
        text = [line for part in parts for line in textwrap.wrap(part, _LINE)]
        shown = [self._now[place] for place in self.shown]
        return tiles_png(shown, self._now, self._least, "\n".join(text))


_DIMMED = 0.3
_ORDERED = {SCORE: ", best score first", ERROR: ", smallest error first"}
_GRID = "display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:12px 16px;max-width:760px"
_CAPTION = "font-variant-numeric:tabular-nums;line-height:1.4;min-height:1.4em"
_NAME = "overflow:hidden;text-overflow:ellipsis;white-space:nowrap;opacity:.75"


def _controls(scores: np.ndarray, sources: list, orders: list, size: int, most: int) -> dict:
    look = {"style": {"description_width": "6em"}, "layout": {"width": "25em", "max_width": "100%"}}
    low, high = float(scores[0]), float(scores[-1])
    start = min(max(METHOD_THRESHOLD, low), high)
    ends = {"min": low, "max": high, "step": 0.01}
    return {
        "threshold": ipywidgets.FloatSlider(start, description="threshold", **ends, **look),
        "first": ipywidgets.IntSlider(0, min=0, max=max(most, size), step=size, description="first", **look),
        "order": ipywidgets.Dropdown(options=orders, description="order", **look),
        "source": ipywidgets.Dropdown(options=sources, description="pairs", **look),
    }


def _views_svg(tile: PairTile) -> str:
    """Both views side by side, a cross in the middle of each, in true proportions."""
    width, height = tile.size
    gap, arm = 0.05 * width, 0.04 * width
    drawn = []
    for left, view in zip((0.0, width + gap), tile.views, strict=True):
        x, y = left + width / 2, height / 2
        cross = f"M{x - arm:g} {y:g}h{2 * arm:g}M{x:g} {y - arm:g}v{2 * arm:g}"
        drawn.append(
            f"<image x='{left:g}' width='{width:g}' height='{height:g}' preserveAspectRatio='none' "
            f"style='image-rendering:pixelated' href='data:image/png;base64,{_grey_png(view)}'/>"
            f"<path d='{cross}' stroke='#000' stroke-opacity='.6' stroke-width='3' vector-effect='non-scaling-stroke'/>"
            f"<path d='{cross}' stroke='#ffe45c' stroke-width='1.2' vector-effect='non-scaling-stroke'/>"
        )
    box = f"0 0 {2 * width + gap:g} {height:g}"
    return f"<svg viewBox='{box}' style='display:block;width:100%' aria-hidden='true'>{''.join(drawn)}</svg>"


def _grey_png(view: np.ndarray) -> str:
    """PNG of a grey picture (rows, columns) uint8 in base 64."""
    from matplotlib.image import imsave

    stream = io.BytesIO()
    imsave(stream, np.repeat(view[..., None], 3, axis=2), format="png", metadata={"Software": None})
    return b64encode(stream.getvalue()).decode()


def _curve_svg(name: str, unit: str, xs: np.ndarray, ys: np.ndarray, at: float) -> str:
    """A small curve with a line at the threshold, in the colours of the page."""
    width, height, top = 300, 80, float(np.nanmax(ys)) or 1.0
    across = (xs - xs[0]) / (xs[-1] - xs[0]) * width
    down = height - ys / top * height
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True) if y == y)
    here = (at - xs[0]) / (xs[-1] - xs[0]) * width
    value = ys[np.abs(xs - at).argmin()]
    said = "none" if value != value else f"{value:.0f}{unit}" if unit == "%" else f"{value:.1f}{unit}"
    ink = "fill='currentColor' font-size='11'"
    return (
        f"<svg viewBox='-34 -20 {width + 48} {height + 38}' width='{width + 48}' role='img' "
        f"aria-label='{name}: {said}' style='max-width:100%;color:var(--jp-ui-font-color1,currentColor)'>"
        f"<text x='0' y='-8' {ink} font-weight='600'>{name}: {said}</text>"
        f"<path d='M0 0V{height}H{width}' fill='none' stroke='currentColor' stroke-opacity='.4'/>"
        f"<polyline points='{points}' fill='none' stroke='var(--jp-brand-color1,#3584c9)' stroke-width='2'/>"
        f"<path d='M{here:.1f} 0V{height}' stroke='#ff2a88' stroke-width='1.6'/>"
        f"<text x='-4' y='8' {ink} text-anchor='end'>{top:.0f}</text>"
        f"<text x='-4' y='{height}' {ink} text-anchor='end'>0</text>"
        f"<text x='0' y='{height + 14}' {ink}>{xs[0]:.2f}</text>"
        f"<text x='{width}' y='{height + 14}' {ink} text-anchor='end'>{xs[-1]:.2f}</text></svg>"
    )
