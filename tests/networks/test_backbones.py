"""Backbones: maps, strides and channels as promised, and MONAI's SwinUNETR unchanged inside."""

import subprocess
import sys

import pytest
import torch

from medssl_nb.networks.backbones import BackboneOutput, ConvBackbone, SwinBackbone

SIZES = {2: (32, 48), 3: (16, 32, 48)}  # no two axes alike
SWIN_SIZE = (64, 64, 96)


def volumes(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def conv(dims=3, widths=(6, 8, 12, 16), **options):
    torch.manual_seed(0)
    return ConvBackbone(dims, widths=widths, **options)


def shapes(tensors):
    return [tuple(t.shape) for t in tensors]


def promised(backbone, batch, size):
    """Shapes of the feature maps by the backbone's own attributes."""
    return [
        (batch, channels, *(s // stride for s, stride in zip(size, strides, strict=True)))
        for channels, strides in zip(backbone.feature_channels, backbone.feature_strides, strict=True)
    ]


# --- ConvBackbone ---


@pytest.mark.parametrize("dims", [2, 3])
def test_conv_output(dims):
    backbone, volume = conv(dims, in_channels=2), volumes(2, 2, *SIZES[dims])
    output = backbone(volume)
    assert isinstance(output, BackboneOutput)
    deepest, coarse = (tuple(s // k for s in SIZES[dims]) for k in (16, 8))
    assert shapes(output) == [(2, 16), (2, 16, *deepest), (2, 12, *coarse), (2, 2, *SIZES[dims])]
    assert (backbone.encoder_channels, backbone.decoder_channels) == (16, 12)
    assert torch.equal(output.global_token, output.encoder_map.flatten(2).mean(-1))


@pytest.mark.parametrize("dims", [2, 3])
def test_conv_face_of_an_encoder(dims):
    backbone, volume = conv(dims), volumes(2, 1, *SIZES[dims])
    maps, output = backbone.feature_maps(volume), backbone(volume)
    assert (backbone.spatial_dims, backbone.in_channels) == (dims, 1)
    assert backbone.feature_channels == (6, 8, 12, 16)
    assert backbone.feature_strides == ((2,) * dims, (4,) * dims, (8,) * dims, (16,) * dims)
    assert shapes(maps) == promised(backbone, 2, SIZES[dims])
    assert torch.equal(maps[2], output.decoder_map)
    assert torch.equal(maps[3], output.encoder_map)
    assert torch.equal(backbone.to_image(maps[0]), output.reconstruction)


def test_the_deepest_map_is_normalised_over_all_channels_of_a_volume():
    backbone = conv()
    before = []
    backbone.norm.register_forward_pre_hook(lambda _, inputs: before.append(inputs[0].flatten(1)))
    deepest = backbone(5 + 3 * volumes(2, 1, *SIZES[3])).encoder_map.flatten(1)
    mean, spread = before[0].mean(dim=1, keepdim=True), before[0].std(dim=1, correction=0, keepdim=True)
    torch.testing.assert_close(deepest, (before[0] - mean) / spread, atol=1e-4, rtol=1e-4)


def test_volumes_of_a_batch_do_not_see_each_other():
    backbone, volume = conv(), volumes(2, 1, *SIZES[3])
    for alone, together in zip(backbone(volume[:1]), backbone(volume), strict=True):
        torch.testing.assert_close(alone, together[:1], atol=1e-5, rtol=1e-5)


def test_skips_are_added_stage_by_stage():
    backbone, volume = conv(), volumes(1, 1, *SIZES[3])
    seen = []
    for stage in (*backbone.down, *backbone.refine):
        stage.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0].clone(), output.clone())))
    backbone(volume)
    down, refine = seen[:4], seen[4:]
    above = backbone.norm(down[3][1])
    for k, (entered, left) in enumerate(refine):
        torch.testing.assert_close(entered, backbone.up[k](above) + down[2 - k][1])
        above = left


@pytest.mark.parametrize("dims", [2, 3])
def test_conv_trains_on_the_smallest_crops(dims):
    backbone = conv(dims, widths=(3, 5, 7, 2)).train()
    output = backbone(volumes(1, 1, *(16,) * dims))  # the deepest map is one voxel
    assert output.encoder_map.shape == (1, 2, *(1,) * dims)
    (output.global_token.square().sum() + output.reconstruction.square().mean()).backward()
    gradients = [p.grad for p in backbone.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)


def test_conv_in_other_precisions():
    backbone, volume = conv(), volumes(2, 1, *SIZES[3])
    expected = backbone(volume)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = backbone(volume)
    assert output.global_token.dtype == torch.float32
    torch.testing.assert_close(output.global_token, expected.global_token, atol=0.05, rtol=0)
    assert all(t.dtype == torch.float64 for t in backbone.double()(volume.double()))


def test_conv_refuses():
    with pytest.raises(ValueError, match="spatial_dims is 2 or 3, got 1"):
        ConvBackbone(1)
    for widths in ((8, 8, 8), (8, 8, 0, 8)):
        with pytest.raises(ValueError, match="channels at strides 2, 4, 8 and 16"):
            ConvBackbone(widths=widths)
    backbone = conv()
    for use in (backbone, backbone.feature_maps):
        with pytest.raises(ValueError, match=r"multiples of 16 and at least 16, got \(16, 24, 32\)"):
            use(torch.zeros(1, 1, 16, 24, 32))
        with pytest.raises(ValueError, match=r"ConvBackbone takes volumes \(N, 1, X, Y, Z\), got \(1, 2, 16, 16, 16\)"):
            use(torch.zeros(1, 2, 16, 16, 16))
        with pytest.raises(ValueError, match=r"got \(1, 16, 16, 16\)"):
            use(torch.zeros(1, 16, 16, 16))


# --- SwinBackbone ---


@pytest.fixture(scope="module")
def swin():
    """Backbone, volume and its output; the network is slow, so it runs once."""
    torch.manual_seed(0)
    backbone = SwinBackbone(feature_size=12, window_size=4).eval()
    volume = volumes(1, 1, *SWIN_SIZE)
    with torch.no_grad():
        return backbone, volume, backbone(volume)


def test_swin_output(swin):
    backbone, _, output = swin
    assert shapes(output) == [(1, 96), (1, 96, 4, 4, 6), (1, 48, 8, 8, 12), (1, 1, *SWIN_SIZE)]
    assert (backbone.encoder_channels, backbone.decoder_channels) == (96, 48)
    assert torch.equal(output.global_token, output.encoder_map.flatten(2).mean(-1))
    torch.testing.assert_close(output.encoder_map.mean(dim=1), torch.zeros(1, 4, 4, 6), atol=1e-5, rtol=0)


def test_swin_weights_are_plain_monai_weights(swin):
    from monai.networks.nets import SwinUNETR

    backbone, volume, output = swin
    plain = SwinUNETR(1, 1, feature_size=12, window_size=4).eval()
    plain.load_state_dict(backbone.swin_unetr.state_dict())
    seen = {}
    plain.swinViT.register_forward_hook(lambda module, inputs, hidden: seen.update(hidden=hidden))
    for name in ("encoder10", "decoder5", "decoder4", "decoder3", "decoder2", "decoder1"):
        plain.get_submodule(name).register_forward_hook(
            lambda module, inputs, result, name=name: seen.update({name: result})
        )
    with torch.no_grad():
        assert torch.equal(plain(volume), output.reconstruction)
        maps = backbone.feature_maps(volume)
    assert torch.equal(seen["hidden"][3], output.encoder_map)
    assert torch.equal(seen["decoder4"], output.decoder_map)
    names = ("decoder1", "decoder2", "decoder3", "decoder4", "decoder5", "encoder10")
    assert [torch.equal(seen[name], m) for name, m in zip(names, maps, strict=True)] == [True] * 6
    assert shapes(maps) == promised(backbone, 1, SWIN_SIZE)
    assert backbone.feature_strides == tuple((k, k, k) for k in (1, 2, 4, 8, 16, 32))


def test_swin_refuses():
    with pytest.raises(ValueError, match="fixes out_channels, patch_size itself"):
        SwinBackbone(patch_size=4, out_channels=3)
    backbone = SwinBackbone(feature_size=12)
    with pytest.raises(ValueError, match=r"multiples of 32 and at least 64, got \(64, 64, 32\)"):
        backbone(torch.zeros(1, 1, 64, 64, 32))
    with pytest.raises(ValueError, match=r"multiples of 32 and at least 64, got \(80, 64, 64\)"):
        backbone.feature_maps(torch.zeros(1, 1, 80, 64, 64))
    with pytest.raises(ValueError, match=r"SwinBackbone takes volumes \(N, 1, X, Y, Z\), got \(1, 1, 64, 64\)"):
        backbone(torch.zeros(1, 1, 64, 64))


# --- imports ---


def test_importing_the_networks_leaves_monai_alone():
    code = (
        "import sys; import medssl_nb.networks.backbones, medssl_nb.networks.patch_transformer\n"
        "print('monai' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
