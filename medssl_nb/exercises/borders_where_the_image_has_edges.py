"""Exercises of lesson 33."""

from collections.abc import Callable

from medssl_nb.exercises.compare import expect, expect_unchanged, well_done


def check_edge_row(edge_row: Callable) -> None:
    """`edge_row(values, power)` -> list: the edge target of a row of numbers."""
    cases = {
        "the row of the lesson": ([2.0, 2, 5, 9, 9], 1.0, [0, 0, 0.75, 1, 0]),
        "a power above 1": ([2.0, 2, 5, 9, 9], 2.0, [0, 0, 0.5625, 1, 0]),
        "a power below 1": ([0.0, 0, 1, 5, 5], 0.5, [0, 0, 0.5, 1, 0]),
        "downhill counts like uphill": ([4.0, 4, 0, 0, 2], 1.0, [0, 0, 1, 0, 0.5]),
        "the last voxel is no neighbour of the first": ([0.0, 1, 3], 1.0, [0, 0.5, 1]),
        "a constant row": ([3.0, 3, 3, 3], 0.75, [0, 0, 0, 0]),
    }
    for case, (values, power, expected) in cases.items():
        given = list(values)
        found = edge_row(given, power)
        expect_unchanged(case, values, given)
        expect(case, found, expected, tolerance=1e-4)
    well_done("edge_row", len(cases))


def check_box_sum(box_sum: Callable) -> None:
    """`box_sum(x, w)` for x (X, Y): sums over w x w pixels around each pixel, 0 outside."""
    import torch
    import torch.nn.functional as F

    generator = torch.Generator().manual_seed(0)
    cases = {
        "a single 1 in the middle": (torch.eye(5)[:, 2:3] * torch.eye(5)[2], 3),
        "all ones: fewer at the rim": (torch.ones(4, 6), 3),
        "numbers, window 5": (torch.randint(0, 9, (7, 6), generator=generator).float(), 5),
        "a window of 1": (torch.arange(6.0).view(2, 3), 1),
        "a window larger than the map": (torch.arange(12.0).view(3, 4), 9),
    }
    for case, (x, w) in cases.items():
        given = x.clone()
        found = box_sum(given, w)
        expect_unchanged(case, x, given)
        expect(case, found, F.conv2d(x[None, None], torch.ones(1, 1, w, w), padding=w // 2)[0, 0], tolerance=1e-3)
    well_done("box_sum", len(cases))


def check_basin(basin: Callable) -> None:
    """`basin(losses, least=0.001)` -> the largest offset from which each step towards 0 lowers the loss by more."""
    import torch

    cases = {
        "a pit two voxels wide": ([-0.5, -0.3, -0.2, -0.2, -0.2], 2),
        "a second pit further out does not count": ([-0.5, -0.3, -0.4, -0.3, -0.2], 1),
        "downhill all the way": ([-0.9, -0.6, -0.4, -0.3], 3),
        "a plateau that is not quite flat": ([-0.5, -0.4, -0.3996, -0.3], 1),
        "better one voxel off": ([-0.4, -0.5, -0.3, -0.2], 0),
    }
    for case, (losses, expected) in cases.items():
        expect(case, basin(torch.tensor(losses)), expected)
    expect("least = 0.15", basin(torch.tensor([-0.5, -0.3, -0.2]), least=0.15), 1)
    well_done("basin", len(cases) + 1)


def check_plain_correlation(plain_correlation: Callable) -> None:
    """`plain_correlation(E, J, window)` for (B, 1, X, Y): not squared; only the variances are clamped."""
    import torch

    line = [[0.0, 0, 0], [0, 1, 0], [0, 0, 0]]
    beside = [[0.0, 0, 0], [1, 0, 0], [0, 0, 0]]
    cases = {
        "the same place": (line, line, 1),
        "a fainter edge in the same place": (line, [[0.2 * value for value in row] for row in line], 1),
        "one voxel off": (line, beside, -0.125),
        "an edge against its negative": (line, [[1 - value for value in row] for row in line], -1),
        "flat against flat": ([[0.1] * 3] * 3, [[0.3] * 3] * 3, 0),
        "flat against an edge": ([[0.1] * 3] * 3, line, 0),
    }
    for case, (first, second, expected) in cases.items():
        pair = [torch.tensor(values)[None, None] for values in (first, second)]
        given = [one.clone() for one in pair]
        found = plain_correlation(*given, 3)
        expect_unchanged(case, torch.cat(pair), torch.cat(given))
        expect(f"{case}, the middle", found[0, 0, 1, 1] if hasattr(found, "shape") else found, expected, tolerance=1e-3)
    corner = plain_correlation(*[torch.ones(1, 1, 5, 5)] * 2, 3)[0, 0, 0, 0]
    expect("the corner of two maps of ones: outside is 0, n = 9", corner, 1, tolerance=1e-3)
    batch = plain_correlation(torch.rand(2, 1, 6, 5), torch.rand(2, 1, 6, 5), 5)
    if tuple(batch.shape) != (2, 1, 6, 5):
        raise AssertionError(f"two maps of 6 x 5 pixels: expected shape (2, 1, 6, 5), found {tuple(batch.shape)}.")
    well_done("plain_correlation", len(cases) + 2)
