"""The joint matrix and the border of clusters in a real browser: sliders by keyboard, clicks, drags, read back."""

import re

import numpy as np
import pytest

from medssl_nb.widgets import standalone_page
from medssl_nb.widgets.matrix_canvas import MatrixCanvas

pytestmark = pytest.mark.browser

CLUSTERS, SIDE = 8, 16
DATA = f"""
import numpy as np
import torch
g = torch.Generator().manual_seed(0)
axes = torch.meshgrid(*[torch.linspace(-1, 1, {SIDE})] * 3, indexing="ij")
centres = 1.6 * torch.rand({CLUSTERS}, 3, generator=g) - 0.8
away = sum((axis - centres[:, k, None, None, None]) ** 2 for k, axis in enumerate(axes))
views = [(-8 * away + 0.5 * torch.randn(away.shape, generator=g)).softmax(dim=0) for _ in range(2)]
volume = away.argmin(dim=0).float()
x, y = np.meshgrid(np.arange(40), np.arange(32), indexing="ij")
region = (x - 20) ** 2 + (y - 16) ** 2 < 64
image = region + 0.3 * (y > 24)
"""
JOINT = """
from medssl_nb.widgets import JointMatrixExplorer
joint = JointMatrixExplorer(*views, volume=volume, cell=(2, 2))
joint
"""
BORDER = """
from medssl_nb.widgets import BoundaryExplorer
border = BoundaryExplorer(image, region, width=0.5)
border
"""
SLICES = """
stack = np.stack([np.roll(region, k, axis=0) for k in range(4)], axis=2)
slices = BoundaryExplorer(stack.astype(float), stack, spacing_mm=(2, 1, 3), z=1)
slices
"""
CELLS = [DATA, JOINT, BORDER, SLICES]
# where matrix_canvas.js draws: width of the picture, left, top and side of the matrix
WIDTH, LEFT, TOP, AREA = 440, 44, 68, 310


class Driver:
    """The explorers in their cells, and what Python knows of them."""

    def __init__(self, notebook):
        self.notebook, self.page = notebook, notebook.page
        self.joint, self.border, self.slices = (notebook.output(number) for number in (1, 2, 3))
        self.matrix, self.row = self.joint.locator(".matrix-canvas"), self.border.locator(".image-row")

    def __getattr__(self, name: str):
        return getattr(self.notebook, name)  # what every notebook can do

    def cell_place(self, i: int, j: int) -> dict:
        frame = self.matrix.locator("svg").bounding_box()
        unit, pixel = AREA / CLUSTERS, frame["width"] / WIDTH
        return {
            "x": frame["x"] + pixel * (LEFT + (j + 0.5) * unit),
            "y": frame["y"] + pixel * (TOP + (i + 0.5) * unit),
        }

    def cells(self) -> str:
        return self.matrix.locator("image.mc-cells").first.get_attribute("href")

    def map(self, number: int, area=None):
        return (area or self.border).locator(".ir-picture canvas").nth(number)

    def voxel_place(self, number: int, x: float, y: float) -> dict:
        """Place on the page of the middle of voxel (x, y) of the 40 x 32 picture: x to the left, y upwards."""
        frame = self.map(number).bounding_box()
        return {
            "x": frame["x"] + (39.5 - x) * frame["width"] / 40,
            "y": frame["y"] + (31.5 - y) * frame["height"] / 32,
        }


@pytest.fixture(scope="module")
def lab_page(open_notebook) -> Driver:
    notebook = open_notebook(CELLS, width=1280, height=2600)
    notebook.theme("JupyterLab Light")
    notebook.run_all()
    driver = Driver(notebook)
    driver.matrix.locator(".mc-mark").wait_for()
    driver.joint.locator("figcaption .sc-number", has_text="z = ").first.wait_for()
    driver.slices.locator(".ir-picture canvas").last.wait_for()
    driver.drawn()
    return driver


# ---------------------------------------------------------------- joint matrix
def test_a_click_on_a_cell_leads_to_where_it_is(lab_page):
    lab_page.page.mouse.click(**lab_page.cell_place(5, 3))
    lab_page.until_value("joint.cell", (5, 3))
    lab_page.joint.get_by_text(re.compile(r"^P\[5, 3\] = ")).wait_for()
    high = "joint.heat[joint.canvas.crosshair] >= 0.95 * joint.heat.max()"
    lab_page.until_value(f"bool({high})", True)
    z = lab_page.value("joint.canvas.crosshair[2]")
    lab_page.joint.locator("figcaption .sc-number", has_text=f"z = {z} of {SIDE - 1}").wait_for()
    lab_page.joint.locator(".sc-slider", has_text="a5·b3").wait_for()


