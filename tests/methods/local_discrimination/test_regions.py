"""Assignments, regions, prototypes, entropy and read-out: reference numbers, by hand, laws, edges, messages."""

import math

import pytest
import torch

from medssl_nb.methods.local_discrimination import (
    TargetSegmentation,
    assignment_entropy,
    cluster_area_loss,
    cluster_assignments,
    cosine_segmentation,
    region_discrimination_loss,
    region_embeddings,
    region_prototypes,
    segment_target,
)

HALVES = [torch.float16, torch.bfloat16]
MODES = ["sigmoid_l1", "softmax"]


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def unit(*shape, dim=1, seed=0, dtype=torch.float64):
    return torch.nn.functional.normalize(noise(*shape, seed=seed), dim=dim).to(dtype)


def soft(*shape, seed=0, dtype=torch.float64):
    return (2 * noise(*shape, seed=seed)).softmax(1).to(dtype)


def close(found, expected, **tolerance):
    torch.testing.assert_close(found, expected, **tolerance)


# ------------------------------------------------------------ assignments


def test_assignments_match_the_reference(reference, dtype, device):
    found = cluster_assignments(reference("assign_logits", dtype, device))
    assert found.dtype == dtype and found.device.type == device
    reference.check(found, "assign")
    for mode in MODES:
        reference.check(cluster_assignments(reference("reg3_logits", dtype, device), mode=mode), f"reg3_assign_{mode}")


def test_one_high_logit_does_not_suffice():
    logits = torch.zeros(1, 4, 2, dtype=torch.float64)
    logits[0, 0, 0] = 100
    found = cluster_assignments(logits)[0]
    close(found[:, 0], torch.tensor([0.4, 0.2, 0.2, 0.2], dtype=torch.float64))
    close(found[:, 1], torch.full((4,), 0.25, dtype=torch.float64))
    assert float(cluster_assignments(logits, mode="softmax")[0, 0, 0]) == pytest.approx(1)
    logits[0, 1:, 0] = -100  # all other sigmoids close
    assert float(cluster_assignments(logits)[0, 0, 0]) == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("grid", [(3, 4), (2, 3, 2)])
def test_assignment_laws(mode, grid, dtype):
    logits = noise(2, 5, *grid, dtype=dtype)
    found = cluster_assignments(logits, mode=mode)
    assert found.shape == logits.shape and (found > 0).all()
    close(found.sum(1), torch.ones(2, *grid, dtype=dtype))
    order = torch.tensor([3, 0, 4, 1, 2])
    close(cluster_assignments(logits[:, order], mode=mode), found[:, order])
    assert torch.equal(found.argsort(1), logits.argsort(1))


def test_silent_clusters_are_even(dtype):
    for value in (-1000.0, 0.0, 1000.0):
        even = cluster_assignments(torch.full((1, 4, 2, 2), value, dtype=dtype))
        close(even, torch.full_like(even, 0.25))
    eps = cluster_assignments(torch.tensor([[[0.0], [-1000.0]]], dtype=torch.float64), eps=0.5)
    close(eps.flatten(), torch.tensor([2 / 3, 1 / 3], dtype=torch.float64))  # eps is added to each


@pytest.mark.parametrize("mode", MODES)
def test_assignment_types_gradient_and_nan(mode):
    logits = noise(2, 3, 4, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: cluster_assignments(x, mode=mode), logits)
    single = logits.detach().float()
    found = cluster_assignments(single, mode=mode)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(cluster_assignments(single, mode=mode), found)
    for half in HALVES:
        narrow = cluster_assignments(single.to(half), mode=mode)
        assert narrow.dtype == torch.float32
        close(narrow, cluster_assignments(single.to(half).float(), mode=mode))
        closed = cluster_assignments(torch.full((1, 4, 2), -100.0, dtype=half), mode=mode)
        close(closed, torch.full_like(closed, 0.25))
    single[0, 1, 2, 0] = math.nan
    broken = cluster_assignments(single, mode=mode)
    assert broken[0, :, 2, 0].isnan().all() and broken.isnan().sum() == 3


