"""Names, arguments, order and defaults that the package promises."""

import dataclasses
import inspect

import pytest
import torch

from medssl_nb.methods import local_discrimination

CONTRACT = {
    # views
    "ViewTransform": "flip_axes=(), rot90_k=0, rot90_axes=(-2, -1)",
    "sample_view_transform": ("spatial_dims=3, *, flip_axes=None, rot90_axes=None, joint_flip=False, generator=None"),
    "apply_views": "images, transforms",
    "undo_views": "features, transforms",
    "sample_mix_weights": "batch_size, *, low=0.2, high=0.8, generator=None",
    "mix_images": "a, b, weights",
    "jitter_intensity": "images, *, brightness=0.4, contrast=0.4, noise_std=0.0, generator=None",
    "make_discrimination_batch": (
        "images_a, images_b, *, flip_axes=None, rot90_axes=None, joint_flip=False, brightness=0.4, contrast=0.4, "
        "noise_std=0.0, mix_range=(0.2, 0.8), generator=None"
    ),
    # networks
    "l2_normalize": "x, dim=1, eps=1e-10",
    "l1_normalize": "x, dim=1, eps=1e-9",
    "PixelEncoder": "spatial_dims=3, in_channels=1, base_channels=16",
    "PixelEncoder.forward": "self, images",
    "LocalDiscriminationNet": (
        "spatial_dims=3, in_channels=1, *, base_channels=16, embedding_dim=32, num_clusters=None, "
        "assignment_mode='sigmoid_l1'"
    ),
    "LocalDiscriminationNet.forward": "self, images",
    "load_shared_weights": "net, state_dict",
    # patches
    "center_weights": "window_size, sigma=0.5, *, dtype=torch.float32, device=None",
    "patch_embeddings": "embeddings, grid_size, *, weighting='mean', sigma=0.5",
    "patch_discrimination_loss": "first, second, *, temperature=0.1, detach_targets=True",
    "hypersphere_mixup_targets": "patches_a, patches_b, weights",
    "hypersphere_mixup_loss": "mixed, patches_a, patches_b, weights, *, temperature=0.1",
    "patch_losses": "patches, batch, *, temperature=0.1",
    # regions
    "cluster_assignments": "logits, *, mode='sigmoid_l1', eps=1e-9",
    "region_embeddings": "embeddings, assignments, *, mask=None, eps=1e-10",
    "region_prototypes": "regions",
    "region_discrimination_loss": "regions, *, prototypes=None, temperature=0.2, detach_prototypes=False",
    "assignment_entropy": "assignments, *, kind='binary', eps=1e-30",
    "cluster_area_loss": "assignments, *, target_fraction=1/16, norm='l2'",
    "cosine_segmentation": "embeddings, regions, *, temperature=0.2",
    "segment_target": "embeddings, assignments, *, target=0, mask=None, temperature=0.2",
    # joint
    "LossWeights": "patch=1.0, mixup=1.0, region=10.0, entropy=0.1, shape=1.0",
    "local_discrimination_loss": (
        "patches, batch, *, regions=None, assignments=None, fake_logits=None, "
        "weights=local_discrimination.LossWeights(), patch_temperature=0.1, region_temperature=0.2"
    ),
    # landmarks
    "center_sensitive_embeddings": "embeddings, window_size, *, sigma=0.5",
    "similarity_map": "query, support_vector",
    "locate_landmark": ("query_embeddings, support_embeddings, support_point, *, window_sizes, sigma=0.5, mask=None"),
    "landmark_error": "predicted, target, *, spacing=1.0",
    "success_rate": "errors, radius",
    # shape_prior
    "ShapeDiscriminator": "spatial_dims=3, in_channels=1, *, channels=(16, 32, 32), negative_slope=0.2",
    "shape_generator_loss": "fake_logits",
    "shape_discriminator_loss": "real_logits, fake_logits",
    "augment_shape_masks": (
        "masks, *, flip_axes=None, rotation_axes=(-2, -1), max_rotation=180.0, max_crop=0.1, threshold=0.1, "
        "generator=None"
    ),
    "pseudo_labels": "assignment, similarity",
    "uncertainty_weighted_bce": "logits, label, uncertainty, *, eps=1e-6",
    # downstream
    "SegmentationNet": "encoder, out_channels=1",
    "SegmentationNet.forward": "self, images",
    "soft_dice_loss": "probabilities, target, *, smooth=1.0",
    "dice_score": "prediction, target",
}
RESULTS = {
    "DiscriminationBatch": ("images", "mix_weights", "transforms_a", "transforms_b"),
    "LDOutput": ("embeddings", "assignments"),
    "LoadReport": ("loaded", "missing", "unexpected"),
    "TargetSegmentation": ("assignment", "similarity"),
    "LandmarkResult": ("points", "similarity", "maps"),
}


@pytest.mark.parametrize("name", CONTRACT)
def test_arguments_keep_their_names_order_and_defaults(name):
    promised = {}
    exec(f"def stated({CONTRACT[name]}): ...", {"torch": torch, "local_discrimination": local_discrimination}, promised)
    found = local_discrimination
    for part in name.split("."):
        found = getattr(found, part)

    def face(function):
        return [(p.name, p.kind.name, p.default) for p in inspect.signature(function).parameters.values()]

    stated, own = face(promised["stated"]), face(found)
    if dataclasses.is_dataclass(found):
        own = own[: len(stated)]
    assert own[: len(stated)] == stated
    for _, kind, default in own[len(stated) :]:  # more may be offered, never asked for
        assert kind == "KEYWORD_ONLY" and default is not inspect.Parameter.empty


@pytest.mark.parametrize("name", RESULTS)
def test_results_name_their_parts(name):
    kind = getattr(local_discrimination, name)
    fields = getattr(kind, "_fields", None) or tuple(f.name for f in dataclasses.fields(kind))
    assert fields == RESULTS[name]


def test_the_package_offers_the_whole_contract():
    assert {name.split(".")[0] for name in CONTRACT} | set(RESULTS) <= set(local_discrimination.__all__)


@pytest.mark.parametrize("name", ["ViewTransform", "LossWeights"])
def test_settings_cannot_change(name):
    kind = getattr(local_discrimination, name)
    settings = kind()
    assert settings == kind() and hash(settings) == hash(kind())
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(settings, dataclasses.fields(kind)[0].name, 3)
