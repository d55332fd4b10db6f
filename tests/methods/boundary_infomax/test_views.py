"""Names and arguments the package promises, slices of a scan, and what the tests of lent functions leave open."""

import inspect
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from medssl_nb.data import augment
from medssl_nb.methods import boundary_infomax
from medssl_nb.methods.boundary_infomax import (
    FeatureUNet,
    apply_affine,
    axial_partition,
    random_affine,
    random_gamma,
    warmup_cosine_lr,
)

REFERENCE = np.load(Path(__file__).parents[2] / "reference" / "boundary_infomax.npz", allow_pickle=False)
NEUTRAL = {"scale": (1, 1), "rotation_degrees": 0.0, "translation": 0.0, "flip_probability": 0.0}


def seeded(number=0):
    return torch.Generator().manual_seed(number)


# ------------------------------------------------------------ the contract's names and arguments


CONTRACT = {
    "joint_probability": "probs_a, probs_b, *, symmetric=True, mask=None",
    "displaced_joint_probability": "probs_a, probs_b, *, radius, symmetric=False, match_released_code=False",
    "mutual_information": "joint",
    "iic_loss": "joint, *, marginal_weight=1.0, eps=1e-5",
    "regularized_mi_loss": "joint, *, alpha=0.5, marginal_weight=1.0, eps=1e-5",
    "cluster_entropy": "probs, *, eps=1e-16",
    "gradient_magnitude": "image, *, spacing=None, boundary='replicate'",
    "min_max_normalize": "x, *, eps=1e-6",
    "edge_target": "image, *, power=0.75, spacing=None, boundary='replicate'",
    "local_cross_correlation": "first, second, *, window=5, eps=1e-5",
    "boundary_loss": "probs, image, *, window=5, power=0.75, eps=1e-5, spacing=None, boundary='replicate', mask=None",
    "info_nce_loss": "embeddings_a, embeddings_b, labels=None, *, temperature=0.07",
    "BoundaryInfoMaxTerms": "total, mutual_information, boundary, joints",
    "boundary_infomax_loss": (
        "probs_a, probs_b, image, *, mi_weight=1.0, boundary_weight=1.0, alpha=0.5, marginal_weight=1.0, "
        "symmetric=True, window=5, power=0.75, spacing=None, boundary='replicate', mask=None"
    ),
    "ClusterHead": (
        "in_channels, num_clusters=40, *, num_heads=3, head_type='linear', hidden_channels=64, temperature=1.0, "
        "spatial_dims=3"
    ),
    "ProjectionHead": "in_channels, *, hidden_channels=256, out_channels=256",
    "random_affine": (
        "batch_size, spatial_shape, *, scale=(0.8, 1.3), rotation_degrees=45.0, translation=0.1, "
        "flip_probability=0.5, flip_axes=None, spacing=None, generator=None, device=None, dtype=torch.float32"
    ),
    "apply_affine": "x, theta, *, mode='nearest', padding_mode='zeros'",
    "random_gamma": "image, *, gamma=(0.5, 2.0), generator=None",
    "axial_partition": "index, num_slices, num_partitions",
    "FeatureUNet": "in_channels=1, num_classes=2, *, spatial_dims=3, channels=(32, 64, 128, 256, 512), momentum=0.01",
    "FeatureUNet.forward": "self, x",
    "FeatureUNet.features": "self, x, names",
    "warmup_cosine_lr": "epoch, *, base_lr, multiplier, warmup_epochs=10, max_epochs, min_lr=1e-7",
    "match_clusters": "assignment, reference, *, num_clusters, num_references, mode='many_to_one'",
    "cluster_usage": "probs",
}


@pytest.mark.parametrize("name", CONTRACT)
def test_arguments_keep_their_names_order_and_defaults(name):
    promised = {}
    exec(f"def stated({CONTRACT[name]}): ...", {"torch": torch}, promised)
    found = boundary_infomax
    for part in name.split("."):
        found = getattr(found, part)

    def face(function):
        return [(p.name, p.kind.name, p.default) for p in inspect.signature(function).parameters.values()]

    stated = face(promised["stated"])
    own = face(found)
    if name == "BoundaryInfoMaxTerms":
        own = [(field, "POSITIONAL_OR_KEYWORD", inspect.Parameter.empty) for field in found._fields]
    assert own[: len(stated)] == stated
    for _, kind, default in own[len(stated) :]:  # more may be offered, never asked for
        assert kind == "KEYWORD_ONLY" and default is not inspect.Parameter.empty


