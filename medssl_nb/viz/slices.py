"""Draw slices with matplotlib: letters on the edges, axes in mm, the window stated, a legend with names."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from medssl_nb.viz.figures import png
from medssl_nb.viz.layers import Layers, extent_mm, outline_segments, present, slice_rgb, stack_layers
from medssl_nb.viz.marks import draw_marks
from medssl_nb.viz.planes import AXIS_NAMES, oriented, plane_of, planes_worth_showing
from medssl_nb.viz.windows import short_number, window_text

_ROWS_IN_LEGEND = 14
_PICTURE_INCHES = 3.4  # longer side of one picture
_CROSSHAIR = "#ffe45c"


def show_slice(
    volume,
    plane: str = "axial",
    index: int | None = None,
    *,
    spacing_mm: Sequence[float] | None = None,
    window=None,
    mask=None,
    labels=None,
    label_names: Mapping[int, str] | Sequence[str] | None = None,
    heat=None,
    contour=None,
    opacity: float = 0.4,
    title: str | None = None,
    ax=None,
    **more,
) -> None:
    """Show one slice as radiologists read it.

    Args:
        volume: RAS+ image, (X, Y, Z) or (1, X, Y, Z), numpy array, tensor or MetaTensor.
        plane: "axial", "coronal" or "sagittal".
        index: voxel number along the axis that is fixed, from 0; None is the middle.
        spacing_mm: mm per voxel along x, y, z. A MetaTensor knows it; without either, axes count voxels.
        window: a name in `CT_WINDOWS`, a pair (low, high), or None for the 0.5 and 99.5 percentile of the volume.
        mask: voxels to colour. `labels`: whole numbers, 0 not drawn. `heat`: scores. `contour`: drawn as outline.
        label_names: {id: name}, or a list whose place is the id.
        opacity: of what lies over the image, 0 to 1.
        title: a first line above what plane, slice and window are.
        ax: matplotlib axes to draw on; without, a figure is made and shown.
        **more: `clusters`, `colours`, `marks`, `heat_style`, `heat_range`, `visible`, `fill`, `outline`, `unit`: see
            `stack_layers`.

    Raises:
        ValueError: what cannot be drawn, with the reason.
    """
    layers = stack_layers(
        volume,
        spacing_mm=spacing_mm,
        window=window,
        mask=mask,
        labels=labels,
        label_names=label_names,
        heat=heat,
        contour=contour,
        opacity=opacity,
        **more,
    )
    index = _middle(layers.grey.shape)[plane_of(plane).fixed] if index is None else index
    if ax is not None:
        draw_slice(ax, layers, plane, index, title=title)
        _add_keys(ax.figure, [ax], layers, present(layers, plane, index))
        return
    import matplotlib.pyplot as plt

    width, height = _inches(layers, plane, _PICTURE_INCHES * 1.3)
    figure, ax = plt.subplots(figsize=(width + 0.9 + _key_inches(layers), height + 0.9), layout="constrained")
    draw_slice(ax, layers, plane, index, title=title)
    _add_keys(figure, [ax], layers, present(layers, plane, index))
    plt.show()


def show_planes(volume, centre: Sequence[int] | None = None, *, title: str | None = None, **options) -> None:
    """Show the three planes through one voxel, side by side, the voxel marked in each.

    Args:
        volume: as in `show_slice`. A volume of one slice is shown in the plane of that slice.
        centre: voxel (x, y, z); None is the middle.
        title: a line above.
        **options: as in `show_slice`.
    """
    import matplotlib.pyplot as plt

    layers = stack_layers(volume, **options)
    figure = plt.figure(figsize=_planes_inches(layers), layout="constrained")
    draw_planes(figure, layers, centre, title=title)
    plt.show()


def show_row(slices: Sequence, *, titles: Sequence[str] | None = None, title: str | None = None, **shared) -> None:
    """Show several slices beside each other: before and after, several patients, several steps.

    >>> show_row([before, after], titles=["before", "after"], plane="coronal", window="lung")
    >>> show_row([{"volume": ct, "window": w, "title": w} for w in ("soft tissue", "lung", "bone")], index=60)

    Args:
        slices: volumes, or dictionaries with `volume` and any options of `show_slice` that are this slice's own.
        titles: one line for each.
        title: one line above all.
        **shared: options of `show_slice` for all; those of a slice win.
    """
    import matplotlib.pyplot as plt

    if len(slices) == 0:
        raise ValueError("show_row got no slices; give at least one volume.")
    if titles is not None and len(titles) != len(slices):
        raise ValueError(f"show_row got {len(slices)} slices and {len(titles)} titles; give one title for each.")
    drawn = _on_one_scale([_one_of_row(one, shared, titles[i] if titles else None) for i, one in enumerate(slices)])
    sizes = [_inches(layers, plane, _PICTURE_INCHES) for layers, plane, _, _ in drawn]
    keys = max(_key_inches(layers) for layers, *_ in drawn)
    figure = plt.figure(
        figsize=(sum(w for w, _ in sizes) + 0.6 * len(sizes) + keys, max(h for _, h in sizes) + 1.1),
        layout="constrained",
    )
    axes = figure.subplots(1, len(drawn), squeeze=False, width_ratios=[w for w, _ in sizes])[0]
    found = []
    for ax, (layers, plane, index, line) in zip(axes, drawn, strict=True):
        draw_slice(ax, layers, plane, index, title=line)
        found += present(layers, plane, index)
    _add_keys(figure, list(axes), next((d[0] for d in drawn if d[0].heat is not None), drawn[0][0]), found)
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    plt.show()


def planes_png(volume, centre: Sequence[int] | None = None, *, title: str | None = None, dpi: int = 90, **options):
    """The picture of `show_planes` as PNG bytes; the same input gives the same bytes.

    Args:
        volume, centre, title, **options: as in `show_planes`.
        dpi: pixels per inch.
    """
    return layers_png(stack_layers(volume, **options), centre, title=title, dpi=dpi)


def layers_png(layers: Layers, centre=None, *, planes: Sequence[str] | None = None, title=None, dpi: int = 90) -> bytes:
    """PNG bytes of layers that are put together already; `planes` names those to show."""
    return png(
        lambda figure: draw_planes(figure, layers, centre, planes=planes, title=title),
        _planes_inches(layers, planes),
        dpi,
    )


def draw_planes(figure, layers: Layers, centre=None, *, planes: Sequence[str] | None = None, title=None) -> None:
    """Draw planes through the voxel `centre` side by side on one scale, onto a matplotlib figure."""
    shape = layers.grey.shape
    centre = _middle(shape) if centre is None else _inside(centre, shape)
    planes = list(planes or planes_worth_showing(shape))
    axes = figure.subplots(1, len(planes), squeeze=False, width_ratios=_room(layers, planes))[0]
    found = []
    for ax, plane in zip(axes, planes, strict=True):
        index = centre[plane_of(plane).fixed]
        draw_slice(ax, layers, plane, index, crosshair=centre)
        found += [entry for entry in present(layers, plane, index) if entry not in found]
    _add_keys(figure, list(axes), layers, found)
    if title:
        figure.suptitle(title, x=0.01, ha="left")


def draw_slice(ax, layers: Layers, plane: str, index: int, *, crosshair=None, title: str | None = None) -> None:
    """Draw one slice onto matplotlib axes: picture, outlines, letters, mm, and what is shown."""
    width, height = extent_mm(layers, plane)
    picture = slice_rgb(layers, plane, index)
    ax.imshow(picture, extent=(0, width, height, 0), interpolation="nearest", aspect="equal")
    _draw_outlines(ax, layers, plane, index)
    if crosshair is not None:
        _draw_crosshair(ax, layers, plane, crosshair)
    draw_marks(ax, layers.marks, plane, index, layers.grey.shape, layers.spacing)
    _draw_letters(ax, plane, width, height)
    _dress(ax, layers)
    what = f"{plane}, {AXIS_NAMES[plane_of(plane).fixed]} = {index}"
    shown = window_text(*layers.window, layers.unit)
    _headline(ax, [title, f"{what} · {shown}"] if title else [what, shown])


def _headline(ax, lines: list[str]) -> None:
    first, second = lines
    ax.set_title(first, loc="left", fontsize=10.5, pad=17)
    ax.annotate(second, (0, 1), (0, 5), "axes fraction", textcoords="offset points", fontsize=8.5, color="#595959")


def _draw_letters(ax, plane: str, width: float, height: float) -> None:
    from matplotlib.patheffects import withStroke

    places = (((0, 0.5), (8, 0)), ((1, 0.5), (-8, 0)), ((0.5, 0), (0, -9)), ((0.5, 1), (0, 9)))
    for letter, ((x, y), shift) in zip(plane_of(plane).letters, places, strict=True):
        ax.annotate(
            letter,
            (x * width, y * height),
            shift,
            textcoords="offset points",
            ha="center",
            va="center",
            color="white",
            fontsize=10,
            fontweight="bold",
            path_effects=[withStroke(linewidth=2.2, foreground="black")],
        )


def _draw_outlines(ax, layers: Layers, plane: str, index: int) -> None:
    from matplotlib.collections import LineCollection

    axes, spacing = plane_of(plane), layers.spacing
    scale = np.array([spacing[axes.column], spacing[axes.row]])
    for overlay in layers.overlays:
        if not overlay.outline:
            continue
        cut = oriented(overlay.labels, plane, index)
        for number, colour in overlay.colours.items():
            lines = outline_segments(cut == number) * scale
            if len(lines) and not overlay.fill:  # a dark edge keeps a line readable on any ground
                ax.add_collection(LineCollection(lines, colors="black", linewidths=2.6, capstyle="projecting"))
            if len(lines):
                width = 1.0 if overlay.fill else 1.4
                ax.add_collection(LineCollection(lines, colors=colour, linewidths=width, capstyle="projecting"))


def _draw_crosshair(ax, layers: Layers, plane: str, voxel) -> None:
    """Two thin lines through the voxel's centre with a gap around it, so that they do not hide what they mark.

    They end short of the edge, where the letters are.
    """
    axes, shape, spacing = plane_of(plane), layers.grey.shape, layers.spacing
    width, height = extent_mm(layers, plane)
    x = (shape[axes.column] - voxel[axes.column] - 0.5) * spacing[axes.column]
    y = (shape[axes.row] - voxel[axes.row] - 0.5) * spacing[axes.row]
    gap, edge = max(0.03 * max(width, height), 1.2 * max(spacing)), 0.06 * max(width, height)
    style = {"color": _CROSSHAIR, "linewidth": 0.9, "alpha": 0.9}
    for start, stop in ((edge, x - gap), (x + gap, width - edge)):
        if start < stop:
            ax.plot([start, stop], [y, y], **style)
    for start, stop in ((edge, y - gap), (y + gap, height - edge)):
        if start < stop:
            ax.plot([x, x], [start, stop], **style)


def _dress(ax, layers: Layers) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set_anchor("NW")  # room that is left over goes to the right and below
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.tick_params(length=3, width=0.6, labelsize=8, colors="#595959")
    ax.set_xlabel("mm" if layers.in_mm else "voxels", fontsize=8, color="#595959", labelpad=1)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _add_keys(figure, axes: list, layers: Layers, found: list) -> None:
    """A legend with the names of what is drawn, and the scale of the heat map, right of the pictures."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles, seen = [], set()
    for overlay, number in found:
        name, colour = overlay.names[number], overlay.colours[number]
        if (name, colour) in seen:
            continue
        seen.add((name, colour))
        filled = Patch(facecolor=colour, edgecolor="#404040", linewidth=0.5, label=name)
        line = Line2D([], [], color=colour, linewidth=2, label=name)
        handles.append(filled if overlay.fill else line)
    if len(handles) > _ROWS_IN_LEGEND:
        rest = len(handles) - _ROWS_IN_LEGEND + 1
        handles = [*handles[: _ROWS_IN_LEGEND - 1], Patch(alpha=0, label=f"and {rest} more")]
    if handles:
        axes[-1].legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(1.03, 1.0),
            frameon=False,
            fontsize=8.5,
            handlelength=1.1,
            handleheight=1.0,
            borderaxespad=0,
        )
    if layers.heat is not None:
        _add_heat_scale(figure, axes, layers)


