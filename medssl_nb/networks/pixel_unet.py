"""A U-Net with a VGG-like way down, as the released code of local discrimination has it, in 2D and 3D."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {"batch": {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}, "instance": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}}
_POOL = {2: F.max_pool2d, 3: F.max_pool3d}
_WIDTHS, _DEPTHS = (1, 2, 4, 8, 8), (2, 2, 3, 3, 3)  # of the five levels: times base_channels, and convolutions


def conv_block(
    spatial_dims: int, in_channels: int, out_channels: int, norm: Literal["batch", "instance"] = "batch"
) -> nn.Sequential:
    """3x3(x3) convolution that keeps the size, norm with weights of its own, ReLU."""
    if norm not in _NORM:
        raise ValueError(f'norm is "batch" or "instance", got {norm!r}.')
    convolution = _CONVOLUTION[spatial_dims](in_channels, out_channels, 3, padding=1)
    return nn.Sequential(convolution, _NORM[norm][spatial_dims](out_channels, affine=True), nn.ReLU())


class PixelEncoder(nn.Module):
    """The way down: five levels, max-pooling between them, 13 convolutions, each with batch norm and ReLU.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        base_channels: c; the levels are c, 2c, 4c, 8c, 8c wide.

    Attributes:
        channels: widths of the five levels, finest first.

    Raises:
        ValueError: `spatial_dims` not 2 or 3, a width below 1; in `forward`: sides that are not multiples of 16.
    """

    def __init__(self, spatial_dims: int = 3, in_channels: int = 1, base_channels: int = 16):
        super().__init__()
        if spatial_dims not in _CONVOLUTION:
            raise ValueError(f"spatial_dims is 2 or 3, got {spatial_dims!r}.")
        for name, width in (("in_channels", in_channels), ("base_channels", base_channels)):
            if width < 1:
                raise ValueError(f"{name} counts from 1, got {width!r}.")
        self.spatial_dims, self.in_channels = spatial_dims, in_channels
        self.channels = tuple(base_channels * width for width in _WIDTHS)
        self.levels = nn.ModuleList()
        before = in_channels
        for width, depth in zip(self.channels, _DEPTHS, strict=True):
            blocks = [conv_block(spatial_dims, before if k == 0 else width, width) for k in range(depth)]
            self.levels.append(nn.Sequential(*blocks))
            before = width
        for module in self.modules():
            if isinstance(module, tuple(_CONVOLUTION.values())):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, C, *S) to five maps, finest first; map k has 1 / 2**k of the sides."""
        check_sides(images, self.spatial_dims, self.in_channels)
        maps = []
        for k, level in enumerate(self.levels):
            images = level(images if k == 0 else _POOL[self.spatial_dims](images, 2))
            maps.append(images)
        return maps


class PixelDecoder(nn.Module):
    """The way up: stages of doubling (nearest neighbour), joining the skip and two convolution blocks.

    Args:
        channels: widths of the encoder's levels, finest first.
        spatial_dims: 2 or 3.
        last_stage: True: four stages, up to full resolution with width c (for a segmentation). False: three, and the
            last doubling is joined with the finest level as it is (for heads that bring convolutions of their own).
    """

    def __init__(self, channels: Sequence[int], spatial_dims: int = 3, *, last_stage: bool = False):
        super().__init__()
        c = channels[0]
        widths = [(16 * c, 8 * c, 4 * c), (8 * c, 4 * c, 2 * c), (4 * c, 2 * c, c)]
        if last_stage:
            widths.append((2 * c, c, c))
        self.stages = nn.ModuleList(
            nn.Sequential(conv_block(spatial_dims, i, m), conv_block(spatial_dims, m, o)) for i, m, o in widths
        )
        self.last_stage = last_stage

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The encoder's five maps to what the way up holds, finest first: 2c (or c) channels at full size, then c, 2c,
        4c at half, quarter and eighth."""
        up, skips = maps[-1], maps[-2::-1]
        found = []
        for stage, skip in zip(self.stages, skips, strict=False):
            up = stage(_joined(up, skip))
            found.append(up)
        if not self.last_stage:
            found.append(_joined(up, maps[0]))
        return found[::-1]


class PixelUNet(nn.Module):
    """`PixelEncoder` and `PixelDecoder` with the encoder face of this package (see `medssl_nb.networks`).

    Args:
        in_channels, base_channels, spatial_dims: see `PixelEncoder`.
    """

    def __init__(self, in_channels: int = 1, *, base_channels: int = 16, spatial_dims: int = 3):
        super().__init__()
        self.encoder = PixelEncoder(spatial_dims, in_channels, base_channels)
        self.decoder = PixelDecoder(self.encoder.channels, spatial_dims)
        self.spatial_dims, self.in_channels = spatial_dims, in_channels

    def forward(self, volume: Tensor) -> Tensor:
        """Volume (B, C, *S) to the finest map (B, 2c, *S)."""
        return self.decoder(self.encoder(volume))[0]

    @property
    def feature_channels(self) -> tuple[int, ...]:
        c = self.encoder.channels[0]
        return (2 * c, c, 2 * c, 4 * c, 8 * c)

    @property
    def feature_strides(self) -> tuple[tuple[int, ...], ...]:
        return tuple((2**k,) * self.spatial_dims for k in range(5))

    def feature_maps(self, volume: Tensor) -> list[Tensor]:
        """The way up, finest first, then the deepest level of the encoder."""
        maps = self.encoder(volume)
        return [*self.decoder(maps), maps[-1]]


def check_sides(images: Tensor, spatial_dims: int, in_channels: int) -> None:
    """ValueError unless images are (B, in_channels, *S) with sides that four halvings divide."""
    if images.ndim != spatial_dims + 2 or images.shape[1] != in_channels:
        raise ValueError(f"images must be (B, {in_channels}) and {spatial_dims} axes, got {tuple(images.shape)}.")
    if any(side < 16 or side % 16 for side in images.shape[2:]):
        raise ValueError(
            f"every side must be a multiple of 16 (four halvings), got {tuple(images.shape[2:])}; crop or pad."
        )


def _joined(coarse: Tensor, skip: Tensor) -> Tensor:
    """The coarse map at twice its size, and the skip, along the channels: (B, C + C', *S)."""
    return torch.cat([F.interpolate(coarse, scale_factor=2, mode="nearest"), skip], dim=1)
