"""From arrays to colours: one grey volume and what is laid over it, slice by slice. Pure; knows no plotting library."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medssl_nb.viz.arrays import as_heat, as_labels, as_volume, known_spacing, names_by_id
from medssl_nb.viz.clusters import cluster_colours
from medssl_nb.viz.colours import (
    CONTOUR_COLOUR,
    MASK_COLOUR,
    heat_palette,
    heat_range_of,
    label_colour,
    rgb,
)
from medssl_nb.viz.marks import Mark, as_marks
from medssl_nb.viz.planes import oriented, plane_of
from medssl_nb.viz.windows import window_range, windowed


@dataclass(frozen=True, eq=False)
class Overlay:
    """A label map, the structures of it that are drawn, and how: filled, outlined or both."""

    labels: np.ndarray  # (X, Y, Z) whole numbers
    names: dict[int, str]
    colours: dict[int, str]
    fill: bool = True
    outline: bool = True


@dataclass(frozen=True, eq=False)
class Heat:
    """A map of scores, the two scores at the ends of its palette, and the palette."""

    values: np.ndarray  # (X, Y, Z) float32, NaN = transparent
    range: tuple[float, float]
    palette: np.ndarray  # (256, 3) uint8


@dataclass(frozen=True, eq=False)
class Layers:
    """All there is to know to draw any slice."""

    grey: np.ndarray  # (X, Y, Z)
    window: tuple[float, float]
    unit: str
    spacing: tuple[float, float, float]
    in_mm: bool
    overlays: tuple[Overlay, ...]
    heat: Heat | None
    opacity: float
    colours: np.ndarray | None = None  # (X, Y, Z, 3) uint8
    marks: tuple[Mark, ...] = ()


def stack_layers(
    volume,
    *,
    spacing_mm: Sequence[float] | None = None,
    window=None,
    unit: str | None = None,
    mask=None,
    labels=None,
    label_names: Mapping[int, str] | Sequence[str] | None = None,
    visible: Sequence[int] | None = None,
    clusters=None,
    heat=None,
    heat_style: str = "score",
    heat_range: tuple[float, float] | None = None,
    contour=None,
    colours=None,
    marks: Mapping[str, Sequence[float]] | None = None,
    fill: bool = True,
    outline: bool = True,
    opacity: float = 0.4,
) -> Layers:
    """Check everything that is to be drawn and put it together.

    Args:
        volume: image, (X, Y, Z) or (1, X, Y, Z), numpy array, tensor or MetaTensor, RAS+.
        spacing_mm: mm per voxel along x, y, z; a MetaTensor knows it.
        window: a name in `CT_WINDOWS`, (low, high), or None for the 0.5 and 99.5 percentile of the volume.
        unit: of the intensities; "HU" where the window has a name.
        mask: what is True is drawn in one colour.
        labels: label map; 0 is background and not drawn.
        label_names: {id: name} or a list whose place is the id; known names bring their colour along.
        visible: ids of `labels` to draw; None draws all but 0.
        clusters: cluster map, whole numbers 0 to at most 39, all of them drawn, each in the cluster's own colour.
        heat: scores, drawn in the colours of `heat_style`; NaN stays transparent.
        heat_style: "score" (dark to bright) or "difference" (two colours, zero in the middle).
        heat_range: scores at the ends of the palette; None for the extremes of the whole map.
        contour: mask or label map of which only the outline is drawn (a prediction over the truth).
        colours: a colour for each voxel, (X, Y, Z, 3), uint8 or 0 to 1, such as `embedding_colours` gives.
        marks: {name: voxel (x, y, z)}, at most three points with their names, between voxels too.
        fill: colour the inside of labels and mask.
        outline: draw the border of labels and mask.
        opacity: of fills, heat and colours, 0 (invisible) to 1 (covers the image).

    Raises:
        ValueError: what cannot be drawn, or shapes that do not agree.
    """
    grey = as_volume(volume)
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity runs from 0 (invisible) to 1 (covers the image), got {opacity}.")
    spacing = known_spacing(volume, spacing_mm)
    overlays = []
    if labels is not None:
        overlays.append(_named_overlay(as_labels(labels, grey), label_names, visible, fill, outline))
    if clusters is not None:
        overlays.append(_cluster_overlay(as_labels(clusters, grey, "clusters"), fill, outline))
    if mask is not None:
        inside = (as_labels(mask, grey, "mask") > 0).astype(np.uint8)
        overlays.append(Overlay(inside, {1: "mask"}, {1: MASK_COLOUR}, fill, outline))
    if contour is not None:
        overlays.append(_contour_overlay(as_labels(contour, grey, "contour"), label_names))
    return Layers(
        grey=grey,
        window=window_range(grey, window),
        unit=unit if unit is not None else "HU" if isinstance(window, str) else "",
        spacing=spacing or (1.0, 1.0, 1.0),
        in_mm=spacing is not None,
        overlays=tuple(overlays),
        heat=None if heat is None else _heat_layer(as_heat(heat, grey), heat_style, heat_range),
        opacity=float(opacity),
        colours=None if colours is None else as_colours(colours, grey),
        marks=as_marks(marks, grey.shape),
    )


def slice_rgb(layers: Layers, plane: str, index: int) -> np.ndarray:
    """Colours of one slice as displayed, uint8 (rows, columns, 3): grey, colours, heat, fills. Outlines are lines."""
    grey = windowed(oriented(layers.grey, plane, index), *layers.window)
    picture = np.repeat(255.0 * grey[..., None], 3, axis=2)
    if layers.colours is not None:
        drawn = [oriented(layers.colours[..., k], plane, index) for k in range(3)]
        picture = (1 - layers.opacity) * picture + layers.opacity * np.stack(drawn, axis=2)
    if layers.heat is not None:
        colours, known = heat_rgb(layers.heat, oriented(layers.heat.values, plane, index))
        picture = _blend(picture, colours, known, layers.opacity)
    for overlay in layers.overlays:
        if overlay.fill:
            cut = oriented(overlay.labels, plane, index)
            for number, colour in overlay.colours.items():
                picture = _blend(picture, rgb(colour).astype(float), cut == number, layers.opacity)
    return np.round(picture).astype(np.uint8)


def heat_rgb(heat: Heat, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours (..., 3) of scores (...), and where there is a score at all."""
    known = ~np.isnan(values)
    low, high = heat.range
    share = (np.where(known, values, low) - low) / (high - low)
    return heat.palette[np.round(255 * np.clip(share, 0, 1)).astype(int)].astype(float), known