@pytest.mark.parametrize(
    ("shape", "mode", "message"), [((1, 3, 4), "sparsemax", r"mode.*sparsemax"), ((1, 1, 4), "softmax", r"\b1\b")]
)
def test_assignments_that_are_refused(shape, mode, message):
    with pytest.raises(ValueError, match=message):
        cluster_assignments(torch.zeros(shape), mode=mode)


# ------------------------------------------------------------ regions and prototypes


def test_regions_match_the_reference(reference, dtype, device):
    z, a = (reference(f"reg3_{n}", dtype, device) for n in ("embeddings", "assignments"))
    mask = reference("reg3_mask", torch.bool, device)
    for found, name in (
        (region_embeddings(z, a), "reg3_regions"),
        (region_embeddings(z, a, mask=mask), "reg3_regions_masked"),
        (region_prototypes(reference("reg3_regions", dtype, device)), "reg3_prototypes"),
        (region_prototypes(reference("region_a_embeddings", dtype, device)), "region_a_prototypes"),
        (region_prototypes(reference("region_b_embeddings", dtype, device)), "region_b_prototypes"),
    ):
        assert found.dtype == dtype and found.device.type == device
        reference.check(found, name)


@pytest.mark.parametrize("grid", [(4, 3), (2, 3, 4)])
@pytest.mark.parametrize("masked", [False, True])
def test_regions_are_their_equation(grid, masked):
    z, a = unit(2, 4, *grid), soft(2, 3, *grid, seed=1)
    mask = noise(2, *grid, seed=2) > 0 if masked else None
    found = region_embeddings(z, a, mask=mask)
    kept = torch.ones(2, *grid, dtype=torch.bool) if mask is None else mask
    for n in range(2):
        for k in range(3):
            mean = (z[n] * a[n, k] * kept[n]).flatten(1).mean(1)
            close(found[n, k], mean / mean.norm())
    close(region_embeddings(z.flip(2), a.flip(2), mask=None if mask is None else mask.flip(1)), found)
    order = torch.tensor([2, 0, 1])
    close(region_embeddings(z, a[:, order], mask=mask), found[:, order])


def test_hard_clusters_by_hand():
    z = torch.tensor([[[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]]])
    a = torch.tensor([[[1.0, 0, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0]]])
    root = math.sqrt(0.5)
    close(region_embeddings(z, a), torch.tensor([[[root, root], [root, -root], [0.0, 0.0]]]))
    found = region_embeddings(z, a, mask=torch.tensor([[True, False, False, True]]))
    close(found, torch.tensor([[[1.0, 0.0], [0.0, -1.0], [0.0, 0.0]]]))


@pytest.mark.parametrize("masked", [False, True])
def test_the_mean_counts_every_voxel(masked):
    z = torch.zeros(1, 2, 100, dtype=torch.float64)
    z[0, 0] = 1
    a = torch.zeros(1, 2, 100, dtype=torch.float64)
    a[0, 0, 7] = 1e-8  # over 100 voxels: 1e-10, as much as eps
    mask = (torch.arange(100) < 10)[None] if masked else None
    assert float(region_embeddings(z, a, mask=mask)[0, 0, 0]) == pytest.approx(0.5)
    assert float(region_embeddings(z, a, mask=mask, eps=3e-10)[0, 0, 0]) == pytest.approx(0.25)


def test_empty_clusters_and_masks_give_zero_and_finite_gradients(dtype):
    z, a = unit(2, 4, 3, 3, dtype=dtype), soft(2, 3, 3, 3, dtype=dtype)
    a[0, 1] = 0
    mask = torch.ones(2, 3, 3, dtype=torch.bool)
    mask[1] = False
    z.requires_grad_()
    a.requires_grad_()
    found = region_embeddings(z, a, mask=mask)
    assert (found[0, 1] == 0).all() and (found[1] == 0).all() and found[0, 0].norm() > 0.9
    loss = region_discrimination_loss(found)
    loss.backward()
    assert loss.isfinite() and z.grad.isfinite().all() and a.grad.isfinite().all()


@pytest.mark.parametrize("images", [1, 3])
def test_prototypes_are_means_on_the_sphere(images):
    regions = unit(images, 4, 5, dim=2)
    found = region_prototypes(regions)
    assert found.shape == (4, 5)
    mean = regions.mean(0)
    close(found, mean / mean.norm(dim=1, keepdim=True))
    if images == 1:
        close(found, regions[0])
    order = torch.tensor([2, 0, 3, 1])
    close(region_prototypes(regions[:, order]), found[order])
    assert (region_prototypes(torch.cat([regions[:1], -regions[:1]])) == 0).all()


