"""The slice canvas and the volume explorer in a real browser: moved, clicked, read back."""

import re

import numpy as np
import pytest

from medssl_nb.viz.layers import slice_rgb, stack_layers
from medssl_nb.widgets import VolumeExplorer, standalone_page

pytestmark = pytest.mark.browser

SHAPE = (30, 26, 22)
SPACING = (2.0, 2.0, 3.0)

# The same volume here and in the notebook. Values differ along each axis, so that a swapped or flipped axis shows.
VOLUME = """
import numpy as np
x, y, z = np.meshgrid(*map(np.arange, (30, 26, 22)), indexing="ij")
volume = (13 * x + 7 * y - 11 * z).astype(np.int16)
label = np.zeros(volume.shape, np.uint8)
label[18:26, 14:22, 12:19] = 5
label[4:10, 4:10, 4:8] = 52
names = {5: "liver", 52: "aorta"}
"""
EXPLORER = """
from medssl_nb.widgets import VolumeExplorer
explorer = VolumeExplorer(volume, label, label_names=names, spacing_mm=(2, 2, 3), window=(-150, 450), title="Boxes")
explorer
"""
SECOND_VIEW = "explorer"
LINKED = """
import ipywidgets
from medssl_nb.widgets import SliceCanvas
other = SliceCanvas(-volume, planes="coronal")
link = ipywidgets.jslink((explorer, "crosshair"), (other, "crosshair"))
other
"""


def arrays() -> dict:
    scope = {}
    exec(VOLUME, scope)
    return scope


