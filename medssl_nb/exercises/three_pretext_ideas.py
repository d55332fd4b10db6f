"""Exercises of lesson 12."""

import math
from collections.abc import Callable

from medssl_nb.exercises.compare import expect, expect_unchanged, well_done


def check_leaks(leaks: Callable) -> None:
    """`leaks(guess, image, hidden)` -> True if what is hidden changes the guess about it."""
    import torch

    image = torch.rand(6, 7, generator=torch.Generator().manual_seed(0))
    some = torch.zeros(6, 7, dtype=torch.bool)
    some[2:4, 3:6] = True
    constant = torch.full((6, 7), 0.5)

    def mean_of_visible(image, hidden):
        return torch.full_like(image, float(image[~hidden].mean()))

    def smoothed(image, hidden):  # the blur came before the mask: the seen neighbours hold the hidden values
        blurred = torch.nn.functional.avg_pool2d(image[None, None], 3, 1, 1)[0, 0]
        return mean_of_visible(blurred, hidden)

    def differences(image, hidden):
        return torch.where(hidden, image - image[hidden].mean(), image)

    cases = {
        "the mean of what is seen": (mean_of_visible, image, some, False),
        "a copy of the image": (lambda image, hidden: image.clone(), image, some, True),
        "the mean of the whole image": (lambda i, h: torch.full_like(i, float(i.mean())), image, some, True),
        "an image that is the same everywhere, copied": (lambda i, h: i.clone(), constant, some, True),
        "a blur before the mask": (smoothed, image, some, True),
        "only the differences among hidden pixels": (differences, image, some, True),
        "hidden values used where nothing is scored": (
            lambda i, h: torch.where(h, mean_of_visible(i, h), i.mean()),
            image,
            some,
            False,
        ),
        "nothing hidden": (lambda image, hidden: image.clone(), image, torch.zeros_like(some), False),
    }
    for case, (guess, given, hidden, right) in cases.items():
        before = given.clone()
        found = leaks(guess, given, hidden)
        expect_unchanged(case, before, given)
        expect(case, found, float(right))
    well_done("leaks", len(cases))


def check_far_loss(far_loss: Callable) -> None:
    """`far_loss(z, w, place_mm, temperature, distance_mm)` -> InfoNCE whose negatives are far away."""
    import torch

    generator = torch.Generator().manual_seed(0)
    z, w = torch.nn.functional.normalize(torch.randn(2, 5, 4, generator=generator), dim=2)
    line = torch.tensor([[0.0, 0], [6, 0], [12, 0], [18, 0], [24, 0]])
    shuffled = line[[3, 0, 4, 1, 2]]
    cases = {
        "no distance asked, so all others are negatives": (line, 0.1, 0.0),
        "direct neighbours left out": (line, 0.1, 7.0),
        "a neighbour exactly at the distance stays a negative": (line, 0.1, 6.0),
        "places in another order": (shuffled, 0.1, 7.0),
        "a warmer temperature": (line, 0.5, 7.0),
        "all others too near, nothing left to confuse": (line, 0.1, 100.0),
    }
    for case, (place_mm, temperature, distance_mm) in cases.items():
        before = z.clone()
        right = _far_loss_pixel_by_pixel(z, w, place_mm, temperature, distance_mm)
        expect(case, far_loss(z, w, place_mm, temperature, distance_mm), right, tolerance=1e-4)
        expect_unchanged(case, before, z)
    well_done("far_loss", len(cases))


def check_clusters_in_use(clusters_in_use: Callable) -> None:
    """`clusters_in_use(p)` -> exp of the entropy of the mean assignment, from 1 to the number of clusters."""
    import torch

    one, half = torch.eye(3)[[0, 0, 0, 0]], torch.eye(3)[[0, 1, 0, 1]]
    third = torch.full((5, 3), 1 / 3)
    cases = {
        "every pixel in the same cluster": (one, 1.0),
        "two of three clusters, half of the pixels each": (half, 2.0),
        "every pixel undecided between three": (third, 3.0),
        "three pixels here, one there": (torch.eye(2)[[0, 0, 0, 1]], 4 / 3**0.75),
        "soft assignments": (torch.tensor([[0.9, 0.1], [0.6, 0.4]]), _in_use(0.75, 0.25)),
        "one cluster is all there is": (torch.ones(4, 1), 1.0),
    }
    for case, (p, right) in cases.items():
        expect(case, clusters_in_use(p), right, tolerance=1e-3)
    well_done("clusters_in_use", len(cases))


def _far_loss_pixel_by_pixel(z, w, place_mm, temperature: float, distance_mm: float) -> float:
    """The loss as a sentence: of its partner and all that is far enough, how surely is the partner found?"""
    total = 0.0
    for i in range(len(z)):
        score = [float(z[i] @ w[j]) / temperature for j in range(len(w))]
        apart = [float((place_mm[i] - place_mm[j]).norm()) for j in range(len(w))]
        rivals = [math.exp(score[j]) for j in range(len(w)) if j == i or apart[j] >= distance_mm]
        total += math.log(sum(rivals)) - score[i]
    return total / len(z)


def _in_use(*usage: float) -> float:
    return math.exp(-sum(share * math.log(share) for share in usage))
