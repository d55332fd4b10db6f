"""Exercises of lesson 52."""

import math
from collections.abc import Callable

import numpy as np

from medssl_nb.exercises.compare import expect, expect_unchanged, well_done


def check_bookkeeping(cell_of: Callable, voxel_of: Callable) -> None:
    """`cell_of(p, scale, cells)`, `voxel_of(m, scale, size)` -> a voxel's cell of stride 2, a cell's voxel."""
    voxels = {
        "voxel 0": (0, 1.0, 24),
        "an odd voxel": (7, 1.0, 24),
        "the image is finer than what the network saw": (21, 0.4, 10),
        "the image is coarser": (9, 1.5, 8),
        "the last voxel of an image that was cut to fit": (51, 1.0, 24),
    }
    for case, (p, scale, cells) in voxels.items():
        expect(f"cell_of, {case}", cell_of(p, scale, cells), min(math.floor(p * scale / 2), cells - 1))
    cells = {
        "cell 0": (0, 1.0, 48),
        "cell 3": (3, 1.0, 48),
        "the image is finer than what the network saw": (5, 0.4, 60),
        "cell 0 of a fine image": (0, 0.4, 60),
        "the image is coarser": (4, 1.5, 10),
        "beyond the last voxel": (1, 0.5, 5),
    }
    for case, (m, scale, size) in cells.items():
        expect(f"voxel_of, {case}", voxel_of(m, scale, size), min(math.floor((2 * m + 0.5) / scale), size - 1))
    well_done("cell_of, voxel_of", len(voxels) + len(cells))


def check_share_home(share_home: Callable) -> None:
    """`share_home(points, returned, spacing, radius)` -> share of walks that end within `radius` mm of their start."""
    start = [(10, 10, 10), (20, 5, 7), (3, 3, 3), (30, 12, 40)]
    end = [(10, 10, 10), (22, 5, 7), (3, 3, 5), (10, 12, 40)]
    thick = (1.0, 1.0, 4.0)
    cases = {
        "voxels of 6 x 6 x 7.3 mm": (start, end, (6.0, 6.0, 7.3), 15.0, 3 / 4),
        "thick slices": (start, end, thick, 5.0, 2 / 4),
        "a distance of exactly the radius": (start, end, thick, 8.0, 3 / 4),
        "only a step along two axes at once": ([(0, 0, 0)], [(3, 4, 0)], (1.0, 1.0, 1.0), 4.5, 0.0),
        "nobody comes home": (start[3:], end[3:], thick, 8.0, 0.0),
    }
    for case, (points, returned, spacing, radius, expected) in cases.items():
        expect(case, share_home(list(points), list(returned), spacing, radius), expected)
    well_done("share_home", len(cases))


def check_calibrated_threshold(calibrated_threshold: Callable) -> None:
    """`calibrated_threshold(scores, errors, radius, wanted)` -> the lowest score t such that of all matches with score
    >= t at least the share `wanted` is within `radius`; infinity if there is none."""
    scores = [0.95, 0.80, 0.90, 0.85, 0.70]
    errors = [4.0, 40.0, 9.0, 20.0, 12.0]
    cases = {
        "every threshold will do": (scores, errors, 15, 0.5),
        "a share that the middle misses and the end reaches": (scores, errors, 15, 0.55),
        "all must be near": (scores, errors, 15, 1.0),
        "an error of exactly the radius is near": (scores, errors, 20, 0.75),
        "only the lowest score is near": (scores, errors[::-1], 8, 0.15),
        "equal scores stand or fall together": ([0.9, 0.9, 0.8], [5, 50, 5], 15, 0.6),
        "no threshold will do": ([0.9, 0.8], [50, 60], 15, 0.5),
    }
    for case, (s, e, radius, wanted) in cases.items():
        found, right = calibrated_threshold(list(s), list(e), radius, wanted), _threshold(s, e, radius, wanted)
        if math.isinf(right) and found is not None:
            if not (np.ndim(found) == 0 and math.isinf(found) and found > 0):
                raise AssertionError(f"{case}: expected infinity (`math.inf`), found {found}.")
        else:
            expect(case, found, right)
    well_done("calibrated_threshold", len(cases))


def check_padded_crop(padded_crop: Callable) -> None:
    """`padded_crop(image, center, size)` -> the (h, w) window of a tensor (H, W) that starts at center - size // 2."""
    import torch

    image = torch.arange(1.0, 43.0).view(6, 7)
    cases = {
        "inside": ((3, 3), (2, 4)),
        "an odd size": ((3, 3), (3, 3)),
        "over the upper left corner": ((0, 1), (4, 4)),
        "over the lower right corner": ((5, 6), (4, 6)),
        "larger than the image": ((3, 3), (10, 12)),
        "a centre on the border": ((6, 7), (2, 2)),
    }
    for case, (center, size) in cases.items():
        before = image.clone()
        expect(case, padded_crop(image, center, size), _window(before.tolist(), center, size))
        expect_unchanged(case, before, image)
    well_done("padded_crop", len(cases))


def _threshold(scores, errors, radius: float, wanted: float) -> float:
    for t in sorted(set(scores)):
        kept = [e <= radius for s, e in zip(scores, errors, strict=True) if s >= t]
        if sum(kept) >= wanted * len(kept):
            return t
    return math.inf


def _window(rows, center, size) -> list[list[float]]:
    """One value at a time, straight from the definition."""
    top, left = (c - n // 2 for c, n in zip(center, size, strict=True))
    inside = {(i, j): value for i, row in enumerate(rows) for j, value in enumerate(row)}
    return [[inside.get((top + i, left + j), 0.0) for j in range(size[1])] for i in range(size[0])]
