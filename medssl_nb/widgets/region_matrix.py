"""Cosines of regions in the browser: a cell is chosen by a click, by arrow keys or from Python."""

from collections.abc import Sequence
from pathlib import Path

import anywidget
import numpy as np
import traitlets

from medssl_nb.viz.clusters import cluster_colours
from medssl_nb.viz.colours import heat_palette
from medssl_nb.viz.regions import as_cosines, checked_pair, cosine_codes, nearest_columns, region_matrix_png
from medssl_nb.widgets.picture import WithPicture
from medssl_nb.widgets.scripts import script
from medssl_nb.widgets.slice_canvas import Checked


class RegionMatrix(WithPicture, anywidget.AnyWidget):
    """How alike the clusters of two images are, with a dot on the nearest of each row.

    `RegionExplorer` joins it with controls and slices.

    Traits, kept in step with the browser:
        cell: (row, column) that is chosen, () for none.

    Args:
        cosines: (K, K), K from 2 to 40.
        nearest: (K,) column of the dot in each row, -1 for none; None takes the largest cosine of each row.
        names: of rows and columns.
        cell: to start with.
    """

    _esm = script("elements.js", "cell_matrix.js", "region_matrix.js")
    _css = Path(__file__).with_name("matrix_canvas.css")

    cosine_bytes = traitlets.Bytes(b"").tag(sync=True)  # float32 (K, K), row by row
    code_bytes = traitlets.Bytes(b"").tag(sync=True)  # uint8 (K, K), number of the colour
    palette = traitlets.Bytes(b"").tag(sync=True)  # uint8 (256, 3)
    colours = traitlets.List(traitlets.Unicode()).tag(sync=True)  # of the clusters
    nearest = traitlets.List(traitlets.Int()).tag(sync=True)
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    cell = Checked(()).tag(sync=True)

    def __init__(self, cosines, *, nearest=None, names: Sequence[str] = ("rows", "columns"), cell=None, **traits):
        state = self._load(cosines, nearest, names)
        colours = list(cluster_colours(len(self.cosines)))
        super().__init__(**state, palette=heat_palette("difference").tobytes(), colours=colours, **traits)
        self.cell = cell

    def set_cosines(self, cosines, nearest=None, names: Sequence[str] = ("rows", "columns")) -> None:
        """Show another matrix of as many clusters."""
        if len(as_cosines(cosines)) != len(self.cosines):
            raise ValueError(
                f"this matrix shows {len(self.cosines)} clusters, got one of {len(cosines)}; make another RegionMatrix."
            )
        with self.hold_sync():
            for name, value in self._load(cosines, nearest, names).items():
                setattr(self, name, value)

    def _load(self, cosines, nearest, names: Sequence[str]) -> dict:
        self.cosines = as_cosines(cosines)
        nearest = nearest_columns(self.cosines) if nearest is None else nearest
        return {
            "cosine_bytes": self.cosines.astype(np.float32).tobytes(),
            "code_bytes": cosine_codes(self.cosines).tobytes(),
            "nearest": [int(column) for column in nearest],
            "names": list(names),
        }

    @traitlets.validate("cell")
    def _check_cell(self, proposal):
        return checked_pair(proposal["value"], len(self.cosines)) or ()

    def picture(self, title: str | None = None) -> bytes:
        """PNG of what is shown, with lines above; the same state gives the same bytes."""
        rows, columns = self.names
        names = {"row_name": rows, "column_name": columns}
        return region_matrix_png(self.cosines, nearest=self.nearest, cell=self.cell, title=title, **names)

    def _static_png(self) -> bytes:
        return self.picture()
