"""A check passes the right answer, and names the fault of each typical wrong one."""

import numpy as np
import pytest
import torch

from medssl_nb import exercises


def hide_box(volume, start, size, fill):
    hidden = volume.clone()
    hidden[tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))] = fill
    return hidden


def hide_in_place(volume, start, size, fill):
    volume[tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))] = fill
    return volume


def hide_one_too_many(volume, start, size, fill):
    hidden = volume.clone()
    hidden[tuple(slice(s, s + n + 1) for s, n in zip(start, size, strict=True))] = fill
    return hidden


def hidden_error(guess, truth, hidden):
    return (guess - truth)[hidden].abs().mean() if hidden.any() else torch.tensor(0.0)


def organ_ml(label, number, affine):
    return float((label == number).sum()) * abs(np.linalg.det(np.asarray(affine)[:3, :3])) / 1000


def organ_ml_from_the_diagonal(label, number, affine):
    return float((label == number).sum()) * np.prod(np.diag(affine)[:3]) / 1000


def window(hu, low, high):
    return ((hu.float() - low) / (high - low)).clamp(0, 1)


def come_back(matrix, points):
    return (points - matrix[:3, 3]) @ np.linalg.inv(matrix[:3, :3]).T


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (exercises.check_hide_box, hide_box),
        (exercises.check_hidden_error, hidden_error),
        (exercises.check_organ_ml, organ_ml),
        (exercises.check_window, window),
        (exercises.check_come_back, come_back),
    ],
)
def test_right_answers_pass_and_say_so(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.endswith("cases right.\n")


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (exercises.check_hide_box, lambda *a: None, "one voxel: your function returned nothing"),
        (exercises.check_hide_box, hide_in_place, "changed its input"),
        (exercises.check_hide_box, hide_one_too_many, r"one voxel: expected .* found 9"),
        (exercises.check_hide_box, lambda v, *a: v[0].clone(), r"expected shape \(4, 5, 6\), found \(5, 6\)"),
        (exercises.check_hide_box, lambda *a: "done", "expected numbers, found a str"),
        (exercises.check_hidden_error, lambda g, t, h: (g - t).abs().mean(), "one voxel hidden: expected"),
        (
            exercises.check_hidden_error,
            lambda g, t, h: (g - t)[h].abs().mean(),
            "nothing hidden: .* found nan",
        ),
        (
            exercises.check_organ_ml,
            lambda n, k, a: float((n == k).sum()) / 1000,
            "expected 12, found 0.5",
        ),
        (exercises.check_organ_ml, organ_ml_from_the_diagonal, "axes turned"),
        (
            exercises.check_window,
            lambda hu, a, b: (hu.float() - a) / (b - a),
            r"soft tissue: expected 1 at \(4,\), found 7.9",
        ),
        (exercises.check_come_back, lambda m, p: p - m[:3, 3], "a quarter turn"),
        (exercises.check_come_back, lambda m, p: p @ np.linalg.inv(m[:3, :3]).T - m[:3, 3], "first a turn"),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(check, answer, words):
    with pytest.raises(AssertionError, match=words):
        check(answer)
