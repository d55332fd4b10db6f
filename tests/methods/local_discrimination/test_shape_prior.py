"""Discriminator, its losses, mask augmentation, refinement: reference numbers, by hand, laws, edges, messages."""

import math

import pytest
import torch
from torch.nn.utils import vector_to_parameters

from medssl_nb.methods.local_discrimination import (
    ShapeDiscriminator,
    augment_shape_masks,
    pseudo_labels,
    shape_discriminator_loss,
    shape_generator_loss,
    uncertainty_weighted_bce,
)

HALVES = [torch.float16, torch.bfloat16]
STILL = {"flip_axes": (), "rotation_axes": None, "max_crop": 0.0}


def seeded(number=0):
    return torch.Generator().manual_seed(number)


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


def share(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


# ------------------------------------------------------------ discriminator


def test_discriminator_matches_the_reference(reference, dtype):
    net = ShapeDiscriminator(2, channels=(16, 32, 32, 32, 32), negative_slope=1.0).to(dtype)
    parameters = reference("disc_parameters", dtype)
    assert sum(p.numel() for p in net.parameters()) == parameters.numel()
    vector_to_parameters(parameters, net.parameters())
    masks = reference("disc_masks", dtype)
    for given, name in ((masks, "disc_scores_real"), (masks * 0.8 + 0.1, "disc_scores_fake")):
        with torch.no_grad():
            logits = net(given)
        assert logits.shape == (2,) and logits.dtype == dtype
        reference.check(logits.sigmoid(), name)


@pytest.mark.parametrize(("dims", "size"), [(2, (40, 44)), (3, (40, 40, 40))])
def test_discriminator_layers(dims, size):
    net = ShapeDiscriminator(dims)
    volume = 3**dims
    weights = [(16, 1, volume), *((32, n, volume) for n in (16, 32, 32, 32)), (32, 32, 1), (1, 32, 1)]
    found = list(net.parameters())
    assert [(*p.shape[:2], p[0, 0].numel()) for p in found[::2]] == weights
    assert [tuple(p.shape) for p in found[1::2]] == [w[:1] for w in weights]
    assert not list(net.buffers())  # no normalisation layers
    logits = net(share(2, 1, *size).float().requires_grad_())
    assert logits.shape == (2,)
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(("slope", "straight"), [(1.0, True), (0.2, False)])
def test_slope_1_bends_only_in_the_pools(slope, straight):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = ShapeDiscriminator(2, channels=(4, 4), negative_slope=slope)
    layers = list(net.parameters())
    for bias in layers[1::2]:
        torch.nn.init.zeros_(bias)
    centre = torch.arange(9).reshape(3, 3) == 4
    for weight in layers[:4:2]:
        weight.data *= centre  # pointwise layers on flat images: the pools change nothing
    light, dark = net(torch.tensor([0.3, -0.3]).reshape(2, 1, 1, 1).expand(2, 1, 20, 20)).tolist()
    assert light != 0 and (dark == pytest.approx(-light, rel=1e-4)) == straight


@pytest.mark.parametrize(
    ("dims", "channels", "size"),
    [
        (2, (16, 32, 32), (39, 40)),
        (2, (4, 4, 4, 4, 4), (160, 159)),
        (3, (4, 4), (20, 19, 20)),
        (2, (4,), (8, 10)),
    ],
)
def test_masks_too_small_for_the_pools_are_refused(dims, channels, size):
    net = ShapeDiscriminator(dims, channels=channels)
    small = min(size)
    with pytest.raises(ValueError, match=rf"(?s)\b{small}\b|{', '.join(map(str, size))}"):
        net(torch.zeros(1, 1, *size))
    enough = tuple(5 * 2 ** len(channels) for _ in size)
    assert net(torch.zeros(1, 1, *enough)).shape == (1,)


# ------------------------------------------------------------ adversarial losses


def test_adversarial_losses_match_the_reference(reference, dtype, device):
    real, fake = reference("adv_real_logits", dtype, device), reference("adv_fake_logits", dtype, device)
    for loss, name in (
        (shape_generator_loss(fake), "adv_generator_loss"),
        (shape_discriminator_loss(real, fake), "adv_discriminator_loss"),
    ):
        assert loss.dtype == dtype and loss.shape == () and loss.device.type == device
        reference.check(loss, name)


def test_adversarial_losses_are_their_equations():
    real, fake = noise(3).requires_grad_(), noise(5, seed=1).requires_grad_()
    torch.testing.assert_close(shape_generator_loss(fake), -fake.sigmoid().log().mean())
    terms = torch.cat([real.sigmoid().log(), (1 - fake.sigmoid()).log()])
    torch.testing.assert_close(shape_discriminator_loss(real, fake), -terms.mean())  # one mean, not two
    assert torch.autograd.gradcheck(shape_generator_loss, fake)
    assert torch.autograd.gradcheck(shape_discriminator_loss, (real, fake))


def test_a_judge_without_a_clue_costs_the_log_of_2():
    assert float(shape_discriminator_loss(torch.zeros(3), torch.zeros(5))) == pytest.approx(math.log(2))
    assert float(shape_generator_loss(torch.zeros(4))) == pytest.approx(math.log(2))


def test_certain_judges_stay_finite(dtype):
    high, low = (torch.tensor([v], dtype=dtype).requires_grad_() for v in (1000.0, -1000.0))
    assert shape_discriminator_loss(high, low).item() == 0
    assert shape_discriminator_loss(low, high).item() == pytest.approx(1000)
    assert shape_generator_loss(low).item() == pytest.approx(1000)
    (shape_generator_loss(low) + shape_discriminator_loss(low, high)).backward()
    assert low.grad.isfinite().all() and high.grad.isfinite().all()


def test_adversarial_types_and_nan():
    real, fake = noise(3, dtype=torch.float32), noise(4, seed=1, dtype=torch.float32)
    generator, judge = shape_generator_loss(fake), shape_discriminator_loss(real, fake)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(shape_generator_loss(fake), generator)
        assert torch.equal(shape_discriminator_loss(real, fake), judge)
    for half in HALVES:
        narrow = shape_generator_loss(fake.to(half))
        assert narrow.dtype == torch.float32
        torch.testing.assert_close(narrow, shape_generator_loss(fake.to(half).float()))
        narrow = shape_discriminator_loss(real.to(half), fake.to(half))
        assert narrow.dtype == torch.float32
        torch.testing.assert_close(narrow, shape_discriminator_loss(real.to(half).float(), fake.to(half).float()))
    fake[0] = math.nan
    assert shape_generator_loss(fake).isnan() and shape_discriminator_loss(real, fake).isnan()


def test_empty_logits_are_refused():
    none, some = torch.ones(0), torch.ones(2)
    with pytest.raises(ValueError, match="fake_logits"):
        shape_generator_loss(none)
    with pytest.raises(ValueError, match="real_logits"):
        shape_discriminator_loss(none, some)
    with pytest.raises(ValueError, match="fake_logits"):
        shape_discriminator_loss(some, none)


# ------------------------------------------------------------ masks of another modality


def disc(*size, radius, dtype=torch.float32):
    grid = torch.meshgrid(*(torch.arange(s) - (s - 1) / 2 for s in size), indexing="ij")
    return (sum(g**2 for g in grid) <= radius**2).to(dtype)[None, None]


def blob(*size, seed=0):
    return (torch.rand(3, 1, *size, generator=seeded(seed)) > 0.6).float()


@pytest.mark.parametrize("size", [(12, 9), (6, 7, 8)])
def test_nothing_switched_on_changes_nothing(size, device, steady):
    masks = blob(*size).to(device)
    copy = masks.clone()
    for options in (STILL, {**STILL, "rotation_axes": (-2, -1), "max_rotation": 0.0}):
        found = augment_shape_masks(masks, **options, generator=seeded())
        assert found.dtype == torch.float32 and found.device.type == device
        assert torch.equal(found, masks)
    assert torch.equal(masks, copy)
    for other in (torch.float64, torch.uint8, torch.bool):
        found = augment_shape_masks(masks.to(other), **STILL, generator=seeded())
        assert found.dtype == torch.float32 and torch.equal(found, masks)


@pytest.mark.parametrize("size", [(24, 20), (10, 14, 12)])
def test_augmented_masks_are_hard_and_repeat(size, steady):
    masks = blob(*size)
    copy = masks.clone()
    one, two, three = (augment_shape_masks(masks, generator=seeded(n)) for n in (0, 0, 1))
    assert one.shape == masks.shape and one.dtype == torch.float32
    assert set(one.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(one, two) and not torch.equal(one, three) and torch.equal(masks, copy)


@pytest.mark.parametrize("size", [(4, 5), (3, 4, 5)])
def test_flips_are_drawn_per_mask_and_axis(size, steady):
    mask = blob(*size)[:1]
    many = augment_shape_masks(mask.expand(400, *mask.shape[1:]), **{**STILL, "flip_axes": None}, generator=seeded())
    counts = {}
    for found in many:
        counts[tuple(found.flatten().tolist())] = counts.get(tuple(found.flatten().tolist()), 0) + 1
    assert len(counts) == 2 ** len(size)
    assert all(abs(n / 400 - 0.5 ** len(size)) < 0.08 for n in counts.values())
    one = augment_shape_masks(mask.expand(60, *mask.shape[1:]), **{**STILL, "flip_axes": (-1,)}, generator=seeded())
    found = {tuple(x.flatten().tolist()) for x in one}
    assert found == {tuple(mask.flatten().tolist()), tuple(mask.flip(-1).flatten().tolist())}


def angles(masks):
    """Direction of the long side of each flat mask, in degrees from the first axis, -90 to 90."""
    found = []
    for mask in masks[:, 0]:
        y, x = (c.double() - c.double().mean() for c in mask.nonzero().T)
        found.append(0.5 * math.degrees(math.atan2(2 * float((x * y).mean()), float((y * y).mean() - (x * x).mean()))))
    return torch.tensor(found)


def bars(count):
    bar = torch.zeros(count, 1, 41, 41)
    bar[:, :, 8:33, 18:23] = 1
    return bar


def test_rotation_angles_fill_their_range(steady):
    turned = augment_shape_masks(
        bars(120), flip_axes=(), max_crop=0.0, max_rotation=30.0, threshold=0.5, generator=seeded()
    )
    found = angles(turned)
    assert found.abs().max() < 32 and found.max() > 24 and found.min() < -24
    assert abs(float(found.mean())) < 6
    assert float(found.std()) == pytest.approx(60 / math.sqrt(12), rel=0.2)
    full = angles(augment_shape_masks(bars(120), flip_axes=(), max_crop=0.0, threshold=0.5, generator=seeded()))
    assert full.max() > 80 and full.min() < -80 and float(full.abs().mean()) == pytest.approx(45, abs=8)


def test_rotation_goes_all_the_way_round(steady):
    corner = torch.zeros(80, 1, 41, 41)
    corner[:, :, 4:10, 17:24] = 1
    turned = augment_shape_masks(corner, flip_axes=(), max_crop=0.0, generator=seeded())
    centres = torch.stack([m[0].nonzero().double().mean(0) - 20 for m in turned])
    assert centres.norm(dim=1).sub(13.5).abs().max() < 0.8
    quadrants = {(bool(a > 0), bool(b > 0)) for a, b in centres}
    assert len(quadrants) == 4


@pytest.mark.parametrize("size", [(21, 21), (21, 35), (36, 22)])
def test_a_disc_keeps_its_shape_under_rotation(size, steady):
    mask = disc(*size, radius=8)
    turned = augment_shape_masks(
        mask.expand(12, *mask.shape[1:]), flip_axes=(), max_crop=0.0, threshold=0.5, generator=seeded()
    )
    change = (turned != mask).flatten(1).double().sum(1) / mask.sum()
    assert change.max() < 0.12  # a rigid turn in voxels; in scaled coordinates a disc would become an ellipse
    assert change.max() > 0


def test_rotation_stays_in_its_plane(steady):
    masks = torch.zeros(6, 1, 5, 20, 20)
    masks[:, :, 2, 4:16, 8:12] = 1
    turned = augment_shape_masks(masks, flip_axes=(), max_crop=0.0, generator=seeded())
    assert (turned[:, :, [0, 1, 3, 4]] == 0).all()
    assert not torch.equal(turned, masks) and turned[:, :, 2].flatten(1).sum(1).min() > 30
    plain = masks.movedim(2, 4)  # the same plane by other names
    other = augment_shape_masks(plain, flip_axes=(), rotation_axes=(0, 1), max_crop=0.0, generator=seeded())
    assert (other[..., [0, 1, 3, 4]] == 0).all() and not torch.equal(other, plain)


def test_outside_the_image_is_empty(steady):
    turned = augment_shape_masks(torch.ones(40, 1, 30, 30), flip_axes=(), max_crop=0.0, generator=seeded())
    filled = turned.flatten(1).mean(1)
    assert filled.min() < 0.9 and turned[:, :, 10:20, 10:20].min() == 1
    corner = turned[:, 0, 0, 0]
    assert (corner == 0).double().mean() > 0.7
    cropped = augment_shape_masks(
        torch.ones(20, 1, 30, 30), flip_axes=(), rotation_axes=None, max_crop=0.3, generator=seeded()
    )
    assert (cropped == 1).all()  # a crop shows only what was inside


def test_crops_enlarge(steady):
    mask = disc(40, 40, radius=8)
    options = {"flip_axes": (), "rotation_axes": None, "threshold": 0.5, "generator": seeded()}
    grown = augment_shape_masks(mask.expand(100, *mask.shape[1:]), **options)
    ratio = grown.flatten(1).sum(1) / mask.sum()
    assert ratio.min() > 0.95 and ratio.max() < 1.25**2 * 1.05
    assert ratio.max() > 1.3 and float(ratio.mean()) == pytest.approx(1 / 0.9**2, rel=0.05)
    for axis in (1, 2):  # each border by its own share: the centre moves both ways
        centres = torch.stack([m.nonzero().double().mean(0)[axis] - 19.5 for m in grown])
        assert centres.max() > 1 and centres.min() < -1
    options["generator"] = seeded()
    strong = augment_shape_masks(mask.expand(100, *mask.shape[1:]), max_crop=0.3, **options)
    assert strong.flatten(1).sum(1).mean() > 1.2 * grown.flatten(1).sum(1).mean()


def test_crop_by_hand(steady):
    """A crop of shares l and r per border is the map x -> l n + x (1 - l - r) between pixel edges."""
    ramp = torch.zeros(200, 1, 50, 4)
    ramp[:, :, 20:30] = 1
    found = augment_shape_masks(
        ramp, flip_axes=(), rotation_axes=None, max_crop=0.2, threshold=0.5, generator=seeded()
    )[:, 0, :, 0]
    start = found.argmax(1).double()
    stop = 50 - found.flip(1).argmax(1).double()
    scale = 10 / (stop - start)  # 1 - l - r
    left = (20 - start * scale) / 50
    right = 1 - scale - left
    slack = 0.03
    for border in (left, right):
        assert border.min() > -slack and border.max() < 0.2 + slack
        assert border.max() > 0.15 and border.min() < 0.05
    assert abs(float(torch.corrcoef(torch.stack([left, right]))[0, 1])) < 0.35


def test_threshold_is_low_by_default(steady):
    line = torch.zeros(10, 1, 31, 31)
    line[:, :, 5:26, 15] = 1
    options = {"flip_axes": (), "max_crop": 0.0}
    kept, lost = (augment_shape_masks(line, **options, threshold=t, generator=seeded()) for t in (0.1, 0.7))
    assert torch.equal(kept, augment_shape_masks(line, **options, generator=seeded()))
    assert (kept >= lost).all() and kept.sum() > 1.5 * lost.sum()


def test_a_resampling_with_flips_draws_the_same_flip_for_a_whole_mask(steady):
    masks = blob(16, 16)[:1].expand(50, 1, 16, 16)
    found = augment_shape_masks(masks, rotation_axes=None, max_crop=1e-6, threshold=0.5, generator=seeded())
    seen = {tuple(m.flatten().tolist()) for m in found}
    flips = {tuple(masks[0].flip(f).flatten().tolist()) for f in ((), (1,), (2,), (1, 2))}
    assert seen == flips


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((2, 2, 8, 8), {}, r"(?s)masks.*2"),
        ((2, 0, 8, 8), {}, r"(?s)masks.*0"),
        ((2, 1, 8, 8), {"max_crop": 0.5}, r"(?s)max_crop.*0\.5"),
        ((2, 1, 8, 8), {"max_crop": -0.1}, r"(?s)max_crop.*-0\.1"),
        ((2, 1, 8, 8), {"flip_axes": (2,)}, r"(?s)flip_axes.*2"),
        ((2, 1, 8, 8), {"rotation_axes": (0, 2)}, r"(?s)rotation_axes.*2"),
        ((2, 1, 8, 8), {"rotation_axes": (1, -1)}, r"(?s)rotation_axes.*1, -1"),
        ((2, 1, 8, 8, 8), {"rotation_axes": (0, -4)}, r"(?s)rotation_axes.*-4"),
    ],
)
def test_masks_that_are_refused(shape, options, message):
    with pytest.raises(ValueError, match=message):
        augment_shape_masks(torch.zeros(shape), **options, generator=seeded())


