"""The pretext task: its views follow T, each part brings its term, and all together are the loss of the contract."""

import json
import math

import pytest
import torch

from medssl_nb.methods.boundary_infomax import (
    BoundaryInfoMax,
    FeatureUNet,
    apply_affine,
    boundary_infomax_loss,
    info_nce_loss,
    joint_probability,
    regularized_mi_loss,
)
from medssl_nb.training import Profile, pretrain

SIZE = (16, 12, 8)
NEUTRAL = {"scale": (1, 1), "rotation_degrees": 0.0, "translation": 0.0, "flip_probability": 0.0}
ALL = ("clusters", "regularised", "boundary", "contrast")


def make_task(spatial_dims=3, **changes):
    torch.manual_seed(0)
    encoder = FeatureUNet(spatial_dims=spatial_dims, channels=(4, 8), norm="instance")
    return BoundaryInfoMax(encoder, **{"num_clusters": 6, "num_heads": 2, "projection": 8, **changes})


def volumes(number=3, size=SIZE):
    x = -torch.ones(number, 1, *size)
    x[:, :, 3:12, 2:9] = 0.2
    return x + 0.3 * torch.rand(x.shape, generator=torch.Generator().manual_seed(1))


def views_of(task, x=None, seed=0, heights=(0.1, 0.5, 0.9)):
    x = volumes() if x is None else x
    where = torch.full((len(x), 3), 0.5)
    where[:, 2] = torch.tensor(heights[: len(x)])
    return task.views(x, torch.Generator().manual_seed(seed), where)


def test_neutral_ranges_leave_the_crops_as_they_are():
    plain = {"gamma": (1, 1), "brightness": 0.0, "contrast": 0.0}
    views = views_of(make_task(**NEUTRAL, **plain))
    for name in ("a", "b"):
        torch.testing.assert_close(views[name], volumes(), rtol=0, atol=1e-6)


