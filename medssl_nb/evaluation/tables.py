"""Tables made from result files. Every table carries its protocol: cohort, cases, seeds, steps, version, hardware."""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import stdev

# What tells one run of a kind from another: two runs with the same values here are the same measurement.
RUN_IDENTITY: dict[str, tuple[str, ...]] = {
    "transfer": ("start", "labelled", "draw", "seed"),
    "probe": ("start", "labelled", "draw", "seed"),
    "landmarks": ("start", "template", "seed"),
}
BASELINE = "random"  # the start without pre-training
_LEAST_DRAWS = 5  # an interval from fewer resampled groups says little
_ENOUGH = 10  # a bootstrap interval from fewer values holds the true mean clearly less often than it says

Results = Mapping | Sequence[Mapping]


@dataclass(frozen=True)
class Table:
    """A table and its caption; `str` gives Markdown, and a notebook shows it as a table."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str

    def __str__(self) -> str:
        cells = [[cell.replace("|", "\\|") for cell in row] for row in (self.header, *self.rows)]
        widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
        lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join([*lines, "", self.caption])

    def _repr_markdown_(self) -> str:
        return f"**{self.title}**\n\n{self}"


# ---------------------------------------------------------------- tables
def dice_table(results: Results) -> Table:
    """Mean Dice: a row for each start, a column for each number of labelled cases, "mean ± sd (n)" in the cells.

    Args:
        results: one result of kind "transfer" or "probe", or several of one protocol (see `comparable`).

    Raises:
        ValueError: results of several protocols, or two that disagree about one run.
    """
    kind, runs, note = _joined(results, ("transfer", "probe"))
    rows, undefined = _grid(runs, _start, _labelled, dice_of, "{:.3f}")
    settings, part = _as_list(results)[0]["settings"], _part(results)
    text = f"{part} mean Dice (0 to 1, higher is better), mean ± standard deviation over runs (number of runs)."
    caption = _sentences(text, _missing_text(undefined, "no labelled organ to score"), protocol_text(results), note)
    probe = f"{settings['probe']} probe" if settings.get("probe") else "probe"
    title = "Dice after fine-tuning" if kind == "transfer" else f"Dice of a {probe} on frozen features"
    return Table(title, ("start", *_labelled_heads(runs)), rows, caption)


def hd95_table(results: Results) -> Table:
    """Test mean 95 % Hausdorff distance in mm, laid out as `dice_table`; only for kind "transfer".

    An organ that was not found has no distance: the caption counts them, since leaving them out flatters a start that
    misses the hard organs.
    """
    _, runs, note = _joined(results, ("transfer",))
    rows, undefined = _grid(runs, _start, _labelled, lambda run: run["test"]["mean_hd95_mm"], "{:.1f}")
    text = (
        "Test mean 95 % Hausdorff distance in mm (lower is better), mean ± standard deviation over runs (number of "
        "runs). Organs that were not found have no distance and are left out: " + _not_found_text(runs) + "."
    )
    caption = _sentences(text, _missing_text(undefined, "no organ found"), protocol_text(results), note)
    return Table("95 % Hausdorff distance after fine-tuning, mm", ("start", *_labelled_heads(runs)), rows, caption)


def difference_table(
    results: Results, against: str = BASELINE, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Table:
    """Gain in mean Dice over the start `against`, run by run: pairs share labelled cases, draw and seed.

    The cells hold "mean [low, high] (pairs)" with a bootstrap interval. Where there are at least 5 draws of labelled
    cases they are resampled, since runs on the same draw are alike; with fewer, the pairs are. The caption says which,
    and counts the runs that found no partner.

    Args:
        results: as in `dice_table`.
        against: the start to compare with.
        level, resamples, seed: of the interval, see `medssl_nb.evaluation.statistics.paired_difference`.

    Raises:
        ValueError: as `dice_table`; no run starts from `against`, or every run does.
    """
    _, runs, note = _joined(results, ("transfer", "probe"))
    starts = sorted({run["start"] for run in runs}, key=_start_order)
    if against not in starts or len(starts) < 2:
        raise ValueError(f"a difference needs runs from {against!r} and from another start; got {', '.join(starts)}.")
    columns = sorted({run["labelled"] for run in runs}, key=_labelled_order)
    rows, resampled, units, unpaired = [], defaultdict(list), [], []
    for start in (name for name in starts if name != against):
        pairs, alone = _pairs(runs, start, against)
        unpaired += alone
        row = [plain(start)]
        for labelled in columns:
            found = [pair for pair in pairs if pair[0] == labelled]
            text, what, count = _difference_cell(found, level=level, resamples=resamples, seed=seed)
            row.append(text)
            resampled[what].append(str(labelled))
            units.append(count)
        rows.append(tuple(row))
    text = (
        f"Gain in {_part(results).lower()} mean Dice over {plain(against)}, paired by labelled cases, draw and seed: "
        f"mean [{100 * level:g} % interval] (number of pairs)."
    )
    fewest = min(filter(None, units), default=_ENOUGH)
    narrow = f"Intervals from fewer than {_ENOUGH} of them, here {fewest}, are too narrow." if fewest < _ENOUGH else ""
    caption = _sentences(text, _resampled_text(resampled, resamples), narrow, *unpaired, protocol_text(results), note)
    return Table(f"Paired difference to {plain(against)}", ("start", *_labelled_heads(runs)), tuple(rows), caption)


def curve_table(results: Results) -> Table:
    """Validation mean Dice at each step that was evaluated, "mean ± sd (n)": a row for each start and label count."""
    _, runs, note = _joined(results, ("transfer",))
    points = [{**run, "step": step, "value": value} for run in runs for step, value in run["curve"]]
    if not points:
        raise ValueError(f"none of the {len(runs)} runs holds a point of its curve; fine-tune with evaluation steps.")

    def row_of(point: dict) -> tuple[Hashable, str]:
        order = (_labelled_order(point["labelled"]), _start_order(point["start"]))
        return order, f"{plain(point['start'])}, {point['labelled']} labelled"

    def step_of(point: dict) -> tuple[Hashable, str]:
        return point["step"], f"step {point['step']}"

    rows, undefined = _grid(points, row_of, step_of, lambda point: point["value"], "{:.3f}", empty="–")
    text = "Validation mean Dice (0 to 1) while fine-tuning, mean ± standard deviation over runs (number of runs)."
    caption = _sentences(text, _missing_text(undefined, "no labelled organ"), protocol_text(results), note)
    return Table("Dice while fine-tuning", ("start", *_heads(points, step_of)), rows, caption)


def landmark_table(results: Results) -> Table:
    """Mean landmark error in mm of each start, beside that of copying the template's position (kind "landmarks")."""
    _, runs, note = _joined(results, ("landmarks",))
    copies = {(str(run["template"]), run["copy_mm"]) for run in runs if run["copy_mm"] is not None}
    rows = [("copying the template's position", _cell([mm for _, mm in sorted(copies)], "{:.1f}"), "–", "–")]
    undefined = []
    for start in sorted({run["start"] for run in runs}, key=_start_order):
        own = [run for run in runs if run["start"] == start]
        scored = [run for run in own if run["mean_mm"] is not None and run["copy_mm"] is not None]
        undefined += [start] * (len(own) - len(scored))
        gaps = [run["mean_mm"] - run["copy_mm"] for run in scored]
        better = f"{sum(gap < 0 for gap in gaps)} of {len(gaps)}"
        error = _cell([run["mean_mm"] for run in scored], "{:.1f}", missing=len(own) - len(scored))
        rows.append((plain(start), error, _cell(gaps, "{:+.1f}"), better))
    text = (
        f"{_part(results)} cases: mean distance between found and true landmarks in mm (lower is better), mean ± "
        "standard deviation over runs (number of runs; for copying: of templates)."
    )
    caption = _sentences(text, _missing_text(undefined, "no landmark in common"), protocol_text(results), note)
    header = ("start", "error, mm", "minus copying, mm", "runs better than copying")
    return Table("Landmarks found by their features", header, tuple(rows), caption)


