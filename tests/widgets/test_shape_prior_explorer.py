"""Cluster 0 over a training: maps and Dice are the library's, every control does its part."""

import base64
import gzip
import math

import numpy as np
import pytest
import torch

from medssl_nb.methods.local_discrimination import dice_score, pseudo_labels
from medssl_nb.widgets import ShapePriorExplorer
from medssl_nb.widgets.step_curve import StepCurve

SHAPE = (8, 7, 6)
RANDOM = np.random.default_rng(0)
VOLUME = RANDOM.normal(size=SHAPE).astype(np.float32)
TRUTH = np.zeros(SHAPE, bool)
TRUTH[2:5, 2:5, 1:5] = True
BODY = np.zeros(SHAPE, bool)
BODY[1:7, 1:6] = True
MASKS = np.zeros((3, 1, 5, 6, 4), np.uint8)
for number in range(3):
    MASKS[number, 0, number : number + 2, 1:3, number] = 1
SCORES = [(0.5, None), (0.8, 0.2), (0.6, 0.4)]
STEPS = [
    {
        "step": step,
        "assignment": RANDOM.random(SHAPE, np.float32),
        "similarity": RANDOM.random(SHAPE, np.float32),
        "real_score": real,
        "fake_score": fake,
        "generator_loss": 0.7 + step / 100,
        "discriminator_loss": 0.7 - step / 100,
    }
    for step, (real, fake) in zip((0, 20, 60), SCORES, strict=True)
]


def explorer(volume=VOLUME, masks=MASKS, steps=STEPS, **options) -> ShapePriorExplorer:
    return ShapePriorExplorer(volume, masks, steps, **{"truth": TRUTH, **options})


def only(*names: str, steps=STEPS) -> list[dict]:
    return [{name: one[name] for name in ("step", "assignment", *names)} for one in steps]


def codes(canvas, layer: str) -> np.ndarray:
    return np.frombuffer(gzip.decompress(getattr(canvas, f"{layer}_bytes")), np.uint8).reshape(canvas.shape)


def tensors(step: dict) -> tuple:
    return torch.from_numpy(step["assignment"]), torch.from_numpy(step["similarity"])


# ---------------------------------------------------------------- maps
def test_maps_are_the_librarys():
    widget = explorer(step=20)
    a, s = tensors(STEPS[1])
    label, doubt = pseudo_labels(a, s)
    for word, expected in (("assignment", a), ("similarity", s), ("their mean", label), ("uncertainty", doubt)):
        widget.controls["map"].value = word
        np.testing.assert_array_equal(widget.values, expected.numpy())
        heat = expected.numpy()
        expected_codes = np.where(heat >= 0.02, 1 + np.round(254 * heat), 0)
        np.testing.assert_allclose(codes(widget.canvas, "heat"), expected_codes, atol=1)
        assert widget.canvas.heat_range == [0, 1]


def test_outside_the_body_nothing_is_shown_or_counted():
    widget = explorer(body=BODY, step=0)
    assert np.isnan(widget.values[~BODY]).all() and not np.isnan(widget.values[BODY]).any()
    assert (codes(widget.canvas, "heat")[~BODY] == 0).all()
    above = torch.from_numpy((STEPS[0]["assignment"] > 0.5) & BODY)
    assert widget.dice == pytest.approx(float(dice_score(above, torch.from_numpy(TRUTH))), abs=1e-12)
    share = (STEPS[0]["assignment"][BODY] > 0.5).mean()
    assert widget.line.value.endswith(f"; cluster 0 above 0.5 fills {100 * share:.0f} % of the body")


def test_heat_border_or_both():
    widget = explorer(step=60)
    inside = STEPS[2]["assignment"] > 0.5
    assert widget.canvas.label_bytes == b"" and widget.canvas.heat_bytes
    widget.controls["draw"].value = "border at 0.5"
    assert widget.canvas.heat_bytes == b""
    np.testing.assert_array_equal(codes(widget.canvas, "label"), inside)
    assert [(row["name"], row["colour"]) for row in widget.canvas.label_table] == [("assignment above 0.5", "#ff2a88")]
    assert widget.canvas.label_style == "outline"
    widget.draw = "both"
    assert widget.canvas.heat_bytes and widget.canvas.label_bytes
    widget.draw = "heat"
    assert widget.canvas.label_bytes == b""


def test_an_empty_cluster_is_shown_as_nothing():
    steps = [{"step": 0, "assignment": np.zeros(SHAPE), "similarity": np.zeros(SHAPE)}]
    widget = explorer(steps=steps, draw="both")
    assert widget.canvas.heat_bytes == widget.canvas.label_bytes == b""
    assert widget.line.value == "step 0: Dice 0.00; cluster 0 above 0.5 fills 0 % of the volume"
    assert widget._static_png().startswith(b"\x89PNG")


