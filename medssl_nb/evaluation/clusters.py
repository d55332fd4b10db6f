"""What unsupervised clusters are worth: how many are used, do they stay, where do they end, which organs are they."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def clusters_used(usage: Tensor) -> float:
    """How many clusters are used in effect: exp of the entropy of their shares, 1 (one takes all) to K (all alike).

    Args:
        usage: (K,), shares or counts, not negative.

    Raises:
        ValueError: another shape, a negative share, nothing used at all.
    """
    if usage.ndim != 1 or not (usage.min() >= 0 and usage.sum() > 0):
        raise ValueError(f"usage is (K,), shares from 0 and not all 0; got shape {tuple(usage.shape)}, {usage}.")
    share = usage.double() / usage.double().sum()
    return float(torch.special.entr(share).sum().exp())


def agreement_scores(first: Tensor, second: Tensor) -> dict[str, float]:
    """How often two cluster maps of the same voxels say the same, names included.

    Args:
        first, second: whole numbers, any one shape.

    Returns:
        "agreement": share of voxels with the same number; "kappa" (Cohen): what of the agreement that chance would not
        give is there, 1 = all, 0 = chance. One cluster that takes all agrees everywhere and has kappa 0.
    """
    _check_maps(first, second, "first", "second")
    a, b = first.flatten().long(), second.flatten().long()
    number = int(max(a.max(), b.max())) + 1
    agreement = float((a == b).double().mean())
    shares = [torch.bincount(x, minlength=number).double() / len(x) for x in (a, b)]
    chance = float(shares[0] @ shares[1])
    return {"agreement": agreement, "kappa": (agreement - chance) / (1 - chance) if chance < 1 else 0.0}


def organ_information(clusters: Tensor, label: Tensor, numbers: Sequence[int] | None = None) -> dict[str, float]:
    """What a voxel's cluster says of its organ: mutual information over the voxels, by scikit-learn.

    Args:
        clusters, label: whole numbers, any one shape; several cases may be stacked.
        numbers: only voxels with one of these labels count, such as the organs without background; None: all.

    Returns:
        "information" in nats; "share" of the label's entropy that it is, 0 to 1 (scikit-learn calls it homogeneity; 1
        if all voxels have one label: nothing is left to be said).

    Raises:
        ValueError: maps that do not fit, no voxel with one of the labels.
    """
    from sklearn.metrics import mutual_info_score

    _check_maps(clusters, label, "clusters", "label")
    if numbers is not None:
        counts = torch.isin(label, torch.as_tensor(list(numbers), dtype=label.dtype))
        if not counts.any():
            raise ValueError(f"no voxel has one of the labels {list(numbers)}; there are {label.unique().tolist()}.")
        clusters, label = clusters[counts], label[counts]
    cluster, organ = (x.flatten().cpu().numpy() for x in (clusters, label))
    information = float(mutual_info_score(organ, cluster))
    entropy = float(mutual_info_score(organ, organ))
    return {"information": information, "share": min(information / entropy, 1.0) if entropy > 0 else 1.0}


def border_scores(
    clusters: Tensor, label: Tensor, spacing_mm: Sequence[float], tolerance_mm: float
) -> dict[str, float | None]:
    """How well borders between clusters lie on borders between organs.

    A border voxel has a neighbour (across a face) with another number. Distances are between voxel centres.

    Args:
        clusters, label: whole numbers (X, Y, Z), or (X, Y) with two spacings.
        spacing_mm: voxel size along each axis.
        tolerance_mm: how far from a border still counts as on it, from 0.

    Returns:
        "precision": share of the clusters' border voxels that lie within the tolerance of an organ border; "recall":
        share of the organs' border voxels that lie within the tolerance of a cluster border; "f": 2 p r / (p + r). 0
        where there is a border to be found and none was drawn; all None where the label has no border.

    Raises:
        ValueError: maps that do not fit each other or the spacing, a negative tolerance.
    """
    from scipy.ndimage import distance_transform_edt

    _check_maps(clusters, label, "clusters", "label")
    if len(spacing_mm) != label.ndim or not all(0 < s < math.inf for s in spacing_mm):
        raise ValueError(f"spacing_mm is one length for each of {label.ndim} axes, got {tuple(spacing_mm)}.")
    if not tolerance_mm >= 0:
        raise ValueError(f"tolerance_mm is a distance from 0, got {tolerance_mm!r}.")
    drawn, true = label_borders(clusters).cpu().numpy(), label_borders(label).cpu().numpy()
    if not true.any():
        return {"precision": None, "recall": None, "f": None}
    if not drawn.any():
        return {"precision": 0.0, "recall": 0.0, "f": 0.0}
    to_true, to_drawn = (distance_transform_edt(~border, sampling=tuple(spacing_mm)) for border in (true, drawn))
    precision = float(np.mean(to_true[drawn] <= tolerance_mm))
    recall = float(np.mean(to_drawn[true] <= tolerance_mm))
    both = precision + recall
    return {"precision": precision, "recall": recall, "f": 2 * precision * recall / both if both else 0.0}


def label_borders(label: Tensor) -> Tensor:
    """Voxels with a neighbour (across a face) of another number, on both sides of a border: bool, shape of `label`."""
    border = torch.zeros(label.shape, dtype=torch.bool, device=label.device)
    for axis in range(label.ndim):
        if label.shape[axis] < 2:
            continue
        differs = label.narrow(axis, 1, label.shape[axis] - 1) != label.narrow(axis, 0, label.shape[axis] - 1)
        border.narrow(axis, 1, differs.shape[axis]).logical_or_(differs)
        border.narrow(axis, 0, differs.shape[axis]).logical_or_(differs)
    return border


def _check_maps(first: Tensor, second: Tensor, name: str, other: str) -> None:
    if first.shape != second.shape or first.numel() == 0:
        raise ValueError(
            f"{name} and {other} must have one shape, not empty; got {tuple(first.shape)} and {tuple(second.shape)}."
        )
    for which, values in ((name, first), (other, second)):
        if values.is_floating_point() or values.is_complex() or values.min() < 0:
            raise ValueError(f"{which} must hold whole numbers from 0, got {values.dtype}; from probabilities: argmax.")
