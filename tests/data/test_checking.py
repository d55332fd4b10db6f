"""A folder of scans with everything wrong that users bring: each is found, named and told how to mend."""

import gzip
import json
import shutil

import nibabel
import numpy as np
import pytest

from medssl_nb.data import check_folder, load_cohort

SHAPE = (12, 10, 8)


def save(path, values, affine=None, axes="RAS"):
    """Write a volume whose RAS+ voxels are `values`, stored along other axes."""
    image = nibabel.Nifti1Image(values, np.diag([4.0, 4, 6, 1]) if affine is None else affine)
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(axes)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image.as_reoriented(turn), path)
    return path


def ct(seed):
    """Air around a block of soft tissue, int16 HU."""
    values = np.full(SHAPE, -1000, np.int16)
    values[2:9, 2:8, 1:7] = np.random.default_rng(seed).integers(-80, 120, (7, 6, 6))
    return values


def organ():
    label = np.zeros(SHAPE, np.uint8)
    label[4:7, 3:6, 2:5] = 1
    return label


@pytest.fixture
def folder(tmp_path):
    """Five labelled scans and one without a label, in three orders of axes."""
    home = tmp_path / "my scans"
    for i, axes in enumerate(("RAS", "LPS", "SPL", "RAS", "LAS")):
        save(home / "images" / f"p{i}.nii.gz", ct(i), axes=axes)
        save(home / "labels" / f"p{i}.nii.gz", organ(), axes=axes)
    save(home / "images" / "p5.nii.gz", ct(5))
    description = {"modality": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}
    (home / "dataset.json").write_text(json.dumps(description))
    return home


def test_a_sound_folder_has_no_problem(folder):
    report = check_folder(folder)
    assert (report.layout, report.modality, report.problems) == ("images and labels", "CT", ())
    assert report.ok == ("p0", "p1", "p2", "p3", "p4", "p5")
    assert report.label_names == {0: "background", 1: "liver"}
    facts = {scan.case: scan for scan in report.scans}
    assert facts["p2"].shape == (8, 10, 12) and facts["p2"].orientation == "SPL"
    assert facts["p2"].spacing_mm == pytest.approx((6, 4, 4))
    assert facts["p1"].labels == {1: 27} and facts["p1"].channels == 1
    assert facts["p1"].intensity == (-1000, -1000, ct(1).max())
    assert facts["p5"].label_path is None
    assert "LPS (1)" in report.notes[0]
    assert "4 scan(s). With labels: 3 train, 1 validation, 1 test" in report.notes[-1]
    assert "p2    8 x 10 x 12  6 x 4 x 4   SPL" in str(report)


def shifted(home):
    affine = np.diag([4.0, 4, 6, 1])
    affine[0, 3] = 20
    save(home / "labels" / "p1.nii.gz", organ(), affine=affine)


def a_slice(home):
    save(home / "images" / "p1.nii.gz", ct(1)[:, :, 3:4])
    save(home / "labels" / "p1.nii.gz", organ()[:, :, 3:4])


def cut_short(path, size):
    path.write_bytes(path.read_bytes()[:size])


def with_value(value):
    values = ct(1).astype(np.float32)
    values[0, 0, 0] = value
    return values


def raw(home, name, **header):
    """Rewrite an image with a header that tells less than it should."""
    image = nibabel.load(home / "images" / name)
    for field, value in header.items():
        image.header[field] = value
    image = nibabel.Nifti1Image(image.dataobj, None, image.header)
    nibabel.save(image, home / "images" / name)


