"""Patch-wise values on the voxel grid, and the pictures of patches."""

import io

import numpy as np
import pytest
import torch

from medssl_nb.networks.patches import patchify
from medssl_nb.viz import patch_map, patch_scatter_png, ratio_curve_png, show_patch_scatter, show_ratio_curve
from medssl_nb.viz.colours import CLUSTER_COLOURS
from medssl_nb.viz.patches import cluster_centres, cluster_styles, join_pngs, patch_at, patch_centre, patch_share


def pixels(png: bytes) -> np.ndarray:
    from matplotlib.image import imread

    return imread(io.BytesIO(png), format="png")


# ---------------------------------------------------------------- patches and voxels
def test_values_are_repeated_over_their_patches():
    np.testing.assert_array_equal(patch_map([1, 2], (1, 2), (2, 1)), [[1, 2], [1, 2]])


@pytest.mark.parametrize(("grid", "patch"), [((2, 3, 4), (4, 2, 1)), ((3, 2), 3)])
def test_the_map_is_in_the_order_of_patchify(grid, patch):
    values = torch.rand(1, int(np.prod(grid)), generator=torch.Generator().manual_seed(0))
    voxels = torch.from_numpy(patch_map(values, grid, patch))
    patches = patchify(voxels[None, None], patch)
    assert torch.equal(patches, values[..., None].expand_as(patches))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_the_map_keeps_the_number_type(dtype):
    assert patch_map(np.ones(8, dtype), (2, 2, 2), 2).dtype == dtype


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2, 3], (2, 2), 2), r"each of 4 patches, shape \(4,\), got shape \(3,\)"),
        ((np.zeros((2, 4)), (2, 2), 2), r"take one volume: values\[0\]"),
        (([1], (1,), 2), "grid_size needs whole numbers >= 1, one for each of 2 or 3 axes"),
        (([1, 2], (1, 2), 0), "patch_size needs whole numbers >= 1"),
        (([1, 2], (1, 2), (1, 2, 3)), "patch_size needs"),
        (([1, 2], (1, 2), 1.5), "patch_size needs"),
    ],
)
def test_what_cannot_be_laid_out_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        patch_map(*arguments)


def test_patches_and_voxels_find_each_other():
    grid, patch = (2, 3, 4), (4, 3, 2)
    numbers = patch_map(np.arange(24), grid, patch)
    for number in range(24):
        assert numbers[patch_centre(number, grid, patch)] == number
    for voxel in [(0, 0, 0), (7, 8, 7), (3, 4, 5)]:
        assert patch_at(voxel, grid, patch) == numbers[voxel]
    assert patch_centre(0, grid, patch) == (2, 1, 1)
    with pytest.raises(ValueError, match=r"outside the volume of shape \(8, 9, 8\)"):
        patch_at((8, 0, 0), grid, patch)
    with pytest.raises(ValueError, match="24 patches, numbered from 0; got patch 24"):
        patch_centre(24, grid, patch)


def test_share_of_a_mask_in_each_patch():
    mask = np.zeros((4, 4), bool)
    mask[:2, :2] = True
    mask[3, 3] = True
    np.testing.assert_array_equal(patch_share(mask, 2), [1, 0, 0, 0.25])
    volume = np.random.default_rng(0).random((4, 6, 8)) > 0.5
    patches = patchify(torch.from_numpy(volume)[None, None].double(), (2, 3, 4))
    np.testing.assert_allclose(patch_share(volume, (2, 3, 4)), patches.mean(dim=2)[0])
    with pytest.raises(ValueError, match=r"sides \(4, 4\) must be multiples of patch_size \(3, 3\)"):
        patch_share(mask, 3)


# ---------------------------------------------------------------- feature space
def test_clusters_have_names_and_colours():
    styles = cluster_styles(14, lesion_clusters=[1])
    assert styles[0] == ("cluster 0", CLUSTER_COLOURS[0])
    assert styles[1].name == "cluster 1, called lesion"
    assert styles[12].colour == CLUSTER_COLOURS[0]


def test_centres_are_means_and_nan_where_empty():
    centres = cluster_centres(np.array([[0.0, 0], [2, 4], [9, 9]]), np.array([0, 0, 2]), 3)
    np.testing.assert_array_equal(centres, [[1, 2], [np.nan, np.nan], [9, 9]])


POINTS = np.random.default_rng(0).random((30, 2))
LABELS = np.arange(30) % 3 - 1


