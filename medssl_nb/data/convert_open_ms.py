"""The longitudinal part of the open MS data as the cohort `ms_lesions`.

The origin's folder `coregistered` holds both FLAIR scans of a patient, the brain mask and the mask of lesion change in
one space. What is done: turned to RAS, resampled to 1 x 1 x 3 mm (linear; masks linear and cut at one half), cut to the
brain mask and 2 voxels around it, everything outside the mask 0.

The scans of this cohort that the results of the project rest on were resampled from the raw scans through the published
transforms; those of this script come from the co-registered files, which the owners also corrected for the coil's
shading (N4). Expect the same anatomy and slightly other grey values. Not tried on the real files while it was written.
"""

import json
import zlib
from pathlib import Path

import numpy as np

from medssl_nb.data.errors import FetchError

SPACING_MM = (1.0, 1.0, 3.0)
AROUND_BRAIN = 2  # voxels


def convert(root: Path, target: Path) -> None:
    """Build `images/`, `labels/` and `cases.json`.

    Args:
        root: holds `patientNN_{study1_FLAIR,study2_FLAIR,brainmask,gt}.nii.gz`.
        target: an empty folder.

    Raises:
        FetchError: a file is missing, not readable or empty, or the four files of a patient do not share a grid.
    """
    cases = {}
    for mask in sorted(root.glob("patient*_brainmask.nii.gz")):
        number = mask.name.removeprefix("patient").split("_")[0]
        cases[f"ms_{number}"] = _convert_patient(root, number, target)
    if not cases:
        raise FetchError(f"open_ms: no patientNN_brainmask.nii.gz in {root}; fetch again.")
    (target / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")


def _convert_patient(root: Path, number: str, target: Path) -> dict:
    from medssl_nb.data.volumes import write_volume

    files = {
        name: root / f"patient{number}_{name}.nii.gz" for name in ("brainmask", "gt", "study1_FLAIR", "study2_FLAIR")
    }
    loaded = {name: _load(path) for name, path in files.items()}
    _check_one_grid(loaded, number)
    ml_before = _millilitres(loaded["gt"], 0.5)
    resampled = {name: _resample(image) for name, image in loaded.items()}
    affine = resampled["brainmask"].affine
    brain = np.asarray(resampled["brainmask"].dataobj) >= 0.5
    box = _box(brain, number)
    brain, affine = brain[box], _shifted(affine, box)
    change = (np.asarray(resampled["gt"].dataobj)[box] >= 0.5) & brain
    for name, stem in (("study1_FLAIR", "baseline_flair"), ("study2_FLAIR", "followup_flair")):
        grey = np.asarray(resampled[name].dataobj)[box] * brain
        write_volume(target / "images" / f"ms_{number}_{stem}.nii.gz", _whole_numbers(grey), affine)
    write_volume(target / "labels" / f"ms_{number}_brainmask.nii.gz", brain.astype(np.uint8), affine)
    write_volume(target / "labels" / f"ms_{number}_lesion_change.nii.gz", change.astype(np.uint8), affine)
    spacing = [float(v) for v in np.linalg.norm(affine[:3, :3], axis=0)]
    ml = float(change.sum() * np.prod(spacing) / 1000)
    return {
        "shape": list(brain.shape),
        "spacing": spacing,
        "lesion_change_ml": round(ml, 2),
        "original_ml": round(ml_before, 2),
    }


def _load(path: Path):
    import nibabel

    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))
        return nibabel.Nifti1Image(np.asarray(image.dataobj, np.float32), image.affine)
    except (nibabel.filebasedimages.ImageFileError, OSError, EOFError, zlib.error) as error:
        raise FetchError(f"open_ms: {path.name} is missing or damaged ({error}); fetch again.") from error


def _check_one_grid(loaded: dict, number: str) -> None:
    first = loaded["brainmask"]
    for name, image in loaded.items():
        if image.ndim != 3 or image.shape != first.shape or not np.allclose(image.affine, first.affine, atol=0.01):
            raise FetchError(
                f"open_ms: {name} of patient {number} does not lie on the grid of its brain mask ({image.shape}, "
                f"{first.shape}); the repository has changed, see its page."
            )


def _resample(image):
    from nibabel.processing import resample_to_output

    return resample_to_output(image, SPACING_MM, order=1)


def _box(brain: np.ndarray, number: str) -> tuple[slice, ...]:
    if not brain.any():
        raise FetchError(f"open_ms: the brain mask of patient {number} is empty; fetch again.")
    found = np.argwhere(brain)
    low = np.maximum(found.min(axis=0) - AROUND_BRAIN, 0)
    return tuple(slice(int(a), int(b) + AROUND_BRAIN + 1) for a, b in zip(low, found.max(axis=0), strict=True))


def _shifted(affine: np.ndarray, box: tuple[slice, ...]) -> np.ndarray:
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    return moved


def _whole_numbers(grey: np.ndarray) -> np.ndarray:
    """int16 where the range fits and is not lost by it, else float32."""
    low, high = float(grey.min()), float(grey.max())
    if high - low >= 100 and low >= -32768 and high <= 32767:
        return np.round(grey).astype(np.int16)
    return grey.astype(np.float32)


def _millilitres(image, threshold: float) -> float:
    voxel_mm3 = float(np.prod(np.linalg.norm(image.affine[:3, :3], axis=0)))
    return float((np.asarray(image.dataobj) >= threshold).sum() * voxel_mm3 / 1000)
