"""The pretext task: its views are pairs that can be undone, each part brings its term, stage 2 starts in time."""

import json
import math

import pytest
import torch

from medssl_nb.methods.local_discrimination import (
    LocalDiscrimination,
    LossWeights,
    ViewTransform,
    apply_views,
    local_discrimination_loss,
    patch_embeddings,
    region_embeddings,
)
from medssl_nb.methods.local_discrimination.views import DiscriminationBatch
from medssl_nb.networks import FeatureUNet, build_encoder
from medssl_nb.training import Profile, pretrain
from medssl_nb.training.batches import Crop, make_views

SIZE = (16, 12, 8)
STILL = {"scale": (1, 1), "rotation_degrees": 0.0}
PLAIN = {"brightness": 0.0, "contrast": 0.0}


def make_task(spatial_dims=3, **changes):
    torch.manual_seed(0)
    encoder = FeatureUNet(spatial_dims=spatial_dims, channels=(4, 8), norm="instance")
    return LocalDiscrimination(encoder, **{"num_clusters": 6, "embedding_dim": 8, "grid": 2, **changes})


def volumes(number=2, size=SIZE):
    x = -torch.ones(number, 1, *size)
    x[(..., *(slice(2, 6) for _ in size))] = 0.2
    return x + 0.3 * torch.rand(x.shape, generator=torch.Generator().manual_seed(1))


def views_of(task, x=None, seed=0):
    return task.views(volumes() if x is None else x, torch.Generator().manual_seed(seed))


def views_of_pairs(task, pairs=2):
    x = volumes(2 * pairs)
    return make_views(task, Crop(x, torch.zeros(len(x), 3)), seed=3, step=0, places=range(len(x)))


# ---------------------------------------------------------------- views
def test_without_chance_all_views_are_the_images_themselves():
    views = views_of(make_task(**STILL, **PLAIN, flip_axes=()))
    a, b = volumes()
    weight = views["mix_weights"][0]
    for found, expected in zip(views["images"][0], (a, b, a, b, weight * a + (1 - weight) * b), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert not views["flips"].any() and not views["turns"].any()


def test_second_views_went_through_the_moves_that_are_told():
    task = make_task(**STILL, **PLAIN, flip_axes=(0, 2), rot90_axes=(0, 1))
    x = volumes(size=(12, 12, 8))
    moved = set()
    for seed in range(12):
        views = views_of(task, x, seed)
        for which in range(2):
            flips = tuple(views["flips"][0, which].nonzero().flatten().tolist())
            move = ViewTransform(flips, int(views["turns"][0, which]), (0, 1))
            moved.add((move.flip_axes, move.rot90_k))
            torch.testing.assert_close(
                views["images"][0, 2 + which], apply_views(x[which : which + 1], [move])[0], rtol=0, atol=1e-5
            )
    assert len(moved) > 6 and all(1 not in flips for flips, _ in moved)


def test_shared_movement_moves_both_views_alike():
    views = views_of(make_task(**PLAIN, scale=(0.8, 1.2), rotation_degrees=20, flip_axes=()))
    a1, b1, a2, b2, _ = views["images"][0]
    torch.testing.assert_close(a1, a2, rtol=0, atol=1e-6)
    torch.testing.assert_close(b1, b2, rtol=0, atol=1e-6)
    assert (a1 - volumes()[0]).abs().max() > 0.1


def test_grey_values_are_changed_counted_from_their_lower_end():
    lowest = views_of(make_task(**STILL, brightness=0.5, contrast=0.0, flip_axes=(), intensity_range=(-1.0, 1.0)))
    x = volumes()
    for view, image in zip(lowest["images"][0, :4], (x[0], x[1], x[0], x[1]), strict=True):
        ratio = (view + 1) / (image + 1)
        assert ratio.std() < 1e-4 * ratio.mean()
        assert 0.5 <= ratio.mean() <= 1.5
    assert (lowest["images"][0, 0] - lowest["images"][0, 2]).abs().max() > 0.05


def test_a_blend_lies_between_its_images_though_their_ranges_differ():
    x = volumes()
    x[1] = 100 * x[1] + 500
    views = views_of(make_task(**STILL, **PLAIN, flip_axes=()), x)
    a, b, _, _, mixed = views["images"][0]
    weight = views["mix_weights"][0]
    torch.testing.assert_close(mixed, weight * a + (1 - weight) * b, rtol=1e-5, atol=1e-3)


# ---------------------------------------------------------------- losses
def by_contract(task, views, stage_two):
    images = views["images"].transpose(0, 1).flatten(0, 1)
    features = task.encoder.feature_maps(images)[0]
    z = task.embedding_head(features)
    pairs = len(views["images"])
    moves = [
        [ViewTransform(tuple(f.nonzero().flatten().tolist()), int(k)) for f, k in zip(flips, turns, strict=True)]
        for flips, turns in zip(views["flips"].transpose(0, 1), views["turns"].T, strict=True)
    ]
    batch = DiscriminationBatch(images, views["mix_weights"], *moves)
    more = {}
    if stage_two:
        a = task.clustering_head(features)
        more = {"regions": region_embeddings(z, a), "assignments": a}
    assert len(images) == 5 * pairs
    return local_discrimination_loss(patch_embeddings(z, task.cells["grid_size"]), batch, **more, weights=task.weights)


@pytest.mark.parametrize("progress", [0.1, 0.6])
def test_all_parts_together_are_the_loss_of_the_package(progress):
    task = make_task(stage_two=0.5, region_weight=3.0, mixup_weight=0.5)
    views = views_of_pairs(task)
    expected = by_contract(task, views, progress >= 0.5)
    found = task.losses(views, progress)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-4)
    assert task.weights == LossWeights(region=3.0, mixup=0.5)


