"""Any encoder becomes a segmentation network; features land on the voxel grid; descriptions build encoders."""

import pytest
import torch

from medssl_nb.networks import FeatureUNet, Segmenter, build_encoder, size_multiple, voxel_features

DESCRIPTIONS = {
    "unet": {"network": "FeatureUNet", "channels": [4, 6], "norm": "instance"},
    "unet 2D": {"network": "FeatureUNet", "channels": [4, 6], "norm": "instance", "spatial_dims": 2},
    "transformer": {
        **{"network": "MaskedPatchTransformer", "volume_size": [16, 16, 16], "patch_size": 4},
        **{"hidden_size": 24, "layers": 1, "heads": 2},
    },
    "transformer 2D, odd patches": {
        **{"network": "MaskedPatchTransformer", "volume_size": [18, 16], "patch_size": [6, 4]},
        **{"hidden_size": 24, "layers": 1, "heads": 2},
    },
    "conv": {"network": "ConvBackbone", "widths": [8, 8, 8, 8]},
    "conv 2D": {"network": "ConvBackbone", "widths": [8, 8, 8, 8], "spatial_dims": 2},
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_every_encoder_segments_and_probes(name):
    encoder = build_encoder(DESCRIPTIONS[name])
    size = DESCRIPTIONS[name].get("volume_size") or [16] * encoder.spatial_dims
    network = Segmenter(encoder, 3, features=8)
    x = torch.randn(2, 1, *size)
    logits = network(x)
    assert logits.shape == (2, 3, *size)
    logits.square().mean().backward()
    without = [n for n, p in encoder.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert without, "no gradient reaches the encoder"
    features = voxel_features(encoder, x)
    assert features.shape == (2, sum(encoder.feature_channels), *size)
    assert not features.requires_grad
    maps = encoder.feature_maps(x)
    for m, channels, strides in zip(maps, encoder.feature_channels, encoder.feature_strides, strict=True):
        assert tuple(m.shape[1:]) == (channels, *(side // s for side, s in zip(size, strides, strict=True)))


def test_the_encoder_is_shared_and_a_unet_gets_a_plain_head():
    encoder = FeatureUNet(channels=(4, 6))
    network = Segmenter(encoder, 3)
    assert network.encoder is encoder
    assert sum(p.numel() for p in network.head.parameters()) == 4 * 3 + 3
    own = sum(p.numel() for n, p in network.named_parameters() if not n.startswith("encoder."))
    assert own == 4 * 3 + 3


def test_voxel_features_keep_a_constant_constant():
    class Constant(torch.nn.Module):
        spatial_dims, in_channels, feature_channels, feature_strides = 2, 1, (1, 1), ((1, 1), (4, 4))

        def feature_maps(self, volume):
            ones = torch.ones(len(volume), 1, *volume.shape[2:])
            return [ones, 5 * ones[..., ::4, ::4]]

    found = voxel_features(Constant(), torch.zeros(1, 1, 8, 8))
    torch.testing.assert_close(found, torch.tensor([1.0, 5.0]).view(1, 2, 1, 1).expand(1, 2, 8, 8))


def test_size_multiple_is_the_coarsest_stride():
    assert size_multiple(FeatureUNet(channels=(4, 6, 8))) == (4, 4, 4)


def test_descriptions_travel_with_the_encoder():
    encoder = build_encoder(DESCRIPTIONS["unet"])
    assert encoder.description == DESCRIPTIONS["unet"]
    again = build_encoder(encoder.description)
    assert again.state_dict().keys() == encoder.state_dict().keys()


def test_messages():
    with pytest.raises(ValueError, match=r"names its network, one of FeatureUNet.*got 'ResNet'"):
        build_encoder({"network": "ResNet"})
    with pytest.raises(ValueError, match=r"FeatureUNet does not take these arguments.*width"):
        build_encoder({"network": "FeatureUNet", "width": 3})
    with pytest.raises(ValueError, match="count from 1, got 0 and 16"):
        Segmenter(FeatureUNet(channels=(4, 6)), 0)
