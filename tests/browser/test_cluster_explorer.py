"""The explorer of clusters in a real browser: slider, bars and choices by mouse and keyboard, read back in Python."""

import re

import pytest

from medssl_nb.widgets import standalone_page
from medssl_nb.widgets.usage_bars import UsageBars

pytestmark = pytest.mark.browser

FEW = """
import numpy as np
from medssl_nb.widgets import ClusterExplorer
volume = np.random.default_rng(0).normal(0, 1, (16, 12, 8))
label = np.zeros(volume.shape, np.uint8)
label[3:9, 2:8] = 4
label[14:, :2, :2] = 9
def clusters(border):
    found = np.zeros(volume.shape, int)
    found[border:], found[border + 3:], found[14:, :2, :2] = 1, 2, 3
    return found
steps = [{"step": s, "clusters": clusters(2 + s // 10)} for s in (0, 20, 40, 60)]
few = ClusterExplorer(volume, steps, label=label, label_names={4: "liver", 9: "vena cava"}, spacing_mm=(2, 2, 3))
few
"""
MANY = """
from medssl_nb.widgets import ClusterExplorer
grid = np.indices((48, 48, 48)) // 12
volume = np.random.default_rng(0).normal(0, 1, (48, 48, 48))
maps = [np.minimum((grid * [[[[16]]], [[[4]]], [[[1]]]]).sum(0) + shift, 39) for shift in (0, 3)]
many = ClusterExplorer(volume, [{"step": k, "clusters": m} for k, m in enumerate(maps)], num_clusters=40)
many
"""
CELLS = [FEW, MANY]


class Driver:
    """Two explorers in their cells, and what Python knows of them."""

    def __init__(self, notebook):
        self.notebook, self.page = notebook, notebook.page
        self.few, self.many = (notebook.output(number) for number in (0, 1))

    def __getattr__(self, name: str):
        return getattr(self.notebook, name)  # what every notebook can do

    def control(self, name: str):
        return self.notebook.control(self.few, name)

    def bar(self, number: int, area=None):
        return (area or self.few).locator(".ub-bar").nth(number)

    def heights(self, area=None) -> list[float]:
        return (
            (area or self.few).locator(".ub-fill").evaluate_all("(all) => all.map((e) => parseFloat(e.style.height))")
        )

    def pixels(self, area=None) -> list:
        return self.notebook.pixels((area or self.few).locator("canvas[data-plane=axial]"))

    def until_redrawn(self, before: list) -> list:
        return self.until_changed(self.pixels, before)


@pytest.fixture(scope="module")
def lab_page(open_notebook) -> Driver:
    notebook = open_notebook(CELLS, width=1280, height=2200)
    notebook.theme("JupyterLab Light")
    notebook.run_all()
    driver = Driver(notebook)
    for area in (driver.few, driver.many):
        area.locator("figcaption .sc-number", has_text="z = ").first.wait_for()
        area.locator(".ub-bar").first.wait_for()
    driver.drawn()
    return driver


@pytest.fixture(autouse=True)
def _as_at_first(lab_page):
    lab_page.set("few.picked = many.picked = (); few.organ = 'none'; few.step = 60; many.step = 1")


def test_training_steps_move_by_keys_and_bars_and_voxels_follow(lab_page):
    before, heights = lab_page.pixels(), lab_page.heights()
    lab_page.control("training step").focus()
    lab_page.page.keyboard.press("ArrowLeft")
    lab_page.page.keyboard.press("ArrowLeft")
    lab_page.until_value("few.step", 20)
    lab_page.few.get_by_text("step 20: ").first.wait_for()
    lab_page.until_redrawn(before)
    shares, upper = lab_page.value("few.usage.tolist()"), lab_page.value("few.bars.upper")
    assert lab_page.heights() == pytest.approx([100 * (s / upper) ** 0.5 for s in shares], abs=0.01) != heights


def test_a_click_on_a_bar_picks_it_and_another_click_lets_go(lab_page):
    before = lab_page.pixels()
    lab_page.bar(1).click()
    lab_page.until_value("few.picked", (1,))
    lab_page.few.get_by_text("; cluster 1: 19 % of voxels").wait_for()
    lab_page.until_redrawn(before)
    lab_page.bar(2).click()
    lab_page.until_value("few.picked", (2,))
    lab_page.bar(0).click(modifiers=["Shift"])
    lab_page.until_value("few.picked", (0, 2))
    assert [bar.get_attribute("aria-selected") for bar in lab_page.few.locator(".ub-bar").all()] == [
        *("true", "false", "true", "false")
    ]
    lab_page.bar(2).click(modifiers=["Shift"])
    lab_page.until_value("few.picked", (0,))
    lab_page.bar(0).click()
    lab_page.until_value("few.picked", ())
    lab_page.page.mouse.move(0, 0)
    for _ in range(50):
        if lab_page.pixels() == before:
            return
        lab_page.page.wait_for_timeout(50)
    pytest.fail("the picture did not come back")


