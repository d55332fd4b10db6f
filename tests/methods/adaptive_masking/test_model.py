"""The package as a whole: its names, what it shares with the rest of the library, one training step of the model."""

import inspect

import pytest
import torch

from medssl_nb import evaluation, networks, training
from medssl_nb.methods import adaptive_masking
from medssl_nb.methods.adaptive_masking import (
    MaskedPatchTransformer,
    PatchSegmenter,
    adaptive_masking_loss,
    foreground_patches,
    kmeans,
    lesion_category,
    masking_ratio,
    patch_features,
    patchify,
    relative_ranking_loss,
    select_masked_patches,
)

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
CONTRACT = {
    "patchify": "volume, patch_size",
    "unpatchify": "patches, patch_size, grid_size, channels=1",
    "foreground_patches": "volume, patch_size, threshold=0.0, min_fraction=0.1",
    "patch_features": 'volume, patch_size, kind="statistics", valid=None, standardize=True, quantile=0.95',
    "kmeans": "features, clusters=2, *, initial_centroids=None, valid=None, iterations=50, restarts=4, generator=None",
    "lesion_category": "labels, clusters=2, *, scores=None",
    "masking_ratio": 'epoch, epochs, start=0.25, end=0.75, schedule="linear"',
    "select_masked_patches": "lesion, ratio, *, lesion_share=1.0, valid=None, noise=None, generator=None",
    "reconstruction_error": 'prediction, target, kind="l2", normalize_target=False',
    "masked_reconstruction_loss": "errors, mask",
    "relative_weights": 'errors, mask, kind="relative", strength=1.0',
    "relative_reconstruction_loss": 'errors, mask, kind="relative", strength=1.0',
    "relative_ranking_loss": "scores, errors, mask, epsilon=1e-6",
    "hard_patches": "errors, mask, threshold=0.0",
    "category_consistency_loss": "tokens, lesion, targets, mask, temperature=0.1, valid=None",
    "adaptive_masking_loss": 'prediction, target, mask, *, tokens=None, lesion=None, valid=None, error="l2", '
    'normalize_target=False, weighting="relative", strength=1.0, hard_threshold=0.0, temperature=0.1, '
    "reconstruction_weight=1.0, relative_weight=1.0, consistency_weight=0.1",
    "MaskedPatchTransformer": "volume_size, patch_size, in_channels=1, hidden_size=192, layers=6, heads=6, "
    'mlp_size=None, decoder_layers=0, masked_tokens="encode", position="learnable", difficulty_head=False, dropout=0.0',
    "PatchSegmenter": "encoder, out_channels, features=16",
    "overlap_scores": "prediction, target",
}
SHARED = {
    networks: ("patchify", "unpatchify", "MaskedPatchTransformer"),
    training: ("reconstruction_error", "masked_reconstruction_loss"),
    evaluation: ("overlap_scores",),
}
STYLES = {"encode": {}, "drop": {"masked_tokens": "drop", "decoder_layers": 1}}


def arguments(signature):
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


@pytest.mark.parametrize("name", CONTRACT)
def test_names_and_arguments_are_those_of_the_specification(name):
    expected = inspect.signature(eval(f"lambda {CONTRACT[name]}: None"))
    assert arguments(inspect.signature(getattr(adaptive_masking, name))) == arguments(expected)
    assert name in adaptive_masking.__all__


def test_shared_functions_are_the_same_objects():
    for home, names in SHARED.items():
        for name in names:
            assert getattr(adaptive_masking, name) is getattr(home, name), name
    assert list(adaptive_masking.KMeansResult._fields) == ["labels", "centroids", "inertia"]


def volumes(*shape, seed=0):
    """Noise with a bright corner in each volume and air around: (B, C, *S)."""
    x = torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) + 0.5
    x[..., -2:] = 0  # air at the end of the last axis
    x[(..., *[slice(0, 4)] * (len(shape) - 2))] += 3
    return x


def network(size, patch_size=4, **options):
    torch.manual_seed(0)
    small = {"hidden_size": 24, "layers": 1, "heads": 2}
    return MaskedPatchTransformer(size, patch_size, **(small | options))


@pytest.mark.parametrize("style", STYLES)
def test_attributes_of_the_transformer(style):
    from monai.networks.nets import ViT

    model = network((8, 12, 16), (2, 4, 8), in_channels=3, **STYLES[style])
    assert type(model.encoder) is ViT
    assert (model.volume_size, model.patch_size, model.grid_size) == ((8, 12, 16), (2, 4, 8), (4, 3, 2))
    assert (model.in_channels, model.mask_token.shape) == (3, (1, 1, 24))
    assert (model.head.in_features, model.head.out_features) == (24, 3 * 2 * 4 * 8)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size, channels", [((16, 12), 2), ((12, 8, 12), 1)], ids=["2d", "3d"])
