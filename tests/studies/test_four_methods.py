"""All methods side by side on phantoms of seconds: all arms are judged alike, and a second call loads them."""

import importlib.util
import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest

from medssl_nb.evaluation.side_by_side import side_by_side_table

SCRIPT = Path(__file__).parents[2] / "studies" / "four_methods.py"
TINY = (
    *("cohort.train=9", "cohort.validation=1", "cohort.test=2", "cohort.shape=[24, 24, 24]", "cohort.spacing_mm=13.0"),
    *("transfer.steps=2", "transfer.evaluate_at=[2]", "transfer.crop=[16, 16, 16]", 'cohort.organs=["liver"]'),
)
OF_ARM = {
    "masked autoencoding": ("pretraining.steps=3", "pretraining.crop=[16, 16, 16]"),
    "untrained transformer": ("encoder.volume_size=[16, 16, 16]", "encoder.layers=1"),
    "untrained backbone": ("encoder.widths=[4, 4, 8, 8]",),
    "untrained U-Net": (),
}


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("four_methods", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def words(folder, *arms, pieces=("probe", "clusters", "landmarks", "lesions", "meters", "finetuned")):
    kept = ["--runs", str(folder / "runs"), "--results", str(folder)]
    return ["--cohorts", "phantom", "--seeds", "0", "--arms", *arms, "--pieces", *pieces, *kept]


def test_every_arm_is_judged_by_the_same_pieces(study, tmp_path, monkeypatch, capsys):
    whole = study.recipe_of

    def small(arm, cohort, seed, options):
        options.set = [*TINY, *OF_ARM[arm]]
        return whole(arm, cohort, seed, options)

    monkeypatch.setattr(study, "recipe_of", small)
    monkeypatch.setattr(study, "LABELLED", (1, 2))
    monkeypatch.setattr(study, "FINETUNED", (1,))
    monkeypatch.setattr(study, "DRAWS", 1)
    study.main(words(tmp_path, *OF_ARM))
    result = json.loads((tmp_path / "four_methods_phantom.json").read_text())
    assert [run["arm"] for run in result["runs"]] == list(OF_ARM)
    for run in result["runs"]:
        assert [r["labelled"] for r in run["probe"]] == [1, 2] and len(run["finetuned"]) == 1
        assert 0 <= run["clusters"]["share"] <= 1 and run["clusters"]["of"] == "all voxels"  # one organ only
        assert 1 <= run["meters"]["effective_rank"] <= run["meters"]["channels"]
        assert run["landmarks"]["copy_mm"] == result["runs"][0]["landmarks"]["copy_mm"]
    trained = result["runs"][0]
    assert trained["meters"]["steps"] == 3 and "reconstruction" in trained["meters"]["losses"]
    assert trained["untrained"] == "untrained U-Net" and result["settings"]["encoders"]["untrained U-Net"]
    assert len({run["probe"][0]["mean_dice"] for run in result["runs"]}) > 1
    assert len(side_by_side_table(result).rows) == len(OF_ARM)

    capsys.readouterr()
    study.main(words(tmp_path, *OF_ARM))  # again: everything is there
    assert "seed 0" not in capsys.readouterr().out
    assert json.loads((tmp_path / "four_methods_phantom.json").read_text())["runs"] == result["runs"]


def test_the_same_network_stands_beside_every_method(study):
    options = Namespace(set=[])
    for cohort in study.COHORTS:
        data = study.recipe_of("untrained U-Net", cohort, 0, options)
        for arm, (_, untrained) in study.ARMS.items():
            recipe = study.recipe_of(arm, cohort, 1, options)
            transfer = replace(recipe.transfer, crop=data.transfer.crop)  # a transformer takes the volume as a whole
            assert (recipe.cohort, transfer) == (data.cohort, data.transfer), (cohort, arm)
            if untrained:
                assert recipe.encoder == study.recipe_of(untrained, cohort, 1, options).encoder
                assert recipe.pretraining.seed == 1


def test_costs_come_from_a_process_of_their_own(study, tmp_path, monkeypatch):
    options = Namespace(set=[*TINY, *OF_ARM["masked autoencoding"], "pretraining.steps=9"], runs=tmp_path)
    found = study.cost("masked autoencoding", "phantom", 0, options)
    assert found["steps"] == 9 and found["seconds"] == pytest.approx(9 * found["seconds_per_step"])
    assert 0.1 < found["peak_gb"] < 8 and found["trained_weights"] >= found["weights"] > 10_000
    assert study.cost("untrained U-Net", "phantom", 0, options) is None
