"""Patch embeddings, patch discrimination and hypersphere mixup: reference numbers, by hand, laws, edges, messages."""

import itertools
import math

import pytest
import torch

from medssl_nb.methods.local_discrimination import (
    DiscriminationBatch,
    ViewTransform,
    apply_views,
    center_weights,
    hypersphere_mixup_loss,
    hypersphere_mixup_targets,
    patch_discrimination_loss,
    patch_embeddings,
    patch_losses,
    undo_views,
)

HALVES = [torch.float16, torch.bfloat16]


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def unit(*shape, seed=0, dtype=torch.float64):
    return torch.nn.functional.normalize(noise(*shape, seed=seed)).to(dtype)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


# ------------------------------------------------------------ weights of a window


@pytest.mark.parametrize("case", range(4))
def test_window_matches_the_reference(reference, case, dtype, device):
    window = tuple(reference.number(f"center_{case}_window"))
    found = center_weights(window, reference.number(f"center_{case}_sigma"), dtype=dtype, device=device)
    assert found.dtype == dtype and found.device.type == device
    reference.check(found, f"center_{case}_weights")


def test_window_by_hand():
    side = math.exp(-2 * (2 / 3) ** 2)  # u = (-2/3, 0, 2/3), sigma 0.5
    torch.testing.assert_close(center_weights((3,), dtype=torch.float64), double(side, 1, side) / (1 + 2 * side))
    torch.testing.assert_close(center_weights((2, 2)), torch.full((2, 2), 0.25))
    assert torch.equal(center_weights((1, 1, 1)), torch.ones(1, 1, 1))


