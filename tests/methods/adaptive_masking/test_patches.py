"""Foreground and features of patches: reference numbers, hand values, the stated edges, messages."""

from pathlib import Path

import numpy as np
import pytest
import torch

from medssl_nb.methods.adaptive_masking import foreground_patches, patch_features, patchify

REFERENCE = np.load(Path(__file__).parents[2] / "reference" / "adaptive_masking.npz", allow_pickle=False)
DTYPES = [torch.float32, torch.float64]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
KINDS = ["statistics", "peak", "voxels"]


def stored(name, dtype=None):
    value = torch.from_numpy(np.asarray(REFERENCE[name]))
    return value.to(dtype) if dtype and value.is_floating_point() else value


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- foreground ---


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_foreground_matches_the_reference(dtype, device):
    volume = stored("foreground_patches__3d__volume", dtype).to(device)
    found = foreground_patches(volume, 4, threshold=0.5, min_fraction=0.25)
    assert found.device == volume.device
    assert found.dtype == torch.bool
    assert torch.equal(found.cpu(), stored("foreground_patches__3d__expected"))


def test_foreground_by_hand():
    image = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 2.0]])[None, None]  # two patches of four
    assert foreground_patches(image, 2).tolist() == [[True, True]]  # a quarter each, a tenth is enough
    assert foreground_patches(image, 2, threshold=1.0).tolist() == [[False, True]]  # 1 is not above 1
    assert foreground_patches(image, 2, min_fraction=0.3).tolist() == [[False, False]]
    assert foreground_patches(image - 600, 2, threshold=-600).tolist() == [[True, True]]


def test_one_bright_channel_is_enough_for_a_voxel_and_channels_do_not_add_up():
    one, other = torch.zeros(2, 1, 1, 2, 2)
    one[0, 0, 0, 0], other[0, 0, 1, 1] = 1.0, 1.0
    volume = torch.cat([one, other], dim=1)  # 2 of 4 voxels, each in one channel
    assert foreground_patches(volume, 2, min_fraction=0.5).item()
    assert not foreground_patches(volume, 2, min_fraction=0.6).item()
    assert not foreground_patches(volume * 0.4, 2, threshold=0.5, min_fraction=0.1).item()


