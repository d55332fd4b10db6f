"""The explorers of regions and of shapes in a real browser: drop-downs, sliders, cells and the curve, read back."""

import re

import numpy as np
import pytest

from medssl_nb.viz.regions import StepLine, StepPlot
from medssl_nb.widgets import standalone_page
from medssl_nb.widgets.region_matrix import RegionMatrix
from medssl_nb.widgets.step_curve import StepCurve

pytestmark = pytest.mark.browser

CLUSTERS, SIDE = 8, 24
DATA = f"""
import numpy as np
import torch
from scipy.ndimage import gaussian_filter
def patient(seed, clusters={CLUSTERS}, sides=({SIDE}, {SIDE}, {SIDE})):
    own, common = (torch.Generator().manual_seed(s) for s in (seed, 99))
    axes = torch.meshgrid(*[torch.linspace(-1, 1, side) for side in sides], indexing="ij")
    centres = 1.6 * torch.rand(clusters, 3, generator=common) - 0.8 + 0.1 * torch.randn(clusters, 3, generator=own)
    away = sum((axis - centres[:, k, None, None, None]) ** 2 for k, axis in enumerate(axes))
    a = (-12 * away).softmax(dim=0)
    directions = torch.randn(clusters, 16, generator=common)
    z = torch.nn.functional.normalize(torch.einsum("kxyz,kd->dxyz", a, directions), dim=0)
    return away.argmin(dim=0) + 0.2 * torch.randn(sides, generator=own), a, z, away.argmin(dim=0) // 3
few = [patient(0), patient(1), patient(2, sides=(20, {SIDE}, 16))]
x, y, z = np.indices(({SIDE},) * 3)
vessel = (x - 11 - 3 * np.sin(z / 4)) ** 2 + (y - 13 - 2 * np.cos(z / 3)) ** 2 < 9
body = (x - 11.5) ** 2 + (y - 11.5) ** 2 < 121
image = 0.4 * body + 0.4 * vessel + 0.03 * np.random.default_rng(0).normal(size=vessel.shape)
masks = np.stack([np.roll(vessel, k, axis=2)[:, :, :20] for k in range(5)])[:, None]
near = gaussian_filter(vessel.astype(float), 1)
steps = [
    {{"step": s, "assignment": np.clip(near * s / 60, 0, 1), "similarity": np.clip(near * s / 100, 0, 1),
     "real_score": 0.5 + 0.3 * np.sin(s / 25), "fake_score": 0.5 - 0.3 * np.sin(s / 30) if s else None,
     "generator_loss": 0.69 + s / 200, "discriminator_loss": 0.69 - s / 400}}
    for s in range(0, 101, 20)
]
"""
REGIONS = """
from medssl_nb.widgets import RegionExplorer
names = ["first", "second", "third"]
organs = {"label": [p[3] for p in few], "label_names": {1: "liver", 2: "spleen"}}
regions = RegionExplorer(*[[p[k] for p in few] for k in range(3)], names=names, spacing_mm=(2, 2, 3), **organs)
regions
"""
MANY = """
many = RegionExplorer(*[[patient(s, 40, (48, 48, 48))[k] for s in range(2)] for k in range(3)])
many
"""
SHAPES = """
from medssl_nb.widgets import ShapePriorExplorer
shapes = ShapePriorExplorer(image, masks, steps, truth=vessel, body=body, spacing_mm=(2, 2, 3))
shapes
"""
CELLS = [DATA, REGIONS, MANY, SHAPES]
# where region_matrix.js draws: width of the picture, left, top and side of the matrix; and step_curve.js
WIDTH, LEFT, TOP, AREA = 340, 56, 54, 278
FIRST, LAST = 54, 326


