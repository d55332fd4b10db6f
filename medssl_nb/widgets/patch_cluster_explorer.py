"""Which patches lie together, and where? Clusters in feature space and on the slices, each pointing into the other."""

from collections.abc import Sequence
from html import escape, unescape

import ipywidgets
import numpy as np

from medssl_nb.viz.patches import PatchStyle, cluster_styles, join_pngs, patch_values
from medssl_nb.widgets.patch_canvas import PatchCanvas
from medssl_nb.widgets.patch_scatter import MOST_CLUSTERS, PatchScatter
from medssl_nb.widgets.picture import WithPicture

_TRUTH_KEY = "Cyan line and rings: true lesion. A patch is truly lesion where more than 10 % of it is marked."


class PatchClusterExplorer(WithPicture, ipywidgets.VBox):
    """Patches as points in feature space and as boxes in the volume, coloured by cluster.

    A click on a point (or an arrow key there) outlines that patch on the slices and moves the crosshair into it; moving
    the crosshair on the slices marks the point of the patch under it.
    Without a browser: set `.selected` (a patch, -1 for none) or `.canvas.crosshair`, `.x_axis.value`, `.y_axis.value`;
    read `.selected` and `.line.value`.

    Args:
        volume: (X, Y, Z) or (1, X, Y, Z).
        features: (N, F) or (1, N, F) of the patches.
        labels: (N,) cluster of each patch from 0; -1 took no part and is not drawn.
        patch_size: side of a patch in voxels, one number or one per axis.
        feature_names: F names. With one feature, patches stand above each other by their number.
        lesion: (N,) bool, the patches of the cluster called lesion; that cluster is named and drawn as squares.
        truth: voxel mask of true lesion, outlined; patches with more than 10 % of it get a ring.
        centroids: (K, F), where the number of each cluster is written; None is the mean of its points.
        selected: patch to start with.
        title: a line above.
        spacing_mm, window, planes, size: as in `SliceCanvas`.

    Raises:
        ValueError: what cannot be drawn, shapes that do not agree, `lesion` that is not made of whole clusters.
    """

    def __init__(
        self,
        volume,
        features,
        labels,
        patch_size,
        *,
        feature_names: Sequence[str] = ("mean", "standard deviation"),
        lesion=None,
        truth=None,
        centroids=None,
        selected: int = -1,
        title: str = "",
        spacing_mm=None,
        window=None,
        planes: Sequence[str] | None = ("axial", "coronal"),
        size: int = 300,
    ):
        look = {"spacing_mm": spacing_mm, "window": window, "planes": planes, "size": size, "title": title}
        self.canvas = PatchCanvas(volume, patch_size, truth=truth, controls=("slices", "labels"), **look)
        count = self.canvas.num_patches
        self.features = _feature_table(features, count, feature_names)
        self.labels = _cluster_numbers(labels, count)
        clusters = int(self.labels.max()) + 1
        self.centroids = None if centroids is None else _centroid_table(centroids, clusters, self.features.shape[1])
        self.lesion = None if lesion is None else self.canvas.flags(lesion, "lesion")
        called = _lesion_clusters(self.labels, self.lesion)
        styles = cluster_styles(clusters, called)
        self.feature_names = [str(name) for name in feature_names]

        self.scatter = PatchScatter(
            *(self._points(0, min(1, len(self.feature_names) - 1)), self.labels, styles),
            squares=called,
            ringed=self.canvas.true_patches,
            layout={"flex": "0 1 400px", "min_width": "260px"},
        )
        self.canvas.layout = {"flex": "1 1 420px", "min_width": "0"}
        self.canvas.paint(self.labels + 1, _shifted(styles))
        self.x_axis, self.y_axis = (self._axis_choice(k) for k in (0, 1))
        self._show_features()
        self.line = ipywidgets.HTML(self._words())

        self._pointing = False
        self.scatter.observe(self._go_to_selected, names="selected")
        self.canvas.observe(self._select_under_crosshair, names="crosshair")
        for axis in (self.x_axis, self.y_axis):
            axis.observe(self._show_features, names="value")
        self.scatter.selected = selected
        axes = (
            [ipywidgets.HBox([self.x_axis, self.y_axis], layout={"flex_flow": "row wrap"})]
            if len(self.feature_names) > 2
            else []
        )
        both = ipywidgets.HBox(
            [self.scatter, self.canvas], layout={"flex_flow": "row wrap", "align_items": "flex-start"}
        )
        key = [] if truth is None else [ipywidgets.HTML(_TRUTH_KEY)]
        super().__init__(children=[*axes, self.line, both, *key])

    @property
    def selected(self) -> int:
        """Number of the patch that is chosen, -1 for none."""
        return self.scatter.selected

    @selected.setter
    def selected(self, patch: int) -> None:
        self.scatter.selected = patch

    # ---- what follows what ----

    def _go_to_selected(self, change=None) -> None:
        patch = self.scatter.selected
        with self.canvas.hold_sync():
            self.canvas.mark(patch)
            if patch >= 0 and not self._pointing:
                self.canvas.crosshair = self.canvas.centre_of(patch)

    def _select_under_crosshair(self, change=None) -> None:
        self._pointing = True  # the crosshair stays where the reader has put it
        try:
            self.scatter.selected = self.canvas.patch_at(self.canvas.crosshair)
        finally:
            self._pointing = False

    def _axis_choice(self, number: int) -> ipywidgets.Dropdown:
        options = [(name, k) for k, name in enumerate(self.feature_names)]
        return ipywidgets.Dropdown(options=options, value=min(number, len(options) - 1), description="xy"[number])

    def _show_features(self, change=None) -> None:
        x, y = self.x_axis.value, self.y_axis.value
        one = len(self.feature_names) == 1
        centres = None if self.centroids is None or one else self.centroids[:, [x, y]]
        names = [self.feature_names[x], "number of the patch" if one else self.feature_names[y]]
        self.scatter.set_points(self._points(x, y), centres, names)

    def _points(self, x: int, y: int) -> np.ndarray:
        if self.features.shape[1] == 1:
            return np.column_stack([self.features[:, 0], np.arange(len(self.features))])
        return self.features[:, [x, y]]

    # ---- words ----

    def _words(self) -> str:
        clustered, true = self.labels >= 0, self.canvas.true_patches
        words = [f"{clustered.sum()} of {len(self.labels)} patches clustered"]
        if self.lesion is not None:
            words.append(f"called lesion: {self.lesion.sum()}")
        if self.lesion is not None and true is not None:
            words.append(_agreement(self.lesion, true, clustered))
        elif true is not None:
            words.append(f"truly lesion: {(true & clustered).sum()}")
        if true is not None and (missed := (true & ~clustered).sum()):
            words.append(f"{missed} truly lesion, not clustered")
        return escape(" · ".join(words))

    def _static_png(self) -> bytes:
        return join_pngs([self.scatter._static_png(), self.canvas.picture(unescape(self.line.value))], beside=True)