def test_bars_by_keys_and_not_through_the_notebook(lab_page):
    active = "() => window.jupyterapp.shell.currentWidget.content.activeCellIndex"
    lab_page.bar(0).focus()
    cell = lab_page.page.evaluate(active)
    for keys, picked in (
        (["ArrowRight", "ArrowRight"], (2,)),
        (["Shift+ArrowRight"], (2, 3)),
        (["ArrowRight"], (3,)),
        (["Home"], (0,)),
        (["Shift+End"], (0, 3)),
        (["Escape"], ()),
        (["Enter"], (3,)),
        (["Space"], ()),
    ):
        for key in keys:
            lab_page.page.keyboard.press(key)
        lab_page.until_value("few.picked", picked)
    for key in ("a", "b", "d", "d"):
        lab_page.page.keyboard.press(key)
    assert lab_page.page.evaluate(active) == cell
    assert lab_page.page.locator(".jp-Notebook .jp-CodeCell").count() == len(CELLS)
    assert [bar.get_attribute("tabindex") for bar in lab_page.few.locator(".ub-bar").all()] == ["-1", "-1", "-1", "0"]


def test_the_button_picks_all_again(lab_page):
    lab_page.set("few.picked = (1, 3)")
    assert lab_page.bar(3).get_attribute("aria-selected") == "true"
    lab_page.few.get_by_role("button", name="all clusters").focus()
    lab_page.page.keyboard.press("Enter")
    lab_page.until_value("few.picked", ())
    assert lab_page.bar(3).get_attribute("aria-selected") == "false"


def test_organs_can_be_outlined(lab_page):
    before = lab_page.pixels()
    lab_page.control("outline").select_option("liver")
    lab_page.until_value("few.organ", "liver")
    lab_page.few.get_by_text("; liver: ").wait_for()
    liver = lab_page.until_redrawn(before)
    lab_page.control("outline").select_option("all")
    lab_page.until_value("few.organ", "all")
    lab_page.until_redrawn(liver)
    lab_page.control("outline").select_option("none")
    lab_page.until_value("few.organ", "none")


def test_the_pointer_tells_which_bar_it_is_on(lab_page):
    lab_page.page.mouse.move(0, 0)
    lab_page.few.locator(".ub-words", has_text="dotted: all alike, 25 %").wait_for()
    lab_page.bar(1).hover()
    assert lab_page.few.locator(".ub-words").inner_text() == "cluster 1: 18.8 %, share of voxels"
    assert lab_page.bar(1).get_attribute("aria-label") == "cluster 1: 18.8 %"


def test_forty_bars_can_be_told_apart_and_hit(lab_page):
    for number in (0, 17, 39):
        box = lab_page.bar(number, lab_page.many).bounding_box()
        assert box["width"] >= 12 and box["height"] >= 100
        lab_page.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 10)  # above the bar counts as well
        lab_page.until_value("many.picked", (number,))
    assert lab_page.many.locator(".ub-id").evaluate_all("(all) => all.every((e) => e.scrollWidth <= e.clientWidth)")


def test_the_bars_have_a_focus_ring_and_follow_the_theme(lab_page):
    def ink() -> int:
        colour = lab_page.few.locator(".usage-bars").evaluate("(e) => getComputedStyle(e).color")
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3])

    lab_page.set("few.picked = (1,); few.organ = 'liver'")
    lab_page.page.keyboard.press("Tab")  # so that the browser takes focus for one by keyboard
    lab_page.bar(1).focus()
    assert lab_page.bar(1).evaluate("(e) => getComputedStyle(e).outlineStyle") == "solid"
    assert ink() < 200
    lab_page.notebook.theme("JupyterLab Dark")
    assert ink() > 500
    lab_page.notebook.theme("JupyterLab Light")


def test_a_picture_stands_beside_each_widget(lab_page):
    for cell in (0, 1):
        outputs = lab_page.page.evaluate(
            "(n) => window.jupyterapp.shell.currentWidget.content.model.cells.get(n).toJSON().outputs[0].data", cell
        )
        assert {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"} <= set(outputs)
        assert outputs["text/plain"] == "<ClusterExplorer>"


def test_nothing_is_wider_than_a_narrow_window(lab_page):
    lab_page.page.set_viewport_size({"width": 620, "height": 2200})
    lab_page.page.wait_for_timeout(300)
    for area in (lab_page.few, lab_page.many):
        box = area.locator(".jupyter-widgets").first
        assert box.evaluate("(e) => e.scrollWidth <= e.clientWidth + 1"), box.inner_text()
    lab_page.page.set_viewport_size({"width": 1280, "height": 2200})


def test_the_bars_without_a_kernel(browser, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(standalone_page(UsageBars([0.5, 0.0, 0.3, 0.2])), encoding="utf-8")
    page = browser.new_page()
    thrown = []
    page.on("pageerror", lambda error: thrown.append(str(error)))
    page.goto(path.as_uri())
    page.locator(".ub-bar").nth(1).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowLeft")
    assert page.evaluate("() => document.getElementById('widget').model.state.picked") == [1, 2]
    assert page.locator(".ub-words").inner_text() == "cluster 1: 0 %, share of voxels"
    assert thrown == []
    page.close()