# ------------------------------------------------------------ refinement


def test_refinement_matches_the_reference(reference, dtype, device):
    assignment, similarity = (reference(f"refine_{n}", dtype, device) for n in ("assignment", "similarity"))
    label, uncertainty = pseudo_labels(assignment, similarity)
    assert label.dtype == uncertainty.dtype == dtype and label.device.type == uncertainty.device.type == device
    reference.check(label, "refine_label")
    reference.check(uncertainty, "refine_uncertainty")
    loss = uncertainty_weighted_bce(reference("refine_logits", dtype, device), label, uncertainty)
    assert loss.dtype == dtype and loss.device.type == device
    reference.check(loss, "refine_loss")


def test_pseudo_labels_by_hand(dtype):
    assignment = torch.tensor([0.0, 1.0, 0.0, 0.5, 0.25], dtype=dtype)
    similarity = torch.tensor([0.0, 1.0, 1.0, 0.5, 0.25], dtype=dtype)
    label, uncertainty = pseudo_labels(assignment, similarity)
    torch.testing.assert_close(label, torch.tensor([0.0, 1.0, 0.5, 0.5, 0.25], dtype=dtype))
    quarter = 0.25 * 2 + 0.75 * math.log2(4 / 3)
    torch.testing.assert_close(uncertainty, torch.tensor([0.0, 0.0, 1.0, 1.0, quarter], dtype=dtype))
    assert uncertainty[0] == uncertainty[1] == 0