@pytest.mark.parametrize("window", [(5,), (4, 7), (3, 2, 5)])
@pytest.mark.parametrize("sigma", [0.2, 0.5, 2.0, math.inf])
def test_window_laws(window, sigma):
    found = center_weights(window, sigma, dtype=torch.float64)
    assert found.shape == window
    assert float(found.sum()) == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(found, found.flip(*range(len(window))))
    axes = [center_weights((s,), sigma, dtype=torch.float64) for s in window]
    product = axes[0]
    for axis in axes[1:]:
        product = product[..., None] * axis
    torch.testing.assert_close(found, product)  # separable
    if sigma == math.inf:
        torch.testing.assert_close(found, torch.full(window, 1 / math.prod(window), dtype=torch.float64))
    else:
        assert found.max() == found[tuple(s // 2 for s in window)] > found[(0,) * len(window)]


def test_narrow_windows_do_not_overflow():
    found = center_weights((5, 5), 1e-3)
    assert float(found[2, 2]) == 1 and float(found.sum()) == 1


@pytest.mark.parametrize("sigma", [0.0, -0.5])
def test_sigmas_that_are_refused(sigma):
    with pytest.raises(ValueError, match=f"(?s)sigma.*{sigma}"):
        center_weights((3, 3), sigma)
    with pytest.raises(ValueError, match=f"(?s)sigma.*{sigma}"):
        patch_embeddings(torch.zeros(1, 2, 4, 4), 2, weighting="center", sigma=sigma)


# ------------------------------------------------------------ embeddings of patches


def test_patches_match_the_reference(reference, dtype, device):
    z, grid = reference("grid_embeddings", dtype, device), tuple(reference.number("grid_size"))
    found = patch_embeddings(z, grid)
    assert found.dtype == dtype and found.device.type == device
    reference.check(found, "grid_mean")
    found = patch_embeddings(z, grid, weighting="center", sigma=reference.number("grid_sigma"))
    assert found.dtype == dtype and found.device.type == device
    reference.check(found, "grid_center")


@pytest.mark.parametrize(("size", "grid"), [((6, 4), (3, 2)), ((4, 2, 6), (2, 1, 3)), ((4, 4), (4, 4))])
@pytest.mark.parametrize("weighting", ["mean", "center"])
def test_patches_are_their_equation(size, grid, weighting):
    z = noise(2, 3, *size)
    found = patch_embeddings(z, grid, weighting=weighting, sigma=0.7)
    assert found.shape == (2, 3, *grid)
    cell = [s // g for s, g in zip(size, grid, strict=True)]
    sigma = 0.7 if weighting == "center" else math.inf
    weights = center_weights(tuple(cell), sigma, dtype=torch.float64)
    for where in itertools.product(*map(range, grid)):
        part = z[(slice(None), slice(None), *(slice(i * c, (i + 1) * c) for i, c in zip(where, cell, strict=True)))]
        mean = (part * weights).flatten(2).sum(2)
        torch.testing.assert_close(found[(slice(None), slice(None), *where)], mean / mean.norm(dim=1, keepdim=True))


def test_grids_need_not_divide_under_the_mean():
    z = noise(2, 3, 7, 5, 6)
    pooled = torch.nn.functional.adaptive_avg_pool3d(z, (3, 2, 4))
    torch.testing.assert_close(patch_embeddings(z, (3, 2, 4)), pooled / pooled.norm(dim=1, keepdim=True))
    torch.testing.assert_close(patch_embeddings(z, 2), patch_embeddings(z, (2, 2, 2)))
    whole = z.mean((2, 3, 4))
    torch.testing.assert_close(patch_embeddings(z, 1).flatten(1), whole / whole.norm(dim=1, keepdim=True))


def test_an_endless_sigma_is_the_mean():
    z = noise(2, 3, 6, 8)
    torch.testing.assert_close(patch_embeddings(z, 2, weighting="center", sigma=math.inf), patch_embeddings(z, 2))


@pytest.mark.parametrize("weighting", ["mean", "center"])
def test_patch_edges_and_types(weighting):
    z = unit(2, 4, 6, 6)
    z[0, :, :3, :3] = 0
    z.requires_grad_()
    found = patch_embeddings(z, 2, weighting=weighting)
    assert (found[0, :, 0, 0] == 0).all()
    (found * noise(2, 4, 2, 2)).sum().backward()
    assert z.grad.isfinite().all() and z.grad[1].abs().min() > 0
    single = z.detach().float()
    wide = patch_embeddings(single, 2, weighting=weighting)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(patch_embeddings(single, 2, weighting=weighting), wide)
    for half in HALVES:
        narrow = patch_embeddings(single.to(half), 2, weighting=weighting)
        assert narrow.dtype == torch.float32
        torch.testing.assert_close(narrow, patch_embeddings(single.to(half).float(), 2, weighting=weighting))
    single[0, 1, 4, 4] = math.nan
    broken = patch_embeddings(single, 2, weighting=weighting)
    assert broken[0, :, 1, 1].isnan().all() and broken[0, :, :, 0].isfinite().all()


@pytest.mark.parametrize(
    ("grid", "options", "message"),
    [
        (7, {}, "(?s)grid_size.*7"),
        ((2, 5), {}, "(?s)grid_size.*5"),
        (0, {}, "(?s)grid_size.*0"),
        ((2, -1), {}, "(?s)grid_size.*-1"),
        ((2, 2, 2), {}, "(?s)grid_size.*2, 2, 2"),
        ((4, 2), {"weighting": "center"}, r"(?s)6, 4.*4, 2|4.*6"),
        (2, {"weighting": "gauss"}, "(?s)weighting.*gauss"),
    ],
)
def test_grids_that_are_refused(grid, options, message):
    with pytest.raises(ValueError, match=message):
        patch_embeddings(torch.zeros(1, 2, 6, 4), grid, **options)


# ------------------------------------------------------------ patch discrimination


def literal_loss(first, second, temperature=0.1, detach=True):
    x = torch.cat([first, second])
    n = len(x)
    total = 0
    for i in range(n):
        others = [k for k in range(n) if k != i]
        products = {k: x[i] @ (x[k].detach() if detach else x[k]) / temperature for k in others}
        scale = torch.stack(list(products.values())).logsumexp(0)
        for j in others:
            p = (products[j] - scale).exp()
            total = total - (p.log() if j == (i + n // 2) % n else (1 - p).log())
    return total / n


@pytest.mark.parametrize("case", ["patch_a", "patch_b", "patch_c", "pd3"])
def test_patch_loss_matches_the_reference(reference, case, dtype, device):
    first, second = (reference(f"{case}_{n}", dtype, device).requires_grad_() for n in ("first", "second"))
    loss = patch_discrimination_loss(first, second, temperature=reference.number(f"{case}_temperature"))
    assert loss.dtype == dtype and loss.device.type == device
    reference.check(loss, f"{case}_loss")
    loss.backward()
    reference.check(first.grad, f"{case}_grad_first", gradient=True)
    reference.check(second.grad, f"{case}_grad_second", gradient=True)


@pytest.mark.parametrize("case", ["orthogonal", "collapsed"])
def test_best_and_collapsed_rows_match_the_reference(reference, case, dtype):
    rows = reference(f"patch_{case}_rows", dtype)
    reference.check(patch_discrimination_loss(rows, rows), f"patch_{case}_loss")


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("rows", [2, 5])
def test_patch_loss_is_its_equation(rows, detach):
    x, y = (unit(rows, 3, seed=s).requires_grad_() for s in range(2))
    found = patch_discrimination_loss(x, y, temperature=0.3, detach_targets=detach)
    expected = literal_loss(x, y, 0.3, detach)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(loss, (x, y)) for loss in (found, expected)]
    for own, literal in zip(*gradients, strict=True):
        torch.testing.assert_close(own, literal)


def test_gradient_through_both_sides_is_right():
    x, y = (unit(3, 4, seed=s).requires_grad_() for s in range(2))
    assert torch.autograd.gradcheck(lambda a, b: patch_discrimination_loss(a, b, detach_targets=False), (x, y))
    both = torch.autograd.grad(patch_discrimination_loss(x, y, detach_targets=False), x)[0]
    one = torch.autograd.grad(patch_discrimination_loss(x, y), x)[0]
    assert not torch.allclose(one, both)


@pytest.mark.parametrize("detach", [True, False])
def test_many_rows_agree_with_the_whole_matrix(detach, dtype):
    x, y = (unit(800, 8, seed=s, dtype=dtype).requires_grad_() for s in range(2))
    found = patch_discrimination_loss(x, y, detach_targets=detach)
    rows = torch.cat([x, y])
    products = rows @ (rows.detach() if detach else rows).T / 0.1
    log = products.masked_fill(torch.eye(1600, dtype=torch.bool), -math.inf).log_softmax(1)
    positive = torch.eye(1600, dtype=torch.bool).roll(800, 0)
    expected = -(log[positive].sum() + torch.log1p(-log.exp().masked_fill(positive, 0)).sum()) / 1600
    torch.testing.assert_close(found, expected)
    own, literal = (torch.autograd.grad(3 * loss, (x, y)) for loss in (found, expected))
    for a, b in zip(own, literal, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
        assert b.abs().max() > 1e-4


@pytest.mark.parametrize(("n", "value"), [(1024, 7.930), (512, 7.235), (1728, 8.454), (4, None)])
def test_collapse_costs_what_is_known(n, value, dtype):
    rows = unit(1, 16, dtype=dtype).expand(n // 2, 16)
    expected = math.log(n - 1) + (n - 2) * math.log((n - 1) / (n - 2))
    found = patch_discrimination_loss(rows, rows)
    assert float(found) == pytest.approx(expected, rel=1e-9 if dtype == torch.float64 else 1e-5)
    if value is not None:
        assert float(found) == pytest.approx(value, abs=1e-3)
        assert float(found) == pytest.approx(math.log(n - 1) + 1, abs=2e-3)


def test_random_matched_vectors_cost_what_is_known():
    rows = unit(512, 32)
    assert float(patch_discrimination_loss(rows, rows)) == pytest.approx(0.36, abs=0.05)


def test_antipodal_matched_rows_stay_finite(dtype):
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=dtype).requires_grad_()
    loss = patch_discrimination_loss(rows, rows)
    loss.backward()
    assert rows.grad.isfinite().all()
    if dtype == torch.float64:
        assert loss.item() == pytest.approx(8.24e-9, rel=1e-3)
    else:
        assert 0 <= loss.item() < 1e-6


def test_a_certain_mistake_is_clamped_at_machine_epsilon(dtype):
    first, second = torch.eye(2, dtype=dtype)[[0, 0]], torch.eye(2, dtype=dtype)[[1, 1]]
    first, second = first.requires_grad_(), second.requires_grad_()
    loss = patch_discrimination_loss(first, second, temperature=0.01)
    assert loss.item() == pytest.approx(100 - math.log(torch.finfo(dtype).eps), rel=1e-6)
    loss.backward()
    assert first.grad.isfinite().all() and second.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [0.01, 0.001])
def test_sharp_temperatures_stay_finite(temperature, dtype):
    x, y = unit(6, 4, dtype=dtype).requires_grad_(), unit(6, 4, seed=1, dtype=dtype).requires_grad_()
    loss = patch_discrimination_loss(x, y, temperature=temperature)
    loss.backward()
    assert loss.isfinite() and loss > 10
    assert x.grad.isfinite().all() and y.grad.isfinite().all() and x.grad.abs().max() > 0


@pytest.mark.parametrize("grid", [(3,), (2, 3), (2, 1, 3)])
def test_patch_loss_laws(grid):
    x, y = unit(2, 5, *grid), unit(2, 5, *grid, seed=1)
    loss = patch_discrimination_loss(x, y)
    a, b = (p.movedim(1, -1).reshape(-1, 5) for p in (x, y))
    torch.testing.assert_close(patch_discrimination_loss(a, b), loss)
    torch.testing.assert_close(patch_discrimination_loss(y, x), loss)
    order = torch.randperm(len(a), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(patch_discrimination_loss(a[order], b[order]), loss)
    assert abs(float(patch_discrimination_loss(a[order], b) - loss)) > 1e-3
    turn = torch.linalg.qr(noise(5, 5)).Q
    torch.testing.assert_close(patch_discrimination_loss(a @ turn, b @ turn), loss)
    assert patch_discrimination_loss(a, a) < loss  # matched rows are better
    torch.testing.assert_close(patch_discrimination_loss(3 * a, 3 * b, temperature=0.9), loss)  # taken as given


def test_patch_loss_types_and_nan():
    x, y = unit(4, 6, dtype=torch.float32), unit(4, 6, seed=1, dtype=torch.float32)
    copies = x.clone(), y.clone()
    found = patch_discrimination_loss(x, y)
    assert found.shape == () and torch.equal(x, copies[0]) and torch.equal(y, copies[1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = patch_discrimination_loss(x, y)
    assert under.dtype == torch.float32 and torch.equal(under, found)
    for half in HALVES:
        narrow = patch_discrimination_loss(x.to(half), y.to(half))
        assert narrow.dtype == torch.float32
        torch.testing.assert_close(narrow, patch_discrimination_loss(x.to(half).float(), y.to(half).float()))
        collapsed = patch_discrimination_loss(x[:1].to(half).expand(8, 6), x[:1].to(half).expand(8, 6))
        assert float(collapsed) == pytest.approx(math.log(15) + 14 * math.log(15 / 14), abs=1e-4)
    x[2, 3] = math.nan
    assert patch_discrimination_loss(x, y).isnan()


@pytest.mark.parametrize(
    ("first", "second", "options", "message"),
    [
        ((1, 4), (1, 4), {}, r"2 patches.*\b1\b"),
        ((0, 4), (0, 4), {}, r"2 patches.*\b0\b"),
        ((1, 4, 1, 1), (1, 4, 1, 1), {}, r"2 patches.*\b1\b"),
        ((3, 4), (3, 5), {}, r"(?s)3, 4.*3, 5"),
        ((3, 4), (2, 4), {}, r"(?s)3, 4.*2, 4"),
        ((2, 4, 2, 2), (2, 4, 4), {}, r"(?s)2, 4, 2, 2.*2, 4, 4"),
        ((3, 4), (3, 4), {"temperature": 0.0}, r"(?s)temperature.*0\.0"),
        ((3, 4), (3, 4), {"temperature": -0.5}, r"(?s)temperature.*-0\.5"),
    ],
)
def test_rows_that_are_refused(first, second, options, message):
    with pytest.raises(ValueError, match=message):
        patch_discrimination_loss(torch.ones(first), torch.ones(second), **options)


# ------------------------------------------------------------ mixup on the sphere


def test_mixup_matches_the_reference(reference, dtype, device):
    a, b, mixed = (reference(f"mix3_{n}", dtype, device).requires_grad_() for n in ("a", "b", "mixed"))
    weights = reference("mix3_weights", dtype, device)
    targets = hypersphere_mixup_targets(a, b, weights)
    assert targets.dtype == dtype and targets.device.type == device and not targets.requires_grad
    reference.check(targets, "mix3_targets")
    loss = hypersphere_mixup_loss(mixed, a, b, weights)
    assert loss.dtype == dtype and loss.device.type == device
    reference.check(loss, "mix3_loss")
    loss.backward()
    reference.check(mixed.grad, "mix3_grad_mixed", gradient=True)
    assert a.grad is None and b.grad is None


def test_targets_lie_on_the_chord_not_on_the_arc():
    for degrees in (90.0, 170.0):
        angle = math.radians(degrees)
        a, b = double(1, 0)[None], double(math.cos(angle), math.sin(angle))[None]
        for weight in (0.25, 0.5, 0.7):
            target = hypersphere_mixup_targets(a, b, double(weight))[0]
            expected = math.atan2((1 - weight) * math.sin(angle), weight + (1 - weight) * math.cos(angle))
            assert math.atan2(float(target[1]), float(target[0])) == pytest.approx(expected)
            assert float(target.norm()) == pytest.approx(1)
            on_arc = abs(expected - (1 - weight) * angle) < 1e-9
            assert on_arc == (weight == 0.5)


@pytest.mark.parametrize("grid", [(2, 2), (2, 1, 3)])
def test_target_ends_and_swap(grid, dtype):
    a, b = unit(3, 4, *grid, dtype=dtype), unit(3, 4, *grid, seed=1, dtype=dtype)
    targets = hypersphere_mixup_targets(a, b, torch.tensor([1.0, 0.0, 0.5], dtype=dtype))
    torch.testing.assert_close(targets[:2], torch.stack([a[0], b[1]]))
    torch.testing.assert_close(targets.norm(dim=1), torch.ones(3, *grid, dtype=dtype))
    weights = torch.tensor([0.3, 0.6, 0.8], dtype=dtype)
    torch.testing.assert_close(hypersphere_mixup_targets(b, a, 1 - weights), hypersphere_mixup_targets(a, b, weights))


def test_antipodal_patches_halfway_give_a_zero_target(dtype):
    a = torch.eye(4, dtype=dtype)[:2]
    weights = torch.full((2,), 0.5, dtype=dtype)
    assert (hypersphere_mixup_targets(a, -a, weights) == 0).all()
    mixed = unit(2, 4, dtype=dtype).requires_grad_()
    loss = hypersphere_mixup_loss(mixed, a, -a, weights)
    torch.testing.assert_close(loss, patch_discrimination_loss(mixed, torch.zeros_like(a)))
    loss.backward()
    assert loss.isfinite() and mixed.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [0.1, 0.4])
def test_mixup_loss_is_patch_loss_against_the_targets(temperature):
    mixed, a, b = (unit(2, 3, 2, 2, seed=s) for s in range(3))
    weights = double(0.3, 0.75)
    mixed.requires_grad_()
    loss = hypersphere_mixup_loss(mixed, a, b, weights, temperature=temperature)
    rows = [p.movedim(1, -1).reshape(-1, 3) for p in (mixed, hypersphere_mixup_targets(a, b, weights))]
    expected = literal_loss(*rows, temperature)
    torch.testing.assert_close(loss, expected)  # both halves count in the value
    own, literal = (torch.autograd.grad(x, mixed)[0] for x in (loss, expected))
    torch.testing.assert_close(own, literal)


def test_mixup_types_and_nan():
    mixed, a, b = (unit(2, 6, 2, 2, seed=s, dtype=torch.float32) for s in range(3))
    weights = torch.tensor([0.3, 0.75])
    found = hypersphere_mixup_loss(mixed, a, b, weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = hypersphere_mixup_loss(mixed, a, b, weights)
        targets = hypersphere_mixup_targets(a, b, weights)
    assert under.dtype == targets.dtype == torch.float32
    assert torch.equal(under, found) and torch.equal(targets, hypersphere_mixup_targets(a, b, weights))
    assert hypersphere_mixup_targets(a.double(), b.double(), weights).dtype == torch.float64
    for half in HALVES:
        narrow = [p.to(half) for p in (mixed, a, b)]
        wide = [p.float() for p in narrow]
        targets = hypersphere_mixup_targets(*narrow[1:], weights)
        assert targets.dtype == torch.float32
        torch.testing.assert_close(targets, hypersphere_mixup_targets(*wide[1:], weights))
        loss = hypersphere_mixup_loss(*narrow, weights)
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, hypersphere_mixup_loss(*wide, weights))
    a[0, 0, 0, 0] = math.nan
    assert hypersphere_mixup_targets(a, b, weights)[0, :, 0, 0].isnan().all()
    assert hypersphere_mixup_targets(a, b, weights)[1].isfinite().all()
    assert hypersphere_mixup_loss(mixed, a, b, weights).isnan()


@pytest.mark.parametrize(
    ("a", "b", "weights", "message"),
    [
        ((2, 4, 2), (2, 4, 3), [0.5, 0.5], r"(?s)2, 4, 2.*2, 4, 3"),
        ((2, 4, 2), (2, 4, 2), [0.5], r"(?s)weights.*1"),
        ((2, 4, 2), (2, 4, 2), [0.5, 0.5, 0.5], r"(?s)weights.*3"),
        ((2, 4, 2), (2, 4, 2), [[0.5], [0.5]], r"(?s)weights.*2, 1"),
        ((2, 4, 2), (2, 4, 2), 0.5, "weights"),
        ((2, 4, 2), (2, 4, 2), [0.5, 1.5], r"(?s)weights.*1\.5"),
        ((2, 4, 2), (2, 4, 2), [-0.25, 0.5], r"(?s)weights.*-0\.25"),
    ],
)
def test_mixtures_that_are_refused(a, b, weights, message):
    a, b, weights = torch.ones(a), torch.ones(b), torch.tensor(weights)
    with pytest.raises(ValueError, match=message):
        hypersphere_mixup_targets(a, b, weights)
    with pytest.raises(ValueError, match=message):
        hypersphere_mixup_loss(torch.ones_like(a), a, b, weights)


def test_the_mixed_half_is_checked():
    a = torch.ones(2, 4, 2)
    with pytest.raises(ValueError, match=r"(?s)2, 4, 3"):
        hypersphere_mixup_loss(torch.ones(2, 4, 3), a, a, torch.ones(2))
    with pytest.raises(ValueError, match=r"(?s)temperature.*0\.0"):
        hypersphere_mixup_loss(a, a, a, torch.ones(2), temperature=0.0)
    with pytest.raises(ValueError, match=r"2 patches.*\b1\b"):
        hypersphere_mixup_loss(a[:1, :, :1], a[:1, :, :1], a[:1, :, :1], torch.ones(1))


# ------------------------------------------------------------ both losses of a batch


def stored_batch(reference, dtype=torch.float64, device="cpu"):
    def transforms(which):
        rows = zip(reference.number(f"joint_flip_{which}"), reference.number(f"joint_rot_{which}"), strict=True)
        return [ViewTransform((0, 1) if flip else (), turns, (0, 1)) for flip, turns in rows]

    weights = reference("joint_mix_weights", dtype, device)
    return DiscriminationBatch(None, weights, transforms("a"), transforms("b"))  # images are not read


def test_batch_losses_match_the_reference(reference, dtype, device):
    batch = stored_batch(reference, dtype, device)
    patches = reference("joint_patches", dtype, device).requires_grad_()
    losses = dict(zip(("patch", "mixup"), patch_losses(patches, batch), strict=True))
    for name, loss in losses.items():
        assert loss.dtype == dtype and loss.device.type == device and loss.shape == ()
        reference.check(loss, f"joint_{name}_loss")
        (gradient,) = torch.autograd.grad(loss, patches, retain_graph=True)
        reference.check(gradient, f"joint_{name}_grad", gradient=True)


def test_alignment_and_targets_match_the_reference(reference, dtype):
    batch, patches = stored_batch(reference, dtype), reference("joint_patches", dtype)
    first_a, first_b, second_a, second_b, mixed = patches.split(2)
    aligned = [undo_views(second_a, batch.transforms_a), undo_views(second_b, batch.transforms_b)]
    reference.check(torch.cat([first_a, first_b, *aligned, mixed]), "joint_patches_aligned")
    reference.check(hypersphere_mixup_targets(first_a, first_b, batch.mix_weights), "joint_mixup_targets")


def random_batch(grid):
    dims = len(grid)
    transforms = [ViewTransform((0,), 1, (-2, -1)), ViewTransform((dims - 1,), 0), ViewTransform((), 3, (-1, -2))]
    return DiscriminationBatch(None, torch.tensor([0.2, 0.5, 0.7]), transforms, transforms[::-1])


@pytest.mark.parametrize("grid", [(2, 2), (3, 2, 2)])
def test_batch_losses_are_their_parts(grid):
    batch, patches = random_batch(grid), unit(15, 4, *grid)
    patch, mixup = patch_losses(patches, batch, temperature=0.2)
    first_a, first_b, second_a, second_b, mixed = patches.split(3)
    second = [undo_views(second_a, batch.transforms_a), undo_views(second_b, batch.transforms_b)]
    expected = patch_discrimination_loss(torch.cat([first_a, first_b]), torch.cat(second), temperature=0.2)
    torch.testing.assert_close(patch, expected)
    expected = hypersphere_mixup_loss(mixed, first_a, first_b, batch.mix_weights, temperature=0.2)
    torch.testing.assert_close(mixup, expected)
    assert not torch.isclose(patch_losses(patches, batch)[0], patch)  # the default is another temperature
    assert not torch.isclose(patch_losses(patches, batch)[1], mixup)


def test_each_loss_reads_its_own_blocks():
    batch, patches = random_batch((2, 2)), unit(15, 4, 2, 2).requires_grad_()
    patch, mixup = (torch.autograd.grad(x, patches, retain_graph=True)[0] for x in patch_losses(patches, batch))
    per_sample = patch.flatten(1).abs().amax(1), mixup.flatten(1).abs().amax(1)
    assert [bool(x > 0) for x in per_sample[0]] == [True] * 12 + [False] * 3
    assert [bool(x > 0) for x in per_sample[1]] == [False] * 12 + [True] * 3


def test_views_that_differ_by_geometry_alone_are_matched():
    batch = random_batch((4, 4))
    views = unit(6, 8, 4, 4)
    a, b = views.split(3)
    patches = torch.cat([a, b, apply_views(a, batch.transforms_a), apply_views(b, batch.transforms_b), a])
    torch.testing.assert_close(patch_losses(patches, batch)[0], patch_discrimination_loss(views, views))


def test_batch_loss_types():
    batch, patches = random_batch((2, 2)), unit(15, 4, 2, 2, dtype=torch.float32)
    found = patch_losses(patches, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = patch_losses(patches, batch)
    for half in HALVES:
        narrow, wide = patch_losses(patches.to(half), batch), patch_losses(patches.to(half).float(), batch)
        for x, y in zip(narrow, wide, strict=True):
            assert x.dtype == torch.float32
            torch.testing.assert_close(x, y)
    assert all(x.dtype == torch.float32 and torch.equal(x, y) for x, y in zip(under, found, strict=True))
    assert all(x.dtype == torch.float64 for x in patch_losses(patches.double(), batch))


@pytest.mark.parametrize("count", [14, 16, 12, 10])
def test_batches_that_are_not_five_blocks_are_refused(count):
    with pytest.raises(ValueError, match=f"(?s)patches.*{count}"):
        patch_losses(unit(count, 4, 2, 2), random_batch((2, 2)))


def test_batch_temperature_is_checked():
    with pytest.raises(ValueError, match=r"(?s)temperature.*-1"):
        patch_losses(unit(15, 4, 2, 2), random_batch((2, 2)), temperature=-1)
