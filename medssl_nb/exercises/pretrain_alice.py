"""Exercises of lesson 55."""

from collections.abc import Callable

import torch

from medssl_nb.exercises.compare import expect, well_done


def check_collapse(collapse: Callable) -> None:
    """`collapse(P)`: distributions (samples, outputs) -> "one winner", "uniform" or "healthy"."""
    even, same = torch.full((6, 8), 1 / 8), torch.eye(8)[[3] * 6]
    soft = torch.tensor([[0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0.5, 0.5]])
    cases = {
        "every sample has the same winner": (same, "one winner"),
        "all outputs alike": (even, "uniform"),
        "a winner for each": (torch.eye(8), "healthy"),
        "two outputs shared by each": (soft, "healthy"),
        "nearly the same winner for all": (0.97 * same + 0.03 * even, "one winner"),
        "one sample of each kind": (torch.stack([torch.eye(4)[0], torch.full((4,), 0.25)]), "healthy"),
    }
    for case, (distributions, word) in cases.items():
        found = collapse(distributions)
        if found != word:
            raise AssertionError(f"{case}: expected {word!r}, got {found!r}.")
    well_done("Exercise 1", len(cases))


def check_momentum(momentum: Callable) -> None:
    """`momentum(m0, progress)` -> share of the teacher that stays."""
    cases = {
        "at the start": ((0.996, 0.0), 0.996),
        "half way": ((0.996, 0.5), 0.998),
        "at the end the teacher stands still": ((0.996, 1.0), 1.0),
        "a third of the run": ((0.9, 1 / 3), 0.925),
    }
    for case, (arguments, expected) in cases.items():
        expect(case, momentum(*arguments), expected)
    well_done("Exercise 2", len(cases))
