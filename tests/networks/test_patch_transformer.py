"""The masked transformer: what it sees, what it hides, and that MONAI's networks take its weights."""

import warnings

import pytest
import torch
import torch.nn.functional as F

from medssl_nb.networks.patch_transformer import MaskedPatchTransformer
from medssl_nb.networks.patches import patchify, random_masks, unpatchify

SMALL = {"hidden_size": 24, "layers": 2, "heads": 2}
STYLES = {
    "encode": {},
    "encode_decoder": {"decoder_layers": 1},
    "drop": {"masked_tokens": "drop", "decoder_layers": 1},
}
SIZE, PATCH, GRID = (8, 12, 8), (4, 4, 2), (2, 3, 4)  # axes differ, so that none can be mistaken for another


def model(volume_size=SIZE, patch_size=PATCH, **options):
    torch.manual_seed(0)
    return MaskedPatchTransformer(volume_size, patch_size, **(SMALL | options))


def volumes(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def masks(batch=2, patches=24, ratio=0.5):
    return random_masks(batch, patches, ratio, torch.Generator().manual_seed(5))


# --- shapes and the face of an encoder ---


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size, patch, grid", [((8, 12), 4, (2, 3)), (SIZE, PATCH, GRID)], ids=["2d", "3d"])
def test_shapes_in_2d_and_3d(style, size, patch, grid):
    net = model(size, patch, in_channels=2, difficulty_head=True, **STYLES[style])
    volume = volumes(2, 2, *size)
    values = patchify(volume, patch)
    patches = values.shape[1]
    output = net(volume, masks(2, patches))
    assert {key: tuple(value.shape) for key, value in output.items()} == {
        "prediction": tuple(values.shape),
        "tokens": (2, patches, 24),
        "scores": (2, patches),
    }
    assert net.grid_size == grid
    assert net.encode(volume).shape == (2, patches, 24)
    assert "scores" not in model(size, patch, in_channels=2, **STYLES[style])(volume, masks(2, patches))


def test_the_one_feature_map_is_the_tokens_on_their_grid():
    net, volume = model(), volumes(2, 1, *SIZE)
    assert (net.spatial_dims, net.in_channels) == (3, 1)
    assert (net.feature_channels, net.feature_strides) == ((24,), (PATCH,))
    (tokens_on_grid,) = net.feature_maps(volume)
    assert tokens_on_grid.shape == (2, 24, *GRID)
    tokens = net.encode(volume)
    assert torch.equal(tokens_on_grid[1, :, 1, 2, 0], tokens[1, 20])  # (1 * 3 + 2) * 4 + 0
    assert torch.equal(tokens_on_grid[0, :, 0, 1, 1], tokens[0, 5])


def test_default_widths():
    torch.manual_seed(0)
    net = MaskedPatchTransformer((16, 16), 8)
    block = net.encoder.blocks[0]
    assert len(net.encoder.blocks) == 6
    assert block.mlp.linear1.weight.shape == (768, 192)
    assert block.attn.num_heads == 6
    assert net.mask_token.shape == (1, 1, 192)
    assert net.mask_token.std().item() == pytest.approx(0.02, rel=0.2)


# --- what is hidden stays hidden ---


@pytest.mark.parametrize("style", STYLES)
def test_a_hidden_patch_leaves_no_trace(style):
    net, volume, mask = model(**STYLES[style]), volumes(2, 1, *SIZE), masks()
    hidden = unpatchify(mask[..., None].expand(2, 24, 32), PATCH, GRID)
    expected = net(volume, mask)["prediction"]
    other_inside = torch.where(hidden, 100 * volumes(2, 1, *SIZE, seed=1), volume)
    assert torch.equal(net(other_inside, mask)["prediction"], expected)
    other_outside = torch.where(hidden, volume, volumes(2, 1, *SIZE, seed=1))
    change = (net(other_outside, mask)["prediction"] - expected).abs().amax(dim=2)
    assert (change[mask] > 1e-4).all()  # hidden patches are guessed from the visible ones


@pytest.mark.parametrize("position", ["learnable", "sincos"])
def test_nothing_hidden_is_the_plain_encoder(position):
    net, volume = model(position=position), volumes(2, 1, *SIZE)
    tokens = net(volume, torch.zeros(2, 24, dtype=torch.bool))["tokens"]
    assert torch.equal(tokens, net.encode(volume))
    assert torch.equal(tokens, net.encoder(volume)[0])


def test_hidden_tokens_are_replaced_before_positions_are_added():
    net, volume, mask = model(layers=0), volumes(2, 1, *SIZE), masks()
    at_the_place = net.mask_token + net.encoder.patch_embedding.position_embeddings  # (1, N, D)
    expected = F.layer_norm(at_the_place, (24,)).expand(2, 24, 24)
    torch.testing.assert_close(net(volume, mask)["tokens"][mask], expected[mask])


def test_dropped_tokens_are_not_encoded_and_come_back_in_their_place():
    net, volume, mask = model(**STYLES["drop"]), volumes(2, 1, *SIZE), masks()
    seen = []
    net.encoder.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net.decoder[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net(volume, mask)
    visible, everything = seen
    embedding = net.encoder.patch_embedding
    positions = embedding.position_embeddings[0]
    for b in range(2):
        kept = [n for n in range(24) if not mask[b, n]]
        torch.testing.assert_close(visible[b], embedding(volume)[b, kept])
        encoded = net._encode(embedding(volume)[b : b + 1, kept])[0]
        for n in range(24):
            token = net.mask_token[0, 0] if mask[b, n] else encoded[kept.index(n)]
            torch.testing.assert_close(everything[b, n], token + positions[n])


@pytest.mark.parametrize("style", STYLES)
def test_the_head_reads_the_tokens(style):
    net = model(difficulty_head=True, **STYLES[style])
    output = net(volumes(2, 1, *SIZE), masks())
    assert torch.equal(output["prediction"], net.head(output["tokens"]))
    assert torch.equal(output["scores"], net.difficulty_head(output["tokens"])[..., 0])
    if style != "encode":
        assert output["tokens"].mean(dim=2).abs().max() < 1e-6  # what leaves a fresh LayerNorm


# --- training ---


@pytest.mark.parametrize("style", STYLES)
def test_gradients_reach_everything_that_trains(style):
    net = model(difficulty_head=True, **STYLES[style])
    mask = masks()
    output = net(volumes(2, 1, *SIZE), mask)
    (output["prediction"][mask].square().mean() + output["scores"][mask].sum()).backward()
    gradients = {name: p.grad for name, p in net.named_parameters() if p.requires_grad}
    assert [name for name, g in gradients.items() if g is None] == []  # else several processes would stop
    for name in ("mask_token", "encoder.patch_embedding.patch_embeddings.weight"):
        assert gradients[name].abs().max() > 0, name


@pytest.mark.parametrize("style", STYLES)
def test_bfloat16_autocast_comes_close_and_trains(style):
    net, volume, mask = model(difficulty_head=True, **STYLES[style]), volumes(2, 1, *SIZE), masks()
    expected = net(volume, mask)["prediction"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = net(volume, mask)
    assert output["prediction"].dtype == torch.bfloat16
    torch.testing.assert_close(output["prediction"].float(), expected, atol=0.05, rtol=0)
    output["prediction"].float().square().mean().backward()
    assert net.mask_token.grad.isfinite().all()
    assert net.mask_token.grad.abs().max() > 0


@pytest.mark.parametrize("style", STYLES)
def test_float64_stays_float64(style):
    net = model(**STYLES[style]).double()
    assert net(volumes(2, 1, *SIZE).double(), masks())["prediction"].dtype == torch.float64


def test_dropout_acts_in_training_only():
    net, volume, mask = model(dropout=0.5), volumes(2, 1, *SIZE), masks()
    assert not torch.equal(net(volume, mask)["tokens"], net(volume, mask)["tokens"])
    torch.manual_seed(1)
    tokens = net(volume, torch.zeros_like(mask))["tokens"]
    torch.manual_seed(1)
    assert torch.equal(net.encode(volume), tokens)  # the same places, the one on the embedded tokens included
    net.eval()
    assert torch.equal(net(volume, mask)["tokens"], net(volume, mask)["tokens"])


# --- MONAI ---


@pytest.mark.parametrize("style", ["encode", "drop"])
def test_weights_load_into_unetr(style):
    from monai.networks.nets import UNETR

    net = model((32, 16, 16), 16, hidden_size=12, layers=12, **STYLES[style])
    unetr = UNETR(1, 2, (32, 16, 16), feature_size=2, hidden_size=12, mlp_dim=48, num_heads=2)
    unetr.vit.load_state_dict(net.encoder.state_dict())
    volume = volumes(1, 1, 32, 16, 16)
    torch.testing.assert_close(unetr.vit(volume)[0], net.encode(volume))  # attention is fused here


def test_sine_positions_are_fixed_and_make_no_noise():
    torch.set_warn_always(True)  # else PyTorch says each thing once per process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            positions = model(position="sincos").encoder.patch_embedding.position_embeddings
    finally:
        torch.set_warn_always(False)
    assert not positions.requires_grad
    assert len({tuple(row) for row in positions[0].tolist()}) == 24


# --- refusals ---


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"volume_size": (8,)}, r"2 or 3 numbers, one per axis, got \(8,\)"),
        ({"volume_size": (8, 10, 8)}, r"multiple of its patch_size: got sides \(8, 10, 8\)"),
        ({"patch_size": (4, 4)}, "one for each of 3 axes"),
        ({"masked_tokens": "hide"}, '"encode" or "drop", got \'hide\''),
        ({"masked_tokens": "drop"}, "decoder_layers >= 1.*got 0"),
        ({"position": "fourier"}, '"learnable" or "sincos", got \'fourier\''),
        ({"heads": 5}, "divisible by heads, got 24 and 5"),
        ({"position": "sincos", "hidden_size": 8}, "divisible by 6 in 3D, got 8"),
        ({"position": "sincos", "hidden_size": 6, "volume_size": (8, 8), "patch_size": 4}, "by 4 in 2D, got 6"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        model(**arguments)


@pytest.mark.parametrize("shape", [(1, 1, 8, 12, 16), (1, 2, *SIZE), (1, *SIZE), (1, 1, 8, 12)], ids=str)
def test_volumes_of_another_size(shape):
    net, volume = model(), torch.zeros(shape)
    for use in (lambda: net(volume, masks(1)), lambda: net.encode(volume), lambda: net.feature_maps(volume)):
        with pytest.raises(ValueError, match=r"built for volumes \(B, 1, 8, 12, 8\).*belong to one volume_size"):
            use()


def test_masks_that_do_not_fit():
    net, volume = model(), volumes(2, 1, *SIZE)
    with pytest.raises(ValueError, match=r"bool \(2, 24\), True = hidden, got torch.float32 \(2, 24\)"):
        net(volume, masks().float())
    with pytest.raises(ValueError, match=r"got torch.bool \(1, 24\)"):
        net(volume, masks(1))


def test_drop_needs_rows_of_one_count_and_something_visible():
    net, volume = model(**STYLES["drop"]), volumes(2, 1, *SIZE)
    uneven = masks()
    uneven[0] = False
    with pytest.raises(ValueError, match=r"same number of hidden patches.*got \[0, 12\] of 24"):
        net(volume, uneven)
    with pytest.raises(ValueError, match=r"one visible, got \[24, 24\] of 24"):
        net(volume, torch.ones(2, 24, dtype=torch.bool))
    assert net(volume, torch.zeros(2, 24, dtype=torch.bool))["prediction"].shape == (2, 24, 32)
    assert model()(volume, uneven)["prediction"].isfinite().all()  # "encode" takes any mask
