"""Course pages that follow from the notebooks: `python tools/course_pages.py` writes them to docs/course.

`answers.md` holds the questions of every lesson with their answers, `exercises.md` lists lessons and exercises with
minutes and checks. Nobody edits these pages. `teacher.md` is written by hand; its plans name lessons and exercises, and
the minutes beside them are filled in. tests/test_course.py compares the stored pages with what this file makes.
"""

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import nbformat
from notebook_rules import headings, tags
from refresh_notebooks import find_notebooks

PROJECT = Path(__file__).resolve().parents[1]
PAGES = PROJECT / "docs" / "course"
WORDS_PER_MINUTE = 130  # slow: formulas, pictures and guesses before the cells are run take their time
EXERCISE = re.compile(r"### Exercise \d+: (.+) \((\d+) min, ([●○]+)(?:, no check)?\)")
QUESTIONS = "Check your understanding"
PLANNED = ("in class", "at home", "lessons")  # columns of a plan, each followed by: reading, run, exercises, min


@dataclass(frozen=True)
class Exercise:
    """One exercise of a lesson; `check` and `check_id` (name and cell id) are "" if nothing checks it."""

    title: str
    minutes: int
    difficulty: str
    task: str
    check: str = ""
    check_id: str = ""


@dataclass(frozen=True)
class Lesson:
    """What the pages tell of one notebook."""

    path: Path
    title: str
    minutes: int
    words: int
    goals: str
    questions: tuple[tuple[str, str], ...]
    exercises: tuple[Exercise, ...]

    @property
    def number(self) -> str:
        return self.path.stem[:2]

    @property
    def reading(self) -> int:
        """Estimated minutes of reading, in steps of five."""
        return max(5, 5 * round(self.words / WORDS_PER_MINUTE / 5))


def main() -> int:
    """Write the pages and say how long they are."""
    lessons = [read_lesson(path) for path in find_notebooks([PROJECT / "notebooks"])]
    for name, page in pages(lessons, PAGES).items():
        (PAGES / name).write_text(page, encoding="utf-8")
        print(f"docs/course/{name}: {len(page.splitlines())} lines")
    return 0


def pages(lessons: list[Lesson], folder: Path) -> dict[str, str]:
    """{file name: page}, with links that lead from `folder` to the lessons; with `teacher.md` if `folder` has one."""
    made = {"answers.md": answers_page(lessons, folder), "exercises.md": exercises_page(lessons, folder)}
    teacher = folder / "teacher.md"
    if teacher.is_file():
        made["teacher.md"] = with_minutes(teacher.read_text(encoding="utf-8"), lessons)
    return made


# ---------------------------------------------------------------- from a notebook
def read_lesson(path: Path) -> Lesson:
    """The lesson in the notebook file `path`.

    Raises:
        ValueError: it has no badge, or its questions and answers do not go together.
    """
    book = nbformat.read(path, 4)
    prose = "\n\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    badge = re.search(r"CPU (\d+) min", prose)
    if not badge:
        raise ValueError(f"{path.name} promises no minutes: its first cell needs a badge such as **CPU 2 min**.")
    try:
        asked = questions(prose)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None
    goals = re.search(r"After this lesson you can\*+\s*(.+?)(?:\n\n|\Z)", book.cells[0].source, re.DOTALL)
    return Lesson(
        path=path,
        title=headings(book)[0][2],
        minutes=int(badge[1]),
        words=len(re.findall(r"\w+", prose)),
        goals=" ".join(goals[1].split()) if goals else "",
        questions=asked,
        exercises=exercises(book),
    )


def questions(prose: str) -> tuple[tuple[str, str], ...]:
    """(question, answer) pairs of the section "Check your understanding"; none if there is no such section.

    Raises:
        ValueError: there are not as many answers as questions.
    """
    part = section(prose, QUESTIONS)
    asked, _, rest = part.partition("<details><summary>Answers</summary>")
    found, given = numbered(asked), numbered(rest.partition("</details>")[0])
    if len(found) != len(given):
        raise ValueError(
            f'under "{QUESTIONS}" stand {len(found)} questions and {len(given)} answers; both are lists '
            "numbered from 1, the answers in <details><summary>Answers</summary>."
        )
    return tuple(zip(found, given, strict=True))


