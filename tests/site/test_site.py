"""The web book as a whole: it is built once from the stored notebooks and then looked through, page by page."""

import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import build_site
import pytest
from site_explorers import LIVE

TOP = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(path.relative_to(TOP) for path in (TOP / "notebooks").rglob("[0-9]*.ipynb"))
COURSE = sorted(path.relative_to(TOP) for path in (TOP / "docs").rglob("*.md"))
PAGES = [Path(page) for page in ("CONTRIBUTING.md", "results/README.md", "data_scripts/README.md")]
NOT_READ = {"script", "style", "pre", "code", "math", "title", "svg"}


class Page(HTMLParser):
    """What one page holds: links, what it loads, anchors, pictures, and its text without code and equations."""

    def __init__(self, path: Path):
        super().__init__()
        self.path, self.links, self.loads, self.ids, self.alts = path, [], [], set(), []
        self.text, self.inside = [], []
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        self.links += [given["href"]] if tag == "a" and "href" in given else []
        loaded = given.get("href") if tag == "link" and "stylesheet" in (given.get("rel") or "") else given.get("src")
        self.loads += [loaded] if loaded else []
        self.alts += [given.get("alt")] if tag == "img" else []
        self.inside += [tag] if tag in NOT_READ else []

    def handle_endtag(self, tag):
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.text.append(data)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    target = tmp_path_factory.mktemp("book") / "site"
    dead = build_site.build(target, repository="ana/lessons@v1")
    return target, dead


@pytest.fixture(scope="module")
def site(built):
    return built[0]


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_notebook_and_page_is_there(site):
    wanted = [*NOTEBOOKS, *COURSE, *PAGES, Path("index.md"), Path("explorers.md"), Path("search.html")]
    assert [path for path in wanted if not (site / path.with_suffix(".html")).is_file()] == []
    assert [path for path in NOTEBOOKS if (site / path).read_bytes() != (TOP / path).read_bytes()] == []
    front = (site / "index.html").read_text(encoding="utf-8")
    assert [path for path in NOTEBOOKS if f'href="{path.with_suffix(".html")}"' not in front] == []


def test_no_link_of_a_page_leads_nowhere(built):
    assert built[1] == []


def test_links_and_files_inside_the_site_are_there(pages):
    broken = []
    for path, page in pages.items():
        for link in [*page.links, *page.loads]:
            if re.match(r"[a-z]+:", link):
                continue
            file, _, anchor = unquote(link).partition("#")
            target = Path(os.path.normpath(path.parent / file.partition("?")[0])) if file else path
            there = target.is_file() and (not anchor or target not in pages or anchor in pages[target].ids)
            broken += [] if there else [f"{path.name}: {link}"]
    assert broken == []
    assert sum(len(page.links) for page in pages.values()) > 1000


def test_nothing_is_loaded_from_elsewhere(pages):
    loaded = {link for page in pages.values() for link in page.loads}
    assert {link for link in loaded if re.match(r"(?!data:)[a-z]+:|//", link)} == set()
    assert not [page.path for page in pages.values() if re.search(r"@import|url\(['\"]?https?:", page.html)]


def test_every_equation_is_drawn(pages):
    left = {str(path): text for path, page in pages.items() if "$" in (text := "".join(page.text))}
    raw = {path: re.findall(r"\$\$|\$[^$\n]{1,80}\$|\\(?:frac|sum|mathcal)\b", text) for path, text in left.items()}
    assert {path: found for path, found in raw.items() if found} == {}
    assert sum(page.html.count("<math") for page in pages.values()) > 1000
    assert not [path for path, page in pages.items() if "<merror" in page.html]


def test_every_picture_has_words(pages):
    alts = [(path.name, alt) for path, page in pages.items() for alt in page.alts]
    assert len(alts) > 150
    assert [place for place in alts if not (place[1] or "").strip() or place[1].endswith(".png")] == []


def test_solutions_are_folded_and_exercises_open(pages):
    cells = [part for page in pages.values() for part in re.split(r'<div class="cell ', page.html)[1:]]
    solutions = [cell for cell in cells if re.match(r'[^"]*tag_solution', cell)]
    exercises = [cell for cell in cells if re.match(r'[^"]*tag_exercise', cell)]
    assert len(solutions) == len(exercises) > 40
    assert all('<details class="admonition hide' in cell and "Show the solution" in cell for cell in solutions)
    assert not any("<details class=" in cell.partition("</pre>")[0] for cell in exercises)