def test_uncertainty_stays_between_0_and_1():
    fine = torch.linspace(0, 1, 2001)
    for dtype in (torch.float32, torch.float64):
        _, uncertainty = pseudo_labels(fine.to(dtype), fine.to(dtype))
        assert uncertainty.min() >= 0 and uncertainty.max() <= 1
        torch.testing.assert_close(uncertainty, uncertainty.flip(0), rtol=1e-4, atol=1e-5)
        assert (uncertainty[:1001].diff() > 0).all()


def test_pseudo_label_types():
    a, s = share(2, 4, 3, dtype=torch.float32), share(2, 4, 3, seed=1, dtype=torch.float32)
    found = pseudo_labels(a, s)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = pseudo_labels(a, s)
    assert all(torch.equal(x, y) for x, y in zip(found, under, strict=True))
    for half in HALVES:
        narrow = pseudo_labels(a.to(half), s.to(half))
        for x, y in zip(narrow, pseudo_labels(a.to(half).float(), s.to(half).float()), strict=True):
            assert x.dtype == torch.float32
            torch.testing.assert_close(x, y)
    a[0, 0, 0] = math.nan
    label, uncertainty = pseudo_labels(a, s)
    assert label[0, 0, 0].isnan() and uncertainty[0, 0, 0].isnan()
    assert label.isnan().sum() == uncertainty.isnan().sum() == 1


