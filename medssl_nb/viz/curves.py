"""Curves with matplotlib: losses beside what a collapsed model scores, fine-tuning step by step, Dice by labels.

Every line has a colour, a marker and a dash of its own, so that it is known without colour. The colours stay apart
(CIEDE2000 of 12 or more) for normal sight and for red-, green- and blue-blind sight, and are dark enough on white.
`show_...` draws into a notebook, `..._png` gives PNG bytes: the same input gives the same bytes.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from medssl_nb.viz.figures import png, show


class LineStyle(NamedTuple):
    """How a line is drawn: colour "#rrggbb", matplotlib's marker and dash."""

    colour: str
    marker: str
    dash: str | tuple


STYLES = (
    LineStyle("#4d4d4d", "o", "--"),
    LineStyle("#d68100", "s", "-"),
    LineStyle("#0000d6", "^", "-."),
    LineStyle("#30a68e", "D", (0, (5, 1))),
    LineStyle("#d429ff", "v", (0, (3, 1, 1, 1, 1, 1))),
    LineStyle("#a64830", "P", (0, (1, 1))),
    LineStyle("#3e1957", "X", (0, (8, 2))),
)
_MORE_MARKERS = "<>ph*dH8"
# The place of a start in STYLES, the same in every picture; starts of other names take what is left.
KNOWN_STARTS = (
    "random",
    "masked_autoencoding",
    "view_contrast",
    "adaptive_masking",
    "boundary_infomax",
    "local_discrimination",
    "alice",
)
_INK = "#1a1a1a"
_SOFT_INK = "#595959"
_LEAST_DRAWS = 5  # as in evaluation.tables: fewer draws are not resampled


def start_styles(starts: Iterable[str]) -> dict[str, LineStyle]:
    """{start: style}, no two alike; "random" and the project's methods have the same style in every picture."""
    starts = sorted(set(starts))
    styles = {name: style for name, style in zip(KNOWN_STARTS, STYLES, strict=True) if name in starts}
    free = [style for style in STYLES[1:] if style not in styles.values()]  # grey means random alone
    for number, name in enumerate(name for name in starts if name not in styles):
        style = free[number] if number < len(free) else STYLES[1 + number % (len(STYLES) - 1)]
        if number >= len(free):
            style = style._replace(marker=_MORE_MARKERS[(number - len(free)) % len(_MORE_MARKERS)])
        styles[name] = style
    return styles


# ---------------------------------------------------------------- what a notebook calls
def show_losses(
    history: Iterable,
    trivial: Mapping[str, float] | None = None,
    health: Sequence[str] | None = None,
    *,
    title: str | None = None,
) -> None:
    """Show the terms of a pre-training loss by step, and below them the health dial.

    Args:
        history: records of steps, as `pretrain` yields them or as dictionaries: {"step": number, "losses": {"total":
            ..., term: ...}, "health": {name: value}}. "health" may be missing or empty where it was not measured.
        trivial: term -> what a collapsed model scores, drawn dashed in the term's colour: a loss that stays on it has
            learned nothing, however smooth the curve.
        health: names to show; None is all that the history holds, () none.
        title: a line above.

    Raises:
        ValueError: an empty history; a trivial loss or a health name that is not in it.
    """
    draw, size = _losses_picture(history, trivial, health, title)
    show(draw, size)


def losses_png(history, trivial=None, health=None, *, title: str | None = None, dpi: int = 90) -> bytes:
    """The picture of `show_losses` as PNG bytes."""
    draw, size = _losses_picture(history, trivial, health, title)
    return png(draw, size, dpi)


def waiting_png(text: str, dpi: int = 90) -> bytes:
    """A picture of the size of `losses_png` that says in words why there is no curve yet."""

    def draw(figure) -> None:
        figure.text(0.5, 0.5, text, ha="center", va="center", color=_SOFT_INK)

    return png(draw, (7.2, 3.5), dpi)


