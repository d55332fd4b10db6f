"""A scatter of patches in the browser: a point for each, chosen by a click, by arrow keys or from Python."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import anywidget
import numpy as np
import traitlets

from medssl_nb.viz.patches import PatchStyle, cluster_centres, patch_scatter_png
from medssl_nb.widgets.picture import WithPicture
from medssl_nb.widgets.scripts import script

_NOT_SHOWN = 255
MOST_CLUSTERS = 255


class PatchScatter(WithPicture, anywidget.AnyWidget):
    """Patches in the plane of two features, coloured by cluster. `PatchClusterExplorer` joins it with the slices.

    Traits, kept in step with the browser:
        selected: number of the patch that is chosen, -1 for none.

    Args:
        points: (N, 2) features.
        labels: (N,) cluster of each patch from 0; -1 is not drawn.
        styles: {cluster: PatchStyle}.
        squares: clusters drawn as squares.
        ringed: (N,) bool, patches with a ring around their point.
        centres: (K, 2), where the number of each cluster is written; None is the mean of its points.
        names: of the two features.
        selected: patch to start with.
    """

    _esm = script("elements.js", "patch_scatter.js")
    _css = Path(__file__).with_name("patch_scatter.css")

    points_bytes = traitlets.Bytes(b"").tag(sync=True)  # float32 x, y of patch 0, of patch 1, ...
    label_bytes = traitlets.Bytes(b"").tag(sync=True)  # uint8, 255 is not shown
    ring_bytes = traitlets.Bytes(b"").tag(sync=True)  # uint8, 1 has a ring
    clusters = traitlets.List().tag(sync=True)  # of cluster 0, 1, ...: {name, colour, square, centre: [x, y] or null}
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True)

    def __init__(
        self,
        points: np.ndarray,
        labels: np.ndarray,
        styles: Mapping[int, PatchStyle],
        *,
        squares: Sequence[int] = (),
        ringed: np.ndarray | None = None,
        centres: np.ndarray | None = None,
        names: Sequence[str] = ("x", "y"),
        selected: int = -1,
        **traits,
    ):
        if len(styles) > MOST_CLUSTERS:
            raise ValueError(f"{len(styles)} clusters are too many to tell apart; at most {MOST_CLUSTERS} are drawn.")
        self._labels, self._styles, self._squares = np.asarray(labels), dict(styles), tuple(squares)
        self._ringed = np.zeros(len(self._labels), bool) if ringed is None else np.asarray(ringed, bool)
        codes = np.where(self._labels < 0, _NOT_SHOWN, self._labels).astype(np.uint8)
        state = {"label_bytes": codes.tobytes(), "ring_bytes": self._ringed.astype(np.uint8).tobytes()}
        state |= self._load_points(points, centres, names)
        super().__init__(**{**state, **traits})
        self.selected = selected

    def set_points(self, points: np.ndarray, centres: np.ndarray | None, names: Sequence[str]) -> None:
        """Show two other features of the same patches."""
        with self.hold_sync():
            for name, value in self._load_points(points, centres, names).items():
                setattr(self, name, value)

    def _load_points(self, points, centres, names) -> dict:
        self._points = np.asarray(points, np.float32)
        if centres is None:
            centres = cluster_centres(self._points, self._labels, len(self._styles))
        self._centres = np.asarray(centres, float)
        rows = [
            {
                "name": style.name,
                "colour": style.colour,
                "square": k in self._squares,
                "centre": self._centres[k].tolist() if np.isfinite(self._centres[k]).all() else None,
            }
            for k, style in self._styles.items()
        ]
        return {"points_bytes": self._points.tobytes(), "clusters": rows, "names": list(names)}

    @traitlets.validate("selected")
    def _check_selected(self, proposal):
        if not -1 <= proposal["value"] < len(self._labels):
            raise ValueError(
                f"selected is the number of a patch, 0 to {len(self._labels) - 1}, or -1 for none; "
                f"got {proposal['value']}."
            )
        return proposal["value"]

    def _static_png(self) -> bytes:
        return patch_scatter_png(
            self._points,
            self._labels,
            styles=self._styles,
            squares=self._squares,
            ringed=self._ringed,
            centres=self._centres,
            names=self.names,
            selected=self.selected,
        )
