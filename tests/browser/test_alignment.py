"""Matches and pairs of views in a real browser: clicks, drags, keys, read back in Python."""

import numpy as np
import pytest

pytestmark = pytest.mark.browser

SIDE = 16
DATA = f"""
import numpy as np
import torch
from medssl_nb.methods.alice import AnatomicalEmbedding, ViewPair
from medssl_nb.widgets import AlignmentExplorer, ViewPairGallery
G = torch.Generator().manual_seed(0)
directions = torch.randn(8, 3, generator=G)
def grid(side, shift):
    places = (torch.arange(side) + 0.25) * {SIDE} / side  # in voxels; a cell stands for its first voxel and a bit
    return torch.stack(torch.meshgrid(*[places] * 3, indexing="ij")) + torch.tensor(shift)[:, None, None, None]
def waves(side, shift, fast):
    angles = torch.einsum("dk,kxyz->dxyz", fast * directions, grid(side, shift))
    v = torch.cat([angles.sin(), angles.cos()])
    return v / v.norm(dim=0)
def embed(shift):
    return AnatomicalEmbedding(waves({SIDE} // 2, shift, 0.3), waves(2, shift, 0.05))
def image(shift):
    return ((grid({SIDE}, shift) / 8 - 1) ** 2).sum(0).sqrt()
zero, moved = (0.0, 0.0, 0.0), (4.0, 0.0, -2.0)
"""
ALIGNMENT = """
match = AlignmentExplorer(image(zero), image(moved), embed(zero), embed(moved), spacing_mm=(2, 2, 3), window=(0, 2),
                          truth=lambda p: p + np.array([-4.0, 3.0, 2.0]), size=180)
match
"""
GALLERY = """
def crop():
    return torch.rand(1, 8, 8, 8, generator=G).cumsum(1)
def pair(score):
    return ViewPair(crop(), crop(), torch.zeros(3), torch.zeros(3), score, 1)
pairs = [pair(0.504 + 0.01 * k) for k in range(40)]
gallery = ViewPairGallery(pairs, errors_mm=[40 - k for k in range(40)], random_pairs=[pair(0.0) for _ in range(5)])
gallery
"""


class Driver:
    """Both widgets in their cells, and what Python knows of them."""

    def __init__(self, notebook):
        self.notebook, self.page = notebook, notebook.page
        self.match, self.gallery = (notebook.output(number) for number in (1, 2))

    def __getattr__(self, name: str):
        return getattr(self.notebook, name)  # what every notebook can do

    def canvas(self, patient: int, plane: str = "axial"):
        return self.match.locator(".slice-canvas").nth(patient).locator(f"canvas[data-plane={plane}]")

    def place(self, canvas, x: int, y: int) -> dict:
        """Place on the page of the middle of voxel (x, y) of an axial slice: x to the left, y upwards."""
        canvas.scroll_into_view_if_needed()
        frame = canvas.bounding_box()
        unit = frame["width"] / SIDE
        return {"x": frame["x"] + (SIDE - 0.5 - x) * unit, "y": frame["y"] + (SIDE - 0.5 - y) * unit}

    def colour_at(self, canvas, colour, x: float, y: float) -> int:
        """Picture elements of a colour within 12 of the middle of voxel (x, y)."""
        wide, high = canvas.evaluate("(c) => [c.width, c.height]")
        pixels = np.reshape(self.pixels(canvas), (high, wide, 4))[..., :3].astype(int)
        rows, columns = np.nonzero((np.abs(pixels - colour) < 12).all(axis=2))
        unit = wide / SIDE
        near = (abs(columns - (SIDE - 0.5 - x) * unit) < 12) & (abs(rows - (SIDE - 0.5 - y) * unit) < 12)
        return int(near.sum())

    def tiles(self):
        return self.gallery.locator("figure")


@pytest.fixture(scope="module")
def lab_page(open_notebook) -> Driver:
    notebook = open_notebook([DATA, ALIGNMENT, GALLERY], width=1280, height=2000)
    notebook.theme("JupyterLab Light")
    notebook.run_all()
    driver = Driver(notebook)
    driver.match.locator("figcaption .sc-number", has_text="z = ").last.wait_for()
    driver.tiles().first.wait_for()
    driver.drawn()
    return driver


@pytest.fixture(autouse=True)
def _as_at_first(lab_page):
    lab_page.set("match.point = (8, 8, 8); match.fine_share = 0.5; match.show_map = True")
    lab_page.set("gallery.source = 'mined'; gallery.order = 'score'; gallery.threshold = 0.7; gallery.first = 0")


# ---------------------------------------------------------------- one place in two patients
def test_a_click_leads_to_the_same_place_of_the_other_patient(lab_page):
    before = lab_page.pixels(lab_page.canvas(1))
    lab_page.page.mouse.click(**lab_page.place(lab_page.canvas(0), 10, 6))
    lab_page.until_value("match.point", (10, 6, 8))
    assert lab_page.value("match.found") == (6, 6, 10)
    words = "voxel (10, 6, 8) → (6, 6, 10), score 1.00; true place 6.0 mm away; back home within 0.0 mm"
    lab_page.match.get_by_text(words).wait_for()
    lab_page.match.locator("figcaption .sc-number", has_text="z = 10 of 15").wait_for()
    lab_page.until_changed(lambda: lab_page.pixels(lab_page.canvas(1)), before)


def test_a_drag_leads_along(lab_page):
    start, end = (lab_page.place(lab_page.canvas(0), x, 6) for x in (8, 12))
    lab_page.page.mouse.move(**start)
    lab_page.page.mouse.down()
    lab_page.page.mouse.move(**end, steps=4)
    lab_page.page.mouse.up()
    lab_page.until_value("match.point", (12, 6, 8))
    lab_page.until_value("match.found", (8, 6, 10))


