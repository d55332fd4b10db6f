"""The checks of lesson 12 pass right answers, and name the fault of each typical wrong one."""

import pytest
import torch
import torch.nn.functional as F

from medssl_nb import exercises


def leaks(guess, image, hidden):
    other = torch.where(hidden, torch.rand(image.shape, generator=torch.Generator().manual_seed(1)), image)
    return not torch.allclose(guess(image, hidden)[hidden], guess(other, hidden)[hidden])


def leaks_told_by_one_grey(guess, image, hidden):
    other = image.masked_fill(hidden, 0.5)
    return not torch.allclose(guess(image, hidden)[hidden], guess(other, hidden)[hidden])


def leaks_told_by_a_shift(guess, image, hidden):
    other = torch.where(hidden, image + 1, image)
    return not torch.allclose(guess(image, hidden)[hidden], guess(other, hidden)[hidden])


def leaks_told_by_noise_everywhere(guess, image, hidden):
    other = image + torch.rand(image.shape)
    return not torch.allclose(guess(image, hidden)[hidden], guess(other, hidden)[hidden])


def leaks_looked_for_everywhere(guess, image, hidden):
    other = torch.where(hidden, torch.rand(image.shape), image)
    return not torch.allclose(guess(image, hidden), guess(other, hidden))


def leaks_in_place(guess, image, hidden):
    before = guess(image, hidden)[hidden]
    image[hidden] = torch.rand(int(hidden.sum()))
    return not torch.allclose(before, guess(image, hidden)[hidden])


def far_loss(z, w, place_mm, temperature, distance_mm):
    s = z @ w.T / temperature
    near = torch.cdist(place_mm, place_mm) < distance_mm
    near.fill_diagonal_(False)
    return F.cross_entropy(s.masked_fill(near, -torch.inf), torch.arange(len(z)))


def far_loss_without_partner(z, w, place_mm, temperature, distance_mm):
    s = z @ w.T / temperature
    return F.cross_entropy(s.masked_fill(torch.cdist(place_mm, place_mm) < distance_mm, -1e9), torch.arange(len(z)))


def far_loss_with_zeros(z, w, place_mm, temperature, distance_mm):
    s = z @ w.T / temperature
    near = torch.cdist(place_mm, place_mm) < distance_mm
    near.fill_diagonal_(False)
    return F.cross_entropy(s.masked_fill(near, 0.0), torch.arange(len(z)))


def far_loss_up_to_the_distance(z, w, place_mm, temperature, distance_mm):
    s = z @ w.T / temperature
    near = torch.cdist(place_mm, place_mm) <= distance_mm
    near.fill_diagonal_(False)
    return F.cross_entropy(s.masked_fill(near, -torch.inf), torch.arange(len(z)))


def clusters_in_use(p):
    usage = p.mean(0)
    return torch.special.entr(usage).sum().exp()


def clusters_with_any_pixel(p):
    return int((p.mean(0) > 0).sum())


def clusters_pixel_by_pixel(p):
    return torch.special.entr(p).sum(1).mean().exp()


def clusters_without_care_for_zero(p):
    usage = p.mean(0)
    return torch.exp(-(usage * usage.log()).sum())


def info_nce_of_all(z, w, place_mm, temperature, distance_mm):
    return F.cross_entropy(z @ w.T / temperature, torch.arange(len(z)))


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (exercises.check_leaks, leaks),
        (exercises.check_far_loss, far_loss),
        (exercises.check_clusters_in_use, clusters_in_use),
    ],
)
def test_right_answers_pass_and_say_so(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.endswith("cases right.\n")


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (exercises.check_leaks, lambda *a: None, "the mean of what is seen: your function returned nothing"),
        (exercises.check_leaks, lambda *a: True, "the mean of what is seen: expected 0, found 1"),
        (exercises.check_leaks, lambda *a: False, "a copy of the image: expected 1, found 0"),
        (exercises.check_leaks, leaks_told_by_one_grey, "the same everywhere, copied"),
        (exercises.check_leaks, leaks_told_by_a_shift, "only the differences"),
        (exercises.check_leaks, leaks_told_by_noise_everywhere, "the mean of what is seen: expected 0"),
        (exercises.check_leaks, leaks_looked_for_everywhere, "where nothing is scored: expected 0"),
        (exercises.check_leaks, leaks_in_place, "changed its input"),
        (exercises.check_far_loss, lambda *a: None, "all others are negatives: your function returned nothing"),
        (exercises.check_far_loss, info_nce_of_all, "direct neighbours left out: expected"),
        (exercises.check_far_loss, far_loss_without_partner, "direct neighbours left out: expected"),
        (exercises.check_far_loss, far_loss_with_zeros, "direct neighbours left out: expected"),
        (exercises.check_far_loss, far_loss_up_to_the_distance, "exactly at the distance"),
        (
            exercises.check_far_loss,
            lambda z, w, mm, t, d: far_loss(z, w, torch.arange(5.0)[:, None] * 6, t, d),
            "another order",
        ),
        (exercises.check_far_loss, lambda z, w, mm, t, d: far_loss(z, w, mm, 0.1, d), "a warmer temperature"),
        (exercises.check_clusters_in_use, clusters_with_any_pixel, r"three pixels here, one there: .* found 2"),
        (exercises.check_clusters_in_use, clusters_pixel_by_pixel, "two of three clusters.*: expected 2, found 1"),
        (exercises.check_clusters_in_use, clusters_without_care_for_zero, "same cluster: expected 1, found nan"),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(check, answer, words):
    with pytest.raises(AssertionError, match=words):
        check(answer)
