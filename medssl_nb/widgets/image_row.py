"""Maps of one slice side by side in the browser, a line through all of them that is moved by dragging or by keys."""

from collections.abc import Sequence
from pathlib import Path

import anywidget
import numpy as np
import traitlets

from medssl_nb.viz.colours import CONTOUR_COLOUR
from medssl_nb.viz.matrices import LINE_COLOUR, MapPicture, inner_outline, map_codes, map_palette, map_row_png
from medssl_nb.widgets.picture import WithPicture
from medssl_nb.widgets.scripts import script


class ImageRow(WithPicture, anywidget.AnyWidget):
    """Small pictures of one slice. Dragging in any of them and arrow keys are reported; who listens moves the line.

    `BoundaryExplorer` joins it with controls.

    Traits, kept in step with the browser:
        drag: [number, column, row, column, row]: number of the drag, where it began, where the pointer is now, in
            voxels of the picture (the first spans 0 to 1); empty before the first.
        nudges: presses of the right and upper arrow keys minus those of the left and lower ones.
        box: side of the window that is drawn around the voxel under the pointer, 0 for none.
        line_text: where the line is, for screen readers.

    Args:
        pictures: maps of one shape (rows, columns).
        pixel: width and height of a voxel, in any unit.
        letters: of the left, right, upper and lower side, written in the first picture.
        axes: names of what columns and rows count; they run against the picture, as in the slices.
    """

    _esm = script("elements.js", "image_row.js")
    _css = Path(__file__).with_name("image_row.css")

    code_bytes = traitlets.Bytes(b"").tag(sync=True)  # uint8 (pictures, rows, columns)
    palettes = traitlets.Bytes(b"").tag(sync=True)  # uint8 (pictures, 256, 3)
    pictures = traitlets.List().tag(sync=True)  # of each: {name, range: [low, high], grey, lined}
    shape = traitlets.List(traitlets.Int(), [1, 1]).tag(sync=True)  # rows, columns
    aspect = traitlets.Float(1.0).tag(sync=True)  # width over height of a picture
    letters = traitlets.List(traitlets.Unicode()).tag(sync=True)
    axes = traitlets.List(traitlets.Unicode(), ["x", "y"]).tag(sync=True)
    line = traitlets.Unicode("").tag(sync=True)  # path of the line
    outline = traitlets.Unicode("").tag(sync=True)  # path of the outline in the first picture
    colours = traitlets.List(traitlets.Unicode(), [LINE_COLOUR, CONTOUR_COLOUR]).tag(sync=True)
    line_text = traitlets.Unicode("").tag(sync=True)
    box = traitlets.Int(0).tag(sync=True)
    drag = traitlets.List(traitlets.Float()).tag(sync=True)
    nudges = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        pictures: Sequence[MapPicture],
        *,
        pixel: tuple[float, float] = (1.0, 1.0),
        letters: Sequence[str] = (),
        axes: Sequence[str] = ("x", "y"),
        **traits,
    ):
        self._pixel, self._lines, self._inside = pixel, [], None
        super().__init__(**self._load(pictures), letters=list(letters), axes=list(axes), **traits)

    def show(self, pictures: Sequence[MapPicture], lines: Sequence[np.ndarray], inside: np.ndarray | None) -> None:
        """Other maps of one shape, lines (N, 2) of (column, row) in all, and what is outlined in the first."""
        state = self._load(pictures)
        self._lines, self._inside = list(lines), inside
        state["line"] = "".join(_path(line) for line in lines)
        state["outline"] = "" if inside is None else "".join(_path(line) for line in inner_outline(inside))
        with self.hold_sync():
            for name, value in state.items():
                setattr(self, name, value)

    def _load(self, pictures: Sequence[MapPicture]) -> dict:
        self._pictures = list(pictures)
        rows, columns = self._pictures[0].values.shape
        return {
            "code_bytes": np.stack([map_codes(picture) for picture in pictures]).tobytes(),
            "palettes": np.stack([map_palette(picture) for picture in pictures]).tobytes(),
            "pictures": [{"name": p.name, "range": list(p.range), "grey": p.grey, "lined": p.lined} for p in pictures],
            "shape": [rows, columns],
            "aspect": columns * self._pixel[0] / (rows * self._pixel[1]),
        }

    def picture(self, title: str | None = None) -> bytes:
        """PNG of what is shown, with lines above; the same state gives the same bytes."""
        return map_row_png(
            self._pictures,
            lines=self._lines,
            outline=self._inside,
            pixel=self._pixel,
            letters=self.letters,
            title=title,
        )

    def _static_png(self) -> bytes:
        return self.picture()


def _path(line: np.ndarray) -> str:
    """Path of a line (N, 2) for SVG, to a hundredth of a voxel."""
    return "M" + "L".join(f"{column:.2f} {row:.2f}" for column, row in line)