def section(prose: str, title: str) -> str:
    """The text under the heading `title`, up to the next heading that is not below it; "" if there is none."""
    kept, level, fenced = [], 0, False
    for line in prose.splitlines():
        fenced ^= line.startswith(("```", "~~~"))
        hashes = 0 if fenced else len(re.match(r"#{0,6}(?= )|", line)[0])
        if hashes and level and hashes <= level:
            break
        if level:
            kept.append(line)
        elif hashes and line[hashes:].strip() == title:
            level = hashes
    return "\n".join(kept)


def numbered(text: str) -> list[str]:
    """The items of a list "1. ... 2. ...", each without its number and its indentation."""
    pieces = re.split(r"^(\d+)\. +", text, flags=re.MULTILINE)
    return [re.sub(r"^ {1,3}", "", piece.strip(), flags=re.MULTILINE) for piece in pieces[2::2]]


def exercises(book) -> tuple[Exercise, ...]:
    """The exercises of a notebook in their order, each with the check that follows its solution."""
    found: list[Exercise] = []
    before: list[str] = []  # tags of the code cell before
    for cell in book.cells:
        if cell.cell_type == "markdown":
            found += [describe(match, cell.source) for match in EXERCISE.finditer(cell.source)]
            continue
        if "solution" in before and found:
            name = re.search(r"\bcheck_\w+", cell.source)
            found[-1] = replace(found[-1], check=name[0] if name else "", check_id=cell.id)
        before = tags(cell)
    return tuple(found)


def describe(heading: re.Match, source: str) -> Exercise:
    """The exercise under a heading; its task is the text up to the first hint or the next exercise."""
    below = re.split(r"<details>|^#", source[heading.end() :], maxsplit=1, flags=re.MULTILINE)[0]
    return Exercise(heading[1], int(heading[2]), heading[3], " ".join(below.split()))


# ---------------------------------------------------------------- to pages
NOTE = "<!-- Made by tools/course_pages.py from the notebooks. Do not edit: change the notebook and run it again. -->\n"


def answers_page(lessons: list[Lesson], folder: Path) -> str:
    parts = [
        "# Answers to the questions of the lessons\n",
        NOTE,
        'Every question under "Check your understanding", with the answer that stands folded below it in the lesson. '
        "Several ask for judgement: take an answer that differs if its reason holds.\n",
    ]
    for lesson in lessons:
        if lesson.questions:
            parts.append(f"## {title_link(lesson, folder)}\n")
        for number, (question, answer) in enumerate(lesson.questions, 1):
            item = f"{question}\n\n**Answer.** {answer}"
            parts.append(indented(f"{number}. ", relinked(item, lesson.path.parent, folder)) + "\n")
    return "\n".join(parts)


def exercises_page(lessons: list[Lesson], folder: Path) -> str:
    return "\n".join(
        [
            "# Lessons and exercises at a glance\n",
            NOTE,
            f"**Run** is the badge of the lesson: minutes on one CPU core. **Reading** is an estimate: the words of "
            f"the lesson at {WORDS_PER_MINUTE} a minute. **Exercises** are the minutes that their headings name. ●○○ "
            "is direct, ●●○ asks for some thought, ●●● for a derivation or an idea of one's own. A check from "
            "`medssl_nb.exercises` says which case failed; exercises without one are read by a person.\n",
            *lesson_table(lessons, folder),
            *(line for lesson in lessons for line in exercise_table(lesson, folder)),
        ]
    )


def lesson_table(lessons: list[Lesson], folder: Path) -> Iterator[str]:
    yield "| lesson | run | reading | exercises | questions |\n|--|--|--|--|--|"
    for lesson in lessons:
        done = f"{len(lesson.exercises)}: {sum(e.minutes for e in lesson.exercises)} min"
        asked = len(lesson.questions)
        yield f"| {title_link(lesson, folder)} | {lesson.minutes} min | {lesson.reading} min | {done} | {asked} |"
    every = [exercise for lesson in lessons for exercise in lesson.exercises]
    yield (
        f"| all {len(lessons)} | {sum(lesson.minutes for lesson in lessons)} min "
        f"| {sum(lesson.reading for lesson in lessons)} min | {len(every)}: {sum(e.minutes for e in every)} min "
        f"| {sum(len(lesson.questions) for lesson in lessons)} |\n"
    )


