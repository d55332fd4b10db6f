"""Explorers: pictures to move around in, each with a static picture beside it."""

from medssl_nb.widgets.mask_explorer import MaskExplorer
from medssl_nb.widgets.patch_cluster_explorer import PatchClusterExplorer
from medssl_nb.widgets.picture import Panel, WithPicture
from medssl_nb.widgets.ratio_curve import RatioCurve
from medssl_nb.widgets.reconstruction_explorer import ReconstructionExplorer
from medssl_nb.widgets.slice_canvas import SliceCanvas, VoxelValue
from medssl_nb.widgets.standalone import standalone_fragment, standalone_page
from medssl_nb.widgets.training_monitor import TrainingMonitor
from medssl_nb.widgets.volume_explorer import VolumeExplorer

__all__ = [
    "MaskExplorer",
    "Panel",
    "PatchClusterExplorer",
    "RatioCurve",
    "ReconstructionExplorer",
    "SliceCanvas",
    "TrainingMonitor",
    "VolumeExplorer",
    "VoxelValue",
    "WithPicture",
    "standalone_fragment",
    "standalone_page",
]
