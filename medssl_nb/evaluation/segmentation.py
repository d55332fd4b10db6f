"""How well a predicted label map fits the true one: overlap, surface distance, and means over cases and organs."""

import math
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def segmentation_scores(
    prediction: Tensor, label: Tensor, label_names: Mapping[int, str], spacing_mm: Sequence[float]
) -> dict[str, dict[str, float | None]]:
    """Dice and 95 % Hausdorff distance of each organ in one case, by MONAI.

    The distance is measured between the surface voxels' centres: the 95th percentile from prediction to label or from
    label to prediction, whichever is larger. Empty masks are decided as follows (None means "not defined"):

    - organ absent from the label: Dice None, distance None, whatever was predicted. In real sets an organ that nobody
      drew may still be there, so a prediction of it cannot be called wrong;
    - organ present but not predicted at all: Dice 0, distance None. `summarise_scores` counts these, because a mean
      distance without them flatters a network that misses the hard organs.

    Args:
        prediction: whole numbers, shape (X, Y, Z) or (1, X, Y, Z); 2D likewise, with two spacings.
        label: the truth, same shape.
        label_names: number -> organ; number 0 is background and is left out. Other numbers in the maps do not count.
        spacing_mm: distance of neighbouring voxels along each axis, in mm.

    Returns:
        {"dice": {organ: 0 to 1 or None}, "hd95_mm": {organ: mm or None}}, every organ in both.

    Raises:
        ValueError: shapes that differ or do not fit the spacing, maps that are not whole numbers, no organ named.
    """
    from monai.metrics import compute_dice

    spacing = _checked_spacing(spacing_mm)
    prediction, label = (
        _label_map(name, volume, len(spacing)) for name, volume in (("prediction", prediction), ("label", label))
    )
    if prediction.shape != label.shape:
        raise ValueError(
            f"prediction {tuple(prediction.shape)} and label {tuple(label.shape)} must have one shape; resample the "
            "prediction to the label's grid, with nearest neighbour, before scoring."
        )
    organs = {number: name for number, name in label_names.items() if number != 0}
    if not organs:
        raise ValueError(f"label_names names no organ besides 0, got {dict(label_names)}.")
    numbers = torch.tensor(list(organs)).view(-1, *[1] * len(spacing))
    predicted, true = (prediction == numbers)[None], (label == numbers)[None]  # (1, organs, X, Y, Z)
    dice = compute_dice(predicted, true)[0].tolist()  # NaN where the label has no voxel
    distance = _surface_distances(predicted, true, spacing)
    return {
        "dice": {name: None if math.isnan(d) else d for name, d in zip(organs.values(), dice, strict=True)},
        "hd95_mm": dict(zip(organs.values(), distance, strict=True)),
    }


def summarise_scores(cases: Mapping[str, dict]) -> dict:
    """Means over cases of what `segmentation_scores` says of each.

    Args:
        cases: case name -> scores; every case with the same organs.

    Returns:
        "dice", "hd95_mm": organ -> mean over the cases where it is defined, None if there is none;
        "mean_dice", "mean_hd95_mm": mean of those organ means, so each organ weighs the same, large or small;
        "not_found": in how many (case, organ) pairs an organ was there and the prediction had no voxel of it. Read
        "mean_hd95_mm" beside it: those pairs have Dice 0 and no distance;
        "cases": `cases`.

    Raises:
        ValueError: no case, or cases with different organs.
    """
    if not cases:
        raise ValueError("summarise_scores needs at least one case, got none.")
    organs = list(next(iter(cases.values()))["dice"])
    for name, scores in cases.items():
        if list(scores["dice"]) != organs:
            raise ValueError(f"case {name} has scores of {list(scores['dice'])}, the first case of {organs}.")
    summary = {
        measure: {o: _defined_mean(scores[measure][o] for scores in cases.values()) for o in organs}
        for measure in ("dice", "hd95_mm")
    }
    not_found = sum(
        scores["dice"][o] is not None and scores["hd95_mm"][o] is None for scores in cases.values() for o in organs
    )
    return {
        **summary,
        "mean_dice": _defined_mean(summary["dice"].values()),
        "mean_hd95_mm": _defined_mean(summary["hd95_mm"].values()),
        "not_found": not_found,
        "cases": dict(cases),
    }