@pytest.mark.parametrize("patch_size", [(2, 5), (3, 9), (5, 6), (3, 3, 3), (7, 7, 2)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_exactly_the_least_share_is_enough(patch_size, dtype):
    voxels = int(np.prod(patch_size))
    volumes = torch.tensor([[float(v < k) for v in range(voxels)] for k in range(1, voxels + 1)], dtype=dtype)
    volumes = volumes.reshape(voxels, 1, *patch_size)
    for k in range(1, voxels + 1):
        found = foreground_patches(volumes, patch_size, min_fraction=k / voxels)[:, 0]
        assert found.tolist() == [count >= k for count in range(1, voxels + 1)], k


def test_foreground_of_half_types_is_decided_in_float32():
    for dtype in (torch.bfloat16, torch.float16):
        half = torch.full((1, 1, 2, 2), 0.5, dtype=dtype)
        assert foreground_patches(half, 2, threshold=0.49999).item()  # 0.49999 rounds to 0.5 in half types


@pytest.mark.parametrize(
    "shape, arguments, message",
    [
        ((1, 1, 4, 4), {"min_fraction": 0}, "min_fraction.*0"),
        ((1, 1, 4, 4), {"min_fraction": 1.01}, r"min_fraction.*1\.01"),
        ((1, 1, 4, 4), {"min_fraction": -0.1}, r"min_fraction.*-0\.1"),
        ((1, 1, 4, 4), {"min_fraction": float("nan")}, "min_fraction.*nan"),
        ((4, 4), {}, r"volume.*\(4, 4\)"),
        ((1, 1, 4, 5), {}, r"multiple of its patch_size.*\(4, 5\)"),
        ((1, 1, 4, 4), {"patch_size": 0}, "patch_size.*0"),
        ((1, 1, 4, 4), {"patch_size": (2, 2, 2)}, r"patch_size.*\(2, 2, 2\)"),
    ],
)
def test_foreground_refuses(shape, arguments, message):
    with pytest.raises(ValueError, match=message):
        foreground_patches(torch.zeros(shape), **({"patch_size": 2} | arguments))


# --- features ---


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype, raw, standardized", [(torch.float64, 1e-8, 1e-8), (torch.float32, 1e-5, 1e-4)])
@pytest.mark.parametrize("kind", KINDS)
def test_features_match_the_reference(kind, dtype, raw, standardized, device):
    prefix = "patch_features__3d__"
    volume, valid = stored(prefix + "volume", dtype).to(device), stored(prefix + "valid").to(device)
    cases = {
        "raw": ({"standardize": False}, raw),
        "standardized": ({}, standardized),
        "standardized_valid": ({"valid": valid}, standardized),
    }
    for name, (arguments, tolerance) in cases.items():
        found = patch_features(volume, 4, kind, **arguments)
        assert (found.dtype, found.device) == (dtype, volume.device)
        expected = stored(f"{prefix}{kind}_{name}", dtype)
        torch.testing.assert_close(found.cpu(), expected, rtol=tolerance, atol=tolerance)


def test_statistics_by_hand():
    first = torch.tensor([[1.0, 3.0, 0.0, 0.0], [1.0, 3.0, 0.0, 0.0]])
    second = torch.tensor([[5.0, 5.0, 0.0, 8.0], [5.0, 5.0, 0.0, 0.0]])
    found = patch_features(torch.stack([first, second])[None], 2, standardize=False)
    # mean of each channel, then population standard deviation of each channel
    expected = torch.tensor([[[2.0, 5.0, 1.0, 0.0], [0.0, 2.0, 0.0, 12**0.5]]])
    torch.testing.assert_close(found, expected)


def test_the_default_kind_is_statistics():
    volume = noise(1, 2, 4, 4)
    assert torch.equal(patch_features(volume, 2), patch_features(volume, 2, "statistics", None, True, 0.95))


@pytest.mark.parametrize("quantile", [0.01, 0.5, 0.95, 0.999, 1.0])
@pytest.mark.parametrize(
    "shape, patch_size", [((2, 3, 6, 10), (3, 5)), ((1, 2, 6, 4, 4), (3, 4, 2)), ((1, 1, 2, 2), 1)]
)
def test_peak_is_the_quantile_of_each_channel(shape, patch_size, quantile):
    volume = noise(*shape, dtype=torch.float64)
    channels = shape[1]
    voxels = patchify(volume, patch_size).unflatten(2, (-1, channels))  # (B, N, voxels, C)
    expected = torch.from_numpy(np.quantile(voxels.numpy(), quantile, axis=2))
    found = patch_features(volume, patch_size, "peak", standardize=False, quantile=quantile)
    torch.testing.assert_close(found, expected)
    # and by the sentence: sorted, position quantile * (n - 1), linear in between
    ordered = voxels.sort(dim=2).values
    position = quantile * (ordered.shape[2] - 1)
    below = int(position)
    above = min(below + 1, ordered.shape[2] - 1)
    by_hand = ordered[:, :, below] * (below + 1 - position) + ordered[:, :, above] * (position - below)
    torch.testing.assert_close(found, by_hand)


def test_peak_of_large_volumes():
    volume = torch.arange(17.0).repeat(2**20)[None, None, :, None]  # above the 16 million values torch.quantile takes
    found = patch_features(volume, (17 * 2**19, 1), "peak", standardize=False, quantile=0.9)
    assert found.tolist() == [[[15.0], [15.0]]]  # 15.3 of 17: each of the values 0 to 16 fills a 17th


@pytest.mark.parametrize("shape, patch_size", [((2, 3, 4, 6), 2), ((2, 2, 4, 6, 2), (2, 3, 1))])
def test_voxels_are_the_patches_themselves(shape, patch_size):
    volume = noise(*shape)
    assert torch.equal(patch_features(volume, patch_size, "voxels", standardize=False), patchify(volume, patch_size))


@pytest.mark.parametrize("kind", KINDS)
def test_a_flat_volume_is_described_like_an_image(kind):
    volume = noise(2, 2, 8, 6, 1)
    flat = patch_features(volume, (4, 3, 1), kind)
    torch.testing.assert_close(flat, patch_features(volume[..., 0], (4, 3), kind))


@pytest.mark.parametrize("kind", KINDS)
def test_valid_patches_have_mean_0_and_population_deviation_1_in_each_volume(kind):
    volume = noise(2, 1, 8, 8, dtype=torch.float64) * 7 + 40
    volume[1] = 3 * volume[1] - 900
    valid = torch.tensor([[True] * 5 + [False] * 11, [False, True] * 8])
    found = patch_features(volume, 2, kind, valid=valid)
    for features, chosen in zip(found, valid, strict=True):
        inside = features[chosen]
        torch.testing.assert_close(inside.mean(0), torch.zeros_like(inside[0]), atol=1e-9, rtol=0)
        torch.testing.assert_close(inside.std(0, correction=0), torch.ones_like(inside[0]), atol=1e-5, rtol=0)
    # the others are measured with the same ruler
    raw = patch_features(volume, 2, kind, standardize=False)
    mean, deviation = raw[0, :5].mean(0), raw[0, :5].std(0, correction=0)
    torch.testing.assert_close(found[0], (raw[0] - mean) / (deviation + 1e-6))


@pytest.mark.parametrize("kind", KINDS)
def test_values_of_patches_that_are_not_valid_move_nothing(kind):
    volume, valid = noise(1, 1, 4, 4), torch.tensor([[True, True, False, True]])
    expected = patch_features(volume, 2, kind, valid=valid)
    volume[0, 0, 2:, :2] = 1000 * noise(2, 2, seed=1)  # patch 2
    torch.testing.assert_close(patch_features(volume, 2, kind, valid=valid)[valid], expected[valid])


@pytest.mark.parametrize("kind", KINDS)
def test_without_any_valid_patch_all_are_used(kind):
    volume, valid = noise(2, 1, 4, 4), torch.tensor([[False] * 4, [True, True, True, False]])
    found = patch_features(volume, 2, kind, valid=valid)
    everything = patch_features(volume, 2, kind)
    torch.testing.assert_close(found[0], everything[0])
    assert not torch.allclose(found[1], everything[1])
    torch.testing.assert_close(patch_features(volume, 2, kind, valid=torch.ones_like(valid)), everything)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, 0.1, -877.3, 1000.1, 1e6 / 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_constant_volume_has_features_0(kind, value, dtype):
    volume = torch.full((1, 1, 9, 9, 9), value, dtype=dtype)
    assert patch_features(volume, 3, kind).abs().max() == 0
    valid = torch.arange(27)[None] % 5 > 0
    assert patch_features(volume, 3, kind, valid=valid).abs().max() == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_features_of_half_types_are_computed_in_float32(kind, dtype):
    volume = (200 * noise(1, 1, 8, 8, 8)).to(dtype)  # sums and squares would leave the range of float16
    found = patch_features(volume, 4, kind)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, patch_features(volume.float(), 4, kind))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = patch_features(volume.float(), 4, kind)
    assert torch.equal(inside, patch_features(volume.float(), 4, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_the_volume_is_left_as_it_was(kind):
    volume, valid = noise(2, 1, 4, 4), torch.tensor([[True, False, True, True]] * 2)
    before = volume.clone(), valid.clone()
    patch_features(volume, 2, kind, valid=valid)
    foreground_patches(volume, 2)
    assert torch.equal(volume, before[0])
    assert torch.equal(valid, before[1])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"kind": "mean"}, "kind.*mean"),
        ({"kind": "peak", "quantile": 0}, "quantile.*0"),
        ({"kind": "peak", "quantile": 1.5}, r"quantile.*1\.5"),
        ({"kind": "peak", "quantile": float("nan")}, "quantile.*nan"),
        ({"valid": torch.ones(1, 3, dtype=torch.bool)}, r"valid.*\(1, 3\)"),
        ({"valid": torch.ones(4, dtype=torch.bool)}, r"valid.*\(4,\)"),
        ({"valid": torch.ones(1, 4)}, "valid.*float32"),
        ({"patch_size": 3}, r"multiple of its patch_size.*\(4, 4\)"),
        ({"patch_size": 2.0}, r"patch_size.*2\.0"),
        ({"volume": torch.zeros(4, 4)}, r"volume.*\(4, 4\)"),
        ({"volume": torch.zeros(1, 4, 4)}, r"volume.*\(1, 4, 4\)"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_features_refuse(arguments, message):
    with pytest.raises(ValueError, match=message):
        patch_features(**({"volume": torch.zeros(1, 1, 4, 4), "patch_size": 2} | arguments))
