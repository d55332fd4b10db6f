"""Predictions in the scan's own space: a network that calls bright voxels an organ shows where every voxel went."""

from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
from torch import nn

from medssl_nb.evaluation import predict, predict_scan

CARD = {"label_names": {0: "background", 3: "liver"}, "modality": "CT", "spacing_mm": None, "crop": [16, 16, 8]}
ORGAN = (slice(6, 22), slice(4, 12), slice(3, 8))


class Bright(nn.Module):
    """Class 1 where the scaled image is above 0 (37.5 HU)."""

    def __init__(self):
        super().__init__()
        self.encoder = SimpleNamespace(in_channels=1)
        self.slope = nn.Parameter(torch.tensor(5.0))

    def forward(self, volume):
        return torch.cat([-self.slope * volume, self.slope * volume], dim=1)


def write_scan(path, axes="RAS", spacing=(3.0, 3.0, 4.0), degrees=0.0, shape=(28, 20, 12)):
    """A bright box in water; returns the file as nibabel reads it, and which voxels are bright."""
    values = np.full(shape, -100, np.int16)
    values[ORGAN] = 200
    turn, affine = np.radians(degrees), np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine[:3, :3] = affine[:3, :3] @ np.diag(spacing)
    affine[:3, 3] = (-40, 25, 300)
    image = nibabel.Nifti1Image(values, affine)
    to = nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(axes))
    nibabel.save(image.as_reoriented(to), path)
    stored = nibabel.load(path)
    return stored, np.asarray(stored.dataobj) > 0


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SPL", "AIR", "PIR"])
def test_on_its_own_grid_every_voxel_of_any_orientation_comes_back(tmp_path, axes):
    scan, bright = write_scan(tmp_path / "scan.nii.gz", axes, degrees=20)
    facts = predict_scan(Bright(), tmp_path / "scan.nii.gz", tmp_path / "out" / "label.nii.gz", CARD)
    found = nibabel.load(tmp_path / "out" / "label.nii.gz")
    assert found.shape == scan.shape and found.get_data_dtype() == np.uint8
    np.testing.assert_allclose(found.affine, scan.affine, rtol=1e-6, atol=1e-5)
    assert nibabel.aff2axcodes(found.affine) == tuple(axes)
    np.testing.assert_array_equal(np.asarray(found.dataobj), bright * np.uint8(3))
    assert facts["voxels"] == {"liver": 16 * 8 * 5}
    assert facts["volume_ml"]["liver"] == pytest.approx(16 * 8 * 5 * 36 / 1000, abs=1e-2)
    assert facts["shape"] == list(scan.shape)
    assert facts["notes"] == ["its grey values, -100 to 200, are no Hounsfield units"]


@pytest.mark.parametrize(
    ("axes", "spacing", "degrees", "grid"),
    [
        ("LPS", (3.0, 3.0, 4.0), 0, [5, 5, 5]),
        ("SPL", (3.0, 3.0, 4.0), 30, [4, 5, 6]),
        ("RAS", (1.0, 1.0, 5.0), 10, [2, 2, 5]),  # thick slices
        ("AIR", (3.0, 3.0, 4.0), 0, [2, 2, 2]),  # finer than the scan
    ],
)
def test_through_the_working_grid_the_organ_comes_back_to_its_place(tmp_path, axes, spacing, degrees, grid):
    scan, bright = write_scan(tmp_path / "scan.nii", axes, spacing, degrees)
    facts = predict_scan(Bright(), tmp_path / "scan.nii", tmp_path / "label.nii", {**CARD, "spacing_mm": grid})
    found = np.asarray(nibabel.load(tmp_path / "label.nii").dataobj) == 3
    assert found.shape == scan.shape
    assert dice(found, bright) > 0.8  # 0.81 on 5 mm, where smoothing rounds the corners of a box of 24 mm
    centres = [np.argwhere(mask).mean(0) for mask in (found, bright)]
    assert np.abs((centres[0] - centres[1]) * nibabel.affines.voxel_sizes(scan.affine)).max() < 1  # mm
    assert facts["working_shape"] != facts["shape"]


