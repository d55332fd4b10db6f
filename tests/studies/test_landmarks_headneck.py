"""The landmark study on phantoms of seconds: arms differ in their flips, all are judged alike."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

TINY = (
    *("cohort.train=2", "cohort.validation=0", "cohort.test=2", "cohort.shape=[18, 18, 18]", "cohort.spacing_mm=16.0"),
    *("encoder.channels=[4, 8]", "task.embedding_dim=4", "task.grid=4", "pretraining.spacing_mm=[16.0, 16.0, 16.0]"),
    *("pretraining.steps=2", "pretraining.batch_size=2", "pretraining.crop=[16, 16, 16]"),
)
SMALL = ("--cohort", "phantom", "--seeds", "0", "--windows", "1", "3", "--templates", "1")


def test_arms_differ_in_their_flips_and_have_the_same_judges(study, tmp_path, words, capsys):
    study.main(words(tmp_path, *SMALL))
    result = json.loads((tmp_path / "landmarks_headneck.json").read_text())
    assert [run["arm"] for run in result["runs"][:2]] == ["copying", "grey values"]
    trained = [(run["arm"], run["window"]) for run in result["runs"][2:]]
    assert trained == [(arm, window) for arm in study.ARMS for window in (1, 3)]
    assert len({run["landmarks"] for run in result["runs"]}) == 1
    assert len({run["mean_mm"] for run in result["runs"] if run.get("window") == 3}) == 4
    for run in result["runs"]:
        assert 0 <= run["within_15"] <= run["within_25"] <= 1 and 0 <= run["swapped"] <= 1
        assert "right kidney upper pole" in run["by_landmark_mm"]
    capsys.readouterr()
    study.main(words(tmp_path, *SMALL))  # again: everything is loaded, nothing trained
    assert "step 2/2" not in capsys.readouterr().out
    assert json.loads((tmp_path / "landmarks_headneck.json").read_text())["runs"] == result["runs"]


def test_twins_and_swaps(study):
    assert study.twin("LeftParotid") == "RightParotid" and study.twin("right kidney") == "left kidney"
    assert study.twin("Brainstem") == "Brainstem"

    places = {"LeftParotid": (-60.0, 0.0, 0.0), "RightParotid": (60.0, 0.0, 0.0), "Brainstem": (0.0, 0.0, 9.0)}
    patient = SimpleNamespace(landmarks_mm=places)
    points = np.array([[50.0, 0, 0], [60.0, 0, 12], [0.0, 0, 0]])
    found = study.scores([points], [(patient, patient)])
    assert found["swapped"] == 0.5 and found["median_mm"] == 12.0 and found["within_15"] == pytest.approx(2 / 3)
    assert found["by_landmark_mm"] == {"Brainstem": 9.0, "LeftParotid": 110.0, "RightParotid": 12.0}
