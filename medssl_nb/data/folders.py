"""A folder in the layout of the Medical Segmentation Decathlon as a cohort: `imagesTr/`, `labelsTr/`, `imagesTs/`."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medssl_nb.data.cohorts import Case, Cohort
from medssl_nb.data.intensity import modality_family
from medssl_nb.data.splits import Split, check_split, draw_few_shot, draw_split, read_split
from medssl_nb.data.volumes import read_grid, read_label_map, read_volume


@dataclass(frozen=True)
class ImageFile:
    """Reads one image when called."""

    path: Path

    def __call__(self):
        return read_volume(self.path)


@dataclass(frozen=True)
class LabelFile:
    """Reads one label map when called, checks that it lies on its image, and renumbers it where `ids` says so."""

    path: Path
    image: Path
    ids: tuple[tuple[int, int], ...] = ()  # (id in the file, id in the cohort); others become background

    def __call__(self):
        label = read_label_map(self.path, like=read_grid(self.image))
        if not self.ids:
            return label
        table = np.zeros(max(int(label.max()), *(old for old, _ in self.ids)) + 1, np.uint8)
        for old, new in self.ids:
            table[old] = new
        import torch

        renumbered = label.clone()
        renumbered[:] = torch.from_numpy(table)[label.as_tensor().long()]
        return renumbered


def folder_cohort(
    folder: Path,
    *,
    name: str | None = None,
    modality: str | None = None,
    split: Split | None = None,
    subject_of: Callable[[str], str] = str,
    landmarks_mm: Mapping[str, Mapping[str, tuple[float, float, float]]] | None = None,
    about: str = "",
) -> Cohort:
    """Cohort of a folder in Decathlon layout.

    Args:
        folder: holds `imagesTr/*.nii.gz` and, where labelled, `labelsTr/` with files of the same names; `imagesTs/` may
            hold further images without labels; `targetsTr/` a second mask; `dataset.json` modality and label names.
        name: default the folder's name.
        modality: "CT", "MR" or "PET"; needed where `dataset.json` does not say.
        split: default `splits.json` in the folder, else 70 : 10 : 20 by subject (`draw_split`).
        subject_of: case name -> subject name, where one person has several scans.
        landmarks_mm: case name -> landmark name -> RAS mm.

    Raises:
        ValueError: no images, a label without its image, unknown modality, a split that does not fit.
    """
    folder = Path(folder)
    description = _description(folder)
    images, labels = _nifti_files(folder / "imagesTr"), _nifti_files(folder / "labelsTr")
    images = _paired(images, labels, folder)
    unlabelled = _nifti_files(folder / "imagesTs")
    if both := sorted(set(images) & set(unlabelled)):
        raise ValueError(f"{folder}: {both[0]} is in imagesTr and in imagesTs; keep it in one of them.")
    if not images and not unlabelled:
        raise ValueError(
            f"{folder} holds no images: put .nii.gz files into {folder / 'imagesTr'} (labels into labelsTr)."
        )
    orphans = sorted(set(labels) - set(images))
    if orphans:
        raise ValueError(f"{folder}: label {labels[orphans[0]].name} has no image of that name in imagesTr.")
    family = _modality(description, modality, folder)
    label_names = _label_names(description)
    labelled = {stem: subject_of(stem) for stem in images if stem in labels}
    if split is None:
        file = folder / "splits.json"
        split = read_split(file) if file.exists() else draw_split(labelled)
    if not split.few_shot:
        split = replace(split, few_shot=draw_few_shot(split.train, {case: subject_of(case) for case in split.train}))
    check_split(split, subject_of, labelled, str(folder))

    targets = _nifti_files(folder / "targetsTr")
    cases = {}
    for stem, path in sorted({**images, **unlabelled}.items()):
        volumes: dict[str, Callable] = {"image": ImageFile(path)}
        if stem in labels:
            volumes["label"] = LabelFile(labels[stem], path)
        if stem in targets:
            volumes["target"] = LabelFile(targets[stem], path)
        landmarks = (landmarks_mm or {}).get(stem, {})
        cases[stem] = Case(stem, subject_of(stem), family, volumes, label_names, landmarks_mm=landmarks)
    kept_back = {subject_of(stem) for stem in (*split.validation, *split.test)}
    extra = tuple(n for n, c in cases.items() if "label" not in c.volumes and c.subject not in kept_back)
    return Cohort(name or folder.name, family, cases, split, label_names, extra, about=about)


def _nifti_files(folder: Path) -> dict[str, Path]:
    """Case name -> file. Hidden files (`._*` that macOS leaves in archives) and other endings are not scans."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*")) if folder.is_dir() else []:
        if path.name.startswith(".") or not path.name.endswith((".nii", ".nii.gz")):
            continue
        other = found.setdefault(path.name.removesuffix(".gz").removesuffix(".nii"), path)
        if other != path:
            raise ValueError(f"{folder} holds {other.name} and {path.name}: one case, two files. Remove one.")
    return found


def _paired(images: Mapping[str, Path], labels: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """Images by the names of their labels; some sets call the image `case_0000` (first channel), the label `case`."""
    paired: dict[str, Path] = {}
    for stem, path in images.items():
        short, _, channel = stem.rpartition("_")
        if short in labels and len(channel) == 4 and channel.isdigit() and int(channel) > 0:
            raise ValueError(
                f"{folder}: {path.name} is a further channel of {short}; several channels come in one 4D file here. "
                "Stack them (numpy.stack along the last axis) and write one file for each case."
            )
        case = short if short in labels and channel == "0000" else stem
        if case in paired:
            raise ValueError(f"{folder}: {paired[case].name} and {path.name} are both case {case}; remove one.")
        paired[case] = path
    return paired


def _description(folder: Path) -> dict:
    file = folder / "dataset.json"
    if not file.exists():
        return {}
    try:
        content = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON ({error}); repair it, or remove it and pass modality=.") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{file} must hold one JSON object with modality and labels, found a {type(content).__name__}."
        )
    return content


def _modality(description: dict, given: str | None, folder: Path) -> str:
    written = description.get("modality") or description.get("channel_names") or []
    named = [given] if given else list(written.values()) if isinstance(written, dict) else written
    named = [named] if isinstance(named, str) else named
    if not all(isinstance(name, str) for name in named):
        raise ValueError(f'{folder}: "modality" in dataset.json names a kind of image, such as "CT"; found {written}.')
    if not named:
        raise ValueError(
            f'{folder}: nothing in dataset.json says what kind of images these are; pass modality="CT" or "MR" '
            "(it decides how grey values are scaled)."
        )
    families = {modality_family(name) for name in named}
    if len(families) > 1:
        raise ValueError(
            f"{folder}: channels of different kinds ({', '.join(named)}); split them into one folder each."
        )
    return families.pop()


def _label_names(description: dict) -> dict[int, str]:
    """{id: name}; three spellings occur: {"1": "liver"}, {"liver": 1} and ["background", "liver"]."""
    labels = description.get("labels") or {}
    if isinstance(labels, list):
        labels = {str(number): name for number, name in enumerate(labels)}
    by_id = all(str(key).isdigit() for key in labels) and all(isinstance(name, str) for name in labels.values())
    pairs = labels.items() if by_id else ((number, name) for name, number in labels.items())
    try:
        return {int(number): str(name) for number, name in pairs}
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'"labels" in dataset.json must be {{"1": "liver", ...}} or {{"liver": 1, ...}}, found {labels}; '
            "regions made of several labels are not read here."
        ) from error