def test_region_types_and_nan():
    z, a, mask = unit(2, 4, 3, 3).float(), soft(2, 3, 3, 3).float(), torch.ones(2, 3, 3, dtype=torch.bool)
    found = region_embeddings(z, a, mask=mask)
    close(found, region_embeddings(z, a))
    prototypes = region_prototypes(found)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = region_embeddings(z, a, mask=mask)
        assert under.dtype == torch.float32 and torch.equal(under, found)
        assert torch.equal(region_prototypes(found), prototypes)
    assert region_embeddings(z.double(), a.double()).dtype == torch.float64
    for half in HALVES:
        narrow = region_embeddings(z.to(half), a.to(half))
        assert narrow.dtype == torch.float32
        close(narrow, region_embeddings(z.to(half).float(), a.to(half).float()))
        assert region_prototypes(found.to(half)).dtype == torch.float32
        close(region_prototypes(found.to(half)), region_prototypes(found.to(half).float()))
    z[1, 2, 0, 0] = math.nan
    broken = region_embeddings(z, a)
    assert broken[1].isnan().all() and torch.equal(broken[0], region_embeddings(z[:1], a[:1])[0])


def test_region_gradient_is_right():
    z, a = unit(2, 3, 2, 2).requires_grad_(), soft(2, 2, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(region_embeddings, (z, a))
    assert torch.autograd.gradcheck(region_prototypes, unit(3, 2, 3, dim=2).requires_grad_())


@pytest.mark.parametrize(
    ("z", "a", "mask", "message"),
    [
        ((2, 4, 3, 3), (1, 3, 3, 3), None, r"(?s)2, 4, 3, 3.*1, 3, 3, 3"),
        ((2, 4, 3, 3), (2, 3, 3, 4), None, r"(?s)2, 4, 3, 3.*2, 3, 3, 4"),
        ((2, 4, 3, 3), (2, 3, 9), None, r"(?s)2, 4, 3, 3.*2, 3, 9"),
        ((2, 4, 3, 3), (2, 3, 3, 3), (1, 3, 3), r"(?s)mask.*1, 3, 3"),
        ((2, 4, 3, 3), (2, 3, 3, 3), (2, 1, 3, 3), r"(?s)mask.*2, 1, 3, 3"),
        ((2, 4, 3, 3), (2, 3, 3, 3), (3, 3), r"(?s)mask.*3, 3"),
    ],
)
def test_regions_that_are_refused(z, a, mask, message):
    mask = None if mask is None else torch.ones(mask, dtype=torch.bool)
    with pytest.raises(ValueError, match=message):
        region_embeddings(torch.ones(z), torch.ones(a), mask=mask)
    with pytest.raises(ValueError, match=message):
        segment_target(torch.ones(z), torch.ones(a), mask=mask)


# ------------------------------------------------------------ region discrimination


def literal_loss(regions, prototypes, temperature=0.2):
    n, k, _ = regions.shape
    total = 0
    for i in range(n):
        for j in range(k):
            logits = torch.stack([regions[i, j] @ p / temperature for p in prototypes])
            total = total - (logits[j] - logits.logsumexp(0))
    return total / (n * k)


def literal_prototypes(regions):
    mean = regions.mean(0)
    return mean / (mean.norm(dim=1, keepdim=True) + 1e-10)


@pytest.mark.parametrize("case", ["region_a", "region_b"])
def test_region_loss_matches_the_reference(reference, case, dtype, device):
    regions = reference(f"{case}_embeddings", dtype, device).requires_grad_()
    loss = region_discrimination_loss(regions)
    assert loss.dtype == dtype and loss.device.type == device
    reference.check(loss, f"{case}_loss")
    loss.backward()
    reference.check(regions.grad, f"{case}_grad", gradient=True)


def test_region_loss_of_volumes_matches_the_reference(reference, dtype):
    regions, prototypes = reference("reg3_regions", dtype), reference("reg3_external_prototypes", dtype)
    reference.check(region_discrimination_loss(regions), "reg3_loss")
    reference.check(region_discrimination_loss(regions, temperature=0.5), "reg3_loss_t05")
    reference.check(region_discrimination_loss(regions, prototypes=prototypes), "reg3_loss_external")


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("images", [1, 3])
def test_region_loss_is_its_equation(images, detach):
    regions = unit(images, 4, 5, dim=2).requires_grad_()
    found = region_discrimination_loss(regions, detach_prototypes=detach, temperature=0.3)
    prototypes = literal_prototypes(regions)
    expected = literal_loss(regions, prototypes.detach() if detach else prototypes, 0.3)
    close(found, expected)
    own, literal = (torch.autograd.grad(x, regions)[0] for x in (found, expected))
    close(own, literal)


def test_detaching_changes_the_gradient_alone():
    regions = unit(3, 4, 5, dim=2).requires_grad_()
    flows, stops = (region_discrimination_loss(regions, detach_prototypes=d) for d in (False, True))
    assert torch.equal(flows, stops)
    assert not torch.allclose(torch.autograd.grad(flows, regions)[0], torch.autograd.grad(stops, regions)[0])
    given = unit(4, 5, seed=1).requires_grad_()
    region_discrimination_loss(regions, prototypes=given, detach_prototypes=True).backward()
    assert given.grad is None
    region_discrimination_loss(regions, prototypes=given).backward()
    assert given.grad.abs().max() > 0


@pytest.mark.parametrize(("clusters", "value"), [(16, 2.773), (8, 2.079), (6, 1.792)])
def test_equal_regions_cost_the_log_of_their_number(clusters, value, dtype):
    regions = unit(1, 1, 8, dim=2, dtype=dtype).expand(3, clusters, 8)
    found = float(region_discrimination_loss(regions))
    assert found == pytest.approx(math.log(clusters), rel=1e-6)
    assert found == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize(("clusters", "value"), [(16, 0.070), (8, 0.023), (6, 0.012)])
def test_the_best_prototypes_form_a_simplex(clusters, value, dtype):
    corners = torch.eye(clusters, dtype=dtype)
    simplex = torch.nn.functional.normalize(corners - 1 / clusters)
    best = float(region_discrimination_loss(simplex.expand(4, -1, -1)))
    assert best == pytest.approx(math.log(1 + (clusters - 1) * math.exp(-5 - 5 / (clusters - 1))), rel=1e-4)
    assert best == pytest.approx(value, abs=6e-4)
    orthogonal = float(region_discrimination_loss(corners.expand(4, -1, -1)))
    assert orthogonal == pytest.approx(math.log(1 + (clusters - 1) * math.exp(-5)), rel=1e-4)
    assert orthogonal > best
    if clusters == 16:
        assert orthogonal == pytest.approx(0.096, abs=6e-4)


def test_clusters_have_an_index_not_a_name():
    shared = torch.nn.functional.normalize(unit(1, 5, 6, dim=2) + 0.2 * noise(3, 5, 6, seed=1), dim=2)
    loss = region_discrimination_loss(shared)
    order = torch.tensor([3, 0, 4, 1, 2])
    close(region_discrimination_loss(shared[:, order]), loss)  # of all images
    close(region_discrimination_loss(shared.flip(0)), loss)
    one = shared.clone()
    one[1] = one[1, order]  # of one image
    assert float(region_discrimination_loss(one)) > float(loss) + 0.1


def test_an_empty_cluster_costs_the_log_of_the_number():
    regions = torch.eye(3, dtype=torch.float64).repeat(2, 1, 1)
    regions[0, 2] = 0
    full = math.log(1 + 2 * math.exp(-5))
    assert float(region_discrimination_loss(regions)) == pytest.approx((5 * full + math.log(3)) / 6)


def test_region_loss_types_and_nan():
    regions = unit(3, 4, 5, dim=2).float()
    copy = regions.clone()
    found = region_discrimination_loss(regions)
    assert found.shape == () and torch.equal(regions, copy)
    given = region_prototypes(regions)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(region_discrimination_loss(regions), found)
        assert torch.equal(region_discrimination_loss(regions, prototypes=given), found)
    for half in HALVES:
        narrow = region_discrimination_loss(regions.to(half))
        assert narrow.dtype == torch.float32
        close(narrow, region_discrimination_loss(regions.to(half).float()))
        assert region_discrimination_loss(regions, prototypes=given.to(half)).dtype == torch.float32
    close(region_discrimination_loss(20 * regions, prototypes=20 * given).isfinite(), torch.tensor(True))
    regions[2, 1, 0] = math.nan
    assert region_discrimination_loss(regions).isnan()


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((3, 1, 5), {}, r"\b1\b"),
        ((3, 4, 5), {"temperature": 0.0}, r"(?s)temperature.*0\.0"),
        ((3, 4, 5), {"temperature": -0.2}, r"(?s)temperature.*-0\.2"),
        ((3, 4, 5), {"prototypes": torch.ones(3, 5)}, r"(?s)prototypes.*3, 5"),
        ((3, 4, 5), {"prototypes": torch.ones(4, 6)}, r"(?s)prototypes.*4, 6"),
        ((3, 4, 5), {"prototypes": torch.ones(1, 4, 5)}, r"(?s)prototypes.*1, 4, 5"),
    ],
    ids=range(6),
)
def test_what_the_region_loss_refuses(shape, options, message):
    with pytest.raises(ValueError, match=message):
        region_discrimination_loss(torch.ones(shape), **options)


