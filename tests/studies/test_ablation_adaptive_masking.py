"""The ablation on brains of seconds: every arm trains with its own parts and is judged under the same masks."""

import json

TINY = (
    *("cohort.train=4", "cohort.test=9", "cohort.shape=[16, 20, 16]", "cohort.spacing_mm=8.8"),
    *("encoder.volume_size=[16, 20, 16]", "encoder.hidden_size=24", "encoder.layers=1", "encoder.heads=2"),
    *("pretraining.steps=3", "pretraining.batch_size=2", "pretraining.crop=[16, 20, 16]"),
)


def test_two_arms_two_seeds(study, tmp_path, words, capsys):
    study.main(words(tmp_path, "--seeds", "0", "1", "--arms", "random mask", "+ CCL"))
    result = json.loads((tmp_path / "ablation_adaptive_masking.json").read_text())
    assert [(run["arm"], run["seed"]) for run in result["runs"]] == [
        *(("random mask", 0), ("+ CCL", 0), ("random mask", 1), ("+ CCL", 1))
    ]
    assert result["settings"]["arms"] == {"random mask": [], "+ CCL": ["mps", "amr", "rrl", "ccl"]}
    errors = {run["lesion_error"] for run in result["runs"]}
    assert len(errors) == 4 and min(errors) > 0
    # the first and the last arm lie where `transfer` looks for the recipes of these names
    kept = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("encoder.safetensors")}
    assert kept == {f"runs/{name}.demo/brain/seed{s}" for name in ("simmim", "adaptive_masking") for s in (0, 1)}
    capsys.readouterr()
    # again: everything is loaded, nothing trained
    study.main(words(tmp_path, "--seeds", "0", "1", "--arms", "random mask", "+ CCL"))
    assert "step 3/3" not in capsys.readouterr().out
    again = json.loads((tmp_path / "ablation_adaptive_masking.json").read_text())
    assert again["runs"] == result["runs"]
