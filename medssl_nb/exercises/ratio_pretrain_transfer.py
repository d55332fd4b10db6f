"""Exercises of lesson 24."""

from collections.abc import Callable

from medssl_nb.exercises.compare import expect, well_done


def check_vanishing_epoch(vanishing_epoch: Callable) -> None:
    """`vanishing_epoch(lesion_patches, valid_patches, epochs, start, end)` -> first epoch with M >= L, or None."""
    cases = {
        "40 of 256 patches, 5 epochs from 0.1 to 0.5": ((40, 256, 5, 0.1, 0.5), 1),  # M = 26, 51, 77, 102, 128
        "M just reaches L": ((51, 256, 5, 0.1, 0.5), 1),
        "one patch more than M": ((52, 256, 5, 0.1, 0.5), 2),
        "hidden from the start": ((20, 256, 5, 0.1, 0.5), 0),
        "falling schedule": ((100, 256, 5, 0.5, 0.1), 0),
        "one epoch, which takes the end": ((40, 100, 1, 0.1, 0.5), 0),
    }
    for case, (arguments, expected) in cases.items():
        expect(case, vanishing_epoch(*arguments), expected)
    never = vanishing_epoch(200, 256, 5, 0.1, 0.5)
    if never is not None:
        raise AssertionError(f"a lesion larger than the last M: expected None, found {never!r}.")
    well_done("Exercise 1", len(cases) + 1)


def check_effect_of_part(effect_of_part: Callable) -> None:
    """`effect_of_part(runs, without, with_part, name)` -> mean over the seeds of both arms of the difference."""

    def run(arm: str, seed: int, error: float, lift: float) -> dict:
        return {"arm": arm, "seed": seed, "lesion_error": error, "token_lift": lift}

    runs = [run("a", 0, 0.5, 2), run("a", 1, 0.9, 3), run("b", 1, 0.7, 3), run("b", 0, 0.2, 5), run("c", 0, 0.1, 1)]
    lonely = [*runs, run("b", 2, 9.0, 9)]
    cases = {
        "two seeds of each arm, in another order": ((runs, "a", "b", "lesion_error"), -0.25),
        "another value": ((runs, "a", "b", "token_lift"), 1.5),
        "with and without exchanged": ((runs, "b", "a", "lesion_error"), 0.25),
        "seed of one arm only": ((lonely, "a", "b", "lesion_error"), -0.25),
        "one seed in common": ((runs, "a", "c", "lesion_error"), -0.4),
    }
    for case, (arguments, expected) in cases.items():
        expect(case, effect_of_part(*arguments), expected)
    well_done("Exercise 2", len(cases))
