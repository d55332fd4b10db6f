import argparse
import copy
import json
import math
import os
import re
import struct

import pytest
import torch
from torch import nn

from medssl_nb.networks.build import build_encoder
from medssl_nb.networks.segmenter import Segmenter
from medssl_nb.networks.unet import FeatureUNet
from medssl_nb.networks.weights import (
    LoadReport,
    load_encoder,
    load_pretrained,
    load_segmenter,
    read_card,
    save_encoder,
    save_segmenter,
)

UNET = {"network": "FeatureUNet", "channels": [2, 3, 4], "norm": "batch"}
CARD = {"method": "masked_autoencoding", "data": "phantom", "recipe": "masked_autoencoding.demo"}


def random_encoder(description, seed=0):
    """An encoder in `eval` mode, its buffers moved away from where they start."""
    torch.manual_seed(seed)
    encoder = build_encoder(description).eval()
    for name, buffer in encoder.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return encoder


def state_of(network):
    return copy.deepcopy(network.state_dict())


def is_unchanged(network, before):
    now = network.state_dict()
    return now.keys() == before.keys() and all(torch.equal(now[name], before[name]) for name in before)


def run_code_of_card(text, heading):
    """Runs the Python block of the readable card that follows `heading`; what it defined."""
    code = re.search(rf"{heading}.*?```python\n(.*?)```", text, re.DOTALL)[1]
    names = {}
    exec(code, names)
    return names


@pytest.fixture
def saved(tmp_path):
    encoder = random_encoder(UNET)
    return encoder, save_encoder(encoder, tmp_path / "unet.safetensors", **CARD, commit="abc123")


# ---------------------------------------------------------------- save, card, load


def test_a_saved_encoder_comes_back_with_equal_features(saved):
    encoder, path = saved
    again = load_encoder(path).eval()
    volume = torch.randn(1, 1, 8, 8, 8)
    for old, new in zip(encoder.feature_maps(volume), again.feature_maps(volume), strict=True):
        assert torch.equal(old, new)
    assert again.description == encoder.description and is_unchanged(again, encoder.state_dict())


def test_loading_does_not_move_the_callers_random_numbers(saved):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    load_encoder(saved[1])
    assert torch.equal(torch.rand(3), expected)


def test_the_card_says_what_was_given(tmp_path):
    path = save_encoder(
        random_encoder(UNET), tmp_path / "x.safetensors", **CARD, steps=600, seeds=(1, 2), scores={"dice": 0.5}
    )
    card = read_card(path)
    assert {key: card[key] for key in CARD} == CARD
    assert card["encoder"] == UNET and card["commit"] is None
    assert (card["steps"], card["seeds"], card["scores"]) == (600, [1, 2], {"dice": 0.5})
    assert card["parameters"] == sum(p.numel() for p in random_encoder(UNET).parameters())
    assert len(card["weights_sha256"]) == 64


def test_the_readable_card_shows_it_and_its_code_runs(saved, monkeypatch):
    encoder, path = saved
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    for part in ("masked_autoencoding", "phantom", "masked_autoencoding.demo", "abc123", '"channels": [2, 3, 4]'):
        assert part in text
    assert read_card(path)["weights_sha256"] in text
    assert "No class of MONAI alone" in text  # three stages: BasicUNet has five
    monkeypatch.chdir(path.parent)
    assert is_unchanged(run_code_of_card(text, "With medssl_nb")["encoder"], encoder.state_dict())


def test_no_folder_of_this_machine_travels_with_a_card(tmp_path):
    fields = {
        "method": "x",
        "data": {"name": "/home/jane doe/scans", "url": "https://example.org/a/b", "unit": "mm/s"},
        "recipe": ["run --out=/home/jane/out --from ~/weights/x.pt", "C:\\Users\\jane\\scans", "recipes/demo"],
    }
    path = save_encoder(random_encoder(UNET), tmp_path / "x.safetensors", **fields, cache=tmp_path)
    card = read_card(path)
    assert card["data"] == {"name": "scans", "url": "https://example.org/a/b", "unit": "mm/s"}
    assert card["recipe"] == ["run --out=out --from x.pt", "scans", "recipes/demo"]
    assert card["cache"] == tmp_path.name
    for text in (path.with_suffix(".md").read_text(), path.read_bytes().decode("latin-1")):
        assert "jane" not in text and str(tmp_path.parent) not in text


