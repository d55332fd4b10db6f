"""Rules that every notebook of the project keeps. Each is a function: notebook in, list of broken places out.

`python tools/notebook_rules.py [PATHS]` prints what is broken; tests/notebooks/test_format.py asks the same.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat

MAX_BYTES = 2_000_000
MAX_LINES = 25
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)[^)]*\)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)[^)]*\)|\b(?:src|href)=[\"']([^\"']+)[\"']")
# A drawn widget says <ItsName> (ours) or Name(children=…) (core ipywidgets).
WIDGET = re.compile(r"<[A-Z]\w+>$|[A-Z]\w+\((children|value|description|layout|options)=")
MACHINE_PATH = re.compile(
    r"(?<![\w.:/])/(home|Users|root|tmp|var|opt|usr|mnt|private|srv|work|workspace)/[\w.]|[A-Z]:\\\\?\w"
)


# ---------------------------------------------------------------- run, and worth comparing
def cells_ran_in_order(book) -> list[str]:
    """Code cells are numbered 1, 2, … : nbval compares nothing in a cell that never ran."""
    counts = [cell.execution_count for cell in code_cells(book)]
    if counts == list(range(1, len(counts) + 1)):
        return []
    return [f"code cells carry the numbers {counts}; refresh the notebook"]


def ids_unique(book) -> list[str]:
    """No two cells carry one id, as they do after a copied file was merged."""
    ids = [cell.get("id") for cell in book.cells]
    return [f"two cells carry the id {name}" for name in sorted(set(ids)) if ids.count(name) > 1]


def no_widget_state(book) -> list[str]:
    """No saved widget state and no widget views: opened without a kernel, they show "model not found"."""
    broken = ["metadata.widgets holds saved widget state"] if "widgets" in book.metadata else []
    return broken + [
        f"{where} holds a widget view" for where, out in outputs(book) if WIDGET_VIEW in out.get("data", {})
    ]


def widgets_have_pictures(book) -> list[str]:
    """Every widget that is shown left a static picture."""
    return [
        f"{where} shows the widget {text(out)[:30]} without a static picture"
        for where, out in outputs(book)
        if WIDGET.match(text(out)) and not {"image/png", "image/svg+xml"} & out.get("data", {}).keys()
    ]


def no_stderr(book) -> list[str]:
    """Nothing on stderr: warnings carry numbers of the process."""
    return [
        f"{where} wrote to stderr: {out.text[:60]!r}" for where, out in outputs(book) if out.get("name") == "stderr"
    ]


def errors_are_announced(book) -> list[str]:
    """A cell shows an error exactly if it is tagged `raises-exception`."""
    broken = []
    for number, cell in enumerate(code_cells(book), 1):
        raised = any(out.output_type == "error" for out in cell.outputs)
        if raised != ("raises-exception" in tags(cell)):
            broken.append(f"code cell {number} {'raised without' if raised else 'did not raise despite'} its tag")
    return broken


def mostly_compared(book) -> list[str]:
    """At most half of the code cells are excluded from comparison."""
    code = code_cells(book)
    ignored = sum("nbval-ignore-output" in tags(cell) or "NBVAL_IGNORE_OUTPUT" in cell.source for cell in code)
    return [f"{ignored} of {len(code)} code cells are excluded from comparison"] if ignored > len(code) / 2 else []


def no_machine_paths(book) -> list[str]:
    """No path of somebody's machine in text, code or outputs."""
    places = [(f"cell {number}", cell.source) for number, cell in enumerate(book.cells, 1)]
    places += [(where, text(out)) for where, out in outputs(book)]
    found = ((where, MACHINE_PATH.search(content)) for where, content in places)
    return [f"{where} names a path of one machine: {hit.string[hit.start() :][:50]!r}" for where, hit in found if hit]


# ---------------------------------------------------------------- easy to read
def one_title(book) -> list[str]:
    """Exactly one `#` heading, at the start of the first cell."""
    titles = [(number, title) for number, level, title in headings(book) if level == 1]
    if len(titles) == 1 and titles[0][0] == 1 and book.cells[0].source.startswith("# "):
        return []
    return [f"one `#` heading is wanted, at the start of the first cell; found {titles}"]


def headings_in_order(book) -> list[str]:
    """No heading is more than one level below the one before it."""
    broken, before = [], 1
    for number, level, title in headings(book):
        if level > before + 1:
            broken.append(f"cell {number}: {title!r} is level {level} below level {before}")
        before = level
    return broken


def minutes_promised(book) -> list[str]:
    """The first cell says how long the lesson takes: "CPU 2 min"."""
    return (
        []
        if re.search(r"CPU \d+ min", book.cells[0].source)
        else ['the first cell lacks its badge, such as "CPU 2 min"']
    )


