"""FeatureUNet: sizes, taps, MONAI's names, messages."""

import pytest
import torch

from medssl_nb.networks import FeatureUNet


def test_the_published_network_has_its_published_size():
    network = FeatureUNet(1, 4, spatial_dims=2)
    assert sum(p.numel() for p in network.parameters()) == 8_633_444


@pytest.mark.parametrize("dims", [2, 3])
def test_features_have_the_size_and_width_of_their_stage(dims):
    network = FeatureUNet(2, 3, spatial_dims=dims, channels=(4, 6, 8)).eval()
    x = torch.randn(2, 2, *(16,) * dims)
    found = network.features(x, network.names)
    sizes = {name: (f.shape[1], f.shape[2]) for name, f in found.items()}
    assert sizes == {
        **{"encoder_1": (4, 16), "encoder_2": (6, 8), "encoder_3": (8, 4)},
        **{"decoder_2": (6, 8), "decoder_1": (4, 16), "logits": (3, 16)},
    }
    torch.testing.assert_close(network(x), found["logits"])
    assert list(network.features(x, ("decoder_1", "encoder_2"))) == ["decoder_1", "encoder_2"]


def test_computation_stops_when_all_names_are_there():
    network = FeatureUNet(channels=(4, 6, 8))
    network.get_submodule("down_2").register_forward_pre_hook(lambda *_: pytest.fail("deeper than asked for"))
    assert network.features(torch.randn(2, 1, 8, 8, 8), "encoder_2")["encoder_2"].shape == (2, 6, 4, 4, 4)


def test_the_way_down_loads_into_plain_monai():
    from monai.networks.nets import BasicUNet

    channels = (4, 4, 6, 6, 8)
    torch.manual_seed(0)
    ours = FeatureUNet(channels=channels, norm="instance").eval()
    plain = BasicUNet(3, 1, 2, (*channels, 4), act="relu", norm=("instance", {"affine": True}), bias=False).eval()
    way_down = {k: v for k, v in ours.state_dict().items() if k.startswith(("conv_0", "down_"))}
    missing, unexpected = plain.load_state_dict(way_down, strict=False)
    assert not unexpected
    assert all(name.startswith(("upcat_", "final_conv")) for name in missing)
    x = torch.randn(1, 1, 32, 32, 32)
    deepest = plain.down_4(plain.down_3(plain.down_2(plain.down_1(plain.conv_0(x)))))
    torch.testing.assert_close(ours.features(x, "encoder_5")["encoder_5"], deepest)


def test_the_encoder_face():
    network = FeatureUNet(channels=(4, 6, 8), spatial_dims=2).eval()
    maps = network.feature_maps(torch.randn(1, 1, 16, 24))
    assert [tuple(m.shape[1:]) for m in maps] == [(4, 16, 24), (6, 8, 12), (8, 4, 6)]
    assert network.feature_channels == (4, 6, 8)
    assert network.feature_strides == ((1, 1), (2, 2), (4, 4))


def test_momentum_is_the_share_of_the_new_batch():
    network = FeatureUNet(channels=(4, 6), spatial_dims=2)
    x = torch.randn(4, 1, 8, 8)
    network(x)
    first = network.conv_0.conv_0
    expected = 0.01 * first.conv(x).mean((0, 2, 3))
    torch.testing.assert_close(first.adn.N.running_mean, expected)


def test_autocast_and_float64():
    network = FeatureUNet(channels=(4, 6), norm="instance")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(torch.randn(1, 1, 8, 8, 8)).isfinite().all()
    assert network.double()(torch.randn(1, 1, 8, 8, 8).double()).dtype == torch.float64


def test_messages():
    with pytest.raises(ValueError, match="spatial_dims is 2 or 3, got 1"):
        FeatureUNet(spatial_dims=1)
    with pytest.raises(ValueError, match=r"at least two, got \(8,\)"):
        FeatureUNet(channels=(8,))
    with pytest.raises(ValueError, match=r"norm.*'layer'"):
        FeatureUNet(norm="layer")
    network = FeatureUNet(channels=(4, 6, 8))
    with pytest.raises(ValueError, match="no feature 'encoder_4'; there are encoder_1"):
        network.features(torch.randn(1, 1, 8, 8, 8), "encoder_4")
    with pytest.raises(ValueError, match=r"divisible by 4.*\(8, 8, 6\)"):
        network(torch.randn(1, 1, 8, 8, 6))
    with pytest.raises(ValueError, match=r"\(B, 1, X, Y, Z\), got \(1, 2, 8, 8, 8\)"):
        network(torch.randn(1, 2, 8, 8, 8))
