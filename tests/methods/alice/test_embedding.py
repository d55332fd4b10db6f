"""The anatomical embedding, its views and its losses: reference numbers, brute force, laws, edges, messages."""

import itertools
import math

import pytest
import torch
from torch.nn.functional import interpolate, normalize

from medssl_nb.methods.alice import (
    AnatomicalEmbedding,
    AnatomicalEmbeddingNet,
    anatomical_embedding_loss,
    coarse_contrastive_loss,
    fine_contrastive_loss,
    info_nce_loss,
    sample_overlapping_views,
)

HALVES = [torch.float16, torch.bfloat16]
ALL = 10**6
FREE_FINE = {name: ALL for name in ("max_candidates", "max_queries", "hard_negatives", "sampled_negatives")}
FREE_COARSE = {name: ALL for name in ("hard_negatives", "sampled_negatives", "global_negatives")}


def seeded(number=0):
    return torch.Generator().manual_seed(number)


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


def unit(*shape, dim, seed=0, dtype=torch.float64):
    return normalize(noise(*shape, seed=seed), dim=dim).to(dtype)


def lattice(*size, step=1.0, start=0.0):
    """Coordinates (n, *size) of a regular grid."""
    axes = [start + step * torch.arange(s, dtype=torch.float64) for s in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def close(found, expected, **tolerance):
    torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(expected), check_dtype=False, **tolerance)


# ------------------------------------------------------------ the network


def small_net(**changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AnatomicalEmbeddingNet(**{"spatial_dims": 2, "widths": (8, 8, 8, 8), "embedding_dim": 8, **changes})


@pytest.mark.parametrize(
    ("size", "strides", "fine", "coarse"),
    [
        ((32, 32), (2, 2, 2, 2), (16, 16), (2, 2)),
        ((16, 48), (2, 2, 2, 2), (8, 24), (1, 3)),
        ((16, 16, 32), (2, 2, 2, 2), (8, 8, 16), (1, 1, 2)),
        ((8, 32, 16), (2, 2, (1, 2, 2), (1, 2, 2)), (4, 16, 8), (2, 2, 1)),
        ((12, 8), (2, (1, 2), 1, 2), (6, 4), (3, 1)),
    ],
)
def test_maps_have_their_strides_and_unit_length(size, strides, fine, coarse):
    net = small_net(spatial_dims=len(size), in_channels=2, embedding_dim=6, strides=strides)
    x = noise(2, 2, *size, dtype=torch.float32)
    found = net(x)
    assert isinstance(found, AnatomicalEmbedding)
    assert found.fine.shape == (2, 6, *fine) and found.coarse.shape == (2, 6, *coarse)
    for part in found:
        assert part.dtype == torch.float32
        close(part.norm(dim=1), torch.ones(part.shape[0], *part.shape[2:]), rtol=0, atol=1e-5)
    for part, alone in zip(found, net(x[1:]), strict=True):  # group norm: no sample sees another, also in train mode
        close(part[1:], alone, rtol=1e-4, atol=1e-5)


def test_sides_that_are_no_multiple_of_the_stride():
    found = small_net()(noise(1, 1, 18, 35, dtype=torch.float32))
    for side, cells in zip((18, 35), found.fine.shape[2:], strict=True):
        assert side // 2 <= cells <= (side + 1) // 2
    assert all(part.isfinite().all() for part in found)


def test_the_last_stage_feeds_the_coarse_map_only():
    net = small_net(widths=(8, 16, 24, 32), embedding_dim=40)
    x = noise(1, 1, 32, 32, dtype=torch.float32).requires_grad_()
    pulls = {}
    for name in ("fine", "coarse"):
        net.zero_grad()
        part = getattr(net(x), name)
        (part * noise(*part.shape, seed=1, dtype=torch.float32)).sum().backward()
        pulls[name] = {n: float(p.grad.abs().sum()) if p.grad is not None else 0.0 for n, p in net.named_parameters()}
    last = {n for n, p in net.named_parameters() if 32 in p.shape[:2]}
    assert last and all(pulls["fine"][n] == 0 for n in last)
    assert any(pulls["coarse"][n] > 0 for n in last)
    for width in (8, 16, 24):
        assert any(pulls["fine"][n] > 0 for n, p in net.named_parameters() if width in p.shape[:2])
    idle = {n for n in pulls["fine"] if pulls["fine"][n] == pulls["coarse"][n] == 0}
    assert not {n for n in idle if n.endswith("weight")}  # nothing is built and never used
    assert x.grad.abs().sum() > 0


def test_flat_images_and_autocast_keep_lengths():
    net = small_net()
    for value in (0.0, 1.0):
        found = net(torch.full((1, 1, 32, 32), value))
        assert all(part.isfinite().all() for part in found)
    x = noise(1, 1, 32, 32, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = net(x)
    for part, exact in zip(mixed, net(x), strict=True):
        assert part.dtype == torch.float32
        close(part.norm(dim=1), torch.ones(1, *part.shape[2:]), rtol=0, atol=1e-5)
        assert (part * exact).sum(1).mean() > 0.95


def test_a_network_in_double_precision_and_a_half_image():
    net = small_net().double()
    assert all(part.dtype == torch.float64 for part in net(noise(1, 1, 32, 32)))
    broken = noise(2, 1, 32, 32)
    broken[0, 0, 3, 4] = math.nan
    found = net(broken)
    assert found.fine[0].isnan().any() and found.fine[1].isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spatial_dims": 1}, r"spatial_dims.*\b1\b"),
        ({"spatial_dims": 4}, r"spatial_dims.*\b4\b"),
        ({"widths": (8, 8, 12, 8)}, r"(?s)widths.*12"),
        ({"widths": (8, 8, 8)}, r"(?s)widths.*8, 8, 8"),
        ({"strides": (2, 2, 2)}, r"(?s)strides.*2, 2, 2"),
        ({"strides": (2, 2, 2, (1, 2, 2))}, r"(?s)strides.*1, 2, 2"),
        ({"strides": (2, 2, 0, 2)}, r"(?s)strides.*0"),
        ({"embedding_dim": 0}, r"embedding_dim.*0"),
    ],
)
def test_networks_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small_net(**options)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 1, 32, 15), r"(?s)16.*32, 15"),  # below the coarse stride
        ((1, 1, 8, 8), r"(?s)16.*8, 8"),
        ((1, 1, 16, 16), r"(?s)16"),  # the last stage would have one position
        ((1, 2, 32, 32), r"(?s)1.*2"),  # channels
        ((1, 1, 32, 32, 32), r"32, 32, 32"),
        ((1, 32, 32), r"32, 32"),
    ],
)
def test_images_that_the_network_refuses(shape, message):
    with pytest.raises(ValueError, match=message):
        small_net()(torch.zeros(shape))


# ------------------------------------------------------------ two views of one volume


def unfold_coordinates(coordinates, crop, spacing):
    """Per view and axis: first voxel and extent of the crop, read off coordinates that must form a regular grid."""
    boxes = []
    for view in coordinates.double():
        box = []
        for axis, (side, step) in enumerate(zip(crop, spacing, strict=True)):
            line = view[axis].movedim(axis, 0).flatten(1)
            assert torch.equal(line, line[:, :1].expand_as(line))  # depends on its own axis alone
            line = line[:, 0] / step
            extent = round(float((line[-1] - line[0]) / (side - 1) * side))
            first = round(float(line[0] + 0.5 - 0.5 * extent / side))
            close(line, first + (torch.arange(side).double() + 0.5) * extent / side - 0.5, rtol=0, atol=1e-4)
            box.append((first, extent))
        boxes.append(box)
    return boxes


def interpolated(volume, positions):
    """Values (C, *crop) of a volume (C, *S) at positions (n, *crop) given in voxels; multilinear, by hand."""
    n = len(positions)
    below = [p.floor().long().clamp(0, side - 1) for p, side in zip(positions, volume.shape[1:], strict=True)]
    result = 0
    for corner in itertools.product((0, 1), repeat=n):
        weight, index = 1, []
        for axis, up in enumerate(corner):
            part = positions[axis] - below[axis]
            weight = weight * (part if up else 1 - part)
            index.append((below[axis] + up).clamp(max=volume.shape[axis + 1] - 1))
        result = result + weight * volume[(slice(None), *index)]
    return result


