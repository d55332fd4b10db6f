"""One study, many tables: choose cohort, measure, labels and reference, and see which method comes first."""

from collections.abc import Mapping, Sequence
from html import escape

import ipywidgets

from medssl_nb.viz.comparison import MEASURES, OWN, Ranked, measured, ranking, ranking_png, run_scores
from medssl_nb.widgets.keep_keys import KeepKeys
from medssl_nb.widgets.picture import WithPicture
from medssl_nb.widgets.setting import Setting

PLAIN = "nothing: the scores themselves"
ALL = "all"
NO_LABELS = "–"


class ComparisonExplorer(WithPicture, ipywidgets.VBox):
    """Choose what a table of methods shows, and watch the first place change hands.

    Without a browser: set `.cohort`, `.measure`, `.labelled`, `.against`, `.seed` or `.draw`; read
        ranked: the lines of the table, best first (`medssl_nb.viz.comparison.ranking`).
        winner: name of the first.
        line.value: who is first, by how much, and from whom it cannot be told.
        image.value: the picture, PNG.

    A measure or number of labels that the next cohort lacks gives way to the first one that it has.

    Args:
        results: of kind "side by side", one for each cohort.
        cohort, measure, labelled, against, seed, draw: what is shown first; None takes the first measure and number of
            labels, `OWN` as reference, all seeds and draws.
        title: a line above.

    Raises:
        ValueError: no results, two of one cohort, or a choice that is not there.
    """

    cohort = Setting("the cohort that is shown")
    measure = Setting("what is measured")
    labelled = Setting("how many labelled cases were used")
    against = Setting("what each method is compared with")
    seed = Setting("the seeds that count")
    draw = Setting("the draws of labelled cases that count")

    def __init__(
        self,
        results: Sequence[Mapping],
        *,
        cohort: str | None = None,
        measure: str | None = None,
        labelled: int | str | None = None,
        against: str | None = None,
        seed: int | str | None = None,
        draw: int | str | None = None,
        title: str = "",
    ):
        names = [result["cohort"]["name"] for result in results]
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"results holds one result for each cohort, at least one; got {', '.join(names) or 'none'}."
            )
        self._results, self._title = dict(zip(names, results, strict=True)), title
        self._quiet = True
        self.controls = {name: _dropdown(words) for name, words in _WORDS.items()}
        self.line = ipywidgets.HTML(layout={"min_height": "58px"})  # so that the picture stays where it is
        self.image = ipywidgets.Image(format="png", layout={"max_width": "100%", "align_self": "flex-start"})
        for control in self.controls.values():
            control.observe(self._follow, names="value")
        chosen = {"cohort": cohort, "measure": measure, "labelled": labelled, "against": against, "seed": seed}
        for name, value in {**chosen, "draw": draw}.items():
            self._fill(name)
            if value is not None:
                setattr(self, name, value)
        self._quiet = False
        self._redraw()
        rows = ipywidgets.HBox(list(self.controls.values()), layout={"flex_flow": "row wrap"})
        above = [ipywidgets.HTML(f"<b>{escape(title)}</b>")] if title else []
        super().__init__(children=[*above, rows, self.line, self.image, KeepKeys()])

    @property
    def ranked(self) -> list[Ranked]:
        """The lines of the table, best first."""
        result = self._results[self.cohort]
        choice = {name: None if getattr(self, name) == ALL else getattr(self, name) for name in ("seed", "draw")}
        against = None if self.against == PLAIN else self.against
        return ranking(result, self.measure, self._labelled, against=against, **choice)

    @property
    def winner(self) -> str:
        """The first of the table."""
        return self.ranked[0].arm

    @property
    def _labelled(self) -> int | None:
        return None if self.labelled == NO_LABELS else self.labelled

    def _follow(self, change) -> None:
        if self._quiet:
            return
        self._quiet = True
        order = list(self.controls)
        for name in order[1:]:  # what may be chosen depends on the choices before it
            self._fill(name)
        self._quiet = False
        self._redraw()

    def _fill(self, name: str) -> None:
        """Offer what the result holds; keep the choice where it is among that."""
        control = self.controls[name]
        options = self._options(name)
        kept = control.value
        if list(control.options) != options:
            control.options = options
            values = [option[1] if isinstance(option, tuple) else option for option in options]
            control.value = kept if kept in values else values[0]
        control.disabled = len(options) < 2

    def _options(self, name: str) -> list:
        if name == "cohort":
            return list(self._results)
        result = self._results[self.cohort]
        if name == "measure":
            return [(MEASURES[measure].words, measure) for measure in measured(result)]
        if name == "labelled":
            return [NO_LABELS if count is None else count for count in measured(result)[self.measure]]
        if name == "against":
            return [OWN, PLAIN, *run_scores(result, self.measure, self._labelled)]
        if name == "seed":
            several = sorted({run["seed"] for run in result["runs"]})
        else:
            several = range(0 if self.measure == "clusters" else result["settings"]["draws"])
        return [ALL, *several] if len(several) > 1 else [ALL]

    def _redraw(self) -> None:
        ranked = self.ranked
        self.line.value = escape(told(ranked, MEASURES[self.measure].higher or self.against != PLAIN))
        self.image.value = self._picture(ranked)

    def _picture(self, ranked: Sequence[Ranked]) -> bytes:
        words = MEASURES[self.measure].words
        if self.against != PLAIN:
            axis, lines = f"gain: {words} (right is better)", {"no gain": 0.0}
        else:
            axis = f"{words} ({'right' if MEASURES[self.measure].higher else 'left'} is better)"
            lines = _comparison_lines(self._results[self.cohort], self.measure)
        parts = [f"cohort {self.cohort}", f"against {self.against}"]
        parts += [] if self.labelled == NO_LABELS else [f"{self.labelled} labelled"]
        parts += [f"{name} {getattr(self, name)}" for name in ("seed", "draw") if getattr(self, name) != ALL]
        title = f"{self._title}\n{', '.join(parts)}" if self._title else ", ".join(parts)
        return ranking_png(ranked, axis=axis, title=title, lines=lines)

    def _static_png(self) -> bytes:
        return bytes(self.image.value)


