"""What does the shape discriminator ask for, and what does cluster 0 become? One volume over a training."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape, unescape
from itertools import pairwise
from typing import NamedTuple

import ipywidgets
import numpy as np

from medssl_nb.viz.arrays import as_labels, as_volume
from medssl_nb.viz.colours import CONTOUR_COLOUR, MASK_COLOUR
from medssl_nb.viz.layers import Overlay
from medssl_nb.viz.patches import join_pngs
from medssl_nb.viz.planes import plane_of
from medssl_nb.viz.regions import StepLine, StepPlot
from medssl_nb.viz.slices import layers_png
from medssl_nb.widgets.packing import inner_voxels
from medssl_nb.widgets.picture import WithPicture
from medssl_nb.widgets.setting import Setting
from medssl_nb.widgets.slice_canvas import SliceCanvas
from medssl_nb.widgets.step_curve import StepCurve

MAPS = ("assignment", "similarity", "their mean", "uncertainty")
_HEAT_NAMES = dict(zip(MAPS, ("assigned", "similarity", "mean", "doubt"), strict=True))  # room is small in the key
DRAWN = ("heat", "border at 0.5", "both")
_SCORES = {"real_score": "real masks", "fake_score": "cluster 0"}
_LOSSES = {"discriminator_loss": "discriminator", "generator_loss": "generator"}
_CURVES = {"scores": _SCORES, "losses": _LOSSES}
_NUMBERS = (*_SCORES, *_LOSSES, "dice")
_COLOURS = ("#e69f00", "#2a7fd4")  # the other modality's masks and who judges them; cluster 0
_FAINT = 0.02  # heat below this is left transparent
_TRUTH_KEY = "Cyan line: the truth."
_LINE = 44  # letters above the picture of one plane


class ShapePriorExplorer(WithPicture, ipywidgets.VBox):
    """Reference masks of another modality, cluster 0 of one volume, and what the discriminator says, step by step.

    A click in the curve picks a step. Without a browser: set `.step`, `.mask`, `.map`, `.draw` or `.curve`; read
    `.values` (the map shown) and `.line.value`.

    >>> explorer = ShapePriorExplorer(volume, masks, steps, truth=vessels)
    >>> explorer.step = 60
    >>> explorer.map = "uncertainty"

    Args:
        volume: (X, Y, Z) or (1, X, Y, Z).
        masks: (n, 1, X', Y', Z'), 0 and 1: reference masks, none of them empty.
        steps: the same volume in the order of training, one step or more: dictionaries with "step" (whole number,
            rising), "assignment" (X, Y, Z) to cluster 0, 0 to 1, and what else is known: "similarity" (X, Y, Z), of all
            steps or none; "real_score" and "fake_score", the discriminator's mean sigmoid of masks and of cluster 0;
            "generator_loss", "discriminator_loss"; "dice", used where there is no truth. None where not measured.
        truth: mask of the same grid, outlined; Dice of the maps above 0.5 with it is counted.
        spacing_mm: mm per voxel along x, y, z, of the volume.
        mask_spacing_mm: of the masks; None takes that of the volume.
        window: as in `SliceCanvas`.
        body: mask of the same grid; outside of it maps are neither shown nor counted.
        step: what to show first; None is the last step.
        mask: number of the reference mask, from 0.
        map: "assignment"; with similarity also "similarity", "their mean" or "uncertainty" (`pseudo_labels`).
        draw: "heat", "border at 0.5" or "both".
        curve: "scores", "losses" or "Dice", as far as the steps have them; None takes the first that they have.
        title: a line above.
        planes, size, opacity: as in `SliceCanvas`.

    Raises:
        ValueError: no steps, a step that lacks something, shapes that do not agree, values outside their range.
    """

    step = Setting("a step of the training")
    mask = Setting("the number of a reference mask")
    map = Setting("what is drawn of cluster 0 (without similarity only its assignment)")
    draw = Setting("how it is drawn")
    curve = Setting("what is plotted by step")

    def __init__(
        self,
        volume,
        masks,
        steps: Sequence[Mapping],
        *,
        truth=None,
        spacing_mm: Sequence[float] | None = None,
        mask_spacing_mm: Sequence[float] | None = None,
        window=None,
        body=None,
        step: int | None = None,
        mask: int = 0,
        map: str = MAPS[0],
        draw: str = DRAWN[0],
        curve: str | None = None,
        title: str = "",
        planes: Sequence[str] | None = ("axial",),
        size: int = 300,
        opacity: float = 0.7,
    ):
        self.title = title
        look = {"planes": planes, "size": size, "opacity": opacity}
        self.canvas = _MapCanvas(volume, spacing_mm=spacing_mm, window=window, title="cluster 0", **look)
        self._truth = None if truth is None else as_labels(truth, self.canvas.volume, "truth") > 0
        self._body = None if body is None else _checked_body(body, self.canvas.volume)
        self._steps = _checked_steps(steps, self.canvas.volume)
        self._plots = self._make_plots()
        self._masks = _checked_masks(masks)
        of_volume = self.canvas.spacing if self.canvas.affine else None
        self._mask_spacing = of_volume if mask_spacing_mm is None else mask_spacing_mm
        look = {"planes": self.canvas.planes, "size": size, "title": "reference mask", "controls": ("slices",)}
        self.mask_canvas = SliceCanvas(self._masks[0], **self._mask_look(), **look)

        similar = self._steps[0].similarity is not None
        self.controls = _controls([one.step for one in self._steps], len(self._masks), similar, list(self._plots))
        self.step = self._steps[-1].step if step is None else step
        self.mask, self.map, self.draw = mask, map, draw
        if curve is not None:
            if not self._plots:
                raise ValueError(f"there is no curve {curve!r}: the steps hold neither scores nor losses nor Dice.")
            self.curve = curve
        # room for two lines, so that the curve stays under the pointer
        self.line = ipywidgets.HTML(layout={"min_height": "58px"})
        self.mask_line = ipywidgets.HTML()
        self.plot = None
        if self._plots:
            self.plot = StepCurve([one.step for one in self._steps], self._plots[self.curve], index=self._place)
        self._show_truth()
        self._show_mask()
        self._update()
        self._observe()
        super().__init__(children=self._arranged())

    # ---- what can be read ----

    @property
    def values(self) -> np.ndarray:
        """(X, Y, Z) float32, the map shown, 0 to 1; NaN outside the body."""
        return self._map_of(self._steps[self._place], self.map)

    @property
    def dice(self) -> float | None:
        """Dice of the map above 0.5 with the truth (that of the assignment as given where there is none)."""
        if self.map == "uncertainty":
            return None
        return self._dice_of(self._steps[self._place], self.map)

    @property
    def _place(self) -> int:
        return self.controls["step"].index

    # ---- what follows what ----

    def _observe(self) -> None:
        self.controls["step"].observe(self._update, names="value")
        self.controls["map"].observe(self._update, names="value")
        self.controls["draw"].observe(self._update, names="value")
        self.controls["mask"].observe(self._show_mask, names="value")
        if self.plot is not None:
            self.controls["curve"].observe(self._show_curve, names="value")
            self.plot.observe(self._follow_curve, names="index")

    def _update(self, change=None) -> None:
        values = self.values
        above = None if self.draw == DRAWN[0] else values > 0.5
        self.canvas.show_map(None if self.draw == DRAWN[1] else values, above, self.map)
        if self.plot is not None:
            self.plot.index = self._place
        self.line.value = self._words()

    def _follow_curve(self, change=None) -> None:
        self.step = self._steps[self.plot.index].step

    def _show_curve(self, change=None) -> None:
        self.plot.show(self._plots[self.curve])
        self.line.value = self._words()

    def _show_mask(self, change=None) -> None:
        mask = self._masks[self.mask]
        with self.mask_canvas.hold_sync():
            self.mask_canvas.set_volume(mask, **self._mask_look())
            _bring_into_view(self.mask_canvas, mask > 0)
        last = len(self._masks) - 1
        numbers = f" (of 0 to {last})" if last else ""
        self.mask_line.value = f"mask {self.mask}{numbers} fills {_percent((mask > 0).mean())} of its volume"

    def _show_truth(self) -> None:
        first = self._truth if self._truth is not None else self._map_of(self._steps[-1], MAPS[0]) > 0.5
        _bring_into_view(self.canvas, first)
        if self._truth is not None:
            self.canvas.show_truth(self._truth)

    def _mask_look(self) -> dict:
        return {"spacing_mm": self._mask_spacing, "window": (0, 1)}

    # ---- maps and numbers ----

    def _map_of(self, one: "_Step", word: str) -> np.ndarray:
        import torch

        from medssl_nb.methods.local_discrimination import pseudo_labels

        if word in MAPS[:2]:
            values = one.assignment if word == MAPS[0] else one.similarity
        else:
            both = pseudo_labels(torch.from_numpy(one.assignment), torch.from_numpy(one.similarity))
            values = both[MAPS.index(word) - 2].numpy()
        return values if self._body is None else np.where(self._body, values, np.float32(np.nan))

    def _dice_of(self, one: "_Step", word: str) -> float | None:
        if self._truth is None:
            given = one.numbers["dice"] if word == MAPS[0] else np.nan
            return None if np.isnan(given) else given
        import torch

        from medssl_nb.methods.local_discrimination import dice_score

        above = torch.from_numpy(self._map_of(one, word) > 0.5)
        return float(dice_score(above, torch.from_numpy(self._truth)))

    def _make_plots(self) -> dict[str, StepPlot]:
        """What the steps have numbers of."""
        plots = {}
        for word, names in _CURVES.items():
            lines = [self._line_of(key, name) for key, name in names.items()]
            lines = [line for line in lines if not np.isnan(line.values).all()]
            if lines:
                plots[word] = _PLOTS[word](tuple(lines))
        dice = np.array([np.nan if (d := self._dice_of(one, MAPS[0])) is None else d for one in self._steps])
        if not np.isnan(dice).all():
            plots["Dice"] = StepPlot("Dice of cluster 0", (StepLine("assignment above 0.5", dice, _COLOURS[1]),), 1.0)
        return plots

    def _line_of(self, key: str, name: str) -> StepLine:
        judge = key in ("real_score", "discriminator_loss")
        values = np.array([one.numbers[key] for one in self._steps])
        return StepLine(name, values, _COLOURS[not judge], dashed=judge)

    # ---- words ----

    def _words(self) -> str:
        one = self._steps[self._place]
        said = self._loss_words(one) if self._plots and self.curve == "losses" else self._score_words(one)
        if self.map == "uncertainty":
            said.append(f"mean uncertainty {np.nanmean(self.values):.2f} bits")
        elif (dice := self.dice) is not None:
            said.append(f"Dice {dice:.2f}" if self.map == MAPS[0] else f"Dice of {self.map} {dice:.2f}")
        where = np.ones(one.assignment.shape, bool) if self._body is None else self._body
        share = _percent((one.assignment[where] > 0.5).mean())
        said.append(f"cluster 0 above 0.5 fills {share} of the {'volume' if self._body is None else 'body'}")
        return escape(f"step {one.step}: " + "; ".join(said))

    def _score_words(self, one: "_Step") -> list[str]:
        known = [f"{name} {one.numbers[key]:.2f}" for key, name in _SCORES.items() if not np.isnan(one.numbers[key])]
        return [f"the discriminator gives {', '.join(known)}"] if known else []

    def _loss_words(self, one: "_Step") -> list[str]:
        known = [f"{name} {one.numbers[key]:.3f}" for key, name in _LOSSES.items() if not np.isnan(one.numbers[key])]
        return [f"loss of the {', of the '.join(known)}"] if known else []

    # ---- arrangement ----

    def _arranged(self) -> list:
        wrapped = {"flex_flow": "row wrap"}
        several = {"step": len(self._steps) > 1, "mask": len(self._masks) > 1, "curve": len(self._plots) > 1}
        shown = [control for name, control in self.controls.items() if several.get(name, True)]
        masks = ipywidgets.VBox([self.mask_canvas, self.mask_line], layout={"flex": "1 1 200px", "min_width": "0"})
        self.canvas.layout = {"flex": "1 1 250px", "min_width": "0"}
        pictures = [masks, self.canvas]
        if self.plot is not None:
            self.plot.layout = {"flex": "1 1 300px", "min_width": "240px"}
            pictures.append(self.plot)
        row = ipywidgets.HBox(pictures, layout={**wrapped, "align_items": "flex-start"})
        titles = [ipywidgets.HTML(f"<b>{escape(self.title)}</b>")] if self.title else []
        key = [] if self._truth is None else [ipywidgets.HTML(_TRUTH_KEY)]
        return [*titles, ipywidgets.HBox(shown, layout=wrapped), self.line, row, *key]

    def _static_png(self) -> bytes:
        pictures = [
            layers_png(canvas._layers(), canvas.crosshair, planes=canvas.planes, title=_wrapped(lines, canvas))
            for canvas, lines in (
                (self.mask_canvas, [self.title, "reference masks", self.mask_line.value]),
                (self.canvas, [self.map, self.line.value]),
            )
        ]
        return join_pngs([*pictures, *([] if self.plot is None else [self.plot.picture()])], beside=True)


class _Step(NamedTuple):
    """One step of training, checked."""

    step: int
    assignment: np.ndarray  # float32 (X, Y, Z)
    similarity: np.ndarray | None
    numbers: dict[str, float]  # NaN where not measured


class _MapCanvas(SliceCanvas):
    """A volume with a map of cluster 0 as heat, as a border, or both, and the outline of the truth."""

    def __init__(self, volume, **options):
        super().__init__(volume, label_style="outline", controls=("slices", "readout", "overlay"), **options)
        self.volume = self._volume

    def show_map(self, values: np.ndarray | None, above: np.ndarray | None, name: str) -> None:
        """values: (X, Y, Z), 0 to 1, or None for no heat; above: (X, Y, Z) bool whose border is drawn, or None."""
        shown = None if values is None else np.where(values >= _FAINT, values, np.nan)
        shown = None if shown is None or np.isnan(shown).all() else shown
        above = None if above is None or not above.any() else above
        state = self._load_label(None if above is None else above.astype(np.uint8), {1: f"{name} above 0.5"})
        for row in state["label_table"]:
            row["colour"] = MASK_COLOUR
        with self.hold_sync():
            self._take_over(state | self._load_heat(shown, "score", (0, 1), _HEAT_NAMES[name]))

    def show_truth(self, inside: np.ndarray) -> None:
        state = self._load_contour(inside.astype(np.uint8))
        for row in state["contour_table"]:
            row["name"] = "truth"
        self._take_over(state)

    def _layers(self):
        layers = super()._layers()
        overlays = list(layers.overlays)
        if self._label is not None:
            overlays[0] = replace(overlays[0], colours=dict.fromkeys(overlays[0].colours, MASK_COLOUR))
        if self._contour is not None:
            overlays[-1] = Overlay(self._contour, {1: "truth"}, {1: CONTOUR_COLOUR}, fill=False)
        return replace(layers, overlays=tuple(overlays))


def _score_plot(lines: tuple[StepLine, ...]) -> StepPlot:
    return StepPlot("score (mean sigmoid)", lines, 1.0, 0.5, "0.5: it cannot tell")


def _loss_plot(lines: tuple[StepLine, ...]) -> StepPlot:
    top = 1.05 * max(max(np.nanmax(line.values) for line in lines), 1.0)
    return StepPlot("loss (no unit)", lines, top, math.log(2), "ln 2: the discriminator cannot tell")


_PLOTS = {"scores": _score_plot, "losses": _loss_plot}


def _controls(steps: list[int], masks: int, similar: bool, plots: list[str]) -> dict:
    short, long = (
        {"style": {"description_width": f"{letters}em"}, "layout": {"width": f"{width}em", "max_width": "100%"}}
        for letters, width in ((5, 17), (8, 29))
    )
    return {
        "step": ipywidgets.SelectionSlider(options=steps, value=steps[-1], description="training step", **long),
        "mask": ipywidgets.IntSlider(0, min=0, max=max(masks - 1, 0), description="reference mask", **long),
        "map": ipywidgets.Dropdown(options=MAPS if similar else MAPS[:1], description="show", **short),
        "draw": ipywidgets.Dropdown(options=DRAWN, description="as", **short),
        "curve": ipywidgets.Dropdown(options=plots, description="curve of", **short),
    }


def _checked_steps(steps: Sequence[Mapping], volume: np.ndarray) -> list[_Step]:
    if len(steps) == 0:
        raise ValueError("steps is empty: give at least one dictionary with step and assignment.")
    checked = [_checked_step(one, volume) for one in steps]
    numbers = [one.step for one in checked]
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        raise ValueError(f"steps must rise from one to the next, got {numbers}; sort them by step.")
    if len({one.similarity is None for one in checked}) > 1:
        raise ValueError("some steps have a similarity and some have not; give it for all steps or for none.")
    return checked


def _checked_step(one: Mapping, volume: np.ndarray) -> _Step:
    known = ("step", "assignment", "similarity", *_NUMBERS)
    if missing := [name for name in known[:2] if name not in one]:
        raise ValueError(f"a step lacks {', '.join(missing)}; it has {', '.join(map(str, one)) or 'nothing'}.")
    if unknown := [name for name in one if name not in known]:
        raise ValueError(f"a step may hold {', '.join(known)}; got {', '.join(map(str, unknown))} too.")
    number = int(one["step"])
    maps = [None if one.get(name) is None else _share_map(one[name], volume, name, number) for name in known[1:3]]
    if maps[0] is None:
        raise ValueError(f"step {number} has no assignment, (X, Y, Z) from 0 to 1.")
    return _Step(number, *maps, {name: _measured(one.get(name), name, number) for name in _NUMBERS})


def _share_map(values, volume: np.ndarray, name: str, step: int) -> np.ndarray:
    array = as_volume(values, f"{name} of step {step}").astype(np.float32)
    if array.shape != volume.shape:
        raise ValueError(f"{name} of step {step} has shape {array.shape}, the volume {volume.shape}; one grid, please.")
    if array.min() < 0 or array.max() > 1 + 1e-3:
        raise ValueError(
            f"{name} of step {step} must lie from 0 to 1, got {array.min():.4g} to {array.max():.4g}; of logits take "
            "cluster_assignments first, of similarity segment_target."
        )
    return array.clip(0, 1)


def _measured(value, name: str, step: int) -> float:
    """A number, NaN for None."""
    number = math.nan if value is None else float(value)
    highest = math.inf if name in _LOSSES else 1
    if value is not None and not (0 <= number <= highest and math.isfinite(number)):
        what = "a loss, 0 or more" if name in _LOSSES else "a mean from 0 to 1 (of sigmoids, no logits)"
        raise ValueError(f"{name} of step {step} is {what}, None where it was not measured; got {value!r}.")
    return number


def _checked_body(body, volume: np.ndarray) -> np.ndarray:
    inside = as_labels(body, volume, "body") > 0
    if not inside.any():
        raise ValueError("body is empty: no voxel counts. Give the mask of the patient, or None for all voxels.")
    return inside


def _checked_masks(masks) -> np.ndarray:
    """uint8 (n, X', Y', Z') of 0 and 1."""
    array = np.asarray(masks.detach().cpu() if hasattr(masks, "detach") else masks)
    if array.ndim != 5 or array.shape[1] != 1 or 0 in array.shape:
        raise ValueError(
            f"masks must be (n, 1, X, Y, Z), n from 1; got {array.shape}. Of one mask take mask[None, None]."
        )
    if not np.isin(array, (0, 1)).all():
        raise ValueError(f"masks hold 0 and 1, got {array.min():g} to {array.max():g}; cut them first: masks > 0.5.")
    array = array[:, 0].astype(np.uint8)
    if empty := [number for number, mask in enumerate(array) if not mask.any()]:
        raise ValueError(f"masks {empty} are empty: no shape to ask for; leave them out.")
    return array


def _bring_into_view(canvas: SliceCanvas, inside: np.ndarray) -> None:
    """Move the crosshair into what is marked (X, Y, Z), unless a plane shown holds some of it."""
    fixed = [plane_of(name).fixed for name in canvas.planes]
    if inside.any() and not any(inside.take(canvas.crosshair[axis], axis).any() for axis in fixed):
        canvas.crosshair = inner_voxels(inside.astype(np.uint8), 1)[0]


def _wrapped(lines: list[str], canvas: SliceCanvas) -> str:
    """Lines above the picture of a canvas, no longer than it is wide."""
    letters = _LINE * len(canvas.planes)
    return "\n".join(part for line in lines for part in textwrap.wrap(unescape(line), letters))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.2g} %"
