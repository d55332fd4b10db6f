"""The two plain pretext tasks that every method of this course is measured against."""

from medssl_nb.methods.baselines.masked_autoencoding import MaskedAutoencoding
from medssl_nb.methods.baselines.view_contrast import ViewContrast

__all__ = ["MaskedAutoencoding", "ViewContrast"]
