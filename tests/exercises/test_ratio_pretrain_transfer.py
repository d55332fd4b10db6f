"""The checks of lesson 24 pass right answers and name the case a wrong one fails in."""

import pytest

from medssl_nb import exercises


def epoch_right(lesion, n, epochs, start, end):
    for t in range(epochs):
        s = 1 if epochs == 1 else t / (epochs - 1)
        if int((start + (end - start) * s) * n + 0.5) >= lesion:
            return t
    return None


def effect_right(runs, without, with_part, name):
    arms = [{r["seed"]: r[name] for r in runs if r["arm"] == arm} for arm in (without, with_part)]
    both = arms[0].keys() & arms[1].keys()
    return sum(arms[1][s] - arms[0][s] for s in both) / len(both)


def test_right_answers_pass(capsys):
    exercises.check_vanishing_epoch(epoch_right)
    exercises.check_effect_of_part(effect_right)
    assert capsys.readouterr().out == "Exercise 1: all 7 cases right.\nExercise 2: all 5 cases right.\n"


@pytest.mark.parametrize(
    ("check", "wrong", "message"),
    [
        ("check_vanishing_epoch", lambda *a: ..., "expected numbers"),
        ("check_vanishing_epoch", lambda lesion, *a: epoch_right(lesion + 1, *a), "M just reaches L"),
        ("check_vanishing_epoch", lambda lesion, *a: epoch_right(lesion - 1, *a), "one patch more than M"),
        ("check_vanishing_epoch", lambda *a: epoch_right(*a) or 0, "larger than the last M: expected None, found 0"),
        ("check_effect_of_part", lambda *a: -effect_right(*a), "two seeds of each arm"),
        ("check_effect_of_part", lambda r, a, b, n: effect_right(r, a, b, "lesion_error"), "another value"),
        (
            "check_effect_of_part",
            lambda runs, a, b, n: (
                sum(r[n] for r in runs if r["arm"] == b) / sum(r["arm"] == b for r in runs)
                - sum(r[n] for r in runs if r["arm"] == a) / sum(r["arm"] == a for r in runs)
            ),
            "seed of one arm only",
        ),
    ],
)
def test_wrong_answers_are_told_where(check, wrong, message):
    with pytest.raises(AssertionError, match=message):
        getattr(exercises, check)(wrong)
