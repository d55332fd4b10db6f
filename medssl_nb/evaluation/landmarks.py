"""Landmarks found again by their features: mark a point in one patient, look for the voxel most like it in others."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl_nb.data.cohorts import Case
from medssl_nb.data.geometry import mm_to_voxel, voxel_to_mm
from medssl_nb.evaluation.probes import whole_volume_features

Find = Callable[[Tensor, Tensor, Tensor], Tensor]  # template volume, points in it (P, 3), query volume -> points (P, 3)


def landmark_error(predicted: Tensor, target: Tensor, *, spacing: float | Sequence[float] = 1.0) -> Tensor:
    """Distance between predicted and true points, in the unit of `spacing`.

    Args:
        predicted, target: points (..., ndim), voxel indices, whole or fractional.
        spacing: mm per voxel, one number or one for each axis; 1 for points that are in mm already.

    Returns:
        (...,) float64.

    Raises:
        ValueError: shapes that differ, a spacing of another length or not above 0.
    """
    predicted, target = torch.as_tensor(predicted), torch.as_tensor(target)
    if predicted.shape != target.shape or predicted.ndim == 0:
        raise ValueError(
            f"predicted and target must be points (..., ndim) of one shape, got {tuple(predicted.shape)} and "
            f"{tuple(target.shape)}."
        )
    scale = torch.as_tensor(spacing, dtype=torch.float64, device=predicted.device)
    if scale.shape not in ((), (predicted.shape[-1],)) or not (scale > 0).all():
        raise ValueError(
            f"spacing is one length above 0, or one for each of the {predicted.shape[-1]} axes of the points; "
            f"got {spacing}."
        )
    return ((predicted.double() - target.double()) * scale).norm(dim=-1)


def success_rate(errors: Tensor, radius: float) -> Tensor:
    """Share of errors that are at most `radius` (same unit): scalar float64 in [0, 1]; NaN if an error is NaN.

    Raises:
        ValueError: no error, a radius below 0.
    """
    errors = torch.as_tensor(errors).double()
    if errors.numel() == 0:
        raise ValueError("success_rate: errors must hold at least one error, got an empty tensor.")
    if not radius >= 0:
        raise ValueError(f"success_rate: radius is a distance >= 0, got {radius}.")
    return torch.where(errors.isnan(), errors, (errors <= radius).double()).mean()


@torch.no_grad()
def locate_by_features(
    template_features: Tensor, template_points_voxel: Tensor, query_features: Tensor, *, chunk: int = 65_536
) -> Tensor:
    """The voxel of the query whose features have the largest cosine with those at each point of the template.

    Args:
        template_features: (C, *S), for example from `whole_volume_features`.
        template_points_voxel: (P, ndim) voxel indices in the template, whole or fractional: features between voxels
            are interpolated linearly. Points may lie up to half a voxel beyond the outermost centres.
        query_features: (C, *S') of another volume, of any size.
        chunk: how many query voxels are compared at a time; memory is 4 * C * chunk bytes beside the features.

    Returns:
        (P, ndim) int64 voxel indices in the query, on its device; of equally good voxels the first in memory order.

    Raises:
        ValueError: other numbers of axes or channels, points outside the template, a chunk below 1, NaN.
    """
    points = torch.as_tensor(template_points_voxel)
    _check_search(template_features, points, query_features, chunk)
    wanted = F.normalize(_interpolated(template_features, points), dim=1).to(query_features)  # (P, C)
    best = wanted.new_full((len(wanted),), -torch.inf)
    index = torch.zeros(len(wanted), dtype=torch.int64, device=wanted.device)
    start = 0
    for part in query_features.flatten(1).split(chunk, dim=1):
        cosine, place = (wanted @ F.normalize(part, dim=0)).max(dim=1)  # (P, C) @ (C, chunk) -> (P, chunk) -> (P,)
        index = torch.where(cosine > best, place + start, index)
        best = torch.maximum(cosine, best)
        start += part.shape[1]
    if not best.isfinite().all():
        raise ValueError("the features hold NaN or infinity, so no voxel is the most alike.")
    return torch.stack(torch.unravel_index(index, query_features.shape[1:]), dim=1)


def match_grey_values(template: Tensor, template_points_voxel: Tensor, query: Tensor, *, window: int = 9) -> Tensor:
    """The place of the query whose grey values correlate best with a cube around each point: no learning at all.

    Normalised cross-correlation, by scikit-image (`match_template`); beyond the border the border goes on. About 0.1 s
    for a point in 48 x 48 x 48 voxels.

    Args:
        template: grey values (*S).
        template_points_voxel: (P, ndim) voxel indices in the template, rounded.
        query: grey values (*S') of another volume.
        window: side of the cube in voxels, odd.

    Returns:
        (P, ndim) int64 voxel indices in the query.

    Raises:
        ValueError: an even window, one that exceeds the query, other numbers of axes, points outside the template.
    """
    from skimage.feature import match_template

    points = torch.as_tensor(template_points_voxel)
    _check_search(template[None], points, query[None], chunk=1)
    if not (isinstance(window, int) and window >= 1 and window % 2) or window > min(query.shape):
        raise ValueError(f"window is odd and at most the query's smallest side {min(query.shape)}, got {window!r}.")
    half = window // 2
    padded, searched = (np.pad(np.asarray(v, dtype=np.float64), half, mode="edge") for v in (template, query))
    found = []
    for corner in points.double().round().long().tolist():
        cube = padded[tuple(slice(c, c + window) for c in corner)]  # its middle is the point: the padding moved it
        if cube.std() == 0:
            # A constant cube is like nothing and everything: the place is copied, as far as the query has it.
            found.append([min(c, side - 1) for c, side in zip(corner, query.shape, strict=True)])
            continue
        scores = match_template(searched, cube)
        found.append(np.unravel_index(int(scores.argmax()), scores.shape))
    return torch.as_tensor(np.array(found, dtype=np.int64).reshape(-1, query.ndim))


def find_by_features(features: Callable[[Tensor], Tensor]) -> Find:
    """A way to find landmarks for `score_landmarks`: the nearest voxel in feature space.

    Args:
        features: volume (1, X, Y, Z) to features (C, X, Y, Z); those of the template are computed once.
    """
    known: list = [None, None]

    def find(template: Tensor, points: Tensor, query: Tensor) -> Tensor:
        if known[0] is not template:
            known[:] = template, features(template)
        return locate_by_features(known[1], points, features(query))

    return find


def landmark_transfer(
    encoder: nn.Module,
    template_case: Case,
    cases: Sequence[Case],
    *,
    device: torch.device | str | None = None,
) -> dict:
    """Carry the landmarks of one patient to others by an encoder's features alone: `score_landmarks` for an encoder.

    Args:
        encoder: a module with the encoder face.
        template_case, cases: see `score_landmarks`.
        device: where the encoder is moved to and runs; None: where it is.
    """
    if device is not None:
        encoder.to(device)
    return score_landmarks(
        find_by_features(lambda volume: whole_volume_features(encoder, volume)), template_case, cases
    )


def score_landmarks(find: Find, template_case: Case, cases: Sequence[Case]) -> dict:
    """Find the landmarks of one patient in others, and measure how far off they come out.

    Beside each error stands that of **copying**: the template's position in scanner mm, taken over as it is. A method
    that does not beat it has learnt nothing about anatomy. (Where scans have no common origin, copying is weak.)

    A landmark counts where both patients have it inside their volumes; others are left out, and listed.

    Args:
        find: template volume (1, X, Y, Z), points in it (P, 3) in voxels, query volume -> points (P, 3) in voxels of
            the query; see `find_by_features`. Volumes are `case.normalised()`.
        template_case: the patient whose landmarks are known (`landmarks_mm`).
        cases: patients to find them in, with `landmarks_mm` as the truth; the template itself is not among them.

    Returns:
        "template": its name; "errors_mm", "copy_errors_mm": case -> landmark -> mm; "mean_mm", "copy_mm": means over
        all landmarks of all cases; "left_out": case -> names of landmarks that one of the two lacks.

    Raises:
        ValueError: no case, the template among the cases, no landmark to score in any case.
    """
    if not cases or template_case.name in {case.name for case in cases}:
        raise ValueError(
            f"landmarks are looked for in cases other than the template {template_case.name}, got "
            f"{[case.name for case in cases]}."
        )
    template = template_case.normalised()
    known = _landmarks_inside(template_case, template)
    errors, copy_errors, left_out = {}, {}, {}
    for case in cases:
        volume = case.normalised()
        there = _landmarks_inside(case, volume)
        shared = [name for name in known if name in there]
        left_out[case.name] = sorted((template_case.landmarks_mm.keys() | case.landmarks_mm.keys()) - set(shared))
        found = np.empty((0, 3))
        if shared:
            points = torch.from_numpy(mm_to_voxel(template.affine, [known[name] for name in shared]))
            found = voxel_to_mm(volume.affine, find(template, points, volume).cpu())
        errors[case.name] = _errors(shared, found, there)
        copy_errors[case.name] = _errors(shared, [known[name] for name in shared], there)
    if not any(errors.values()):
        raise ValueError(
            f"no landmark of {template_case.name} ({', '.join(known) or 'none inside its volume'}) is there in any of "
            "the cases, so there is nothing to score; choose another template or other cases."
        )
    return {
        "template": template_case.name,
        "errors_mm": errors,
        "copy_errors_mm": copy_errors,
        "mean_mm": _mean(errors),
        "copy_mm": _mean(copy_errors),
        "left_out": left_out,
    }


def _landmarks_inside(case: Case, volume) -> dict[str, tuple[float, ...]]:
    """Landmarks (name -> mm) of a case that lie in a voxel of its volume."""
    inside = {}
    for name, mm in case.landmarks_mm.items():
        voxel = np.rint(mm_to_voxel(volume.affine, [mm])[0])
        if (voxel >= 0).all() and (voxel < volume.shape[1:]).all():
            inside[name] = mm
    return inside


def _errors(names: Sequence[str], found, truth: Mapping[str, tuple[float, ...]]) -> dict[str, float]:
    """Name -> distance of the point found, (len(names), 3) in mm, from the truth."""
    points = torch.as_tensor(np.asarray(found)).reshape(-1, 3)
    target = torch.tensor([truth[name] for name in names], dtype=torch.float64).reshape(-1, 3)
    return dict(zip(names, landmark_error(points, target).tolist(), strict=True))


def _mean(errors: Mapping[str, Mapping[str, float]]) -> float:
    """Mean over all landmarks of all cases."""
    return float(np.mean([mm for of_case in errors.values() for mm in of_case.values()]))


def _check_search(template: Tensor, points: Tensor, query: Tensor, chunk: int) -> None:
    """Refuse features and points that do not belong together."""
    axes = template.ndim - 1
    if axes not in (2, 3) or query.ndim != template.ndim or query.shape[0] != template.shape[0]:
        raise ValueError(
            "features must be (C, X, Y) or (C, X, Y, Z) with as many channels and axes in template and query, got "
            f"{tuple(template.shape)} and {tuple(query.shape)}."
        )
    if points.ndim != 2 or points.shape[1] != axes:
        raise ValueError(f"template_points_voxel must be rows (P, {axes}), got shape {tuple(points.shape)}.")
    size = torch.tensor(template.shape[1:], device=points.device)
    outside = ((points < -0.5) | (points > size - 0.5)).any(dim=1)
    if outside.any():
        raise ValueError(
            f"template point {points[outside][0].tolist()} lies outside the template of {tuple(size.tolist())} voxels; "
            "points are voxel indices, not mm (medssl_nb.data.mm_to_voxel)."
        )
    if chunk < 1:
        raise ValueError(f"chunk counts voxels from 1, got {chunk}.")


def _interpolated(features: Tensor, points: Tensor) -> Tensor:
    """Features (C, *S) at voxel points (P, ndim), linear between centres, the border's beyond them: (P, C)."""
    last = torch.tensor(features.shape[1:], device=points.device) - 1
    grid = 2 * points.double() / last.clamp(min=1) - 1  # -1 ... 1 from the first to the last centre
    grid = (
        grid.flip(-1).to(features).view(1, -1, *[1] * (len(last) - 1), len(last))
    )  # grid_sample names axes last first
    found = F.grid_sample(features[None], grid, padding_mode="border", align_corners=True)  # (1, C, P, 1[, 1])
    return found.flatten(2)[0].T