def test_equal_weights_and_card_give_equal_bytes(tmp_path):
    a, b = (save_encoder(random_encoder(UNET), tmp_path / n / "x.safetensors", **CARD) for n in "ab")
    assert a.read_bytes() == b.read_bytes()
    assert a.with_suffix(".md").read_text() == b.with_suffix(".md").read_text()


def test_the_digest_is_of_the_weights_alone(tmp_path):
    digests = []
    for seed, method in ((0, "a"), (0, "b"), (1, "a")):
        path = save_encoder(random_encoder(UNET, seed), tmp_path / "x.safetensors", **{**CARD, "method": method})
        digests.append(read_card(path)["weights_sha256"])
    assert digests[0] == digests[1] != digests[2]


def test_shared_and_strided_weights_are_saved_whole(tmp_path):
    encoder = random_encoder(UNET).to(memory_format=torch.channels_last_3d)
    encoder.decode_2.conv_1.conv.weight = encoder.down_1.convs.conv_1.conv.weight
    path = save_encoder(encoder, tmp_path / "x.safetensors", **CARD)
    assert is_unchanged(load_encoder(path), encoder.state_dict())


@pytest.mark.parametrize(
    "change, message",
    [
        ({"parameters": 3}, "save_encoder fills in parameters itself"),
        ({"score": math.nan}, "plain values only"),
        ({"score": torch.ones(2)}, "plain values only"),
    ],
)
def test_a_card_that_could_not_be_read_is_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        save_encoder(random_encoder(UNET), tmp_path / "x.safetensors", **CARD, **change)
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_could_not_be_built_again_is_refused(tmp_path):
    encoder = FeatureUNet(channels=(2, 3))
    with pytest.raises(ValueError, match=r"found None\. Make it with build_encoder"):
        save_encoder(encoder, tmp_path / "x.safetensors", **CARD)
    encoder.description = {"network": "FeatureUNet", "widths": [2, 3]}
    with pytest.raises(ValueError, match=r"does not fit FeatureUNet: .*widths"):
        save_encoder(encoder, tmp_path / "x.safetensors", **CARD)


def test_weights_that_are_not_finite_and_other_endings_are_refused(tmp_path):
    encoder = random_encoder(UNET)
    with pytest.raises(ValueError, match=r'must end in "\.safetensors", got \'x\.pt\''):
        save_encoder(encoder, tmp_path / "x.pt", **CARD)
    with torch.no_grad():
        encoder.final_conv.bias[0] = math.inf
    with pytest.raises(ValueError, match=r"final_conv\.bias holds NaN or infinity: the training diverged"):
        save_encoder(encoder, tmp_path / "x.safetensors", **CARD)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError("No space left on device")])
def test_an_interrupted_save_leaves_the_old_file(saved, monkeypatch, stop):
    encoder, path = saved
    before = {p.name: p.read_bytes() for p in path.parent.iterdir()}

    def half_a_file(tensors, draft, metadata):
        draft.write_bytes(b"half")
        raise stop

    monkeypatch.setattr("safetensors.torch.save_file", half_a_file)
    with pytest.raises(type(stop) if isinstance(stop, Exception) else stop):
        save_encoder(random_encoder(UNET, seed=1), path, **CARD)
    assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == before
    assert is_unchanged(load_encoder(path), encoder.state_dict())


# ---------------------------------------------------------------- files that are not what they were


