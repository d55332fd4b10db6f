"""Windows: the range of intensities that is spread from black to white."""

import numpy as np

# Lowest and highest Hounsfield unit shown; common settings of CT readers, as level ± half the width.
CT_WINDOWS: dict[str, tuple[float, float]] = {
    "soft tissue": (-160.0, 240.0),  # level 40, width 400
    "liver": (-15.0, 135.0),  # level 60, width 150
    "mediastinum": (-125.0, 225.0),  # level 50, width 350
    "lung": (-1350.0, 150.0),  # level -600, width 1500
    "bone": (-450.0, 1050.0),  # level 300, width 1500
    "brain": (0.0, 80.0),  # level 40, width 80
    "vessels": (-50.0, 550.0),  # level 250, width 600, after contrast agent
}


def window_range(volume, window=None) -> tuple[float, float]:
    """Intensities that become black and white.

    Args:
        volume: any shape; read only where `window` is None.
        window: a name in `CT_WINDOWS`, a pair (low, high), or None for the 0.5 and 99.5 percentile.

    Returns:
        (low, high) with low < high. A constant volume gets a range around its value, so it is drawn mid-grey.

    Raises:
        ValueError: unknown name, or a pair that is not finite numbers with low < high.
    """
    if window is None:
        return _automatic(np.asarray(volume))
    if isinstance(window, str):
        if window not in CT_WINDOWS:
            raise ValueError(f"window {window!r} is not known; there are {', '.join(CT_WINDOWS)}, or give (low, high).")
        return CT_WINDOWS[window]
    low, high = _pair(window)
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(f"a window is (low, high) with low < high, got ({low:g}, {high:g}).")
    return low, high


def apply_window(volume, window=None) -> np.ndarray:
    """Brightness of each value, float32 from 0 (black) to 1 (white), same shape.

    Args:
        volume: numpy array or tensor of any shape.
        window: as in `window_range`.
    """
    array = np.asarray(volume)
    low, high = window_range(array, window)
    return windowed(array, low, high)


def windowed(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """The formula alone: (value - low) / (high - low), cut to 0 ... 1."""
    return np.clip((array.astype(np.float64) - low) / (high - low), 0.0, 1.0).astype(np.float32)


def window_text(low: float, high: float, unit: str = "") -> str:
    """The window in words: "−160…240 HU"."""
    return f"{short_number(low)}…{short_number(high)} {unit}".rstrip()


def short_number(value: float) -> str:
    """Three or more digits that a reader can take in, with a true minus sign: "−160", "0.025", "1.7e+06"."""
    text = f"{value:.0f}" if 100 <= abs(value) < 1e5 else f"{value:.3g}"
    return ("0" if text == "-0" else text).replace("-", "−")


def _automatic(array: np.ndarray) -> tuple[float, float]:
    low, high = (float(v) for v in np.percentile(array, [0.5, 99.5]))
    if low == high:  # fewer than one voxel in 200 differs, or none: then all of the range counts
        low, high = float(array.min()), float(array.max())
    if low == high:
        around = max(0.5, abs(low) * 1e-3)
        return low - around, high + around
    return low, high


def _pair(window) -> tuple[float, float]:
    try:
        low, high = (float(v) for v in window)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a window is a name, a pair (low, high) or None, got {window!r}.") from error
    return low, high
