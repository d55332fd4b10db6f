"""The course pages are true: what follows from the notebooks is up to date, links lead somewhere, minutes add up."""

import json
import re
from functools import cache
from pathlib import Path

import course_pages
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from refresh_notebooks import find_notebooks

PROJECT = Path(__file__).parents[1]
PAGES = PROJECT / "docs" / "course"


@cache
def lessons() -> dict[str, course_pages.Lesson]:
    """{number: lesson} of the notebooks as they stand."""
    return {path.stem[:2]: course_pages.read_lesson(path) for path in find_notebooks([PROJECT / "notebooks"])}


@cache
def prose(number: str) -> str:
    book = json.loads(lessons()[number].path.read_text(encoding="utf-8"))
    return "\n\n".join("".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "markdown")


def page(name: str) -> str:
    return (PAGES / name).read_text(encoding="utf-8")


# ---------------------------------------------------------------- pages made from the notebooks
@pytest.mark.parametrize("name", ["answers.md", "exercises.md", "teacher.md"])
def test_stored_page_is_what_the_notebooks_say(name):
    made = course_pages.pages(list(lessons().values()), PAGES)[name]
    assert page(name) == made, "a lesson or a plan changed: run `python tools/course_pages.py`"


def test_every_question_and_every_check_is_on_the_pages():
    answers, exercises = page("answers.md"), page("exercises.md")
    assert answers.count("**Answer.**") == sum(len(lesson.questions) for lesson in lessons().values())
    assert [number for number, lesson in lessons().items() if not lesson.questions or not lesson.exercises] == []
    from medssl_nb import exercises as checks

    missing = [name for name in checks.__all__ if name.startswith("check_") and f"`{name}`" not in exercises]
    assert missing == []


@pytest.fixture
def lesson(tmp_path):
    """A small lesson: two questions, a checked exercise and an open one."""
    path = tmp_path / "part" / "77_small.ipynb"
    path.parent.mkdir()
    cells = [
        new_markdown_cell("# Small\nText.\n\n**CPU 3 min**\n\n**After this lesson you can** *count*\nto two."),
        new_markdown_cell(
            "## Check your understanding\n1. One?\n2. Two,\n   `x` or $|y|$?\n\n<details><summary>Answers</summary>\n\n"
            "1. Yes.\n2. See [this](../other.ipynb).\n\n   Truly.\n</details>\n\n## Exercises\nNothing."
        ),
        new_markdown_cell("### Exercise 1: add (5 min, ●○○)\n\nNumbers abound. Write `add(a, b)`: $|a|+b$.\n<details>"),
        new_code_cell("def add(a, b): ...", metadata={"tags": ["exercise"]}),
        new_code_cell("def add(a, b): return abs(a) + b", metadata={"tags": ["solution"]}),
        new_code_cell("exercises.check_add(add)", id="the-check"),
        new_markdown_cell("### Exercise 2: think (20 min, ●●●, no check)\nThink [hard](hard.md). Then rest."),
    ]
    nbformat.write(new_notebook(cells=cells), path)
    return course_pages.read_lesson(path)


def test_a_lesson_is_read_whole(lesson):
    assert (lesson.number, lesson.title, lesson.minutes, lesson.goals) == ("77", "Small", 3, "*count* to two.")
    assert lesson.questions == (
        ("One?", "Yes."),
        ("Two,\n`x` or $|y|$?", "See [this](../other.ipynb).\n\nTruly."),
    )
    first, second = lesson.exercises
    assert (first.title, first.minutes, first.difficulty, first.check, first.check_id) == (
        *("add", 5, "●○○", "check_add", "the-check"),
    )
    assert (second.minutes, second.check, second.task) == (20, "", "Think [hard](hard.md). Then rest.")


def test_pages_of_a_small_lesson(lesson, tmp_path):
    pages = course_pages.pages([lesson], tmp_path / "docs")
    assert "1. One?\n\n   **Answer.** Yes.\n" in pages["answers.md"]
    assert "   **Answer.** See [this](../other.ipynb).\n\n   Truly.\n" in pages["answers.md"]
    assert "## [77 Small](../part/77_small.ipynb)" in pages["answers.md"]
    assert "| 1 | add | 5 | ●○○ | Write `add(a, b)`: $\\|a\\|+b$. | `check_add` |" in pages["exercises.md"]
    assert "| 2 | think | 20 | ●●● | Think [hard](../part/hard.md). | none" in pages["exercises.md"]
    assert "| all 1 | 3 min | 5 min | 2: 25 min | 2 |" in pages["exercises.md"]


def test_what_does_not_fit_is_told():
    with pytest.raises(ValueError, match="2 questions and 1 answers"):
        course_pages.questions(
            "## Check your understanding\n1. A?\n2. B?\n<details><summary>Answers</summary>\n\n1. A.\n</details>"
        )
    assert course_pages.questions("## Something else\n1. A?") == ()


def test_a_section_ends_at_a_heading_that_is_not_below_it():
    text = "# T\n## A\none\n### B\n```\n## in code\n```\ntwo\n## C\nthree"
    assert course_pages.section(text, "A") == "one\n### B\n```\n## in code\n```\ntwo"
    assert course_pages.section(text, "D") == ""