# ---------------------------------------------------------------- what may stand in one table
def comparable(results: Iterable[Mapping]) -> list[list[Mapping]]:
    """Results in groups that may stand in one table: one protocol each, and no two that disagree about a run.

    One protocol is one kind, cohort (with its options and numbers of cases) and settings, but for
    `settings["pretraining"]`: that says how a start was made, and starts are what is compared.
    """
    groups: list[list[Mapping]] = []
    for result in results:
        for group in groups:
            if _protocol(group[0]) == _protocol(result) and not _disagreements([*group, result]):
                group.append(result)
                break
        else:
            groups.append([result])
    return groups


def unique_runs(results: Results) -> list[dict]:
    """Runs of results of one group of `comparable`; a run that several results repeat comes once."""
    results = _as_list(results)
    kind = results[0]["kind"]
    runs = [run for result in results for run in result["runs"]]
    return list({_identity(run, kind): run for run in runs}.values()) if kind in RUN_IDENTITY else runs


def protocol_text(results: Results) -> str:
    """Cohort, cases, draws, seeds, steps, versions and hardware of results of one protocol, in sentences."""
    results = _as_list(results)
    runs = [run for result in results for run in result["runs"]]
    cohort = results[0]["cohort"]
    chosen = sorted((key, value) for key, value in cohort["options"].items() if key not in dict(_PARTS))
    options = ", ".join(f"{key} {_short(value)}" for key, value in chosen)
    cases = ", ".join(f"{cohort[part]} {word}" for part, word in _PARTS)
    text = [f"Cohort {cohort['name']}{f' ({options})' if options else ''}: {cases} cases"]
    varied = [
        f"{word} {', '.join(map(str, sorted({run[key] for run in runs if key in run}, key=_number_order)))}"
        for key, word in (("template", "templates"), ("draw", "draws"), ("seed", "seeds"), ("steps", "steps"))
        if any(key in run for run in runs)
    ]
    text += [", ".join(varied)] if varied else [f"seeds {', '.join(map(str, results[0]['seeds']))}"]
    text += sorted({_pretraining_text(result) for result in results} - {""})
    text.append(f"recipes {', '.join(sorted({result['recipe'] for result in results}))}")
    made = sorted({f"{_made_text(result['made_with'])}, {result['date']}" for result in results})
    return f"{'; '.join(text)}. Made with {'; and with '.join(made)}."


