"""Questions and what they look at: clicks, heads, and words that say the same as the pictures."""

import base64
import gzip
import math

import numpy as np
import pytest
import torch

from medssl_nb.methods.alice import CASA
from medssl_nb.viz.attention import agreements, as_attention, attention_png, even_shares, token_cube
from medssl_nb.widgets import AttentionExplorer

RNG = np.random.default_rng(0)
VOLUME = RNG.random((8, 8, 8)).astype(np.float32)
MASKED = VOLUME * (np.arange(8) < 4)[:, None, None]
GRIDS = {"query_grid": (2, 2, 2), "student_grid": (4, 4, 4)}


def _of_casa() -> list[torch.Tensor]:
    torch.manual_seed(0)
    casa = CASA(16, 32, num_heads=3, head_dim=8, dropout=0.0).eval()
    question, *contexts = 4 * torch.randn(1, 8, 16), 4 * torch.randn(1, 64, 16), 4 * torch.randn(1, 64, 16)
    with torch.no_grad():
        return [casa.attend(question, one, return_attention=True)[1][0] for one in contexts]


STUDENT, TEACHER = _of_casa()


def explorer(student=STUDENT, teacher=TEACHER, **options) -> AttentionExplorer:
    return AttentionExplorer(VOLUME, student, teacher, **{**GRIDS, "masked": MASKED, **options})


def codes(canvas, layer: str) -> np.ndarray:
    return np.frombuffer(gzip.decompress(getattr(canvas, f"{layer}_bytes")), np.uint8).reshape(VOLUME.shape)


# ---------------------------------------------------------------- what is shown
@pytest.mark.parametrize(("token", "head"), [((0, 0, 0), 0), ((1, 0, 1), 3)])
def test_both_maps_are_those_of_the_token_and_head(token, head):
    widget = explorer(token=token, head=head)
    assert (widget.token, widget.head) == (token, head)
    number = 4 * token[0] + 2 * token[1] + token[2]
    for found, given, canvas in zip(
        (widget.student_map, widget.teacher_map), (STUDENT, TEACHER), widget.canvases, strict=True
    ):
        row = given[:, number].mean(0) if head == 0 else given[head - 1, number]
        voxels = 64 * row.reshape(4, 4, 4).repeat_interleave(2, 0).repeat_interleave(2, 1).repeat_interleave(2, 2)
        np.testing.assert_allclose(found, voxels, rtol=1e-5)
        drawn = codes(canvas, "heat") > 0
        np.testing.assert_array_equal(drawn, voxels >= 1)
        np.testing.assert_array_equal(codes(canvas, "contour"), token_cube(token, (2, 2, 2), VOLUME.shape))
        assert canvas.heat_range == pytest.approx([1, max(widget.student_map.max(), widget.teacher_map.max())])


def test_the_student_saw_the_masked_volume():
    widget = explorer(window=(0, 2))
    np.testing.assert_array_equal(widget.canvases[0]._volume, MASKED)
    np.testing.assert_array_equal(widget.canvases[1]._volume, VOLUME)
    assert [canvas.title for canvas in widget.canvases] == ["student, on what it saw", "teacher, on the whole volume"]
    assert [canvas.window for canvas in widget.canvases] == [(0, 2)] * 2
    alone = explorer(masked=None)
    np.testing.assert_array_equal(alone.canvases[0]._volume, VOLUME)
    assert [canvas.title for canvas in alone.canvases] == ["student", "teacher"]
    assert explorer().canvases[0].window == alone.canvases[1].window  # greys of the whole, not of what is left


def test_numbers_by_the_functions_of_viz():
    widget = explorer(head=2, token=(0, 1, 1))
    pair = [as_attention(one, (2, 2, 2), (4, 4, 4), "a") for one in (STUDENT, TEACHER)]
    found = agreements(*pair, 2)
    assert widget.agreement == pytest.approx(found[3])
    assert widget.mean_agreement == pytest.approx(found.mean())
    expected = [torch.distributions.Categorical(one[1, 3].double()).entropy().item() for one in (STUDENT, TEACHER)]
    assert widget.entropy == pytest.approx(tuple(expected), rel=1e-5)
    np.testing.assert_array_equal(widget.teacher_map, even_shares(pair[1], 2, 3, VOLUME.shape))


def test_words_by_hand():
    student = np.full((1, 8, 64), 1 / 64)
    teacher = student.copy()
    student[0, 0], teacher[0, 0] = np.eye(64)[0], np.eye(64)[1]
    widget = explorer(student, teacher, token=(0, 0, 0), head=1)
    told = "token (0, 0, 0), head 1: the two maps correlate −0.02; entropy 0.00 and 0.00 of ln 64 = 4.16"
    assert widget.line.value == f"{told}; mean correlation of all 8 tokens −0.02"
    widget.token = (1, 1, 1)
    assert widget.agreement is None and widget.mean_agreement == pytest.approx(-1 / 63)
    told = "token (1, 1, 1), head 1: one of the two maps is even; entropy 4.16 and 4.16 of ln 64 = 4.16"
    assert widget.line.value.startswith(told)
    even = explorer(teacher[:, 1:2].repeat(8, axis=1), student)
    assert even.mean_agreement is None and "mean of heads: one of the two maps is even" in even.line.value
    assert "all 8 tokens" not in even.line.value


