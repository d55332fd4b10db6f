"""Pictures: slices as radiologists read them, windows, overlays, colours; curves of losses and scores."""

from medssl_nb.viz.alignment import alignment_png, show_alignment, show_view_pairs, view_pairs_png
from medssl_nb.viz.attention import attention_png, show_attention
from medssl_nb.viz.clusters import cluster_colours, show_usage, usage_png
from medssl_nb.viz.colours import CLUSTER_COLOURS, ORGAN_COLOURS, label_colour
from medssl_nb.viz.comparison import few_label_panels_png, ranking_png, show_few_label_panels, show_ranking
from medssl_nb.viz.curves import (
    few_label_png,
    losses_png,
    show_few_label,
    show_losses,
    show_transfer_curves,
    transfer_curves_png,
)
from medssl_nb.viz.distillation import distributions_png, entropies_png, show_distributions, show_entropies
from medssl_nb.viz.embeddings import embedding_colours, landmark_errors_png, show_landmark_errors
from medssl_nb.viz.matrices import joint_matrix_png, show_joint_matrix
from medssl_nb.viz.patches import (
    patch_map,
    patch_scatter_png,
    ratio_curve_png,
    show_patch_scatter,
    show_ratio_curve,
)
from medssl_nb.viz.planes import axial_view, coronal_view, sagittal_view, slice_view
from medssl_nb.viz.regions import region_matrix_png, show_region_matrix
from medssl_nb.viz.slices import planes_png, show_planes, show_row, show_slice
from medssl_nb.viz.windows import CT_WINDOWS, apply_window, window_range

__all__ = [
    "CLUSTER_COLOURS",
    "CT_WINDOWS",
    "ORGAN_COLOURS",
    "alignment_png",
    "apply_window",
    "attention_png",
    "axial_view",
    "cluster_colours",
    "coronal_view",
    "distributions_png",
    "embedding_colours",
    "entropies_png",
    "few_label_panels_png",
    "few_label_png",
    "joint_matrix_png",
    "label_colour",
    "landmark_errors_png",
    "losses_png",
    "patch_map",
    "patch_scatter_png",
    "planes_png",
    "ranking_png",
    "ratio_curve_png",
    "region_matrix_png",
    "sagittal_view",
    "show_alignment",
    "show_attention",
    "show_distributions",
    "show_entropies",
    "show_few_label",
    "show_few_label_panels",
    "show_joint_matrix",
    "show_landmark_errors",
    "show_losses",
    "show_patch_scatter",
    "show_planes",
    "show_ranking",
    "show_ratio_curve",
    "show_region_matrix",
    "show_row",
    "show_slice",
    "show_transfer_curves",
    "show_usage",
    "show_view_pairs",
    "slice_view",
    "transfer_curves_png",
    "usage_png",
    "view_pairs_png",
    "window_range",
]
