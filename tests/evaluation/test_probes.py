"""Features of whole volumes, and probes on hand-made features whose answer is known."""

import json

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from medssl_nb.data import load_cohort
from medssl_nb.data.cohorts import Case
from medssl_nb.evaluation.probes import linear_probe, nearest_voxel_probe, whole_volume_features
from medssl_nb.networks.patch_transformer import MaskedPatchTransformer
from medssl_nb.networks.segmenter import voxel_features
from medssl_nb.networks.unet import FeatureUNet

NAMES = {0: "background", 1: "liver", 2: "spleen"}
PROBES = (linear_probe, nearest_voxel_probe)


class GreyValue(nn.Module):
    """An encoder whose only feature is the grey value; it keeps what it was shown."""

    spatial_dims, in_channels, feature_channels, feature_strides = 3, 1, (1,), ((1, 1, 1),)

    def feature_maps(self, volume):
        self.seen = volume
        return [volume]


class Halved(GreyValue):
    feature_strides = ((1, 1, 1), (4, 2, 1))


class MeanOfWindow(GreyValue):
    """The one feature is the mean over all that is seen at once: it tells windows apart."""

    volume_size = (4, 4, 4)

    def feature_maps(self, volume):
        return [volume.mean(dim=(2, 3, 4), keepdim=True).expand_as(volume)]


def case(name, values, label):
    """A case of 1 x 2 x 3 mm voxels with values of -1 ... 1 (as HU) and a label map, both of any shape of n voxels."""
    affine = torch.diag(torch.tensor([1.0, 2.0, 3.0, 1.0], dtype=torch.float64))
    hu = 212.5 * torch.as_tensor(values, dtype=torch.float32) + 37.5
    image = MetaTensor(hu[None], affine=affine)
    truth = MetaTensor(torch.as_tensor(label, dtype=torch.uint8)[None], affine=affine)
    return Case(name, name, "CT", {"image": lambda: image, "label": lambda: truth})


