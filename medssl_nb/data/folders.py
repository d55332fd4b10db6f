"""A folder of NIfTI files as a cohort: `imagesTr/` and `labelsTr/` (Decathlon), `images/` and `labels/`, or flat."""

import json
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medssl_nb.data.cohorts import Case, Cohort
from medssl_nb.data.intensity import modality_family
from medssl_nb.data.splits import Split, check_split, draw_few_shot, draw_split, read_split
from medssl_nb.data.volumes import read_grid, read_label_map, read_volume


class Layout(NamedTuple):
    """How a folder is laid out: a word for it, and the folders of its parts (which need not exist)."""

    kind: str
    images: Path
    labels: Path
    unlabelled: Path


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
    label_names: Mapping[int | str, str] | None = None,
    skip: Collection[str] = (),
    split: Split | None = None,
    subject_of: Callable[[str], str] = str,
    landmarks_mm: Mapping[str, Mapping[str, tuple[float, float, float]]] | None = None,
    about: str = "",
) -> Cohort:
    """Cohort of a folder of NIfTI files.

    Args:
        folder: in one of three layouts. `imagesTr/*.nii.gz` and, where labelled, `labelsTr/` with files of the same
            names, `imagesTs/` for further images without labels (Decathlon); `images/` and `labels/`; or images alone,
            without labels. `targetsTr/` may hold a second mask, `dataset.json` modality and label names.
        name: default the folder's name.
        modality: "CT", "MR" or "PET"; needed where `dataset.json` does not say.
        label_names: number -> organ; default those of `dataset.json`.
        skip: names of cases to leave out, such as those that `check_folder` found unfit.
        split: default `splits.json` in the folder, else 70 : 10 : 20 by subject (`draw_split`).
        subject_of: case name -> subject name, where one person has several scans.
        landmarks_mm: case name -> landmark name -> RAS mm.

    Raises:
        ValueError: no images, a label without its image, unknown modality, a split that does not fit.
    """
    folder = Path(folder)
    layout, description = layout_of(folder), read_description(folder)
    _check_skip(skip, layout)
    parts = {part: _one_file_each(getattr(layout, part), skip) for part in ("images", "labels", "unlabelled")}
    images, labels, unlabelled = _paired(parts["images"], parts["labels"], folder), parts["labels"], parts["unlabelled"]
    if both := sorted(set(images) & set(unlabelled)):
        raise ValueError(f"{folder}: {both[0]} is in imagesTr and in imagesTs; keep it in one of them.")
    if not images and not unlabelled:
        raise ValueError(
            f"{folder} holds no images: put .nii.gz files into {folder / 'imagesTr'} (labels into labelsTr)."
            + (f" {len(skip)} case(s) were skipped." if skip else "")
        )
    orphans = sorted(set(labels) - set(images))
    if orphans:
        raise ValueError(
            f"{folder}: label {labels[orphans[0]].name} has no image of that name in {layout.images.name}."
        )
    family = modality_of(description, modality, folder)
    names = label_names_of(description) if label_names is None else {int(n): str(o) for n, o in label_names.items()}
    labelled = {stem: subject_of(stem) for stem in images if stem in labels}
    if split is None:
        file = folder / "splits.json"
        split = without(read_split(file), skip) if file.exists() else draw_split(labelled)
    if not split.few_shot:
        split = replace(split, few_shot=draw_few_shot(split.train, {case: subject_of(case) for case in split.train}))
    check_split(split, subject_of, labelled, str(folder))

    targets = _one_file_each(folder / "targetsTr", skip)
    cases = {}
    for stem, path in sorted({**images, **unlabelled}.items()):
        volumes: dict[str, Callable] = {"image": ImageFile(path)}
        if stem in labels:
            volumes["label"] = LabelFile(labels[stem], path)
        if stem in targets:
            volumes["target"] = LabelFile(targets[stem], path)
        landmarks = (landmarks_mm or {}).get(stem, {})
        cases[stem] = Case(stem, subject_of(stem), family, volumes, names, landmarks_mm=landmarks)
    kept_back = {subject_of(stem) for stem in (*split.validation, *split.test)}
    extra = tuple(n for n, c in cases.items() if "label" not in c.volumes and c.subject not in kept_back)
    return Cohort(name or folder_name(folder), family, cases, split, names, extra, about=about)