class Driver:
    """The explorer in the first output, and what Python knows of it."""

    def __init__(self, notebook):
        self.notebook = notebook
        self.page = notebook.page
        self.first = self.view(0)

    def view(self, number: int):
        return self.page.locator(".slice-canvas").nth(number)

    def canvas(self, plane: str, view: int = 0):
        return self.view(view).locator(f"canvas[data-plane={plane}]")

    def caption(self, plane: str, view: int = 0) -> str:
        return (
            self.view(view)
            .locator("figure", has=self.page.locator(f"[data-plane={plane}]"))
            .locator("figcaption .sc-number")
            .inner_text()
        )

    def python(self, expression: str):
        return eval(self.notebook.python(f"print(repr({expression}))"), {"VoxelValue": lambda **v: v, "np": np})

    def set(self, statement: str) -> None:
        self.notebook.python(statement)
        self.drawn()

    def start_at(self, voxel: tuple[int, int, int]) -> None:
        self.set(f"explorer.crosshair = {voxel}")
        self.until_caption("axial", f"z = {voxel[2]} of 21")

    def drawn(self) -> None:
        """Two animation frames later everything asked for is on the canvas."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def until_caption(self, plane: str, text: str, view: int = 0) -> None:
        figure = self.view(view).locator("figure", has=self.page.locator(f"[data-plane={plane}]"))
        figure.locator("figcaption .sc-number", has_text=text).wait_for()
        self.drawn()

    def until_python(self, expression: str, expected) -> None:
        """Wait until the kernel has the message; fails with what it has instead."""
        for _ in range(50):
            if (found := self.python(expression)) == expected:
                return
            self.page.wait_for_timeout(50)
        assert found == expected

    def press_in(self, plane: str, *keys: str) -> None:
        self.canvas(plane).focus()
        for key in keys:
            self.page.keyboard.press(key)
        self.drawn()

    def point(self, plane: str, column: int, row: int) -> dict:
        """Place on the page of the middle of a picture element."""
        across, down = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}[plane]
        frame = self.canvas(plane).bounding_box()
        return {
            "x": frame["x"] + (column + 0.5) * frame["width"] / SHAPE[across],
            "y": frame["y"] + (row + 0.5) * frame["height"] / SHAPE[down],
        }

    def colours(self, plane: str, view: int = 0) -> np.ndarray:
        """Colour in the middle of each picture element of the canvas, (rows, columns, 3)."""
        across, down = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}[plane]
        numbers = self.canvas(plane, view).evaluate(
            """(canvas, [columns, rows]) => {
                const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
                const out = [];
                for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) {
                    const x = Math.floor((c + 0.5) * canvas.width / columns);
                    const y = Math.floor((r + 0.5) * canvas.height / rows);
                    const at = 4 * (y * canvas.width + x);
                    out.push([data[at], data[at + 1], data[at + 2]]);
                }
                return out;
            }""",
            [SHAPE[across], SHAPE[down]],
        )
        return np.array(numbers).reshape(SHAPE[down], SHAPE[across], 3)


@pytest.fixture(scope="module")
def explorer(open_notebook) -> Driver:
    notebook = open_notebook([VOLUME, EXPLORER, SECOND_VIEW, LINKED], width=1280, height=2600)
    notebook.theme("JupyterLab Light")
    notebook.run_all()
    driver = Driver(notebook)
    driver.view(2).locator("canvas").wait_for()
    driver.until_caption("axial", "z = 11 of 21")
    return driver


def compare(found: np.ndarray, expected: np.ndarray, crossed: tuple[int, int]) -> None:
    """Equal but for rounding, where no line, letter or scale bar is drawn."""
    rows, columns = found.shape[:2]
    bare = np.zeros((rows, columns), bool)
    bare[4 : rows - 7, 4 : columns - 4] = True
    bare[crossed[0] - 1 : crossed[0] + 2], bare[:, crossed[1] - 1 : crossed[1] + 2] = False, False
    assert bare.sum() > 100
    assert abs(found.astype(int) - expected.astype(int))[bare].max() <= 3


@pytest.mark.parametrize(("plane", "crossed"), [("axial", (5, 8)), ("coronal", (6, 8)), ("sagittal", (6, 5))])
def test_the_browser_draws_what_viz_draws(explorer, plane, crossed):
    explorer.set("explorer.label_style = 'fill'")
    explorer.start_at((21, 20, 15))
    scope = arrays()
    layers = stack_layers(
        scope["volume"], window=(-150, 450), labels=scope["label"], label_names=scope["names"], spacing_mm=SPACING
    )
    index = {"axial": 15, "coronal": 20, "sagittal": 21}[plane]
    compare(explorer.colours(plane), slice_rgb(layers, plane, index), crossed)
    explorer.set("explorer.label_style = 'both'")


def test_a_click_reports_voxel_and_mm(explorer):
    explorer.start_at((3, 3, 9))
    before = explorer.python("explorer.clicks")
    explorer.page.mouse.click(**explorer.point("axial", column=4, row=6))  # from the left: R, from the top: A
    explorer.until_python("explorer.clicked", (25, 19, 9))
    assert explorer.python("explorer.clicked_mm") == (50, 38, 27)
    assert explorer.python("explorer.crosshair") == (25, 19, 9)
    assert explorer.python("explorer.clicks") == before + 1
    explorer.page.mouse.click(**explorer.point("sagittal", column=0, row=21))  # anterior, inferior
    explorer.until_python("explorer.clicked", (25, 25, 0))
    explorer.until_caption("axial", "z = 0 of 21")


def test_dragging_moves_the_crosshair_and_is_no_click(explorer):
    explorer.start_at((3, 3, 9))
    clicks = explorer.python("explorer.clicks")
    start, end = explorer.point("coronal", 5, 5), explorer.point("coronal", 20, 15)
    explorer.page.mouse.move(**start)
    explorer.page.mouse.down()
    explorer.page.mouse.move(**end, steps=6)
    explorer.until_caption("axial", "z = 6 of 21")
    explorer.page.mouse.up()
    explorer.until_python("explorer.crosshair", (9, 3, 6))
    assert explorer.python("explorer.clicks") == clicks


@pytest.mark.parametrize(
    ("plane", "keys", "voxel"),
    [
        ("axial", ["ArrowLeft"], (16, 15, 10)),  # to the patient's right
        ("axial", ["ArrowRight", "ArrowDown"], (14, 14, 10)),
        ("axial", ["PageUp", "PageUp"], (15, 15, 12)),
        ("coronal", ["ArrowUp", "PageDown"], (15, 14, 11)),
        ("sagittal", ["ArrowLeft", "ArrowUp"], (15, 16, 11)),
        ("sagittal", ["Shift+ArrowRight"], (15, 5, 10)),
        ("axial", ["Shift+ArrowLeft", "Shift+ArrowLeft"], (29, 15, 10)),  # not beyond the last voxel
        ("axial", ["PageUp", "Home"], (15, 13, 11)),  # the middle
    ],
)
def test_keys_move_the_crosshair_and_not_the_notebook(explorer, plane, keys, voxel):
    explorer.start_at((15, 15, 10))
    active = "() => window.jupyterapp.shell.currentWidget.content.activeCellIndex"
    explorer.canvas(plane).focus()
    cell = explorer.page.evaluate(active)
    scrolled = explorer.page.evaluate("() => document.querySelector('.jp-WindowedPanel-outer')?.scrollTop")
    explorer.press_in(plane, *keys)
    explorer.until_python("explorer.crosshair", voxel)
    assert explorer.page.evaluate(active) == cell
    assert explorer.page.evaluate("() => document.querySelector('.jp-WindowedPanel-outer')?.scrollTop") == scrolled
    assert explorer.page.locator(".jp-Notebook .jp-CodeCell").count() == 4, "no cell was added or removed"


@pytest.mark.parametrize("key", ["a", "b", "x", "h", "d", "d"])
def test_letters_do_not_reach_the_notebook(explorer, key):
    explorer.press_in("axial", key)
    assert explorer.page.locator(".jp-Notebook .jp-CodeCell").count() == 4
    if key == "h":
        explorer.press_in("axial", key)  # shows the overlay again


def test_h_hides_labels(explorer):
    explorer.start_at((3, 3, 15))
    coloured = explorer.colours("axial")
    explorer.press_in("axial", "h")
    grey = explorer.colours("axial")
    assert (grey[8, 8] == grey[8, 8][0]).all() and not (coloured[8, 8] == coloured[8, 8][0]).all()
    explorer.press_in("axial", "h")
    assert (explorer.colours("axial") == coloured).all()


def test_the_slider_scrolls_and_takes_keys(explorer):
    explorer.start_at((3, 3, 9))
    slider = explorer.first.get_by_label("axial slice z")
    slider.focus()
    for _ in range(3):
        explorer.page.keyboard.press("ArrowRight")
    explorer.until_python("explorer.crosshair", (3, 3, 12))
    explorer.until_caption("axial", "z = 12 of 21")


def test_the_wheel_scrolls_slices_only_after_a_click(explorer):
    explorer.start_at((3, 3, 9))
    explorer.page.evaluate("() => document.activeElement.blur()")
    explorer.page.mouse.move(**explorer.point("axial", 10, 10))
    explorer.page.mouse.wheel(0, 120)
    explorer.drawn()
    assert explorer.caption("axial") == "z = 9 of 21"
    explorer.page.evaluate("() => document.querySelector('.jp-WindowedPanel-outer')?.scrollTo(0, 0)")
    explorer.page.mouse.click(**explorer.point("axial", 10, 10))
    explorer.page.mouse.wheel(0, 120)
    explorer.until_caption("axial", "z = 6 of 21")
    explorer.until_python("explorer.crosshair[2]", 6)


def test_python_moves_the_picture_and_the_readout_agrees(explorer):
    explorer.start_at((20, 15, 15))
    value, label, heat = explorer.python("tuple(explorer.value_at_crosshair)")
    assert (value, label, heat) == (13 * 20 + 7 * 15 - 11 * 15, "liver", None)
    readout = explorer.first.locator(".sc-readout")
    assert readout.locator(".sc-value").nth(0).inner_text() == "20  15  15"
    assert readout.locator(".sc-value").nth(1).inner_text() == "40.0  30.0  45.0"
    shown = readout.locator(".sc-value").nth(2).inner_text().removeprefix("≈ ").replace("−", "-")
    inside, _ = explorer.python("explorer.grey_steps")
    assert abs(float(shown) - value) <= inside
    assert readout.locator(".sc-value").nth(3).inner_text() == "liver"


def test_two_views_of_one_model_and_a_linked_canvas_follow(explorer):
    explorer.start_at((3, 3, 9))
    explorer.press_in("sagittal", "ArrowLeft", "ArrowLeft")  # y grows by 2
    explorer.until_caption("coronal", "y = 5 of 25", view=0)
    explorer.until_caption("coronal", "y = 5 of 25", view=1)
    explorer.until_caption("coronal", "y = 5 of 25", view=2)
    explorer.until_python("other.crosshair", (3, 5, 9))
    assert (explorer.colours("coronal", 0) == explorer.colours("coronal", 1)).all()


def test_window_presets_and_sliders(explorer):
    explorer.start_at((3, 3, 15))
    bright = explorer.colours("coronal").mean()
    choice = explorer.first.get_by_label("window", exact=True)
    choice.select_option("all values")
    low, high = arrays()["volume"].min(), arrays()["volume"].max()
    explorer.until_python("explorer.window", (low, high))
    explorer.drawn()
    assert explorer.colours("coronal").mean() != bright
    black = explorer.first.get_by_label("black at")
    black.focus()
    explorer.page.keyboard.press("End")  # black meets white: white gives way
    explorer.drawn()
    low, high = explorer.python("explorer.window")
    assert low < high
    choice.select_option("as given")
    explorer.until_python("explorer.window", (-150, 450))
    explorer.drawn()
    assert explorer.colours("coronal").mean() == bright


def test_opacity(explorer):
    explorer.start_at((3, 3, 15))
    slider = explorer.first.get_by_label("opacity")
    slider.focus()
    explorer.page.keyboard.press("Home")
    explorer.until_python("explorer.opacity", 0)
    explorer.set("explorer.label_style = 'fill'")
    grey = explorer.colours("axial")
    assert (grey[8, 8] == grey[8, 8][0]).all()
    explorer.set("explorer.opacity = 0.4; explorer.label_style = 'both'")


def test_labels_are_shown_hidden_and_found_by_name(explorer):
    explorer.start_at((0, 0, 0))
    box = explorer.first.get_by_label("liver", exact=True)
    box.uncheck()
    explorer.until_python("explorer.visible_labels", (52,))
    explorer.first.get_by_role("button", name="all", exact=True).click()
    explorer.until_python("explorer.visible_labels", (5, 52))
    assert box.is_checked()
    explorer.first.get_by_role("button", name="none", exact=True).click()
    explorer.until_python("explorer.visible_labels", ())
    explorer.set("explorer.visible_labels = [5, 52]")
    explorer.first.get_by_role("button", name="go to aorta").click()
    explorer.until_python("explorer.value_at_crosshair.label", "aorta")


def test_layers_exchanged_from_python_are_drawn(explorer):
    explorer.start_at((3, 3, 15))
    explorer.set("explorer.set_label(label == 5)")
    explorer.first.get_by_label("mask", exact=True).wait_for()
    explorer.set("explorer.set_heat(volume, heat_name='height')")
    explorer.first.locator(".sc-strip").wait_for()
    coloured = explorer.colours("axial")
    assert not (coloured[15, 20] == coloured[15, 20][0]).all()
    explorer.set("explorer.set_heat(None); explorer.set_label(label, names)")
    explorer.first.get_by_label("liver", exact=True).wait_for()


def test_a_volume_of_another_shape(explorer):
    explorer.set("other.set_volume(volume[:, :10])")
    explorer.until_caption("coronal", "y = 5 of 9", view=2)
    explorer.set("other.set_volume(-volume)")
    explorer.until_caption("coronal", "y = 13 of 25", view=2)


def test_letters_stand_for_what_screen_readers_say(explorer):
    explorer.start_at((3, 3, 9))
    canvas = explorer.canvas("axial")
    assert canvas.get_attribute("role") == "application"
    assert canvas.get_attribute("aria-label") == "axial slice, z = 9. Arrow keys move the crosshair."
    assert explorer.first.get_attribute("aria-label") == "Boxes"
    controls = explorer.first.locator("input, select, button")
    for number in range(controls.count()):
        name = controls.nth(number).evaluate("(e) => e.labels?.[0]?.innerText || e.ariaLabel || e.innerText")
        assert name.strip(), controls.nth(number).evaluate("(e) => e.outerHTML")
        assert controls.nth(number).evaluate("(e) => e.dataset.lmSuppressShortcuts") == "true"


def test_no_two_widgets_share_an_id(explorer):
    ids = explorer.page.evaluate("() => [...document.querySelectorAll('.slice-canvas [id]')].map((e) => e.id)")
    assert len(ids) > 10
    assert len(ids) == len(set(ids))


def test_proportions_are_true(explorer):
    frames = {plane: explorer.canvas(plane).bounding_box() for plane in ("axial", "coronal", "sagittal")}
    per_mm = frames["axial"]["width"] / (30 * 2)
    assert frames["axial"]["height"] == pytest.approx(26 * 2 * per_mm, abs=1)
    assert frames["coronal"]["height"] == pytest.approx(22 * 3 * per_mm, abs=1)
    assert frames["sagittal"]["width"] == pytest.approx(26 * 2 * per_mm, abs=1)


def test_themes(explorer):
    def ink() -> int:
        colour = explorer.first.evaluate("(e) => getComputedStyle(e).color")
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3])

    assert ink() < 200, "dark letters on JupyterLab's light page"
    explorer.notebook.theme("JupyterLab Dark")
    assert ink() > 500
    explorer.notebook.theme("JupyterLab Light")
    explorer.first.get_by_label("high contrast").check()
    explorer.until_python("explorer.theme", "contrast")
    assert ink() == 3 * 255
    assert explorer.first.evaluate("(e) => getComputedStyle(e).backgroundColor") == "rgb(0, 0, 0)"
    explorer.first.get_by_label("high contrast").uncheck()
    explorer.until_python("explorer.theme", "auto")


def test_a_narrow_window_puts_pictures_below_each_other(explorer):
    explorer.page.set_viewport_size({"width": 560, "height": 2600})
    explorer.page.wait_for_function("() => document.querySelector('.sc-pictures').classList.contains('sc-stacked')")
    explorer.drawn()
    left = [explorer.canvas(plane).bounding_box()["x"] for plane in ("axial", "coronal", "sagittal")]
    assert left[0] == left[1] == left[2]
    too_wide = "(e) => [...e.querySelectorAll('*')].filter((p) => p.scrollWidth > p.clientWidth + 1 && "
    too_wide += "getComputedStyle(p).display !== 'inline').map((p) => p.className)"
    assert explorer.first.evaluate("(e) => e.scrollWidth <= e.clientWidth"), explorer.first.evaluate(too_wide)
    explorer.page.set_viewport_size({"width": 1280, "height": 2600})
    explorer.page.wait_for_function("() => !document.querySelector('.sc-pictures').classList.contains('sc-stacked')")


def test_a_picture_stands_beside_the_widget(explorer):
    outputs = explorer.page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.content.model.cells.get(1).toJSON().outputs[0].data"
    )
    assert {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"} <= set(outputs)
    assert outputs["text/plain"] == "<VolumeExplorer>"


def test_without_a_kernel(browser, tmp_path):
    scope = arrays()
    widget = VolumeExplorer(scope["volume"], scope["label"], label_names=scope["names"], title="</script>")
    path = tmp_path / "page.html"
    path.write_text(standalone_page(widget), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    thrown = []
    page.on("pageerror", lambda error: thrown.append(str(error)))
    page.goto(path.as_uri())
    caption = page.locator("figcaption .sc-number").first
    page.locator("figcaption .sc-number", has_text="z = 11 of 21").wait_for()
    page.get_by_label("axial slice z").focus()
    page.keyboard.press("ArrowRight")
    page.locator("figcaption .sc-number", has_text="z = 12 of 21").wait_for()
    page.locator("canvas[data-plane=axial]").click(position={"x": 5, "y": 5})
    page.locator("figcaption .sc-number", has_text="x = 29 of 29").wait_for()
    state = page.evaluate("() => document.getElementById('widget').model.state")
    assert state["clicked"] == [29, 25, 12] and state["clicks"] == 1
    assert caption.inner_text() == "z = 12 of 21"
    assert page.locator(".sc-title").inner_text() == "</script>"
    assert thrown == []
    page.close()


def test_a_score_beyond_the_colour_scale_says_so(browser, tmp_path):
    volume = arrays()["volume"]
    heat = np.full(volume.shape, 0.5)
    heat[15, 13, 11] = 7.0
    path = tmp_path / "page.html"
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    for at, shown in (((15, 13, 11), "≥ 2"), ((15, 13, 12), "0.5")):
        widget = VolumeExplorer(volume, heat=heat, heat_range=(0, 2), crosshair=at)
        path.write_text(standalone_page(widget), encoding="utf-8")
        page.goto(path.as_uri())
        page.locator(".sc-readout .sc-value", has_text=shown).first.wait_for()
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_follows_the_system(browser, tmp_path, scheme):
    path = tmp_path / "page.html"
    path.write_text(standalone_page(VolumeExplorer(arrays()["volume"])), encoding="utf-8")
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(path.as_uri())
    page.locator("figcaption .sc-number", has_text="z = 11 of 21").wait_for()
    colour = page.locator(".slice-canvas").evaluate("(e) => getComputedStyle(e).color")
    assert colour == {"light": "rgb(0, 0, 0)", "dark": "rgb(255, 255, 255)"}[scheme]
    context.close()


def test_a_fine_screen_gets_a_fine_picture(browser, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(standalone_page(VolumeExplorer(arrays()["volume"])), encoding="utf-8")
    context = browser.new_context(device_scale_factor=2)
    page = context.new_page()
    page.goto(path.as_uri())
    page.locator("figcaption .sc-number", has_text="z = 11 of 21").wait_for()
    canvas = page.locator("canvas[data-plane=axial]")
    assert canvas.evaluate("(c) => c.width") == 2 * canvas.bounding_box()["width"]
    context.close()
