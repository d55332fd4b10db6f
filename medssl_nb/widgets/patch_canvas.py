"""A slice canvas that knows patches: what the explorers of patches have in common."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from medssl_nb.viz.arrays import as_labels
from medssl_nb.viz.colours import CONTOUR_COLOUR
from medssl_nb.viz.layers import Overlay
from medssl_nb.viz.patches import PatchStyle, patch_at, patch_centre, patch_map, patch_share, patch_values
from medssl_nb.widgets.browser_state import contour_state
from medssl_nb.widgets.packing import inner_voxels
from medssl_nb.widgets.slice_canvas import SliceCanvas

TRUE_SHARE = 0.1  # a patch is truly lesion if more of it than this is marked
TRUTH_KEY = "Cyan line: true lesion. A patch is truly lesion where more than 10 % of it is marked."
TRUTH = PatchStyle("true lesion", CONTOUR_COLOUR)
_MARKED_COLOUR = "#ff2a88"
_LINE = 110  # letters above a picture


class PatchCanvas(SliceCanvas):
    """Planes of one volume, with values of its patches laid over it.

    Args:
        volume: (X, Y, Z) or (1, X, Y, Z).
        patch_size: side of a patch in voxels, one number or one per axis; sides are multiples of it.
        truth: voxel mask of true lesion, outlined; `true_patches` (N,) are those with more than 10 % of it.
        **options: as in `SliceCanvas`, without labels and contour.

    Raises:
        ValueError: as `SliceCanvas`; sides that are no multiples of the patch's.
    """

    def __init__(self, volume, patch_size: int | Sequence[int], *, truth=None, **options):
        from medssl_nb.networks.patches import patch_grid, per_axis

        self._label_styles: dict[int, PatchStyle] = {}
        self.concealed: set[int] = set()  # codes that are in the legend but not drawn
        self._contour_styles: dict[int, PatchStyle] = {}
        super().__init__(volume, **options)
        self.patch_size = per_axis(patch_size, 3)
        self.grid_size = patch_grid(self.shape, self.patch_size)
        self.num_patches = math.prod(self.grid_size)
        self.original = self._volume
        self.truth = None if truth is None else as_labels(truth, self._volume, "truth") > 0
        self.true_patches = None if truth is None else patch_share(self.truth, self.patch_size) > TRUE_SHARE
        self.mark(-1)
        if truth is not None:
            self.go_inside(self.truth)

    # ---- checks of what comes patch by patch ----

    def flags(self, values, name: str) -> np.ndarray:
        """(N,) bool of a mask of patches."""
        array = patch_values(values, self.num_patches, name)
        if array.dtype != bool:
            raise ValueError(f"{name} says True or False of each patch, got {array.dtype}; compare first: {name} > 0.")
        return array

    # ---- places ----

    def patch_at(self, voxel: Sequence[int]) -> int:
        """Number of the patch that a voxel lies in."""
        return patch_at(voxel, self.grid_size, self.patch_size)

    def centre_of(self, patch: int) -> tuple[int, ...]:
        """Voxel in the middle of a patch."""
        return patch_centre(patch, self.grid_size, self.patch_size)

    def voxels_of(self, values) -> np.ndarray:
        """Values (N,) laid on the voxels."""
        return patch_map(values, self.grid_size, self.patch_size)

    def go_inside(self, voxels: np.ndarray) -> None:
        """Move the crosshair well inside what is marked (X, Y, Z), if anything is."""
        if voxels.any():
            self.crosshair = inner_voxels(voxels.astype(np.uint8), 1)[0]

    # ---- layers ----

    def paint(self, codes: np.ndarray, styles: Mapping[int, PatchStyle]) -> None:
        """Colour patches: code (N,) -> style, 0 is left alone. What is hidden in the legend stays hidden."""
        known = {row["id"] for row in self.label_table}
        self.concealed = (self.concealed - known) | (known - set(self.visible_labels))
        label = self.voxels_of(codes) if np.any(codes) else None
        state = self._load_label(label, {code: style.name for code, style in styles.items()})
        self._label_styles = dict(styles)
        for row in state["label_table"]:
            row["colour"] = styles[row["id"]].colour
        state["visible_labels"] = tuple(i for i in state["visible_labels"] if i not in self.concealed)
        self._take_over(state)

    def heat_patches(self, values: np.ndarray | None, **options) -> None:
        """Heat from one score per patch (N,), NaN where there is none; None takes it away. Options: see `set_heat`."""
        self.set_heat(None if values is None else self.voxels_of(values), **options)

    def mark(self, patch: int) -> None:
        """Outline one patch, -1 for none, beside the true lesion."""
        contour = np.zeros(self.shape, np.uint8) if self.truth is None else self.truth.astype(np.uint8)
        styles = {1: TRUTH}
        if patch >= 0:
            inside = self.voxels_of(np.arange(self.num_patches) == patch)
            contour[inside] = 2  # one number a voxel: inside the patch the line of the lesion gives way
            styles[2] = PatchStyle(f"patch {patch}", _MARKED_COLOUR)
        self._contour_styles = styles
        self._contour = contour if contour.any() else None
        state = contour_state(self._contour, {code: style.name for code, style in styles.items()})
        for row in state["contour_table"]:
            row["name"], row["colour"] = styles[row["id"]]
        self._take_over(state)

    def show_volume(self, volume: np.ndarray) -> None:
        """Show other voxels of the same grid under the same window."""
        if volume is not self._volume:
            affine = np.reshape(self.affine, (4, 4)) if self.affine else None
            self.set_volume(volume, affine=affine, window=self.window, unit=self.unit)

    def without(self, mask: np.ndarray) -> np.ndarray:
        """The volume with the voxels of masked patches (N,) in flat grey: what a network gets to see."""
        return np.where(self.voxels_of(mask), np.float32(sum(self.window) / 2), self.original)

    # ---- the picture ----

    def picture(self, title: str | None = None) -> bytes:
        """PNG of what is shown, with a line above; the same state gives the same bytes."""
        from medssl_nb.viz.slices import layers_png

        layers = self._layers()
        styles = [self._label_styles] * (self._label is not None) + [self._contour_styles] * (self._contour is not None)
        overlays = tuple(_styled(*pair) for pair in zip(layers.overlays, styles, strict=True))
        lines = [self.title] * (self.title != "") + textwrap.wrap(title or "", _LINE)
        layers = replace(layers, overlays=overlays)
        return layers_png(layers, self.crosshair, planes=self.planes, title="\n".join(lines) or None)

    def _static_png(self) -> bytes:
        return self.picture()


def _styled(overlay: Overlay, styles: Mapping[int, PatchStyle]) -> Overlay:
    names = {i: styles[i].name for i in overlay.names}
    return replace(overlay, names=names, colours={i: styles[i].colour for i in overlay.names})