def pictures_described(book) -> list[str]:
    """Every picture in the text has words for those who do not see it."""
    broken = []
    for number, prose in prose_cells(book):
        broken += [
            f"cell {number}: picture {link[:40]} has no alt text"
            for alt, link in PICTURE.findall(prose)
            if not alt.strip()
        ]
        for tag in re.findall(r"<img\b[^>]*>", prose):
            if not re.search(r"\balt=[\"'][^\"']*\w", tag):
                broken.append(f"cell {number}: {tag[:40]} has no alt text")
    return broken


def links_lead_somewhere(book, folder: Path) -> list[str]:
    """Links to files of the project, other lessons above all, find them."""
    return [f"link to {link}, which is not there" for link in local_links(book) if not (folder / link).exists()]


def code_cells_short(book) -> list[str]:
    """No code cell is longer than 25 lines: longer code belongs in the library."""
    sizes = [(number, len(cell.source.splitlines())) for number, cell in enumerate(code_cells(book), 1)]
    return [
        f"code cell {number} has {size} lines, at most {MAX_LINES} are read"
        for number, size in sizes
        if size > MAX_LINES
    ]


def solutions_in_place(book) -> list[str]:
    """Among code cells: each `exercise` is followed by its folded `solution`, and that by a check."""
    code = code_cells(book)
    broken = []
    for number, cell in enumerate(code, 1):
        before = tags(code[number - 2]) if number > 1 else []
        after = code[number] if number < len(code) else None
        if "exercise" in tags(cell) and (after is None or "solution" not in tags(after)):
            broken.append(f"code cell {number}: the exercise has no solution right after it")
        if "solution" in tags(cell):
            if "exercise" not in before:
                broken.append(f"code cell {number}: the solution does not stand right after an exercise")
            if not cell.metadata.get("jupyter", {}).get("source_hidden"):
                broken.append(f"code cell {number}: the solution is not folded (jupyter.source_hidden)")
            if after is None or "check" not in after.source:
                broken.append(f"code cell {number}: no check follows the solution")
    return broken


RULES: tuple[Callable, ...] = (
    *(cells_ran_in_order, ids_unique, no_widget_state, widgets_have_pictures, no_stderr, errors_are_announced),
    *(mostly_compared, no_machine_paths),
    *(one_title, headings_in_order, minutes_promised, pictures_described, code_cells_short, solutions_in_place),
)


def broken_rules(path: Path) -> list[str]:
    """All that is wrong with the notebook file `path`, as "rule: place"."""
    if path.stat().st_size > MAX_BYTES:
        return [f"the file has {path.stat().st_size / 1e6:.1f} MB, at most {MAX_BYTES / 1e6:.0f} MB are stored"]
    stored = path.read_text(encoding="utf-8")
    try:
        nbformat.validate(json.loads(stored))
    except (ValueError, nbformat.ValidationError) as error:
        return [f"not a valid notebook: {str(error).splitlines()[0]}"]
    book = nbformat.v4.reads(stored)  # nbformat.read would mend in silence what is to be found here
    broken = [f"{rule.__name__}: {place}" for rule in RULES for place in rule(book)]
    return broken + [f"links_lead_somewhere: {place}" for place in links_lead_somewhere(book, path.parent)]


# ---------------------------------------------------------------- looking into notebooks
def code_cells(book) -> list:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def outputs(book) -> Iterator[tuple[str, dict]]:
    """("code cell 3", output) for every output."""
    for number, cell in enumerate(code_cells(book), 1):
        for out in cell.outputs:
            yield f"code cell {number}", out


def text(out) -> str:
    """What an output says in words."""
    return out.get("text") or out.get("data", {}).get("text/plain") or "\n".join(out.get("traceback", []))


def prose_cells(book) -> Iterator[tuple[int, str]]:
    """(cell number from 1, text without fenced code) for every Markdown cell."""
    for number, cell in enumerate(book.cells, 1):
        if cell.cell_type == "markdown":
            yield number, FENCE.sub("", cell.source)


def headings(book) -> list[tuple[int, int, str]]:
    """(cell number from 1, level, text) of every Markdown heading."""
    found = []
    for number, prose in prose_cells(book):
        found += [(number, len(m[1]), m[2].strip()) for m in re.finditer(r"^(#{1,6}) +(.+)$", prose, re.MULTILINE)]
    return found


def local_links(book) -> list[str]:
    """Targets of links and pictures that are files, without the part after `#`."""
    found = []
    for _, prose in prose_cells(book):
        for links in LINK.findall(prose):
            link = (links[0] or links[1]).partition("#")[0]
            if link and not re.match(r"[a-z]+:", link):  # https:, mailto:, data:, attachment:
                found.append(link)
    return found


def main(places: list[str]) -> int:
    """Print what is broken in the given notebooks or folders. Returns 1 if anything is."""
    from refresh_notebooks import find_notebooks

    broken = 0
    for path in find_notebooks([Path(place) for place in places]):
        for problem in broken_rules(path):
            print(f"{path}: {problem}")
            broken += 1
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or [str(Path(__file__).resolve().parents[1] / "notebooks")]))
