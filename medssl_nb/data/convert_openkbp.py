"""OpenKBP's sparse tables as NIfTI: the cohort `headneck_ct`.

The origin keeps each patient as text: `ct.csv` and one file a structure list voxel numbers, counted in C order in a
128 x 128 x 128 grid whose axes run front to back, right to left and top down; a CT value stands for HU + 1000
(inferred: soft tissue then lies at 20 to 60). A voxel that is not listed is 0, so air. Some scans are cut at the region
of the dose. `voxel_dimensions.csv` holds the voxel size in mm.

What is done: grid to RAS, 1000 subtracted, clipped to [-1000, 2000], cut to 64 x 64 voxels in plane around all drawn
structures and to 8 slices above and below them where the scan reaches that far. Nothing is resampled. The image centre
gets the position 0 mm: the origin records none.

Where two structures claim a voxel, the later one in the list gets it, for targets the higher dose; the origin does not
say which is right. Not tried on the real tables while it was written.
"""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from medssl_nb.data.arrange import write_description
from medssl_nb.data.catalogue import DataSet
from medssl_nb.data.errors import FetchError
from medssl_nb.data.splits import shipped_split

GRID = (128, 128, 128)
ORGANS = ("Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Mandible", "Larynx", "Esophagus")
NEEDED = ORGANS[:5]  # drawn in every case of the cohort
TARGETS = ("PTV56", "PTV63", "PTV70")
IN_PLANE = 64  # voxels
MARGIN = 8  # slices
HU_OF_ZERO, HU_RANGE = -1000, (-1000, 2000)


