"""The explorers of patches in a real browser: every control moved by keyboard, points and slices clicked, read back."""

import re

import numpy as np
import pytest

from medssl_nb.widgets import standalone_page
from medssl_nb.widgets.patch_scatter import PatchScatter

pytestmark = pytest.mark.browser

GRID, PATCH = (4, 4, 3), 4

# The same volume here and in the notebook: two bright patches, a few lesion voxels.
VOLUME = """
import numpy as np
import torch
from medssl_nb.methods.adaptive_masking import (
    kmeans, lesion_category, patch_features, patchify, reconstruction_error, relative_weights, select_masked_patches
)
from medssl_nb.viz import patch_map
bright = np.isin(np.arange(48), [16, 17])
volume = np.random.default_rng(0).normal(0, 0.1, (16, 16, 12)) + 3 * patch_map(bright, (4, 4, 3), 4)
truth = np.zeros(volume.shape, bool)
truth[5:8, 5:8, 5:11] = True
x = torch.from_numpy(volume)[None, None]
features = torch.cat([patch_features(x, 4), patch_features(x, 4, kind="peak")], dim=2)
labels = kmeans(features, 3, generator=torch.Generator().manual_seed(0)).labels
lesion = lesion_category(labels, 3)
"""
MASK = """
from medssl_nb.widgets import MaskExplorer
masks = MaskExplorer(volume, lesion, 4, truth=truth, ratio=0.3, spacing_mm=(2, 2, 2))
masks
"""
CLUSTERS = """
from medssl_nb.widgets import PatchClusterExplorer
names = ("mean", "sd", "peak")
clusters = PatchClusterExplorer(volume, features, labels, 4, feature_names=names, lesion=lesion, truth=truth)
clusters
"""
GUESSES = """
from medssl_nb.widgets import ReconstructionExplorer
def one(step):
    mask = select_masked_patches(lesion, 0.5, generator=torch.Generator().manual_seed(0))
    guess = patchify(x, 4).mean(dim=2, keepdim=True).expand(1, 48, 64) * step / 200
    errors = reconstruction_error(guess, patchify(x, 4))
    weights = relative_weights(errors, mask)
    return {"step": step, "mask": mask, "prediction": guess, "errors": errors, "weights": weights}
guesses = ReconstructionExplorer(volume, [one(s) for s in (0, 100, 200)], patch_size=4, truth=truth)
guesses
"""
RATIO = """
from medssl_nb.widgets import RatioCurve
curve = RatioCurve(21, start=0.02, end=0.75, volume=volume, lesion=lesion, patch_size=4, truth=truth, epoch=1)
curve
"""
CELLS = [VOLUME, MASK, CLUSTERS, GUESSES, RATIO]


class Driver:
    """The four explorers in their cells, and what Python knows of them."""

    def __init__(self, notebook):
        self.notebook, self.page = notebook, notebook.page
        self.masks, self.clusters, self.guesses, self.curve = (notebook.output(number) for number in (1, 2, 3, 4))
        self.scatter = self.clusters.locator(".patch-scatter")

    def __getattr__(self, name: str):
        return getattr(self.notebook, name)  # what every notebook can do

    def pixels(self, area, plane: str = "axial") -> list:
        return self.notebook.pixels(area.locator(f"canvas[data-plane={plane}]"))

    def until_redrawn(self, area, before: list, plane: str = "axial") -> list:
        return self.until_changed(lambda: self.pixels(area, plane), before)

    def point(self, plane: str, column: int, row: int) -> dict:
        """Place on the page of the middle of a picture element of the cluster explorer's slices."""
        across, down = {"axial": (16, 16), "coronal": (16, 12)}[plane]
        frame = self.clusters.locator(f"canvas[data-plane={plane}]").bounding_box()
        return {
            "x": frame["x"] + (column + 0.5) * frame["width"] / across,
            "y": frame["y"] + (row + 0.5) * frame["height"] / down,
        }

    def mark(self) -> dict | None:
        """Middle of the ring around the chosen point, None where there is none."""
        frame = self.scatter.locator(".ps-mark").bounding_box()
        return frame and {"x": frame["x"] + frame["width"] / 2, "y": frame["y"] + frame["height"] / 2}


