"""The checks of lesson 53 pass right answers, and name the fault of each typical wrong one."""

import math

import pytest

from medssl_nb.exercises import student_and_teacher as exercises


def hidden_share(size, patch_size, ratio, mode, rounded=math.ceil):
    grid = [length // patch_size for length in size]
    cells = math.prod(grid[:-1] if mode == "column" else grid)
    return rounded(cells * ratio) / cells


def half_life(momentum):
    return math.log(0.5) / math.log(momentum)


def student_gradient(z_s, P, tau_s):
    return ((z_s / tau_s).softmax(dim=-1) - P) / tau_s


def entropy_of(j, outputs, temperature):
    shares = [math.exp(0.0)] * j + [math.exp(-2 / temperature)] * (outputs - j)
    shares = [share / sum(shares) for share in shares]
    return -sum(share * math.log(share) for share in shares if share > 0)


def lowest_entropy(outputs, temperature):
    return min(entropy_of(j, outputs, temperature) for j in range(1, outputs + 1))


def learning_rate(epoch, peak, final, epochs, warmup, both_ends=1):
    if epoch < warmup:
        return peak * epoch / (warmup - both_ends)
    return final + 0.5 * (peak - final) * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (exercises.check_hidden_share, hidden_share),
        (exercises.check_half_life, half_life),
        (exercises.check_student_gradient, student_gradient),
        (exercises.check_lowest_entropy, lowest_entropy),
        (exercises.check_learning_rate, learning_rate),
    ],
)
def test_right_answers_pass_and_say_so(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.endswith("cases right.\n")


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (exercises.check_hidden_share, lambda *a: None, "cells of 16: your function returned nothing"),
        (exercises.check_hidden_share, lambda s, p, r, m: r, "columns, 32 x 48 x 32.*: expected 0.833333, found 0.75"),
        (
            exercises.check_hidden_share,
            lambda s, p, r, m: hidden_share(s, p, r, m, rounded=math.floor),
            "columns, 32 x 48 x 32.*: expected 0.833333, found 0.666667",
        ),
        (
            exercises.check_hidden_share,
            lambda s, p, r, m: hidden_share(s, p, r, "column"),
            "patches, 32 x 48 x 32.*: expected 0.75",
        ),
        (
            exercises.check_hidden_share,
            lambda s, p, r, m: hidden_share((*s[:2], s[0]), p, r, m),
            "patches, a long crop: expected 0.708333, found 0.75",
        ),
        (exercises.check_half_life, lambda m: -half_life(m), "momentum 0.5: expected 1, found -1"),
        (exercises.check_half_life, lambda m: 0.5 / (1 - m), "momentum 0.9: expected 6.57881"),
        (exercises.check_half_life, lambda m: 1 / (1 - m), "momentum 0.5: expected 1, found 2"),
        (exercises.check_student_gradient, lambda z, P, tau: None, "one crop: your function returned nothing"),
        (
            exercises.check_student_gradient,
            lambda z, P, tau: -student_gradient(z, P, tau),
            "one crop: expected",
        ),
        (
            exercises.check_student_gradient,
            lambda z, P, tau: student_gradient(z, P, tau) * tau,
            "one crop: expected",
        ),
        (
            exercises.check_student_gradient,
            lambda z, P, tau: ((z / tau).softmax(dim=0) - P) / tau,
            "one crop: expected",
        ),
        (
            exercises.check_lowest_entropy,
            lambda d, t: entropy_of(1, d, t),
            "64 outputs, temperature 1: expected 3.684.*found 4.04",
        ),
        (exercises.check_lowest_entropy, lambda d, t: 0.0, "two outputs: expected 0.36"),
        (exercises.check_lowest_entropy, lambda d, t: math.log(d), "two outputs: expected 0.36.*found 0.693"),
        (exercises.check_learning_rate, lambda *a: None, "the first epoch: your function returned nothing"),
        (
            exercises.check_learning_rate,
            lambda *a: learning_rate(*a, both_ends=0),
            "half way up: expected 1, found 0.8",
        ),
        (
            exercises.check_learning_rate,
            lambda e, p, f, n, w: learning_rate(e, p, 0, n, w),
            "half way down: expected 1.05, found 1",
        ),
        (
            exercises.check_learning_rate,
            lambda e, p, f, n, w: learning_rate(e, p, f, n - 1, w),
            "half way down: expected 1.05",
        ),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(check, answer, words):
    with pytest.raises(AssertionError, match=words):
        check(answer)


def test_one_winner_is_not_the_least_even_at_a_high_temperature():
    assert lowest_entropy(64, 1.0) < entropy_of(1, 64, 1.0) - 0.3
    assert lowest_entropy(64, 0.1) == pytest.approx(entropy_of(1, 64, 0.1))
