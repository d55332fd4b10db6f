"""Normalisation, encoder, two-headed network, shared weights: reference numbers, by hand, laws, edges, messages."""

import math

import pytest
import torch
from torch.nn.utils import vector_to_parameters

from medssl_nb.methods.local_discrimination import (
    LDOutput,
    LoadReport,
    LocalDiscriminationNet,
    PixelEncoder,
    l1_normalize,
    l2_normalize,
    load_shared_weights,
    patch_embeddings,
    region_embeddings,
)

HALVES = [torch.float16, torch.bfloat16]


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def build(*arguments, seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LocalDiscriminationNet(*arguments, **options)


# ------------------------------------------------------------ onto the sphere, onto the simplex


def test_normalisation_matches_the_reference(reference, dtype, device):
    found = l2_normalize(reference("norm_in", dtype, device))
    assert found.dtype == dtype and found.device.type == device
    reference.check(found, "norm_l2")
    found = l1_normalize(reference("norm_l1_in", dtype, device))
    assert found.dtype == dtype and found.device.type == device
    reference.check(found, "norm_l1")


def test_normalisation_by_hand():
    x = torch.tensor([[3.0, 4.0], [0.0, -2.0]], dtype=torch.float64)
    torch.testing.assert_close(l2_normalize(x), torch.tensor([[0.6, 0.8], [0.0, -1.0]], dtype=torch.float64))
    torch.testing.assert_close(l2_normalize(x, 0)[:, 1], torch.tensor([2.0, -1.0], dtype=torch.float64) / math.sqrt(5))
    torch.testing.assert_close(l2_normalize(x, dim=-1, eps=5.0)[0], x[0] / 10)  # eps is added to the length
    torch.testing.assert_close(l1_normalize(x.abs()), torch.tensor([[3 / 7, 4 / 7], [0, 1]], dtype=torch.float64))
    torch.testing.assert_close(l1_normalize(x.abs(), 0, 1.0)[:, 0], torch.tensor([0.8, 0.2], dtype=torch.float64))


def test_small_vectors_are_shortened_by_eps():
    tiny = torch.tensor([[1e-10, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(l2_normalize(tiny), torch.tensor([[0.5, 0.0]], dtype=torch.float64))
    assert float(l1_normalize(torch.tensor([[2e-9, 0.0]], dtype=torch.float64))[0, 0]) == pytest.approx(0.75)


def test_zero_vectors_stay_zero_with_a_finite_gradient(dtype):
    x = noise(3, 4, 2, dtype=dtype)
    x[1, :, 0] = 0
    x.requires_grad_()
    found = l2_normalize(x)
    assert torch.equal(found[1, :, 0], torch.zeros(4, dtype=dtype))
    (found * noise(3, 4, 2, seed=1, dtype=dtype)).sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad[0].abs().min() > 0
    even = l1_normalize(torch.zeros(2, 4, 3, dtype=dtype))
    torch.testing.assert_close(even, torch.full_like(even, 0.25))


def test_normalisation_gradients_are_right():
    x = noise(2, 3, 2).requires_grad_()
    assert torch.autograd.gradcheck(l2_normalize, x)
    assert torch.autograd.gradcheck(lambda y: l1_normalize(y.abs()), x)


@pytest.mark.parametrize("function", [l2_normalize, l1_normalize])
def test_normalisation_types_and_nan(function):
    x = noise(2, 5, 3).abs().float()
    found = function(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(function(x), found)
    for half in HALVES:
        narrow = function(x.to(half))
        assert narrow.dtype == torch.float32
        torch.testing.assert_close(narrow, function(x.to(half).float()))
        zero = function(torch.zeros(1, 4, 2, dtype=half))
        assert zero.dtype == torch.float32 and zero.isfinite().all()
    x[1, 2, 0] = math.nan
    broken = function(x)
    assert broken[1, :, 0].isnan().all()
    assert torch.equal(broken[0], found[0]) and torch.equal(broken[1, :, 1:], found[1, :, 1:])


# ------------------------------------------------------------ encoder


@pytest.mark.parametrize(("dims", "size"), [(2, (32, 48)), (3, (16, 32, 16))])
def test_encoder_gives_five_maps_finest_first(dims, size):
    encoder = PixelEncoder(dims, 2, 3)
    assert encoder.channels == (3, 6, 12, 24, 24) and encoder.spatial_dims == dims
    maps = encoder(noise(2, 2, *size).float())
    assert isinstance(maps, list)
    for level, (map_, channels) in enumerate(zip(maps, encoder.channels, strict=True)):
        assert map_.shape == (2, channels, *(s // 2**level for s in size))
        assert map_.min() == 0 and map_.max() > 0  # after a ReLU


def test_encoder_layers_stand_in_forward_order():
    c, per_level = 2, (2, 2, 3, 3, 3)
    widths = [w for w, n in zip((c, 2 * c, 4 * c, 8 * c, 8 * c), per_level, strict=True) for _ in range(n)]
    expected = []
    for inside, outside in zip([1, *widths], widths, strict=False):
        expected += [(outside, inside, 3, 3), (outside,), (outside,), (outside,)]
    assert [tuple(p.shape) for p in PixelEncoder(2, 1, c).parameters()] == expected
    net = build(2, base_channels=c)
    assert all(p is q for p, q in zip(net.parameters(), net.encoder.parameters(), strict=False))
    assert isinstance(net.encoder, PixelEncoder)


@pytest.mark.parametrize("dims", [2, 3])
def test_convolutions_of_the_encoder_start_from_kaiming_normal(dims):
    net = build(dims, base_channels=16, embedding_dim=8)
    inside = set(net.encoder.parameters())
    for layer in (m for m in net.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Conv3d)):
        weight, volume = layer.weight, 3**dims
        assert layer.bias is not None
        if weight not in inside:  # library default: uniform
            bound = 1 / math.sqrt(weight.shape[1] * volume)
            assert 0.9 * bound < weight.abs().max() <= bound + 1e-6 and layer.bias.abs().max() > 0
            continue
        assert (layer.bias == 0).all()
        spread = math.sqrt(2 / (weight.shape[0] * volume))
        assert float(weight.detach().std()) == pytest.approx(spread, rel=4 / math.sqrt(2 * weight.numel()))
        if weight.numel() > 3000:
            assert weight.abs().max() > 3 * spread  # normal, not uniform


# ------------------------------------------------------------ the network


@pytest.mark.parametrize(
    ("dims", "in_channels", "options", "count"),
    [
        (2, 3, {}, 1_426_304),
        (2, 3, {"num_clusters": 16}, 1_433_280),
        (3, 1, {"num_clusters": 16}, 4_290_240),
        (3, 1, {"base_channels": 8, "embedding_dim": 16, "num_clusters": 8}, 1_073_760),
    ],
)
def test_networks_have_the_size_on_record(dims, in_channels, options, count):
    with torch.device("meta"):
        net = LocalDiscriminationNet(dims, in_channels, **options)
    assert sum(p.numel() for p in net.parameters()) == count


def tiny_network(reference, dtype):
    names = ("in_channels", "base_channels", "embedding_dim", "num_clusters", "num_parameters")
    inside, base, embedding, clusters, count = (reference.number(f"net_{name}") for name in names)
    net = build(2, inside, base_channels=base, embedding_dim=embedding, num_clusters=clusters).to(dtype)
    assert sum(p.numel() for p in net.parameters()) == count
    vector_to_parameters(reference("net_parameters", dtype), net.parameters())
    return net


def test_network_matches_the_reference(reference, dtype):
    net = tiny_network(reference, dtype).eval()
    with torch.no_grad():
        embeddings, assignments = net(reference("net_images", dtype))
    assert embeddings.dtype == assignments.dtype == dtype
    reference.check(embeddings[:2], "net_eval_embeddings")
    reference.check(assignments[:2], "net_eval_assignments")
    reference.check(patch_embeddings(embeddings, 2), "net_eval_patches")
    reference.check(region_embeddings(embeddings, assignments), "net_eval_regions")


@pytest.mark.parametrize(("dims", "size"), [(2, (16, 48)), (3, (16, 32, 16))])
@pytest.mark.parametrize("mode", ["sigmoid_l1", "softmax"])
def test_outputs_are_unit_vectors_and_soft_clusters(dims, size, mode):
    net = build(dims, 2, base_channels=2, embedding_dim=5, num_clusters=3, assignment_mode=mode).eval()
    out = net(noise(2, 2, *size).float())
    assert isinstance(out, LDOutput)
    assert out.embeddings.shape == (2, 5, *size) and out.assignments.shape == (2, 3, *size)
    torch.testing.assert_close(out.embeddings.norm(dim=1), torch.ones(2, *size))
    torch.testing.assert_close(out.assignments.sum(1), torch.ones(2, *size))
    assert (out.assignments > 0).all()
    (out.embeddings[:, 0].mean() + out.assignments[:, 0].mean()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_modes_read_the_same_logits():
    nets = [build(2, base_channels=2, num_clusters=4, assignment_mode=m).eval() for m in ("sigmoid_l1", "softmax")]
    nets[1].load_state_dict(nets[0].state_dict())
    x = noise(1, 1, 16, 16).float()
    (z, first), (same, second) = (net(x) for net in nets)
    assert torch.equal(z, same) and not torch.allclose(first, second)
    apart = (second[:, :1].double() / second).log()  # differences of logits; log sigmoid rises by less, the same way
    closer = (first[:, :1].double() / first).log()
    assert (closer * apart >= -1e-9).all() and (closer.abs() <= apart.abs() + 1e-5).all()


def test_no_clusters_no_head():
    plain, full = build(2, base_channels=2), build(2, base_channels=2, num_clusters=4)
    out = plain.eval()(noise(1, 1, 32, 32).float())
    assert out.assignments is None and out.embeddings.shape == (1, 32, 32, 32)
    shared = [tuple(p.shape) for p in plain.parameters()]
    head = [tuple(p.shape) for p in full.parameters()][len(shared) :]
    assert [tuple(p.shape) for p in full.parameters()][: len(shared)] == shared
    assert head == [(4, 4, 3, 3), (4,), (4,), (4,), (4, 4, 3, 3), (4,)]  # 2c to K, then K to K


def test_half_precision_ends_in_unit_vectors_of_single():
    net = build(2, base_channels=4, embedding_dim=8, num_clusters=3)
    x = noise(2, 1, 32, 32).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = net(x)
    assert out.embeddings.dtype == out.assignments.dtype == torch.float32
    torch.testing.assert_close(out.embeddings.norm(dim=1), torch.ones(2, 32, 32))
    torch.testing.assert_close(out.assignments.sum(1), torch.ones(2, 32, 32))
    narrow = net.bfloat16().eval()(x.bfloat16())
    assert narrow.embeddings.dtype == narrow.assignments.dtype == torch.float32
    torch.testing.assert_close(narrow.embeddings.norm(dim=1), torch.ones(2, 32, 32))


def test_a_silent_network_gives_zero_vectors_and_even_clusters():
    net = build(2, base_channels=1, embedding_dim=3, num_clusters=4)
    for p in net.parameters():
        torch.nn.init.zeros_(p)
    out = net(noise(1, 1, 32, 32).float())
    assert (out.embeddings == 0).all()
    torch.testing.assert_close(out.assignments, torch.full_like(out.assignments, 0.25))
    out.embeddings.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_nan_reaches_the_output():
    net = build(2, base_channels=1, embedding_dim=3).eval()
    x = noise(2, 1, 32, 32).float()
    x[1, 0, 5, 5] = math.nan
    z = net(x).embeddings
    assert z[0].isfinite().all() and z[1, :, 5, 5].isnan().all()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((1,), {}, "(?s)spatial_dims.*1"),
        ((4,), {}, "(?s)spatial_dims.*4"),
        ((2,), {"num_clusters": 1}, "(?s)num_clusters.*1"),
        ((2,), {"num_clusters": 0}, "(?s)num_clusters.*0"),
        ((2,), {"num_clusters": 3, "assignment_mode": "tanh"}, "(?s)assignment_mode.*tanh|mode.*tanh"),
    ],
)
def test_networks_that_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        LocalDiscriminationNet(*arguments, base_channels=1, **options)


def test_encoder_dimensions_are_checked():
    with pytest.raises(ValueError, match=r"(?s)spatial_dims.*4"):
        PixelEncoder(4)


@pytest.mark.parametrize(
    ("size", "message"), [((24, 32), "24"), ((32, 40), "40"), ((8, 8), "8"), ((32, 0), "0"), ((16, 16, 16), "16")]
)
def test_sizes_that_are_refused(size, message):
    for net in (build(2, base_channels=1), PixelEncoder(2, 1, 1)):
        with pytest.raises(ValueError, match=message):
            net.eval()(torch.zeros(1, 1, *size))


# ------------------------------------------------------------ from stage 1 to stage 2


def stages(**options):
    return build(2, base_channels=2, embedding_dim=4, **options), build(
        2, base_channels=2, embedding_dim=4, num_clusters=3, seed=1, **options
    )


def test_stage_1_fills_all_but_the_clustering_head():
    first, second = stages()
    first.train()(noise(2, 1, 32, 32).float())  # moves the running statistics
    before = {name: value.clone() for name, value in second.state_dict().items()}
    report = load_shared_weights(second, first.state_dict())
    after, source = second.state_dict(), first.state_dict()
    assert isinstance(report, LoadReport)
    assert set(report.loaded) == set(source) and set(report.missing) == set(before) - set(source)
    assert report.unexpected == [] and report.missing and all(isinstance(part, list) for part in report)
    for name, value in after.items():
        assert torch.equal(value, source[name] if name in source else before[name]), name
    x = noise(1, 1, 32, 32).float()
    assert torch.equal(first.eval()(x).embeddings, second.eval()(x).embeddings)


def test_stage_2_loads_into_either_stage():
    first, second = stages()
    report = load_shared_weights(first, second.state_dict())
    assert report.missing == [] and set(report.loaded) == set(first.state_dict())
    assert set(report.unexpected) == set(second.state_dict()) - set(first.state_dict())
    assert all(torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items())
    again = build(2, base_channels=2, embedding_dim=4, num_clusters=3, seed=2)
    report = load_shared_weights(again, second.state_dict())
    assert report.missing == report.unexpected == [] and set(report.loaded) == set(second.state_dict())
    assert all(torch.equal(v, second.state_dict()[k]) for k, v in again.state_dict().items())


def test_loading_copies():
    first, second = stages()
    load_shared_weights(second, first.state_dict())
    copy = {name: value.clone() for name, value in second.state_dict().items()}
    for p in first.parameters():
        torch.nn.init.constant_(p, 7.0)
    assert all(torch.equal(value, copy[name]) for name, value in second.state_dict().items())


def test_other_gaps_and_surplus_are_refused():
    first, second = stages()
    state = first.state_dict()
    for name in (next(iter(state)), list(state)[-1]):
        with pytest.raises(ValueError, match=name):
            load_shared_weights(second, {k: v for k, v in state.items() if k != name})
    with pytest.raises(ValueError, match=r"teacher\.weight"):
        load_shared_weights(second, {**state, "teacher.weight": torch.zeros(2)})
    with pytest.raises(ValueError, match=next(iter(state))):
        load_shared_weights(second, {})
    head = {k: v for k, v in second.state_dict().items() if k not in state}
    with pytest.raises(ValueError, match=next(iter(state))):
        load_shared_weights(second, head)


def test_a_refused_file_changes_nothing():
    first, second = stages()
    state = first.state_dict()
    before = {name: value.clone() for name, value in second.state_dict().items()}
    wide = LocalDiscriminationNet(2, base_channels=2, embedding_dim=5).state_dict()
    last = list(state)[-1]
    for file in (wide, {**state, "teacher.weight": torch.zeros(2)}, {k: v for k, v in state.items() if k != last}):
        with pytest.raises(ValueError, match="state_dict"):
            load_shared_weights(second, file)
        assert all(torch.equal(value, before[name]) for name, value in second.state_dict().items())


def test_a_head_of_another_number_of_clusters_stays_behind():
    _, source = stages()
    target = build(2, base_channels=2, embedding_dim=4, num_clusters=5, seed=2)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    report = load_shared_weights(target, source.state_dict())
    shared = set(LocalDiscriminationNet(2, base_channels=2, embedding_dim=4).state_dict())
    assert set(report.loaded) == shared
    assert set(report.missing) == set(before) - shared and set(report.unexpected) == set(source.state_dict()) - shared
    for name, value in target.state_dict().items():
        assert torch.equal(value, source.state_dict()[name] if name in shared else before[name]), name
