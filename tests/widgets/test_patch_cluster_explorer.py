"""Clusters in feature space and on the slices point into each other."""

import base64
import gzip

import numpy as np
import pytest
import torch

from medssl_nb.methods.adaptive_masking import kmeans, lesion_category, patch_features
from medssl_nb.viz import patch_map
from medssl_nb.viz.colours import CLUSTER_COLOURS
from medssl_nb.widgets import PatchClusterExplorer, standalone_fragment
from medssl_nb.widgets.patch_scatter import PatchScatter

GRID, PATCH = (3, 4, 2), 4
RNG = np.random.default_rng(0)
BRIGHT = np.isin(np.arange(24), [5, 6])
TRUE = np.isin(np.arange(24), [5, 6, 7, 0])
VOLUME = RNG.normal(0, 0.1, (12, 16, 8)) + 3 * patch_map(BRIGHT, GRID, PATCH)
TRUTH = patch_map(TRUE, GRID, PATCH)
VALID = np.arange(24) != 0
FEATURES = patch_features(torch.from_numpy(VOLUME)[None, None], PATCH, valid=torch.from_numpy(VALID)[None])
RESULT = kmeans(FEATURES, valid=torch.from_numpy(VALID)[None], generator=torch.Generator().manual_seed(0))
LESION = lesion_category(RESULT.labels)


def explorer(**options) -> PatchClusterExplorer:
    given = {"lesion": LESION, "truth": TRUTH, "centroids": RESULT.centroids, **options}
    features, labels = given.pop("features", FEATURES), given.pop("labels", RESULT.labels)
    return PatchClusterExplorer(VOLUME, features, labels, PATCH, **given)


def test_the_example_finds_the_bright_patches():
    np.testing.assert_array_equal(LESION[0], BRIGHT)


def test_selecting_a_patch_moves_the_crosshair_and_outlines_it():
    widget = explorer(truth=None)
    assert widget.selected == -1 and widget.canvas.contour_bytes == b""
    widget.selected = 13
    assert widget.scatter.selected == 13
    assert widget.canvas.crosshair == (6, 10, 6)
    outlined = np.frombuffer(gzip.decompress(widget.canvas.contour_bytes), np.uint8).reshape(VOLUME.shape)
    np.testing.assert_array_equal(outlined > 0, patch_map(np.arange(24) == 13, GRID, PATCH))
    widget.selected = -1
    assert widget.canvas.contour_bytes == b"" and widget.canvas.crosshair == (6, 10, 6)


def test_the_outlined_patch_stands_beside_the_truth():
    widget = explorer(selected=13)
    codes = np.frombuffer(gzip.decompress(widget.canvas.contour_bytes), np.uint8).reshape(VOLUME.shape)
    np.testing.assert_array_equal(codes == 1, TRUTH)
    assert [row["name"] for row in widget.canvas.contour_table] == ["true lesion", "patch 13"]
    assert widget.canvas.contour_table[0]["colour"] != widget.canvas.contour_table[1]["colour"]


def test_the_crosshair_selects_the_patch_under_it_and_is_not_moved_by_that():
    widget = explorer()
    widget.canvas.set_state({"crosshair": [11, 0, 7], "clicked": [11, 0, 7], "clicks": 1})  # as from the browser
    assert widget.selected == 17
    assert widget.canvas.crosshair == (11, 0, 7)
    widget.canvas.crosshair = (10, 1, 6)
    assert widget.selected == 17
    widget.canvas.crosshair = (0, 0, 0)
    assert widget.selected == 0  # not clustered, and yet a patch


def test_the_browser_gets_points_clusters_and_rings():
    scatter = explorer().scatter
    points = np.frombuffer(scatter.points_bytes, np.float32).reshape(24, 2)
    np.testing.assert_allclose(points, FEATURES[0], rtol=1e-6)
    labels = np.frombuffer(scatter.label_bytes, np.uint8)
    np.testing.assert_array_equal(np.where(labels == 255, -1, labels.astype(int)), RESULT.labels[0])
    np.testing.assert_array_equal(np.frombuffer(scatter.ring_bytes, np.uint8), TRUE)
    called = int(RESULT.labels[0][5])
    assert [row["square"] for row in scatter.clusters] == [k == called for k in (0, 1)]
    assert scatter.clusters[called]["name"] == f"cluster {called}, called lesion"
    np.testing.assert_allclose([row["centre"] for row in scatter.clusters], RESULT.centroids[0], rtol=1e-6)


def test_patches_are_painted_in_the_colours_of_their_clusters():
    canvas = explorer().canvas
    codes = np.frombuffer(gzip.decompress(canvas.label_bytes), np.uint8).reshape(VOLUME.shape)
    np.testing.assert_array_equal(codes, patch_map(RESULT.labels[0] + 1, GRID, PATCH))
    assert [row["colour"] for row in canvas.label_table] == list(CLUSTER_COLOURS[:2])


