"""The checks of lesson 62 pass right answers and name typical faults; its example folder is as faulty as told."""

import re

import nibabel
import numpy as np
import pytest

from medssl_nb.data import check_folder, read_label_map
from medssl_nb.exercises import your_own_scans as exercises


def same_place(shape_a, affine_a, shape_b, affine_b):
    if tuple(shape_a) != tuple(shape_b):
        return False
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    corners[:, :3] *= np.array(shape_a) - 1
    return np.linalg.norm((corners @ (affine_a - affine_b).T)[:, :3], axis=1).max() <= 0.1


def onto_scan(label, label_affine, shape, affine):
    found = np.zeros(shape, label.dtype)
    for voxel in np.ndindex(*shape):
        there = np.rint(np.linalg.solve(label_affine, affine @ [*voxel, 1]))[:3].astype(int)
        if (there >= 0).all() and (there < label.shape).all():
            found[voxel] = label[tuple(there)]
    return found


def wrapped(label, label_affine, shape, affine):
    """Forgets that index -1 is the last voxel."""
    found = np.zeros(shape, label.dtype)
    for voxel in np.ndindex(*shape):
        there = np.rint(np.linalg.solve(label_affine, affine @ [*voxel, 1]))[:3].astype(int)
        if (there < label.shape).all():
            found[voxel] = label[tuple(there)]
    return found


def other_way(label, label_affine, shape, affine):
    return onto_scan(label, affine, shape, label_affine)


def overwriting(label, label_affine, shape, affine):
    found = onto_scan(label, label_affine, shape, affine)
    label[:] = 0
    return found


def verdict(image, label):
    if image == "truncated":
        return "leave out"
    if label == "fractions":
        return "image only"
    return "mend" if image or label else "use"


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (exercises.check_same_place, same_place),
        (exercises.check_onto_scan, onto_scan),
        (exercises.check_verdict, verdict),
    ],
)
def test_right_answers_pass_and_say_so(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.endswith("cases right.\n")


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (exercises.check_same_place, lambda *a: None, "returned nothing"),
        (exercises.check_same_place, lambda s, a, t, b: np.allclose(a, b, atol=0.1), "another shape: expected False"),
        (exercises.check_same_place, lambda s, a, t, b: s == t, "moved by one voxel: expected False"),
        (exercises.check_same_place, lambda s, a, t, b: s == t and (a == b).all(), "rounding: expected True"),
        (
            exercises.check_same_place,
            lambda s, a, t, b: s == t and np.allclose(a, b, rtol=0, atol=0.1),
            "1 % longer along z.*: expected False",
        ),
        (
            exercises.check_same_place,
            lambda s, a, t, b: s == t and np.allclose(a @ [0, 0, 0, 1], b @ [0, 0, 0, 1], atol=0.1),
            "1 % longer along z.*: expected False",
        ),
        (exercises.check_onto_scan, lambda *a: None, "the grid itself: your function returned nothing"),
        (exercises.check_onto_scan, lambda label, a, shape, b: np.resize(label, shape), "a finer grid: expected"),
        (exercises.check_onto_scan, lambda label, *a: label.copy(), "a finer grid: expected shape"),
        (exercises.check_onto_scan, other_way, "a finer grid: expected"),
        (exercises.check_onto_scan, wrapped, "a scan larger than the label: expected 0"),
        (exercises.check_onto_scan, overwriting, "changed its input"),
        (exercises.check_verdict, lambda image, label: None, "nothing wrong: expected 'use', found None"),
        (
            exercises.check_verdict,
            lambda image, label: "mend" if image or label else "use",
            "cut short: expected 'leave out'",
        ),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(check, answer, words):
    with pytest.raises(AssertionError, match=words):
        check(answer)


def test_the_example_folder_is_faulty_in_the_four_ways_the_lesson_tells(tmp_path):
    exercises.write_example_folder(tmp_path)
    report = check_folder(tmp_path / "scans")
    problems = {problem.case: str(problem) for problem in report.problems}
    words = {"05": "NaN", "08": r"shape \(72, 72, 87\)", "11": "fractions", "13": "cut short"}
    assert sorted(problems) == [f"patient_{number}" for number in words]
    for number, expected in words.items():
        assert re.search(expected, problems[f"patient_{number}"])
    assert len(report.ok) == 10 and report.modality == "CT"
    assert {scan.orientation for scan in report.scans} == {"LPS", "LAS", "PSR"}


def test_the_new_patient_is_whole_and_lies_on_the_grid_of_its_truth(tmp_path):
    exercises.write_example_folder(tmp_path)
    scan = nibabel.load(tmp_path / "new" / "patient_15.nii.gz")
    truth = nibabel.load(tmp_path / "truth" / "patient_15.nii.gz")
    assert same_place(scan.shape, scan.affine, truth.shape, truth.affine)
    assert nibabel.aff2axcodes(scan.affine) == ("L", "P", "S")
    label = read_label_map(tmp_path / "truth" / "patient_15.nii.gz").numpy()[0]
    liver, spleen = (np.argwhere(label == number)[:, 0].mean() for number in (1, 2))
    assert liver > spleen  # RAS+: the liver is on the right
