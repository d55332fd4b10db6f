"""Lift, recall and errors by category: values by hand, undefined ones, messages."""

import pytest
import torch

from medssl_nb.evaluation.patches import errors_by_category, lesion_patches, selection_scores


def test_a_patch_is_lesion_above_a_share():
    mask = torch.zeros(1, 1, 4, 4)
    mask[0, 0, 0, 0] = mask[0, 0, 2:, 2:] = 3  # a quarter of the first patch, all of the last
    assert lesion_patches(mask, 2).tolist() == [[True, False, False, True]]
    assert lesion_patches(mask, 2, 0.25).tolist() == [[False, False, False, True]]
    assert lesion_patches(mask, 2, 0).tolist() == [[True, False, False, True]]
    volume = torch.zeros(2, 1, 4, 4, 2)
    volume[1, 0, 3, 0, 0] = 1
    assert lesion_patches(volume.bool(), (2, 2, 2)).nonzero().tolist() == [[1, 2]]


def test_lift_by_hand():
    truth = torch.tensor([1, 1, 0, 0, 0, 0, 0, 0]).bool()
    called = torch.tensor([1, 0, 1, 0, 0, 0, 0, 0]).bool()
    scores = selection_scores(called, truth)
    assert scores == {"lift": 2.0, "recall": 0.5, "precision": 0.5, "size": 0.25, "true": 2}
    valid = torch.tensor([1, 0, 1, 1, 1, 0, 0, 0]).bool()
    assert selection_scores(called, truth, valid) == {
        **{"lift": 2.0, "recall": 1.0, "precision": 0.5, "size": 0.5, "true": 1}
    }


def test_all_called_is_chance():
    truth = torch.tensor([[True, False], [False, False]])
    assert selection_scores(torch.ones_like(truth), truth)["lift"] == 1.0


def test_what_is_not_defined_is_none():
    some, none = torch.tensor([True, False]), torch.tensor([False, False])
    assert selection_scores(some, none) == {"lift": None, "recall": None, "precision": 0.0, "size": 0.5, "true": 0}
    assert selection_scores(none, some) == {"lift": None, "recall": 0.0, "precision": None, "size": 0.0, "true": 1}
    assert selection_scores(some, some, none)["size"] is None


def test_errors_of_hidden_patches_only():
    errors = torch.tensor([[1.0, 2.0, 4.0, 8.0], [16.0, 32.0, 64.0, 128.0]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]).bool()
    truth = torch.tensor([[1, 0, 0, 1], [1, 0, 0, 0]]).bool()
    assert errors_by_category(errors, mask, truth) == {"lesion": 8.5, "background": 3.0}
    assert errors_by_category(errors, mask, torch.zeros_like(mask))["lesion"] is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lesion_patches(torch.zeros(1, 1, 4, 4), 2, 1.0), "min_share .* got 1.0"),
        (lambda: lesion_patches(torch.zeros(1, 2, 4, 4), 2), r"mask is \(B, 1, X, Y\)"),
        (lambda: selection_scores(torch.zeros(3), torch.zeros(3).bool()), "bool and alike, got torch.float32"),
        (lambda: selection_scores(torch.zeros(3).bool(), torch.zeros(4).bool()), "alike"),
        (
            lambda: errors_by_category(torch.zeros(1, 3), torch.zeros(1, 3).bool(), torch.zeros(1, 4).bool()),
            "errors, mask and truth are alike",
        ),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call()