def as_colours(colours, like: np.ndarray) -> np.ndarray:
    """uint8 (X, Y, Z, 3) of colours given as uint8 or as numbers from 0 to 1.

    Raises:
        ValueError: another shape than that of the volume `like` and three, other numbers.
    """
    array = np.asarray(colours.detach().cpu() if hasattr(colours, "detach") else colours)
    if array.shape != (*like.shape, 3):
        raise ValueError(f"colours must be (X, Y, Z, 3), here {(*like.shape, 3)}; got shape {array.shape}.")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f" or not ((array >= 0) & (array <= 1)).all():
        raise ValueError("colours are uint8, or numbers from 0 to 1; spread others first: (c - c.min()) / np.ptp(c).")
    return np.round(255 * array).astype(np.uint8)


def outline_segments(inside: np.ndarray) -> np.ndarray:
    """Voxel edges between inside and outside, in picture coordinates.

    Args:
        inside: boolean (rows, columns).

    Returns:
        (N, 2, 2): N lines, two ends each, (column, row) where the first voxel spans 0 to 1.
    """
    rows, columns = inside.shape
    padded = np.zeros((rows + 2, columns + 2), bool)
    padded[1:-1, 1:-1] = inside
    top = np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1])  # row r: the line above row r
    side = np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1])  # column c: the line left of column c
    flat = np.stack([top[:, [1, 0]], top[:, [1, 0]] + [1, 0]], axis=1)
    upright = np.stack([side[:, [1, 0]], side[:, [1, 0]] + [0, 1]], axis=1)
    return np.concatenate([flat, upright]).astype(float)


def present(layers: Layers, plane: str, index: int) -> list[tuple[Overlay, int]]:
    """Structures drawn on one slice, the largest of each overlay first."""
    found = []
    for overlay in layers.overlays:
        ids, counts = np.unique(oriented(overlay.labels, plane, index), return_counts=True)
        ordered = ids[np.argsort(-counts, kind="stable")]
        found += [(overlay, int(number)) for number in ordered if int(number) in overlay.names]
    return found


def extent_mm(layers: Layers, plane: str) -> tuple[float, float]:
    """Width and height of the pictures of a plane, in mm (in voxels where the spacing is not known)."""
    axes = plane_of(plane)
    shape, spacing = layers.grey.shape, layers.spacing
    return shape[axes.column] * spacing[axes.column], shape[axes.row] * spacing[axes.row]


def _named_overlay(labels: np.ndarray, label_names, visible, fill: bool, outline: bool) -> Overlay:
    ids = [int(i) for i in np.unique(labels) if i != 0]
    if visible is not None:
        wanted = {int(i) for i in visible}
        ids = [i for i in ids if i in wanted]
    names = names_by_id(label_names, ids)
    return Overlay(labels, names, colours_by_id(names, label_names), fill, outline)


def _cluster_overlay(clusters: np.ndarray, fill: bool, outline: bool) -> Overlay:
    colours = dict(enumerate(cluster_colours(int(clusters.max()) + 1)))
    return Overlay(clusters, {k: f"cluster {k}" for k in colours}, colours, fill, outline)


def colours_by_id(names: Mapping[int, str], label_names) -> dict[int, str]:
    """Colour of each id: by name where names were given, else that of an unnamed label."""
    return {i: label_colour(name if label_names is not None else i) for i, name in names.items()}


def contour_colours(ids: Sequence[int], label_names) -> tuple[dict[int, str], dict[int, str]]:
    """Name and colour of each structure of a contour: those of its label, or one line that stands out for a mask."""
    if label_names is None or list(ids) == [1]:
        return dict.fromkeys(ids, "contour"), dict.fromkeys(ids, CONTOUR_COLOUR)
    names = names_by_id(label_names, ids)
    return {i: f"{name}, contour" for i, name in names.items()}, colours_by_id(names, label_names)


def _contour_overlay(labels: np.ndarray, label_names) -> Overlay:
    ids = [int(i) for i in np.unique(labels) if i != 0]
    return Overlay(labels, *contour_colours(ids, label_names), fill=False)


def _heat_layer(values: np.ndarray, style: str, given) -> Heat:
    return Heat(values, heat_range_of(values, style, given), heat_palette(style))


def _blend(picture: np.ndarray, colours: np.ndarray, where: np.ndarray, opacity: float) -> np.ndarray:
    return np.where(where[..., None], (1 - opacity) * picture + opacity * colours, picture)
