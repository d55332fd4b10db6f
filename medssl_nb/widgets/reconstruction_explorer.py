"""How does the guess grow? One volume as a masked-image model filled it in, step by step of training."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import ipywidgets
import numpy as np

from medssl_nb.viz.patches import PatchStyle, patch_values
from medssl_nb.widgets.patch_canvas import TRUTH_KEY, PatchCanvas
from medssl_nb.widgets.picture import WithPicture

VIEWS = ("input", "masked input", "output", "error", "weights")
_STYLES = {1: PatchStyle("hidden patches", "#c1e608"), 2: PatchStyle("visible patches", "#8c88a8")}


class ReconstructionExplorer(WithPicture, ipywidgets.VBox):
    """Move through training and watch the hidden patches being filled in; where the error stays, where the weight goes.

    Errors and weights have one scale over all steps, so that colours can be compared.
    Without a browser: set `.step.value` (a step of training) and `.view.value`, read `.line.value`.

    Args:
        volume: (X, Y, Z) or (1, X, Y, Z), one channel.
        steps: what the model made of this volume, in the order of training: dictionaries with
            "step" (number, rising), "mask" (N,) bool (True = hidden), "prediction" (N, V) in the order of `patchify`,
            "errors" (N,), and "weights" (N,), which may be left out of all.
        patch_size: side of a patch in voxels, one number or one per axis.
        truth: voxel mask of true lesion, outlined; then errors of lesion and other patches are told apart.
        view: what to show first, one of "input", "masked input", "output", "error", "weights".
        title: a line above.
        spacing_mm, window, planes, size: as in `SliceCanvas`.

    Raises:
        ValueError: no steps, a step that lacks something, shapes that do not agree.
    """

    def __init__(
        self,
        volume,
        steps: Sequence[Mapping],
        *,
        patch_size,
        truth=None,
        view: str = "output",
        title: str = "",
        spacing_mm=None,
        window=None,
        planes=None,
        size: int = 300,
    ):
        look = {"spacing_mm": spacing_mm, "window": window, "planes": planes, "size": size, "title": title}
        self.canvas = PatchCanvas(volume, patch_size, truth=truth, opacity=0.7, label_style="outline", **look)
        self.canvas.concealed = {2}
        self._steps = _checked_steps(steps, self.canvas)
        self._ranges = {
            name: _range_over(self._steps, name) for name in ("errors", "weights") if name in self._steps[0]
        }
        views = VIEWS if "weights" in self._ranges else VIEWS[:-1]
        if view not in views:
            raise ValueError(f"view is one of {', '.join(map(repr, views))}, got {view!r}.")
        wide = {"description_width": "8em"}
        numbers = [one["step"] for one in self._steps]
        self.step = ipywidgets.SelectionSlider(
            options=numbers,
            value=numbers[-1],
            description="training step",
            style=wide,
            layout={"width": "30em", "max_width": "100%"},
        )
        self.view = ipywidgets.Dropdown(options=views, value=view, description="show", style=wide)
        self.line = ipywidgets.HTML()
        for control in (self.step, self.view):
            control.observe(self._update, names="value")
        self._update()
        key = [] if truth is None else [ipywidgets.HTML(TRUTH_KEY)]
        controls = ipywidgets.HBox([self.step, self.view], layout={"flex_flow": "row wrap"})
        super().__init__(children=[controls, self.line, self.canvas, *key])

    @property
    def shown(self) -> dict:
        """The step that is shown: "step", "mask", "output" (X, Y, Z), "errors" and, where given, "weights"."""
        return self._steps[self.step.index]

    def _update(self, change=None) -> None:
        shown, view, canvas = self.shown, self.view.value, self.canvas
        with canvas.hold_sync():
            if view in ("masked input", "output"):
                canvas.show_volume(canvas.without(shown["mask"]) if view == "masked input" else shown["output"])
            else:
                canvas.show_volume(canvas.original)
            name = {"error": "errors", "weights": "weights"}.get(view)
            canvas.controls = ("slices", "readout", "overlay" if name else "labels")
            if name is None:
                canvas.heat_patches(None)
            else:
                scores = np.where(shown["mask"], shown[name], np.nan)
                canvas.heat_patches(scores, heat_range=self._ranges[name], heat_name=view)
            outlined = view in ("input", "output")  # in the other views hidden patches show anyway
            canvas.paint(np.where(shown["mask"], 1, 2) * outlined, _STYLES)
        self.line.value = self._mean_errors()

    def _mean_errors(self) -> str:
        mask, errors, true = self.shown["mask"], self.shown["errors"], self.canvas.true_patches
        if true is None:
            return f"hidden patches: mean error {errors[mask].mean():.3g}"
        parts = {"lesion": mask & true, "other": mask & ~true}
        words = [f"{name} {errors[where].mean():.3g}" if where.any() else f"{name} –" for name, where in parts.items()]
        return "hidden patches: mean error " + ", ".join(words)

    def _static_png(self) -> bytes:
        return self.canvas.picture(f"{self.view.value}, step {self.step.value} · {self.line.value}")


def _checked_steps(steps: Sequence[Mapping], canvas: PatchCanvas) -> list[dict]:
    if len(steps) == 0:
        raise ValueError("steps is empty: give at least one dictionary with step, mask, prediction and errors.")
    checked = [_checked_step(one, canvas) for one in steps]
    numbers = [one["step"] for one in checked]
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        raise ValueError(f"steps must rise from one to the next, got {numbers}; sort them by step.")
    if len({"weights" in one for one in checked}) > 1:
        raise ValueError("some steps have weights and some have not; give them for all steps or for none.")
    return checked


def _checked_step(one: Mapping, canvas: PatchCanvas) -> dict:
    if missing := [name for name in ("step", "mask", "prediction", "errors") if name not in one]:
        raise ValueError(f"a step lacks {', '.join(missing)}; it has {', '.join(map(str, one)) or 'nothing'}.")
    mask = canvas.flags(one["mask"], "mask")
    if not mask.any():
        raise ValueError(f"step {one['step']} hides no patch: there is no guess to show.")
    checked = {"step": int(one["step"]), "mask": mask, "output": _output(one["step"], one["prediction"], mask, canvas)}
    for name in ("errors", "weights"):
        if one.get(name) is not None:
            checked[name] = patch_values(one[name], canvas.num_patches, name).astype(np.float64)
            if not np.isfinite(checked[name][mask]).all():
                raise ValueError(f"{name} of step {one['step']} hold NaN or infinity in hidden patches.")
    return checked


def _output(step: int, prediction, mask: np.ndarray, canvas: PatchCanvas) -> np.ndarray:
    """The guess in hidden patches, the truth elsewhere, (X, Y, Z)."""
    import torch

    from medssl_nb.networks.patches import unpatchify

    patches = torch.as_tensor(prediction).detach().cpu().float()
    patches = patches[None] if patches.ndim == 2 else patches
    guess = unpatchify(patches, canvas.patch_size, canvas.grid_size)[0, 0].numpy()
    output = np.where(canvas.voxels_of(mask), guess, canvas.original)
    if not np.isfinite(output).all():
        raise ValueError(f"prediction of step {step} holds NaN or infinity in hidden patches: the training diverged.")
    return output


def _range_over(steps: Sequence[Mapping], name: str) -> tuple[float, float]:
    """Zero to what 98 % of the hidden patches of all steps stay below."""
    values = np.concatenate([one[name][one["mask"]] for one in steps])
    return 0.0, max(float(np.percentile(values, 98)), 1e-6)
