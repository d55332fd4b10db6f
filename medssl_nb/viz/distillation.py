"""Pictures of a teacher's distributions: each sample's, the spread of all, and how both change step by step.

`show_...` draws into a notebook, `..._png` gives PNG bytes: the same input gives the same bytes.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from medssl_nb.viz.colours import CONTOUR_COLOUR, heat_palette
from medssl_nb.viz.figures import png, show

TEACHER_COLOUR, STUDENT_COLOUR = "#2a7fd4", "#e69f00"
SINGLE_COLOUR, MEAN_COLOUR = "#2a7fd4", "#c2410c"
MOST_COLUMNS = 256  # more are too thin to be drawn; of neighbours the largest stands for all
_TICKS = (0, 0.05, 0.25, 1)
_SOFT_INK = "#595959"


class Spread(NamedTuple):
    """How sure each distribution is, and how different they are."""

    entropy: float  # mean over the samples, in nats: 0 one winner each, ln D even
    entropy_of_mean: float  # of the mean distribution, in nats: 0 one winner for all
    winners: int  # outputs that are the largest of at least one sample
    largest: float  # share that the mean distribution gives to its largest output


class EntropyCurve(NamedTuple):
    """Entropies by step of training."""

    steps: np.ndarray  # (T,)
    entropy: np.ndarray  # (T,) mean entropy of the samples' distributions, in nats
    entropy_of_mean: np.ndarray  # (T,) entropy of the mean of the distributions, in nats


def spread_of(probabilities) -> Spread:
    """Spread of the distributions (M, D) of M samples, each of sum 1.

    Raises:
        ValueError: no such distributions.
    """
    rows = as_distributions(probabilities)
    mean = rows.mean(axis=0)
    winners = len(np.unique(rows.argmax(axis=1)))
    return Spread(float(entropy(rows).mean()), float(entropy(mean)), winners, float(mean.max()))


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Entropy in nats over the last axis; 0 ln 0 is 0."""
    from scipy.special import entr

    return entr(probabilities).sum(axis=-1)


def show_distributions(probabilities, **options) -> None:
    """Show what the teacher says of each sample: a row of colours for each, below them their mean.

    Colours and heights run with the root of the probability, from 0 to 1, so that an even share still shows.

    Args:
        probabilities: (M, D) numpy array or tensor, rows of sum 1.
        **options:
            sample: row to frame and to draw as bars above; None draws no bars.
            student: (M, D) distributions of the student, drawn over the bars as a line.
            title: lines above.

    Raises:
        ValueError: rows that are no distributions, other shapes, no such sample.
    """
    draw, size = _distributions_picture(probabilities, **options)
    show(draw, size)


def distributions_png(probabilities, *, dpi: int = 90, **options) -> bytes:
    """The picture of `show_distributions` as PNG bytes."""
    draw, size = _distributions_picture(probabilities, **options)
    return png(draw, size, dpi)


def show_entropies(curves: Mapping[str, EntropyCurve], num_outputs: int, *, title: str | None = None) -> None:
    """Show for each run the entropy of the single distributions and that of their mean, by step, beside ln D.

    Low and high: each sample has an answer, and answers differ. Both at ln D: even collapse. Both at 0: one winner.

    Args:
        curves: name of the run -> its entropies; `DistillationExplorer.curves` has this form.
        num_outputs: D.
        title: a line above.

    Raises:
        ValueError: no curves.
    """
    draw, size = _entropies_picture(curves, num_outputs, title)
    show(draw, size)


def entropies_png(curves, num_outputs: int, *, title: str | None = None, dpi: int = 90) -> bytes:
    """The picture of `show_entropies` as PNG bytes."""
    draw, size = _entropies_picture(curves, num_outputs, title)
    return png(draw, size, dpi)


def as_distributions(probabilities, name: str = "probabilities") -> np.ndarray:
    """(M, D) float64 whose rows sum to 1, from an array or tensor.

    Raises:
        ValueError: another shape, or rows that are no distributions (by more than 1e-3).
    """
    tensor = hasattr(probabilities, "detach")
    rows = np.asarray(probabilities.detach().cpu().double() if tensor else probabilities, np.float64)
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(f"{name} must be (M, D), a distribution for each of M samples, got shape {rows.shape}.")
    if not (rows.min() >= 0 and (np.abs(rows.sum(axis=1) - 1) <= 1e-3).all()):
        raise ValueError(
            f"{name} must be from 0 and sum to 1 in each row, found a smallest of {rows.min():.4g} and sums from "
            f"{rows.sum(axis=1).min():.4g} to {rows.sum(axis=1).max():.4g}; make them of logits by a softmax."
        )
    return rows


def share_codes(rows: np.ndarray, most: int = MOST_COLUMNS) -> np.ndarray:
    """Colour of each probability (M, D) as uint8 number in the palette, (M, at most so many columns).

    The root runs evenly from 0 to 1. Of columns that share one the largest counts, so that a thin winner is not lost.
    """
    every = -(-rows.shape[1] // most)
    largest = np.maximum.reduceat(rows, np.arange(0, rows.shape[1], every), axis=1)
    return np.round(255 * np.sqrt(largest.clip(0, 1))).astype(np.uint8)


# ---------------------------------------------------------------- drawing
def _distributions_picture(
    probabilities, *, sample: int | None = None, student=None, title: str | None = None
) -> tuple[Callable, tuple[float, float]]:
    rows = as_distributions(probabilities)
    student = None if student is None else as_distributions(student, "student")
    if student is not None and student.shape != rows.shape:
        raise ValueError(f"student has shape {student.shape}, the teacher {rows.shape}; both need the same samples.")
    if sample is not None and sample not in range(len(rows)):
        raise ValueError(f"there are {len(rows)} samples, counted from 0; got sample {sample}.")
    heights = [*([1.0] * (sample is not None)), min(0.09 * len(rows) + 0.6, 2.8), 0.16]
    lines = 0 if title is None else title.count("\n") + 1

    def draw(figure) -> None:
        axes = list(figure.subplots(len(heights), 1, height_ratios=heights))
        if sample is not None:
            _draw_profile(axes[0], rows[sample], None if student is None else student[sample], sample)
        _draw_rows(figure, axes, rows, sample)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=9.5)

    return draw, (5.6, sum(heights) + 1.0 + 0.35 * len(heights) + 0.18 * lines)