def test_weighted_loss_is_its_equation():
    logits, label, uncertainty = noise(2, 5, 4).requires_grad_(), share(2, 5, 4), share(2, 5, 4, seed=1)
    p = logits.sigmoid()
    bce = -(label * p.log() + (1 - label) * (1 - p).log())
    weights = 1 - uncertainty
    found = uncertainty_weighted_bce(logits, label, uncertainty)
    torch.testing.assert_close(found, (weights * bce).sum() / (weights.sum() + 1e-6))
    large = uncertainty_weighted_bce(logits, label, uncertainty, eps=3.0)
    torch.testing.assert_close(large, (weights * bce).sum() / (weights.sum() + 3))
    assert torch.autograd.gradcheck(lambda x: uncertainty_weighted_bce(x, label, uncertainty), logits)
    plain = uncertainty_weighted_bce(logits, label, torch.zeros_like(label), eps=0.0)
    torch.testing.assert_close(plain, bce.mean())


def test_weighted_loss_edges(dtype):
    logits = torch.tensor([1000.0, -1000.0], dtype=dtype).requires_grad_()
    label = torch.tensor([1.0, 1.0], dtype=dtype)
    certain, unsure = torch.zeros_like(label), torch.ones_like(label)
    loss = uncertainty_weighted_bce(logits, label, certain)
    assert loss.item() == pytest.approx(500, rel=1e-5)
    loss.backward()
    assert logits.grad.isfinite().all()
    assert uncertainty_weighted_bce(logits, label, unsure).item() == 0  # nothing is known: nothing is learnt
    half_sure = torch.tensor([1.0, 0.0], dtype=dtype)
    assert uncertainty_weighted_bce(logits, label, 1 - half_sure).item() == pytest.approx(0)


