"""The network of this method, shared with others."""

from medssl_nb.networks.unet import FeatureUNet

__all__ = ["FeatureUNet"]
