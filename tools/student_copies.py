"""Copies of the notebooks for students: `python tools/student_copies.py [PATHS] [--to FOLDER]`, or `make students`.

Solutions and all outputs are left out; a shown result would answer the question that asks for a prediction. Files that
the notebooks link to or read come along, so that links and cells still work. `--nbgrader` writes source notebooks for
nbgrader instead, which makes the students' version itself.
"""

import argparse
import ast
import re
import shutil
import sys
from pathlib import Path

import nbformat
from course_pages import EXERCISE, QUESTIONS, exercises, section
from nbformat.v4 import new_markdown_cell
from notebook_rules import code_cells, local_links, tags
from refresh_notebooks import find_notebooks

PROJECT = Path(__file__).resolve().parents[1]
READ = re.compile(r"[\"'](\.\./[\w./-]+)[\"']")  # what code reads beside the notebook


def main(argv: list[str] | None = None) -> int:
    """Write the copies. Returns 0; anything in the way ends it by SystemExit."""
    parser = argparse.ArgumentParser(description="Write copies of the notebooks without solutions and outputs.")
    parser.add_argument("paths", nargs="*", type=Path, default=[PROJECT / "notebooks"], help="default: all notebooks")
    parser.add_argument("--to", type=Path, help="folder for the copies (default build/students or build/nbgrader)")
    parser.add_argument(
        "--with-outputs", action="store_true", help="keep pictures and numbers of all but the exercises"
    )
    parser.add_argument("--without-answers", action="store_true", help=f'leave out the answers to "{QUESTIONS}"')
    parser.add_argument("--nbgrader", action="store_true", help="source notebooks for nbgrader, solutions marked")
    options = parser.parse_args(argv)
    target = options.to or PROJECT / "build" / ("nbgrader" if options.nbgrader else "students")
    paths = [path.resolve() for path in find_notebooks(options.paths)]
    if strangers := [path for path in paths if not path.is_relative_to(PROJECT)]:
        sys.exit(f"{strangers[0]} lies outside {PROJECT}; only notebooks of the project are copied.")
    if options.nbgrader:
        write_nbgrader(paths, PROJECT, target, options.without_answers)
        print(f"{len(paths)} notebooks for nbgrader, with solutions: {target / 'source'}")
    else:
        write_copies(paths, PROJECT, target, options.with_outputs, options.without_answers)
        print(f"{len(paths)} notebooks without solutions: {target / 'notebooks'}")
    return 0


# ---------------------------------------------------------------- plain copies
def write_copies(
    paths: list[Path], top: Path, target: Path, with_outputs: bool = False, without_answers: bool = False
) -> None:
    """Write a student's copy of every notebook to the same place below `target`, with the files that it needs.

    A link to a lesson that is not among `paths` becomes plain text. Work of a student is never overwritten: a `target`
    that has files already is refused.
    """
    refuse_used(target)
    for path in paths:
        book = nbformat.read(path, 4)
        absent = {link for link, linked in needed(book, path, top) if linked.suffix == ".ipynb" and linked not in paths}
        copy = student_copy(unlinked(book, absent), with_outputs, without_answers)
        place = target / path.relative_to(top)
        place.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(copy, place)
        copy_needed(book, path, top, target)


def refuse_used(target: Path) -> None:
    """SystemExit if `target` has files."""
    if target.is_dir() and any(target.iterdir()):
        sys.exit(f"{target} has files already, perhaps with answers in them: move it away or name another with --to.")


def student_copy(book, with_outputs: bool = False, without_answers: bool = False):
    """The notebook without cells tagged `solution` and without outputs; `book` itself is not changed."""
    copy = nbformat.from_dict(book)
    checks = {exercise.check_id for exercise in exercises(copy)}
    copy.cells = [cell for cell in copy.cells if "solution" not in tags(cell)]
    for cell in code_cells(copy):
        if not with_outputs or cell.id in checks or "exercise" in tags(cell):
            cell.outputs, cell.execution_count = [], None
    return unanswered(copy) if without_answers else copy


def unanswered(book):
    """`book` without the folded answers under "Check your understanding", changed in place."""
    for cell in book.cells:
        if cell.cell_type == "markdown" and (part := section(cell.source, QUESTIONS)):
            answers = re.search(r"<details><summary>Answers</summary>.*?</details>", part, re.DOTALL)
            cell.source = cell.source.replace(answers[0], "").rstrip() if answers else cell.source
    return book


def unlinked(book, links: set[str]):
    """A copy of `book` in which the given links are plain text."""
    copy = nbformat.from_dict(book)
    for cell in copy.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(
                r"\[([^\]]*)\]\(([^)\s#]+)(?:#[^)]*)?\)", lambda m: m[1] if m[2] in links else m[0], cell.source
            )
    return copy


