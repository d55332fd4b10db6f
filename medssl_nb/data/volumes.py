"""Volumes in and out: NIfTI files and (C, X, Y, Z) tensors, RAS+, millimetres.

`read_volume` is the only door through which an image enters the project; what it lets through needs no second check.
"""

import gzip
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medssl_nb.data.files import write_atomically
from medssl_nb.data.geometry import spacing_mm

_MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
_SIGNED = {
    np.dtype("uint16"): np.int32,
    np.dtype("uint32"): np.int64,
    np.dtype("uint64"): np.int64,
}


def read_volume(path: str | os.PathLike, *, axes: str | None = None):
    """Read a NIfTI image as a MONAI `MetaTensor` of shape (C, X, Y, Z), turned to RAS+.

    Axes are permuted and flipped, never interpolated: the first grows to the patient's Right, the second to the
    Anterior, the third to the Superior side. The affine moves along, so every voxel keeps its place in mm.
    The number type of the file is kept (unsigned 16, 32 and 64 bit, in which torch cannot calculate, become int32 and
    int64); a file with a scale factor becomes float32.

    Args:
        path: a `.nii` or `.nii.gz` file with 3 axes, or 4 with the channels last.
        axes: letters of the stored axes, such as "LPS", only for a file that does not record its orientation.

    Returns:
        MetaTensor (C, X, Y, Z); `.affine` (4, 4) float64 takes voxel indices to mm, `.pixdim` is the spacing in mm.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not NIfTI, damaged, not 3D or 4D, no numbers, NaN or infinity, or an affine that cannot be used.
    """
    import nibabel
    import torch
    from monai.data import MetaTensor

    path = Path(path)
    stored = _open_nifti(path)
    _check_header(stored, path, axes)
    stored = _decompressed(stored, path)
    if axes is not None:
        stored = _with_axes(stored, path, axes)
    stored = nibabel.as_closest_canonical(stored)
    array = _numbers(stored, path)
    affine = stored.affine.astype(np.float64)
    affine[:3] *= _mm_per_unit(stored, path)
    channels_first = array[None] if array.ndim == 3 else np.moveaxis(array, -1, 0)  # (X,Y,Z[,C]) -> (C,X,Y,Z)
    tensor = torch.from_numpy(np.ascontiguousarray(channels_first))
    return MetaTensor(tensor, affine=torch.from_numpy(affine), meta={"filename_or_obj": str(path)})


def read_label_map(path: str | os.PathLike, *, like=None, axes: str | None = None):
    """Read a label map as a `MetaTensor` of shape (1, X, Y, Z) with whole numbers, 0 = background.

    Args:
        path: a NIfTI file; whole numbers stored as floats are accepted and become integers.
        like: the image the labels belong to (or its `Grid`); both must lie on one grid.
        axes: as in `read_volume`.

    Returns:
        MetaTensor, uint8 where the values fit, else int32.

    Raises:
        ValueError: as `read_volume`; also for several channels, fractions, negative values or another grid.
    """
    import torch

    label = read_volume(path, axes=axes)
    if label.shape[0] != 1:
        raise ValueError(f"{path} has {label.shape[0]} channels; a label map has one. Merge them into one integer map.")
    low, high = float(label.min()), float(label.max())
    fractional = label.is_floating_point() and bool((label != label.round()).any())
    if fractional or low < 0:
        found = f"values from {low:g} to {high:g}" + (", some of them fractions" if fractional else "")
        raise ValueError(
            f"{path} holds {found}; a label map holds whole numbers from 0. If it was resampled, do that again with "
            "nearest-neighbour interpolation; if it is an image, read it with read_volume."
        )
    if high > np.iinfo(np.int32).max:
        raise ValueError(f"{path} holds label {high:.0f}; renumber the labels, they go up to {np.iinfo(np.int32).max}.")
    if like is not None:
        check_same_grid(like, label, name_a="the image", name_b=str(path))
    return label.to(torch.uint8 if high <= 255 else torch.int32)


class Grid(NamedTuple):
    """Shape (X, Y, Z) and affine (4, 4) of a file as `read_volume` would turn it, without its voxels."""

    shape: tuple[int, ...]
    affine: np.ndarray


