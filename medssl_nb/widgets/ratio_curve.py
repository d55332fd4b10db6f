"""When does the lesion vanish? The rising masking ratio of adaptive masking, epoch by epoch."""

import math

import ipywidgets
import numpy as np

from medssl_nb.viz.patches import join_pngs, ratio_curve_png
from medssl_nb.widgets.mask_explorer import MASK_STYLES
from medssl_nb.widgets.patch_canvas import TRUTH_KEY, PatchCanvas
from medssl_nb.widgets.picture import WithPicture

SCHEDULES = ("linear", "cosine", "geometric")


class RatioCurve(WithPicture, ipywidgets.VBox):
    """Move through training on the curve of the masking ratio; see when all patches called lesion are hidden.

    Lesion patches are hidden first. With a volume the mask of the epoch is drawn on it; the random choice is the same
    in every epoch, so that masks grow with the ratio.
    Without a browser: set `.schedule.value` and `.epoch.value`, read `.line.value`, `.hidden` and `.mask`.

    Args:
        epochs: how many there are, at least 1; the first is epoch 0.
        start, end: ratio of the first and the last epoch, above 0 and below 1.
        schedule: "linear", "cosine" or "geometric".
        epoch: where to start.
        lesion_patches: how many patches are called lesion; None counts `lesion` (where `valid`).
        valid_patches: how many patches may be hidden; None counts `valid`, or all patches of the volume.
        volume: (X, Y, Z) or (1, X, Y, Z), to see the mask on; needs `lesion` and `patch_size`.
        lesion, valid: (N,) bool, patches called lesion, and patches that may be hidden.
        patch_size: side of a patch in voxels, one number or one per axis.
        truth: voxel mask of true lesion, outlined.
        seed: of the random choice.
        title: above the curve.
        spacing_mm, window, planes, size: as in `SliceCanvas`.

    Raises:
        ValueError: ranges, or counts that are missing or contradict the masks.
    """

    def __init__(
        self,
        epochs: int,
        *,
        start: float = 0.25,
        end: float = 0.75,
        schedule: str = "linear",
        epoch: int = 0,
        lesion_patches: int | None = None,
        valid_patches: int | None = None,
        volume=None,
        lesion=None,
        valid=None,
        patch_size=None,
        truth=None,
        seed: int = 0,
        title: str | None = None,
        spacing_mm=None,
        window=None,
        planes=None,
        size: int = 300,
    ):
        if schedule not in SCHEDULES:
            raise ValueError(f"schedule is one of {', '.join(map(repr, SCHEDULES))}, got {schedule!r}.")
        if epochs < 1 or not 0 <= epoch < epochs:
            raise ValueError(f"epochs is at least 1 and epoch from 0 to epochs - 1, got {epochs} and {epoch}.")
        self.canvas = None
        if volume is not None:
            if lesion is None or patch_size is None:
                raise ValueError("a mask on the volume needs lesion=(N,) bool and patch_size; give them, or no volume.")
            look = {"spacing_mm": spacing_mm, "window": window, "planes": planes, "size": size}
            self.canvas = PatchCanvas(volume, patch_size, truth=truth, controls=("slices", "labels"), **look)
            self._take_masks(lesion, valid, seed)
            if truth is None:
                self.canvas.go_inside(self.canvas.voxels_of(self.lesion))
            lesion_patches = _agreeing(lesion_patches, int((self.lesion & self.valid).sum()), "lesion_patches")
            valid_patches = _agreeing(valid_patches, int(self.valid.sum()), "valid_patches")
        self.lesion_patches, self.valid_patches = _checked_counts(lesion_patches, valid_patches)
        self.epochs, self.start, self.end, self.title = epochs, start, end, title
        self.ratios = {name: self._ratios(name) for name in SCHEDULES}  # refuses wrong ends

        wide = {"description_width": "8em"}
        self.schedule = ipywidgets.Dropdown(options=SCHEDULES, value=schedule, description="schedule", style=wide)
        self.epoch = ipywidgets.IntSlider(
            epoch,
            min=0,
            max=max(epochs - 1, 0),
            description="epoch",
            style=wide,
            layout={"width": "30em", "max_width": "100%"},
        )
        self.line = ipywidgets.HTML()
        self.image = ipywidgets.Image(
            format="png", layout={"max_width": "calc(100% - 4px)", "align_self": "flex-start"}
        )
        for control in (self.schedule, self.epoch):
            control.observe(self._update, names="value")
        self._update()
        controls = ipywidgets.HBox([self.schedule, self.epoch], layout={"flex_flow": "row wrap"})
        key = [] if truth is None else [ipywidgets.HTML(TRUTH_KEY)]
        below = [] if self.canvas is None else [self.canvas, *key]
        super().__init__(children=[controls, self.line, self.image, *below])

    @property
    def ratio(self) -> float:
        """Masking ratio of the epoch."""
        return self.ratios[self.schedule.value][self.epoch.value]

    @property
    def hidden(self) -> int:
        """Number of patches hidden in the epoch."""
        return hidden_patches(self.ratio, self.valid_patches)

    @property
    def mask(self):
        """(N,) bool tensor, the patches hidden in the epoch; needs the widget to have a volume."""
        if self.canvas is None:
            raise ValueError("there is no mask without a volume: RatioCurve(..., volume=, lesion=, patch_size=).")
        import torch

        from medssl_nb.methods.adaptive_masking import select_masked_patches

        lesion, valid = torch.tensor(self.lesion)[None], torch.tensor(self.valid)[None]
        return select_masked_patches(lesion, self.ratio, valid=valid, noise=self._noise)[0]

    def _take_masks(self, lesion, valid, seed: int) -> None:
        import torch

        self.lesion = self.canvas.flags(lesion, "lesion")
        self.valid = np.ones_like(self.lesion) if valid is None else self.canvas.flags(valid, "valid")
        self._noise = torch.rand(1, len(self.lesion), generator=torch.Generator().manual_seed(seed))

    def _ratios(self, schedule: str) -> list[float]:
        from medssl_nb.methods.adaptive_masking import masking_ratio

        return [masking_ratio(t, self.epochs, self.start, self.end, schedule) for t in range(self.epochs)]

    def _update(self, change=None) -> None:
        self.line.value = self._words()
        if self.canvas is not None:
            hidden = self.mask.numpy()
            codes = np.select([hidden & self.lesion, hidden, self.lesion], [1, 2, 3], 0).astype(np.uint8)
            self.canvas.paint(codes, MASK_STYLES)
        self.image.value = self._curve_png()

    def _words(self) -> str:
        counts = [hidden_patches(ratio, self.valid_patches) for ratio in self.ratios[self.schedule.value]]
        now = f"epoch {self.epoch.value}: {self.ratio:.0%} = {self.hidden} of {self.valid_patches} patches hidden"
        return f"{now.replace('%', ' %')}; {_when_gone(counts, self.lesion_patches)}"

    def _curve_png(self) -> bytes:
        ratios = self.ratios[self.schedule.value]
        return ratio_curve_png(
            ratios,
            [hidden_patches(ratio, self.valid_patches) for ratio in ratios],
            lesion_patches=self.lesion_patches,
            valid_patches=self.valid_patches,
            epoch=self.epoch.value,
            title=self.title,
        )

    def _static_png(self) -> bytes:
        if self.canvas is None:
            return bytes(self.image.value)
        return join_pngs([self.image.value, self.canvas.picture(self.line.value)])


