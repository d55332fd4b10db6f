"""The teacher's distributions over training: numbers of the library, words and pictures that say the same."""

import base64
import math

import numpy as np
import pytest
import torch

from medssl_nb.methods.alice import teacher_distribution
from medssl_nb.viz.distillation import entropy, share_codes, spread_of
from medssl_nb.widgets import DistillationExplorer, standalone_fragment
from medssl_nb.widgets.distribution_map import DistributionMap
from medssl_nb.widgets.step_curve import StepCurve

GENERATOR = torch.Generator().manual_seed(0)
SAMPLES, OUTPUTS = 6, 8


def record(step: int, **changes) -> dict:
    teacher, student = 0.1 * torch.randn(2, SAMPLES, OUTPUTS, generator=GENERATOR)
    center = 0.05 * torch.randn(1, OUTPUTS, generator=GENERATOR)
    return {"step": step, "teacher": teacher, "student": student, "center": center, "loss": 2 - step / 100, **changes}


APART = [record(step) for step in (0, 10, 40)]
WINNER = [record(step, center=np.zeros(OUTPUTS)) for step in (0, 5, 12, 20, 60)]
WINNER[-1]["teacher"] = np.tile(np.eye(OUTPUTS)[3], (SAMPLES, 1))
RUNS = {"apart": APART, "one winner": WINNER}


def explorer(runs=RUNS, **options) -> DistillationExplorer:
    return DistillationExplorer(runs, **options)


# ---------------------------------------------------------------- numbers
@pytest.mark.parametrize(("temperature", "centred"), [(0.01, True), (0.01, False), (0.3, True), (0.002, True)])
def test_distributions_are_the_librarys(temperature, centred):
    widget = explorer(step=10, teacher_temperature=temperature, centred=centred)
    one = APART[1]
    center = one["center"] if centred else torch.zeros(1, OUTPUTS)
    expected = teacher_distribution(one["teacher"].double(), center.double(), temperature)
    np.testing.assert_allclose(widget.probabilities, expected, rtol=1e-12)
    np.testing.assert_allclose(widget.student_probabilities, (one["student"].double() / 0.1).softmax(1), rtol=1e-12)
    np.testing.assert_allclose(widget.map.teacher, expected, rtol=1e-12)
    found = (widget.entropy, widget.entropy_of_mean, widget.winners, widget.largest)
    assert found == pytest.approx(tuple(spread_of(expected)))


def test_the_student_has_its_own_temperature():
    widget = explorer(student_temperature=1.0, step=0)
    np.testing.assert_allclose(widget.student_probabilities, APART[0]["student"].double().softmax(1), rtol=1e-12)


def test_curves_of_all_runs():
    widget = explorer(teacher_temperature=0.05)
    curves = widget.curves
    assert list(curves) == ["apart", "one winner"]
    for name, records in RUNS.items():
        assert curves[name].steps.tolist() == [one["step"] for one in records]
        for k, one in enumerate(records):
            logits, center = (torch.as_tensor(one[key]).double() for key in ("teacher", "center"))
            rows = teacher_distribution(logits, center, 0.05)
            expected = (entropy(rows.numpy()).mean(), entropy(rows.mean(0).numpy()))
            assert (curves[name].entropy[k], curves[name].entropy_of_mean[k]) == pytest.approx(expected)
    widget.centred = False
    assert not np.allclose(widget.curves["apart"].entropy, curves["apart"].entropy)


def test_one_winner_by_hand():
    widget = explorer(run="one winner", teacher_temperature=0.1)  # the last step: logits 1 for output 3, else 0
    share = math.exp(10) / (math.exp(10) + 7)
    assert widget.largest == pytest.approx(share) and widget.winners == 1
    own = -share * math.log(share) - (1 - share) * math.log((1 - share) / 7)
    assert widget.entropy == pytest.approx(own) == pytest.approx(widget.entropy_of_mean)
    told = "one winner, step 60: teacher entropy 0.00 of ln 8 = 2.08; 1 different winner among 6 samples"
    assert widget.line.value == f"{told}; the most used output takes 100 %; loss 1.40"


def test_even_at_the_highest_temperature():
    zeros = [record(0, teacher=np.zeros((SAMPLES, OUTPUTS)), center=np.zeros(OUTPUTS))]
    widget = explorer({"even": zeros}, teacher_temperature=1)
    assert widget.entropy == pytest.approx(math.log(8)) == pytest.approx(widget.entropy_of_mean)
    assert "; 1 different winner among 6 samples; the most used output takes 12 %" in widget.line.value


