"""The checks of lesson 41 pass right answers, and name the fault of each typical wrong one."""

import math

import pytest
import torch

from medssl_nb.exercises import patches_on_a_sphere as exercises


def shares(degrees, temperature, own=False):
    x = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    s = torch.cos(x[:, None] - x) / temperature
    if not own:
        s.fill_diagonal_(-torch.inf)
    return s.softmax(dim=1)


def loss_of_angles(degrees, temperature, own=False, negatives=True, neighbours=False):
    P = shares(degrees, temperature, own)
    i = torch.arange(len(P))
    partner = i ^ 1 if neighbours else (i + len(P) // 2) % len(P)
    positive = P[i, partner].log()
    P[i, partner] = 0
    P[i, i] = 0
    return -(positive + negatives * torch.log(1 - P).sum(dim=1)).mean()


def naive(degrees, temperature):
    x = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    e = torch.exp(torch.cos(x[:, None] - x) / temperature).fill_diagonal_(0)
    P = e / e.sum(1, keepdim=True)
    i = torch.arange(len(P))
    partner = (i + len(P) // 2) % len(P)
    positive = P[i, partner].log()
    P[i, partner] = 0
    return -(positive + torch.log(1 - P).sum(dim=1)).mean()


def wrong_order_works(transform):
    plane = {axis % 3 for axis in transform.rot90_axes}
    return transform.rot90_k % 2 == 0 or len(plane & set(transform.flip_axes)) != 1


def target_angle(angle, weight):
    theta = math.radians(angle)
    return math.degrees(math.atan2((1 - weight) * math.sin(theta), weight + (1 - weight) * math.cos(theta)))


def collapse(rows):
    return math.log(rows - 1) + (rows - 2) * math.log((rows - 1) / (rows - 2))


def collapse_lines(pairs, grid):
    patches = 2 * pairs * math.prod(grid)
    return collapse(2 * patches), collapse(patches)


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (exercises.check_loss_of_angles, loss_of_angles),
        (exercises.check_wrong_order_works, wrong_order_works),
        (exercises.check_target_angle, target_angle),
        (exercises.check_collapse_lines, collapse_lines),
    ],
)
def test_right_answers_pass_and_say_so(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.endswith("cases right.\n")


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (
            exercises.check_loss_of_angles,
            lambda d, t: None,
            "of the lesson: your function returned nothing",
        ),
        (exercises.check_loss_of_angles, lambda d, t: loss_of_angles(d, t, own=True), "lesson: expected 0.734413"),
        (exercises.check_loss_of_angles, lambda d, t: loss_of_angles(d, t, negatives=False), "lesson: expected 0.73"),
        (exercises.check_loss_of_angles, lambda d, t: loss_of_angles(d, t, neighbours=True), "lesson: expected 0.73"),
        (exercises.check_loss_of_angles, lambda d, t: loss_of_angles(d, 0.5), "a low temperature: expected 0.0131"),
        (exercises.check_loss_of_angles, naive, "matched, temperature 0.001: expected 0, found nan"),
        (exercises.check_wrong_order_works, lambda t: None, "returned nothing"),
        (
            exercises.check_wrong_order_works,
            lambda t: True,
            r"\(0,\), rot90_k=1.*: expected False, found True",
        ),
        (exercises.check_wrong_order_works, lambda t: t.rot90_k % 2 == 0, r"flip_axes=\(\).*: expected True"),
        (
            exercises.check_wrong_order_works,
            lambda t: t.rot90_k % 2 == 0 or len(t.flip_axes) != 1,
            r"flip_axes=\(2,\).*: expected True",
        ),
        (
            exercises.check_wrong_order_works,
            lambda t: t.rot90_k % 2 == 0 or len(set(t.rot90_axes) & set(t.flip_axes)) != 1,
            r"rot90_axes=\(-2, -1\).*: expected",
        ),
        (exercises.check_target_angle, lambda a, w: None, "returned nothing"),
        (exercises.check_target_angle, lambda a, w: (1 - w) * a, "90 degrees.*: expected 71.5651, found 67.5"),
        (exercises.check_target_angle, lambda a, w: math.radians(target_angle(a, w)), "expected 71.5651, found 1.249"),
        (exercises.check_target_angle, lambda a, w: a - target_angle(a, w), "expected 71.5651, found 18.43"),
        (
            exercises.check_target_angle,
            lambda a, w: math.degrees(math.atan(math.tan(math.radians(target_angle(a, w))))),
            "170 degrees.*: expected 165.075",
        ),
        (exercises.check_collapse_lines, lambda p, g: collapse(4 * p * math.prod(g)), "return two numbers"),
        (exercises.check_collapse_lines, lambda p, g: (collapse(4 * p * math.prod(g)),) * 2, "mixup: expected 5.84"),
        (exercises.check_collapse_lines, lambda p, g: collapse_lines(1, g), "four pairs, 8 x 8, patch: expected 7.93"),
        (exercises.check_collapse_lines, lambda p, g: collapse_lines(p, g[:1] * 3), "8 x 8, patch: expected 7.93"),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(check, answer, words):
    with pytest.raises(AssertionError, match=words):
        check(answer)
