"""The reconstruction explorer shows the model's guess where patches are hidden, and the truth elsewhere."""

import base64

import numpy as np
import pytest
import torch

from medssl_nb.networks.patches import patchify
from medssl_nb.viz import patch_map
from medssl_nb.widgets import ReconstructionExplorer

GRID, PATCH = (3, 4, 2), 4
VOLUME = np.random.default_rng(0).random((12, 16, 8)).astype(np.float32)
TRUE = np.isin(np.arange(24), [1, 2])
TRUTH = patch_map(TRUE, GRID, PATCH)


def step(number: int, **change) -> dict:
    """A step whose guess is the number of the step, whose error is the number of the patch."""
    mask = (np.arange(24) + number) % 3 == 0
    errors = torch.arange(24.0)
    made = {"step": number, "mask": mask, "prediction": torch.full((24, 64), float(number)), "errors": errors}
    return {**made, "weights": torch.from_numpy(mask) * errors / 10, **change}


def explorer(steps=None, **options) -> ReconstructionExplorer:
    steps = [step(0), step(5), step(10)] if steps is None else steps
    return ReconstructionExplorer(VOLUME, steps, **{"patch_size": PATCH, "truth": TRUTH, **options})


def hidden(number: int) -> np.ndarray:
    return patch_map(step(number)["mask"], GRID, PATCH)


def test_each_view_shows_what_it_says():
    widget = explorer()
    assert widget.step.value == 10 and widget.view.value == "output"
    np.testing.assert_array_equal(widget.canvas._volume, np.where(hidden(10), np.float32(10), VOLUME))
    widget.step.value = 5
    np.testing.assert_array_equal(widget.canvas._volume, np.where(hidden(5), np.float32(5), VOLUME))
    widget.view.value = "masked input"
    middle = np.float32(sum(widget.canvas.window) / 2)
    np.testing.assert_array_equal(widget.canvas._volume, np.where(hidden(5), middle, VOLUME))
    widget.view.value = "input"
    np.testing.assert_array_equal(widget.canvas._volume, VOLUME)
    assert widget.canvas.heat_bytes == b""
    for view, scores in (("error", np.arange(24.0)), ("weights", np.arange(24) / 10)):
        widget.view.value = view
        expected = np.where(hidden(5), patch_map(scores, GRID, PATCH), np.nan)
        np.testing.assert_allclose(widget.canvas._heat, expected, rtol=1e-6)
        assert widget.canvas.heat_name == view
        np.testing.assert_array_equal(widget.canvas._volume, VOLUME)
    widget.view.value = "output"
    assert widget.canvas.heat_bytes == b""


def test_a_prediction_comes_in_the_order_of_patchify():
    truth = torch.from_numpy(VOLUME)[None, None]
    everything = {"mask": np.ones(24, bool), "prediction": 2 * patchify(truth, PATCH)}
    widget = explorer([step(1, **everything)])
    np.testing.assert_array_equal(widget.canvas._volume, 2 * VOLUME)


def test_window_and_crosshair_stay_while_training_goes_on():
    widget = explorer(spacing_mm=(1, 2, 3))
    window = widget.canvas.window
    widget.canvas.crosshair = (1, 2, 3)
    widget.step.value = 0
    widget.view.value = "masked input"
    assert widget.canvas.window == window == tuple(np.percentile(VOLUME, [0.5, 99.5]))
    assert widget.canvas.crosshair == (1, 2, 3)
    assert widget.canvas.spacing == [1, 2, 3]


def test_colours_of_errors_mean_the_same_at_every_step():
    widget = explorer(view="error")
    ranges = []
    for number in (0, 5, 10):
        widget.step.value = number
        ranges.append(tuple(widget.canvas.heat_range))
    pooled = np.concatenate([np.arange(24)[step(number)["mask"]] for number in (0, 5, 10)])
    assert set(ranges) == {(0, np.percentile(pooled, 98))}


def test_mean_errors_of_hidden_patches_in_words():
    widget = explorer()
    other = np.setdiff1d(np.arange(24)[step(10)["mask"]], [1, 2])
    assert widget.line.value == f"hidden patches: mean error lesion 2, other {other.mean():.3g}"
    widget.step.value = 0  # neither patch 1 nor 2 is hidden
    assert widget.line.value.startswith("hidden patches: mean error lesion –, other")
    everywhere = np.arange(24)[step(10)["mask"]].mean()
    assert explorer(truth=None).line.value == f"hidden patches: mean error {everywhere:.3g}"


def test_hidden_patches_are_outlined_where_nothing_else_shows_them():
    canvas = (widget := explorer()).canvas
    assert canvas.label_style == "outline" and canvas.visible_labels == (1,)
    assert [row["name"] for row in canvas.label_table] == ["hidden patches", "visible patches"]
    canvas.crosshair = (0, 0, 0)
    assert canvas.value_at_crosshair.label == "visible patches"
    assert "labels" in canvas.controls
    widget.view.value = "error"
    assert canvas.label_table == [] and "overlay" in canvas.controls
    widget.view.value = "output"
    canvas.visible_labels = []
    widget.step.value = 5
    assert canvas.visible_labels == ()


def test_weights_may_be_left_out():
    steps = [{name: value for name, value in step(number).items() if name != "weights"} for number in (1, 2)]
    assert explorer(steps).view.options == ("input", "masked input", "output", "error")


def test_the_picture_beside_the_widget_follows_and_is_pure():
    widget = explorer()
    bundle, _ = widget._repr_mimebundle_()
    assert bundle["text/plain"] == "<ReconstructionExplorer>"
    first = base64.b64decode(bundle["image/png"])
    assert first == widget._static_png() == explorer()._static_png()
    pictures = {first}
    for view in ("input", "masked input", "error", "weights"):
        widget.view.value = view
        pictures.add(widget._static_png())
    assert len(pictures) == 5
    widget.view.value = "output"
    assert widget._static_png() == first


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "steps is empty"),
        ([{"step": 1, "mask": np.ones(24, bool)}], "a step lacks prediction, errors; it has step, mask"),
        ([step(5), step(5)], r"steps must rise from one to the next, got \[5, 5\]"),
        ([step(1), step(2, weights=None)], "some steps have weights and some have not"),
        ([step(1, mask=np.zeros(24, bool))], "step 1 hides no patch"),
        ([step(1, mask=np.ones(23, bool))], "mask holds one value for each of 24"),
        ([step(1, mask=np.ones(24))], "mask says True or False"),
        ([step(1, errors=np.ones((2, 24)))], "errors holds one value for each of 24"),
        ([step(1, errors=np.full(24, np.nan))], "errors of step 1 hold NaN"),
        ([step(1, prediction=torch.zeros(24, 63))], r"need patches \(B, 24, 64\)"),
        ([step(1, prediction=torch.full((24, 64), torch.nan))], "prediction of step 1 holds NaN"),
    ],
)
def test_wrong_steps_are_refused(steps, message):
    with pytest.raises(ValueError, match=message):
        explorer(steps)


def test_an_unknown_view_is_refused():
    with pytest.raises(ValueError, match=r"view is one of 'input'.*'weights', got 'target'"):
        explorer(view="target")