def test_any_changed_byte_of_the_weights_is_found(saved):
    _, path = saved
    whole = path.read_bytes()
    (header,) = struct.unpack("<Q", whole[:8])
    network = random_encoder(UNET, seed=1)
    before = state_of(network)
    for place in (8 + header, (8 + header + len(whole)) // 2, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=rf"{path.name} is not what was saved: the SHA-256 of its weights"):
            load_encoder(path)
        with pytest.raises(ValueError, match="is not what was saved"):
            load_pretrained(network, path)
    assert is_unchanged(network, before)


@pytest.mark.parametrize("old, new", [(b"phantom", b"patient"), (b"card_sha256", b"card_sha255"), (b'": ', b'"! ')])
def test_a_changed_card_is_found(saved, old, new):
    _, path = saved
    whole = path.read_bytes()
    text = json.dumps(old.decode())[1:-1].encode()  # the card is JSON within JSON
    assert text in whole
    path.write_bytes(whole.replace(text, json.dumps(new.decode())[1:-1].encode()))
    with pytest.raises(ValueError, match=f"{path.name} is not what was saved: the SHA-256 of its model card"):
        read_card(path)
    with pytest.raises(ValueError, match="is not what was saved"):
        load_encoder(path)


@pytest.mark.parametrize("share", [0, 3, 100, -1])
def test_a_cut_file_is_refused(saved, share):
    _, path = saved
    path.write_bytes(path.read_bytes()[:share])
    for read in (read_card, load_encoder, lambda p: load_pretrained(random_encoder(UNET), p)):
        with pytest.raises(ValueError, match=rf"{path.name} is not a whole safetensors file"):
            read(path)


def test_a_file_without_a_card_is_for_load_pretrained_only(tmp_path):
    from safetensors.torch import save_file

    encoder, path = random_encoder(UNET), tmp_path / "other.safetensors"
    save_file(encoder.state_dict(), path)
    for read in (read_card, load_encoder):
        with pytest.raises(
            ValueError, match=r"other\.safetensors has no model card .* load_pretrained\(network, path\)"
        ):
            read(path)
    network = random_encoder(UNET, seed=1)
    load_pretrained(network, path)
    assert is_unchanged(network, encoder.state_dict())


def test_a_description_of_another_network_is_found(tmp_path):
    encoder = random_encoder(UNET)
    encoder.description = {**UNET, "norm": "instance"}  # has no running statistics
    path = save_encoder(encoder, tmp_path / "x.safetensors", **CARD)
    with pytest.raises(
        ValueError, match=r"does not hold the FeatureUNet that its card describes: loaded .* unexpected"
    ):
        load_encoder(path)


@pytest.mark.parametrize("name", ["no.safetensors", "no.pt", "."])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=f"there is no file {re.escape(str(tmp_path / name))}"):
        load_pretrained(random_encoder(UNET), tmp_path / name)


# ---------------------------------------------------------------- files of torch.save


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3, "optimizer": {"state": {0: torch.ones(2)}}},
        lambda s: {"step": 5, "model": {"state_dict": s}},
        lambda s: {"student": {f"module.encoder.{n}": t for n, t in s.items()}, "teacher": s},
        lambda s: {f"model.{n}": t for n, t in s.items()},
        lambda s: {"format": 1, "run": {"task": "x"}, "task": {f"encoder.{n}": t for n, t in s.items()}},
    ],
    ids=["plain", "state_dict", "model.state_dict", "student", "prefixed", "our checkpoint"],
)
def test_what_training_scripts_write_is_understood(tmp_path, wrap):
    encoder, network = random_encoder(UNET), random_encoder(UNET, seed=1)
    torch.save(wrap(encoder.state_dict()), tmp_path / "x.pt")
    report = load_pretrained(network, tmp_path / "x.pt")
    assert is_unchanged(network, encoder.state_dict())
    assert (report.missing, report.unexpected) == ([], []) and len(report.loaded) == len(encoder.state_dict())


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("it_ran",)


