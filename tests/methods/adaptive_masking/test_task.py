"""AMLP as a pretext task: each part does what its name says, and all of them together are the loss of the contract."""

import math

import pytest
import torch

from medssl_nb.methods.adaptive_masking import (
    AdaptiveMasking,
    MaskedPatchTransformer,
    adaptive_masking_loss,
    masked_reconstruction_loss,
    patchify,
    reconstruction_error,
    relative_ranking_loss,
)
from medssl_nb.training import Profile, pretrain

SIZE, PATCH = (16, 16, 16), 4


def make_task(channels=1, **changes):
    torch.manual_seed(0)
    scores = changes.get("weighting") == "ranking"
    encoder = MaskedPatchTransformer(
        SIZE, PATCH, channels, hidden_size=24, layers=1, heads=2, mlp_size=32, difficulty_head=scores
    )
    return AdaptiveMasking(encoder, **{"foreground": 0.0, **changes})


def volumes(number=2, channels=1):
    """Noisy boxes of tissue (1) in air (-1) with one bright box (4) of two patches."""
    generator = torch.Generator().manual_seed(1)
    x = -torch.ones(number, channels, *SIZE)
    x[:, :, 2:, :, :12] = 1
    x[:, 0, 8:12, 4:12, 4:8] = 4
    return x + 0.1 * torch.rand(x.shape, generator=generator)


def bright():
    found = torch.zeros(4, 4, 4, dtype=torch.bool)
    found[2, 1:3, 1] = True
    return found.flatten()


def views_of(task, x=None, seed=0):
    x = volumes() if x is None else x
    return task.views(x, torch.Generator().manual_seed(seed))


def test_views_call_the_bright_box_lesion_and_leave_air_alone():
    task = make_task(flip_axes=())
    views = views_of(task)
    assert torch.equal(views["lesion"], bright().expand(2, -1))
    tissue = volumes()[0, 0].unfold(0, 4, 4).unfold(1, 4, 4).unfold(2, 4, 4).amax((3, 4, 5)) > 0
    assert torch.equal(views["tissue"], tissue.flatten().expand(2, -1))
    assert views["core"].sum() == 2 * 3 * 4 * 3  # the patches half air are tissue, not core
    assert torch.equal(views["volume"], volumes())


def test_mirroring_follows_the_axes_and_chance():
    task = make_task(flip_axes=(2,), features="peak")
    seen = {views_of(task, volumes(1), seed)["lesion"][0].nonzero()[:, 0].sum().item() for seed in range(8)}
    there = bright().view(4, 4, 4)
    assert seen == {turned.flatten().nonzero()[:, 0].sum().item() for turned in (there, there.flip(2))}


def test_the_ratio_rises_and_masks_grow_with_the_run():
    task = make_task(flip_axes=())
    views = views_of(task)
    tissue = views["tissue"].sum(1)
    masks = [task.mask(views, progress) for progress in (0.0, 0.5, 1.0)]
    for mask, ratio in zip(masks, (0.25, 0.5, 0.75), strict=True):
        assert torch.equal(mask.sum(1), (ratio * tissue + 0.5).long())
        assert (mask & bright()).sum() == 4  # lesions first, at every ratio
    assert not (masks[0] & ~masks[1]).any() and not (masks[1] & ~masks[2]).any()


def test_without_parts_it_is_random_masking_with_the_mean_error():
    task = make_task(parts=(), flip_axes=())
    views = views_of(task)
    assert not views["lesion"].any()
    masks = [task.mask(views, progress) for progress in (0.0, 1.0)]
    assert torch.equal(*masks)
    noise, tissue = views["noise"], views["tissue"]
    for row in range(2):  # the largest numbers of the tissue patches
        order = noise[row].masked_fill(~tissue[row], -1).argsort(descending=True)
        expected = order[: int(0.75 * tissue[row].sum() + 0.5)]
        assert masks[0][row].nonzero()[:, 0].tolist() == sorted(expected.tolist())
    losses = task.losses(views, 0.3)
    assert set(losses) == {"total", "reconstruction"}
    errors = reconstruction_error(task.encoder(views["volume"], masks[0])["prediction"], patchify(volumes(), PATCH))
    assert losses["total"].item() == pytest.approx(masked_reconstruction_loss(errors, masks[0]).item(), rel=1e-6)


