"""Attention of tokens laid on voxels, how far two maps agree, and their picture."""

import io
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from medssl_nb.viz import attention_png, show_attention
from medssl_nb.viz.attention import (
    Attention,
    above_even,
    agreements,
    as_attention,
    cell_sides,
    checked_token,
    colour_ends,
    even_shares,
    token_cube,
    token_number,
)
from medssl_nb.viz.colours import CONTOUR_COLOUR, rgb

RNG = np.random.default_rng(0)
SHAPE, QUERIES, CONTEXT = (8, 4, 4), (2, 1, 1), (4, 2, 2)
VOLUME = RNG.random(SHAPE)
FIRST, SECOND = RNG.dirichlet([0.5] * 16, size=(2, 3, 2))
GRIDS = {"query_grid": QUERIES, "student_grid": CONTEXT}


@pytest.fixture(autouse=True)
def no_figure_is_left():
    yield
    plt.close("all")


def attention(values=FIRST, grid=CONTEXT) -> Attention:
    return as_attention(values, QUERIES, grid, "student_attention")


# ---------------------------------------------------------------- maps
def test_a_token_is_a_cube_of_the_volume():
    cube = token_cube((1, 0, 0), QUERIES, SHAPE)
    assert cube.sum() == 64 and cube[4:].all()
    assert cell_sides(SHAPE, CONTEXT, "grid") == (2, 2, 2)
    small = token_cube((3, 0, 1), CONTEXT, SHAPE)
    assert small.sum() == 8 and small[6:, :2, 2:].all()


def test_tokens_are_numbered_row_major():
    every = [token_number(token, (2, 3, 4)) for token in np.ndindex(2, 3, 4)]
    assert every == list(range(24))


def test_attention_is_laid_on_the_voxels_in_even_shares():
    shares = even_shares(attention(), 2, 1, SHAPE)
    assert shares.shape == SHAPE and shares.mean() == pytest.approx(1)
    assert shares[7, 1, 2] == shares[6, 0, 3] == pytest.approx(16 * FIRST[1, 1, token_number((3, 0, 1), CONTEXT)])
    expected = torch.nn.functional.interpolate(torch.tensor(FIRST[1, 1]).reshape(1, 1, *CONTEXT), size=SHAPE)
    np.testing.assert_allclose(shares, 16 * expected[0, 0])


def test_head_0_is_the_mean():
    np.testing.assert_allclose(attention().of_head(0), FIRST.mean(axis=0))
    np.testing.assert_allclose(attention().of_head(3), FIRST[2])


def test_colours_begin_at_an_even_share():
    assert colour_ends(np.array([0.5, 1.5])) == (1, 2)
    assert colour_ends(np.array([0.5, 1.5]), np.array([9.0])) == (1, 9)
    drawn = above_even(np.array([0.999, 1 - 1e-9, 3]))
    assert np.isnan(drawn[0]) and drawn[1:].tolist() == [1 - 1e-9, 3]


# ---------------------------------------------------------------- agreement
@pytest.mark.parametrize("head", [0, 1, 3])
def test_agreement_is_the_correlation_of_the_rows(head):
    found = agreements(attention(), attention(SECOND), head)
    for k in range(2):
        rows = [attention(one).of_head(head)[k] for one in (FIRST, SECOND)]
        assert found[k] == pytest.approx(np.corrcoef(*rows)[0, 1])
    np.testing.assert_allclose(agreements(attention(), attention(), head), 1)


def test_grids_of_different_size_are_compared_voxel_by_voxel():
    coarse = RNG.dirichlet([0.5] * 2, size=(3, 2))
    found = agreements(attention(), attention(coarse, (1, 2, 1)), 2)
    for k in range(2):
        maps = [even_shares(one, 2, k, SHAPE).ravel() for one in (attention(), attention(coarse, (1, 2, 1)))]
        assert found[k] == pytest.approx(np.corrcoef(*maps)[0, 1])
    odd = RNG.dirichlet([0.5] * 3, size=(3, 2))  # 2 and 3 tokens along x: neither is a part of the other
    found = agreements(attention(coarse, (2, 1, 1)), attention(odd, (3, 1, 1)), 1)
    maps = np.repeat(coarse[0], 3, axis=1), np.repeat(odd[0], 2, axis=1)
    assert found == pytest.approx([np.corrcoef(a, b)[0, 1] for a, b in zip(*maps, strict=True)])