def _draw_profile(ax, teacher: np.ndarray, student: np.ndarray | None, sample: int) -> None:
    edges = np.arange(len(teacher) + 1) - 0.5
    ax.stairs(np.sqrt(teacher), edges, fill=True, color=TEACHER_COLOUR, label="teacher")
    if student is not None:
        ax.stairs(np.sqrt(student), edges, color=STUDENT_COLOUR, linewidth=1.4, label="student")
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(0, 1)
    ax.set_yticks(np.sqrt(_TICKS), labels=_percents())
    ax.set_xticks([])
    ax.tick_params(length=2, labelsize=8, colors=_SOFT_INK)
    ax.spines[["top", "right"]].set_visible(False)
    place = {"loc": "lower right", "bbox_to_anchor": (1.0, 0.98), "borderaxespad": 0, "handlelength": 1.2}
    ax.legend(frameon=False, fontsize=8.5, ncols=2, **place)
    ax.set_title(f"sample {sample}", loc="left", fontsize=9.5)


def _draw_rows(figure, axes: list, rows: np.ndarray, sample: int | None) -> None:
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Rectangle

    (ax, below), (count, outputs) = axes[-2:], rows.shape
    look = {"cmap": ListedColormap(heat_palette() / 255), "vmin": 0, "vmax": 255, "aspect": "auto"}
    for each, values, high in ((ax, rows, count), (below, rows.mean(axis=0, keepdims=True), 1)):
        extent = (-0.5, outputs - 0.5, high - 0.5, -0.5)
        image = each.imshow(share_codes(values), extent=extent, interpolation="nearest", **look)
        each.tick_params(length=2, labelsize=8, colors=_SOFT_INK)
        each.spines[:].set_visible(False)
    if sample is not None:
        for colour, width in (("black", 3.2), (CONTOUR_COLOUR, 1.6)):
            box = Rectangle((-0.5, sample - 0.5), outputs, 1, fill=False, edgecolor=colour, linewidth=width)
            box.set_clip_on(False)
            ax.add_patch(box)
    ax.set_ylabel("sample", color=_SOFT_INK)
    ax.set_xticks([])
    below.set_yticks([0], labels=["mean"])
    below.set_xlabel("output", color=_SOFT_INK)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, aspect=24, pad=0.02)
    bar.set_ticks(255 * np.sqrt(_TICKS), labels=_percents())
    bar.set_label("probability (root scale)", fontsize=8.5, color=_SOFT_INK)
    bar.ax.tick_params(length=2, labelsize=8, colors=_SOFT_INK)
    bar.outline.set_visible(False)


def _percents() -> list[str]:
    return [f"{100 * tick:g} %" for tick in _TICKS]


def _entropies_picture(
    curves: Mapping[str, EntropyCurve], num_outputs: int, title: str | None
) -> tuple[Callable, tuple[float, float]]:
    if not curves:
        raise ValueError("there are no curves to show; give {name of a run: EntropyCurve}.")
    most = math.log(num_outputs)
    columns = min(len(curves), 3)
    rows = -(-len(curves) // columns)

    def draw(figure) -> None:
        axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for ax in axes.flat[len(curves) :]:
            ax.remove()
        for ax, (name, curve) in zip(axes.flat, curves.items(), strict=False):
            ax.axhline(most, color=_SOFT_INK, linestyle=":", linewidth=1.2, label=even_name(num_outputs))
            look = {"linewidth": 1.8, "markersize": 3.5}
            ax.plot(curve.steps, curve.entropy_of_mean, "s--", color=MEAN_COLOUR, label=MEAN_NAME, **look)
            ax.plot(curve.steps, curve.entropy, "o-", color=SINGLE_COLOUR, label=SINGLE_NAME, **look)
            ax.set_ylim(-0.03 * most, 1.08 * most)
            ax.set_title(name, loc="left", fontsize=9.5)
            ax.set_xlabel("step of training", color=_SOFT_INK)
            ax.tick_params(length=3, width=0.6, labelsize=8.5, colors=_SOFT_INK)
            ax.spines[["top", "right"]].set_visible(False)
        for ax in axes[:, 0]:
            ax.set_ylabel("entropy (nats)", color=_SOFT_INK)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        place = {"loc": "outside upper left", "ncols": 3 if columns > 1 else 1, "alignment": "left"}
        figure.legend(handles, labels, frameon=False, fontsize=8.5, title=title, **place)

    return draw, (max(2.9 * columns, 4.4), 2.5 * rows + (0.5 if columns > 1 else 0.8))


SINGLE_NAME, MEAN_NAME = "mean entropy of the samples", "entropy of their mean"


def even_name(num_outputs: int) -> str:
    return f"even: ln {num_outputs} = {math.log(num_outputs):.2f}"
