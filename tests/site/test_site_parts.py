"""Parts of the web book, on pages and widgets small enough to check by eye."""

import re
from pathlib import Path

import build_site
import ipywidgets
import nbformat
import pytest
from site_explorers import LIVE, cell_of, model_of, recorded
from site_math import mathml, plain_tex
from site_pages import Site, lesson, lesson_links, picture_words, shorten, target_of, with_links

LESSON = Path("notebooks/10_first/11_one.ipynb")


@pytest.fixture
def project(tmp_path):
    files = {
        "README.md": "# Front\n",
        "results/README.md": "# Results\n",
        "results/one.json": "{}",
        "docs/course/teacher.md": "# Teacher\n",
        "medssl_nb/data.py": "",
        "docs/a.png": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    path = tmp_path / LESSON
    path.parent.mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# One\n\nwords")]), path)
    return tmp_path


# ---------------------------------------------------------------- links
@pytest.mark.parametrize(
    "link, page, expected",
    [
        ("notebooks/10_first/11_one.ipynb", "README.md", "notebooks/10_first/11_one.ipynb"),
        ("../../README.md", str(LESSON), "../../index.md"),
        ("../../docs/course/teacher.md#week-1", str(LESSON), "../../docs/course/teacher.md#week-1"),
        ("results", "README.md", "results/README.md"),
        ("https://example.org/x", "README.md", "https://example.org/x"),
        ("#data", "README.md", "#data"),
        ("results/one.json", "README.md", None),
        ("medssl_nb/", "README.md", None),
    ],
)
def test_links_lead_to_pages_or_are_plain_text(project, link, page, expected):
    site = Site(project, project / "copy")
    assert target_of(link, Path(page), site) == expected
    assert site.dead == []


def test_links_to_code_lead_to_the_repository_where_it_is_known(project):
    site = Site(project, project / "copy", "ana/lessons@v1")
    text = with_links("see [the `data` code](../medssl_nb/data.py) and [all](../medssl_nb)", Path("docs/x.md"), site)
    base = "https://github.com/ana/lessons"
    assert text == f"see [the `data` code]({base}/blob/v1/medssl_nb/data.py) and [all]({base}/tree/v1/medssl_nb)"


def test_links_in_code_stay_and_dead_ones_are_told(project):
    site = Site(project, project / "copy")
    text = "```\n[a](gone.md)\n```\n[b](gone.md), ![c](gone.png)"
    assert with_links(text, Path("README.md"), site) == "```\n[a](gone.md)\n```\nb, c"
    assert site.dead == ["README.md: gone.md", "README.md: gone.png"]


def test_pictures_come_along_in_markdown_and_html(project):
    site = Site(project, project / "copy")
    text = with_links('![x](a.png) <img src="a.png" alt="x">', Path("docs/page.md"), site)
    assert text == '![x](a.png) <img src="../pictures/docs/a.png" alt="x">'
    assert (project / "copy/docs/a.png").is_file() and (project / "copy/_extra/pictures/docs/a.png").is_file()


# ---------------------------------------------------------------- lessons
def code_cell(source, *outputs, **metadata):
    return nbformat.v4.new_code_cell(source, outputs=list(outputs), metadata=metadata)


def test_plotly_figures_become_part_of_the_page(project):
    figure = {"data": [{"y": [1, 2]}], "layout": {"title": {"text": "</script>"}}, "frames": [{"name": "a"}]}
    out = nbformat.v4.new_output("display_data", data={"application/vnd.plotly.v1+json": figure, "text/plain": "F"})
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# One"), code_cell("f", out)])
    shown = lesson(book, LESSON, Site(project, project / "copy")).cells[1].outputs[0].data
    assert list(shown) == ["text/html"]
    assert 'class="plotly-figure"' in shown["text/html"] and "Plotly.addFrames" in shown["text/html"]
    assert 'src="../../_static/plotly.min.js"' in shown["text/html"]
    assert "\\u003c/script>" in shown["text/html"]  # the figure's own words do not end the script


def test_plotly_comes_from_the_installed_package_only_where_it_is_used(tmp_path):
    (tmp_path / "_static").mkdir()
    (tmp_path / "a.html").write_text("no figure")
    build_site.add_plotly(tmp_path)
    assert not (tmp_path / "_static/plotly.min.js").exists()
    (tmp_path / "a.html").write_text(f"<div {build_site.PLOTLY_SIGN}></div>")
    build_site.add_plotly(tmp_path)
    assert (tmp_path / "_static/plotly.min.js").stat().st_size > 1e6


def test_solutions_and_hidden_sources_are_folded(project):
    cells = [nbformat.v4.new_markdown_cell("# One"), code_cell("a", tags=["exercise"])]
    cells += [code_cell("b", tags=["solution"]), code_cell("c", jupyter={"source_hidden": True})]
    book = lesson(nbformat.v4.new_notebook(cells=cells), LESSON, Site(project, project / "copy"))
    assert ["hide-input" in cell.metadata.tags for cell in book.cells[1:]] == [False, True, True]
    assert book.cells[2].metadata.mystnb["code_prompt_show"] == "Show the solution"


def test_without_an_address_there_are_no_links_outside(project):
    without = lesson_links(LESSON, Site(project, project / "copy"))
    assert "http" not in without and "make lab" in without and 'download href="11_one.ipynb"' in without
    with_one = lesson_links(LESSON, Site(project, project / "copy", "ana/lessons"))
    assert with_one.index("mybinder.org/v2/gh/ana/lessons/main") < with_one.index("Download notebook")
    assert 'pip install -q "git+https://github.com/ana/lessons@main"' in with_one


def test_words_of_a_picture_come_from_what_one_sees_then_titles_then_the_heading():
    text = nbformat.v4.new_markdown_cell
    seen = [code_cell("show()"), text("**What you see.** A [liver](x.md) with $x_1$ in *it*.\n\nMore.")]
    assert picture_words(seen, 0) == "A liver with x_1 in it."
    titled = [text("## Where?"), code_cell('show(a, titles=["left", "right"], title="both")')]
    assert picture_words(titled, 1) == "Where?: left, right, both"
    assert picture_words([text("## Where?"), code_cell("show(a)")], 1) == "Picture for “Where?”, described in the text"
    assert shorten("One. " * 100).endswith("One.") and len(shorten("One. " * 100)) <= 300


# ---------------------------------------------------------------- equations
def test_tex_that_docutils_reads_in_another_way_is_written_out():
    assert plain_tex(r"\frac13+\frac1N+x^23") == r"\frac{1}{3}+\frac{1}{N}+x^{2}3"
    assert plain_tex(r"\Big(\frac xp\Big)\dots") == r"\Bigl(\frac xp\Bigr)\ldots"
    assert plain_tex(r"\frac{a}{b}\bigl[\dotsb") == r"\frac{a}{b}\bigl[\dotsb"


def test_equations_are_mathml_with_words_for_blocks():
    assert "<mn>2</mn>" in mathml(r"\tfrac12") and "aria-label" not in mathml("x")
    assert 'aria-label="a&lt;b"' in mathml("a<b", block=True) and 'display="block"' in mathml("a<b", block=True)


def drawn(tex):
    return re.sub(r"\s+(?=<)", "", mathml(tex)).removeprefix("<math>").removesuffix("</math>")


def test_accents_lines_and_braces_stand_where_tex_puts_them():
    hat = '<mover accent="true"><mi>x</mi><mo stretchy="false">ˆ</mo></mover>'
    assert drawn(r"\hat x_i") == f"<msub>{hat}<mi>i</mi></msub>"
    assert drawn(r"\overline{ab}") == '<mrow class="overline"><mrow><mi>a</mi><mi>b</mi></mrow></mrow>'
    braced = '<munder><mrow class="underbrace"><mi>a</mi></mrow><mtext>one</mtext></munder>'
    assert drawn(r"\underbrace{a}_{\text{one}}") == braced
    assert '<mo stretchy="false">{</mo>' in drawn(r"x_{k\in\{B,L\}}")
    assert drawn(r"\text{min\_fraction}") == "<mtext>min_fraction</mtext>"
    assert drawn(r"\sum_{i=1}^N").startswith('<munderover><mo movablelimits="true">')


def test_an_equation_that_cannot_be_drawn_is_named():
    with pytest.raises(ValueError, match=r"no MathML for the equation '\\\\unheard x'"):
        mathml(r"\unheard x")


# ---------------------------------------------------------------- recorded answers
def doubling(start=1):
    slider, words = ipywidgets.IntSlider(start, min=0, max=5), ipywidgets.HTML()
    slider.observe(lambda change: setattr(words, "value", str(2 * change["new"] // 4)), "value")
    words.value = str(2 * start // 4)
    return ipywidgets.VBox([slider, words])


def test_answers_are_asked_beforehand_and_stored_once():
    box = doubling()
    slider, words = box.children
    tree = [box, slider, words]
    found = recorded(tree, {id(part): k for k, part in enumerate(tree)}, [(slider, "value", [0, 1, 2, 3])])
    assert found["inputs"] == [{"model": 1, "trait": "value", "values": [0, 1, 2, 3]}]
    assert found["varying"] == [(2, "value")]
    assert found["table"] == ["0", "1"] and found["answers"] == [[0], [0], [1], [1]]
    assert found["start"] == 1 and slider.value == 1


def test_a_start_that_is_not_recorded_is_refused():
    box = doubling(start=5)
    tree = [box, *box.children]
    with pytest.raises(ValueError, match=r"starts at \[5\], which is none of the recorded choices"):
        recorded(tree, {id(part): k for k, part in enumerate(tree)}, [(tree[1], "value", [0, 1])])


def test_widgets_that_the_page_cannot_draw_are_named():
    with pytest.raises(ValueError, match="ColorPicker cannot be shown without a kernel"):
        model_of(ipywidgets.ColorPicker(), {}, {})


def test_live_explorers_are_found_by_what_the_notebooks_store():
    top = Path(build_site.PROJECT)
    assert all(cell_of(live, top) > 0 for live in LIVE)
    assert len({live.name for live in LIVE} | {"linked"}) == len(LIVE) + 1