@pytest.mark.parametrize(
    ("parts", "terms", "trained"),
    [
        (("patch",), {"patch"}, {"encoder", "embedding_head"}),
        (("patch", "mixup"), {"patch", "mixup"}, {"encoder", "embedding_head"}),
        (("patch", "mixup", "region"), {"patch", "mixup", "region"}, {"encoder", "embedding_head", "clustering_head"}),
        (
            ("patch", "mixup", "region", "entropy"),
            {"patch", "mixup", "region", "entropy"},
            {"encoder", "embedding_head", "clustering_head"},
        ),
    ],
)
def test_each_part_brings_its_term_and_trains_its_weights(parts, terms, trained):
    task = make_task(parts=parts, stage_two=0)
    losses = task.losses(views_of(task), 0.0)
    assert set(losses) == {"total", *terms}
    losses["total"].backward()
    found = {name.split(".")[0] for name, p in task.named_parameters() if p.grad is not None and p.grad.any()}
    assert found == trained


def test_collapsed_embeddings_score_the_trivial_losses():
    task = make_task(stage_two=0)
    with torch.no_grad():
        task.embedding_head[-1].weight.zero_()
        task.embedding_head[-1].bias.fill_(1.0)
    losses = task.losses(views_of_pairs(task), 0.0)
    assert set(task.trivial_losses) == {"patch", "mixup", "region"}
    for name, value in task.trivial_losses.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-4)
    assert task.trivial_losses["region"] == pytest.approx(math.log(6))
    assert task.health()["embedding spread"] == pytest.approx(0, abs=1e-5)


def test_centre_weights_reach_the_patches():
    views = views_of_pairs(make_task())
    plain, bell = (make_task(weighting=w).losses(views, 0)["patch"].item() for w in ("mean", "center"))
    assert plain != bell


def test_health_counts_clusters_in_the_second_stage_only():
    task = make_task(stage_two=0.5)
    views = views_of_pairs(task)
    task.losses(views, 0.0)
    assert set(task.health()) == {"embedding spread"}
    task.losses(views, 0.9)
    assert 1 <= task.health()["clusters used"] <= 6
    assert 0 < task.health()["embedding spread"] <= 1