def plain(start: str) -> str:
    """A start's name as a reader meets it: "masked_autoencoding" is "masked autoencoding"."""
    return start.replace("_", " ")


def dice_of(run: Mapping) -> float | None:
    """Test mean Dice of a run of kind "transfer" or "probe", None where no organ could be scored."""
    return run["test"]["mean_dice"] if "test" in run else run["mean_dice"]


_PARTS = (("train", "training"), ("validation", "validation"), ("test", "test"))


def _joined(results: Results, kinds: tuple[str, ...]) -> tuple[str, list[dict], str]:
    """(kind, all runs once each, what to add to the caption) of results that may stand in one table."""
    results = _as_list(results)
    kind = results[0]["kind"]
    if kind not in kinds:
        raise ValueError(f"this table is made from results of kind {' or '.join(kinds)}, got kind {kind!r}.")
    for other in results[1:]:
        if _protocol(other) != _protocol(results[0]):
            raise ValueError(
                f"{results[0]['recipe']} and {other['recipe']} were measured in different ways (kind, cohort or "
                "settings), so they cannot stand in one table; make one for each group of `comparable(results)`."
            )
    if wrong := _disagreements(results):
        raise ValueError(
            f"several runs of {', '.join(result['recipe'] for result in results)} say of themselves {wrong[0]}, and "
            f"their scores differ ({len(wrong)} such cases); keep one of them, or make a table for each group of "
            "`comparable(results)`."
        )
    runs = unique_runs(results)
    if not runs:
        raise ValueError(f"there are no runs in {', '.join(result['recipe'] for result in results)}.")
    repeated = sum(len(result["runs"]) for result in results) - len(runs)
    note = f"{_count(repeated, 'run')} found more than once, with the same scores, counted once." if repeated else ""
    return kind, runs, note


def _part(results: Results) -> str:
    """Which cases were scored, as the first word of a sentence: probes may score the validation cases."""
    return str(_as_list(results)[0]["settings"].get("part", "test")).capitalize()


def _pretraining_text(result: Mapping) -> str:
    """How long and with which seeds a start was pre-trained, "" if the result does not say."""
    about = result["settings"].get("pretraining") or {}
    steps, seeds = (about.get("profile") or {}).get("steps"), about.get("seed_of_each_seed") or {}
    if steps is None:
        return ""
    text = f"{plain(result['method'])} pre-trained for {steps} steps"
    if seeds and len(set(seeds.values())) == 1 and len(seeds) > 1:  # the spread over seeds is then less than it seems
        return f"{text}, once (seed {next(iter(seeds.values()))}) for all seeds"
    return f"{text}, seeds {', '.join(map(str, sorted(set(seeds.values()))))}" if seeds else text


