"""A U-Net whose every stage can be tapped by name, in 2D and 3D."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn


class FeatureUNet(nn.Module):
    """U-Net with named features: `encoder_1` (finest) to `encoder_n`, `decoder_{n-1}` to `decoder_1`, `logits`.

    Each stage is two 3x3(x3) convolutions, each followed by a norm and ReLU; down by max-pooling 2, up by nearest
    neighbour x 2 and a convolution; 1x1(x1) convolution to the logits. `decoder_k` has size and width of `encoder_k`.
    Built from the blocks of MONAI's `BasicUNet`: with five stages the way down (`conv_0`, `down_1` to `down_4`) carries
    the same names and loads into `BasicUNet(features=(*channels, channels[0]), act="relu", norm=..., bias=False)`.

    Args:
        in_channels: channels of the volume.
        num_classes: channels of the logits.
        spatial_dims: 2 or 3.
        channels: width of each stage, finest first, at least two.
        momentum: share of the new batch in the running statistics of batch norm.
        norm: "batch", or "instance" where batches are too small for statistics of their own (2 volumes are).

    Raises:
        ValueError: `spatial_dims` or `norm` unknown, fewer than two stages; in `forward` and `features`: a side that is
            not divisible by 2 ** (n - 1), an unknown feature name.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        *,
        spatial_dims: int = 3,
        channels: Sequence[int] = (32, 64, 128, 256, 512),
        momentum: float = 0.01,
        norm: Literal["batch", "instance"] = "batch",
    ):
        super().__init__()
        from monai.networks.blocks import Convolution
        from monai.networks.layers import Conv
        from monai.networks.nets.basic_unet import Down, TwoConv

        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims is 2 or 3, got {spatial_dims!r}.")
        if len(channels) < 2:
            raise ValueError(f"channels gives the width of each stage, at least two, got {tuple(channels)}.")
        if norm not in ("batch", "instance"):
            raise ValueError(f'norm is "batch" or "instance", got {norm!r}.')
        self.spatial_dims, self.in_channels, self.channels = spatial_dims, in_channels, tuple(channels)
        norm_layer = ("batch", {"momentum": momentum}) if norm == "batch" else ("instance", {"affine": True})
        block = {"act": "relu", "norm": norm_layer, "bias": False}
        self.conv_0 = TwoConv(spatial_dims, in_channels, channels[0], **block)
        for k in range(1, len(channels)):
            self.add_module(f"down_{k}", Down(spatial_dims, channels[k - 1], channels[k], **block))
        for k in range(len(channels) - 1, 0, -1):
            width = channels[k - 1]
            self.add_module(f"up_{k}", Convolution(spatial_dims, channels[k], width, kernel_size=3, **block))
            self.add_module(f"decode_{k}", TwoConv(spatial_dims, 2 * width, width, **block))
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.final_conv = Conv[Conv.CONV, spatial_dims](channels[0], num_classes, kernel_size=1)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all features, in the order in which they are computed."""
        n = len(self.channels)
        down, up = range(1, n + 1), range(n - 1, 0, -1)
        return (*(f"encoder_{k}" for k in down), *(f"decoder_{k}" for k in up), "logits")

    def forward(self, x: Tensor) -> Tensor:
        """Volume (B, C, *S) to logits (B, num_classes, *S)."""
        return self.features(x, "logits")["logits"]

    def features(self, x: Tensor, names: str | Sequence[str]) -> dict[str, Tensor]:
        """The named features of volume `x` (B, C, *S); computation stops as soon as all are there."""
        wanted = [names] if isinstance(names, str) else list(names)
        unknown = [name for name in wanted if name not in self.names]
        if unknown or not wanted:
            raise ValueError(
                f"no feature {unknown[0] if unknown else '(none asked)'!r}; there are {', '.join(self.names)}."
            )
        self._check(x)
        found: dict[str, Tensor] = {}
        for name in self.names:
            found[name] = self._stage(name, x, found)
            if all(w in found for w in wanted):
                break
        return {name: found[name] for name in wanted}

    def _stage(self, name: str, x: Tensor, found: dict[str, Tensor]) -> Tensor:
        if name == "logits":
            return self.final_conv(found["decoder_1"])
        way, k = name.split("_")[0], int(name.split("_")[1])
        if way == "encoder":
            return self.conv_0(x) if k == 1 else self.get_submodule(f"down_{k - 1}")(found[f"encoder_{k - 1}"])
        n = len(self.channels)
        below = found[f"encoder_{n}" if k == n - 1 else f"decoder_{k + 1}"]
        risen = self.get_submodule(f"up_{k}")(self.upsample(below))
        return self.get_submodule(f"decode_{k}")(torch.cat([found[f"encoder_{k}"], risen], dim=1))

    def _check(self, x: Tensor) -> None:
        if x.ndim != self.spatial_dims + 2 or x.shape[1] != self.in_channels:
            axes = ", ".join("XYZ"[: self.spatial_dims])
            raise ValueError(f"FeatureUNet takes volumes (B, {self.in_channels}, {axes}), got {tuple(x.shape)}.")
        multiple = 2 ** (len(self.channels) - 1)
        if any(side % multiple for side in x.shape[2:]):
            raise ValueError(
                f"every side must be divisible by {multiple} (2 per stage after the first of {len(self.channels)}), "
                f"got {tuple(x.shape[2:])}; crop or pad the volume."
            )

    # ------------------------------------------------------------ the encoder face
    @property
    def feature_channels(self) -> tuple[int, ...]:
        return self.channels

    @property
    def feature_strides(self) -> tuple[tuple[int, ...], ...]:
        return tuple((2**k,) * self.spatial_dims for k in range(len(self.channels)))

    def feature_maps(self, volume: Tensor) -> list[Tensor]:
        """Decoder stages, finest first, then the deepest encoder stage."""
        n = len(self.channels)
        names = [*(f"decoder_{k}" for k in range(1, n)), f"encoder_{n}"]
        return list(self.features(volume, names).values())