def test_arrow_keys_move_the_cell_and_not_the_notebook(lab_page):
    active = "() => window.jupyterapp.shell.currentWidget.content.activeCellIndex"
    lab_page.set("joint.cell = (0, 0)")
    lab_page.matrix.focus()
    cell = lab_page.page.evaluate(active)
    for key in ("ArrowUp", "ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft"):
        lab_page.page.keyboard.press(key)
    lab_page.until_value("joint.cell", (1, 1))
    lab_page.page.keyboard.press("Escape")
    lab_page.until_value("joint.cell", None)
    assert lab_page.matrix.locator(".mc-mark").bounding_box() is None
    lab_page.page.keyboard.press("ArrowDown")
    lab_page.until_value("joint.cell", (0, 0))
    assert lab_page.page.evaluate(active) == cell


def test_the_pointer_tells_the_share_of_a_cell(lab_page):
    lab_page.page.mouse.move(**lab_page.cell_place(4, 6))
    share = lab_page.value("float(joint.joint[4, 6])")
    text = lab_page.matrix.locator(".mc-words").inner_text()
    assert text.startswith("A 4, B 6: ")
    assert float(text.split(": ")[1]) == pytest.approx(share, rel=6e-3)
    lab_page.page.mouse.move(0, 0)


def test_sliders_and_the_choice_by_keys(lab_page):
    before = lab_page.cells()
    lab_page.press(lab_page.joint, "sharpness", *["ArrowRight"] * 5)
    lab_page.until_value("round(joint.sharpness, 2)", 1.5)
    sharper = lab_page.until_changed(lab_page.cells, before)
    lab_page.press(lab_page.joint, "alpha", "ArrowLeft", "ArrowLeft")
    lab_page.until_value("round(joint.alpha, 2)", 0.4)
    lab_page.press(lab_page.joint, "lambda", *["ArrowRight"] * 5)
    lab_page.until_value("round(joint.marginal_weight, 2)", 1.5)
    assert lab_page.cells() == sharper
    lab_page.press(lab_page.joint, "break it", "ArrowDown")  # JupyterLab would take the key as "next cell"
    lab_page.until_value("joint.broken", "names of view B permuted")
    lab_page.until_changed(lab_page.cells, sharper)
    lab_page.joint.get_by_text(lab_page.value("joint.line.value")).wait_for()
    lab_page.set("joint.broken = 'as it is'; joint.sharpness = 1")
    assert lab_page.until_changed(lab_page.cells, sharper) == before


# ---------------------------------------------------------------- border
def test_a_drag_in_any_map_takes_the_border_along(lab_page):
    for number in range(4):
        lab_page.set("border.offset = 0")
        before = lab_page.pixels(lab_page.map(1))
        lab_page.page.mouse.move(**lab_page.voxel_place(number, 28, 16))  # on the right side of the circle
        lab_page.page.mouse.down()
        lab_page.page.mouse.move(**lab_page.voxel_place(number, 31, 16), steps=4)
        lab_page.page.mouse.up()
        lab_page.until_value("round(border.offset, 6)", 3.0)
        lab_page.until_changed(lambda: lab_page.pixels(lab_page.map(1)), before)
        lab_page.page.mouse.move(**lab_page.voxel_place(number, 20, 16))  # the button is up: nothing follows
        lab_page.page.wait_for_timeout(100)
        assert lab_page.value("round(border.offset, 6)") == 3.0
    lab_page.border.get_by_text(lab_page.value("border.line.value")).wait_for()


def test_arrow_keys_in_the_row_move_the_border(lab_page):
    lab_page.set("border.offset = 0")
    lab_page.row.focus()
    for key in ("ArrowRight", "ArrowUp", "ArrowUp", "ArrowLeft"):
        lab_page.page.keyboard.press(key)
    lab_page.until_value("border.offset", 1.0)
    lab_page.page.keyboard.press("ArrowDown")
    lab_page.until_value("border.offset", 0.5)
    assert lab_page.row.locator(".ir-words").inner_text() == "border moved by 0.50 voxels"


def test_every_slider_of_the_border_by_keys(lab_page):
    lab_page.set("border.offset = 0")
    moves = {
        "offset": (["ArrowRight"] * 2, 1.0, 1),
        "width": (["ArrowRight"] * 2, 0.6, 1),
        "window": (["ArrowRight"], 7, 3),
        "power": (["ArrowLeft"] * 5, 0.5, 2),
        "noise": (["ArrowRight"] * 5, 0.05, 0),
    }
    for name, (keys, value, picture) in moves.items():
        before = lab_page.pixels(lab_page.map(picture))
        lab_page.press(lab_page.border, name, *keys)
        lab_page.until_value(f"round(border.{name}, 2)", value)
        lab_page.until_changed(lambda at=picture: lab_page.pixels(lab_page.map(at)), before)
    lab_page.border.get_by_text(lab_page.value("border.line.value")).wait_for()
    lab_page.set("border.width = 0.5; border.window = 5; border.power = 0.75; border.noise = 0; border.offset = 0")


