"""Intervals whose ends are known, groups that are resampled whole, and lists that cannot be compared."""

import numpy as np
import pytest

from medssl_nb.evaluation.statistics import mean_and_interval, paired_difference


def test_two_pairs_by_hand():
    """Resampling 0 and 1 gives the means 0, 0.5, 1 with shares 1/4, 1/2, 1/4."""
    found = paired_difference([0.5, 0.9], [0.5, -0.1])
    assert found.mean == pytest.approx(0.5)
    assert (found.low, found.high) == (pytest.approx(0), pytest.approx(1))
    assert found.pairs == found.groups == 2
    assert found.sd == pytest.approx(np.sqrt(0.5))
    assert found.level == 0.95
    narrow = paired_difference([0.5, 0.9], [0.5, -0.1], level=0.4)
    assert (narrow.low, narrow.high) == (pytest.approx(0.5), pytest.approx(0.5))


def test_what_both_methods_share_drops_out():
    shared = np.random.default_rng(0).normal(0, 10, 8)
    gain = np.array([0.1, 0.2, 0.15, 0.1, 0.2, 0.12, 0.18, 0.15])
    found = paired_difference(shared + gain, shared)
    assert found.mean == pytest.approx(gain.mean())
    assert 0.1 < found.low < found.mean < found.high < 0.2


def test_swapping_the_methods_turns_the_interval_round():
    first, second = np.random.default_rng(1).normal(size=(2, 9))
    one, other = paired_difference(first, second), paired_difference(second, first)
    assert (-other.mean, -other.high, -other.low) == pytest.approx((one.mean, one.low, one.high))


def test_groups_are_resampled_whole():
    """Groups of three 0 and of one 4, drawn twice: mean 0, 1 or 4. The mean stays that over all pairs."""
    found = paired_difference([0, 0, 0, 4], [0, 0, 0, 0], groups=["a", "a", "a", "b"])
    assert (found.mean, found.low, found.high) == (1, 0, 4)
    assert (found.pairs, found.groups) == (4, 2)
    middle = paired_difference([0, 0, 0, 4], [0, 0, 0, 0], groups=["a", "a", "a", "b"], level=0.4)
    assert (middle.low, middle.high) == (1, 1)  # half of all resamples hold both groups


def test_copies_of_a_pair_are_no_new_evidence():
    values = np.array([0.1, 0.4, -0.2, 0.3, 0.2, 0.6])
    once = mean_and_interval(values)
    copied = mean_and_interval(np.repeat(values, 20), groups=np.repeat(np.arange(6), 20))
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    fooled = mean_and_interval(np.repeat(values, 20))
    assert fooled.high - fooled.low < 0.4 * (once.high - once.low)


def test_the_seed_decides_and_matters_little():
    values = np.random.default_rng(2).normal(size=12)
    one, again, other = (mean_and_interval(values, seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert one != other
    assert (other.low, other.high) == pytest.approx((one.low, one.high), abs=0.05 * (one.high - one.low))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("groups", [None, ["a", "a", "b"]])
def test_equal_differences_give_one_value(groups):
    found = paired_difference([0.5, 0.6, 0.7], [0.4, 0.5, 0.6], groups=groups)
    assert (found.low, found.mean, found.high) == pytest.approx((0.1, 0.1, 0.1))


def test_the_interval_holds_the_truth_about_as_often_as_the_text_says():
    draws = np.random.default_rng(3).normal(size=(200, 20))
    held = [found.low <= 0 <= found.high for found in (mean_and_interval(d, resamples=400) for d in draws)]
    assert 0.86 < np.mean(held) < 0.99


def test_lists_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="as many first as second scores, got 3 and 2"):
        paired_difference([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="at least 2 values or pairs, got 1"):
        paired_difference([1], [2])
    with pytest.raises(ValueError, match=r"second\[1\] is nan.*1 of 3"):
        paired_difference([1, 2, 3], [1, None, 2])
    with pytest.raises(ValueError, match=r"first\[0\] is inf"):
        paired_difference([float("inf"), 1], [1, 2])
    with pytest.raises(ValueError, match=r"flat list of numbers, got shape \(1, 2\)"):
        mean_and_interval([[1, 2]])


def test_groups_and_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"at least 2, got 1 \('draw 0'\)"):
        mean_and_interval([1, 2], groups=["draw 0", "draw 0"])
    with pytest.raises(ValueError, match="got 3 for 2"):
        mean_and_interval([1, 2], groups=[0, 1, 2])
    for level in (0, 1, 95):
        with pytest.raises(ValueError, match="between 0 and 1"):
            mean_and_interval([1, 2], level=level)
    with pytest.raises(ValueError, match="at least 100"):
        mean_and_interval([1, 2], resamples=10)
