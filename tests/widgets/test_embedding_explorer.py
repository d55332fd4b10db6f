"""Cosines of embeddings here and in another patient."""

import base64
import gzip

import numpy as np
import pytest
import torch

from medssl_nb.methods.local_discrimination import l2_normalize, similarity_map
from medssl_nb.viz import embedding_colours
from medssl_nb.widgets import EmbeddingExplorer

SHAPE, OTHER_SHAPE = (8, 6, 4), (7, 8, 5)
GENERATOR = torch.Generator().manual_seed(0)
VOLUME, OTHER = (torch.randn(shape, generator=GENERATOR) for shape in (SHAPE, OTHER_SHAPE))
HERE, THERE = (l2_normalize(torch.randn(5, *shape, generator=GENERATOR), dim=0) for shape in (SHAPE, OTHER_SHAPE))


def explorer(*both, **options) -> EmbeddingExplorer:
    return EmbeddingExplorer(VOLUME, HERE, *(both or (OTHER, THERE)), **options)


def codes(canvas, layer: str) -> np.ndarray | None:
    data = getattr(canvas, f"{layer}_bytes")
    return np.frombuffer(gzip.decompress(data), np.uint8).reshape(*canvas.shape, -1).squeeze() if data else None


# ---------------------------------------------------------------- numbers
def test_similarity_is_the_librarys_and_the_best_voxel_is_found():
    widget = explorer(point=(3, 2, 1))
    maps = [similarity_map(one[None], HERE[:, 3, 2, 1])[0] for one in (HERE, THERE)]
    np.testing.assert_array_equal(widget.similarity, maps[0])
    np.testing.assert_array_equal(widget.other_similarity, maps[1])
    assert widget.similarity[3, 2, 1] == pytest.approx(1)
    assert widget.found == tuple(np.argwhere(maps[1].numpy() == maps[1].max().item())[0])
    assert widget.cosine == maps[1].max().item()


def test_the_found_voxel_is_shown_and_marked():
    there = THERE.clone()
    there[:, 6, 1, 4] = HERE[:, 3, 2, 1]
    widget = explorer(OTHER, there, point=(3, 2, 1))
    assert widget.found == widget.canvases[1].crosshair == (6, 1, 4)
    assert [(row["name"], row["voxel"]) for row in widget.canvases[1].mark_table] == [("most alike", [6, 1, 4])]


def test_of_equal_voxels_the_first_is_found():
    there = HERE[:, 3, 2, 1, None, None, None].expand(5, *OTHER_SHAPE)
    assert explorer(OTHER, there, point=(3, 2, 1)).found == (0, 0, 0)


def test_half_precision_and_arrays_are_taken():
    widget = explorer(OTHER.numpy()[None], THERE[None].half(), point=(3, 2, 1))
    exact = explorer(point=(3, 2, 1))
    np.testing.assert_allclose(widget.other_similarity, exact.other_similarity, atol=2e-3)
    assert EmbeddingExplorer(VOLUME.numpy(), HERE.numpy().astype(np.float16)).similarity.dtype == np.float32


# ---------------------------------------------------------------- what follows what
def test_the_crosshair_is_the_point():
    widget = explorer()
    assert widget.point == (4, 3, 2)
    widget.canvases[0].set_state({"crosshair": [1, 5, 0]})  # as from the browser
    assert widget.point == (1, 5, 0)
    np.testing.assert_array_equal(widget.similarity, similarity_map(HERE[None], HERE[:, 1, 5, 0])[0])
    assert widget.canvases[1].crosshair == widget.found
    assert widget.line.value == explorer(point=(1, 5, 0)).line.value
    widget.point = (0, 0, 3)
    assert widget.canvases[0].crosshair == (0, 0, 3) and "(0, 0, 3)" in widget.line.value


def test_looking_around_in_the_other_patient_changes_nothing_else():
    widget = explorer()
    before = widget.line.value
    widget.canvases[1].set_state({"crosshair": [0, 0, 0]})
    assert (widget.line.value, widget.found) == (before, explorer().found)


def test_cosines_lie_over_the_images_on_one_scale():
    widget = explorer()
    for canvas, similarity in zip(widget.canvases, (widget.similarity, widget.other_similarity), strict=True):
        np.testing.assert_array_equal(codes(canvas, "heat"), 1 + np.round(254 * similarity.clip(0, 1)))
        assert canvas.heat_range == [0, 1] and canvas.heat_clipped == [True, False]
        assert canvas.value_at_crosshair.heat == pytest.approx(similarity[canvas.crosshair])


def test_the_threshold_outlines_and_counts():
    widget = explorer(threshold=0.7)
    for canvas, similarity in zip(widget.canvases, (widget.similarity, widget.other_similarity), strict=True):
        np.testing.assert_array_equal(codes(canvas, "contour"), similarity >= 0.7)
    widget.controls["threshold"].value = 0.5
    np.testing.assert_array_equal(codes(widget.canvases[0], "contour"), widget.similarity >= 0.5)
    here, there = ((one >= 0.5).mean() for one in (widget.similarity, widget.other_similarity))
    assert widget.line.value.endswith(f"cosine ≥ 0.50: {100 * here:.0f} % of voxels here, {100 * there:.0f} % there")
    (overlay,) = widget.canvases[0]._layers().overlays
    assert overlay.names == {1: "cosine ≥ 0.50"}


