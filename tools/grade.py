"""Run handed-in notebooks and write who passed which check: `python tools/grade.py FOLDER [--to TABLE.csv]`.

FOLDER holds one folder for each student, with notebooks under the names they were handed out with. Of each notebook
run the exercises, with the checks of the lesson in place of the student's; if an answer uses something that is made
earlier in the lesson, the whole notebook runs.

This executes code that students wrote, with your rights: use a container or a machine that holds nothing else, without
a network. A check says that a function works in its cases; it does not prove who wrote it, and code that wants to can
deceive it.
"""

import argparse
import ast
import csv
import sys
import tempfile
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import nbformat
from course_pages import exercises
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from notebook_rules import code_cells, tags
from refresh_notebooks import find_notebooks, set_environment
from student_copies import PROJECT, write_copies


@dataclass(frozen=True)
class Grade:
    """One line of the table: one exercise of one student."""

    student: str
    lesson: str
    exercise: str
    points: int
    passed: bool
    message: str


def main(argv: list[str] | None = None) -> int:
    """Grade everything below a folder. Returns 0, or 1 if nothing could be graded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="one folder for each student, with notebooks in it")
    parser.add_argument("--lessons", type=Path, default=PROJECT / "notebooks", help="the lessons as they stand")
    parser.add_argument("--to", type=Path, help="table to write (default FOLDER/grades.csv)")
    parser.add_argument("--timeout", type=int, default=120, help="seconds that one cell may take (default 120)")
    options = parser.parse_args(argv)
    set_environment()
    lessons = {path.name: path for path in find_notebooks([options.lessons])}
    grades = []
    for student, handed_in in hand_ins(options.folder):
        if handed_in.name not in lessons:
            print(f"{student}: {handed_in.name} is no lesson's name, passed over", flush=True)
            continue
        lesson = lessons[handed_in.name]
        try:
            found = grade(student, handed_in, lesson, options.timeout)
        except (ValueError, nbformat.ValidationError) as error:  # a file that is no notebook
            print(f"{student}: {handed_in.name} cannot be read: {str(error).splitlines()[0]}", flush=True)
            continue
        grades += found
        print(f"{student}: {lesson.stem}, {sum(g.passed for g in found)} of {len(found)} checks passed", flush=True)
    if not grades:
        print(f"Nothing to grade in {options.folder}: it should hold STUDENT/LESSON.ipynb.", file=sys.stderr)
        return 1
    table = options.to or options.folder / "grades.csv"
    write_table(grades, table)
    for student, (reached, possible) in totals(grades).items():
        print(f"{student}: {reached} of {possible} points")
    print(f"Every check: {table}")
    return 0


def hand_ins(folder: Path) -> list[tuple[str, Path]]:
    """(student, notebook) of everything handed in; the student is the folder right below `folder`."""
    paths = [(path.relative_to(folder).parts, path) for path in find_notebooks([folder])]
    return [(parts[0], path) for parts, path in paths if len(parts) > 1]


# ---------------------------------------------------------------- one notebook
def grade(student: str, handed_in: Path, lesson: Path, timeout: int) -> list[Grade]:
    """A line for each exercise of `lesson` that has a check.

    Args:
        handed_in: the student's notebook; cells are recognised by their ids.
        lesson: the notebook it was made from.
        timeout: seconds that one cell may take before it counts as failed.
    """
    original, answered = nbformat.read(lesson, 4), nbformat.read(handed_in, 4)
    wanted = {exercise.check_id: exercise for exercise in exercises(original) if exercise.check_id}
    checks = {cell.id: check_call(cell.source) for cell in original.cells if cell.get("id") in wanted}
    for cell in code_cells(answered):
        cell.source = checks.get(cell.get("id"), cell.source)
    alone = exercises_alone(original, answered, checks)
    errors = run(alone, lesson, timeout)
    if problem := errors[alone.cells[0].get("id")]:
        sys.exit(f"The first cell of {lesson.name}, not the student's, failed here: {problem}. Mend that, then grade.")
    if any("NameError" in error for error in errors.values()):
        errors = run(answered, lesson, timeout)
    return [
        Grade(student, lesson.stem, wanted[name].title, wanted[name].minutes, not message, message)
        for name in checks
        for message in [errors.get(name, "the cell of the check is missing")]
    ]


def check_call(source: str) -> str:
    """Of a check cell the calls of check functions alone; what else it shows needs the rest of the lesson."""
    calls = [
        ast.get_source_segment(source, node)
        for node in ast.parse(source).body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        if getattr(node.value.func, "attr", getattr(node.value.func, "id", "")).startswith("check_")
    ]
    return "\n".join(calls) or source


def exercises_alone(original, answered, checks: dict[str, str]):
    """The imports of the lesson and the student's code from the first exercise on."""
    alone = nbformat.from_dict(answered)
    code = code_cells(alone)
    start = next((n for n, cell in enumerate(code) if "exercise" in tags(cell) or cell.get("id") in checks), 0)
    alone.cells = code_cells(original)[:1] + code[start:]
    return nbformat.from_dict(alone)


def run(book, lesson: Path, timeout: int) -> dict[str, str]:
    """{cell id: "" or why it failed} of every code cell of `book`, run in a copy of the lesson's place.

    A cell that fails does not stop the others; a kernel that dies, or does not answer, fails all that is left.
    """
    with tempfile.TemporaryDirectory() as folder:
        top = next((above for above in lesson.parents if above.name == "notebooks"), lesson.parent).parent
        write_copies([lesson], top, Path(folder))
        place = (Path(folder) / lesson.relative_to(top)).parent
        client = NotebookClient(book, timeout=timeout, interrupt_on_timeout=True, allow_errors=True)
        client.resources = {"metadata": {"path": str(place)}}
        for cell in code_cells(book):
            cell.outputs, cell.execution_count = [], None
        try:
            client.execute()
        except (DeadKernelError, CellTimeoutError) as error:
            last = f"{type(error).__name__}, nothing runs after it"
            return {cell.get("id"): what_failed(cell) or last * (not done(cell)) for cell in code_cells(book)}
    return {cell.get("id"): what_failed(cell) for cell in code_cells(book)}


def done(cell) -> bool:
    return cell.execution_count is not None


def what_failed(cell) -> str:
    """Name and first line of the error in a cell that ran, "" if there is none."""
    for out in cell.outputs:
        if out.output_type == "error":
            return f"{out.ename}: {out.evalue.splitlines()[0] if out.evalue else ''}".rstrip(": ")
    return ""


# ---------------------------------------------------------------- the table
def write_table(grades: list[Grade], table: Path) -> None:
    """Write one line for each exercise of each student."""
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([field.name for field in fields(Grade)])
        writer.writerows(astuple(line) for line in grades)


def totals(grades: list[Grade]) -> dict[str, tuple[int, int]]:
    """{student: (points reached, points possible in what was handed in)}."""
    found: dict[str, tuple[int, int]] = {}
    for line in grades:
        reached, possible = found.get(line.student, (0, 0))
        found[line.student] = (reached + line.points * line.passed, possible + line.points)
    return found


if __name__ == "__main__":
    sys.exit(main())