def needed(book, path: Path, top: Path) -> list[tuple[str, Path]]:
    """(words in the notebook, file or folder) of all that it links to or reads within `top`."""
    read = [place for cell in code_cells(book) for place in READ.findall(cell.source)]
    found = [(link, (path.parent / link).resolve()) for link in [*local_links(book), *read]]
    return [(link, linked) for link, linked in found if linked.exists() and linked.is_relative_to(top)]


def copy_needed(book, path: Path, top: Path, target: Path) -> None:
    """Copy files that are linked and the JSON files of folders that are read to the same place below `target`."""
    for link, linked in needed(book, path, top):
        read = linked.is_dir() and link not in local_links(book)
        for file in linked.glob("*.json") if read else [linked]:
            if file.suffix != ".ipynb" and file.is_file():
                beside = target / file.relative_to(top)
                beside.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, beside)


# ---------------------------------------------------------------- for nbgrader
def write_nbgrader(paths: list[Path], top: Path, target: Path, without_answers: bool = False) -> None:
    """Write `target`/source/ASSIGNMENT/NAME.ipynb; an assignment is a folder of lessons, or a lesson outside of one.

    nbgrader hands an assignment's folder out as a whole, so the files that a lesson needs lie in its folder `files`,
    and the paths in text and code change.
    """
    refuse_used(target)
    for path in paths:
        name = path.stem if path.parent.name == "notebooks" else path.parent.name
        folder = target / "source" / name
        folder.mkdir(parents=True, exist_ok=True)
        book = nbformat.read(path, 4)
        beside = {other for other in paths if other.parent == path.parent and path.parent.name != "notebooks"}
        lessons = [(link, linked) for link, linked in needed(book, path, top) if linked.suffix == ".ipynb"]
        copy = unlinked(book, {link for link, linked in lessons if linked not in beside})
        for cell in copy.cells:
            cell.source = re.sub(r"(?<![\w/.])(?:\.\./)+(?=\w)", "files/", cell.source)
        nbformat.write(nbgrader_source(copy, without_answers), folder / path.name)
        copy_needed(book, path, top, folder / "files")  # not beside the notebook: medssl_nb/ would hide the package


def nbgrader_source(book, without_answers: bool = False):
    """The notebook as nbgrader's source version: answer cells with marked solutions, locked checks with points.

    Points are the minutes of the exercise. An exercise without a check gets a cell for words, graded by a person.
    """
    copy = student_copy(book, without_answers=without_answers)
    solutions = [cell.source for cell in code_cells(book) if "solution" in tags(cell)]
    stubs = [cell for cell in code_cells(copy) if "exercise" in tags(cell)]
    for number, (stub, solution) in enumerate(zip(stubs, solutions, strict=True), 1):
        stub.source = mark_solution(solution)
        stub.metadata["nbgrader"] = grader_cell("code", f"exercise-{number}", solution=True)
    points = {exercise.check_id: exercise.minutes for exercise in exercises(book)}
    for number, cell in enumerate([cell for cell in code_cells(copy) if cell.id in points], 1):
        cell.metadata["nbgrader"] = grader_cell("code", f"check-{number}", points=points[cell.id], locked=True)
    copy.cells = [part for cell in copy.cells for part in (cell, *open_answers(cell))]
    return copy


def mark_solution(solution: str) -> str:
    """`solution` with what nbgrader takes out between its marks: the bodies of functions, or else everything."""
    begin, end = "### BEGIN SOLUTION", "### END SOLUTION"
    lines, nodes = solution.split("\n"), ast.parse(solution).body
    if not all(isinstance(node, ast.FunctionDef) and lines[node.lineno - 1].rstrip().endswith(":") for node in nodes):
        return "\n".join([begin, solution, end])
    for node in reversed(nodes):  # from below, so that line numbers above stay true
        indent = " " * node.body[0].col_offset
        lines.insert(node.end_lineno, indent + end)
        lines.insert(node.lineno, indent + begin)
    return "\n".join(lines)


def grader_cell(cell_type: str, name: str, points: int | None = None, solution: bool = False, locked: bool = False):
    """Cell metadata of nbgrader, schema version 3."""
    told = dict(schema_version=3, cell_type=cell_type, grade_id=name, grade=points is not None)
    told |= dict(solution=solution, locked=locked, task=False)
    return told if points is None else told | {"points": points}


def open_answers(cell) -> list:
    """Cells for the words of a student after exercises in `cell` that say "no check"."""
    found = EXERCISE.finditer(cell.source) if cell.cell_type == "markdown" else []
    answers = []
    for match in (match for match in found if "no check" in match[0]):
        number = re.search(r"Exercise (\d+)", match[0])[1]
        answer = new_markdown_cell("Your answer", id=f"{cell.id[:40]}-answer-{number}")
        answer.metadata["nbgrader"] = grader_cell("markdown", f"words-{number}", points=int(match[2]), solution=True)
        answers.append(answer)
    return answers


if __name__ == "__main__":
    sys.exit(main())
