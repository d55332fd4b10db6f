"""What does a network think is like the voxel I point at? Cosines of embeddings in one patient and in another."""

from collections.abc import Sequence
from html import escape, unescape

import ipywidgets
import numpy as np

from medssl_nb.viz.embeddings import embedding_colours
from medssl_nb.viz.patches import join_pngs
from medssl_nb.widgets.picture import WithPicture
from medssl_nb.widgets.setting import Setting
from medssl_nb.widgets.similarity_canvas import SimilarityCanvas, beside, unit_embeddings, voxel_text

SIMILARITY, EMBEDDING, IMAGE = "similarity", "embedding", "image only"
COLOURS = (SIMILARITY, EMBEDDING, IMAGE)


class EmbeddingExplorer(WithPicture, ipywidgets.VBox):
    """Point at a voxel: every voxel is coloured by the cosine of its embedding with that of this one.

    The point is the crosshair at the left: click, drag, arrow keys. In the other patient the most similar voxel is
    marked, and its slices are shown. Without a browser: set `.point`, `.colours` or `.threshold`; read
        found: the most similar voxel (x, y, z) of the other patient, of equals the first in memory order.
        cosine: its cosine.
        similarity, other_similarity: (X, Y, Z), cosine of each voxel with the one pointed at.
        line.value: these in words.

    Args:
        volume: (X, Y, Z) or (1, X, Y, Z).
        embeddings: (D, X, Y, Z) on its grid, unit vectors, array or tensor of any floating type.
        other: volume of another patient; its grid may differ. None shows one patient.
        other_embeddings: of the other patient, with the same D.
        spacing_mm: mm per voxel along x, y, z. `other_spacing_mm`: of the other patient; None is the same.
        window: of both, as in `SliceCanvas`; None chooses for each.
        point: voxel to start with; None is the middle.
        colours: what lies over the images: "similarity"; "embedding", three principal components of the embeddings of
            both patients together as red, green and blue; "image only".
        threshold: cosine from 0.5 to 1; voxels at or above it are outlined and counted.
        names: of the two patients, above their pictures.
        title: a line above.
        planes, size: as in `SliceCanvas`.

    Raises:
        ValueError: shapes that do not agree, embeddings that are no unit vectors, one of `other` and its embeddings
            without the other.
    """

    colours = Setting("what lies over the images")
    threshold = Setting("the least cosine that is outlined and counted")

    def __init__(
        self,
        volume,
        embeddings,
        other=None,
        other_embeddings=None,
        *,
        spacing_mm: Sequence[float] | None = None,
        other_spacing_mm: Sequence[float] | None = None,
        window=None,
        point: Sequence[int] | None = None,
        colours: str = SIMILARITY,
        threshold: float = 0.9,
        names: Sequence[str] = ("this patient", "other patient"),
        title: str = "",
        planes: Sequence[str] | None = ("axial", "coronal"),
        size: int = 240,
    ):
        if (other is None) != (other_embeddings is None):
            raise ValueError("other and other_embeddings belong together: give both or neither.")
        look = {"window": window, "planes": planes, "size": size}
        here = SimilarityCanvas(volume, title=names[0], spacing_mm=spacing_mm, crosshair=point, **look)
        self.canvases = [here]
        self._embeddings = [unit_embeddings(embeddings, here.shape)]
        if other is not None:
            spacing = spacing_mm if other_spacing_mm is None else other_spacing_mm
            there = SimilarityCanvas(other, title=names[1], spacing_mm=spacing, **look)
            self.canvases.append(there)
            self._embeddings.append(unit_embeddings(other_embeddings, there.shape, "other_embeddings"))
            _check_channels(*self._embeddings)
        self.title = title
        self._colours: list[np.ndarray] | None = None  # made when they are first wanted
        self.controls = _controls()
        self.colours, self.threshold = colours, threshold
        self.line = ipywidgets.HTML(layout={"min_height": "58px"})  # two lines, so that pictures stay where they are
        self._measure()
        self._show_colours()
        here.observe(self._follow_point, names="crosshair")
        self.controls["colours"].observe(self._show_colours, names="value")
        self.controls["threshold"].observe(self._show_similarity, names="value")
        row = ipywidgets.HBox(list(self.controls.values()), layout={"flex_flow": "row wrap"})
        titles = [ipywidgets.HTML(f"<b>{escape(title)}</b>")] if title else []
        super().__init__(children=[*titles, row, self.line, beside(*self.canvases)])

    # ---- what Python and the reader both set, and what comes of it ----

    @property
    def point(self) -> tuple[int, int, int]:
        """Voxel (x, y, z) pointed at."""
        return self.canvases[0].crosshair

    @point.setter
    def point(self, voxel: Sequence[int]) -> None:
        self.canvases[0].crosshair = voxel

    @property
    def found(self) -> tuple[int, int, int] | None:
        """Most similar voxel of the other patient, None without one."""
        if len(self._maps) == 1:
            return None
        return tuple(int(v) for v in np.unravel_index(self._maps[1].argmax(), self._maps[1].shape))

    @property
    def cosine(self) -> float | None:
        """Cosine of the voxel pointed at with the one found."""
        return None if self.found is None else float(self._maps[1][self.found])

    @property
    def similarity(self) -> np.ndarray:
        """(X, Y, Z) cosine of each voxel with the one pointed at."""
        return self._maps[0]

    @property
    def other_similarity(self) -> np.ndarray | None:
        """(X, Y, Z) cosine of each voxel of the other patient with the one pointed at, None without one."""
        return self._maps[1] if len(self._maps) > 1 else None

    # ---- what follows what ----

    def _measure(self) -> None:
        from medssl_nb.methods.local_discrimination import similarity_map

        vector = self._embeddings[0][(0, slice(None), *self.point)]
        self._maps = [similarity_map(embeddings, vector)[0].numpy() for embeddings in self._embeddings]

    def _follow_point(self, change=None) -> None:
        self._measure()
        self._show_similarity()

    def _show_similarity(self, change=None) -> None:
        """Cosines, where they are wanted, and the voxel found."""
        for canvas, similarity in zip(self.canvases, self._maps, strict=True):
            with canvas.hold_sync():
                if self.colours == SIMILARITY:
                    canvas.show_cosine(similarity, self.threshold)
                if canvas is not self.canvases[0]:
                    canvas.set_marks({"most alike": self.found})
                    canvas.crosshair = self.found
        self.line.value = escape(self._words())

    def _show_colours(self, change=None) -> None:
        if self.colours == EMBEDDING and self._colours is None:
            self._colours = embedding_colours(self._embeddings)
        for number, canvas in enumerate(self.canvases):
            with canvas.hold_sync():
                canvas.set_colours(self._colours[number] if self.colours == EMBEDDING else None)
                canvas.show_cosine(None)
        self._show_similarity()

    # ---- words and the picture ----

    def _words(self) -> str:
        where = f"voxel {voxel_text(self.point)}"
        shares = [_percent((one >= self.threshold).mean()) for one in self._maps]
        counted = f"cosine ≥ {self.threshold:.2f}: {shares[0]} of voxels"
        if self.found is None:
            return f"{where}; {counted}"
        best = f"most alike in the other patient at {voxel_text(self.found)}, cosine {self.cosine:.2f}"
        return f"{where}: {best.replace('-', '−')}; {counted} here, {shares[1]} there"

    def _static_png(self) -> bytes:
        first, *rest = self.canvases
        return join_pngs([first.picture(self.title, unescape(self.line.value)), *(canvas.picture() for canvas in rest)])


def _controls() -> dict:
    look = {"style": {"description_width": "7em"}, "layout": {"width": "26em", "max_width": "100%"}}
    return {
        "colours": ipywidgets.Dropdown(options=COLOURS, description="colours", **look),
        "threshold": ipywidgets.FloatSlider(0.9, min=0.5, max=1, step=0.01, description="threshold", **look),
    }


def _check_channels(first, second) -> None:
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"embeddings of both patients need the same number of channels, got {first.shape[1]} and {second.shape[1]};"
            " they must come from one network."
        )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.0995 else f"{100 * share:.0f} %"
