import gzip

import numpy as np
import pytest

from medssl_nb.widgets.packing import (
    inner_voxels,
    level_steps,
    number_labels,
    pack,
    quantise,
    quantise_heat,
)

CT = np.random.default_rng(0).normal(0, 600, (20, 21, 22)).round().astype(np.int16)
WINDOW = (-160.0, 240.0)


def test_packed_bytes_unpack_in_c_order_and_are_the_same_twice():
    codes = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert gzip.decompress(pack(codes)) == bytes(range(24))
    assert pack(codes) == pack(codes.copy())
    assert gzip.decompress(pack(codes[::-1])) == codes[::-1].tobytes()
    with pytest.raises(ValueError, match="uint8"):
        pack(codes.astype(int))


def test_every_value_gets_its_nearest_level():
    quantised = quantise(CT, WINDOW)
    shown = quantised.levels[quantised.codes]
    nearest = np.abs(CT[..., None] - quantised.levels).min(axis=-1)
    np.testing.assert_allclose(abs(shown - CT), nearest)
    assert quantised.codes.dtype == np.uint8
    assert len(quantised.levels) <= 256
    assert (np.diff(quantised.levels) > 0).all()
    assert not quantised.exact


def test_levels_are_fine_in_the_window_and_reach_the_extremes():
    levels = quantise(CT, WINDOW).levels
    assert levels[0] == CT.min() and levels[-1] == CT.max()
    inside, anywhere = level_steps(levels, WINDOW)
    assert inside <= 400 / 111 + 1e-9 < anywhere
    assert anywhere <= (int(CT.max()) - int(CT.min())) / 39 + 1e-9


def test_one_huge_value_costs_no_detail():
    spoilt = CT.astype(np.float64)
    spoilt[0, 0, 0] = 1.7e6
    inside, _ = level_steps(quantise(spoilt, WINDOW).levels, WINDOW)
    assert inside <= 400 / 111 + 1e-9


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_few_values_are_kept_exactly(dtype):
    volume = (np.random.default_rng(1).integers(0, 200, (9, 9, 9)) * 50 % 8000).astype(dtype)
    quantised = quantise(volume, (0, 1))
    assert quantised.exact
    np.testing.assert_array_equal(quantised.levels[quantised.codes], volume)


def test_a_window_outside_the_values_and_a_constant_volume():
    assert len(quantise(CT, (1e5, 2e5)).levels) <= 256
    constant = quantise(np.full((3, 3, 3), 7.5), (7, 8))
    assert constant.levels.tolist() == [7.5] and constant.exact
    assert level_steps(constant.levels, (7, 8)) == (0, 0)


def test_heat_codes_and_gaps():
    codes = quantise_heat(np.array([np.nan, -1, 0.0, 0.5, 1.0, 2]), (0.0, 1.0))
    assert codes.tolist() == [0, 1, 1, 128, 255, 255]


def test_label_ids_may_be_large_and_far_apart():
    codes, ids = number_labels(np.array([[[0, 117, 3, 117, 1000]]]))
    assert ids == [3, 117, 1000]
    assert codes.tolist() == [[[0, 2, 1, 2, 3]]]
    assert number_labels(np.zeros((2, 2, 2), int))[1] == []


def test_the_most_labels_that_fit():
    codes, ids = number_labels(np.arange(256).reshape(1, 1, 256))
    assert len(ids) == 255 and codes.max() == 255
    with pytest.raises(ValueError, match="256 different labels; 255 can be shown"):
        number_labels(np.arange(257).reshape(1, 1, 257))


def test_inner_voxels_lie_inside_their_structure():
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[1:8, 1:8, 4] = 1
    labels[2:7, 2:7, 4] = 0  # a ring: its centre is not in it
    labels[4, 4, 0:3] = 2
    first, second = inner_voxels(labels, 2)
    assert labels[first] == 1 and first[0] == 4
    assert second == (4, 4, 1)
