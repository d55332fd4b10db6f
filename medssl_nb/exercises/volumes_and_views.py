"""Exercises of lesson 11."""

from collections.abc import Callable

import numpy as np

from medssl_nb.exercises.compare import expect, expect_unchanged, well_done


def check_organ_ml(organ_ml: Callable) -> None:
    """`organ_ml(label, number, affine)` -> volume in millilitres."""
    import torch

    label = torch.zeros(10, 10, 10, dtype=torch.uint8)
    label[:5] = 1
    label[7, 7, 7] = 2
    turned = np.array([[0, 3.0, 0, 5], [-2.0, 0, 0, 6], [0, 0, 4.0, 7], [0, 0, 0, 1]])
    cases = {
        "half of 10³ voxels of 1 mm": (label, 1, np.eye(4), 0.5),
        "the same with voxels of 2 x 3 x 4 mm": (label, 1, np.diag([2.0, 3, 4, 1]), 12.0),
        "one voxel of 2 x 3 x 4 mm": (label, 2, np.diag([2.0, 3, 4, 1]), 0.024),
        "axes turned: the spacing is not on the diagonal": (label, 1, turned, 12.0),
        "an organ that is not there": (label, 3, np.eye(4), 0.0),
    }
    for case, (*given, right) in cases.items():
        expect(case, organ_ml(*given), right)
    well_done("organ_ml", len(cases))


def check_window(window: Callable) -> None:
    """`window(hu, low, high)` -> brightness from 0 to 1."""
    import torch

    hu = torch.tensor([-2000.0, -160, 40, 240, 3000])
    cases = {
        "soft tissue": (hu, -160, 240, [0, 0, 0.5, 1, 1]),
        "whole numbers as a CT file stores them": (hu.to(torch.int16), -160, 240, [0, 0, 0.5, 1, 1]),
        "a window that starts above 0": (hu, 40, 240, [0, 0, 0, 1, 1]),
    }
    for case, (values, low, high, right) in cases.items():
        before = values.clone()
        expect(case, window(values, low, high), right)
        expect_unchanged(case, before, values)
    well_done("window", len(cases))


def check_come_back(come_back: Callable) -> None:
    """`come_back(matrix, points)` -> the points before the movement."""
    shift = np.eye(4)
    shift[:3, 3] = (5, -3, 2)
    quarter_turn = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    cases = {
        "nothing moved": np.eye(4),
        "a shift": shift,
        "a quarter turn about the z axis": quarter_turn,
        "first a turn, then a shift": shift @ quarter_turn,
        "twice as large": np.diag([2.0, 2, 2, 1]),
    }
    points = np.array([[0.0, 0, 0], [10, 20, 30], [-5, 4, 1]])
    for case, matrix in cases.items():
        moved = points @ matrix[:3, :3].T + matrix[:3, 3]
        expect(case, come_back(matrix, moved), points, tolerance=1e-6)
    well_done("come_back", len(cases))
