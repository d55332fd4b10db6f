"""Real scans on a working grid: one spacing for all, made when a scan is read, kept in the cache by content.

Scans of one set come in many spacings, and at full resolution they are too large to learn on a small machine. On the
working grid a voxel is equally large in every patient, along the axes of the scan (turned to RAS+, not rotated).
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from medssl_nb.data.cohorts import Case, Cohort
from medssl_nb.data.folders import ImageFile, LabelFile
from medssl_nb.data.geometry import resample, spacing_mm
from medssl_nb.data.template_cache import cached_arrays
from medssl_nb.data.volumes import Grid, read_grid

_VERSION = "1"  # of what `to_working_grid` makes; a change of it makes the cache anew


def to_working_grid(volume, new_spacing_mm: float | Sequence[float], *, label: bool = False):
    """A volume on the working grid: its first voxel keeps its centre, all else its place in mm.

    Images are smoothed first along the axes that get coarser (Gaussian, sigma = (new / old - 1) / 2 voxels), since
    without it one voxel in many would stand for all and its noise with it, then sampled linearly. Labels take the
    nearest voxel.

    Args:
        volume: MetaTensor (C, X, Y, Z).
        new_spacing_mm: one number or three, in mm, above 0.
        label: True for label maps.

    Returns:
        MetaTensor (C, *S), float32 for images, the type it had for label maps.
    """
    wanted = _three(new_spacing_mm)
    if label:
        return resample(volume, wanted, label=True)
    from scipy.ndimage import gaussian_filter

    coarser = np.array(wanted) / spacing_mm(volume.affine)
    sigma = (0.0, *np.maximum(0, (coarser - 1) / 2))
    smooth = volume.clone().float()
    smooth[:] = smooth.new_tensor(gaussian_filter(volume.numpy().astype(np.float32), sigma, mode="nearest"))
    return resample(smooth, wanted)


@dataclass(frozen=True)
class OnGrid:
    """Reads one volume on the working grid when called, from the cache if it was made before."""

    source: ImageFile | LabelFile
    spacing_mm: tuple[float, float, float]

    @property
    def path(self) -> Path:
        return self.source.path

    def __call__(self):
        import torch
        from monai.data import MetaTensor

        arrays = cached_arrays("scan", self._version(), self._made, folder="working_grid")
        volume, affine = (torch.from_numpy(arrays[name]) for name in ("volume", "affine"))
        return MetaTensor(volume, affine=affine, meta={"filename_or_obj": str(self.path)})

    def _made(self) -> dict[str, np.ndarray]:
        volume, is_label = self.source(), isinstance(self.source, LabelFile)
        # A label map may lie a hair beside its image, and would then get other voxels: both take the image's grid.
        grid = read_grid(self.source.image if is_label else self.path)
        volume.affine = volume.affine.new_tensor(grid.affine)
        seen = to_working_grid(volume, self.spacing_mm, label=is_label)
        return {"volume": seen.as_tensor().numpy(), "affine": np.asarray(seen.affine, np.float64)}

    def _version(self) -> str:
        """Changes with the bytes of the files, the spacing, and what is done with them."""
        files = [self.path] + ([self.source.image] if isinstance(self.source, LabelFile) else [])
        contents = [_content(file, (facts := file.stat()).st_size, facts.st_mtime_ns) for file in files]
        facts = [_VERSION, type(self.source).__name__, getattr(self.source, "ids", ()), self.spacing_mm, contents]
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def on_working_grid(cohort: Cohort, new_spacing_mm: float | Sequence[float]) -> Cohort:
    """The cohort with every volume of every case on the working grid; mm, names and split stay.

    Raises:
        ValueError: a spacing that is not above 0.
    """
    wanted = _three(new_spacing_mm)

    def moved(case: Case) -> Case:
        volumes: dict[str, Callable] = {name: OnGrid(source, wanted) for name, source in case.volumes.items()}
        return replace(case, volumes=volumes)

    return replace(cohort, cases={name: moved(case) for name, case in cohort.cases.items()})


def stored_grid(path: str | os.PathLike) -> Grid:
    """Shape and affine (voxel to RAS mm) of a NIfTI file's axes as they are stored, not turned: the way back to it."""
    import nibabel

    turned, stored = read_grid(path), nibabel.load(path)  # the first checks the header, and knows the length unit
    shape = tuple(int(n) for n in stored.shape[:3])
    turn = nibabel.orientations.inv_ornt_aff(nibabel.io_orientation(stored.affine), shape)
    return Grid(shape, turned.affine @ np.linalg.inv(turn))


def _three(spacing: float | Sequence[float]) -> tuple[float, float, float]:
    try:
        three = np.broadcast_to(np.asarray(spacing, float), (3,))
    except (TypeError, ValueError):
        three = np.zeros(3)
    if not (np.isfinite(three).all() and (three > 0).all()):
        raise ValueError(f"spacing_mm is one number or three, in mm and above 0; got {spacing!r}.")
    return tuple(three.tolist())


@lru_cache(maxsize=4096)
def _content(file: Path, size: int, changed: int) -> str:
    """SHA-256 of a file; size and time of the last change say whether to read it again."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
