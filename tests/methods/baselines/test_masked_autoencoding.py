"""Masked autoencoding: nothing leaks through the mask, in any encoder."""

import pytest
import torch

from medssl_nb.methods.baselines import MaskedAutoencoding
from medssl_nb.networks import build_encoder, patchify, unpatchify

ENCODERS = {
    "unet": {"network": "FeatureUNet", "channels": [4, 8], "norm": "instance"},
    "conv": {"network": "ConvBackbone", "widths": [8, 8, 8, 8]},
    "transformer, encode": {
        **{"network": "MaskedPatchTransformer", "volume_size": [16, 16, 16], "patch_size": 8},
        **{"hidden_size": 24, "layers": 1, "heads": 2},
    },
    "transformer, drop": {
        **{"network": "MaskedPatchTransformer", "volume_size": [16, 16, 16], "patch_size": 8, "decoder_layers": 1},
        **{"hidden_size": 24, "layers": 1, "heads": 2, "masked_tokens": "drop"},
    },
}


def a_task(name="unet", **options):
    torch.manual_seed(0)
    return MaskedAutoencoding(build_encoder(ENCODERS[name]), **options)


def some_views(task, volumes=None, seed=0):
    volumes = torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(9)) if volumes is None else volumes
    return task.views(volumes, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ENCODERS)
def test_nothing_leaks_through_the_mask(name):
    task = a_task(name).eval()
    views = some_views(task)
    patches = patchify(views["volume"], 8)
    patches[views["mask"]] = 77.0
    changed = unpatchify(patches, 8, (2, 2, 2))
    assert not torch.equal(changed, views["volume"])
    torch.testing.assert_close(task.reconstruct(changed, views["mask"]), task.reconstruct(**views))


@pytest.mark.parametrize("name", ENCODERS)
def test_gradients_reach_the_encoder_and_the_loss_counts_hidden_patches_only(name):
    task = a_task(name)
    views = some_views(task)
    losses = task.losses(views, 0.0)
    assert losses["total"] is losses["reconstruction"]
    losses["total"].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in task.encoder.parameters())
    with torch.no_grad():
        prediction, target = task.reconstruct(**views), patchify(views["volume"], 8)
        by_hand = (prediction - target)[views["mask"]].square().mean()
    torch.testing.assert_close(losses["total"].detach(), by_hand)


def test_the_share_of_hidden_patches_is_exact_and_follows_the_generator():
    task = a_task(patch_size=4, mask_ratio=0.6)
    mask = some_views(task)["mask"]
    assert mask.sum(1).tolist() == [38, 38]  # 0.6 x 64 = 38.4
    assert torch.equal(mask, some_views(task)["mask"])
    assert not torch.equal(mask, some_views(task, seed=1)["mask"])


def test_hidden_patches_take_the_learned_value():
    task = a_task(patch_size=8)
    with torch.no_grad():
        task.hidden_value.fill_(5.0)
    mask = torch.zeros(1, 8, dtype=torch.bool)
    mask[0, 0] = True
    hidden = task.hide(torch.zeros(1, 1, 16, 16, 16), mask)
    assert hidden[0, 0, :8, :8, :8].eq(5).all()
    assert hidden.sum() == 5 * 8**3


def test_trivial_loss_is_the_error_of_the_visible_mean():
    task = a_task(patch_size=8)
    volume = torch.zeros(1, 1, 16, 16, 16)
    volume[0, 0, :8, :8, :8] = 2.0  # patch 0
    mask = torch.zeros(1, 8, dtype=torch.bool)
    mask[0, 0] = True
    task.losses({"volume": volume, "mask": mask}, 0.0)
    assert task.trivial_losses == {"total": 4.0}
    assert task.health()["prediction spread"] >= 0


def test_trivial_loss_survives_a_checkpoint():
    task = a_task()
    assert task.trivial_losses == {}
    task.losses(some_views(task), 0.0)
    again = a_task()
    again.load_state_dict(task.state_dict())
    assert again.trivial_losses == task.trivial_losses != {}


def test_a_ratio_outside_0_and_1_is_refused():
    with pytest.raises(ValueError, match="hidden share of the patches, between 0 and 1; got 75"):
        a_task(mask_ratio=75)
