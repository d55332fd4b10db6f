"""The joint matrix, broken and sharpened: numbers and heat are the library's, and every control does its part."""

import base64
import gzip
import math

import numpy as np
import pytest
import torch

from medssl_nb.methods.boundary_infomax import iic_loss, joint_probability, mutual_information, regularized_mi_loss
from medssl_nb.viz import joint_matrix_png
from medssl_nb.widgets import JointMatrixExplorer
from medssl_nb.widgets.matrix_canvas import MatrixCanvas

CLUSTERS, SHAPE = 5, (6, 7, 4)
GENERATOR = torch.Generator().manual_seed(0)
COMMON = 2 * torch.randn(CLUSTERS, *SHAPE, generator=GENERATOR)
A, B = ((COMMON + torch.randn(COMMON.shape, generator=GENERATOR)).softmax(dim=0) for _ in range(2))
VOLUME = COMMON.argmax(dim=0).float()


def explorer(a=A, b=B, **options) -> JointMatrixExplorer:
    return JointMatrixExplorer(a, b, **{"volume": VOLUME, **options})


def plain_joint(a=A, b=B):
    return joint_probability(a[None], b[None], symmetric=False)


def heat_codes(widget) -> np.ndarray:
    return np.frombuffer(gzip.decompress(widget.canvas.heat_bytes), np.uint8).reshape(SHAPE)


# ---------------------------------------------------------------- numbers
def test_the_joint_is_the_librarys_and_a_cell_counts_voxels():
    widget = explorer()
    assert torch.equal(widget.joint, plain_joint())
    for given in (A.numpy(), A[None], A.double()):
        torch.testing.assert_close(explorer(given).joint, plain_joint(), check_dtype=False)
    one_hot = [torch.nn.functional.one_hot(x.argmax(dim=0), CLUSTERS).movedim(-1, 0).float() for x in (A, B)]
    both = (A.argmax(dim=0) == 3) & (B.argmax(dim=0) == 2)
    assert explorer(*one_hot).joint[3, 2] == pytest.approx(both.double().mean().item(), abs=1e-7)


def test_numbers_are_the_librarys_and_follow_alpha_and_lambda():
    widget = explorer(alpha=0.25, marginal_weight=1.5)
    for alpha, weight in ((0.25, 1.5), (1, 1.5), (1, 0)):
        widget.alpha, widget.marginal_weight = alpha, weight
        assert widget.numbers == {
            "mutual_information": float(mutual_information(plain_joint())),
            "iic_loss": float(iic_loss(plain_joint(), marginal_weight=weight)),
            "regularized_mi_loss": float(regularized_mi_loss(plain_joint(), alpha=alpha, marginal_weight=weight)),
            "trace": float(plain_joint().trace()),
        }


@pytest.mark.parametrize("sharpness", [0.1, 0.5, 1, 2.5, 4])
def test_sharpness_multiplies_log_probabilities(sharpness):
    widget = explorer(sharpness=sharpness)
    sharp = [(sharpness * x.double().log()).softmax(dim=0) for x in (A, B)]
    torch.testing.assert_close(widget.joint.double(), plain_joint(*sharp), rtol=1e-5, atol=1e-7)
    widget.sharpness = 1
    assert torch.equal(widget.joint, plain_joint())


def test_a_probability_of_zero_stays_zero():
    sure = torch.zeros_like(A)
    sure[1] = 1
    widget = explorer(sure, sure, sharpness=0.1)
    assert widget.joint[1, 1] == 1 and widget.joint.sum() == 1


def test_permuted_names_move_no_information_and_the_trace():
    widget = explorer()
    before = widget.numbers
    widget.broken = "names of view B permuted"
    torch.testing.assert_close(widget.joint, plain_joint().flip(1))
    assert widget.numbers["mutual_information"] == pytest.approx(before["mutual_information"], abs=1e-6)
    assert widget.numbers["iic_loss"] == pytest.approx(before["iic_loss"], abs=1e-6)
    assert widget.numbers["regularized_mi_loss"] > before["regularized_mi_loss"] + 0.1
    assert widget.numbers["trace"] < before["trace"] / 2


def test_one_cluster_and_uniform():
    widget = explorer(broken="everything in one cluster")
    assert widget.joint[0, 0] == 1 and widget.joint.sum() == 1
    assert widget.numbers["mutual_information"] == 0 and widget.numbers["trace"] == 1
    widget.broken = "uniform"
    torch.testing.assert_close(widget.joint, torch.full((CLUSTERS, CLUSTERS), 1 / CLUSTERS**2))
    assert widget.numbers["mutual_information"] == pytest.approx(0, abs=1e-5)
    widget.broken = "as it is"
    assert torch.equal(widget.joint, plain_joint())


