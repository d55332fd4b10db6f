"""A new scan segmented, and the label map written in the scan's own space.

The way there: the file, in whatever orientation and spacing -> RAS+ -> the working grid of the network -> grey values
scaled -> probabilities of the classes. The way back: each class's probabilities, linearly, onto the voxels of the
file -> the likeliest class. Labels themselves are not brought back: their borders would show the coarse grid's steps.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medssl_nb.data.checking import grey_value_doubt
from medssl_nb.data.geometry import spacing_mm
from medssl_nb.data.intensity import modality_family, normalise
from medssl_nb.data.volumes import read_volume, write_volume
from medssl_nb.data.working_grid import stored_grid, to_working_grid


def predict_scan(
    segmenter: nn.Module,
    path_in: str | os.PathLike,
    path_out: str | os.PathLike,
    card: Mapping,
    *,
    overlap: float = 0.25,
    device: torch.device | str | None = None,
    force: bool = False,
) -> dict:
    """Segment one scan and write the label map on the very grid of its file: same shape, axis order and affine.

    Memory: three numbers of 4 bytes for each voxel of the file, besides what the network needs.

    Args:
        segmenter: as `load_segmenter` gives it.
        path_in: a NIfTI file in any orientation and spacing.
        path_out: ends in ".nii" or ".nii.gz"; whole numbers, uint8 where they fit. Written in place only when whole.
        card: as `load_segmenter` gives it; of it "label_names", "modality", "spacing_mm" (None: the scan's own grid),
            "crop" and, where spacing_mm is None, "spacing_seen_mm" (lowest and highest of each axis) are used.
        overlap: share by which neighbouring windows overlap.
        device: where the network is moved to and runs; None: where it is.
        force: replace `path_out` if it exists.

    Returns:
        Plain values: {"scan", "shape", "spacing_mm" (of the file), "working_shape", "voxels" and "volume_ml" of each
        organ by name, "notes": doubts about the scan}.

    Raises:
        FileNotFoundError: no such scan.
        ValueError: a scan that `read_volume` refuses, channels or voxels of another kind than the network was trained
            on, an output that exists.
    """
    path_in, path_out = Path(path_in), Path(path_out)
    _check_target(path_in, path_out, force)
    grid = stored_grid(path_in)
    image = read_volume(path_in)
    channels = segmenter.encoder.in_channels
    if image.shape[0] != channels:
        raise ValueError(f"{path_in} has {image.shape[0]} channel(s), the network was trained on {channels}.")
    doubt = grey_value_doubt(float(image.min()), float(image.max()), modality_family(card["modality"]))
    if card["spacing_mm"] is None:
        _check_spacing(image, card, path_in)
    else:
        image = to_working_grid(image, card["spacing_mm"])
    seen = normalise(image, card["modality"])
    probabilities = class_probabilities(segmenter, seen, card["crop"], overlap=overlap, device=device)
    numbers = np.array(list(card["label_names"]))
    classes = likeliest_class(probabilities, np.asarray(image.affine), *grid)
    write_volume(path_out, numbers.astype(np.min_scalar_type(int(numbers.max())))[classes], grid.affine)
    counts = np.bincount(classes.ravel(), minlength=len(numbers))
    voxels = {name: int(n) for (number, name), n in zip(card["label_names"].items(), counts, strict=True) if number}
    ml = abs(float(np.linalg.det(grid.affine[:3, :3]))) / 1000
    return {
        "scan": path_in.name,
        "shape": list(grid.shape),
        "spacing_mm": [round(side, 4) for side in spacing_mm(grid.affine)],
        "working_shape": list(image.shape[1:]),
        "voxels": voxels,
        "volume_ml": {name: round(count * ml, 3) for name, count in voxels.items()},
        "notes": [doubt] if doubt else [],
    }


@torch.no_grad()
def class_probabilities(
    network: nn.Module,
    image: Tensor,
    crop: Sequence[int],
    *,
    overlap: float = 0.25,
    device: torch.device | str | None = None,
) -> Tensor:
    """Probabilities (K, X, Y, Z) float32 on the CPU of a normalised image (C, X, Y, Z) of any size, which is padded."""
    from monai.inferers import sliding_window_inference

    device = next(network.parameters()).device if device is None else torch.device(device)
    network.to(device).eval()
    image = torch.as_tensor(image).as_subclass(Tensor)
    logits = sliding_window_inference(
        image[None],
        tuple(crop),
        sw_batch_size=4,
        predictor=network,
        overlap=overlap,
        mode="gaussian",
        cval=float(image.min()),
        sw_device=device,
        device=torch.device("cpu"),
    )
    return logits[0].float().softmax(0)


def likeliest_class(probabilities: Tensor, affine: np.ndarray, shape: Sequence[int], to: np.ndarray) -> np.ndarray:
    """Class of each voxel of another grid, by probabilities that are sampled there linearly, one class at a time.

    Args:
        probabilities: (K, X, Y, Z).
        affine: (4, 4) of their grid, voxel to mm.
        shape, to: of the other grid, in whatever axis order; its voxels outside the first take the nearest.

    Returns:
        (*shape) uint8, int64 from 256 classes on.
    """
    import nibabel
    from nibabel.processing import resample_from_to

    best = np.full(tuple(shape), -np.inf, np.float32)
    classes = np.zeros(tuple(shape), np.uint8 if len(probabilities) < 256 else np.int64)
    for number, part in enumerate(probabilities.numpy()):
        there = resample_from_to(nibabel.Nifti1Image(part, affine), (tuple(shape), to), order=1, mode="nearest")
        values = np.asarray(there.dataobj, np.float32)
        better = values > best
        best[better], classes[better] = values[better], number
    return classes


def _check_spacing(image, card: Mapping, path: Path) -> None:
    """Without a working grid, voxels must be about as large as those the network learnt from."""
    spacing, seen = spacing_mm(image.affine), card.get("spacing_seen_mm")
    if seen and any(not low / 1.5 <= side <= high * 1.5 for side, (low, high) in zip(spacing, seen, strict=True)):
        raise ValueError(
            f"{path} has voxels of {_sides(spacing)} mm, the network saw {_sides(low for low, _ in seen)} to "
            f"{_sides(high for _, high in seen)} mm, so it would not recognise sizes. Fine-tune it on a working grid: "
            "--set cohort.spacing_mm=..."
        )


def _sides(spacing) -> str:
    return " x ".join(f"{side:.3g}" for side in spacing)


def _check_target(path_in: Path, path_out: Path, force: bool) -> None:
    if not path_out.name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"{path_out.name} does not end in .nii or .nii.gz; give the label map a name that does.")
    if path_out.exists() and path_in.exists() and path_out.samefile(path_in):
        raise ValueError(f"{path_out} is the scan itself; write its label map elsewhere.")
    if path_out.exists() and not force:
        raise ValueError(f"{path_out} exists already; say force (--force) to replace it.")
