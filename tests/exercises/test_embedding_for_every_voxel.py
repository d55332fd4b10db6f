"""The checks of lesson 51 pass right answers, and name the fault of each typical wrong one."""

import math

import pytest
import torch

from medssl_nb.exercises import embedding_for_every_voxel as exercises


def contrast(positive, negatives, temperature):
    highest = max([positive, *negatives])
    total = sum(math.exp((s - highest) / temperature) for s in (positive, *negatives))
    return math.log(total) - (positive - highest) / temperature


def naive(positive, negatives, temperature):
    total = sum(math.exp(min(s / temperature, 700)) for s in (positive, *negatives))
    return math.log(total) - positive / temperature


def view_coordinates(start, length, size, spacing):
    return [spacing * (start + (k + 0.5) * length / size - 0.5) for k in range(size)]


def roles(i, own, other, positive_radius, ignore_radius, strict=True, both=True):
    nearest = min(range(len(other)), key=lambda k: math.dist(own[i], other[k]))
    d = math.dist(own[i], other[nearest])
    kept = d < positive_radius if strict else d <= positive_radius
    everything = [*own, *other] if both else list(other)
    return nearest if kept else None, [j for j, x in enumerate(everything) if math.dist(own[i], x) >= ignore_radius]


def coarse_pairs(a, b, positive_radius, axial_radius, axis=2, signed=False):
    distance, nearest = torch.cdist(a, b).min(dim=1)
    along = (b[nearest] - a)[:, axis]
    return (distance < positive_radius) & ((along if signed else along.abs()) < axial_radius)


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (exercises.check_contrast, contrast),
        (exercises.check_view_coordinates, view_coordinates),
        (exercises.check_roles, roles),
        (exercises.check_coarse_pairs, coarse_pairs),
    ],
)
def test_right_answers_pass_and_say_so(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.endswith("cases right.\n")


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (exercises.check_contrast, lambda p, n, t: None, "of the lesson: your function returned nothing"),
        (exercises.check_contrast, lambda p, n, t: contrast(p, n, 0.5), "temperature 0.1: expected 0.0122"),
        (exercises.check_contrast, lambda p, n, t: -contrast(p, n, t), "of the lesson: expected 0.38"),
        (
            exercises.check_contrast,
            lambda p, n, t: contrast(p, [max(s, 0.0) for s in n], t),
            "lesson: expected 0.38",
        ),
        (
            exercises.check_contrast,
            lambda p, n, t: contrast(p, [0.0 if math.isinf(s) else s for s in n], t),
            "one negative excluded: expected",
        ),
        (exercises.check_contrast, naive, "temperature 0.001: expected 400"),
        (
            exercises.check_view_coordinates,
            lambda o, n, c, s: [s * (o + k * n / c) for k in range(c)],
            r"of the lesson: expected 7.5 at \(0,\), found 6",
        ),
        (
            exercises.check_view_coordinates,
            lambda o, n, c, s: [o + x for x in view_coordinates(0, n, c, s)],
            "of the lesson: expected 7.5",
        ),
        (
            exercises.check_view_coordinates,
            lambda o, n, c, s: view_coordinates(o, c, c, s),
            "of the lesson: expected",
        ),
        (exercises.check_view_coordinates, lambda o, n, c, s: [1.0], r"expected shape \(4,\), found \(1,\)"),
        (exercises.check_roles, lambda *a: None, "second voxel: return two things"),
        (exercises.check_roles, lambda *a: (1, []), r"second voxel: expected the negatives \[3, 7\], found \[\]"),
        (exercises.check_roles, lambda *a: roles(*a, strict=False), "at the positive radius: expected the positive No"),
        (exercises.check_roles, lambda *a: roles(*a, both=False), r"second voxel: expected the negatives \[3, 7\]"),
        (
            exercises.check_roles,
            lambda i, a, b, p, r: (roles(i, a, b, 1e9, r)[0], roles(i, a, b, p, r)[1]),
            "too far: expected the positive None, found 1",
        ),
        (
            exercises.check_roles,
            lambda i, a, b, p, r: (roles(i, a, b, p, r)[0], [j for j in roles(i, a, b, p, r)[1] if j != len(a)]),
            "no ring: expected the negatives",
        ),
        (exercises.check_coarse_pairs, lambda *a: None, "small shift: your function returned nothing"),
        (
            exercises.check_coarse_pairs,
            lambda a, b, p, z: coarse_pairs(a, b, p, math.inf),
            r"along the body: expected 0 at \(0,\), found 1",
        ),
        (
            exercises.check_coarse_pairs,
            lambda *a: coarse_pairs(*a, signed=True),
            "down, not up: expected 0",
        ),
        (exercises.check_coarse_pairs, lambda *a: coarse_pairs(*a, axis=0), "along the body: expected 0"),
        (
            exercises.check_coarse_pairs,
            lambda a, b, p, z: ((a - b).norm(dim=1) < p) & ((a - b)[:, 2].abs() < z),
            r"nearest is another: expected 1 at \(1,\), found 0",
        ),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(check, answer, words):
    with pytest.raises(AssertionError, match=words):
        check(answer)