# ---------------------------------------------------------------- reading out, running
def test_embeddings_and_assignments_of_a_volume():
    task = make_task().eval()
    z, a = task.embeddings(volumes()), task.assignments(volumes())
    assert z.shape == (2, 8, *SIZE) and a.shape == (2, 6, *SIZE)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(2, *SIZE), rtol=0, atol=1e-5)
    torch.testing.assert_close(a.sum(dim=1), torch.ones(2, *SIZE), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"parts \['patch'\] has no clusters"):
        make_task(parts=("patch",)).assignments(volumes())


def test_two_dimensions_half_precision_and_the_released_network():
    flat = make_task(2, stage_two=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = flat.losses(views_of(flat, volumes(size=(16, 12))), 0.5)
    assert all(v.dtype == torch.float32 and v.isfinite() for v in losses.values())
    torch.manual_seed(0)
    encoder = build_encoder({"network": "PixelUNet", "base_channels": 2})
    task = LocalDiscrimination(encoder, num_clusters=4, embedding_dim=4, grid=2, stage_two=0)
    assert task.losses(views_of(task, volumes(size=(32, 32, 16))), 0.0)["total"].isfinite()


def test_constant_crops_train_to_finite_weights():
    task = make_task(stage_two=0)
    losses = task.losses(views_of(task, torch.zeros(2, 1, *SIZE)), 0.0)
    losses["total"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in task.parameters())


def test_a_short_run_goes_through_both_stages(tmp_path):
    from medssl_nb.data import load_cohort

    cohort = load_cohort("phantom", train=3, validation=0, test=0, shape=(20, 18, 16), spacing_mm=(16, 16, 16))
    torch.manual_seed(0)
    encoder = build_encoder({"network": "FeatureUNet", "channels": [4, 8], "norm": "instance"})
    task = LocalDiscrimination(encoder, num_clusters=4, embedding_dim=4, grid=2, stage_two=0.5)
    profile = Profile(steps=4, batch_size=2, crop=(16, 16, 16), check_memory=False)
    records = list(pretrain(task, cohort, profile, folder=tmp_path))
    assert ["region" in record.losses for record in records] == [False, False, True, True]
    json.dumps(task.settings(), allow_nan=False)
    assert list(pretrain(task, cohort, profile, folder=tmp_path)) == []  # finished: loaded, not trained again


def test_an_odd_batch_has_an_image_without_a_partner():
    task = make_task()
    with pytest.raises(ValueError, match="augments 2 volumes together, and a process has 3"):
        make_views(task, Crop(volumes(3), torch.zeros(3, 3)), seed=0, step=0, places=range(3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": ("patches",)}, r"parts are some of patch, mixup, region, entropy; got \('patches',\)"),
        ({"parts": "patch"}, "parts are some of"),
        ({"parts": ()}, "parts are some of"),
        ({"parts": ("patch", "entropy")}, 'part "entropy" speaks of clusters'),
        ({"stage_two": 1.0}, "stage_two is a share of the run, 0 to below 1; got 1.0"),
        ({"num_clusters": 1}, "at least 2 clusters to tell apart, got 1"),
        ({"assignment_mode": "hard"}, "got 'hard'"),
        ({"head_norm": "layer"}, 'norm is "batch" or "instance", got \'layer\''),
        ({"patch_temperature": 0.0}, "patch_temperature must be above 0"),
        ({"region_temperature": -1.0}, "region_temperature must be above 0"),
        ({"flip_axes": (3,)}, r"flip_axes names different spatial axes from -3 to 2, got \(3,\)"),
        ({"rot90_axes": (1, 1)}, r"rot90_axes names different spatial axes.* got \(1, 1\)"),
        ({"intensity_range": (1.0, 0.0)}, "intensity_range is a lower and a higher grey value"),
        ({"grid": 0}, "grid_size must be 1 to the side"),
        ({"grid": 9}, r"grid_size must be 1 to the side along each axis of \(16, 12, 8\), got 9"),
        ({"weighting": "bell"}, 'weighting is "mean" or "center", got \'bell\''),
        ({"mix_range": (0.8, 0.2)}, "0 <= low <= high <= 1, got low 0.8"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        task = make_task(**changes)
        task.losses(views_of(task), 0.0)
