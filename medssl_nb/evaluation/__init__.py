"""One evaluation for all methods: few-label transfer, probes on frozen features, scores, statistics, result files."""

from importlib import import_module

_EXPORTS = {
    "landmarks": ("landmark_error", "landmark_transfer", "locate_by_features", "success_rate"),
    "probes": ("linear_probe", "nearest_voxel_probe", "whole_volume_features"),
    "results": ("load_results", "made_with", "save_result"),
    "segmentation": ("dice_score", "overlap_scores", "segmentation_scores", "soft_dice_loss", "summarise_scores"),
    "statistics": ("mean_and_interval", "paired_difference"),
    "tables": ("comparable", "curve_table", "dice_table", "difference_table", "hd95_table", "landmark_table"),
    "transfer": ("TransferSettings", "few_label_transfer", "finetune", "segment", "train_segmenter"),
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
