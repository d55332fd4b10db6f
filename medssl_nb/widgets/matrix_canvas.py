"""A joint matrix in the browser: a cell is chosen by a click, by arrow keys or from Python."""

from pathlib import Path

import anywidget
import numpy as np
import traitlets

from medssl_nb.viz.colours import heat_palette
from medssl_nb.viz.matrices import USAGE_COLOURS, as_joint, checked_cell, joint_codes, joint_matrix_png
from medssl_nb.widgets.picture import WithPicture
from medssl_nb.widgets.scripts import script
from medssl_nb.widgets.slice_canvas import Checked


class MatrixCanvas(WithPicture, anywidget.AnyWidget):
    """Joint matrix of the clusters of two views, with the use of each cluster at its sides.

    `JointMatrixExplorer` joins it with controls and slices.

    Traits, kept in step with the browser:
        cell: (i, j) that is chosen, () for none. Rows are clusters of view A, columns of view B.

    Args:
        joint: (K, K), see `joint_probability`.
        cell: to start with.
    """

    _esm = script("elements.js", "cell_matrix.js", "matrix_canvas.js")
    _css = Path(__file__).with_name("matrix_canvas.css")

    joint_bytes = traitlets.Bytes(b"").tag(sync=True)  # float32 (K, K), row by row
    code_bytes = traitlets.Bytes(b"").tag(sync=True)  # uint8 (K, K), number of the colour
    palette = traitlets.Bytes(b"").tag(sync=True)  # uint8 (256, 3)
    usage_colours = traitlets.List(traitlets.Unicode()).tag(sync=True)
    top = traitlets.Float(1.0).tag(sync=True)  # share that has the last colour
    cell = Checked(()).tag(sync=True)

    def __init__(self, joint, *, cell=None, **traits):
        look = {"palette": heat_palette().tobytes(), "usage_colours": list(USAGE_COLOURS)}
        super().__init__(**self._load_joint(joint), **look, **traits)
        self.cell = cell

    def set_joint(self, joint) -> None:
        """Show another matrix of as many clusters."""
        if len(as_joint(joint)) != len(self.joint):
            raise ValueError(
                f"this canvas shows {len(self.joint)} clusters, got a matrix of {len(joint)}; make another canvas."
            )
        with self.hold_sync():
            for name, value in self._load_joint(joint).items():
                setattr(self, name, value)

    def _load_joint(self, joint) -> dict:
        self.joint = as_joint(joint)
        codes, top = joint_codes(self.joint)
        return {"joint_bytes": self.joint.astype(np.float32).tobytes(), "code_bytes": codes.tobytes(), "top": top}

    @traitlets.validate("cell")
    def _check_cell(self, proposal):
        return checked_cell(proposal["value"], len(self.joint)) or ()

    def _static_png(self) -> bytes:
        return joint_matrix_png(self.joint, cell=self.cell)
