"""Exercises of lesson 00."""

from collections.abc import Callable

from medssl_nb.exercises.compare import expect, expect_unchanged, well_done


def check_hide_box(hide_box: Callable) -> None:
    """`hide_box(volume, start, size, fill)` -> copy with a box filled."""
    import torch

    cases = {
        "one voxel": ((0, 0, 0), (1, 1, 1), 9.0),
        "a box inside": ((1, 2, 3), (2, 1, 2), -1.0),
        "a box up to the last voxel": ((3, 0, 4), (1, 5, 2), 0.5),
        "a box of size 0 hides nothing": ((1, 1, 1), (0, 2, 2), 7.0),
    }
    for case, (start, size, fill) in cases.items():
        volume = torch.arange(4.0 * 5 * 6).reshape(4, 5, 6)
        before = volume.clone()
        right = volume.clone()
        right[tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))] = fill
        found = hide_box(volume, start, size, fill)
        expect_unchanged(case, before, volume)
        expect(case, found, right)
    well_done("hide_box", len(cases))


def check_hidden_error(hidden_error: Callable) -> None:
    """`hidden_error(guess, truth, hidden)` -> mean absolute difference where hidden."""
    import torch

    generator = torch.Generator().manual_seed(0)
    guess, truth = torch.rand(2, 4, 4, 4, generator=generator)
    some = torch.rand(4, 4, 4, generator=generator) > 0.7
    only_first = torch.zeros(4, 4, 4, dtype=torch.bool)
    only_first[0, 0, 0] = True
    outside = torch.where(some, truth, guess)
    cases = {
        "everything hidden": (guess, truth, torch.ones_like(some), (guess - truth).abs().mean()),
        "one voxel hidden": (guess, truth, only_first, (guess - truth).abs()[0, 0, 0]),
        "some hidden": (guess, truth, some, (guess - truth).abs()[some].mean()),
        "wrong only where nothing is hidden": (outside, truth, some, 0.0),
        "nothing hidden": (guess, truth, torch.zeros_like(some), 0.0),
    }
    for case, (*given, right) in cases.items():
        expect(case, hidden_error(*given), float(right))
    well_done("hidden_error", len(cases))
