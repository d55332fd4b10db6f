"""Watch a training run in a notebook: the loss curve while it grows, the time left, and the trivial line."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict

import ipywidgets

from medssl_nb.widgets.picture import WithPicture


class TrainingMonitor(WithPicture, ipywidgets.VBox):
    """Loss curves and collapse meters of a run, redrawn while it goes on.

    >>> monitor = TrainingMonitor(task)
    >>> monitor                                    # in the cell's last line, or display(monitor)
    >>> for step in monitor.watch(pretrain(task, cohort, profile)): ...

    Without a browser: `.history` holds the steps, `.status.value` the line of text, `.image.value` the picture.

    Args:
        task: its `trivial_losses` become dashed lines; None draws none.
        every_seconds: least time between two pictures; drawing one takes about a tenth of a second.
        title: above the picture.
    """

    def __init__(self, task=None, *, every_seconds: float = 2.0, title: str | None = None):
        self.task, self.every_seconds, self.title = task, every_seconds, title
        self.history: list[dict] = []
        self.status = ipywidgets.Label("waiting for the first step")
        self.image = ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%", align_self="flex-start"))
        self.image.value = self._static_png()
        super().__init__(children=[self.status, self.image])

    def watch(self, records: Iterable) -> Iterator:
        """Pass step records on; the picture follows them and ends with the last one, also if the run is cut short."""
        drawn = -float("inf")
        try:
            for record in records:
                self.history.append(asdict(record))
                self.status.value = self._line(record)
                if time.monotonic() - drawn >= self.every_seconds:
                    self.image.value = self._static_png()
                    drawn = time.monotonic()
                yield record
        finally:
            if self.history and (last := self.history[-1])["step"] < last["steps"]:
                self.status.value = f"stopped after step {last['step']} of {last['steps']}"
            self.image.value = self._static_png()

    def _line(self, record) -> str:
        from medssl_nb.training.progress import clock

        if record.step == record.steps:
            return f"{record.steps} steps done"
        return f"step {record.step} of {record.steps}, {clock(record.seconds_left)} left"

    def _static_png(self) -> bytes:
        from medssl_nb.viz.curves import losses_png, waiting_png

        if not self.history:
            return waiting_png("The curves grow here while it trains.")
        trivial = self.task.trivial_losses if self.task is not None else {}
        seen = {name for record in self.history for name in record["losses"]}  # some terms start later in a run
        trivial = {name: value for name, value in trivial.items() if name in seen}
        return losses_png(self.history, trivial, title=self.title)
