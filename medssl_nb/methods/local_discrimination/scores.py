"""The scores of this method's tables, shared with the evaluation of all methods."""

from medssl_nb.evaluation.landmarks import landmark_error, success_rate
from medssl_nb.evaluation.segmentation import dice_score, soft_dice_loss

__all__ = ["dice_score", "landmark_error", "soft_dice_loss", "success_rate"]