def exercise_table(lesson: Lesson, folder: Path) -> Iterator[str]:
    if not lesson.exercises:
        return
    yield f"## {title_link(lesson, folder)}\n"
    yield f"Goals: {lesson.goals}\n" if lesson.goals else ""
    yield "| | exercise | min | | task | check |\n|--|--|--|--|--|--|"
    for number, exercise in enumerate(lesson.exercises, 1):
        task = re.sub(r"(?<!\\)\|", r"\\|", relinked(key_sentence(exercise.task), lesson.path.parent, folder))
        check = f"`{exercise.check}`" if exercise.check else "none: a person reads it"
        yield f"| {number} | {exercise.title} | {exercise.minutes} | {exercise.difficulty} | {task} | {check} |"
    yield ""


def with_minutes(page: str, lessons: list[Lesson]) -> str:
    """`page` with the minutes in its plans as the lessons say; "?" stands where a lesson or exercise does not exist."""
    heads, lines = [], []
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]] if line.startswith("|") else []
        if not cells:
            heads = []
        elif not heads:
            heads = cells
        elif set(heads) & set(PLANNED) and not line.startswith("|--"):
            for n in (n for n, head in enumerate(heads) if head in PLANNED):
                cells[n + 1 : n + 5] = plan_minutes(cells[n], cells[n + 3], lessons)
            line = f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")
        lines.append(line)
    return "\n".join(lines) + "\n"


def plan_minutes(named: str, chosen: str, lessons: list[Lesson]) -> list[str]:
    """Cells of a plan after the lessons `named` ("00, 11"): reading, run, exercises as `chosen`, minutes of these.

    `chosen` names exercises ("00.1 11.3") or says "all".
    """
    known = {lesson.number: lesson for lesson in lessons}
    try:
        met = [known[number] for number in re.findall(r"\d\d", named)]
        picked = [known[n].exercises[int(k) - 1] for n, k in re.findall(r"(\d\d)\.(\d)", chosen)]
    except LookupError:
        return ["?" if named else "", "?" if named else "", chosen, "?"]
    picked = [exercise for lesson in met for exercise in lesson.exercises] if chosen == "all" else picked
    sums = [sum(x.reading for x in met), sum(x.minutes for x in met), sum(x.minutes for x in picked)]
    reading, run, done = (str(total) if total else "" for total in sums)
    return [reading, run, chosen, done]


def title_link(lesson: Lesson, folder: Path) -> str:
    return f"[{lesson.number} {lesson.title}]({os.path.relpath(lesson.path, folder).replace(os.sep, '/')})"


def key_sentence(text: str) -> str:
    """The first sentence that says what to write, else the first of all. Code may hold full stops."""
    plain = re.sub(r"`[^`]*`", lambda code: "x" * len(code[0]), text)
    ends = [match.end() for match in re.finditer(r"[.?](?= [A-Z`$*])", plain)] + [len(text)]
    sentences = [text[start:end].strip() for start, end in zip([0, *ends], ends, strict=False)]
    return next((sentence for sentence in sentences if re.search(r"\b[Ww]rite `", sentence)), sentences[0])


def indented(start: str, text: str) -> str:
    """`text` as a list item that begins with `start`."""
    lines = [" " * len(start) + line if line else "" for line in text.splitlines()]
    return start + "\n".join(lines).lstrip()


def relinked(text: str, home: Path, folder: Path) -> str:
    """`text` with its links to files, which start from the folder `home`, starting from `folder`."""

    def move(link: re.Match) -> str:
        if re.match(r"[a-z]+:|#", link[1]):
            return link[0]
        return f"]({os.path.relpath(home / link[1], folder).replace(os.sep, '/')})"

    return re.sub(r"\]\(([^)\s]+)\)", move, text)


if __name__ == "__main__":
    sys.exit(main())
