"""Reading and writing NIfTI: what is kept, and what is refused with which words."""

import gzip

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medssl_nb.data.volumes import check_same_grid, read_grid, read_label_map, read_volume, write_volume

AFFINE = np.array([[2.0, 0, 0, -10], [0, 3.0, 0, -20], [0, 0, 4.0, -30], [0, 0, 0, 1]])


def numbered(shape=(3, 4, 5), dtype=np.int16):
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def save(path, array, affine=AFFINE, **header):
    image = nib.Nifti1Image(array, affine, dtype=array.dtype)
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, path)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_round_trip_keeps_numbers_type_and_place(tmp_path, dtype, ending):
    written = write_volume(tmp_path / f"scan{ending}", numbered(dtype=dtype), AFFINE)
    volume = read_volume(written)
    assert volume.shape == (1, 3, 4, 5)
    assert volume.numpy().dtype == dtype
    np.testing.assert_array_equal(volume[0], numbered(dtype=dtype))
    np.testing.assert_array_equal(volume.affine, AFFINE)


def test_channels_come_first_and_go_back_last(tmp_path):
    volume = MetaTensor(torch.arange(120.0).reshape(2, 3, 4, 5), affine=torch.tensor(AFFINE))
    path = write_volume(tmp_path / "two.nii.gz", volume)
    assert nib.load(path).shape == (3, 4, 5, 2)
    assert torch.equal(read_volume(path).as_tensor(), volume.as_tensor())


@pytest.mark.parametrize("letters", ["LPS", "RAS", "ASL", "PIR", "SRA"])
def test_any_stored_order_of_axes_becomes_ras_with_every_voxel_in_place(tmp_path, letters):
    ras = nib.Nifti1Image(numbered(), AFFINE)
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(letters))
    stored = ras.as_reoriented(turn)
    assert "".join(nib.aff2axcodes(stored.affine)) == letters
    nib.save(stored, tmp_path / "scan.nii")
    volume = read_volume(tmp_path / "scan.nii")
    np.testing.assert_array_equal(volume[0], numbered())
    np.testing.assert_allclose(volume.affine, AFFINE)
    grid = read_grid(tmp_path / "scan.nii")
    assert grid.shape == (3, 4, 5)
    np.testing.assert_allclose(grid.affine, AFFINE)


def test_scale_factor_is_applied_as_float32(tmp_path):
    path = save(tmp_path / "scan.nii", numbered(), scl_slope=1, scl_inter=0)
    raw = bytearray(path.read_bytes())
    raw[112:120] = np.array([0.5, -3], "<f4").tobytes()  # scl_slope and scl_inter in the NIfTI-1 header
    path.write_bytes(raw)
    volume = read_volume(path)
    assert volume.dtype == torch.float32
    np.testing.assert_allclose(volume[0], numbered() * 0.5 - 3)


def test_unsigned_types_become_ones_torch_can_calculate_with(tmp_path):
    path = save(tmp_path / "scan.nii", np.full((2, 2, 2), 60000, np.uint16))
    assert read_volume(path).dtype == torch.int32
    assert int(read_volume(path).max()) == 60000


def test_64_bit_labels_are_kept_or_refused_never_wrapped(tmp_path):
    path = save(tmp_path / "label.nii", np.array([[[0, 1, 7]]], np.uint64))
    assert read_label_map(path).dtype == torch.uint8
    save(path, np.array([[[0, 1, 2**32 + 1]]], np.int64))
    with pytest.raises(ValueError, match="holds label 4294967297"):
        read_label_map(path)
    save(path, np.array([[[0, 1, 2**63 + 1]]], np.uint64))
    with pytest.raises(ValueError, match="beyond 64-bit integers"):
        read_volume(path)


def test_metres_become_millimetres(tmp_path):
    image = nib.Nifti1Image(numbered(), AFFINE / 1000 + np.diag([0, 0, 0, 0.999]))
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "m.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "m.nii").affine, AFFINE, rtol=1e-5)


def test_bool_and_half_precision_are_stored_as_the_nearest_nifti_type(tmp_path):
    mask = write_volume(tmp_path / "mask.nii.gz", torch.ones(2, 2, 2, dtype=torch.bool), AFFINE)
    assert read_volume(mask).dtype == torch.uint8
    half = write_volume(tmp_path / "half.nii.gz", torch.full((2, 2, 2), 0.5, dtype=torch.bfloat16), AFFINE)
    assert read_volume(half).dtype == torch.float32


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((2, 2, 2), np.nan, np.float32), "8 of 8 voxels are NaN"),
        (np.zeros((4, 4), np.int16), "3 axes"),
        (np.zeros((2, 2, 2, 1, 3), np.int16), "3 axes"),
        (np.zeros((2, 2, 2), np.complex64), "complex"),
        (np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "colour"),
    ],
)
def test_contents_that_are_no_volume_are_refused(tmp_path, array, words):
    path = save(tmp_path / "bad.nii", array)
    with pytest.raises(ValueError, match=words) as error:
        read_volume(path)
    assert "bad.nii" in str(error.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda raw: b"", "not a readable NIfTI"),
        (lambda raw: b"not an image at all", "not a readable NIfTI"),
        (lambda raw: raw[: len(raw) // 2], "cut short or damaged|not a readable"),
        (lambda raw: raw[:-6], "cut short or damaged"),
        (lambda raw: raw[:400] + bytes(40) + raw[440:], "damaged|not a readable"),
    ],
)
def test_damaged_files_are_named(tmp_path, make, words):
    rng = np.random.default_rng(0)
    raw = write_volume(tmp_path / "good.nii.gz", rng.normal(size=(12, 12, 12)), AFFINE).read_bytes()
    (tmp_path / "bad.nii.gz").write_bytes(make(raw))
    with pytest.raises(ValueError, match=words) as error:
        read_volume(tmp_path / "bad.nii.gz")
    assert "bad.nii.gz" in str(error.value)


