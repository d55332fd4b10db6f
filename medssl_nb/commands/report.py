"""`python -m medssl_nb report`: tables and curves of everything that was measured, written from the result files.

Nothing is typed by hand and nothing is left out: each file in the folder is in a table, or listed with the reason.
"""

import argparse
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

FIGURES = "figures"
BEGIN, END = "<!-- results: made by `python -m medssl_nb report` -->", "<!-- end of results -->"
HOW_TO_MEASURE = "`python -m medssl_nb transfer` measures and writes them (`--help` says what it takes)"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's words to `parser`."""
    parser.add_argument("folder", nargs="?", type=Path, default=Path("results"), help="result files (default results)")
    parser.add_argument("--to", type=Path, metavar="FILE.md", help="the report (default README.md in the folder)")
    parser.add_argument("--into", type=Path, metavar="FILE.md", help="put the short table between this file's markers")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the report and print its tables. Returns 0."""
    target = options.to or options.folder / "README.md"
    text = write_report(options.folder, target)
    print(without_pictures(text))
    print(f"\nWritten: {target}")
    if options.into:
        print(f"Written: {put_short_table(options.folder, options.into)}")
    return 0


def short_table(folder: str | os.PathLike = "results") -> str:
    """The table of all methods that a README shows, from the results of `studies/four_methods.py`, as Markdown.

    Raises:
        ValueError: the folder holds no such result, or a broken file.
    """
    from medssl_nb.evaluation.results import result_files
    from medssl_nb.evaluation.side_by_side import KIND, gains_table

    results = [result for result in result_files(folder)[0].values() if result["kind"] == KIND]
    # The generated abdomens first: every other lesson stands on them.
    return str(gains_table(sorted(results, key=lambda result: result["cohort"]["name"], reverse=True)))


def put_short_table(folder: str | os.PathLike, file: str | os.PathLike) -> Path:
    """Replace what stands between the markers of a Markdown file by `short_table(folder)`.

    Raises:
        ValueError: the file has no markers; or as `short_table`. The file is unchanged then.
    """
    from medssl_nb.data.files import write_atomically

    before, begin, rest = Path(file).read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{file} has no lines {BEGIN!r} and {END!r}; the table goes between them.")
    text = f"{before}{begin}\n\n{short_table(folder)}\n\n{end}{after}"
    return write_atomically(file, lambda draft: draft.write_text(text, encoding="utf-8", newline="\n"))


def write_report(folder: str | os.PathLike = "results", target: str | os.PathLike | None = None) -> str:
    """Write the report of a folder of result files; the same files give the same bytes.

    Args:
        folder: holds the JSON files.
        target: Markdown file to write, default README.md in `folder`. Pictures go to the folder figures beside it.

    Returns:
        The text written.

    Raises:
        FileNotFoundError: there is no such folder, or there is nothing in it to report on.
        ValueError: a broken file, by name.
    """
    from medssl_nb.data.files import write_atomically
    from medssl_nb.evaluation.results import result_files

    target = Path(folder) / "README.md" if target is None else Path(target)
    results, others = result_files(folder)
    if not results and not others:
        raise FileNotFoundError(f"There are no result files in {folder}: {HOW_TO_MEASURE}.")

    def keep(name: str, png: bytes) -> str:
        write_atomically(target.parent / FIGURES / name, lambda draft: draft.write_bytes(png))
        return f"{FIGURES}/{name}"

    links = os.path.relpath(folder, target.parent)
    text = "\n\n".join(_sections(results, others, keep, "" if links == "." else Path(links).as_posix() + "/")) + "\n"
    write_atomically(target, lambda draft: draft.write_text(text, encoding="utf-8", newline="\n"))
    return text


def without_pictures(report: str) -> str:
    """The report as it is printed on a terminal: its pictures are of no use there."""
    return "\n\n".join(part for part in report.strip().split("\n\n") if not part.startswith("!["))


# ---------------------------------------------------------------- sections
def _sections(results: Mapping[str, dict], others: Mapping[str, object], keep: Callable, links: str) -> Iterator[str]:
    """Paragraphs of the report. `keep(name, png)` stores a picture and returns its link; `links` leads to the files."""
    from medssl_nb.evaluation.tables import comparable

    yield "# Results"
    yield "Made by `python -m medssl_nb report` from the JSON files named below; do not edit by hand."
    if not results:
        yield f"Nothing has been compared yet: {HOW_TO_MEASURE}."
    listed = []
    for kind, title in KINDS:
        of_kind = {name: result for name, result in results.items() if result["kind"] == kind}
        listed += of_kind
        if of_kind:
            yield f"## {title}"
        # Losses of different recipes cannot be compared; each run stands for itself.
        groups = [[one] for one in of_kind.values()] if kind == "pretraining" else comparable(of_kind.values())
        for number, group in enumerate(groups):
            names = [name for name, result in of_kind.items() if any(result is one for one in group)]
            yield _heading(groups[:number], group)
            yield from _group(f"{kind}_{number + 1}", group, names, keep, links)
    unknown = {name: result for name, result in results.items() if name not in listed}
    if unknown:
        yield "## Other results"
        yield "\n".join(f"- {_link(name, links)}: {_about(result)}" for name, result in unknown.items())
    if others:
        yield "## Other measurements"
        yield "\n".join(f"- {_link(name, links)}{_what(contents)}" for name, contents in others.items())


def _heading(before: Sequence[Sequence[dict]], group: Sequence[dict]) -> str:
    """Heading of a group, and why it stands apart from one before it on the same cohort."""
    kind, cohort = group[0]["kind"], group[0]["cohort"]
    if kind == "pretraining":
        return f"### {group[0]['recipe']}, cohort {cohort['name']}"
    same = [one for one in before if one[0]["cohort"]["name"] == cohort["name"]]
    if not same:
        return f"### Cohort {cohort['name']}"
    text = f"### Cohort {cohort['name']}, measurement {len(same) + 1}"
    if any(one[0]["cohort"] == cohort and _settings(one) == _settings(group) for one in same):
        text += "\n\nKept apart: it repeats runs of a measurement above under the same settings, with other scores."
    return text


def _group(stem: str, group: Sequence[dict], names: Sequence[str], keep: Callable, links: str) -> Iterator[str]:
    """One cohort and one protocol: its tables and pictures, whose names begin with `stem`."""
    files = ", ".join(_link(name, links) for name in names)
    if any(result["runs"] for result in group):
        yield from DRAW[group[0]["kind"]](group, stem, keep)
    else:
        yield "There are no runs in it."
    yield f"Settings: {_settings(group)}."
    yield f"Files: {files}."


def _transfer(group: Sequence[dict], stem: str, keep: Callable) -> Iterator[str]:
    from medssl_nb.evaluation.tables import curve_table, dice_table, hd95_table
    from medssl_nb.viz.curves import few_label_png, transfer_curves_png

    runs, where = _runs(group), f"cohort {group[0]['cohort']['name']}"
    tables = [dice_table(group), *_difference(group), hd95_table(group)]
    yield from map(_table, tables)
    if any(run["test"]["mean_dice"] is not None for run in runs):
        alt = f"Test Dice of each start by number of labelled cases, {where}; its numbers stand in the first table"
        yield f"![{alt}]({keep(f'{stem}_labels.png', few_label_png(runs))})"
    if any(run["curve"] for run in runs):
        yield _table(curve_table(group))
        alt = f"Validation Dice of each start by step of fine-tuning, {where}; its numbers stand in the table above"
        yield f"![{alt}]({keep(f'{stem}_steps.png', transfer_curves_png(runs))})"


def _probe(group: Sequence[dict], stem: str, keep: Callable) -> Iterator[str]:
    from medssl_nb.evaluation.tables import dice_table

    yield from map(_table, [dice_table(group), *_difference(group)])


def _landmarks(group: Sequence[dict], stem: str, keep: Callable) -> Iterator[str]:
    from medssl_nb.evaluation.tables import landmark_table

    yield _table(landmark_table(group))


def _side_by_side(group: Sequence[dict], stem: str, keep: Callable) -> Iterator[str]:
    from medssl_nb.evaluation.side_by_side import side_by_side_table

    yield from (_table(side_by_side_table(result)) for result in group)


def _pretraining(group: Sequence[dict], stem: str, keep: Callable) -> Iterator[str]:
    """Loss curves: a run is a step record, or holds a list of them as "history", with "trivial_losses" beside it."""
    from medssl_nb.evaluation.tables import protocol_text
    from medssl_nb.viz.curves import losses_png

    yield protocol_text(group)
    for result in group:
        steps_only = all("losses" in run for run in result["runs"])
        for number, run in enumerate([{"history": result["runs"]}] if steps_only else result["runs"]):
            history = run.get("history")
            name = f"{result['recipe']}, run {number + 1}"
            if not history:
                yield f"{name}: no steps are stored."
                continue
            trivial = run.get("trivial_losses", result["settings"].get("trivial_losses"))
            yield f"{name}: {_last_losses(history, trivial or {})}."
            png = losses_png(history, trivial, title=name)
            alt = f"Losses of {name} by step, dashed what a collapsed model scores, and the health dial below"
            file = re.sub(r"[^\w-]+", "-", f"{stem}_{result['recipe']}_{number + 1}")
            yield f"![{alt}]({keep(f'{file}.png', png)})"


KINDS = (
    ("side by side", "All methods under one protocol"),
    ("transfer", "Few-label transfer"),
    ("probe", "Probes of frozen features"),
    ("landmarks", "Landmarks"),
    ("pretraining", "Pre-training"),
)
DRAW = {
    "side by side": _side_by_side,
    "transfer": _transfer,
    "probe": _probe,
    "landmarks": _landmarks,
    "pretraining": _pretraining,
}
_OF_EACH_START = ("pretraining", "encoders", "tasks", "profiles")  # settings that are long and stand in the files


# ---------------------------------------------------------------- words
def _difference(group: Sequence[dict]) -> list:
    """The table of paired differences, if there is something to compare with."""
    from medssl_nb.evaluation.tables import BASELINE, difference_table

    starts = {run["start"] for run in _runs(group)}
    return [difference_table(group)] if BASELINE in starts and len(starts) > 1 else []


def _table(table) -> str:
    return f"#### {table.title}\n\n{table}"


def _runs(group: Sequence[dict]) -> list[dict]:
    """Runs of all results, those that several files repeat (`comparable` made sure they agree) once."""
    from medssl_nb.evaluation.tables import unique_runs

    return unique_runs(group)


def _settings(group: Sequence[dict]) -> str:
    """Settings of the protocol; how each start was made is in its file."""
    settings = {key: value for key, value in group[0]["settings"].items() if key not in _OF_EACH_START}
    return ", ".join(f"{key} {_short(value)}" for key, value in sorted(settings.items())) or "none stored"


def _short(value) -> str:
    if isinstance(value, dict):
        return f"({', '.join(f'{key} {_short(item)}' for key, item in sorted(value.items()))})"
    return f"[{', '.join(map(_short, value))}]" if isinstance(value, list) else str(value)


def _last_losses(history: Sequence[Mapping], trivial: Mapping[str, float]) -> str:
    """Mean losses of the last steps (a twentieth of all): a single step's batch says little."""
    last = history[-max(1, len(history) // 20) :]
    means = {
        name: sum(record["losses"][name] for record in last) / len(last)
        for name in sorted(history[-1]["losses"], key=lambda name: (name != "total", name))
        if all(name in record["losses"] for record in last)
    }
    losses = ", ".join(
        f"{name} {mean:.4g}" + (f" (trivial {trivial[name]:.4g})" if name in trivial else "")
        for name, mean in means.items()
    )
    steps = f"steps {last[0]['step']} to {last[-1]['step']}" if len(last) > 1 else f"step {last[0]['step']}"
    return f"{losses} in {steps}"


def _about(result: dict) -> str:
    count = len(result["runs"])
    return f"{result['kind']}, {result['recipe']}, cohort {result['cohort']['name']}, {count} run{'s' * (count != 1)}"


def _what(contents: object) -> str:
    """What a measurement of another shape says it is."""
    what = contents.get("what") if isinstance(contents, dict) else None
    return f": {what}" if isinstance(what, str) else ""


def _link(name: str, links: str) -> str:
    return f"[{name}]({quote(links + name)})"