@pytest.mark.parametrize(
    ("parts", "terms"),
    [
        (("mps",), {"reconstruction"}),
        (("mps", "amr"), {"reconstruction"}),
        (("rrl",), {"reconstruction", "relative"}),
        (("ccl",), {"reconstruction", "consistency"}),
        (("mps", "amr", "rrl", "ccl"), {"reconstruction", "relative", "consistency"}),
    ],
)
def test_each_part_brings_its_term(parts, terms):
    losses = (task := make_task(parts=parts)).losses(views_of(task), 0.5)
    assert set(losses) == {"total", *terms}
    losses["total"].backward()
    assert task.encoder.mask_token.grad.abs().sum() > 0


@pytest.mark.parametrize("weighting", ["relative", "attention"])
def test_all_parts_together_are_the_loss_of_the_package(weighting):
    task = make_task(weighting=weighting, strength=0.7, consistency_weight=0.5, error="l1")
    views = views_of(task)
    losses = task.losses(views, 0.4)
    mask = task.mask(views, 0.4)
    output = task.encoder(views["volume"], mask)
    expected = adaptive_masking_loss(
        output["prediction"],
        patchify(views["volume"], PATCH),
        mask,
        tokens=task.encoder.encode(views["volume"]),
        lesion=views["lesion"],
        valid=views["core"],
        weighting=weighting,
        strength=0.7,
        consistency_weight=0.5,
        error="l1",
    )
    for name in ("total", "reconstruction", "relative", "consistency"):
        assert losses[name].item() == pytest.approx(expected[name].item(), rel=1e-6)


def test_ranking_takes_the_place_of_the_weights():
    task = make_task(parts=("mps", "rrl"), weighting="ranking", relative_weight=2.0)
    views = views_of(task)
    losses = task.losses(views, 0.0)
    mask = task.mask(views, 0.0)
    output = task.encoder(views["volume"], mask)
    errors = reconstruction_error(output["prediction"], patchify(views["volume"], PATCH))
    ranking = relative_ranking_loss(output["scores"], errors, mask).item()
    assert losses["ranking"].item() == pytest.approx(ranking, rel=1e-6)
    total = masked_reconstruction_loss(errors, mask).item() + 2 * ranking
    assert losses["total"].item() == pytest.approx(total, rel=1e-6)


def test_the_brightest_rule_looks_at_its_channel():
    x = volumes(1)
    x = torch.cat([x, torch.where(x > 0, 5 - x, x)], dim=1)  # in the second channel the box is the darkest tissue
    views = [
        views_of(make_task(channels=2, features="peak", rule="brightest", lesion_channel=c, flip_axes=()), x)["lesion"][
            0
        ]
        for c in (0, 1)
    ]
    assert torch.equal(views[0], bright())
    assert not (views[1] & bright()).any() and views[1].any()


def test_above_minimum_finds_tissue_without_a_number():
    x = volumes(1).clamp(min=-0.89)  # air is one value now
    found = views_of(make_task(foreground="above minimum", flip_axes=()), x)
    known = views_of(make_task(foreground=-0.8, flip_axes=()), x)
    assert torch.equal(found["tissue"], known["tissue"]) and torch.equal(found["core"], known["core"])
    assert views_of(make_task(foreground=None), x)["tissue"].all()


