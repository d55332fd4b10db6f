"""Embeddings and landmarks of two patients in a real browser: clicks, drags, keys, read back in Python."""

import numpy as np
import pytest

pytestmark = pytest.mark.browser

SIDE = 16
DATA = f"""
import math
import numpy as np
import torch
from medssl_nb.widgets import EmbeddingExplorer, LandmarkExplorer
axes = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, {SIDE})] * 3, indexing="ij"))
directions = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
def embed(shift):
    waves = torch.einsum("dk,kxyz->dxyz", 2 * directions, axes + torch.tensor(shift)[:, None, None, None])
    v = torch.cat([waves.sin(), waves.cos()])
    return v / v.norm(dim=0)
def image(shift):
    return ((axes + torch.tensor(shift)[:, None, None, None]) ** 2).sum(0).sqrt()
zero, moved = (0.0, 0.0, 0.0), (0.2667, 0.0, -0.1333)  # by two voxels along x, by one along z
"""
EMBEDDING = """
alike = EmbeddingExplorer(image(zero), embed(zero), image(moved), embed(moved), spacing_mm=(2, 2, 3), window=(0, 2))
alike
"""
LANDMARK = """
patients = [{"name": f"patient {k}", "volume": image(s), "embeddings": embed(s), "landmarks": {"tip": t}}
            for k, (s, t) in enumerate([(moved, (8.0, 12.0, 4.0)), (zero, (10.0, 12.0, 2.5))])]
marks = LandmarkExplorer(image(zero), embed(zero), patients, landmarks={"tip": (10, 12, 3)}, spacing_mm=(2, 2, 3))
marks
"""


class Driver:
    """Two explorers in their cells, and what Python knows of them."""

    def __init__(self, notebook):
        self.notebook, self.page = notebook, notebook.page
        self.alike, self.marks = (notebook.output(number) for number in (1, 2))

    def __getattr__(self, name: str):
        return getattr(self.notebook, name)  # what every notebook can do

    def canvas(self, area, view: int, plane: str = "axial"):
        return area.locator(".slice-canvas").nth(view).locator(f"canvas[data-plane={plane}]")

    def place(self, canvas, x: int, y: int) -> dict:
        """Place on the page of the middle of voxel (x, y) of an axial slice: x to the left, y upwards."""
        frame = canvas.bounding_box()
        unit = frame["width"] / SIDE
        return {"x": frame["x"] + (SIDE - 0.5 - x) * unit, "y": frame["y"] + (SIDE - 0.5 - y) * unit}


@pytest.fixture(scope="module")
def lab_page(open_notebook) -> Driver:
    notebook = open_notebook([DATA, EMBEDDING, LANDMARK], width=1280, height=2200)
    notebook.theme("JupyterLab Light")
    notebook.run_all()
    driver = Driver(notebook)
    for area in (driver.alike, driver.marks):
        area.locator("figcaption .sc-number", has_text="z = ").last.wait_for()
    driver.drawn()
    return driver


@pytest.fixture(autouse=True)
def _as_at_first(lab_page):
    lab_page.set("alike.point = (8, 8, 8); alike.colours = 'similarity'; alike.threshold = 0.9")
    lab_page.set("marks.landmark = 'tip'; marks.window_size = 7; marks.sigma = 0.5; marks.patient = 'patient 0'")
    lab_page.set("marks.show_map = True")


# ---------------------------------------------------------------- embeddings
def test_a_click_leads_to_the_most_similar_voxel(lab_page):
    other = lab_page.canvas(lab_page.alike, 1)
    before = lab_page.pixels(other)
    lab_page.page.mouse.click(**lab_page.place(lab_page.canvas(lab_page.alike, 0), 11, 5))
    lab_page.until_value("alike.point", (11, 5, 8))
    assert lab_page.value("alike.found") == (9, 5, 9)
    lab_page.alike.get_by_text("voxel (11, 5, 8): most alike in the other patient at (9, 5, 9), cosine 1.00").wait_for()
    lab_page.alike.locator("figcaption .sc-number", has_text="z = 9 of 15").wait_for()
    lab_page.until_changed(lambda: lab_page.pixels(other), before)


def test_a_drag_takes_the_similarity_along(lab_page):
    canvas = lab_page.canvas(lab_page.alike, 0)
    lab_page.page.mouse.move(**lab_page.place(canvas, 8, 8))
    lab_page.page.mouse.down()
    seen = []
    for x, y in ((7, 8), (6, 9), (5, 10)):
        lab_page.page.mouse.move(**lab_page.place(canvas, x, y))
        lab_page.until_value("alike.found", (x - 2, y, 9))
        seen.append(lab_page.pixels(lab_page.canvas(lab_page.alike, 1)))
    lab_page.page.mouse.up()
    assert seen[0] != seen[1] != seen[2]


def test_keys_move_the_point_the_threshold_and_the_colours(lab_page):
    canvas = lab_page.canvas(lab_page.alike, 0)
    canvas.focus()
    lab_page.page.keyboard.press("ArrowRight")
    lab_page.page.keyboard.press("PageUp")
    lab_page.until_value("alike.point", (7, 8, 9))
    before = lab_page.pixels(canvas)
    lab_page.press(lab_page.alike, "threshold", "ArrowLeft", "ArrowLeft")
    lab_page.until_value("round(alike.threshold, 2)", 0.88)
    lab_page.alike.get_by_text("cosine ≥ 0.88").first.wait_for()
    outlined = lab_page.until_changed(lambda: lab_page.pixels(canvas), before)
    lab_page.press(lab_page.alike, "colours", "ArrowDown")
    lab_page.until_value("alike.colours", "embedding")
    lab_page.until_changed(lambda: lab_page.pixels(canvas), outlined)


