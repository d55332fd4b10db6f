"""The real cohorts, where their files are present (MEDSSL_DATA or the cache); skipped elsewhere."""

import json
import shutil

import numpy as np
import pytest

from medssl_nb.data import load_cohort, mm_to_voxel, spacing_mm, voxel_to_mm
from medssl_nb.data.cohorts import REAL
from medssl_nb.data.locations import find_dataset


@pytest.fixture
def cohort(request):
    if find_dataset(request.param) is None:
        pytest.skip(f"{request.param} is not in MEDSSL_DATA or the cache")
    return load_cohort(request.param)


@pytest.mark.parametrize("cohort", REAL, indirect=True)
def test_first_and_last_case_read_whole(cohort):
    first, *_, last = cohort.cases.values()
    for case in (first, last):
        image = case.image()
        for name in case.available:
            assert case.read(name).shape[-3:] == image.shape[-3:]
        assert np.isfinite(case.normalised().numpy()).all()
        assert all(0.5 <= s <= 6 for s in spacing_mm(image.affine))


@pytest.mark.parametrize("cohort", ["hippocampus"], indirect=True)
def test_hippocampus_split_is_the_fixed_one(cohort):
    assert (len(cohort.train), len(cohort.validation), len(cohort.test)) == (160, 20, 40)
    assert cohort.label_names == {0: "background", 1: "Anterior", 2: "Posterior"}
    file = find_dataset("hippocampus") / "splits.json"
    if file.exists():
        stored = json.loads(file.read_text())
        for draw in range(3):
            for k in (1, 2, 4, 8, 16):
                assert {c.name for c in cohort.few_shot(k, draw)} == set(stored["few_shot"][f"seed{draw}"][str(k)])


@pytest.mark.parametrize("cohort", ["headneck_ct"], indirect=True)
def test_headneck_landmarks_lie_in_their_organs(cohort):
    number = {name: n for n, name in cohort.label_names.items()}
    case = cohort.train[0]
    label = case.label()
    for name in ("Brainstem", "RightParotid", "LeftParotid"):
        voxels = np.argwhere(label[0].numpy() == number[name])
        centre = voxel_to_mm(label.affine, voxels.mean(0)[None])[0]
        np.testing.assert_allclose(centre, case.landmarks_mm[name], atol=0.5)
        assert label[0][tuple(mm_to_voxel(label.affine, centre[None])[0].round().astype(int))] == number[name]
    assert case.landmarks_mm["RightParotid"][0] > case.landmarks_mm["LeftParotid"][0]  # RAS: right is +x
    assert int(case.read("target").max()) <= 3


@pytest.mark.parametrize("cohort", ["torso"], indirect=True)
def test_torso_shares_organ_numbers_across_scans(cohort):
    liver = {name: n for n, name in cohort.label_names.items()}["liver"]
    for name in ("ct_abdomen_01", "ct_upperabdomen_02", "mr_abdomen_03"):
        case = cohort[name]
        inside = case.label()[0].numpy() == liver
        drawn = {s: n for n, s in case.structure_names.items()}["liver"]
        np.testing.assert_array_equal(inside, case.read("structures")[0].numpy() == drawn)
        assert inside.sum() > 1000
    hu = cohort["ct_abdomen_01"].image()[0].numpy()[cohort["ct_abdomen_01"].label()[0].numpy() == liver]
    assert 0 < np.median(hu) < 200
    with pytest.raises(ValueError, match="no labelled training cases"):
        cohort.few_shot(1)


@pytest.mark.parametrize("cohort", ["ms_lesions"], indirect=True)
def test_ms_lesions_hold_two_times_of_one_subject(cohort):
    assert cohort["ms_01_baseline"].subject == cohort["ms_01_followup"].subject == "ms_01"
    changed_ml = float(cohort["ms_19_baseline"].read("lesion").sum()) * 3 / 1000  # voxels of 1 x 1 x 3 mm
    assert changed_ml == pytest.approx(24.2, abs=0.1)


@pytest.mark.parametrize("cohort", ["torso", "ms_lesions"], indirect=True)
def test_an_incomplete_folder_is_named(cohort, tmp_path, monkeypatch):
    shutil.copytree(find_dataset(cohort.name), tmp_path / cohort.name)
    next((tmp_path / cohort.name / "images").glob("*.nii.gz")).unlink()
    monkeypatch.setenv("MEDSSL_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="lacks 1 of"):
        load_cohort(cohort.name)