@pytest.mark.parametrize(
    "content, found",
    [
        ({"state_dict": {"w": torch.ones(2)}, "x": Hostile()}, r"it names posix\.mkdir"),
        ({"state_dict": {"w": torch.ones(2)}, "args": argparse.Namespace(lr=1)}, r"it names argparse\.Namespace"),
        (nn.Linear(2, 2), r"it names torch\.nn\.modules\.linear\.Linear"),
    ],
    ids=["hostile", "namespace", "module"],
)
def test_nothing_is_unpickled(tmp_path, monkeypatch, content, found):
    monkeypatch.chdir(tmp_path)
    torch.save(content, "x.pt")
    network = nn.Linear(2, 2)
    before = state_of(network)
    with pytest.raises(ValueError, match=rf"x\.pt holds more than tensors and plain values \({found}\)") as caught:
        load_pretrained(network, "x.pt")
    assert "weights_only" not in str(caught.value)  # torch's message tells how to run the code
    assert not (tmp_path / "it_ran").exists() and is_unchanged(network, before)


@pytest.mark.parametrize("legacy", [False, True])
def test_damaged_torch_files_are_refused(tmp_path, legacy):
    path, network = tmp_path / "x.pt", random_encoder(UNET)
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=not legacy)
    whole, before = path.read_bytes(), state_of(network)
    for content in (b"", whole[:1], whole[:300], whole[: len(whole) // 2], whole[:-20], b"hello world\n" * 20):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"x\.pt (is not a whole file of torch\.save|holds more than tensors)"):
            load_pretrained(network, path)
    assert is_unchanged(network, before)


@pytest.mark.parametrize(
    "content, found",
    [
        ({"epoch": 3, "loss": 0.5}, "a dict with epoch, loss"),
        ([torch.ones(2)], "a list"),
        (torch.ones(2), "a Tensor"),
        ({"state_dict": {}}, "a dict with nothing"),
    ],
)
def test_a_file_without_weights_by_name_is_refused(tmp_path, content, found):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=rf"x\.pt holds no weights by name: found {found}\. Needed"):
        load_pretrained(nn.Linear(2, 2), tmp_path / "x.pt")


# ---------------------------------------------------------------- what matches, what does not


def small(out=3):
    torch.manual_seed(out)
    return nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(4, out))


def test_the_report_counts_and_names():
    report = LoadReport(["a"] * 148, ["head.weight", "head.bias"], [])
    assert str(report) == "loaded 148, missing 2 (head.weight, head.bias), unexpected 0"
    loaded, missing, unexpected = report
    assert (len(loaded), len(missing), unexpected) == (148, 2, [])
    many = str(LoadReport([], list("abcdef"), ["z"]))
    assert many == "loaded 0, missing 6 (a, b, c, d and 2 more), unexpected 1 (z)"


def test_other_shapes_are_missing_and_unexpected_with_both_shapes():
    network, source = small(3), small(5)
    head = network[2].weight.detach().clone()
    report = load_pretrained(network, {**source.state_dict(), "extra": torch.ones(1)})
    assert report.loaded == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert report.missing == ["2.weight", "2.bias"] and report.unexpected == ["2.weight", "2.bias", "extra"]
    assert str(report) == (
        "loaded 4, missing 2 (2.weight, 2.bias), unexpected 3 (2.weight, 2.bias, extra); "
        "2.weight is (3, 4) in the network, (5, 4) in the file; 2.bias is (3,) in the network, (5,) in the file"
    )
    assert torch.equal(network[1].weight, source[1].weight) and torch.equal(network[2].weight, head)


def test_a_usual_prefix_is_taken_off_and_named():
    network, source = small(), small(5).state_dict()
    file = {f"module.student.encoder.{name}": t for name, t in source.items()} | {"module.teacher.x": torch.ones(1)}
    report = load_pretrained(network, file)
    assert len(report.loaded) == 4 and torch.equal(network[0].bias, source["0.bias"])
    assert report.notes[0] == "names in the file begin with 'module.student.encoder.', which was taken off"
    assert report.unexpected == ["module.student.encoder.2.weight", "module.student.encoder.2.bias", "module.teacher.x"]


def test_of_two_prefixes_that_match_equally_the_shorter_is_taken():
    file = {}
    for lead, out in (("module.student.", 1), ("module.", 2)):
        file |= {lead + name: torch.full_like(t, out) for name, t in small().state_dict().items()}
    network = small()
    load_pretrained(network, file)
    assert (network[0].weight == 2).all()