def overlap_scores(prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Dice (DSC), positive predictive value and sensitivity of binary masks, one value for each mask of the batch.

    DSC = 2 TP / (2 TP + FP + FN), PPV = TP / (TP + FP), sensitivity = TP / (TP + FN). Where a denominator is 0 the
    score is 1 if both masks are empty and 0 otherwise.

    Args:
        prediction, target: bool masks, shape (B, ...).

    Returns:
        {"dsc", "ppv", "sensitivity"}, each (B,) float64 in [0, 1].

    Raises:
        ValueError: masks that are not bool, have no batch axis or differ in shape.
    """
    _check_masks(prediction, target)
    if prediction.ndim < 2:
        raise ValueError(f"overlap_scores needs masks (B, ...), got shape {tuple(prediction.shape)}; add a batch axis.")
    predicted, true, both = (m.flatten(1).sum(1).double() for m in (prediction, target, prediction & target))
    neither = ((predicted + true) == 0).double()
    return {
        "dsc": _ratio(2 * both, predicted + true, neither),
        "ppv": _ratio(both, predicted, neither),
        "sensitivity": _ratio(both, true, neither),
    }


def dice_score(prediction: Tensor, target: Tensor) -> Tensor:
    """Dice of two bool masks of any one shape, taken as one set: scalar float64 in [0, 1], 1 if both are empty.

    Raises:
        ValueError: masks that are not bool or differ in shape.
    """
    _check_masks(prediction, target)
    return overlap_scores(prediction.reshape(1, -1), target.reshape(1, -1))["dsc"][0]


def soft_dice_loss(probabilities: Tensor, target: Tensor, *, smooth: float = 1.0) -> Tensor:
    """Negative soft Dice with the whole batch as one set: -2 sum(p y) / (sum p + sum y + smooth).

    A batch without foreground would give 0 whatever is predicted; there both p and y are replaced by 1 - p and 1 - y,
    so predicting nothing is rewarded. (Looking for foreground waits for the GPU once.)

    Args:
        probabilities: foreground probabilities in [0, 1], any shape; half precision is raised to float32.
        target: 0 or 1 (bool, whole or float), same shape.
        smooth: added to the denominator, >= 0.

    Returns:
        Scalar in (-1, 0], the lower the better.

    Raises:
        ValueError: shapes that differ, a negative `smooth`.
    """
    if probabilities.shape != target.shape:
        raise ValueError(
            f"soft_dice_loss: probabilities {tuple(probabilities.shape)} and target {tuple(target.shape)} must have "
            "one shape."
        )
    if smooth < 0:
        raise ValueError(f"soft_dice_loss: smooth is added to a count of voxels and must be >= 0, got {smooth}.")
    p = probabilities.to(torch.promote_types(probabilities.dtype, torch.float32))
    y = target.to(p.dtype)
    if not y.any():
        p, y = 1 - p, 1 - y
    return -2 * (p * y).sum() / (p.sum() + y.sum() + smooth)


def _surface_distances(predicted: Tensor, true: Tensor, spacing: tuple[float, ...]) -> list[float | None]:
    """95 % Hausdorff distance in mm of each channel of (1, organs, *S) bool; None where one of the masks is empty."""
    from monai.metrics import compute_hausdorff_distance

    distances: list[float | None] = [None] * predicted.shape[1]
    defined = [i for i, (p, t) in enumerate(zip(predicted[0], true[0], strict=True)) if p.any() and t.any()]
    if defined:
        with warnings.catch_warnings():
            # MONAI 1.6 calls its own function with an argument it has deprecated: nothing a reader can mend.
            warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
            found = compute_hausdorff_distance(
                predicted[:, defined], true[:, defined], include_background=True, percentile=95, spacing=spacing
            )
        for i, distance in zip(defined, found[0].tolist(), strict=True):
            distances[i] = distance
    return distances


def _checked_spacing(spacing_mm: Sequence[float]) -> tuple[float, ...]:
    spacing = tuple(float(s) for s in spacing_mm)
    if len(spacing) not in (2, 3) or not all(0 < s < math.inf for s in spacing):
        raise ValueError(f"spacing_mm is one length above 0 for each of 2 or 3 axes, in mm; got {spacing}.")
    return spacing


def _label_map(name: str, volume: Tensor, spatial_dims: int) -> Tensor:
    """The map without channel axis on the CPU, where MONAI's distances give the same numbers on every machine."""
    volume = torch.as_tensor(volume).as_subclass(Tensor)  # a MetaTensor would carry its affine along
    if volume.is_floating_point() or volume.is_complex():
        raise ValueError(f"{name} must hold whole numbers, got {volume.dtype}; from logits (C, X, Y, Z): argmax(0).")
    if volume.ndim == spatial_dims + 1 and volume.shape[0] == 1:
        volume = volume[0]
    if volume.ndim != spatial_dims:
        raise ValueError(
            f"{name} must be one map with {spatial_dims} axes, as many as spacings, or with one channel before them; "
            f"got shape {tuple(volume.shape)}."
        )
    return volume.cpu()


def _check_masks(prediction: Tensor, target: Tensor) -> None:
    for name, mask in (("prediction", prediction), ("target", target)):
        if mask.dtype != torch.bool:
            raise ValueError(f"{name} must be a bool mask, got {mask.dtype}; from probabilities: {name} > 0.5.")
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} must have one shape.")


def _ratio(numerator: Tensor, denominator: Tensor, otherwise: Tensor) -> Tensor:
    """numerator / denominator, and `otherwise` where the denominator is 0; all (B,) float64."""
    return torch.where(denominator > 0, numerator / denominator.clamp(min=1), otherwise)


def _defined_mean(values) -> float | None:
    """Mean of the values that are not None; None if there is none."""
    defined = [v for v in values if v is not None]
    return math.fsum(defined) / len(defined) if defined else None
