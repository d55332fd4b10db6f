"""The slice canvas: planes of one volume, drawn in the browser, reporting back where the reader looks and clicks.

From the slider to the picture takes about one frame of the screen: three planes of 181 x 217 x 181 voxels with labels
are drawn 3 ms after the input and on the screen after 16 ms (median; 32 ms at the 95th percentile), in headless
Chromium on two CPU cores without a GPU: `benchmarks/bench_slice_canvas.py`, `results/slice_canvas_latency.json`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import anywidget
import numpy as np
import traitlets

from medssl_nb.viz.arrays import as_heat, as_labels, as_volume
from medssl_nb.viz.layers import as_colours, stack_layers
from medssl_nb.viz.marks import as_marks
from medssl_nb.viz.planes import plane_of, planes_worth_showing
from medssl_nb.viz.windows import window_range
from medssl_nb.widgets.browser_state import affine_of, contour_state, heat_state, label_state, volume_state
from medssl_nb.widgets.packing import level_steps, pack
from medssl_nb.widgets.picture import WithPicture

CONTROLS = ("slices", "readout", "window", "overlay", "labels", "help")
THEMES = ("auto", "light", "dark", "contrast")
LABEL_STYLES = ("both", "fill", "outline")
_OPTIONS = ("opacity", "visible_labels", "label_style", "theme", "smooth", "controls", "size", "layout")


class Checked(traitlets.Any):
    """A trait whose values, None included, are checked by the class that has it: with our words, as ValueError."""

    allow_none = False


class VoxelValue(NamedTuple):
    """What is known of one voxel."""

    intensity: float  # in the volume's own unit
    label: str | None  # "background" where there is no label, None where there is no label map
    heat: float | None


class SliceCanvas(WithPicture, anywidget.AnyWidget):
    """Planes of one RAS+ volume in the browser: scroll, point, window and blend there, with no Python in the loop.

    The volume goes to the browser once, in 8 bits (see `quantise`, and `grey_steps` for what that costs). What the
    reader does comes back in the traits below, and setting them from Python moves the picture. The browser needs no
    kernel for anything. Two canvases are joined with `ipywidgets.jslink((a, "crosshair"), (b, "crosshair"))`.

    Traits, all of them kept in step with the browser:
        crosshair: voxel (x, y, z) that all planes go through.
        clicked: voxel last clicked (the Enter key clicks on the crosshair), () before the first; `clicks` counts, so
            that a second click on it is noticed.
        window: (low, high) intensities that are black and white; a name in `CT_WINDOWS` may be assigned.
        opacity: of labels, heat and colours, 0 to 1.
        visible_labels: ids of the labels drawn.
        label_style: "both", "fill" or "outline".
        theme: "auto" follows JupyterLab, the page or the system; "light", "dark"; "contrast" for weak eyes.
        smooth: blur the voxels' edges.
        planes, controls, size, title: what is shown, and the longest side of a picture in CSS pixels.

    Args:
        volume: (X, Y, Z) or (1, X, Y, Z), numpy array, tensor or MetaTensor.
        label: label map or mask of the same grid; 0 is background. Cluster numbers that start at 0: add 1.
        planes: names of the planes, 1 to 3; None shows those that have an area.
        label_names: {id: name} or a list whose place is the id.
        affine: (4, 4) voxel to RAS mm; a MetaTensor brings its own.
        spacing_mm: mm per voxel, in place of an affine (then mm count from the first voxel).
        window: a name in `CT_WINDOWS`, (low, high), or None for the 0.5 and 99.5 percentile.
        unit: of the intensities; "HU" where the window has a name.
        heat: scores of the same grid, NaN where there is none; `heat_style`, `heat_range`: see `stack_layers`.
        heat_name: what the scores are.
        contour: mask or label map drawn as an outline only.
        colours: a colour for each voxel, (X, Y, Z, 3), uint8 or 0 to 1.
        marks: {name: voxel (x, y, z)}, at most three points, between voxels too.
        crosshair: where to start; None is the middle.
        title: a line above, also read out by screen readers.
        **traits: first values of the traits above.

    Raises:
        ValueError: what cannot be drawn, shapes that do not agree, an affine whose axes do not run to R, A and S.
    """

    _esm = Path(__file__).with_name("slice_canvas.js")
    _css = Path(__file__).with_name("slice_canvas.css")

    _as_marks = staticmethod(as_marks)  # gives each mark its sign

    # data for the browser, made by browser_state.py
    volume_bytes = traitlets.Bytes(b"").tag(sync=True)
    levels = traitlets.List(traitlets.Float()).tag(sync=True)  # intensity of each code
    exact = traitlets.Bool(True).tag(sync=True)  # whether the levels are the intensities themselves
    shape = traitlets.List(traitlets.Int(), [1, 1, 1]).tag(sync=True)
    spacing = traitlets.List(traitlets.Float(), [1.0, 1.0, 1.0]).tag(sync=True)
    affine = traitlets.List(traitlets.Float()).tag(sync=True)  # 16 numbers, row by row; empty when mm are not known
    unit = traitlets.Unicode("").tag(sync=True)
    presets = traitlets.List().tag(sync=True)  # windows to choose from: [name, low, high]
    window_limits = traitlets.List(traitlets.Float(), [0.0, 1.0]).tag(sync=True)  # ends of the window sliders
    label_bytes = traitlets.Bytes(b"").tag(sync=True)
    label_table = traitlets.List().tag(sync=True)  # of code 1, 2, ...: {id, name, colour, centre}
    contour_bytes = traitlets.Bytes(b"").tag(sync=True)
    contour_table = traitlets.List().tag(sync=True)  # of code 1, 2, ...: {id, name, colour}
    heat_bytes = traitlets.Bytes(b"").tag(sync=True)
    heat_range = traitlets.List(traitlets.Float(), [0.0, 1.0]).tag(sync=True)
    heat_clipped = traitlets.List(traitlets.Bool(), [False, False]).tag(sync=True)  # scores beyond the range's ends?
    heat_palette = traitlets.Bytes(b"").tag(sync=True)
    heat_name = traitlets.Unicode("score").tag(sync=True)
    colour_bytes = traitlets.Bytes(b"").tag(sync=True)
    mark_table = traitlets.List().tag(sync=True)  # {name, voxel, colour, shape}

    # what the reader and Python both set
    crosshair = Checked((0, 0, 0)).tag(sync=True)
    clicked = Checked(()).tag(sync=True)
    clicks = traitlets.Int(0).tag(sync=True)
    window = Checked((0.0, 1.0)).tag(sync=True)
    opacity = traitlets.Float(0.4).tag(sync=True)
    visible_labels = Checked(()).tag(sync=True)
    label_style = traitlets.Enum(LABEL_STYLES, "both").tag(sync=True)
    theme = traitlets.Enum(THEMES, "auto").tag(sync=True)
    smooth = traitlets.Bool(False).tag(sync=True)
    planes = Checked(("axial",)).tag(sync=True)
    controls = Checked(("slices", "readout")).tag(sync=True)
    size = traitlets.Int(340, min=80).tag(sync=True)
    title = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        volume,
        label=None,
        *,
        planes: Sequence[str] | None = None,
        label_names: Mapping[int, str] | Sequence[str] | None = None,
        affine=None,
        spacing_mm: Sequence[float] | None = None,
        window=None,
        unit: str | None = None,
        heat=None,
        heat_style: str = "score",
        heat_range: tuple[float, float] | None = None,
        heat_name: str = "score",
        contour=None,
        colours=None,
        marks: Mapping[str, Sequence[float]] | None = None,
        crosshair: Sequence[int] | None = None,
        title: str = "",
        **traits,
    ):
        if unknown := set(traits) - set(_OPTIONS):
            raise ValueError(f"{type(self).__name__} has no option {unknown}; further ones are {', '.join(_OPTIONS)}.")
        state = self._load_volume(volume, affine=affine, spacing_mm=spacing_mm, window=window, unit=unit)
        state |= self._load_label(label, label_names)
        state |= self._load_heat(heat, heat_style, heat_range, heat_name)
        state |= self._load_contour(contour, label_names)
        state |= self._load_colours(colours) | self._load_marks(marks)
        state["planes"] = planes_worth_showing(state["shape"]) if planes is None else planes
        if crosshair is not None:
            state["crosshair"] = crosshair
        super().__init__(**{**state, "title": title, **traits})

    # ---- what is shown -------------------------------------------------------------------------------------------

    def set_volume(self, volume, *, affine=None, spacing_mm=None, window=None, unit: str | None = None) -> None:
        """Show another volume. What lies over it and the crosshair stay if the shape does, else they go."""
        state = self._load_volume(volume, affine=affine, spacing_mm=spacing_mm, window=window, unit=unit)
        if state["shape"] == self.shape:
            del state["crosshair"]
        else:
            state |= self._load_label(None) | self._load_heat(None) | self._load_contour(None) | {"clicked": ()}
            state |= self._load_colours(None) | self._load_marks(None)
        self._take_over(state)

    def set_label(self, label, label_names: Mapping[int, str] | Sequence[str] | None = None) -> None:
        """Show another label map or mask, all labels visible; None takes it away."""
        self._take_over(self._load_label(label, label_names))

    def set_heat(
        self,
        heat,
        *,
        heat_style: str = "score",
        heat_range: tuple[float, float] | None = None,
        heat_name: str = "score",
    ) -> None:
        """Show another heat map; None takes it away."""
        self._take_over(self._load_heat(heat, heat_style, heat_range, heat_name))

    def set_contour(self, contour, label_names: Mapping[int, str] | Sequence[str] | None = None) -> None:
        """Draw another outline; None takes it away."""
        self._take_over(self._load_contour(contour, label_names))

    def set_colours(self, colours) -> None:
        """Lay other colours over the image; None takes them away."""
        self._take_over(self._load_colours(colours))

    def set_marks(self, marks: Mapping[str, Sequence[float]] | None) -> None:
        """Mark other points; None or {} marks none."""
        self._take_over(self._load_marks(marks))

    # Each of these checks one layer, keeps it for the picture and for values, and returns what the browser gets.

    def _load_volume(self, volume, *, affine, spacing_mm, window, unit) -> dict:
        array = as_volume(volume)
        matrix = affine_of(volume, affine, spacing_mm)
        ends = window_range(array, window)
        self._volume = array
        unit = unit if unit is not None else "HU" if isinstance(window, str) else ""
        name = "as given" if window is not None and not isinstance(window, str) else None
        return volume_state(array, matrix, ends, unit, name)

    def _load_label(self, label, label_names=None) -> dict:
        array = None if label is None else as_labels(label, self._volume, "label")
        if array is not None and label_names is None and str(getattr(label, "dtype", "")).endswith("bool"):
            label_names = {1: "mask"}
        state = label_state(array, label_names)
        self._label, self._label_names = array, label_names
        return state

    def _load_heat(self, heat, heat_style="score", given_range=None, heat_name="score") -> dict:
        array = None if heat is None else as_heat(heat, self._volume)
        state = heat_state(array, heat_style, given_range, heat_name)
        self._heat, self._heat_style = array, heat_style
        return state

    def _load_contour(self, contour, label_names=None) -> dict:
        array = None if contour is None else as_labels(contour, self._volume, "contour")
        state = contour_state(array, label_names)
        self._contour, self._contour_names = array, label_names
        return state

    def _load_colours(self, colours) -> dict:
        self._colours = None if colours is None else as_colours(colours, self._volume)
        return {"colour_bytes": b"" if colours is None else pack(self._colours)}

    def _load_marks(self, marks) -> dict:
        self._marks = self._as_marks(marks, self._volume.shape)
        return {"mark_table": [{**mark._asdict(), "voxel": list(mark.voxel)} for mark in self._marks]}

    def _take_over(self, state: dict) -> None:
        """Set many traits as one: checked together, sent in one message."""
        with self.hold_sync(), self.hold_trait_notifications():
            for name, value in state.items():
                setattr(self, name, value)

    # ---- what is known of a place --------------------------------------------------------------------------------

    def voxel_mm(self, voxel: Sequence[float]) -> tuple[float, float, float]:
        """RAS mm of a voxel (x, y, z).

        Raises:
            ValueError: neither affine nor spacing is known.
        """
        if not self.affine:
            raise ValueError("mm are not known: give the widget an affine=(4, 4) or spacing_mm=(dx, dy, dz).")
        from medssl_nb.data.geometry import voxel_to_mm

        return tuple(float(v) for v in voxel_to_mm(np.reshape(self.affine, (4, 4)), [voxel])[0])

    @property
    def crosshair_mm(self) -> tuple[float, float, float]:
        """RAS mm of the crosshair."""
        return self.voxel_mm(self.crosshair)

    @property
    def clicked_mm(self) -> tuple[float, float, float] | None:
        """RAS mm of the voxel last clicked, None before the first click."""
        return self.voxel_mm(self.clicked) if self.clicked else None

    @property
    def value_at_crosshair(self) -> VoxelValue:
        """Intensity as it is in the volume, label name and heat at the crosshair."""
        at = tuple(self.crosshair)
        label = None
        if self._label is not None:
            names = {row["id"]: row["name"] for row in self.label_table} | {0: "background"}
            label = names[int(self._label[at])]
        heat = None if self._heat is None else float(self._heat[at])
        return VoxelValue(float(self._volume[at]), label, heat)

    @property
    def grey_steps(self) -> tuple[float, float]:
        """Steps of the grey values in the browser, in intensity: the largest inside the window, the largest of all.

        (0, 0) if the browser holds every value exactly. The picture beside the widget is always drawn exactly.
        """
        return (0.0, 0.0) if self.exact else level_steps(np.array(self.levels), self.window)

    # ---- checks --------------------------------------------------------------------------------------------------

    @traitlets.validate("crosshair")
    def _check_crosshair(self, proposal):
        return _voxel(proposal["value"], self.shape, "crosshair")

    @traitlets.validate("clicked")
    def _check_clicked(self, proposal):
        return () if len(proposal["value"]) == 0 else _voxel(proposal["value"], self.shape, "clicked")

    @traitlets.validate("window")
    def _check_window(self, proposal):
        return window_range(getattr(self, "_volume", 0), proposal["value"])

    @traitlets.validate("opacity")
    def _check_opacity(self, proposal):
        if not 0 <= proposal["value"] <= 1:
            raise ValueError(f"opacity runs from 0 (invisible) to 1 (covers the image), got {proposal['value']}.")
        return proposal["value"]

    @traitlets.validate("visible_labels")
    def _check_visible_labels(self, proposal):
        wanted = {int(i) for i in proposal["value"]}
        known = [row["id"] for row in self.label_table]
        if unknown := sorted(wanted - set(known)):
            raise ValueError(f"no such label: {unknown}; this label map holds {known}.")
        return tuple(i for i in known if i in wanted)

    @traitlets.validate("planes")
    def _check_planes(self, proposal):
        names = [proposal["value"]] if isinstance(proposal["value"], str) else list(proposal["value"])
        for name in names:
            plane_of(name)
        if not names or len(set(names)) != len(names):
            raise ValueError(f"planes are one to three different names, got {names}.")
        return tuple(names)

    @traitlets.validate("controls")
    def _check_controls(self, proposal):
        names = tuple(proposal["value"])
        if unknown := [name for name in names if name not in CONTROLS]:
            raise ValueError(f"no such controls: {unknown}; there are {', '.join(CONTROLS)}.")
        return names

    def set_state(self, sync_data):
        """Take over what the browser reports. A linked canvas of another size may point outside: stay inside."""
        for name in ("crosshair", "clicked"):
            voxel = sync_data.get(name)
            if voxel:
                inside = [min(max(int(v), 0), n - 1) for v, n in zip(voxel, self.shape, strict=True)]
                sync_data = {**sync_data, name: inside}
        super().set_state(sync_data)

    def _layers(self):
        """What is shown now, for the picture."""
        return stack_layers(
            self._volume,
            spacing_mm=self.spacing if self.affine else None,
            window=self.window,
            unit=self.unit,
            labels=self._label,
            label_names=self._label_names,
            visible=self.visible_labels,
            heat=self._heat,
            heat_style=self._heat_style,
            heat_range=None if self._heat is None else tuple(self.heat_range),
            contour=self._contour,
            colours=self._colours,
            marks={mark.name: mark.voxel for mark in self._marks},
            fill=self.label_style != "outline",
            outline=self.label_style != "fill",
            opacity=self.opacity,
        )

    def _static_png(self) -> bytes:
        from medssl_nb.viz.slices import layers_png

        return layers_png(self._layers(), self.crosshair, planes=self.planes, title=self.title or None)

    def __repr__(self) -> str:
        size = "×".join(map(str, self.shape))
        return f"<{type(self).__name__} of {size} voxels, crosshair {self.crosshair}>"


def _voxel(value, shape, name: str) -> tuple[int, int, int]:
    numbers = np.asarray(value)
    if numbers.shape != (3,) or numbers.dtype.kind not in "iuf" or (numbers != np.round(numbers)).any():
        raise ValueError(f"{name} is a voxel, three whole numbers (x, y, z); got {value}.")
    if (numbers < 0).any() or (numbers >= shape).any():
        raise ValueError(f"{name} {numbers.tolist()} lies outside the volume of shape {tuple(shape)}; count from 0.")
    return tuple(int(v) for v in numbers)
