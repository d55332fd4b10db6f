"""A residual pyramid that gives every voxel two unit vectors: where in the body it is, finely and coarsely."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl_nb.precision import at_least_float32


class AnatomicalEmbedding(NamedTuple):
    """Unit vectors (length 1 over E) on two grids; with a batch axis (N, E, *S), or of one volume (E, *S)."""

    fine: Tensor
    coarse: Tensor


class AnatomicalEmbeddingNet(nn.Module):
    """The network of SAM, Self-supervised Anatomical eMbedding (Yan et al., TMI 2022), at any size.

    Four residual stages (MONAI's `ResidualUnit`, group norm with 8 groups). Fine map: 1x1 convolutions on the three
    finest stages, added from coarse to fine by nearest upsampling, a 3x3 convolution. Coarse map: 1x1 and 3x3
    convolutions on the last stage. The last stage is kept out of the fine map, so the two say different things.
    (The released network is a ResNet-18 with batch norm.)

    As an encoder (see `medssl_nb.networks`): the fine map, then the coarse map.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the volume.
        widths: channels of the four stages, each a multiple of 8.
        embedding_dim: E, length of the vectors.
        strides: of the four stages, one number or one for each axis. The fine map has the first stage's, the coarse map
            the product of all. The released network has 16 in the slice and 4 along the body.

    Raises:
        ValueError: an argument out of its range; in use: another rank or number of channels, a side below the coarse
            stride, or none above it (the last stage would be one voxel, which group norm cannot take).
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        widths: Sequence[int] = (32, 64, 128, 256),
        embedding_dim: int = 128,
        strides: Sequence[int | Sequence[int]] = (2, 2, 2, 2),
    ):
        super().__init__()
        from monai.networks.blocks import ResidualUnit
        from monai.networks.layers import Conv

        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims is 2 or 3, got {spatial_dims!r}.")
        widths = tuple(widths)
        if len(widths) != 4 or any(w < 8 or w % 8 for w in widths):
            raise ValueError(f"widths gives the channels of four stages, each a multiple of 8, got {widths}.")
        if in_channels < 1 or embedding_dim < 1:
            raise ValueError(
                f"in_channels and embedding_dim count from 1, got in_channels={in_channels} and "
                f"embedding_dim={embedding_dim}."
            )
        self.strides = _checked_strides(strides, spatial_dims)
        self.spatial_dims, self.in_channels, self.embedding_dim = spatial_dims, in_channels, embedding_dim
        self.feature_channels = (embedding_dim, embedding_dim)
        coarse = tuple(int(torch.tensor(axis).prod()) for axis in zip(*self.strides, strict=True))
        self.feature_strides = (self.strides[0], coarse)

        def conv(channels: int, kernel: int) -> nn.Module:
            return Conv[Conv.CONV, spatial_dims](channels, embedding_dim, kernel, padding=kernel // 2)

        norm = ("group", {"num_groups": 8})
        into = (in_channels, *widths)
        self.stages = nn.ModuleList(
            ResidualUnit(spatial_dims, into[k], into[k + 1], self.strides[k], act="relu", norm=norm) for k in range(4)
        )
        self.lateral = nn.ModuleList(conv(width, 1) for width in widths[:3])
        self.to_fine = conv(embedding_dim, 3)
        self.to_coarse = nn.Sequential(conv(widths[3], 1), conv(embedding_dim, 3))

    def forward(self, x: Tensor) -> AnatomicalEmbedding:
        """Volumes (N, C, *S) to fine (N, E, *S / first stride) and coarse (N, E, *S / coarse stride), float32."""
        self._check(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        fine = self.lateral[2](maps[2])
        for k in (1, 0):
            fine = self.lateral[k](maps[k]) + F.interpolate(fine, size=maps[k].shape[2:], mode="nearest")
        return AnatomicalEmbedding(_unit(self.to_fine(fine)), _unit(self.to_coarse(maps[3])))

    def feature_maps(self, volume: Tensor) -> list[Tensor]:
        """The fine and the coarse map."""
        return list(self(volume))

    def _check(self, x: Tensor) -> None:
        coarse, size = self.feature_strides[1], tuple(x.shape[2:])
        if x.ndim != self.spatial_dims + 2 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"AnatomicalEmbeddingNet takes volumes (N, {self.in_channels}, "
                f"{', '.join('XYZ'[: self.spatial_dims])}), got {tuple(x.shape)}."
            )
        if any(side < stride for side, stride in zip(size, coarse, strict=True)) or size == coarse:
            raise ValueError(
                f"AnatomicalEmbeddingNet needs sides of at least the coarse stride {coarse}, one of them above it; got "
                f"{size}. Take larger crops, or smaller strides."
            )


def _unit(x: Tensor) -> Tensor:
    return F.normalize(at_least_float32(x), dim=1)


def _checked_strides(strides: Sequence[int | Sequence[int]], dims: int) -> tuple[tuple[int, ...], ...]:
    """One stride for each stage and axis."""
    full = tuple((s,) * dims if isinstance(s, int) else tuple(s) for s in strides)
    if len(full) != 4 or any(len(stage) != dims or any(s < 1 for s in stage) for stage in full):
        raise ValueError(
            f"strides gives four stages one number from 1, or one for each of {dims} axes; got {tuple(strides)}."
        )
    return full
