"""A place of one patient, found in another and back."""

import base64
import gzip
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from medssl_nb.methods.alice import AnatomicalEmbedding, match_points, similarity_map
from medssl_nb.widgets import AlignmentExplorer

SHAPE, OTHER_SHAPE = (12, 10, 8), (11, 12, 9)  # of images
SPACING, OTHER_SPACING = (2.0, 3.0, 4.0), (1.0, 2.0, 5.0)
G = torch.Generator().manual_seed(0)
QUERY, KEY = torch.randn(SHAPE, generator=G), torch.randn(1, *OTHER_SHAPE, generator=G)


def embedding(fine, coarse, channels: int = 5) -> AnatomicalEmbedding:
    both = (torch.randn(channels, *grid, generator=G) for grid in (fine, coarse))
    return AnatomicalEmbedding(*(functional.normalize(one, dim=0) for one in both))


HERE, THERE = embedding((6, 5, 4), (2, 1, 3)), embedding((6, 6, 5), (2, 3, 1))


def explorer(**options) -> AlignmentExplorer:
    given = {"spacing_mm": SPACING, "key_spacing_mm": OTHER_SPACING, "point": (3, 4, 2), **options}
    return AlignmentExplorer(QUERY, KEY, HERE, THERE, **given)


def shift(points) -> np.ndarray:
    assert np.shape(points) == (1, 3) and np.asarray(points).dtype == float
    return points + np.array([0.5, -1.0, 0.25])


def distance(one, other, spacing) -> float:
    return float((((np.subtract(one, other)) * spacing) ** 2).sum() ** 0.5)


def marks(canvas) -> dict:
    return {row["name"]: tuple(row["voxel"]) for row in canvas.mark_table}


def heat(canvas) -> np.ndarray:
    return np.frombuffer(gzip.decompress(canvas.heat_bytes), np.uint8).reshape(canvas.shape)


# ---------------------------------------------------------------- numbers
POINTS = ((0, 0, 0), (3, 4, 2), (11, 9, 7), (7, 3, 5))


@pytest.mark.parametrize("scales", [{}, {"query_scale": 0.8, "key_scale": (1.5, 1.0, 0.7)}])
def test_half_and_half_is_the_librarys_match_forth_and_back(scales):
    widget = explorer(**scales)
    assert widget.fine_share == 0.5
    back = {"query_scale": scales.get("key_scale", 1.0), "key_scale": scales.get("query_scale", 1.0)}
    for point in POINTS:
        widget.point = point
        found, score = match_points(HERE, THERE, torch.tensor([point]), key_shape=OTHER_SHAPE, **scales)
        assert widget.found == tuple(found[0].tolist())
        assert widget.score == pytest.approx(score.item(), abs=1e-6)
        returned, _ = match_points(THERE, HERE, found, key_shape=SHAPE, **back)
        assert widget.returned == tuple(returned[0].tolist())