def _agreement(lesion: np.ndarray, true: np.ndarray, clustered: np.ndarray) -> str:
    """Precision, recall and lift (precision over the share of lesion among all) of the clustered patches."""
    found, total = (lesion & true).sum(), (true & clustered).sum()
    if total == 0 or not lesion.any():
        return f"truly lesion: {total}"
    precision, recall = found / lesion.sum(), found / total
    lift = precision / (total / clustered.sum())
    return (
        f"truly lesion: {total}, {found} of them found: precision {precision:.2f}, recall {recall:.2f}, lift {lift:.1f}"
    )


def _feature_table(features, count: int, names: Sequence[str]) -> np.ndarray:
    table = np.asarray(features.detach().cpu().double() if hasattr(features, "detach") else features, np.float64)
    table = table[0] if table.ndim == 3 and len(table) == 1 else table
    if table.ndim != 2 or len(table) != count or table.shape[1] == 0:
        raise ValueError(f"features are (N, F) with one row for each of {count} patches, got shape {table.shape}.")
    if not np.isfinite(table).all():
        raise ValueError("features hold NaN or infinity, which have no place in the scatter.")
    if len(names) != table.shape[1]:
        raise ValueError(f"feature_names needs one name for each of {table.shape[1]} features, got {list(names)}.")
    return table


def _cluster_numbers(labels, count: int) -> np.ndarray:
    numbers = patch_values(labels, count, "labels")
    if numbers.dtype.kind not in "iu" or numbers.min() < -1 or not -1 < numbers.max() < MOST_CLUSTERS:
        raise ValueError(
            f"labels are cluster numbers from 0 to {MOST_CLUSTERS - 1}, -1 where a patch took no part, and not -1 "
            f"everywhere; got {numbers.dtype} from {numbers.min()} to {numbers.max()}."
        )
    return numbers.astype(np.int64)


def _centroid_table(centroids, clusters: int, features: int) -> np.ndarray:
    table = np.asarray(centroids.detach().cpu().double() if hasattr(centroids, "detach") else centroids, np.float64)
    table = table[0] if table.ndim == 3 and len(table) == 1 else table
    if table.ndim != 2 or len(table) < clusters or table.shape[1] != features:
        raise ValueError(f"centroids are (K, F) with K >= {clusters} and F = {features}, got shape {table.shape}.")
    return table[:clusters]


def _lesion_clusters(labels: np.ndarray, lesion: np.ndarray | None) -> list[int]:
    """Clusters all of whose patches are called lesion."""
    if lesion is None or not lesion.any():
        return []
    called = [int(k) for k in np.unique(labels[lesion])]
    if -1 in called or not lesion[np.isin(labels, called)].all():
        raise ValueError(
            "lesion must be made of whole clusters, since it names a cluster: take lesion_category(labels) of the same "
            "labels."
        )
    return called


def _shifted(styles: dict[int, PatchStyle]) -> dict[int, PatchStyle]:
    """Cluster 0 is label 1 of the label map, where 0 is background."""
    return {k + 1: style for k, style in styles.items()}