@pytest.mark.parametrize(
    ("size", "crop", "spacing"),
    [((12, 15), (6, 8), 1.0), ((14, 11), (5, 6), (0.5, 2.0)), ((10, 9, 12), (6, 5, 7), (1.0, 3.0, 0.7))],
)
@pytest.mark.parametrize("scales", [(0.6, 1.4), (1.0, 1.0)])
def test_coordinates_reproduce_the_parent(size, crop, spacing, scales, steady):
    volume = noise(2, *size)
    copy = volume.clone()
    steps = spacing if isinstance(spacing, tuple) else (spacing,) * len(size)
    for seed in range(6):
        views, coordinates = sample_overlapping_views(
            volume, crop, spacing=spacing, scale_range=scales, noise_std=0.0, generator=seeded(seed)
        )
        assert views.shape == (2, 2, *crop) and coordinates.shape == (2, len(size), *crop)
        for view, where, box in zip(views, coordinates, unfold_coordinates(coordinates, crop, steps), strict=True):
            scale_low, scale_high = scales
            positions = []
            for axis, (first, extent) in enumerate(box):
                assert first >= 0 and first + extent <= size[axis]
                scale_low = max(scale_low, (extent - 0.5) / crop[axis])  # one scale explains every axis
                scale_high = min(scale_high, (extent + 0.5) / crop[axis])
                inside = (where[axis].double() / steps[axis]).clamp(first, first + extent - 1)  # edges do not look out
                positions.append(inside)
            assert scale_low <= scale_high
            close(view, interpolated(volume, torch.stack(positions)), rtol=0, atol=1e-4)
    assert torch.equal(volume, copy)


def test_each_view_has_its_own_scale_within_the_range():
    extents = []
    for seed in range(40):
        _, coordinates = sample_overlapping_views(
            torch.zeros(1, 60, 60), (20, 20), scale_range=(0.5, 1.5), generator=seeded(seed)
        )
        boxes = unfold_coordinates(coordinates, (20, 20), (1, 1))
        extents.append([box[0][1] for box in boxes])
        assert all(box[0][1] == box[1][1] for box in boxes)
    assert sum(a != b for a, b in extents) > 30
    flat = [extent for pair in extents for extent in pair]
    assert 10 <= min(flat) < 14 and 26 < max(flat) <= 30


@pytest.mark.parametrize(("probability", "low", "high"), [(1.0, 60, 60), (0.5, 20, 45), (0.0, 0, 12)])
def test_views_share_a_point_as_often_as_told(probability, low, high):
    overlaps, starts = 0, []
    for seed in range(60):
        _, coordinates = sample_overlapping_views(
            torch.zeros(1, 8, 200), (4, 8), scale_range=(1, 1), overlap_probability=probability, generator=seeded(seed)
        )
        (one, two) = unfold_coordinates(coordinates, (4, 8), (1, 1))
        overlaps += all(a < b + m and b < a + k for (a, k), (b, m) in zip(one, two, strict=True))
        starts += [one[1][0], two[1][0]]
    assert low <= overlaps <= high
    assert min(starts) < 30 and max(starts) > 162  # every part of the parent is visited


def test_noise_is_added_last_and_once_per_voxel():
    volume = torch.full((1, 40, 40), 0.5)
    draw = {"volume": volume, "crop_size": (30, 30), "generator": None}
    still, where = sample_overlapping_views(**{**draw, "generator": seeded(3)}, noise_std=0.0)
    noisy, there = sample_overlapping_views(**{**draw, "generator": seeded(3)}, noise_std=0.1)
    close(still, torch.full_like(still, 0.5))
    assert torch.equal(where, there)  # coordinates carry no noise, and draw before it
    difference = noisy - still
    close(difference.flatten(1).std(1), torch.full((2,), 0.1), rtol=0.15, atol=0)
    assert float(difference.mean().abs()) < 0.01
    assert abs(float(torch.corrcoef(difference.reshape(2, -1))[0, 1])) < 0.15  # each view has its own
    assert abs(float((difference[..., 1:] * difference[..., :-1]).mean())) < 0.003  # not smoothed by the resizing
    usual, _ = sample_overlapping_views(**{**draw, "generator": seeded(3)})
    close((usual - still).std(), 0.03, rtol=0.15, atol=0)


def test_views_repeat_with_their_generator(steady):
    volume = noise(1, 20, 20, dtype=torch.float32)
    first, again, other = (sample_overlapping_views(volume, (8, 8), generator=seeded(n)) for n in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert first[0].dtype == torch.float32 and first[1].dtype in (torch.float32, torch.float64)


@pytest.mark.parametrize("half", HALVES)
def test_coordinates_keep_their_digits_beside_half_precision_volumes(half):
    volume = noise(1, 40, 40).to(half)
    views, coordinates = sample_overlapping_views(volume, (8, 8), spacing=13.7, noise_std=0.0, generator=seeded())
    _, exact = sample_overlapping_views(volume.float(), (8, 8), spacing=13.7, noise_std=0.0, generator=seeded())
    assert coordinates.dtype in (torch.float32, torch.float64)
    close(coordinates, exact, rtol=1e-6, atol=1e-5)
    assert views.isfinite().all()


def test_a_crop_may_fill_the_volume():
    volume = noise(1, 6, 7)
    views, coordinates = sample_overlapping_views(volume, (6, 7), scale_range=(1, 1), noise_std=0.0, generator=seeded())
    close(views, volume.expand(2, 1, 6, 7), rtol=0, atol=1e-6)
    close(coordinates, lattice(6, 7).expand(2, 2, 6, 7), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("crop", "options", "message"),
    [
        ((8, 8), {"scale_range": (0.8, 1.6)}, r"(?s)crop.*8, 8.*1\.6"),
        ((8, 11), {}, r"(?s)crop.*8, 11"),
        ((8,), {}, r"crop_size.*8"),
        ((8, 8, 8), {}, r"crop_size.*8, 8, 8"),
        ((8, 0), {}, r"crop_size.*0"),
        ((4, 4), {"scale_range": (1.2, 0.8)}, r"scale_range.*1\.2, 0\.8"),
        ((4, 4), {"scale_range": (0.0, 1.0)}, r"scale_range.*0"),
        ((4, 4), {"overlap_probability": 1.5}, r"overlap_probability.*1\.5"),
        ((4, 4), {"overlap_probability": -0.1}, r"overlap_probability.*-0\.1"),
        ((4, 4), {"noise_std": -1.0}, r"noise_std.*-1"),
        ((4, 4), {"spacing": 0.0}, r"spacing.*0"),
        ((4, 4), {"spacing": (1.0, -2.0)}, r"spacing.*-2"),
        ((4, 4), {"spacing": (1.0, 1.0, 1.0)}, r"spacing.*1\.0, 1\.0, 1\.0"),
    ],
)
def test_views_that_are_refused(crop, options, message):
    with pytest.raises(ValueError, match=message):
        sample_overlapping_views(torch.zeros(1, 12, 12), crop, generator=seeded(), **options)


# ------------------------------------------------------------ InfoNCE


def test_info_nce_matches_the_reference(reference, dtype, device):
    found = info_nce_loss(
        *(reference(f"info_nce/{n}", dtype, device) for n in ("positive", "negatives")),
        reference.number("info_nce/temperature"),
    )
    assert found.dtype == dtype and found.device.type == device
    reference.check(found, "info_nce/expected")


def test_info_nce_by_hand(dtype):
    even = info_nce_loss(torch.zeros(3, dtype=dtype), torch.zeros(3, 7, dtype=dtype))
    assert even.shape == () and float(even) == pytest.approx(math.log(8))
    positive, negatives = torch.tensor([1.0, 0.2], dtype=dtype), torch.tensor([[0.5], [-0.3]], dtype=dtype)
    expected = (math.log(1 + math.exp(-0.5 / 0.1)) + math.log(1 + math.exp(-0.5 / 0.1))) / 2
    assert float(info_nce_loss(positive, negatives, 0.1)) == pytest.approx(expected, rel=1e-4)
    assert float(info_nce_loss(positive, negatives)) == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-5)  # 0.5


