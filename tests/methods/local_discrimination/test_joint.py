"""The total loss: the tiny network's reference numbers, its parts, weights, edges and messages."""

import math

import pytest
import torch
from torch.nn.utils import vector_to_parameters

from medssl_nb.methods.local_discrimination import (
    DiscriminationBatch,
    LocalDiscriminationNet,
    LossWeights,
    ViewTransform,
    assignment_entropy,
    local_discrimination_loss,
    make_discrimination_batch,
    patch_embeddings,
    patch_losses,
    region_discrimination_loss,
    region_embeddings,
    shape_generator_loss,
)

HALVES = [torch.float16, torch.bfloat16]


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def inputs(pairs=2, grid=(2, 2), clusters=3, dtype=torch.float64):
    transforms = [ViewTransform((i % len(grid),), i % 4, (-2, -1)) for i in range(pairs)]
    batch = DiscriminationBatch(None, torch.linspace(0.2, 0.8, pairs), transforms, transforms[::-1])
    patches = torch.nn.functional.normalize(noise(5 * pairs, 6, *grid)).to(dtype)
    regions = torch.nn.functional.normalize(noise(5 * pairs, clusters, 6, seed=1), dim=2).to(dtype)
    assignments = noise(5 * pairs, clusters, 4, 4, seed=2).softmax(1).to(dtype)
    return patches, batch, regions, assignments, noise(4 * pairs, seed=3, dtype=dtype)


# ------------------------------------------------------------ the tiny network


def test_training_step_matches_the_reference(reference, dtype):
    names = ("in_channels", "base_channels", "embedding_dim", "num_clusters")
    inside, base, embedding, clusters = (reference.number(f"net_{name}") for name in names)
    net = LocalDiscriminationNet(2, inside, base_channels=base, embedding_dim=embedding, num_clusters=clusters)
    net = net.to(dtype).train()
    vector_to_parameters(reference("net_parameters", dtype), net.parameters())
    transforms = {}
    for which in "ab":
        rows = zip(reference.number(f"net_flip_{which}"), reference.number(f"net_rot_{which}"), strict=True)
        transforms[which] = [ViewTransform((0, 1) if flip else (), turns, (0, 1)) for flip, turns in rows]
    images = reference("net_images", dtype)
    batch = DiscriminationBatch(images, reference("net_mix_weights", dtype), transforms["a"], transforms["b"])
    embeddings, assignments = net(images)
    losses = local_discrimination_loss(
        patch_embeddings(embeddings, 2),
        batch,
        regions=region_embeddings(embeddings, assignments),
        assignments=assignments,
    )
    assert set(losses) == {"patch", "mixup", "region", "entropy", "total"}
    for name, loss in losses.items():
        assert loss.dtype == dtype and loss.shape == ()
        reference.check(loss, f"net_train_{name}")
    losses["total"].backward()
    norms = torch.stack([p.grad.norm() for p in net.parameters()]).double()
    expected = reference("net_train_grad_norms")
    assert norms.shape == expected.shape
    rtol, atol = (1e-4, 1e-6) if dtype == torch.float64 else (1e-2, max(1e-5, 1e-5 * float(expected.max())))
    torch.testing.assert_close(norms, expected, rtol=rtol, atol=atol)


# ------------------------------------------------------------ parts and weights


@pytest.mark.parametrize("grid", [(2, 2), (3, 2, 2)])
def test_the_total_is_its_weighted_parts(grid):
    patches, batch, regions, assignments, logits = inputs(grid=grid)
    weights = LossWeights(patch=0.5, mixup=0.25, region=2.0, entropy=3.0, shape=0.75)
    losses = local_discrimination_loss(
        patches,
        batch,
        regions=regions,
        assignments=assignments,
        fake_logits=logits,
        weights=weights,
        patch_temperature=0.3,
        region_temperature=0.5,
    )
    patch, mixup = patch_losses(patches, batch, temperature=0.3)
    expected = {
        "patch": patch,
        "mixup": mixup,
        "region": region_discrimination_loss(regions[:8], temperature=0.5),
        "entropy": assignment_entropy(assignments[:8]),
        "shape": shape_generator_loss(logits),
    }
    assert set(losses) == {*expected, "total"}
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)  # unweighted
    total = 0.5 * patch + 0.25 * mixup + 2 * expected["region"] + 3 * expected["entropy"] + 0.75 * expected["shape"]
    torch.testing.assert_close(losses["total"], total)


def test_default_weights_and_temperatures():
    patches, batch, regions, assignments, logits = inputs()
    losses = local_discrimination_loss(patches, batch, regions=regions, assignments=assignments, fake_logits=logits)
    patch, mixup = patch_losses(patches, batch, temperature=0.1)
    region = region_discrimination_loss(regions[:8], temperature=0.2)
    total = patch + mixup + 10 * region + 0.1 * assignment_entropy(assignments[:8]) + shape_generator_loss(logits)
    torch.testing.assert_close(losses["total"], total)


