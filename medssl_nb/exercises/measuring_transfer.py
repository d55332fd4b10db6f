"""Exercises of lesson 13."""

from collections.abc import Callable

import numpy as np

from medssl_nb.exercises.compare import expect, well_done


def check_split_by_subject(split_by_subject: Callable) -> None:
    """`split_by_subject(subjects, test_share)` -> indices of the test scans; no patient on both sides."""
    cases = {
        "one scan of each of four patients, half of them": (["a", "b", "c", "d"], 0.5, [0, 1]),
        "two scans of each patient": (["a", "a", "b", "b", "c", "c"], 0.3, [0, 1]),
        "scans of a patient that do not follow each other": (["a", "b", "a", "c"], 0.25, [0, 2]),
        "more than one patient is needed": (["a", "b", "b", "c"], 0.5, [0, 1, 2]),
        "no test scans wanted": (["a", "b"], 0.0, []),
    }
    for case, (subjects, share, expected) in cases.items():
        found = split_by_subject(list(subjects), share)
        if found is not None:
            found = [int(i) for i in found]
            both = {subjects[i] for i in found} & {s for i, s in enumerate(subjects) if i not in found}
            if both:
                raise AssertionError(f"{case}: patient {sorted(both)[0]!r} is on both sides; found {found}.")
        expect(case, found, expected)
    well_done("Exercise 1", len(cases))


def check_bootstrap_interval(bootstrap_interval: Callable) -> None:
    """`bootstrap_interval(first, second, draws, generator)` -> (low, high) of the mean difference of pairs."""
    shared = np.array([0.1, 0.9, 0.3, 0.7, 0.5])  # differs wildly between pairs, and not within them
    gains = np.array([0.02, 0.06, 0.10, 0.04, 0.08])
    cases = {
        "all differences equal": (shared + 0.05, shared, (0.05, 0.05), 1e-9),
        "pairs drawn together": (shared + gains, shared, (0.036, 0.084), 0.005),
        "second minus first would be negative": (shared, shared + gains, (-0.084, -0.036), 0.005),
    }
    for case, (first, second, expected, tolerance) in cases.items():
        found = bootstrap_interval(first.copy(), second.copy(), 20_000, np.random.default_rng(1))
        expect(case, found, expected, tolerance)
    well_done("Exercise 2", len(cases))