def test_no_prefix_is_taken_off_where_the_names_match_as_they_are():
    network = nn.ModuleDict({"encoder": small()})
    source = {f"encoder.{name}": t for name, t in small(3).state_dict().items()}
    report = load_pretrained(network, source)
    assert len(report.loaded) == 6 and report.notes == ()


def test_a_given_prefix_is_taken_and_no_other():
    own, file = small(), {}
    for lead, out in (("backbone.", 3), ("module.", 5)):
        file |= {lead + name: t + out for name, t in small(3).state_dict().items()}
    for prefix in ("backbone.", "backbone"):
        report = load_pretrained(own, file, prefix=prefix)
        assert torch.equal(own[0].bias, file["backbone.0.bias"]) and len(report.unexpected) == 6
    with pytest.raises(ValueError, match="fits only 0 of the network's 6 parameters"):
        load_pretrained(own, file, prefix="")


def test_too_little_is_refused_with_names_of_both_sides_and_nothing_is_loaded():
    network = small()
    before = state_of(network)
    file = {"0.weight": torch.ones(4, 2), "0.bias": torch.ones(4), "fc.weight": torch.ones(1)}
    with pytest.raises(ValueError) as caught:
        load_pretrained(network, file)
    assert str(caught.value) == (
        "the state dict fits only 2 of the network's 6 parameters by name and shape, at least 50% were asked for, so "
        "nothing was loaded; in the network: 1.weight, 1.bias, 2.weight, 2.bias; in the file: fc.weight. Build the "
        "network with the widths and options that the file was made with, or name what its tensors have in front "
        "(prefix=...); if so little is meant to match, lower minimum."
    )
    assert is_unchanged(network, before)
    assert len(load_pretrained(network, file, minimum=0.3).loaded) == 2
    assert (network[0].weight == 1).all()


def test_the_share_asked_for_is_enough():
    network = nn.ModuleList(nn.Linear(1, 1, bias=False) for _ in range(10))
    file = {f"{k}.weight": torch.full((1, 1), 9.0) for k in range(7)}
    assert len(load_pretrained(network, file, minimum=0.7).loaded) == 7
    with pytest.raises(ValueError, match="7 of the network's 10"):
        load_pretrained(network, file, minimum=0.71)


def test_buffers_are_loaded_but_do_not_count():
    network = nn.ModuleList([nn.BatchNorm1d(2), nn.Linear(2, 2)])
    file = {name: t + 1 for name, t in nn.BatchNorm1d(2).state_dict(prefix="0.").items() if "running" in name}
    with pytest.raises(ValueError, match="fits only 0 of the network's 4 parameters"):
        load_pretrained(network, file, minimum=0)
    load_pretrained(network, {**file, "1.bias": torch.ones(2)}, minimum=0.25)
    assert (network[0].running_mean == 1).all() and (network[0].running_var == 2).all()


def test_a_refusal_knows_the_prefix_that_would_help():
    file = {f"net.backbone.{name}": t for name, t in small(5).state_dict().items()}
    with pytest.raises(ValueError, match=r"With prefix='net\.backbone\.', 4 tensors would match\."):
        load_pretrained(small(), file)
    whole = nn.ModuleDict({"encoder": small(), "decoder": nn.Linear(1, 1)})
    with pytest.raises(ValueError, match=r"a part of the network: load it into network\.encoder\."):
        load_pretrained(whole, small(5).state_dict())


def test_number_type_of_the_network_stays():
    network = small().double()
    load_pretrained(network, {name: t.half() for name, t in small(3).state_dict().items()})
    assert network[0].weight.dtype == torch.float64
    assert torch.equal(network[0].weight, small(3)[0].weight.half().double())


@pytest.mark.parametrize("minimum", [-0.1, 50, math.nan])
def test_a_share_out_of_range_is_refused(minimum):
    with pytest.raises(ValueError, match=f"minimum is a share of the network's parameters, 0 to 1, got {minimum}"):
        load_pretrained(small(), small().state_dict(), minimum=minimum)


# ---------------------------------------------------------------- in plain MONAI


