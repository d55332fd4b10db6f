"""Exercises of lesson 32."""

import math
from collections.abc import Callable

from medssl_nb.exercises.compare import expect, expect_unchanged, well_done


def check_mirror_theta(mirror_theta: Callable) -> None:
    """`mirror_theta(axis, dims)` -> the map (dims, dims + 1) that mirrors `axis`, counted from the array's first."""
    import torch

    from medssl_nb.methods.boundary_infomax import apply_affine

    cases = {
        "a line": ((5,), 0),
        "rows of a picture": ((3, 4), 0),
        "columns of a picture": ((3, 4), 1),
        "left and right of a volume": ((4, 3, 2), 0),
        "front and back of a volume": ((4, 3, 2), 1),
        "top and bottom of a volume": ((4, 3, 2), 2),
    }
    for case, (shape, axis) in cases.items():
        theta = mirror_theta(axis, len(shape))
        if theta is None or tuple(getattr(theta, "shape", ())) != (len(shape), len(shape) + 1):
            expect(f"{case}, shape of theta", None if theta is None else theta, torch.zeros(len(shape), len(shape) + 1))
        x = torch.arange(1.0, 1 + math.prod(shape)).view(1, 1, *shape)
        moved = apply_affine(x, torch.as_tensor(theta, dtype=torch.float32)[None])
        for other in range(len(shape)):
            if other != axis and torch.equal(moved, x.flip(2 + other)):
                raise AssertionError(f"{case}: axis {other} was mirrored, axis {axis} was asked. Last axis first!")
        expect(case, moved, x.flip(2 + axis))
    well_done("mirror_theta", len(cases))


def check_same_share(same_share: Callable) -> None:
    """`same_share(of_moved, of_image, theta)` -> share of equal clusters among voxels from inside the frame."""
    import torch

    def line(*names):
        return torch.tensor(names).view(1, 1, -1)

    mirror, still = torch.tensor([[[-1.0, 0]]]), torch.tensor([[[1.0, 0]]])
    right = torch.tensor([[[1.0, 0.5]]])  # four voxels: each looks one to the right
    picture = torch.arange(12).view(1, 1, 3, 4) % 5
    flip_rows = torch.tensor([[[1.0, 0, 0], [0, -1, 0]]])
    two = torch.cat([line(0, 1, 2, 3), line(3, 2, 1, 0)])
    cases = {
        "nothing moves, three of four alike": (line(0, 1, 2, 2), line(0, 1, 2, 3), still, 0.75),
        "a mirror, all alike": (line(3, 2, 1, 0), line(0, 1, 2, 3), mirror, 1.0),
        "a mirror, names swapped": (line(0, 0, 1, 1), line(0, 0, 1, 1), mirror, 0.0),
        "a shift, and out of the frame does not count": (line(1, 2, 3, 3), line(0, 1, 2, 3), right, 1.0),
        "a shift, one of three alike": (line(1, 0, 0, 3), line(0, 1, 2, 3), right, 1 / 3),
        "the image moves, not the moved one": (line(2, 2, 3, 0), line(3, 1, 2, 3), right, 2 / 3),
        "a picture": (picture.flip(2), picture, flip_rows, 1.0),
        "two patients, one map each": (
            *(torch.cat([line(0, 1, 2, 3), line(0, 1, 2, 2)]), two),
            *(torch.cat([still, mirror]), 7 / 8),
        ),
    }
    for case, (of_moved, of_image, theta, expected) in cases.items():
        given = of_moved.clone(), of_image.clone()
        found = same_share(of_moved, of_image, theta)
        expect_unchanged(case, given[0], of_moved)
        expect_unchanged(case, given[1], of_image)
        expect(case, found, expected)
    well_done("same_share", len(cases))


def check_loss_parts(loss_parts: Callable) -> None:
    """`loss_parts(P, alpha, lam)` -> (1 - alpha) H(P), -lam [H(p) + H(p')], alpha [log K + KL(I/K || P)]."""
    import torch

    some = torch.tensor([[0.4, 0.1, 0.0], [0.05, 0.2, 0.05], [0.0, 0.1, 0.1]], dtype=torch.float64)
    swapped = torch.tensor([[0.0, 0.5], [0.5, 0.0]], dtype=torch.float64)
    cases = {
        "I/4, alpha 0.5": (torch.eye(4, dtype=torch.float64) / 4, 0.5, 1.0),
        "uniform, alpha 1": (torch.full((4, 4), 1 / 16, dtype=torch.float64), 1.0, 1.0),
        "a joint that is not symmetric": (some, 0.25, 1.0),
        "lambda 2": (some, 0.25, 2.0),
        "swapped names, alpha 0": (swapped, 0.0, 1.0),
        "swapped names, alpha 0.5": (swapped, 0.5, 1.0),
        "a dead cluster, alpha 0": (torch.diag(torch.tensor([0.7, 0.3, 0.0], dtype=torch.float64)), 0.0, 1.0),
    }
    for case, (P, alpha, lam) in cases.items():
        found = loss_parts(P.clone(), alpha, lam)
        if found is not None and not (isinstance(found, tuple | list) and len(found) == 3):
            raise AssertionError(f"{case}: return three numbers, one for each part.")
        parts = (
            (1 - alpha) * _entropy(P),
            -lam * (_entropy(P.sum(0)) + _entropy(P.sum(1))),
            -alpha * float(P.diagonal().log().mean()) if alpha else 0.0,
        )
        for name, one, expected in zip(("first", "second", "third"), found or [None] * 3, parts, strict=True):
            expect(f"{case}, {name} part", one, expected)
    well_done("loss_parts", len(cases))


def check_local_minima(local_minima: Callable) -> None:
    """`local_minima(alpha)` -> shares s at which the loss of [[s, 1 - s], [1 - s, s]] / 2 has a local minimum."""
    cases = {0.0: [0.001, 0.999], 0.05: [0.012, 0.999], 0.1: [0.033, 0.999], 0.2: [0.134, 0.999], 0.3: [0.999]}
    cases |= {1.0: [0.999]}
    for alpha, minima in cases.items():
        expect(f"alpha {alpha}", local_minima(alpha), minima, tolerance=1.5e-3)
    well_done("local_minima", len(cases))


def _entropy(p) -> float:
    import torch

    return float(torch.special.entr(p).sum())