def test_one_view_is_moved_and_the_other_is_not():
    task = make_task(gamma=(1, 1), brightness=0.0, contrast=0.0)
    views = views_of(task)
    low = volumes().flatten(1).amin(1).view(-1, 1, 1, 1, 1)
    expected = low + apply_affine(volumes() - low, views["theta"])  # what comes from outside is the darkest grey
    torch.testing.assert_close(views["a"], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(views["b"], volumes(), rtol=0, atol=1e-6)
    assert (views["a"] == low).float().mean() > 0.02  # a corner came from outside


def test_with_a_spacing_the_map_turns_in_mm():
    thick = {"scale": (1, 1), "translation": 0.0, "flip_probability": 0.0, "rotation_degrees": (30, 0, 0)}
    theta = views_of(make_task(**thick, spacing=(1, 1, 4)))["theta"][0]
    sides = torch.tensor([SIZE[2] * 4, SIZE[1], SIZE[0]]) / 2  # of the box in mm, last axis first
    turn = theta[:, :3] * sides[:, None] / sides[None, :]
    torch.testing.assert_close(turn @ turn.T, torch.eye(3), rtol=0, atol=1e-5)
    assert turn[0, 1].abs() > 0.01


def test_grey_values_stay_in_their_range_and_differ_between_the_views():
    task = make_task(**NEUTRAL, brightness=0.5, contrast=0.5, intensity_range=(-1.0, 1.0))
    views = views_of(task)
    for name in ("a", "b"):
        assert views[name].min() >= -1 and views[name].max() <= 1
        assert (views[name] - volumes()).abs().max() > 0.1
    assert (views["a"] - views["b"]).abs().max() > 0.1


@pytest.mark.parametrize(
    ("partitions", "axis", "expected"), [(3, 2, [0, 1, 2]), (2, 2, [0, 0, 1]), (4, 0, [1, 1, 1]), (0, 2, [0, 0, 0])]
)
def test_crops_get_the_part_of_the_scan_in_which_they_lie(partitions, axis, expected):
    assert views_of(make_task(partitions=partitions, slab_axis=axis))["part"].tolist() == expected


def test_all_parts_together_are_the_loss_of_the_package():
    task = make_task(alpha=0.3, marginal_weight=1.5, window=3, power=0.5, mi_weight=0.7, boundary_weight=0.4)
    views = views_of(task, heights=(0.1, 0.2, 0.9))
    losses = task.losses(views, 0.0)
    maps = [task.encoder.feature_maps(views[name]) for name in ("a", "b")]  # instance norm: one by one is the same
    probs = [task.heads(maps[0][0]), task.heads(apply_affine(maps[1][0], views["theta"]))]
    options = {"alpha": 0.3, "marginal_weight": 1.5, "window": 3, "power": 0.5}
    terms = boundary_infomax_loss(*probs, views["a"], mi_weight=0.7, boundary_weight=0.4, **options)
    contrast = info_nce_loss(task.projector(maps[0][-1]), task.projector(maps[1][-1]), torch.tensor([0, 0, 2]))
    assert losses["mutual information"].item() == pytest.approx(terms.mutual_information.item(), rel=1e-4)
    assert losses["boundary"].item() == pytest.approx(terms.boundary.item(), rel=1e-4)
    assert losses["contrast"].item() == pytest.approx(contrast.item(), rel=1e-4)
    assert losses["total"].item() == pytest.approx((terms.total + contrast).item(), rel=1e-4)


@pytest.mark.parametrize(
    ("parts", "terms"),
    [
        (("clusters",), {"mutual information"}),
        (("clusters", "regularised"), {"mutual information"}),
        (("clusters", "boundary"), {"mutual information", "boundary"}),
        (("contrast",), {"contrast"}),
        (ALL, {"mutual information", "boundary", "contrast"}),
    ],
)
def test_each_part_brings_its_term_and_trains_its_weights(parts, terms):
    task = make_task(parts=parts)
    losses = task.losses(views_of(task), 0.5)
    assert set(losses) == {"total", *terms}
    losses["total"].backward()
    trained = {name.split(".")[0] for name, p in task.named_parameters() if p.grad is not None and p.grad.any()}
    heads = {"heads"} if "clusters" in parts else set()
    assert trained == {"encoder", *heads, *({"projector"} if "contrast" in parts else set())}


def test_without_regularisation_it_is_iic():
    plain, regularised = (make_task(parts=("clusters", *more)) for more in ((), ("regularised",)))
    views = views_of(plain)
    features = [plain.encoder.feature_maps(views[name])[0] for name in ("a", "b")]
    probs = [plain.heads(features[0]), plain.heads(apply_affine(features[1], views["theta"]))]
    for task, alpha in ((plain, 0.0), (regularised, 0.5)):
        losses = [regularized_mi_loss(joint_probability(a, b), alpha=alpha) for a, b in zip(*probs, strict=True)]
        found = task.losses(views, 0.0)["mutual information"].item()
        assert found == pytest.approx(sum(losses).item() / 2, rel=1e-3, abs=1e-6)


def test_what_comes_from_outside_can_be_left_out():
    task = make_task(parts=("clusters", "regularised", "boundary"), mask_outside=True)
    views = views_of(task)
    mask = apply_affine(torch.ones(3, 1, *SIZE), views["theta"])
    assert 0 < mask.mean() < 1
    maps = [task.encoder.feature_maps(views[name])[0] for name in ("a", "b")]
    probs = [task.heads(maps[0]), task.heads(apply_affine(maps[1], views["theta"]))]
    terms = boundary_infomax_loss(*probs, views["a"], mask=mask)
    losses = task.losses(views, 0.0)
    assert losses["mutual information"].item() == pytest.approx(terms.mutual_information.item(), rel=1e-3)
    assert losses["boundary"].item() == pytest.approx(terms.boundary.item(), rel=1e-4)


def test_clusters_of_a_coarser_map():
    task = make_task(level=1, window=3)
    losses = task.losses(views_of(task), 0.0)
    assert losses["total"].isfinite()
    assert task.cluster_probabilities(volumes(), head=1).shape == (3, 6, *(n // 2 for n in SIZE))


def test_slices_work_as_volumes_do():
    task = make_task(spatial_dims=2)
    losses = task.losses(views_of(task, volumes(3, SIZE[:2])), 0.0)
    losses["total"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in task.parameters())


def test_constant_crops_hurt_nothing():
    task = make_task()
    for value in (-1.0, 0.0, 3.0):
        losses = task.losses(views_of(task, torch.full((2, 1, *SIZE), value), heights=(0.1, 0.9)), 0.0)
        losses["total"].backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in task.parameters())


def test_health_tells_uniform_clusters_from_collapsed_ones():
    task = make_task(parts=("clusters",))
    views = views_of(task)
    for head in task.heads.heads:
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    uniform = task.losses(views, 0.0)["total"].item()
    assert task.health() == pytest.approx(
        {"clusters used": 6, "information (nats)": 0, "same cluster": 1 / 6}, abs=1e-4
    )
    assert uniform == pytest.approx(task.trivial_losses["mutual information"], abs=1e-3)
    for head in task.heads.heads:
        head.bias.data[2] = 50.0
    collapsed = task.losses(views, 0.0)["total"].item()
    assert task.health() == pytest.approx({"clusters used": 1, "information (nats)": 0, "same cluster": 1}, abs=1e-5)
    assert collapsed == pytest.approx(uniform, abs=1e-3)  # IIC cannot tell the two apart


def test_the_trivial_contrast_counts_the_batch():
    task = make_task(parts=("contrast",), partitions=0)
    assert task.trivial_losses == {}
    for layer in task.projector.mlp:
        if hasattr(layer, "weight"):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.ones_(layer.bias)
    found = task.losses(views_of(task), 0.0)["contrast"].item()
    assert task.trivial_losses == {"contrast": math.log(5)} and found == pytest.approx(math.log(5), rel=1e-5)
    assert task.health() == pytest.approx({"embedding spread": 0.0}, abs=1e-6)


def test_bfloat16_autocast_computes_losses_in_float32():
    task = make_task()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = task.losses(views_of(task), 0.5)
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": ("clusters", "edges")}, "parts are some of clusters, regularised, boundary, contrast; got"),
        ({"parts": ()}, "parts are some of"),
        ({"parts": "contrast"}, "parts are some of"),
        ({"parts": ("boundary", "contrast")}, 'part "boundary" speaks of clusters'),
        ({"level": 2}, "level counts the 2 feature maps from 0, got 2"),
        ({"alpha": 1.5}, "alpha lies from 0 .* got 1.5"),
        ({"partitions": -1}, "partitions is a number of parts, or 0 for no labels; got -1"),
        ({"slab_axis": 3}, "slab_axis is 0, 1 or 2, got 3"),
        ({"intensity_range": (1.0, -1.0)}, "a lower and a higher grey value, or None; got"),
        ({"num_clusters": 1}, "num_clusters counts from 2"),
    ],
)
def test_messages(changes, message):
    with pytest.raises(ValueError, match=message):
        make_task(**changes)


