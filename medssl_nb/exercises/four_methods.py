"""Exercises of lesson 61."""

from collections.abc import Callable

from medssl_nb.exercises.compare import expect, well_done


def check_paired_gain(paired_gain: Callable) -> None:
    """`paired_gain(scores, twin)`: {(seed, draw): Dice} of two arms -> (mean gain over common runs, how many)."""
    cases = {
        "the same runs in both": ({(0, 0): 0.5, (1, 0): 0.7}, {(0, 0): 0.4, (1, 0): 0.4}, (0.2, 2)),
        "another order": ({(0, 0): 0.5, (1, 0): 0.7}, {(1, 0): 0.6, (0, 0): 0.1}, (0.25, 2)),
        "a run without a partner": ({(0, 0): 0.5, (0, 1): 0.9}, {(0, 0): 0.4, (2, 2): 0.1}, (0.1, 1)),
        "a loss": ({(0, 0): 0.25, (0, 1): 0.25}, {(0, 0): 0.5, (0, 1): 0.25}, (-0.125, 2)),
        "no common run": ({(0, 0): 0.5}, {(1, 0): 0.5}, (None, 0)),
    }
    for case, (scores, twin, expected) in cases.items():
        kept = dict(scores), dict(twin)
        found = paired_gain(scores, twin)
        if not (isinstance(found, tuple | list) and len(found) == 2):
            raise AssertionError(f"{case}: return two values, the mean gain and the number of pairs; got {found!r}.")
        if (scores, twin) != kept:
            raise AssertionError(f"{case}: your function changed its input; build new lists from it.")
        expect(f"{case}, number of pairs", found[1], expected[1], tolerance=0)
        if expected[0] is None:
            if found[0] is not None:
                raise AssertionError(f"{case}: without a pair there is no gain; expected None, found {found[0]}.")
        else:
            expect(f"{case}, mean gain", found[0], expected[0], tolerance=1e-9)
    well_done("paired_gain", len(cases))


def check_best_table_for(best_table_for: Callable) -> None:
    """`best_table_for(method, tables)`: index of the table where it leads by most, else None."""
    tables = [
        {"A": 0.20, "B": 0.10, "C": 0.15},
        {"A": 0.30, "B": 0.35, "C": 0.10},
        {"A": 0.05, "B": 0.02},
        {"A": -0.10, "B": -0.02, "C": -0.03},
    ]
    cases = {
        "A leads twice, once by 0.05, once by 0.03": ("A", tables, 0),
        "B leads by 0.05 of 0.35, and by 0.01 although it loses": ("B", tables, 1),
        "C never leads": ("C", tables, None),
        "B leads only where all lose": ("B", tables[2:], 1),
        "a tie is no lead": ("A", [{"A": 0.1, "B": 0.1}], None),
        "not in the table": ("C", [{"A": 0.1, "B": 0.2}], None),
    }
    for case, (method, given, expected) in cases.items():
        found = best_table_for(method, [dict(table) for table in given])
        if found is not None and not isinstance(found, bool):
            found = int(found)
        if found != expected or isinstance(found, bool):
            raise AssertionError(f"{case}: expected {expected}, found {found!r}.")
    well_done("best_table_for", len(cases))


def check_worth_the_time(worth_the_time: Callable) -> None:
    """`worth_the_time({method: (seconds, gain)})`: the set of methods that no other beats in time and gain at once."""
    cases = {
        "dearer and better, cheaper and worse": ({"A": (60, 0.2), "B": (30, 0.1)}, {"A", "B"}),
        "dearer and worse": ({"A": (60, 0.1), "B": (30, 0.2)}, {"B"}),
        "as good, but dearer": ({"A": (60, 0.2), "B": (30, 0.2)}, {"B"}),
        "as dear, but worse": ({"A": (30, 0.1), "B": (30, 0.2)}, {"B"}),
        "alike in both": ({"A": (30, 0.2), "B": (30, 0.2)}, {"A", "B"}),
        "a chain": ({"A": (10, 0.0), "B": (20, 0.2), "C": (30, 0.1), "D": (40, 0.3)}, {"A", "B", "D"}),
        "one alone": ({"A": (10, -0.1)}, {"A"}),
    }
    for case, (given, expected) in cases.items():
        found = worth_the_time(dict(given))
        if found is None:
            raise AssertionError(f"{case}: your function returned nothing. Is there a `return`?")
        if set(found) != expected:
            raise AssertionError(f"{case}: expected {sorted(expected)}, found {sorted(found)}.")
    well_done("worth_the_time", len(cases))
