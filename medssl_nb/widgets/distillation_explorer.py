"""What keeps student and teacher from agreeing on nothing? The teacher's distributions, step by step of training."""

import math
from collections.abc import Mapping, Sequence
from html import escape, unescape
from itertools import pairwise
from typing import NamedTuple

import ipywidgets
import numpy as np

from medssl_nb.viz.distillation import (
    MEAN_COLOUR,
    MEAN_NAME,
    SINGLE_COLOUR,
    SINGLE_NAME,
    EntropyCurve,
    Spread,
    entropy,
    even_name,
    spread_of,
)
from medssl_nb.viz.patches import join_pngs
from medssl_nb.viz.regions import StepLine, StepPlot
from medssl_nb.widgets.distribution_map import DistributionMap
from medssl_nb.widgets.picture import WithPicture
from medssl_nb.widgets.setting import Setting
from medssl_nb.widgets.step_curve import StepCurve

TEMPERATURES = (0.002, 1.0)
_LOSS_COLOUR = "#7a7a7a"
_KEYS = ("step", "teacher", "student", "center")


class DistillationExplorer(WithPicture, ipywidgets.VBox):
    """Move through trainings that went well and that collapsed; turn the two screws that should prevent it.

    The rows of colours are the teacher's distributions softmax((teacher - center) / temperature), one for each sample;
    those of the chosen sample are drawn as bars, with the student's as a line. The curve shows by step the mean entropy
    of the single distributions and the entropy of their mean. Temperature and centre are turned here alone: the
    networks are what they became with those they were trained with. Without a browser: set `.run`, `.step`, `.sample`,
    `.temperature` or `.centred`; read
        entropy, entropy_of_mean: at this step, in nats, from 0 to ln D.
        winners: number of different outputs that are the most likely one of a sample.
        largest: share of the probability, over all samples, that the most used output takes.
        probabilities, student_probabilities: (M, D).
        curves: {run: EntropyCurve}, at this temperature and with or without the centre; for `show_entropies`.
        line.value: these in words.

    Args:
        runs: name of a setting -> records in the order of training: dictionaries with "step" (number, rising),
            "teacher" and "student" (M, D) logits of the same M samples at each step, "center" (D,), and "loss", which
            may be left out. M and D are the same in all runs.
        student_temperature: of the student's distributions.
        teacher_temperature: of the teacher's to start with, 0.002 to 1.
        run: to start with; None is the first.
        step: to start with; None is the last.
        sample: row to start with.
        centred: whether the centre is subtracted from the teacher's logits to start with.
        title: a line above.

    Raises:
        ValueError: no runs, a record that lacks something, shapes that do not agree, temperatures out of range.
    """

    run = Setting("the training that is shown")
    step = Setting("the step of training that is shown")

    def __init__(
        self,
        runs: Mapping[str, Sequence[Mapping]],
        *,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.01,
        run: str | None = None,
        step: int | None = None,
        sample: int = 0,
        centred: bool = True,
        title: str = "",
    ):
        if not student_temperature > 0:
            raise ValueError(f"student_temperature must be above 0, got {student_temperature}.")
        self._runs = _checked_runs(runs)
        self.student_temperature, self.title = float(student_temperature), title
        self._curves: dict[tuple, EntropyCurve] = {}  # (run, temperature, centred) -> entropies of all its steps
        self.controls = _controls(self._runs)
        self.temperature, self.centred, self.sample = teacher_temperature, centred, sample
        if run is not None:
            self.run = run
        self._offer_steps(self._shown.steps[-1])
        if step is not None:
            self.step = step
        self.map = DistributionMap(self.probabilities, self.student_probabilities, sample=self.sample)
        index = self.controls["step"].index
        self.curve = StepCurve(self._shown.steps.tolist(), self._plot(), index=index)
        for part, basis in ((self.map, "480px"), (self.curve, "340px")):
            part.layout = {"flex": f"1 1 {basis}", "min_width": "0"}
        self.line = ipywidgets.HTML(layout={"min_height": "58px"})  # two lines, so that pictures stay where they are
        self._show_words()
        self._observe()
        row = ipywidgets.HBox(list(self.controls.values()), layout={"flex_flow": "row wrap"})
        pictures = ipywidgets.HBox(
            [self.map, self.curve], layout={"flex_flow": "row wrap", "align_items": "flex-start"}
        )
        titles = [ipywidgets.HTML(f"<b>{escape(title)}</b>")] if title else []
        super().__init__(children=[*titles, row, self.line, pictures])

    def _observe(self) -> None:
        followers = {
            "run": self._change_run,
            "step": self._show_step,
            "sample": self._show_sample,
            "temperature": self._show_all,
            "centred": self._show_all,
        }
        for name, follow in followers.items():
            self.controls[name].observe(follow, names="value")
        self.map.observe(self._take_sample, names="sample")
        self.curve.observe(self._take_index, names="index")

    # ---- what Python and the reader both set ----

    @property
    def sample(self) -> int:
        """Row whose distributions are drawn as bars."""
        return self.controls["sample"].value

    @sample.setter
    def sample(self, sample: int) -> None:
        count = self._shown.teacher.shape[1]
        if sample not in range(count):
            raise ValueError(f"there are {count} samples, counted from 0; got sample {sample!r}.")
        self.controls["sample"].value = int(sample)

    @property
    def temperature(self) -> float:
        """Temperature of the teacher's distributions."""
        return self.controls["temperature"].value

    @temperature.setter
    def temperature(self, temperature: float) -> None:
        low, high = TEMPERATURES
        if not low <= temperature <= high:
            raise ValueError(f"the teacher's temperature runs from {low:g} to {high:g}, got {temperature!r}.")
        self.controls["temperature"].value = float(temperature)

    @property
    def centred(self) -> bool:
        """Whether the centre is subtracted from the teacher's logits."""
        return self.controls["centred"].value

    @centred.setter
    def centred(self, centred: bool) -> None:
        self.controls["centred"].value = bool(centred)

    # ---- what comes of it ----

    @property
    def probabilities(self) -> np.ndarray:
        """(M, D) distributions of the teacher at the step shown."""
        at = self.controls["step"].index
        return self._teacher(self._shown, slice(at, at + 1))[0]

    @property
    def student_probabilities(self) -> np.ndarray:
        """(M, D) distributions of the student at the step shown."""
        import torch

        logits = torch.from_numpy(self._shown.student[self.controls["step"].index])
        return (logits / self.student_temperature).softmax(dim=-1).numpy()

    @property
    def spread(self) -> Spread:
        return spread_of(self.probabilities)

    @property
    def entropy(self) -> float:
        return self.spread.entropy

    @property
    def entropy_of_mean(self) -> float:
        return self.spread.entropy_of_mean

    @property
    def winners(self) -> int:
        return self.spread.winners

    @property
    def largest(self) -> float:
        return self.spread.largest

    @property
    def curves(self) -> dict[str, EntropyCurve]:
        return {name: self._curve_of(name) for name in self._runs}

    @property
    def num_outputs(self) -> int:
        """D."""
        return self._shown.teacher.shape[-1]

    @property
    def _shown(self) -> "_Run":
        return self._runs[self.run]

    def _teacher(self, run: "_Run", steps: slice) -> np.ndarray:
        """(T, M, D) distributions of some steps, with the library's formula."""
        import torch

        from medssl_nb.methods.alice import teacher_distribution

        center = run.center[steps, None] if self.centred else np.zeros((1, 1, self.num_outputs))
        logits, center = torch.from_numpy(run.teacher[steps]), torch.from_numpy(center)
        return teacher_distribution(logits, center, self.temperature).numpy()

    def _curve_of(self, name: str) -> EntropyCurve:
        key = (name, self.temperature, self.centred)
        if key not in self._curves:
            run = self._runs[name]
            rows = self._teacher(run, slice(None))
            self._curves[key] = EntropyCurve(run.steps, entropy(rows).mean(axis=1), entropy(rows.mean(axis=1)))
        return self._curves[key]

    # ---- what follows what ----

    def _change_run(self, change=None) -> None:
        self._offer_steps(self.step)
        self._show_all()

    def _offer_steps(self, wanted: int) -> None:
        """The steps of the run shown, at the one nearest to what is wanted."""
        steps, slider = self._shown.steps, self.controls["step"]
        if list(slider.options) != steps.tolist():
            slider.options = steps.tolist()
        slider.index = int(np.abs(steps - wanted).argmin())

    def _show_all(self, change=None) -> None:
        with self.curve.hold_sync():
            self.curve.show(self._plot(), self._shown.steps.tolist(), self.controls["step"].index)
        self._show_step()

    def _show_step(self, change=None) -> None:
        self.curve.index = self.controls["step"].index
        self.map.show(self.probabilities, self.student_probabilities)
        self._show_words()

    def _show_sample(self, change=None) -> None:
        self.map.sample = self.sample

    def _take_sample(self, change) -> None:
        self.sample = change["new"]

    def _take_index(self, change) -> None:
        self.controls["step"].index = change["new"]

    # ---- words and the picture ----

    def _plot(self) -> StepPlot:
        """Lines of the run shown, on the same scale for all runs."""
        curve, run, most = self._curve_of(self.run), self._shown, math.log(self.num_outputs)
        lines = [
            StepLine(SINGLE_NAME, curve.entropy, SINGLE_COLOUR),
            StepLine(MEAN_NAME, curve.entropy_of_mean, MEAN_COLOUR, True),
        ]
        if np.isfinite(run.loss).any():
            lines.append(StepLine("loss", run.loss, _LOSS_COLOUR))
        losses = [value for one in self._runs.values() for value in one.loss[np.isfinite(one.loss)]]
        return StepPlot("nats", tuple(lines), 1.05 * max([most, *losses]), most, even_name(self.num_outputs))

    def _show_words(self) -> None:
        self.line.value = escape(self._words())

    def _words(self) -> str:
        spread, most = self.spread, f"ln {self.num_outputs} = {math.log(self.num_outputs):.2f}"
        samples = self._shown.teacher.shape[1]
        words = [
            f"{self.run}, step {self.step}: teacher entropy {spread.entropy:.2f} of {most}",
            f"{spread.winners} different winner{'s' * (spread.winners != 1)} among {samples} samples",
            f"the most used output takes {_percent(spread.largest)}",
        ]
        loss = self._shown.loss[self.controls["step"].index]
        return "; ".join([*words, f"loss {loss:.2f}"] if np.isfinite(loss) else words)

    def _static_png(self) -> bytes:
        setting = f"teacher temperature {self.temperature:.3g}, {'centred' if self.centred else 'not centred'}"
        title = "\n".join([*[self.title] * (self.title != ""), *unescape(self.line.value).split("; "), setting])
        return join_pngs([self.map.picture(title), self.curve.picture()], beside=True)