class Driver:
    """The explorers in their cells, and what Python knows of them."""

    def __init__(self, notebook):
        self.notebook, self.page = notebook, notebook.page
        self.regions, self.many, self.shapes = (notebook.output(number) for number in (1, 2, 3))
        self.matrix = self.regions.locator(".matrix-canvas")
        self.curve = self.shapes.locator(".step-curve")

    def __getattr__(self, name: str):
        return getattr(self.notebook, name)  # what every notebook can do

    def cell_place(self, i: int, j: int, matrix=None, clusters: int = CLUSTERS) -> dict:
        frame = (matrix or self.matrix).locator("svg").bounding_box()
        unit, pixel = AREA / clusters, frame["width"] / WIDTH
        return {
            "x": frame["x"] + pixel * (LEFT + (j + 0.5) * unit),
            "y": frame["y"] + pixel * (TOP + (i + 0.5) * unit),
        }

    def step_place(self, step: float) -> dict:
        frame = self.curve.locator(":scope > svg").bounding_box()
        x = frame["x"] + frame["width"] / WIDTH * (FIRST + step / 100 * (LAST - FIRST))
        return {"x": x, "y": frame["y"] + 0.5 * frame["height"]}

    def cells(self) -> str:
        return self.matrix.locator("image.mc-cells").first.get_attribute("href")

    def slice(self, area, number: int) -> list:
        return self.pixels(area.locator("canvas[data-plane=axial]").nth(number))


@pytest.fixture(scope="module")
def lab_page(open_notebook) -> Driver:
    notebook = open_notebook(CELLS, width=1280, height=2600)
    notebook.theme("JupyterLab Light")
    notebook.run_all()
    driver = Driver(notebook)
    for area in (driver.regions, driver.many, driver.shapes):
        area.locator("figcaption .sc-number", has_text="z = ").nth(1).wait_for()
    driver.matrix.locator(".rm-nearest circle").first.wait_for()
    driver.curve.locator(".st-line").first.wait_for()
    driver.drawn()
    return driver


@pytest.fixture(autouse=True)
def _as_at_first(lab_page):
    lab_page.set(
        "regions.cell = many.cell = None; regions.left, regions.right, regions.against = 0, 1, 'right patient'"
    )
    lab_page.set(
        "shapes.step, shapes.mask, shapes.map, shapes.draw, shapes.curve = 100, 0, 'assignment', 'heat', 'scores'"
    )


# ---------------------------------------------------------------- regions
def test_a_click_on_a_cell_shows_one_cluster_on_either_side(lab_page):
    before = [lab_page.slice(lab_page.regions, side) for side in (0, 1)]
    lab_page.page.mouse.click(**lab_page.cell_place(5, 3))
    lab_page.until_value("regions.cell", (5, 3))
    for side in (0, 1):
        lab_page.until_changed(lambda at=side: lab_page.slice(lab_page.regions, at), before[side])
        canvas = f"regions.canvases[{['left', 'right'][side]!r}]"
        assert lab_page.value(f"bool((h := regions.heats[{side}])[{canvas}.crosshair] >= 0.95 * h.max())")
    for name in ("cluster 5", "cluster 3"):
        lab_page.regions.locator(".sc-slider", has_text=name).wait_for()
    lab_page.regions.get_by_text(lab_page.value("regions.line.value")).wait_for()
    lab_page.regions.get_by_role("button", name="all clusters").click()
    lab_page.until_value("regions.cell", None)
    assert lab_page.matrix.locator(".mc-mark").bounding_box() is None


def test_arrow_keys_move_the_cell_and_not_the_notebook(lab_page):
    active = "() => window.jupyterapp.shell.currentWidget.content.activeCellIndex"
    lab_page.set("regions.cell = (0, 0)")
    lab_page.matrix.focus()
    cell = lab_page.page.evaluate(active)
    for key in ("ArrowUp", "ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft"):
        lab_page.page.keyboard.press(key)
    lab_page.until_value("regions.cell", (1, 1))
    lab_page.page.keyboard.press("Escape")
    lab_page.until_value("regions.cell", None)
    assert lab_page.page.evaluate(active) == cell


