"""The study of lesion clusters: its scores on a made-up case, and that it writes what its readers need."""

import json

import pytest
import torch
from monai.data import MetaTensor

from medssl_nb.evaluation.results import load_results

EIGHT = [10.0, 9, 9, 9, 9, 0, 0, 1]  # intensities of eight patches


def test_scores_of_a_made_up_case(study):
    # 8 patches of one voxel each, all alike inside; true lesion: the brightest one, and one of the darkest
    volume = torch.tensor(EIGHT).reshape(1, 1, 2, 2, 2)
    truth = torch.tensor([[1, 0, 0, 0, 0, 1, 0, 0]]).bool()
    rows = study.scores(volume, truth, torch.ones(1, 8, dtype=torch.bool), 1, [0, 1])
    assert [row["preset"] for row in rows] == list(study.PRESETS)
    found = {row["preset"]: (row["lift"], row["recall"], row["size"]) for row in rows}
    dark, bright, peak = (4 / 3, 0.5, 3 / 8), (0.8, 0.5, 5 / 8), (4.0, 0.5, 1 / 8)  # 1 of 3, 1 of 5, 1 of 1 called
    for preset, right in zip(study.PRESETS, (dark, bright, bright, peak, peak), strict=True):
        assert found[preset] == pytest.approx(right), preset
    assert all(row["lift_sd"] == row["recall_sd"] == row["size_sd"] == 0 for row in rows)
    assert all((row["true"], row["patches"]) == (2, 8) for row in rows)


def test_patches_that_take_no_part_do_not_count(study):
    volume = torch.tensor(EIGHT).reshape(1, 1, 2, 2, 2)
    truth = torch.tensor([[1, 0, 0, 0, 0, 1, 0, 0]]).bool()
    core = torch.tensor([[0, 1, 1, 1, 1, 1, 0, 0]]).bool()  # left: four of 9, one true 0
    smallest, *_, eight = study.scores(volume, truth, core, 1, [0])
    assert (smallest["true"], smallest["patches"], smallest["lift_sd"]) == (1, 5, None)
    assert smallest["lift"] == pytest.approx(5)
    assert (eight["lift"], eight["recall"], eight["size"]) == (0.0, 0.0, 0.8)


def test_mean_and_spread_leave_out_what_is_not_defined(study):
    assert study.mean_and_spread([1.0, None, 3.0]) == pytest.approx((2.0, 2**0.5))
    assert study.mean_and_spread([1.0]) == (1.0, None)
    assert study.mean_and_spread([None, None]) == (None, None)


def test_volumes_are_cut_alike_on_both_sides(study):
    volume = MetaTensor(torch.arange(7.0)[None, :, None, None].expand(1, 7, 3, 3))
    cut = study.whole_patches(volume, (4, 3, 2))
    assert type(cut) is torch.Tensor and cut.shape == (1, 1, 4, 3, 2)
    assert cut[0, 0, :, 0, 0].tolist() == [1, 2, 3, 4]  # one voxel lost before, two behind


def test_intensities_are_standardised_inside_the_brain(study):
    raw = torch.tensor([1.0, 3.0, 99.0])
    assert study.standardised(raw, raw < 9).tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5, 6])
    bright = torch.cat([torch.zeros(99), torch.ones(1)])
    assert study.standardised(bright, bright < 2).max() == 6  # 9.9 deviations above the mean
    assert study.standardised(-bright, bright < 2).min() == -4


def test_one_case_of_each_generated_data_set(study, tmp_path):
    study.main(["--data", *study.GENERATED, "--cases", "1", "--seeds", "0", "--results", str(tmp_path)])
    (result,) = load_results(tmp_path, "selection")
    assert result["settings"]["not_here"] == [] and result["seeds"] == [0]
    wanted = [(data, preset) for data in study.GENERATED for preset in study.PRESETS]
    assert [(run["data"], run["preset"]) for run in result["runs"]] == wanted
    for run in result["runs"]:
        assert run["case"].endswith("validation_000") and 0 < run["size"] < 1 and run["patches"] > 100
        assert (run["lift"] is None) == (run["recall"] is None) == (run["true"] == 0)


def test_cohorts_that_are_not_here_are_named_in_the_result(study, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "find_dataset", lambda name: None)
    study.main(["--data", *study.REAL, "--results", str(tmp_path)])
    result = json.loads((tmp_path / "lesion_patches.json").read_text(encoding="utf-8"))
    assert result["settings"]["not_here"] == ["MS FLAIR", "head-neck CT"] and result["runs"] == []