@pytest.mark.parametrize(
    "given",
    [(), ("regions",), ("assignments",), ("fake_logits",), ("regions", "assignments"), ("regions", "fake_logits")],
)
def test_terms_stand_there_if_their_input_is_given(given):
    patches, batch, regions, assignments, logits = inputs()
    options = {"regions": regions, "assignments": assignments, "fake_logits": logits}
    keys = {"regions": "region", "assignments": "entropy", "fake_logits": "shape"}
    losses = local_discrimination_loss(patches, batch, **{name: options[name] for name in given})
    assert set(losses) == {"patch", "mixup", "total"} | {keys[name] for name in given}
    factor = {"patch": 1, "mixup": 1, "region": 10, "entropy": 0.1, "shape": 1}
    total = sum(factor[name] * value for name, value in losses.items() if name != "total")
    torch.testing.assert_close(losses["total"], total)


def test_blended_images_have_no_regions():
    patches, batch, regions, assignments, _ = inputs()
    regions.requires_grad_()
    assignments.requires_grad_()
    five = local_discrimination_loss(patches, batch, regions=regions, assignments=assignments)
    four = local_discrimination_loss(patches, batch, regions=regions[:8], assignments=assignments[:8])
    for name, value in five.items():
        assert torch.equal(value, four[name]), name
    five["total"].backward()
    for gradient in (regions.grad, assignments.grad):
        assert (gradient[8:] == 0).all() and gradient[:8].flatten(1).abs().amax(1).min() > 0


def test_weight_0_takes_a_term_out_of_the_total():
    patches, batch, regions, assignments, _ = inputs()
    weights = LossWeights(patch=0.0, mixup=0.0, entropy=0.0)
    losses = local_discrimination_loss(patches, batch, regions=regions, assignments=assignments, weights=weights)
    torch.testing.assert_close(losses["total"], 10 * losses["region"])
    assert losses["patch"] > 0 and losses["entropy"] > 0


def test_types_device_and_nan(device):
    patches, batch, regions, assignments, logits = inputs(dtype=torch.float32)

    def losses(p, r, a, f):
        return local_discrimination_loss(p, batch, regions=r, assignments=a, fake_logits=f)

    given = [x.to(device) for x in (patches, regions, assignments, logits)]
    found = losses(*given)
    assert all(v.dtype == torch.float32 and v.shape == () and v.device.type == device for v in found.values())
    assert all(v.dtype == torch.float64 for v in losses(*(x.double() for x in given)).values())
    with torch.autocast(device, dtype=torch.bfloat16):
        under = losses(*given)
    assert all(under[k].dtype == torch.float32 and torch.equal(under[k], v) for k, v in found.items())
    for half in HALVES:
        narrow, wide = losses(*(x.to(half) for x in given)), losses(*(x.to(half).float() for x in given))
        for name, value in narrow.items():
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, wide[name])
    given[0][3, 0, 0, 0] = math.nan
    broken = losses(*given)
    assert broken["patch"].isnan() and broken["total"].isnan() and broken["region"].isfinite()


@pytest.mark.parametrize(
    ("patches", "options", "message"),
    [
        (9, {}, r"(?s)patches.*9"),
        (15, {}, r"(?s)patches.*15"),
        (10, {"regions": torch.ones(7, 3, 6)}, "(?s)regions.*7"),
        (10, {"assignments": torch.ones(7, 3, 4, 4) / 3}, "(?s)assignments.*7"),
        (10, {"patch_temperature": 0.0}, r"(?s)temperature.*0\.0"),
        (10, {"regions": torch.ones(8, 3, 6), "region_temperature": -0.1}, r"(?s)temperature.*-0\.1"),
        (10, {"regions": torch.ones(8, 1, 6)}, r"\b1\b"),
        (10, {"fake_logits": torch.ones(0)}, r"(?s)logits.*0"),
    ],
    ids=range(8),
)
def test_what_the_total_refuses(patches, options, message):
    _, batch, *_ = inputs()
    with pytest.raises(ValueError, match=message):
        local_discrimination_loss(torch.ones(patches, 6, 2, 2), batch, **options)


# ------------------------------------------------------------ one step of pre-training


@pytest.mark.parametrize("dims", [2, 3])
def test_one_step_trains_both_heads(dims):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 1, 1, *(32,) * dims, generator=generator)
    batch = make_discrimination_batch(a, b, rot90_axes=(-2, -1), generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = LocalDiscriminationNet(dims, base_channels=2, embedding_dim=4, num_clusters=3)
    step = torch.optim.Adam(net.parameters(), lr=1e-3)
    totals = []
    for _ in range(4):
        embeddings, assignments = net(batch.images)
        patches, regions = patch_embeddings(embeddings, 2), region_embeddings(embeddings, assignments)
        total = local_discrimination_loss(patches, batch, regions=regions, assignments=assignments)["total"]
        step.zero_grad()
        total.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
        step.step()
        totals.append(float(total.detach()))
    assert totals[-1] < totals[0]
