"""Every notebook keeps the rules of tools/notebook_rules.py, and every rule is seen to fail on a made-up notebook."""

from pathlib import Path

import nbformat
import notebook_rules as rules
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

PROJECT = Path(__file__).parents[2]
NOTEBOOKS = sorted(p for p in (PROJECT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_keeps_the_rules(path):
    assert rules.broken_rules(path) == []


# ---------------------------------------------------------------- a small notebook that keeps all rules
def prose(source):
    return new_markdown_cell(source)


def code(source, *outputs, number=None, tags=(), **metadata):
    return new_code_cell(
        source, execution_count=number, outputs=list(outputs), metadata={"tags": list(tags), **metadata}
    )


def shown(text, **data):
    return new_output("display_data", {"text/plain": text, **{k.replace("_", "/"): v for k, v in data.items()}})


def stream(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def good_book():
    cells = [
        prose("# Where the mask falls\nYou will hide patches.\n**CPU 2 min · no download**"),
        code("1 + 1", new_output("execute_result", {"text/plain": "2"}, execution_count=1), number=1),
        prose("## Steps\n![a grid, two patches dark](data:image/png;base64,AA==)\n```python\n# no heading\n```"),
        code("explorer", shown("<SliceExplorer>", image_png="AA=="), number=2, tags=["nbval-ignore-output"]),
        code("int('x')", new_output("error", ename="ValueError", evalue="x"), number=3, tags=["raises-exception"]),
        prose("### Exercise 1"),
        code("def f(x):\n    ...", number=4, tags=["exercise"]),
        code("def f(x):\n    return x", number=5, tags=["solution"], jupyter={"source_hidden": True}),
        code("exercises.check_f(f)", stream("f: all 3 cases right.\n"), number=6),
    ]
    return new_notebook(cells=cells)


def problems(book):
    return [f"{rule.__name__}: {place}" for rule in rules.RULES for place in rule(book)]


def only_problem(book):
    found = problems(book)
    assert len(found) == 1, found
    return found[0]


def test_a_good_notebook_has_no_problem(tmp_path):
    assert problems(good_book()) == []
    nbformat.write(good_book(), tmp_path / "book.ipynb")
    assert rules.broken_rules(tmp_path / "book.ipynb") == []
    assert rules.main([str(tmp_path)]) == 0


# ---------------------------------------------------------------- each rule fails once
@pytest.mark.parametrize("counts", [(1, 2, 3, 4, 5, None), (None,) * 6, (2, 3, 4, 5, 6, 7), (1, 3, 2, 4, 5, 6)])
def test_cells_that_did_not_run_in_order(counts):
    book = good_book()
    for cell, count in zip(rules.code_cells(book), counts, strict=True):
        cell.execution_count = count
    assert only_problem(book).startswith("cells_ran_in_order: code cells carry the numbers")


def test_widget_state_and_views():
    book = good_book()
    book.metadata["widgets"] = {}
    assert only_problem(book) == "no_widget_state: metadata.widgets holds saved widget state"
    book = good_book()
    rules.code_cells(book)[1].outputs[0].data[rules.WIDGET_VIEW] = {"model_id": "1"}
    assert only_problem(book) == "no_widget_state: code cell 2 holds a widget view"


@pytest.mark.parametrize("text", ["<SliceExplorer>", "VBox(children=(Image(value=b'x'),))", "IntSlider(value=0)"])
def test_widget_without_a_picture(text):
    book = good_book()
    rules.code_cells(book)[1].outputs = [shown(text)]
    assert only_problem(book).startswith("widgets_have_pictures: code cell 2 shows the widget")


def test_other_shown_things_need_no_picture():
    book = good_book()
    rules.code_cells(book)[1].outputs = [shown("<Figure size 640x480 with 1 Axes>"), shown("Point(x=1)")]
    assert problems(book) == []


def test_stderr():
    book = good_book()
    rules.code_cells(book)[0].outputs.append(stream("UserWarning: old", "stderr"))
    assert only_problem(book) == "no_stderr: code cell 1 wrote to stderr: 'UserWarning: old'"


def test_errors_and_their_tag_come_together():
    book = good_book()
    rules.code_cells(book)[2].outputs = []
    assert only_problem(book) == "errors_are_announced: code cell 3 did not raise despite its tag"
    book = good_book()
    rules.code_cells(book)[2].metadata.tags = []
    assert only_problem(book) == "errors_are_announced: code cell 3 raised without its tag"


def test_too_much_excluded_from_comparison():
    book = good_book()
    for cell in rules.code_cells(book)[:3]:
        cell.metadata.tags.append("nbval-ignore-output")
    assert problems(book) == []
    rules.code_cells(book)[5].source += "  # NBVAL_IGNORE_OUTPUT"
    assert only_problem(book) == "mostly_compared: 4 of 6 code cells are excluded from comparison"


@pytest.mark.parametrize(
    "text",
    ["saved in /home/ann/x.png", "('/Users/ann/x')", r"C:\Users\ann", '"/tmp/ipykernel_1/2.py"', "/root/.cache/x"],
)
def test_paths_of_a_machine(text):
    book = good_book()
    rules.code_cells(book)[5].outputs = [stream(text)]
    assert only_problem(book).startswith("no_machine_paths: code cell 6 names a path of one machine: ")
    book = good_book()
    book.cells[2].source += "\n\n" + text
    assert only_problem(book).startswith("no_machine_paths: cell 3 names")


@pytest.mark.parametrize(
    "text", ["</details>", "https://x.org/home/y", "load_cohort('/my/scans')", "a/tmp/b", "and/or"]
)
def test_what_only_looks_like_a_path_of_a_machine(text):
    book = good_book()
    book.cells[2].source += "\n\n" + text
    assert problems(book) == []


@pytest.mark.parametrize("place", [2, 5])
def test_second_title(place):
    book = good_book()
    book.cells[place].source = "# Another\n## Steps"
    assert only_problem(book).startswith("one_title: one `#` heading is wanted")


def test_title_elsewhere_or_missing():
    book = good_book()
    book.cells[0].source = "CPU 2 min\n# Title"
    assert only_problem(book).startswith("one_title")
    book.cells[0].source = "CPU 2 min"
    assert only_problem(book).startswith("one_title")


def test_heading_level_left_out():
    book = good_book()
    book.cells[2].source = "#### Deep"
    assert only_problem(book) == "headings_in_order: cell 3: 'Deep' is level 4 below level 1"


def test_minutes_missing():
    book = good_book()
    book.cells[0].source = "# Title\nquick"
    assert only_problem(book).startswith("minutes_promised")


@pytest.mark.parametrize("picture", ["![](x.png)", "![ ](x.png)", '<img src="x.png">', '<img src="x.png" alt="">'])
def test_picture_without_words(picture):
    book = good_book()
    book.cells[5].source += f"\n{picture}"
    assert only_problem(book).startswith("pictures_described: cell 6: ")


def test_picture_with_words():
    book = good_book()
    book.cells[5].source += '\n<img src="x.png" alt="a liver">'
    assert problems(book) == []


def test_long_code_cell():
    book = good_book()
    rules.code_cells(book)[0].source = "\n".join(["x = 1"] * 25)
    assert problems(book) == []
    rules.code_cells(book)[0].source += "\nx"
    assert only_problem(book) == "code_cells_short: code cell 1 has 26 lines, at most 25 are read"


def test_solution_not_folded():
    book = good_book()
    del rules.code_cells(book)[4].metadata["jupyter"]
    assert only_problem(book) == "solutions_in_place: code cell 5: the solution is not folded (jupyter.source_hidden)"


def test_solution_without_check_or_exercise():
    book = good_book()
    rules.code_cells(book)[5].source = "f(1)"
    assert only_problem(book) == "solutions_in_place: code cell 5: no check follows the solution"
    book = good_book()
    rules.code_cells(book)[3].metadata.tags = []
    assert "does not stand right after an exercise" in only_problem(book)


def test_exercise_without_solution():
    book = good_book()
    rules.code_cells(book)[4].metadata.tags = []
    assert only_problem(book) == "solutions_in_place: code cell 4: the exercise has no solution right after it"


def test_links_are_followed(tmp_path):
    (tmp_path / "there.ipynb").touch()
    book = good_book()
    book.cells[5].source += "\n[a](there.ipynb#steps) [b](https://x.org) [c](#steps) [d](attachment:x.png)"
    assert rules.links_lead_somewhere(book, tmp_path) == []
    book.cells[5].source += " [e](../gone.ipynb) <a href='no.png'>f</a> ![g](pictures/no.png 'title')"
    found = rules.links_lead_somewhere(book, tmp_path)
    assert found == [f"link to {name}, which is not there" for name in ("../gone.ipynb", "no.png", "pictures/no.png")]


def test_files_that_are_too_large_or_no_notebook(tmp_path, capsys):
    book = good_book()
    book.cells[5].source = "x" * 2_000_000
    path = tmp_path / "book.ipynb"
    nbformat.write(book, path)
    assert rules.broken_rules(path) == ["the file has 2.0 MB, at most 2 MB are stored"]
    assert rules.main([str(path)]) == 1
    assert "2.0 MB" in capsys.readouterr().out
    for text in ("", "[1", '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"id": "a"}]}'):
        path.write_text(text)
        assert rules.broken_rules(path)[0].startswith("not a valid notebook: ")


def test_id_used_twice():
    book = good_book()
    book.cells[1].id = book.cells[2].id
    assert only_problem(book) == f"ids_unique: two cells carry the id {book.cells[2].id}"
