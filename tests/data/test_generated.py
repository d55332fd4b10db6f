"""Generated cohorts: counts, exact correspondence, and a cache that neither lies nor breaks."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from medssl_nb.data import generated, load_cohort, mm_to_voxel, voxel_to_mm

SMALL = {
    "phantom": {"shape": (24, 24, 24), "spacing_mm": (12, 12, 14)},
    "brain": {"shape": (24, 28, 20), "spacing_mm": 7.0},
}


@pytest.fixture(params=["phantom", "brain"])
def cohort(request):
    return load_cohort(request.param, train=5, validation=2, test=3, **SMALL[request.param])


def test_parts_and_volumes(cohort):
    assert [len(part) for part in (cohort.train, cohort.validation, cohort.test)] == [5, 2, 3]
    case = cohort.test[0]
    image, label, lesion = case.image(), case.label(), case.read("lesion")
    assert image.shape == label.shape == lesion.shape == (1, *SMALL[cohort.name]["shape"])
    assert set(np.unique(label)) <= set(cohort.label_names)
    assert abs(voxel_to_mm(image.affine, (np.array([image.shape[1:]]) - 1) / 2)).max() < 1e-6  # centred on 0 mm
    assert np.isfinite(case.normalised().numpy()).all()
    with pytest.raises(ValueError, match="comes without labels"):
        cohort.unlabelled[0].label()


def test_lesions_can_be_the_label(cohort):
    options = {"train": 1, "validation": 0, "test": 0, "lesion_share": 1.0, **SMALL[cohort.name]}
    anatomy, lesions = (load_cohort(cohort.name, label=word, **options) for word in ("anatomy", "lesion"))
    case = lesions.train[0]
    label, lesion = case.label(), case.read("lesion")
    assert label.dtype == torch.uint8 and label.shape == lesion.shape and lesion.dtype == torch.bool
    assert label.any() and torch.equal(label.bool().as_tensor(), lesion.as_tensor())
    assert np.array_equal(label.affine, case.image().affine)
    assert lesions.label_names == case.label_names == {0: "background", 1: "lesion"}
    assert anatomy.label_names == anatomy.train[0].label_names == cohort.label_names
    assert torch.equal(anatomy.train[0].image().as_tensor(), case.image().as_tensor())
    assert anatomy.train[0].label().max() > 1
    assert case.without_labels().available == ("image",)
    assert len(lesions.correspondence(anatomy.train[0], case, [[8, 8, 8]])) == 1  # the same patients


def test_both_labels_come_from_one_file(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path))
    generated._patient.cache_clear()
    for word in ("anatomy", "lesion"):
        cohort = load_cohort("phantom", train=1, validation=0, test=0, label=word, seed=78, **SMALL["phantom"])
        cohort.train[0].label()
    assert len(list((tmp_path / "generated").rglob("*.npz"))) == 1


def test_a_brain_may_be_seen_in_flair():
    options = {"train": 1, "validation": 0, "test": 0, **SMALL["brain"]}
    t1, flair = (load_cohort("brain", sequence=name, **options).train[0] for name in ("T1", "FLAIR"))
    assert np.array_equal(flair.label(), t1.label()) and not np.array_equal(flair.image(), t1.image())


def test_more_patients_change_none_and_seeds_change_all(cohort):
    options = SMALL[cohort.name]
    larger = load_cohort(cohort.name, train=7, validation=2, test=3, **options)
    name = cohort.test[1].name
    assert np.array_equal(larger[name].image(), cohort[name].image())
    other = load_cohort(cohort.name, train=5, validation=2, test=3, seed=1, **options)
    assert not np.array_equal(other[name].image(), cohort[name].image())


def test_correspondence_goes_there_and_back_in_both_units(cohort):
    a, b = cohort.train[0], cohort.test[0]
    voxels = np.random.default_rng(0).uniform(8, 16, (50, 3))
    there = cohort.correspondence(a, b, voxels)
    np.testing.assert_allclose(cohort.correspondence(b.name, a.name, there), voxels, atol=0.01)
    in_mm = cohort.correspondence(a, b, voxel_to_mm(a.image().affine, voxels), space="mm")
    np.testing.assert_allclose(mm_to_voxel(b.image().affine, in_mm), there, atol=1e-6)
    assert np.abs(there - voxels).max() > 0.2  # patients differ
    np.testing.assert_allclose(cohort.correspondence(a, a, voxels), voxels, atol=0.01)
    with pytest.raises(ValueError, match='"voxel" or "mm"'):
        cohort.correspondence(a, b, voxels, space="cm")


def test_a_case_of_another_cohort_is_not_taken_for_its_namesake(cohort):
    options = SMALL[cohort.name]
    other_seed = load_cohort(cohort.name, train=5, validation=2, test=3, seed=1, **options)
    other_grid = load_cohort(cohort.name, train=5, validation=2, test=3, shape=(16, 16, 16), spacing_mm=9.0)
    for stranger in (other_seed.test[0], other_grid.test[0]):
        with pytest.raises(ValueError, match="a case of another cohort"):
            cohort.correspondence(stranger, cohort.test[1], [[8, 8, 8]])
    assert cohort.correspondence(cohort.unlabelled[0], cohort.test[1], [[8, 8, 8]]).shape == (1, 3)


def test_landmarks_correspond(cohort):
    a, b = cohort.train[0], cohort.test[0]
    places = {case.name: np.array(list(case.landmarks_mm.values())) for case in (a, b)}
    assert list(a.landmarks_mm) == list(b.landmarks_mm)
    if len(places[a.name]):
        found = cohort.correspondence(a, b, places[a.name], space="mm")
        np.testing.assert_allclose(found, places[b.name], atol=0.02)


def test_cases_travel_to_other_processes(cohort):
    case = pickle.loads(pickle.dumps(cohort)).test[0]
    assert np.array_equal(case.image(), cohort.test[0].image())


def test_the_caller_cannot_spoil_the_cache(cohort):
    case = cohort.test[0]
    before = case.image().clone()
    case.image().zero_()
    assert np.array_equal(case.image(), before)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train": -1}, "train is a number of patients"),
        ({"seed": -3}, "seed is a whole number"),
        ({"colour": 1}, "has no option 'colour'; it has train, validation, test, seed, label, shape"),
        ({"sequence": "FLAIR"}, "the phantom cohort has no option 'sequence'"),
        ({"label": "tumour"}, 'label is "anatomy" or "lesion", got \'tumour\''),
    ],
)
def test_options_that_make_no_sense_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        load_cohort("phantom", **options)


def test_cache_is_used_and_a_damaged_copy_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path))
    cohort = load_cohort("phantom", train=1, validation=0, test=0, seed=77, **SMALL["phantom"])
    image = cohort.train[0].image()
    (stored,) = (tmp_path / "generated").rglob("*.npz")
    content = stored.read_bytes()

    generated._patient.cache_clear()
    monkeypatch.setattr(generated, "write_atomically", lambda *_: pytest.fail("made again although it was stored"))
    assert np.array_equal(cohort.train[0].image(), image)
    monkeypatch.undo()

    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path))
    for damage in (content[: len(content) // 2], b"", content[:200] + bytes(100) + content[300:]):
        stored.write_bytes(damage)
        generated._patient.cache_clear()
        assert np.array_equal(cohort.train[0].image(), image)
        assert stored.read_bytes() != damage


def test_two_processes_make_the_same_patient_at_once(tmp_path):
    code = (
        "import zlib; from medssl_nb.data import load_cohort;"
        "c = load_cohort('phantom', train=2, validation=0, test=0, shape=(16, 16, 16), spacing_mm=(18, 18, 20));"
        "print([zlib.crc32(k.image().numpy().tobytes()) for k in c.train])"
    )
    env = {**os.environ, "MEDSSL_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", code]
    runs = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    first, second = (run.communicate(timeout=120)[0] for run in runs)
    assert first == second
    assert first.startswith("[")