def _add_heat_scale(figure, axes: list, layers: Layers) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    low, high = layers.heat.range
    scale = ScalarMappable(Normalize(low, high), ListedColormap(layers.heat.palette / 255))
    bar = figure.colorbar(scale, ax=axes, shrink=0.7, aspect=22, pad=0.02, panchor=False)
    bar.set_ticks([low, (low + high) / 2, high], labels=[short_number(v) for v in (low, (low + high) / 2, high)])
    bar.ax.tick_params(length=2, labelsize=8, colors="#595959")
    bar.outline.set_visible(False)


def _one_of_row(one, shared: dict, line: str | None) -> tuple[Layers, str, int, str | None]:
    options = {**shared, **(one if isinstance(one, Mapping) else {"volume": one})}
    plane, index = options.pop("plane", "axial"), options.pop("index", None)
    line = options.pop("title", line)
    if "volume" not in options:
        raise ValueError(f"each slice of show_row needs a volume, got a dictionary with {sorted(options)}.")
    layers = stack_layers(options.pop("volume"), **options)
    index = _middle(layers.grey.shape)[plane_of(plane).fixed] if index is None else index
    return layers, plane, index, line


def _on_one_scale(drawn: list) -> list:
    """Heat maps of a row share their scores' range, so that one colour means one score and one scale serves all."""
    ranges = [layers.heat.range for layers, *_ in drawn if layers.heat is not None]
    if len(set(ranges)) < 2:
        return drawn
    ends = (min(low for low, _ in ranges), max(high for _, high in ranges))
    return [
        (replace(layers, heat=replace(layers.heat, range=ends)) if layers.heat is not None else layers, *rest)
        for layers, *rest in drawn
    ]


