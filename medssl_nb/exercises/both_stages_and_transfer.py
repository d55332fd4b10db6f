"""Exercises of lesson 45."""

from collections.abc import Callable

import torch

from medssl_nb.exercises.compare import expect, well_done


def check_wins(wins: Callable) -> None:
    """`wins(errors, copied, margin)` -> shares that are better than copying, worse, and neither: (3,)."""
    errors, copied = torch.tensor([5.0, 10.0, 20.0, 30.0]), torch.tensor([10.0, 10.0, 18.0, 20.0])
    cases = {
        "one of each kind and a small loss within the margin": ((errors, copied, 3.0), [0.25, 0.25, 0.5]),
        "no margin: equal is neither": ((errors, copied, 0.0), [0.25, 0.5, 0.25]),
        "exactly the margin is neither": ((torch.tensor([7.0]), torch.tensor([10.0]), 3.0), [0, 0, 1]),
        "patients and landmarks": ((errors.view(2, 2), copied.view(2, 2), 100.0), [0, 0, 1]),
        "all better": ((torch.zeros(3), torch.ones(3), 0.5), [1, 0, 0]),
    }
    for case, (arguments, expected) in cases.items():
        expect(case, wins(*arguments), expected)
    well_done("Exercise 1", len(cases))


def check_bytes_of(bytes_of: Callable) -> None:
    """`bytes_of(clusters, dimensions, side, product)` -> bytes in float32."""
    cases = {
        "a grid of 2 x 2 x 2": ((3, 5, 2, True), 480),
        "the size of the recipe": ((16, 32, 96, True), 1_811_939_328),
        "one matrix product": ((16, 32, 96, False), 2048),
        "one voxel: no difference": ((2, 4, 1, True), 32),
    }
    for case, (arguments, expected) in cases.items():
        expect(case, bytes_of(*arguments), expected)
    well_done("Exercise 2", len(cases))
