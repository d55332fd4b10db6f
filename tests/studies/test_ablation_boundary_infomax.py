"""The ablation on phantoms of seconds: every arm trains with its own parts, and all are judged alike."""

import json

TINY = (
    *("cohort.train=4", "cohort.test=2", "cohort.shape=[20, 20, 20]", "cohort.spacing_mm=14.0"),
    *("encoder.channels=[4, 8]", "task.num_clusters=4", "task.projection=8"),
    *("pretraining.steps=3", "pretraining.batch_size=2", "pretraining.crop=[16, 16, 8]"),
)


def test_arms_differ_in_their_parts_and_have_the_same_judges(study, tmp_path, words, capsys):
    arms = ("untrained", "IIC", "+ contrast", "contrast only")
    study.main(words(tmp_path, "--seeds", "0", "--arms", *arms))
    result = json.loads((tmp_path / "ablation_boundary_infomax.json").read_text())
    assert [run["arm"] for run in result["runs"]] == list(arms)
    assert result["settings"]["arms"] == {
        "untrained": None,
        "IIC": ["clusters"],
        "+ contrast": ["clusters", "regularised", "boundary", "contrast"],
        "contrast only": ["contrast"],
    }
    by_arm = {run["arm"]: run for run in result["runs"]}
    assert len({run["probe_1"] for run in result["runs"]}) == 4
    assert set(by_arm["contrast only"]) == {"arm", "seed", "probe_1", "probe_4"}  # it has no clusters to judge
    for arm in arms[:3]:
        run = by_arm[arm]
        assert 1 <= run["used"] <= 4 and 0 <= run["organ_share"] <= 1 and 0 <= run["agreement"] <= 1
        assert run["border_f_0mm"] <= run["border_f_7.3mm"] + 1e-9 and run["kappa"] <= run["agreement"]
    assert (tmp_path / "runs" / "boundary_infomax.demo" / "phantom" / "seed0" / "encoder.safetensors").exists()
    capsys.readouterr()
    study.main(words(tmp_path, "--seeds", "0", "--arms", *arms))  # again: everything is loaded, nothing trained
    assert "step 3/3" not in capsys.readouterr().out
    again = json.loads((tmp_path / "ablation_boundary_infomax.json").read_text())
    assert again["runs"] == result["runs"]