def folder_name(folder: str | os.PathLike) -> str:
    """The last part of a folder's path, also of "." and "..": what its cohort is called."""
    return Path(os.path.abspath(folder)).name


def layout_of(folder: Path) -> Layout:
    """Which of the three layouts a folder has, by the folders in it."""
    if any((folder / part).is_dir() for part in ("imagesTr", "imagesTs")):
        return Layout("decathlon", *(folder / part for part in ("imagesTr", "labelsTr", "imagesTs")))
    if (folder / "images").is_dir():
        return Layout("images and labels", folder / "images", folder / "labels", folder / "unlabelled")
    return Layout("flat", folder, folder / "labels", folder / "unlabelled")


def scan_files(folder: Path) -> dict[str, list[Path]]:
    """Name -> files. Hidden files (`._*` that macOS leaves in archives) and other endings are not scans."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*")) if folder.is_dir() else []:
        if not path.name.startswith(".") and path.name.endswith((".nii", ".nii.gz")):
            found.setdefault(path.name.removesuffix(".gz").removesuffix(".nii"), []).append(path)
    return found


def channel_of(stem: str) -> tuple[str, int | None]:
    """ "case_0001" -> ("case", 1), as some sets name one file for each channel; other names have no channel."""
    short, _, channel = stem.rpartition("_")
    return (short, int(channel)) if short and len(channel) == 4 and channel.isdigit() else (stem, None)


def without(split: Split, skip: Collection[str]) -> Split:
    """The split with some cases left out."""

    def kept(names):
        return tuple(name for name in names if name not in skip)

    few_shot = tuple(kept(order) for order in split.few_shot)
    return Split(kept(split.train), kept(split.validation), kept(split.test), few_shot)


def _one_file_each(folder: Path, skip: Collection[str]) -> dict[str, Path]:
    """Name -> file of what is not skipped."""
    found = {}
    for stem, files in scan_files(folder).items():
        if stem in skip or channel_of(stem)[0] in skip:
            continue
        if len(files) > 1:
            raise ValueError(f"{folder} holds {files[0].name} and {files[1].name}: one case, two files. Remove one.")
        found[stem] = files[0]
    return found


def _check_skip(skip: Collection[str], layout: Layout) -> None:
    if isinstance(skip, str):
        raise ValueError(f"skip is a list of names, got the text {skip!r}; write [{skip!r}].")
    stems = {stem for part in layout[1:] for stem in scan_files(part)}
    if strangers := sorted(set(skip) - stems - {channel_of(stem)[0] for stem in stems}):
        raise ValueError(f"skip names {strangers[0]!r}, but {layout.images.parent} holds no such case.")


def _paired(images: Mapping[str, Path], labels: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """Images by the names of their labels; some sets call the image `case_0000` (first channel), the label `case`."""
    paired: dict[str, Path] = {}
    for stem, path in images.items():
        short, channel = channel_of(stem)
        if short in labels and channel:
            raise ValueError(
                f"{folder}: {path.name} is a further channel of {short}; several channels come in one 4D file here. "
                "Stack them (numpy.stack along the last axis) and write one file for each case."
            )
        case = short if short in labels and channel == 0 else stem
        if case in paired:
            raise ValueError(f"{folder}: {paired[case].name} and {path.name} are both case {case}; remove one.")
        paired[case] = path
    return paired


def read_description(folder: Path) -> dict:
    """What `dataset.json` says; {} if there is none."""
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


def modality_of(description: dict, given: str | None, folder: Path) -> str:
    """ "CT", "MR" or "PET": what is given, else what the description says."""
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


def label_names_of(description: dict) -> dict[int, str]:
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