def test_the_point_moves_by_keys(lab_page):
    lab_page.canvas(0).focus()
    for key in ("ArrowUp", "ArrowUp", "PageUp", "PageUp"):
        lab_page.page.keyboard.press(key)
    lab_page.until_value("match.point", (8, 10, 10))
    lab_page.until_value("match.found", (4, 10, 12))


def test_the_share_by_keys(lab_page):
    before = lab_page.pixels(lab_page.canvas(1))
    lab_page.press(lab_page.match, "fine share", "End")
    lab_page.until_value("match.fine_share", 1.0)
    fine = lab_page.until_changed(lambda: lab_page.pixels(lab_page.canvas(1)), before)
    lab_page.press(lab_page.match, "fine share", "Home")
    lab_page.until_value("match.fine_share", 0.0)
    lab_page.until_changed(lambda: lab_page.pixels(lab_page.canvas(1)), fine)
    lab_page.press(lab_page.match, "fine share", *["ArrowRight"] * 3)
    lab_page.until_value("round(match.fine_share, 6)", 0.3)


def test_the_heat_by_keys(lab_page):
    before = lab_page.pixels(lab_page.canvas(1))
    lab_page.match.locator("input[type=checkbox]").first.press("Space")
    lab_page.until_value("match.show_map", False)
    lab_page.until_changed(lambda: lab_page.pixels(lab_page.canvas(1)), before)


def test_each_place_is_drawn_with_its_sign(lab_page):
    lab_page.set("match.show_map = False; match.point = (10, 4, 8)")
    assert lab_page.value("(match.found, match.returned)") == ((6, 4, 10), (10, 4, 8))
    lab_page.set("match.canvases[1].crosshair = (1, 1, 10); match.canvases[0].crosshair")
    lab_page.drawn()
    yellow, cyan, pink = ([int(c[k : k + 2], 16) for k in (0, 2, 4)] for c in ("ffe45c", "5cf2ff", "ff9ae0"))
    left, right = lab_page.canvas(0), lab_page.canvas(1)
    assert lab_page.colour_at(right, yellow, 6, 4) > 10
    assert lab_page.colour_at(right, cyan, 6, 7) > 10
    assert lab_page.colour_at(left, pink, 10, 4) > 10
    assert lab_page.colour_at(right, pink, 6, 4) == lab_page.colour_at(left, cyan, 10, 4) == 0


# ---------------------------------------------------------------- pairs of views
def test_the_threshold_by_keys(lab_page):
    assert lab_page.tiles().count() == 9
    lab_page.press(lab_page.gallery, "threshold", "End")
    lab_page.until_value("gallery.kept", 0)
    lab_page.gallery.get_by_text("0 of 40 pairs pass 0.90").first.wait_for()
    opacity = "(e) => getComputedStyle(e).opacity"
    assert lab_page.tiles().first.locator("[role=img]").evaluate(opacity) == "0.3"
    lab_page.press(lab_page.gallery, "threshold", *["ArrowLeft"] * 4)
    lab_page.until_value("gallery.kept", 4)
    lab_page.gallery.get_by_text("their mean error is 2.5 mm, of the refused 22.5 mm").first.wait_for()
    shown = [lab_page.tiles().nth(k).locator("[role=img]").evaluate(opacity) for k in range(9)]
    assert shown == ["1"] * 4 + ["0.3"] * 5


def test_pages_by_keys(lab_page):
    lab_page.press(lab_page.gallery, "first", "ArrowRight")
    lab_page.until_value("gallery.first", 9)
    lab_page.gallery.get_by_text("shown: 10 to 18 of 40").first.wait_for()
    lab_page.press(lab_page.gallery, "first", "End")
    lab_page.until_value("gallery.shown", (3, 2, 1, 0))
    assert lab_page.tiles().count() == 4


def test_order_and_source_by_keys(lab_page):
    lab_page.press(lab_page.gallery, "order", "ArrowDown")
    lab_page.until_value("gallery.order", "error")
    lab_page.gallery.get_by_text("smallest error first").first.wait_for()
    lab_page.press(lab_page.gallery, "pairs", "ArrowDown")
    lab_page.until_value("gallery.source", "random")
    lab_page.gallery.get_by_text("5 random pairs, which nothing refuses").first.wait_for()
    assert lab_page.tiles().count() == 5
    assert not lab_page.control(lab_page.gallery, "first").is_visible()


def test_tiles_have_their_views_and_words(lab_page):
    tile = lab_page.tiles().first
    assert tile.locator("figcaption").inner_text() == "0.89 ✓ · 1.0 mm off"
    frames = [tile.locator("image").nth(k).bounding_box() for k in (0, 1)]
    for frame in frames:
        assert frame["width"] > 80 and abs(frame["width"] - frame["height"]) < 1
    assert frames[1]["x"] > frames[0]["x"] + frames[0]["width"]


def test_both_are_seen_in_light_and_dark(lab_page):
    colours = {}
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        lab_page.theme(theme)
        colours[theme] = [
            lab_page.match.locator(".sc-title").first.evaluate("(e) => getComputedStyle(e).color"),
            lab_page.tiles().locator("figcaption").first.evaluate("(e) => getComputedStyle(e).color"),
            lab_page.gallery.locator("svg text").first.evaluate("(e) => getComputedStyle(e).fill"),
        ]
    lab_page.theme("JupyterLab Light")
    for light, dark in zip(*colours.values(), strict=True):
        assert light != dark
