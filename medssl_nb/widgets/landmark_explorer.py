"""Mark a point once: where is it in every other patient, and how far off?"""

import math
from collections.abc import Mapping, Sequence
from html import escape, unescape
from typing import NamedTuple

import ipywidgets
import numpy as np

from medssl_nb.viz.arrays import known_spacing
from medssl_nb.viz.embeddings import landmark_errors_png
from medssl_nb.viz.marks import nearest_voxel, point_inside
from medssl_nb.viz.patches import join_pngs
from medssl_nb.widgets.picture import WithPicture
from medssl_nb.widgets.setting import Setting
from medssl_nb.widgets.similarity_canvas import SimilarityCanvas, beside, unit_embeddings, voxel_text

BY_HAND = "by hand"
WINDOWS = tuple(range(1, 16, 2))
SIGMAS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, math.inf)
_MOST_SETTINGS = 4  # windows and sigmas whose averaged embeddings are kept
_PATIENT_KEYS = ("name", "volume", "embeddings", "landmarks", "spacing_mm")
_KEY = "Yellow ring: the point marked or found. Cyan square: the true point. Dashed: it lies on another slice."


class LandmarkExplorer(WithPicture, ipywidgets.VBox):
    """Mark a point in the template; in each patient the voxel is searched whose surroundings have most like embeddings.

    Click into the template (or press Enter on its crosshair), or choose one of its landmarks by name. Then the true
    points of the patients are known, and how far off each search ended is told. Without a browser: set `.point`,
    `.landmark`, `.patient`, `.window_size`, `.sigma` or `.show_map`; read
        found: {patient: voxel}, as `locate_landmark` with `.window_sizes` and `.sigma` finds it.
        cosines: {patient: cosine there}.
        errors: {patient: distance from the true point in mm, None where it is not known}.
        mean_error, success: mean of the known errors, share of them within `radius_mm`; None if none is known.
        similarity: (X, Y, Z) of the patient shown, with the last window.
        line.value: the result for the patient shown in words.

    Averaged embeddings are kept for the last four settings of window and sigma.

    Args:
        template: (X, Y, Z) or (1, X, Y, Z), where the point is marked.
        template_embeddings: (D, X, Y, Z) on its grid, unit vectors, array or tensor of any floating type.
        patients: of each a dictionary with "name", "volume", "embeddings" and, where known, "landmarks" {name: voxel
            (x, y, z)}, fractions between voxels, and "spacing_mm". Grids may differ.
        landmarks: of the template {name: voxel}; a fraction goes to the nearest voxel.
        spacing_mm: mm per voxel of the template, and of patients that bring none. Where mm are not known, distances
            and `radius_mm` count voxels.
        window: intensities, as in `SliceCanvas`, for all; None chooses for each.
        window_sizes: as in `locate_landmark`, from coarse to fine; the slider sets the last one, a whole number.
        sigma: width of the bell in half windows; `math.inf` is the plain mean.
        radius_mm: distance up to which a landmark counts as found.
        point: voxel to start with; None is the first landmark, or the middle.
        patient: name of the one shown first; None is the first.
        title: a line above.
        planes, size: as in `SliceCanvas`.

    Raises:
        ValueError: no patients, one that lacks something, shapes that do not agree, embeddings that are no unit
            vectors, landmarks outside their volume, mm that are known for some patients only.
    """

    patient = Setting("the patient shown at the right")
    window_size = Setting("the side of the last window in voxels")
    sigma = Setting("the width of the bell in half windows")

    def __init__(
        self,
        template,
        template_embeddings,
        patients: Sequence[Mapping],
        *,
        landmarks: Mapping[str, Sequence[float]] | None = None,
        spacing_mm: Sequence[float] | None = None,
        window=None,
        window_sizes: Sequence[int | Sequence[int]] = (7,),
        sigma: float = 0.5,
        radius_mm: float = 15.0,
        point: Sequence[int] | None = None,
        patient: str | None = None,
        title: str = "",
        planes: Sequence[str] | None = ("axial", "coronal"),
        size: int = 240,
    ):
        look = {"window": window, "planes": planes, "size": size}
        self.template = SimilarityCanvas(template, title="template", spacing_mm=spacing_mm, **look)
        self._embeddings = unit_embeddings(template_embeddings, self.template.shape, "template_embeddings")
        self._patients = [_checked_patient(one, spacing_mm, self._embeddings.shape[1]) for one in patients]
        self._unit = _unit_of(self._patients)
        self._landmarks = _checked_landmarks(landmarks, self.template.shape, "the template")
        self.coarse, last = _checked_windows(window_sizes)
        if not radius_mm > 0:
            raise ValueError(f"radius_mm must be above 0, got {radius_mm}.")
        self.radius_mm, self.title, self._window = float(radius_mm), title, window
        self._averages: dict[tuple, dict] = {}  # (window, sigma) -> number of the patient -> (1, D, X, Y, Z)
        self.controls = _controls(self._landmarks, [one.name for one in self._patients], last, float(sigma))
        self.window_size, self.sigma = last, float(sigma)
        if patient is not None:
            self.patient = patient
        first = self._shown
        self.canvas = SimilarityCanvas(first.volume, title=first.name, spacing_mm=first.spacing, **look)
        self.line = ipywidgets.HTML(layout={"min_height": "58px"})  # two lines, so that pictures stay where they are
        self.table = ipywidgets.HTML()
        self._point = self.template.crosshair
        if self._landmarks and point is None:
            self.landmark = next(iter(self._landmarks))
            self._point = nearest_voxel(self._landmarks[self.landmark])
        if point is not None:
            self._point = self._voxel(point)
        self._follow_point()

        self.template.observe(self._mark_clicked, names="clicks")
        self.controls["landmark"].observe(self._go_to_landmark, names="value")
        self.controls["patient"].observe(self._change_patient, names="value")
        for name in ("window_size", "sigma"):
            self.controls[name].observe(self._search, names="value")
        self.map_box.observe(self._show_patient, names="value")
        super().__init__(children=self._arranged())

    # ---- what Python and the reader both set ----

    @property
    def point(self) -> tuple[int, int, int]:
        """Voxel of the template that is marked."""
        return self._point

    @point.setter
    def point(self, voxel: Sequence[int]) -> None:
        self._point = self._voxel(voxel)
        if self.landmark is None:
            self._follow_point()
        else:
            self.controls["landmark"].value = BY_HAND  # which follows it

    @property
    def landmark(self) -> str | None:
        """Name of the landmark that is marked, None for a point marked by hand."""
        name = self.controls["landmark"].value
        return None if name == BY_HAND else name

    @landmark.setter
    def landmark(self, name: str | None) -> None:
        if name is not None and name not in self._landmarks:
            known = ", ".join(self._landmarks) or "none: give landmarks={name: voxel}"
            raise ValueError(f"no such landmark of the template: {name!r}; there are {known}.")
        self.controls["landmark"].value = BY_HAND if name is None else name

    @property
    def map_box(self) -> ipywidgets.Checkbox:
        """The control of `show_map`."""
        return self.controls["show_map"]

    @property
    def show_map(self) -> bool:
        """Whether the similarity of each voxel is laid over the patient."""
        return self.map_box.value

    @show_map.setter
    def show_map(self, shown: bool) -> None:
        self.map_box.value = bool(shown)

    # ---- what comes of it ----

    @property
    def window_sizes(self) -> tuple:
        """Windows of the search, from coarse to fine."""
        return (*self.coarse, self.window_size)

    @property
    def similarity(self) -> np.ndarray:
        return self._found[self._number].similarity

    @property
    def found(self) -> dict[str, tuple[int, int, int]]:
        return {one.name: hit.voxel for one, hit in zip(self._patients, self._found, strict=True)}

    @property
    def cosines(self) -> dict[str, float]:
        hits = zip(self._patients, self._found, strict=True)
        return {one.name: float(hit.similarity[hit.voxel]) for one, hit in hits}

    @property
    def errors(self) -> dict[str, float | None]:
        return {one.name: self._error(one, hit) for one, hit in zip(self._patients, self._found, strict=True)}

    @property
    def mean_error(self) -> float | None:
        known = self._known_errors
        return float(np.mean(known)) if known else None

    @property
    def success(self) -> float | None:
        from medssl_nb.methods.local_discrimination import success_rate

        known = self._known_errors
        return float(success_rate(known, self.radius_mm)) if known else None

    @property
    def _known_errors(self) -> list[float]:
        return [error for error in self.errors.values() if error is not None]

    @property
    def _number(self) -> int:
        return self.controls["patient"].index

    @property
    def _shown(self) -> "_Patient":
        return self._patients[self._number]

    # ---- what follows what ----

    def _mark_clicked(self, change=None) -> None:
        self.point = self.template.clicked

    def _go_to_landmark(self, change) -> None:
        if change["new"] != BY_HAND:
            self._point = nearest_voxel(self._landmarks[change["new"]])
        self._follow_point()

    def _change_patient(self, change=None) -> None:
        shown = self._shown
        with self.canvas.hold_sync():
            self.canvas.title = shown.name
            self.canvas.set_volume(shown.volume, spacing_mm=shown.spacing, window=self._window)
            self._show_patient()

    def _follow_point(self) -> None:
        with self.template.hold_sync():
            self.template.crosshair = self._point
            self.template.set_marks({"marked": self._point})
        self._search()

    def _search(self, change=None) -> None:
        """Find the point in all patients: first in the one shown, which is drawn before the others are searched."""
        self._found: list[_Found | None] = [None] * len(self._patients)
        self._found[self._number] = self._find(self._number)
        self._show_patient()
        for number in range(len(self._patients)):
            self._found[number] = self._found[number] or self._find(number)
        self.table.value = self._rows()

    def _find(self, number: int) -> "_Found":
        """What `locate_landmark` does, with averaged embeddings that are kept from point to point."""
        from medssl_nb.methods.local_discrimination import similarity_map

        box = [(0, side) for side in self._patients[number].volume.shape]  # where the last window has left to look
        for window in self.window_sizes:
            similarity = similarity_map(self._averaged(number, window), self._support(window))[0].numpy()
            within = similarity[tuple(slice(*ends) for ends in box)]
            best = np.unravel_index(within.argmax(), within.shape)
            voxel = tuple(int(b) + low for b, (low, _) in zip(best, box, strict=True))
            box = [(max(v - h, a), min(v + h + 1, b)) for v, h, (a, b) in zip(voxel, _half(window), box, strict=True)]
        return _Found(voxel, similarity)

    def _support(self, window):
        """Centre-sensitive embedding (D,) of the point, from no more of the template than its window."""
        from medssl_nb.methods.local_discrimination import center_sensitive_embeddings

        around = [slice(max(p - h, 0), p + h + 1) for p, h in zip(self._point, _half(window), strict=True)]
        averaged = center_sensitive_embeddings(self._embeddings[(..., *around)], window, sigma=self.sigma)
        return averaged[(0, slice(None), *(p - s.start for p, s in zip(self._point, around, strict=True)))]

    def _averaged(self, number: int, window):
        """Centre-sensitive embeddings of a patient, (1, D, X, Y, Z)."""
        from medssl_nb.methods.local_discrimination import center_sensitive_embeddings

        key = (window, self.sigma)
        kept = self._averages[key] = self._averages.pop(key, {})  # the setting last used is the last one
        if number not in kept:
            embeddings = self._patients[number].embeddings
            kept[number] = center_sensitive_embeddings(embeddings, window, sigma=self.sigma)
        for old in list(self._averages)[: -_MOST_SETTINGS * len(self.window_sizes)]:
            del self._averages[old]
        return kept[number]

    def _show_patient(self, change=None) -> None:
        hit, truth = self._found[self._number], self._shown.landmarks.get(self.landmark)
        with self.canvas.hold_sync():
            self.canvas.crosshair = hit.voxel
            self.canvas.set_marks({"found": hit.voxel} | ({} if truth is None else {"true": truth}))
            self.canvas.show_cosine(hit.similarity if self.show_map else None)
        self.line.value = escape(self._words())

    def _voxel(self, voxel: Sequence[int]) -> tuple[int, int, int]:
        point = point_inside(voxel, self.template.shape, "point")
        if any(v != round(v) for v in point):
            raise ValueError(f"point is a voxel of the template, three whole numbers; got {voxel}.")
        return nearest_voxel(point)

    # ---- words and pictures ----

    def _words(self) -> str:
        shown, hit = self._shown, self._found[self._number]
        what = f"{self.landmark} at {voxel_text(self._point)}" if self.landmark else f"voxel {voxel_text(self._point)}"
        cosine = f"{hit.similarity[hit.voxel]:.2f}".replace("-", "−")
        words = f"{what} of the template: in {shown.name} found at {voxel_text(hit.voxel)}, cosine {cosine}"
        error = self._error(shown, hit)
        return f"{words}; {error:.1f} {self._unit} from the true point" if error is not None else words

    def _rows(self) -> str:
        """Table of all patients, with a bar for each distance."""
        errors, cosines, found = self.errors, self.cosines, self.found
        known = [error for error in errors.values() if error is not None]
        longest = max([*known, self.radius_mm])
        head = "".join(f"<th style='{_CELL}'>{text}</th>" for text in ("patient", "found at", "cosine", "distance", ""))
        rows = []
        for name, error in errors.items():
            told = "true point not known" if error is None else f"{error:.1f} {self._unit}"
            sign = "" if error is None else "✓" if error <= self.radius_mm else "✗"
            bar = 0 if error is None else 140 * error / longest
            cells = [escape(name), voxel_text(found[name]), f"{cosines[name]:.2f}".replace("-", "−"), f"{told} {sign}"]
            cells.append(f"<div style='width:{bar:.0f}px;{_BAR}'></div>")
            rows.append("".join(f"<td style='{_CELL}'>{cell}</td>" for cell in cells))
        body = "".join(f"<tr>{row}</tr>" for row in (head, *rows))
        return f"<table style='border-collapse:collapse'>{body}</table>{escape(self._summary())}"

    def _summary(self) -> str:
        known = self._known_errors
        if not known:
            return "The true points are not known, so nothing can be scored: choose a landmark by name."
        hits = f"{round(self.success * len(known))} of {len(known)}"
        return f"Mean {self.mean_error:.1f} {self._unit}; ✓ within {self.radius_mm:g} {self._unit}: {hits}."

    def _error(self, patient: "_Patient", hit: "_Found") -> float | None:
        from medssl_nb.methods.local_discrimination import landmark_error

        truth = patient.landmarks.get(self.landmark)
        return None if truth is None else float(landmark_error(hit.voxel, truth, spacing=patient.spacing or 1.0))

    def _arranged(self) -> list:
        shown = [box for name, box in self.controls.items() if name != "landmark" or self._landmarks]
        row = ipywidgets.HBox(shown, layout={"flex_flow": "row wrap"})
        titles = [ipywidgets.HTML(f"<b>{escape(self.title)}</b>")] if self.title else []
        pair = beside(self.template, self.canvas)
        return [*titles, row, self.line, pair, ipywidgets.HTML(_KEY), self.table]

    def _static_png(self) -> bytes:
        sigma = "plain mean" if math.isinf(self.sigma) else f"sigma {self.sigma:g}"
        setting = f"window {' → '.join(str(w) for w in self.window_sizes)}, {sigma}"
        pictures = [self.template.picture(self.title, unescape(self.line.value), setting), self.canvas.picture()]
        if self._known_errors:
            look = {"radius": self.radius_mm, "unit": self._unit}
            pictures.append(landmark_errors_png(self.errors, title=self._summary().replace("✓ ", ""), **look))
        return join_pngs(pictures)


