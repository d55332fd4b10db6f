"""What the browser gets of each layer: the values of the slice canvas's traits. Pure functions of checked arrays."""

import numpy as np

from medssl_nb.viz.arrays import known_spacing, names_by_id
from medssl_nb.viz.colours import heat_palette, heat_range_of
from medssl_nb.viz.layers import colours_by_id, contour_colours
from medssl_nb.viz.windows import CT_WINDOWS, window_range
from medssl_nb.widgets.packing import inner_voxels, nearly_all, number_labels, pack, quantise, quantise_heat


def volume_state(
    array: np.ndarray,
    affine: np.ndarray | None,
    window: tuple[float, float],
    unit: str,
    window_name: str | None = None,
) -> dict:
    """Grey values, geometry and windows.

    Args:
        array: (X, Y, Z), finite.
        affine: (4, 4) voxel to RAS mm, or None where mm are not known.
        window: (low, high) to start with, where the grey levels are finest.
        unit: "HU" adds the CT windows to those to choose from.
        window_name: name of `window` in that list, None if it stands there already.
    """
    quantised = quantise(array, window)
    presets = window_presets(array, unit) + ([[window_name, *window]] if window_name else [])
    return {
        "volume_bytes": pack(quantised.codes),
        "levels": quantised.levels.tolist(),
        "exact": quantised.exact,
        "shape": list(array.shape),
        "affine": [] if affine is None else affine.ravel().tolist(),
        "spacing": [1.0] * 3 if affine is None else np.linalg.norm(affine[:3, :3], axis=0).tolist(),
        "unit": unit,
        "window": window,
        "presets": presets,
        "window_limits": _window_limits(array, presets),
        "crosshair": tuple(n // 2 for n in array.shape),
    }


def label_state(labels: np.ndarray | None, label_names) -> dict:
    """Codes, and for each its id, name, colour and a voxel inside; all visible."""
    if labels is None:
        return {"label_bytes": b"", "label_table": [], "visible_labels": ()}
    codes, ids = number_labels(labels)
    names = names_by_id(label_names, ids)
    colours = colours_by_id(names, label_names)
    table = [
        {"id": i, "name": names[i], "colour": colours[i], "centre": list(centre)}
        for i, centre in zip(ids, inner_voxels(codes, len(ids)), strict=True)
    ]
    return {"label_bytes": pack(codes), "label_table": table, "visible_labels": tuple(ids)}


def contour_state(contour: np.ndarray | None, label_names) -> dict:
    """Codes, and for each its id, name and colour."""
    if contour is None:
        return {"contour_bytes": b"", "contour_table": []}
    codes, ids = number_labels(contour)
    names, colours = contour_colours(ids, label_names)
    return {
        "contour_bytes": pack(codes),
        "contour_table": [{"id": i, "name": names[i], "colour": colours[i]} for i in ids],
    }


def heat_state(heat: np.ndarray | None, style: str, given_range, name: str) -> dict:
    """Codes, and which scores and colours they stand for."""
    if heat is None:
        return {"heat_bytes": b""}
    ends = heat_range_of(heat, style, given_range)
    return {
        "heat_bytes": pack(quantise_heat(heat, ends)),
        "heat_range": list(ends),
        "heat_clipped": [bool(np.nanmin(heat) < ends[0]), bool(np.nanmax(heat) > ends[1])],
        "heat_palette": heat_palette(style).tobytes(),
        "heat_name": name,
    }


def affine_of(volume, affine=None, spacing_mm=None) -> np.ndarray | None:
    """Affine (4, 4) from what was given or what a MetaTensor knows, None if mm are not known.

    Raises:
        ValueError: not a (4, 4) matrix of numbers, or axes that do not run to R, A and S.
    """
    if affine is None and spacing_mm is not None:
        return np.diag([*known_spacing(volume, spacing_mm), 1.0])
    if affine is None:
        affine = getattr(volume, "affine", None)
    if affine is None:
        return None
    matrix = np.asarray(affine, np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise ValueError(f"an affine is (4, 4) finite numbers, got {matrix.tolist()}.")
    from medssl_nb.data.geometry import check_ras

    check_ras(matrix)
    return matrix


def window_presets(array: np.ndarray, unit: str) -> list[list]:
    """Windows to choose from: [name, low, high]."""
    low, high = float(array.min()), float(array.max())
    whole = (low, high) if low < high else window_range(array)
    named = [[name, *ends] for name, ends in CT_WINDOWS.items()] if unit == "HU" else []
    return [*named, ["automatic", *window_range(array)], ["all values", *whole]]


def _window_limits(array: np.ndarray, presets: list[list]) -> list[float]:
    """Ends of the window sliders: nearly all values and every preset but the one for outliers."""
    near_low, near_high = nearly_all(array)
    shown = [preset for preset in presets if preset[0] != "all values"]
    return [min(near_low, *(low for _, low, _ in shown)), max(near_high, *(high for _, _, high in shown))]