@pytest.mark.parametrize("norm, size", [("batch", 16), ("instance", 32)])
def test_a_u_net_opens_in_monais_own_class(tmp_path, monkeypatch, norm, size):
    encoder = random_encoder({"network": "FeatureUNet", "channels": [2, 3, 4, 5, 6], "norm": norm, "num_classes": 4})
    path = save_encoder(encoder, tmp_path / "unet.safetensors", **CARD)
    monkeypatch.chdir(tmp_path)
    text = path.with_suffix(".md").read_text()
    network = run_code_of_card(text, "In plain MONAI")["network"].eval()
    with torch.no_grad():
        x = volume = torch.randn(1, 1, size, size, size)
        for k, stage in enumerate((network.conv_0, network.down_1, network.down_2, network.down_3, network.down_4), 1):
            x = stage(x)
            assert torch.equal(x, encoder.features(volume, f"encoder_{k}")[f"encoder_{k}"])


def test_a_transformer_opens_in_monais_own_classes(tmp_path, monkeypatch):
    from monai.networks.nets import UNETR

    encoder = random_encoder(
        {
            "network": "MaskedPatchTransformer",
            "volume_size": [32, 32, 16],
            "patch_size": 16,
            "hidden_size": 12,
            "heads": 2,
            "layers": 12,
            "mlp_size": 16,
        }
    )
    path = save_encoder(encoder, tmp_path / "vit.safetensors", **CARD)
    monkeypatch.chdir(tmp_path)
    vit = run_code_of_card(path.with_suffix(".md").read_text(), "In plain MONAI")["network"].eval()
    unetr = UNETR(1, 2, (32, 32, 16), feature_size=2, hidden_size=12, mlp_dim=16, num_heads=2).eval()
    report = load_pretrained(unetr.vit, path, minimum=1.0)
    assert report.missing == [] and report.notes[0].startswith("names in the file begin with 'encoder.'")
    volume = torch.randn(1, 1, 32, 32, 16)
    with torch.no_grad():
        expected = encoder.encode(volume)
        torch.testing.assert_close(vit(volume)[0], expected)  # to rounding: our attention is fused
        torch.testing.assert_close(unetr.vit(volume)[0], expected)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_transformer_with_sine_positions_opens_too(tmp_path, monkeypatch, spatial_dims):
    description = {"network": "MaskedPatchTransformer", "volume_size": [8] * spatial_dims, "patch_size": 4}
    encoder = random_encoder({**description, "hidden_size": 12, "layers": 1, "heads": 2, "position": "sincos"})
    path = save_encoder(encoder, tmp_path / "vit.safetensors", **CARD)
    monkeypatch.chdir(tmp_path)
    vit = run_code_of_card(path.with_suffix(".md").read_text(), "In plain MONAI")["network"].eval()
    volume = torch.randn(1, 1, *[8] * spatial_dims)
    with torch.no_grad():
        torch.testing.assert_close(vit(volume)[0], encoder.encode(volume))


def test_a_swin_backbone_opens_in_monais_own_class(tmp_path, monkeypatch):
    encoder = random_encoder({"network": "SwinBackbone", "feature_size": 12, "depths": [2, 2, 2, 2]})
    path = save_encoder(encoder, tmp_path / "swin.safetensors", **CARD)
    monkeypatch.chdir(tmp_path)
    network = run_code_of_card(path.with_suffix(".md").read_text(), "In plain MONAI")["network"]
    assert is_unchanged(network, encoder.swin_unetr.state_dict())
    assert is_unchanged(load_encoder(path), encoder.state_dict())


# ------------------------------------------------------------------------------------------------ whole segmenters

ORGANS = {0: "background", 2: "liver", 11: "spleen"}
FACTS = {"label_names": ORGANS, "modality": "FLAIR", "spacing_mm": (1, 1.5, 2), "crop": (16, 16, 16)}


