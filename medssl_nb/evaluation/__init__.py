"""One evaluation for all methods: few-label transfer, probes on frozen features, scores, statistics, result files."""

from medssl_nb.lazy import lazy_exports

_EXPORTS = {
    "clusters": ("agreement_scores", "border_scores", "clusters_used", "label_borders", "organ_information"),
    "landmarks": (
        "find_by_features",
        "landmark_error",
        "landmark_transfer",
        "locate_by_features",
        "match_grey_values",
        "score_landmarks",
        "success_rate",
    ),
    "predict": ("predict_scan",),
    "probes": ("linear_probe", "nearest_voxel_probe", "whole_volume_features"),
    "results": ("load_results", "made_with", "save_result"),
    "segmentation": ("dice_score", "overlap_scores", "segmentation_scores", "soft_dice_loss", "summarise_scores"),
    "statistics": ("mean_and_interval", "paired_difference"),
    "tables": ("comparable", "curve_table", "dice_table", "difference_table", "hd95_table", "landmark_table"),
    "transfer": ("TransferSettings", "few_label_transfer", "finetune", "segment", "train_segmenter"),
}
__getattr__, __all__ = lazy_exports(__name__, _EXPORTS)
