"""Where in patient B is the place I point at in patient A, and can I trust it? Matching by anatomical embeddings."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape, unescape
from typing import NamedTuple

import ipywidgets
import numpy as np

from medssl_nb.viz.alignment import BACK, MATCH, TRUE, Patient, layers_alignment_png, place_marks, within
from medssl_nb.viz.arrays import known_spacing
from medssl_nb.viz.planes import plane_of
from medssl_nb.widgets.picture import WithPicture
from medssl_nb.widgets.setting import Setting
from medssl_nb.widgets.similarity_canvas import COSINES, SimilarityCanvas, unit_embeddings, voxel_text

METHOD_SHARE = 0.5
_KEY = (
    "Yellow ring: the place found. Cyan square: the true place. Pink diamond: where the way back from the found place "
    "ends; far from the crosshair it is a warning. Dashed: on another slice."
)
_LINE = 40  # letters above the picture of one plane
_GAP = 16  # CSS pixels between pictures


class AlignmentExplorer(WithPicture, ipywidgets.VBox):
    """Point at a place in the query patient: the most similar place of the key patient is searched, marked and shown.

    The point is the crosshair at the left: click, drag, arrow keys. The similarity is `fine_share` of the fine cosine
    and the rest of the coarse one; half of each is the method's. The found place is matched back in the same way: where
    the way back ends far from the point, do not trust the match, however high its score.
    Without a browser: set `.point`, `.fine_share` or `.show_map`; read
        found, score: voxel of the key and its similarity, at a share of one half those of `match_points`.
        error_mm: distance of the found voxel from the true place, None where that is not known.
        returned, return_mm: voxel of the query where the way back ends, and its distance from the point.
        similarity: on the fine grid of the key, (*S_f).
        line.value: these in words.

    Args:
        query, key: volumes (X, Y, Z) or (1, X, Y, Z) of patients A and B; their grids may differ.
        query_embedding, key_embedding: of each `AnatomicalEmbedding(fine, coarse)`, (E, X', Y', Z') unit vectors over
            E, of one volume; the grids may have any size.
        spacing_mm: mm per voxel of the query. `key_spacing_mm`: of the key; None is the same. Where mm are not known,
            all distances count voxels.
        window: of both, as in `SliceCanvas`; None chooses for each.
        point: voxel to start with; None is the middle.
        truth: callable, points (P, 3) of the query, float voxels -> (P, 3) of the key, NaN where not known.
        fine_share: to start with, 0 to 1 in tenths.
        query_scale, key_scale, stride: as in `match_points`.
        names: of the two patients.
        title: a line above.
        planes, size: as in `SliceCanvas`.

    Raises:
        ValueError: embeddings that are no unit vectors or do not fit each other, a point outside, a truth of another
            shape.
    """

    fine_share = Setting("the share of the fine similarity")

    def __init__(
        self,
        query,
        key,
        query_embedding,
        key_embedding,
        *,
        spacing_mm: Sequence[float] | None = None,
        key_spacing_mm: Sequence[float] | None = None,
        window=None,
        point: Sequence[int] | None = None,
        truth: Callable | None = None,
        fine_share: float = METHOD_SHARE,
        query_scale: float | Sequence[float] = 1.0,
        key_scale: float | Sequence[float] = 1.0,
        stride: int = 2,
        names: Sequence[str] = ("patient A", "patient B"),
        title: str = "",
        planes: Sequence[str] | None = None,
        size: int = 220,
    ):
        if truth is not None and not callable(truth):
            raise ValueError(
                f"truth must be a function of points (P, 3), such as lambda p: cohort.correspondence(a, b, p); got "
                f"{type(truth).__name__}."
            )
        look = {"window": window, "planes": planes, "size": size}
        own = key_spacing_mm is not None or getattr(key, "affine", None) is not None
        spacing = key_spacing_mm if own else known_spacing(query, spacing_mm)
        self.canvases = [
            PlaceCanvas(query, title=names[0], spacing_mm=spacing_mm, crosshair=point, **look),
            PlaceCanvas(key, title=names[1], spacing_mm=spacing, **look),
        ]
        self._sides = [
            _side(query_embedding, self.canvases[0], query_scale, stride, "query"),
            _side(key_embedding, self.canvases[1], key_scale, stride, "key"),
        ]
        _check_channels(*self._sides)
        self._truth, self.names, self.title = truth, list(names), title
        self.controls = _controls(names[1])
        self.fine_share = fine_share
        self.line = ipywidgets.HTML()
        self._follow_point()
        self.canvases[0].observe(self._follow_point, names="crosshair")
        self.controls["fine_share"].observe(self._search, names="value")
        self.controls["show_map"].observe(self._show, names="value")
        row = ipywidgets.HBox(list(self.controls.values()), layout={"flex_flow": "row wrap"})
        titles = [ipywidgets.HTML(f"<b>{escape(title)}</b>")] if title else []
        pair = _beside(*self.canvases)
        super().__init__(children=[*titles, row, self.line, pair, ipywidgets.HTML(_KEY)])

    # ---- what Python and the reader both set ----

    @property
    def point(self) -> tuple[int, int, int]:
        """Voxel (x, y, z) of the query pointed at."""
        return self.canvases[0].crosshair

    @point.setter
    def point(self, voxel: Sequence[int]) -> None:
        self.canvases[0].crosshair = voxel

    @property
    def show_map(self) -> bool:
        """Whether the similarity is laid over the key."""
        return self.controls["show_map"].value

    @show_map.setter
    def show_map(self, shown: bool) -> None:
        self.controls["show_map"].value = shown

    # ---- what comes of it ----

    @property
    def error_mm(self) -> float | None:
        """Distance of the found voxel from the true place, None where that is not known."""
        return None if self.true_place is None else self._distance(1, self.found, self.true_place)

    @property
    def return_mm(self) -> float:
        """Distance between the point and where the way back ends."""
        return self._distance(0, self.returned, self.point)

    @property
    def unit(self) -> str:
        """Of the distances: "mm" where the spacing of both is known, else "voxels"."""
        return "mm" if all(canvas.affine for canvas in self.canvases) else "voxels"

    def _distance(self, side: int, one, other) -> float:
        spacing = self.canvases[side].spacing if self.unit == "mm" else 1.0
        return float(np.linalg.norm((np.asarray(one, float) - other) * np.asarray(spacing)))

    # ---- what follows what ----

    def _follow_point(self, change=None) -> None:
        self.true_place = self._true_place()
        self._search()

    def _search(self, change=None) -> None:
        """Forth and back with the share that is set."""
        query, key = self._sides
        self.similarity = self._similarity(query, self.point, key)
        self.found, self.score = _best(self.similarity, key)
        self.returned, _ = _best(self._similarity(key, self.found, query), query)
        self._show()

    def _similarity(self, from_side: "_Side", voxel, to_side: "_Side") -> np.ndarray:
        """Share of the fine cosine and the rest of the coarse one, on the fine grid of `to_side`."""
        at = from_side.cell(voxel)
        share = round(self.fine_share, 6)  # a slider's 0.1 + 0.1 + 0.1
        fine, coarse = (
            np.tensordot(mine[(slice(None), *at)], theirs, axes=1)
            for mine, theirs in ((from_side.fine, to_side.fine), (from_side.coarse, to_side.coarse))
        )
        return share * fine + (1 - share) * coarse

    def _show(self, change=None) -> None:
        query, key = self.canvases
        with query.hold_sync():
            query.set_marks({BACK: self.returned})
        with key.hold_sync():
            known = self.true_place is not None and within(self.true_place, key.shape)
            key.set_marks({MATCH: self.found, **({TRUE: self.true_place} if known else {})})
            key.crosshair = self.found
            key.show_similarity(self._sides[1].on_voxels(self.similarity) if self.show_map else None)
        self.line.value = escape(self._words())

    def _true_place(self) -> tuple[float, float, float] | None:
        if self._truth is None:
            return None
        place = np.asarray(self._truth(np.array([self.point], float)), float)
        if place.shape != (1, 3):
            raise ValueError(
                f"truth must give (P, 3) places for (P, 3) points, here (1, 3); it gave shape {place.shape}."
            )
        return tuple(float(v) for v in place[0]) if np.isfinite(place).all() else None

    # ---- words and the picture ----

    def _words(self) -> str:
        score = f"{self.score:.2f}".replace("-", "−")
        parts = [f"voxel {voxel_text(self.point)} → {voxel_text(self.found)}, score {score}"]
        if self.true_place is not None:
            outside = "" if within(self.true_place, self.canvases[1].shape) else ", outside the image"
            parts.append(f"true place {self.error_mm:.1f} {self.unit} away{outside}")
        elif self._truth is not None:
            parts.append("true place not known here")
        return "; ".join([*parts, f"back home within {self.return_mm:.1f} {self.unit}"])

    def _static_png(self) -> bytes:
        canvases = zip(self.canvases, self.names, strict=True)
        rows = [Patient(canvas._layers(), canvas.crosshair, name) for canvas, name in canvases]
        words = f"{unescape(self.line.value)} (fine share {self.fine_share:.1f})"
        planes = self.canvases[0].planes
        lines = [line for text in (self.title, words) for line in textwrap.wrap(text, _LINE * len(planes))]
        return layers_alignment_png(rows, planes, "\n".join(lines))


class PlaceCanvas(SimilarityCanvas):
    """A slice canvas whose marks are the places of a match, each with a sign of its own."""

    _as_marks = staticmethod(place_marks)

    def show_similarity(self, similarity: np.ndarray | None) -> None:
        """Lay similarities (X, Y, Z) over the image; None takes them away."""
        shown = None if similarity is None else similarity.clip(-1, 1)  # rounding leads beyond 1
        self.set_heat(shown, heat_range=COSINES, heat_name="similarity")

    def _layers(self):
        return replace(super()._layers(), marks=self._marks)  # signs by name, not by order


class _Side(NamedTuple):
    """A patient's embeddings, ready to be compared, and where their cells lie in the image."""

    fine: np.ndarray  # (E, *S_f), unit vectors
    coarse: np.ndarray  # (E, *S_f), resized to the fine grid, of unit length again
    shape: tuple[int, ...]  # of the image
    scale: np.ndarray  # (3,) spacing of the image over that which the network saw
    stride: int

    def cell(self, voxel: Sequence[int]) -> tuple[int, ...]:
        """Cell of the fine grid that a voxel lies in."""
        return tuple(int(cells[v]) for cells, v in zip(self._cells(), voxel, strict=True))

    def on_voxels(self, values: np.ndarray) -> np.ndarray:
        """Values of the fine grid (*S_f) laid on the image's voxels (X, Y, Z)."""
        return values[np.ix_(*self._cells())]

    def voxel(self, cell: Sequence[int]) -> tuple[int, ...]:
        """Voxel that a cell of the fine grid stands for."""
        places = np.floor((self.stride * np.asarray(cell) + 0.5) / self.scale).astype(int)
        return tuple(int(v) for v in np.clip(places, 0, np.array(self.shape) - 1))

    def _cells(self) -> list[np.ndarray]:
        grid = self.fine.shape[1:]
        return [
            np.minimum(np.floor(np.arange(n) * (scale / self.stride)).astype(int), cells - 1)
            for n, scale, cells in zip(self.shape, self.scale, grid, strict=True)
        ]


def _side(embedding, canvas: SimilarityCanvas, scale, stride: int, whose: str) -> _Side:
    """Checked embeddings of one patient, the coarse ones resized to the grid of the fine ones."""
    from medssl_nb.methods.alice import resized_coarse

    if not (hasattr(embedding, "fine") and hasattr(embedding, "coarse")):
        raise ValueError(
            f"{whose}_embedding must be an AnatomicalEmbedding with .fine and .coarse, got {type(embedding).__name__}."
        )
    scale = np.broadcast_to(np.asarray(scale, float), 3)
    if not (np.isfinite(scale).all() and (scale > 0).all() and stride >= 1):
        raise ValueError(f"{whose}_scale must be above 0 and stride 1 or more, got {scale.tolist()} and {stride}.")
    fine, coarse = (
        unit_embeddings(part, part.shape[-3:], f"{whose}_embedding.{name}")
        for name, part in (("fine", embedding.fine), ("coarse", embedding.coarse))
    )
    coarse = resized_coarse(coarse, fine.shape[2:])
    return _Side(fine[0].numpy(), coarse[0].numpy(), tuple(canvas.shape), scale, stride)


def _best(similarity: np.ndarray, side: _Side) -> tuple[tuple[int, ...], float]:
    """Voxel of the most similar cell, of equals the first in memory order, and the similarity."""
    cell = np.unravel_index(similarity.argmax(), similarity.shape)
    return side.voxel(cell), float(similarity[cell])


def _check_channels(query: _Side, key: _Side) -> None:
    counts = [(len(side.fine), len(side.coarse)) for side in (query, key)]
    if counts[0] != counts[1]:
        raise ValueError(
            f"embeddings of both patients need the same channels, got (fine, coarse) {counts[0]} and {counts[1]}; they "
            "must come from one network."
        )


def _controls(key_name: str) -> dict:
    look = {"style": {"description_width": "7em"}, "layout": {"width": "26em", "max_width": "100%"}}
    share = ipywidgets.FloatSlider(
        METHOD_SHARE, min=0, max=1, step=0.1, readout_format=".1f", description="fine share", **look
    )
    shown = ipywidgets.Checkbox(True, description=f"similarity over {key_name}", indent=False)
    return {"fine_share": share, "show_map": shown}


def _beside(*canvases: SimilarityCanvas) -> ipywidgets.HBox:
    """Canvases next to each other where all their planes have room, else in two rows."""
    for canvas in canvases:
        axes = [plane_of(plane) for plane in canvas.planes]
        sides = np.multiply(canvas.shape, canvas.spacing)
        longest = max(sides[one] for plane in axes for one in (plane.row, plane.column))
        room = canvas.size * sum(sides[plane.column] for plane in axes) / longest + _GAP * len(axes)
        canvas.layout = {"flex": f"1 1 {room:.0f}px", "min_width": "0", "max_width": f"{max(room + 80, 420):.0f}px"}
    ipywidgets.jslink((canvases[0], "opacity"), (canvases[1], "opacity"))
    return ipywidgets.HBox(list(canvases), layout={"flex_flow": "row wrap", "align_items": "flex-start"})
