"""Pictures of volumes: slices as radiologists read them, windows, overlays, colours."""

from medssl_nb.viz.colours import CLUSTER_COLOURS, ORGAN_COLOURS, label_colour
from medssl_nb.viz.planes import axial_view, coronal_view, sagittal_view, slice_view
from medssl_nb.viz.slices import planes_png, show_planes, show_row, show_slice
from medssl_nb.viz.windows import CT_WINDOWS, apply_window, window_range

__all__ = [
    "CLUSTER_COLOURS",
    "CT_WINDOWS",
    "ORGAN_COLOURS",
    "apply_window",
    "axial_view",
    "coronal_view",
    "label_colour",
    "planes_png",
    "sagittal_view",
    "show_planes",
    "show_row",
    "show_slice",
    "slice_view",
    "window_range",
]
