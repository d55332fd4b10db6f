"""The scores of this method's tables, shared with the evaluation of all methods."""

from medssl_nb.evaluation.segmentation import overlap_scores

__all__ = ["overlap_scores"]
