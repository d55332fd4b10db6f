"""Cohorts: named sets of cases with a fixed split, one interface for generated, public and the reader's own scans."""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from medssl_nb.data.geometry import mm_to_voxel, voxel_to_mm
from medssl_nb.data.intensity import normalise
from medssl_nb.data.locations import data_folders, find_dataset
from medssl_nb.data.splits import Split

GENERATED = ("phantom", "brain")
REAL = ("hippocampus", "headneck_ct", "torso", "ms_lesions")


@dataclass(frozen=True)
class Case:
    """One scan and what is known of it. Files are read, or volumes generated, when asked for, not before.

    `volumes` maps a name ("image", "label", "lesion", "target", "structures", ...) to a function that returns a
    MetaTensor (C, X, Y, Z); functions are picklable, so cases travel to data-loader workers.
    """

    name: str
    subject: str
    modality: str
    volumes: Mapping[str, Callable] = field(repr=False)
    label_names: Mapping[int, str] = field(default_factory=dict, repr=False)
    structure_names: Mapping[int, str] = field(default_factory=dict, repr=False)
    landmarks_mm: Mapping[str, tuple[float, float, float]] = field(default_factory=dict, repr=False)

    def image(self):
        """Grey values as stored (CT: HU), MetaTensor (C, X, Y, Z)."""
        return self.read("image")

    def normalised(self):
        """Grey values scaled by modality (see `normalise`), float32 MetaTensor (C, X, Y, Z)."""
        return normalise(self.image(), self.modality)

    def label(self):
        """Label map, MetaTensor (1, X, Y, Z) of whole numbers; `label_names` says what they mean."""
        return self.read("label")

    def read(self, name: str):
        """Any volume of this case by name; `available` lists the names."""
        if name not in self.volumes:
            if name == "label":
                raise ValueError(
                    f"case {self.name} comes without labels: it has {', '.join(self.available)}. Labelled cases are in "
                    "cohort.train, cohort.few_shot(k), cohort.validation and cohort.test."
                )
            raise ValueError(f"case {self.name} has no {name!r}; it has {', '.join(self.available)}.")
        return self.volumes[name]()

    @property
    def available(self) -> tuple[str, ...]:
        return tuple(self.volumes)

    def without_labels(self) -> "Case":
        """The same case with nothing but its image, as self-supervised training may see it."""
        return replace(self, volumes={"image": self.volumes["image"]}, landmarks_mm={})


@dataclass(frozen=True)
class Cohort:
    """A named set of cases and its split. No subject stands in two parts.

    Attributes:
        name, modality, label_names: what it is.
        cases: every case by name.
        split: names of the cases for training, validation (to choose) and test (to report).
        extra: names of cases that never had labels; pre-training may use them.
        patient_map: for generated cohorts, case name -> `PatientMap` (mm in the patient <-> mm in the template).
    """

    name: str
    modality: str
    cases: Mapping[str, Case] = field(repr=False)
    split: Split = field(repr=False)
    label_names: Mapping[int, str] = field(default_factory=dict, repr=False)
    extra: tuple[str, ...] = field(default=(), repr=False)
    patient_map: Callable | None = field(default=None, repr=False)
    about: str = ""

    def __getitem__(self, name: str) -> Case:
        try:
            return self.cases[name]
        except KeyError:
            near = ", ".join(list(self.cases)[:3])
            raise KeyError(
                f"cohort {self.name} has no case {name!r}; its {len(self.cases)} names look like {near}"
            ) from None

    def __len__(self) -> int:
        return len(self.cases)

    @property
    def train(self) -> list[Case]:
        """Training cases with their labels: for the fully supervised ceiling, never for pre-training."""
        return [self.cases[name] for name in self.split.train]

    @property
    def unlabelled(self) -> list[Case]:
        """Images for pre-training: the training cases without their labels, and those that never had any."""
        return [self.cases[name].without_labels() for name in (*self.split.train, *self.extra)]

    @property
    def validation(self) -> list[Case]:
        """Labelled cases to choose steps, layers and temperatures on."""
        return [self.cases[name] for name in self.split.validation]

    @property
    def test(self) -> list[Case]:
        """Labelled cases to report a number on, once, when everything is chosen."""
        return [self.cases[name] for name in self.split.test]

    def few_shot(self, k: int, draw: int = 0) -> list[Case]:
        """`k` labelled training cases. Draws are nested: those of k = 2 are among those of k = 4.

        Raises:
            ValueError: the cohort has fewer draws, or the draw fewer cases.
        """
        if not self.split.train:
            raise ValueError(f"cohort {self.name} has no labelled training cases; look at it, or pre-train on it.")
        if not 0 <= draw < len(self.split.few_shot):
            raise ValueError(
                f"cohort {self.name} has few-shot draws 0 to {len(self.split.few_shot) - 1}, got draw={draw}."
            )
        order = self.split.few_shot[draw]
        if not 1 <= k <= len(order):
            raise ValueError(f"few-shot draw {draw} of {self.name} holds 1 to {len(order)} labelled cases, got k={k}.")
        return [self.cases[name] for name in order[:k]]

    def _own(self, case: str | Case) -> Case:
        """The case of this cohort; another cohort has other patients, or other voxels, under the same names."""
        own = self[case.name if isinstance(case, Case) else case]
        if isinstance(case, Case) and case.volumes["image"] != own.volumes["image"]:
            raise ValueError(f"{case.name} is a case of another cohort (other seed or grid); take both from one.")
        return own

    def correspondence(self, a: str | Case, b: str | Case, points, *, space: str = "voxel") -> np.ndarray:
        """Where points of patient `a` lie in patient `b`, exactly; only generated cohorts know.

        Args:
            a, b: cases, or their names.
            points: (N, 3), voxel indices in `a` (space="voxel") or RAS mm (space="mm"). They may be fractional.
            space: unit of the points given and returned.

        Returns:
            (N, 3) float64 in `b`; points may fall outside its field of view.

        Raises:
            ValueError: a cohort of real scans, or a case of another cohort.
        """
        if self.patient_map is None:
            raise ValueError(
                f"{self.name} is a set of real scans: nobody knows its exact correspondence. "
                f"Use a generated cohort ({', '.join(GENERATED)}), or landmarks where a case has them."
            )
        if space not in ("voxel", "mm"):
            raise ValueError(f'space is "voxel" or "mm", got {space!r}.')
        a, b = (self._own(case) for case in (a, b))
        in_mm = points if space == "mm" else voxel_to_mm(a.volumes["image"].affine, points)
        found = self.patient_map(b.name).to_patient(self.patient_map(a.name).to_template(in_mm))
        return found if space == "mm" else mm_to_voxel(b.volumes["image"].affine, found)


