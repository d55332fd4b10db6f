"""AMLP: adaptive masking of lesion patches (Wang et al., arXiv 2309.04312).

The abstracts of the paper say what its parts are for; the formulas here are this project's reading of them, because the
paper's method section was not at hand. Every choice is an argument.
"""

from medssl_nb.lazy import lazy_exports

_EXPORTS = {
    "patches": ("foreground_patches", "patch_features", "patchify", "unpatchify"),
    "selection": ("KMeansResult", "kmeans", "lesion_category", "masking_ratio", "select_masked_patches"),
    "losses": (
        "adaptive_masking_loss",
        "category_consistency_loss",
        "hard_patches",
        "masked_reconstruction_loss",
        "reconstruction_error",
        "relative_ranking_loss",
        "relative_reconstruction_loss",
        "relative_weights",
    ),
    "model": ("MaskedPatchTransformer", "PatchSegmenter"),
    "scores": ("overlap_scores",),
    "task": ("AdaptiveMasking",),
}
__getattr__, __all__ = lazy_exports(__name__, _EXPORTS)
