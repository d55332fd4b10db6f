"""View contrast: two views of one crop, collapse and its value."""

import math

import pytest
import torch

from medssl_nb.methods.baselines import ViewContrast
from medssl_nb.networks import build_encoder
from medssl_nb.training import info_nce_loss

UNET = {"network": "FeatureUNet", "channels": [4, 8], "norm": "instance"}


def a_task(**options):
    torch.manual_seed(0)
    return ViewContrast(build_encoder(UNET), **options)


def volumes(count=3):
    return torch.rand(count, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))


def test_two_different_views_that_follow_the_generator():
    task = a_task()
    first, again = (task.views(volumes(), torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first["a"], again["a"]) and torch.equal(first["b"], again["b"])
    assert not torch.equal(first["a"], first["b"])
    assert first["a"].shape == (3, 1, 16, 16, 16)


def test_without_ranges_both_views_are_the_crop():
    still = {"scale": (1, 1), "rotation_degrees": 0.0, "translation": 0.0, "brightness": 0.0, "contrast": 0.0}
    views = a_task(**still, noise_std=0.0).views(volumes(), torch.Generator())
    torch.testing.assert_close(views["a"], volumes(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(views["b"], volumes(), rtol=1e-4, atol=1e-5)


def test_the_loss_is_info_nce_of_the_embeddings():
    task = a_task(temperature=0.2).eval()
    views = task.views(volumes(), torch.Generator().manual_seed(0))
    expected = info_nce_loss(task.embed(views["a"]), task.embed(views["b"]), temperature=0.2)
    torch.testing.assert_close(task.losses(views, 0.0)["total"], expected, rtol=1e-4, atol=1e-5)


def test_a_collapsed_encoder_scores_the_trivial_loss_and_its_spread_is_zero():
    task = a_task()
    for parameter in task.projector[-1].parameters():
        torch.nn.init.constant_(parameter, 0.0)
    torch.nn.init.constant_(task.projector[-1].bias, 1.0)
    loss = task.losses(task.views(volumes(), torch.Generator()), 0.0)["total"]
    assert loss.item() == pytest.approx(math.log(5))
    assert task.trivial_losses == {"total": pytest.approx(math.log(5))}
    assert task.health()["embedding spread"] == pytest.approx(0, abs=1e-6)


def test_gradients_reach_every_stage_of_the_encoder():
    task = a_task()
    task.losses(task.views(volumes(), torch.Generator()), 0.0)["total"].backward()
    without = {n.split(".")[0] for n, p in task.encoder.named_parameters() if p.grad is None}
    assert without == {"final_conv"}


def test_settings_can_be_stored():
    import json

    settings = a_task(scale=(0.9, 1.1)).settings()
    assert json.loads(json.dumps(settings)) == settings
    assert settings["scale"] == [0.9, 1.1]