def test_monai_and_nibabel_see_one_geometry(tmp_path):
    from monai.transforms import LoadImage

    write_scan(tmp_path / "scan.nii.gz", "PIR", degrees=15)
    predict_scan(Bright(), tmp_path / "scan.nii.gz", tmp_path / "label.nii.gz", {**CARD, "spacing_mm": [5, 5, 5]})
    image, label = (LoadImage(image_only=True)(tmp_path / f"{name}.nii.gz") for name in ("scan", "label"))
    assert image.shape == label.shape
    np.testing.assert_allclose(image.affine.numpy(), label.affine.numpy(), atol=1e-4)


def test_a_scan_smaller_than_the_window_is_padded_and_many_labels_fit(tmp_path):
    _, bright = write_scan(tmp_path / "scan.nii.gz")
    card = {**CARD, "crop": [64, 64, 64], "label_names": {0: "background", 900: "liver"}}
    predict_scan(Bright(), tmp_path / "scan.nii.gz", tmp_path / "label.nii.gz", card, overlap=0)
    found = nibabel.load(tmp_path / "label.nii.gz")
    assert found.get_data_dtype() == np.uint16
    np.testing.assert_array_equal(np.asarray(found.dataobj), bright * np.uint16(900))


def test_nothing_is_written_over_and_nothing_is_left_half_written(tmp_path, monkeypatch):
    scan, target = tmp_path / "scan.nii.gz", tmp_path / "label.nii.gz"
    write_scan(scan)
    for wrong, words in ((scan, "is the scan itself"), (tmp_path / "label.png", r"does not end in \.nii")):
        with pytest.raises(ValueError, match=words):
            predict_scan(Bright(), scan, wrong, CARD, force=True)
    target.write_bytes(b"mine")
    with pytest.raises(ValueError, match="exists already"):
        predict_scan(Bright(), scan, target, CARD)
    with monkeypatch.context() as broken:
        broken.setattr(nibabel.Nifti1Image, "to_filename", lambda self, path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            predict_scan(Bright(), scan, target, CARD, force=True)
    assert target.read_bytes() == b"mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["label.nii.gz", "scan.nii.gz"]
    predict_scan(Bright(), scan, target, CARD, force=True)
    assert nibabel.load(target).shape == (28, 20, 12)


def test_scans_of_another_kind_are_refused(tmp_path):
    image, _ = write_scan(tmp_path / "scan.nii.gz", spacing=(1.0, 1.0, 4.0))
    seen = {**CARD, "spacing_seen_mm": [[3.0, 3.5], [3.0, 3.5], [4.0, 4.0]]}
    with pytest.raises(ValueError, match=r"voxels of 1 x 1 x 4 mm, the network saw 3 x 3 x 4 to 3.5 x 3.5 x 4 mm"):
        predict_scan(Bright(), tmp_path / "scan.nii.gz", tmp_path / "label.nii.gz", seen)
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 2)), image.affine), tmp_path / "two.nii.gz")
    with pytest.raises(ValueError, match=r"has 2 channel\(s\), the network was trained on 1"):
        predict_scan(Bright(), tmp_path / "two.nii.gz", tmp_path / "label.nii.gz", CARD)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        predict_scan(Bright(), tmp_path / "none.nii.gz", tmp_path / "label.nii.gz", CARD)
    assert not (tmp_path / "label.nii.gz").exists()


def test_probabilities_come_back_smooth_where_labels_would_show_steps():
    ramp = torch.linspace(0, 1, 5)[:, None, None].expand(5, 4, 4)  # the border between the classes is at 2.0
    probabilities = torch.stack([1 - ramp, ramp])
    fine = np.diag([0.25, 1, 1, 1])
    classes = predict.likeliest_class(probabilities, np.eye(4), (17, 4, 4), fine)
    np.testing.assert_array_equal(classes[:, 0, 0], (np.arange(17) * 0.25 > 2).astype(np.uint8))
