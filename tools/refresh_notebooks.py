"""Run notebooks and store their outputs: `python tools/refresh_notebooks.py [PATHS]`, or `make notebooks` for all.

Outputs are cleaned of all that differs from run to run, so a second run writes the same bytes and a difference in git
is a change. A notebook in which a cell fails is left as it was, and the cell and its error are named.
"""

import argparse
import hashlib
import os
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from medssl_nb.data.files import write_atomically

PROJECT = Path(__file__).resolve().parents[1]
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python"},
}


def main(argv: list[str] | None = None) -> int:
    """Refresh the named notebooks or folders, two at a time. Returns 0, or 1 when one of them failed."""
    parser = argparse.ArgumentParser(description="Run notebooks from top to bottom and store their outputs.")
    parser.add_argument("paths", nargs="*", type=Path, default=[PROJECT / "notebooks"], help="default: all")
    paths = find_notebooks(parser.parse_args(argv).paths)
    set_environment()
    failed = 0
    with ProcessPoolExecutor(max_workers=2) as pool:
        for path, (problem, seconds) in zip(paths, pool.map(refresh, paths), strict=True):
            failed += bool(problem)
            print(f"{path.name}: {problem or f'{seconds:.0f} s{slower_than_promised(path, seconds)}'}", flush=True)
    return int(failed > 0)


def find_notebooks(places: list[Path]) -> list[Path]:
    """The notebooks among and below `places`, sorted; SystemExit if a place is neither."""
    found = []
    for place in places:
        if place.is_dir():
            found += [p for p in place.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts]
        elif place.suffix == ".ipynb" and place.is_file():
            found.append(place)
        else:
            sys.exit(f"{place} is neither a notebook nor a folder.")
    return sorted(found)


def set_environment() -> None:
    """What kernels inherit, as in the tests: one thread, the small profile, a cache of the project's own."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.pop("MEDSSL_PROFILE", None)
    os.environ.setdefault("MEDSSL_CACHE", str(PROJECT / ".cache"))


def refresh(path: Path) -> tuple[str, float]:
    """Run one notebook in its folder and write it back with clean outputs.

    Returns:
        ("", seconds) when it was written, (what failed in which cell, seconds) when it was left as it was.
    """
    started = time.monotonic()
    book = nbformat.read(path, 4)
    client = NotebookClient(
        book, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.extra_arguments = ["--IPKernelApp.log_level=ERROR"]  # what the kernel says of itself is no output
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return describe(error, book), time.monotonic() - started
    clean(book)
    nbformat.validate(book)
    write_atomically(path, lambda draft: nbformat.write(book, draft))
    return "", time.monotonic() - started


def describe(error: Exception, book) -> str:
    """Which code cell failed, counted from 1, how it starts, and the error."""
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, 1):
        bad = [out for out in cell.outputs if out.output_type == "error"]
        if bad and not expects_error(cell):
            start = cell.source.strip().splitlines()[0][:60]
            return f"not written, code cell {number} ({start}) raised {bad[0].ename}: {bad[0].evalue}"
    done = sum(cell.execution_count is not None for cell in code)
    why = str(error).strip().splitlines()[0]
    return f"not written, code cell {min(done + 1, len(code))}: {type(error).__name__}: {why}"


def expects_error(cell) -> bool:
    return "raises-exception" in cell.metadata.get("tags", [])


# ---------------------------------------------------------------- what is taken out
def clean(book) -> None:
    """Bring an executed notebook, in place, into the one form that is stored."""
    book.metadata = nbformat.from_dict(METADATA)  # no widget state: without a kernel it shows "model not found"
    book.nbformat_minor = max(book.nbformat_minor, 5)
    give_ids(book.cells)
    for cell in book.cells:
        cell.metadata.pop("execution", None)  # timestamps
        if cell.cell_type == "code":
            cell.outputs = clean_outputs(cell.outputs)


def give_ids(cells) -> None:
    """Give every cell without an id of its own one that follows from its place and text."""
    used = set()
    for place, cell in enumerate(cells):
        if not cell.get("id") or cell["id"] in used:
            cell["id"] = hashlib.sha256(f"{place} {cell.source}".encode()).hexdigest()[:8]
        used.add(cell["id"])


def clean_outputs(outputs: list) -> list:
    """Outputs without random ids and local paths; one entry per stream, holding what stays on the screen."""
    first, kept = {}, []
    for out in outputs:
        out.get("data", {}).pop(WIDGET_VIEW, None)
        if out.output_type == "error":
            out.traceback = out.traceback[-1:]  # the frames name files of this machine; the last line says it all
        if out.output_type == "stream":
            if out.name in first:
                first[out.name].text += out.text
                continue
            first[out.name] = out
        kept.append(out)
    for out in first.values():
        out.text = settle(out.text)
    return kept


def settle(text: str) -> str:
    """What is left on the screen after carriage returns."""
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] if line.strip() else "" for line in text.split("\n"))


def slower_than_promised(path: Path, seconds: float) -> str:
    """A remark when the minutes at the top of the notebook are less than half of what was measured."""
    promised = re.search(r"CPU (\d+) min", nbformat.read(path, 4).cells[0].source)
    if promised and seconds / 60 > 2 * int(promised.group(1)):
        return f", but its first cell promises {promised.group(1)} min"
    return ""


if __name__ == "__main__":
    sys.exit(main())
