"""Views, jitter, blends and the batch of five blocks: reference numbers, by hand, laws, edges, messages."""

import itertools

import pytest
import torch

from medssl_nb.methods.local_discrimination import (
    DiscriminationBatch,
    ViewTransform,
    apply_views,
    jitter_intensity,
    make_discrimination_batch,
    mix_images,
    sample_mix_weights,
    sample_view_transform,
    undo_views,
)

STILL = {"brightness": 0.0, "contrast": 0.0}
HALVES = [torch.float16, torch.bfloat16]


def seeded(number=0):
    return torch.Generator().manual_seed(number)


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


def subsets(axes):
    return [chosen for n in range(len(axes) + 1) for chosen in itertools.combinations(axes, n)]


# ------------------------------------------------------------ geometry that can be undone


def stored_transforms(reference):
    rows = zip(*(reference.number(f"view_{n}") for n in ("flips", "rot90_k", "rot90_axes")), strict=True)
    return [ViewTransform(tuple(axis for axis in range(3) if flips[axis]), k, tuple(axes)) for flips, k, axes in rows]


def test_views_match_the_reference(reference, dtype, device):
    x, transforms = reference("view_in", dtype, device), stored_transforms(reference)
    out = apply_views(x, transforms)
    assert out.dtype == dtype and out.device.type == device
    assert torch.equal(out, reference("view_out", dtype, device))
    assert torch.equal(undo_views(out, transforms), x)


def test_one_quarter_turn_by_hand():
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    turned = apply_views(x, [ViewTransform((), 1, (0, 1))])[0, 0]
    for i, j in itertools.product(range(3), range(3)):
        assert turned[i, j] == x[0, 0, j, 2 - i]  # out[i, j] = in[j, n - 1 - i]
    assert turned.tolist() == [[2, 5, 8], [1, 4, 7], [0, 3, 6]]
    back = apply_views(x, [ViewTransform((), 1, (1, 0))])[0, 0]
    assert back.tolist() == [[6, 3, 0], [7, 4, 1], [8, 5, 2]]


def test_flips_come_before_the_turn():
    x = torch.tensor([[1.0, 2], [3, 4]])[None, None]
    found = apply_views(x, [ViewTransform((0,), 1, (0, 1))])[0, 0]
    assert found.tolist() == [[4, 2], [3, 1]]  # rows swapped: 3 4 / 1 2; then turned
    undone = undo_views(x, [ViewTransform((0,), 1, (0, 1))])[0, 0]
    assert undone.tolist() == [[4, 2], [3, 1]]  # a turn after a mirror is its own inverse
    pure = undo_views(x, [ViewTransform((), 1, (0, 1))])[0, 0]
    assert pure.tolist() == [[3, 1], [4, 2]]


def test_all_symmetries_of_a_square_are_undone():
    x = noise(1, 2, 4, 4)
    seen = set()
    for flips, k, axes in itertools.product(subsets((0, 1)), range(4), [(0, 1), (1, 0), (-2, -1), (-1, -2)]):
        transform = [ViewTransform(flips, k, axes)]
        moved = apply_views(x, transform)
        seen.add(tuple(moved.flatten().tolist()))
        assert torch.equal(undo_views(moved, transform), x)
    assert len(seen) == 8
    both = {
        tuple(apply_views(x, [ViewTransform(flips, k, (0, 1))]).flatten().tolist())
        for flips, k in itertools.product([(), (0, 1)], range(4))
    }
    assert both == {tuple(torch.rot90(x, k, (2, 3)).flatten().tolist()) for k in range(4)}  # no mirror image


def test_symmetries_of_a_cube_are_undone():
    x = noise(1, 1, 3, 3, 3)
    for flips, k, axes in itertools.product(subsets((0, 1, 2)), range(4), itertools.permutations(range(3), 2)):
        transform = [ViewTransform(flips, k, axes)]
        assert torch.equal(undo_views(apply_views(x, transform), transform), x)


