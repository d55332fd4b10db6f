"""The checks of lesson 52 pass right answers, and name the fault of each typical wrong one."""

import math

import pytest
import torch

from medssl_nb.exercises import same_place_in_two_patients as exercises


def cell_of(p, scale, cells):
    return min(math.floor(p * scale / 2), cells - 1)


def voxel_of(m, scale, size):
    return min(math.floor((2 * m + 0.5) / scale), size - 1)


def share_home(points, returned, spacing, radius):
    way = (torch.tensor(points) - torch.tensor(returned)) * torch.tensor(spacing)
    return (way.norm(dim=1) <= radius).float().mean()


def calibrated_threshold(scores, errors, radius, wanted):
    scores, near = torch.tensor(scores, dtype=torch.float64), torch.tensor(errors) <= radius
    good = [float(t) for t in scores if near[scores >= t].double().mean() >= wanted - 1e-9]
    return min(good, default=math.inf)


def first_failure(scores, errors, radius, wanted):
    """Walks down from the best score and stops at the first threshold that fails."""
    t = math.inf
    for s, _ in sorted(zip(scores, errors, strict=True), reverse=True):
        kept = [e <= radius for other, e in zip(scores, errors, strict=True) if other >= s]
        if sum(kept) < wanted * len(kept):
            break
        t = s
    return t


def padded_crop(image, center, size):
    h, w = size
    padded = torch.nn.functional.pad(image, (w, w, h, h))
    top, left = center[0] + h - h // 2, center[1] + w - w // 2
    return padded[top : top + h, left : left + w]


def shifted_into(image, center, size):
    """Moves the window into the image instead of padding."""
    start = [max(0, min(c - n // 2, side - n)) for c, n, side in zip(center, size, image.shape, strict=True)]
    return image[start[0] : start[0] + size[0], start[1] : start[1] + size[1]]


def cut_short(image, center, size):
    top, left = (max(0, c - n // 2) for c, n in zip(center, size, strict=True))
    return image[top : center[0] - size[0] // 2 + size[0], left : center[1] - size[1] // 2 + size[1]]


def in_place(image, center, size):
    found = padded_crop(image, center, size).clone()
    image.zero_()
    return found


def test_right_answers_pass_and_say_so(capsys):
    exercises.check_bookkeeping(cell_of, voxel_of)
    exercises.check_share_home(share_home)
    exercises.check_calibrated_threshold(calibrated_threshold)
    exercises.check_padded_crop(padded_crop)
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["right."] * 4


@pytest.mark.parametrize(
    ("cells", "voxels", "words"),
    [
        (lambda p, s, n: None, voxel_of, "cell_of, voxel 0: your function returned nothing"),
        (lambda p, s, n: p * s / 2, voxel_of, "cell_of, an odd voxel: expected 3, found 3.5"),
        (lambda p, s, n: round(p * s / 2), voxel_of, "cell_of, an odd voxel: expected 3, found 4"),
        (lambda p, s, n: p // 2, voxel_of, "cell_of, the image is finer.*: expected 4, found 10"),
        (lambda p, s, n: math.floor(p * s / 2), voxel_of, "cut to fit: expected 23, found 25"),
        (cell_of, lambda m, s, n: min(2 * m, n - 1), "voxel_of, the image is finer.*: expected 26, found 10"),
        (cell_of, lambda m, s, n: math.floor((2 * m + 0.5) / s), "beyond the last voxel: expected 4, found 5"),
        (cell_of, lambda m, s, n: min(math.floor(2 * m / s), n - 1), "finer.*: expected 26, found 25"),
    ],
)
def test_wrong_bookkeeping_is_told_what_is_wrong(cells, voxels, words):
    with pytest.raises(AssertionError, match=words):
        exercises.check_bookkeeping(cells, voxels)


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (exercises.check_share_home, lambda *a: None, "returned nothing"),
        (exercises.check_share_home, lambda p, r, s, t: share_home(p, r, (1.0, 1, 1), t), "thick.*: expected 0.5"),
        (exercises.check_share_home, lambda p, r, s, t: share_home(p, r, s, t - 1e-6), "exactly the radius"),
        (
            exercises.check_share_home,
            lambda p, r, s, t: (
                (((torch.tensor(p) - torch.tensor(r)) * torch.tensor(s)).abs() <= t).all(1).float().mean()
            ),
            "two axes at once: expected 0, found 1",
        ),
        (exercises.check_share_home, lambda p, r, s, t: len(p) * share_home(p, r, s, t), "expected 0.75, found 3"),
        (
            exercises.check_calibrated_threshold,
            lambda *a: None,
            "every threshold.*returned nothing",
        ),
        (exercises.check_calibrated_threshold, lambda *a: 0.7, "all must be near: expected 0.9"),
        (exercises.check_calibrated_threshold, first_failure, "end reaches: expected 0.7, found 0.85"),
        (
            exercises.check_calibrated_threshold,
            lambda s, e, r, w: calibrated_threshold(s, [x + 1e-9 for x in e], r - 1e-6, w),
            "exactly the radius",
        ),
        (
            exercises.check_calibrated_threshold,
            lambda s, e, r, w: 0.0 if math.isinf(t := calibrated_threshold(s, e, r, w)) else t,
            "no threshold will do: expected infinity.*found 0",
        ),
        (exercises.check_padded_crop, lambda i, c, n: None, "inside: your function returned nothing"),
        (exercises.check_padded_crop, shifted_into, "upper left corner: expected 0 at"),
        (exercises.check_padded_crop, cut_short, r"upper left corner: expected shape \(4, 4\), found \(2, 3\)"),
        (exercises.check_padded_crop, lambda i, c, n: padded_crop(i, [x + 1 for x in c], n), "inside: expected"),
        (exercises.check_padded_crop, in_place, "inside: your function changed its input"),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(check, answer, words):
    with pytest.raises(AssertionError, match=words):
        check(answer)