def test_the_pointer_tells_the_cosine_of_a_cell(lab_page):
    lab_page.page.mouse.move(**lab_page.cell_place(4, 6))
    cosine = lab_page.value("float(regions.cosines[4, 6])")
    text = lab_page.matrix.locator(".mc-words").inner_text().replace("−", "-")
    assert text.startswith("row 4, column 6: cosine ")
    assert float(text.split()[-1]) == pytest.approx(cosine, abs=5.1e-3)
    lab_page.page.mouse.move(0, 0)


def test_patients_and_prototypes_by_keys(lab_page):
    before, left = lab_page.cells(), lab_page.slice(lab_page.regions, 0)
    lab_page.set("regions.cell = (2, 2)")
    lab_page.press(lab_page.regions, "left", "ArrowDown", "ArrowDown")
    lab_page.until_value("regions.left", 2)
    lab_page.regions.locator(".sc-title", has_text="left: third").wait_for()
    lab_page.regions.locator("figcaption .sc-number", has_text=" of 15").wait_for()
    lab_page.until_changed(lambda: lab_page.slice(lab_page.regions, 0), left)
    other = lab_page.until_changed(lab_page.cells, before)
    assert lab_page.matrix.locator(".mc-name").all_text_contents() == ["cluster of second", "cluster of third"]
    lab_page.press(lab_page.regions, "compare with", "ArrowDown")
    lab_page.until_value("regions.against", "prototypes")
    lab_page.until_changed(lab_page.cells, other)
    assert lab_page.matrix.locator(".mc-name").first.text_content() == "prototype of 3 patients"
    lab_page.press(lab_page.regions, "right", "ArrowUp")
    lab_page.until_value("regions.right", 0)
    lab_page.regions.locator(".sc-title", has_text="right: first").wait_for()


def test_forty_clusters_can_be_picked(lab_page):
    matrix = lab_page.many.locator(".matrix-canvas")
    lab_page.page.mouse.click(**lab_page.cell_place(7, 31, matrix, 40))
    lab_page.until_value("many.cell", (7, 31))
    matrix.focus()
    lab_page.page.keyboard.press("ArrowDown")
    lab_page.until_value("many.cell", (8, 31))


# ---------------------------------------------------------------- shapes
def test_every_slider_and_choice_of_shapes_by_keys(lab_page):
    moves = {
        "training step": (["ArrowLeft"] * 2, "step", 60, 1),
        "reference mask": (["ArrowRight"] * 2, "mask", 2, 0),
        "show": (["ArrowDown"], "map", "similarity", 1),
        "as": (["ArrowDown"], "draw", "border at 0.5", 1),
    }
    for name, (keys, trait, value, picture) in moves.items():
        before = lab_page.slice(lab_page.shapes, picture)
        lab_page.press(lab_page.shapes, name, *keys)
        lab_page.until_value(f"shapes.{trait}", value)
        lab_page.until_changed(lambda at=picture: lab_page.slice(lab_page.shapes, at), before)
    lab_page.press(lab_page.shapes, "curve of", "ArrowDown")
    lab_page.until_value("shapes.curve", "losses")
    lab_page.curve.get_by_text("ln 2: the discriminator cannot tell").wait_for()
    lab_page.shapes.get_by_text(lab_page.value("shapes.line.value")).wait_for()
    lab_page.shapes.get_by_text(lab_page.value("shapes.mask_line.value")).wait_for()


def test_a_click_and_a_drag_in_the_curve_pick_a_step(lab_page):
    before = lab_page.slice(lab_page.shapes, 1)
    lab_page.page.mouse.click(**lab_page.step_place(43))
    lab_page.until_value("shapes.step", 40)
    lab_page.until_changed(lambda: lab_page.slice(lab_page.shapes, 1), before)
    lab_page.page.mouse.move(**lab_page.step_place(40))
    lab_page.page.mouse.down()
    lab_page.page.mouse.move(**lab_page.step_place(78), steps=4)
    lab_page.page.mouse.up()
    lab_page.until_value("shapes.step", 80)
    lab_page.page.mouse.move(**lab_page.step_place(0))  # the button is up: nothing follows
    lab_page.page.wait_for_timeout(100)
    assert lab_page.value("shapes.step") == 80
    words = lab_page.curve.locator(".st-words").inner_text()
    assert words == "step 80 · real masks 0.482 · cluster 0 0.363"


