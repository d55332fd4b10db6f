"""Exercises of lesson 43."""

import math
from collections.abc import Callable

import numpy as np

from medssl_nb.exercises.compare import expect, expect_unchanged, well_done


def check_window_of_three(window_of_three: Callable) -> None:
    """`window_of_three(sigma)` -> the three weights of the bell, sum 1; sigma may be infinite."""
    cases = {"sigma 0.5": 0.5, "a wide bell, sigma 2": 2.0, "a narrow bell, sigma 0.2": 0.2, "plain mean": math.inf}
    for case, sigma in cases.items():
        side = math.exp(-((2 / 3) ** 2) / (2 * sigma**2))
        expect(case, window_of_three(sigma), np.array([side, 1, side]) / (1 + 2 * side))
    well_done("window_of_three", len(cases))


def check_distance_mm(distance_mm: Callable) -> None:
    """`distance_mm(found, true, spacing)` -> mm between two points in voxels."""
    cases = {
        "the same point": ((3, 4, 5), (3, 4, 5), (1.0, 1.0, 1.0)),
        "one slice off": ((10, 10, 11), (10, 10, 10), (0.7, 0.7, 5.0)),
        "one voxel off along x": ((11, 10, 10), (10, 10, 10), (0.7, 0.7, 5.0)),
        "off along two axes": ((3, 4, 0), (0, 0, 0), (1.0, 1.0, 5.0)),
        "off along all three": ((1, 2, 3), (4, 0, 1), (6.0, 6.0, 7.3)),
        "a true point between voxels": ((20, 21, 7), (19.5, 22.25, 7.0), (2.0, 3.0, 4.0)),
    }
    for case, (found, true, spacing) in cases.items():
        expected = math.sqrt(sum((s * (f - t)) ** 2 for f, t, s in zip(found, true, spacing, strict=True)))
        expect(case, distance_mm(found, true, spacing), expected)
    well_done("distance_mm", len(cases))


def check_coarse_to_fine(coarse_to_fine: Callable) -> None:
    """`coarse_to_fine(maps)` -> (x, y), `maps`: {window: similarity (X, Y)}, in any order."""
    import torch

    def peaks(*places: tuple[int, int, float]):
        similarity = torch.zeros(20, 16)
        for x, y, value in places:
            similarity[x, y] = value
        return similarity

    cases = {
        "one window": ({5: peaks((3, 4, 0.9), (10, 2, 0.8))}, (3, 4)),
        "the small window alone is misled": ({9: peaks((12, 8, 0.9)), 3: peaks((2, 2, 0.99), (11, 9, 0.9))}, (11, 9)),
        "windows in the other order": ({3: peaks((2, 2, 0.99), (11, 9, 0.9)), 9: peaks((12, 8, 0.9))}, (11, 9)),
        "just within half a window": ({9: peaks((12, 8, 0.9)), 3: peaks((8, 4, 0.9), (12, 8, 0.7))}, (8, 4)),
        "just beyond it": ({9: peaks((12, 8, 0.9)), 3: peaks((7, 8, 0.9), (12, 9, 0.7))}, (12, 9)),
        "at the border": ({5: peaks((0, 15, 0.9)), 1: peaks((19, 0, 0.95), (1, 14, 0.9))}, (1, 14)),
        "nothing but negative values": ({5: peaks((6, 6, 0.9)) - 2, 1: peaks((7, 6, 0.5), (0, 0, 0.9)) - 2}, (7, 6)),
        "three windows": (
            {
                11: peaks((10, 8, 0.9)),
                5: peaks((14, 8, 0.9), (2, 8, 1.0)),
                1: peaks((15, 9, 0.9), (8, 8, 0.95), (2, 8, 1.0)),
            },
            (15, 9),
        ),
    }
    for case, (maps, expected) in cases.items():
        given = {window: similarity.clone() for window, similarity in maps.items()}
        found = coarse_to_fine(maps)
        for window, similarity in given.items():
            if window not in maps:
                raise AssertionError(f"{case}: your function changed its input: window {window} is gone.")
            expect_unchanged(case, similarity, maps[window])
        expect(case, found, expected)
    well_done("coarse_to_fine", len(cases))


def check_success_curve(success_curve: Callable) -> None:
    """`success_curve(errors, radii)` -> for each radius the share of errors that are at most the radius."""
    cases = {
        "four landmarks": ([3.0, 12.0, 15.0, 80.0], [5, 15, 25]),
        "exactly on the radius": ([15.0, 15.0], [14.9, 15.0]),
        "radii from large to small": ([3.0, 12.0, 40.0], [50, 20, 1]),
        "two of them not found": ([3.0, math.nan, 40.0, math.nan], [5, 50]),
        "one landmark": ([7.0], [10]),
    }
    for case, (errors, radii) in cases.items():
        given = list(errors)
        found = success_curve(errors, radii)
        expect_unchanged(case, [repr(e) for e in given], [repr(e) for e in errors])
        expect(case, found, [sum(e <= radius for e in given) / len(given) for radius in radii])
    well_done("success_curve", len(cases))
