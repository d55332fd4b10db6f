"""Lines over the steps of a training in the browser: a step is chosen by a click, by arrow keys or from Python."""

from collections.abc import Sequence
from pathlib import Path

import anywidget
import traitlets

from medssl_nb.viz.regions import StepPlot, numbers_or_none, step_plot_png
from medssl_nb.widgets.picture import WithPicture
from medssl_nb.widgets.scripts import script


class StepCurve(WithPicture, anywidget.AnyWidget):
    """Values by step, and a mark at one step.

    Traits, kept in step with the browser:
        index: place of the chosen step among `steps`.

    Args:
        steps: whole numbers, rising.
        plot: lines with one value for each step, and the level to compare them with.
        index: to start with.
    """

    _esm = script("elements.js", "step_curve.js")
    _css = Path(__file__).with_name("step_curve.css")

    steps = traitlets.List(traitlets.Int()).tag(sync=True)
    plot = traitlets.Dict().tag(sync=True)  # {what, top, level, level_name, lines: [{name, values, colour, dashed}]}
    index = traitlets.Int(0).tag(sync=True)

    def __init__(self, steps: Sequence[int], plot: StepPlot, *, index: int = 0, **traits):
        super().__init__(steps=list(steps), plot=_for_browser(plot), **traits)
        self._plot, self.index = plot, index

    def show(self, plot: StepPlot, steps: Sequence[int] | None = None, index: int = 0) -> None:
        """Other lines over the same steps, or over other `steps`, at the place `index` of them."""
        with self.hold_sync():
            if steps is not None:
                self.steps = list(steps)
                self.index = index
            self._plot, self.plot = plot, _for_browser(plot)

    @traitlets.validate("index")
    def _check_index(self, proposal):
        if not 0 <= proposal["value"] < len(self.steps):
            raise ValueError(f"index counts the {len(self.steps)} steps from 0, got {proposal['value']}.")
        return proposal["value"]

    def picture(self, title: str | None = None) -> bytes:
        """PNG of what is shown, with lines above; the same state gives the same bytes."""
        return step_plot_png(self.steps, self._plot, chosen=self.index, title=title)

    def _static_png(self) -> bytes:
        return self.picture()


def _for_browser(plot: StepPlot) -> dict:
    lines = [{**line._asdict(), "values": numbers_or_none(line.values)} for line in plot.lines]
    return {**plot._asdict(), "lines": lines}
