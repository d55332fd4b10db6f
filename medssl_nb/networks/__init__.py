"""Backbones that two or more methods share, thin over MONAI, and the one face they all have.

**The encoder face.** Whatever pre-training keeps and transfer takes offers

- `feature_maps(volume) -> list[Tensor]`: volume (B, C, *S) to maps (B, C_i, *S / stride_i), the finest first;
- `feature_channels`, `feature_strides`: C_i and, per axis, stride_i of each map;
- `spatial_dims`, `in_channels`.

`Segmenter` (fine-tuning) and `voxel_features` (probes, landmarks) need no more than that.
"""

from importlib import import_module

_EXPORTS = {
    "unet": ("FeatureUNet",),
    "patches": ("patchify", "random_masks", "unpatchify"),
    "patch_transformer": ("MaskedPatchTransformer",),
    "backbones": ("BackboneOutput", "ConvBackbone", "SwinBackbone"),
    "segmenter": ("Segmenter", "voxel_features"),
    "weights": ("LoadReport", "load_encoder", "load_pretrained", "read_card", "save_encoder"),
    "build": ("build_encoder", "size_multiple"),
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
