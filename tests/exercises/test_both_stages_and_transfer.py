"""The checks of lesson 45 pass right answers and name the case a wrong one fails in."""

import pytest
import torch

from medssl_nb import exercises


def wins_right(errors, copied, margin):
    gain = copied - errors
    better, worse = (gain > margin).double().mean(), (gain < -margin).double().mean()
    return torch.stack([better, worse, 1 - better - worse])


def bytes_right(clusters, dimensions, side, product):
    return 4 * clusters * dimensions * (side**3 if product else 1)


def test_right_answers_pass(capsys):
    exercises.check_wins(wins_right)
    exercises.check_bytes_of(bytes_right)
    assert capsys.readouterr().out == "Exercise 1: all 5 cases right.\nExercise 2: all 4 cases right.\n"


@pytest.mark.parametrize(
    ("check", "wrong", "message"),
    [
        ("check_wins", lambda *a: None, "returned nothing"),
        ("check_wins", lambda e, c, m: wins_right(c, e, m), "no margin: equal is neither"),
        ("check_wins", lambda e, c, m: wins_right(e, c, 0.0), "one of each kind and a small loss"),
        ("check_wins", lambda e, c, m: wins_right(e, c, m - 1e-6), "no margin: equal is neither"),
        ("check_bytes_of", lambda *a: ..., "expected numbers"),
        ("check_bytes_of", lambda k, d, s, p: k * d * (s**3 if p else 1), "a grid of 2 x 2 x 2"),
        ("check_bytes_of", lambda k, d, s, p: 4 * k * d * s**3, "one matrix product"),
    ],
)
def test_wrong_answers_are_told_where(check, wrong, message):
    with pytest.raises(AssertionError, match=message):
        getattr(exercises, check)(wrong)
