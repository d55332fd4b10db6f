"""The checks of lesson 43 pass right answers, and name the fault of each typical wrong one."""

import math

import pytest
import torch

from medssl_nb.exercises import one_shot_landmarks as exercises


def window_of_three(sigma):
    side = math.exp(-((2 / 3) ** 2) / (2 * sigma**2))
    return [side / (1 + 2 * side), 1 / (1 + 2 * side), side / (1 + 2 * side)]


def window_in_voxels(sigma):
    side = math.exp(-1 / (2 * sigma**2))
    return [side / (1 + 2 * side), 1 / (1 + 2 * side), side / (1 + 2 * side)]


def distance_mm(found, true, spacing):
    return math.sqrt(sum((s * (f - t)) ** 2 for f, t, s in zip(found, true, spacing, strict=True)))


def coarse_to_fine(maps, order=True, half=lambda window: window // 2):
    place = before = None
    for window in sorted(maps, reverse=order):
        similarity = maps[window].clone()
        if place is not None:
            x, y = (torch.arange(side) for side in similarity.shape)
            far = ((x - place[0]).abs() > half(before))[:, None] | ((y - place[1]).abs() > half(before))
            similarity[far] = -torch.inf
        place = tuple(int(i) for i in torch.unravel_index(similarity.argmax(), similarity.shape))
        before = window
    return place


def coarse_to_fine_in_place(maps):
    right = coarse_to_fine(maps)
    for similarity in maps.values():
        similarity -= 1
    return right


def coarse_to_fine_emptied(maps):
    return coarse_to_fine({window: maps.pop(window) for window in list(maps)})


def coarse_to_fine_with_zeros(maps):
    first, *others = sorted(maps, reverse=True)
    x, y = coarse_to_fine({first: maps[first]})
    for window in others:
        box = torch.zeros_like(maps[window])
        near = slice(max(x - first // 2, 0), x + first // 2 + 1), slice(max(y - first // 2, 0), y + first // 2 + 1)
        box[near] = maps[window][near]
        x, y = coarse_to_fine({window: box})
        first = window
    return x, y


def success_curve(errors, radii):
    return [sum(e <= radius for e in errors) / len(errors) for radius in radii]


def found_only(errors, radii):
    return success_curve([e for e in errors if e == e], radii)


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (exercises.check_window_of_three, window_of_three),
        (exercises.check_window_of_three, lambda sigma: torch.tensor(window_of_three(sigma))),
        (exercises.check_distance_mm, distance_mm),
        (exercises.check_coarse_to_fine, coarse_to_fine),
        (exercises.check_coarse_to_fine, lambda maps: torch.tensor(coarse_to_fine(maps))),
        (exercises.check_success_curve, success_curve),
    ],
)
def test_right_answers_pass_and_say_so(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.endswith("cases right.\n")


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (exercises.check_window_of_three, lambda sigma: None, "returned nothing"),
        (exercises.check_window_of_three, window_in_voxels, "sigma 0.5: expected"),
        (exercises.check_window_of_three, lambda s: [w / window_of_three(s)[1] for w in window_of_three(s)], "found 1"),
        (exercises.check_window_of_three, lambda s: window_of_three(0.5), "a wide bell"),
        (
            exercises.check_distance_mm,
            lambda f, t, s: distance_mm(f, t, (1, 1, 1)),
            "one slice off: expected 5, found 1",
        ),
        (exercises.check_distance_mm, lambda f, t, s: distance_mm(f, t, s) ** 2, "one slice off: expected 5, found 25"),
        (exercises.check_distance_mm, lambda f, t, s: distance_mm(f, t, (sum(s) / 3,) * 3), "one slice off"),
        (
            exercises.check_distance_mm,
            lambda f, t, s: sum(b * abs(x - y) for x, y, b in zip(f, t, s, strict=True)),
            "off along two axes: expected 5, found 7",
        ),
        (exercises.check_distance_mm, lambda f, t, s: distance_mm(f, [round(x) for x in t], s), "between voxels"),
        (exercises.check_coarse_to_fine, lambda maps: coarse_to_fine(maps, order=False), "misled: expected"),
        (
            exercises.check_coarse_to_fine,
            lambda maps: coarse_to_fine({min(maps): maps[min(maps)]}),
            "misled: expected 11 at",
        ),
        (exercises.check_coarse_to_fine, lambda maps: coarse_to_fine({max(maps): maps[max(maps)]}), "misled"),
        (exercises.check_coarse_to_fine, lambda maps: coarse_to_fine(maps, half=lambda w: w), "just beyond it"),
        (exercises.check_coarse_to_fine, lambda maps: coarse_to_fine(maps, half=lambda w: w // 2 - 1), "just within"),
        (exercises.check_coarse_to_fine, coarse_to_fine_with_zeros, "nothing but negative values"),
        (exercises.check_coarse_to_fine, coarse_to_fine_in_place, "changed its input"),
        (exercises.check_coarse_to_fine, coarse_to_fine_emptied, "changed its input: window 5 is gone"),
        (exercises.check_success_curve, lambda e, r: success_curve(e, r)[0], "expected shape"),
        (
            exercises.check_success_curve,
            lambda errors, radii: [sum(e < radius for e in errors) / len(errors) for radius in radii],
            "four landmarks: expected 0.75",
        ),
        (exercises.check_success_curve, lambda e, r: sorted(success_curve(e, r)), "from large to small"),
        (exercises.check_success_curve, found_only, "not found: expected"),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(check, answer, words):
    with pytest.raises(AssertionError, match=words):
        check(answer)