def test_the_lines_in_words():
    clusters = torch.zeros(2, 2, 2, 1)
    clusters[0, 0], clusters[1, 1] = 1, 1  # half of the voxels in either cluster
    widget = JointMatrixExplorer(clusters, clusters, alpha=1)
    assert widget.line.value == (
        "MI 0.693 of at most 0.693 (log 2) · IIC loss −0.693 · regularised loss −0.693 · same cluster in both views: "
        "100 % of voxels (trace of P)"
    )
    assert widget.cell_line.value == "no cell chosen"
    widget.cell = (1, 1)
    assert widget.cell_line.value == "P[1, 1] = 0.5: 50 % of voxels are in cluster 1 in view A and 1 in view B"
    widget.broken = "names of view B permuted"
    assert widget.cell_line.value.startswith("P[1, 1] = 0: 0 % of voxels")
    assert "same cluster in both views: 0 % of voxels" in widget.line.value


# ---------------------------------------------------------------- cells
def test_a_cell_lays_its_product_over_the_slices_and_goes_there():
    widget = explorer()
    assert widget.cell is None and widget.heat is None and widget.canvas.heat_bytes == b""
    widget.cell = (3, 1)
    expected = (A[3] * B[1]).numpy()
    np.testing.assert_array_equal(widget.heat, expected)
    assert widget.heat.mean() == pytest.approx(float(widget.joint[3, 1]), rel=1e-5)
    assert expected[widget.canvas.crosshair] >= 0.95 * expected.max()
    top = max(expected.max(), 1 / CLUSTERS)
    assert widget.canvas.heat_range == [0, pytest.approx(top)] and widget.canvas.heat_name == "a3·b1"
    codes = heat_codes(widget)
    np.testing.assert_array_equal(codes > 0, expected >= 0.02 * top)
    np.testing.assert_array_equal(codes[codes > 0], (1 + np.round(254 * expected / top))[codes > 0])


def test_a_click_in_the_browser_does_the_same_and_escape_takes_it_away():
    widget, other = explorer(), explorer(cell=(0, 2))
    widget.matrix.set_state({"cell": [0, 2]})  # as from the browser
    assert widget.cell == other.cell == (0, 2)
    assert widget.canvas.heat_bytes == other.canvas.heat_bytes != b""
    assert widget.canvas.crosshair == other.canvas.crosshair
    widget.matrix.set_state({"cell": []})
    assert widget.cell is None and widget.canvas.heat_bytes == b""
    widget.cell = (0, 2)
    widget.cell = None
    assert widget.matrix.cell == () and widget.canvas.heat_bytes == b""


def test_sliders_redraw_the_heat_and_leave_the_crosshair():
    widget = explorer(cell=(2, 2))
    widget.canvas.crosshair, before = (0, 0, 0), widget.canvas.heat_bytes
    volume = widget.canvas.volume_bytes
    widget.sharpness = 3
    assert widget.canvas.heat_bytes != before and widget.canvas.crosshair == (0, 0, 0)
    assert widget.canvas.volume_bytes is volume  # layers are updated, nothing is built anew
    widget.broken = "everything in one cluster"
    assert widget.canvas.heat_bytes == b"" and widget.cell == (2, 2)  # nothing is in 2 and 2 any more
    widget.broken = "uniform"
    assert (heat_codes(widget) == 1 + round(254 / CLUSTERS)).all()  # dark: 1/K^2 of 1/K


def test_a_heat_too_faint_for_its_scale_is_left_out():
    even = torch.full((60, *SHAPE), 1 / 60)
    widget = explorer(even, even, cell=(0, 0))
    assert widget.canvas.heat_bytes == b"" and widget.heat.max() > 0


def test_the_matrix_in_the_browser():
    widget = explorer()
    matrix = widget.matrix
    sent = np.frombuffer(matrix.joint_bytes, np.float32).reshape(CLUSTERS, CLUSTERS)
    np.testing.assert_array_equal(sent, widget.joint.numpy())
    assert matrix.top == 1 / CLUSTERS and len(matrix.palette) == 768
    codes = np.round(255 * np.sqrt(sent.astype(float) * CLUSTERS)).astype(np.uint8)
    assert matrix.code_bytes == codes.tobytes()
    widget.broken = "uniform"
    assert set(matrix.code_bytes) == {round(255 * math.sqrt(1 / CLUSTERS))} and matrix.top == pytest.approx(
        1 / CLUSTERS
    )