@pytest.fixture(scope="module")
def lab_page(open_notebook) -> Driver:
    notebook = open_notebook(CELLS, width=1280, height=3600)
    notebook.theme("JupyterLab Light")
    notebook.run_all()
    driver = Driver(notebook)
    driver.scatter.locator("svg .ps-dot").first.wait_for(state="attached")
    for area in (driver.masks, driver.clusters, driver.guesses, driver.curve):
        area.locator("figcaption .sc-number", has_text="z = ").first.wait_for()
    driver.drawn()
    return driver


# ---------------------------------------------------------------- mask
def test_the_hidden_share_moves_by_keys_and_the_mask_follows(lab_page):
    before = lab_page.pixels(lab_page.masks, "coronal")
    lab_page.press(lab_page.masks, "hidden share", *["ArrowRight"] * 8)
    lab_page.until_value("round(masks.ratio.value, 2)", 0.7)
    lab_page.until_value("int(masks.mask.sum())", 34)
    lab_page.masks.get_by_text("hidden 34 of 48 · called lesion: 2 of 2 hidden").wait_for()
    lab_page.until_redrawn(lab_page.masks, before, "coronal")
    assert lab_page.masks.locator(".sc-chip").all_inner_texts() == ["hidden, called lesion", "hidden, other"]


def test_the_lesion_share_can_be_moved_only_where_it_counts(lab_page):
    share = lab_page.control(lab_page.masks, "lesion share")
    assert share.get_attribute("disabled") is not None or share.locator("..").evaluate(
        "(e) => e.closest('.noUi-target').hasAttribute('disabled')"
    )
    lab_page.control(lab_page.masks, "strategy").select_option("share")
    lab_page.until_value("masks.strategy.value", "share")
    lab_page.press(lab_page.masks, "lesion share", "ArrowLeft", "ArrowLeft")
    lab_page.until_value("round(masks.lesion_share, 1)", 0.8)
    lab_page.control(lab_page.masks, "strategy").select_option("random")
    lab_page.until_value("masks.lesion_share", 0.0)


def test_drawing_again_by_button_and_by_number(lab_page):
    lab_page.masks.get_by_role("button", name="draw again").focus()
    lab_page.page.keyboard.press("Enter")
    lab_page.until_value("masks.seed.value", 1)
    lab_page.control(lab_page.masks, "seed").fill("7")
    lab_page.page.keyboard.press("Enter")
    lab_page.until_value("masks.seed.value", 7)


def test_what_the_network_sees(lab_page):
    before = lab_page.pixels(lab_page.masks)
    box = lab_page.masks.get_by_label("show what the network sees")
    box.focus()
    lab_page.page.keyboard.press("Space")
    lab_page.until_value("masks.network_view.value", True)
    grey = lab_page.until_redrawn(lab_page.masks, before)
    lab_page.page.keyboard.press("Space")
    lab_page.until_value("masks.network_view.value", False)
    assert lab_page.until_redrawn(lab_page.masks, grey) == before


# ---------------------------------------------------------------- clusters
def test_a_click_on_a_point_leads_to_its_patch(lab_page):
    for patch, centre in ((40, (14, 6, 6)), (17, (6, 6, 10))):
        lab_page.set(f"clusters.selected = {patch}")
        place = lab_page.mark()
        lab_page.set("clusters.selected = -1; clusters.canvas.crosshair = (0, 0, 0); clusters.selected = -1")
        assert lab_page.mark() is None
        lab_page.page.mouse.click(**place)
        lab_page.until_value("clusters.selected", patch)
        lab_page.until_value("clusters.canvas.crosshair", centre)
        lab_page.clusters.locator("figcaption .sc-number", has_text=f"z = {centre[2]} of 11").wait_for()
        assert lab_page.mark() == place
        assert f"patch {patch}: cluster" in lab_page.scatter.locator(".ps-words").inner_text()


