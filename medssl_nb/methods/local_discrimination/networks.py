"""One unit vector and one soft cluster assignment for each voxel."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from torch import Tensor, nn

from medssl_nb.methods.local_discrimination.checks import check_clusters, check_mode
from medssl_nb.methods.local_discrimination.normalization import l1_normalize, l2_normalize
from medssl_nb.methods.local_discrimination.regions import cluster_assignments
from medssl_nb.networks.pixel_unet import PixelEncoder, PixelUNet, conv_block
from medssl_nb.networks.weights import LoadReport

__all__ = [
    "ClusteringHead",
    "EmbeddingHead",
    "LDOutput",
    "LoadReport",
    "LocalDiscriminationNet",
    "PixelEncoder",
    "l1_normalize",
    "l2_normalize",
    "load_shared_weights",
]

_CLUSTERING = "clustering_head."


class LDOutput(NamedTuple):
    """Embeddings (B, D, *S), unit vectors; assignments (B, K, *S), sums 1 over K, or None."""

    embeddings: Tensor
    assignments: Tensor | None


class EmbeddingHead(nn.Sequential):
    """Convolution, norm, ReLU, convolution; `forward` gives unit vectors (B, D, *S).

    `norm` is "batch" as in the released code, or "instance": what one image says then depends on no other.
    """

    def __init__(self, in_channels: int, embedding_dim: int = 32, spatial_dims: int = 3, norm: str = "batch"):
        if embedding_dim < 1:
            raise ValueError(f"embedding_dim counts from 1, got {embedding_dim!r}.")
        super().__init__(*_head(in_channels, embedding_dim, spatial_dims, norm))

    def forward(self, features: Tensor) -> Tensor:
        return l2_normalize(super().forward(features), dim=1)


class ClusteringHead(nn.Sequential):
    """Convolution, norm, ReLU, convolution; `forward` gives soft assignments (B, K, *S)."""

    def __init__(
        self,
        in_channels: int,
        num_clusters: int,
        spatial_dims: int = 3,
        mode: Literal["sigmoid_l1", "softmax"] = "sigmoid_l1",
        norm: str = "batch",
    ):
        check_clusters("num_clusters", num_clusters)
        check_mode("assignment_mode", mode)
        super().__init__(*_head(in_channels, num_clusters, spatial_dims, norm))
        self.mode = mode

    def forward(self, features: Tensor) -> Tensor:
        return cluster_assignments(super().forward(features), mode=self.mode)


class LocalDiscriminationNet(nn.Module):
    """The network of the released code: a U-Net with an embedding head and, if asked for, a clustering head.

    Args:
        spatial_dims, in_channels, base_channels: of the `PixelEncoder`.
        embedding_dim: D.
        num_clusters: K, from 2; None: no clustering head (stage 1).
        assignment_mode: see `cluster_assignments`.

    Attributes:
        encoder: the `PixelEncoder`, which transfer keeps.

    Raises:
        ValueError: `spatial_dims` not 2 or 3, `num_clusters` below 2, an unknown mode; in `forward`: a side that is not
            a multiple of 16.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        *,
        base_channels: int = 16,
        embedding_dim: int = 32,
        num_clusters: int | None = None,
        assignment_mode: Literal["sigmoid_l1", "softmax"] = "sigmoid_l1",
    ):
        super().__init__()
        check_mode("assignment_mode", assignment_mode)
        self.trunk = PixelUNet(in_channels, base_channels=base_channels, spatial_dims=spatial_dims)
        width = 2 * base_channels
        self.embedding_head = EmbeddingHead(width, embedding_dim, spatial_dims)
        self.clustering_head = None
        if num_clusters is not None:
            self.clustering_head = ClusteringHead(width, num_clusters, spatial_dims, assignment_mode)

    @property
    def encoder(self) -> PixelEncoder:
        return self.trunk.encoder

    def forward(self, images: Tensor) -> LDOutput:
        """Images (B, C, *S) to embeddings (B, D, *S) and assignments (B, K, *S) or None."""
        features = self.trunk(images)
        assignments = None if self.clustering_head is None else self.clustering_head(features)
        return LDOutput(self.embedding_head(features), assignments)


def load_shared_weights(net: LocalDiscriminationNet, state_dict: Mapping[str, Tensor]) -> LoadReport:
    """Start stage 2 from the weights of stage 1: everything but the clustering head, which stays new.

    Args:
        net: where they go.
        state_dict: of a `LocalDiscriminationNet` with or without a clustering head; one of another number of clusters
            is left out.

    Returns:
        Names loaded, missing (of the clustering head only), unexpected (likewise).

    Raises:
        ValueError: anything else is missing, unexpected or of another shape. Nothing is loaded then.
    """
    own = net.state_dict()
    fits = [name for name in own if name in state_dict and state_dict[name].shape == own[name].shape]
    # Half a head is worse than none: unless all of it fits, it stays as it was drawn.
    head = [name for name in own if name.startswith(_CLUSTERING)]
    if not set(head) <= set(fits):
        fits = [name for name in fits if name not in head]
    missing = [name for name in own if name not in fits]
    unexpected = [name for name in state_dict if name not in fits]
    lost = [name for name in missing if not name.startswith(_CLUSTERING)]
    strange = [name for name in unexpected if not name.startswith(_CLUSTERING)]
    if lost or strange:
        raise ValueError(
            f"state_dict does not fit the network: missing or of another shape {lost[:3]} ({len(lost)} in all), "
            f"unexpected {strange[:3]} ({len(strange)} in all); only the clustering head may differ."
        )
    net.load_state_dict({name: state_dict[name] for name in fits}, strict=False)
    return LoadReport(fits, missing, unexpected)


def _head(in_channels: int, out_channels: int, spatial_dims: int, norm: str) -> list[nn.Module]:
    block = conv_block(spatial_dims, in_channels, out_channels, norm)
    convolution = {2: nn.Conv2d, 3: nn.Conv3d}[spatial_dims]
    return [*block, convolution(out_channels, out_channels, 3, padding=1)]