def test_missing_negatives_add_nothing(dtype):
    positive, negatives = noise(4, dtype=dtype), noise(4, 3, seed=1, dtype=dtype)
    missing = torch.full((4, 5), -math.inf, dtype=dtype)
    close(info_nce_loss(positive, torch.cat([missing, negatives], 1)), info_nce_loss(positive, negatives))
    alone = positive.clone().requires_grad_()
    nothing = missing.clone().requires_grad_()
    found = info_nce_loss(alone, nothing)
    found.backward()
    assert float(found.detach()) == 0 and (alone.grad == 0).all() and (nothing.grad == 0).all()
    assert float(info_nce_loss(positive, missing[:, :0])) == 0
    close(info_nce_loss(positive + 1e4, negatives + 1e4), info_nce_loss(positive, negatives), rtol=1e-2, atol=1e-2)


def test_info_nce_gradient_types_and_nan():
    positive, negatives = noise(4).requires_grad_(), noise(4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda p, n: info_nce_loss(p, n, 0.3), (positive, negatives))
    single = [t.detach().float() for t in (positive, negatives)]
    expected = info_nce_loss(*single, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(info_nce_loss(*single, 0.1), expected)
    for half in HALVES:
        narrow = [t.to(half) for t in single]
        found = info_nce_loss(*narrow, 0.1)
        assert found.dtype == torch.float32
        close(found, info_nce_loss(*(t.float() for t in narrow), 0.1))
    single[1][2, 0] = math.nan
    assert info_nce_loss(*single).isnan()


@pytest.mark.parametrize(
    ("shapes", "temperature", "message"),
    [
        (((3,), (3, 2)), 0.0, r"temperature.*0"),
        (((3,), (3, 2)), -0.5, r"temperature.*-0\.5"),
        (((3,), (2, 2)), 0.5, r"(?s)3.*2"),
        (((3, 1), (3, 2)), 0.5, r"(?s)3, 1"),
        (((3,), (3,)), 0.5, r"(?s)3,"),
    ],
)
def test_info_nce_refusals(shapes, temperature, message):
    with pytest.raises(ValueError, match=message):
        info_nce_loss(*(torch.zeros(s) for s in shapes), temperature)


# ------------------------------------------------------------ brute force


def term(positive, negatives, temperature):
    """One query: -log of the positive's share, negatives a 1-D tensor."""
    logits = torch.cat([positive.reshape(1), negatives]) / temperature
    return float(logits.logsumexp(0) - logits[0])


def distances(a, b):
    """All distances between coordinates (n, N) and (n, M), from differences."""
    return (a[:, :, None] - b[:, None, :]).square().sum(0).sqrt()


def highest(scores, wanted):
    return scores.argsort(descending=True)[:wanted]


def fine_queries(fine, coarse, x, valid, positive_radius, ignore_radius, hard=ALL):
    """Queries of both directions: a list per view of (positive similarity, similarities of the hard negatives).

    Written from the description of the loss, with as little cleverness as possible.
    """
    n, size = x.shape[1], fine.shape[2:]
    mode = {2: "bilinear", 3: "trilinear"}[n]
    context = normalize(interpolate(coarse.double(), size, mode=mode, align_corners=False), dim=1).flatten(2)
    f, x = fine.double().flatten(2), x.double().flatten(2)
    valid = torch.ones(2, x.shape[2], dtype=torch.bool) if valid is None else valid.flatten(1).bool()
    boxes = [(x[v][:, valid[v]].amin(1), x[v][:, valid[v]].amax(1)) for v in (0, 1)]
    low, high = torch.maximum(boxes[0][0], boxes[1][0]), torch.minimum(boxes[0][1], boxes[1][1])
    if (low > high).any():
        own = []
        for i in range(x.shape[2]):
            far = distances(x[0][:, i : i + 1], x[0])[0] >= ignore_radius
            own.append((f[0][:, i] @ f[0][:, i], (f[0][:, i] @ f[0])[far]))
        return [own, []]
    kept = []
    for v in (0, 1):
        inside = valid[v] & (x[v] >= low[:, None]).all(0) & (x[v] <= high[:, None]).all(0)
        candidates = [i for i in range(x.shape[2]) if inside[i]]
        nearest = {i: distances(x[v][:, i : i + 1], x[1 - v])[0].min(0) for i in candidates}
        kept.append((candidates, nearest, [i for i in candidates if nearest[i].values < positive_radius]))
    if not kept[0][2]:
        chosen = []
        for candidates, nearest, _ in kept:
            smallest = min((float(nearest[i].values) for i in candidates), default=0.0)
            chosen.append([i for i in candidates if nearest[i].values < smallest + 0.5])
    else:
        chosen = [queries for *_, queries in kept]
    all_x, all_f, all_c = (torch.cat([t[0], t[1]], 1) for t in (x, f, context))
    found = []
    for v in (0, 1):
        own = []
        for i in chosen[v]:
            partner = int(kept[v][1][i].indices)
            far = distances(x[v][:, i : i + 1], all_x)[0] >= ignore_radius
            similarity = f[v][:, i] @ all_f
            hardness = (similarity + context[v][:, i] @ all_c)[far]
            own.append((f[v][:, i] @ f[1 - v][:, partner], similarity[far][highest(hardness, hard)]))
        found.append(own)
    return found


def fine_by_hand(*inputs, temperature=0.5, hard=ALL, own_limit=ALL, **radii):
    """Mean over the queries; `own_limit`: negatives per query of views that do not overlap."""
    queries = [query for side in fine_queries(*inputs, **radii, hard=hard) for query in side]
    terms = [term(p, negatives[highest(negatives, own_limit)], temperature) for p, negatives in queries]
    return sum(terms) / len(terms)


def coarse_terms(coarse, x, positive_radius, ignore_radius, axial_radius, axial_axis, hard, globals_wanted, pick):
    """Per volume, per direction, per query: (positive, negatives of the volume, those of other volumes)."""
    f, x = coarse.double().flatten(3), x.double().flatten(3)
    volumes = []
    for v in range(len(f)):
        others = [f[w, view] for w in range(len(f)) if w != v for view in (0, 1)]
        others = torch.cat(others, 1) if others and globals_wanted else f.new_zeros(f.shape[2], 0)
        both_f, both_x = torch.cat([f[v, 0], f[v, 1]], 1), torch.cat([x[v, 0], x[v, 1]], 1)
        sides = []
        for view in (0, 1):
            side = []
            for i in range(f.shape[3]):
                d, j = distances(x[v, view][:, i : i + 1], x[v, 1 - view])[0].min(0)
                along = (x[v, view][axial_axis, i] - x[v, 1 - view][axial_axis, j]).abs()
                if d < positive_radius and along < axial_radius:
                    here = f[v, view][:, i]
                    far = distances(x[v, view][:, i : i + 1], both_x)[0] >= ignore_radius
                    own = (here @ both_f)[far]
                    own = own[highest(own, hard)]
                    side.append((here @ f[v, 1 - view][:, j], own, here @ others))
            sides.append(side)
        if not sides[0]:
            sides = []
            for view in (0, 1):
                side = []
                for i in range(f.shape[3]):
                    here = f[v, view][:, i]
                    ranked = (here @ both_f).sort(descending=True).values[: pick + 1]
                    side.append((ranked[0], ranked[1:], here @ others))
                sides.append(side)
        volumes.append(sides)
    return volumes


def coarse_by_hand(
    coarse,
    x,
    *,
    positive_radius=25.0,
    ignore_radius=5.0,
    axial_radius=6.0,
    axial_axis=0,
    temperature=0.5,
    hard=ALL,
    pick=ALL,
    globals_wanted=True,
):
    volumes = coarse_terms(
        coarse, x, positive_radius, ignore_radius, axial_radius, axial_axis, hard, globals_wanted, pick
    )
    means = []
    for sides in volumes:
        terms = [term(p, torch.cat([own, others]), temperature) for side in sides for p, own, others in side]
        means.append(sum(terms) / len(terms))
    return sum(means) / len(means)


# ------------------------------------------------------------ fine loss


def fine_reference(reference, dtype, device="cpu"):
    fine, coarse, x = (reference(f"sam_fine/{n}", dtype, device) for n in ("fine", "coarse", "coordinates"))
    positive, ignore, hard, temperature = reference.number("sam_fine/config")
    options = {"positive_radius": positive, "ignore_radius": ignore, "temperature": temperature}
    limits = {**FREE_FINE, "hard_negatives": int(hard), "sampled_negatives": int(hard)}
    return (fine, coarse, x, reference("sam_fine/valid", torch.bool, device)), options, limits


def test_fine_loss_matches_the_reference(reference, dtype, device):
    inputs, options, limits = fine_reference(reference, dtype, device)
    fine, coarse = inputs[0].requires_grad_(), inputs[1].requires_grad_()
    found = fine_contrastive_loss(fine, coarse, *inputs[2:], **options, **limits, generator=seeded())
    assert found.shape == () and found.dtype == dtype and found.device.type == device
    reference.check(found, "sam_fine/loss")
    found.backward()
    reference.check(fine.grad, "sam_fine/grad_fine")
    assert coarse.grad is None or (coarse.grad == 0).all()


def test_brute_force_agrees_with_the_reference(reference):
    inputs, options, limits = fine_reference(reference, torch.float64)
    expected = reference.number("sam_fine/loss")
    assert fine_by_hand(*inputs, **options, hard=limits["hard_negatives"]) == pytest.approx(expected, rel=1e-7)
    coarse, x, options, limits = coarse_reference(reference, torch.float64)
    found = coarse_by_hand(coarse, x, **options, hard=limits["hard_negatives"])
    assert found == pytest.approx(reference.number("sam_coarse/loss"), rel=1e-7)


def fine_case(size=(4, 5), coarse_size=(2, 2), shift=1.3, seed=0, dim=6):
    """Two views on jittered grids that lie `shift` apart along the first axis."""
    n = len(size)
    x = torch.stack([lattice(*size, step=1.1), lattice(*size)]) + 0.15 * noise(2, n, *size, seed=seed)
    x[1, 0] += shift
    return unit(2, dim, *size, dim=1, seed=seed + 1), unit(2, dim, *coarse_size, dim=1, seed=seed + 2), x


@pytest.mark.parametrize(
    ("size", "coarse_size"), [((4, 5), (2, 2)), ((3, 7), (1, 3)), ((3, 4, 3), (2, 2, 1)), ((2, 3, 4), (2, 3, 4))]
)
@pytest.mark.parametrize("hard", [3, ALL])
@pytest.mark.parametrize("masked", [False, True])
def test_fine_loss_equals_brute_force(size, coarse_size, hard, masked, steady):
    for seed, (positive, ignore) in enumerate([(0.8, 1.6), (0.5, 0.0), (1.5, 1.0)]):
        fine, coarse, x = fine_case(size, coarse_size, seed=10 * seed)
        valid = noise(2, 1, *size, seed=seed + 5) > -0.7 if masked else None
        radii = {"positive_radius": positive, "ignore_radius": ignore}
        limits = {**FREE_FINE, "hard_negatives": hard, "sampled_negatives": hard}
        found = fine_contrastive_loss(
            fine, coarse, x, valid, **radii, **limits, temperature=0.3, generator=seeded(seed)
        )
        expected = fine_by_hand(fine, coarse, x, valid, **radii, temperature=0.3, hard=hard, own_limit=hard)
        assert float(found) == pytest.approx(expected, rel=1e-9)


def test_defaults_of_the_fine_loss():
    fine, coarse, x = fine_case()
    found = fine_contrastive_loss(fine, coarse, 4 * x)
    assert float(found) == pytest.approx(
        fine_by_hand(fine, coarse, 4 * x, None, positive_radius=5.0, ignore_radius=3.0), rel=1e-9
    )


def test_fine_loss_does_not_depend_on_the_order_of_voxels():
    fine, coarse, x = fine_case((4, 5), (4, 5))
    order = torch.randperm(20, generator=seeded(4))

    def moved(t):
        return t.flatten(2)[:, :, order].reshape(t.shape)

    radii = {"positive_radius": 0.9, "ignore_radius": 1.5}
    close(
        fine_contrastive_loss(moved(fine), moved(coarse), moved(x), **radii, **FREE_FINE),
        fine_contrastive_loss(fine, coarse, x, **radii, **FREE_FINE),
    )
    flipped = [t.flip(0) for t in (fine, coarse, x)]  # both views count alike
    close(
        fine_contrastive_loss(*flipped, **radii, **FREE_FINE),
        fine_contrastive_loss(fine, coarse, x, **radii, **FREE_FINE),
    )


def test_fine_radii_are_strict_for_positives_and_inclusive_for_negatives(dtype):
    size = (6, 6)
    grid = lattice(*size) + 777
    partner = grid + 0.0
    partner[0] += torch.where((grid.sum(0) % 2) == 0, 0.25, 0.125)
    x = torch.stack([grid, partner]).to(dtype)  # binary fractions: exact in float32
    fine, coarse = unit(2, 5, *size, dim=1).to(dtype), unit(2, 5, 2, 2, dim=1, seed=1).to(dtype)
    values = []
    for radii in ((0.25, 2.0), (0.2500001, 2.0), (0.25, 2.0000002)):
        radii = dict(zip(("positive_radius", "ignore_radius"), radii, strict=True))
        found = fine_contrastive_loss(fine, coarse, x, **radii, **FREE_FINE)
        values.append(float(found))
        assert float(found) == pytest.approx(fine_by_hand(fine, coarse, x, None, **radii), rel=1e-5)
    assert abs(values[1] - values[0]) > 1e-3 and abs(values[2] - values[0]) > 1e-3


def test_without_close_positives_the_closest_are_taken():
    """Nothing of view a is within the radius: both selections fall back to the smallest distance + 0.5."""
    fine, coarse, x = fine_case(shift=1.3, seed=3)
    x = 3 * x
    radii = {"positive_radius": 0.0, "ignore_radius": 1.0}
    found = float(fine_contrastive_loss(fine, coarse, x, **radii, **FREE_FINE))
    chosen = fine_queries(fine, coarse, x, None, 0.0, 1.0)
    widest = fine_queries(fine, coarse, x, None, 100.0, 1.0)
    assert all(0 < len(few) < len(many) for few, many in zip(chosen, widest, strict=True))
    assert found == pytest.approx(fine_by_hand(fine, coarse, x, None, **radii), rel=1e-9)


def lopsided():
    """Views with a single pair of close voxels."""
    fine, coarse, _ = fine_case((3, 4), (2, 2))
    x = torch.stack([lattice(3, 4, step=3.0), lattice(3, 4, step=3.0) + 0.9 + 0.05 * noise(2, 3, 4)])
    x[1, :, 1, 1] = x[0, :, 1, 2] + 0.1  # the one close pair
    valid = torch.ones(2, 1, 3, 4, dtype=torch.bool)
    return fine, coarse, x, valid


@pytest.mark.parametrize("hidden", [0, 1])
def test_the_fallback_asks_view_a_and_replaces_both(hidden):
    fine, coarse, x, valid = lopsided()
    valid[0, 0, 1, 2] = hidden != 0  # the close voxel of a, or of b, is no candidate
    valid[1, 0, 1, 1] = hidden != 1
    radii = {"positive_radius": 0.5, "ignore_radius": 2.0}
    found = float(fine_contrastive_loss(fine, coarse, x, valid, **radii, **FREE_FINE))
    queries = fine_queries(fine, coarse, x, valid, 0.5, 2.0)
    assert found == pytest.approx(fine_by_hand(fine, coarse, x, valid, **radii), rel=1e-9)
    if hidden == 0:  # a keeps none: a takes its second best, b's single close query stays the only one below + 0.5
        assert len(queries[0]) > 1 and len(queries[1]) == 1
    else:  # a keeps one, b none: no fallback, one query in all
        assert [len(q) for q in queries] == [1, 0]


def test_positives_may_be_invalid_voxels():
    """The nearest voxel of the other view counts, valid or not; so do negatives."""
    fine, coarse, x = fine_case((3, 4), (2, 2), shift=0.2)
    valid = torch.ones(2, 1, 3, 4, dtype=torch.bool)
    valid[1, 0, 1] = False
    radii = {"positive_radius": 0.6, "ignore_radius": 1.0}
    found = fine_contrastive_loss(fine, coarse, x, valid, **radii, **FREE_FINE)
    assert float(found) == pytest.approx(fine_by_hand(fine, coarse, x, valid, **radii), rel=1e-9)
    moved = fine.clone()
    moved[1, :, 1] = unit(6, 4, dim=0, seed=9)
    assert float(fine_contrastive_loss(moved, coarse, x, valid, **radii, **FREE_FINE)) != pytest.approx(float(found))


def test_views_that_only_touch_overlap():
    fine, coarse, _ = fine_case((4, 4), (2, 2))
    x = torch.stack([lattice(4, 4), lattice(4, 4) + torch.tensor([3.0, 0.25]).reshape(2, 1, 1)])
    radii = {"positive_radius": 0.5, "ignore_radius": 1.5}
    together = float(fine_contrastive_loss(fine, coarse, x, **radii, **FREE_FINE))
    assert together == pytest.approx(fine_by_hand(fine, coarse, x, None, **radii), rel=1e-9)
    x[1, 0] += 0.01
    apart = float(fine_contrastive_loss(fine, coarse, x, **radii, **FREE_FINE))
    assert apart == pytest.approx(fine_by_hand(fine, coarse, x, None, **radii), rel=1e-9)
    assert apart != pytest.approx(together)


@pytest.mark.parametrize("limit", [2, ALL])
def test_views_apart_push_the_voxels_of_view_a_apart(limit):
    fine, coarse, x = fine_case(shift=1000.0)
    radii = {"positive_radius": 0.9, "ignore_radius": 1.5}
    limits = {**FREE_FINE, "sampled_negatives": limit}
    found = fine_contrastive_loss(fine, coarse, x, **radii, **limits, temperature=0.2)
    expected = fine_by_hand(fine, coarse, x, None, **radii, temperature=0.2, own_limit=limit)
    assert float(found) == pytest.approx(expected, rel=1e-9)
    other = fine.clone()
    other[1] = unit(6, 4, 5, dim=0, seed=8)
    close(fine_contrastive_loss(other, -coarse, x, **radii, **limits, temperature=0.2), found)  # b and coarse: unused
    valid = torch.ones(2, 1, 4, 5, dtype=torch.bool)
    valid[0, 0, :2] = False  # all voxels of view a ask, valid or not
    close(fine_contrastive_loss(fine, coarse, x, valid, **radii, **limits, temperature=0.2), found)


def test_validity_alone_can_part_the_views():
    fine, coarse, x = fine_case((4, 4), (2, 2), shift=0.0)
    valid = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    valid[0, 0, 0], valid[1, 0, 3] = True, True
    radii = {"positive_radius": 0.9, "ignore_radius": 1.5}
    found = fine_contrastive_loss(fine, coarse, x, valid, **radii, **FREE_FINE)
    assert len(fine_queries(fine, coarse, x, valid, 0.9, 1.5)[1]) == 0
    assert float(found) == pytest.approx(fine_by_hand(fine, coarse, x, valid, **radii), rel=1e-9)


@pytest.mark.parametrize("shift", [0.3, 1000.0])
def test_queries_without_negatives_cost_nothing(shift, dtype):
    fine, coarse, x = (t.to(dtype) for t in fine_case(shift=shift))
    fine = fine.requires_grad_()
    found = fine_contrastive_loss(fine, coarse, x, ignore_radius=100.0)
    found.backward()
    assert float(found.detach()) == pytest.approx(0, abs=1e-6) and fine.grad.isfinite().all()


def test_excluded_voxels_are_never_drawn():
    """All permitted negatives look unlike their query, all forbidden ones alike: scores of 0 must not win."""
    fine = torch.zeros(2, 2, 2, 4, dtype=torch.float64)
    fine[:, 0, :, :2], fine[:, 0, :, 2:] = 1.0, -1.0
    x = torch.stack([lattice(2, 4)] * 2)
    x[:, 1, :, 2:] += 50
    radii = {"positive_radius": 1.0, "ignore_radius": 10.0}
    coarse = fine.clone()
    for hard in (1, 4, 12, ALL):
        limits = {**FREE_FINE, "hard_negatives": hard, "sampled_negatives": hard}
        found = float(fine_contrastive_loss(fine, coarse, x, **radii, **limits))
        assert found == pytest.approx(math.log(1 + min(hard, 8) * math.exp(-4)), rel=1e-6)
    limits = {**FREE_FINE, "sampled_negatives": 2}  # nor do they take the place of one that is permitted
    for seed in range(4):
        found = float(fine_contrastive_loss(fine, coarse, x, **radii, **limits, generator=seeded(seed)))
        assert found == pytest.approx(math.log(1 + 2 * math.exp(-4)), rel=1e-6)


def test_the_coarse_map_chooses_negatives_but_is_not_trained():
    fine, coarse, x = fine_case()
    radii = {"positive_radius": 0.9, "ignore_radius": 1.5}
    few = {**FREE_FINE, "hard_negatives": 2, "sampled_negatives": 2}
    other = unit(2, 6, 2, 2, dim=1, seed=20)
    assert float(fine_contrastive_loss(fine, coarse, x, **radii, **few)) != pytest.approx(
        float(fine_contrastive_loss(fine, other, x, **radii, **few))
    )
    close(
        fine_contrastive_loss(fine, coarse, x, **radii, **FREE_FINE),
        fine_contrastive_loss(fine, other, x, **radii, **FREE_FINE),
    )
    fine, coarse = fine.requires_grad_(), coarse.requires_grad_()
    fine_contrastive_loss(fine, coarse, x, **radii, **few).backward()
    assert fine.grad.abs().sum() > 0 and (coarse.grad is None or (coarse.grad == 0).all())


def test_fine_gradient_by_finite_differences():
    fine, coarse, x = fine_case((3, 3), (2, 2), dim=3)
    radii = {"positive_radius": 0.9, "ignore_radius": 1.5}
    assert torch.autograd.gradcheck(
        lambda f: fine_contrastive_loss(f, coarse, x, **radii, **FREE_FINE), fine.requires_grad_()
    )


def pairs(queries, choose):
    """Means of one query per direction, over all their choices of negatives."""
    sides = [[t for p, negatives in side for t in choose(p, negatives)] for side in queries]
    return torch.tensor([(a + b) / 2 for a, b in itertools.product(*sides)])


@pytest.mark.parametrize(
    "limits",
    [{"max_queries": 1}, {"max_candidates": 1}, {"max_queries": 1, "hard_negatives": 3, "sampled_negatives": 2}],
)
def test_limits_draw_from_what_is_allowed(limits, steady):
    fine, coarse, x = fine_case((3, 4), (2, 2), shift=0.3)
    radii = {"positive_radius": 50.0, "ignore_radius": 1.5}
    queries = fine_queries(fine, coarse, x, None, **radii, hard=limits.get("hard_negatives", ALL))

    def choose(positive, negatives):
        wanted = min(limits.get("sampled_negatives", ALL), len(negatives))
        return [term(positive, torch.stack(drawn), 0.5) for drawn in itertools.combinations(negatives, wanted)]

    allowed = pairs(queries, choose)
    drawn = [
        float(fine_contrastive_loss(fine, coarse, x, **radii, **{**FREE_FINE, **limits}, generator=seeded(seed)))
        for seed in range(25)
    ]
    for value in drawn:
        assert (allowed - value).abs().min() < 1e-6
    assert len({round(value, 9) for value in drawn}) > 8
    again = fine_contrastive_loss(fine, coarse, x, **radii, **{**FREE_FINE, **limits}, generator=seeded(3))
    assert float(again) == drawn[3]


def test_limits_above_what_exists_leave_nothing_to_chance():
    fine, coarse, x = fine_case()
    radii = {"positive_radius": 0.9, "ignore_radius": 1.5}
    values = [fine_contrastive_loss(fine, coarse, x, **radii, **FREE_FINE, generator=seeded(n)) for n in range(4)]
    values.append(fine_contrastive_loss(fine, coarse, x, **radii, **{name: 40 for name in FREE_FINE}))
    for value in values[1:]:
        close(value, values[0], rtol=1e-12, atol=0)


def test_fine_loss_types_and_nan():
    fine, coarse, x = (t.float() for t in fine_case())
    radii = {"positive_radius": 0.9, "ignore_radius": 1.5}
    exact = fine_contrastive_loss(fine, coarse, x, **radii, **FREE_FINE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = fine_contrastive_loss(fine, coarse, x, **radii, **FREE_FINE)
    assert mixed.dtype == torch.float32
    close(mixed, exact, rtol=1e-2, atol=1e-2)
    for half in HALVES:
        narrow = fine_contrastive_loss(fine.to(half), coarse.to(half), x, **radii, **FREE_FINE)
        assert narrow.dtype == torch.float32
        wide = fine_contrastive_loss(fine.to(half).float(), coarse.to(half).float(), x, **radii, **FREE_FINE)
        close(narrow, wide, rtol=1e-2, atol=1e-2)
    fine[0, 0, 0, 0] = math.nan
    assert fine_contrastive_loss(fine, coarse, x, **radii, **FREE_FINE).isnan()
    assert fine_contrastive_loss(torch.zeros(2, 6, 4, 5), coarse, x, **radii, **FREE_FINE).isfinite()


def test_far_from_the_origin_distances_keep_their_digits():
    fine, coarse, x = fine_case((6, 6), (2, 2))
    x = (x * 64).round() / 64  # exact in float32, also after the shift
    radii = {"positive_radius": 0.9, "ignore_radius": 1.5}
    near = fine_contrastive_loss(fine, coarse, x, **radii, **FREE_FINE)
    far = fine_contrastive_loss(fine.float(), coarse.float(), (x + 4096).float(), **radii, **FREE_FINE)
    close(far, near, rtol=1e-5, atol=1e-6)
    close(fine_contrastive_loss(fine, coarse, x.float(), **radii, **FREE_FINE), near, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, r"temperature.*0"),
        ({"temperature": -0.1}, r"temperature.*-0\.1"),
        ({"positive_radius": -1.0}, r"positive_radius.*-1"),
        ({"ignore_radius": -2.0}, r"ignore_radius.*-2"),
        ({"max_queries": 0}, r"max_queries.*0"),
        ({"max_candidates": 0}, r"max_candidates.*0"),
        ({"hard_negatives": -1}, r"hard_negatives.*-1"),
        ({"sampled_negatives": -1}, r"sampled_negatives.*-1"),
        ({"fine": torch.zeros(3, 6, 4, 5)}, r"(?s)fine.*3"),
        ({"fine": torch.zeros(1, 6, 4, 5)}, r"(?s)fine.*1"),
        ({"coarse": torch.zeros(3, 6, 2, 2)}, r"(?s)coarse.*3"),
        ({"coarse": torch.zeros(2, 6, 2, 2, 2)}, r"(?s)coarse.*2, 2, 2"),
        ({"coordinates": torch.zeros(3, 2, 4, 5)}, r"(?s)coordinates.*3"),
        ({"coordinates": torch.zeros(2, 2, 4, 4)}, r"(?s)coordinates.*4, 4"),
        ({"coordinates": torch.zeros(2, 3, 4, 5)}, r"(?s)coordinates.*3, 4, 5"),
        ({"valid": torch.ones(2, 1, 4, 4, dtype=torch.bool)}, r"(?s)valid.*4, 4"),
        ({"valid": torch.arange(2).reshape(2, 1, 1, 1).expand(2, 1, 4, 5).bool()}, r"(?s)valid.*0"),
        ({"valid": torch.zeros(2, 1, 4, 5, dtype=torch.bool)}, r"(?s)valid"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_fine_loss_refusals(changes, message):
    names = ("fine", "coarse", "coordinates")
    inputs = {**dict(zip(names, fine_case(), strict=True)), **changes}
    with pytest.raises(ValueError, match=message):
        fine_contrastive_loss(**inputs)


# ------------------------------------------------------------ coarse loss


def coarse_reference(reference, dtype, device="cpu"):
    coarse, x = (reference(f"sam_coarse/{n}", dtype, device) for n in ("coarse", "coordinates"))
    positive, ignore, axial, hard, temperature = reference.number("sam_coarse/config")
    options = {"positive_radius": positive, "ignore_radius": ignore, "axial_radius": axial, "temperature": temperature}
    return coarse, x, options, {**FREE_COARSE, "hard_negatives": int(hard), "sampled_negatives": int(hard)}


def test_coarse_loss_matches_the_reference(reference, dtype, device):
    coarse, x, options, limits = coarse_reference(reference, dtype, device)
    coarse = coarse.requires_grad_()
    found = coarse_contrastive_loss(coarse, x, **options, **limits, generator=seeded())
    assert found.shape == () and found.dtype == dtype and found.device.type == device
    reference.check(found, "sam_coarse/loss")
    found.backward()
    reference.check(coarse.grad, "sam_coarse/grad_coarse")


def coarse_case(volumes=2, size=(2, 3, 2), seed=0, dim=6, shift=0.4):
    n = len(size)
    x = lattice(*size).expand(volumes, 2, n, *size) + 0.2 * noise(volumes, 2, n, *size, seed=seed)
    x[:, 1, 0] += shift
    return unit(volumes, 2, dim, *size, dim=2, seed=seed + 1), x


@pytest.mark.parametrize(("volumes", "size"), [(2, (2, 3, 2)), (3, (3, 4)), (1, (2, 2, 3))])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("hard", [2, ALL])
def test_coarse_loss_equals_brute_force(volumes, size, axis, hard, steady):
    for seed, (positive, ignore, axial) in enumerate([(0.8, 1.2, 0.35), (1.5, 0.0, 0.5), (2.0, 2.5, 9.0)]):
        coarse, x = coarse_case(volumes, size, seed=10 * seed)
        radii = {"positive_radius": positive, "ignore_radius": ignore, "axial_radius": axial, "axial_axis": axis}
        limits = {**FREE_COARSE, "hard_negatives": hard, "sampled_negatives": hard}
        found = coarse_contrastive_loss(coarse, x, **radii, **limits, temperature=0.3, generator=seeded(seed))
        expected = coarse_by_hand(coarse, x, **radii, temperature=0.3, hard=hard, pick=hard)
        assert float(found) == pytest.approx(expected, rel=1e-9)


def test_defaults_of_the_coarse_loss():
    coarse, x = coarse_case()
    found = coarse_contrastive_loss(coarse, 5 * x)
    assert float(found) == pytest.approx(coarse_by_hand(coarse, 5 * x), rel=1e-9)


def test_the_axial_test_looks_along_one_axis_only():
    coarse, x = coarse_case(1, (3, 3), shift=0.0)
    x = torch.stack([lattice(3, 3), lattice(3, 3) + torch.tensor([0.25, 0.0]).reshape(2, 1, 1)])[None]
    x[0, 1, 0, 0] += 0.125  # one row lies further off
    radii = {"positive_radius": 5.0, "ignore_radius": 0.75}
    values = {}
    for axis, axial in itertools.product((0, 1), (0.25, 0.26, 0.375, 0.4)):
        found = coarse_contrastive_loss(coarse, x, **radii, axial_axis=axis, axial_radius=axial, **FREE_COARSE)
        expected = coarse_by_hand(coarse, x, **radii, axial_axis=axis, axial_radius=axial)
        assert float(found) == pytest.approx(expected, rel=1e-9)
        values[axis, axial] = round(float(found), 9)
    assert len({values[1, axial] for axial in (0.25, 0.26, 0.375, 0.4)}) == 1  # nothing differs along this axis
    assert values[0, 0.26] == values[0, 0.375] != values[0, 0.4]  # strictly below the radius
    assert values[0, 0.25] != values[0, 0.26]  # no voxel left: fallback
    turned = coarse_contrastive_loss(
        coarse.transpose(3, 4), x.flip(2).transpose(3, 4), **radii, axial_axis=1, axial_radius=0.3, **FREE_COARSE
    )
    close(turned, coarse_contrastive_loss(coarse, x, **radii, axial_radius=0.3, **FREE_COARSE))


def test_coarse_radii_are_strict_for_positives_and_inclusive_for_negatives(dtype):
    size = (3, 3, 3)
    grid = lattice(*size) + 777
    partner = grid + 0.0
    partner[1] += torch.where((grid.sum(0) % 2) == 0, 0.25, 0.125)
    x, coarse = torch.stack([grid, partner])[None].to(dtype), unit(1, 2, 5, *size, dim=2, dtype=dtype)
    values = []
    for radii in ((0.25, 1.0), (0.2500001, 1.0), (0.25, 1.0000002)):
        radii = dict(zip(("positive_radius", "ignore_radius"), radii, strict=True))
        values.append(float(coarse_contrastive_loss(coarse, x, **radii, **FREE_COARSE)))
        assert values[-1] == pytest.approx(coarse_by_hand(coarse, x, **radii), rel=1e-5)
    assert abs(values[1] - values[0]) > 1e-3 and abs(values[2] - values[0]) > 1e-3


@pytest.mark.parametrize("volumes", [1, 2])
@pytest.mark.parametrize("pick", [3, ALL])
def test_disjoint_views_ask_every_voxel(volumes, pick):
    coarse, x = coarse_case(volumes, shift=1000.0)
    limits = {**FREE_COARSE, "sampled_negatives": pick}
    found = coarse_contrastive_loss(coarse, x, **limits, temperature=0.3)
    expected = coarse_by_hand(coarse, x, temperature=0.3, pick=pick)
    assert float(found) == pytest.approx(expected, rel=1e-9)
    spread = coarse_contrastive_loss(coarse, 7 * x, **limits, temperature=0.3)
    close(spread, found)  # no radius is asked here


def test_only_view_a_decides_on_the_fallback():
    coarse, _ = coarse_case(1, (3, 3))
    x = torch.stack([lattice(3, 3, step=10.0), 100 + lattice(3, 3, step=10.0)])[None]
    x[0, 1, :, 0, 0] = x[0, 0, :, 1, 1] + 1
    radii = {"positive_radius": 5.0, "ignore_radius": 2.0, "axial_radius": 3.0}
    queries = coarse_terms(coarse, x, 5.0, 2.0, 3.0, 0, ALL, True, ALL)
    assert [len(side) for side in queries[0]] == [1, 1]
    found = coarse_contrastive_loss(coarse, x, **radii, **FREE_COARSE)
    assert float(found) == pytest.approx(coarse_by_hand(coarse, x, **radii), rel=1e-9)
    # From a's voxel a nearer one of b lies too far along the axis: a keeps none, b's own search still finds its partner
    x[0, 0, :, 0, 0] = torch.tensor([2.0, 0.0], dtype=torch.float64)
    x[0, 1] = 1000 + lattice(3, 3, step=10.0)
    x[0, 1, :, 0, 0] = torch.tensor([2.0, 3.0], dtype=torch.float64)  # partner of a's (2, 0) ...
    x[0, 1, :, 0, 1] = torch.tensor([4.5, 0.0], dtype=torch.float64)  # ... but this is nearer, 2.5 along the axis
    radii["axial_radius"] = 2.0
    kept = []
    for a, b in ((x[0, 0], x[0, 1]), (x[0, 1], x[0, 0])):
        d, j = distances(a.flatten(1), b.flatten(1)).min(1)
        kept.append(int(((d < 5) & ((a.flatten(1)[0] - b.flatten(1)[0, j]).abs() < 2)).sum()))
    assert kept[0] == 0 and kept[1] > 0
    for views in (x, x.flip(1)):  # and the other way round: a keeps some, b none, no fallback
        found = coarse_contrastive_loss(coarse, views, **radii, **FREE_COARSE)
        assert float(found) == pytest.approx(coarse_by_hand(coarse, views, **radii), rel=1e-9)


def test_a_volume_alone_has_no_global_negatives():
    coarse, x = coarse_case(3)
    radii = {"positive_radius": 0.9, "ignore_radius": 1.5, "axial_radius": 0.7}
    alone = [coarse_contrastive_loss(coarse[v : v + 1], x[v : v + 1], **radii, **FREE_COARSE) for v in range(3)]
    without = coarse_contrastive_loss(coarse, x, **radii, **{**FREE_COARSE, "global_negatives": 0})
    close(without, sum(alone) / 3)
    assert float(without) == pytest.approx(coarse_by_hand(coarse, x, **radii, globals_wanted=False), rel=1e-9)
    together = coarse_contrastive_loss(coarse, x, **radii, **FREE_COARSE)
    assert float(together) > float(without)
    order = [2, 0, 1]
    close(coarse_contrastive_loss(coarse[order], x[order], **radii, **FREE_COARSE), together)
    moved = x.clone()
    moved[1] += 500  # other volumes are other places wherever they lie
    close(coarse_contrastive_loss(coarse, moved, **radii, **FREE_COARSE), together)


def test_global_negatives_are_as_many_as_asked_and_drawn_anew(steady):
    coarse, x = coarse_case(3)
    radii = {"positive_radius": 0.9, "ignore_radius": 1.5, "axial_radius": 0.7}
    queries = coarse_terms(coarse, x, *radii.values(), 0, ALL, True, ALL)

    def extreme(descending):
        means = []
        for sides in queries:
            terms = []
            for p, own, others in (*sides[0], *sides[1]):
                terms.append(term(p, torch.cat([own, others.sort(descending=descending).values[:4]]), 0.5))
            means.append(sum(terms) / len(terms))
        return sum(means) / len(means)

    drawn = [
        float(
            coarse_contrastive_loss(coarse, x, **radii, **{**FREE_COARSE, "global_negatives": 4}, generator=seeded(n))
        )
        for n in range(12)
    ]
    assert len(set(drawn)) > 8
    assert all(extreme(False) <= value <= extreme(True) for value in drawn)
    again = coarse_contrastive_loss(coarse, x, **radii, **{**FREE_COARSE, "global_negatives": 4}, generator=seeded(7))
    assert float(again) == drawn[7]


def test_sampled_negatives_are_drawn_among_the_hard_ones(steady):
    coarse, x = coarse_case(1, (2, 3))
    x[0, 1, :] = x[0, 0] + 100  # every other voxel far off ...
    x[0, 1, :, 0, 0] = x[0, 0, :, 0, 0] + 0.05  # ... but one: a single query each way
    radii = {"positive_radius": 0.5, "ignore_radius": 0.5, "axial_radius": 0.5}
    limits = {**FREE_COARSE, "hard_negatives": 4, "sampled_negatives": 2}
    queries = coarse_terms(coarse, x, *radii.values(), 0, 4, True, ALL)[0]
    assert [len(side) for side in queries] == [1, 1]
    sides = [[term(p, torch.stack(two), 0.5) for two in itertools.combinations(own, 2)] for ((p, own, _),) in queries]
    allowed = torch.tensor([(a + b) / 2 for a, b in itertools.product(*sides)])
    drawn = [float(coarse_contrastive_loss(coarse, x, **radii, **limits, generator=seeded(n))) for n in range(25)]
    assert all((allowed - value).abs().min() < 1e-6 for value in drawn)
    assert len({round(value, 9) for value in drawn}) > 8


def test_coarse_limits_above_what_exists_leave_nothing_to_chance():
    coarse, x = coarse_case(3)
    radii = {"positive_radius": 0.9, "ignore_radius": 1.5, "axial_radius": 0.7}
    values = [coarse_contrastive_loss(coarse, x, **radii, **FREE_COARSE, generator=seeded(n)) for n in range(4)]
    values.append(coarse_contrastive_loss(coarse, x, **radii, **{name: 48 for name in FREE_COARSE}))
    for value in values[1:]:
        close(value, values[0], rtol=1e-12, atol=0)


def test_coarse_loss_gradient_types_and_nan():
    coarse, x = coarse_case(2, (2, 2), dim=3)
    radii = {"positive_radius": 0.9, "ignore_radius": 1.5, "axial_radius": 0.7}
    assert torch.autograd.gradcheck(
        lambda f: coarse_contrastive_loss(f, x, **radii, **FREE_COARSE), coarse.clone().requires_grad_()
    )
    single = coarse.float()
    exact = coarse_contrastive_loss(single, x.float(), **radii, **FREE_COARSE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = coarse_contrastive_loss(single, x.float(), **radii, **FREE_COARSE)
    assert mixed.dtype == torch.float32
    close(mixed, exact, rtol=1e-2, atol=1e-2)
    for half in HALVES:
        narrow = coarse_contrastive_loss(single.to(half), x.float(), **radii, **FREE_COARSE)
        assert narrow.dtype == torch.float32
        close(narrow, exact, rtol=1e-2, atol=1e-2)
    coarse[1, 0, 0, 0, 0] = math.nan
    assert coarse_contrastive_loss(coarse, x, **radii, **FREE_COARSE).isnan()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, r"temperature.*0"),
        ({"temperature": -0.5}, r"temperature.*-0\.5"),
        ({"positive_radius": -1.0}, r"positive_radius.*-1"),
        ({"ignore_radius": -1.0}, r"ignore_radius.*-1"),
        ({"axial_radius": -1.0}, r"axial_radius.*-1"),
        ({"axial_axis": 3}, r"axial_axis.*3"),
        ({"hard_negatives": -1}, r"hard_negatives.*-1"),
        ({"sampled_negatives": -1}, r"sampled_negatives.*-1"),
        ({"global_negatives": -1}, r"global_negatives.*-1"),
        ({"coarse": torch.zeros(2, 3, 6, 2, 3, 2)}, r"(?s)coarse.*3"),
        ({"coarse": torch.zeros(2, 1, 6, 2, 3, 2)}, r"(?s)coarse.*1"),
        ({"coordinates": torch.zeros(2, 3, 3, 2, 3, 2)}, r"(?s)coordinates.*3"),
        ({"coordinates": torch.zeros(3, 2, 3, 2, 3, 2)}, r"(?s)coordinates.*3"),
        ({"coordinates": torch.zeros(2, 2, 3, 2, 3, 3)}, r"(?s)coordinates.*3, 3"),
        ({"coordinates": torch.zeros(2, 2, 2, 2, 3, 2)}, r"(?s)coordinates.*2, 2, 2"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_coarse_loss_refusals(changes, message):
    inputs = {**dict(zip(("coarse", "coordinates"), coarse_case(), strict=True)), **changes}
    with pytest.raises(ValueError, match=message):
        coarse_contrastive_loss(**inputs)


# ------------------------------------------------------------ both together


def embedding_case(volumes=2, size=(8, 12), dim=6):
    n = len(size)
    fine = unit(2 * volumes, dim, *(s // 2 for s in size), dim=1)
    coarse = unit(2 * volumes, dim, *(s // 4 for s in size), dim=1, seed=1)
    x = 2.0 * lattice(*size).expand(volumes, 2, n, *size) + 0.1 * noise(volumes, 2, n, *size, seed=2)
    x[:, 1] += 1.7
    valid = noise(volumes, 2, 1, *size, seed=3) > -1
    return AnatomicalEmbedding(fine, coarse), x, valid


@pytest.mark.parametrize(("volumes", "size"), [(2, (8, 12)), (1, (8, 4, 8))])
@pytest.mark.parametrize("masked", [False, True])
def test_total_is_the_mean_fine_loss_plus_the_coarse_loss(volumes, size, masked):
    (fine, coarse), x, valid = embedding_case(volumes, size)
    fine_options = {**FREE_FINE, "positive_radius": 3.0, "ignore_radius": 4.0, "temperature": 0.3}
    coarse_options = {**FREE_COARSE, "positive_radius": 8.0, "ignore_radius": 9.0, "axial_axis": 1}
    found = anatomical_embedding_loss(
        AnatomicalEmbedding(fine, coarse),
        x,
        valid if masked else None,
        fine_options=fine_options,
        coarse_options=coarse_options,
        generator=seeded(),
    )
    assert set(found) == {"fine", "coarse", "total"}
    mode = {2: "bilinear", 3: "trilinear"}[len(size)]

    def resized(t, like, **how):
        return interpolate(t.flatten(0, 1), like.shape[2:], **how).unflatten(0, (volumes, 2))

    on_fine, on_coarse = (resized(x, part, mode=mode, align_corners=False) for part in (fine, coarse))
    kept = resized(valid.double(), fine, mode="nearest").bool()
    each = [
        fine_contrastive_loss(
            fine[2 * v : 2 * v + 2], coarse[2 * v : 2 * v + 2], on_fine[v], kept[v] if masked else None, **fine_options
        )
        for v in range(volumes)
    ]
    close(found["fine"], sum(each) / volumes)
    close(found["coarse"], coarse_contrastive_loss(coarse.unflatten(0, (volumes, 2)), on_coarse, **coarse_options))
    close(found["total"], found["fine"] + found["coarse"])


def test_coordinates_are_resized_in_single_precision_at_least():
    embedding, x, _ = embedding_case()
    embedding = AnatomicalEmbedding(*(part.float() for part in embedding))
    wanted = anatomical_embedding_loss(embedding, x + 900.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = anatomical_embedding_loss(embedding, (x + 900.0).float())
    halved = anatomical_embedding_loss(AnatomicalEmbedding(*(part.bfloat16() for part in embedding)), (x + 900).float())
    for found, tolerance in ((mixed, 1e-2), (halved, 2e-2)):
        for name, value in found.items():
            assert value.dtype == torch.float32
            close(value, wanted[name], rtol=tolerance, atol=tolerance)


def test_embedding_loss_repeats_with_its_generator(steady):
    embedding, x, valid = embedding_case()
    few = {"fine_options": {"max_queries": 3, "sampled_negatives": 2}, "coarse_options": {"global_negatives": 1}}
    first, again, other = (
        float(anatomical_embedding_loss(embedding, x, valid, **few, generator=seeded(n))["total"]) for n in (1, 1, 2)
    )
    assert first == again != other


def test_the_embedding_learns_from_its_own_views():
    net = small_net()
    grid = lattice(48, 48)
    volume = torch.stack([torch.sin(grid[0] / 5) + torch.cos(grid[1] / 7)]).float()
    views, coordinates = sample_overlapping_views(volume, (32, 32), overlap_probability=1.0, generator=seeded(1))
    options = {
        "fine_options": {"positive_radius": 1.5, "temperature": 0.1},
        "coarse_options": {"positive_radius": 16.0, "axial_radius": 16.0, "temperature": 0.1},
    }
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    history = []
    for _ in range(12):
        losses = anatomical_embedding_loss(net(views), coordinates[None], **options, generator=seeded())
        optimizer.zero_grad()
        losses["total"].backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
        optimizer.step()
        history.append(float(losses["total"].detach()))
    assert history[-1] < history[0] - 0.2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embedding": AnatomicalEmbedding(torch.zeros(3, 6, 4, 6), torch.zeros(3, 6, 2, 3))}, r"(?s)3"),
        ({"embedding": AnatomicalEmbedding(torch.zeros(6, 6, 4, 6), torch.zeros(6, 6, 2, 3))}, r"(?s)6"),
        ({"coordinates": torch.zeros(2, 3, 2, 8, 12)}, r"(?s)coordinates.*3"),
        ({"coordinates": torch.zeros(2, 2, 3, 8, 12)}, r"(?s)coordinates.*3"),
        ({"valid": torch.ones(2, 2, 1, 8, 8, dtype=torch.bool)}, r"(?s)valid.*8, 8"),
        ({"valid": torch.zeros(2, 2, 1, 8, 12, dtype=torch.bool)}, r"(?s)valid"),
        ({"fine_options": {"temperature": 0.0}}, r"temperature.*0"),
        ({"coarse_options": {"axial_radius": -1.0}}, r"axial_radius.*-1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_embedding_loss_refusals(changes, message):
    embedding, x, valid = embedding_case()
    with pytest.raises(ValueError, match=message):
        anatomical_embedding_loss(**{"embedding": embedding, "coordinates": x, "valid": valid, **changes})
