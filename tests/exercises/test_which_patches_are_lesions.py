"""The checks of lesson 22 pass right answers, and name the fault of each typical wrong one."""

import math

import pytest
import torch

from medssl_nb.exercises import which_patches_are_lesions as exercises


def nearest(f, mu):
    return (f[:, None] - mu).square().sum(-1).argmin(1)


def lloyd_step(f, mu):
    labels, new = nearest(f, mu), mu.clone()
    for k in labels.unique():
        new[k] = f[labels == k].mean(0)
    return labels, new


def lloyd_step_with_nan(f, mu):
    labels = nearest(f, mu)
    return labels, torch.stack([f[labels == k].mean(0) for k in range(len(mu))])


def lloyd_step_in_place(f, mu):
    labels = nearest(f, mu)
    for k in labels.unique():
        mu[k] = f[labels == k].mean(0)
    return labels, mu


def lloyd_step_without_squares(f, mu):
    labels, new = (f[:, None] - mu).sum(-1).argmin(1), mu.clone()
    for k in labels.unique():
        new[k] = f[labels == k].mean(0)
    return labels, new


def lloyd_step_last_of_a_tie(f, mu):
    labels, new = len(mu) - 1 - nearest(f, mu.flip(0)), mu.clone()
    for k in labels.unique():
        new[k] = f[labels == k].mean(0)
    return labels, new


def lloyd_step_to_the_end(f, mu):
    for _ in range(10):
        labels, mu = lloyd_step(f, mu)
    return labels, mu


def lift(called, truth):
    if not called.any() or not truth.any():
        return None
    return truth[called].float().mean() / truth.float().mean()


def budget(valid, lesion, ratio, lesion_share):
    hidden = min(max(math.floor(ratio * valid + 0.5), 1), valid - 1) if valid > 1 else 0
    return hidden, min(lesion, math.floor(lesion_share * hidden + 0.5))


def budget_rounded_to_even(valid, lesion, ratio, lesion_share):
    hidden = min(max(round(ratio * valid), 1), valid - 1) if valid > 1 else 0
    return hidden, min(lesion, round(lesion_share * hidden))


def budget_without_limits(valid, lesion, ratio, lesion_share):
    hidden = math.floor(ratio * valid + 0.5)
    return hidden, min(lesion, math.floor(lesion_share * hidden + 0.5))


def budget_without_a_last_visible_one(valid, lesion, ratio, lesion_share):
    hidden = max(math.floor(ratio * valid + 0.5), 1) if valid > 1 else 0
    return hidden, min(lesion, math.floor(lesion_share * hidden + 0.5))


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (exercises.check_lloyd_step, lloyd_step),
        (exercises.check_lift, lift),
        (exercises.check_budget, budget),
    ],
)
def test_right_answers_pass_and_say_so(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.endswith("cases right.\n")


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (exercises.check_lloyd_step, lambda f, mu: None, "six points on a line: return two things"),
        (exercises.check_lloyd_step, lloyd_step_with_nan, "an empty cluster, centroids: expected 100.*found nan"),
        (exercises.check_lloyd_step, lloyd_step_in_place, "changed its input"),
        (exercises.check_lloyd_step, lloyd_step_without_squares, "six points on a line, labels: expected"),
        (exercises.check_lloyd_step, lloyd_step_last_of_a_tie, "a tie goes to the first, labels: expected 0"),
        (exercises.check_lloyd_step, lloyd_step_to_the_end, "six points on a line, labels: expected 1"),
        (exercises.check_lloyd_step, lambda f, mu: (nearest(f, mu), mu.clone()), "a line, centroids: expected 6.4"),
        (exercises.check_lift, lambda c, t: None, "two of three.*returned nothing"),
        (exercises.check_lift, lambda c, t: t[c].float().mean(), "two of three.*expected 2.22222, found 0.6666"),
        (exercises.check_lift, lambda c, t: c[t].float().mean(), "two of three.*expected 2.22222, found 0.6666"),
        (exercises.check_lift, lambda c, t: t[c].float().mean() / t.float().mean(), "nothing called: .* expected None"),
        (exercises.check_lift, lambda c, t: t[c].sum() / c.sum().clamp(1) / t.float().mean(), "nothing called"),
        (exercises.check_budget, budget_rounded_to_even, "a half is rounded up.*expected 3"),
        (exercises.check_budget, budget_without_limits, "never fewer than one: expected 1"),
        (exercises.check_budget, budget_without_a_last_visible_one, "never all of them: expected 3"),
        (exercises.check_budget, lambda *a: (budget(*a)[0], a[1]), "half of seven.*expected 2"),
        (exercises.check_budget, lambda v, n, r, s: budget(v, 10**6, r, s), "lesions first.*expected 3"),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(check, answer, words):
    with pytest.raises(AssertionError, match=words):
        check(answer)
