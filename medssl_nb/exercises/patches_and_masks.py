"""Exercises of lesson 21."""

import math
from collections.abc import Callable

import numpy as np

from medssl_nb.exercises.compare import expect, expect_unchanged, well_done


def check_put_together(put_together: Callable) -> None:
    """`put_together(patches, grid, patch)` -> the volume (X, Y, Z) of which the patches (N, V) were cut."""
    import torch

    cases = {
        "one patch is the whole volume": ((1, 1, 1), (2, 2, 2)),
        "two patches along x": ((2, 1, 1), (2, 2, 2)),
        "two patches along z, the fastest axis": ((1, 1, 2), (2, 2, 2)),
        "a grid of 2 x 3 x 4": ((2, 3, 4), (2, 2, 2)),
        "patches of 1 x 2 x 3 voxels": ((3, 2, 2), (1, 2, 3)),
    }
    for case, (grid, patch) in cases.items():
        volume = np.arange(math.prod(grid) * math.prod(patch)).reshape(
            [g * p for g, p in zip(grid, patch, strict=True)]
        )
        patches = torch.from_numpy(_cut(volume, grid, patch))
        before = patches.clone()
        expect(case, put_together(patches, grid, patch), volume)
        expect_unchanged(case, before, patches)
    well_done("put_together", len(cases))


def check_patch_of(patch_of: Callable) -> None:
    """`patch_of(voxel, grid, patch)` -> number of the patch, row-major, the last axis fastest."""
    cases = {
        "the first voxel": ((0, 0, 0), (2, 3, 4), (2, 2, 2), 0),
        "still in the first patch": ((1, 1, 1), (2, 3, 4), (2, 2, 2), 0),
        "one patch further along z": ((0, 0, 2), (2, 3, 4), (2, 2, 2), 1),
        "one patch further along y": ((0, 2, 0), (2, 3, 4), (2, 2, 2), 4),
        "one patch further along x": ((2, 0, 0), (2, 3, 4), (2, 2, 2), 12),
        "the last voxel": ((3, 5, 7), (2, 3, 4), (2, 2, 2), 23),
        "sides of 1, 2 and 8 voxels": ((2, 5, 17), (4, 3, 5), (1, 2, 8), 42),
    }
    for case, (voxel, grid, patch, right) in cases.items():
        expect(case, patch_of(voxel, grid, patch), right)
    well_done("patch_of", len(cases))


def check_lesion_odds(lesion_odds: Callable) -> None:
    """`lesion_odds(n, hidden, lesion)` -> (mean number of hidden lesion patches, chance of none, chance of all)."""
    cases = {
        "one lesion patch, a quarter hidden": (8, 2, 1),
        "two lesion patches of 400, a quarter hidden": (400, 100, 2),
        "five of 475, three quarters hidden": (475, 356, 5),
        "more lesion than hidden: never all": (6, 2, 4),
        "more hidden than other tissue: never none": (6, 5, 3),
        "no lesion": (10, 5, 0),
    }
    for case, (n, hidden, lesion) in cases.items():
        found = lesion_odds(n, hidden, lesion)
        if isinstance(found, tuple | list) and len(found) == 3:
            names = ("patches hidden on average", "the chance of none", "the chance of all")
            for name, number, right in zip(names, found, _odds(n, hidden, lesion), strict=True):
                expect(f"{case}, {name}", number, right)
        else:
            expect(case, found, _odds(n, hidden, lesion))
    well_done("lesion_odds", len(cases))


def _cut(volume: np.ndarray, grid, patch) -> np.ndarray:
    """Patches (N, V), one block of the volume after the other."""
    blocks = []
    for place in np.ndindex(*grid):
        block = tuple(slice(k * p, (k + 1) * p) for k, p in zip(place, patch, strict=True))
        blocks.append(volume[block].ravel())
    return np.stack(blocks)


def _odds(n: int, hidden: int, lesion: int) -> tuple[float, float, float]:
    """Counted: of all ways to choose the hidden patches, those without any and those with every lesion patch."""
    ways = math.comb(n, hidden)
    none = math.comb(n - lesion, hidden) / ways
    every = math.comb(n - lesion, hidden - lesion) / ways if hidden >= lesion else 0.0
    return lesion * hidden / n, none, every
