"""Generated patients as cohorts: any number of them, no download, exact truth about where each point went."""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path

import numpy as np

from medssl_nb.data.cohorts import Case, Cohort
from medssl_nb.data.files import write_atomically
from medssl_nb.data.locations import cache_folder
from medssl_nb.data.splits import Split, draw_few_shot

# Part -> first seed: a cohort with more cases holds the cases of the smaller one, and no seed serves two parts.
_FIRST_SEED = {"train": 0, "validation": 100_000, "test": 200_000}
_SEEDS_PER_COHORT = 1_000_000
_CONTENTS = ("image", "label", "lesion")
_LESION_NAMES = {0: "background", 1: "lesion"}


@dataclass(frozen=True)
class GeneratedVolume:
    """Makes one volume of one patient when called, or takes it from the cache."""

    kind: str
    content: str
    seed: int
    options: tuple[tuple[str, object], ...]
    as_label: bool = False  # whole numbers (uint8), as `read_label_map` gives them, where the array holds True or False

    def __call__(self):
        import torch
        from monai.data import MetaTensor

        arrays = _patient(self.kind, self.seed, self.options)
        array = arrays[self.content].copy()  # the cache stays as it is
        volume = torch.from_numpy(array.astype(np.uint8) if self.as_label else array)[None]  # -> (1, X, Y, Z)
        return MetaTensor(volume, affine=torch.from_numpy(arrays["affine"].copy()))

    @property
    def affine(self) -> np.ndarray:
        return _patient(self.kind, self.seed, self.options)["affine"]


def generated_cohort(
    kind: str,
    *,
    train: int = 80,
    validation: int = 8,
    test: int = 20,
    seed: int = 0,
    label: str = "anatomy",
    **options,
) -> Cohort:
    """The cohort "phantom" (abdominal CT in HU) or "brain" (T1-like or FLAIR-like MRI), with `case.read("lesion")`.

    Args:
        kind: "phantom" or "brain".
        train, validation, test: number of patients in each part; asking for more adds patients, it changes none.
        seed: another number, other patients.
        label: what `case.label()` holds: "anatomy" (organs or tissues), or "lesion" (0 background, 1 lesion; with
            lesion_share=1 every patient has one, if the grid is not too coarse to hold it). The patients and their
            cached files are the same.
        options: passed to `generate_phantom` or `generate_brain`: shape, spacing_mm, variation, lesion_share, ...

    Raises:
        ValueError: counts that are negative or too large, another word for label, an option the generator does not know
            or accept.
    """
    counts = {"train": train, "validation": validation, "test": test}
    for part, count in counts.items():
        if not (isinstance(count, int) and 0 <= count <= 100_000):
            raise ValueError(f"{part} is a number of patients from 0 to 100000, got {count!r}.")
    if not (isinstance(seed, int) and seed >= 0):
        raise ValueError(f"seed is a whole number from 0, got {seed!r}.")
    if label not in ("anatomy", "lesion"):
        raise ValueError(f'label is "anatomy" or "lesion", got {label!r}.')
    generator = _generator(kind)
    label_names = _LESION_NAMES if label == "lesion" else generator.label_names
    options = generator.checked_options(options)
    seeds = {
        f"{kind}_{part}_{i:03d}": seed * _SEEDS_PER_COHORT + _FIRST_SEED[part] + i
        for part, count in counts.items()
        for i in range(count)
    }
    frozen = tuple(sorted(options.items()))
    patient_map = _PatientMaps(kind, seeds, options["variation"])
    cases = {
        name: _case(generator, name, number, frozen, options["variation"], label_names)
        for name, number in seeds.items()
    }
    parts = {part: tuple(name for name in seeds if f"_{part}_" in name) for part in counts}
    split = Split(**parts, few_shot=draw_few_shot(parts["train"]))
    return Cohort(kind, generator.modality, cases, split, label_names, patient_map=patient_map)


