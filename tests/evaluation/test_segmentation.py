"""Overlap and surface distance by hand, empty masks, means over cases, and the masks' own scores against references."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medssl_nb.evaluation.segmentation import (
    dice_score,
    overlap_scores,
    segmentation_scores,
    soft_dice_loss,
    summarise_scores,
)

REFERENCE = Path(__file__).parents[1] / "reference"
NAMES = {0: "background", 1: "liver", 5: "spleen"}


def reference(method, *keys):
    with np.load(REFERENCE / f"{method}.npz", allow_pickle=False) as numbers:
        return [torch.from_numpy(numbers[key]) for key in keys]


def box(start, stop, value=1, shape=(8, 9, 10)):
    volume = torch.zeros(shape, dtype=torch.uint8)
    volume[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = value
    return volume


# --- one case ---


def test_a_shifted_box_by_hand():
    label, prediction = box((1, 1, 1), (3, 3, 3)), box((2, 1, 1), (4, 3, 3))
    scores = segmentation_scores(prediction, label, {1: "liver"}, (3.0, 1.0, 1.0))
    assert scores == {"dice": {"liver": 0.5}, "hd95_mm": {"liver": 3.0}}
    along_z = segmentation_scores(box((1, 1, 2), (3, 3, 4)), label, {1: "liver"}, (3.0, 1.0, 0.5))
    assert along_z["hd95_mm"]["liver"] == 0.5


def test_the_distance_is_the_95th_percentile_of_the_worse_direction():
    label = box((0, 0, 0), (5, 5, 5))  # 98 surface voxels
    prediction = label.clone()
    prediction[7, 0, 0] = 1  # 1 of 99 lies 3 mm off: beyond the percentile
    assert segmentation_scores(prediction, label, {1: "liver"}, (1, 1, 1))["hd95_mm"]["liver"] == 0
    prediction[7, :, :] = 1  # 90 of 188 lie 3 to 7 mm off, though every surface voxel of the label was found
    there = segmentation_scores(prediction, label, {1: "liver"}, (1, 1, 1))["hd95_mm"]["liver"]
    back = segmentation_scores(label, prediction, {1: "liver"}, (1, 1, 1))["hd95_mm"]["liver"]
    assert there == back > 5


def test_each_organ_by_itself_and_other_numbers_do_not_count():
    label = box((0, 0, 0), (2, 2, 2)) + box((4, 4, 4), (6, 6, 6), 5) + box((7, 7, 7), (8, 8, 8), 3)
    prediction = box((0, 0, 0), (2, 2, 2)) + box((4, 4, 4), (6, 6, 5), 5) + box((4, 4, 5), (6, 6, 6), 9)
    scores = segmentation_scores(prediction, label, NAMES, (1, 1, 2))
    assert scores["dice"] == {"liver": 1, "spleen": pytest.approx(2 * 4 / (4 + 8))}
    assert scores["hd95_mm"] == {"liver": 0, "spleen": 2}


def test_empty_masks_are_decided_without_a_word_from_monai():
    organ, nothing = box((1, 1, 1), (3, 3, 3)), box((0, 0, 0), (0, 0, 0))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        not_found = segmentation_scores(nothing, organ, {1: "liver"}, (1, 1, 1))
        invented = segmentation_scores(organ, nothing, {1: "liver"}, (1, 1, 1))
        neither = segmentation_scores(nothing, nothing, {1: "liver"}, (1, 1, 1))
        found = segmentation_scores(organ, organ, {1: "liver"}, (1, 1, 1))
    assert said == []
    assert not_found == {"dice": {"liver": 0.0}, "hd95_mm": {"liver": None}}
    assert invented == neither == {"dice": {"liver": None}, "hd95_mm": {"liver": None}}
    assert found == {"dice": {"liver": 1.0}, "hd95_mm": {"liver": 0.0}}


def test_forms_of_a_map():
    label, prediction = box((1, 1, 1), (3, 3, 3)), box((2, 1, 1), (4, 3, 3))
    expected = segmentation_scores(prediction, label, NAMES, (1, 2, 3))
    with_affine = MetaTensor(label[None].to(torch.int16), affine=torch.eye(4))
    assert segmentation_scores(prediction[None].long(), with_affine, NAMES, (1, 2, 3)) == expected
    assert segmentation_scores(prediction == 1, label, NAMES, (1, 2, 3)) == expected
    flat = segmentation_scores(prediction[:, :, 1], label[None, :, :, 1], NAMES, (1, 2))
    assert flat["dice"]["liver"] == 0.5
    assert flat["hd95_mm"]["liver"] == 1


def test_maps_that_do_not_fit_are_refused():
    label = box((1, 1, 1), (3, 3, 3))
    with pytest.raises(ValueError, match=r"prediction \(7, 9, 10\) and label \(8, 9, 10\) must have one shape"):
        segmentation_scores(label[:7], label, NAMES, (1, 1, 1))
    with pytest.raises(ValueError, match=r"prediction must hold whole numbers, got torch.float32.*argmax"):
        segmentation_scores(label.float(), label, NAMES, (1, 1, 1))
    with pytest.raises(ValueError, match=r"label must be one map with 3 axes.*\(2, 8, 9, 10\)"):
        segmentation_scores(label, torch.stack([label, label]), NAMES, (1, 1, 1))
    with pytest.raises(ValueError, match="one map with 2 axes, as many as spacings"):
        segmentation_scores(label, label, NAMES, (1, 1))
    for spacing in ((1, 0, 1), (1, 1, float("nan")), (1, 1, 1, 1)):
        with pytest.raises(ValueError, match="spacing_mm is one length above 0"):
            segmentation_scores(label, label, NAMES, spacing)
    with pytest.raises(ValueError, match="names no organ besides 0"):
        segmentation_scores(label, label, {0: "background"}, (1, 1, 1))


# --- means over cases ---


def test_means_over_cases_and_organs_by_hand():
    cases = {
        "a": {"dice": {"liver": 0.5, "spleen": 0.0}, "hd95_mm": {"liver": 2.0, "spleen": None}},
        "b": {"dice": {"liver": 1.0, "spleen": None}, "hd95_mm": {"liver": 0.0, "spleen": None}},
        "c": {"dice": {"liver": 0.0, "spleen": 0.5}, "hd95_mm": {"liver": None, "spleen": 7.0}},
    }
    summary = summarise_scores(cases)
    assert summary["dice"] == {"liver": 0.5, "spleen": 0.25}
    assert summary["hd95_mm"] == {"liver": 1.0, "spleen": 7.0}
    assert summary["mean_dice"] == 0.375  # of the two organs, not 0.4 of the five values
    assert summary["mean_hd95_mm"] == 4.0
    assert summary["not_found"] == 2
    assert summary["cases"] == cases
    json.dumps(summary, allow_nan=False)


def test_what_is_nowhere_defined_stays_undefined():
    nowhere = {"a": {"dice": {"liver": None}, "hd95_mm": {"liver": None}}}
    summary = summarise_scores(nowhere)
    assert summary["dice"] == {"liver": None}
    assert summary["mean_dice"] is None
    assert summary["mean_hd95_mm"] is None
    assert summary["not_found"] == 0


def test_cases_that_cannot_be_averaged_are_refused():
    with pytest.raises(ValueError, match="at least one case"):
        summarise_scores({})
    one = {"dice": {"liver": 1.0}, "hd95_mm": {"liver": 0.0}}
    other = {"dice": {"spleen": 1.0}, "hd95_mm": {"spleen": 0.0}}
    with pytest.raises(ValueError, match=r"case b has scores of \['spleen'\]"):
        summarise_scores({"a": one, "b": other})


# --- binary masks ---


def test_overlap_scores_by_reference():
    group = "overlap_scores__volume__"
    prediction, target, *expected = reference(
        "adaptive_masking", *(group + key for key in ("prediction", "target", "dsc", "ppv", "sensitivity"))
    )
    scores = overlap_scores(prediction, target)  # rows 1 to 3: empty prediction, empty target, both empty
    assert list(scores) == ["dsc", "ppv", "sensitivity"]
    for found, wanted in zip(scores.values(), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8)


def test_overlap_scores_by_hand():
    prediction = torch.tensor([[True, True, True, False]])
    target = torch.tensor([[True, False, False, True]])
    scores = {name: value.tolist() for name, value in overlap_scores(prediction, target).items()}
    assert scores == {"dsc": [pytest.approx(2 / 5)], "ppv": [pytest.approx(1 / 3)], "sensitivity": [0.5]}
    swapped = overlap_scores(target, prediction)
    assert swapped["ppv"].tolist() == scores["sensitivity"]


def test_dice_score_by_hand_and_by_reference():
    prediction, target = torch.tensor([[True, True], [False, False]]), torch.tensor([[True, False], [True, True]])
    assert dice_score(prediction, target) == pytest.approx(2 / 5)
    assert dice_score(torch.zeros(3, 3, dtype=torch.bool), torch.zeros(3, 3, dtype=torch.bool)) == 1
    assert dice_score(torch.ones(3, dtype=torch.bool), torch.zeros(3, dtype=torch.bool)) == 0
    for kind in ("assignment", "similarity"):
        map_8bit, label, expected = reference(
            "local_discrimination", f"target_{kind}_8bit", "target_label", f"target_dice_{kind}"
        )
        cut = (map_8bit > 127).reshape(label.shape)  # 8 bit = floor(255 p), so p > 0.5 is above 127
        torch.testing.assert_close(dice_score(cut, label.bool()), expected, rtol=1e-5, atol=1e-8)


def test_masks_that_do_not_fit_are_refused():
    mask = torch.ones(2, 3, dtype=torch.bool)
    for scores in (overlap_scores, dice_score):
        with pytest.raises(ValueError, match=r"target must be a bool mask, got torch.float32.*target > 0.5"):
            scores(mask, mask.float())
        with pytest.raises(ValueError, match=r"\(2, 3\) and target \(2, 2\)"):
            scores(mask, mask[:, :2])
    with pytest.raises(ValueError, match=r"masks \(B, ...\)"):
        overlap_scores(mask[0], mask[0])


# --- the loss ---


@pytest.mark.parametrize("dtype, rtol", [(torch.float64, 1e-5), (torch.float32, 1e-4)])
def test_soft_dice_loss_by_reference(dtype, rtol):
    probabilities, target, loss, empty = reference(
        "local_discrimination", "dice_pred", "dice_target", "dice_loss", "dice_empty_loss"
    )
    probabilities, target = probabilities.to(dtype), target.to(dtype)
    torch.testing.assert_close(soft_dice_loss(probabilities, target), loss.to(dtype), rtol=rtol, atol=1e-6)
    torch.testing.assert_close(soft_dice_loss(probabilities, 0 * target), empty.to(dtype), rtol=rtol, atol=1e-6)


def test_soft_dice_loss_takes_the_batch_as_one_set():
    p, y = torch.tensor([[0.5, 1.0], [0.0, 0.0]]), torch.tensor([[True, True], [False, False]])
    assert soft_dice_loss(p, y) == pytest.approx(-2 * 1.5 / (1.5 + 2 + 1))
    assert soft_dice_loss(p, y, smooth=0.0) == pytest.approx(-3 / 3.5)


def test_soft_dice_loss_rewards_predicting_nothing_where_nothing_is():
    y = torch.zeros(4, 4)
    assert soft_dice_loss(torch.full((4, 4), 0.1), y) < soft_dice_loss(torch.full((4, 4), 0.9), y) < 0


def test_soft_dice_loss_gradient_and_half_precision():
    p = torch.rand(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 1, 1]])
    assert torch.autograd.gradcheck(lambda q: soft_dice_loss(q, y), p)
    half = soft_dice_loss(p.detach().half(), y)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.double(), soft_dice_loss(p.detach(), y), rtol=1e-3, atol=1e-3)


def test_soft_dice_loss_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"\(2, 1, 4\) and target \(2, 4\)"):
        soft_dice_loss(torch.rand(2, 1, 4), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"smooth .* >= 0, got -1"):
        soft_dice_loss(torch.rand(2), torch.zeros(2), smooth=-1)