def _as_list(results: Results) -> list[Mapping]:
    results = [results] if isinstance(results, Mapping) else list(results)
    if not results:
        raise ValueError("a table needs at least one result, got none; load_results(folder) reads them.")
    return results


# Settings that came later, with what runs from before them did.
_NEUTRAL = {"class_balance": 0.0, "clip_norm": None}


def _protocol(result: Mapping) -> str:
    settings = {key: value for key, value in result["settings"].items() if key != "pretraining"}
    if result["kind"] == "transfer":
        settings = _NEUTRAL | settings
    return json.dumps([result["kind"], result["cohort"], settings], sort_keys=True)


def _identity(run: Mapping, kind: str) -> tuple:
    return tuple(run[key] for key in RUN_IDENTITY[kind])


def _disagreements(results: Sequence[Mapping]) -> list[str]:
    """Runs that several results hold with different scores (time aside), by what they say of themselves."""
    kind, found = results[0]["kind"], defaultdict(set)
    if kind not in RUN_IDENTITY:
        return []
    for run in (run for result in results for run in result["runs"]):
        measured = {key: value for key, value in run.items() if key != "seconds"}
        found[_identity(run, kind)].add(json.dumps(measured, sort_keys=True))
    wrong = [identity for identity, versions in found.items() if len(versions) > 1]
    return [", ".join(f"{k} {v}" for k, v in zip(RUN_IDENTITY[kind], one, strict=True)) for one in wrong]


# ---------------------------------------------------------------- pairs
def _pairs(runs: Sequence[dict], start: str, against: str) -> tuple[list[tuple], list[str]]:
    """([(labelled, draw, score, score of `against`)], sentences on runs that are in no pair)."""
    own, other = (
        {(run["labelled"], run["draw"], run["seed"]): dice_of(run) for run in runs if run["start"] == name}
        for name in (start, against)
    )
    shared = [key for key in own if key in other]
    pairs = [(key[0], key[1], own[key], other[key]) for key in sorted(shared, key=lambda key: tuple(map(str, key)))]
    whole = [pair for pair in pairs if None not in pair]
    alone = (len(own) - len(shared), len(other) - len(shared))
    sentences = []
    if any(alone):
        each = [f"{plain(name)} {number}" for name, number in zip((start, against), alone, strict=True) if number]
        what = f"{plain(start)} with {plain(against)}"
        sentences.append(f"Runs without a partner, and so left out ({what}): {', '.join(each)}.")
    if len(whole) < len(pairs):
        sentences.append(f"{_count(len(pairs) - len(whole), 'pair')} of {plain(start)} left out: a score is missing.")
    return whole, sentences


def _difference_cell(pairs: Sequence[tuple], **options) -> tuple[str, str, int]:
    """(text of a cell, what was resampled: "draws", "pairs" or "", how many) of the pairs of one column."""
    if len(pairs) == 0:
        return "no pair", "", 0
    if len(pairs) == 1:
        return f"{_signed(pairs[0][2] - pairs[0][3])} (1)", "", 0
    from medssl_nb.evaluation.statistics import paired_difference

    _, draws, first, second = zip(*pairs, strict=True)
    groups = list(draws) if len(set(draws)) >= _LEAST_DRAWS else None
    found = paired_difference(list(first), list(second), groups=groups, **options)
    interval = f"[{_signed(found.low)}, {_signed(found.high)}]"
    return f"{_signed(found.mean)} {interval} ({found.pairs})", "draws" if groups else "pairs", found.groups


def _resampled_text(resampled: Mapping[str, list[str]], resamples: int) -> str:
    """What the intervals of the columns were made from."""
    meaning = {
        "draws": "draws of labelled cases",
        "pairs": (
            f"pairs (there are fewer than {_LEAST_DRAWS} draws to resample; runs on one draw are alike, which makes an "
            "interval narrower)"
        ),
    }
    mixed = sum(what in resampled for what in meaning) > 1
    parts = []
    for what, text in meaning.items():
        if what in resampled:
            columns = f" in column {', '.join(dict.fromkeys(resampled[what]))}" if mixed else ""
            parts.append(f"of {text}{columns}")
    if not parts:
        return "No intervals: a single pair has none."
    single = " A cell without an interval holds one pair or none." if "" in resampled else ""
    return f"Bootstrap with {resamples} resamples {'; '.join(parts)}.{single}"


