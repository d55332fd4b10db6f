"""Explorers: pictures to move around in, each with a static picture beside it."""

from medssl_nb.widgets.picture import Panel, WithPicture
from medssl_nb.widgets.slice_canvas import SliceCanvas, VoxelValue
from medssl_nb.widgets.standalone import standalone_fragment, standalone_page
from medssl_nb.widgets.training_monitor import TrainingMonitor
from medssl_nb.widgets.volume_explorer import VolumeExplorer

__all__ = [
    "Panel",
    "SliceCanvas",
    "TrainingMonitor",
    "VolumeExplorer",
    "VoxelValue",
    "WithPicture",
    "standalone_fragment",
    "standalone_page",
]