def organs(name, seed, size=(6, 7, 8)):
    """Background -1, liver 0, spleen 1, with a little noise; the organs are boxes at random places."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.zeros(size)
    x, y, z = (int(torch.randint(0, n - 3, (), generator=generator)) for n in size)
    label[x : x + 3, y : y + 3, z : z + 3] = 1
    label[size[0] - 1 - x, y, z : z + 2] = 2
    values = label - 1 + 0.05 * torch.randn(size, generator=generator)
    return case(name, values.clamp(-1, 1), label)


def row(name, runs, axis=0):
    """A case in one row along an axis: runs of (value, label, how many voxels)."""
    values = torch.cat([torch.full((n,), float(v)) for v, _, n in runs])
    label = torch.cat([torch.full((n,), k) for _, k, n in runs])
    size = [-1 if i == axis else 1 for i in range(3)]
    return case(name, values.view(size), label.view(size))


# --- features of whole volumes ---


def test_padding_goes_to_the_far_ends_holds_the_minimum_and_is_cut_off():
    volume = torch.rand(1, 5, 5, 3, generator=torch.Generator().manual_seed(0)) - 3
    encoder = Halved()
    features = whole_volume_features(encoder, volume)
    assert torch.equal(features, volume)
    assert encoder.seen.shape == (1, 1, 8, 6, 3)
    assert torch.equal(encoder.seen[0, :, :5, :5], volume)
    assert (encoder.seen[0, :, 5:] == volume.min()).all()
    assert (encoder.seen[0, :, :, 5:] == volume.min()).all()


def test_a_u_net_on_sides_it_cannot_halve():
    torch.manual_seed(0)
    net = FeatureUNet(channels=(4, 6, 8), norm="batch").train()
    volume = torch.rand(1, 8, 10, 12)
    features = whole_volume_features(net, volume)
    padded = torch.nn.functional.pad(volume, (0, 0, 0, 2), value=float(volume.min()))
    assert torch.equal(features, voxel_features(net.eval(), padded[None])[0, :, :, :10])
    assert features.shape == (18, 8, 10, 12)


def test_a_flat_image_in_2d():
    torch.manual_seed(0)
    net = FeatureUNet(spatial_dims=2, channels=(4, 8), norm="instance")
    assert whole_volume_features(net, torch.rand(1, 7, 9)).shape == (12, 7, 9)


def test_each_module_gets_its_mode_back(monkeypatch):
    torch.manual_seed(0)
    net = FeatureUNet(channels=(4, 8), norm="batch").train()
    net.conv_0.eval()  # frozen by whoever called
    before = {name: module.training for name, module in net.named_modules()}
    statistics = [b.clone() for b in net.buffers()]
    features = whole_volume_features(net, torch.rand(1, 8, 8, 8))
    assert {name: module.training for name, module in net.named_modules()} == before
    assert all(torch.equal(a, b) for a, b in zip(statistics, net.buffers(), strict=True))
    assert not features.requires_grad
    with pytest.raises(ValueError, match="divisible by 2"):
        monkeypatch.setattr(net, "feature_maps", lambda volume: FeatureUNet.feature_maps(net, volume[:, :, :7]))
        whole_volume_features(net, torch.rand(1, 8, 8, 8))
    assert {name: module.training for name, module in net.named_modules()} == before


def test_windows_of_a_fixed_size_overlap_by_half_and_are_averaged():
    volume = torch.zeros(1, 8, 4, 4)
    volume[0, 6:] = 1.0  # the windows begin at 0, 2 and 4: means 0, 0 and 0.5
    features = whole_volume_features(MeanOfWindow(), volume)
    assert features[0, :, 0, 0].tolist() == [0, 0, 0, 0, 0.25, 0.25, 0.5, 0.5]


def test_a_volume_smaller_than_the_window_is_padded_with_its_minimum():
    features = whole_volume_features(MeanOfWindow(), torch.tensor([-3.0, 1.0]).view(1, 1, 1, 2).expand(1, 4, 4, 2))
    assert features.shape == (1, 4, 4, 2)
    assert features.unique().tolist() == [-2.0]  # (-3 + 1 + 2 * -3) / 4


def test_a_transformer_on_a_larger_volume_and_on_its_own_size():
    torch.manual_seed(0)
    net = MaskedPatchTransformer((8, 8, 8), 4, hidden_size=12, layers=1, heads=2)
    larger, own = torch.rand(1, 12, 8, 7), torch.rand(1, 8, 8, 8)
    assert whole_volume_features(net, larger).shape == (12, 12, 8, 7)
    torch.testing.assert_close(whole_volume_features(net, own), voxel_features(net.eval(), own[None])[0])


def test_volumes_and_features_that_cannot_be_used_are_refused():
    with pytest.raises(ValueError, match=r"1 channel\(s\) and then 3 axes, got shape \(2, 4, 4, 4\)"):
        whole_volume_features(GreyValue(), torch.rand(2, 4, 4, 4))
    with pytest.raises(ValueError, match=r"got shape \(1, 1, 4, 4, 4\)"):
        whole_volume_features(GreyValue(), torch.rand(1, 1, 4, 4, 4))
    with pytest.raises(ValueError, match="hold NaN or infinity"):
        whole_volume_features(GreyValue(), torch.full((1, 4, 4, 4), float("nan")))


# --- probes ---


@pytest.mark.parametrize("probe", PROBES)
def test_organs_that_the_feature_names_are_found_whole(probe):
    labelled = [organs("a", 0), organs("b", 1)]
    found = probe(GreyValue(), labelled, [organs("c", 2), organs("d", 3, (5, 8, 7))], NAMES, voxels_per_case=60)
    assert found["dice"] == {"liver": 1.0, "spleen": 1.0}
    assert found["mean_hd95_mm"] == 0
    assert found["labelled_cases"] == ["a", "b"]
    assert list(found["cases"]) == ["c", "d"]
    assert found["unseen"] == []
    assert found["voxels"] == 2 * (20 + 20 + 2)  # a third of 60 each; of the spleen there are two
    assert found["voxel_seed"] == 0
    json.dumps(found, allow_nan=False)


def test_distances_use_the_spacing_of_the_case():
    test = row("b", [(-1, 0, 4), (1, 1, 4), (1, 0, 2)])
    found = linear_probe(GreyValue(), [row("a", [(-1, 0, 9), (1, 1, 9)])], [test], {1: "liver"})
    assert found["dice"]["liver"] == pytest.approx(8 / 10)
    assert found["hd95_mm"]["liver"] > 1  # two voxels of 1 mm too many at one end
    across = row("c", [(-1, 0, 4), (1, 1, 4), (1, 0, 2)], axis=1)
    along_y = linear_probe(GreyValue(), [row("a", [(-1, 0, 9), (1, 1, 9)])], [across], {1: "liver"})
    assert along_y["hd95_mm"]["liver"] == pytest.approx(2 * found["hd95_mm"]["liver"])


def test_neighbours_find_what_no_line_can():
    """The organ is grey, the background black or white."""
    labelled, test = ([row(n, [(-1, 0, 20), (0, 1, 20), (1, 0, 20)])] for n in "ab")
    assert nearest_voxel_probe(GreyValue(), labelled, test, {1: "liver"})["mean_dice"] == 1
    assert linear_probe(GreyValue(), labelled, test, {1: "liver"})["mean_dice"] < 0.9


def test_the_sample_is_balanced_and_the_answer_is_weighed_by_what_is_common():
    """A bright voxel is likelier in the liver (80 of 100 against 800 of 4000), yet ten in eleven are background."""
    runs = [(1, 1, 80), (-1, 1, 20), (1, 0, 800), (-1, 0, 3200)]
    found = linear_probe(GreyValue(), [row("a", runs)], [row("b", runs)], {1: "liver"}, voxels_per_case=200)
    assert found["voxels"] == 200
    assert found["dice"]["liver"] == 0
    assert found["not_found"] == 1
    often = [(1, 1, 500), (-1, 1, 500), (1, 0, 60), (-1, 0, 340)]
    found = linear_probe(GreyValue(), [row("a", often)], [row("b", often)], {1: "liver"}, voxels_per_case=200)
    assert found["dice"]["liver"] == pytest.approx(2 * 1000 / (1000 + 1400))  # a dark voxel, too


def test_the_vote_of_all_voxels_is_what_is_common():
    runs = [(1, 1, 10), (-1, 0, 90)]
    labelled, test = [row("a", runs)], [row("b", runs)]
    all_vote = nearest_voxel_probe(GreyValue(), labelled, test, {1: "liver"}, neighbours=20, voxels_per_case=20)
    assert all_vote["dice"]["liver"] == 0
    assert all_vote["neighbours"] == 20
    few_vote = nearest_voxel_probe(GreyValue(), labelled, test, {1: "liver"}, neighbours=3, voxels_per_case=20)
    assert few_vote["dice"]["liver"] == 1


@pytest.mark.parametrize("probe", PROBES)
def test_an_organ_that_no_labelled_case_shows_is_named_and_scores_nothing(probe):
    labelled = [row("a", [(-1, 0, 20), (0, 1, 20)])]
    test = [row("b", [(-1, 0, 20), (0, 1, 20), (1, 2, 20)])]
    found = probe(GreyValue(), labelled, test, NAMES)
    assert found["unseen"] == ["spleen"]
    assert found["dice"]["spleen"] == 0
    assert found["hd95_mm"]["spleen"] is None
    assert found["not_found"] == 1


def test_numbers_that_are_not_named_are_background():
    labelled, test = ([row(n, [(-1, 0, 20), (0, 7, 20), (1, 1, 20)])] for n in "ab")
    found = nearest_voxel_probe(GreyValue(), labelled, test, {1: "liver"})
    assert found["dice"] == {"liver": 1.0}
    assert found["voxels"] == 60


@pytest.mark.parametrize("probe", PROBES)
def test_a_network_that_says_the_same_everywhere_finds_nothing(probe):
    class Collapsed(GreyValue):
        def feature_maps(self, volume):
            return [torch.full_like(volume, 0.3)]

    found = probe(Collapsed(), [organs("a", 0)], [organs("b", 1)], NAMES)
    assert found["mean_dice"] == 0
    assert found["mean_hd95_mm"] is None
    assert found["not_found"] == 2


@pytest.mark.parametrize("probe", PROBES)
def test_a_random_u_net_on_generated_patients(probe):
    cohort = load_cohort("phantom", train=1, validation=1, test=0, shape=(22, 20, 18), spacing_mm=(14, 12, 16))
    torch.manual_seed(0)
    net = FeatureUNet(channels=(4, 8), norm="instance")
    weights = [p.clone() for p in net.parameters()]
    one, again = (probe(net, cohort.train, cohort.validation, cohort.label_names, device="cpu") for _ in range(2))
    other = probe(net, cohort.train, cohort.validation, cohort.label_names, seed=1)
    assert one == again
    assert one["cases"] != other["cases"]
    assert 0.1 < one["mean_dice"] < 0.9
    assert one["dice"]["lung"] > 0.3  # dark, as nothing else inside the body
    assert all(torch.equal(a, b) for a, b in zip(weights, net.parameters(), strict=True))
    json.dumps(one, allow_nan=False)


@pytest.mark.parametrize("probe", PROBES)
def test_probes_that_cannot_be_honest_are_refused(probe):
    a, b = organs("a", 0), organs("b", 1)
    with pytest.raises(ValueError, match="got 0 labelled and 1 to test"):
        probe(GreyValue(), [], [b], NAMES)
    with pytest.raises(ValueError, match="got 1 labelled and 0 to test"):
        probe(GreyValue(), [a], [], NAMES)
    with pytest.raises(ValueError, match="b is both labelled and tested"):
        probe(GreyValue(), [a, b], [b], NAMES)
    with pytest.raises(ValueError, match="voxels_per_case=2 is less than one voxel for each of the 3 classes"):
        probe(GreyValue(), [a], [b], NAMES, voxels_per_case=2)
    with pytest.raises(ValueError, match=r"\(a\) show one class only, number 0"):
        probe(GreyValue(), [a], [b], {9: "heart"})
    with pytest.raises(ValueError, match="comes without labels"):
        probe(GreyValue(), [a.without_labels()], [b], NAMES)


def test_more_neighbours_than_voxels_are_refused():
    for neighbours in (0, 8):
        with pytest.raises(ValueError, match=f"from 1 to the 6 labelled voxels, got {neighbours}"):
            nearest_voxel_probe(
                GreyValue(), [organs("a", 0)], [organs("b", 1)], NAMES, neighbours=neighbours, voxels_per_case=8
            )
