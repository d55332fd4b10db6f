"""Cluster heads and the projection: reference weights, hand values, types, messages."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from medssl_nb.methods.boundary_infomax import ClusterHead, ProjectionHead

REFERENCE = np.load(Path(__file__).parents[2] / "reference" / "boundary_infomax.npz", allow_pickle=False)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
PRECISION = [(torch.float64, 1e-7, 1e-10), (torch.float32, 2e-4, 2e-6)]  # as stated beside the numbers
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)  # heads start at random


def stored(name, dtype=torch.float64, device="cpu"):
    return torch.from_numpy(np.asarray(REFERENCE[name])).to(device, dtype)


def close(found, expected, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(found.cpu(), expected.cpu(), rtol=rtol, atol=atol)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------ cluster heads


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "rtol", "atol"), PRECISION)
@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_heads_match_the_reference(kind, dtype, rtol, atol, device):
    case = f"head_{kind}__"
    temperature = float(REFERENCE[case + "temperature"])
    clusters = REFERENCE[case + "head0_probs"].shape[1]
    head = ClusterHead(
        7, clusters, num_heads=2, head_type=kind, hidden_channels=5, temperature=temperature, spatial_dims=2
    )
    head.to(device, dtype)
    for s, module in enumerate(head.heads):
        layers = [module] if kind == "linear" else [module[0], module[2]]
        for c, layer in enumerate(layers):
            state = {n: stored(f"{case}head{s}_conv{c}_{n}", dtype, device) for n in ("weight", "bias")}
            layer.load_state_dict(state)
    found = head(stored(case + "features", dtype, device))
    assert isinstance(found, list) and len(found) == 2
    for s, probs in enumerate(found):
        assert probs.dtype == dtype and probs.device.type == device
        close(probs.detach(), stored(f"{case}head{s}_probs", dtype), rtol, atol)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_linear_heads_are_pointwise_convolutions_and_softmax(dims):
    head = ClusterHead(3, 4, num_heads=2, temperature=0.5, spatial_dims=dims)
    assert isinstance(head.heads, nn.ModuleList)
    features = noise(2, 3, *(4, 5, 3)[:dims])
    for convolution, probs in zip(head.heads, head(features), strict=True):
        assert isinstance(convolution, CONVOLUTIONS[dims])
        assert convolution.kernel_size == (1,) * dims and convolution.bias is not None
        assert probs.shape == (2, 4, *features.shape[2:])
        weight = convolution.weight.flatten(1)
        logits = torch.einsum("kc,bc...->bk...", weight, features) + convolution.bias.reshape(-1, *(1,) * dims)
        close(probs, (logits / 0.5).softmax(1), 1e-5, 1e-6)
        close(probs.sum(1), torch.ones(2, *features.shape[2:]), 1e-6, 0)
    assert not torch.equal(head.heads[0].weight, head.heads[1].weight)  # each its own random start


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_mlp_heads_have_one_hidden_layer(dims):
    head = ClusterHead(3, 4, num_heads=1, head_type="mlp", hidden_channels=6, spatial_dims=dims)
    first, slope, second = head.heads[0]
    assert isinstance(head.heads[0], nn.Sequential)
    assert isinstance(first, CONVOLUTIONS[dims]) and isinstance(second, CONVOLUTIONS[dims])
    assert (first.in_channels, first.out_channels, second.in_channels, second.out_channels) == (3, 6, 6, 4)
    assert first.kernel_size == second.kernel_size == (1,) * dims
    assert isinstance(slope, nn.LeakyReLU) and slope.negative_slope == 0.01
    features = noise(2, 3, *(4, 5, 3)[:dims])
    close(head(features)[0], second(slope(first(features))).softmax(1), 1e-5, 1e-6)


def test_defaults_are_those_of_the_experiments():
    head = ClusterHead(2)
    assert len(head.heads) == 3
    for convolution in head.heads:
        assert isinstance(convolution, nn.Conv3d) and convolution.out_channels == 40
    assert [layer.out_channels for layer in ClusterHead(2, head_type="mlp").heads[0][::2]] == [64, 40]


def test_temperature_sharpens_and_changes_no_input():
    head = ClusterHead(3, 4, num_heads=1, spatial_dims=2)
    sharp = ClusterHead(3, 4, num_heads=1, spatial_dims=2, temperature=0.1)
    sharp.load_state_dict(head.state_dict())
    features = noise(1, 3, 5, 5)
    copy = features.clone()
    plain = head(features)[0]
    close(sharp(features)[0], (plain.log() / 0.1).softmax(1), 1e-4, 1e-5)
    assert torch.equal(features, copy)
    assert torch.equal(head(features)[0], plain)


def test_outside_the_frame_features_are_0_and_the_bias_speaks():
    head = ClusterHead(3, 4, num_heads=2, spatial_dims=2)
    for convolution, probs in zip(head.heads, head(torch.zeros(1, 3, 2, 2)), strict=True):
        close(probs, convolution.bias.softmax(0).reshape(1, 4, 1, 1).expand(1, 4, 2, 2), 1e-6, 0)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_softmax_is_float32_at_least(kind):
    head = ClusterHead(3, 4, num_heads=1, head_type=kind, hidden_channels=5, spatial_dims=2)
    features = noise(2, 3, 6, 6)
    plain = head(features)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = head(features)[0]
        bare = head(features.bfloat16())[0]  # what a network gives under autocast
    for probs in (under, bare):
        assert probs.dtype == torch.float32
        close(probs.sum(1), torch.ones(2, 6, 6), 1e-5, 0)  # finer than bfloat16 could say
        close(probs, plain, 0.05, 0.02)
    for half in (torch.float16, torch.bfloat16):
        narrow = ClusterHead(3, 4, num_heads=1, head_type=kind, hidden_channels=5, spatial_dims=2).to(half)
        probs = narrow(features.to(half))[0]
        assert probs.dtype == torch.float32
        close(probs.sum(1), torch.ones(2, 6, 6), 1e-5, 0)
    assert head.double()(features.double())[0].dtype == torch.float64


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_head_gradient_is_right(kind):
    head = ClusterHead(2, 3, num_heads=2, head_type=kind, hidden_channels=4, spatial_dims=1).double()
    features = noise(1, 2, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: torch.cat(head(x)), features)
    torch.cat(head(features))[:, 0].sum().backward()
    assert all(p.grad is not None for p in head.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_clusters": 1}, "num_clusters.*1"),
        ({"num_heads": 0}, "num_heads.*0"),
        ({"head_type": "conv"}, "head_type.*'conv'"),
        ({"temperature": 0.0}, r"temperature.*0\.0"),
        ({"temperature": -1.0}, r"temperature.*-1\.0"),
        ({"spatial_dims": 4}, "spatial_dims.*4"),
    ],
)
def test_heads_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ClusterHead(2, **options)


@pytest.mark.parametrize("shape", [(1, 2, 4), (1, 2, 4, 4, 4)])
def test_features_of_another_rank_are_refused(shape):
    with pytest.raises(ValueError, match=rf"features.*\({str(shape)[1:-1]}\)"):
        ClusterHead(2, 3, spatial_dims=2)(torch.zeros(shape))


# ------------------------------------------------------------ projection


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "rtol", "atol"), PRECISION)
def test_projection_matches_the_reference(dtype, rtol, atol, device):
    head = ProjectionHead(7, hidden_channels=5, out_channels=4).to(device, dtype)
    for place, layer in ((0, head.mlp[0]), (1, head.mlp[2])):
        layer.load_state_dict({n: stored(f"projection__linear{place}_{n}", dtype, device) for n in ("weight", "bias")})
    found = head(stored("projection__features", dtype, device))
    assert found.dtype == dtype and found.device.type == device
    close(found.detach(), stored("projection__embeddings", dtype), rtol, atol)


@pytest.mark.parametrize("grid", [(5,), (4, 3), (2, 3, 4)])
def test_projection_is_mean_mlp_length_1(grid):
    head = ProjectionHead(3, hidden_channels=6, out_channels=4)
    assert isinstance(head.mlp, nn.Sequential)
    first, slope, second = head.mlp
    assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
    assert isinstance(slope, nn.LeakyReLU) and slope.negative_slope == 0.01
    features = noise(2, 3, *grid)
    copy = features.clone()
    found = head(features)
    plain = head.mlp(features.flatten(2).mean(2))
    close(found, plain / plain.norm(dim=1, keepdim=True), 1e-5, 1e-6)
    close(found.norm(dim=1), torch.ones(2), 1e-6, 0)
    close(head(features.flatten(2).flip(2)), found, 1e-5, 1e-6)  # places do not matter
    assert torch.equal(features, copy)


def test_projection_defaults():
    head = ProjectionHead(512)
    assert [(layer.in_features, layer.out_features) for layer in head.mlp[::2]] == [(512, 256), (256, 256)]


def test_projection_types():
    head = ProjectionHead(3, hidden_channels=6, out_channels=4)
    features = noise(2, 3, 4, 4)
    plain = head(features)
    assert plain.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for given in (features, features.bfloat16()):
            under = head(given)
            assert under.dtype == torch.float32
            close(under.norm(dim=1), torch.ones(2), 1e-5, 0)
            close(under, plain, 0.05, 0.02)
    narrow = ProjectionHead(3, hidden_channels=6, out_channels=4).bfloat16()(features.bfloat16())
    assert narrow.dtype == torch.float32
    double = head.double()
    assert double(features.double()).dtype == torch.float64
    assert torch.autograd.gradcheck(double, features[:1, :, :2, :1].double().requires_grad_())


def test_projection_needs_a_grid():
    with pytest.raises(ValueError, match=r"features.*\(2, 3\)"):
        ProjectionHead(3)(torch.zeros(2, 3))
