"""Exercises of lesson 42."""

import math
from collections.abc import Callable

from medssl_nb.exercises.compare import expect, expect_unchanged, well_done


def check_largest_share(largest_share: Callable) -> None:
    """`largest_share(num_clusters, other_logit)` -> share of a sure cluster when all other logits are `other_logit`."""
    cases = [(4, 0.0), (2, 0.0), (16, 0.0), (8, -3.0), (8, 4.0), (40, -8.0)]
    for clusters, logit in cases:
        closed = 1 / (1 + math.exp(-logit))
        found = largest_share(clusters, logit)
        expect(f"{clusters} clusters, others at {logit:g}", found, 1 / (1 + (clusters - 1) * closed))
    well_done("largest_share", len(cases))


def check_renumber(renumber: Callable) -> None:
    """`renumber(assignments, images, order)` -> a copy where cluster k of the `images` is what `order[k]` was."""
    import torch

    generator = torch.Generator().manual_seed(0)
    volumes = torch.rand(4, 3, 2, 3, 2, generator=generator).softmax(dim=1)
    slices = torch.rand(3, 4, 2, 2, generator=generator).softmax(dim=1)
    cases = {
        "one of four images, two clusters swapped": (volumes, [2], [1, 0, 2]),
        "a ring in one image": (volumes, [0], [1, 2, 0]),
        "two images": (volumes, [1, 3], [2, 0, 1]),
        "all images": (volumes, [0, 1, 2, 3], [1, 2, 0]),
        "no image": (volumes, [], [1, 2, 0]),
        "slices": (slices, [1], [3, 1, 0, 2]),
    }
    for case, (assignments, images, order) in cases.items():
        given = assignments.clone()
        found = renumber(given, images, torch.tensor(order))
        expect_unchanged(case, assignments, given)
        expected = assignments.clone()
        for n in images:
            for k, old in enumerate(order):
                expected[n, k] = assignments[n, old]
        expect(case, found, expected)
    well_done("renumber", len(cases))


def check_even_bits(even_bits: Callable) -> None:
    """`even_bits(num_clusters, kind)` -> `assignment_entropy` of even shares, kind "binary" or "categorical"."""
    cases = [(clusters, kind) for clusters in (2, 4, 8, 16, 40) for kind in ("binary", "categorical")]
    for clusters, kind in cases:
        share = 1 / clusters
        expected = -share * math.log2(share)
        if kind == "binary":
            expected -= (1 - share) * math.log2(1 - share)
        expect(f"{clusters} clusters, {kind}", even_bits(clusters, kind), expected)
    well_done("even_bits", len(cases))


def check_right_angle_loss(right_angle_loss: Callable) -> None:
    """`right_angle_loss(num_clusters, temperature)` -> region loss of perfect agreement, prototypes at right angles."""
    cases = [(16, 0.2), (8, 0.2), (2, 0.2), (40, 0.2), (16, 0.1), (16, 1.0)]
    for clusters, temperature in cases:
        expected = math.log(1 + (clusters - 1) * math.exp(-1 / temperature))
        case = f"{clusters} clusters, temperature {temperature:g}"
        expect(case, right_angle_loss(clusters, temperature), expected)
    well_done("right_angle_loss", len(cases))
