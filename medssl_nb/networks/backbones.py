"""U-shaped backbones that return a global token, an encoder map, a decoder map and a reconstruction."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class BackboneOutput(NamedTuple):
    """What a backbone makes of volumes (N, C, *S)."""

    global_token: Tensor  # (N, C_e): mean of the encoder map over its positions
    encoder_map: Tensor  # (N, C_e, *S/16), normalised
    decoder_map: Tensor  # (N, C_d, *S/8)
    reconstruction: Tensor  # (N, C, *S)


class ConvBackbone(nn.Module):
    """Small residual U-Net for the CPU, in 2D and 3D.

    Four residual stages of stride 2; group norm with one group on the deepest map; then three times a transposed
    convolution of stride 2, the skip added, a residual stage; at last a transposed convolution to the image. Stages are
    MONAI's `UnetResBlock` with group norm of one group, which also takes a deepest map of a single voxel.

    As an encoder (see `medssl_nb.networks`): the decoder stages at strides 2, 4 and 8 (`decoder_map`), then the
    deepest, normalised map at stride 16 (`encoder_map`).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the volume and of the reconstruction.
        widths: channels at strides 2, 4, 8 and 16.

    Raises:
        ValueError: `spatial_dims` or `widths` out of range; in use: another rank or number of channels, or a side that
            is not a multiple of 16.
    """

    def __init__(self, spatial_dims: int = 3, in_channels: int = 1, widths: Sequence[int] = (16, 32, 64, 128)):
        super().__init__()
        from monai.networks.blocks import UnetResBlock
        from monai.networks.layers import Conv

        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims is 2 or 3, got {spatial_dims!r}.")
        widths = tuple(widths)
        if len(widths) != 4 or min(widths) < 1:
            raise ValueError(f"widths gives the channels at strides 2, 4, 8 and 16, each at least 1, got {widths}.")
        self.spatial_dims, self.in_channels = spatial_dims, in_channels
        self.encoder_channels, self.decoder_channels = widths[3], widths[2]
        self.feature_channels = widths
        self.feature_strides = tuple((2**k,) * spatial_dims for k in (1, 2, 3, 4))

        def stage(channels: int, out_channels: int, stride: int) -> nn.Module:
            return UnetResBlock(spatial_dims, channels, out_channels, 3, stride, ("group", {"num_groups": 1}))

        def double(channels: int, out_channels: int) -> nn.Module:
            return Conv[Conv.CONVTRANS, spatial_dims](channels, out_channels, kernel_size=2, stride=2)

        down = (in_channels, *widths)
        self.down = nn.ModuleList(stage(down[k], down[k + 1], 2) for k in range(4))
        self.norm = nn.GroupNorm(1, widths[3])
        self.up = nn.ModuleList(double(widths[k + 1], widths[k]) for k in (2, 1, 0))
        self.refine = nn.ModuleList(stage(widths[k], widths[k], 1) for k in (2, 1, 0))
        self.to_image = double(widths[0], in_channels)

    def forward(self, x: Tensor) -> BackboneOutput:
        """Volumes (N, C, *S), every side a multiple of 16."""
        finest, _, decoder_map, encoder_map = self.feature_maps(x)
        return _output(encoder_map, decoder_map, self.to_image(finest))

    def feature_maps(self, volume: Tensor) -> list[Tensor]:
        """Maps at strides 2, 4, 8 and 16."""
        _check_volume(volume, self, multiple=16, smallest=16)
        skips = []
        x = volume
        for stage in self.down:
            x = stage(x)
            skips.append(x)
        maps = [self.norm(skips.pop())]
        for double, refine in zip(self.up, self.refine, strict=True):
            maps.append(refine(double(maps[-1]) + skips.pop()))
        return maps[::-1]


class SwinBackbone(nn.Module):
    """MONAI's `SwinUNETR` with its inner maps in reach, for full-size runs in 3D.

    `swin_unetr` is the unchanged MONAI network, reconstruction head included; its state dict loads into a plain
    `SwinUNETR` of equal widths. `encoder_map` is hidden state 3 of its transformer (8 * feature_size channels),
    `decoder_map` the output of `decoder4` (4 * feature_size channels).

    As an encoder (see `medssl_nb.networks`): the map that `SwinUNETR` feeds to its last convolution at full resolution,
    its other decoder maps at strides 2, 4, 8 and 16, then the deepest map at stride 32.

    Args:
        in_channels: channels of the volume and of the reconstruction.
        feature_size: width of the first stage, divisible by 12.
        swin_unetr_options: further arguments of `SwinUNETR`, such as `use_checkpoint=True` to save memory.

    Raises:
        ValueError: an option that this class fixes; in use: another rank or number of channels, or a side that is not
            a multiple of 32 or below 64 (the deepest map would be one voxel, which instance norm cannot take).
    """

    spatial_dims = 3

    def __init__(self, in_channels: int = 1, feature_size: int = 48, **swin_unetr_options):
        super().__init__()
        from monai.networks.nets import SwinUNETR

        fixed = {"out_channels": in_channels, "patch_size": 2, "spatial_dims": 3}
        if clash := sorted(fixed.keys() & swin_unetr_options.keys()):
            raise ValueError(f"SwinBackbone fixes {', '.join(clash)} itself ({fixed}); leave them out.")
        self.swin_unetr = SwinUNETR(in_channels, feature_size=feature_size, **fixed, **swin_unetr_options)
        self.in_channels = in_channels
        self.encoder_channels, self.decoder_channels = 8 * feature_size, 4 * feature_size
        self.feature_channels = tuple(k * feature_size for k in (1, 1, 2, 4, 8, 16))
        self.feature_strides = tuple((2**k,) * 3 for k in range(6))

    def forward(self, x: Tensor) -> BackboneOutput:
        """Volumes (N, C, *S), every side a multiple of 32 and at least 64."""
        encoder_map, maps = self._maps(x)
        return _output(encoder_map, maps[3], self.swin_unetr.out(maps[0]))

    def feature_maps(self, volume: Tensor) -> list[Tensor]:
        """Maps at strides 1, 2, 4, 8, 16 and 32."""
        return self._maps(volume)[1]

    def _maps(self, volume: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Hidden state 3 and all maps, finest first: `SwinUNETR.forward` up to its last convolution."""
        _check_volume(volume, self, multiple=32, smallest=64)
        net = self.swin_unetr
        hidden = net.swinViT(volume, net.normalize)
        skips = (
            hidden[3],
            net.encoder4(hidden[2]),
            net.encoder3(hidden[1]),
            net.encoder2(hidden[0]),
            net.encoder1(volume),
        )
        maps = [net.encoder10(hidden[4])]
        for k, skip in zip((5, 4, 3, 2, 1), skips, strict=True):
            maps.append(net.get_submodule(f"decoder{k}")(maps[-1], skip))
        return hidden[3], maps[::-1]


def _output(encoder_map: Tensor, decoder_map: Tensor, reconstruction: Tensor) -> BackboneOutput:
    wide = torch.promote_types(encoder_map.dtype, torch.float32)  # a mean of half-precision numbers loses digits
    token = encoder_map.flatten(2).mean(-1, dtype=wide)  # (N, C_e, *S/16) -> (N, C_e)
    return BackboneOutput(token, encoder_map, decoder_map, reconstruction)


def _check_volume(volume: Tensor, backbone: ConvBackbone | SwinBackbone, *, multiple: int, smallest: int) -> None:
    name, axes, size = type(backbone).__name__, backbone.spatial_dims, tuple(volume.shape[2:])
    if volume.ndim != axes + 2 or volume.shape[1] != backbone.in_channels:
        raise ValueError(
            f"{name} takes volumes (N, {backbone.in_channels}, {', '.join('XYZ'[:axes])}), got {tuple(volume.shape)}."
        )
    if any(side % multiple or side < smallest for side in size):
        raise ValueError(
            f"{name} needs sides that are multiples of {multiple} and at least {smallest}, got {size}; "
            "crop or pad the volume."
        )
