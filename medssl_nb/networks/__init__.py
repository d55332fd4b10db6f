"""Backbones that two or more methods share, thin over MONAI, and the one face they all have.

**The encoder face.** Whatever pre-training keeps and transfer takes offers

- `feature_maps(volume) -> list[Tensor]`: volume (B, C, *S) to maps (B, C_i, *S / stride_i), the finest first;
- `feature_channels`, `feature_strides`: C_i and, per axis, stride_i of each map;
- `spatial_dims`, `in_channels`.

`Segmenter` (fine-tuning) and `voxel_features` (probes, landmarks) need no more than that.
"""

from medssl_nb.lazy import lazy_exports

_EXPORTS = {
    "unet": ("FeatureUNet",),
    "pixel_unet": ("PixelDecoder", "PixelEncoder", "PixelUNet"),
    "patches": ("patchify", "random_masks", "unpatchify"),
    "patch_transformer": ("MaskedPatchTransformer",),
    "anatomical": ("AnatomicalEmbedding", "AnatomicalEmbeddingNet"),
    "backbones": ("BackboneOutput", "ConvBackbone", "SwinBackbone"),
    "segmenter": ("Segmenter", "voxel_features"),
    "weights": (
        "LoadReport",
        "load_encoder",
        "load_pretrained",
        "load_segmenter",
        "read_card",
        "save_encoder",
        "save_segmenter",
    ),
    "build": ("build_encoder", "size_multiple"),
}
__getattr__, __all__ = lazy_exports(__name__, _EXPORTS)
