"""Landmark distances by reference, and points found again where their features went."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from medssl_nb.data import load_cohort
from medssl_nb.data.cohorts import Case
from medssl_nb.evaluation.landmarks import (
    find_by_features,
    landmark_error,
    landmark_transfer,
    locate_by_features,
    match_grey_values,
    score_landmarks,
    success_rate,
)
from medssl_nb.networks.unet import FeatureUNet

REFERENCE = Path(__file__).parents[1] / "reference" / "local_discrimination.npz"


def features(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- distances ---


@pytest.mark.parametrize("dtype, rtol", [(torch.float64, 1e-5), (torch.float32, 1e-4)])
def test_errors_by_reference(dtype, rtol):
    with np.load(REFERENCE, allow_pickle=False) as numbers:
        predicted, target, spacing, radius, mm, success = (
            torch.from_numpy(numbers[f"err_{key}"])
            for key in ("predicted", "target", "spacing", "radius", "mm", "success")
        )
    errors = landmark_error(predicted.to(dtype), target.to(dtype), spacing=tuple(spacing.tolist()))
    assert errors.dtype == torch.float64
    torch.testing.assert_close(errors, mm, rtol=rtol, atol=1e-8)
    torch.testing.assert_close(success_rate(errors, float(radius)), success, rtol=1e-5, atol=1e-8)


def test_errors_by_hand_with_and_without_spacing():
    predicted, target = torch.tensor([[[3, 4], [0, 0]]]), torch.tensor([[[0, 0], [0, 2]]])
    assert landmark_error(predicted, target).tolist() == [[5, 2]]
    assert landmark_error(predicted, target, spacing=2.0).tolist() == [[10, 4]]
    assert landmark_error(predicted, target, spacing=(1, 0.5)).tolist() == [[pytest.approx(13**0.5), 1]]


def test_the_radius_itself_is_a_success_and_nan_is_not_hidden():
    assert success_rate(torch.tensor([1.0, 2.0, 2.1, 9.0]), 2.0) == 0.5
    assert success_rate(torch.tensor([1.0, float("nan")]), 2.0).isnan()


def test_points_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"one shape, got \(2, 3\) and \(3,\)"):
        landmark_error(torch.zeros(2, 3), torch.zeros(3))
    for spacing in ((1, 1), 0.0, (1, 1, -1)):
        with pytest.raises(ValueError, match="spacing is one length above 0"):
            landmark_error(torch.zeros(2, 3), torch.zeros(2, 3), spacing=spacing)
    with pytest.raises(ValueError, match="at least one error"):
        success_rate(torch.empty(0), 1.0)
    with pytest.raises(ValueError, match="radius is a distance >= 0, got -1"):
        success_rate(torch.zeros(1), -1)


# --- the search ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(7, 9), (5, 6, 7)], ids=["2d", "3d"])
def test_voxels_are_found_where_they_went_in_a_larger_volume(size, dtype):
    template = features(8, *size).to(dtype)
    query = features(8, *(n + 4 for n in size), seed=1).to(dtype)
    query[(slice(None), *(slice(i, i + n) for i, n in enumerate(size, 1)))] = 3 * template  # cosine: length is nothing
    points = torch.stack([torch.randint(n, (6,), generator=torch.Generator().manual_seed(n)) for n in size], dim=1)
    found = locate_by_features(template, points, query)
    assert found.dtype == torch.int64
    assert found.tolist() == (points + torch.arange(1, len(size) + 1)).tolist()


def test_features_between_voxels_are_interpolated():
    template = torch.zeros(2, 1, 5, 4)
    template[0, 0, 1, 2] = template[1, 0, 2, 2] = 1.0  # at (0, 1.25, 2): 0.75 of the first, 0.25 of the second
    angles = torch.linspace(0, torch.pi / 2, 64)
    query = torch.stack([angles.cos(), angles.sin()]).view(2, 4, 16)[:, :, :, None]
    nearest = (angles - torch.atan(torch.tensor(1 / 3))).abs().argmin()
    found = locate_by_features(template, torch.tensor([[0.0, 1.25, 2.0]]), query)
    assert found.tolist() == [[nearest // 16, nearest % 16, 0]]


def test_half_a_voxel_beyond_the_outermost_centre_is_that_voxel():
    template = features(6, 4, 5, 6)
    edge = torch.tensor([[-0.5, 2.0, 5.49]])
    assert locate_by_features(template, edge, template).tolist() == [[0, 2, 5]]


def test_chunks_change_nothing_and_the_first_of_equals_wins():
    template, query = features(4, 3, 4, 5), features(4, 6, 5, 4, seed=2)
    points = torch.tensor([[0, 0, 0], [2, 3, 4], [1, 1, 1]])
    whole = locate_by_features(template, points, query)
    for chunk in (1, 7, 119):
        assert torch.equal(locate_by_features(template, points, query, chunk=chunk), whole)
    for chunk in (2, 1000):
        same_everywhere = torch.ones(4, 3, 3, 3)
        assert locate_by_features(template, points, same_everywhere, chunk=chunk).tolist() == [[0, 0, 0]] * 3


def test_searches_that_make_no_sense_are_refused():
    template, point = features(4, 3, 4, 5), torch.tensor([[1, 1, 1]])
    with pytest.raises(ValueError, match=r"\(4, 3, 4, 5\) and \(3, 3, 4, 5\)"):
        locate_by_features(template, point, template[:3])
    with pytest.raises(ValueError, match=r"rows \(P, 3\), got shape \(3,\)"):
        locate_by_features(template, point[0], template)
    for outside in ([[3, 1, 1]], [[1, -1, 1]]):
        with pytest.raises(ValueError, match=r"outside the template of \(3, 4, 5\) voxels"):
            locate_by_features(template, torch.tensor(outside), template)
    with pytest.raises(ValueError, match="chunk counts voxels from 1"):
        locate_by_features(template, point, template, chunk=0)
    template[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinity"):
        locate_by_features(template, point, template)


# --- from patient to patient ---


class PlaceEncoder(nn.Module):
    """Features of a volume whose three channels say where in the anatomy a voxel lies: alike means near."""

    spatial_dims, in_channels, feature_channels, feature_strides = 3, 3, (6,), ((1, 1, 1),)

    def feature_maps(self, volume):
        return [torch.cat([volume.cos(), volume.sin()], dim=1)]


def patient(name, shift, landmarks, size=(8, 9, 10), origin_mm=-5.0):
    """A volume that shows the place (in voxels) of its anatomy, which begins `shift` voxels into the grid of 2 mm."""
    axes = torch.meshgrid(*(torch.arange(n) - s for n, s in zip(size, shift, strict=True)), indexing="ij")
    affine = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0], dtype=torch.float64))
    affine[:3, 3] = origin_mm
    image = MetaTensor(20.0 * torch.stack(axes), affine=affine)  # HU inside the CT window
    mm = {k: tuple(2.0 * (v + s) + origin_mm for v, s in zip(p, shift, strict=True)) for k, p in landmarks.items()}
    return Case(name, name, "CT", {"image": lambda: image}, landmarks_mm=mm)


POINTS = {"carina": (2, 3, 4), "xiphoid": (5, 6, 7)}


def test_a_shifted_patient_by_hand():
    template, shifted = patient("a", (0, 0, 0), POINTS), patient("b", (0, 1, 2), POINTS)
    found = landmark_transfer(PlaceEncoder(), template, [shifted])
    assert found["template"] == "a"
    assert found["errors_mm"] == {"b": {"carina": pytest.approx(0), "xiphoid": pytest.approx(0)}}
    assert found["copy_errors_mm"]["b"] == {name: pytest.approx(2 * 5**0.5) for name in POINTS}
    assert found["mean_mm"] == pytest.approx(0)
    assert found["copy_mm"] == pytest.approx(2 * 5**0.5)
    assert found["left_out"] == {"b": []}
    json.dumps(found, allow_nan=False)


def test_each_volume_has_its_own_place_in_the_scanner():
    template, other = patient("a", (0, 0, 0), POINTS), patient("b", (1, 0, 0), POINTS, (9, 9, 10), origin_mm=40.0)
    found = landmark_transfer(PlaceEncoder(), template, [other])
    assert found["mean_mm"] == pytest.approx(0)
    assert found["copy_mm"] == pytest.approx((47**2 + 45**2 + 45**2) ** 0.5)


def test_the_mean_is_over_landmarks_and_errors_are_in_mm():
    template, first = patient("a", (0, 0, 0), POINTS), patient("b", (0, 0, 0), POINTS)
    misled = {name: (x + 3.0, y, z) for name, (x, y, z) in first.landmarks_mm.items()}
    second = replace(patient("c", (0, 0, 0), {"carina": POINTS["carina"]}), landmarks_mm={"carina": misled["carina"]})
    found = landmark_transfer(PlaceEncoder(), template, [first, second])
    assert found["errors_mm"]["c"] == {"carina": pytest.approx(3.0)}
    assert found["mean_mm"] == found["copy_mm"] == pytest.approx(1.0)


def test_landmarks_that_one_of_the_two_lacks_are_left_out_and_listed():
    template = patient("a", (0, 0, 0), POINTS | {"apex": (1, 1, 20), "hilum": (3, 3, 3)})
    case = patient("b", (0, 0, 4), POINTS | {"apex": (1, 1, 1), "knee": (1, 1, 1)})  # the xiphoid slid out of view
    low = patient("d", (0, 0, -5), POINTS)  # and here the carina did
    empty = patient("c", (0, 0, 0), {})
    found = landmark_transfer(PlaceEncoder(), template, [case, low, empty])
    assert list(found["errors_mm"]["b"]) == ["carina"]
    assert found["left_out"]["b"] == ["apex", "hilum", "knee", "xiphoid"]
    assert list(found["errors_mm"]["d"]) == ["xiphoid"]
    assert found["errors_mm"]["c"] == {}


def test_transfers_with_nothing_to_score_are_refused():
    template = patient("a", (0, 0, 0), POINTS)
    with pytest.raises(ValueError, match=r"cases other than the template a, got \['b', 'a'\]"):
        landmark_transfer(PlaceEncoder(), template, [patient("b", (0, 0, 0), POINTS), template])
    with pytest.raises(ValueError, match="other than the template a, got"):
        landmark_transfer(PlaceEncoder(), template, [])
    with pytest.raises(ValueError, match=r"no landmark of a \(carina, xiphoid\)"):
        landmark_transfer(PlaceEncoder(), template, [patient("b", (0, 0, 0), {})])
    with pytest.raises(ValueError, match=r"no landmark of c \(none inside its volume\)"):
        landmark_transfer(PlaceEncoder(), patient("c", (0, 0, 0), {}), [template])


def test_a_u_net_on_generated_patients():
    cohort = load_cohort("phantom", train=2, validation=0, test=0, shape=(22, 20, 18), spacing_mm=(14, 12, 16))
    torch.manual_seed(0)
    net = FeatureUNet(channels=(4, 8, 8), norm="instance").train()
    template, other = cohort.train
    found = landmark_transfer(net, template, [other], device="cpu")
    again = landmark_transfer(net, template, [replace(template, name="the same patient")])
    assert net.training
    assert set(found["errors_mm"][other.name]) | set(found["left_out"][other.name]) == set(template.landmarks_mm)
    assert 0 < found["copy_mm"] < 100
    assert again["copy_mm"] == pytest.approx(0, abs=1e-9)
    assert again["mean_mm"] < 16 < found["mean_mm"]  # voxel centres, or their neighbours, of the same patient


# ---------------------------------------------------------------- grey values, and any way to find
def textured(size, seed=0):
    return torch.rand(size, generator=torch.Generator().manual_seed(seed))


def test_grey_values_find_a_shifted_and_recoloured_copy():
    template = textured((12, 13, 11))
    points = torch.tensor([[4, 5, 3], [6, 7, 5], [3.4, 6.6, 4]])
    query = 3 * template.roll((2, -1, 3), dims=(0, 1, 2)) + 7  # correlation sees neither gain nor offset
    found = match_grey_values(template, points, query, window=5)
    assert found.dtype == torch.int64
    assert found.tolist() == [[6, 4, 6], [8, 6, 8], [5, 6, 7]]


def test_grey_values_at_the_border_and_in_pictures():
    picture = textured((9, 10))
    corners = torch.tensor([[0, 0], [8, 9], [0, 9]])
    assert match_grey_values(picture, corners, picture, window=3).tolist() == corners.tolist()


def test_a_constant_cube_copies_the_place_as_far_as_the_query_has_it():
    flat = torch.zeros(9, 9, 9)
    points = torch.tensor([[1, 2, 3], [8, 8, 8]])
    assert match_grey_values(flat, points, textured((9, 9, 5)), window=3).tolist() == [[1, 2, 3], [8, 8, 4]]


@pytest.mark.parametrize("window", [4, 0, 11, 3.0])
def test_windows_that_do_not_fit_are_refused(window):
    with pytest.raises(ValueError, match=f"window is odd.* got {window}"):
        match_grey_values(textured((9, 9, 9)), torch.zeros(1, 3), textured((9, 9, 9)), window=window)


def test_grey_values_refuse_points_outside():
    with pytest.raises(ValueError, match="outside the template"):
        match_grey_values(textured((9, 9, 9)), torch.tensor([[9, 0, 0]]), textured((9, 9, 9)), window=3)


def test_any_way_to_find_is_scored_alike_and_the_template_is_looked_at_once():
    template = patient("a", (0, 0, 0), POINTS)
    others = [patient("b", (1, 0, -1), POINTS), patient("c", (0, 1, 0), POINTS)]
    seen = []

    def features(volume):
        seen.append(tuple(volume.shape))
        return PlaceEncoder().feature_maps(volume[None])[0][0]

    by_features = score_landmarks(find_by_features(features), template, others)
    assert by_features["mean_mm"] == landmark_transfer(PlaceEncoder(), template, others)["mean_mm"]
    assert len(seen) == 3  # the template, then each case
    copied = score_landmarks(lambda volume, points, query: points, template, others)
    assert copied["errors_mm"] == copied["copy_errors_mm"]