def test_the_package_offers_the_whole_contract():
    assert {name.split(".")[0] for name in CONTRACT} <= set(boundary_infomax.__all__)


def test_lent_names_are_the_shared_objects():
    from medssl_nb.networks import FeatureUNet as network
    from medssl_nb.training.schedules import warmup_cosine_lr as schedule

    for name in ("random_affine", "apply_affine", "random_gamma"):
        assert getattr(boundary_infomax, name) is getattr(augment, name)
    assert FeatureUNet is network
    assert warmup_cosine_lr is schedule


# ------------------------------------------------------------ slices


@pytest.mark.parametrize(("length", "parts"), REFERENCE["partition__settings"].tolist())
def test_partition_equals_the_reference(length, parts):
    found = [axial_partition(i, length, parts) for i in range(length)]
    assert found == REFERENCE[f"partition__length{length}_parts{parts}"].tolist()
    assert all(type(part) is int for part in found)


def test_partition_by_hand():
    assert [axial_partition(i, 10, 3) for i in range(10)] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]  # 10 // 3 + 1 = 4 slices
    assert axial_partition(0, 1, 1) == 0
    assert [axial_partition(i, 4, 1) for i in range(4)] == [0] * 4


@pytest.mark.parametrize(("length", "parts"), [(1, 1), (7, 2), (8, 8), (9, 3), (32, 5), (100, 8), (2, 3), (7, 8)])
def test_partitions_rise_and_stay_below_their_number(length, parts):
    found = [axial_partition(i, length, parts) for i in range(length)]
    assert found == [math.floor(i / (length // parts + 1)) for i in range(length)]
    assert found == sorted(found) and found[0] == 0 and found[-1] < parts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 10, 3), "index.*-1"),
        ((10, 10, 3), "index.*10"),
        ((0, 0, 3), "num_slices.*0"),
        ((0, 10, 0), "num_partitions.*0"),
    ],
)
def test_slices_that_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        axial_partition(*arguments)


# ------------------------------------------------------------ maps: what their own tests leave open


@pytest.mark.parametrize("shape", [(9,), (8, 12), (6, 10, 8)])
def test_default_ranges_are_those_of_the_method(shape):
    d = len(shape)
    theta = random_affine(300, shape, generator=seeded(), dtype=torch.float64)
    assert theta.shape == (300, d, d + 1) and theta.dtype == torch.float64
    scale = torch.linalg.det(theta[:, :, :d]).abs() ** (-1 / d)
    assert 0.8 <= scale.min() < 0.83 and 1.27 < scale.max() <= 1.3 + 1e-9
    signs = torch.linalg.det(theta[:, :, :d]) < 0
    assert 0.4 < signs.double().mean() < 0.6
    still = random_affine(300, shape, scale=(1, 1), rotation_degrees=0.0, flip_probability=0.0, generator=seeded())
    assert 0.18 < still[:, :, d].abs().max() <= 0.2 + 1e-6  # a tenth of a side that is 2 long
    if d == 2:
        turned = random_affine(300, (8, 8), **{**NEUTRAL, "rotation_degrees": 45.0}, generator=seeded())
        angle = torch.rad2deg(torch.atan2(turned[:, 1, 0], turned[:, 0, 0]))
        assert 43 < angle.max() <= 45.001 and -45.001 <= angle.min() < -43


def test_axes_are_mirrored_independently():
    theta = random_affine(600, (4, 4, 4), **{**NEUTRAL, "flip_probability": 0.5}, generator=seeded())
    mirrored = theta[:, :, :3].diagonal(dim1=1, dim2=2) < 0
    patterns = {tuple(row) for row in mirrored.tolist()}
    assert len(patterns) == 8
    assert ((mirrored.double().mean(0) - 0.5).abs() < 0.08).all()
    both = (mirrored[:, 0] & mirrored[:, 1]).double().mean()
    assert 0.18 < both < 0.32


