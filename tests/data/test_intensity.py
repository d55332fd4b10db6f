"""Grey values scaled by modality."""

import pytest
import torch

from medssl_nb.data.intensity import modality_family, normalise


def test_ct_window_by_hand():
    hu = torch.tensor([-1000.0, -175, 37.5, 250, 3000]).reshape(1, 5, 1, 1)
    assert normalise(hu, "CT").flatten().tolist() == pytest.approx([-1, -1, 0, 1, 1])


def test_mr_comes_out_alike_whatever_the_scale_of_the_file():
    image = torch.rand(2, 9, 9, 9, generator=torch.Generator().manual_seed(0))
    image[:, :3] = 0
    plain, huge = normalise(image, "MRI"), normalise(image * 1.7e6 + 5, "T1w")
    torch.testing.assert_close(plain, huge, atol=1e-3, rtol=0)
    for channel in plain:
        body = channel[channel > channel.min()]
        assert body.mean() == pytest.approx(0, abs=1e-5)
        assert body.std() == pytest.approx(1, abs=1e-5)


def test_integers_become_float32_and_the_input_stays():
    image = torch.arange(27).reshape(1, 3, 3, 3)
    assert normalise(image, "MR").dtype == torch.float32
    assert normalise(image, "CT").dtype == torch.float32
    assert torch.equal(image, torch.arange(27).reshape(1, 3, 3, 3))


@pytest.mark.parametrize("value", [0, 7])
def test_a_constant_volume_becomes_zero(value):
    assert (normalise(torch.full((1, 4, 4, 4), value), "MR") == 0).all()


def test_a_small_hot_spot_survives():
    image = torch.zeros(1, 64, 64, 64)
    image[0, :5, :5, :8] = torch.arange(1.0, 201).reshape(5, 5, 8)
    scaled = normalise(image, "PET")
    assert len(scaled.unique()) == 201


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_nan_is_refused(modality):
    image = torch.zeros(1, 4, 4, 4)
    image[0, 1, 1, 1] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinity"):
        normalise(image, modality)


def test_names_of_modalities():
    assert [modality_family(n) for n in ("ct", "FLAIR", "t1gd", "T2", "ADC", "MRI", "PET")] == [
        "CT",
        *["MR"] * 5,
        "PET",
    ]
    with pytest.raises(ValueError, match="'ultrasound' is not known"):
        modality_family("ultrasound")


def test_a_metatensor_keeps_its_place():
    from monai.data import MetaTensor

    affine = torch.diag(torch.tensor([2.0, 3, 4, 1], dtype=torch.float64))
    values = torch.rand(1, 6, 6, 6, generator=torch.Generator().manual_seed(1)) * 100
    for modality in ("MR", "CT"):
        scaled = normalise(MetaTensor(values, affine=affine), modality)
        assert torch.equal(scaled.affine, affine)
        torch.testing.assert_close(scaled.as_tensor(), torch.as_tensor(normalise(values, modality)))
