"""The checks of lesson 42 pass right answers, and name the fault of each typical wrong one."""

import math

import pytest
import torch

from medssl_nb.exercises import regions_and_prototypes as exercises
from medssl_nb.methods.local_discrimination import (
    assignment_entropy,
    cluster_assignments,
    region_discrimination_loss,
)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def largest_share(num_clusters, other_logit):
    return 1 / (1 + (num_clusters - 1) * sigmoid(other_logit))


def largest_share_by_library(num_clusters, other_logit):
    logits = torch.full((1, num_clusters, 1), other_logit)
    logits[0, 0] = 80.0
    return cluster_assignments(logits)[0, 0, 0]


def renumber(assignments, images, order):
    found = assignments.clone()
    for n in images:
        found[n] = assignments[n, order]
    return found


def renumber_in_place(assignments, images, order):
    for n in images:
        assignments[n] = assignments[n, order]
    return assignments


def renumber_back(assignments, images, order):
    return renumber(assignments, images, order.argsort())


def even_bits(num_clusters, kind):
    return assignment_entropy(torch.full((1, num_clusters, 1), 1 / num_clusters), kind=kind)


def right_angle_loss(num_clusters, temperature=0.2):
    return region_discrimination_loss(torch.eye(num_clusters)[None], temperature=temperature)


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (exercises.check_largest_share, largest_share),
        (exercises.check_largest_share, largest_share_by_library),
        (exercises.check_renumber, renumber),
        (exercises.check_even_bits, even_bits),
        (exercises.check_right_angle_loss, right_angle_loss),
    ],
)
def test_right_answers_pass_and_say_so(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.endswith("cases right.\n")


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (exercises.check_largest_share, lambda K, o: None, "4 clusters, others at 0: your function returned nothing"),
        (exercises.check_largest_share, lambda K, o: 1.0, r"others at 0: expected 0\.4, found 1"),
        (exercises.check_largest_share, lambda K, o: 1 / (1 + (K - 1) / 2), "8 clusters, others at -3: expected"),
        (exercises.check_largest_share, lambda K, o: 1 / (1 + K * sigmoid(o)), r"expected 0\.4, found 0\.333"),
        (exercises.check_renumber, lambda a, images, order: None, "swapped: your function returned nothing"),
        (exercises.check_renumber, renumber_in_place, "changed its input"),
        (exercises.check_renumber, renumber_back, "a ring in one image: expected"),
        (exercises.check_renumber, lambda a, images, order: a[:, order], "one of four images.*expected"),
        (exercises.check_even_bits, lambda K, kind: None, "2 clusters, binary: your function returned nothing"),
        (exercises.check_even_bits, lambda K, kind: 1.0, r"2 clusters, categorical: expected 0\.5, found 1"),
        (exercises.check_even_bits, lambda K, kind: K * even_bits(K, kind), r"expected 1, found 2"),
        (exercises.check_even_bits, lambda K, kind: even_bits(K, "binary"), r"categorical: expected 0\.5, found 1"),
        (exercises.check_right_angle_loss, lambda K, t: None, "16 clusters, temperature 0.2: your function returned"),
        (exercises.check_right_angle_loss, lambda K, t: math.log(K), r"expected 0\.09628.*found 2\.77"),
        (exercises.check_right_angle_loss, lambda K, t: right_angle_loss(K), "temperature 0.1: expected"),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(check, answer, words):
    with pytest.raises(AssertionError, match=words):
        check(answer)
