"""Distributions of a teacher and attention of two networks in a real browser: clicks, drags, keys, read in Python."""

import numpy as np
import pytest

pytestmark = pytest.mark.browser

SIDE, CUBE = 16, 4
DATA = """
import torch
from medssl_nb.widgets import AttentionExplorer, DistillationExplorer
draw = torch.Generator().manual_seed(0)
base = torch.randn(12, 16, generator=draw).mul(0.25).clamp(-1, 1)
def record(step, scale, winner=0.0):
    teacher = scale * base + winner * (torch.arange(16) == 5)
    return {"step": step, "teacher": teacher, "student": teacher + 0.1 * base.flip(0), "center": 0.5 * teacher.mean(0),
            "loss": 2.5 - step / 100}
runs = {"apart": [record(s, 0.1 + s / 100) for s in (0, 10, 20, 40)],
        "one winner": [record(s, 0.1, s / 40) for s in (0, 20, 40, 60, 80)]}
axes = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, 16)] * 3, indexing="ij"))
whole = (-2 * (axes**2).sum(0)).exp()
masked = whole * (axes[0] < 0)
logits = torch.randn(3, 64, 512, generator=draw)
online, target = logits.mul(2).softmax(-1), logits.add(torch.randn(3, 64, 512, generator=draw)).softmax(-1)
"""
DISTILLATION = "teacher = DistillationExplorer(runs)\nteacher"
ATTENTION = """
asks = AttentionExplorer(whole, online, target, query_grid=(4, 4, 4), student_grid=(8, 8, 8), masked=masked,
                         spacing_mm=(2, 2, 3), window=(0, 1))
asks
"""


class Driver:
    """Two explorers in their cells, and what Python knows of them."""

    def __init__(self, notebook):
        self.notebook, self.page = notebook, notebook.page
        self.teacher, self.asks = (notebook.output(number) for number in (1, 2))

    def __getattr__(self, name: str):
        return getattr(self.notebook, name)  # what every notebook can do

    def canvas(self, view: int, plane: str = "axial"):
        return self.asks.locator(".slice-canvas").nth(view).locator(f"canvas[data-plane={plane}]")

    def place(self, canvas, x: int, y: int) -> dict:
        """Place on the page of the middle of voxel (x, y) of an axial slice: x to the left, y upwards."""
        frame = canvas.bounding_box()
        unit = frame["width"] / SIDE
        return {"x": frame["x"] + (SIDE - 0.5 - x) * unit, "y": frame["y"] + (SIDE - 0.5 - y) * unit}

    def cell(self, sample: int, output: int) -> dict:
        """Place on the page of the middle of a cell of the rows of colours."""
        frame = self.teacher.locator(".dm-cells").first.bounding_box()
        across, down = (output + 0.5) / 16, (sample + 0.5) / 12
        return {"x": frame["x"] + across * frame["width"], "y": frame["y"] + down * frame["height"]}

    def bars(self) -> str:
        return self.teacher.locator(".distribution-map path[fill]").get_attribute("d")

    def colours(self) -> str:
        return self.teacher.locator(".dm-cells").first.get_attribute("href")


@pytest.fixture(scope="module")
def lab_page(open_notebook) -> Driver:
    notebook = open_notebook([DATA, DISTILLATION, ATTENTION], width=1280, height=2000)
    notebook.theme("JupyterLab Light")
    notebook.run_all()
    driver = Driver(notebook)
    driver.asks.locator("figcaption .sc-number", has_text="z = ").last.wait_for()
    driver.teacher.locator(".dm-cells").first.wait_for()
    driver.drawn()
    return driver


@pytest.fixture(autouse=True)
def _as_at_first(lab_page):
    lab_page.set("teacher.run = 'apart'; teacher.step = 40; teacher.sample = 0; teacher.temperature = 0.01")
    lab_page.set("teacher.centred = True; asks.head = 0; asks.token = (2, 2, 2)")


