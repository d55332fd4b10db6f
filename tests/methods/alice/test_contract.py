"""Names, arguments, order and defaults that the package promises."""

import inspect

import pytest

from medssl_nb import networks, training
from medssl_nb.methods import alice

VIEWS = "student, teacher, center, *, student_temperature=0.1, teacher_temperature=0.01"
CONTRACT = {
    # embedding
    "AnatomicalEmbeddingNet": (
        "spatial_dims=3, in_channels=1, widths=(32, 64, 128, 256), embedding_dim=128, strides=(2, 2, 2, 2)"
    ),
    "AnatomicalEmbeddingNet.forward": "self, x",
    "sample_overlapping_views": (
        "volume, crop_size, *, spacing=1.0, scale_range=(0.8, 1.2), overlap_probability=0.8, noise_std=0.03, "
        "generator=None"
    ),
    "info_nce_loss": "positive, negatives, temperature=0.5",
    "fine_contrastive_loss": (
        "fine, coarse, coordinates, valid=None, *, positive_radius=5.0, ignore_radius=3.0, max_candidates=2000, "
        "max_queries=100, hard_negatives=2000, sampled_negatives=500, temperature=0.5, generator=None"
    ),
    "coarse_contrastive_loss": (
        "coarse, coordinates, *, positive_radius=25.0, ignore_radius=5.0, axial_radius=6.0, axial_axis=0, "
        "hard_negatives=250, sampled_negatives=200, global_negatives=300, temperature=0.5, generator=None"
    ),
    "anatomical_embedding_loss": (
        "embedding, coordinates, valid=None, *, fine_options=None, coarse_options=None, generator=None"
    ),
    # views
    "similarity_map": "query, key, index",
    "match_points": "query, key, points, *, key_shape, query_scale=1.0, key_scale=1.0, stride=2",
    "sample_foreground_point": "volume, *, threshold=0.0, margin=10, max_tries=10000, generator=None",
    "crop_around_point": "volume, center, size, pad_value=0.0",
    "mine_view_pair": (
        "query_volume, key_volume, query_embedding, key_embedding, crop_size, *, min_score=0.7, max_tries=101, "
        "threshold=0.0, margin=10, query_scale=1.0, key_scale=1.0, stride=2, generator=None"
    ),
    # masking
    "random_patch_mask": "size, patch_size=16, ratio=0.75, *, mode='column', generator=None, device=None",
    "expand_patch_mask": "patch_mask, size",
    "mask_volume": "volume, mask, fill_value=0.0",
    # networks
    "ConvBackbone": "spatial_dims=3, in_channels=1, widths=(16, 32, 64, 128)",
    "SwinBackbone": "in_channels=1, feature_size=48, **swin_unetr_options",
    "UnitNormLinear": "in_features, out_features, learn_scale=False",
    "AliceHead": (
        "global_dim=384, encoder_dim=384, decoder_dim=192, out_dim=512, patch_out_dim=512, hidden_dim=2048, "
        "bottleneck_dim=256, norm_last_layer=True, shared_last_layer=False"
    ),
    "AliceHead.forward": "self, global_token, encoder_map, decoder_map",
    "AliceNetwork": "backbone, head",
    "AliceNetwork.forward": "self, views, mask=None",
    "make_teacher": "student, *, share_last_layer=True",
    # casa
    "CASA": "dim=512, hidden_dim=2048, num_heads=8, head_dim=64, dropout=0.1, target_weights='shared'",
    "CASA.attend": "self, query, context, *, target=False, return_attention=False",
    "CASA.forward": "self, query, online_context, target_context",
    "CASA.update_target": "self, momentum",
    # losses
    "teacher_distribution": "logits, center, temperature",
    "distillation_loss": "student_logits, teacher_probabilities, temperature=0.1",
    "cross_view_loss": VIEWS,
    "same_view_loss": VIEWS,
    "reconstruction_loss": "prediction, target, mask=None, *, region='all'",
    "update_center": "center, teacher_logits, momentum=0.9",
    "AliceLoss": (
        "out_dim=512, patch_out_dim=512, *, epochs, warmup_epochs=30, student_temperature=0.1, "
        "teacher_temperature=(0.008, 0.01), patch_teacher_temperature=(0.008, 0.01), patch_delay_epochs=0, "
        "center_momentum=0.9, patch_center_momentum=0.9, global_weight=1.0, patch_weight=1.0, "
        "reconstruction_weight=10.0, reconstruction_region='all'"
    ),
    "AliceLoss.forward": (
        "self, student_cls, teacher_cls, aligned_online, aligned_target, reconstruction, images, epoch, *, mask=None, "
        "update_centers=True"
    ),
    # training
    "cosine_schedule": "base, final, epochs, steps_per_epoch, warmup_epochs=0, start=0.0",
    "teacher_temperature_schedule": "start, end, warmup_epochs, epochs, delay_epochs=0",
    "ema_update": "teacher, student, momentum",
    "clip_gradients_per_parameter": "module, max_norm",
    "parameter_groups": "*modules",
    "pretrain_step": (
        "student, teacher, casa, criterion, optimizer, views, mask, *, epoch, momentum, max_grad_norm=3.0, "
        "freeze_last_layer=False, teacher_context='decoder'"
    ),
}
RESULTS = {
    "AnatomicalEmbedding": ("fine", "coarse"),
    "ViewPair": ("query", "key", "query_point", "key_point", "score", "tries"),
    "BackboneOutput": ("global_token", "encoder_map", "decoder_map", "reconstruction"),
    "AliceOutput": ("cls", "encoder_tokens", "decoder_tokens", "reconstruction"),
}
SHARED = {
    networks: ("BackboneOutput", "ConvBackbone", "SwinBackbone"),
    training: (
        "cosine_schedule",
        "teacher_temperature_schedule",
        "ema_update",
        "clip_gradients_per_parameter",
        "parameter_groups",
    ),
}


@pytest.mark.parametrize("name", CONTRACT)
def test_arguments_keep_their_names_order_and_defaults(name):
    promised = {}
    exec(f"def stated({CONTRACT[name]}): ...", {}, promised)
    found = alice
    for part in name.split("."):
        found = getattr(found, part)

    def face(function):
        return [(p.name, p.kind.name, p.default) for p in inspect.signature(function).parameters.values()]

    stated, own = face(promised["stated"]), face(found)
    assert own[: len(stated)] == stated
    for _, kind, default in own[len(stated) :]:  # more may be offered, never asked for
        assert kind == "KEYWORD_ONLY" and default is not inspect.Parameter.empty


@pytest.mark.parametrize("name", RESULTS)
def test_results_name_their_parts(name):
    assert getattr(alice, name)._fields == RESULTS[name]


def test_the_package_offers_the_whole_contract():
    assert {name.split(".")[0] for name in CONTRACT} | set(RESULTS) <= set(alice.__all__)


@pytest.mark.parametrize("home", SHARED, ids=lambda home: home.__name__.rpartition(".")[2])
def test_what_other_methods_share_lives_in_one_place(home):
    for name in SHARED[home]:
        assert getattr(alice, name) is getattr(home, name)