# ------------------------------------------------------------ entropy and area


def test_entropy_matches_the_reference(reference, dtype, device):
    a = reference("assign", dtype, device).requires_grad_()
    loss = assignment_entropy(a)
    assert loss.dtype == dtype and loss.device.type == device
    reference.check(loss, "assign_entropy")
    loss.backward()
    reference.check(a.grad, "assign_entropy_grad", gradient=True)
    reference.check(assignment_entropy(reference("assign_onehot", dtype, device)), "assign_onehot_entropy")
    for kind in ("binary", "categorical"):
        found = assignment_entropy(reference("reg3_assignments", dtype, device), kind=kind)
        reference.check(found, f"reg3_entropy_{kind}")


@pytest.mark.parametrize(("clusters", "value"), [(16, 0.337), (8, 0.544), (6, 0.650), (2, 1.0)])
def test_even_clusters_cost_what_is_known(clusters, value, dtype):
    even = torch.full((2, clusters, 3, 2), 1 / clusters, dtype=dtype)
    assert float(assignment_entropy(even)) == pytest.approx(value, abs=6e-4)
    categorical = assignment_entropy(even, kind="categorical")
    assert float(categorical) == pytest.approx(math.log2(clusters) / clusters, rel=1e-5)  # not summed over clusters


def test_the_worst_case_is_one_half():
    half = torch.zeros(1, 4, 3, dtype=torch.float64)
    half[:, :2] = 0.5
    assert float(assignment_entropy(half)) == pytest.approx(0.5)  # two of four questions are open
    assert assignment_entropy(half) < assignment_entropy(torch.full_like(half, 0.25))
    assert float(assignment_entropy(torch.full_like(half, 0.5))) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["binary", "categorical"])