# ---------------------------------------------------------------- distributions
def test_a_click_chooses_a_sample(lab_page):
    before = lab_page.bars()
    lab_page.page.mouse.click(**lab_page.cell(7, 3))
    lab_page.until_value("teacher.sample", 7)
    assert lab_page.until_changed(lab_page.bars, before) != before
    lab_page.teacher.locator(".dm-key b", has_text="sample 7").wait_for()
    shares = lab_page.value("[float(p[7, 3]) for p in (teacher.probabilities, teacher.student_probabilities)]")
    words = lab_page.teacher.locator(".dm-words").inner_text()  # the pointer is on the cell still
    assert words.startswith("sample 7, output 3: teacher ")
    told = [float(part.split()[-2]) / 100 for part in words.split(", ")[1:]]
    np.testing.assert_allclose([told[0], told[1]], shares, rtol=0.06, atol=1e-6)


def test_keys_of_the_map_and_of_the_slider_choose_a_sample(lab_page):
    lab_page.teacher.locator(".distribution-map").focus()
    for key, sample in (("ArrowDown", 1), ("End", 11), ("ArrowUp", 10), ("Home", 0)):
        lab_page.page.keyboard.press(key)
        lab_page.until_value("teacher.sample", sample)
    lab_page.press(lab_page.teacher, "sample", "ArrowRight", "ArrowRight")
    lab_page.until_value("teacher.map.sample", 2)
    lab_page.teacher.locator(".dm-key b", has_text="sample 2").wait_for()


def test_the_curve_and_the_slider_move_the_step(lab_page):
    before = lab_page.colours()
    lab_page.press(lab_page.teacher, "step", "ArrowLeft")
    lab_page.until_value("teacher.step", 20)
    before = lab_page.until_changed(lab_page.colours, before)
    lab_page.until_value("teacher.curve.index", 2)
    frame = lab_page.teacher.locator(".step-curve svg[viewBox='0 0 340 260']").bounding_box()
    pixel = frame["width"] / 340
    lab_page.page.mouse.move(frame["x"] + 320 * pixel, frame["y"] + 100 * pixel)
    lab_page.page.mouse.down()
    lab_page.page.mouse.move(frame["x"] + 56 * pixel, frame["y"] + 100 * pixel, steps=4)
    lab_page.page.mouse.up()
    lab_page.until_value("teacher.step", 0)
    lab_page.until_changed(lab_page.colours, before)


def test_temperature_and_centre_change_the_distributions(lab_page):
    before, entropy = lab_page.colours(), lab_page.value("teacher.entropy")
    lab_page.press(lab_page.teacher, "teacher temperature", *["ArrowRight"] * 4)
    lab_page.until_value("round(teacher.temperature, 6)", round(10**-1.8, 6))
    before = lab_page.until_changed(lab_page.colours, before)
    assert lab_page.value("teacher.entropy") > entropy
    lab_page.teacher.locator("input[type=checkbox]").press("Space")
    lab_page.until_value("teacher.centred", False)
    lab_page.until_changed(lab_page.colours, before)


def test_another_run_brings_its_own_steps(lab_page):
    lab_page.press(lab_page.teacher, "run", "ArrowDown")
    lab_page.until_value("teacher.run", "one winner")
    lab_page.until_value("(teacher.step, teacher.curve.index)", (40, 2))
    lab_page.set("teacher.step = 80")
    lab_page.teacher.get_by_text("1 different winner among 12 samples").first.wait_for()
    lab_page.teacher.locator(".st-words", has_text="step 80").wait_for()
    lab_page.set("teacher.run = 'apart'")  # fewer steps than the place of the last one
    lab_page.teacher.locator(".st-words", has_text="step 40").wait_for()
    assert lab_page.value("teacher.winners") > 4