def test_the_map_is_the_librarys():
    widget = explorer()
    expected = similarity_map(HERE, THERE, torch.tensor([[1, 2, 1]]))[0]  # half of voxel (3, 4, 2)
    np.testing.assert_allclose(widget.similarity, expected, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_mixes_fine_and_coarse(share):
    widget = explorer(fine_share=share)
    resized = [
        functional.normalize(functional.interpolate(one.coarse[None].double(), one.fine.shape[1:], mode="trilinear"))
        for one in (HERE, THERE)
    ]
    fine = torch.einsum("e,exyz->xyz", HERE.fine[:, 1, 2, 1].double(), THERE.fine.double())
    coarse = torch.einsum("e,exyz->xyz", resized[0][0, :, 1, 2, 1], resized[1][0])
    expected = (share * fine + (1 - share) * coarse).numpy()
    np.testing.assert_allclose(widget.similarity, expected, atol=1e-6)
    assert widget.score == pytest.approx(expected.max(), abs=1e-6)
    cell = np.unravel_index(expected.argmax(), expected.shape)
    assert widget.found == tuple(2 * int(c) for c in cell)


def test_distances_by_hand():
    widget = explorer(truth=shift)
    assert widget.true_place == (3.5, 3.0, 2.25)
    assert widget.error_mm == pytest.approx(distance(widget.found, (3.5, 3.0, 2.25), OTHER_SPACING))
    assert widget.return_mm == pytest.approx(distance(widget.returned, (3, 4, 2), SPACING))
    widget.point = (9, 8, 5)
    assert widget.true_place == (9.5, 7.0, 5.25)


def test_a_patient_matched_with_itself_comes_home():
    widget = AlignmentExplorer(QUERY, QUERY, HERE, HERE, point=(4, 6, 2), truth=lambda p: p)
    assert widget.found == widget.returned == (4, 6, 2)
    assert widget.score == pytest.approx(1) and widget.error_mm == widget.return_mm == 0
    widget.point = (5, 7, 3)  # odd voxels lie in the cell of the even ones before them
    assert widget.found == widget.returned == (4, 6, 2)
    assert widget.return_mm == pytest.approx(3**0.5) and widget.unit == "voxels"


def test_of_equal_cells_the_first_is_found():
    flat = AnatomicalEmbedding(torch.ones(1, 6, 6, 5), torch.ones(1, 2, 2, 2))
    widget = AlignmentExplorer(QUERY, KEY, AnatomicalEmbedding(flat.fine[:, :, :5, :4], flat.coarse), flat)
    assert widget.found == widget.returned == (0, 0, 0) and widget.score == 1


def test_an_image_that_knows_its_place_keeps_it():
    from monai.data import MetaTensor

    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = (-5, 6, 7)
    known = MetaTensor(KEY, affine=affine)
    widget = AlignmentExplorer(QUERY, known, HERE, THERE, spacing_mm=SPACING)
    np.testing.assert_array_equal(widget.canvases[1].affine, affine.ravel())
    widget = AlignmentExplorer(QUERY, known, HERE, THERE, spacing_mm=SPACING, key_spacing_mm=OTHER_SPACING)
    assert widget.canvases[1].spacing == list(OTHER_SPACING)


def test_half_precision_arrays_and_one_spacing_are_taken():
    halves = [AnatomicalEmbedding(one.fine.half(), one.coarse.half().numpy()) for one in (HERE, THERE)]
    widget = AlignmentExplorer(QUERY.numpy(), KEY, *halves, point=(3, 4, 2), spacing_mm=SPACING)
    np.testing.assert_allclose(widget.similarity, explorer().similarity, atol=2e-3)
    assert widget.canvases[1].spacing == list(SPACING)


# ---------------------------------------------------------------- what follows what
def test_the_crosshair_of_the_query_is_the_point():
    widget = explorer(truth=shift)
    widget.canvases[0].set_state({"crosshair": [9, 2, 6], "clicked": [9, 2, 6], "clicks": 1})  # as from the browser
    assert widget.point == (9, 2, 6)
    assert widget.found == explorer(point=(9, 2, 6)).found == widget.canvases[1].crosshair
    assert marks(widget.canvases[0]) == {"back": widget.returned}
    assert marks(widget.canvases[1]) == {"match": widget.found, "true place": (9.5, 1.0, 6.25)}


def test_each_place_has_a_sign_of_its_own():
    widget = explorer(truth=shift)
    signs = {row["name"]: row["shape"] for canvas in widget.canvases for row in canvas.mark_table}
    assert signs == {"match": "ring", "true place": "square", "back": "diamond"}
    for canvas in widget.canvases:
        assert [mark.shape for mark in canvas._layers().marks] == [row["shape"] for row in canvas.mark_table]


def test_moving_the_key_changes_nothing():
    widget = explorer()
    widget.canvases[1].crosshair = (0, 0, 0)
    assert widget.point == (3, 4, 2) and marks(widget.canvases[1]) == {"match": widget.found}


def test_the_slider_searches_again():
    widget = explorer()
    for share in (0, 1):
        widget.controls["fine_share"].value = share
        other = explorer(fine_share=share)
        assert (widget.found, widget.score, widget.returned) == (other.found, other.score, other.returned)
        assert widget.line.value == other.line.value
    widget.controls["fine_share"].value = 0.1 + 0.2 + 0.2  # as sliders add
    assert widget.score == explorer().score


def test_the_heat_is_the_similarity_of_the_voxels_cell():
    widget = explorer()
    cells = [np.minimum(np.arange(n) // 2, c - 1) for n, c in zip(OTHER_SHAPE, (6, 6, 5), strict=True)]
    on_voxels = widget.similarity[np.ix_(*cells)]
    expected = 1 + np.round(254 * on_voxels.astype(np.float32).clip(0, 1))
    np.testing.assert_array_equal(heat(widget.canvases[1]), expected)
    assert widget.canvases[1].value_at_crosshair.heat == pytest.approx(widget.score, abs=1e-6)
    assert widget.canvases[0].heat_bytes == b""


def test_the_heat_can_be_taken_away():
    widget = explorer()
    widget.controls["show_map"].value = False
    assert not widget.show_map and widget.canvases[1].heat_bytes == b"" and marks(widget.canvases[1])
    widget.point = (0, 0, 0)
    assert widget.canvases[1].heat_bytes == b""
    widget.show_map = True
    np.testing.assert_array_equal(heat(widget.canvases[1]), heat(explorer(point=(0, 0, 0)).canvases[1]))


# ---------------------------------------------------------------- words and pictures
def test_words_by_hand():
    widget = explorer(truth=shift)
    found = f"({', '.join(map(str, widget.found))})"
    start = f"voxel (3, 4, 2) → {found}, score {widget.score:.2f}"
    error, home = f"{widget.error_mm:.1f} mm", f"{widget.return_mm:.1f} mm"
    assert widget.line.value == f"{start}; true place {error} away; back home within {home}"
    assert explorer().line.value == f"{start}; back home within {home}"


def test_a_place_not_known_or_beyond_the_image():
    unknown = explorer(truth=lambda p: np.full((1, 3), np.nan))
    assert unknown.error_mm is None and unknown.true_place is None
    assert "; true place not known here; back home" in unknown.line.value
    beyond = explorer(truth=lambda p: torch.tensor([[-3.0, 2, 2]]))
    assert beyond.error_mm == pytest.approx(distance(beyond.found, (-3, 2, 2), OTHER_SPACING))
    assert " mm away, outside the image; " in beyond.line.value
    for widget in (unknown, beyond):
        assert marks(widget.canvases[1]) == {"match": widget.found}


def test_below_zero_the_score_has_a_true_minus():
    away = AnatomicalEmbedding(*(-one[:, :1, :1, :1] for one in HERE))
    widget = AlignmentExplorer(QUERY, KEY, HERE, away, point=(0, 0, 0))
    assert widget.score < 0 and f"score −{-widget.score:.2f};" in widget.line.value


def test_the_picture_beside_the_widget_follows_and_is_pure():
    look = {"planes": ["axial"], "title": "a <try>", "truth": shift}
    widget = explorer(**look)
    bundle, _ = widget._repr_mimebundle_()
    assert bundle["text/plain"] == "<AlignmentExplorer>"
    first = base64.b64decode(bundle["image/png"])
    assert first == widget._static_png() == explorer(**look)._static_png()
    seen = {first}
    for name, value in (("show_map", False), ("fine_share", 0.0), ("point", (0, 0, 0))):
        setattr(widget, name, value)
        seen.add(widget._static_png())
    assert len(seen) == 4
    assert "a &lt;try&gt;" in widget.children[0].value


# ---------------------------------------------------------------- wrong arguments
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query_embedding": HERE.fine}, "query_embedding must be an AnatomicalEmbedding .*, got Tensor"),
        ({"key_embedding": THERE._replace(fine=2 * THERE.fine)}, "key_embedding.fine must be unit vectors.*length 2"),
        ({"key_embedding": THERE._replace(coarse=THERE.coarse * np.nan)}, "key_embedding.coarse must be unit vectors"),
        ({"key_embedding": THERE._replace(fine=THERE.fine[0])}, r"key_embedding.fine must be \(D, X, Y, Z\)"),
        ({"key_embedding": embedding((2, 2, 2), (1, 1, 1), 3)}, r"same channels, got .* \(5, 5\) and \(3, 3\)"),
        ({"truth": (1, 2, 3)}, "truth must be a function of points .* got tuple"),
        ({"truth": lambda p: p[0]}, r"truth must give \(P, 3\) places .* gave shape \(3,\)"),
        ({"point": (12, 0, 0)}, "crosshair .* lies outside the volume of shape"),
        ({"fine_share": 1.1}, "fine_share is the share of the fine similarity, from 0 to 1; got 1.1"),
        ({"key_scale": (1, 0, 1)}, r"key_scale must be above 0 and stride 1 or more, got \[1.0, 0.0, 1.0\] and 2"),
        ({"stride": 0}, "stride 1 or more, got .* and 0"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    given = {"query_embedding": HERE, "key_embedding": THERE, **changes}
    with pytest.raises(ValueError, match=message):
        AlignmentExplorer(QUERY, KEY, **given)


def test_wrong_settings_change_nothing():
    widget = explorer()
    before = widget.line.value
    for name, value in (("point", (0, 0, 9)), ("point", (0.5, 0, 0)), ("fine_share", -0.1)):
        with pytest.raises(ValueError, match=r"outside|whole numbers|from 0 to 1"):
            setattr(widget, name, value)
    assert widget.line.value == before


def test_any_pair_of_fine_and_coarse_will_do():
    plain = SimpleNamespace(fine=HERE.fine, coarse=HERE.coarse)
    assert AlignmentExplorer(QUERY, KEY, plain, THERE, point=(3, 4, 2)).found == explorer().found
