"""The ablation on phantoms of seconds: every arm trains with its own parts, and all are judged alike."""

import json

TINY = (
    *("cohort.train=5", "cohort.test=2", "cohort.shape=[20, 20, 20]", "cohort.spacing_mm=14.0"),
    *("encoder.channels=[4, 8]", "task.num_clusters=4", "task.embedding_dim=4", "task.grid=2"),
    *("pretraining.steps=3", "pretraining.batch_size=2", "pretraining.crop=[16, 16, 16]"),
)


def test_arms_differ_in_their_parts_and_have_the_same_judges(study, tmp_path, words, capsys):
    arms = ("untrained", "patch", "+ region", "+ entropy")
    study.main(words(tmp_path, "--seeds", "0", "--arms", *arms))
    result = json.loads((tmp_path / "ablation_local_discrimination.json").read_text())
    assert [run["arm"] for run in result["runs"]] == list(arms)
    assert result["settings"]["arms"] == {
        "untrained": None,
        "patch": ["patch"],
        "+ region": ["patch", "mixup", "region"],
        "+ entropy": ["patch", "mixup", "region", "entropy"],
    }
    by_arm = {run["arm"]: run for run in result["runs"]}
    assert "used" not in by_arm["patch"]  # it has no clusters to judge
    for arm in ("untrained", "+ region", "+ entropy"):
        assert 1 <= by_arm[arm]["used"] <= 4 and 0 <= by_arm[arm]["organ_share"] <= 1
    ways = ("window 1", "window 5", "window 9", "features")
    for run in result["runs"]:
        assert all(run[f"{way}, mm"] > 0 for way in ways)
        assert all(0 <= run[f"{way}, within 15 mm"] <= run[f"{way}, within 25 mm"] <= 1 for way in ways)
    assert len({run["window 5, mm"] for run in result["runs"]}) > 2
    (baseline,) = result["baselines"]
    assert {name for name in baseline if name.endswith("mm") and "within" not in name} == {
        "grey 5, mm",
        "grey 9, mm",
        "copying, mm",
    }
    assert (tmp_path / "runs" / "local_discrimination.demo" / "phantom" / "seed0" / "encoder.safetensors").exists()
    capsys.readouterr()
    study.main(words(tmp_path, "--seeds", "0", "--arms", *arms))  # again: everything is loaded, nothing trained
    assert "step 3/3" not in capsys.readouterr().out
    again = json.loads((tmp_path / "ablation_local_discrimination.json").read_text())
    assert again["runs"] == result["runs"]
