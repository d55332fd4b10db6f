"""The checks of lesson 34 pass right answers and name the case a wrong one fails in."""

import pytest
import torch

from medssl_nb import exercises
from medssl_nb.methods.boundary_infomax import axial_partition, match_clusters


def organs_right(clusters, label, num_clusters):
    return match_clusters(clusters, label, num_clusters=num_clusters, num_references=16)


def slab_right(start, size, slices, partitions):
    return axial_partition(start, slices - size + 1, partitions)


def writes(clusters, label, num_clusters):
    found = organs_right(clusters, label, num_clusters)
    label[:] = 0
    return found


def test_right_answers_pass(capsys):
    exercises.check_clusters_to_organs(organs_right)
    exercises.check_slab_of(slab_right)
    assert capsys.readouterr().out == "Exercise 1: all 5 cases right.\nExercise 2: all 7 cases right.\n"


@pytest.mark.parametrize(
    ("check", "wrong", "message"),
    [
        ("check_clusters_to_organs", lambda *a: None, "returned nothing"),
        ("check_clusters_to_organs", lambda *a: organs_right(*a) + 1, "four clusters, .* expected 5"),
        ("check_clusters_to_organs", lambda c, y, k: organs_right(c, y, k)[: c.max() + 1], "more clusters .* shape"),
        ("check_clusters_to_organs", writes, "changed its input"),
        ("check_slab_of", lambda *a: ..., "expected numbers"),
        ("check_slab_of", lambda start, size, n, q: axial_partition(start, n, q), "first place of the second part"),
        ("check_slab_of", lambda start, size, n, q: start * q // (n - size + 1), "last place of the first part"),
    ],
)
def test_wrong_answers_are_told_where(check, wrong, message):
    with pytest.raises(AssertionError, match=message):
        getattr(exercises, check)(wrong)


def test_exercise_1_takes_maps_of_any_shape():
    assert organs_right(torch.zeros(2, 3, 4, dtype=torch.int64), torch.full((2, 3, 4), 6), 2).tolist() == [6, 0]
