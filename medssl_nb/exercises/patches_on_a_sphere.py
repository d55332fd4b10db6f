"""Exercises of lesson 41."""

import itertools
import math
from collections.abc import Callable

import numpy as np

from medssl_nb.exercises.compare import expect, well_done


def check_loss_of_angles(loss_of_angles: Callable) -> None:
    """`loss_of_angles(degrees, temperature)` -> patch discrimination of unit vectors at these angles on a circle."""
    cases = {
        "the four vectors of the lesson": ([0, 100, 20, 80], 0.5),
        "the four vectors, a low temperature": ([0, 100, 20, 80], 0.1),
        "matched and opposite": ([0, 180, 0, 180], 0.5),
        "partners at right angles, negatives alike": ([0, 90, 90, 0], 0.5),
        "all alike": ([30, 30, 30, 30], 0.5),
        "six vectors": ([0, 120, 240, 10, 150, 200], 0.3),
        "matched, temperature 0.001": ([0, 90, 0, 90], 0.001),
    }
    for case, (degrees, temperature) in cases.items():
        expect(case, loss_of_angles(list(degrees), temperature), _loss(degrees, temperature), tolerance=1e-4)
    well_done("loss_of_angles", len(cases))


def check_wrong_order_works(wrong_order_works: Callable) -> None:
    """`wrong_order_works(transform)` -> whether flips, then turns back bring every grid home."""
    from medssl_nb.methods.local_discrimination import ViewTransform

    planes = ((0, 1), (0, 2), (1, 2), (2, 1), (-2, -1))
    flips = [axes for size in range(4) for axes in itertools.combinations(range(3), size)]
    count = 0
    for plane, turns, axes in itertools.product(planes, range(4), flips):
        transform = ViewTransform(axes, turns, plane)
        found, right = wrong_order_works(transform), _comes_home(axes, turns, plane)
        if found is None:
            raise AssertionError(f"{transform}: your function returned nothing. Is there a `return`?")
        if bool(found) != right:
            raise AssertionError(f"{transform}: expected {right}, found {bool(found)}.")
        count += 1
    well_done("wrong_order_works", count)


def check_target_angle(target_angle: Callable) -> None:
    """`target_angle(angle, weight)` -> degrees between a and the mixup target; a and b are `angle` degrees apart."""
    cases = {
        "90 degrees, lambda 0.25": (90, 0.25),
        "170 degrees, lambda 0.25": (170, 0.25),
        "170 degrees, half way": (170, 0.5),
        "10 degrees, lambda 0.25": (10, 0.25),
        "120 degrees, lambda 0.8": (120, 0.8),
        "all of a": (60, 1.0),
        "all of b": (150, 0.0),
    }
    for case, (angle, weight) in cases.items():
        theta = math.radians(angle)
        expected = math.atan2((1 - weight) * math.sin(theta), weight + (1 - weight) * math.cos(theta))
        expect(case, target_angle(angle, weight), math.degrees(expected), tolerance=1e-3)
    well_done("target_angle", len(cases))


def check_collapse_lines(collapse_lines: Callable) -> None:
    """`collapse_lines(pairs, grid)` -> patch and mixup loss of a step in which all patches are alike."""
    cases = {
        "the lesson: one pair, 4 x 4 x 4": (1, (4, 4, 4)),
        "the released code: four pairs, 8 x 8": (4, (8, 8)),
        "two pairs, 6 x 6 x 6": (2, (6, 6, 6)),
        "a flat crop": (2, (4, 4, 1)),
        "one pair, two patches": (1, (2, 1)),
    }
    for case, (pairs, grid) in cases.items():
        patches = 2 * pairs * math.prod(grid)
        found = collapse_lines(pairs, grid)
        if not (isinstance(found, tuple | list) and len(found) == 2):
            raise AssertionError(f"{case}: return two numbers: `return patch, mixup`.")
        for name, value, rows in zip(("patch", "mixup"), found, (2 * patches, patches), strict=True):
            expect(f"{case}, {name}", value, _loss([0] * rows, 1.0), tolerance=1e-3)
    well_done("collapse_lines", len(cases))


def _loss(degrees, temperature: float) -> float:
    """Patch discrimination of N unit vectors on a circle, view 1 then view 2."""
    angles = np.radians(np.asarray(degrees, float))
    rows = len(angles)
    index = np.arange(rows)
    similarity = np.cos(angles[:, None] - angles) / temperature
    similarity[index, index] = -np.inf
    similarity -= similarity.max(axis=1, keepdims=True)
    share = np.exp(similarity) / np.exp(similarity).sum(axis=1, keepdims=True)
    partner = (index + rows // 2) % rows
    positive = np.log(share[index, partner])
    share[index, partner] = 0
    return float(-(positive + np.log1p(-share).sum(axis=1)).mean()) + 0.0  # no -0


def _comes_home(flips, turns: int, plane) -> bool:
    cube = np.arange(27).reshape(3, 3, 3)
    moved = np.rot90(np.flip(cube, flips), turns, plane)
    return bool((np.rot90(np.flip(moved, flips), -turns, plane) == cube).all())