class _Run(NamedTuple):
    steps: np.ndarray  # (T,)
    teacher: np.ndarray  # (T, M, D) logits
    student: np.ndarray  # (T, M, D) logits
    center: np.ndarray  # (T, D)
    loss: np.ndarray  # (T,), NaN where there is none


def _controls(runs: Mapping[str, _Run]) -> dict:
    first = next(iter(runs.values()))
    look = {"style": {"description_width": "10.5em"}, "layout": {"width": "28em", "max_width": "100%"}}
    low, high = (math.log10(value) for value in TEMPERATURES)
    low = math.floor(20 * low) / 20  # so that steps meet 0.01 and 0.1
    scale = {"base": 10, "min": low, "max": high, "step": 0.05, "readout_format": ".2g"}
    return {
        "run": ipywidgets.Dropdown(options=list(runs), description="run", **look),
        "step": ipywidgets.SelectionSlider(options=first.steps.tolist(), description="step", **look),
        "sample": ipywidgets.IntSlider(0, min=0, max=first.teacher.shape[1] - 1, description="sample", **look),
        "temperature": ipywidgets.FloatLogSlider(0.01, description="teacher temperature", **scale, **look),
        "centred": ipywidgets.Checkbox(True, description="subtract the centre", indent=False),
    }


def _checked_runs(runs: Mapping[str, Sequence[Mapping]]) -> dict[str, _Run]:
    if not isinstance(runs, Mapping) or not runs:
        got = type(runs).__name__ if runs else "none"
        raise ValueError(f"runs is a dictionary {{name of a setting: records}} of one or more, got {got}.")
    checked = {str(name): _checked_run(str(name), records) for name, records in runs.items()}
    sizes = {name: run.teacher.shape[1:] for name, run in checked.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"all runs need the same samples and outputs, got (M, D) of {sizes}.")
    return checked