def test_weighted_loss_types_and_nan():
    x, y, u = noise(2, 6).float(), share(2, 6).float(), share(2, 6, seed=1).float()
    found = uncertainty_weighted_bce(x, y, u)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(uncertainty_weighted_bce(x, y, u), found)
    for half in HALVES:
        narrow = uncertainty_weighted_bce(x.to(half), y.to(half), u.to(half))
        assert narrow.dtype == torch.float32
        wide = uncertainty_weighted_bce(x.to(half).float(), y.to(half).float(), u.to(half).float())
        torch.testing.assert_close(narrow, wide)
        assert uncertainty_weighted_bce(x.to(half), y, u).dtype == torch.float32  # logits under autocast
    x[0, 0] = math.nan
    assert uncertainty_weighted_bce(x, y, u).isnan()


def test_refinement_shapes_are_checked():
    x = torch.zeros(2, 1, 4)
    for other in (torch.zeros(2, 4), torch.zeros(1, 1, 4), torch.zeros(2, 1, 5)):
        shape = ", ".join(map(str, other.shape))
        with pytest.raises(ValueError, match=f"(?s)label.*{shape}"):
            uncertainty_weighted_bce(x, other, x)
        with pytest.raises(ValueError, match=f"(?s)uncertainty.*{shape}"):
            uncertainty_weighted_bce(x, x, other)
        with pytest.raises(ValueError, match=f"(?s)2, 1, 4.*{shape}"):
            pseudo_labels(x, other)
