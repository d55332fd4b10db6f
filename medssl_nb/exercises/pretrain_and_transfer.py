"""Exercises of lesson 34."""

from collections.abc import Callable

import torch

from medssl_nb.exercises.compare import expect, expect_unchanged, well_done


def check_clusters_to_organs(clusters_to_organs: Callable) -> None:
    """`clusters_to_organs(clusters, label, num_clusters)` -> most frequent organ of each cluster, 0 if unused."""
    clusters = torch.tensor([[0, 0, 0, 1], [1, 1, 3, 3]])
    label = torch.tensor([[5, 5, 2, 2], [2, 0, 7, 0]])
    cases = {
        "four clusters, one of them unused, one tie": ((clusters, label, 4), [5, 2, 0, 0]),
        "background wins": ((torch.tensor([0, 0, 0]), torch.tensor([0, 0, 9]), 1), [0]),
        "a large label number": ((torch.tensor([1, 0]), torch.tensor([15, 3]), 2), [3, 15]),
        "a grid of three axes": ((clusters.view(2, 2, 2), label.view(2, 2, 2), 4), [5, 2, 0, 0]),
        "more clusters than are there": ((torch.tensor([2]), torch.tensor([4]), 5), [0, 0, 4, 0, 0]),
    }
    for case, ((assignment, truth, number), expected) in cases.items():
        before = assignment.clone(), truth.clone()
        expect(case, clusters_to_organs(assignment, truth, number), expected)
        expect_unchanged(case, torch.stack(before), torch.stack((assignment, truth)))
    well_done("Exercise 1", len(cases))


def check_slab_of(slab_of: Callable) -> None:
    """`slab_of(start, size, slices, partitions)` -> part of the scan in which a crop lies."""
    cases = {
        "a single slice": ((7, 1, 10, 2), 1),  # 10 places; a part has 10 // 2 + 1 = 6
        "first slab": ((0, 16, 48, 3), 0),  # 33 places; a part has 12
        "last place of the first part": ((11, 16, 48, 3), 0),
        "first place of the second part": ((12, 16, 48, 3), 1),
        "last slab": ((32, 16, 48, 3), 2),
        "a crop as tall as the scan": ((0, 48, 48, 3), 0),
        "one part": ((30, 8, 40, 1), 0),
    }
    for case, (arguments, expected) in cases.items():
        expect(case, slab_of(*arguments), expected)
    well_done("Exercise 2", len(cases))