def test_a_click_on_a_slice_marks_the_point(lab_page):
    lab_page.set("clusters.selected = 17")
    lab_page.page.mouse.click(**lab_page.point("axial", column=0, row=0))  # the patient's right, anterior
    lab_page.until_value("clusters.canvas.crosshair", (15, 15, 10))
    lab_page.until_value("clusters.selected", 47)
    by_click = lab_page.mark()
    lab_page.set("clusters.selected = 17")
    assert lab_page.mark() != by_click
    lab_page.set("clusters.selected = 47")
    assert lab_page.mark() == by_click


def test_arrow_keys_walk_along_x_and_along_y_and_not_through_the_notebook(lab_page):
    values = np.array(lab_page.value("clusters.features.tolist()"))
    active = "() => window.jupyterapp.shell.currentWidget.content.activeCellIndex"
    lab_page.scatter.focus()
    cell = lab_page.page.evaluate(active)
    for axis, (less, more) in enumerate((("ArrowLeft", "ArrowRight"), ("ArrowDown", "ArrowUp"))):
        order = values[:, axis].argsort(kind="stable").tolist()
        lab_page.set(f"clusters.selected = {order[0]}")
        lab_page.scatter.focus()
        for key in (more, more, more, less):
            lab_page.page.keyboard.press(key)
        lab_page.until_value("clusters.selected", order[2])
        for _ in range(4):
            lab_page.page.keyboard.press(less)
        lab_page.until_value("clusters.selected", order[0])
    lab_page.page.keyboard.press("Escape")
    lab_page.until_value("clusters.selected", -1)
    for key in ("a", "b", "d", "d"):
        lab_page.page.keyboard.press(key)
    assert lab_page.page.evaluate(active) == cell
    assert lab_page.page.locator(".jp-Notebook .jp-CodeCell").count() == len(CELLS)


def test_the_pointer_tells_what_it_is_on(lab_page):
    lab_page.set("clusters.selected = 17")
    place = lab_page.mark()
    lab_page.set("clusters.selected = -1")
    words = lab_page.scatter.locator(".ps-words")
    assert words.inner_text() == "Click a point, or choose with the arrow keys."
    lab_page.page.mouse.move(**place)
    called = lab_page.value("int(labels[0, 17])")
    assert words.inner_text().startswith(f"patch 17: cluster {called}, called lesion, truly lesion · mean ")
    lab_page.page.mouse.move(0, 0)
    assert words.inner_text() == "Click a point, or choose with the arrow keys."


def test_other_features_can_be_chosen(lab_page):
    lab_page.set("clusters.selected = 17")
    before = lab_page.mark()
    lab_page.control(lab_page.clusters, "y").select_option("peak")
    lab_page.until_value("clusters.y_axis.value", 2)
    lab_page.scatter.locator(".ps-name", has_text="peak").wait_for()
    lab_page.drawn()
    assert lab_page.mark() != before
    assert lab_page.scatter.get_attribute("aria-label") == "48 patches: peak against mean. Arrow keys choose one."
    lab_page.control(lab_page.clusters, "y").select_option("sd")
    lab_page.scatter.locator(".ps-name", has_text="sd").wait_for()


def test_the_scatter_has_a_focus_ring_and_follows_the_theme(lab_page):
    def ink() -> int:
        colour = lab_page.scatter.locator(".ps-name").first.evaluate("(e) => getComputedStyle(e).fill")
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3])

    lab_page.page.keyboard.press("Tab")  # so that the browser takes focus for one by keyboard
    lab_page.scatter.focus()
    assert lab_page.scatter.evaluate("(e) => getComputedStyle(e).outlineStyle") == "solid"
    assert ink() < 200
    lab_page.notebook.theme("JupyterLab Dark")
    assert ink() > 500
    lab_page.notebook.theme("JupyterLab Light")


# ---------------------------------------------------------------- reconstruction
def test_training_steps_move_by_keys(lab_page):
    before = lab_page.pixels(lab_page.guesses)
    lab_page.press(lab_page.guesses, "training step", "ArrowLeft", "ArrowLeft")
    lab_page.until_value("guesses.step.value", 0)
    lab_page.until_redrawn(lab_page.guesses, before)
    lab_page.guesses.get_by_text(lab_page.value("guesses.line.value")).wait_for()
    lab_page.press(lab_page.guesses, "training step", "ArrowRight", "ArrowRight")
    lab_page.until_value("guesses.step.value", 200)


