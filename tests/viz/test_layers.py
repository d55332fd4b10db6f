import numpy as np
import pytest

from medssl_nb.viz.clusters import cluster_colours
from medssl_nb.viz.colours import CLUSTER_COLOURS, CONTOUR_COLOUR, MASK_COLOUR, ORGAN_COLOURS, rgb
from medssl_nb.viz.layers import outline_segments, present, slice_rgb, stack_layers

GREY = np.full((2, 3, 4), 100.0)


def one_voxel(voxel, value=1, dtype=np.uint8) -> np.ndarray:
    labels = np.zeros(GREY.shape, dtype)
    labels[voxel] = value
    return labels


def test_grey_alone():
    picture = slice_rgb(stack_layers(GREY, window=(0, 200)), "axial", 0)
    assert picture.shape == (3, 2, 3)
    assert picture.dtype == np.uint8
    assert (picture == 128).all()


def test_labels_blend_by_opacity_and_only_where_they_are():
    layers = stack_layers(GREY, window=(0, 200), labels=one_voxel((1, 2, 3), 5), label_names={5: "liver"}, opacity=0.25)
    picture = slice_rgb(layers, "axial", 3)
    expected = np.round(0.75 * 127.5 + 0.25 * rgb(ORGAN_COLOURS["liver"]))
    np.testing.assert_array_equal(picture[0, 0], expected)  # right and anterior: top left
    assert (picture.reshape(-1, 3)[1:] == 128).all()


def test_mask_lies_over_labels_and_full_opacity_covers():
    layers = stack_layers(GREY, labels=np.ones(GREY.shape, int), mask=one_voxel((1, 2, 3), dtype=bool), opacity=1)
    picture = slice_rgb(layers, "axial", 3)
    np.testing.assert_array_equal(picture[0, 0], rgb(MASK_COLOUR))
    np.testing.assert_array_equal(picture[1, 1], rgb(CLUSTER_COLOURS[0]))


def test_heat_is_transparent_where_there_is_none():
    heat = np.full(GREY.shape, np.nan)
    heat[1, 2, 3], heat[0, 2, 3] = 1.0, 0.0
    layers = stack_layers(GREY, window=(0, 200), heat=heat, opacity=1)
    picture = slice_rgb(layers, "axial", 3)
    np.testing.assert_array_equal(picture[0, 0], layers.heat.palette[255])
    np.testing.assert_array_equal(picture[0, 1], layers.heat.palette[0])
    assert (picture[1:] == 128).all()


def test_colours_lie_over_the_image_and_under_labels():
    colours = np.zeros((*GREY.shape, 3), np.uint8)
    colours[1, 2, 3] = 200, 100, 0
    layers = stack_layers(GREY, window=(0, 200), colours=colours, labels=one_voxel((0, 2, 3), 5), opacity=0.25)
    picture = slice_rgb(layers, "axial", 3)
    np.testing.assert_array_equal(picture[0, 0], np.round(0.75 * 127.5 + 0.25 * np.array([200, 100, 0])))
    expected = 0.75 * (0.75 * 127.5) + 0.25 * rgb(CLUSTER_COLOURS[4])
    np.testing.assert_array_equal(picture[0, 1], np.round(expected))
    shares = slice_rgb(stack_layers(GREY, window=(0, 200), colours=colours / 255, opacity=0.25), "axial", 3)
    np.testing.assert_array_equal(shares[0, 0], picture[0, 0])


@pytest.mark.parametrize(
    ("colours", "message"),
    [
        (np.zeros((2, 3, 4)), r"colours must be \(X, Y, Z, 3\), here \(2, 3, 4, 3\); got shape \(2, 3, 4\)"),
        (np.full((2, 3, 4, 3), 1.5), "colours are uint8, or numbers from 0 to 1; spread others"),
        (np.full((2, 3, 4, 3), np.nan), "colours are uint8, or numbers from 0 to 1"),
        (np.full((2, 3, 4, 3), 7), "colours are uint8, or numbers from 0 to 1"),
    ],
)
def test_what_is_no_colour(colours, message):
    with pytest.raises(ValueError, match=message):
        stack_layers(GREY, colours=colours)