# ---------------------------------------------------------------- links
@pytest.mark.parametrize("path", sorted(PAGES.glob("*.md")), ids=lambda path: path.name)
def test_links_of_a_page_lead_somewhere(path):
    links = re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert local
    assert [link for link in local if not (path.parent / link).exists()] == []


# ---------------------------------------------------------------- glossary
TERM = re.compile(r"^- \*\*(.+?)\*\* \(\[(\d\d)\]\(\S+/(\d\d)_\w+\.ipynb\)\): (.+)$", re.MULTILINE)


def test_terms_are_in_alphabetical_order_each_once_and_short():
    terms = [match[0] for match in TERM.findall(page("glossary.md"))]
    entries = re.findall(r"^- \*\*", page("glossary.md"), re.MULTILINE)
    keys = [re.sub(r"[^a-z0-9 ]", "", term.lower()) for term in terms]
    assert len(terms) == len(entries) > 100
    assert keys == sorted(keys)
    assert len(set(terms)) == len(terms)
    without_links = [re.sub(r"\]\(\S+\)", "]", text) for *_, text in TERM.findall(page("glossary.md"))]
    assert max(len(text) for text in without_links) < 240


def test_a_term_is_introduced_in_the_lesson_it_names():
    """In bold or in a heading, as a whole word, perhaps among others."""
    strangers = []
    for term, number, linked, _ in TERM.findall(page("glossary.md")):
        places = re.findall(r"\*\*(.+?)\*\*", prose(number), re.DOTALL) + re.findall(
            r"^#+ (.+)$", prose(number), re.MULTILINE
        )
        word = re.compile(rf"(?<!\w){re.escape(term.lower())}(?!\w)")
        if number != linked or not any(word.search(" ".join(place.lower().split())) for place in places):
            strangers.append((term, number))
    assert strangers == []


def test_a_symbol_stands_in_a_formula_of_the_lesson_it_names():
    rows = re.findall(r"^\| [\w ]+ \| \$(.+?)\$ \| .+ \| \[(\d\d)\]", page("glossary.md"), re.MULTILINE)
    assert len(rows) > 50
    strangers = []
    for symbol, number in rows:
        formulas = " ".join(re.findall(r"\$+(.+?)\$+", prose(number), re.DOTALL))
        if not re.search(r"(?<![A-Za-z\\])" + re.escape(symbol) + r"(?![A-Za-z])", formulas):
            strangers.append((symbol, number))
    assert strangers == []


# ---------------------------------------------------------------- minutes of the plans
def tables(name: str) -> list[list[dict[str, str]]]:
    """Every table of a page as rows {heading: cell}; of two columns with one heading the second is "heading 2"."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", page(name), re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines()]
        heads = [head if rows[0].index(head) == n else f"{head} 2" for n, head in enumerate(rows[0])]
        found.append([dict(zip(heads, row, strict=True)) for row in rows[2:]])
    return found


def test_every_session_fits_into_90_minutes():
    plans = [table for table in tables("teacher.md") if "in class" in table[0]]
    assert [len(plan) for plan in plans] == [12, 6]
    for row in plans[0] + plans[1]:
        for end in ("", " 2"):
            assert sum(int(row[name + end] or 0) for name in ("reading", "run", "min")) <= 90, row["session"]


def test_every_lesson_has_its_place_in_the_plan_of_twelve_or_is_named_as_extra():
    plan = next(table for table in tables("teacher.md") if "in class" in table[0])
    planned = {number for row in plan for number in re.findall(r"\d\d", row["in class"] + " " + row["at home"])}
    assert sorted(lessons().keys() - planned) == ["44"]
    assert planned <= lessons().keys()


def test_minutes_of_a_plan_are_filled_in(lesson):
    plan = "text | of a | kind\n\n| day | in class | reading | run | exercises | min |\n|--|--|--|--|--|--|\n"
    rows = (
        "| 1 | 77 |  | 9 | 77.2 | |\n| 2 | 77, 77 | | | all | |\n| 3 | 88 | | | | |\n"
        "| 4 | | 7 | 7 | x | 7 |\n| 5 | 77 | | | 77.3 | |\n| 6 | | | | 77.1 | |\n"
    )
    filled = course_pages.with_minutes(plan + rows, [lesson])
    assert filled == plan + (
        "| 1 | 77 | 5 | 3 | 77.2 | 20 |\n| 2 | 77, 77 | 10 | 6 | all | 50 |\n| 3 | 88 | ? | ? | | ? |\n"
        "| 4 | | | | x | |\n| 5 | 77 | ? | ? | 77.3 | ? |\n| 6 | | | | 77.1 | 5 |\n"
    )


def test_questions_named_for_discussion_are_those_of_the_lesson():
    """ "... (13, question 3)" after a question: its first words stand there in the lesson."""
    text = " ".join(page("teacher.md").split())
    named = re.findall(r"\*Discuss\.\* ((?:(?!\*Discuss).)+?) \((\d\d), question (\d)\)", text)
    assert len(named) >= 8
    for question, number, k in named:
        asked = " ".join(lessons()[number].questions[int(k) - 1][0].split())
        assert question[:25] == asked[:25], (number, k)
