"""Boundary-aware information maximisation (Peng et al., Medical Image Analysis 2024): clusters that follow anatomy.

Formulas follow the released code (github.com/jizongFox/Contrast-You); of the paper only the abstracts were at hand.
"""

from medssl_nb.lazy import lazy_exports

_EXPORTS = {
    "losses": (
        "BoundaryInfoMaxTerms",
        "boundary_infomax_loss",
        "boundary_loss",
        "cluster_entropy",
        "displaced_joint_probability",
        "edge_target",
        "gradient_magnitude",
        "iic_loss",
        "info_nce_loss",
        "joint_probability",
        "local_cross_correlation",
        "min_max_normalize",
        "mutual_information",
        "regularized_mi_loss",
    ),
    "heads": ("ClusterHead", "ProjectionHead"),
    "views": ("apply_affine", "axial_partition", "random_affine", "random_gamma"),
    "network": ("FeatureUNet",),
    "schedule": ("warmup_cosine_lr",),
    "task": ("BoundaryInfoMax",),
    "analysis": ("cluster_usage", "match_clusters"),
}
__getattr__, __all__ = lazy_exports(__name__, _EXPORTS)
