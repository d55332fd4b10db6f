"""Exercises of lesson 53."""

import math
from collections.abc import Callable

import numpy as np

from medssl_nb.exercises.compare import expect, well_done


def check_hidden_share(hidden_share: Callable) -> None:
    """`hidden_share(size, patch_size, ratio, mode)` -> share of the voxels that a mask hides."""
    cases = {
        "columns, 32 x 48 x 32, cells of 16": ((32, 48, 32), 16, 0.75, "column", 5 / 6),
        "patches, 32 x 48 x 32, cells of 16": ((32, 48, 32), 16, 0.75, "patch", 3 / 4),
        "columns, the released code": ((64, 64, 64), 16, 0.75, "column", 3 / 4),
        "columns, a long crop": ((32, 32, 96), 16, 0.6, "column", 3 / 4),
        "patches, a long crop": ((32, 32, 96), 16, 0.7, "patch", 17 / 24),
        "patches in 2D": ((24, 24), 8, 0.5, "patch", 5 / 9),
        "nothing hidden": ((32, 32, 32), 8, 0.0, "column", 0),
        "everything hidden": ((32, 32, 32), 8, 1.0, "patch", 1),
    }
    for case, (*asked, expected) in cases.items():
        expect(case, hidden_share(*asked), expected)
    well_done("hidden_share", len(cases))


def check_half_life(half_life: Callable) -> None:
    """`half_life(momentum)` -> steps after which half of a moving average is still what it was."""
    cases = {"momentum 0.5": 0.5, "momentum 0.9": 0.9, "momentum 0.99": 0.99, "momentum 0.996": 0.996}
    for case, momentum in cases.items():
        expect(case, half_life(momentum), math.log(0.5) / math.log(momentum), tolerance=1e-3)
    well_done("half_life", len(cases))


def check_student_gradient(student_gradient: Callable) -> None:
    """`student_gradient(z_s, P, tau_s)` -> gradient of each row's cross-entropy, tensors (..., D)."""
    import torch

    def rows(*values):
        return torch.tensor(values, dtype=torch.float64)

    cases = {
        "one crop": (rows([0.20, 0.25, 0.05]), rows([0.0, 1.0, 0.0]), 0.1),
        "two crops, soft targets": (rows([0.2, 0.3, 0.1], [0.5, 0.0, -0.5]), rows([0.5, 0.5, 0], [0.2, 0.3, 0.5]), 0.1),
        "another temperature": (rows([0.9, -0.9]), rows([0.25, 0.75]), 0.5),
        "right already": (rows([0.0, 0.0, 0.0, 0.0]), rows([0.25, 0.25, 0.25, 0.25]), 0.1),
        "a batch of maps": (rows([0.1, 0.2]).expand(2, 3, 2), rows([0.9, 0.1]).expand(2, 3, 2), 0.2),
    }
    for case, (z_s, P, tau_s) in cases.items():
        logits = z_s.numpy() / tau_s
        share = np.exp(logits - logits.max(axis=-1, keepdims=True))
        share /= share.sum(axis=-1, keepdims=True)
        found = student_gradient(z_s.clone(), P.clone(), tau_s)
        expect(case, found, (share - P.numpy()) / tau_s, tolerance=1e-4)
    well_done("student_gradient", len(cases))


def check_lowest_entropy(lowest_entropy: Callable) -> None:
    """`lowest_entropy(num_outputs, temperature)` -> least entropy of a softmax of logits in [-1, 1]."""
    cases = {
        "two outputs": (2, 1.0),
        "64 outputs, temperature 1": (64, 1.0),
        "64 outputs, temperature 0.3": (64, 0.3),
        "64 outputs, temperature 0.1": (64, 0.1),
        "512 outputs, temperature 10": (512, 10.0),
        "64 outputs, temperature 0.001": (64, 0.001),
    }
    for case, (outputs, temperature) in cases.items():
        expected = min(_entropy(j, outputs, temperature) for j in range(1, outputs + 1))
        expect(case, lowest_entropy(outputs, temperature), expected, tolerance=1e-4)
    well_done("lowest_entropy", len(cases))


def check_learning_rate(learning_rate: Callable) -> None:
    """`learning_rate(epoch, peak, final, epochs, warmup)` -> linear warm-up, then a cosine; rates in units of 1e-4."""
    cases = {
        "the first epoch": (0, 2.0, 0.1, 100, 10),
        "half way up": (4, 2.0, 0.1, 100, 9),
        "the last epoch of the warm-up": (9, 2.0, 0.1, 100, 10),
        "the first epoch of the cosine": (10, 2.0, 0.1, 100, 10),
        "half way down": (55, 2.0, 0.1, 100, 10),
        "the last epoch": (99, 2.0, 0.1, 100, 10),
        "the readme's command, last epoch": (999, 0.125, 1.0, 1000, 50),
    }
    for case, (epoch, peak, final, epochs, warmup) in cases.items():
        falling = final + (peak - final) * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup))) / 2
        expected = peak * epoch / (warmup - 1) if epoch < warmup else falling
        expect(case, learning_rate(epoch, peak, final, epochs, warmup), expected, tolerance=1e-6)
    well_done("learning_rate", len(cases))


def _entropy(winners: int, outputs: int, temperature: float) -> float:
    """Entropy of a softmax of so many logits at 1, the others at -1."""
    small = math.exp(-2 / temperature)  # of a loser, where a winner has 1
    total = winners + (outputs - winners) * small
    return math.log(total) + (outputs - winners) * small / total * 2 / temperature
