"""Tables of the study that puts all methods under one protocol, `studies/four_methods.py`."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev

from medssl_nb.evaluation.tables import Table, protocol_text

KIND = "side by side"
_WHAT = {
    "probe": "{0} labelled: mean Dice (0 to 1) of a linear probe on frozen features, learnt from that many cases",
    "finetuned": "fine-tuned, {0}: mean Dice after fine-tuning on that many cases",
    "landmarks": "landmarks: mean distance in mm at which points of a training patient are found by their features",
    "lesions": "lesions: average precision (0 to 1) at which a linear probe ranks voxels by lesion ({0})",
    "clusters": "clusters: share of the labels' entropy that {0} k-means clusters of the features explain (0 to 1)",
    "meters": "rank: effective rank of the features (1 = collapsed)",
    "cost": "seconds: processor time of pre-training on one core",
}


def side_by_side_table(result: Mapping) -> Table:
    """Everything that was measured on one cohort: a row for each arm, first the trained, then the untrained networks.

    Args:
        result: of kind "side by side".

    Returns:
        Cells hold "mean ± standard deviation" over draws and seeds (Dice) or seeds; "–" where nothing was measured.

    Raises:
        ValueError: a result of another kind, or one without runs.
    """
    runs = _runs_of(result)
    columns = list(_columns(result))
    arms = list(dict.fromkeys(run["arm"] for run in runs))
    rows = tuple((arm, *(_cell(runs, arm, values, form) for _, values, form in columns)) for arm in arms)
    told = [text.format(_named(result, piece)) for piece, text in _WHAT.items() if any(run.get(piece) for run in runs)]
    copied = next((run["landmarks"]["copy_mm"] for run in runs if run.get("landmarks")), None)
    caption = ". ".join(told) + "." + (f" Copying the coordinates: {copied:.1f} mm." if copied is not None else "")
    title = f"Side by side on {result['cohort']['name']}"
    return Table(title, ("arm", *(name for name, *_ in columns)), rows, f"{caption} {protocol_text(result)}")


def gains_table(results: Sequence[Mapping], labelled: int = 1) -> Table:
    """All cohorts in few columns: Dice of a probe with its gain over the same network untrained, and landmarks.

    Args:
        results: one of kind "side by side" for each cohort.
        labelled: how many labelled cases the probe learns from.

    Raises:
        ValueError: no result, one of another kind, or a number of labels that a study did not measure.
    """
    if not results:
        raise ValueError("gains_table: no result was given; studies/four_methods.py measures and writes them.")
    arms = dict.fromkeys(run["arm"] for result in results for run in _runs_of(result) if run["untrained"])
    rows = [[arm] for arm in arms]
    header = ["method"]
    for result in results:
        runs, dice = _runs_of(result), _dice("probe", labelled)
        if labelled not in result["settings"]["labelled"]:
            raise ValueError(f"the study has probes with {result['settings']['labelled']} labels, not {labelled}.")
        found = any(run.get("landmarks") for run in runs)
        header += [f"{result['cohort']['name']}: Dice", *([f"{result['cohort']['name']}: mm"] if found else [])]
        for row in rows:
            own = [run for run in runs if run["arm"] == row[0]]
            twin = own[0]["untrained"] if own else None
            row.append(_gain(runs, row[0], twin, dice, "{:.3f}", "{:+.3f}"))
            if found:
                row.append(_gain(runs, row[0], twin, _landmark, "{:.1f}", "{:+.1f}"))
    cases = "case" if labelled == 1 else "cases"
    seeds = ", ".join(f"{len({run['seed'] for run in one['runs']})} ({one['cohort']['name']})" for one in results)
    caption = (
        f"Dice: test mean of a linear probe on frozen features with {labelled} labelled {cases}, over "
        f"{results[0]['settings']['draws']} draws; mm: mean landmark error. In brackets the change against the same "
        f"network untrained. Seeds of pre-training: {seeds}."
    )
    return Table("All methods under one protocol", tuple(header), tuple(map(tuple, rows)), caption)


def _runs_of(result: Mapping) -> list[dict]:
    if result["kind"] != KIND:
        raise ValueError(f"needs a result of kind {KIND!r}, got {result['kind']!r} ({result['recipe']}).")
    if not result["runs"]:
        raise ValueError(f"the result of {result['cohort']['name']} holds no runs.")
    return result["runs"]


def _columns(result: Mapping):
    """(heading, values of one run, form) of each column that some run fills."""
    settings, runs = result["settings"], result["runs"]
    for n in settings["labelled"]:
        yield f"{n} labelled", _dice("probe", n), "{:.3f}"
    if any(run.get("finetuned") for run in runs):
        for n in settings["finetuned"]:
            yield f"fine-tuned, {n}", _dice("finetuned", n), "{:.3f}"
    if any(run.get("landmarks") for run in runs):
        yield "landmarks, mm", _landmark, "{:.1f}"
    if any(run.get("lesions") for run in runs):
        yield "lesions", lambda run: [one["average_precision"] for one in run.get("lesions") or []], "{:.3f}"
    yield "clusters", lambda run: _one(run, "clusters", "share"), "{:.2f}"
    yield "rank", lambda run: _one(run, "meters", "effective_rank"), "{:.1f}"
    if any(run.get("cost") for run in runs):
        yield "seconds", lambda run: _one(run, "cost", "seconds"), "{:.0f}"


def _dice(piece: str, labelled: int) -> Callable[[dict], list[float]]:
    return lambda run: [one["mean_dice"] for one in run.get(piece) or [] if one["labelled"] == labelled]


def _landmark(run: dict) -> list[float]:
    return _one(run, "landmarks", "mean_mm")


def _one(run: dict, piece: str, name: str) -> list[float]:
    return [run[piece][name]] if run.get(piece) else []


def _values(runs: Sequence[dict], arm: str | None, values: Callable[[dict], list[float]]) -> list[float]:
    return [value for run in runs if run["arm"] == arm for value in values(run)]


def _cell(runs: Sequence[dict], arm: str, values: Callable[[dict], list[float]], form: str) -> str:
    found = _values(runs, arm, values)
    if not found:
        return "–"
    spread = f" ± {form.format(stdev(found))}" if len(found) > 1 else ""
    return form.format(fmean(found)) + spread


def _gain(runs: Sequence[dict], arm: str, twin: str | None, values, form: str, signed: str) -> str:
    found, before = _values(runs, arm, values), _values(runs, twin, values)
    if not found:
        return "–"
    change = f" ({signed.format(fmean(found) - fmean(before))})" if before else ""
    return form.format(fmean(found)) + change


def _named(result: Mapping, piece: str) -> str:
    settings = result["settings"]
    chance = next((run["lesions"][0]["chance"] for run in result["runs"] if run.get("lesions")), 0.0)
    bright = settings.get("lesions_by_brightness") or 0.0
    return {
        "lesions": f"chance {chance:.4f}, by brightness alone {bright:.3f}",
        "probe": ", ".join(map(str, settings["labelled"])),
        "finetuned": " or ".join(map(str, settings["finetuned"])),
        "clusters": str(settings["clusters"]),
    }.get(piece, "")