@pytest.mark.parametrize(
    ("description", "features"),
    [
        ({"network": "FeatureUNet", "channels": [4, 8], "norm": "instance"}, 16),
        ({"network": "ConvBackbone", "widths": [4, 4, 8, 8]}, 6),  # it has a decoder, whose width must come back
    ],
)
def test_a_segmenter_comes_back_with_all_a_prediction_needs(tmp_path, description, features):
    segmenter = Segmenter(build_encoder(description), 3, features).eval()
    path = save_segmenter(tmp_path / "seg.safetensors", segmenter, **FACTS, test_dice=0.5)
    before = torch.random.get_rng_state()
    loaded, card = load_segmenter(path)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not loaded.training
    volume = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(loaded(volume), segmenter(volume), rtol=0, atol=0)
    assert list(card["label_names"].items()) == list(ORGANS.items())
    assert (card["modality"], card["spacing_mm"], card["crop"]) == ("MR", [1, 1.5, 2], [16, 16, 16])
    assert card["test_dice"] == 0.5
    text = path.with_suffix(".md").read_text()
    assert "load_segmenter('seg.safetensors')" in text and str(tmp_path) not in text
    again = save_segmenter(tmp_path / "again.safetensors", loaded, **FACTS, test_dice=0.5)
    assert again.read_bytes() == path.read_bytes()


def test_a_segmenter_s_encoder_goes_into_plain_monai_and_back_into_ours(tmp_path):
    from monai.networks.nets import BasicUNet
    from safetensors.torch import load_file

    description = {"network": "FeatureUNet", "channels": [4, 8, 8, 8, 8], "norm": "instance"}
    encoder = build_encoder(description)
    path = save_segmenter(tmp_path / "seg.safetensors", Segmenter(encoder, 3), **FACTS)
    report = load_pretrained(build_encoder(description), path)
    assert not report.missing and "'encoder.'" in report.notes[0]
    norm = ("instance", {"affine": True})
    options = {"features": (4, 8, 8, 8, 8, 4), "act": "relu", "norm": norm, "bias": False}
    network = BasicUNet(spatial_dims=3, in_channels=1, out_channels=2, **options)
    weights = {name.removeprefix("encoder."): t for name, t in load_file(path).items()}
    down = {name: t for name, t in weights.items() if name.startswith(("conv_0.", "down_"))}
    assert network.load_state_dict(down, strict=False).unexpected_keys == []
    volume = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network.down_1(network.conv_0(volume)), encoder.down_1(encoder.conv_0(volume)))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"label_names": {0: "background", 2: "liver"}}, "names the 3 classes of the network"),
        ({"label_names": {0: "background", 11: "spleen", 2: "liver"}}, "by rising numbers from 0"),
        ({"label_names": {1: "a", 2: "b", 3: "c"}}, "from 0, the background"),
        ({"modality": "photo"}, "modality 'photo' is not known"),
        ({"torch": 1}, "save_segmenter fills in torch itself"),
    ],
)
def test_a_card_that_would_mislead_a_prediction_is_refused(tmp_path, wrong, words):
    segmenter = Segmenter(build_encoder({"network": "FeatureUNet", "channels": [4, 8]}), 3)
    with pytest.raises(ValueError, match=words):
        save_segmenter(tmp_path / "seg.safetensors", segmenter, **{**FACTS, **wrong})
    assert list(tmp_path.iterdir()) == []


def test_encoders_and_segmenters_are_not_taken_for_each_other(tmp_path):
    encoder = build_encoder({"network": "FeatureUNet", "channels": [4, 8]})
    one = save_encoder(encoder, tmp_path / "one.safetensors", method="m", data="d", recipe="r")
    whole = save_segmenter(tmp_path / "whole.safetensors", Segmenter(encoder, 3), **FACTS)
    with pytest.raises(ValueError, match="holds a whole segmentation network; take load_segmenter"):
        load_encoder(whole)
    with pytest.raises(ValueError, match="holds an encoder alone, which names no organs"):
        load_segmenter(one)
    damaged = bytearray(whole.read_bytes())
    damaged[-3] ^= 1
    whole.write_bytes(damaged)
    with pytest.raises(ValueError, match="is not what was saved"):
        load_segmenter(whole)