def test_colours_are_drawn_as_python_has_them(lab_page):
    lab_page.set("alike.colours = 'embedding'; alike.canvases[0].opacity = 1")
    lab_page.until_value("alike.canvases[1].opacity", 1.0)  # the two go together
    expected = lab_page.value("[int(v) for v in alike.canvases[0]._colours[3, 12, 8]]")
    canvas = lab_page.canvas(lab_page.alike, 0)
    size = canvas.evaluate("(c) => [c.width, c.height]")
    lab_page.drawn()
    pixels = np.reshape(lab_page.pixels(canvas), (size[1], size[0], 4))
    column, row = (int((SIDE - 0.5 - v) * size[0] / SIDE) for v in (3, 12))
    np.testing.assert_allclose(pixels[row, column, :3], expected, atol=1)
    lab_page.set("alike.canvases[0].opacity = 0.6")


# ---------------------------------------------------------------- landmarks
def test_a_click_into_the_template_marks_a_point(lab_page):
    lab_page.page.mouse.click(**lab_page.place(lab_page.canvas(lab_page.marks, 0), 9, 7))
    lab_page.until_value("marks.point", (9, 7, 3))
    lab_page.until_value("marks.landmark", None)
    assert lab_page.value("marks.found") == {"patient 0": (7, 7, 4), "patient 1": (9, 7, 3)}
    lab_page.marks.get_by_text("in patient 0 found at (7, 7, 4), cosine 1.00").wait_for()
    lab_page.marks.get_by_text("true points are not known").wait_for()


def test_enter_marks_what_the_crosshair_is_on(lab_page):
    canvas = lab_page.canvas(lab_page.marks, 0)
    canvas.focus()
    for key in ("ArrowRight", "ArrowDown", "PageUp"):
        lab_page.page.keyboard.press(key)
    lab_page.until_value("marks.template.crosshair", (9, 11, 4))
    assert lab_page.value("marks.point") == (10, 12, 3)
    lab_page.page.keyboard.press("Enter")
    lab_page.until_value("marks.point", (9, 11, 4))
    lab_page.until_value("marks.found['patient 0']", (7, 11, 5))


def test_choices_and_sliders_by_keys(lab_page):
    right = lab_page.canvas(lab_page.marks, 1)
    lab_page.marks.get_by_text("0.0 mm ✓").first.wait_for()
    before = lab_page.pixels(right)
    lab_page.press(lab_page.marks, "window", "ArrowRight")
    lab_page.until_value("marks.window_size", 9)
    before = lab_page.until_changed(lambda: lab_page.pixels(right), before)
    lab_page.press(lab_page.marks, "sigma", "End")
    lab_page.until_value("math.isinf(marks.sigma)", True)
    lab_page.marks.get_by_text("plain mean").first.wait_for()
    before = lab_page.until_changed(lambda: lab_page.pixels(right), before)
    lab_page.press(lab_page.marks, "patient", "ArrowDown")
    lab_page.until_value("marks.patient", "patient 1")
    lab_page.marks.locator(".sc-title", has_text="patient 1").wait_for()
    before = lab_page.until_changed(lambda: lab_page.pixels(right), before)
    lab_page.marks.locator("input[type=checkbox]").first.press("Space")
    lab_page.until_value("marks.show_map", False)
    lab_page.until_changed(lambda: lab_page.pixels(right), before)
    lab_page.press(lab_page.marks, "landmark", "ArrowUp")
    lab_page.until_value("marks.landmark", None)


def test_the_true_point_is_drawn_where_it_is(lab_page):
    """A cyan square about voxel (8, 12) of patient 0, which lies on the slice that is shown."""
    canvas = lab_page.canvas(lab_page.marks, 1)
    lab_page.set("marks.show_map = False; marks.canvas.crosshair = (1, 1, 4)")
    lab_page.drawn()
    size = canvas.evaluate("(c) => [c.width, c.height]")
    pixels = np.reshape(lab_page.pixels(canvas), (size[1], size[0], 4))[..., :3].astype(int)
    rows, columns = np.nonzero((np.abs(pixels - [0x5C, 0xF2, 0xFF]) < 12).all(axis=2))
    unit = size[0] / SIDE
    near = np.abs(columns - (SIDE - 0.5 - 8) * unit) < 11
    assert near.sum() > 10
    assert np.abs(rows[near] - (SIDE - 0.5 - 12) * unit).max() < 20


def test_both_are_seen_in_light_and_dark(lab_page):
    texts = "(e) => getComputedStyle(e).color"
    colours = {}
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        lab_page.theme(theme)
        colours[theme] = [
            lab_page.marks.locator(selector).first.evaluate(texts) for selector in ("table td", ".sc-title")
        ]
    lab_page.theme("JupyterLab Light")
    for light, dark in zip(*colours.values(), strict=True):
        assert light != dark