def test_the_pointer_shows_its_window_and_what_the_maps_hold(lab_page):
    lab_page.page.mouse.move(**lab_page.voxel_place(2, 28, 16))
    lab_page.drawn()
    found = lab_page.row.locator(".ir-words").inner_text()
    held = [lab_page.value(f"float(border.maps[{name!r}][28, 16])") for name in ("entropy", "edges", "correlation")]
    names = ("entropy", "edge target", "local correlation")
    assert found == "x = 28, y = 16: " + " · ".join(f"{n} {h:.2f}" for n, h in zip(names, held, strict=True))
    boxes = [path.get_attribute("d") for path in lab_page.row.locator(".ir-box").all()]
    assert boxes == ["M9 13h5v5h-5z"] * 4  # column 39 - 28 = 11, row 31 - 16 = 15, two to each side
    lab_page.page.mouse.move(0, 0)
    lab_page.drawn()
    assert lab_page.row.locator(".ir-box").first.get_attribute("d") == ""


def test_slices_move_by_keys_and_keep_their_proportions(lab_page):
    before = lab_page.pixels(lab_page.map(0, lab_page.slices))
    lab_page.press(lab_page.slices, "z", "ArrowRight")
    lab_page.until_value("slices.z", 2)
    lab_page.until_changed(lambda: lab_page.pixels(lab_page.map(0, lab_page.slices)), before)
    frame = lab_page.map(0, lab_page.slices).bounding_box()
    assert frame["width"] / frame["height"] == pytest.approx(80 / 32, rel=0.02)
    assert lab_page.slices.locator(".ir-letter").all_inner_texts() == ["R", "L", "A", "P"]
    assert lab_page.border.locator(".ir-letter").count() == 0


# ---------------------------------------------------------------- both
def test_focus_rings_and_themes(lab_page):
    def ink(area, name: str, what: str) -> int:
        colour = area.locator(name).first.evaluate(f"(e) => getComputedStyle(e).{what}")
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3])

    lab_page.page.keyboard.press("Tab")  # so that the browser takes focus for one by keyboard
    for widget in (lab_page.matrix, lab_page.row):
        widget.focus()
        assert widget.evaluate("(e) => getComputedStyle(e).outlineStyle") == "solid"
    inks = [(lab_page.joint, ".mc-name", "fill"), (lab_page.border, ".image-row figcaption", "color")]
    assert max(ink(*one) for one in inks) < 200
    lab_page.notebook.theme("JupyterLab Dark")
    assert min(ink(*one) for one in inks) > 500
    lab_page.notebook.theme("JupyterLab Light")


def test_a_picture_stands_beside_each_widget(lab_page):
    for cell, name in ((1, "JointMatrixExplorer"), (2, "BoundaryExplorer"), (3, "BoundaryExplorer")):
        outputs = lab_page.page.evaluate(
            "(n) => window.jupyterapp.shell.currentWidget.content.model.cells.get(n).toJSON().outputs[0].data", cell
        )
        assert {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"} <= set(outputs)
        assert outputs["text/plain"] == f"<{name}>"


def test_nothing_is_wider_than_a_narrow_window(lab_page):
    lab_page.page.set_viewport_size({"width": 620, "height": 2600})
    lab_page.page.wait_for_timeout(300)
    for area in (lab_page.joint, lab_page.border, lab_page.slices):
        box = area.locator(".jupyter-widgets").first
        assert box.evaluate("(e) => e.scrollWidth <= e.clientWidth + 1"), box.inner_text()
    lab_page.page.set_viewport_size({"width": 1280, "height": 2600})


def test_forty_clusters_without_a_kernel(browser, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(standalone_page(MatrixCanvas(np.eye(40) / 40)), encoding="utf-8")
    page = browser.new_page()
    thrown = []
    page.on("pageerror", lambda error: thrown.append(str(error)))
    page.goto(path.as_uri())
    frame = page.locator(".matrix-canvas svg").bounding_box()
    unit, pixel = AREA / 40, frame["width"] / WIDTH
    page.mouse.click(frame["x"] + pixel * (LEFT + 31.5 * unit), frame["y"] + pixel * (TOP + 7.5 * unit))
    assert page.evaluate("() => document.getElementById('widget').model.state.cell") == [7, 31]
    assert page.locator(".mc-usage rect").count() == 80
    assert thrown == []
    page.close()
