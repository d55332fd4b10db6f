"""The brain cohort: MNI anatomy, T1 and FLAIR contrast, exact correspondence, the same person everywhere."""

import json
import os
import subprocess
import sys
import zlib

import numpy as np
import pytest

from medssl_nb.data import brain, mm_to_voxel, phantom, voxel_to_mm
from medssl_nb.data.brain import LANDMARKS, TISSUES, brain_map, generate_brain, tissue_at

SMALL = {"shape": (40, 46, 36), "spacing_mm": 4.2}
NUMBER = {name: number for number, name in TISSUES.items()}


@pytest.fixture(scope="module")
def cases():
    return [generate_brain(seed, **SMALL) for seed in range(8)]


def brain_points(seed: int, count: int = 2500) -> np.ndarray:
    """Points of one person whose template places lie in the brain."""
    template_points = np.random.default_rng(seed).uniform((-72, -107, -70), (72, 73, 82), (count, 3))
    return brain_map(seed).to_patient(template_points[tissue_at(template_points) > 0])


def test_shapes_types_and_affine(cases):
    for case in cases:
        assert case.image.shape == case.label.shape == case.lesion.shape == SMALL["shape"]
        assert (case.image.dtype, case.label.dtype, case.lesion.dtype) == (np.float32, np.uint8, bool)
        assert np.isfinite(case.image).all() and case.image.min() >= 0
        np.testing.assert_allclose(np.diag(case.affine), [4.2, 4.2, 4.2, 1])
        np.testing.assert_allclose(voxel_to_mm(case.affine, [(np.array(SMALL["shape"]) - 1) / 2]), 0, atol=1e-9)
        assert set(np.unique(case.label)) == set(TISSUES)
        assert json.loads(json.dumps(case.facts)) == case.facts


def test_intensities_are_multiples_of_a_step(cases):
    scaled = cases[0].image.astype(float) * 4096
    assert np.array_equal(scaled, np.rint(scaled))


def test_t1_contrast(cases):
    for case in cases:
        csf, grey, white, air = (
            np.median(case.image[(case.label == NUMBER[name]) & ~case.lesion])
            for name in ("CSF", "grey matter", "white matter", "background")
        )
        assert air < csf < grey < white
    fixed = [generate_brain(seed, vary_contrast=False, **SMALL) for seed in range(3)]
    assert {json.dumps(case.facts["contrast"]) for case in fixed} == {
        json.dumps({"grey matter": 0.55, "white matter": 0.82, "CSF": 0.22})
    }
    assert {case.facts["gamma"] for case in fixed} == {1.0}
    assert len({case.facts["gamma"] for case in cases}) == len(cases)


def test_flair_contrast():
    for seed in range(8):
        case = generate_brain(seed, sequence="FLAIR", noise=0, lesion_share=0, **SMALL)
        flat = case.image ** (1 / case.facts["gamma"])
        csf, grey, white = (
            np.median(flat[case.label == NUMBER[name]]) for name in ("CSF", "grey matter", "white matter")
        )
        assert csf + 0.2 < white < grey < white + 0.2
        contrast = case.facts["contrast"]
        assert 0 < contrast["CSF"] < 0.2 and contrast["grey matter"] - contrast["white matter"] > 0.04
    fixed = generate_brain(0, sequence="FLAIR", vary_contrast=False, **SMALL).facts
    assert fixed["contrast"] == {"grey matter": 0.62, "white matter": 0.5, "CSF": 0.1} and fixed["gamma"] == 1


def test_both_sequences_show_the_same_person():
    for seed in range(4):
        t1, flair = (generate_brain(seed, sequence=name, lesion_share=1, **SMALL) for name in ("T1", "FLAIR"))
        assert np.array_equal(generate_brain(seed, lesion_share=1, **SMALL).image, t1.image)
        assert np.array_equal(flair.label, t1.label) and np.array_equal(flair.lesion, t1.lesion)
        assert flair.facts["gamma"] == t1.facts["gamma"]
        for one, other in zip(flair.facts["lesions"], t1.facts["lesions"], strict=True):
            assert {**one, "kind": None} == {**other, "kind": None}
            assert (one["kind"], other["kind"]) in {("ring", "ring"), ("bright", "dark")}


def test_flair_lesions_are_bright_and_rings_darker_in_the_middle():
    plain = {"sequence": "FLAIR", "noise": 0, "vary_contrast": False, "shape": (48, 56, 44), "spacing_mm": 3.4}
    middles = {"bright": [], "ring": []}
    for seed in range(16):
        case, healthy = (generate_brain(seed, lesion_share=share, **plain) for share in (1, 0))
        change = (case.image - healthy.image)[case.lesion]
        assert len(change) == 0 or np.quantile(change, 0.8) > 0.2
        for fact in case.facts["lesions"]:
            voxel = np.rint(mm_to_voxel(case.affine, [fact["centre_mm"]])[0]).astype(int)
            if fact["radius_mm"] > 8 and all(0 <= v < n for v, n in zip(voxel, case.image.shape, strict=True)):
                middles[fact["kind"]].append(case.image[tuple(voxel)] / np.median(healthy.image[healthy.label == 2]))
    assert len(middles["bright"]) > 2 and len(middles["ring"]) > 2
    assert min(middles["bright"]) > 1.4 and max(middles["ring"]) < 1.4 and 0.6 < np.mean(middles["ring"]) < 1.2


