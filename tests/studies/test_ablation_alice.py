"""The ablation on phantoms of seconds: every arm trains with its own parts and pairs, and all are judged alike."""

import json
from types import SimpleNamespace

import pytest
import torch

from medssl_nb.networks import AnatomicalEmbeddingNet

TINY = (
    *("cohort.train=5", "cohort.validation=1", "cohort.test=2", "cohort.shape=[24, 24, 24]", "cohort.spacing_mm=13.0"),
    *("encoder.widths=[4, 4, 8, 8]", "task.hidden_dim=8", "task.out_dim=8", "task.casa_hidden_dim=8", "task.margin=2"),
    *("pretraining.steps=3", "pretraining.batch_size=2", "pretraining.crop=[16, 16, 16]"),
    *("pretraining.health_every=1", "transfer.steps=2", "transfer.evaluate_at=[2]", "transfer.crop=[16, 16, 16]"),
)
ARMS = ("untrained", "reconstruction", "+ global, random crops", "+ global, mined crops", "as the figure")


def test_arms_differ_in_their_words_and_have_the_same_judges(study, tmp_path, words, monkeypatch, capsys):
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path / "cache"))
    asked = []

    def small_sam(recipe, runs):
        asked.append((recipe.title, recipe.cohort["shape"], recipe.pretraining.seed))
        torch.manual_seed(0)
        return SimpleNamespace(encoder=AnatomicalEmbeddingNet(3, 1, (8, 8, 8, 8), 4))

    monkeypatch.setattr(study, "trained", small_sam)
    study.main(words(tmp_path, "--seeds", "0", "--arms", *ARMS))
    result = json.loads((tmp_path / "ablation_alice.json").read_text())
    assert [run["arm"] for run in result["runs"]] == list(ARMS)
    assert asked == [("anatomical_embedding.demo", [24, 24, 24], 0)] * 2  # by the two arms that mine
    by_arm = {run["arm"]: run for run in result["runs"]}
    assert by_arm["untrained"]["meters"] == by_arm["reconstruction"]["meters"] == []  # no teacher, nothing to meter
    terms = {arm: set(by_arm[arm]["meters"][-1]["losses"]) - {"total"} for arm in ARMS[2:]}
    assert terms == {
        "+ global, random crops": {"reconstruction", "global"},
        "+ global, mined crops": {"reconstruction", "global"},
        "as the figure": {"reconstruction", "global", "patch"},
    }
    assert "answer entropy" in by_arm["as the figure"]["meters"][-1]["health"]
    for run in result["runs"]:
        assert 0 <= run["between_crops"] <= 1.5  # both variances are estimates
        assert 0 <= run["landmarks_within_15"] <= run["landmarks_within_25"] <= 1 and run["landmarks_mm"] > 0
        assert all(0 <= run[name] <= 1 for name in ("probe_1", "probe_4", "finetuned_1", "finetuned_step_2"))
    assert len({run["landmarks_mm"] for run in result["runs"]}) == len(ARMS)
    capsys.readouterr()
    # again: everything is loaded, nothing trained
    study.main(words(tmp_path, "--seeds", "0", "--arms", "+ global, mined crops"))
    assert "step 3/3" not in capsys.readouterr().out


def test_variance_between_crops(study):
    """A map that says the same everywhere in a crop has all of it, one that says the same in all crops none."""

    class Encoder(torch.nn.Module):
        def __init__(self, constant):
            super().__init__()
            self.constant = constant

        def feature_maps(self, x):
            ramp = torch.linspace(-1, 1, 64).view(1, 1, 4, 4, 4)
            return [None, x.mean((2, 3, 4), keepdim=True).expand(1, 1, 4, 4, 4) if self.constant else ramp]

    class Image:
        def __init__(self, seed):
            self.volume = torch.rand(1, 32, 32, 32, generator=torch.Generator().manual_seed(seed)) + seed

        def normalised(self):
            return type("Meta", (), {"as_tensor": lambda _: self.volume})()

    cases = [Image(seed) for seed in range(8)]
    assert study.between_crops(Encoder(True), cases) == pytest.approx(1, abs=0.05)
    assert study.between_crops(Encoder(False), cases) == pytest.approx(0, abs=1e-6)