def convert(data_set: DataSet, root: Path, target: Path, cases: Iterable[str] | None = None) -> None:
    """Build the cohort in Decathlon layout, with `targetsTr/` and `landmarks.csv`.

    Args:
        root: holds `train-pats`, `valid-pats`, `test-pats`, each with folders `pt_N`.
        target: an empty folder.
        cases: names such as "hn_002" for `pt_2`; default those of the fixed split, so that numbers compare.

    Raises:
        FetchError: a wanted patient is missing or lacks one of the five structures that every case has.
    """
    from tqdm import tqdm

    folders = {f"hn_{int(p.name.removeprefix('pt_')):03d}": p for p in sorted(root.glob("*-pats/pt_*"))}
    wanted = sorted(_cases_of_the_split() if cases is None else cases)
    strangers = [case for case in wanted if case not in folders]
    if strangers:
        raise FetchError(
            f"openkbp: {len(strangers)} patients are missing, such as pt_{int(strangers[0][3:])}; fetch again."
        )
    entries, landmarks = [], []
    for case in tqdm(wanted, desc="converting", unit="scan", leave=False):
        crop, rows = _convert_patient(case, folders[case], target)
        paths = {key: f"./{kind}/{case}.nii.gz" for key, kind in _KINDS.items()}
        source = f"{folders[case].parent.name}/{folders[case].name}"
        entries.append({**paths, "source": source, "crop_y0_x0_z0_z1": crop})
        landmarks += rows
    targets = {str(number): name for number, name in enumerate(("none", *TARGETS))}
    write_description(target, data_set, "CT", ("background", *ORGANS), entries, targets=targets)
    with (target / "landmarks.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("case", "structure", "i", "j", "k", "x_mm", "y_mm", "z_mm", "voxels"))
        writer.writerows(landmarks)


_KINDS = {"image": "imagesTr", "label": "labelsTr", "target": "targetsTr"}


def _cases_of_the_split() -> set[str]:
    split = shipped_split("headneck_ct")
    return {*split.train, *split.validation, *split.test}


def _convert_patient(case: str, folder: Path, target: Path) -> tuple[list[int], list[tuple]]:
    """Write image, organs and targets of one patient; returns the crop in the origin's grid and the landmark rows."""
    from medssl_nb.data.volumes import write_volume

    lacking = [name for name in NEEDED if not (folder / f"{name}.csv").is_file()]
    if lacking:
        raise FetchError(
            f"openkbp: {folder.name} lacks {', '.join(lacking)}; the download is not complete, fetch again."
        )
    stored = read_table(folder / "ct.csv")
    organs, targets = merge_structures(folder, ORGANS), merge_structures(folder, TARGETS)
    box = crop_box(organs | targets, stored)
    volumes = {
        "image": np.clip(stored + HU_OF_ZERO, *HU_RANGE).astype(np.int16),
        "label": organs.astype(np.uint8),
        "target": targets.astype(np.uint8),
    }
    turned = {key: to_ras(volume[box]) for key, volume in volumes.items()}
    affine = centred_affine(turned["image"].shape, read_voxel_size(folder / "voxel_dimensions.csv"))
    for key, volume in turned.items():
        write_volume(target / _KINDS[key] / f"{case}.nii.gz", volume, affine)
    y, x, z = box
    return [y.start, x.start, z.start, z.stop], _landmark_rows(case, turned["label"], affine)


def read_table(path: Path) -> np.ndarray:
    """One sparse table as an array of shape `GRID` in the origin's axes, int32; unlisted voxels are 0.

    A table with values has the columns index and value, the table of a structure only indices (value 1).
    """
    try:
        with path.open() as stream:
            next(stream, None)  # the header
            rows = [line.strip().split(",") for line in stream if line.strip()]
        index = np.array([int(float(row[0])) for row in rows], np.int64)
        values = np.array([round(float(row[1])) if len(row) > 1 and row[1] else 1 for row in rows], np.int32)
    except (OSError, ValueError) as error:
        raise FetchError(
            f"openkbp: {path.parent.name}/{path.name} is not a table of voxels ({error}); fetch again."
        ) from error
    if len(index) and (index.min() < 0 or index.max() >= np.prod(GRID)):
        raise FetchError(f"openkbp: {path.parent.name}/{path.name} names voxels outside a grid of {GRID}; fetch again.")
    flat = np.zeros(np.prod(GRID), np.int32)
    flat[index] = values
    return flat.reshape(GRID)


def read_voxel_size(path: Path) -> np.ndarray:
    """Voxel size in mm along the origin's axes, (3,)."""
    try:
        size = np.loadtxt(path).reshape(3)
    except (OSError, ValueError) as error:
        raise FetchError(
            f"openkbp: {path.parent.name}/{path.name} does not hold three sizes ({error}); fetch again."
        ) from error
    if not (np.isfinite(size).all() and (size > 0).all()):
        raise FetchError(
            f"openkbp: {path.parent.name}/{path.name} holds sizes {size.tolist()}; they must be above 0 mm."
        )
    return size


def merge_structures(folder: Path, names: tuple[str, ...]) -> np.ndarray:
    """Label map of shape `GRID`: structure n of `names` gets value n + 1, the later one where two overlap."""
    merged = np.zeros(GRID, np.int32)
    for number, name in enumerate(names, start=1):
        if (folder / f"{name}.csv").is_file():
            merged[read_table(folder / f"{name}.csv") > 0] = number
    return merged


def crop_box(drawn: np.ndarray, stored: np.ndarray) -> tuple[slice, slice, slice]:
    """The part to keep, in the origin's axes: in plane around the drawn structures, along the axis where CT exists."""
    planes = []
    for axis in (0, 1):
        low, high = _extent(drawn, axis)
        start = min(max((low + high) // 2 - IN_PLANE // 2, 0), GRID[axis] - IN_PLANE)
        planes.append(slice(start, start + IN_PLANE))
    low, high = _extent(drawn, 2)
    first, last = _extent(stored, 2)
    return planes[0], planes[1], slice(max(low - MARGIN, first), min(high + MARGIN, last) + 1)


def _extent(array: np.ndarray, axis: int) -> tuple[int, int]:
    """First and last index along an axis where anything is not 0."""
    used = np.flatnonzero(array.any(axis=tuple(a for a in range(3) if a != axis)))
    if len(used) == 0:
        raise FetchError("openkbp: a scan or its drawing is empty; fetch again.")
    return int(used[0]), int(used[-1])


def to_ras(array: np.ndarray) -> np.ndarray:
    """(front to back, right to left, top down) to (X, Y, Z) growing to Right, Anterior, Superior."""
    return np.ascontiguousarray(array.transpose(1, 0, 2)[::-1, ::-1, ::-1])


def centred_affine(shape: tuple[int, ...], size_in_origin_axes: np.ndarray) -> np.ndarray:
    """(4, 4) affine of a RAS array whose centre lies at 0 mm."""
    spacing = np.asarray(size_in_origin_axes)[[1, 0, 2]]
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -spacing * (np.array(shape) - 1) / 2
    return affine


def _landmark_rows(case: str, organs: np.ndarray, affine: np.ndarray) -> list[tuple]:
    rows = []
    for number, name in enumerate(ORGANS, start=1):
        voxels = np.argwhere(organs == number)
        if len(voxels):
            centre = voxels.mean(axis=0)
            mm = affine[:3, :3] @ centre + affine[:3, 3]
            rows.append((case, name, *(round(float(v), 2) for v in (*centre, *mm)), len(voxels)))
    return rows