def test_a_patch_counts_as_lesion_above_a_tenth():
    truth = np.zeros(VOLUME.shape, bool)
    truth[:4, :4, 0] = True
    truth[0, 0, 0] = truth[1:4, :3, 0] = False  # 6 of 64 voxels: 9.4 %
    assert not explorer(truth=truth).canvas.true_patches.any()
    truth[0, 0, 0] = True  # 7 of 64
    assert explorer(truth=truth).canvas.true_patches.tolist() == [True] + 23 * [False]


def test_precision_recall_and_lift_in_words():
    assert explorer().line.value == (
        "23 of 24 patches clustered · called lesion: 2 · truly lesion: 3, 2 of them found: precision 1.00, "
        "recall 0.67, lift 7.7 · 1 truly lesion, not clustered"
    )
    assert explorer(truth=None).line.value == "23 of 24 patches clustered · called lesion: 2"
    assert explorer(lesion=None).line.value.startswith("23 of 24 patches clustered · truly lesion: 3 · 1 truly")
    none = torch.zeros_like(LESION)
    assert "truly lesion: 3 · 1 truly" in explorer(lesion=none).line.value


def test_two_of_several_features():
    table = torch.cat([FEATURES, FEATURES[..., :1] ** 2], dim=2)
    widget = explorer(features=table, centroids=None, feature_names=("mean", "sd", "peak"))
    assert [name for name, _ in widget.x_axis.options] == ["mean", "sd", "peak"]
    widget.y_axis.value = 2
    widget.x_axis.value = 1
    points = np.frombuffer(widget.scatter.points_bytes, np.float32).reshape(24, 2)
    np.testing.assert_allclose(points, table[0][:, [1, 2]], rtol=1e-6)
    assert widget.scatter.names == ["sd", "peak"]
    own = points[(RESULT.labels[0] == 1).numpy()].mean(axis=0)
    np.testing.assert_allclose(widget.scatter.clusters[1]["centre"], own, rtol=1e-5)
    assert widget.x_axis in widget.children[0].children
    assert all(widget.x_axis not in getattr(child, "children", ()) for child in explorer().children)


def test_one_feature_stands_against_the_number_of_the_patch():
    widget = explorer(features=FEATURES[..., :1], centroids=None, feature_names=["peak"])
    points = np.frombuffer(widget.scatter.points_bytes, np.float32).reshape(24, 2)
    np.testing.assert_array_equal(points[:, 1], np.arange(24))
    assert widget.scatter.names == ["peak", "number of the patch"]


def test_an_empty_cluster_has_no_number():
    labels = torch.where(RESULT.labels == 1, 2, RESULT.labels)
    widget = explorer(labels=labels, centroids=None)
    assert widget.scatter.clusters[1]["centre"] is None


def test_the_picture_beside_the_widget_follows_and_is_pure():
    widget = explorer()
    bundle, _ = widget._repr_mimebundle_()
    assert bundle["text/plain"] == "<PatchClusterExplorer>"
    first = base64.b64decode(bundle["image/png"])
    assert first == widget._static_png() == explorer()._static_png()
    crosshair = widget.canvas.crosshair
    widget.selected = 12
    assert widget._static_png() != first
    widget.selected = -1
    widget.canvas.crosshair = crosshair
    widget.selected = -1
    assert widget._static_png() == first


def test_the_scatter_runs_without_a_kernel_and_has_a_picture():
    scatter = explorer().scatter
    assert "patch-scatter" in standalone_fragment(scatter)
    assert scatter._static_png().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": FEATURES[:, 1:]}, r"one row for each of 24 patches, got shape \(23, 2\)"),
        ({"features": FEATURES * np.nan}, "features hold NaN"),
        ({"feature_names": ["mean"]}, "one name for each of 2 features, got .'mean'."),
        ({"labels": RESULT.labels.float()}, "labels are cluster numbers from 0"),
        ({"labels": RESULT.labels - 1}, "labels are cluster numbers .* from -2"),
        ({"labels": torch.full((1, 24), -1)}, "not -1 everywhere"),
        ({"labels": RESULT.labels[:, 1:]}, "labels holds one value for each of 24"),
        ({"centroids": RESULT.centroids[:, :1]}, r"centroids are \(K, F\) with K >= 2 and F = 2, got shape \(1, 2\)"),
        ({"lesion": torch.arange(24) == 5}, "lesion must be made of whole clusters"),
        ({"lesion": torch.arange(24) == 0}, "lesion must be made of whole clusters"),
        ({"selected": 24}, "selected is the number of a patch, 0 to 23, or -1 for none; got 24"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        explorer(**options)


def test_a_wrong_selection_changes_nothing():
    widget = explorer(selected=3)
    with pytest.raises(ValueError, match="got -2"):
        widget.selected = -2
    assert widget.selected == 3 and widget.scatter.selected == 3


def test_too_many_clusters_are_refused():
    with pytest.raises(ValueError, match="256 clusters are too many"):
        PatchScatter(np.zeros((1, 2)), np.zeros(1, int), dict.fromkeys(range(256), ("a", "#000000")))