def hidden_patches(ratio: float, valid_patches: int) -> int:
    """Patches that a mask of this ratio hides: rounded half up, at least one hidden and one visible."""
    if valid_patches < 2:
        return 0
    return min(max(math.floor(ratio * valid_patches + 0.5), 1), valid_patches - 1)


def _when_gone(counts: list[int], lesion_patches: int) -> str:
    if lesion_patches == 0:
        return "no patch is called lesion"
    gone = [count >= lesion_patches for count in counts]
    those = f"the {lesion_patches} lesion patches are" if lesion_patches > 1 else "the lesion patch is"
    whole = " all" if lesion_patches > 1 else ""
    if not any(gone):
        return f"{those} never{whole} hidden"
    if all(gone):
        return f"{those}{whole} hidden in every epoch"
    first = gone.index(True)
    if gone[-1]:
        return f"{those}{whole} hidden from epoch {first} on"
    return f"{those}{whole} hidden up to epoch {len(gone) - 1 - gone[::-1].index(True)}"


def _agreeing(given: int | None, counted: int, name: str) -> int:
    if given is not None and given != counted:
        raise ValueError(f"{name} is {given}, but the masks count {counted}; leave {name} out where there are masks.")
    return counted


def _checked_counts(lesion_patches: int | None, valid_patches: int | None) -> tuple[int, int]:
    if lesion_patches is None or valid_patches is None:
        raise ValueError("give lesion_patches and valid_patches, or a volume with lesion (N,) and patch_size.")
    if valid_patches < 2 or not 0 <= lesion_patches <= valid_patches:
        raise ValueError(
            f"there must be at least 2 valid_patches, and from 0 to all of them lesion; got {valid_patches} and "
            f"{lesion_patches} lesion_patches."
        )
    return int(lesion_patches), int(valid_patches)
