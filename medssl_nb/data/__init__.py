"""Volumes in and out, cohorts and their splits, generated patients, downloads."""

from medssl_nb.data.checking import FolderReport, check_folder
from medssl_nb.data.cohorts import Case, Cohort, load_cohort
from medssl_nb.data.geometry import (
    crop,
    mm_to_voxel,
    move,
    move_points,
    orientation,
    random_affine,
    resample,
    spacing_mm,
    voxel_to_mm,
)
from medssl_nb.data.intensity import normalise
from medssl_nb.data.volumes import read_label_map, read_volume, write_volume
from medssl_nb.data.working_grid import to_working_grid

__all__ = [
    "Case",
    "Cohort",
    "FolderReport",
    "check_folder",
    "crop",
    "load_cohort",
    "mm_to_voxel",
    "move",
    "move_points",
    "normalise",
    "orientation",
    "random_affine",
    "read_label_map",
    "read_volume",
    "resample",
    "spacing_mm",
    "to_working_grid",
    "voxel_to_mm",
    "write_volume",
]