def test_clusters_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match=r"parts \['contrast'\] has no clusters"):
        make_task(parts=("contrast",)).cluster_probabilities(volumes())
    with pytest.raises(ValueError, match="head counts from 0 to 1, got 2"):
        make_task().cluster_probabilities(volumes(), head=2)


def test_settings_are_plain_and_tell_arms_apart():
    arms = [("clusters",), ("clusters", "regularised"), ("clusters", "regularised", "boundary"), ALL, ("contrast",)]
    told = [make_task(parts=parts).settings() for parts in arms]
    told += [make_task(window=(3, 5, 5)).settings(), make_task(mask_outside=True).settings()]
    assert len({json.dumps(one) for one in told}) == len(told)
    assert all(json.loads(json.dumps(one)) == one for one in told)


def test_training_on_small_phantoms_finds_clusters_that_both_views_share():
    from medssl_nb.data import load_cohort

    cohort = load_cohort("phantom", train=6, validation=0, test=0, shape=(20, 20, 20), spacing_mm=(14, 14, 17))
    task = make_task(rotation_degrees=10.0, flip_probability=0.0, gamma=(0.7, 1.4), cluster_temperature=0.3)
    profile = Profile(steps=60, batch_size=6, crop=(16, 16, 8), learning_rate=1e-2, health_every=1)
    records = list(pretrain(task, cohort, profile))
    assert all(math.isfinite(value) for record in records for value in record.losses.values())
    last = records[-1]
    assert last.losses["mutual information"] < task.trivial_losses["mutual information"] - 0.2
    assert last.health["clusters used"] > 3 and last.health["information (nats)"] > 0.1