def test_the_scatter_is_pure_and_follows_its_arguments():
    plain = patch_scatter_png(POINTS, LABELS)
    assert plain == patch_scatter_png(POINTS, LABELS)
    changed = [
        {"squares": [1]},
        {"ringed": np.arange(30) < 5},
        {"centres": np.ones((2, 2)) / 2},
        {"names": ("a", "b")},
        {"selected": 1},
        {"title": "Patches"},
        {"styles": cluster_styles(2, [1])},
    ]
    assert len({plain, *(patch_scatter_png(POINTS, LABELS, **change) for change in changed)}) == len(changed) + 1
    assert patch_scatter_png(POINTS, LABELS, selected=0) == plain, "patch 0 is not clustered, so it has no point"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((3, 3)), [0, 0, 0]), r"\(N, 2\) with N > 0, got shape \(3, 3\)"),
        ((np.zeros((0, 2)), []), "N > 0"),
        ((np.zeros((3, 2)), [0, 0]), r"labels holds one value for each of 3 patches"),
    ],
)
def test_points_that_cannot_be_drawn_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        patch_scatter_png(*arguments)


# ---------------------------------------------------------------- ratio curve
RATIOS = np.linspace(0.25, 0.75, 11)
HIDDEN = np.floor(RATIOS * 100 + 0.5).astype(int)


def test_the_curve_is_pure_and_follows_its_arguments():
    counts = {"lesion_patches": 40, "valid_patches": 100}
    plain = ratio_curve_png(RATIOS, HIDDEN, **counts)
    assert plain == ratio_curve_png(RATIOS, HIDDEN, **counts)
    changed = [{"epoch": 0}, {"epoch": 5}, {"title": "Ratio"}, {"lesion_patches": 50}, {"lesion_patches": 0}]
    pictures = [ratio_curve_png(RATIOS, HIDDEN, **{**counts, **change}) for change in changed]
    assert len({plain, *pictures}) == len(changed) + 1


def test_only_epochs_that_hide_the_whole_lesion_are_shaded():
    def shaded(lesion_patches: int) -> float:
        png = ratio_curve_png(RATIOS, HIDDEN, lesion_patches=lesion_patches, valid_patches=100)
        colours = np.round(255 * pixels(png)[..., :3])
        pink = (colours[..., 0] > 240) & (colours[..., 1] < 235) & (colours[..., 1] > 200) & (colours[..., 2] > 225)
        return pink.mean()

    never, late, always = shaded(90), shaded(50), shaded(10)
    assert never < 0.002  # nothing but edges of letters
    assert 0.1 < late < 0.75 * always


@pytest.mark.parametrize(
    ("ratios", "hidden", "epoch", "message"),
    [
        ([], [], None, "one number for each epoch"),
        ([0.5], [5, 6], None, "one number for each epoch"),
        ([0.5, 0.6], [5, 6], 2, "epoch counts from 0 to 1, got 2"),
    ],
)
def test_curves_that_cannot_be_drawn_are_refused(ratios, hidden, epoch, message):
    with pytest.raises(ValueError, match=message):
        ratio_curve_png(ratios, hidden, lesion_patches=1, valid_patches=10, epoch=epoch)


# ---------------------------------------------------------------- figures
def test_pictures_are_joined_on_white():
    small = ratio_curve_png(RATIOS, HIDDEN, lesion_patches=1, valid_patches=100, dpi=40)
    tall = patch_scatter_png(POINTS, LABELS, dpi=40)
    (h1, w1, _), (h2, w2, _) = pixels(small).shape, pixels(tall).shape
    assert pixels(join_pngs([small, tall])).shape[:2] == (h1 + h2, max(w1, w2))
    beside = pixels(join_pngs([small, tall], beside=True))
    assert beside.shape[:2] == (max(h1, h2), w1 + w2)
    np.testing.assert_array_equal(beside[:h1, :w1, :3], pixels(small)[..., :3])
    assert (beside[h1:, :w1, :3] == 1).all()
    assert join_pngs([small, tall]) == join_pngs([small, tall])


def test_showing_draws_one_figure_and_returns_nothing(monkeypatch):
    import matplotlib.pyplot as plt

    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(len(plt.get_fignums())))
    assert show_patch_scatter(POINTS, LABELS) is None
    assert show_ratio_curve(RATIOS, HIDDEN, lesion_patches=1, valid_patches=100) is None
    assert shown == [1, 1]
    assert plt.get_fignums() == []