def test_anisotropic_volumes_turn_in_their_equal_plane_only():
    x = noise(4, 1, 3, 4, 4)
    turns = [ViewTransform((0, 2), k, (1, 2)) for k in range(4)]
    moved = apply_views(x, turns)
    assert moved.shape == x.shape
    assert torch.equal(undo_views(moved, turns), x)
    half = [ViewTransform((1,), 2, (0, 1))] * 4  # a half turn is allowed in any plane
    assert torch.equal(apply_views(x, half), x.flip(3).flip(2, 3))
    assert torch.equal(undo_views(apply_views(x, half), half), x)


def test_axes_count_from_either_end_and_samples_are_independent():
    x = noise(2, 3, 5, 4, 4)
    one, two = ViewTransform((0, -1), 3, (-2, -1)), ViewTransform((0, 2), 3, (1, 2))
    assert torch.equal(apply_views(x, [one, one]), apply_views(x, [two, two]))
    found = apply_views(x, (ViewTransform(), one))
    assert torch.equal(found[0], x[0])
    assert torch.equal(found[1:], apply_views(x[1:], [one]))
    assert torch.equal(apply_views(x[:, :1], (ViewTransform(), one)), found[:, :1])


def test_views_pass_gradients_and_change_no_input():
    x = noise(2, 1, 4, 4).requires_grad_()
    copy = x.detach().clone()
    transforms = [ViewTransform((0,), 1, (0, 1)), ViewTransform((1,), 2, (0, 1))]
    pull = noise(2, 1, 4, 4, seed=1)
    (apply_views(x, transforms) * pull).sum().backward()
    assert torch.equal(x.grad, undo_views(pull, transforms))
    assert torch.equal(x.detach(), copy)


@pytest.mark.parametrize("function", [apply_views, undo_views])
@pytest.mark.parametrize(
    ("shape", "transforms", "message"),
    [
        ((2, 1, 4, 4), [ViewTransform()], "(?s)transform.*2.*1"),
        ((2, 1, 4, 4), [], "(?s)transform.*2.*0"),
        ((1, 1, 4, 5), [ViewTransform((), 1, (0, 1))], r"(?s)4.*5"),
        ((1, 1, 4, 5), [ViewTransform((), 3, (-1, -2))], r"(?s)4.*5|5.*4"),
        ((1, 1, 3, 4, 4), [ViewTransform((), 1, (0, 2))], r"(?s)3.*4"),
        ((1, 1, 4, 4), [ViewTransform((), 1, (1, 1))], r"rot90_axes.*1, 1"),
        ((1, 1, 4, 4), [ViewTransform((), 2, (1, -1))], r"rot90_axes.*1, -1"),
        ((1, 1, 4, 4), [ViewTransform((), 1, (0, 2))], "(?s)ax.*2"),
        ((1, 1, 4, 4), [ViewTransform((), 2, (0, -3))], "(?s)ax.*-3"),
        ((1, 1, 4, 4), [ViewTransform((2,))], "(?s)flip_axes.*2"),
        ((1, 1, 4, 4), [ViewTransform((0, -3))], "(?s)flip_axes.*-3"),
    ],
)
def test_transforms_that_are_refused(function, shape, transforms, message):
    with pytest.raises(ValueError, match=message):
        function(torch.zeros(shape), transforms)


# ------------------------------------------------------------ drawing transforms


@pytest.mark.parametrize("dims", [2, 3])
def test_each_axis_flips_alone_half_the_time(dims, steady):
    generator = seeded()
    drawn = [sample_view_transform(dims, generator=generator) for _ in range(400)]
    assert all(t.rot90_k == 0 for t in drawn)
    patterns = [tuple(sorted(axis % dims for axis in t.flip_axes)) for t in drawn]
    assert set(patterns) == set(subsets(range(dims)))
    for chosen in subsets(range(dims)):
        assert patterns.count(chosen) / 400 == pytest.approx(0.5**dims, abs=0.08)


