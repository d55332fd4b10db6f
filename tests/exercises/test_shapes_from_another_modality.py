"""The checks of lesson 44 pass right answers, and name the fault of each typical wrong one."""

import math

import pytest
import torch

from medssl_nb.exercises import shapes_from_another_modality as exercises


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def discriminator_loss(real, fake):
    return (sum(softplus(-x) for x in real) + sum(softplus(x) for x in fake)) / (len(real) + len(fake))


def two_means(real, fake):
    return (sum(softplus(-x) for x in real) / len(real) + sum(softplus(x) for x in fake) / len(fake)) / 2


def overflowing(real, fake):
    sigmoids = [1 / (1 + math.exp(-x)) for x in real] + [1 - 1 / (1 + math.exp(-x)) for x in fake]
    return -sum(math.log(s) for s in sigmoids) / len(sigmoids)


def sorted_first(real, fake):
    real.sort()
    return discriminator_loss(real, fake)


def last_side(side, halvings):
    for _ in range(halvings):
        side //= 2
    return max(side - 4, 0)


def confidence(label):
    return 1 - (torch.special.entr(label) + torch.special.entr(1 - label)) / math.log(2)


def in_nats(label):
    return 1 - torch.special.entr(label) - torch.special.entr(1 - label)


def without_zero(label):
    return 1 + label * label.log2() + (1 - label) * (1 - label).log2()


def clamped_in_place(label):
    return confidence(label.clamp_(1e-9, 1))


def bend(d, x, y):
    return (d((x + y) / 2) - (d(x) + d(y)) / 2).abs().max()


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (exercises.check_discriminator_loss, discriminator_loss),
        (exercises.check_last_side, last_side),
        (exercises.check_last_side, lambda side, halvings: max(side // 2**halvings - 4, 0)),
        (exercises.check_confidence, confidence),
        (exercises.check_bend, bend),
    ],
)
def test_right_answers_pass_and_say_so(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.endswith("cases right.\n")


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (exercises.check_discriminator_loss, lambda real, fake: None, "your function returned nothing"),
        (exercises.check_discriminator_loss, two_means, "three real, one fake: expected"),
        (exercises.check_discriminator_loss, lambda r, f: discriminator_loss(f, r), "two real, two fake: expected"),
        (exercises.check_discriminator_loss, sorted_first, "changed its input"),
        (exercises.check_last_side, lambda side, halvings: side // 2**halvings - 4, "three halvings: expected 0"),
        (exercises.check_last_side, lambda side, halvings: max(side // 2**halvings, 0), "expected 2, found 6"),
        (exercises.check_last_side, lambda side, halvings: max(side / 2**halvings - 4, 0), "one voxel less: expected"),
        (exercises.check_confidence, in_nats, "a coin: expected 0"),
        (exercises.check_confidence, without_zero, "certain: expected 1.*found nan"),
        (exercises.check_confidence, lambda y: 1 - confidence(y), "certain: expected 1"),
        (exercises.check_confidence, clamped_in_place, "changed its input"),
        (exercises.check_bend, lambda d, x, y: d((x + y) / 2) - (d(x) + d(y)) / 2, r"expected shape \(\)"),
        (
            exercises.check_bend,
            lambda d, x, y: (d((x + y) / 2) - (d(x) + d(y)) / 2).max(),
            "largest value: expected 3.5",
        ),
        (exercises.check_bend, lambda d, x, y: (d(x + y) - d(x) - d(y)).abs().max(), "expected 0 at|expected 0, found"),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(check, answer, words):
    with pytest.raises(AssertionError, match=words):
        check(answer)


def test_a_loss_that_overflows_does_not_pass():
    with pytest.raises((OverflowError, ValueError)):
        exercises.check_discriminator_loss(overflowing)