def read_grid(path: str | os.PathLike) -> Grid:
    """Shape and RAS+ affine of a NIfTI file from its header alone (milliseconds, whatever the size)."""
    import nibabel

    path = Path(path)
    stored = _open_nifti(path)
    _check_header(stored, path, None)
    turn = nibabel.io_orientation(stored.affine)
    affine = stored.affine @ nibabel.orientations.inv_ornt_aff(turn, stored.shape[:3])
    affine[:3] *= _mm_per_unit(stored, path)
    order = np.argsort(turn[:, 0])
    return Grid(tuple(stored.shape[int(axis)] for axis in order), affine)


def check_same_grid(a, b, *, name_a: str = "the first", name_b: str = "the second", tolerance_mm: float = 0.1) -> None:
    """Raise ValueError unless two volumes share shape (X, Y, Z) and place every voxel within `tolerance_mm`."""
    if a.shape[-3:] != b.shape[-3:]:
        raise ValueError(
            f"{name_b} has shape {tuple(b.shape[-3:])}, {name_a} has {tuple(a.shape[-3:])}; image and label must lie "
            "on one grid. Resample the label onto the image (nearest neighbour)."
        )
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    corners[:, :3] *= np.array(a.shape[-3:]) - 1
    apart = np.linalg.norm((corners @ (np.asarray(a.affine) - np.asarray(b.affine)).T)[:, :3], axis=1).max()
    if apart > tolerance_mm:
        raise ValueError(
            f"{name_b} has the shape of {name_a} but lies up to {apart:.1f} mm away from it: the affines differ. "
            "Find out which header is right, or resample one onto the other."
        )


def write_volume(path: str | os.PathLike, volume, affine=None) -> Path:
    """Write a volume as NIfTI: RAS mm affine, number type kept, in place only when whole.

    Args:
        path: ends in `.nii` or `.nii.gz`; an existing file is replaced in one step.
        volume: tensor or array (X, Y, Z) or (C, X, Y, Z). `bool` is stored as uint8, half precision as float32.
        affine: (4, 4) voxel to RAS mm; may be left out for a MetaTensor, which carries it.

    Returns:
        The path written.

    Raises:
        ValueError: unknown ending, wrong rank, empty volume, NaN or infinity, no affine or one that cannot be used.
    """
    import nibabel

    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"{path.name} does not end in .nii or .nii.gz; give the NIfTI file a name that does.")
    if affine is None:
        affine = getattr(volume, "affine", None)
    if affine is None:
        raise ValueError(
            "write_volume got a volume without an affine; pass affine=(4, 4), for example that of its image."
        )
    affine = np.asarray(affine, np.float64)
    _check_affine(affine, path.name)
    array = _storable(volume, path)
    header = nibabel.Nifti1Header()
    header.set_xyzt_units("mm")
    image = nibabel.Nifti1Image(array, affine, header, dtype=array.dtype)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    return write_atomically(path, image.to_filename)


def _storable(volume, path: Path) -> np.ndarray:
    """Array (X, Y, Z) or (X, Y, Z, C) of a type that NIfTI knows."""
    import torch

    if isinstance(volume, torch.Tensor):
        volume = volume.detach().cpu()
        volume = (volume.as_tensor() if hasattr(volume, "as_tensor") else volume).contiguous()
        volume = volume.float() if volume.dtype in (torch.float16, torch.bfloat16) else volume
        volume = volume.numpy()
    array = np.asarray(volume)
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise ValueError(f"{path.name}: a volume is (X, Y, Z) or (C, X, Y, Z) with no empty axis, got {array.shape}.")
    if array.dtype == bool:
        array = array.astype(np.uint8)
    elif array.dtype == np.float16:
        array = array.astype(np.float32)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{path.name}: NIfTI volumes hold whole or floating-point numbers, got {array.dtype}.")
    _check_finite(array, path)
    if array.ndim == 3:
        return array
    return array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)


def _open_nifti(path: Path):
    import nibabel

    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; check the name and the folder {path.parent}.")
    try:
        image = nibabel.load(path)
    except (
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
        OSError,
        EOFError,
        zlib.error,
    ) as error:
        raise ValueError(f"{path} is not a readable NIfTI file ({error}); fetch or export it again.") from error
    if not isinstance(image, nibabel.Nifti1Pair):  # Nifti2Image is one too
        raise ValueError(f"{path} is {type(image).__name__}, not NIfTI; convert it to .nii.gz first.")
    return image