def test_joint_flip_takes_all_axes_or_none(steady):
    generator = seeded()
    drawn = [sample_view_transform(3, flip_axes=(0, 2), joint_flip=True, generator=generator) for _ in range(300)]
    patterns = [tuple(sorted(axis % 3 for axis in t.flip_axes)) for t in drawn]
    assert set(patterns) == {(), (0, 2)}
    assert patterns.count(()) / 300 == pytest.approx(0.5, abs=0.1)
    every = {sample_view_transform(2, joint_flip=True, generator=generator).flip_axes for _ in range(40)}
    assert {tuple(sorted(axis % 2 for axis in flips)) for flips in every} == {(), (0, 1)}


def test_turns_are_drawn_in_the_given_plane_only(steady):
    generator = seeded()
    drawn = [sample_view_transform(3, flip_axes=(), rot90_axes=(1, 2), generator=generator) for _ in range(400)]
    assert all(t.flip_axes == () and tuple(a % 3 for a in t.rot90_axes) == (1, 2) for t in drawn)
    counts = [sum(t.rot90_k == k for t in drawn) for k in range(4)]
    assert sum(counts) == 400
    assert all(70 < n < 130 for n in counts)


def test_drawn_transforms_suit_their_images_and_repeat(steady):
    one, two = ([sample_view_transform(2, rot90_axes=(0, 1), generator=seeded(n)) for n in range(20)] for _ in range(2))
    assert one == two and len(set(one)) > 4
    assert all(isinstance(t, ViewTransform) for t in one)
    x = noise(20, 1, 4, 4)
    assert torch.equal(undo_views(apply_views(x, one), one), x)
    only = sample_view_transform(3, flip_axes=(-1,), generator=seeded())
    assert set(axis % 3 for axis in only.flip_axes) <= {2}


@pytest.mark.parametrize(
    ("dims", "options", "message"),
    [
        (2, {"flip_axes": (2,)}, "(?s)flip_axes.*2"),
        (3, {"flip_axes": (0, -4)}, "(?s)flip_axes.*-4"),
        (2, {"rot90_axes": (0, 2)}, "(?s)rot90_axes.*2"),
        (3, {"rot90_axes": (-4, 0)}, "(?s)rot90_axes.*-4"),
        (3, {"rot90_axes": (1, 1)}, "(?s)rot90_axes.*1, 1"),
        (3, {"rot90_axes": (2, -1)}, "(?s)rot90_axes.*2, -1"),
    ],
)
def test_axes_that_are_refused(dims, options, message):
    for seed in range(4):  # whatever the draw
        with pytest.raises(ValueError, match=message):
            sample_view_transform(dims, generator=seeded(seed), **options)


# ------------------------------------------------------------ blending


def test_mix_weights_fill_their_range(steady):
    found = sample_mix_weights(2000, generator=seeded())
    assert found.shape == (2000,) and found.dtype == torch.float32 and found.device.type == "cpu"
    assert 0.2 <= found.min() < 0.21 and 0.79 < found.max() <= 0.8
    assert float(found.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(found.var()) == pytest.approx(0.6**2 / 12, abs=0.003)
    assert torch.equal(sample_mix_weights(2000, generator=seeded()), found)
    wide = sample_mix_weights(500, low=0.0, high=1.0, generator=seeded())
    assert wide.min() < 0.02 and wide.max() > 0.98
    assert torch.equal(sample_mix_weights(3, low=0.25, high=0.25, generator=seeded()), torch.full((3,), 0.25))


@pytest.mark.parametrize("range_", [(0.8, 0.2), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5)])
def test_mix_ranges_that_are_refused(range_):
    low, high = range_
    with pytest.raises(ValueError, match=f"(?s){low}.*{high}"):
        sample_mix_weights(2, low=low, high=high)
    with pytest.raises(ValueError, match=f"(?s){low}.*{high}"):
        make_discrimination_batch(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), mix_range=range_)


