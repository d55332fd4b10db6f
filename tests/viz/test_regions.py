"""The matrix of regions' cosines and values by step as pictures."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from medssl_nb.viz import cluster_colours, region_matrix_png, show_region_matrix
from medssl_nb.viz.colours import heat_palette, rgb
from medssl_nb.viz.regions import (
    StepLine,
    StepPlot,
    as_cosines,
    checked_pair,
    cosine_codes,
    filled_regions,
    nearest_columns,
    numbers_or_none,
    step_plot_png,
)

COSINES = np.array([[1.0, 0.2, -1.0], [0.9, 0.5, 0.0], [0.0, 0.0, 0.7]])
PLOT = StepPlot(
    "score", (StepLine("real", np.array([0.5, np.nan, 0.7]), "#e69f00", True),), 1.0, 0.5, "0.5: cannot tell"
)


@pytest.fixture(autouse=True)
def no_figure_is_left():
    yield
    plt.close("all")


def colours_in(png: bytes) -> set[tuple[int, int, int]]:
    pixels = np.round(255 * plt.imread(io.BytesIO(png), format="png")[..., :3]).astype(int)
    return {tuple(map(int, colour)) for colour in np.unique(pixels.reshape(-1, 3), axis=0)}


# ---------------------------------------------------------------- cosines
def test_codes_run_evenly_from_minus_one_to_one():
    assert cosine_codes(np.array([-1, 0, 1.0, 0.5])).tolist() == [0, 128, 255, 191]


def test_the_nearest_column_by_hand():
    assert nearest_columns(COSINES).tolist() == [0, 0, 2]
    assert nearest_columns(np.zeros((3, 3))).tolist() == [0, 0, 0]  # the first of equals
    filled = np.array([True, True, False])
    assert nearest_columns(COSINES, filled, ~filled).tolist() == [2, 2, -1]
    assert nearest_columns(COSINES, None, np.zeros(3, bool)).tolist() == [-1, -1, -1]


def test_a_cluster_without_voxels_has_no_region():
    regions = np.array([[1.0, 0], [0, 0], [0.6, 0.8]])
    assert filled_regions(regions).tolist() == [True, False, True]
    assert filled_regions(regions[None]).shape == (1, 3)


def test_the_picture_is_pure_and_takes_arrays_and_tensors():
    first = region_matrix_png(COSINES)
    assert first == region_matrix_png(COSINES) == region_matrix_png(torch.tensor(COSINES, requires_grad=True))
    assert len({first, region_matrix_png(COSINES, cell=(1, 2)), region_matrix_png(COSINES, nearest=[0, 1, -1])}) == 3
    assert first != region_matrix_png(COSINES, row_name="cluster of Ann", title="one\ntwo")


def test_cells_and_sides_have_their_colours():
    colours = colours_in(region_matrix_png(COSINES, nearest=[-1, -1, -1]))
    codes = cosine_codes(COSINES).ravel()
    assert {tuple(map(int, heat_palette("difference")[code])) for code in codes} <= colours
    assert {tuple(map(int, rgb(colour))) for colour in cluster_colours(3)} <= colours


def test_a_picture_is_shown_and_let_go_of():
    show_region_matrix(COSINES, cell=(0, 0))
    assert plt.get_fignums() == []


def test_what_is_no_matrix_of_cosines_is_refused():
    for wrong in (np.zeros((2, 3)), np.zeros((1, 1)), np.zeros((2, 2, 2))):
        with pytest.raises(ValueError, match=r"one matrix \(K, K\) with K from 2, got shape"):
            as_cosines(wrong)
    for wrong in (np.full((2, 2), 1.1), np.full((2, 2), np.nan)):
        with pytest.raises(
            ValueError, match=r"cosines lie from -1 to 1, found (1\.1 to 1\.1|nan).*regions_a @ regions_b\.T"
        ):
            as_cosines(wrong)
    with pytest.raises(ValueError, match="1 to 40, got 41"):
        as_cosines(np.eye(41))
    assert as_cosines(np.full((2, 2), 1 + 1e-6)).max() == 1


def test_cells():
    assert checked_pair(None, 3) is None and checked_pair((), 3) is None
    assert checked_pair([2, 0], 3) == (2, 0) == checked_pair(torch.tensor([2, 0]), 3)
    for wrong in ((3, 0), (0, -1), (1,), (0.5, 1), "ab"):
        with pytest.raises(ValueError, match=r"cell is \(i, j\), a row and a column, each from 0 to 2, or None; got"):
            checked_pair(wrong, 3)


# ---------------------------------------------------------------- by step
def test_a_curve_is_pure_and_marks_the_chosen_step():
    first = step_plot_png([0, 10, 40], PLOT)
    assert first == step_plot_png([0, 10, 40], PLOT)
    pictures = {first, *(step_plot_png([0, 10, 40], PLOT, chosen=k) for k in range(3))}
    assert len(pictures) == 4
    assert tuple(map(int, rgb("#e69f00"))) in colours_in(first)


def test_what_is_not_a_number_is_none_for_the_browser():
    assert numbers_or_none(PLOT.lines[0].values) == [0.5, None, 0.7]
