"""What Sphinx reads: copies of the notebooks and pages, with links, pictures and words as the site needs them.

The copies lie as in the repository, so links between notebooks and pages stay as they are. Links to files that are no
page lead to the repository, if its address is known, and are plain text if not.
"""

import base64
import html
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from notebook_rules import FENCE, WIDGET_VIEW
from site_explorers import Live

PLOTLY = "application/vnd.plotly.v1+json"
FRONT = "index.md"
EXPLORERS = "explorers.md"
PAGES = ("CONTRIBUTING.md", "results/README.md", "data_scripts/README.md")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)((?:\s+\"[^\"]*\")?)\)")
ATTRIBUTE = re.compile(r"(<(?:a|img|source|video)\b[^>]*?\b(?:href|src|srcset)=)([\"'])([^\"']+)\2")
LONGEST_ALT = 300
TITLES = re.compile(r"titles?=(?:f?\"([^\"{}]+)\"|\[([^\]]+)\])")


@dataclass
class Site:
    """Where everything lies, and what was found wrong on the way.

    Attributes:
        top: the repository.
        source: where the copies go.
        repository: "owner/name" or "owner/name@branch" at GitHub; "" is none.
        live: {notebook: {cell number from 0: the explorer that runs there}}; notebooks as paths from `top`.
        dead: links that lead nowhere, as "page: link".
    """

    top: Path
    source: Path
    repository: str = ""
    live: dict[str, dict[int, Live]] = field(default_factory=dict)
    dead: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.repository.partition("@")[0]

    @property
    def branch(self) -> str:
        return self.repository.partition("@")[2] or "main"

    def notebooks(self) -> list[Path]:
        found = (self.top / "notebooks").rglob("*.ipynb")
        return sorted(path.relative_to(self.top) for path in found if ".ipynb_checkpoints" not in path.parts)

    def pages(self) -> list[Path]:
        course = sorted(path.relative_to(self.top) for path in (self.top / "docs").rglob("*.md"))
        return [Path("README.md"), *course, *(Path(page) for page in PAGES if (self.top / page).is_file())]


def write_sources(site: Site) -> None:
    """Write all that Sphinx reads to `site.source`."""
    for path in site.notebooks():
        book = nbformat.read(site.top / path, 4)
        target = site.source / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(nbformat.writes(lesson(book, path, site)), encoding="utf-8")
    (site.source / EXPLORERS).write_text(explorers_page(site), encoding="utf-8")
    for path in site.pages():
        text = with_links((site.top / path).read_text(encoding="utf-8"), path, site)
        target = site.source / copy_of(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + (contents(site) if target.name == FRONT else ""), encoding="utf-8")


def copy_of(path: Path) -> Path:
    """The page's path on the site."""
    return Path(FRONT) if path == Path("README.md") else path


# ---------------------------------------------------------------- lessons
def lesson(book, path: Path, site: Site):
    """The notebook as the site shows it."""
    cells = book.cells
    for number, cell in enumerate(cells):
        if cell.cell_type == "markdown":
            cell.source = with_links(cell.source, path, site)
            continue
        fold(cell)
        alt = picture_words(cells, number)
        cell.metadata.setdefault("mystnb", {})["image"] = {"alt": alt}
        cell.outputs = list(shown(cell, path))
        if live := site.live.get(path.as_posix(), {}).get(number):
            cell.outputs.append(html_output(live_place(live.name, path)))
    cells[0].source = under_title(cells[0].source, lesson_links(path, site))
    return book


def fold(cell) -> None:
    """Solutions and sources that the notebook hides are folded here too."""
    tags = cell.metadata.setdefault("tags", [])
    solution = "solution" in tags
    if solution or cell.metadata.get("jupyter", {}).get("source_hidden"):
        tags.append("hide-input")
        word = "solution" if solution else "code"
        cell.metadata["mystnb"] = {"code_prompt_show": f"Show the {word}", "code_prompt_hide": f"Hide the {word}"}


def shown(cell, path: Path) -> Iterator:
    """Outputs that Sphinx can draw: no widget views, plotly as a part of the page."""
    for number, out in enumerate(cell.get("outputs", [])):
        data = out.get("data", {})
        data.pop(WIDGET_VIEW, None)
        if PLOTLY in data:
            words = cell.metadata["mystnb"]["image"]["alt"]
            yield html_output(plotly_part(data[PLOTLY], f"plotly-{cell.id}-{number}", path, words))
        elif data or out.output_type in ("stream", "error"):
            yield out


def html_output(text: str):
    return nbformat.v4.new_output("display_data", data={"text/html": text})


def plotly_part(figure: dict, name: str, path: Path, words: str) -> str:
    """A plotly figure that draws itself from the site's own copy of plotly, frames and sliders too."""
    packed = json.dumps(figure).replace("<", "\\u003c")
    return (
        f'<div class="plotly-figure" id="{name}" role="img" aria-label="{html.escape(words)}"></div>\n'
        f'<script src="{up(path)}_static/plotly.min.js"></script>\n'
        f'<script>(() => {{ const f = {packed}; Plotly.newPlot("{name}", f.data ?? [], f.layout ?? {{}}, '
        "{responsive: true, displaylogo: false})"
        f'.then(() => f.frames && Plotly.addFrames("{name}", f.frames)); }})();</script>'
    )


def live_place(name: str, path: Path) -> str:
    """Where a script puts the explorer `name`; until then the picture beside it stands for it."""
    return f'<div class="live-explorer" data-explorer="{name}" data-from="{up(path)}_static/explorers/"></div>'


def picture_words(cells, number: int) -> str:
    """Words for the pictures of a code cell: what the lesson says one sees, else titles and the heading above."""
    for cell in cells[number + 1 : number + 3]:
        seen = re.match(r"\*\*What you see\.?\*\*\.?\s*(.+?)(?:\n\n|$)", cell.source, re.DOTALL)
        if cell.cell_type == "markdown" and seen:
            return shorten(plain(seen[1]))
    named = [one or many for one, many in TITLES.findall(cells[number].source)]
    titles = ", ".join(re.sub(r"[\"']", "", text) for text in named)
    above = (m[1] for cell in reversed(cells[:number]) for m in re.finditer(r"^#+ +(.+)$", cell.source, re.MULTILINE))
    heading = plain(next((text for text in above if cells[number].cell_type), "the lesson"))
    return shorten(f"{heading}: {plain(titles)}" if titles else f"Picture for “{heading}”, described in the text")


def plain(text: str) -> str:
    """Markdown without its signs."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\\[a-zA-Z]+|[\\{}]", " ", re.sub(r"[*`$#]|<[^>]*>", "", text))
    return " ".join(text.split())


def shorten(text: str) -> str:
    """At most a few sentences."""
    if len(text) <= LONGEST_ALT:
        return text
    cut = text[:LONGEST_ALT]
    end = cut.rfind(". ")
    return cut[: end + 1] if end > LONGEST_ALT // 3 else cut.rsplit(" ", 1)[0] + " …"


# ---------------------------------------------------------------- the page of explorers
LIVE_HERE = """# Explorers

These explorers of the lessons run here, in your browser, without Python and without the network. What Python would
answer was recorded beforehand for the choices that are open; choices in grey, and clicks that ask Python something new,
need the notebook and a kernel. Keys work too: the arrow keys move what has the focus.

## One crosshair for two sequences

Drag the cross in one brain: it follows in the other. The same patient, T1-weighted and FLAIR, with the tissues laid
over.

{linked}
"""
LIVE_FROM = """
## {live.title}

{live.words} From the lesson [{title}]({live.notebook}).

![{alt}]({picture})

{place}
"""


def explorers_page(site: Site) -> str:
    """All live explorers on one page, each with its picture for browsers that cannot run it."""
    page = Path(EXPLORERS)
    parts = [LIVE_HERE.format(linked=live_place("linked", page))]
    for notebook, cells in site.live.items():
        book = nbformat.read(site.top / notebook, 4)
        title = book.cells[0].source.partition("\n")[0].lstrip("# ")
        for number, live in cells.items():
            picture = Path("_explorers") / f"{live.name}.png"
            (site.source / picture).parent.mkdir(exist_ok=True)
            shown = (out.data["image/png"] for out in book.cells[number].outputs if "image/png" in out.get("data", {}))
            (site.source / picture).write_bytes(base64.b64decode(next(shown)))
            alt = re.sub(r"[\[\]]", "", picture_words(book.cells, number))
            place = live_place(live.name, page)
            parts.append(LIVE_FROM.format(live=live, title=title, alt=alt, picture=picture, place=place))
    return "".join(parts)


# ---------------------------------------------------------------- how to run a lesson
def lesson_links(path: Path, site: Site) -> str:
    """Buttons below the title: where the lesson runs."""
    links = [f'<a download href="{path.name}">Download notebook</a>']
    if site.name:
        where = f"{site.name}/{site.branch}"
        binder = f"https://mybinder.org/v2/gh/{where}?urlpath=lab/tree/{path.as_posix()}"
        colab = f"https://colab.research.google.com/github/{site.name}/blob/{site.branch}/{path.as_posix()}"
        links = [f'<a href="{binder}">Open in Binder</a>', f'<a href="{colab}">Open in Colab</a>', *links]
    buttons = "\n".join(links)
    return f'<div class="lesson-links">\n{buttons}\n{how_to_run(path, site)}</div>'


def how_to_run(path: Path, site: Site) -> str:
    """Folded advice: on this computer, and in Colab and Binder where there are links to them."""
    fetch = f"git clone https://github.com/{site.name} && cd {site.name.partition('/')[2]}\n" if site.name else ""
    where = "" if fetch else ", in the folder of the project"
    parts = [f"<p>On your computer{where}:</p>\n<pre>{fetch}make lab</pre>", f"<p>then open <code>{path}</code>.</p>"]
    if site.name:
        install = f'%pip install -q "git+https://github.com/{site.name}@{site.branch}"'
        widgets = "from google.colab import output\noutput.enable_custom_widget_manager()"
        parts += [
            "<p>In Colab, run this in a new first cell, restart the session when asked, and go on below it:</p>",
            f"<pre>{install}\n{widgets}</pre>",
            "<p>Binder needs some minutes the first time. It gives little memory and one slow core: lessons that train "
            "take longer there than they promise.</p>",
        ]
    inside = "\n".join(parts)
    return f"<details><summary>Run it yourself</summary>\n{inside}\n</details>\n"


def under_title(source: str, addition: str) -> str:
    title, _, rest = source.partition("\n")
    return f"{title}\n\n{addition}\n\n{rest.lstrip()}"


# ---------------------------------------------------------------- links
def with_links(text: str, path: Path, site: Site) -> str:
    """Markdown whose links lead to pages of the site, to the repository, or are plain text; code stays as it is."""
    parts, last = [], 0
    for code in FENCE.finditer(text):
        parts += [_links_of(text[last : code.start()], path, site), code[0]]
        last = code.end()
    return "".join([*parts, _links_of(text[last:], path, site)])


def _links_of(prose: str, path: Path, site: Site) -> str:
    def link(found: re.Match) -> str:
        picture, words, target, title = found.groups()
        words = _links_of(words, path, site) if "](" in words else words
        where = picture_of(target, path, site) if picture else target_of(target, path, site)
        return words if where is None else f"{picture}[{words}]({where}{title})"

    def attribute(found: re.Match) -> str:
        start, quote, target = found.groups()
        tag = re.match(r"<(\w+)", start)[1]
        where = page_address(target, path, site) if tag == "a" else picture_address(target, path, site)
        return f"{start}{quote}{where or '#'}{quote}"

    return ATTRIBUTE.sub(attribute, LINK.sub(link, prose))


def target_of(target: str, path: Path, site: Site) -> str | None:
    """Where a link leads on the site: a page, the repository, or None (no link)."""
    if re.match(r"[a-z][a-z0-9+.-]*:|#|/", target):
        return target
    file, _, anchor = target.partition("#")
    place = Path(os.path.normpath(path.parent / file))
    if not (site.top / place).exists():
        site.dead.append(f"{path}: {target}")
        return None
    inside = readme_of(place, site)
    if inside in site.notebooks() or inside in site.pages():
        way = os.path.relpath(copy_of(inside), copy_of(path).parent)
        return Path(way).as_posix() + (f"#{anchor}" if anchor else "")
    return repository_address(place, site)


def readme_of(place: Path, site: Site) -> Path:
    """The page that stands for a folder."""
    return place / "README.md" if (site.top / place).is_dir() and (site.top / place / "README.md").is_file() else place


def repository_address(place: Path, site: Site) -> str | None:
    kind = "tree" if (site.top / place).is_dir() else "blob"
    return f"https://github.com/{site.name}/{kind}/{site.branch}/{place.as_posix()}" if site.name else None


def page_address(target: str, path: Path, site: Site) -> str | None:
    """As `target_of`, for links written in HTML: pages end in .html there."""
    where = target_of(target, path, site)
    return where and (where if ":" in where else re.sub(r"\.(md|ipynb)(?=$|#)", ".html", where))


def picture_of(target: str, path: Path, site: Site) -> str | None:
    """A picture in Markdown: copied beside the page, so that Sphinx finds it."""
    if re.match(r"[a-z]+:", target):
        return target
    place = Path(os.path.normpath(path.parent / target))
    if not (site.top / place).is_file():
        site.dead.append(f"{path}: {target}")
        return None
    copy = site.source / place
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(site.top / place, copy)
    return Path(os.path.relpath(place, copy_of(path).parent)).as_posix()


def picture_address(target: str, path: Path, site: Site) -> str | None:
    """A picture in HTML: copied to the site's files as it is."""
    place = Path(os.path.normpath(path.parent / target))
    if re.match(r"[a-z]+:", target) or picture_of(target, path, site) is None:
        return target
    copy = site.source / "_extra" / "pictures" / place
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(site.top / place, copy)
    return f"{up(copy_of(path))}pictures/{place.as_posix()}"


def up(path: Path) -> str:
    """The way from a page to the top of the site: "../" for each folder."""
    return "../" * (len(path.parts) - 1)


# ---------------------------------------------------------------- the table of contents
def contents(site: Site) -> str:
    """Tables of contents for the sidebar, at the end of the front page."""
    chapters: dict[str, list[str]] = {}
    listed = titles_in_readme(site)
    for path in site.notebooks():
        folder = path.parent.name if len(path.parts) > 2 else ""
        title = listed.get(path.as_posix(), short_title(path.stem))
        chapters.setdefault(folder, []).append(f"{title} <{path.with_suffix('').as_posix()}>")
    groups = [(chapter_title(folder), entries) for folder, entries in chapters.items()]
    more = [path.with_suffix("").as_posix() for path in site.pages()[1:]]
    course = [page for page in more if page.startswith("docs/")]
    course.sort(key=lambda page: not page.endswith("/teacher"))  # the page that the others belong to comes first
    rest = [page for page in more if page not in course]
    groups += [("Explorers", [Path(EXPLORERS).stem])] if (site.source / EXPLORERS).is_file() else []
    groups += [("For teachers", course), ("More", rest)]
    return "".join(toctree(caption, entries) for caption, entries in groups if entries)


def titles_in_readme(site: Site) -> dict[str, str]:
    """Path of a lesson -> its number and the words of the first link to it: the row of the README's table."""
    found: dict[str, str] = {}
    text = (site.top / "README.md").read_text(encoding="utf-8")
    for words, path in re.findall(r"\[([^\]\n]+)\]\((notebooks/[^)\s]+\.ipynb)\)", text):
        found.setdefault(path, f"{Path(path).stem.partition('_')[0]} {words}")
    return found


def toctree(caption: str, entries: list[str]) -> str:
    lines = "\n".join(entries)
    return f"\n\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```\n"


def chapter_title(folder: str) -> str:
    """ "10_foundations" -> "Foundations"; lessons in no folder come first."""
    return re.sub(r"^\d+_", "", folder).replace("_", " ").capitalize() if folder else "Start"


def short_title(stem: str) -> str:
    """ "11_volumes_and_views" -> "11 Volumes and views"."""
    number, _, words = stem.partition("_")
    return f"{number} {words.replace('_', ' ').capitalize()}"
