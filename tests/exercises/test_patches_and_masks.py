"""The checks of lesson 21 pass right answers, and name the fault of each typical wrong one."""

import math

import pytest
import torch

from medssl_nb import exercises
from medssl_nb.networks.patches import unpatchify


def put_together(patches, grid, patch):
    return unpatchify(patches[None], patch, grid)[0, 0]


def put_together_without_permute(patches, grid, patch):
    return patches.reshape([g * p for g, p in zip(grid, patch, strict=True)])


def put_together_last_axis_slowest(patches, grid, patch):
    parts = patches.reshape(*grid[::-1], *patch).permute(2, 3, 1, 4, 0, 5)
    return parts.reshape([g * p for g, p in zip(grid, patch, strict=True)])


def put_together_with_axes_mixed(patches, grid, patch):
    parts = patches.reshape(*grid, *patch).permute(0, 4, 1, 3, 2, 5)
    return parts.reshape([g * p for g, p in zip(grid, patch, strict=True)])


def put_together_cubes_only(patches, grid, patch):
    side = patch[0]
    parts = patches[:, : side**3].reshape(*grid, side, side, side).permute(0, 3, 1, 4, 2, 5)
    return parts.reshape([g * side for g in grid])


def put_together_in_place(patches, grid, patch):
    volume = put_together(patches, grid, patch).clone()
    patches.zero_()
    return volume


def patch_of(voxel, grid, patch):
    a, b, c = (v // p for v, p in zip(voxel, patch, strict=True))
    return (a * grid[1] + b) * grid[2] + c


def patch_of_first_axis_fastest(voxel, grid, patch):
    a, b, c = (v // p for v, p in zip(voxel, patch, strict=True))
    return (c * grid[1] + b) * grid[0] + a


def patch_of_rounded(voxel, grid, patch):
    a, b, c = (math.ceil(v / p) for v, p in zip(voxel, patch, strict=True))
    return (a * grid[1] + b) * grid[2] + c


def patch_of_cubes(voxel, grid, patch):
    return patch_of(voxel, grid, patch[:1] * 3)


def lesion_odds(n, hidden, lesion):
    none = math.prod(max(0, n - hidden - k) / (n - k) for k in range(lesion))
    every = math.prod(max(0, hidden - k) / (n - k) for k in range(lesion))
    return lesion * hidden / n, none, every


def lesion_odds_put_back(n, hidden, lesion):
    r = hidden / n
    return lesion * r, (1 - r) ** lesion, r**lesion


def lesion_odds_below_zero(n, hidden, lesion):
    none = math.prod((n - hidden - k) / (n - k) for k in range(lesion))
    every = math.prod((hidden - k) / (n - k) if k != hidden else -1 for k in range(lesion))
    return lesion * hidden / n, none, every


def lesion_odds_swapped(n, hidden, lesion):
    expected, none, every = lesion_odds(n, hidden, lesion)
    return expected, every, none


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (exercises.check_put_together, put_together),
        (exercises.check_patch_of, patch_of),
        (exercises.check_lesion_odds, lesion_odds),
        (exercises.check_lesion_odds, lambda *a: torch.tensor(lesion_odds(*a))),
    ],
)
def test_right_answers_pass_and_say_so(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.endswith("cases right.\n")


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (exercises.check_put_together, lambda *a: None, "the whole volume: your function returned nothing"),
        (exercises.check_put_together, put_together_without_permute, "two patches along z"),
        (exercises.check_put_together, put_together_last_axis_slowest, "a grid of 2 x 3 x 4"),
        (exercises.check_put_together, put_together_with_axes_mixed, "one patch is the whole volume: expected"),
        (exercises.check_put_together, put_together_cubes_only, "1 x 2 x 3 voxels: expected shape"),
        (exercises.check_put_together, put_together_in_place, "changed its input"),
        (exercises.check_patch_of, lambda *a: None, "the first voxel: your function returned nothing"),
        (exercises.check_patch_of, patch_of_first_axis_fastest, "along z: expected 1, found 6"),
        (exercises.check_patch_of, patch_of_rounded, "still in the first patch: expected 0"),
        (exercises.check_patch_of, patch_of_cubes, "sides of 1, 2 and 8 voxels: expected 42"),
        (exercises.check_lesion_odds, lambda *a: None, "a quarter hidden: your function returned nothing"),
        (exercises.check_lesion_odds, lambda n, hidden, lesion: lesion * hidden / n, r"expected shape \(3,\)"),
        (exercises.check_lesion_odds, lesion_odds_put_back, "of 400, a quarter hidden, the chance of none"),
        (exercises.check_lesion_odds, lesion_odds_below_zero, "more lesion than hidden.*, the chance of all"),
        (exercises.check_lesion_odds, lesion_odds_swapped, "one lesion patch.*, the chance of none: expected 0.75"),
    ],
)
def test_wrong_answers_are_named(check, answer, words):
    with pytest.raises(AssertionError, match=words):
        check(answer)
