"""The study of shapes in a few steps: same images for all arms, the prior alone makes the difference, all is stored."""

import json
from dataclasses import replace

import pytest
import torch


@pytest.fixture
def task(study):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 1, 24, 24, generator=generator)
    masks = torch.zeros(2, 1, 24, 24)
    masks[..., 4:12, 4:16] = 1
    return study.Task(images, masks, {"unseen": (images, masks[:1].repeat(3, 1, 1, 1))})


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_only_the_prior_tells_arms_apart_and_a_seed_gives_one_run(study, task):
    few = replace(study.Settings(), steps=2)
    without, said_without = study.train(task, replace(few, shape=0.0), 0)
    prior, said = study.train(task, few, 0)
    again, _ = study.train(task, few, 0)
    assert torch.equal(weights(prior), weights(again))
    assert not torch.equal(weights(prior), weights(without))
    assert said_without == {} and set(said) == {"discriminator_loss", "real_score", "fake_score", "generator_loss"}
    free = study.Task(task.images, 1 - task.masks, task.judged)  # other masks: nothing to an arm without them
    assert torch.equal(weights(study.train(free, replace(few, shape=0.0), 0)[0]), weights(without))


def test_copying_the_mean_mask_is_perfect_where_all_are_alike(study, task):
    assert study.copied(task) == {"dice_unseen": 1.0}


def test_slices_keep_their_middle(study):
    volume = torch.zeros(1, 90, 50, 3)
    volume[0, 45, 25, 1] = 1
    found = study.slices_of(volume)
    assert tuple(found.shape) == (3, 1, *study.REAL_SIZE)
    assert found[1, 0, 40, 28] == 1 and found.sum() == 1


def test_what_is_stored(study, task, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "generated_task", lambda: task)
    study.main(
        ["--seeds", "0", "1", "--arms", "without prior", "with prior", "--steps", "2", "--results", str(tmp_path)]
    )
    result = json.loads((tmp_path / "shape_guided.json").read_text())
    arms = [run["arm"] for run in result["runs"]]
    refined = ["with prior, refined weighted", "with prior, refined plain"]
    assert arms == ["copied mean mask", *2 * ["without prior", "with prior", *refined]]
    lines = {(line["arm"], line["measure"]): line for line in result["summary"]}
    line = lines["with prior", "dice_unseen"]
    of_seeds = [run["dice_unseen"] for run in result["runs"] if run["arm"] == "with prior"]
    assert line["mean"] == pytest.approx(sum(of_seeds) / 2, abs=1e-5) and line["low"] <= line["mean"] <= line["high"]
    assert result["settings"]["arms"]["phantom"]["with prior"]["steps"] == 2
