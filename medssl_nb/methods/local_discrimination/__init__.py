"""Local discrimination (Chen et al., TPAMI 2023): voxels, patches and regions told apart, landmarks and shapes found.

Formulas follow the released code (github.com/HuaiChen-1994/LDLearning); of the paper only abstracts and figures were at
hand. Landmarks and the refinement have no released code: their formulas are ours.
"""

from medssl_nb.lazy import lazy_exports

_EXPORTS = {
    "views": (
        "DiscriminationBatch",
        "ViewTransform",
        "apply_views",
        "jitter_intensity",
        "make_discrimination_batch",
        "mix_images",
        "sample_mix_weights",
        "sample_view_transform",
        "undo_views",
    ),
    "networks": (
        "LDOutput",
        "LoadReport",
        "LocalDiscriminationNet",
        "PixelEncoder",
        "l1_normalize",
        "l2_normalize",
        "load_shared_weights",
    ),
    "patches": (
        "center_weights",
        "hypersphere_mixup_loss",
        "hypersphere_mixup_targets",
        "patch_discrimination_loss",
        "patch_embeddings",
        "patch_losses",
    ),
    "regions": (
        "TargetSegmentation",
        "assignment_entropy",
        "cluster_area_loss",
        "cluster_assignments",
        "cosine_segmentation",
        "region_discrimination_loss",
        "region_embeddings",
        "region_prototypes",
        "segment_target",
    ),
    "joint": ("LossWeights", "local_discrimination_loss"),
    "landmarks": (
        "LandmarkResult",
        "center_sensitive_embeddings",
        "locate_landmark",
        "similarity_map",
    ),
    "shape_prior": (
        "ShapeDiscriminator",
        "augment_shape_masks",
        "pseudo_labels",
        "shape_discriminator_loss",
        "shape_generator_loss",
        "uncertainty_weighted_bce",
    ),
    "downstream": ("SegmentationNet",),
    "scores": ("dice_score", "landmark_error", "soft_dice_loss", "success_rate"),
    "task": ("LocalDiscrimination",),
}
__getattr__, __all__ = lazy_exports(__name__, _EXPORTS)