# ---------------------------------------------------------------- what follows what
def test_the_slider_moves_all_pictures():
    widget = explorer()
    assert (widget.step, widget.curve.index, widget.run) == (40, 2, "apart")
    before = widget.map.code_bytes
    widget.controls["step"].value = 0
    assert widget.curve.index == 0 and widget.map.code_bytes != before
    assert widget.line.value.startswith("apart, step 0: ") and widget.line.value.endswith("; loss 2.00")
    widget.curve.set_state({"index": 1})  # as from the browser
    assert widget.step == 10
    np.testing.assert_array_equal(widget.map.teacher, widget.probabilities)


def test_a_sample_is_chosen_in_the_map_and_by_the_slider():
    widget = explorer(sample=2)
    assert widget.map.sample == 2
    widget.map.set_state({"sample": 5})
    assert widget.sample == 5 == widget.controls["sample"].value
    widget.sample = 1
    assert widget.map.sample == 1


def test_temperature_and_centre_are_followed():
    widget = explorer()
    for name, value in (("temperature", 0.2), ("centred", False), ("temperature", 0.002)):
        before = (widget.map.teacher_bytes, widget.line.value, widget.curve.plot["lines"][0]["values"])
        setattr(widget, name, value)
        after = (widget.map.teacher_bytes, widget.line.value, widget.curve.plot["lines"][0]["values"])
        assert all(one != other for one, other in zip(before, after, strict=True))
        assert getattr(widget, name) == value
    assert not explorer(centred=False).controls["centred"].value


def test_another_run_has_its_own_steps_and_starts_at_the_nearest():
    widget = explorer(step=10)
    widget.run = "one winner"
    assert widget.controls["step"].options == (0, 5, 12, 20, 60)
    assert (widget.step, widget.curve.index, widget.curve.steps) == (12, 2, [0, 5, 12, 20, 60])
    np.testing.assert_allclose(widget.curve.plot["lines"][1]["values"], widget.curves["one winner"].entropy_of_mean)
    widget.step = 60
    widget.controls["run"].value = "apart"
    assert (widget.step, widget.curve.index, widget.curve.steps) == (40, 2, [0, 10, 40])
    np.testing.assert_array_equal(widget.map.teacher, widget.probabilities)


def test_runs_have_one_scale_and_the_line_of_an_even_distribution():
    widget = explorer({"a": [record(0, loss=7)], "b": [record(0)]})
    tops = {name: (setattr(widget, "run", name), widget.curve.plot["top"])[1] for name in ("a", "b")}
    assert tops == pytest.approx({"a": 7.35, "b": 7.35})
    assert widget.curve.plot["level"] == pytest.approx(math.log(8))
    assert widget.curve.plot["level_name"] == "even: ln 8 = 2.08"


def test_losses_may_be_left_out_or_not_finite():
    without = [{key: value for key, value in one.items() if key != "loss"} for one in APART]
    widget = explorer({"a": without})
    assert len(widget.curve.plot["lines"]) == 2 and "loss" not in widget.line.value
    widget = explorer({"a": [record(0, loss=1.0), record(1, loss=math.inf)]})
    assert widget.curve.plot["lines"][2]["values"] == [1.0, None] and "loss" not in widget.line.value


# ---------------------------------------------------------------- pictures
def test_the_map_holds_what_it_shows():
    widget = explorer()
    shares = np.frombuffer(widget.map.teacher_bytes, np.float32).reshape(SAMPLES, OUTPUTS)
    np.testing.assert_allclose(shares, widget.probabilities, rtol=1e-6)
    student = np.frombuffer(widget.map.student_bytes, np.float32).reshape(SAMPLES, OUTPUTS)
    np.testing.assert_allclose(student, widget.student_probabilities, rtol=1e-6)
    codes = np.frombuffer(widget.map.code_bytes, np.uint8).reshape(SAMPLES + 1, OUTPUTS)
    np.testing.assert_array_equal(codes[:-1], share_codes(widget.probabilities))
    np.testing.assert_array_equal(codes[-1], share_codes(widget.probabilities.mean(0, keepdims=True))[0])


