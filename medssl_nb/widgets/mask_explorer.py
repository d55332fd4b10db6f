"""Which patches are hidden? The masks of adaptive masking beside random ones."""

import ipywidgets
import numpy as np

from medssl_nb.viz.patches import PatchStyle
from medssl_nb.widgets.patch_canvas import TRUTH_KEY, PatchCanvas
from medssl_nb.widgets.picture import WithPicture

STRATEGIES = ("random", "lesions first", "share")
MASK_STYLES = {
    1: PatchStyle("hidden, called lesion", "#ff2a88"),
    2: PatchStyle("hidden, other", "#004afa"),
    3: PatchStyle("visible, called lesion", "#c1e608"),
}
_LARGEST_SEED = 2**31 - 1


class MaskExplorer(WithPicture, ipywidgets.VBox):
    """Choose how many patches are hidden and which come first; see where the mask falls.

    Without a browser: set `.strategy.value`, `.ratio.value`, `.share.value`, `.seed.value` or `.network_view.value`,
    read `.mask` and `.line.value`.

    >>> explorer = MaskExplorer(volume, lesion, 4, truth=truth, valid=tissue)
    >>> explorer.ratio.value = 0.3
    >>> explorer.mask.sum()

    Args:
        volume: (X, Y, Z) or (1, X, Y, Z).
        lesion: (N,) bool, patches that the clustering calls lesion.
        patch_size: side of a patch in voxels, one number or one per axis.
        truth: voxel mask of true lesion, outlined and counted.
        valid: (N,) bool, patches that may be hidden; None is all.
        ratio: hidden share of the valid patches, 0.05 to 0.95.
        lesion_share: share of the hidden patches that is kept for lesion ones, used by the strategy "share".
        seed: of the random choice.
        strategy: "random" (a lesion share of 0), "lesions first" (1) or "share" (that of the slider).
        title: a line above.
        spacing_mm, window, planes, size: as in `SliceCanvas`.

    Raises:
        ValueError: what cannot be drawn, shapes that do not agree, values outside their range.
    """

    def __init__(
        self,
        volume,
        lesion,
        patch_size,
        *,
        truth=None,
        valid=None,
        ratio: float = 0.5,
        lesion_share: float = 1.0,
        seed: int = 0,
        strategy: str = "lesions first",
        title: str = "",
        spacing_mm=None,
        window=None,
        planes=None,
        size: int = 300,
    ):
        _check_choices(ratio, lesion_share, seed, strategy)
        look = {"spacing_mm": spacing_mm, "window": window, "planes": planes, "size": size, "title": title}
        self.canvas = PatchCanvas(volume, patch_size, truth=truth, controls=("slices", "labels"), **look)
        self.lesion = self.canvas.flags(lesion, "lesion")
        self.valid = np.ones_like(self.lesion) if valid is None else self.canvas.flags(valid, "valid")
        if truth is None:
            self.canvas.go_inside(self.canvas.voxels_of(self.lesion))
        wide, long = {"description_width": "8em"}, {"width": "28em", "max_width": "100%"}
        self.strategy = ipywidgets.Dropdown(options=STRATEGIES, value=strategy, description="strategy", style=wide)
        self.ratio = ipywidgets.FloatSlider(
            ratio,
            min=0.05,
            max=0.95,
            step=0.05,
            description="hidden share",
            readout_format=".0%",
            style=wide,
            layout=long,
        )
        self.share = ipywidgets.FloatSlider(
            lesion_share,
            min=0,
            max=1,
            step=0.1,
            description="lesion share",
            readout_format=".0%",
            style=wide,
            layout=long,
        )
        self.seed = ipywidgets.BoundedIntText(seed, min=0, max=_LARGEST_SEED, description="seed", style=wide)
        self.redraw = ipywidgets.Button(description="draw again", tooltip="the next seed")
        self.network_view = ipywidgets.Checkbox(False, description="show what the network sees", indent=False)
        self.line = ipywidgets.HTML()
        for control in (self.strategy, self.ratio, self.share, self.seed, self.network_view):
            control.observe(self._update, names="value")
        self.redraw.on_click(self._next_seed)
        self._update()
        key = [] if truth is None else [ipywidgets.HTML(TRUTH_KEY)]
        controls = ipywidgets.VBox(
            [
                ipywidgets.HBox([self.strategy, self.seed, self.redraw], layout={"flex_flow": "row wrap"}),
                ipywidgets.HBox([self.ratio, self.share, self.network_view], layout={"flex_flow": "row wrap"}),
            ]
        )
        super().__init__(children=[controls, self.line, self.canvas, *key])

    @property
    def lesion_share(self) -> float:
        """The lesion share that the strategy stands for."""
        return {"random": 0.0, "lesions first": 1.0, "share": self.share.value}[self.strategy.value]

    def _update(self, change=None) -> None:
        own = self.strategy.value == "share"
        self.share.disabled, self.share.layout.visibility = not own, "visible" if own else "hidden"
        self.mask = self._draw_mask()
        hidden = self.mask.numpy()
        codes = np.select([hidden & self.lesion, hidden, self.lesion], [1, 2, 3], 0).astype(np.uint8)
        with self.canvas.hold_sync():
            seen = self.network_view.value
            self.canvas.show_volume(self.canvas.without(hidden) if seen else self.canvas.original)
            self.canvas.label_style = "outline" if seen else "both"
            self.canvas.paint(codes, MASK_STYLES)
        self.line.value = self._counts(hidden)

    def _draw_mask(self):
        import torch

        from medssl_nb.methods.adaptive_masking import select_masked_patches

        lesion, valid = torch.tensor(self.lesion)[None], torch.tensor(self.valid)[None]
        generator = torch.Generator().manual_seed(self.seed.value)
        share = self.lesion_share
        return select_masked_patches(lesion, self.ratio.value, lesion_share=share, valid=valid, generator=generator)[0]

    def _next_seed(self, button=None) -> None:
        self.seed.value = (self.seed.value + 1) % (_LARGEST_SEED + 1)

    def _counts(self, hidden: np.ndarray) -> str:
        kinds = {"called lesion": self.lesion, "truly lesion": self.canvas.true_patches}
        counts = [f"hidden {hidden.sum()} of {self.valid.sum()}"]
        for name, kind in kinds.items():
            if kind is not None:
                counts.append(f"{name}: {(hidden & kind).sum()} of {kind.sum()} hidden")
        return " · ".join(counts)

    def _static_png(self) -> bytes:
        return self.canvas.picture(self.line.value)


def _check_choices(ratio, lesion_share, seed, strategy) -> None:
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy is one of {', '.join(map(repr, STRATEGIES))}, got {strategy!r}.")
    if not 0.05 <= ratio <= 0.95:
        raise ValueError(f"ratio is the hidden share, 0.05 to 0.95 on this slider, got {ratio}; 75 % is 0.75.")
    if not 0 <= lesion_share <= 1:
        raise ValueError(
            f"lesion_share is the share of hidden patches kept for lesion ones, 0 to 1, got {lesion_share}."
        )
    if not 0 <= seed <= _LARGEST_SEED or seed != int(seed):
        raise ValueError(f"seed is a whole number from 0 to {_LARGEST_SEED}, got {seed}.")