def test_template_is_mni_space():
    brain_volume = 8e-3 * (brain._template()[0][:3].sum(0) > 0.5).sum()  # ml, from 2 mm voxels
    assert 1700 < brain_volume < 2050  # the template is larger than most brains
    right = np.random.default_rng(0).uniform((2, -100, -60), (70, 70, 80), (3000, 3))
    assert (tissue_at(right) == tissue_at(right * (-1, 1, 1))).mean() > 0.98  # it is symmetric


@pytest.mark.parametrize(("name", "place"), LANDMARKS.items())
def test_landmarks_lie_in_what_they_name(name, place):
    words = {"callosum": "white matter", "capsule": "white matter", "white matter": "white matter"}
    words |= {"caudate": "grey matter", "amygdala": "grey matter", "hippocampus": "grey matter", "ventricle": "CSF"}
    expected = next(tissue for word, tissue in words.items() if word in name)
    around = np.array(place) + np.stack(np.meshgrid(*[[-1.5, 0, 1.5]] * 3), -1).reshape(-1, 3)
    assert (tissue_at(around) == NUMBER[expected]).mean() > 0.85
    assert tissue_at([place])[0] == NUMBER[expected]


def test_image_and_map_agree(cases):
    for case in cases[:4]:
        voxels = np.indices(case.label.shape).reshape(3, -1).T
        places = case.patient_map.to_template(voxel_to_mm(case.affine, voxels))
        assert (tissue_at(places) == case.label.ravel()).mean() > 0.99999


@pytest.mark.parametrize("variation", [1.0, 1.5])
def test_round_trips_and_no_folds(variation):
    for seed in range(12):
        person, points = brain_map(seed, variation), brain_points(seed)
        assert np.abs(person.to_patient(person.to_template(points)) - points).max() < 0.001
        assert np.linalg.det(person.jacobian(points)).min() > 0.1


def test_from_one_person_to_another_and_back():
    a, b, points = brain_map(5), brain_map(6), brain_points(5)
    there = b.to_patient(a.to_template(points))
    assert np.abs(there - points).max() > 5
    assert np.abs(a.to_patient(b.to_template(there)) - points).max() < 0.01


def test_anatomy_does_not_depend_on_grid_noise_contrast_or_lesions():
    points = brain_points(2)
    plain, ill = (generate_brain(2, lesion_share=share, **SMALL) for share in (0, 1))
    other = generate_brain(2, (9, 8, 10), (20.0, 22.0, 21.0), noise=0.2, vary_contrast=False)
    for case in (plain, ill, other):
        assert np.array_equal(case.patient_map.to_template(points), brain_map(2).to_template(points))
    assert np.array_equal(plain.label, ill.label)
    assert not plain.lesion.any() and ill.lesion.any()
    assert plain.facts["gamma"] == ill.facts["gamma"]
    assert brain._KIND != phantom._KIND  # brain 2 is not drawn with the numbers of abdomen 2


def test_lesions_are_seen_where_they_are_said_to_be():
    kinds = set()
    for seed in range(16):
        without, with_lesions = (
            generate_brain(seed, lesion_share=share, noise=0, vary_contrast=False) for share in (0, 1)
        )
        change = np.abs(with_lesions.image - without.image)
        assert 1 <= len(with_lesions.facts["lesions"]) <= 3
        if with_lesions.lesion.any():
            assert change[with_lesions.lesion].mean() > 0.1
        for fact in with_lesions.facts["lesions"]:
            kinds.add(fact["kind"])
            assert 4 <= fact["radius_mm"] <= 16
            place = with_lesions.patient_map.to_template(np.array([fact["centre_mm"]]))
            assert TISSUES[int(tissue_at(place)[0])] == "white matter"
    assert kinds == {"dark", "ring"}


def test_seeds_differ_and_repeat(cases):
    assert np.array_equal(generate_brain(4, **SMALL).image, cases[4].image)
    assert len({zlib.crc32(case.image.tobytes()) for case in cases}) == len(cases)


PRINT_CHECKSUMS = """
import sys, zlib
from medssl_nb.data.brain import generate_brain
case = generate_brain(7, shape=(24, 28, 22), spacing_mm=7.0, lesion_share=1)
print([zlib.crc32(a.tobytes()) for a in (case.image.astype("<f4"), case.label, case.lesion)], "nilearn" in sys.modules)
"""


def test_the_same_person_in_every_process_without_importing_nilearn_again():
    tissue_at(np.zeros((1, 3)))  # the template is stored from here on
    runs = [
        subprocess.run(
            [sys.executable, "-c", PRINT_CHECKSUMS],
            env={**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for threads in ("1", "2")
    ]
    # Worked out in float64 and rounded to 1/4096: what processors differ in is a million times smaller.
    assert runs == ["[3540664285, 1945658679, 2720383766] False"] * 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seed": -1}, "seed is a whole number from 0, got -1"),
        ({"shape": (64, 72)}, "shape is three whole numbers"),
        ({"spacing_mm": -2.6}, "spacing_mm is one number or three"),
        ({"variation": 2}, "variation is how much"),
        ({"lesion_share": -0.1}, "lesion_share is the share"),
        ({"noise": 1.5}, "noise is the noise"),
        ({"sequence": "T2"}, 'sequence is "T1" or "FLAIR", got \'T2\''),
        ({"sequence": ["T1"]}, r"got \['T1'\]"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        generate_brain(**{"seed": 0, "shape": (8, 8, 8), **arguments})