def _checked_run(name: str, records: Sequence[Mapping]) -> _Run:
    if len(records) == 0:
        raise ValueError(f"run {name!r} has no records; give at least one.")
    for one in records:
        if missing := [key for key in _KEYS if key not in one]:
            has = ", ".join(map(str, one)) or "nothing"
            raise ValueError(f"a record of run {name!r} lacks {', '.join(missing)}; it has {has}.")
    steps = [int(one["step"]) for one in records]
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise ValueError(f"steps of run {name!r} must rise from one to the next, got {steps}; sort them by step.")
    teacher, student = (
        _stacked([one[key] for one in records], f"{key} of run {name!r}") for key in ("teacher", "student")
    )
    if student.shape != teacher.shape:
        raise ValueError(f"student of run {name!r} has shape {student.shape[1:]}, the teacher {teacher.shape[1:]}.")
    center = [np.ravel(_array(one["center"])) for one in records]
    if any(one.shape != teacher.shape[2:] for one in center):
        sizes = [one.size for one in center]
        raise ValueError(f"center of run {name!r} has {sizes} values, the teacher {teacher.shape[2]} outputs.")
    loss = np.array([float(one.get("loss", np.nan)) for one in records])
    center = _finite(np.stack(center), f"center of run {name!r}")
    return _Run(np.array(steps), teacher, student, center, np.where(np.isfinite(loss), loss, np.nan))


def _stacked(logits: Sequence, name: str) -> np.ndarray:
    """(T, M, D) float64 of T arrays (M, D): at a temperature of 0.002 differences of logits count 500 times."""
    arrays = [_array(one) for one in logits]
    if arrays[0].ndim != 2 or 0 in arrays[0].shape or len({one.shape for one in arrays}) > 1:
        shapes = sorted({one.shape for one in arrays})
        raise ValueError(f"{name} must be (M, D) logits of the same M samples at each step, got shapes {shapes}.")
    return _finite(np.stack(arrays), name)


def _finite(values: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds NaN or infinity: the training diverged; show the steps before that.")
    return values


def _array(values) -> np.ndarray:
    return np.asarray(values.detach().cpu().double() if hasattr(values, "detach") else values, np.float64)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.0995 else f"{100 * share:.0f} %"
