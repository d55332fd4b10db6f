"""What may be drawn: volumes, label maps and heat maps, checked once at the door."""

from collections.abc import Mapping, Sequence

import numpy as np


def as_volume(volume, name: str = "volume") -> np.ndarray:
    """Array (X, Y, Z) of an image given as numpy array, tensor or MetaTensor, (X, Y, Z) or (1, X, Y, Z).

    Booleans become uint8, half precision float32; other number types are kept and nothing is copied without need.

    Raises:
        ValueError: another rank, several channels, an empty axis, no real numbers, NaN or infinity.
    """
    array = _three_axes(volume, name)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int(array.size - np.isfinite(array).sum())
        raise ValueError(
            f"{name} has {bad} voxel(s) that are NaN or infinite, which have no grey value. Find out where they come "
            "from, or fill them: numpy.nan_to_num(...)."
        )
    return array


def as_labels(labels, like: np.ndarray | None = None, name: str = "labels") -> np.ndarray:
    """Whole-number array (X, Y, Z) of a label map or mask; 0 (False) is background.

    Args:
        labels: numpy array or tensor, (X, Y, Z) or (1, X, Y, Z); floats that are whole numbers are accepted.
        like: the volume it belongs to; the shapes must agree.

    Raises:
        ValueError: as `as_volume`; also for fractions, negative numbers or another shape.
    """
    array = as_volume(labels, name)
    if array.dtype.kind == "f" and (array != np.round(array)).any():
        raise ValueError(
            f"{name} holds fractions such as {float(array[array != np.round(array)][0]):.4g}; a label map holds whole "
            "numbers. For probabilities use heat=..., or cut them: probability > 0.5."
        )
    if array.min() < 0:
        raise ValueError(f"{name} holds {array.min():g}; labels count from 0, where 0 is background.")
    _same_shape(array, like, name)
    return array if array.dtype.kind in "iu" else array.astype(np.int64)


def as_heat(heat, like: np.ndarray | None = None, name: str = "heat") -> np.ndarray:
    """Array (X, Y, Z) float32 of a map of scores; NaN means "no score here" and stays transparent.

    Raises:
        ValueError: as `as_volume`, with infinity refused and NaN allowed unless there is nothing else.
    """
    array = _three_axes(heat, name).astype(np.float32)
    _same_shape(array, like, name)
    if np.isinf(array).any():
        raise ValueError(f"{name} holds infinity, which has no colour; clip it: numpy.clip(heat, low, high).")
    if np.isnan(array).all():
        raise ValueError(f"{name} is NaN everywhere: there is nothing to show.")
    return array


def names_by_id(label_names: Mapping | Sequence[str] | None, ids: Sequence[int]) -> dict[int, str]:
    """Name of each label id in `ids`; "label 7" where none is given.

    Args:
        label_names: {7: "liver"} (keys may be text, as JSON files have them), or a list whose place is the id.
        ids: the label ids to name.
    """
    if label_names is None:
        given = {}
    elif isinstance(label_names, Mapping):
        given = {int(key): str(name) for key, name in label_names.items()}
    else:
        given = dict(enumerate(map(str, label_names)))
    return {int(i): given.get(int(i), f"label {int(i)}") for i in ids}


def known_spacing(volume, spacing_mm: Sequence[float] | None) -> tuple[float, float, float] | None:
    """Spacing in mm: the one given, else that of a MetaTensor, else None (then a voxel is the only unit there is).

    Raises:
        ValueError: not three numbers above 0, or a MetaTensor whose axes do not run to R, A and S.
    """
    affine = getattr(volume, "affine", None)
    if affine is not None:
        from medssl_nb.data.geometry import check_ras
        from medssl_nb.data.geometry import spacing_mm as spacing_of

        check_ras(affine)
        if spacing_mm is None:
            return spacing_of(affine)
    if spacing_mm is None:
        return None
    spacing = tuple(float(s) for s in spacing_mm)
    if len(spacing) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing):
        raise ValueError(f"spacing_mm is three numbers above 0, the mm per voxel along x, y and z; got {spacing_mm}.")
    return spacing


def _three_axes(volume, name: str) -> np.ndarray:
    array = _as_numpy(volume)
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 3:
        mend = {2: "For one image write image[..., None].", 4: "Choose a channel: volume[0]."}.get(array.ndim, "")
        raise ValueError(f"{name} must be (X, Y, Z) or (1, X, Y, Z), got shape {array.shape}. {mend}".rstrip())
    if 0 in array.shape:
        raise ValueError(f"{name} of shape {array.shape} has an empty axis: there is nothing to show.")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, got {array.dtype}.")
    if array.dtype == bool:
        return array.view(np.uint8)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _as_numpy(volume) -> np.ndarray:
    if not hasattr(volume, "detach"):
        return np.asarray(volume)
    tensor = volume.detach().cpu()
    tensor = tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor
    return tensor.float().numpy() if str(tensor.dtype) == "torch.bfloat16" else tensor.numpy()


def _same_shape(array: np.ndarray, like: np.ndarray | None, name: str) -> None:
    if like is not None and array.shape != like.shape:
        raise ValueError(
            f"{name} has shape {array.shape}, the volume {like.shape}; both must lie on one grid. "
            "Resample it onto the volume (nearest neighbour for labels)."
        )
