"""The working grid: where things lie stays, noise falls, and what is kept in the cache is what the file says."""

import pickle
from multiprocessing.pool import ThreadPool

import nibabel
import numpy as np
import pytest
import torch

from medssl_nb.data import load_cohort, spacing_mm, to_working_grid, voxel_to_mm, write_volume
from medssl_nb.data.working_grid import stored_grid

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = [[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]] @ np.diag([1.0, 1, 5])
OBLIQUE[:3, 3] = (-30, 12, 7)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "working_grid"


@pytest.fixture
def folder(tmp_path):
    """Four labelled scans of 20 x 20 x 4 voxels, oblique, 1 x 1 x 5 mm."""
    for i in range(4):
        values = np.random.default_rng(i).normal(0, 100, (20, 20, 4)).astype(np.float32)
        write_volume(tmp_path / "scans" / "images" / f"s{i}.nii.gz", values, OBLIQUE)
        write_volume(tmp_path / "scans" / "labels" / f"s{i}.nii.gz", (values > 0).astype(np.uint8), OBLIQUE)
    return tmp_path / "scans"


def mm_image():
    """Values that are each voxel's own place in mm (third coordinate changes along z only)."""
    from monai.data import MetaTensor

    shape = (21, 21, 5)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    places = voxel_to_mm(OBLIQUE, index).reshape(*shape, 3)
    return MetaTensor(torch.from_numpy(np.moveaxis(places, -1, 0)).float(), affine=torch.from_numpy(OBLIQUE))


def test_every_voxel_keeps_its_place_in_mm():
    seen = to_working_grid(mm_image(), (2, 4, 5))
    assert seen.shape == (3, 11, 6, 5) and spacing_mm(seen.affine) == pytest.approx((2, 4, 5))
    index = np.stack(np.meshgrid(*map(np.arange, seen.shape[1:]), indexing="ij"), -1).reshape(-1, 3)
    true = voxel_to_mm(seen.affine, index).reshape(*seen.shape[1:], 3)
    inside = (slice(2, -2), slice(2, -2), slice(1, -1))
    np.testing.assert_allclose(np.moveaxis(seen.numpy(), 0, -1)[inside], true[inside], atol=1e-3)


def test_the_same_grid_changes_nothing_and_labels_take_the_nearest_voxel():
    image = mm_image()
    torch.testing.assert_close(to_working_grid(image, (1, 1, 5)).as_tensor(), image.as_tensor(), atol=1e-4, rtol=0)
    label = (image[:1] > -20).to(torch.uint8) * 200
    seen = to_working_grid(label, 2, label=True)
    assert seen.dtype == torch.uint8 and set(seen.unique().tolist()) == {0, 200}
    assert torch.equal(seen.as_tensor()[:, ..., 0], label.as_tensor()[:, ::2, ::2, 0])


def test_noise_falls_where_the_grid_gets_coarser():
    from monai.data import MetaTensor

    noise = torch.randn(1, 40, 40, 40, generator=torch.Generator().manual_seed(0))
    image = MetaTensor(noise, affine=torch.eye(4, dtype=torch.float64))
    assert to_working_grid(image, 4).std() < 0.15  # 1.0 if one voxel in 64 stood for all


@pytest.mark.parametrize("wrong", [0, -1, (1, 2), "coarse", float("nan")])
def test_a_spacing_that_is_none_is_refused(folder, wrong):
    with pytest.raises(ValueError, match="one number or three, in mm and above 0"):
        load_cohort(folder, modality="CT", spacing_mm=wrong)


def test_a_cohort_on_the_grid_is_kept_by_content(folder, cache):
    cohort = load_cohort(folder, modality="MR", spacing_mm=2.5)
    plain = load_cohort(folder, modality="MR")
    assert cohort.split == plain.split and cohort.label_names == plain.label_names
    case = cohort["s1"]
    image, label = case.image(), case.label()
    assert image.shape[1:] == label.shape[1:] == (9, 9, 7)
    np.testing.assert_array_equal(image.affine, label.affine)
    assert len(list(cache.iterdir())) == 2
    again = pickle.loads(pickle.dumps(case)).image()
    assert torch.equal(again, image) and again.meta["filename_or_obj"] == image.meta["filename_or_obj"]
    kept = next(iter(cache.iterdir()))
    kept.write_bytes(kept.read_bytes()[:-9])  # damaged: made anew, not trusted
    assert torch.equal(case.image(), image) and torch.equal(case.label(), label)
    write_volume(folder / "images" / "s1.nii.gz", np.full((20, 20, 4), 5.0, np.float32), OBLIQUE)
    assert float(case.image().max()) == float(case.image().min()) == 5
    assert load_cohort(folder, modality="MR", spacing_mm=5)["s1"].image().shape[1] == 5


def test_a_label_a_hair_beside_its_image_gets_the_image_s_voxels(folder):
    beside = OBLIQUE.copy()
    beside[0, 3] += 0.05
    values = nibabel.load(folder / "labels" / "s2.nii.gz").get_fdata().astype(np.uint8)
    write_volume(folder / "labels" / "s2.nii.gz", values, beside)
    case = load_cohort(folder, modality="CT", spacing_mm=3)["s2"]
    np.testing.assert_allclose(case.label().affine, case.image().affine, atol=1e-12)


def test_several_may_write_the_cache_at_once(folder, cache):
    case = load_cohort(folder, modality="CT", spacing_mm=2)["s0"]
    with ThreadPool(4) as pool:
        seen = pool.map(lambda _: case.image(), range(8))
    assert all(torch.equal(image, seen[0]) for image in seen)
    assert [file.name[:5] for file in cache.iterdir()] == ["scan-"]  # no draft is left


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SPL", "AIR", "PIR"])
def test_the_grid_of_a_file_is_that_of_its_stored_axes(tmp_path, axes):
    image = nibabel.Nifti1Image(np.zeros((5, 6, 7), np.int16), OBLIQUE)
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(OBLIQUE), nibabel.orientations.axcodes2ornt(axes))
    nibabel.save(image.as_reoriented(turn), tmp_path / "a.nii")
    stored, grid = nibabel.load(tmp_path / "a.nii"), stored_grid(tmp_path / "a.nii")
    assert grid.shape == stored.shape
    np.testing.assert_allclose(grid.affine, stored.affine, atol=1e-12)


def test_metres_become_millimetres(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((5, 6, 7), np.int16), np.diag([0.001, 0.002, 0.003, 1]))
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "a.nii")
    assert spacing_mm(stored_grid(tmp_path / "a.nii").affine) == pytest.approx((1, 2, 3))


def test_generated_cohorts_mean_their_own_spacing():
    cohort = load_cohort("phantom", shape=(8, 8, 8), spacing_mm=(40, 40, 48), train=1, validation=1, test=1)
    assert type(cohort.train[0].volumes["image"]).__name__ != "OnGrid"
