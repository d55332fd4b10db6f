"""The four real cohorts of the lessons. Each function turns a folder on disk into a `Cohort`."""

import csv
import json
from collections import defaultdict
from pathlib import Path

from medssl_nb.data.cohorts import Case, Cohort
from medssl_nb.data.folders import ImageFile, LabelFile, folder_cohort
from medssl_nb.data.splits import Split, shipped_split

NO_SPLIT = Split(train=(), validation=(), test=(), few_shot=())


def hippocampus(folder: Path) -> Cohort:
    """T1 MRI crops around the hippocampus (Decathlon Task04), labels 1 anterior, 2 posterior, 1 mm.

    Grey values differ between files by a factor of 10 000: use `case.normalised()`. Cases 2k-1 and 2k are the two
    sides of one head (inferred from their intensities), so they count as one subject.
    """
    return folder_cohort(
        folder,
        name="hippocampus",
        split=shipped_split("hippocampus"),
        subject_of=hippocampus_subject,
        about="Medical Segmentation Decathlon Task04, CC BY-SA 4.0; "
        "Antonelli et al., Nature Communications 13, 4128 (2022)",
    )


def hippocampus_subject(case: str) -> str:
    """ "hippocampus_007" and "hippocampus_008" -> "head_004"."""
    return f"head_{(int(case.rsplit('_', 1)[1]) + 1) // 2:03d}"


def headneck_ct(folder: Path) -> Cohort:
    """Head-and-neck planning CT in HU (OpenKBP), 5 to 7 organs, `case.read("target")`: radiotherapy targets.

    Larynx and oesophagus were not drawn in every case: where they are missing they are not background. A target is
    tumour or nodes with a safety margin, not a drawn lesion. `case.landmarks_mm` holds the centroids of the organs.
    """
    return folder_cohort(
        folder,
        name="headneck_ct",
        split=shipped_split("headneck_ct"),
        landmarks_mm=_landmarks(folder / "landmarks.csv"),
        about="OpenKBP; Babier et al., Medical Physics 48, 5549-5561 (2021)",
    )


def torso(folder: Path) -> Cohort:
    """Sample scans of TotalSegmentator: abdominal CT and MR, and whatever else `labels.json` of the folder describes.

    `case.label()` numbers the organs the abdominal scans share alike (`cohort.label_names`); `case.read("structures")`
    holds all structures of the file (`case.structure_names`). Labels are a network's output, not drawn by experts, and
    four scans are too few for a split: there are no training, validation or test cases.
    """
    description = _json(folder / "labels.json")
    organs = {number: name for number, name in enumerate(description["common"], start=1)}
    cases = {}
    for name, facts in sorted(description["cases"].items()):
        image, drawn = folder / "images" / f"{name}.nii.gz", folder / "labels" / f"{name}.nii.gz"
        shared = tuple(
            (description["common"][o][name], n) for n, o in organs.items() if name in description["common"][o]
        )
        volumes = {"image": ImageFile(image), "structures": LabelFile(drawn, image)}
        if shared:
            volumes["label"] = LabelFile(drawn, image, ids=shared)
        cases[name] = Case(
            name,
            subject=name,
            modality="MR" if name.startswith("mr_") else "CT",
            volumes=volumes,
            label_names={0: "background", **organs},
            structure_names={0: "background", **{int(n): s for n, s in facts["labels"].items()}},
            landmarks_mm={k: tuple(v) for k, v in facts.get("landmarks_ras_mm", {}).items()},
        )
    _check_complete(folder, cases)
    return Cohort(
        "torso",
        "CT",
        cases,
        NO_SPLIT,
        {0: "background", **organs},
        extra=tuple(cases),
        about="TotalSegmentator sample scans, Apache-2.0; Wasserthal et al., Radiology: AI 5(5), e230024 (2023)",
    )


def ms_lesions(folder: Path) -> Cohort:
    """Brain FLAIR of multiple-sclerosis patients at two times; `case.read("lesion")`: what changed between them.

    Old, unchanged lesions are not marked: bright spots outside the mask may be lesions too. `case.read("brain")` is
    the brain mask. Too few patients for a split: there are no training, validation or test cases.
    """
    cases = {}
    for patient in sorted(_json(folder / "cases.json")):
        for time in ("baseline", "followup"):
            image = folder / "images" / f"{patient}_{time}_flair.nii.gz"
            volumes = {
                "image": ImageFile(image),
                "lesion": LabelFile(folder / "labels" / f"{patient}_lesion_change.nii.gz", image),
                "brain": LabelFile(folder / "labels" / f"{patient}_brainmask.nii.gz", image),
            }
            cases[f"{patient}_{time}"] = Case(f"{patient}_{time}", patient, "MR", volumes)
    _check_complete(folder, cases)
    return Cohort(
        "ms_lesions",
        "MR",
        cases,
        NO_SPLIT,
        extra=tuple(cases),
        about="University of Ljubljana open MS data, CC BY; Lesjak et al., Neuroinformatics (2016)",
    )


def _landmarks(file: Path) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Case -> structure -> RAS mm, from a table with the columns case, structure, x_mm, y_mm, z_mm."""
    if not file.exists():
        return {}
    found = defaultdict(dict)
    with file.open(newline="") as stream:
        for row in csv.DictReader(stream):
            found[row["case"]][row["structure"]] = tuple(float(row[axis]) for axis in ("x_mm", "y_mm", "z_mm"))
    return dict(found)


def _json(file: Path) -> dict:
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing, so the folder is not complete; fetch the data set again.")
    return json.loads(file.read_text())


def _check_complete(folder: Path, cases: dict[str, Case]) -> None:
    files = sorted({volume.path for case in cases.values() for volume in case.volumes.values()})
    missing = [file for file in files if not file.exists()]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {len(missing)} of {len(files)} files, first {missing[0]}; fetch it again."
        )