def test_cells_are_painted_as_python_has_them(lab_page):
    lab_page.set("teacher.temperature = 0.1")
    expected = lab_page.value("teacher.probabilities.ravel().tolist()")
    pixels = lab_page.page.evaluate(
        """async (href) => {
            const picture = new Image();
            await new Promise((done) => ((picture.onload = done), (picture.src = href)));
            const canvas = Object.assign(document.createElement("canvas"), { width: 16, height: 12 });
            canvas.getContext("2d").drawImage(picture, 0, 0);
            return [...canvas.getContext("2d").getImageData(0, 0, 16, 12).data];
        }""",
        lab_page.colours(),
    )
    codes = [round(255 * p**0.5) for p in expected]
    palette = lab_page.value("list(teacher.map.palette)")
    wanted = np.reshape(palette, (256, 3))[codes]
    np.testing.assert_allclose(np.reshape(pixels, (-1, 4))[:, :3], wanted, atol=4)  # a neighbour where rounding meets


# ---------------------------------------------------------------- attention
@pytest.mark.parametrize("view", [0, 1])
def test_a_click_in_either_picture_asks(lab_page, view):
    before = [lab_page.pixels(lab_page.canvas(k)) for k in (0, 1)]
    lab_page.page.mouse.click(**lab_page.place(lab_page.canvas(view), 13, 2))
    lab_page.until_value("asks.token", (3, 0, 2))
    for k in (0, 1):
        lab_page.until_changed(lambda k=k: lab_page.pixels(lab_page.canvas(k)), before[k])
        lab_page.until_value(f"asks.canvases[{k}].crosshair", (13, 2, 10))
    agreement = lab_page.value("asks.agreement")
    lab_page.asks.get_by_text(f"token (3, 0, 2), mean of heads: the two maps correlate {agreement:.2f}").wait_for()


def test_enter_asks_where_the_crosshair_is(lab_page):
    canvas = lab_page.canvas(0)
    canvas.focus()
    for key in (*["ArrowLeft"] * 3, "PageUp", "PageUp"):
        lab_page.page.keyboard.press(key)
    lab_page.until_value("asks.canvases[1].crosshair", (13, 10, 12))  # both go together
    assert lab_page.value("asks.token") == (2, 2, 2)
    lab_page.page.keyboard.press("Enter")
    lab_page.until_value("asks.token", (3, 2, 3))


def test_another_head_by_keys(lab_page):
    before = lab_page.pixels(lab_page.canvas(1))
    lab_page.press(lab_page.asks, "head", "ArrowDown", "ArrowDown")
    lab_page.until_value("asks.head", 2)
    lab_page.until_changed(lambda: lab_page.pixels(lab_page.canvas(1)), before)
    lab_page.asks.get_by_text("token (2, 2, 2), head 2:").wait_for()


def test_the_cube_that_asks_is_outlined(lab_page):
    """A cyan square around voxels 8 to 11 of x and y, in both pictures."""
    lab_page.set("asks.canvases[0].crosshair = asks.canvases[1].crosshair = (1, 1, 10)")
    lab_page.drawn()
    for view in (0, 1):
        canvas = lab_page.canvas(view)
        size = canvas.evaluate("(c) => [c.width, c.height]")
        pixels = np.reshape(lab_page.pixels(canvas), (size[1], size[0], 4))[..., :3].astype(int)
        found = np.argwhere((np.abs(pixels - [0x5C, 0xF2, 0xFF]) < 12).all(axis=2))
        ends = np.array([4, 8]) * size[0] / SIDE
        np.testing.assert_allclose([found.min(axis=0), found.max(axis=0)], [[ends[0]] * 2, [ends[1]] * 2], atol=4)


def test_both_are_seen_in_light_and_dark(lab_page):
    texts = "(e) => getComputedStyle(e).color + getComputedStyle(e).fill"
    colours = {}
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        lab_page.theme(theme)
        parts = (lab_page.teacher.locator(".dm-key"), lab_page.teacher.locator("text.dm-name").first)
        colours[theme] = [part.evaluate(texts) for part in (*parts, lab_page.asks.locator(".sc-title").first)]
    lab_page.theme("JupyterLab Light")
    for light, dark in zip(*colours.values(), strict=True):
        assert light != dark