def _middle(shape) -> tuple[int, int, int]:
    return tuple(n // 2 for n in shape)


def _inside(voxel: Sequence[int], shape) -> tuple[int, int, int]:
    numbers = np.asarray(voxel)
    if numbers.shape != (3,) or (numbers != np.round(numbers)).any():
        raise ValueError(f"a voxel is three whole numbers (x, y, z), got {voxel}.")
    if (numbers < 0).any() or (numbers >= shape).any():
        raise ValueError(f"voxel {numbers.tolist()} lies outside the volume of shape {tuple(shape)}; count from 0.")
    return tuple(int(v) for v in numbers)


def _inches(layers: Layers, plane: str, longest: float) -> tuple[float, float]:
    width, height = extent_mm(layers, plane)
    scale = longest / max(width, height)
    return max(width * scale, 0.8), max(height * scale, 0.5)


def _planes_inches(layers: Layers, planes: Sequence[str] | None = None) -> tuple[float, float]:
    planes = planes or planes_worth_showing(layers.grey.shape)
    scale = _PICTURE_INCHES / max(max(extent_mm(layers, plane)) for plane in planes)
    height = max(extent_mm(layers, plane)[1] for plane in planes) * scale
    width = sum(_room(layers, planes)) * scale + 0.55 * len(planes)
    return width + _key_inches(layers), max(height, 0.5) + 1.1


def _room(layers: Layers, planes: Sequence[str]) -> list[float]:
    """Width given to each picture, in mm: its own, so that a mm is as long in each; more for one too thin for axes."""
    sizes = [extent_mm(layers, plane) for plane in planes]
    least = 0.2 * max(max(size) for size in sizes)
    return [max(width, least) for width, _ in sizes]


def _key_inches(layers: Layers) -> float:
    names = [len(name) for overlay in layers.overlays for name in overlay.names.values()]
    legend = 0.5 + 0.075 * min(max(names), 30) if names else 0.0
    return legend + (0.8 if layers.heat is not None else 0.0)