def test_each_lesson_says_where_it_runs(site):
    for path in NOTEBOOKS:
        page = (site / path.with_suffix(".html")).read_text(encoding="utf-8")
        assert f'href="https://mybinder.org/v2/gh/ana/lessons/v1?urlpath=lab/tree/{path}"' in page
        assert f'href="https://colab.research.google.com/github/ana/lessons/blob/v1/{path}"' in page
        assert f'download href="{path.name}"' in page


def test_search_knows_words_of_lessons_and_titles(site):
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert all(f'"{word}"' in index or f"{word}:" in index for word in ("crosshair", "entropi", "landmark"))
    assert "Volumes and views" in index


def test_live_explorers_stand_in_their_lessons(site):
    for live in LIVE:
        page = (site / live.notebook).with_suffix(".html").read_text(encoding="utf-8")
        place = page.index(f'data-explorer="{live.name}"')
        assert page.rindex("<img", 0, place) > page.rindex('<div class="cell ', 0, place)  # its picture is there too
        assert (site / "_static" / "explorers" / f"{live.name}.js").stat().st_size < 2e6


def test_the_site_is_small(site):
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < 60e6


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(SystemExit, match="holds files that are no site"):
        build_site.build(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_an_address_of_another_form_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"OWNER/NAME@BRANCH.*got 'https://example.org/a/b'"):
        build_site.build(tmp_path / "site", repository="https://example.org/a/b")


# ---------------------------------------------------------------- in a browser
@pytest.mark.browser
def test_explorers_move_without_a_kernel(site, in_browser):
    def look(open_page):
        page = open_page(site / "explorers.html")
        places = page.locator(".live-explorer")

        def live(name):
            place = page.locator(f".live-explorer[data-explorer='{name}']")
            place.scroll_into_view_if_needed()
            page.wait_for_selector(f".live-explorer[data-explorer='{name}'][data-state='live'] canvas:visible")
            return place

        def state(place, trait, widget=0):
            return place.locator(".live-widget").nth(widget).evaluate("(e, trait) => e.model.get(trait)", trait)

        def pixels(place):
            return place.locator("canvas").first.evaluate("(c) => c.toDataURL()")

        volume = live("volume")
        page.wait_for_function("(e) => e.querySelector('canvas').width > 50", arg=volume.element_handle())
        before, (x, y, z) = pixels(volume), state(volume, "crosshair")
        volume.locator("input[type=range]").first.focus()
        page.keyboard.press("ArrowUp")
        page.wait_for_function(
            "([c, old]) => c.toDataURL() !== old", arg=[volume.locator("canvas").first.element_handle(), before]
        )
        assert state(volume, "crosshair") == [x, y, z + 1]

        linked = live("linked")
        linked.locator("input[type=range]").first.focus()
        page.keyboard.press("ArrowUp")
        assert state(linked, "crosshair", 0) == state(linked, "crosshair", 1)
        assert state(linked, "crosshair")[2] == 33

        mask = live("mask")
        assert "hidden 124 of 494" in mask.inner_text()
        mask.locator(".live-control", has_text="hidden share").locator("input").evaluate(
            "(i) => { i.value = 0.5; i.dispatchEvent(new Event('input')); }"
        )
        assert "hidden 247 of 494" in mask.inner_text()  # half of them, as Python counted
        assert mask.locator(".live-control", has_text="seed").locator("input").is_disabled()
        return places.count()

    assert in_browser(look) == len(LIVE) + 1


@pytest.mark.browser
def test_pages_fit_a_phone_and_search_works(site, in_browser):
    shown = [Path("index.html"), Path("data_scripts/README.html"), NOTEBOOKS[7].with_suffix(".html")]

    def look(open_page):
        wide = []
        for path in shown:
            page = open_page(site / path, width=375, colour_scheme="dark")
            over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            wide += [(str(path), over)] if over > 0 else []
            page.close()
        page = open_page(site / "search.html", query="?q=affine")
        page.locator("#search-results li a", has_text="Volumes and views").wait_for()
        return wide

    assert in_browser(look) == []
