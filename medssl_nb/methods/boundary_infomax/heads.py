"""Heads that pre-training needs and transfer throws away."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl_nb.precision import at_least_float32

_CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class ClusterHead(nn.Module):
    """Soft over-clustering of decoder features: softmax(h_s(f(x)) / temperature), several heads s from random starts.

    Args:
        in_channels: C.
        num_clusters: K, from 2; well above the number of organs.
        num_heads: S; the loss is averaged over them, so that the features fit no single partition.
        head_type: "linear": a 1x1(x1) convolution; "mlp": convolution, LeakyReLU(0.01), convolution.
        hidden_channels: of "mlp".
        temperature: above 0.
        spatial_dims: 1, 2 or 3.
    """

    def __init__(
        self,
        in_channels: int,
        num_clusters: int = 40,
        *,
        num_heads: int = 3,
        head_type: Literal["linear", "mlp"] = "linear",
        hidden_channels: int = 64,
        temperature: float = 1.0,
        spatial_dims: int = 3,
    ):
        super().__init__()
        if num_clusters < 2:
            raise ValueError(f"num_clusters counts from 2, got {num_clusters!r}.")
        for name, value in (
            ("in_channels", in_channels),
            ("num_heads", num_heads),
            ("hidden_channels", hidden_channels),
        ):
            if value < 1:
                raise ValueError(f"{name} counts from 1, got {value!r}.")
        if head_type not in ("linear", "mlp"):
            raise ValueError(f'head_type is "linear" or "mlp", got {head_type!r}.')
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature!r}.")
        if spatial_dims not in _CONVOLUTION:
            raise ValueError(f"spatial_dims is 1, 2 or 3, got {spatial_dims!r}.")
        self.num_clusters, self.temperature, self.spatial_dims = num_clusters, temperature, spatial_dims
        convolution = _CONVOLUTION[spatial_dims]

        def head() -> nn.Module:
            if head_type == "linear":
                return convolution(in_channels, num_clusters, 1)
            first, second = convolution(in_channels, hidden_channels, 1), convolution(hidden_channels, num_clusters, 1)
            return nn.Sequential(first, nn.LeakyReLU(0.01), second)

        self.heads = nn.ModuleList(head() for _ in range(num_heads))

    def forward(self, features: Tensor) -> list[Tensor]:
        """Features (B, C, *S) to one (B, K, *S) for each head, sums 1 over K; float32 (float64 for float64)."""
        if features.ndim != self.spatial_dims + 2:
            raise ValueError(
                f"features must be (B, C) and {self.spatial_dims} axes, got shape {tuple(features.shape)}."
            )
        logits = (at_least_float32(head(features)) for head in self.heads)
        return [torch.softmax(one / self.temperature, dim=1) for one in logits]


class ProjectionHead(nn.Module):
    """Mean over space, two linear layers, unit length: what InfoNCE compares.

    Args:
        in_channels: C.
        hidden_channels, out_channels: widths.
    """

    def __init__(self, in_channels: int, *, hidden_channels: int = 256, out_channels: int = 256):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(in_channels, hidden_channels), nn.LeakyReLU(0.01), nn.Linear(hidden_channels, out_channels)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, *S) to unit vectors (B, out_channels)."""
        if features.ndim < 3:
            raise ValueError(f"features must be (B, C, *S), got {tuple(features.shape)}.")
        return F.normalize(at_least_float32(self.mlp(features.flatten(2).mean(-1))), dim=1)
