"""Folders in Decathlon layout as cohorts, and what is said of those that do not fit."""

import json
import pickle

import numpy as np
import pytest

from medssl_nb.data import load_cohort, write_volume

AFFINE = np.diag([2.0, 2, 2, 1])


@pytest.fixture
def folder(tmp_path):
    """Six labelled scans, two without labels, one file that macOS left behind."""
    for i in range(6):
        write_volume(tmp_path / "imagesTr" / f"scan_{i}.nii.gz", np.full((4, 4, 4), i, np.int16), AFFINE)
        write_volume(tmp_path / "labelsTr" / f"scan_{i}.nii.gz", np.full((4, 4, 4), i % 2, np.uint8), AFFINE)
    for i in (6, 7):
        write_volume(tmp_path / "imagesTs" / f"scan_{i}.nii.gz", np.full((4, 4, 4), i, np.int16), AFFINE)
    (tmp_path / "imagesTr" / "._scan_0.nii.gz").write_bytes(b"left behind")
    describe(tmp_path, modality={"0": "CT"}, labels={"0": "background", "1": "liver"})
    return tmp_path


def describe(folder, **content):
    (folder / "dataset.json").write_text(json.dumps(content))


def test_a_folder_becomes_a_cohort(folder):
    cohort = load_cohort(folder)
    assert (cohort.name, cohort.modality, len(cohort)) == (folder.name, "CT", 8)
    assert (len(cohort.train), len(cohort.validation), len(cohort.test)) == (4, 1, 1)
    assert len(cohort.unlabelled) == 6
    assert cohort.label_names == {0: "background", 1: "liver"}
    case = cohort["scan_3"]
    assert int(case.image().max()) == 3
    assert int(case.label().max()) == 1
    assert case.normalised().max() < 1
    assert len(pickle.loads(pickle.dumps(cohort)).cases) == 8
    with pytest.raises(KeyError, match="has no case 'nobody'"):
        cohort["nobody"]


def test_unlabelled_cases_hold_no_labels_and_say_where_some_are(folder):
    cohort = load_cohort(folder)
    with pytest.raises(ValueError, match="comes without labels"):
        cohort.unlabelled[0].label()
    with pytest.raises(ValueError, match="has no 'lesion'; it has image, label"):
        cohort.train[0].read("lesion")


def test_few_shot_is_nested_and_bounded(folder):
    cohort = load_cohort(folder)
    for draw in range(3):
        names = [[case.name for case in cohort.few_shot(k, draw)] for k in (1, 2, 4)]
        assert names[0] == names[1][:1] == names[2][:1]
        assert set(names[2]) <= {case.name for case in cohort.train}
    with pytest.raises(ValueError, match="1 to 4 labelled cases, got k=5"):
        cohort.few_shot(5)
    with pytest.raises(ValueError, match="draws 0 to 2, got draw=3"):
        cohort.few_shot(1, draw=3)


def test_unlabelled_scans_of_test_subjects_stay_out_of_pretraining(folder):
    def head(name):
        return f"head_{int(name[-1]) % 3}"  # scans 0, 3 and 6 are one head

    cohort = load_cohort(folder, subject_of=head)
    tested = {case.subject for case in (*cohort.validation, *cohort.test)}
    assert tested
    assert not tested & {case.subject for case in cohort.unlabelled}


def test_names_of_the_other_spelling_and_first_channel_suffix(folder):
    describe(folder, channel_names={"0": "MRI"}, labels={"background": 0, "liver": 1})
    for i in range(6):
        (folder / "imagesTr" / f"scan_{i}.nii.gz").rename(folder / "imagesTr" / f"scan_{i}_0000.nii.gz")
    cohort = load_cohort(folder)
    assert cohort.modality == "MR"
    assert cohort.label_names == {0: "background", 1: "liver"}
    assert len(cohort.train) == 4


def test_splits_of_the_folder_are_used_and_checked(folder):
    parts = {"train": ["scan_0", "scan_1"], "validation": ["scan_2"], "test": ["scan_3"]}
    (folder / "splits.json").write_text(json.dumps(parts))
    assert [case.name for case in load_cohort(folder).test] == ["scan_3"]
    (folder / "splits.json").write_text(json.dumps({**parts, "test": ["scan_9"]}))
    with pytest.raises(ValueError, match="'scan_9' of 'test' has no labelled image"):
        load_cohort(folder)


