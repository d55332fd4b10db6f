"""Shared losses: reference numbers, hand values, laws, messages."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from medssl_nb.training import info_nce_loss, masked_reconstruction_loss, reconstruction_error

REFERENCE = Path(__file__).parents[1] / "reference"
MASKING = np.load(REFERENCE / "adaptive_masking.npz", allow_pickle=False)
INFOMAX = np.load(REFERENCE / "boundary_infomax.npz", allow_pickle=False)


def stored(numbers, name, dtype=None):
    value = torch.from_numpy(np.asarray(numbers[name]))
    return value.to(dtype) if dtype and value.is_floating_point() else value


# rtol = atol, as stated beside the reference numbers
PRECISION = [(torch.float64, 1e-8), (torch.float32, 1e-5)]


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISION)
@pytest.mark.parametrize("kind", ["l2", "l1"])
@pytest.mark.parametrize("normalized", [False, True])
def test_reconstruction_error_matches_the_reference(dtype, tolerance, kind, normalized):
    prediction, target = (stored(MASKING, f"losses__basic__{n}", dtype) for n in ("prediction", "target"))
    expected = stored(MASKING, f"losses__basic__errors_{kind}{'_normalized' if normalized else ''}", dtype)
    found = reconstruction_error(prediction, target, kind, normalized)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISION)
def test_masked_loss_matches_the_reference(dtype, tolerance):
    prediction, target = (stored(MASKING, f"losses__basic__{n}", dtype) for n in ("prediction", "target"))
    mask = stored(MASKING, "losses__basic__mask").bool()
    expected = stored(MASKING, "losses__basic__reconstruction", dtype)
    found = masked_reconstruction_loss(reconstruction_error(prediction, target), mask)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_masked_loss_of_images_matches_the_reference():
    from medssl_nb.networks import patchify

    prefix = "masked_reconstruction_loss__image__"
    target = patchify(stored(MASKING, prefix + "image", torch.float64), 4)
    prediction = stored(MASKING, prefix + "prediction", torch.float64)
    mask = stored(MASKING, prefix + "mask").bool()
    for name, kind, normalized in (("l2", "l2", False), ("l2_normalized", "l2", True)):
        errors = reconstruction_error(prediction, target, kind, normalized)
        expected = stored(MASKING, prefix + name)
        torch.testing.assert_close(masked_reconstruction_loss(errors, mask), expected, rtol=1e-8, atol=1e-8)
    l1 = masked_reconstruction_loss(reconstruction_error(prediction, target, "l1"), mask)
    torch.testing.assert_close(l1, stored(MASKING, prefix + "l1"), rtol=1e-6, atol=1e-6)


def test_reconstruction_error_by_hand():
    prediction = torch.tensor([[[1.0, 3.0], [0.0, 0.0]]], requires_grad=True)
    target = torch.tensor([[[0.0, 0.0], [2.0, -2.0]]], requires_grad=True)
    errors = reconstruction_error(prediction, target)
    assert errors.tolist() == [[5.0, 4.0]]
    assert masked_reconstruction_loss(errors, torch.tensor([[True, False]])) == 5.0
    assert masked_reconstruction_loss(errors, torch.zeros(1, 2, dtype=torch.bool)) == 0.0
    errors.sum().backward()
    assert target.grad is None
    assert prediction.grad.tolist() == [[[1.0, 3.0], [-2.0, 2.0]]]


def test_an_infinite_error_that_is_not_hidden_does_not_reach_the_loss():
    errors = torch.tensor([[1.0, torch.inf]])
    assert masked_reconstruction_loss(errors, torch.tensor([[True, False]])) == 1.0


def test_half_types_are_computed_in_float32():
    x = torch.ones(1, 2, 3, dtype=torch.bfloat16)
    assert reconstruction_error(x, 0 * x).dtype == torch.float32
    assert info_nce_loss(torch.eye(3, dtype=torch.float16), torch.eye(3, dtype=torch.float16)).dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(2, 3), torch.ones(2, 3)), r"\(B, N, V\).*\(2, 3\)"),
        ((torch.ones(1, 2, 3), torch.ones(1, 2, 4)), r"\(1, 2, 3\) and \(1, 2, 4\)"),
        ((torch.ones(1, 2, 3), torch.ones(1, 2, 3), "huber"), "huber"),
        ((torch.ones(1, 2, 1), torch.ones(1, 2, 1), "l2", True), "V = 1"),
    ],
)
def test_reconstruction_error_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        reconstruction_error(*arguments)


def test_masked_loss_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"\(1, 2\) and \(1, 3\)"):
        masked_reconstruction_loss(torch.ones(1, 2), torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"bool.*float32"):
        masked_reconstruction_loss(torch.ones(1, 2), torch.ones(1, 2))


# ---------------------------------------------------------------- contrast
@pytest.mark.parametrize("temperature", ["0.07", "0.5"])
@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(("dtype", "value", "gradient"), [(torch.float64, 1e-7, 1e-7), (torch.float32, 2e-4, 1e-4)])
def test_contrast_matches_the_reference(temperature, labelled, dtype, value, gradient):
    a = stored(INFOMAX, "infonce__embeddings_a", dtype).requires_grad_()
    b = stored(INFOMAX, "infonce__embeddings_b", dtype)
    labels = stored(INFOMAX, "infonce__labels") if labelled else None
    name = f"infonce__{'labels' if labelled else 'self'}_temperature{temperature}__"
    loss = info_nce_loss(a, b, labels, temperature=float(temperature))
    torch.testing.assert_close(loss, stored(INFOMAX, name + "loss", dtype), rtol=value, atol=1e-10)
    loss.backward()
    torch.testing.assert_close(a.grad, stored(INFOMAX, name + "grad_a", dtype), rtol=gradient, atol=gradient)


def test_collapse_scores_the_trivial_value():
    one = torch.ones(4, 5)
    assert float(info_nce_loss(one, one)) == pytest.approx(math.log(7))


def test_contrast_does_not_care_for_order_and_length():
    torch.manual_seed(0)
    a, b, order = torch.randn(5, 4), torch.randn(5, 4), torch.randperm(5)
    loss = info_nce_loss(a, b)
    torch.testing.assert_close(info_nce_loss(b, a), loss)
    torch.testing.assert_close(info_nce_loss(3 * a[order], b[order]), loss)
    shared = info_nce_loss(a, b, torch.zeros(5, dtype=torch.long))
    assert shared.isfinite()


def test_contrast_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"B >= 2.*\(1, 4\)"):
        info_nce_loss(torch.ones(1, 4), torch.ones(1, 4))
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(2, 4\)"):
        info_nce_loss(torch.ones(3, 4), torch.ones(2, 4))
    with pytest.raises(ValueError, match="temperature is positive, got 0"):
        info_nce_loss(torch.ones(2, 4), torch.ones(2, 4), temperature=0)
    with pytest.raises(ValueError, match=r"each of 2 samples, got shape \(3,\)"):
        info_nce_loss(torch.ones(2, 4), torch.ones(2, 4), torch.zeros(3))
