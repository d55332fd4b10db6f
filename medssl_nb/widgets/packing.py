"""Volumes for the browser: 8 bits a voxel, compressed. Pure functions; the browser's half is slice_canvas.js."""

import gzip
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEVELS = 256
MOST_LABELS = 255  # code 0 means "no label"


class Quantised(NamedTuple):
    """A volume in 8 bits."""

    codes: np.ndarray  # uint8 (X, Y, Z)
    levels: np.ndarray  # float64 (L,), rising, L <= 256: intensity of each code
    exact: bool  # whether every voxel has exactly the intensity of its level


def pack(codes: np.ndarray) -> bytes:
    """gzip of uint8 codes (X, Y, Z) or colours (X, Y, Z, 3) in C order: the last axis runs fastest.

    The same codes give the same bytes.
    """
    if codes.dtype != np.uint8:
        raise ValueError(f"pack takes uint8 codes, got {codes.dtype}.")
    return gzip.compress(np.ascontiguousarray(codes).tobytes(), 1, mtime=0)


def quantise(volume: np.ndarray, window: Sequence[float]) -> Quantised:
    """Each voxel as the number of the nearest of at most 256 grey levels.

    Where the volume has no more than 256 different values, the levels are those values and nothing is lost. Otherwise
    40 levels are spread evenly over all values, 104 over those from the 0.1 to the 99.9 percentile, and 112 over the
    window: fine where one looks first, coarse in air and metal, and no value is cut off.

    Args:
        volume: (X, Y, Z), finite.
        window: (low, high) intensities that are looked at first.
    """
    values = _few_values(volume)
    levels = _spread(volume, window) if values is None else values
    between = (levels[:-1] + levels[1:]) / 2
    return Quantised(np.searchsorted(between, volume).astype(np.uint8), levels, exact=values is not None)


def nearly_all(volume: np.ndarray) -> tuple[float, float]:
    """The 0.1 and 99.9 percentile, of about a million voxels where there are more."""
    step = max(1, volume.size // 1_000_000) | 1  # odd: an even one would meet the same rows again and again
    low, high = np.percentile(volume.ravel()[::step], [0.1, 99.9])
    return float(low), float(high)


def level_steps(levels: np.ndarray, window: Sequence[float]) -> tuple[float, float]:
    """Largest distance between neighbouring levels inside the window and anywhere: twice the error of a shown value."""
    steps = np.diff(levels)
    if len(steps) == 0:
        return 0.0, 0.0
    inside = (levels[1:] > window[0]) & (levels[:-1] < window[1])
    return float(steps[inside].max(initial=0.0)), float(steps.max())


def quantise_heat(values: np.ndarray, heat_range: tuple[float, float]) -> np.ndarray:
    """Scores as codes 1 to 255 of equal steps over `heat_range`; 0 where there is no score (NaN)."""
    low, high = heat_range
    known = ~np.isnan(values)
    share = np.clip((np.where(known, values, low) - low) / (high - low), 0, 1)
    return np.where(known, 1 + np.round(254 * share), 0).astype(np.uint8)


def number_labels(labels: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Label ids, which may be large and far apart, as codes 1, 2, 3, ...; 0 stays background.

    Returns:
        codes: uint8, same shape.
        ids: label id of code 1, of code 2, ...

    Raises:
        ValueError: more than 255 different labels.
    """
    ids = np.unique(labels)
    ids = ids[ids != 0]
    if len(ids) > MOST_LABELS:
        raise ValueError(
            f"the label map holds {len(ids)} different labels; {MOST_LABELS} can be shown. Merge labels, or show some: "
            "numpy.where(numpy.isin(label, wanted), label, 0)."
        )
    codes = np.searchsorted(ids, labels) + 1
    return np.where(labels == 0, 0, codes).astype(np.uint8), [int(i) for i in ids]


def inner_voxels(codes: np.ndarray, count: int) -> list[tuple[int, int, int]]:
    """One voxel well inside each structure: the middle one along x, of those the middle along y, then along z.

    Args:
        codes: uint8 (X, Y, Z) from `number_labels`.
        count: how many codes there are; each occurs.
    """
    flat = codes.ravel()
    drawn = np.flatnonzero(flat)
    order = drawn[np.argsort(flat[drawn], kind="stable")]  # voxels by code, within a code in the order x, y, z
    ends = np.cumsum(np.bincount(flat[drawn], minlength=count + 1))
    return [_middle_voxel(order[ends[code - 1] : ends[code]], codes.shape) for code in range(1, count + 1)]


def _middle_voxel(flat_indices: np.ndarray, shape) -> tuple[int, int, int]:
    points = np.stack(np.unravel_index(flat_indices, shape), axis=1)
    for axis in range(3):
        middle = np.sort(points[:, axis])[len(points) // 2]
        points = points[points[:, axis] == middle]
    return tuple(int(v) for v in points[0])


def _few_values(volume: np.ndarray) -> np.ndarray | None:
    """The different values, rising, if there are at most 256."""
    sample = volume.ravel()[:: max(1, volume.size // 10_000)]
    if len(np.unique(sample)) > LEVELS:
        return None
    values = np.unique(volume)
    return values.astype(np.float64) if len(values) <= LEVELS else None


def _spread(volume: np.ndarray, window: Sequence[float]) -> np.ndarray:
    low, high = float(volume.min()), float(volume.max())
    inner_low, inner_high = nearly_all(volume)
    window_low, window_high = np.clip(window, low, high)
    parts = [np.linspace(low, high, 40), np.linspace(inner_low, inner_high, 104)]
    parts.append(np.linspace(window_low, window_high, 112))
    return np.unique(np.concatenate(parts))