def test_the_teacher_may_have_a_grid_of_its_own():
    coarse = torch.tensor(RNG.dirichlet([0.5] * 8, size=(3, 8)))
    widget = explorer(teacher=coarse, teacher_grid=(2, 2, 2), token=(1, 1, 0))
    assert widget.teacher_map[7, 4, 3] == pytest.approx(8 * coarse[:, 6].mean(0)[6].item())
    corr = np.corrcoef(widget.student_map.ravel(), widget.teacher_map.ravel())[0, 1]
    assert widget.agreement == pytest.approx(corr)
    first, second = widget.entropy
    assert f"entropy {first:.2f} of ln 64 = 4.16, {second:.2f} of ln 8 = 2.08" in widget.line.value


# ---------------------------------------------------------------- what follows what
@pytest.mark.parametrize("which", [0, 1])
def test_a_click_in_either_canvas_asks(which):
    widget = explorer(token=(0, 0, 0))
    assert [canvas.crosshair for canvas in widget.canvases] == [(2, 2, 2)] * 2
    widget.canvases[which].set_state({"clicked": [7, 1, 4], "clicks": 1})  # as from the browser
    assert widget.token == (1, 0, 1)
    assert [canvas.crosshair for canvas in widget.canvases] == [(7, 1, 4)] * 2
    for canvas in widget.canvases:
        np.testing.assert_array_equal(codes(canvas, "contour"), token_cube((1, 0, 1), (2, 2, 2), VOLUME.shape))
    assert widget.line.value.startswith("token (1, 0, 1), mean of heads: ")


def test_a_token_from_python_is_brought_into_view_unless_it_is():
    widget = explorer()
    assert widget.token == (1, 1, 1)
    widget.token = (0, 1, 1)
    assert [canvas.crosshair for canvas in widget.canvases] == [(2, 6, 6)] * 2
    widget.canvases[0].crosshair = (1, 5, 7)
    widget.token = (0, 1, 1)
    assert widget.canvases[0].crosshair == (1, 5, 7)


def test_another_head_redraws_both():
    widget = explorer()
    assert widget.controls["head"].options == (("mean of 3 heads", 0), ("head 1", 1), ("head 2", 2), ("head 3", 3))
    before = [canvas.heat_bytes for canvas in widget.canvases] + [widget.line.value, widget.mean_agreement]
    widget.controls["head"].value = 3
    after = [canvas.heat_bytes for canvas in widget.canvases] + [widget.line.value, widget.mean_agreement]
    assert widget.head == 3 and all(one != other for one, other in zip(before, after, strict=True))
    np.testing.assert_allclose(widget.student_map[0, 0, 0], 64 * STUDENT[2, 7, 0], rtol=1e-6)


# ---------------------------------------------------------------- pictures
def test_the_picture_beside_the_widget_follows_and_is_pure():
    widget = explorer(title="a try", planes=["axial"])
    bundle, _ = widget._repr_mimebundle_()
    assert bundle["text/plain"] == "<AttentionExplorer>"
    first = base64.b64decode(bundle["image/png"])
    assert first == explorer(title="a try", planes=["axial"])._static_png()
    seen = {first}
    for name, value in (("token", (0, 0, 1)), ("head", 2)):
        setattr(widget, name, value)
        seen.add(widget._static_png())
    widget.canvases[0].opacity = 0.9
    assert len(seen | {widget._static_png()}) == 4


def test_the_picture_is_that_of_viz():
    widget = explorer(token=(0, 1, 0), head=1, spacing_mm=(1, 1, 2))
    look = {"token": (0, 1, 0), "head": 1, "spacing_mm": (1, 1, 2), "masked": MASKED}
    words = widget.line.value.replace("; mean", "\nmean")
    assert widget._static_png() == attention_png(VOLUME, STUDENT, TEACHER, **GRIDS, **look, title=words)


def test_names_are_shown_as_text():
    assert "&lt;i&gt;" in explorer(title="<i>").children[0].value


# ---------------------------------------------------------------- wrong arguments
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query_grid": (3, 2, 2)}, r"sides \(8, 8, 8\) must be multiples of query_grid"),
        ({"query_grid": (2, 2, 1)}, r"student_attention must be \(heads, 4, 64\)"),
        ({"student_grid": (3, 4, 4)}, "multiples of student_grid"),
        ({"teacher_grid": (8, 8, 1), "teacher": TEACHER[:2]}, "student_attention has 3 heads, teacher_attention 2"),
        ({"teacher": 2 * TEACHER}, "teacher_attention must be from 0 and sum to 1"),
        ({"masked": MASKED[:4]}, r"masked has shape \(4, 8, 8\), the volume \(8, 8, 8\)"),
        ({"token": (2, 0, 0)}, r"token is \(x, y, z\), whole numbers from 0 below \(2, 2, 2\); got \(2, 0, 0\)"),
        ({"head": 4}, "head is the head whose attention is shown.* one of 0, 1, 2, 3; got 4"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        explorer(**options)


def test_a_wrong_token_changes_nothing():
    widget = explorer(token=(0, 0, 0))
    with pytest.raises(ValueError, match="token is"):
        widget.token = (0, -1, 0)
    assert widget.token == (0, 0, 0) and math.isfinite(widget.agreement)
