"""Affines, crops, resampling, and movements whose geometry is known."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medssl_nb.data.geometry import (
    crop,
    mm_to_voxel,
    move,
    move_points,
    orientation,
    random_affine,
    resample,
    spacing_mm,
    voxel_to_mm,
)

AFFINE = np.array([[2.0, 0, 0, -10], [0, 3.0, 0, -20], [0, 0, 4.0, -30], [0, 0, 0, 1]])


def volume(array, affine=AFFINE):
    return MetaTensor(torch.as_tensor(array)[None], affine=torch.tensor(affine))


def blob(centre, shape=(24, 24, 24)):
    """A smooth ball around a voxel: its centre of mass is known to a fraction of a voxel."""
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    apart = sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True))
    return np.exp(-apart / (2 * 2.0**2)).astype(np.float32)


def centre_of_mass_mm(image):
    weights = image[0].numpy()
    voxels = np.argwhere(weights > 0.02)
    mass = weights[tuple(voxels.T)][:, None]
    return voxel_to_mm(image.affine, ((voxels * mass).sum(0) / mass.sum())[None])[0]


def test_voxel_and_mm_by_hand():
    np.testing.assert_allclose(voxel_to_mm(AFFINE, [[0, 0, 0], [1, 2, 3]]), [[-10, -20, -30], [-8, -14, -18]])
    assert spacing_mm(AFFINE) == (2, 3, 4)
    assert orientation(AFFINE) == "RAS"
    assert orientation(np.diag([-1.0, -1, 1, 1])) == "LPS"


def test_voxel_and_mm_undo_each_other_for_an_oblique_affine():
    oblique = random_affine(torch.Generator().manual_seed(3), rotation_degrees=40) @ AFFINE
    points = np.random.default_rng(0).uniform(-50, 50, (20, 3))
    np.testing.assert_allclose(mm_to_voxel(oblique, voxel_to_mm(oblique, points)), points, atol=1e-10)


def test_points_and_affines_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"rows \(N, 3\)"):
        voxel_to_mm(AFFINE, [1, 2, 3])
    with pytest.raises(ValueError, match=r"\(4, 4\)"):
        voxel_to_mm(np.eye(3), [[1, 2, 3]])


def test_a_crop_keeps_values_and_places():
    image = volume(np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6))
    box = crop(image, (1, 2, 3), (2, 2, 2))
    assert box.dtype == torch.int16
    np.testing.assert_array_equal(box[0], image[0, 1:3, 2:4, 3:5])
    np.testing.assert_allclose(voxel_to_mm(box.affine, [[1, 1, 1]]), voxel_to_mm(image.affine, [[2, 3, 4]]))


def test_a_crop_beyond_the_edge_is_filled():
    image = volume(np.ones((4, 4, 4), np.int16))
    box = crop(image, (-1, 0, 2), (3, 2, 4), fill=-1000)
    assert (box[0, 0] == -1000).all()
    assert (box[0, 1:, :, :2] == 1).all()
    assert (box[0, 1:, :, 2:] == -1000).all()
    with pytest.raises(ValueError, match="three whole numbers"):
        crop(image, (1.5, 0, 0), (2, 2, 2))
    for start, size in (((9, 0, 0), (2, 2, 2)), ((0, 0, 0), (0, 2, 2)), ((-3, 0, 0), (3, 2, 2))):
        with pytest.raises(ValueError, match="does not overlap"):
            crop(image, start, size)


def test_resampling_moves_no_anatomy():
    image = volume(blob((12, 10, 13)))
    finer = resample(image, 1.5)
    assert spacing_mm(finer.affine) == pytest.approx((1.5, 1.5, 1.5))
    np.testing.assert_allclose(centre_of_mass_mm(finer), centre_of_mass_mm(image), atol=0.1)
    label = volume((blob((12, 10, 13)) > 0.5).astype(np.uint8) * 7)
    coarser = resample(label, (4, 4, 4), label=True)
    assert coarser.dtype == torch.uint8
    assert set(coarser.unique().tolist()) == {0, 7}
    with pytest.raises(ValueError, match="above 0"):
        resample(image, (1, 0, 1))


def test_resampling_keeps_the_first_voxel_of_oblique_scans_with_rounded_headers():
    generator = torch.Generator().manual_seed(2)
    for _ in range(20):
        oblique = (random_affine(generator, rotation_degrees=30) @ AFFINE).astype(np.float32)  # as a file stores it
        resampled = resample(volume(blob((12, 10, 13), (24, 20, 26)), oblique.astype(np.float64)), 2.5)
        np.testing.assert_allclose(resampled.affine[:3, 3], oblique[:3, 3], atol=1e-5)
        assert spacing_mm(resampled.affine) == pytest.approx((2.5, 2.5, 2.5))
        last_old = voxel_to_mm(oblique, [[23, 19, 25]])
        last_new = voxel_to_mm(resampled.affine, [np.array(resampled.shape[1:]) - 1])
        assert np.linalg.norm(last_old - last_new) <= np.sqrt(3) * 1.25 + 1e-6


def test_large_label_numbers_survive():
    label = volume(np.full((6, 6, 6), 2**24 + 1, np.int32))
    assert int(resample(label, 2.0, label=True).max()) == 2**24 + 1
    assert int(move(label, np.eye(4), label=True).max()) == 2**24 + 1


def test_a_landmark_moves_with_its_organ():
    image = volume(blob((12, 11, 12)))
    place = centre_of_mass_mm(image)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        matrix = random_affine(generator, rotation_degrees=20, scale=0.15, shift_mm=8, centre_mm=place)
        moved = move(image, matrix)
        assert moved.shape == image.shape
        np.testing.assert_allclose(centre_of_mass_mm(moved), move_points(matrix, place[None])[0], atol=0.25)


def test_moving_by_nothing_changes_nothing_and_outside_is_filled():
    image = volume((blob((12, 11, 12)) * 1000 - 1000).astype(np.int16))
    np.testing.assert_allclose(move(image, np.eye(4), fill=-1000), image, atol=1e-3)
    far = np.eye(4)
    far[0, 3] = 1e4
    assert (move(image, far, fill=-1000) == -1000).all()
    label = volume((blob((12, 11, 12)) > 0.5).astype(np.uint8) * 3)
    assert move(label, far, label=True).dtype == torch.uint8
    with pytest.raises(ValueError, match="squeezes"):
        move(image, np.diag([0.0, 1, 1, 1]))
    for bad in (np.diag([np.nan, 1, 1, 1]), np.diag([1.0, 1, 1, 2])):
        with pytest.raises(ValueError, match="finite numbers and the last row"):
            move(image, bad)


def test_random_affine_repeats_and_respects_its_ranges():
    one, two = (random_affine(torch.Generator().manual_seed(5)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    still = random_affine(torch.Generator().manual_seed(5), rotation_degrees=0, scale=0, shift_mm=0)
    np.testing.assert_allclose(still, np.eye(4))
    only_turned = random_affine(torch.Generator().manual_seed(5), scale=0, shift_mm=0, centre_mm=(5, 6, 7))
    assert np.linalg.det(only_turned[:3, :3]) == pytest.approx(1)
    np.testing.assert_allclose(move_points(only_turned, [[5, 6, 7]]), [[5, 6, 7]], atol=1e-12)
    with pytest.raises(ValueError, match="scale < 1"):
        random_affine(torch.Generator(), scale=1)