def test_an_even_map_agrees_with_nothing():
    even = FIRST.copy()
    even[:, 0] = (1 / 16) * (1 + 1e-9 * RNG.random(16))
    for pair in ((even, SECOND), (SECOND, even)):
        found = agreements(*map(attention, pair), 1)
        assert np.isnan(found[0]) and not np.isnan(found[1])


# ---------------------------------------------------------------- the picture
def test_the_picture_is_pure_and_takes_arrays_and_tensors():
    first = attention_png(VOLUME, FIRST, SECOND, **GRIDS)
    assert first == attention_png(VOLUME, FIRST, SECOND, token=(1, 0, 0), head=0, **GRIDS)
    tensors = (torch.tensor(one, requires_grad=True) for one in (FIRST, SECOND))
    assert first == attention_png(torch.tensor(VOLUME)[None], *tensors, **GRIDS)
    options = [
        {"token": (0, 0, 0)},
        {"head": 2},
        {"masked": 0 * VOLUME, "planes": ["axial"]},
        {"centre": (0, 0, 0), "planes": ["axial"]},
        {"title": "a try", "planes": ["axial"]},
    ]
    pictures = {attention_png(VOLUME, FIRST, SECOND, **GRIDS, **one) for one in options}
    assert len(pictures | {first}) == 6


def test_the_cube_is_outlined_and_what_is_hidden_does_not_change_the_greys():
    png = attention_png(VOLUME, FIRST, SECOND, **GRIDS, masked=0 * VOLUME, opacity=0)
    pixels = np.round(255 * plt.imread(io.BytesIO(png), format="png")[..., :3]).astype(int)
    assert (np.abs(pixels - rgb(CONTOUR_COLOUR)) < 12).all(axis=2).any()
    whole = attention_png(VOLUME, FIRST, SECOND, **GRIDS, masked=VOLUME, opacity=0)
    right = [plt.imread(io.BytesIO(one), format="png")[:, pixels.shape[1] // 2 :] for one in (png, whole)]
    np.testing.assert_array_equal(*right)


def test_the_picture_is_shown_and_let_go_of():
    show_attention(VOLUME, FIRST, SECOND, **GRIDS, teacher_grid=CONTEXT)
    plt.close("all")


# ---------------------------------------------------------------- wrong arguments
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query_grid": (2, 1)}, r"query_grid is three whole numbers from 1, .* got \(2, 1\)"),
        ({"query_grid": (3, 1, 1)}, r"sides \(8, 4, 4\) must be multiples of query_grid \(3, 1, 1\)"),
        ({"student_grid": (4, 2, 3)}, "multiples of student_grid"),
        ({"teacher_grid": (8, 3, 1)}, "multiples of teacher_grid"),
        ({"teacher_grid": (8, 4, 4)}, r"teacher_attention must be \(heads, 2, 128\): .* got shape \(3, 2, 16\)"),
        ({"query_grid": (1, 1, 2), "token": (1, 0, 0)}, r"token is \(x, y, z\), .* below \(1, 1, 2\); got \(1, 0, 0\)"),
        ({"head": 4}, "head is 1 to 3, or 0 for their mean; got 4"),
        ({"token": (0.5, 0, 0)}, r"token is .* got \(0.5, 0, 0\)"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        attention_png(VOLUME, FIRST, SECOND, **{**GRIDS, **changes})


def test_what_is_no_attention_is_refused():
    with pytest.raises(ValueError, match=r"must be \(heads, 2, 16\): .* got shape \(1, 3, 2, 16\)\. Of a batch take"):
        attention(FIRST[None])
    for wrong in (2 * FIRST, FIRST - 0.5, np.full_like(FIRST, math.nan)):
        with pytest.raises(ValueError, match=r"student_attention must be from 0 and sum to 1 .* before the dropout"):
            attention(wrong)
    assert checked_token([1, 0, 0], QUERIES) == (1, 0, 0)
