"""How answers are compared and what a learner reads when one is wrong."""

import numpy as np


def expect(case: str, found, expected, tolerance: float = 1e-5) -> None:
    """Raise AssertionError, in words for a learner, unless `found` equals `expected` within `tolerance`.

    Args:
        case: what was asked, completing "In the case of ...".
        found: what the learner's function returned: a number, an array or a tensor.
        expected: the right answer.
        tolerance: largest difference of any entry that still counts as equal.
    """
    if found is None:
        raise AssertionError(f"{case}: your function returned nothing. Is there a `return`, and is the `...` replaced?")
    found, expected = _array(case, found), np.asarray(expected, float)
    if found.shape != expected.shape:
        raise AssertionError(f"{case}: expected shape {expected.shape}, found {found.shape}.")
    if not np.allclose(found, expected, rtol=0, atol=tolerance, equal_nan=False):
        where = np.unravel_index(np.nanargmax(np.where(np.isnan(found), np.inf, abs(found - expected))), found.shape)
        at = f" at {tuple(int(i) for i in where)}" if found.ndim else ""
        raise AssertionError(f"{case}: expected {expected[where]:.6g}{at}, found {found[where]:.6g}.")


def expect_unchanged(case: str, before, after) -> None:
    """Raise AssertionError if the learner's function wrote into its input."""
    if not np.array_equal(np.asarray(before), np.asarray(after)):
        raise AssertionError(f"{case}: your function changed its input. Work on a copy: `x.clone()`.")


def well_done(exercise: str, cases: int) -> None:
    print(f"{exercise}: all {cases} cases right.")


def _array(case: str, found) -> np.ndarray:
    try:
        return np.asarray(found, float)
    except (TypeError, ValueError):
        raise AssertionError(f"{case}: expected numbers, found a {type(found).__name__}.") from None