def _decompressed(image, path: Path):
    """A `.gz` image with its bytes in memory, checksum compared.

    nibabel stops at the last voxel, before the checksum at the end of the file, and so does not notice damage.
    """
    if path.suffix != ".gz":
        return image
    try:
        with gzip.open(path) as stream:
            return type(image).from_bytes(stream.read())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is cut short or damaged ({error}); fetch or export it again.") from error


def _check_header(image, path: Path, axes: str | None) -> None:
    if not (len(image.shape) in (3, 4) and all(n > 0 for n in image.shape)):
        raise ValueError(
            f"{path} has shape {image.shape}; a volume has 3 axes (x, y, z), or 4 with the channels last. "
            "Split a time series, drop axes of length 1 at the end."
        )
    if image.get_data_dtype().kind not in "iuf":
        raise ValueError(
            f"{path} holds {image.get_data_dtype()} values (colour or complex), not one number a voxel; "
            "export grey values."
        )
    header = image.header
    if axes is None and int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
        raise ValueError(
            f"{path} records no orientation (sform and qform codes are 0), so left and right cannot be told. "
            'If you know how its axes run, say so: read_volume(path, axes="RAS") or "LPS", ...'
        )
    _check_affine(image.affine, path)


def _check_affine(affine: np.ndarray, name) -> None:
    mend = "Repair the header (nibabel: image.set_sform) or export the scan again."
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise ValueError(f"{name}: the affine must be 4 x 4 finite numbers, found {affine.tolist()}. {mend}")
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.allclose(affine[3], [0, 0, 0, 1]):
        raise ValueError(f"{name}: the last row of the affine must be 0 0 0 1, found {affine[3].tolist()}. {mend}")
    # The determinant of the unit directions is the volume they span: 1 when at right angles, 0 when two coincide.
    if (sizes <= 0).any() or abs(np.linalg.det(affine[:3, :3] / sizes)) < 0.05:
        raise ValueError(f"{name}: the affine squeezes the volume flat (voxel sizes {sizes.tolist()} mm). {mend}")


def _with_axes(image, path: Path, axes: str):
    """The image with its affine replaced: axes run as the letters say, spacing as the header says, centre at 0 mm."""
    import nibabel

    letters = axes.upper()
    if len(letters) != 3 or not all(any(c in pair for c in letters) for pair in ("LR", "AP", "SI")):
        raise ValueError(f'axes names three directions, one each of L/R, A/P, S/I, such as "RAS"; got {axes!r}.')
    to_ras = nibabel.orientations.inv_ornt_aff(nibabel.orientations.axcodes2ornt(letters), image.shape[:3])
    spacing = np.diag([*image.header.get_zooms()[:3], 1.0])
    affine = np.linalg.inv(to_ras)
    affine[:3, 3] = 0
    affine = affine @ spacing
    affine[:3, 3] = -affine[:3, :3] @ (np.array(image.shape[:3]) - 1) / 2
    _check_affine(affine, path)
    return type(image)(image.dataobj, affine, image.header)


def _numbers(image, path: Path) -> np.ndarray:
    """The voxel values, finite, in a type torch can calculate with."""
    stored = image.get_data_dtype().newbyteorder("=")
    try:
        # dataobj applies the scale factor, if there is one, and then yields float64
        array = np.asarray(image.dataobj)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is cut short ({error}); fetch or export it again.") from error
    scaled = array.dtype.kind == "f" and stored.kind != "f"
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{path} holds numbers up to {array.max()}, beyond 64-bit integers; renumber or rescale it.")
    array = array.astype(np.float32 if scaled else _SIGNED.get(stored, stored), copy=False)
    _check_finite(array, path)
    return array


def _check_finite(array: np.ndarray, path: Path) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise ValueError(
            f"{path}: {bad} of {array.size} voxels are NaN or infinite; every average would be lost. Replace them, "
            "for example with the value of air or 0: numpy.nan_to_num."
        )


def _mm_per_unit(image, path: Path) -> float:
    unit = image.header.get_xyzt_units()[0]
    if unit not in _MM_PER_UNIT:
        raise ValueError(f"{path}: length unit {unit!r} is not known; expected one of {sorted(_MM_PER_UNIT)}.")
    return _MM_PER_UNIT[unit]


__all__ = ["Grid", "check_same_grid", "read_grid", "read_label_map", "read_volume", "spacing_mm", "write_volume"]