def test_folders_that_do_not_fit_are_refused(folder, tmp_path_factory):
    (folder / "dataset.json").unlink()
    with pytest.raises(ValueError, match="pass modality="):
        load_cohort(folder)
    assert load_cohort(folder, modality="CT").modality == "CT"
    describe(folder, modality={"0": "CT", "1": "PET"})
    with pytest.raises(ValueError, match=r"channels of different kinds \(CT, PET\)"):
        load_cohort(folder)
    (folder / "dataset.json").write_text("{oops")
    with pytest.raises(ValueError, match="not valid JSON"):
        load_cohort(folder, modality="CT")
    describe(folder, modality={"0": "CT"})
    (folder / "imagesTr" / "scan_0.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"label scan_0\.nii\.gz has no image"):
        load_cohort(folder)
    with pytest.raises(ValueError, match="holds no images"):
        load_cohort(tmp_path_factory.mktemp("empty"))


def test_few_shot_of_a_split_without_draws_visits_each_subject_first(folder):
    parts = {"train": [f"scan_{i}" for i in range(4)], "validation": ["scan_4"], "test": ["scan_5"]}
    (folder / "splits.json").write_text(json.dumps(parts))
    person = {"scan_0": "a", "scan_1": "a", "scan_2": "a", "scan_3": "b"}
    cohort = load_cohort(folder, subject_of=lambda name: person.get(name, name))
    for draw in range(3):
        assert {case.subject for case in cohort.few_shot(2, draw)} == {"a", "b"}


def test_further_channels_and_doubled_cases_are_refused(folder):
    image = folder / "imagesTr" / "scan_0.nii.gz"
    copies = {
        "imagesTr/scan_0_0001.nii.gz": "further channel of scan_0",
        "imagesTr/scan_0_0000.nii.gz": "both case scan_0",
        "imagesTr/scan_0.nii": "one case, two files",
        "imagesTs/scan_0.nii.gz": "in imagesTr and in imagesTs",
    }
    for name, words in copies.items():
        (folder / name).write_bytes(image.read_bytes())
        with pytest.raises(ValueError, match=words):
            load_cohort(folder)
        (folder / name).unlink()


def test_what_is_no_nifti_file_is_no_case(folder):
    for name in ("scan_9.nii.gz.part", "scan_9.nii.gz~", "notes.txt"):
        (folder / "imagesTs" / name).write_bytes(b"half a scan")
    assert len(load_cohort(folder)) == 8


@pytest.mark.parametrize(
    ("content", "modality", "names"),
    [
        ({"modality": "CT", "labels": ["background", "liver"]}, "CT", {0: "background", 1: "liver"}),
        ({"modality": ["MRI"], "labels": {"4": 1, "background": 0}}, "MR", {0: "background", 1: "4"}),
    ],
)
def test_other_spellings_of_the_description(folder, content, modality, names):
    describe(folder, **content)
    cohort = load_cohort(folder)
    assert cohort.modality == modality
    assert cohort.label_names == names


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"modality": {"0": 0}}, "names a kind of image"),
        ({"modality": {"0": "CT"}, "labels": {"whole": [1, 2]}}, "regions made of several labels"),
        ({"modality": {"0": "CT"}, "labels": {"-1": "ignore"}}, '"labels" in dataset.json must be'),
        ({}, "nothing in dataset.json says"),
    ],
)
def test_descriptions_that_make_no_sense_are_refused(folder, content, words):
    describe(folder, **content)
    with pytest.raises(ValueError, match=words):
        load_cohort(folder)


def test_a_label_on_another_grid_is_refused_when_read(folder):
    write_volume(folder / "labelsTr" / "scan_3.nii.gz", np.zeros((4, 4, 5), np.uint8), AFFINE)
    with pytest.raises(ValueError, match="on one grid"):
        load_cohort(folder)["scan_3"].label()


def test_unknown_names_and_absent_data_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSSL_DATA", str(tmp_path / "mine"))
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match="choose phantom, brain, hippocampus"):
        load_cohort("liver")
    with pytest.raises(FileNotFoundError, match="not a folder"):
        load_cohort("./liver")
    for name, script in (("hippocampus", "msd_hippocampus"), ("headneck_ct", "openkbp"), ("ms_lesions", "open_ms")):
        with pytest.raises(FileNotFoundError, match=rf"python data_scripts/{script}\.py") as error:
            load_cohort(name)
        assert str(tmp_path / "mine" / name) in str(error.value)


def test_a_data_set_of_the_catalogue_opens_by_its_name(folder, tmp_path_factory, monkeypatch):
    shelf = tmp_path_factory.mktemp("shelf")
    monkeypatch.setenv("MEDSSL_DATA", str(shelf))
    with pytest.raises(FileNotFoundError, match=r"msd_brain_tumour scans .*python data_scripts/msd_brain_tumour\.py"):
        load_cohort("msd_brain_tumour")
    folder.rename(shelf / "msd_brain_tumour")
    cohort = load_cohort("msd_brain_tumour")
    assert (cohort.name, len(cohort)) == ("msd_brain_tumour", 8)