def test_keys_in_the_curve_and_a_step_without_a_score(lab_page):
    lab_page.curve.focus()
    lab_page.page.keyboard.press("ArrowLeft")
    lab_page.until_value("shapes.step", 80)
    lab_page.page.keyboard.press("Home")
    lab_page.until_value("shapes.step", 0)
    marks = lab_page.curve.locator(":scope > svg > circle")
    assert [mark.is_visible() for mark in marks.all()] == [True, False]
    assert lab_page.curve.locator(".st-words").inner_text() == "step 0 · real masks 0.5"
    lab_page.page.keyboard.press("End")
    lab_page.until_value("shapes.step", 100)


# ---------------------------------------------------------------- both
def test_focus_rings_and_themes(lab_page):
    def ink(area, name: str, what: str) -> int:
        colour = area.locator(name).first.evaluate(f"(e) => getComputedStyle(e).{what}")
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3])

    lab_page.page.keyboard.press("Tab")  # so that the browser takes focus for one by keyboard
    for widget in (lab_page.matrix, lab_page.curve):
        widget.focus()
        assert widget.evaluate("(e) => getComputedStyle(e).outlineStyle") == "solid"
    inks = [(lab_page.regions, ".mc-name", "fill"), (lab_page.shapes, ".step-curve .st-name", "fill")]
    assert max(ink(*one) for one in inks) < 200
    lab_page.notebook.theme("JupyterLab Dark")
    assert min(ink(*one) for one in inks) > 500
    lab_page.notebook.theme("JupyterLab Light")


def test_a_picture_stands_beside_each_widget(lab_page):
    for cell, name in ((1, "RegionExplorer"), (2, "RegionExplorer"), (3, "ShapePriorExplorer")):
        outputs = lab_page.page.evaluate(
            "(n) => window.jupyterapp.shell.currentWidget.content.model.cells.get(n).toJSON().outputs[0].data", cell
        )
        assert {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"} <= set(outputs)
        assert outputs["text/plain"] == f"<{name}>"


def test_nothing_is_wider_than_a_narrow_window(lab_page):
    lab_page.page.set_viewport_size({"width": 620, "height": 2600})
    lab_page.page.wait_for_timeout(300)
    for area in (lab_page.regions, lab_page.many, lab_page.shapes):
        box = area.locator(".jupyter-widgets").first
        assert box.evaluate("(e) => e.scrollWidth <= e.clientWidth + 1"), box.inner_text()
    lab_page.page.set_viewport_size({"width": 1280, "height": 2600})


def test_matrix_and_curve_without_a_kernel(browser, tmp_path):
    curve = StepPlot("score", (StepLine("real", np.array([0.5, np.nan, 0.7]), "#e69f00"),), 1.0)
    widgets = {"matrix": RegionMatrix(np.eye(40)), "curve": StepCurve([0, 10, 40], curve)}
    page = browser.new_page()
    thrown = []
    page.on("pageerror", lambda error: thrown.append(str(error)))
    state = "() => document.getElementById('widget').model.state"
    for name, widget in widgets.items():
        path = tmp_path / f"{name}.html"
        path.write_text(standalone_page(widget), encoding="utf-8")
        page.goto(path.as_uri())
        if name == "matrix":
            assert page.locator(".rm-nearest circle").count() == 40
            page.locator(".matrix-canvas").press("ArrowDown")
            assert page.evaluate(f"{state}.cell") == [0, 0]
        else:
            page.locator(".step-curve").press("End")
            assert page.evaluate(f"{state}.index") == 2
            assert page.locator(".st-line").get_attribute("d").count("M") == 2  # a gap where nothing was measured
    assert thrown == []
    page.close()