BREAK = {
    "NaN": (lambda h: save(h / "images/p1.nii.gz", with_value(np.nan)), "1 of 960 voxels are NaN", "nan_to_num"),
    "infinity": (lambda h: save(h / "images/p1.nii.gz", with_value(np.inf)), "NaN or infinite", "nan_to_num"),
    "cut short": (lambda h: cut_short(h / "images/p1.nii.gz", -20), "is cut short or damaged", "Fetch or export"),
    "empty": (lambda h: cut_short(h / "images/p1.nii.gz", 0), "not a readable NIfTI", "Fetch or export"),
    "no scan": (
        lambda h: (h / "images/p1.nii.gz").write_bytes(gzip.compress(b"text" * 200)),
        "not a readable",
        "again",
    ),
    "constant": (lambda h: save(h / "images/p1.nii.gz", ct(0) * 0 + 7), "every voxel is 7", "nothing to learn"),
    "a slice": (a_slice, "a single slice", "several slices"),
    "a series": (lambda h: save(h / "images/p1.nii.gz", np.stack([ct(1)] * 3, -1)), "3 channel(s), most", "choose"),
    "5D": (
        lambda h: save(h / "images/p1.nii.gz", np.zeros((4, 4, 4, 1, 3))),
        "has shape (4, 4, 4, 1, 3)",
        "time series",
    ),
    "a copy": (lambda h: save(h / "images/p1.nii.gz", ct(0), axes="LPS"), "its voxels are those of p0", "Keep one"),
    "an offset": (lambda h: save(h / "images/p1.nii.gz", ct(1) + 1024), "no Hounsfield units", "Subtract the offset"),
    "no axes": (lambda h: raw(h, "p1.nii.gz", sform_code=0, qform_code=0), "records no orientation", "say so"),
    "moved label": (shifted, "lies up to 20.0 mm away", "Find out which header is right"),
    "label shape": (lambda h: save(h / "labels/p1.nii.gz", organ()[1:]), "has shape (11, 10, 8)", "Resample the label"),
    "fractions": (lambda h: save(h / "labels/p1.nii.gz", organ() * 0.5), "some of them fractions", "nearest-neighbour"),
    "negative": (lambda h: save(h / "labels/p1.nii.gz", 0.0 - organ()), "values from -1 to 0", "whole numbers"),
    "stranger": (
        lambda h: save(h / "labels/p1.nii.gz", organ() * 7),
        "holds 7, which dataset.json",
        'Complete "labels"',
    ),
    "twice": (lambda h: save(h / "images/p1.nii", ct(1)), "images/p1.nii.gz is the same case's image", "Keep one"),
}


@pytest.mark.parametrize("what", BREAK)
def test_a_broken_case_is_found_and_the_others_still_make_a_cohort(folder, what):
    breaking, found, mend = BREAK[what]
    breaking(folder)
    report = check_folder(folder)
    assert len(report.problems) == 1
    problem = report.problems[0]
    assert problem.case == "p1" and found in problem.what and mend in str(problem)
    assert problem.path.split("/")[1].startswith("p1.nii")
    assert str(folder) not in str(problem)
    assert report.ok == ("p0", "p2", "p3", "p4", "p5") and report.left_out == ("p1",)
    cohort = report.cohort(spacing_mm=8)
    assert sorted(cohort.cases) == ["p0", "p2", "p3", "p4", "p5"]
    for case in cohort.cases.values():
        assert case.image().shape == (1, 7, 5, 6)


def test_several_problems_are_told_at_once(folder):
    save(folder / "images/p0.nii.gz", with_value(np.nan))
    save(folder / "labels/p9.nii.gz", organ())
    cut_short(folder / "labels/p3.nii.gz", 30)
    (folder / "images" / "slice.DCM").write_bytes(b"")
    (folder / "images" / "IM0001").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 200)
    (folder / "images" / "p7.nrrd").write_bytes(b"NRRD0004")
    (folder / "splits.json").write_text(json.dumps({"train": ["p1"], "validation": ["p2"], "test": ["nobody"]}))
    report = check_folder(folder)
    told = "\n".join(str(problem) for problem in report.problems)
    assert len(report.problems) == 6
    assert "labels/p9.nii.gz: there is no image of this name" in told
    assert "2 file(s) of this kind (.dcm) are not NIfTI" in told and "dcm2niix" in told
    assert "images/p7.nrrd: 1 file(s)" in told
    assert "splits.json: case 'nobody' of 'test' has no labelled image here" in told
    assert report.left_out == ("p0", "p3", "p9")
    assert json.loads(json.dumps(report.as_dict()))["ok"] == ["p1", "p2", "p4", "p5"]


def test_what_nobody_said_is_asked_for(folder):
    (folder / "dataset.json").unlink()
    report = check_folder(folder)
    assert [problem.path for problem in report.problems] == ["dataset.json"]
    assert "they look like CT" in report.problems[0].mend or "They look like CT" in str(report.problems[0])
    said = check_folder(folder, modality="CT")
    assert said.problems == () and said.label_names == {0: "background", 1: "label 1"}
    assert said.cohort().label_names == said.label_names
    with pytest.raises(ValueError, match="modality 'XR' is not known"):
        check_folder(folder, modality="XR")
    (folder / "dataset.json").write_text("{oops")
    told = check_folder(folder, modality="CT").problems
    assert len(told) == 1 and str(told[0]).startswith("dataset.json: is not valid JSON")
    assert "repair it, or remove it" in told[0].mend.lower()


