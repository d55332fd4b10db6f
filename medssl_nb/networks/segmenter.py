"""What any encoder needs to become a segmentation network, and its features laid on the voxel grid."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Segmenter(nn.Module):
    """An encoder and the decoder that its finest map needs to give one logit per voxel and class.

    - Finest map at full resolution (a U-Net): a 1x1(x1) convolution, nothing else.
    - Coarser (tokens of a transformer, a backbone that ends at stride 2): ceil(log2(largest stride)) stages of linear
      upsampling, 3x3(x3) convolution, instance norm, leaky ReLU; then, beside one convolution block on the volume
      itself (which brings the fine borders back), a last block and a 1x1(x1) convolution.

    Args:
        encoder: any module with the encoder face (see `medssl_nb.networks`). Its weights are shared, not copied.
        out_channels: classes, background included.
        features: smallest width of the decoder.
    """

    def __init__(self, encoder: nn.Module, out_channels: int, features: int = 16):
        super().__init__()
        from monai.networks.blocks import Convolution

        if out_channels < 1 or features < 1:
            raise ValueError(f"out_channels and features count from 1, got {out_channels} and {features}.")
        self.encoder = encoder
        dims, width = encoder.spatial_dims, encoder.feature_channels[0]
        block = {
            "kernel_size": 3,
            "act": ("leakyrelu", {"negative_slope": 0.01}),
            "norm": ("instance", {"affine": True}),
        }
        self.stages = nn.ModuleList()
        for _ in range(math.ceil(math.log2(max(encoder.feature_strides[0])))):
            narrower = max(features, width // 2)
            self.stages.append(Convolution(dims, width, narrower, **block))
            width = narrower
        if len(self.stages):
            self.skip = Convolution(dims, encoder.in_channels, features, **block)
            self.last = Convolution(dims, width + features, features, **block)
            width = features
        self.head = Convolution(dims, width, out_channels, kernel_size=1, conv_only=True)

    def forward(self, volume: Tensor) -> Tensor:
        """Volume (B, C, *S) to logits (B, out_channels, *S)."""
        x = self.encoder.feature_maps(volume)[0]
        if not len(self.stages):
            return self.head(x)
        full, coarse = volume.shape[2:], x.shape[2:]
        for done, stage in enumerate(self.stages, 1):
            left = 2 ** (len(self.stages) - done)  # each stage doubles; the last one meets the volume's size exactly
            size = [max(c, math.ceil(f / left)) for f, c in zip(full, coarse, strict=True)]
            x = stage(F.interpolate(x, size=size, mode=_LINEAR[len(full)], align_corners=False))
        return self.head(self.last(torch.cat([x, self.skip(volume)], dim=1)))


@torch.no_grad()
def voxel_features(encoder: nn.Module, volume: Tensor) -> Tensor:
    """All feature maps of `encoder`, resized linearly to the voxel grid and stacked.

    Args:
        encoder: a module with the encoder face, in the mode (`eval()`) the caller chose.
        volume: (B, C, *S), of a size the encoder takes.

    Returns:
        (B, sum of `feature_channels`, *S), without gradient.
    """
    size = tuple(volume.shape[2:])
    maps = (
        m if tuple(m.shape[2:]) == size else F.interpolate(m, size=size, mode=_LINEAR[len(size)], align_corners=False)
        for m in encoder.feature_maps(volume)
    )
    return torch.cat(list(maps), dim=1)
