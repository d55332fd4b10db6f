"""Explorers: pictures to move around in, each with a static picture beside it."""

from medssl_nb.widgets.alignment_explorer import AlignmentExplorer
from medssl_nb.widgets.attention_explorer import AttentionExplorer
from medssl_nb.widgets.boundary_explorer import BoundaryExplorer
from medssl_nb.widgets.cluster_explorer import ClusterExplorer, stable_clusters
from medssl_nb.widgets.comparison_explorer import ComparisonExplorer
from medssl_nb.widgets.distillation_explorer import DistillationExplorer
from medssl_nb.widgets.embedding_explorer import EmbeddingExplorer
from medssl_nb.widgets.joint_matrix_explorer import JointMatrixExplorer
from medssl_nb.widgets.keep_keys import KeepKeys
from medssl_nb.widgets.landmark_explorer import LandmarkExplorer
from medssl_nb.widgets.mask_explorer import MaskExplorer
from medssl_nb.widgets.patch_cluster_explorer import PatchClusterExplorer
from medssl_nb.widgets.picture import Panel, WithPicture
from medssl_nb.widgets.ratio_curve import RatioCurve
from medssl_nb.widgets.reconstruction_explorer import ReconstructionExplorer
from medssl_nb.widgets.region_explorer import RegionExplorer
from medssl_nb.widgets.shape_prior_explorer import ShapePriorExplorer
from medssl_nb.widgets.slice_canvas import SliceCanvas, VoxelValue
from medssl_nb.widgets.standalone import standalone_fragment, standalone_page
from medssl_nb.widgets.training_monitor import TrainingMonitor
from medssl_nb.widgets.view_pair_gallery import ViewPairGallery
from medssl_nb.widgets.volume_explorer import VolumeExplorer

__all__ = [
    "AlignmentExplorer",
    "AttentionExplorer",
    "BoundaryExplorer",
    "ClusterExplorer",
    "ComparisonExplorer",
    "DistillationExplorer",
    "EmbeddingExplorer",
    "JointMatrixExplorer",
    "KeepKeys",
    "LandmarkExplorer",
    "MaskExplorer",
    "Panel",
    "PatchClusterExplorer",
    "RatioCurve",
    "ReconstructionExplorer",
    "RegionExplorer",
    "ShapePriorExplorer",
    "SliceCanvas",
    "TrainingMonitor",
    "ViewPairGallery",
    "VolumeExplorer",
    "VoxelValue",
    "WithPicture",
    "stable_clusters",
    "standalone_fragment",
    "standalone_page",
]
