"""Refreshing a notebook twice gives the same bytes, a failing one stays as it was, students get no solutions."""

from pathlib import Path

import nbformat
import pytest
import refresh_notebooks
import student_copies
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

PROGRESS = "import sys\nprint('start')\nfor i in range(3):\n    print(f'\\r{i} of 3', end='')\nprint('\\rdone  ')"


def write(path: Path, *cells) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=list(cells), metadata={"widgets": {"state": 1}, "author": "x"}), path)
    return path


def read(path: Path):
    return nbformat.read(path, 4)


@pytest.fixture(scope="module")
def refreshed(tmp_path_factory):
    """A notebook with all that must not be stored, refreshed once."""
    path = write(
        tmp_path_factory.mktemp("refresh") / "book.ipynb",
        new_markdown_cell("# Title\nCPU 1 min"),
        new_code_cell(PROGRESS),
        new_code_cell("print('more', file=sys.stderr); print('a'); print('b', file=sys.stderr); print('c')"),
        new_code_cell("import ipywidgets\nipywidgets.IntSlider()"),
        new_code_cell("{}['no such key']", metadata={"tags": ["raises-exception"]}),
        new_code_cell("import os\nprint(os.listdir(), os.environ['OMP_NUM_THREADS'])"),
    )
    assert refresh_notebooks.refresh(path)[0] == ""
    return path


def test_second_refresh_writes_the_same_bytes(refreshed):
    before = refreshed.read_bytes()
    assert refresh_notebooks.refresh(refreshed)[0] == ""
    assert refreshed.read_bytes() == before
    assert [p.name for p in refreshed.parent.iterdir()] == ["book.ipynb"]


def test_outputs_are_stored_as_they_stay_on_the_screen(refreshed):
    cells = read(refreshed).cells[1:]
    assert [cell.execution_count for cell in cells] == [1, 2, 3, 4, 5]
    assert cells[0].outputs[0].text == "start\ndone  \n"
    assert {out.name: out.text for out in cells[1].outputs} == {"stderr": "more\nb\n", "stdout": "a\nc\n"}
    assert len(cells[1].outputs) == 2
    assert cells[4].outputs[0].text == "['book.ipynb'] 1\n"  # it runs in its own folder


def test_what_differs_from_run_to_run_is_left_out(refreshed):
    book = read(refreshed)
    assert book.metadata == refresh_notebooks.METADATA
    assert all("execution" not in cell.metadata for cell in book.cells)
    assert book.cells[3].outputs[0].data.keys() == {"text/plain"}
    error = book.cells[4].outputs[0]
    assert (error.ename, error.evalue, len(error.traceback)) == ("KeyError", "'no such key'", 1)
    assert "no such key" in error.traceback[0]


def test_a_failing_notebook_stays_as_it_was_and_the_cell_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MEDSSL_PROFILE", "full")  # restored afterwards; notebooks are stored as the demo profile runs
    good = write(
        tmp_path / "a.ipynb",
        new_markdown_cell("# A\nCPU 1 min"),
        new_code_cell("import os; os.environ.get('MEDSSL_PROFILE', 'unset')"),
    )
    bad = write(tmp_path / "b.ipynb", new_code_cell("x = 1"), new_code_cell("x / 0\n"), new_code_cell("2"))
    before = bad.read_bytes()
    assert refresh_notebooks.main([str(tmp_path)]) == 1
    assert bad.read_bytes() == before
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("a.ipynb: ") and first.endswith(" s")
    assert second == "b.ipynb: not written, code cell 2 (x / 0) raised ZeroDivisionError: division by zero"
    assert read(good).cells[1].outputs[0].data["text/plain"] == "'unset'"


def test_a_kernel_that_dies_is_told(tmp_path):
    path = write(tmp_path / "a.ipynb", new_code_cell("1"), new_code_cell("import os\nos._exit(3)"))
    problem, _ = refresh_notebooks.refresh(path)
    assert problem.startswith("not written, code cell 2: DeadKernelError: ")


def test_cells_get_ids_that_stay():
    books = []
    for _ in range(2):
        cells = [{"source": "a"}, {"source": "a"}, {"id": "mine", "source": "b"}, {"id": "mine", "source": "b"}]
        books.append([nbformat.from_dict(cell) for cell in cells])
        refresh_notebooks.give_ids(books[-1])
    ids = [cell["id"] for cell in books[0]]
    assert ids == [cell["id"] for cell in books[1]]
    assert ids[2] == "mine"
    assert len(set(ids)) == 4


def test_settle_keeps_what_carriage_returns_leave():
    assert refresh_notebooks.settle("a\r\nb\n") == "a\nb\n"
    assert refresh_notebooks.settle("10%\r50%\r100%\nend") == "100%\nend"
    assert refresh_notebooks.settle("   \r\nx") == "\nx"