def test_the_use_that_the_specification_shows(size, channels, style, device):
    x = volumes(2, channels, *size).to(device)
    model = network(size, in_channels=channels, **STYLES[style]).to(device)
    g = torch.Generator().manual_seed(0)
    core, tissue = (foreground_patches(x, 4, min_fraction=share) for share in (0.9, 0.1))
    assert (core.sum(1) < tissue.sum(1)).all()
    lesion = lesion_category(kmeans(patch_features(x, 4, valid=core), valid=core, generator=g).labels)
    assert lesion[:, 0].all()  # the bright corner
    assert lesion.sum(1).tolist() == [1, 1]
    mask = select_masked_patches(lesion, masking_ratio(20, 40), valid=tissue, generator=g)
    assert (mask & lesion).sum(1).tolist() == [1, 1]
    out = model(x, mask)
    losses = adaptive_masking_loss(
        out["prediction"], patchify(x, 4), mask, tokens=model.encode(x), lesion=lesion, valid=core
    )
    assert all(losses[name] > 0 for name in ("total", "reconstruction", "relative", "consistency"))
    losses["total"].backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, g in gradients.items() if g is None or not g.isfinite().all()] == []
    for name in ("mask_token", "encoder.patch_embedding.patch_embeddings.weight"):
        assert gradients[name].abs().max() > 0


@pytest.mark.parametrize("style", STYLES)
def test_losses_are_float32_under_bfloat16_autocast(style):
    x = volumes(2, 1, 8, 8, 8)
    model = network((8, 8, 8), difficulty_head=True, **STYLES[style])
    lesion = torch.arange(8).expand(2, 8) == 0
    mask = select_masked_patches(lesion, 0.5, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, tokens = model(x, mask), model.encode(x)
        assert out["prediction"].dtype == torch.bfloat16
        losses = adaptive_masking_loss(out["prediction"], patchify(x, 4), mask, tokens=tokens, lesion=lesion)
        ranking = relative_ranking_loss(out["scores"], losses["errors"], mask)
    terms = {name: losses[name] for name in ("total", "reconstruction", "relative", "consistency", "errors")}
    assert {value.dtype for value in (*terms.values(), ranking)} == {torch.float32}
    outside = adaptive_masking_loss(
        out["prediction"].float(), patchify(x, 4), mask, tokens=tokens.float(), lesion=lesion
    )
    for name, value in terms.items():
        torch.testing.assert_close(value, outside[name])
    (losses["total"] + ranking).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_a_few_steps_lower_the_error_of_hidden_patches():
    x = volumes(4, 1, 8, 8, 8)
    model = network((8, 8, 8))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    lesion = torch.arange(8).expand(4, 8) == 0
    g, found = torch.Generator().manual_seed(0), []
    for step in range(40):
        mask = select_masked_patches(lesion, masking_ratio(step, 40), lesion_share=0.5, generator=g)
        losses = adaptive_masking_loss(
            model(x, mask)["prediction"], patchify(x, 4), mask, tokens=model.encode(x), lesion=lesion
        )
        optimiser.zero_grad()
        losses["total"].backward()
        optimiser.step()
        found.append(float(losses["reconstruction"].detach()))
    assert sum(found[-5:]) < 0.25 * sum(found[:5])


@pytest.mark.parametrize("style", STYLES)
def test_the_segmenter_shares_the_transformer(style):
    model = network((12, 8, 12), (3, 4, 4), in_channels=2, **STYLES[style])
    segmenter = PatchSegmenter(model, 3, features=8)
    logits = segmenter(volumes(2, 2, 12, 8, 12))
    assert logits.shape == (2, 3, 12, 8, 12)
    logits.square().mean().backward()
    weight = model.encoder.patch_embedding.patch_embeddings.weight
    assert any(p is weight for p in segmenter.parameters())
    assert weight.grad.abs().max() > 0
    assert PatchSegmenter(network((8, 12), (4, 6)), 2)(volumes(1, 1, 8, 12)).shape == (1, 2, 8, 12)
    # 16 voxels wide patches need four doublings, whatever the other sides
    wide = PatchSegmenter(network((32, 8, 8), (16, 2, 4)), 2)
    assert len(wide.stages) == 4
    assert wide(volumes(1, 1, 32, 8, 8)).shape == (1, 2, 32, 8, 8)
