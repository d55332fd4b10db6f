import numpy as np
import pytest
import torch

from medssl_nb.viz import axial_view, coronal_view, sagittal_view, slice_view
from medssl_nb.viz.planes import PLANES, planes_worth_showing, to_picture

SHAPE = (5, 6, 7)


def lit(voxel) -> np.ndarray:
    volume = np.zeros(SHAPE)
    volume[voxel] = 1
    return volume


def corner(picture) -> str:
    """Where the one bright element of a picture is."""
    ((row, column),) = np.argwhere(picture)
    rows, columns = picture.shape
    vertical = {0: "top", rows - 1: "bottom"}.get(int(row), "middle")
    return f"{vertical} " + {0: "left", columns - 1: "right"}.get(int(column), "middle")


RIGHT, LEFT, ANTERIOR, POSTERIOR, SUPERIOR, INFERIOR = SHAPE[0] - 1, 0, SHAPE[1] - 1, 0, SHAPE[2] - 1, 0


def test_the_right_anterior_superior_voxel_is_where_radiologists_look_for_it():
    volume = lit((RIGHT, ANTERIOR, SUPERIOR))
    assert corner(axial_view(volume, SUPERIOR)) == "top left"
    assert corner(coronal_view(volume, ANTERIOR)) == "top left"
    assert corner(sagittal_view(volume, RIGHT)) == "top left"


def test_the_left_posterior_inferior_voxel_is_in_the_opposite_corner():
    volume = lit((LEFT, POSTERIOR, INFERIOR))
    assert corner(axial_view(volume, INFERIOR)) == "bottom right"
    assert corner(coronal_view(volume, POSTERIOR)) == "bottom right"
    assert corner(sagittal_view(volume, LEFT)) == "bottom right"


def test_one_axis_at_a_time():
    assert corner(axial_view(lit((LEFT, ANTERIOR, 3)), 3)) == "top right"
    assert corner(coronal_view(lit((RIGHT, 2, INFERIOR)), 2)) == "bottom left"
    assert corner(sagittal_view(lit((2, POSTERIOR, SUPERIOR)), 2)) == "top right"


def test_shapes_are_rows_by_columns():
    volume = np.zeros(SHAPE)
    assert axial_view(volume, 0).shape == (6, 5)
    assert coronal_view(volume, 0).shape == (7, 5)
    assert sagittal_view(volume, 0).shape == (7, 6)


def test_every_voxel_stands_where_to_picture_says():
    volume = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    for voxel in [(0, 0, 0), (4, 5, 6), (1, 4, 2)]:
        for name, plane in PLANES.items():
            picture = slice_view(volume, name, voxel[plane.fixed])
            assert picture[to_picture(voxel, name, SHAPE)] == volume[voxel]


def test_tensor_and_array_give_one_picture():
    volume = np.random.default_rng(0).normal(size=SHAPE)
    np.testing.assert_array_equal(axial_view(torch.from_numpy(volume)[None], 2), axial_view(volume, 2))


@pytest.mark.parametrize(("plane", "index"), [("axial", 7), ("coronal", 6), ("sagittal", 5), ("axial", -1)])
def test_a_slice_that_is_not_there_is_refused(plane, index):
    with pytest.raises(ValueError, match=f"{plane} slice . = {index} does not exist; this volume has 0 to"):
        slice_view(np.zeros(SHAPE), plane, index)


def test_an_unknown_plane_and_a_fraction_are_refused():
    with pytest.raises(ValueError, match="'transverse'"):
        slice_view(np.zeros(SHAPE), "transverse", 0)
    with pytest.raises(TypeError):
        axial_view(np.zeros(SHAPE), 1.5)


def test_a_volume_of_one_slice_has_one_plane():
    assert planes_worth_showing((4, 4, 1)) == ["axial"]
    assert planes_worth_showing((4, 1, 4)) == ["coronal"]
    assert planes_worth_showing((1, 4, 4)) == ["sagittal"]
    assert planes_worth_showing((4, 4, 4)) == ["axial", "coronal", "sagittal"]
    assert planes_worth_showing((1, 1, 1)) == ["axial"]
