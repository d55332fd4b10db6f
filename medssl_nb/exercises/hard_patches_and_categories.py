"""Exercises of lesson 23."""

import math
from collections.abc import Callable

from medssl_nb.exercises.compare import expect, expect_unchanged, well_done


def check_relative_weights(relative_weights: Callable) -> None:
    """`relative_weights(errors, mask, strength)` -> weights (N,) of one volume: mean 1 where hidden, else 0."""
    import torch

    errors, everything = torch.tensor([1.0, 1, 2, 4]), torch.ones(4, dtype=torch.bool)
    some = torch.tensor([True, False, True, True])
    cases = {
        "four hidden patches": (errors, everything, 1.0, [0.5, 0.5, 1, 2]),
        "strength 0": (errors, everything, 0.0, [1, 1, 1, 1]),
        "strength 2": (errors, everything, 2.0, [2 / 11, 2 / 11, 8 / 11, 32 / 11]),
        "all errors a thousand times smaller": (errors / 1000, everything, 2.0, [2 / 11, 2 / 11, 8 / 11, 32 / 11]),
        "one patch visible": (errors, some, 1.0, [3 / 7, 0, 6 / 7, 12 / 7]),
        "one patch hidden": (errors, torch.tensor([False, False, True, False]), 1.0, [0, 0, 1, 0]),
        "all errors 0": (torch.zeros(4), everything, 1.0, [1, 1, 1, 1]),
        "all errors 0, one patch visible": (torch.zeros(4), some, 1.0, [1, 0, 1, 1]),
    }
    for case, (*given, right) in cases.items():
        before = given[0].clone()
        found = relative_weights(*given)
        expect_unchanged(case, before, given[0])
        expect(case, found, right)
    with_graph = errors.clone().requires_grad_()
    if relative_weights(with_graph, everything, 1.0).requires_grad:
        raise AssertionError("errors with a graph: your weights carry a gradient. Cut it: `errors.detach()`.")
    well_done("relative_weights", len(cases) + 1)


def check_hard_patches(hard_patches: Callable) -> None:
    """`hard_patches(errors, mask, threshold)` -> bool (N,), True where hidden and harder than usual."""
    import torch

    errors, everything = torch.tensor([1.0, 1, 1, 1, 6]), torch.ones(5, dtype=torch.bool)  # mean 2, deviation 2
    visible = torch.tensor([True, True, True, True, False])
    two = torch.tensor([True, False, False, False, True])
    cases = {
        "harder than the mean": (errors, everything, 0.0, [0, 0, 0, 0, 1]),
        "exactly on the line is not above it": (errors, everything, 2.0, [0, 0, 0, 0, 0]),
        "the population deviation decides": (errors, everything, 1.9, [0, 0, 0, 0, 1]),
        "a line below the mean": (torch.tensor([0.0, 2, 2, 2, 4]), everything, -0.5, [0, 1, 1, 1, 1]),
        "the hardest patch is visible": (torch.tensor([1.0, 3, 1, 1, 6]), visible, 0.0, [0, 1, 0, 0, 0]),
        "visible patches do not move the mean": (torch.tensor([3.0, 9, 9, 9, 5]), two, 0.0, [0, 0, 0, 0, 1]),
        "one hidden patch": (errors, torch.tensor([False, False, False, False, True]), 0.0, [0, 0, 0, 0, 0]),
        "all errors equal, a line below them": (torch.full((5,), 0.5), everything, -1.0, [0, 0, 0, 0, 0]),
    }
    for case, (*given, right) in cases.items():
        before = given[0].clone()
        found = hard_patches(*given)
        expect_unchanged(case, before, given[0])
        expect(case, found, right)
    well_done("hard_patches", len(cases))


def check_consistency(consistency: Callable) -> None:
    """`consistency(z, background, lesion, h, temperature)` -> loss of one patch between its two prototypes."""
    import torch

    right, up, down = torch.tensor([1.0, 0]), torch.tensor([0.0, 1]), torch.tensor([0.0, -1])
    slant, near = torch.tensor([0.6, 0.8]), torch.tensor([0.8, 0.6])
    cases = {
        "half way between the prototypes: ln 2": ((near + slant) / 1.4 / 2**0.5, right, up, 1.0, 0.1, math.log(2)),
        "hard, and on the lesion prototype": (up, right, up, 1.0, 1.0, _softplus(-1)),
        "easy, and on the lesion prototype": (up, right, up, 0.0, 1.0, _softplus(1)),
        "hard, nearer to lesion": (slant, right, up, 1.0, 0.1, _softplus(-2)),
        "easy, nearer to lesion": (slant, right, up, 0.0, 0.1, _softplus(2)),
        "half hard": (slant, right, up, 0.5, 0.1, (_softplus(-2) + _softplus(2)) / 2),
        "a token of length 10 points the same way": (10 * slant, right, up, 1.0, 0.1, _softplus(-2)),
        "opposite prototypes": (slant, down, up, 0.0, 0.4, _softplus(4)),
        "a low temperature, and no overflow": (up, down, up, 0.0, 0.01, 200.0),
    }
    for case, (z, background, lesion, h, temperature, answer) in cases.items():
        before = z.clone()
        expect(case, consistency(z, background, lesion, h, temperature), answer, tolerance=1e-3)
        expect_unchanged(case, before, z)
    well_done("consistency", len(cases))


def _softplus(x: float) -> float:
    """ln(1 + e^x): the cross-entropy of two choices whose scores differ by x in favour of the wrong one."""
    return math.log1p(math.exp(x))