def show_transfer_curves(runs: Iterable[Mapping], *, title: str | None = None) -> None:
    """Show validation Dice by step of fine-tuning: one line for each start, a panel for each number of labelled cases.

    The line is the mean over seeds and draws, the band one standard deviation to both sides (none for a single run).

    Args:
        runs: records of kind "transfer": "start", "labelled", "curve": [[step, Dice or None], ...].
        title: a line above.

    Raises:
        ValueError: no runs, no curves, or runs of one line that were evaluated at different steps.
    """
    draw, size = _transfer_picture(list(runs), title)
    show(draw, size)


def transfer_curves_png(runs: Iterable[Mapping], *, title: str | None = None, dpi: int = 90) -> bytes:
    """The picture of `show_transfer_curves` as PNG bytes."""
    draw, size = _transfer_picture(list(runs), title)
    return png(draw, size, dpi)


def show_few_label(runs: Iterable[Mapping], *, title: str | None = None) -> None:
    """Show test Dice by number of labelled cases: every run as a dot, the mean of each start with its interval.

    The bar is a 95 % bootstrap interval of the mean; draws of labelled cases are resampled where there are at least 5,
    otherwise runs. (Whether two starts differ is a question for pairs of runs: `difference_table`.) Runs with all
    labels stand on the right; the mean of those without pre-training is the ceiling, a dashed line.

    Args:
        runs: records of kind "transfer" or "probe": "start", "labelled" (a number or "all"), "draw", and "test" with
            "mean_dice", or "mean_dice".
        title: a line above.

    Raises:
        ValueError: no runs, or none with a score.
    """
    draw, size = _few_label_picture(list(runs), title)
    show(draw, size)


def few_label_png(runs: Iterable[Mapping], *, title: str | None = None, dpi: int = 90) -> bytes:
    """The picture of `show_few_label` as PNG bytes."""
    draw, size = _few_label_picture(list(runs), title)
    return png(draw, size, dpi)


# ---------------------------------------------------------------- losses
def _losses_picture(history: Iterable, trivial, health, title) -> tuple[Callable, tuple[float, float]]:
    history = [record if isinstance(record, Mapping) else vars(record) for record in history]
    if not history:
        raise ValueError("the history holds no steps; collect the records that pretrain(...) yields.")
    terms = _names(history, "losses")
    trivial = dict(trivial or {})
    if unknown := sorted(set(trivial) - set(terms)):
        raise ValueError(f"trivial names {', '.join(unknown)}, the history has the losses {', '.join(terms)}.")
    dials = _names(history, "health") if health is None else list(health)
    if unknown := sorted(set(dials) - set(_names(history, "health"))):
        found = ", ".join(_names(history, "health")) or "none"
        raise ValueError(f"health names {', '.join(unknown)}; what the history measured is: {found}.")

    def draw(figure) -> None:
        ratios = [3, 1.1] if dials else [1]
        axes = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
        _draw_losses(axes[0], history, terms, trivial)
        if dials:
            _draw_health(axes[1], history, dials)
        axes[-1].set_xlabel("step", color=_SOFT_INK)
        _top_line(figure, title)

    return draw, (7.2, 4.6 if dials else 3.5)