def test_colours_of_both_patients_together():
    widget = explorer(point=(3, 2, 1))
    widget.controls["colours"].value = "embedding"
    for canvas, expected in zip(widget.canvases, embedding_colours([HERE, THERE]), strict=True):
        np.testing.assert_array_equal(codes(canvas, "colour"), expected)
        assert codes(canvas, "heat") is None and codes(canvas, "contour") is None
    widget.point = (0, 0, 0)  # the search goes on
    assert widget.canvases[1].crosshair == widget.found and codes(widget.canvases[0], "heat") is None
    widget.colours = "image only"
    assert {codes(canvas, name) is None for canvas in widget.canvases for name in ("colour", "heat", "contour")} == {
        True
    }
    assert len(widget.canvases[1].mark_table) == 1
    widget.colours = "similarity"
    np.testing.assert_array_equal(
        codes(widget.canvases[0], "heat"), codes(explorer(point=(0, 0, 0)).canvases[0], "heat")
    )


def test_one_patient_alone():
    widget = EmbeddingExplorer(VOLUME, HERE, point=(3, 2, 1), threshold=0.95)
    assert widget.found is None and widget.cosine is None and widget.other_similarity is None
    share = (widget.similarity >= 0.95).mean()
    assert widget.line.value == f"voxel (3, 2, 1); cosine ≥ 0.95: {100 * share:.1f} % of voxels"
    widget.colours = "embedding"
    np.testing.assert_array_equal(codes(widget.canvases[0], "colour"), embedding_colours([HERE])[0])
    assert widget._static_png().startswith(b"\x89PNG")


# ---------------------------------------------------------------- words and pictures
def test_words_by_hand():
    here, there = torch.zeros(2, 2, 2, 1), torch.zeros(2, 2, 1, 2)
    here[0], there[1] = 1, 1
    here[:, 0, 0, 0] = torch.tensor([0.6, 0.8])
    there[:, 1, 0, 1] = torch.tensor([1.0, 0.0])
    volumes = torch.zeros(2, 2, 1), torch.zeros(2, 1, 2)
    widget = EmbeddingExplorer(volumes[0], here, volumes[1], there, point=(0, 1, 0), threshold=0.6)
    assert widget.line.value == (
        "voxel (0, 1, 0): most alike in the other patient at (1, 0, 1), cosine 1.00; cosine ≥ 0.60: 100 % of voxels "
        "here, 25 % there"
    )
    widget.threshold = 0.61
    assert widget.line.value.endswith("75 % of voxels here, 25 % there")
    widget.point = (0, 0, 0)  # 0.8 with all but one
    assert "(0, 0, 0), cosine 0.80;" in widget.line.value


def test_spacings():
    assert [canvas.spacing for canvas in explorer(spacing_mm=(2, 3, 4)).canvases] == [[2, 3, 4], [2, 3, 4]]
    widget = explorer(spacing_mm=(2, 3, 4), other_spacing_mm=(1, 1, 5))
    assert widget.canvases[1].spacing == [1, 1, 5]


def test_the_picture_beside_the_widget_follows_and_is_pure():
    look = {"title": "<b>", "names": ("A", "B"), "planes": ["axial"]}
    widget = explorer(**look)
    bundle, _ = widget._repr_mimebundle_()
    assert bundle["text/plain"] == "<EmbeddingExplorer>"
    first = base64.b64decode(bundle["image/png"])
    assert first == widget._static_png() == explorer(**look)._static_png()
    assert "&lt;b&gt;" in widget.children[0].value
    seen = {first}
    for name, value in (("point", (0, 0, 0)), ("threshold", 0.6), ("colours", "embedding"), ("colours", "image only")):
        setattr(widget, name, value)
        seen.add(widget._static_png())
    assert len(seen) == 5


# ---------------------------------------------------------------- wrong arguments
@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((HERE[:, 1:],), {}, r"embeddings must be \(D, X, Y, Z\) on the grid of its volume \(8, 6, 4\), got \(1, 5, 7"),
        ((HERE[0],), {}, "take one image: embeddings"),
        ((torch.stack([HERE, HERE]),), {}, "take one image: embeddings"),
        ((2 * HERE,), {}, r"unit vectors.*one of length 2\. Write l2_normalize\(embeddings, dim=0\)"),
        ((HERE * torch.nan,), {}, "unit vectors.*one of length nan"),
        ((HERE.round().int(),), {}, "embeddings must be floating-point numbers, got torch.int32"),
        ((HERE, OTHER), {}, "other and other_embeddings belong together"),
        ((HERE, OTHER, HERE), {}, "other_embeddings must be"),
        ((HERE, OTHER, l2_normalize(THERE[:3], dim=0)), {}, "same number of channels, got 5 and 3"),
        ((HERE,), {"point": (8, 0, 0)}, "crosshair .* lies outside"),
        ((HERE,), {"colours": "red"}, "colours is what lies over the images: one of 'similarity', 'embedding', 'image"),
        ((HERE,), {"threshold": 0.4}, "threshold is .* from 0.5 to 1; got 0.4"),
    ],
)
def test_wrong_arguments_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingExplorer(VOLUME, *arguments, **options)


def test_zero_embeddings_are_like_nothing():
    there = THERE.clone()
    there[:, 0] = 0
    assert (explorer(OTHER, there).other_similarity[0] == 0).all()


def test_a_wrong_point_changes_nothing():
    widget = explorer(point=(3, 2, 1))
    with pytest.raises(ValueError, match="lies outside"):
        widget.point = (3, 2, 9)
    assert widget.point == (3, 2, 1) and "(3, 2, 1)" in widget.line.value