def test_a_constant_volume_is_masked_at_random_and_hurts_nothing():
    task = make_task(foreground=None)
    views = views_of(task, torch.full((2, 1, *SIZE), 3.0))
    assert not views["lesion"].any()
    losses = task.losses(views, 0.0)
    losses["total"].backward()
    assert losses["consistency"].item() == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in task.parameters())


def test_a_volume_of_air_masks_nothing():
    task = make_task()
    losses = task.losses(views_of(task, torch.full((2, 1, *SIZE), -1.0)), 0.5)
    losses["total"].backward()
    assert losses["total"].item() == 0
    assert task.health() == {"hidden share": 0.0}


def test_health_and_the_trivial_loss():
    task = make_task(flip_axes=())
    views = views_of(task)
    task.losses(views, 0.5)
    health = task.health()
    assert set(health) == {"hidden share", "error, called lesion", "error, other", "agreement"}
    assert health["hidden share"] == pytest.approx(0.5, abs=0.02)
    assert health["error, called lesion"] > health["error, other"]  # brightness 4 is far from what a new network says
    mask, target = task.mask(views, 0.5), patchify(volumes(), PATCH)
    errors = [
        (target[b][mask[b]] - target[b][views["tissue"][b] & ~mask[b]].mean()).square().mean(-1) for b in range(2)
    ]
    assert task.trivial_losses == {"reconstruction": pytest.approx(torch.cat(errors).mean().item(), rel=1e-5)}
    assert make_task().trivial_losses == {}


def test_bfloat16_autocast_computes_losses_in_float32():
    task = make_task()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = task.losses(views_of(task), 0.5)
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": ("mps", "xyz")}, "parts are among mps, amr, rrl, ccl; got 'xyz'"),
        ({"rule": "darkest"}, "rule is .* got 'darkest'"),
        ({"lesion_channel": 1}, "lesion_channel counts from 0 to 0, got 1"),
        ({"weighting": "softmax"}, "weighting is .* got 'softmax'"),
        ({"foreground": "air"}, "foreground is an intensity, .* got 'air'"),
        ({"flip_axes": (3,)}, "flip_axes count from 0 to 2"),
        ({"start_ratio": 0.0}, "start is a share of the patches"),
        ({"schedule": "steep"}, "schedule is .* got 'steep'"),
    ],
)
def test_messages(changes, message):
    with pytest.raises(ValueError, match=message):
        make_task(**changes)


def test_other_encoders_and_missing_scores_are_refused():
    with pytest.raises(ValueError, match="must be a MaskedPatchTransformer, got Linear"):
        AdaptiveMasking(torch.nn.Linear(2, 2))
    encoder = MaskedPatchTransformer(SIZE, PATCH, hidden_size=24, layers=1, heads=2)
    with pytest.raises(ValueError, match="difficulty_head=True"):
        AdaptiveMasking(encoder, weighting="ranking")


def test_settings_are_plain_and_tell_arms_apart():
    import json

    told = [json.dumps(make_task(parts=parts).settings()) for parts in ((), ("mps",), ("mps", "amr", "rrl", "ccl"))]
    assert len(set(told)) == 3


def test_training_on_small_brains_beats_the_thoughtless_model():
    from medssl_nb.data import load_cohort

    cohort = load_cohort(
        "brain", sequence="FLAIR", lesion_share=1.0, shape=(16, 20, 16), spacing_mm=8.8, train=8, validation=0, test=0
    )
    torch.manual_seed(0)
    encoder = MaskedPatchTransformer((16, 20, 16), 4, hidden_size=48, layers=2, heads=4)
    task = AdaptiveMasking(encoder, features="peak", clusters=4, rule="brightest", foreground=-0.3)
    profile = Profile(steps=80, batch_size=4, crop=(16, 20, 16), learning_rate=3e-3)
    losses = [step.losses["reconstruction"] for step in pretrain(task, cohort, profile)]
    assert all(map(math.isfinite, losses))
    assert sum(losses[-10:]) / 10 < 0.8 * task.trivial_losses["reconstruction"]