def load_cohort(name: str | os.PathLike, **options) -> Cohort:
    """Open a cohort by name, or a folder of your own.

    - "phantom", "brain": generated, no download. Options: see `medssl_nb.data.generated.generated_cohort`.
    - "hippocampus", "headneck_ct", "torso", "ms_lesions": real; looked for in the folders of `MEDSSL_DATA`, then in
      the cache.
    - any other data set of `data_scripts/README.md` that is arranged as a cohort, by its folder's name
      ("msd_brain_tumour"): looked for in the same places.
    - a path: a folder of NIfTI files in one of three layouts. Options: see `medssl_nb.data.folders.folder_cohort`.

    Real scans take two more options: `skip`, names of cases to leave out, and `spacing_mm`, one number or three, the
    working grid onto which every case is brought when it is read (`medssl_nb.data.to_working_grid`).

    Raises:
        FileNotFoundError: a real data set or a folder that is not there; the message names the command that fetches it.
        ValueError: an unknown name, or contents that do not fit together.
    """
    if name in GENERATED:
        from medssl_nb.data.generated import generated_cohort

        return generated_cohort(str(name), **options)
    spacing = options.pop("spacing_mm", None)
    cohort = _stored_cohort(name, **options)
    if spacing is None:
        return cohort
    from medssl_nb.data.working_grid import on_working_grid

    return on_working_grid(cohort, spacing)


def _stored_cohort(name: str | os.PathLike, *, skip: Collection[str] = (), **options) -> Cohort:
    """A cohort of files, as they are stored."""
    from medssl_nb.data.folders import folder_cohort

    if name in REAL:
        from medssl_nb.data import real

        folder = find_dataset(str(name))
        if folder is None:
            raise FileNotFoundError(_how_to_get(str(name)))
        return _leave_out(getattr(real, str(name))(folder, **options), skip)
    if folder := _fetched(str(name)):
        return folder_cohort(folder, name=str(name), skip=skip, **options)
    own = Path(name).expanduser()
    if own.is_dir():
        return folder_cohort(own, skip=skip, **options)
    if os.sep in str(name) or str(name).startswith((".", "~")):
        raise FileNotFoundError(f"{name} is not a folder; a cohort of your own is a folder of .nii.gz files.")
    raise ValueError(f"no cohort {str(name)!r}: choose {', '.join((*GENERATED, *REAL))}, or give a folder.")


def _leave_out(cohort: Cohort, skip: Collection[str]) -> Cohort:
    """The cohort without some of its cases."""
    from medssl_nb.data.folders import without

    if strangers := sorted(set(skip) - set(cohort.cases)):
        raise ValueError(f"skip names {strangers[0]!r}, which {cohort.name} does not hold.")
    cases = {name: case for name, case in cohort.cases.items() if name not in skip}
    extra = tuple(name for name in cohort.extra if name not in skip)
    return replace(cohort, cases=cases, split=without(cohort.split, skip), extra=extra)


def _fetched(name: str) -> Path | None:
    """The folder of a data set of the catalogue that is no cohort of its own; FileNotFoundError if it is not here."""
    from medssl_nb.data.catalogue import DATA_SETS

    if not any(name == row.folder and row.arrangement != "as it is" for row in DATA_SETS):
        return None
    if (folder := find_dataset(name)) is None:
        raise FileNotFoundError(_how_to_get(name))
    return folder


def _how_to_get(name: str) -> str:
    from medssl_nb.data.catalogue import command_for

    looked = ", ".join(str(folder / name) for folder in data_folders())
    return (
        f"The {name} scans are not here (looked for {looked}). Fetch them with `{command_for(name)}`, "
        "or set MEDSSL_DATA to the folder that holds them."
    )