def _draw_losses(ax, history: list[Mapping], terms: list[str], trivial: Mapping[str, float]) -> None:
    window = 2 * (len(history) // 40) + 1
    broken = 0
    for term, style in zip(terms, _term_styles(len(terms)), strict=True):
        steps, values = _series(history, "losses", term)
        broken += int((~np.isfinite(values)).sum())
        ax.plot(steps, values, color=style.colour, linewidth=0.7, alpha=0.3)
        width = 2.4 if term == "total" else 1.5
        every = max(1, len(steps) // 8)
        look = {"color": style.colour, "marker": style.marker, "markersize": 5, "markevery": every}
        ax.plot(steps, _running_mean(values, window), label=term, linewidth=width, **look)
        if term in trivial:
            text = f"{term} if trivial: {trivial[term]:.3g}"
            ax.axhline(trivial[term], color=style.colour, linestyle="--", linewidth=1.2, label=text)
    lines = [f"line: mean of {window} steps; pale: each step"] if window > 1 else []
    lines += ["dashed: what a collapsed model scores"] if trivial else []
    lines += [f"{broken} values not finite, not drawn"] if broken else []
    _dress(ax, "Loss", " · ".join(lines))
    ax.set_ylabel("loss (no unit)", color=_SOFT_INK)
    _legend(ax)


def _draw_health(ax, history: list[Mapping], dials: list[str]) -> None:
    for name, style in zip(dials, _term_styles(len(dials)), strict=True):
        steps, values = _series(history, "health", name)
        every = max(1, len(steps) // 8)
        ax.plot(steps, values, label=name, color=style.colour, marker=style.marker, markersize=4, markevery=every)
    _dress(ax, "Health dial", "")
    ax.set_ylabel("value", color=_SOFT_INK)
    _legend(ax)


def _term_styles(count: int) -> list[LineStyle]:
    """The first is drawn in ink (it is "total" of a loss), the others as starts are."""
    more = [STYLES[1 + i % (len(STYLES) - 1)] for i in range(count - 1)]
    return [LineStyle(_INK, "o", "-"), *more]


def _names(history: Sequence[Mapping], part: str) -> list[str]:
    """Names of the losses or health values of any record, "total" first, then in the order they are met."""
    names = dict.fromkeys(name for record in history for name in record.get(part) or {})
    return sorted(names, key=lambda name: name != "total")  # stable: the others keep their order


def _series(history: Sequence[Mapping], part: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values) of the records that hold `name`."""
    found = [(record["step"], float(record[part][name])) for record in history if name in (record.get(part) or {})]
    steps, values = zip(*found, strict=True)
    return np.array(steps), np.array(values)


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of the finite values in a window (odd) around each place, cut at the ends; NaN where there are none."""
    finite, kernel, half = np.isfinite(values), np.ones(window), window // 2
    total = np.convolve(np.where(finite, values, 0), kernel)[half : half + len(values)]
    count = np.convolve(finite, kernel)[half : half + len(values)].round()
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


# ---------------------------------------------------------------- transfer
def _transfer_picture(runs: list[Mapping], title) -> tuple[Callable, tuple[float, float]]:
    runs = [run for run in runs if run["curve"]]
    if not runs:
        raise ValueError("there is no run with a curve to show; fine-tune with evaluation steps.")
    styles = start_styles(run["start"] for run in runs)
    panels = sorted({run["labelled"] for run in runs}, key=_labelled_order)
    columns, lines = min(3, len(panels)), {}
    for labelled in panels:
        for start in styles:
            curves = [run["curve"] for run in runs if (run["labelled"], run["start"]) == (labelled, start)]
            if curves:
                lines[labelled, start] = _mean_curve(curves, f"{start}, {labelled} labelled")

    def draw(figure) -> None:
        axes = figure.subplots(-(-len(panels) // columns), columns, sharey=True, squeeze=False)
        for ax in axes.flat[len(panels) :]:
            ax.remove()
        for ax, labelled in zip(axes.flat, panels, strict=False):
            here = {start: line for (number, start), line in lines.items() if number == labelled}
            _draw_curves(ax, here, styles)
            missing = sum(int(np.isnan(values).sum()) for _, values in here.values())
            note = f"{missing} values not defined, left out" if missing else "mean ± 1 sd over draws and seeds"
            _dress(ax, _labelled_text(labelled), note)
            ax.set_xticks(sorted({int(step) for steps, _ in here.values() for step in _few(steps)}))
            ax.set_xlabel("step of fine-tuning", color=_SOFT_INK)
            _legend(ax, below=True)
        for ax in axes[:, 0]:
            ax.set_ylabel("validation mean Dice (0 to 1)", color=_SOFT_INK)
        _top_line(figure, title)

    names = max(sum(number == labelled for number, _ in lines) for labelled in panels)
    return draw, (max(3.4 * columns, 5.0), (3.4 + 0.2 * names) * -(-len(panels) // columns) + 0.1)


def _mean_curve(curves: Sequence[Sequence], what: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps (S,), values (runs, S), NaN where not defined)."""
    steps = [tuple(step for step, _ in curve) for curve in curves]
    if len(set(steps)) > 1:
        other = next(s for s in steps if s != steps[0])
        raise ValueError(
            f"runs of one line ({what}) were evaluated at different steps, {list(steps[0])} and {list(other)}; their "
            "mean would mix them. Show them apart, or fine-tune with the same settings."
        )
    values = [[np.nan if value is None else value for _, value in curve] for curve in curves]
    return np.array(steps[0]), np.array(values, float)


def _few(steps: np.ndarray) -> np.ndarray:
    """At most five of the steps, so that their numbers do not run into each other."""
    return steps[np.unique(np.linspace(0, len(steps) - 1, 5).round().astype(int))]


def _draw_curves(ax, lines: Mapping[str, tuple], styles: Mapping[str, LineStyle]) -> None:
    for start, (steps, values) in lines.items():
        style = styles[start]
        count = (~np.isnan(values)).sum(axis=0)
        mean = np.nansum(values, axis=0) / np.where(count == 0, np.nan, count)
        look = {"color": style.colour, "marker": style.marker, "linestyle": style.dash, "markersize": 5.5}
        ax.plot(steps, mean, label=f"{_plain(start)} ({_runs(len(values))})", **look)
        squares = np.nansum((values - mean) ** 2, axis=0)
        sd = np.sqrt(squares / np.where(count > 1, count - 1, np.nan))
        ax.fill_between(steps, mean - sd, mean + sd, color=style.colour, alpha=0.15, linewidth=0)


# ---------------------------------------------------------------- few labels
def _few_label_picture(runs: list[Mapping], title) -> tuple[Callable, tuple[float, float]]:
    scored = [run for run in runs if _dice(run) is not None]
    if not scored:
        raise ValueError(f"none of {len(runs)} runs has a test Dice to show.")
    styles = start_styles(run["start"] for run in scored)
    counts = sorted({run["labelled"] for run in scored}, key=_labelled_order)
    place = _places(counts)
    cells = defaultdict(list)
    for run in scored:
        cells[run["start"], run["labelled"]].append(run)

    def draw(figure) -> None:
        ax = figure.subplots()
        for number, (start, style) in enumerate(styles.items()):
            shift = 0.09 * (number - (len(styles) - 1) / 2)  # side by side: bars on one spot hide each other
            own = [(labelled, cells[start, labelled]) for labelled in counts if cells[start, labelled]]
            _draw_dice(ax, [(place[labelled] + shift, found, labelled) for labelled, found in own], start, style)
        _draw_ceiling(ax, cells.get(("random", "all")))
        lines = ["dots: runs", "bars: 95 % interval of the mean"]
        lines += [f"{_runs(len(runs) - len(scored))} without a score left out"] if len(scored) < len(runs) else []
        _dress(ax, "Dice by number of labelled cases", " · ".join(lines))
        ax.set_xticks([place[labelled] for labelled in counts], labels=[str(labelled) for labelled in counts])
        ax.set_xlim(min(place.values()) - 0.5, max(place.values()) + 0.5)
        ax.set_xlabel("labelled cases", color=_SOFT_INK)
        ax.set_ylabel("test mean Dice (0 to 1)", color=_SOFT_INK)
        _legend(ax)
        _top_line(figure, title)

    return draw, (7.6, 4.0)


def _draw_dice(ax, columns: Sequence[tuple], start: str, style: LineStyle) -> None:
    """Dots, means and bars of one start; numbers of labels are joined by a line, "all" stands for itself."""
    means = []
    for x, runs, _ in columns:
        values = [_dice(run) for run in runs]
        ax.plot([x] * len(values), values, style.marker, color=style.colour, alpha=0.3, markersize=3)
        means.append(float(np.mean(values)))
        if len(values) > 1:
            low, high = _interval(runs)
            ax.vlines(x, low, high, color=style.colour, linewidth=1.6)
    xs = [x for x, _, _ in columns]
    joined = [i for i, (_, _, labelled) in enumerate(columns) if labelled != "all"]
    look = {"color": style.colour, "marker": style.marker, "markersize": 7}
    ax.plot(xs, means, linestyle="none", **look)
    ax.plot([xs[i] for i in joined], [means[i] for i in joined], linestyle=style.dash, color=style.colour)
    label = f"{_plain(start)} ({_runs(sum(len(runs) for _, runs, _ in columns))})"
    ax.plot([], [], linestyle=style.dash, label=label, **look)


def _draw_ceiling(ax, runs: Sequence[Mapping] | None) -> None:
    if runs and "test" in runs[0]:  # trained through; a probe of random features with all labels is no ceiling
        mean = float(np.mean([_dice(run) for run in runs]))
        text = f"ceiling: all labels, random: {mean:.3f}"
        ax.axhline(mean, color=_INK, linestyle=(0, (6, 3)), linewidth=1.0, label=text)


def _interval(runs: Sequence[Mapping]) -> tuple[float, float]:
    from medssl_nb.evaluation.statistics import mean_and_interval

    draws = [run["draw"] for run in runs]
    groups = draws if len(set(draws)) >= _LEAST_DRAWS else None
    found = mean_and_interval([_dice(run) for run in runs], groups=groups)
    return found.low, found.high


def _places(counts: Sequence[int | str]) -> dict[int | str, float]:
    """Where each number of labelled cases stands: doublings are one apart, "all" 1.2 beyond the largest."""
    place = {labelled: float(np.log2(labelled)) for labelled in counts if labelled != "all"}
    if "all" in counts:
        place["all"] = max(place.values(), default=-1.2) + 1.2
    return place


def _dice(run: Mapping) -> float | None:
    return run["test"]["mean_dice"] if "test" in run else run["mean_dice"]


def _labelled_order(labelled: int | str) -> float:
    return np.inf if labelled == "all" else labelled


def _labelled_text(labelled: int | str) -> str:
    return "all labelled cases" if labelled == "all" else f"{labelled} labelled case{'s' * (labelled != 1)}"


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"


def _plain(start: str) -> str:
    return start.replace("_", " ")


# ---------------------------------------------------------------- figures
def _dress(ax, first: str, second: str) -> None:
    """Two lines above, soft ticks, no frame on top and right."""
    ax.set_title(first, loc="left", fontsize=10.5, pad=17 if second else 6)
    ax.annotate(second, (0, 1), (0, 5), "axes fraction", textcoords="offset points", fontsize=8.5, color=_SOFT_INK)
    ax.tick_params(length=3, width=0.6, labelsize=8.5, colors=_SOFT_INK)
    ax.grid(axis="y", linewidth=0.4, color="#dddddd")
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _legend(ax, *, below: bool = False) -> None:
    """Names beside the axes, or below them where panels stand side by side: never over the data."""
    where = {"loc": "upper left", "bbox_to_anchor": (0, -0.18)} if below else {"bbox_to_anchor": (1.01, 1.0)}
    ax.legend(**{"loc": "upper left", **where}, frameon=False, fontsize=8.5, handlelength=3.2, borderaxespad=0)


def _top_line(figure, title: str | None) -> None:
    if title:
        figure.suptitle(title, x=0.01, ha="left")
