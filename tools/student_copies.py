"""Copies of the notebooks for students: `python tools/student_copies.py [--to FOLDER]`, or `make students`.

Solutions and all outputs are left out; a shown result would answer the question that asks for a prediction. Files that
the notebooks link to come along, so that the links still work.
"""

import argparse
import shutil
import sys
from pathlib import Path

import nbformat
from notebook_rules import local_links
from refresh_notebooks import find_notebooks

PROJECT = Path(__file__).resolve().parents[1]


def main(argv: list[str] | None = None) -> int:
    """Write the copies. Returns 0; anything in the way ends it by SystemExit."""
    parser = argparse.ArgumentParser(description="Write copies of the notebooks without solutions and outputs.")
    parser.add_argument("--to", type=Path, default=PROJECT / "build" / "students", help="folder for the copies")
    target = parser.parse_args(argv).to
    paths = find_notebooks([PROJECT / "notebooks"])
    write_copies(paths, PROJECT, target)
    print(f"{len(paths)} notebooks without solutions: {target / 'notebooks'}")
    return 0


def write_copies(paths: list[Path], top: Path, target: Path) -> None:
    """Write a student's copy of every notebook to the same place below `target`, with the files it links to.

    Work of a student is never overwritten: a `target` that has files already is refused.
    """
    if target.is_dir() and any(target.iterdir()):
        sys.exit(f"{target} has files already, perhaps with answers in them: move it away or name another with --to.")
    for path in paths:
        book = nbformat.read(path, 4)
        copy = target / path.relative_to(top)
        copy.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(student_copy(book), copy)
        for link in local_links(book):
            linked = (path.parent / link).resolve()
            if linked.suffix != ".ipynb" and linked.is_file() and linked.is_relative_to(top):
                beside = target / linked.relative_to(top)
                beside.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(linked, beside)


def student_copy(book):
    """The notebook without cells tagged `solution` and without outputs; `book` itself is not changed."""
    copy = nbformat.from_dict(book)
    copy.cells = [cell for cell in copy.cells if "solution" not in cell.metadata.get("tags", [])]
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return copy


if __name__ == "__main__":
    sys.exit(main())
