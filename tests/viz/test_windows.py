import numpy as np
import pytest
import torch

from medssl_nb.viz import CT_WINDOWS, apply_window, window_range
from medssl_nb.viz.windows import short_number, window_text

HU = np.array([-2000, -160, 40, 240, 3000], np.int16).reshape(1, 1, 5)


def test_soft_tissue_by_hand():
    bright = apply_window(HU, "soft tissue")
    assert bright.dtype == np.float32
    np.testing.assert_array_equal(bright, [[[0, 0, 0.5, 1, 1]]])
    np.testing.assert_array_equal(apply_window(HU, (-160, 240)), bright)


def test_shape_of_the_input_is_kept():
    assert apply_window(torch.zeros(1, 2, 3, 4), (0, 1)).shape == (1, 2, 3, 4)


def test_presets_are_level_and_width():
    assert CT_WINDOWS["lung"] == (-1350, 150)
    assert all(low < high for low, high in CT_WINDOWS.values())


def test_automatic_window_ignores_the_rarest_values():
    volume = np.linspace(0, 100, 1001).reshape(7, 11, 13)
    assert window_range(volume) == pytest.approx((0.5, 99.5))
    volume[0, 0, 0] = 1e6
    assert window_range(volume)[1] < 101


def test_a_constant_volume_is_mid_grey():
    for value in (0, 7.0, -1e6, 1e20):
        np.testing.assert_allclose(apply_window(np.full((2, 2, 2), value)), 0.5, atol=1e-3)


def test_one_odd_voxel_among_many_still_shows():
    volume = np.zeros((10, 10, 10))
    volume[5, 5, 5] = 3
    assert window_range(volume) == (0, 3)


@pytest.mark.parametrize("window", [(1, 1), (2, 1), (0, float("nan")), (0, float("inf"))])
def test_windows_without_width_are_refused(window):
    with pytest.raises(ValueError, match="low < high"):
        window_range(HU, window)


@pytest.mark.parametrize(("window", "message"), [("soft", "soft tissue"), (40, "a pair"), ((1, 2, 3), "a pair")])
def test_what_is_no_window_is_refused(window, message):
    with pytest.raises(ValueError, match=message):
        window_range(HU, window)


def test_windows_in_words():
    assert window_text(-160, 240, "HU") == "−160…240 HU"
    assert window_text(0.0251, 1.7e6) == "0.0251…1.7e+06"
    assert short_number(-0.0) == "0"
