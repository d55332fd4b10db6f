"""Distributions in the browser, a row for each sample: one is chosen by a click, by arrow keys or from Python."""

from pathlib import Path

import anywidget
import numpy as np
import traitlets

from medssl_nb.viz.colours import heat_palette
from medssl_nb.viz.distillation import (
    STUDENT_COLOUR,
    TEACHER_COLOUR,
    as_distributions,
    distributions_png,
    share_codes,
)
from medssl_nb.widgets.picture import WithPicture
from medssl_nb.widgets.scripts import script


class DistributionMap(WithPicture, anywidget.AnyWidget):
    """What teacher and student say of each sample. `DistillationExplorer` joins it with controls.

    Traits, kept in step with the browser:
        sample: row that is framed and drawn as bars.

    Args:
        teacher, student: (M, D), rows of sum 1.
        sample: to start with.
    """

    _esm = script("elements.js", "distribution_map.js")
    _css = Path(__file__).with_name("distribution_map.css")

    teacher_bytes = traitlets.Bytes(b"").tag(sync=True)  # float32 (M, D), row by row
    student_bytes = traitlets.Bytes(b"").tag(sync=True)
    code_bytes = traitlets.Bytes(b"").tag(sync=True)  # uint8 (M + 1, columns), number of the colour; last the mean
    outputs = traitlets.Int(1).tag(sync=True)  # D
    palette = traitlets.Bytes(b"").tag(sync=True)  # uint8 (256, 3)
    colours = traitlets.List(traitlets.Unicode(), [TEACHER_COLOUR, STUDENT_COLOUR]).tag(sync=True)
    sample = traitlets.Int(0).tag(sync=True)

    def __init__(self, teacher, student, *, sample: int = 0, **traits):
        super().__init__(palette=heat_palette().tobytes(), **self._load(teacher, student), **traits)
        self.sample = sample

    def show(self, teacher, student) -> None:
        """Other distributions of as many samples."""
        with self.hold_sync():
            for name, value in self._load(teacher, student).items():
                setattr(self, name, value)

    def _load(self, teacher, student) -> dict:
        self.teacher, self.student = as_distributions(teacher, "teacher"), as_distributions(student, "student")
        return {
            "teacher_bytes": self.teacher.astype(np.float32).tobytes(),
            "student_bytes": self.student.astype(np.float32).tobytes(),
            "code_bytes": share_codes(np.vstack([self.teacher, self.teacher.mean(axis=0)])).tobytes(),
            "outputs": self.teacher.shape[1],
        }

    @traitlets.validate("sample")
    def _check_sample(self, proposal):
        if not 0 <= proposal["value"] < len(self.teacher):
            raise ValueError(f"there are {len(self.teacher)} samples, counted from 0; got sample {proposal['value']}.")
        return proposal["value"]

    def picture(self, title: str | None = None) -> bytes:
        """PNG of what is shown, with lines above; the same state gives the same bytes."""
        return distributions_png(self.teacher, student=self.student, sample=self.sample, title=title)

    def _static_png(self) -> bytes:
        return self.picture()