def test_other_layouts(folder, tmp_path):
    flat = check_folder(folder / "images", modality="CT")
    assert (flat.layout, len(flat.ok), flat.label_names) == ("flat", 6, {})
    assert len(flat.cohort().unlabelled) == 6 and flat.cohort().train == []
    ten = tmp_path / "decathlon"
    shutil.copytree(folder / "images", ten / "imagesTr")
    shutil.copytree(folder / "labels", ten / "labelsTr")
    for file in (ten / "imagesTr").glob("*"):
        file.rename(file.with_name(file.name.replace(".nii", "_0000.nii")))
    (ten / "imagesTs").mkdir()
    (ten / "imagesTr/p5_0000.nii.gz").rename(ten / "imagesTs/p5.nii.gz")
    report = check_folder(ten, modality="CT")
    assert (report.layout, report.ok, report.problems) == ("decathlon", ("p0", "p1", "p2", "p3", "p4", "p5"), ())
    save(ten / "imagesTr/p1_0001.nii.gz", ct(9))
    assert "is the same case's image too" in check_folder(ten, modality="CT").problems[0].what
    assert check_folder(ten, modality="CT").left_out == ("p1",)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_folders_without_scans(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        check_folder(tmp_path / "nowhere")
    assert "no NIfTI files" in str(check_folder(tmp_path))
    save(tmp_path / "patient 1" / "ct.nii.gz", ct(0))
    report = check_folder(tmp_path)
    assert "patient 1/ct.nii.gz" in report.problems[0].what and "one folder" in report.problems[0].mend
    with pytest.raises(ValueError, match="no scan that can be used"):
        report.suggested_spacing_mm()


def test_the_odd_ones_are_noted(folder):
    save(folder / "images/p0.nii.gz", ct(0), affine=np.diag([1.5, 4, 6, 1]))
    save(folder / "labels/p0.nii.gz", organ() * 0, affine=np.diag([1.5, 4, 6, 1]))
    report = check_folder(folder)
    assert "RAS   -1000 (-1000)" in str(report) and "  empty" in str(report)
    notes = "\n".join(report.notes)
    assert "p0: voxels less than half or more than twice the median" in notes
    assert "p0: field of view" in notes
    assert "p0: the label map is empty" in notes
    assert "further channel" not in notes
    assert "Drawn in some of the 5 label maps only: liver (4)" in notes


def test_a_channel_in_a_file_of_its_own_is_asked_about_but_numbered_cases_are_not(folder):
    for number in (1, 2):
        save(folder / "images" / f"case_000{number}.nii.gz", ct(20 + number))
    assert "further channel" not in "\n".join(check_folder(folder).notes)
    save(folder / "images" / "case_0000.nii.gz", ct(20))
    assert "case_0001, case_0002: a further channel of a scan?" in "\n".join(check_folder(folder).notes)


def test_the_suggested_grid_keeps_thick_slices_and_never_invents_detail(folder, tmp_path):
    assert check_folder(folder).suggested_spacing_mm() == (4, 4, 6)  # 960 voxels are few as they are
    save(tmp_path / "thick" / "a.nii.gz", np.repeat(np.repeat(ct(0), 6, 0), 7, 1), affine=np.diag([1, 1, 5, 1.0]))
    report = check_folder(tmp_path / "thick", modality="CT")  # 72 x 70 x 8 voxels of 1 x 1 x 5 mm
    x, y, z = report.suggested_spacing_mm(voxels=2000)
    assert z == 5 and x == y == pytest.approx(4.5)  # 72 / 4.5 * 70 / 4.5 * 8 = 1991
    assert np.prod(report.median_shape((x, y, z))) <= 1.1 * 2000
    x, y, z = report.suggested_spacing_mm(voxels=100)
    assert x == y == z > 5


def test_cases_can_be_skipped_by_name_only(folder):
    assert len(load_cohort(folder, skip=["p0", "p5"])) == 4
    with pytest.raises(ValueError, match="skip names 'p77'"):
        load_cohort(folder, skip=["p77"])
    with pytest.raises(ValueError, match="skip is a list"):
        load_cohort(folder, skip="p0")
    (folder / "splits.json").write_text(json.dumps({"train": ["p0", "p1"], "validation": ["p2"], "test": ["p3"]}))
    assert load_cohort(folder, skip=["p1"]).split.train == ("p0",)
