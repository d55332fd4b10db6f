"""Methods side by side: a ranking with its runs and intervals, and Dice by labels, one small panel for each method.

All pictures are drawn from results of kind "side by side" (`studies/four_methods.py`). Each method has the colour and
marker that it has in `medssl_nb.viz.curves`; untrained networks are grey.
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from medssl_nb.viz.curves import STYLES, LineStyle, start_styles
from medssl_nb.viz.figures import png, show


class Measure(NamedTuple):
    """What is compared: words for an axis, and which end of it is good."""

    words: str
    higher: bool


MEASURES = {
    "probe": Measure("Dice of a linear probe on frozen features", True),
    "finetuned": Measure("Dice after fine-tuning", True),
    "landmarks": Measure("landmark error, mm", False),
    "lesions": Measure("lesions: average precision of a linear probe", True),
    "clusters": Measure("share of the labels explained by clusters", True),
}
OWN = "the same network untrained"
_LEAST = 3  # an interval from fewer runs is no more than their range
_INK, _SOFT_INK = "#1a1a1a", "#595959"
_EMBEDDING = LineStyle("#690000", "*", (0, (4, 1, 1, 1)))  # as far from the other colours as they are from each other
_UNTRAINED_MARKERS = "odsXPv^"


class Ranked(NamedTuple):
    """One line of a ranking.

    Attributes:
        arm: its name.
        mean: of `values`.
        low, high: ends of the 95 % bootstrap interval of the mean over runs; None from fewer than three runs.
        values: one for each run; differences where two arms are compared.
        runs: (seed, draw) of each value.
    """

    arm: str
    mean: float
    low: float | None
    high: float | None
    values: tuple[float, ...]
    runs: tuple[tuple, ...]


# ---------------------------------------------------------------- numbers
def measured(result: Mapping) -> dict[str, tuple[int | None, ...]]:
    """{measure: numbers of labelled cases} of what a result holds; (None,) for measures without few labels."""
    found = {}
    for measure in MEASURES:
        pieces = [run[measure] for run in result["runs"] if run.get(measure)]
        if pieces and measure in ("probe", "finetuned"):
            found[measure] = tuple(sorted({one["labelled"] for piece in pieces for one in piece}))
        elif pieces:
            found[measure] = (None,)
    return found


def run_scores(result: Mapping, measure: str, labelled: int | None = None) -> dict[str, dict[tuple, float]]:
    """{arm: {(seed, draw): score}}; landmarks count templates as draws, clusters have none (None).

    Args:
        result: of kind "side by side".
        measure: one of `MEASURES`.
        labelled: number of labelled cases, for "probe" and "finetuned".

    Raises:
        ValueError: what the result does not hold, and what it holds.
    """
    known = measured(result)
    if measure not in known or labelled not in known[measure]:
        held = "; ".join(f"{name} {counts}" if counts != (None,) else name for name, counts in known.items())
        raise ValueError(f"{result['cohort']['name']} was not measured by {measure!r} with {labelled}; it has {held}.")
    scores: dict[str, dict[tuple, float]] = {}
    for run in result["runs"]:
        if run.get(measure):
            own = _scores_of(run[measure], measure, labelled)
            scores.setdefault(run["arm"], {}).update({(run["seed"], draw): value for draw, value in own})
    return scores


def _scores_of(piece, measure: str, labelled: int | None) -> list[tuple[int | None, float]]:
    if measure == "landmarks":
        return list(enumerate(piece["of_each_template_mm"]))
    if measure == "clusters":
        return [(None, piece["share"])]
    name = "average_precision" if measure == "lesions" else "mean_dice"
    return [(one["draw"], one[name]) for one in piece if labelled in (None, one["labelled"])]


def untrained_twins(result: Mapping) -> dict[str, str | None]:
    """{arm: the arm that is the same network untrained}, None for those that are untrained themselves."""
    return {run["arm"]: run["untrained"] for run in result["runs"]}


def ranking(
    result: Mapping,
    measure: str,
    labelled: int | None = None,
    *,
    against: str | None = None,
    seed: int | None = None,
    draw: int | None = None,
) -> list[Ranked]:
    """Arms of a result, best first.

    Args:
        result, measure, labelled: as in `run_scores`.
        against: None ranks the scores themselves, all arms; `OWN`, or the name of an arm, ranks what each *trained* arm
            gains over it, paired by seed and draw. A gain is positive where the arm is better, in mm too.
        seed, draw: only runs of this seed, this draw; None takes all.

    Raises:
        ValueError: as `run_scores`; an unknown arm, or no run that is left.
    """
    from medssl_nb.evaluation.statistics import mean_and_interval

    scores, twins = run_scores(result, measure, labelled), untrained_twins(result)
    if against not in (None, OWN, *scores):
        raise ValueError(f"against is None, {OWN!r} or one of {', '.join(scores)}; got {against!r}.")
    sign = 1 if MEASURES[measure].higher else -1
    found = []
    for arm, own in scores.items():
        kept = {run: v for run, v in own.items() if seed in (None, run[0]) and (draw is None or run[1] in (None, draw))}
        if against is not None:
            other = scores.get(twins[arm] if against == OWN else against, {})
            kept = {run: sign * (v - other[run]) for run, v in kept.items() if run in other}
        if not kept or (against is not None and (twins[arm] is None or arm == against)):
            continue
        runs = tuple(sorted(kept, key=str))  # a draw may be None
        values = tuple(kept[run] for run in runs)
        ends = mean_and_interval(values, resamples=2000) if len(values) >= _LEAST else None
        found.append(Ranked(arm, fmean(values), ends and ends.low, ends and ends.high, values, runs))
    if not found:
        raise ValueError(f"no run of {result['cohort']['name']} has seed {seed} and draw {draw}.")
    return sorted(found, key=lambda one: one.mean, reverse=against is not None or MEASURES[measure].higher)


def arm_styles(arms: Sequence[str]) -> dict[str, LineStyle]:
    """{arm: style}: that of the method in every picture, grey with a marker of its own for untrained networks."""
    untrained = [arm for arm in arms if arm.startswith("untrained")]
    methods = [arm for arm in arms if arm not in (*untrained, "anatomical embedding")]
    known = start_styles(arm.replace(" ", "_") for arm in methods)
    styles = {arm: known[arm.replace(" ", "_")] for arm in methods}
    for number, arm in enumerate(untrained):
        styles[arm] = STYLES[0]._replace(marker=_UNTRAINED_MARKERS[number % len(_UNTRAINED_MARKERS)])
    return {arm: styles.get(arm, _EMBEDDING) for arm in arms}


# ---------------------------------------------------------------- what a notebook calls
def show_ranking(ranked: Sequence[Ranked], *, axis: str, title: str | None = None, lines=None) -> None:
    """Show a ranking, best on top: every run as a dot, the mean with its interval.

    Args:
        ranked: what `ranking` returns; several with a heading each, {heading: ranking}, stand side by side.
        axis: words below.
        title: a line above.
        lines: {words: place} of vertical lines to compare with, such as {"copying the place": 36.4}.

    Raises:
        ValueError: nothing to rank.
    """
    show(*_ranking_picture(ranked, axis, title, lines))


def ranking_png(ranked, *, axis: str, title: str | None = None, lines=None, dpi: int = 90) -> bytes:
    """The picture of `show_ranking` as PNG bytes."""
    return png(*_ranking_picture(ranked, axis, title, lines), dpi)


def show_few_label_panels(result: Mapping, measure: str = "probe", *, title: str | None = None) -> None:
    """Show Dice by number of labelled cases: a panel for each trained arm, beside it the same network untrained.

    Markers are means over seeds and draws, bars their 95 % bootstrap intervals; the other methods stand behind in pale
    grey, the same lines in every panel.

    Args:
        result: of kind "side by side".
        measure: "probe" or "finetuned".
        title: a line above.

    Raises:
        ValueError: as `run_scores`.
    """
    show(*_panels_picture(result, measure, title))


def few_label_panels_png(result: Mapping, measure: str = "probe", *, title: str | None = None, dpi: int = 90) -> bytes:
    """The picture of `show_few_label_panels` as PNG bytes."""
    return png(*_panels_picture(result, measure, title), dpi)


# ---------------------------------------------------------------- ranking
def _ranking_picture(ranked, axis: str, title: str | None, lines) -> tuple[Callable, tuple[float, float]]:
    columns = dict(ranked) if isinstance(ranked, Mapping) else {"": list(ranked)}
    if not columns or not all(columns.values()):
        raise ValueError("there is nothing to rank: give what `ranking` returns, or {heading: ranking}.")
    longest = max(map(len, columns.values()))
    styles = arm_styles(sorted({one.arm for rows in columns.values() for one in rows}))

    def draw(figure) -> None:
        panels = figure.subplots(1, len(columns), squeeze=False, sharex=True)[0]
        for ax, (heading, rows) in zip(panels, columns.items(), strict=True):
            _draw_ranking(ax, rows, styles, lines or {})
            ax.set_ylim(longest - 0.5, -0.5)
            ax.set_title(heading, loc="left", fontsize=10.5)
            ax.set_xlabel(axis, color=_SOFT_INK)
        note = f"dots: runs; bar: 95 % interval of the mean (from {_LEAST} runs on)"
        figure.suptitle(f"{title}\n{note}" if title else note, x=0.01, ha="left", fontsize=10)

    return draw, (max(7.2, 4.6 * len(columns)), 1.4 + 0.34 * longest)


def _draw_ranking(ax, rows: Sequence[Ranked], styles: Mapping[str, LineStyle], lines: Mapping[str, float]) -> None:
    for place, one in enumerate(rows):
        style = styles[one.arm]
        ax.plot(one.values, [place] * len(one.values), "o", color=style.colour, alpha=0.35, markersize=3.5)
        if one.low is not None:
            ax.hlines(place, one.low, one.high, color=style.colour, linewidth=2.2)
        ax.plot([one.mean], [place], style.marker, color=style.colour, markersize=8)
    for words, place in lines.items():
        ax.axvline(place, color=_INK, linewidth=1.0, linestyle=(0, (6, 3)))
        text = f" {words}"
        ax.annotate(text, (place, 1), (2, -2), ("data", "axes fraction"), "offset points", va="top", fontsize=8)
    ax.set_yticks(range(len(rows)), labels=[one.arm for one in rows])
    ax.tick_params(length=0, labelsize=9)
    ax.grid(axis="x", linewidth=0.4, color="#dddddd")
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)


# ---------------------------------------------------------------- panels
def _panels_picture(result: Mapping, measure: str, title: str | None) -> tuple[Callable, tuple[float, float]]:
    counts = [n for n in measured(result).get(measure, ()) if n is not None]
    twins = untrained_twins(result)
    curves = {n: {one.arm: one for one in ranking(result, measure, n)} for n in counts}
    arms = [arm for arm, twin in twins.items() if twin and counts and arm in curves[counts[0]]]
    if not arms:
        raise ValueError(f"{result['cohort']['name']} holds no Dice by labels under {measure!r}.")
    styles, rows = arm_styles(list(twins)), -(-len(arms) // 3)

    def draw(figure) -> None:
        axes = figure.subplots(rows, min(3, len(arms)), sharex=True, sharey=True, squeeze=False)
        for ax in axes.flat[len(arms) :]:
            ax.remove()
        for ax, arm in zip(axes.flat, arms, strict=False):
            for other in arms:
                ax.plot(counts, [curves[n][other].mean for n in counts], color="#d9d9d9", linewidth=1, zorder=1)
            for shift, one in ((1.03, twins[arm]), (0.97, arm)):
                _draw_curve(ax, curves, counts, one, styles[one], shift)
            _dress_panel(ax, arm, counts)
        for ax in axes[:, 0]:
            ax.set_ylabel("test mean Dice", color=_SOFT_INK)
        for ax in list(axes.flat)[max(0, len(arms) - axes.shape[1]) : len(arms)]:
            ax.tick_params(labelbottom=True)
            ax.set_xlabel("labelled cases", color=_SOFT_INK)
        note = "colour: the method; grey, dashed: the same network untrained; bars: 95 % intervals; pale: the others"
        figure.suptitle(f"{title}\n{note}" if title else note, x=0.01, ha="left", fontsize=10)

    return draw, (8.4, 2.15 * rows + 0.7)


def _draw_curve(ax, curves, counts: Sequence[int], arm: str, style: LineStyle, shift: float) -> None:
    points = [(n * shift, curves[n][arm]) for n in counts if arm in curves[n]]
    for x, one in points:
        if one.low is not None:
            ax.vlines(x, one.low, one.high, color=style.colour, linewidth=1.6)
    look = {"color": style.colour, "marker": style.marker, "markersize": 5.5}
    dash = "--" if arm.startswith("untrained") else "-"
    ax.plot([x for x, _ in points], [one.mean for _, one in points], linestyle=dash, **look)


def _dress_panel(ax, arm: str, counts: Sequence[int]) -> None:
    ax.set_title(arm, loc="left", fontsize=10)
    ax.set_xscale("log", base=2)
    ax.set_xticks(counts, labels=[str(n) for n in counts])
    ax.minorticks_off()
    ax.tick_params(length=3, width=0.6, labelsize=8.5, colors=_SOFT_INK)
    ax.grid(axis="y", linewidth=0.4, color="#dddddd")
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