@dataclass(frozen=True)
class _Generator:
    """What a kind of generated patient brings: functions of `phantom.py` or `brain.py`, and the facts of its images."""

    kind: str
    generate: object
    patient_map: object
    landmarks: dict
    label_names: dict
    modality: str

    def checked_options(self, options: dict) -> dict:
        """All options of the generator with their values; ValueError for one it does not know."""
        import inspect

        known = {n: p.default for n, p in inspect.signature(self.generate).parameters.items() if n != "seed"}
        strangers = sorted(set(options) - set(known))
        if strangers:
            raise ValueError(
                f"the {self.kind} cohort has no option {strangers[0]!r}; "
                f"it has train, validation, test, seed, label, {', '.join(known)}."
            )
        return {name: _plain(options.get(name, default)) for name, default in known.items()}

    def fingerprint(self) -> str:
        """Hash of what makes the patients, code and template: when it changes, the cache is asked for other files."""
        here = Path(__file__).parent
        shared = [here / "deformation.py", here / "rendering.py"]
        sources = [*shared, *sorted(here.glob(f"{self.kind}*.py"))]
        template = [metadata.version("nilearn").encode()] if self.kind == "brain" else []
        return hashlib.sha256(b"".join([*template, *(source.read_bytes() for source in sources)])).hexdigest()[:12]


@cache
def _generator(kind: str) -> _Generator:
    if kind == "phantom":
        from medssl_nb.data import phantom

        return _Generator(kind, phantom.generate_phantom, phantom.phantom_map, phantom.LANDMARKS, phantom.ORGANS, "CT")
    if kind == "brain":
        from medssl_nb.data import brain

        landmarks = getattr(brain, "LANDMARKS", {})
        return _Generator(kind, brain.generate_brain, brain.brain_map, landmarks, brain.TISSUES, "MR")
    raise ValueError(f'generated cohorts are "phantom" and "brain", got {kind!r}.')


@dataclass(frozen=True)
class _PatientMaps:
    """Case name -> its map between patient and template."""

    kind: str
    seeds: dict[str, int]
    variation: float

    def __call__(self, name: str):
        return _map_of_seed(self.kind, self.seeds[name], self.variation)


class _Landmarks(Mapping):
    """The template's landmarks carried into one patient (name -> RAS mm), worked out when first looked at."""

    def __init__(self, kind: str, seed: int, variation: float):
        self._of = (kind, seed, variation)

    def _places(self) -> dict[str, tuple[float, float, float]]:
        template = _generator(self._of[0]).landmarks
        if not template:
            return {}
        found = _map_of_seed(*self._of).to_patient(np.array(list(template.values())))
        return {name: tuple(place) for name, place in zip(template, found.tolist(), strict=True)}

    def __getitem__(self, name: str) -> tuple[float, float, float]:
        return self._places()[name]

    def __iter__(self):
        return iter(_generator(self._of[0]).landmarks)

    def __len__(self) -> int:
        return len(_generator(self._of[0]).landmarks)


def _case(generator: _Generator, name: str, seed: int, options: tuple, variation: float, label_names: dict) -> Case:
    volumes = {content: GeneratedVolume(generator.kind, content, seed, options) for content in _CONTENTS}
    if label_names is _LESION_NAMES:
        volumes["label"] = GeneratedVolume(generator.kind, "lesion", seed, options, as_label=True)
    landmarks = _Landmarks(generator.kind, seed, variation)
    return Case(name, name, generator.modality, volumes, label_names, landmarks_mm=landmarks)


@lru_cache(maxsize=256)
def _map_of_seed(kind: str, seed: int, variation: float):
    return _generator(kind).patient_map(seed, variation=variation)


@lru_cache(maxsize=64)
def _patient(kind: str, seed: int, options: tuple) -> dict[str, np.ndarray]:
    """Arrays of one patient, from memory, from disk, or made now (and then kept on disk)."""
    generator = _generator(kind)
    key = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:12]
    file = cache_folder() / "generated" / f"{kind}-{generator.fingerprint()}-{key}" / f"{seed}.npz"
    if file.exists():
        try:
            with np.load(file, allow_pickle=False) as stored:
                return {name: stored[name] for name in (*_CONTENTS, "affine")}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            file.unlink(missing_ok=True)  # a damaged copy is worth nothing: it is made again below, the same
    made = generator.generate(seed, **dict(options))
    arrays = {name: getattr(made, name) for name in (*_CONTENTS, "affine")}
    write_atomically(file, lambda draft: np.savez_compressed(draft, **arrays))
    return arrays


def _plain(value):
    """The value in a form that hashes and prints alike everywhere: tuples of plain numbers."""
    if isinstance(value, np.generic):
        return value.item()
    return tuple(_plain(v) for v in value) if isinstance(value, list | tuple | np.ndarray) else value