def test_errors_and_weights_have_their_scale(lab_page):
    view = lab_page.control(lab_page.guesses, "show")
    for name in ("error", "weights"):
        view.select_option(name)
        lab_page.guesses.locator(".sc-slider", has_text=name).locator(".sc-strip").wait_for()
        lab_page.until_value("guesses.view.value", name)
    view.select_option("output")
    lab_page.guesses.locator(".sc-chip", has_text="hidden patches").wait_for()
    assert lab_page.guesses.get_by_label("hidden patches", exact=True).is_checked()
    assert not lab_page.guesses.get_by_label("visible patches", exact=True).is_checked()


# ---------------------------------------------------------------- ratio
def test_epochs_move_by_keys_and_curve_and_mask_follow(lab_page):
    picture = lab_page.curve.locator("img.widget-image")
    before, source = lab_page.pixels(lab_page.curve, "coronal"), picture.get_attribute("src")
    lab_page.press(lab_page.curve, "epoch", *["ArrowRight"] * 15)
    lab_page.until_value("curve.epoch.value", 16)
    lab_page.curve.get_by_text(re.compile(r"^epoch 16: 60 % = 29 of 48 patches hidden; the 2 lesion")).wait_for()
    lab_page.until_redrawn(lab_page.curve, before, "coronal")
    assert picture.get_attribute("src") != source
    assert picture.evaluate("(e) => e.complete && e.naturalWidth > 300")


def test_schedules_can_be_chosen(lab_page):
    lab_page.control(lab_page.curve, "schedule").select_option("cosine")
    lab_page.until_value("curve.schedule.value", "cosine")
    lab_page.curve.get_by_text(lab_page.value("curve.line.value")).wait_for()


# ---------------------------------------------------------------- all
def test_a_picture_stands_beside_each_widget(lab_page):
    for cell, name in enumerate(("MaskExplorer", "PatchClusterExplorer", "ReconstructionExplorer", "RatioCurve"), 1):
        outputs = lab_page.page.evaluate(
            "(n) => window.jupyterapp.shell.currentWidget.content.model.cells.get(n).toJSON().outputs[0].data", cell
        )
        assert {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"} <= set(outputs)
        assert outputs["text/plain"] == f"<{name}>"


def test_nothing_is_wider_than_a_narrow_window(lab_page):
    lab_page.page.set_viewport_size({"width": 620, "height": 3600})
    lab_page.page.wait_for_timeout(300)
    for area in (lab_page.masks, lab_page.clusters, lab_page.guesses, lab_page.curve):
        box = area.locator(".jupyter-widgets").first
        assert box.evaluate("(e) => e.scrollWidth <= e.clientWidth + 1"), box.inner_text()
    lab_page.page.set_viewport_size({"width": 1280, "height": 3600})


def test_the_scatter_without_a_kernel(browser, tmp_path):
    points = np.array([[0.0, 0], [1, 3], [2, 1], [3, 2]])
    styles = {0: ("cluster 0", "#004afa"), 1: ("<b>", "#c1e608")}
    from medssl_nb.viz.patches import PatchStyle

    styles = {k: PatchStyle(*style) for k, style in styles.items()}
    widget = PatchScatter(points, np.array([0, 1, -1, 1]), styles, squares=[1])
    path = tmp_path / "page.html"
    path.write_text(standalone_page(widget), encoding="utf-8")
    page = browser.new_page()
    thrown = []
    page.on("pageerror", lambda error: thrown.append(str(error)))
    page.goto(path.as_uri())
    page.locator(".patch-scatter").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")  # patch 2 is not clustered and has no point
    assert page.evaluate("() => document.getElementById('widget').model.state.selected") == 3
    assert page.locator(".ps-words").inner_text() == "patch 3: <b> · x 3, y 2"
    assert thrown == []
    page.close()
