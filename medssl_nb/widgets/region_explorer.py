"""Does cluster k mean the same thing in every patient? Regions of two patients, cosine by cosine."""

import textwrap
from collections.abc import Mapping, Sequence
from html import escape, unescape
from typing import NamedTuple

import ipywidgets
import numpy as np
import traitlets

from medssl_nb.viz.arrays import as_labels, as_volume, known_spacing, names_by_id
from medssl_nb.viz.clusters import MOST_CLUSTERS
from medssl_nb.viz.patches import join_pngs
from medssl_nb.viz.regions import checked_pair, filled_regions, nearest_columns
from medssl_nb.widgets.cluster_explorer import ClusterCanvas
from medssl_nb.widgets.packing import inner_voxels
from medssl_nb.widgets.picture import WithPicture
from medssl_nb.widgets.region_matrix import RegionMatrix
from medssl_nb.widgets.setting import Setting

AGAINST = ("right patient", "prototypes")
_SIDES = ("left", "right")
_NEARLY = 0.95  # of the largest heat: from there on a voxel counts as its highest place
_FAINT = 0.02  # heat below this share of its scale is left transparent


class RegionExplorer(WithPicture, ipywidgets.VBox):
    """Clusters of two patients side by side, and how alike their regions (mean embeddings) are.

    A click on a cell (i, j) of the matrix, or an arrow key there, shows the soft assignment to cluster i on the left
    and to cluster j on the right, and goes to where it is highest; Escape or the button shows all clusters again. A
    dot marks the nearest column of each row: dots on the diagonal are clusters that mean the same in both patients.
    Compared with the prototypes, the right side shows the right patient's cluster j.
    Without a browser: set `.left`, `.right`, `.against` or `.cell`; read `.cosines`, `.nearest`, `.heats` and
    `.line.value`.

    >>> explorer = RegionExplorer(volumes, assignments, embeddings)
    >>> explorer.cell = (3, 3)
    >>> explorer.line.value

    Args:
        volumes: of 2 to 4 patients, (X, Y, Z) or (1, X, Y, Z); they may differ in shape.
        assignments: a of each patient, (K, X, Y, Z) or (1, K, X, Y, Z), sums 1 over K; K from 2 to 40.
        embeddings: z of each patient, (D, X, Y, Z) or (1, D, X, Y, Z), one D for all.
        names: of the patients; None is "patient 0", "patient 1", ...
        spacing_mm: mm per voxel along x, y, z, for all patients, or a list with three numbers for each.
        window: as in `SliceCanvas`, for all patients.
        label: label maps, one for each patient, to say which organ a cluster lies in; 0 is background.
        label_names: {id: name} or a list whose place is the id.
        left, right: numbers of the patients to start with, from 0.
        against: what the left patient's regions are compared with, "right patient" or "prototypes" (of all patients).
        cell: (i, j) to start with, None for none.
        title: a line above.
        planes, size, opacity: as in `SliceCanvas`.

    Raises:
        ValueError: lists of different length, shapes that do not agree, assignments that are none.
    """

    left = Setting("the number of the patient on the left")
    right = Setting("the number of the patient on the right")
    against = Setting("what the regions of the left patient are compared with")

    def __init__(
        self,
        volumes: Sequence,
        assignments: Sequence,
        embeddings: Sequence,
        *,
        names: Sequence[str] | None = None,
        spacing_mm=None,
        window=None,
        label: Sequence | None = None,
        label_names: Mapping[int, str] | Sequence[str] | None = None,
        left: int = 0,
        right: int = 1,
        against: str = AGAINST[0],
        cell=None,
        title: str = "",
        planes: Sequence[str] | None = ("axial",),
        size: int = 300,
        opacity: float = 0.6,
    ):
        self._patients = _checked_patients(volumes, assignments, embeddings, names, spacing_mm, label)
        self._label_names, self._window, self.title = label_names, window, title
        self.num_clusters = len(self._patients[0].regions)
        self.controls = _controls([patient.name for patient in self._patients])
        self.left, self.right, self.against = left, right, against
        look = {"window": window, "planes": planes, "size": size, "opacity": opacity}
        self.canvases = {side: self._canvas(self._patient(side), look) for side in _SIDES}
        self._find_cosines()
        self.matrix = RegionMatrix(**self._compared, layout={"flex": "1 1 300px", "min_width": "240px"})
        self.line = ipywidgets.HTML(layout={"min_height": "58px"})  # two lines, so that cells stay under the pointer
        self.all_button = ipywidgets.Button(description="all clusters", tooltip="leave the cell: show all clusters")
        for side in _SIDES:
            self._show_side(side)
        self.matrix.cell = cell
        self._show_cell()

        self.controls["left"].observe(self._change_left, names="value")
        self.controls["right"].observe(self._change_right, names="value")
        self.controls["against"].observe(self._show_matrix, names="value")
        self.matrix.observe(self._show_cell, names="cell")
        for name in ("opacity", "label_style"):
            traitlets.link(*[(canvas, name) for canvas in self.canvases.values()])
        self.all_button.on_click(self._leave_cell)
        super().__init__(children=self._arranged())

    # ---- what is chosen and what comes out ----

    @property
    def cell(self) -> tuple[int, int] | None:
        """(cluster on the left, cluster on the right or prototype) that is chosen, None for none."""
        return tuple(self.matrix.cell) or None

    @cell.setter
    def cell(self, cell) -> None:
        self.matrix.cell = checked_pair(cell, self.num_clusters) or ()

    @property
    def heats(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Soft assignments (X, Y, Z) to the clusters of the cell, left and right; None without a cell."""
        if self.cell is None:
            return None
        return tuple(self._patient(side).assignment(k) for side, k in zip(_SIDES, self.cell, strict=True))

    def _patient(self, side: str) -> "_Patient":
        return self._patients[self.controls[side].value]

    # ---- what follows what ----

    def _change_left(self, change=None) -> None:
        self._change_patient("left")

    def _change_right(self, change=None) -> None:
        self._change_patient("right")

    def _change_patient(self, side: str) -> None:
        canvas = self.canvases[side]
        with canvas.hold_sync():  # all clusters of the new patient are not drawn before the one that is chosen
            canvas.show_patient(self._patient(side), self._window)
            self._show_heats(go_there=(side,))
        self._show_matrix()

    def _show_matrix(self, change=None) -> None:
        self._find_cosines()
        self.matrix.set_cosines(**self._compared)
        self.line.value = self._words()

    def _find_cosines(self) -> None:
        """Cosines of the left patient's regions with those of the right one, or with the prototypes of all."""
        import torch

        from medssl_nb.methods.local_discrimination import region_prototypes

        rows, columns = self._patient("left").regions, self._patient("right").regions
        if self.against == "prototypes":
            columns = region_prototypes(torch.stack([patient.regions for patient in self._patients]))
        self.cosines = (rows @ columns.T).numpy()
        self._filled = filled_regions(rows.numpy()), filled_regions(columns.numpy())
        self.nearest = nearest_columns(self.cosines, *self._filled)

    @property
    def _compared(self) -> dict:
        """What the matrix shows."""
        of_right = f"cluster of {self._patient('right').name}"
        columns = of_right if self.against != "prototypes" else f"prototype of {len(self._patients)} patients"
        return {
            "cosines": self.cosines,
            "nearest": self.nearest,
            "names": (f"cluster of {self._patient('left').name}", columns),
        }

    def _show_cell(self, change=None) -> None:
        self.line.value = self._words()
        self._show_heats(go_there=_SIDES)

    def _show_heats(self, go_there: Sequence[str] = ()) -> None:
        heats = self.heats
        if heats is None:
            for canvas in self.canvases.values():
                canvas.show_all()
            return
        top = max(*(float(heat.max()) for heat in heats), 1 / self.num_clusters)  # one scale for both sides
        for side, heat, cluster in zip(_SIDES, heats, self.cell, strict=True):
            self.canvases[side].show_one(heat, top, f"cluster {cluster}", go_there=side in go_there)

    def _leave_cell(self, button=None) -> None:
        self.cell = None

    # ---- words ----

    def _words(self) -> str:
        return escape("; ".join(self._cell_words() if self.cell else self._matrix_words()))

    def _matrix_words(self) -> list[str]:
        own = self.nearest == np.arange(self.num_clusters)
        left, right = (self._patient(side).name for side in _SIDES)
        same = f"the same cluster of {right}" if self.against != "prototypes" else "their own prototype"
        filled = self._filled[0]
        words = [f"{own.sum()} of {filled.sum()} clusters of {left} lie nearest to {same}"]
        if not filled.all():
            words[0] += f" ({(~filled).sum()} without voxels)"
        known, diagonal = np.outer(*self._filled), np.eye(self.num_clusters, dtype=bool)
        of = {"the same cluster": self.cosines[known & diagonal], "different ones": self.cosines[known & ~diagonal]}
        means = [f"of {which} {_number(found.mean())}" for which, found in of.items() if found.size]
        return [*words, f"mean cosine {', '.join(means)}"]

    def _cell_words(self) -> list[str]:
        i, j = self.cell
        words = [f"cluster {i} left and {self._column(j)}: cosine {_number(self.cosines[i, j])}"]
        nearest = self.nearest[i]
        if nearest == j:
            words.append("it is the nearest of all")
        elif nearest >= 0:
            words.append(f"nearest is {self._column(nearest)}, {_number(self.cosines[i, nearest])}")
        return words + [self._organ_words(side, cluster) for side, cluster in zip(_SIDES, self.cell, strict=True)]

    def _column(self, cluster: int) -> str:
        return f"prototype {cluster}" if self.against == "prototypes" else f"cluster {cluster} right"

    def _organ_words(self, side: str, cluster: int) -> str:
        """What most of the voxels are where the cluster is the strongest, or how many there are."""
        patient, name = self._patient(side), f"cluster {cluster} {side}"
        inside = patient.codes == cluster + 1
        if not inside.any():
            return f"{name} is nowhere the strongest"
        if patient.label is None:
            return f"{name} is the strongest in {_percent(inside.mean())} of voxels"
        counts = np.bincount(patient.label[inside])
        number = int(counts.argmax())
        organ = "background" if number == 0 else names_by_id(self._label_names, [number])[number]
        return f"{_percent(counts[number] / inside.sum())} of {name} is {organ}"

    # ---- arrangement ----

    def _canvas(self, patient: "_Patient", look: dict) -> "_PatientCanvas":
        canvas = _PatientCanvas(patient.volume, spacing_mm=patient.spacing, **look)
        canvas.layout = {"flex": "1 1 230px", "min_width": "0"}
        return canvas

    def _show_side(self, side: str) -> None:
        canvas, patient = self.canvases[side], self._patient(side)
        canvas.side = side
        canvas.show_patient(patient, self._window)

    def _arranged(self) -> list:
        wrapped = {"flex_flow": "row wrap"}
        above = ipywidgets.HBox([*self.controls.values(), self.all_button], layout=wrapped)
        start = {"align_items": "flex-start"}
        both = ipywidgets.HBox(list(self.canvases.values()), layout={**start, "flex": "2 1 470px", "min_width": "0"})
        row = ipywidgets.HBox([self.matrix, both], layout={**wrapped, **start})
        titles = [ipywidgets.HTML(f"<b>{escape(self.title)}</b>")] if self.title else []
        return [*titles, above, self.line, row]

    def _static_png(self) -> bytes:
        head = [self.title, *textwrap.wrap(unescape(self.line.value), 60)]
        matrix = self.matrix.picture("\n".join(line for line in head if line))
        pictures = [canvas.picture(self._caption(side)) for side, canvas in self.canvases.items()]
        return join_pngs([matrix, *pictures], beside=True)

    def _caption(self, side: str) -> str:
        return "all clusters" if self.cell is None else f"cluster {self.cell[_SIDES.index(side)]}"


class _Patient(NamedTuple):
    """One patient, checked."""

    name: str
    volume: np.ndarray  # (X, Y, Z)
    spacing: tuple | None
    assignments: object  # tensor (K, X, Y, Z)
    codes: np.ndarray  # uint8 (X, Y, Z): cluster with the largest assignment, + 1
    regions: object  # tensor (K, D)
    label: np.ndarray | None  # (X, Y, Z)

    def assignment(self, cluster: int) -> np.ndarray:
        return self.assignments[cluster].float().numpy()


class _PatientCanvas(ClusterCanvas):
    """Slices of one patient, with all clusters in their colours or one cluster's soft assignment as heat."""

    side = ""

    def show_patient(self, patient: _Patient, window) -> None:
        """Show another patient with all clusters; the crosshair stays where the shape does."""
        with self.hold_sync():
            if patient.volume is not self.volume:
                self.set_volume(patient.volume, spacing_mm=patient.spacing, window=window)
                self.volume = self._volume
            self.title = f"{self.side}: {patient.name}"
            self.name_clusters(len(patient.assignments))
            self.show_clusters(patient.codes)
            self.show_all()

    def show_all(self) -> None:
        """All clusters in their colours."""
        with self.hold_sync():
            self._take_over(self._load_heat(None))
            self.visible_labels = tuple(row["id"] for row in self.label_table)

    def show_one(self, heat: np.ndarray, top: float, name: str, *, go_there: bool) -> None:
        """Soft assignment (X, Y, Z) alone; the crosshair goes to where it is highest, if it may."""
        shown = np.where(heat >= _FAINT * top, heat, np.nan)
        with self.hold_sync():
            self.visible_labels = ()  # the readout still tells the cluster of a voxel
            self.set_heat(None if np.isnan(shown).all() else shown, heat_range=(0, top), heat_name=name)
            if go_there and heat.max() > 0:
                self.crosshair = inner_voxels((heat >= _NEARLY * heat.max()).astype(np.uint8), 1)[0]


def _controls(names: list[str]) -> dict:
    patients = {"options": [(name, number) for number, name in enumerate(names)]}
    short, long = (
        {"style": {"description_width": f"{letters}em"}, "layout": {"width": f"{letters + 11}em", "max_width": "100%"}}
        for letters in (3, 7)
    )
    return {
        "left": ipywidgets.Dropdown(**patients, description="left", **short),
        "right": ipywidgets.Dropdown(**patients, description="right", **short),
        "against": ipywidgets.Dropdown(options=AGAINST, description="compare with", **long),
    }


def _checked_patients(volumes, assignments, embeddings, names, spacing_mm, label) -> list[_Patient]:
    import torch

    from medssl_nb.methods.local_discrimination import region_embeddings

    count = len(volumes)
    if not 2 <= count <= 4:
        raise ValueError(f"volumes is a list of 2 to 4 patients, got {count}. To look into one alone: ClusterExplorer.")
    names = [f"patient {number}" for number in range(count)] if names is None else [str(name) for name in names]
    labels = [None] * count if label is None else label
    for what, given in (("assignments", assignments), ("embeddings", embeddings), ("names", names), ("label", labels)):
        if len(given) != count:
            raise ValueError(f"{what} holds {len(given)} entries, volumes {count}; give a list with one per patient.")
    if len(set(names)) < count:
        raise ValueError(f"names must differ, got {names}.")
    spacings = [known_spacing(*pair) for pair in zip(volumes, _spacings(spacing_mm, count), strict=True)]
    volumes = [as_volume(volume, f"volume of {name}") for volume, name in zip(volumes, names, strict=True)]
    pairs = [
        (_maps("assignments", a, volume, name), _maps("embeddings", z, volume, name))
        for a, z, volume, name in zip(assignments, embeddings, volumes, names, strict=True)
    ]
    for place, what in enumerate(("assignments", "embeddings")):
        if len(channels := {len(pair[place]) for pair in pairs}) > 1:
            raise ValueError(f"{what} have {sorted(channels)} channels; all patients need as many, of one network.")
    _check_assignments([a for a, _ in pairs], names)
    regions = [region_embeddings(z[None], a[None])[0] for a, z in pairs]
    finest = torch.float64 if any(one.dtype == torch.float64 for one in regions) else torch.float32
    return [
        _Patient(
            name=name,
            volume=volume,
            spacing=spacing,
            assignments=a,
            codes=(a.argmax(dim=0) + 1).to(torch.uint8).numpy(),
            regions=region.to(finest),
            label=None if organs is None else as_labels(organs, volume, f"label of {name}"),
        )
        for name, volume, spacing, (a, _), region, organs in zip(
            names, volumes, spacings, pairs, regions, labels, strict=True
        )
    ]


def _maps(what: str, maps, volume: np.ndarray, name: str):
    """(C, X, Y, Z) tensor on the CPU on the grid of the volume, finite."""
    import torch

    tensor = torch.as_tensor(maps).detach().cpu()
    tensor = tensor[0] if tensor.ndim == 5 and len(tensor) == 1 else tensor
    if tensor.ndim != 4 or tuple(tensor.shape[1:]) != volume.shape:
        raise ValueError(
            f"{what} of {name} must be (channels, X, Y, Z) on the grid {volume.shape} of its volume, got "
            f"{tuple(np.shape(maps))}."
        )
    if not tensor.isfinite().all():
        raise ValueError(f"{what} of {name} hold NaN or infinity: the training diverged.")
    return tensor


def _check_assignments(assignments: list, names: list[str]) -> None:
    if not 2 <= len(assignments[0]) <= MOST_CLUSTERS:
        raise ValueError(
            f"there must be 2 to {MOST_CLUSTERS} clusters, whose colours can be told apart; got {len(assignments[0])}."
        )
    for a, name in zip(assignments, names, strict=True):
        sums = a.float().sum(dim=0)
        if a.min() < 0 or (sums - 1).abs().max() > 2e-2:  # bfloat16 keeps two to three digits
            raise ValueError(
                f"assignments of {name} must be shares from 0 that sum to 1 over the clusters, found a smallest of "
                f"{a.min():.4g} and sums from {sums.min():.4g} to {sums.max():.4g}; take cluster_assignments(logits)."
            )


def _spacings(spacing_mm, count: int) -> list:
    """One spacing per patient, of one for all or a list."""
    if spacing_mm is None or np.ndim(spacing_mm) < 2:
        return [spacing_mm] * count
    if len(spacing_mm) != count:
        raise ValueError(f"spacing_mm is three numbers for all or one triple for each of {count} patients.")
    return list(spacing_mm)


def _number(value: float) -> str:
    return f"{value + 0.0:.2f}".replace("-0.00", "0.00").replace("-", "−")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.2g} %"