@pytest.mark.parametrize("grid", [(4, 5), (3, 4, 2)])
def test_blend_is_one_weight_per_image(grid, dtype, device):
    a, b = (noise(3, 2, *grid, seed=s, dtype=dtype).to(device) for s in range(2))
    weights = torch.tensor([0.25, 1.0, 0.0], dtype=dtype, device=device)
    found = mix_images(a, b, weights)
    assert found.dtype == dtype and found.device.type == device
    torch.testing.assert_close(found[0], 0.25 * a[0] + 0.75 * b[0])
    assert torch.equal(found[1], a[1]) and torch.equal(found[2], b[2])
    torch.testing.assert_close(mix_images(b, a, 1 - weights), found)
    assert mix_images(a, b, weights.float()).dtype == dtype


@pytest.mark.parametrize("half", HALVES)
def test_blends_and_jitter_of_half_precision_are_single(half):
    a, b = noise(2, 1, 4, 4, dtype=half), noise(2, 1, 4, 4, seed=1, dtype=half)
    weights = torch.tensor([0.3, 0.6])
    found = mix_images(a, b, weights)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, mix_images(a.float(), b.float(), weights))
    found = jitter_intensity(a, generator=seeded())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, jitter_intensity(a.float(), generator=seeded()))


@pytest.mark.parametrize(
    ("a", "b", "weights", "message"),
    [
        ((2, 1, 4, 4), (2, 1, 4, 5), (2,), r"(?s)2, 1, 4, 4.*2, 1, 4, 5"),
        ((2, 1, 4, 4), (1, 1, 4, 4), (2,), r"(?s)2, 1, 4, 4.*1, 1, 4, 4"),
        ((2, 1, 4, 4), (2, 1, 4, 4), (3,), r"(?s)weights.*3"),
        ((2, 1, 4, 4), (2, 1, 4, 4), (1,), r"(?s)weights.*1"),
        ((2, 1, 4, 4), (2, 1, 4, 4), (2, 1), r"(?s)weights.*2, 1"),
    ],
)
def test_blends_that_are_refused(a, b, weights, message):
    with pytest.raises(ValueError, match=message):
        mix_images(torch.zeros(a), torch.zeros(b), torch.zeros(weights))


# ------------------------------------------------------------ jitter


@pytest.mark.parametrize("grid", [(6, 7), (3, 4, 5)])
def test_jitter_scales_brightness_then_contrast(grid, steady):
    x = noise(600, 2, *grid) * 3 + 1
    found = jitter_intensity(x, generator=seeded())
    assert found.shape == x.shape and found.dtype == x.dtype
    flat, out = x.flatten(1), found.flatten(1)
    brightness = out.mean(1) / flat.mean(1)
    contrast = out.std(1) / flat.std(1) / brightness
    literal = brightness[:, None] * (
        flat.mean(1, keepdim=True) + contrast[:, None] * (flat - flat.mean(1, keepdim=True))
    )
    torch.testing.assert_close(out, literal)  # one pair of factors per sample, all channels alike
    for factor in (brightness, contrast):
        assert 0.6 - 1e-9 <= factor.min() < 0.62 and 1.38 < factor.max() <= 1.4 + 1e-9
        assert float(factor.mean()) == pytest.approx(1, abs=0.04)
    assert abs(float(torch.corrcoef(torch.stack([brightness, contrast]))[0, 1])) < 0.15