def test_view_b_commutes_with_a_pointwise_head_inside_the_frame():
    features, weight = torch.rand(2, 3, 8, 9, generator=seeded()), torch.rand(4, 3, 1, 1, generator=seeded(1))
    theta = random_affine(2, (8, 9), generator=seeded(2))

    def head(x):
        return torch.nn.functional.conv2d(x, weight, torch.arange(4.0)).softmax(1)

    inside = apply_affine(torch.ones(2, 1, 8, 9), theta).bool().expand(2, 4, 8, 9)
    assert 0 < inside.double().mean() < 1
    after, before = head(apply_affine(features, theta)), apply_affine(head(features), theta)
    torch.testing.assert_close(after[inside], before[inside])
    outside = torch.arange(4.0).softmax(0).reshape(1, 4, 1, 1).expand_as(after)[~inside]
    torch.testing.assert_close(after[~inside], outside)  # a constant, softmax(bias)
    assert (before[~inside] == 0).all()


def test_maps_change_no_input():
    x = torch.rand(2, 1, 6, 6, generator=seeded())
    theta = random_affine(2, (6, 6), generator=seeded())
    copies = x.clone(), theta.clone()
    for mode in ("nearest", "bilinear"):
        for padding in ("zeros", "border"):
            apply_affine(x, theta, mode=mode, padding_mode=padding)
    random_gamma(x, generator=seeded())
    assert torch.equal(x, copies[0]) and torch.equal(theta, copies[1])


def test_trilinear_border_and_doubles():
    x = torch.rand(1, 1, 4, 5, 6, generator=seeded(), dtype=torch.float64)
    theta = random_affine(1, (4, 5, 6), generator=seeded(), dtype=torch.float64)
    found = apply_affine(x, theta, mode="bilinear", padding_mode="border")
    assert found.dtype == torch.float64
    grid = torch.nn.functional.affine_grid(theta, (1, 1, 4, 5, 6), align_corners=False)
    literal = torch.nn.functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    torch.testing.assert_close(found, literal)


def test_gamma_draws_from_its_generator_alone():
    image = torch.rand(400, 1, 3, generator=seeded(), dtype=torch.float64) * 0.8 + 0.1
    state = torch.get_rng_state()
    found = random_gamma(image, generator=seeded(5))
    assert torch.equal(torch.get_rng_state(), state)
    assert found.dtype == torch.float64
    assert torch.equal(random_gamma(image, generator=seeded(5)), found)
    assert not torch.equal(random_gamma(image, generator=seeded(6)), found)
    powers = (found.log() / image.log())[:, 0, 0]
    assert 0.5 <= powers.min() < 0.55 and 1.95 < powers.max() <= 2
    assert float(powers.mean()) == pytest.approx(1.25, abs=0.08)  # uniform in the exponent, not in its logarithm
    assert float(powers.median()) == pytest.approx(1.25, abs=0.12)


# ------------------------------------------------------------ network: what its own tests leave open


@pytest.mark.parametrize(("width", "parameters", "classes"), REFERENCE["unet2d__parameter_counts"].tolist())
def test_networks_have_the_size_on_record(width, parameters, classes):
    channels = tuple(width // n for n in (16, 8, 4, 2, 1))
    network = FeatureUNet(1, classes, spatial_dims=2, channels=channels)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(("width", "parameters"), [(128, 1_619_354), (256, 6_473_522)])
def test_solid_networks_have_the_stated_size(width, parameters):
    network = FeatureUNet(channels=tuple(width // n for n in (16, 8, 4, 2, 1)))
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_network_names_and_layers():
    network = FeatureUNet(1, 3, spatial_dims=2, channels=(4, 6, 8, 10, 12)).eval()
    x = torch.rand(1, 1, 32, 32, generator=seeded())
    copy = x.clone()
    names = [f"encoder_{k}" for k in range(1, 6)] + [f"decoder_{k}" for k in range(4, 0, -1)] + ["logits"]
    found = network.features(x, names)
    assert set(found) == set(names)
    for k in range(1, 5):
        assert found[f"decoder_{k}"].shape == found[f"encoder_{k}"].shape
    assert torch.equal(network.features(x, "decoder_1")["decoder_1"], found["decoder_1"])
    assert torch.equal(x, copy)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 22 and {m.momentum for m in norms} == {0.01}  # 9 blocks of two, 4 ways up
    biased = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d) and m.bias is not None]
    assert sum(m.kernel_size == (1, 1) for m in biased) == 1  # the last layer