def test_certain_voxels_cost_nothing(kind, dtype):
    onehot = torch.eye(3, dtype=dtype)[None].requires_grad_()
    loss = assignment_entropy(onehot, kind=kind)
    assert loss.item() == 0
    loss.backward()
    assert onehot.grad.isfinite().all()
    for half in HALVES:
        found = assignment_entropy(onehot.detach().to(half), kind=kind)
        assert found.dtype == torch.float32 and float(found) == 0


@pytest.mark.parametrize("kind", ["binary", "categorical"])
def test_entropy_types_gradient_and_nan(kind):
    a = soft(2, 3, 4)
    assert torch.autograd.gradcheck(lambda x: assignment_entropy(x, kind=kind), a.requires_grad_())
    order = torch.tensor([1, 2, 0])
    close(assignment_entropy(a[:, order], kind=kind), assignment_entropy(a, kind=kind))
    single = a.detach().float()
    found = assignment_entropy(single, kind=kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(assignment_entropy(single, kind=kind), found)
    for half in HALVES:
        narrow = assignment_entropy(single.to(half), kind=kind)
        assert narrow.dtype == torch.float32
        close(narrow, assignment_entropy(single.to(half).float(), kind=kind))
    single[0, 0, 0] = math.nan
    assert assignment_entropy(single, kind=kind).isnan()


def test_entropy_kind_is_checked():
    with pytest.raises(ValueError, match=r"kind.*ternary"):
        assignment_entropy(torch.full((1, 2, 3), 0.5), kind="ternary")


def test_area_matches_the_reference(reference, device):
    fraction = reference.number("assign_area_fraction")
    a = reference("assign", torch.float32, device)
    for norm in ("l2", "l1"):  # stored in single precision
        found = cluster_area_loss(a, target_fraction=fraction, norm=norm)
        assert found.dtype == torch.float32 and found.device.type == device
        reference.check(found, f"assign_area_{norm}")


def test_area_by_hand(dtype):
    a = torch.tensor([[[1.0, 0.5, 0.0, 0.0], [0.0, 0.5, 1.0, 1.0]]], dtype=dtype)  # shares 3/8 and 5/8
    assert float(cluster_area_loss(a, target_fraction=0.25)) == pytest.approx((1 / 64 + 9 / 64) / 2)
    assert float(cluster_area_loss(a, target_fraction=0.25, norm="l1")) == pytest.approx((1 / 8 + 3 / 8) / 2)
    assert float(cluster_area_loss(a)) == pytest.approx(((3 / 8 - 1 / 16) ** 2 + (5 / 8 - 1 / 16) ** 2) / 2)
    both = torch.cat([a, a.flip(1)])
    assert float(cluster_area_loss(both, target_fraction=0.25)) == pytest.approx(10 / 128)  # each image by itself
    even = torch.full((2, 16, 3, 3), 1 / 16, dtype=dtype)
    assert float(cluster_area_loss(even)) == float(cluster_area_loss(even, norm="l1")) == pytest.approx(0, abs=1e-7)
    with pytest.raises(ValueError, match=r"norm.*linf"):
        cluster_area_loss(a, norm="linf")
    for half in HALVES:
        assert cluster_area_loss(a.to(half)).dtype == torch.float32
    single = soft(2, 4, 3, 3).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = cluster_area_loss(single)
    assert torch.equal(under, cluster_area_loss(single))


# ------------------------------------------------------------ read-out


def test_read_out_matches_the_reference(reference, dtype, device):
    z, regions = (reference(f"reg3_{n}", dtype, device) for n in ("embeddings", "regions"))
    found = cosine_segmentation(z, regions)
    assert found.dtype == dtype and found.device.type == device
    reference.check(found, "reg3_cosine_segmentation")


def test_target_matches_the_reference(reference, dtype):
    z, a = reference("target_embeddings", dtype), reference("target_assignments", dtype)
    label = reference("target_label", torch.bool)
    found = segment_target(z, a, target=0, mask=reference("target_mask", torch.bool)[None])
    assert isinstance(found, TargetSegmentation)
    for part in ("assignment", "similarity"):
        map_ = getattr(found, part)
        assert map_.shape == (1, 6, 7) and map_.dtype == dtype
        eight_bit = reference(f"target_{part}_8bit", torch.long)
        if dtype == torch.float64:
            assert torch.equal((255 * map_[0]).floor().long(), eight_bit)
        assert ((255 * map_[0] - 0.5 - eight_bit).abs() <= 0.5 + 1e-3).all()
        cut = map_[0] > 0.5
        dice = 2 * (cut & label).sum() / (cut.sum() + label.sum())
        assert float(dice) == pytest.approx(reference.number(f"target_dice_{part}"), rel=1e-6)


@pytest.mark.parametrize("grid", [(3, 4), (2, 3, 2)])
def test_read_out_is_its_equation(grid):
    z, regions = unit(2, 4, *grid), unit(2, 3, 4, dim=2, seed=1)
    found = cosine_segmentation(z, regions, temperature=0.3)
    products = torch.einsum("bdx,bkd->bkx", z.flatten(2), regions) / 0.3
    close(found, (products.exp() / products.exp().sum(1, keepdim=True)).reshape(2, 3, *grid))
    close(found.sum(1), torch.ones(2, *grid, dtype=torch.float64))
    order = torch.tensor([2, 0, 1])
    close(cosine_segmentation(z, regions[:, order], temperature=0.3), found[:, order])
    even = cosine_segmentation(torch.zeros_like(z), regions)
    close(even, torch.full_like(even, 1 / 3))


@pytest.mark.parametrize("grid", [(3, 4), (2, 3, 2)])
@pytest.mark.parametrize("target", [0, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_target_is_both_maps_inside_the_mask(grid, target, masked):
    z, a = unit(2, 4, *grid), soft(2, 3, *grid, seed=1)
    mask = noise(2, *grid, seed=2) > 0 if masked else None
    found = segment_target(z, a, target=target, mask=mask, temperature=0.4)
    inside = 1.0 if mask is None else mask.double()
    close(found.assignment, a[:, target] * inside)
    regions = region_embeddings(z, a, mask=mask)
    close(found.similarity, cosine_segmentation(z, regions, temperature=0.4)[:, target] * inside)
    alone = segment_target(
        z[1:], a[1:], target=target, mask=None if mask is None else mask[1:], temperature=0.4
    )  # this image alone
    close(alone.similarity, found.similarity[1:])
    default = segment_target(z, a)
    close(default.similarity, cosine_segmentation(z, region_embeddings(z, a))[:, 0])


def test_read_out_types_and_nan():
    z, a = unit(2, 4, 3, 3).float(), soft(2, 3, 3, 3).float()
    regions = region_embeddings(z, a)
    found, maps = cosine_segmentation(z, regions), segment_target(z, a)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(cosine_segmentation(z, regions), found)
        under = segment_target(z, a)
    assert all(torch.equal(x, y) for x, y in zip(under, maps, strict=True))
    for half in HALVES:
        narrow = cosine_segmentation(z.to(half), regions.to(half))
        assert narrow.dtype == torch.float32
        close(narrow, cosine_segmentation(z.to(half).float(), regions.to(half).float()))
        assert all(x.dtype == torch.float32 for x in segment_target(z.to(half), a.to(half)))
    z[0, 0, 1, 1] = math.nan
    broken = cosine_segmentation(z, regions)
    assert broken[0, :, 1, 1].isnan().all() and broken.isnan().sum() == 3


@pytest.mark.parametrize(
    ("z", "regions", "temperature", "message"),
    [
        ((2, 4, 3, 3), (1, 3, 4), 0.2, r"(?s)2, 4, 3, 3.*1, 3, 4"),
        ((2, 4, 3, 3), (2, 3, 5), 0.2, r"(?s)2, 4, 3, 3.*2, 3, 5"),
        ((2, 4, 3, 3), (2, 3, 4), 0.0, r"(?s)temperature.*0\.0"),
        ((2, 4, 3, 3), (2, 3, 4), -1.0, r"(?s)temperature.*-1\.0"),
    ],
)
def test_read_outs_that_are_refused(z, regions, temperature, message):
    with pytest.raises(ValueError, match=message):
        cosine_segmentation(torch.ones(z), torch.ones(regions), temperature=temperature)


@pytest.mark.parametrize("target", [3, -1, 7])
def test_targets_that_are_refused(target):
    with pytest.raises(ValueError, match=rf"(?s)target.*{target}"):
        segment_target(torch.ones(1, 2, 4), torch.full((1, 3, 4), 1 / 3), target=target)
    with pytest.raises(ValueError, match=r"(?s)temperature.*0\.0"):
        segment_target(torch.ones(1, 2, 4), torch.full((1, 3, 4), 1 / 3), temperature=0.0)


def test_one_cluster_is_refused_everywhere():
    z, a, regions = torch.ones(2, 4, 3, 3), torch.ones(2, 1, 3, 3), torch.ones(2, 1, 4)
    for refused in (
        lambda: cluster_assignments(a),
        lambda: region_embeddings(z, a),
        lambda: region_prototypes(regions),
        lambda: region_discrimination_loss(regions),
        lambda: assignment_entropy(a),
        lambda: cluster_area_loss(a),
        lambda: cosine_segmentation(z, regions),
        lambda: segment_target(z, a),
    ):
        with pytest.raises(ValueError, match=r"2 clusters.*\b1\b"):
            refused()
