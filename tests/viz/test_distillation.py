"""Spread of a teacher's distributions, and its pictures."""

import io
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from medssl_nb.viz import distributions_png, entropies_png, show_distributions, show_entropies
from medssl_nb.viz.colours import heat_palette, rgb
from medssl_nb.viz.distillation import (
    MEAN_COLOUR,
    SINGLE_COLOUR,
    TEACHER_COLOUR,
    EntropyCurve,
    as_distributions,
    entropy,
    share_codes,
    spread_of,
)

EVEN, APART, ONE = np.full((4, 4), 0.25), np.eye(4), np.eye(4)[[2, 2, 2, 2]]
CURVES = {"a": EntropyCurve(np.array([0, 5]), np.array([1.0, 0.2]), np.array([1.3, 1.2]))}


@pytest.fixture(autouse=True)
def no_figure_is_left():
    yield
    plt.close("all")


def colours_in(png: bytes) -> set[tuple[int, int, int]]:
    pixels = np.round(255 * plt.imread(io.BytesIO(png), format="png")[..., :3]).astype(int)
    return {tuple(map(int, colour)) for colour in np.unique(pixels.reshape(-1, 3), axis=0)}


def colour(name: str) -> tuple[int, int, int]:
    return tuple(map(int, rgb(name)))


# ---------------------------------------------------------------- numbers
def test_the_two_collapses_and_what_lies_between():
    ln4 = math.log(4)
    assert spread_of(EVEN) == pytest.approx((ln4, ln4, 1, 0.25))
    assert spread_of(ONE) == pytest.approx((0, 0, 1, 1))
    assert spread_of(APART) == pytest.approx((0, ln4, 4, 0.25))


def test_spread_by_hand():
    rows = torch.tensor([[0.5, 0.5, 0], [0, 0.25, 0.75]], requires_grad=True)
    found = spread_of(rows)
    own = (math.log(2) - 0.25 * math.log(0.25) - 0.75 * math.log(0.75)) / 2
    mean = -sum(p * math.log(p) for p in (0.25, 0.375, 0.375))
    assert found == pytest.approx((own, mean, 2, 0.375))


def test_the_entropy_of_the_mean_is_never_the_smaller_one():
    rows = np.random.default_rng(0).dirichlet([0.2] * 6, size=(5, 9))
    np.testing.assert_allclose(entropy(rows), torch.distributions.Categorical(torch.tensor(rows)).entropy(), rtol=1e-6)
    assert all(spread_of(one).entropy_of_mean >= spread_of(one).entropy for one in rows)


def test_codes_run_with_the_root_and_keep_a_thin_winner():
    assert share_codes(np.array([[0, 1, 0.25, 1 / 64]])).tolist() == [[0, 255, 128, 32]]
    rows = np.zeros((2, 512))
    rows[0, 301], rows[1, 0] = 1, 0.25
    codes = share_codes(rows)
    assert codes.shape == (2, 256) and codes.dtype == np.uint8
    assert codes[0, 150] == 255 and codes[1, 0] == 128 and codes.astype(int).sum() == 383
    assert share_codes(rows[:, :300]).shape == (2, 150)


# ---------------------------------------------------------------- pictures
def test_pictures_are_pure_and_take_arrays_and_tensors():
    first = distributions_png(APART, sample=1, student=EVEN)
    tensors = {"sample": 1, "student": torch.from_numpy(EVEN)}
    assert first == distributions_png(torch.tensor(APART, requires_grad=True), **tensors)
    others = [
        distributions_png(APART),
        distributions_png(APART, sample=2, student=EVEN),
        distributions_png(APART, sample=1),
        distributions_png(APART, sample=1, student=EVEN, title="a try"),
        distributions_png(ONE, sample=1, student=EVEN),
    ]
    assert len({first, *others}) == 6


def test_cells_and_bars_have_their_colours():
    colours = colours_in(distributions_png(APART, sample=1, student=EVEN))
    palette = {tuple(map(int, heat_palette()[code])) for code in (0, 255, 128)}  # the mean is a quarter everywhere
    assert palette | {colour(TEACHER_COLOUR)} <= colours
    assert colour(TEACHER_COLOUR) not in colours_in(distributions_png(APART))


def test_entropies_by_run():
    first = entropies_png(CURVES, 4)
    assert first == entropies_png(CURVES, 4) and first != entropies_png(CURVES, 64)
    four = entropies_png({name: CURVES["a"] for name in "abcd"}, 4, title="four")
    for png in (first, four):
        assert {colour(SINGLE_COLOUR), colour(MEAN_COLOUR)} <= colours_in(png)
    wide = [plt.imread(io.BytesIO(png), format="png").shape for png in (first, four)]
    assert wide[1][0] > 1.5 * wide[0][0] and wide[1][1] > 1.5 * wide[0][1]  # two rows of up to three


def test_pictures_are_shown_and_let_go_of():
    show_distributions(APART, sample=0)
    show_entropies(CURVES, 4)
    assert plt.get_fignums() == []


# ---------------------------------------------------------------- wrong arguments
def test_what_is_no_distribution_is_refused():
    for wrong in (np.zeros(3), np.zeros((0, 3)), np.zeros((1, 2, 3))):
        with pytest.raises(ValueError, match=r"probabilities must be \(M, D\), a distribution for each .* got shape"):
            as_distributions(wrong)
    for wrong in (np.ones((2, 2)), np.array([[1.5, -0.5]]), np.full((2, 2), np.nan)):
        with pytest.raises(ValueError, match=r"sum to 1 in each row, found a smallest of .*make them of logits"):
            as_distributions(wrong)
    assert as_distributions(torch.full((1, 3), 1 / 3, dtype=torch.float16)).dtype == np.float64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample": 4}, "there are 4 samples, counted from 0; got sample 4"),
        ({"sample": -1}, "got sample -1"),
        ({"student": EVEN[:3]}, r"student has shape \(3, 4\), the teacher \(4, 4\)"),
        ({"student": 2 * EVEN}, "student must be from 0 and sum to 1"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        distributions_png(APART, **options)


def test_no_curves_are_refused():
    with pytest.raises(ValueError, match=r"no curves to show; give \{name of a run: EntropyCurve\}"):
        entropies_png({}, 4)
