"""Exercises of lesson 62, and the folder of scans that it writes for readers who have none at hand."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from medssl_nb.exercises.compare import expect, well_done

ORGANS = ("liver", "spleen", "right kidney", "left kidney", "aorta")
# Three scanners: voxels and mm along x, y, z, and how the file stores its axes.
_SCANNERS = (
    ((80, 80, 70), (3.6, 3.6, 5.0), "LPS"),
    ((72, 72, 44), (4.0, 4.0, 8.0), "LAS"),
    ((58, 58, 70), (5.0, 5.0, 5.0), "PSR"),
)
_PATIENTS, _LABELLED = 14, 12


def write_example_folder(home: Path) -> None:
    """Write 14 generated patients as a hospital might hand them over, and a fifteenth to predict.

    `home/scans`: `images/patient_01.nii.gz` to 14, `labels/` for the first 12, `dataset.json`; three scanners with
    their own spacing and axes; four files are faulty. `home/new/patient_15.nii.gz` is whole, its label lies in
    `home/truth`. The same files at every call.
    """
    from medssl_nb.data import load_cohort

    scans = home / "scans"
    for number in range(1, _PATIENTS + 2):
        shape, spacing, axes = _SCANNERS[0 if number > _PATIENTS else number % 3]
        options = {"train": number, "validation": 0, "test": 0, "seed": 62}
        cohort = load_cohort("phantom", shape=shape, spacing_mm=spacing, **options)
        case, name = cohort.train[-1], f"patient_{number:02d}.nii.gz"
        names = cohort.label_names.values()
        numbers = np.array([ORGANS.index(organ) + 1 if organ in ORGANS else 0 for organ in names], np.uint8)
        image, label = case.image().numpy()[0], numbers[case.label().numpy()[0]]
        new = number > _PATIENTS
        _write(home / "new" / name if new else scans / "images" / name, image, case.image().affine, axes)
        if new or number <= _LABELLED:
            _write(home / "truth" / name if new else scans / "labels" / name, label, case.image().affine, axes)
    names = {str(number): organ for number, organ in enumerate(("background", *ORGANS))}
    (scans / "dataset.json").write_text(json.dumps({"modality": {"0": "CT"}, "labels": names}))
    _break_four(scans)


def check_same_place(same_place: Callable) -> None:
    """`same_place(shape_a, affine_a, shape_b, affine_b)` -> whether voxel (i, j, k) is at one place in both."""
    shape, affine = (80, 80, 70), np.diag([3.6, 3.6, 5.0, 1.0])
    affine[:3, 3] = (-142.2, -142.2, -172.5)
    moved, rounded, stretched, mirrored, turned = (affine.copy() for _ in range(5))
    moved[0, 3] += 3.6
    rounded[:3, 3] += 0.01
    stretched[2, 2] *= 1.01
    mirrored[0] = (-3.6, 0, 0, 142.2)
    angle = np.radians(1.0)
    turned[:3, :3] = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]] @ affine[:3, :3]
    cases = {
        "the same header twice": (shape, affine.copy(), True),
        "another shape": ((80, 80, 69), affine, False),
        "moved by one voxel": (shape, moved, False),
        "0.01 mm of rounding": (shape, rounded, True),
        "1 % longer along z, the same first voxel": (shape, stretched, False),
        "the same box in mm, stored from right to left": (shape, mirrored, False),
        "turned by one degree": (shape, turned, False),
    }
    for case, (other, other_affine, right) in cases.items():
        found = same_place(shape, affine.copy(), other, other_affine.copy())
        if found is None:
            raise AssertionError(f"{case}: your function returned nothing. Is there a `return`?")
        if bool(found) != right:
            raise AssertionError(f"{case}: expected {right}, found {bool(found)}.")
    well_done("same_place", len(cases))


def check_onto_scan(onto_scan: Callable) -> None:
    """`onto_scan(label, label_affine, shape, affine)` -> the label at the nearest voxel, 0 outside, on another grid."""
    label = np.arange(1, 25, dtype=np.uint8).reshape(2, 3, 4)
    grid = np.diag([6.0, 6.0, 6.0, 1.0])
    finer = np.diag([3.0, 3.0, 3.0, 1.0])
    finer[:3, 3] = -1.0
    backwards = np.diag([-6.0, -6.0, 6.0, 1.0])
    backwards[:3, 3] = (6.0, 12.0, 0.0)
    turned = np.array([[0, 0, 6.0, 0], [6.0, 0, 0, 0], [0, 6.0, 0, 0], [0, 0, 0, 1]])
    wider = grid.copy()
    wider[:3, 3] = -6.0
    cases = {
        "the grid itself": ((2, 3, 4), grid),
        "a finer grid": ((4, 6, 8), finer),
        "axes stored from right to left and from front to back": ((2, 3, 4), backwards),
        "axes in another order": ((3, 4, 2), turned),
        "a scan larger than the label": ((4, 5, 6), wider),
    }
    for case, (shape, affine) in cases.items():
        given = label.copy()
        found = onto_scan(given, grid.copy(), shape, affine.copy())
        expect(case, found, _nearest(label, grid, shape, affine))
        if not np.array_equal(given, label):
            raise AssertionError(f"{case}: your function changed its input. Work on new arrays.")
    well_done("onto_scan", len(cases))


def check_verdict(verdict: Callable) -> None:
    """`verdict(image, label)` -> "use", "mend", "image only" or "leave out" for a case with these faults."""
    cases = {
        "nothing wrong": (None, None, "use"),
        "the file is cut short": ("truncated", None, "leave out"),
        "NaN in the air": ("nan outside the body", None, "mend"),
        "the label lies on another grid": (None, "another grid", "mend"),
        "fractional labels, no original": (None, "fractions", "image only"),
        "NaN in the air and fractional labels": ("nan outside the body", "fractions", "image only"),
        "cut short, and a label that could be mended": ("truncated", "another grid", "leave out"),
    }
    for case, (image, label, right) in cases.items():
        found = verdict(image, label)
        if found != right:
            raise AssertionError(f"{case}: expected {right!r}, found {found!r}.")
    well_done("verdict", len(cases))


def _nearest(label: np.ndarray, label_affine: np.ndarray, shape, affine: np.ndarray) -> np.ndarray:
    places = np.indices(shape).reshape(3, -1)
    mm = affine[:3, :3] @ places + affine[:3, 3:]
    voxel = np.rint(np.linalg.inv(label_affine[:3, :3]) @ (mm - label_affine[:3, 3:])).astype(int)
    inside = ((voxel >= 0) & (voxel < np.array(label.shape)[:, None])).all(axis=0)
    found = np.zeros(inside.shape, label.dtype)
    found[inside] = label[tuple(voxel[:, inside])]
    return found.reshape(shape)


# ---------------------------------------------------------------- the example folder
def _write(path: Path, array: np.ndarray, affine, axes: str = "RAS") -> None:
    """Write a RAS+ volume with its axes stored as the letters say; every voxel keeps its place in mm."""
    import nibabel
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, np.asarray(affine, float))
    image.header.set_xyzt_units("mm")
    image = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(axes)))
    nibabel.save(image, path)


def _break_four(scans: Path) -> None:
    """NaN in an image, a label on another grid, a label interpolated linearly, an image cut short."""
    import nibabel
    from scipy.ndimage import shift

    from medssl_nb.data import read_label_map, resample

    path = scans / "images" / "patient_05.nii.gz"
    image = nibabel.load(path)
    grey = image.get_fdata(dtype=np.float32)
    x, _, z = np.indices(grey.shape) - (np.array(grey.shape).reshape(3, 1, 1, 1) - 1) / 2
    grey[np.hypot(x, z) > grey.shape[0] / 2] = np.nan  # outside the scanner's circle nothing was measured
    nibabel.save(nibabel.Nifti1Image(grey, image.affine), path)

    path = scans / "labels" / "patient_08.nii.gz"
    coarse = resample(read_label_map(path), 4.0, label=True)
    _write(path, coarse.numpy()[0], coarse.affine)

    path = scans / "labels" / "patient_11.nii.gz"
    label = nibabel.load(path)
    halves = shift(label.get_fdata(dtype=np.float32), 0.5, order=1)
    nibabel.save(nibabel.Nifti1Image(halves, label.affine), path)

    path = scans / "images" / "patient_13.nii.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