def test_the_truth_is_outlined():
    widget = explorer()
    np.testing.assert_array_equal(codes(widget.canvas, "contour"), TRUTH)
    assert [row["name"] for row in widget.canvas.contour_table] == ["truth"]
    assert explorer(truth=None).canvas.contour_bytes == b""


# ---------------------------------------------------------------- reference masks
def test_the_slider_goes_through_the_reference_masks():
    widget = explorer(spacing_mm=(1, 1, 2), mask_spacing_mm=(3, 3, 3))
    for number in (0, 2, 1):
        widget.controls["mask"].value = number
        canvas = widget.mask_canvas
        values = np.array(canvas.levels)[codes(canvas, "volume")]
        np.testing.assert_array_equal(values, MASKS[number, 0])
        assert MASKS[number, 0, :, :, canvas.crosshair[2]].any()
        assert widget.mask_line.value == f"mask {number} (of 0 to 2) fills 3.3 % of its volume"
        assert canvas.window == (0, 1) and canvas.spacing == [3, 3, 3]
    assert explorer(spacing_mm=(1, 1, 2)).mask_canvas.spacing == [1, 1, 2]
    assert explorer(masks=torch.from_numpy(MASKS[:1]).bool()).mask_line.value == "mask 0 fills 3.3 % of its volume"


# ---------------------------------------------------------------- steps, curve, words
def test_the_curve_and_the_slider_move_each_other():
    widget = explorer()
    assert widget.step == 60 and widget.plot.index == 2
    widget.plot.index = 1
    assert widget.step == 20
    np.testing.assert_array_equal(widget.values, STEPS[1]["assignment"])
    widget.step = 0
    assert widget.plot.index == 0


def test_curves_are_those_that_the_steps_have():
    widget = explorer()
    assert widget.controls["curve"].options == ("scores", "losses", "Dice")
    real, fake = widget.plot.plot["lines"]
    assert (real["name"], real["values"]) == ("real masks", [0.5, 0.8, 0.6])
    assert (fake["name"], fake["values"]) == ("cluster 0", [None, 0.2, 0.4])
    assert (widget.plot.plot["level"], widget.plot.plot["top"]) == (0.5, 1)
    widget.controls["curve"].value = "losses"
    assert widget.plot.plot["level"] == pytest.approx(math.log(2))
    assert widget.plot.plot["top"] == pytest.approx(1.05 * 1.3)
    assert {line["name"] for line in widget.plot.plot["lines"]} == {"generator", "discriminator"}
    widget.curve = "Dice"
    assert widget.plot.plot["lines"][0]["values"] == pytest.approx(
        [float(dice_score(tensors(one)[0] > 0.5, torch.from_numpy(TRUTH))) for one in STEPS]
    )
    assert explorer(steps=only("generator_loss"), truth=None).controls["curve"].options == ("losses",)


def test_without_numbers_there_is_no_curve():
    widget = explorer(steps=only(), truth=None)
    assert widget.plot is None and widget.dice is None
    widget.step = 20
    np.testing.assert_array_equal(widget.values, STEPS[1]["assignment"])
    assert widget.line.value.startswith("step 20: cluster 0 above 0.5 fills ")
    assert widget._static_png().startswith(b"\x89PNG")


def test_dice_as_given_where_there_is_no_truth():
    steps = [{**one, "dice": dice} for one, dice in zip(only("similarity"), (0.1, None, 0.3), strict=True)]
    widget = explorer(steps=steps, truth=None)
    assert widget.dice == 0.3 and "; Dice" not in widget.line.value and "Dice 0.30" in widget.line.value
    assert widget.plot.plot["lines"][0]["values"] == [0.1, None, 0.3]
    widget.map = "similarity"
    assert widget.dice is None
    assert explorer(steps=steps).dice != 0.3


def test_words_by_hand():
    half = np.zeros((4, 1, 1))
    half[:2] = 0.8
    truth = np.zeros((4, 1, 1), bool)
    truth[1:2] = True
    steps = [
        {"step": 7, "assignment": half, "similarity": half[::-1], "real_score": 0.71, "fake_score": 0.33},
        {"step": 9, "assignment": half, "similarity": half, "real_score": 0.7, "generator_loss": 1.1},
    ]
    widget = ShapePriorExplorer(half, MASKS, steps, truth=truth, step=7)
    fills = "cluster 0 above 0.5 fills 50 % of the volume"
    given = "the discriminator gives real masks 0.71, cluster 0 0.33"
    assert widget.line.value == f"step 7: {given}; Dice 0.67; {fills}"
    widget.map = "similarity"
    assert widget.line.value == f"step 7: {given}; Dice of similarity 0.00; {fills}"
    widget.map = "uncertainty"
    doubt = -0.4 * math.log2(0.4) - 0.6 * math.log2(0.6)
    assert widget.line.value == f"step 7: {given}; mean uncertainty {doubt:.2f} bits; {fills}"
    widget.map, widget.step = "assignment", 9
    assert widget.line.value == f"step 9: the discriminator gives real masks 0.70; Dice 0.67; {fills}"
    widget.curve = "losses"
    assert widget.line.value == f"step 9: loss of the generator 1.100; Dice 0.67; {fills}"
    widget.step = 7
    assert widget.line.value == f"step 7: Dice 0.67; {fills}"