def test_a_wrong_ending_a_missing_file_and_another_format(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_volume(tmp_path / "none.nii.gz")
    (tmp_path / "page.nii.gz").write_bytes(gzip.compress(b"<html>404</html>" * 40))
    with pytest.raises(ValueError, match="not a readable NIfTI"):
        read_volume(tmp_path / "page.nii.gz")
    nib.save(nib.MGHImage(numbered().astype(np.int32), AFFINE), tmp_path / "scan.mgz")
    with pytest.raises(ValueError, match="convert it"):
        read_volume(tmp_path / "scan.mgz")
    with pytest.raises(ValueError, match=r"end in \.nii"):
        write_volume(tmp_path / "scan.png", numbered(), AFFINE)


def test_a_file_without_orientation_is_refused_until_the_reader_says_it(tmp_path):
    image = nib.Nifti1Image(numbered(), None)
    image.header.set_zooms((2, 3, 4))
    nib.save(image, tmp_path / "lost.nii")
    with pytest.raises(ValueError, match="records no orientation"):
        read_volume(tmp_path / "lost.nii")
    as_stored = read_volume(tmp_path / "lost.nii", axes="RAS")
    flipped = read_volume(tmp_path / "lost.nii", axes="LPS")
    np.testing.assert_array_equal(as_stored[0], numbered())
    np.testing.assert_array_equal(flipped[0], numbered()[::-1, ::-1])
    np.testing.assert_allclose(as_stored.affine, flipped.affine)  # both grids are centred on 0 mm
    np.testing.assert_allclose(as_stored.pixdim, (2, 3, 4))
    with pytest.raises(ValueError, match="three directions"):
        read_volume(tmp_path / "lost.nii", axes="RLS")


@pytest.mark.parametrize("bad", [np.diag([0.0, 1, 1, 1]), np.diag([np.inf, 1, 1, 1]), np.ones((4, 4)), np.eye(3)])
def test_affines_that_cannot_place_a_voxel_are_refused(tmp_path, bad):
    with pytest.raises(ValueError, match="affine"):
        write_volume(tmp_path / "scan.nii.gz", numbered(), bad)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = write_volume(tmp_path / "scan.nii.gz", numbered(), AFFINE)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="NaN"):
        write_volume(path, np.full((2, 2, 2), np.nan), AFFINE)
    with pytest.raises(ValueError, match="without an affine"):
        write_volume(path, numbered())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["scan.nii.gz"]


def test_label_maps_hold_whole_numbers(tmp_path):
    path = save(tmp_path / "label.nii", np.array([[[0.0, 1.0, 2.0]]], np.float32))
    assert read_label_map(path).dtype == torch.uint8
    path = save(tmp_path / "many.nii", np.array([[[0, 1, 300]]], np.int16))
    assert read_label_map(path).dtype == torch.int32
    for values, words in (([0, 0.5, 1], "some of them fractions"), ([-1, 0, 1], "from -1 to 1")):
        save(tmp_path / "bad.nii", np.array([[values]], np.float32))
        with pytest.raises(ValueError, match=words):
            read_label_map(tmp_path / "bad.nii")
    save(tmp_path / "four.nii", np.zeros((2, 2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="3 channels"):
        read_label_map(tmp_path / "four.nii")


def test_label_and_image_share_a_grid(tmp_path):
    image = read_volume(save(tmp_path / "image.nii", numbered()))
    label = save(tmp_path / "label.nii", np.zeros((3, 4, 5), np.uint8))
    assert read_label_map(label, like=image).shape == (1, 3, 4, 5)
    shifted = AFFINE.copy()
    shifted[0, 3] += 7
    save(tmp_path / "label.nii", np.zeros((3, 4, 5), np.uint8), shifted)
    with pytest.raises(ValueError, match=r"up to 7\.0 mm away"):
        read_label_map(label, like=image)
    save(tmp_path / "label.nii", np.zeros((3, 4, 6), np.uint8))
    with pytest.raises(ValueError, match="on one grid"):
        check_same_grid(image, read_volume(label))


def test_an_uncompressed_file_cut_short_is_named(tmp_path):
    raw = write_volume(tmp_path / "good.nii", numbered(), AFFINE).read_bytes()
    (tmp_path / "bad.nii").write_bytes(raw[:-20])
    with pytest.raises(ValueError, match="cut short") as error:
        read_volume(tmp_path / "bad.nii")
    assert "bad.nii" in str(error.value)