_CELL = "padding:1px 14px 1px 0;text-align:left;font-variant-numeric:tabular-nums"
_BAR = "height:0.7em;background:var(--jp-brand-color1,#3584c9)"


class _Patient(NamedTuple):
    name: str
    volume: np.ndarray
    embeddings: object  # tensor (1, D, X, Y, Z)
    landmarks: dict[str, tuple[float, float, float]]
    spacing: tuple[float, float, float] | None


class _Found(NamedTuple):
    voxel: tuple[int, int, int]
    similarity: np.ndarray  # (X, Y, Z)


def _checked_patient(one: Mapping, spacing_mm, channels: int) -> _Patient:
    from medssl_nb.viz.arrays import as_volume

    if missing := [key for key in _PATIENT_KEYS[:3] if key not in one]:
        raise ValueError(f"a patient lacks {', '.join(missing)}; it has {', '.join(map(str, one)) or 'nothing'}.")
    if unknown := [str(key) for key in one if key not in _PATIENT_KEYS]:
        raise ValueError(f"a patient has {', '.join(unknown)}; known are {', '.join(_PATIENT_KEYS)}.")
    name, volume = str(one["name"]), as_volume(one["volume"])
    embeddings = unit_embeddings(one["embeddings"], volume.shape, f"embeddings of {name}")
    if embeddings.shape[1] != channels:
        raise ValueError(
            f"embeddings of {name} have {embeddings.shape[1]} channels, those of the template {channels}; they must "
            "come from one network."
        )
    spacing = known_spacing(one["volume"], one.get("spacing_mm")) or known_spacing(volume, spacing_mm)
    return _Patient(name, volume, embeddings, _checked_landmarks(one.get("landmarks"), volume.shape, name), spacing)


