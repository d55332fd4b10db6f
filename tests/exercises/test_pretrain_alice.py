"""The checks of lesson 55 pass right answers and name the case a wrong one fails in."""

import math

import pytest
import torch

from medssl_nb import exercises


def collapse_right(distributions):
    entropy = torch.special.entr(distributions).sum(-1)
    if torch.special.entr(distributions.mean(0)).sum().exp() < 2:
        return "one winner"
    return "uniform" if entropy.mean() > 0.95 * math.log(distributions.shape[1]) else "healthy"


def only_winners(distributions):
    return "one winner" if torch.special.entr(distributions).sum(-1).mean() < 0.1 else collapse_right(distributions)


def only_means(distributions):
    entropy = torch.special.entr(distributions.mean(0)).sum()
    return "one winner" if entropy < 0.69 else "uniform" if entropy > 2 else "healthy"


def momentum_right(m0, progress):
    return 1 - (1 - m0) * (1 + math.cos(math.pi * progress)) / 2


def test_right_answers_pass(capsys):
    exercises.check_collapse(collapse_right)
    exercises.check_momentum(momentum_right)
    assert capsys.readouterr().out == "Exercise 1: all 6 cases right.\nExercise 2: all 4 cases right.\n"


@pytest.mark.parametrize(
    ("check", "wrong", "message"),
    [
        ("check_collapse", lambda P: ..., "every sample has the same winner: expected 'one winner'"),
        ("check_collapse", lambda P: "healthy", "every sample has the same winner"),
        ("check_collapse", only_winners, "a winner for each: expected 'healthy', got 'one winner'"),
        ("check_collapse", only_means, "a winner for each: expected 'healthy', got 'uniform'"),
        ("check_momentum", lambda m, p: None, "returned nothing"),
        ("check_momentum", lambda m, p: m + (1 - m) * p, "a third of the run"),
        ("check_momentum", lambda m, p: m, "half way"),
    ],
)
def test_wrong_answers_are_told_where(check, wrong, message):
    with pytest.raises(AssertionError, match=message):
        getattr(exercises, check)(wrong)