def test_the_picture_beside_the_widget_follows_and_is_pure():
    widget = explorer(title="a try")
    bundle, _ = widget._repr_mimebundle_()
    assert bundle["text/plain"] == "<DistillationExplorer>"
    first = base64.b64decode(bundle["image/png"])
    assert first == widget._static_png() == explorer(title="a try")._static_png() != explorer()._static_png()
    seen = {first}
    for name, value in (("step", 0), ("sample", 3), ("temperature", 0.1), ("centred", False), ("run", "one winner")):
        setattr(widget, name, value)
        seen.add(widget._static_png())
    assert len(seen) == 6


def test_the_map_runs_without_a_kernel():
    assert "distribution-map" in standalone_fragment(DistributionMap(np.eye(3), np.eye(3), sample=1))
    assert DistributionMap(np.eye(3), np.eye(3))._static_png().startswith(b"\x89PNG")


def test_names_are_shown_as_text():
    widget = explorer({"<b>": APART}, title="<i>")
    assert "&lt;b&gt;" in widget.line.value and "&lt;i&gt;" in widget.children[0].value


# ---------------------------------------------------------------- wrong arguments
def one(**changes) -> dict:
    return {"runs": {"a": [record(0), record(5, **changes)]}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runs": {}}, "runs is a dictionary {name of a setting: records} of one or more, got none"),
        ({"runs": APART}, "runs is a dictionary .* got list"),
        ({"runs": {"a": []}}, "run 'a' has no records"),
        ({"runs": {"a": [{"step": 0, "teacher": 1}]}}, "run 'a' lacks student, center; it has step, teacher"),
        ({"runs": {"a": APART[::-1]}}, r"steps of run 'a' must rise .* got \[40, 10, 0\]; sort them"),
        (one(teacher=torch.zeros(5, OUTPUTS)), r"teacher of run 'a' must be \(M, D\) logits of the same M samples"),
        (one(student=torch.zeros(OUTPUTS)), "student of run 'a' must be"),
        (one(center=torch.zeros(3)), r"center of run 'a' has \[8, 3\] values, the teacher 8 outputs"),
        (one(teacher=torch.full((SAMPLES, OUTPUTS), torch.nan)), "teacher of run 'a' holds NaN .* diverged; show the"),
        (one(center=torch.full((OUTPUTS,), torch.inf)), "center of run 'a' holds NaN or infinity"),
        (
            {"runs": {"a": [record(0, student=torch.zeros(SAMPLES, 3))]}},
            r"student of run 'a' has shape \(6, 3\), the teacher \(6, 8\)",
        ),
        (
            {"runs": {"a": APART, "b": [record(0, teacher=np.eye(8), student=np.eye(8))]}},
            r"all runs need the same samples and outputs, got .*\(6, 8\).*\(8, 8\)",
        ),
        ({"student_temperature": 0}, "student_temperature must be above 0, got 0"),
        ({"teacher_temperature": 2}, "teacher's temperature runs from 0.002 to 1, got 2"),
        ({"run": "b"}, "run is the training that is shown: one of 'apart', 'one winner'; got 'b'"),
        ({"step": 3}, "step is the step of training that is shown: one of 0, 10, 40; got 3"),
        ({"sample": 6}, "there are 6 samples, counted from 0; got sample 6"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        explorer(**options)


def test_a_wrong_setting_changes_nothing():
    widget = explorer()
    for name, value in (("temperature", 0.001), ("sample", 1.5), ("sample", -1), ("step", 5)):
        before = getattr(widget, name)
        with pytest.raises(ValueError, match="got"):
            setattr(widget, name, value)
        assert getattr(widget, name) == before


def test_a_sample_outside_the_map_is_refused():
    with pytest.raises(ValueError, match="there are 3 samples, counted from 0; got sample 3"):
        DistributionMap(np.eye(3), np.eye(3), sample=3)


def test_a_curve_goes_over_to_other_steps():
    widget = explorer(run="one winner")
    curve = StepCurve(list(range(5)), widget._plot(), index=4)
    explorer_of_three = explorer()
    curve.show(explorer_of_three._plot(), [0, 10, 40], 1)
    assert (curve.steps, curve.index) == ([0, 10, 40], 1)
    with pytest.raises(ValueError, match="index counts the 3 steps from 0, got 4"):
        curve.index = 4