def _checked_landmarks(landmarks, shape, whose: str) -> dict[str, tuple[float, float, float]]:
    landmarks = {} if landmarks is None else landmarks
    if BY_HAND in landmarks:
        raise ValueError(f"a landmark of {whose} is called {BY_HAND!r}, which stands for none; rename it.")
    return {str(name): point_inside(at, shape, f"landmark {name!r} of {whose}") for name, at in landmarks.items()}


def _unit_of(patients: Sequence[_Patient]) -> str:
    names = [one.name for one in patients]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"patients must be one or more with different names, got {names}.")
    without = [one.name for one in patients if one.spacing is None]
    if 0 < len(without) < len(names):
        raise ValueError(f"spacing_mm is known for some patients but not for {', '.join(without)}; give it for all.")
    return "voxels" if without else "mm"


def _checked_windows(window_sizes) -> tuple[tuple, int]:
    """Coarse windows, and the last one."""
    windows = tuple(window if isinstance(window, int) else tuple(window) for window in window_sizes)
    if not windows or not isinstance(windows[-1], int):
        raise ValueError(
            f"window_sizes must end with a whole number, which the slider sets, such as (7,); got {window_sizes}."
        )
    for sides in windows:
        if any(not isinstance(s, int) or s < 1 or s % 2 == 0 for s in ((sides,) if isinstance(sides, int) else sides)):
            raise ValueError(f"a window has an odd number of voxels from 1, so that it has a middle; got {sides}.")
    return windows[:-1], windows[-1]


def _half(window: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(side // 2 for side in ((window,) * 3 if isinstance(window, int) else window))


def _controls(landmarks: Mapping, names: Sequence[str], window: int, sigma: float) -> dict:
    if not sigma > 0:
        raise ValueError(f"sigma must be above 0 (math.inf is the plain mean), got {sigma}.")
    look = {"style": {"description_width": "6em"}, "layout": {"width": "25em", "max_width": "100%"}}
    sigmas = [("plain mean" if math.isinf(s) else f"{s:g}", s) for s in sorted({*SIGMAS, sigma})]
    windows = sorted({*WINDOWS, window})
    return {
        "landmark": ipywidgets.Dropdown(options=[BY_HAND, *landmarks], description="landmark", **look),
        "patient": ipywidgets.Dropdown(options=names, description="patient", **look),
        "window_size": ipywidgets.SelectionSlider(options=windows, value=window, description="window", **look),
        "sigma": ipywidgets.SelectionSlider(options=sigmas, value=sigma, description="sigma", **look),
        "show_map": ipywidgets.Checkbox(True, description="similarity over the patient", indent=False),
    }
