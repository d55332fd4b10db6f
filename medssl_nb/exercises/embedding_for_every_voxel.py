"""Exercises of lesson 51."""

import math
from collections.abc import Callable

import numpy as np

from medssl_nb.exercises.compare import expect, well_done


def check_contrast(contrast: Callable) -> None:
    """`contrast(positive, negatives, temperature)` -> InfoNCE of one query, from its similarities, in plain Python."""
    excluded = -math.inf
    cases = {
        "the query of the lesson": (0.94, [0.5, -0.5], 0.5),
        "temperature 0.1": (0.94, [0.5, -0.5], 0.1),
        "three negatives as similar as the positive": (0.3, [0.3, 0.3, 0.3], 0.5),
        "a negative that is more similar": (0.1, [0.9], 0.1),
        "one negative excluded": (0.5, [0.2, excluded], 0.5),
        "every negative excluded": (0.5, [excluded, excluded], 0.5),
        "no negatives": (0.5, [], 0.5),
        "temperature 0.001": (0.5, [0.9, 0.1], 0.001),
    }
    for case, (positive, negatives, temperature) in cases.items():
        logits = np.array([positive, *negatives]) / temperature
        expected = logits.max() + np.log(np.exp(logits - logits.max()).sum()) - logits[0]
        expect(case, contrast(positive, list(negatives), temperature), expected, tolerance=1e-4)
    well_done("contrast", len(cases))


def check_view_coordinates(view_coordinates: Callable) -> None:
    """`view_coordinates(start, length, size, spacing)` -> mm of the voxels of a view, along one axis."""
    cases = {
        "the row of the lesson": (1, 6, 4, 6.0),
        "nothing is scaled": (2, 4, 4, 1.0),
        "shrunk to half": (0, 8, 4, 2.0),
        "stretched: five voxels become eight": (3, 5, 8, 6.0),
        "thick slices": (10, 6, 5, 7.3),
        "one voxel for all": (0, 9, 1, 1.0),
    }
    for case, (start, length, size, spacing) in cases.items():
        expected = spacing * (start + (np.arange(size) + 0.5) * length / size - 0.5)
        expect(case, view_coordinates(start, length, size, spacing), expected, tolerance=1e-4)
    well_done("view_coordinates", len(cases))


def check_roles(roles_of: Callable) -> None:
    """`roles_of(i, own, other, positive_radius, ignore_radius)` -> (row of `other` or None, rows of the negatives)."""
    own, other = [(0.0, 0.0), (6.0, 0.0), (12.0, 0.0), (18.0, 0.0)], [(1.0, 2.0), (7.0, 2.0), (13.0, 2.0), (40.0, 2.0)]
    cases = {
        "the second voxel": (1, own, other, 4.0, 9.0),
        "a positive that is too far": (1, own, other, 2.0, 9.0),
        "exactly at the positive radius": (0, [(0.0,)], [(3.0,), (9.0,)], 3.0, 9.0),
        "exactly at the ignored radius": (0, [(0.0,), (9.0,)], [(2.0,), (-9.0,)], 3.0, 9.0),
        "a diagonal": (0, [(0.0, 0.0, 0.0), (5.0, 5.0, 5.0)], [(1.0, 1.0, 1.0)], 2.0, 8.0),
        "no ring": (0, own, other, 4.0, 0.5),
        "everything in the ring": (2, own, other[:3], 4.0, 100.0),
        "a positive that is its own negative": (0, [(0.0,)], [(4.0,), (20.0,)], 5.0, 3.0),
    }
    for case, (i, one, two, near, ring) in cases.items():
        found = roles_of(i, list(one), list(two), near, ring)
        if not (isinstance(found, tuple | list) and len(found) == 2):
            raise AssertionError(f"{case}: return two things: `return positive, negatives`.")
        positive, negatives = _roles(i, one, two, near, ring)
        if (found[0] is None) != (positive is None) or (positive is not None and int(found[0]) != positive):
            raise AssertionError(f"{case}: expected the positive {positive}, found {found[0]}.")
        if sorted(int(row) for row in found[1]) != negatives:
            raise AssertionError(f"{case}: expected the negatives {negatives}, found {list(found[1])}.")
    well_done("roles_of", len(cases))


def check_coarse_pairs(coarse_pairs: Callable) -> None:
    """`coarse_pairs(a, b, positive_radius, axial_radius)` -> which rows of a keep their nearest row of b, bool (P,)."""
    import torch

    a = [(0.0, 0.0, 0.0), (96.0, 0.0, 0.0), (0.0, 0.0, 117.0), (96.0, 0.0, 117.0)]
    cases = {
        "a small shift": (a, [(x + 20, y, z + 10) for x, y, z in a], 72.0, 36.0),
        "a shift along the body": (a, [(x, y, z + 40) for x, y, z in a], 72.0, 36.0),
        "the same shift, no restriction": (a, [(x, y, z + 40) for x, y, z in a], 72.0, math.inf),
        "down, not up": (a, [(x, y, z - 40) for x, y, z in a], 72.0, 36.0),
        "the nearest is another": (a, [(x + 80, y, z) for x, y, z in a], 72.0, 36.0),
        "exactly at the axial radius": (a, [(x, y, z + 36) for x, y, z in a], 72.0, 36.0),
        "exactly at the positive radius": (a[:1], [(72.0, 0.0, 0.0)], 72.0, 36.0),
    }
    for case, (one, two, near, axial) in cases.items():
        one, two = torch.tensor(one), torch.tensor(two)
        gaps = (one[:, None] - two).numpy()
        distance = np.sqrt((gaps**2).sum(axis=2))
        rows, nearest = np.arange(len(one)), distance.argmin(axis=1)
        expected = (distance[rows, nearest] < near) & (abs(gaps[rows, nearest, 2]) < axial)
        expect(case, coarse_pairs(one, two, near, axial), expected)
    well_done("coarse_pairs", len(cases))


def _roles(i, own, other, near, ring) -> tuple[int | None, list[int]]:
    distance = [math.dist(own[i], x) for x in (*own, *other)]
    across = distance[len(own) :]
    nearest = int(np.argmin(across))
    return (nearest if across[nearest] < near else None), [j for j, d in enumerate(distance) if d >= ring]
