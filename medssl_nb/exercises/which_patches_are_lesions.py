"""Exercises of lesson 22."""

import math
from collections.abc import Callable
from typing import NamedTuple

from medssl_nb.exercises.compare import expect, expect_unchanged, well_done


def check_lloyd_step(lloyd_step: Callable) -> None:
    """`lloyd_step(f, mu)` -> (labels, new centroids) after one iteration of k-means; an empty cluster stays put."""
    import torch

    line = torch.tensor([[1.0], [2], [3], [8], [9], [10]])
    plane = torch.tensor([[0.0, 0], [0, 2], [4, 0], [4, 2], [9, 1]])
    cases = {
        "six points on a line": (line, [[1.0], [2]], [0, 1, 1, 1, 1, 1], [[1.0], [6.4]]),
        "the next iteration": (line, [[1.0], [6.4]], [0, 0, 0, 1, 1, 1], [[2.0], [9]]),
        "three clusters in the plane": (
            *(plane, [[0.0, 1], [4, 1], [8, 1]], [0, 0, 1, 1, 2]),
            [[0.0, 1], [4, 1], [9, 1]],
        ),
        "two features of different sign": (
            *(plane - 4, [[-4.0, -3], [5, -3]], [0, 0, 0, 0, 1]),
            [[-2.0, -3], [5, -3]],
        ),
        "a tie goes to the first": (line[:3], [[1.0], [3]], [0, 0, 1], [[1.5], [3]]),
        "an empty cluster": (line, [[2.0], [9], [100]], [0, 0, 0, 1, 1, 1], [[2.0], [9], [100]]),
    }
    for case, (f, start, labels, centroids) in cases.items():
        mu = torch.tensor(start)
        given = f.clone(), mu.clone()
        found = lloyd_step(f, mu)
        if not (isinstance(found, tuple | list) and len(found) == 2):
            raise AssertionError(f"{case}: return two things, labels and centroids: `return labels, centroids`.")
        expect_unchanged(case, given[0], f)
        expect_unchanged(case, given[1], mu)
        expect(f"{case}, labels", found[0], labels)
        expect(f"{case}, centroids", found[1], centroids)
    well_done("lloyd_step", len(cases))


def check_lift(lift: Callable) -> None:
    """`lift(called, truth)` of two masks; None where it is not defined."""
    import torch

    cases = {
        "two of three called are true, three of ten are": (
            [1, 1, 1, 0, 0, 0, 0, 0, 0, 0],
            [1, 1, 0, 0, 0, 0, 0, 1, 0, 0],
        ),
        "everything called": ([1, 1, 1, 1], [1, 0, 0, 0]),
        "nothing right": ([0, 1, 1, 0], [1, 0, 0, 0]),
        "all right": ([0, 0, 1, 0], [0, 0, 1, 0]),
        "more true than called": ([1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]),
        "nothing called": ([0, 0, 0], [1, 0, 0]),
        "no lesion at all": ([1, 0, 0], [0, 0, 0]),
    }
    for case, (called, truth) in cases.items():
        found = lift(torch.tensor(called).bool(), torch.tensor(truth).bool())
        if not (sum(called) and sum(truth)):
            if found is not None:
                raise AssertionError(f"{case}: there is no lift to speak of; expected None, found {found}.")
            continue
        both = sum(c * t for c, t in zip(called, truth, strict=True))
        expect(case, found, (both / sum(called)) / (sum(truth) / len(truth)))
    well_done("lift", len(cases))


class _Budget(NamedTuple):
    valid: int
    lesion: int
    ratio: float
    lesion_share: float


def check_budget(budget: Callable) -> None:
    """`budget(valid, lesion, ratio, lesion_share)` -> (M, g): patches hidden, and kept for lesions among them."""
    cases = {
        "half of seven, half of it for lesions": _Budget(7, 3, 0.5, 0.5),
        "lesions first": _Budget(7, 3, 0.5, 1.0),
        "a plain random mask": _Budget(7, 3, 0.5, 0.0),
        "fewer places than lesion patches": _Budget(100, 40, 0.25, 1.0),
        "a half is rounded up, as in Python's round it is not": _Budget(5, 5, 0.5, 0.5),
        "never fewer than one": _Budget(3, 2, 0.05, 1.0),
        "never all of them": _Budget(4, 1, 0.95, 1.0),
        "one valid patch: nothing to guess from": _Budget(1, 1, 0.5, 1.0),
    }
    for case, given in cases.items():
        hidden = min(max(math.floor(given.ratio * given.valid + 0.5), 1), given.valid - 1) if given.valid > 1 else 0
        expect(case, budget(*given), [hidden, min(given.lesion, math.floor(given.lesion_share * hidden + 0.5))])
    well_done("budget", len(cases))