def test_without_similarity_there_is_one_map():
    widget = explorer(steps=only())
    assert widget.controls["map"].options == ("assignment",)
    with pytest.raises(ValueError, match=r"map is .*without similarity only its assignment.*: one of 'assignment'"):
        widget.map = "uncertainty"


# ---------------------------------------------------------------- picture
def test_the_picture_is_pure_and_follows():
    widget = explorer(body=BODY, title="vessels")
    pictures = [widget._static_png()]
    assert widget._static_png() == pictures[0]
    moves = {"step": 20, "mask": 1, "map": "uncertainty", "draw": "both", "curve": "losses"}
    for name, value in moves.items():
        setattr(widget, name, value)
        pictures.append(widget._static_png())
    assert len(set(pictures)) == 6
    data, _ = widget._repr_mimebundle_()
    assert data["text/plain"] == "<ShapePriorExplorer>" and base64.b64decode(data["image/png"]) == pictures[-1]


def test_the_curve_alone():
    curve = explorer().plot
    assert isinstance(curve, StepCurve) and curve._static_png() == curve.picture() != curve.picture("a line")
    with pytest.raises(ValueError, match="index counts the 3 steps from 0, got 3"):
        curve.index = 3


# ---------------------------------------------------------------- what is refused
def test_steps_must_be_whole():
    first, second = STEPS[0], STEPS[1]
    for steps, message in (
        ([], "steps is empty: give at least one dictionary with step and assignment"),
        ([{"step": 1}], "a step lacks assignment; it has step"),
        ([{**first, "score": 1}], "a step may hold step, .*dice; got score too"),
        ([second, first], r"steps must rise from one to the next, got \[20, 0\]"),
        ([first, {**second, "similarity": None}], "similarity; give it for all|some steps have a similarity"),
        ([{**first, "assignment": None}], r"step 0 has no assignment"),
        (
            [{**first, "assignment": VOLUME[:4] * 0}],
            r"assignment of step 0 has shape \(4, 7, 6\), the volume \(8, 7, 6\)",
        ),
        ([{**first, "similarity": 3 * VOLUME}], "similarity of step 0 must lie from 0 to 1, got .*segment_target"),
        ([{**first, "assignment": VOLUME * np.nan}], "assignment of step 0 has 336 voxel.* NaN"),
        ([{**first, "real_score": 1.5}], r"real_score of step 0 is a mean from 0 to 1 \(of sigmoids.*got 1\.5"),
        ([{**first, "generator_loss": float("nan")}], "generator_loss of step 0 is a loss, 0 or more, None where"),
    ):
        with pytest.raises(ValueError, match=message):
            explorer(steps=steps)


def test_masks_truth_and_body():
    for masks, message in (
        (MASKS[:, 0], r"masks must be \(n, 1, X, Y, Z\), n from 1; got \(3, 5, 6, 4\)\. Of one mask"),
        (MASKS[:0], r"n from 1; got \(0, 1"),
        (MASKS * 0.5, r"masks hold 0 and 1, got 0 to 0\.5; cut them first"),
        (MASKS * [[[[[1]]]], [[[[0]]]], [[[[1]]]]], r"masks \[1\] are empty"),
    ):
        with pytest.raises(ValueError, match=message):
            explorer(masks=masks)
    with pytest.raises(ValueError, match="truth has shape"):
        explorer(truth=TRUTH[:4])
    with pytest.raises(ValueError, match="body is empty: no voxel counts"):
        explorer(body=BODY & False)


def test_settings_outside_their_range():
    for name, value in (("step", 10), ("map", "mean"), ("draw", "line"), ("curve", "area")):
        with pytest.raises(ValueError, match=f"{name} is .*: one of .*; got {value!r}"):
            explorer(**{name: value})
    with pytest.raises(ValueError, match="mask is the number of a reference mask, from 0 to 2; got 3"):
        explorer(mask=3)
    with pytest.raises(ValueError, match="no curve 'scores': the steps hold neither"):
        explorer(steps=only(), truth=None, curve="scores")