def test_jitter_strengths_act_alone(steady):
    x = noise(50, 1, 4, 4)
    assert torch.equal(jitter_intensity(x, **STILL, generator=seeded()), x)
    bright = jitter_intensity(x, brightness=0.2, contrast=0.0, generator=seeded())
    ratio = (bright / x).flatten(1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    assert ratio.min() >= 0.8 - 1e-9 and ratio.max() <= 1.2 + 1e-9 and ratio.std() > 0.05
    contrasted = jitter_intensity(x, brightness=0.0, contrast=0.3, generator=seeded())
    torch.testing.assert_close(contrasted.mean((1, 2, 3)), x.mean((1, 2, 3)))
    assert not torch.allclose(contrasted, x)


def test_jitter_noise_is_added_last_and_nothing_is_clipped(steady):
    noisy = jitter_intensity(torch.zeros(20, 1, 10, 10, dtype=torch.float64), noise_std=0.3, generator=seeded())
    assert float(noisy.std()) == pytest.approx(0.3, abs=0.02)
    assert float(noisy.mean()) == pytest.approx(0, abs=0.03)
    assert noisy.flatten().unique().numel() == noisy.numel()
    found = jitter_intensity(torch.linspace(0, 1, 16).reshape(1, 1, 4, 4).repeat(40, 1, 1, 1), generator=seeded())
    assert found.max() > 1.2 and found.min() < -0.05


def test_jitter_repeats_with_its_generator_and_moves(device, steady):
    x = noise(3, 1, 4, 4).float()
    copy = x.clone()
    found = jitter_intensity(x.to(device), noise_std=0.1, generator=seeded(3))
    assert found.device.type == device
    torch.testing.assert_close(found.cpu(), jitter_intensity(x, noise_std=0.1, generator=seeded(3)))
    assert not torch.equal(jitter_intensity(x, noise_std=0.1, generator=seeded(4)), found.cpu())
    assert torch.equal(x, copy)


@pytest.mark.parametrize("name", ["brightness", "contrast", "noise_std"])
def test_negative_strengths_are_refused(name):
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match=rf"(?s){name}.*-0\.1"):
        jitter_intensity(x, **{name: -0.1})
    with pytest.raises(ValueError, match=rf"(?s){name}.*-0\.1"):
        make_discrimination_batch(x, x, **{name: -0.1})


# ------------------------------------------------------------ the batch


@pytest.mark.parametrize("grid", [(4, 4), (3, 4, 4)])
def test_batch_has_five_blocks_in_order(grid, dtype, device, steady):
    a, b = (noise(6, 2, *grid, seed=s, dtype=dtype).to(device) for s in range(2))
    batch = make_discrimination_batch(a, b, rot90_axes=(-2, -1), **STILL, generator=seeded())
    assert isinstance(batch, DiscriminationBatch)
    assert batch.images.shape == (30, 2, *grid) and batch.images.dtype == dtype
    assert batch.images.device.type == device
    assert batch.mix_weights.shape == (6,)
    assert len(batch.transforms_a) == len(batch.transforms_b) == 6
    assert len({*batch.transforms_a, *batch.transforms_b}) > 3
    assert list(batch.transforms_a) != list(batch.transforms_b)
    first_a, first_b, second_a, second_b, mixed = batch.images.split(6)
    assert torch.equal(first_a, a) and torch.equal(first_b, b)
    assert torch.equal(second_a, apply_views(a, batch.transforms_a))
    assert torch.equal(second_b, apply_views(b, batch.transforms_b))
    torch.testing.assert_close(mixed, mix_images(a, b, batch.mix_weights.to(a)))


def test_batch_jitters_each_view_alone_and_blends_first_views(steady):
    a, b = (noise(40, 1, 4, 4, seed=s) + 0.5 for s in range(2))
    batch = make_discrimination_batch(a, b, generator=seeded())
    first_a, first_b, second_a, second_b, mixed = batch.images.split(40)
    looks = [
        (first_a, a),
        (first_b, b),
        (undo_views(second_a, batch.transforms_a), a),
        (undo_views(second_b, batch.transforms_b), b),
    ]
    gains = []
    for look, image in looks:
        gain = look.mean((1, 2, 3)) / image.mean((1, 2, 3))
        assert 0.6 - 1e-9 <= gain.min() < 0.7 and 1.3 < gain.max() <= 1.4 + 1e-9
        for shown, original in zip(look.flatten(1), image.flatten(1), strict=True):
            assert float(torch.corrcoef(torch.stack([shown, original]))[0, 1]) == pytest.approx(1, abs=1e-9)
        gains.append(gain)
    shared = torch.corrcoef(torch.stack(gains)) - torch.eye(4, dtype=torch.float64)
    assert shared.abs().max() < 0.5
    w = batch.mix_weights.double().reshape(-1, 1, 1, 1)
    torch.testing.assert_close(mixed, w * first_a + (1 - w) * first_b)
    assert batch.mix_weights.min() >= 0.2 and batch.mix_weights.max() <= 0.8