# ---------------------------------------------------------------- cells and captions
def _grid(
    records: Sequence[dict],
    row_of: Callable[[dict], tuple],
    column_of: Callable[[dict], tuple],
    value_of: Callable[[dict], float | None],
    form: str,
    empty: str = "not run",
) -> tuple[tuple[tuple[str, ...], ...], list[str]]:
    """(rows of a table, the start of each record without a value); `row_of` and `column_of` give (order, head)."""
    cells, undefined = defaultdict(list), []
    for record in records:
        cells[row_of(record), column_of(record)].append(value_of(record))
        undefined += [record["start"]] * (value_of(record) is None)
    columns = sorted({column for _, column in cells})
    rows = []
    for row in sorted({row for row, _ in cells}):
        texts = []
        for column in columns:
            values = cells.get((row, column), [])
            defined = [value for value in values if value is not None]
            texts.append(_cell(defined, form, missing=len(values) - len(defined), empty=empty))
        rows.append((row[1], *texts))
    return tuple(rows), undefined


def _cell(values: Sequence[float], form: str, *, missing: int = 0, empty: str = "not run") -> str:
    """ "mean ± sd (n)"; without sd for one value; `empty` for none, or how many had no value."""
    if not values:
        return f"not defined ({missing})" if missing else empty
    mean = form.format(math.fsum(values) / len(values))
    if len(values) == 1:
        return f"{mean} (1)"
    return f"{mean} ± {form.replace('+', '').format(stdev(values))} ({len(values)})"


def _start(run: dict) -> tuple:
    return _start_order(run["start"]), plain(run["start"])


def _labelled(run: dict) -> tuple:
    return _labelled_order(run["labelled"]), f"{run['labelled']} labelled"


def _start_order(start: str) -> tuple:
    return start != BASELINE, start


def _labelled_order(labelled: int | str) -> float:
    return math.inf if labelled == "all" else labelled


def _number_order(value) -> tuple:
    return (isinstance(value, str), value)


def _heads(records: Sequence[dict], column_of: Callable[[dict], tuple]) -> list[str]:
    return [head for _, head in sorted({column_of(record) for record in records})]


def _labelled_heads(runs: Sequence[dict]) -> list[str]:
    return _heads(runs, _labelled)


def _signed(value: float) -> str:
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text


def _missing_text(undefined: Sequence[str], why: str) -> str:
    """How many records have no value, for the caption."""
    if not undefined:
        return ""
    each = ", ".join(f"{plain(s)} {undefined.count(s)}" for s in sorted(set(undefined), key=_start_order))
    return f"Without a value ({why}), and so left out: {each}."


def _not_found_text(runs: Sequence[dict]) -> str:
    """How many (case, organ) pairs of each start were there and not predicted at all."""
    texts = []
    for start in sorted({run["start"] for run in runs}, key=_start_order):
        cases = [case for run in runs if run["start"] == start for case in run["test"]["cases"].values()]
        there = [(case, organ) for case in cases for organ, dice in case["dice"].items() if dice is not None]
        missed = sum(case["hd95_mm"].get(organ) is None for case, organ in there)
        texts.append(f"{plain(start)} {missed} of {len(there)}")
    return ", ".join(texts)


def _made_text(made: Mapping) -> str:
    """ "medssl_nb 0.1.0 (commit 28da0554, Python ..., torch ..., monai ...) on cpu (AMD EPYC, 1 thread), ..." """
    commit, plus, changes = (made.get("commit") or "unknown").partition("+")
    versions = ", ".join(f"{name} {made[key]}" for name, key in _VERSIONS if made.get(key))
    threads = f", {_count(made['threads'], 'thread')}" if made.get("threads") else ""
    return (
        f"medssl_nb {made.get('medssl_nb', 'unknown')} (commit {commit[:8]}{plus}{changes}, {versions}) "
        f"on {made.get('device', 'unknown')} ({made.get('cpu', 'unknown processor')}{threads}), "
        f"{_count(made.get('processes', 1), 'process', 'processes')}, precision {made.get('precision', 'unknown')}"
    )


_VERSIONS = (("Python", "python"), ("torch", "torch"), ("monai", "monai"))


def _count(number: int, word: str, plural: str | None = None) -> str:
    return f"{number} {word if number == 1 else plural or word + 's'}"


def _short(value) -> str:
    if isinstance(value, list | tuple):
        return " × ".join(map(_short, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _sentences(*texts: str) -> str:
    return " ".join(text for text in texts if text)
