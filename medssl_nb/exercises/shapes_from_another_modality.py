"""Exercises of lesson 44."""

import math
from collections.abc import Callable

from medssl_nb.exercises.compare import expect, expect_unchanged, well_done


def check_discriminator_loss(discriminator_loss: Callable) -> None:
    """`discriminator_loss(real, fake)` -> L_D of two lists of logits, one mean over all of them."""
    cases = {
        "two real, two fake": ([0.5, -0.2], [-1.0, 0.3]),
        "it cannot tell": ([0.0, 0.0], [0.0, 0.0]),
        "three real, one fake": ([1.0, 2.0, -0.5], [0.7]),
        "one real, four fake": ([0.2], [-2.0, -1.0, 0.0, 1.5]),
        "very sure, and right": ([800.0], [-800.0]),
        "very sure, and wrong": ([-800.0], [800.0]),
    }
    for case, (real, fake) in cases.items():
        given = list(real), list(fake)
        found = discriminator_loss(*given)
        errors = [_softplus(-logit) for logit in real] + [_softplus(logit) for logit in fake]
        expect(case, found, sum(errors) / len(errors))
        expect_unchanged(case, [*real, *fake], [*given[0], *given[1]])
    well_done("discriminator_loss", len(cases))


def check_last_side(last_side: Callable) -> None:
    """`last_side(side, halvings)` -> side of the discriminator's last feature map, 0 if the maps are too small."""
    cases = {
        "24 voxels, two halvings": ((24, 2), 2),
        "24 voxels, three halvings": ((24, 3), 0),
        "the smallest side for three halvings": ((40, 3), 1),
        "one voxel less": ((39, 3), 0),
        "an odd side": ((23, 2), 1),
        "odd on the way": ((45, 3), 1),
        "one halving": ((10, 1), 1),
        "the released network on 448 pixels": ((448, 5), 10),
        "the released network on 159 pixels": ((159, 5), 0),
    }
    for case, (arguments, expected) in cases.items():
        expect(case, last_side(*arguments), expected)
    well_done("last_side", len(cases))


def check_confidence(confidence: Callable) -> None:
    """`confidence(label)` -> 1 - H2(label) for soft labels from 0 to 1, any shape."""
    import torch

    generator = torch.Generator().manual_seed(0)
    cases = {
        "certain": torch.tensor([0.0, 1.0]),
        "a coin": torch.tensor([0.5]),
        "five voxels": torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]),
        "a volume": torch.rand(2, 3, 4, generator=generator),
        "nearly certain": torch.tensor([1e-6, 1 - 1e-6]),
    }
    for case, label in cases.items():
        given = label.clone()
        found = confidence(given)
        expect_unchanged(case, label, given)
        y = label.double()
        doubt = (torch.special.entr(y) + torch.special.entr(1 - y)) / math.log(2)
        expect(case, found, (1 - doubt).numpy())
    well_done("confidence", len(cases))


def check_bend(bend: Callable) -> None:
    """`bend(d, x, y)` -> largest |d((x + y) / 2) - (d(x) + d(y)) / 2|, 0 if d is straight from x to y."""
    import torch

    x, y = torch.tensor([[0.0, 2.0], [1.0, 1.0], [4.0, -3.0]]), torch.tensor([[4.0, 0.0], [1.0, 3.0], [-4.0, 3.0]])
    cases = {
        "the mean, plus a constant": (lambda m: m.mean(dim=1) + 3, 0.0),
        "the largest value": (lambda m: m.amax(dim=1), 3.5),
        "the square of the first": (lambda m: m[:, 0].square(), 16.0),
        "bent the other way": (lambda m: -m.amax(dim=1), 3.5),
        "a constant": (lambda m: torch.full((len(m),), 5.0), 0.0),
    }
    for case, (d, expected) in cases.items():
        given = x.clone(), y.clone()
        expect(case, bend(d, *given), expected)
        expect_unchanged(case, torch.stack((x, y)), torch.stack(given))
    well_done("bend", len(cases))


def _softplus(x: float) -> float:
    """log(1 + exp(x)) that does not overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