def test_notebooks_are_found_and_other_things_refused(tmp_path):
    inner = write(tmp_path / "b" / "x.ipynb")
    write(tmp_path / "b" / ".ipynb_checkpoints" / "x-checkpoint.ipynb")
    outer = write(tmp_path / "a.ipynb")
    assert refresh_notebooks.find_notebooks([tmp_path]) == [outer, inner]
    assert refresh_notebooks.find_notebooks([inner]) == [inner]
    with pytest.raises(SystemExit, match="neither a notebook nor a folder"):
        refresh_notebooks.find_notebooks([tmp_path / "none.ipynb"])


def test_minutes_that_promise_too_little_are_told(tmp_path):
    path = write(tmp_path / "a.ipynb", new_markdown_cell("# A\n**CPU 2 min**"))
    assert refresh_notebooks.slower_than_promised(path, 239) == ""
    assert refresh_notebooks.slower_than_promised(path, 241) == ", but its first cell promises 2 min"


# ---------------------------------------------------------------- copies for students
@pytest.fixture
def course(tmp_path):
    """A project with two linked lessons, a picture they show and an exercise."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "map.png").write_bytes(b"png")
    (tmp_path / "secret.txt").touch()
    output = new_output("stream", name="stdout", text="42\n")
    write(
        tmp_path / "notebooks" / "00_start.ipynb",
        new_markdown_cell("# A\n[next](10_part/11_next.ipynb) ![a map](../docs/map.png) [site](https://x.org)"),
        new_code_cell("def f(): ...", execution_count=1, outputs=[output], metadata={"tags": ["exercise"]}),
        new_code_cell("def f(): return 42", execution_count=2, outputs=[output], metadata={"tags": ["solution"]}),
        new_code_cell("check(f)", execution_count=3, outputs=[output]),
    )
    write(tmp_path / "notebooks" / "10_part" / "11_next.ipynb", new_markdown_cell("# B\n[back](../00_start.ipynb)"))
    return tmp_path


def test_students_get_no_solutions_no_outputs_and_working_links(course):
    source = course / "notebooks" / "00_start.ipynb"
    before = source.read_bytes()
    target = course / "build"
    student_copies.write_copies(refresh_notebooks.find_notebooks([course / "notebooks"]), course, target)
    book = read(target / "notebooks" / "00_start.ipynb")
    assert [cell.source for cell in book.cells[1:]] == ["def f(): ...", "check(f)"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in book.cells[1:])
    assert (target / "docs" / "map.png").read_bytes() == b"png"
    assert (target / "notebooks" / "10_part" / "11_next.ipynb").is_file()
    assert not (target / "secret.txt").exists()
    assert source.read_bytes() == before


def test_copying_leaves_the_notebook_itself_alone(course):
    book = read(course / "notebooks" / "00_start.ipynb")
    before = nbformat.writes(book)
    assert len(student_copies.student_copy(book).cells) == len(book.cells) - 1
    assert nbformat.writes(book) == before


def test_work_of_students_is_not_overwritten(course):
    paths = refresh_notebooks.find_notebooks([course / "notebooks"])
    student_copies.write_copies(paths, course, course / "build")
    answered = course / "build" / "notebooks" / "00_start.ipynb"
    answered.write_text("my answer")
    with pytest.raises(SystemExit, match="has files already, perhaps with answers"):
        student_copies.write_copies(paths, course, course / "build")
    assert answered.read_text() == "my answer"


def test_a_selection_loses_links_to_lessons_that_are_not_in_it(course):
    start = course / "notebooks" / "00_start.ipynb"
    student_copies.write_copies([start], course, course / "build")
    text = read(course / "build" / "notebooks" / "00_start.ipynb").cells[0].source
    assert text == "# A\nnext ![a map](../docs/map.png) [site](https://x.org)"
    assert not (course / "build" / "notebooks" / "10_part").exists()


def test_what_cells_read_comes_along(course):
    (course / "results").mkdir()
    for name in ("a.json", "b.json", "notes.txt"):
        (course / "results" / name).write_text("{}")
    path = write(course / "notebooks" / "20.ipynb", new_markdown_cell("# C"), new_code_cell('load("../results", 1)'))
    student_copies.write_copies([path], course, course / "build")
    assert sorted(p.name for p in (course / "build" / "results").iterdir()) == ["a.json", "b.json"]


QUIZ = new_markdown_cell(
    "## Check your understanding\n1. Why?\n\n<details><summary>Answers</summary>\n\n1. So.\n</details>\n\n"
    "## Exercises\n### Exercise 1: all (5 min, ●○○)\nWrite `f()`.\n<details><summary>Hint</summary>\nIt is 42."
    "\n</details>"
)


@pytest.fixture
def lesson():
    """Shown results before and in the exercise, an answered question, an exercise for words."""

    def code(source, *tags, **about):
        output = new_output("stream", name="stdout", text="42\n")
        return new_code_cell(source, execution_count=1, outputs=[output], metadata={"tags": list(tags)}, **about)

    return new_notebook(
        cells=[
            new_markdown_cell("# A\n<details><summary>Answers</summary>\n\n1. Kept.\n</details>"),
            code("shown = 42"),
            QUIZ.copy(),
            code("def f():\n    ...", "exercise"),
            code("def f():\n    return 42\n\ndef g(x):\n    if x:\n        return 1", "solution"),
            code("exercises.check_f(f)", id="check"),
            new_markdown_cell("### Exercise 2: think (20 min, ●●●, no check)\nThink.", id="open"),
        ]
    )


def test_outputs_stay_on_request_but_not_those_of_exercises(lesson):
    copy = student_copies.student_copy(lesson, with_outputs=True)
    assert [(cell.source[:5], len(cell.outputs)) for cell in copy.cells if cell.cell_type == "code"] == [
        *[("shown", 1), ("def f", 0), ("exerc", 0)]
    ]


def test_answers_to_the_questions_can_be_left_out(lesson):
    before = nbformat.writes(lesson)
    copy = student_copies.student_copy(lesson, without_answers=True)
    assert "1. Why?" in copy.cells[2].source
    assert "It is 42." in copy.cells[2].source
    assert "So." not in copy.cells[2].source
    assert "Kept." in copy.cells[0].source  # of the questions that come before a lesson
    assert nbformat.writes(lesson) == before


def test_solutions_are_marked_for_nbgrader():
    two = "def f():\n    # why\n    return 42\n\ndef g(x):\n    if x:\n        return 1"
    assert student_copies.mark_solution(two) == (
        "def f():\n    ### BEGIN SOLUTION\n    # why\n    return 42\n    ### END SOLUTION\n\n"
        "def g(x):\n    ### BEGIN SOLUTION\n    if x:\n        return 1\n    ### END SOLUTION"
    )
    for whole in ("def f(): return 42", "x = 1\ndef f():\n    return x"):
        assert student_copies.mark_solution(whole) == f"### BEGIN SOLUTION\n{whole}\n### END SOLUTION"


def test_nbgrader_gets_answers_checks_and_points(lesson):
    copy = student_copies.nbgrader_source(lesson)
    nbformat.validate(copy)
    told = [cell.metadata["nbgrader"] for cell in copy.cells if "nbgrader" in cell.metadata]
    common = {"schema_version": 3, "task": False}
    assert told == [
        common | dict(cell_type="code", grade_id="exercise-1", grade=False, solution=True, locked=False),
        common | dict(cell_type="code", grade_id="check-1", grade=True, solution=False, locked=True, points=5),
        common | dict(cell_type="markdown", grade_id="words-2", grade=True, solution=True, locked=False, points=20),
    ]
    assert copy.cells[3].source.startswith("def f():\n    ### BEGIN SOLUTION\n    return 42")
    assert copy.cells[-1].source == "Your answer"
    assert "nbgrader" not in str([cell.metadata for cell in lesson.cells])


def test_nbgrader_finds_an_assignment_for_each_part_with_its_files(course):
    inner = course / "notebooks" / "10_part" / "11_next.ipynb"
    write(inner, new_markdown_cell("# B\n[back](../00_start.ipynb) ![m](../../docs/map.png)"))
    student_copies.write_nbgrader([inner, course / "notebooks" / "00_start.ipynb"], course, course / "build")
    source = course / "build" / "source"
    assert read(source / "10_part" / "11_next.ipynb").cells[0].source == "# B\nback ![m](files/docs/map.png)"
    assert (source / "10_part" / "files" / "docs" / "map.png").read_bytes() == b"png"
    assert (source / "00_start" / "00_start.ipynb").is_file()


def test_the_command_copies_what_it_is_told(tmp_path, capsys):
    start = student_copies.PROJECT / "notebooks" / "00_start_here.ipynb"
    assert student_copies.main([str(start), "--to", str(tmp_path / "copies")]) == 0
    assert [p.name for p in (tmp_path / "copies" / "notebooks").rglob("*.ipynb")] == ["00_start_here.ipynb"]
    assert "1 notebooks without solutions" in capsys.readouterr().out
    stranger = write(tmp_path / "x.ipynb")
    with pytest.raises(SystemExit, match="lies outside"):
        student_copies.main([str(stranger)])