def told(ranked: Sequence[Ranked], higher: bool) -> str:
    """Who is first, by how much, and which others cannot be told from it: intervals of paired differences hold 0."""
    from medssl_nb.evaluation.statistics import paired_difference

    first, runs = ranked[0], len(ranked[0].values)
    text = f"First: {first.arm}, {first.mean:.3g} from {runs} run{'s' * (runs > 1)}."
    if len(ranked) == 1:
        return text
    lead = (first.mean - ranked[1].mean) * (1 if higher else -1)
    text += f" Ahead of {ranked[1].arm} by {lead:.2g}."
    if runs < 3:
        return f"{text} Too few runs to tell any two apart."
    level = []
    own = dict(zip(first.runs, first.values, strict=True))
    for other in ranked[1:]:
        pairs = [(own[run], value) for run, value in zip(other.runs, other.values, strict=True) if run in own]
        if len(pairs) >= 3:
            found = paired_difference(*zip(*pairs, strict=True), resamples=2000)
            level += [other.arm] * (found.low <= 0 <= found.high)
    if not level:
        return f"{text} Its paired interval leaves out zero against every other."
    return f"{text} Cannot be told from it: {', '.join(level)}."


def _comparison_lines(result: Mapping, measure: str) -> dict[str, float]:
    pieces = [run[measure] for run in result["runs"] if run.get(measure)]
    if measure == "landmarks":
        return {"copying the place": pieces[0]["copy_mm"]}
    return {"chance": pieces[0][0]["chance"]} if measure == "lesions" else {}


_WORDS = {"cohort": "cohort", "measure": "measure", "labelled": "labelled", "against": "against", "seed": "seed",
          "draw": "draw"}  # fmt: skip


def _dropdown(words: str) -> ipywidgets.Dropdown:
    width = "30em" if words in ("measure", "against") else "14em"
    return ipywidgets.Dropdown(description=words, layout={"width": width, "max_width": "100%"})
