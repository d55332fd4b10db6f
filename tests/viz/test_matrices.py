"""The joint matrix and maps of a slice as pictures."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from medssl_nb.viz import joint_matrix_png, show_joint_matrix
from medssl_nb.viz.colours import heat_palette
from medssl_nb.viz.matrices import (
    MapPicture,
    as_joint,
    checked_cell,
    inner_outline,
    joint_codes,
    map_codes,
    map_palette,
    map_row_png,
)

EVEN, DIAGONAL = np.full((4, 4), 1 / 16), np.eye(4) / 4


@pytest.fixture(autouse=True)
def no_figure_is_left():
    yield
    plt.close("all")


def colours_in(png: bytes) -> set[tuple[int, int, int]]:
    pixels = np.round(255 * plt.imread(io.BytesIO(png), format="png")[..., :3]).astype(int)
    return {tuple(map(int, colour)) for colour in np.unique(pixels.reshape(-1, 3), axis=0)}


# ---------------------------------------------------------------- joint matrix
def test_colours_run_with_the_root_and_end_at_one_over_k_or_higher():
    codes, top = joint_codes(DIAGONAL)
    assert top == 0.25 and (codes == 255 * np.eye(4)).all()
    codes, top = joint_codes(EVEN)
    assert top == 0.25 and (codes == 128).all()  # root of a quarter: half way
    one = np.zeros((4, 4))
    one[0, 0], one[1, 1] = 0.99, 0.01
    codes, top = joint_codes(one)
    assert top == 0.99 and codes[0, 0] == 255 and codes[1, 1] == round(255 * (0.01 / 0.99) ** 0.5)


def test_the_picture_is_pure_and_takes_arrays_and_tensors():
    first = joint_matrix_png(DIAGONAL)
    assert first == joint_matrix_png(DIAGONAL) == joint_matrix_png(torch.tensor(DIAGONAL, requires_grad=True))
    assert first != joint_matrix_png(EVEN)
    assert first != joint_matrix_png(DIAGONAL, title="one\ntwo")


def test_cells_have_the_colours_of_their_shares():
    colours = colours_in(joint_matrix_png(DIAGONAL))
    assert tuple(map(int, heat_palette()[255])) in colours and tuple(map(int, heat_palette()[0])) in colours


def test_a_cell_is_framed():
    assert joint_matrix_png(EVEN, cell=(1, 2)) != joint_matrix_png(EVEN)
    assert (92, 242, 255) in colours_in(joint_matrix_png(EVEN, cell=(1, 2)))
    assert joint_matrix_png(EVEN, cell=(1, 2)) != joint_matrix_png(EVEN, cell=(2, 1))


def drawn(monkeypatch, joint, **options):
    figures = []
    monkeypatch.setattr(plt, "show", lambda: figures.append(plt.gcf()))
    monkeypatch.setattr(plt, "close", lambda *_: None)
    show_joint_matrix(joint, **options)
    return figures[0].axes


def test_marginals_stand_at_the_sides_on_one_scale(monkeypatch):
    joint = np.array([[0.5, 0.1], [0.0, 0.4]])
    above, _, cells, beside = drawn(monkeypatch, joint)[:4]
    np.testing.assert_allclose([bar.get_height() for bar in above.patches], [0.5, 0.5])
    np.testing.assert_allclose([bar.get_width() for bar in beside.patches], [0.6, 0.4])
    assert above.get_ylim() == beside.get_xlim()
    assert beside.get_ylim() == (1.5, -0.5)  # row 0 on top, as in the matrix
    np.testing.assert_allclose(cells.images[0].get_array(), joint)
    assert cells.get_ylabel() == "cluster in view A" and cells.get_xlabel() == "cluster in view B"


@pytest.mark.parametrize(("clusters", "numbered"), [(8, list(range(8))), (40, list(range(0, 40, 5)))])
def test_of_many_clusters_every_fifth_is_numbered(monkeypatch, clusters, numbered):
    cells = drawn(monkeypatch, np.eye(clusters) / clusters)[2]
    assert [int(label.get_text()) for label in cells.get_xticklabels()] == numbered


@pytest.mark.parametrize(
    ("joint", "message"),
    [
        (np.ones((2, 3)) / 6, r"one matrix \(K, K\) with K from 2, got shape \(2, 3\)"),
        (np.ones((1, 1)), "K from 2"),
        (np.ones((3, 2, 2)) / 4, "of several take one"),
        (np.eye(2), "found a smallest of 0 and a sum of 2; make it with joint_probability"),
        (np.array([[1.5, -0.5], [0, 0]]), "a smallest of -0.5"),
        (np.full((2, 2), np.nan), "a smallest of nan"),
    ],
)
def test_what_is_no_joint_matrix_is_refused(joint, message):
    with pytest.raises(ValueError, match=message):
        as_joint(joint)


@pytest.mark.parametrize("cell", [(0, 4), (-1, 0), (1,), 3, (0.5, 1), "ab"])
def test_a_cell_outside_is_refused(cell):
    with pytest.raises(ValueError, match="each from 0 to 3, or None; got"):
        checked_cell(cell, 4)


def test_cells_of_all_kinds():
    assert checked_cell(None, 4) is None and checked_cell([], 4) is None
    assert checked_cell([3, 0], 4) == checked_cell(np.array([3, 0]), 4) == (3, 0)


# ---------------------------------------------------------------- maps of one slice
VALUES = np.array([[0.0, 1, 2], [-1, 0.5, 9]])


def test_values_become_codes_of_the_range():
    codes = map_codes(MapPicture("one", VALUES, (0, 2)))
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, [[0, 128, 255], [0, 64, 255]])


def test_images_are_grey_and_scores_coloured():
    grey = map_palette(MapPicture("image", VALUES, (0, 2), grey=True))
    assert grey.shape == (256, 3) and (grey[:, 0] == np.arange(256)).all() and (np.ptp(grey, axis=1) == 0).all()
    np.testing.assert_array_equal(map_palette(MapPicture("one", VALUES, (0, 2))), heat_palette())


def test_an_outline_leaves_out_the_edge_of_the_picture():
    inside = np.zeros((3, 4), bool)
    inside[:, 2:] = True
    lines = inner_outline(inside)
    assert len(lines) == 3 and (lines[..., 0] == 2).all()
    assert len(inner_outline(np.ones((3, 4), bool))) == 0


def test_a_row_of_maps_is_pure_and_follows_its_parts():
    image, score = MapPicture("image", VALUES, (0, 2), grey=True), MapPicture("score", VALUES, (0, 2))
    line = np.array([[0.5, 0.5], [2.0, 1.5]])
    plain = map_row_png([image, score])
    assert plain == map_row_png([image, score])
    others = [
        map_row_png([image, score], lines=[line]),
        map_row_png([image._replace(lined=False), score], lines=[line]),
        map_row_png([image, score], outline=VALUES > 0.7),
        map_row_png([image, score], letters="RLAP"),
        map_row_png([image, score], title="above"),
        map_row_png([image, score], pixel=(1, 2)),
        map_row_png([image]),
    ]
    assert len({plain, *others}) == 8
    unlined = [picture._replace(lined=False) for picture in (image, score)]
    assert map_row_png(unlined, lines=[line]) == plain
