"""The networks of this method, shared with others under these names."""

from medssl_nb.networks.patch_transformer import MaskedPatchTransformer
from medssl_nb.networks.segmenter import Segmenter as PatchSegmenter

__all__ = ["MaskedPatchTransformer", "PatchSegmenter"]