def test_visible_chooses_labels():
    labels = one_voxel((0, 0, 0), 3) + one_voxel((1, 0, 0), 7)
    layers = stack_layers(GREY, labels=labels, visible=[7])
    assert [number for _, number in present(layers, "axial", 0)] == [7]
    assert (slice_rgb(layers, "axial", 0)[2, 1] == slice_rgb(stack_layers(GREY), "axial", 0)[2, 1]).all()


def test_present_names_the_largest_first():
    labels = np.zeros((4, 4, 1), int)
    labels[:3], labels[3, 0] = 2, 9
    found = present(stack_layers(np.zeros((4, 4, 1)), labels=labels, label_names={2: "liver", 9: "aorta"}), "axial", 0)
    assert [overlay.names[number] for overlay, number in found] == ["liver", "aorta"]


def test_an_empty_mask_draws_nothing():
    layers = stack_layers(GREY, window=(0, 200), mask=np.zeros(GREY.shape, bool), labels=np.zeros(GREY.shape, int))
    assert (slice_rgb(layers, "axial", 0) == 128).all()
    assert present(layers, "axial", 0) == []


def test_contour_of_a_mask_is_one_line_and_of_organs_has_their_colours():
    (alone,) = stack_layers(GREY, contour=one_voxel((0, 0, 0), dtype=bool)).overlays
    assert alone.colours == {1: CONTOUR_COLOUR} and not alone.fill
    names = {3: "spleen", 4: "liver"}
    (organs,) = stack_layers(
        GREY, contour=one_voxel((0, 0, 0), 3) + one_voxel((1, 1, 1), 4), label_names=names
    ).overlays
    assert organs.colours == {3: ORGAN_COLOURS["spleen"], 4: ORGAN_COLOURS["liver"]}


def test_outline_of_one_voxel_is_its_four_edges():
    inside = np.zeros((2, 3), bool)
    inside[1, 2] = True
    edges = {tuple(map(tuple, line)) for line in outline_segments(inside)}
    assert edges == {((2, 1), (3, 1)), ((2, 2), (3, 2)), ((2, 1), (2, 2)), ((3, 1), (3, 2))}
    assert len(outline_segments(np.zeros((2, 3), bool))) == 0


def test_outline_has_no_line_between_neighbours():
    assert len(outline_segments(np.ones((2, 3), bool))) == 2 * (2 + 3)


@pytest.mark.parametrize("opacity", [-0.1, 1.1])
def test_impossible_opacity_is_refused(opacity):
    with pytest.raises(ValueError, match="opacity runs from 0"):
        stack_layers(GREY, opacity=opacity)


def test_units():
    assert stack_layers(GREY, window="lung").unit == "HU"
    assert stack_layers(GREY).unit == ""
    assert not stack_layers(GREY).in_mm
    assert stack_layers(GREY, spacing_mm=(1, 2, 3)).in_mm


def test_clusters_are_all_drawn_in_their_own_colours_the_first_too():
    clusters = np.zeros((2, 2, 1), int)
    clusters[1, 1] = 13
    layers = stack_layers(np.zeros((2, 2, 1)), clusters=clusters, opacity=1.0, window=(0, 1))
    colours = cluster_colours(14)
    picture = slice_rgb(layers, "axial", 0).reshape(-1, 3)
    assert {tuple(pixel) for pixel in picture} == {tuple(rgb(colours[k])) for k in (0, 13)}
    assert [overlay.names[number] for overlay, number in present(layers, "axial", 0)] == ["cluster 0", "cluster 13"]
    with pytest.raises(ValueError, match="num_clusters must be 1 to 40, got 41"):
        stack_layers(np.zeros((2, 2, 1)), clusters=clusters + 27)
