"""Alice (Jiang et al., ICCV 2023): anatomical invariance between patients, semantic alignment within each.

Formulas follow the released codes of Alice and of SAM, its anatomical embedding (Yan et al., TMI 2022); of the paper
only abstracts and figures were at hand. Where figure and code differ, both can be chosen.
"""

from medssl_nb.lazy import lazy_exports

_EXPORTS = {
    "embedding": (
        "AnatomicalEmbedding",
        "AnatomicalEmbeddingNet",
        "anatomical_embedding_loss",
        "coarse_contrastive_loss",
        "fine_contrastive_loss",
        "info_nce_loss",
        "resized_coarse",
        "sample_overlapping_views",
    ),
    "views": (
        "ViewPair",
        "crop_around_point",
        "match_points",
        "mine_view_pair",
        "sample_foreground_point",
        "similarity_map",
    ),
    "masking": ("expand_patch_mask", "mask_volume", "random_patch_mask"),
    "networks": (
        "AliceHead",
        "AliceNetwork",
        "AliceOutput",
        "BackboneOutput",
        "ConvBackbone",
        "SwinBackbone",
        "UnitNormLinear",
        "make_teacher",
    ),
    "casa": ("CASA",),
    "losses": (
        "AliceLoss",
        "cross_view_loss",
        "distillation_loss",
        "reconstruction_loss",
        "same_view_loss",
        "teacher_distribution",
        "update_center",
    ),
    "stored": ("StoredEmbeddings", "embed_volume"),
    "task": ("Alice", "AnatomicalEmbeddingTask"),
    "training": (
        "clip_gradients_per_parameter",
        "cosine_schedule",
        "ema_update",
        "parameter_groups",
        "pretrain_step",
        "teacher_temperature_schedule",
        "teacher_tokens",
    ),
}
__getattr__, __all__ = lazy_exports(__name__, _EXPORTS)
