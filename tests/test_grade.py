"""Handed-in notebooks are graded by the lesson's own checks, whatever else stands in them."""

import csv
import json

import grade
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

CHECK = "check_f(f)\nprint(made_earlier)"


def lesson(answer: str, check: str = CHECK):
    """A lesson with two exercises; `answer` is what stands in the cells of the first."""
    return new_notebook(
        cells=[
            new_markdown_cell("# A\nCPU 1 min"),
            new_code_cell("def check_f(f): assert f(2) == 4, f'f(2): expected 4, found {f(2)}\\nmore'", id="imports"),
            new_code_cell("made_earlier = 4", id="body"),
            new_markdown_cell("### Exercise 1: double (5 min, ●○○)\nWrite `f(x)`."),
            new_code_cell(answer, metadata={"tags": ["exercise"]}, id="stub"),
            new_code_cell("def f(x): return 2 * x", metadata={"tags": ["solution"]}, id="solution"),
            new_code_cell(check, id="first-check"),
            new_markdown_cell("### Exercise 2: again (10 min, ●○○)\nWrite `g(x)`."),
            new_code_cell("def g(x): ...", metadata={"tags": ["exercise"]}, id="second"),
            new_code_cell("def g(x): return 4", metadata={"tags": ["solution"]}, id="second-solution"),
            new_code_cell("check_f(g)", id="second-check"),
        ]
    )


def handed_in(answer: str, *, without: tuple[str, ...] = (), check: str = CHECK):
    book = lesson(answer, check)
    book.cells = [cell for cell in book.cells if cell.id not in ("solution", "second-solution", *without)]
    return book


@pytest.fixture
def class_of_students(tmp_path):
    """Four answers: right, wrong with a softened check, needing an earlier cell, one without its check."""
    folder = tmp_path / "in"
    books = {
        "anna": handed_in("def f(x): return x + x"),
        "ben": handed_in("def f(x): return x", check="print('passed')"),
        "cleo": handed_in("def f(x): return made_earlier"),
        "dan": handed_in("def f(x): return 4", without=("second-check",)),
    }
    for student, book in books.items():
        (folder / student).mkdir(parents=True)
        nbformat.write(book, folder / student / "01_a.ipynb")
    (tmp_path / "notebooks").mkdir()
    nbformat.write(lesson("def f(x): ..."), tmp_path / "notebooks" / "01_a.ipynb")
    return tmp_path


def test_a_table_says_who_passed_what(class_of_students, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = class_of_students / "in"
    (folder / "anna" / "holiday.ipynb").write_text(json.dumps(new_notebook()))
    (folder / "eve").mkdir()
    (folder / "eve" / "01_a.ipynb").write_text("no notebook")
    assert grade.main([str(folder), "--lessons", str(class_of_students / "notebooks"), "--timeout", "60"]) == 0
    with (folder / "grades.csv").open(encoding="utf-8") as stream:
        rows = [tuple(row.values()) for row in csv.DictReader(stream)]
    returned_none = "AssertionError: f(2): expected 4, found None"
    assert rows == [
        ("anna", "01_a", "double", "5", "True", ""),
        ("anna", "01_a", "again", "10", "False", returned_none),
        ("ben", "01_a", "double", "5", "False", "AssertionError: f(2): expected 4, found 2"),
        ("ben", "01_a", "again", "10", "False", returned_none),
        ("cleo", "01_a", "double", "5", "True", ""),
        ("cleo", "01_a", "again", "10", "False", returned_none),
        ("dan", "01_a", "double", "5", "True", ""),
        ("dan", "01_a", "again", "10", "False", "the cell of the check is missing"),
    ]
    told = capsys.readouterr().out
    assert "anna: holiday.ipynb is no lesson's name, passed over" in told
    assert "eve: 01_a.ipynb cannot be read" in told
    assert "anna: 5 of 15 points\nben: 0 of 15 points" in told


def test_endless_and_deadly_answers_fail_and_end(class_of_students):
    path = class_of_students / "notebooks" / "01_a.ipynb"
    for answer, why in (("while True: pass", "NameError"), ("import os\nos._exit(1)", "DeadKernelError")):
        bad = class_of_students / "bad.ipynb"
        nbformat.write(handed_in(answer), bad)
        first, second = grade.grade("eve", bad, path, timeout=8)
        assert not first.passed
        assert first.message.startswith(why)
        assert not second.passed


def test_of_a_check_cell_only_the_checks_run():
    source = (
        "exercises.check_a(f)\ncheck('a number', made_earlier, 1)\nfor x in late:\n    check_a(x)\ncheck_b(\n    g)"
    )
    assert grade.check_call(source) == "exercises.check_a(f)\ncheck_b(\n    g)"
    assert grade.check_call("assert f(2) == 4  # the check") == "assert f(2) == 4  # the check"


def test_nothing_to_grade_is_told(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    nbformat.write(new_notebook(), tmp_path / "in" / "01_a.ipynb")  # not in a student's folder
    assert grade.main([str(tmp_path / "in"), "--lessons", str(tmp_path / "in")]) == 1
    assert "should hold STUDENT/LESSON.ipynb" in capsys.readouterr().err