def test_without_a_volume_there_are_no_slices():
    widget = explorer(volume=None, cell=(1, 0), title="A & B")
    assert widget.canvas is None
    np.testing.assert_array_equal(widget.heat, (A[1] * B[0]).numpy())
    assert widget.children[-1] is widget.matrix and widget.children[0].value == "<b>A &amp; B</b>"
    widget.sharpness, widget.cell = 2, (0, 0)
    assert widget._static_png().startswith(b"\x89PNG")


def test_forty_clusters():
    many = (8 * torch.randn(40, *SHAPE, generator=torch.Generator().manual_seed(1))).softmax(dim=0)
    widget = explorer(many, many, cell=(39, 39))
    assert len(widget.matrix.code_bytes) == 1600 and widget.cell_line.value.startswith("P[39, 39] = ")


# ---------------------------------------------------------------- picture
def test_the_picture_beside_the_widget_follows_and_is_pure():
    widget = explorer(cell=(1, 1))
    bundle, _ = widget._repr_mimebundle_()
    first = base64.b64decode(bundle["image/png"])
    assert bundle["text/plain"] == "<JointMatrixExplorer>"
    assert first == widget._static_png()
    widget.cell = (1, 2)
    assert widget._static_png() != first
    widget.cell = (1, 1)
    assert widget._static_png() == first


@pytest.mark.parametrize(
    ("name", "value"),
    [("sharpness", 2), ("alpha", 0), ("marginal_weight", 2), ("broken", "uniform"), ("cell", None)],
)
def test_the_picture_follows_each_setting(name, value):
    widget, given = explorer(volume=None, cell=(1, 1)), explorer(volume=None, **{"cell": (1, 1), name: value})
    before = widget._static_png()
    setattr(widget, name, value)
    assert widget._static_png() == given._static_png() != before


def test_the_matrix_alone_has_a_picture():
    matrix = MatrixCanvas(np.eye(3) / 3, cell=(0, 1))
    assert matrix._static_png() == joint_matrix_png(np.eye(3) / 3, cell=(0, 1))
    with pytest.raises(ValueError, match="this canvas shows 3 clusters, got a matrix of 2"):
        matrix.set_joint(np.eye(2) / 2)


# ---------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        (A[:, 0], B[:, 0], {}, r"probs_a must be the clusters of one volume.*got \(5, 7, 4\).*probs\[\.\.\., None\]"),
        (torch.stack([A, A]), B, {}, r"got \(2, 5, 6, 7, 4\)\. Of a batch take one: probs\[:1\]"),
        (A, B[:4], {}, "probs_a and probs_b must have one shape"),
        (COMMON, B, {}, "probs_a must be probabilities"),
        (A, B, {"volume": VOLUME[1:]}, r"volume has shape \(5, 7, 4\), the probabilities \(6, 7, 4\)"),
        (A, B, {"alpha": 1.5}, "alpha is the pull .* from 0 to 1; got 1.5"),
        (A, B, {"marginal_weight": -1}, "marginal_weight is lambda.* from 0 to 3; got -1"),
        (A, B, {"sharpness": 0}, "sharpness is the exponent .* from 0.1 to 4; got 0"),
        (A, B, {"sharpness": math.nan}, "sharpness .* got nan"),
        (A, B, {"sharpness": "high"}, "sharpness .* got 'high'"),
        (A, B, {"broken": "all"}, "broken is what is done .* one of 'as it is', .* 'uniform'; got 'all'"),
        (A, B, {"cell": (0, 5)}, r"cell is \(i, j\).* each from 0 to 4, or None; got \(0, 5\)"),
    ],
)
def test_wrong_arguments_are_refused(a, b, options, message):
    with pytest.raises(ValueError, match=message):
        explorer(a, b, **options)


@pytest.mark.parametrize(("name", "value"), [("alpha", 2), ("cell", (9, 0)), ("broken", "no"), ("sharpness", 99)])
def test_a_wrong_setting_changes_nothing(name, value):
    widget = explorer(cell=(1, 1))
    before = (widget.joint, widget.numbers, widget.cell, widget.line.value)
    with pytest.raises(ValueError, match=f"^{name} is "):
        setattr(widget, name, value)
    assert before == (widget.joint, widget.numbers, widget.cell, widget.line.value)