def test_batch_hands_its_settings_on(steady):
    a, b = noise(8, 1, 4, 4), noise(8, 1, 4, 4, seed=1)
    none = make_discrimination_batch(a, b, flip_axes=(), mix_range=(0.3, 0.3), **STILL, generator=seeded())
    assert torch.equal(none.images[:16], none.images[16:32])
    torch.testing.assert_close(none.mix_weights.double(), torch.full((8,), 0.3, dtype=torch.float64))
    together = make_discrimination_batch(a, b, joint_flip=True, **STILL, generator=seeded())
    flips = {tuple(sorted(x % 2 for x in t.flip_axes)) for t in (*together.transforms_a, *together.transforms_b)}
    assert flips == {(), (0, 1)}
    one = make_discrimination_batch(a, b, flip_axes=(0,), **STILL, generator=seeded())
    assert {t.flip_axes for t in (*one.transforms_a, *one.transforms_b)} == {(), (0,)}
    flat = torch.zeros(8, 1, 16, 16, dtype=torch.float64)
    noisy = make_discrimination_batch(flat, flat, noise_std=0.2, generator=seeded())
    for block in noisy.images.split(8)[:4]:
        assert float(block.std()) == pytest.approx(0.2, abs=0.02)


def test_batch_repeats_with_its_generator(steady):
    a, b = noise(2, 1, 4, 4), noise(2, 1, 4, 4, seed=1)
    options = {"rot90_axes": (0, 1), "noise_std": 0.1}
    copies = a.clone(), b.clone()
    one, two, three = (make_discrimination_batch(a, b, **options, generator=seeded(n)) for n in (5, 5, 6))
    assert torch.equal(one.images, two.images) and torch.equal(one.mix_weights, two.mix_weights)
    assert list(one.transforms_a) == list(two.transforms_a) and list(one.transforms_b) == list(two.transforms_b)
    assert not torch.equal(one.images, three.images) and not torch.equal(one.mix_weights, three.mix_weights)
    assert torch.equal(a, copies[0]) and torch.equal(b, copies[1])


def test_an_image_may_be_its_own_partner():
    a = noise(2, 1, 4, 4)
    batch = make_discrimination_batch(a, a, flip_axes=(), **STILL, generator=seeded())
    torch.testing.assert_close(batch.images, a.repeat(5, 1, 1, 1))


@pytest.mark.parametrize("other", [(2, 1, 4, 5), (3, 1, 4, 4), (2, 2, 4, 4)])
def test_partners_need_one_shape(other):
    with pytest.raises(ValueError, match=f"(?s)2, 1, 4, 4.*{', '.join(map(str, other))}"):
        make_discrimination_batch(torch.zeros(2, 1, 4, 4), torch.zeros(other))


def test_batches_that_are_refused():
    x = torch.zeros(16, 1, 4, 6)
    with pytest.raises(ValueError, match=r"(?s)4.*6"):
        make_discrimination_batch(x, x, rot90_axes=(0, 1), generator=seeded())
    with pytest.raises(ValueError, match=r"(?s)flip_axes.*2"):
        make_discrimination_batch(x, x, flip_axes=(2,))
    with pytest.raises(ValueError, match=r"(?s)rot90_axes.*1, 1"):
        make_discrimination_batch(x, x, rot90_axes=(1, 1))
