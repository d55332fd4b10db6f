"""The method as a pretext task: clusters of the decoder and contrast of the encoder, trained together."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from medssl_nb.data.augment import apply_affine, jitter_intensity, random_affine, random_gamma, value_range
from medssl_nb.methods.boundary_infomax.heads import ClusterHead, ProjectionHead
from medssl_nb.methods.boundary_infomax.joint import mutual_information
from medssl_nb.methods.boundary_infomax.losses import head_boundaries, head_information, head_joints
from medssl_nb.methods.boundary_infomax.views import axial_partition
from medssl_nb.training.gathering import gather, pooled_mean
from medssl_nb.training.losses import info_nce_loss
from medssl_nb.training.task import PretextTask, Views

PARTS = ("clusters", "regularised", "boundary", "contrast")
_FINE = 10_000  # steps in which a place along the slab axis is counted


class BoundaryInfoMax(PretextTask):
    """Boundary-aware information maximisation as the released code trains it: all terms jointly, in one stage.

    View A is what the network says of the moved image, T(image); view B is what it says of the image, moved by the same
    T. The finest feature map gives the clusters, the deepest one vector for each crop.

    Args:
        encoder: any module with the encoder face; its first feature map is clustered, its last is contrasted.
        parts: which terms are trained. "clusters": mutual information of the two views (alone: IIC); "regularised":
            pulled towards the balanced diagonal with `alpha`; "boundary": cluster borders where the image has edges;
            "contrast": InfoNCE of the deepest features. "regularised" and "boundary" need "clusters".
        num_clusters, num_heads, head_type, hidden_channels, cluster_temperature: of `ClusterHead`.
        level: which feature map is clustered, 0 the finest; 1 has an eighth of the voxels.
        alpha, marginal_weight: see `regularized_mi_loss`.
        window, power, spacing, boundary: see `boundary_loss`; spacing and window in the grid of that feature map.
            With a spacing T turns in mm; without, in voxels.
        mi_weight, boundary_weight, contrast_weight: of the terms.
        mask_outside: leave out what T brings in from outside the crop; the released code takes it along.
        partitions: parts of the scan along `slab_axis`; crops of the same part are positives of each other. Counted
            are the places a crop can have: for slices the released rule, and thick slabs fall into all parts alike.
            0: only the two views of a crop are positives.
        slab_axis: 2, Z, is head-foot.
        projection, projection_hidden, temperature: of the contrast.
        scale, rotation_degrees, translation, flip_probability, flip_axes: of T, see `random_affine`.
        gamma, brightness, contrast: of the grey values, see `random_gamma` and `jitter_intensity`.
        intensity_range: grey values lie between these two; they are counted from 0 to 1 while they are changed, and
            what is moved in from outside has the lower one. None: each crop's own range (MRI has no unit).

    `trivial_losses`: uniform clusters (or a single one), and a contrast of vectors that are all alike.
    """

    name = "boundary_infomax"
    needs_places = True

    def __init__(
        self,
        encoder: nn.Module,
        *,
        parts: Sequence[str] = PARTS,
        num_clusters: int = 40,
        num_heads: int = 3,
        head_type: Literal["linear", "mlp"] = "linear",
        hidden_channels: int = 64,
        cluster_temperature: float = 1.0,
        level: int = 0,
        alpha: float = 0.5,
        marginal_weight: float = 1.0,
        window: int | Sequence[int] = 5,
        power: float = 0.75,
        spacing: Sequence[float] | None = None,
        boundary: Literal["replicate", "wrap"] = "replicate",
        mi_weight: float = 1.0,
        boundary_weight: float = 1.0,
        contrast_weight: float = 1.0,
        mask_outside: bool = False,
        partitions: int = 3,
        slab_axis: int = 2,
        projection: int = 256,
        projection_hidden: int = 256,
        temperature: float = 0.07,
        scale: tuple[float, float] = (0.8, 1.3),
        rotation_degrees: float | Sequence[float] = 45.0,
        translation: float = 0.1,
        flip_probability: float = 0.5,
        flip_axes: Sequence[int] | None = None,
        gamma: tuple[float, float] = (0.5, 2.0),
        brightness: float = 0.1,
        contrast: float = 0.1,
        intensity_range: tuple[float, float] | None = None,
    ):
        super().__init__(encoder)
        self.parts = _checked_parts(parts)
        if not 0 <= level < len(encoder.feature_channels):
            raise ValueError(f"level counts the {len(encoder.feature_channels)} feature maps from 0, got {level!r}.")
        if not (isinstance(partitions, int) and partitions >= 0):
            raise ValueError(f"partitions is a number of parts, or 0 for no labels; got {partitions!r}.")
        if slab_axis not in (0, 1, 2):
            raise ValueError(f"slab_axis is 0, 1 or 2, got {slab_axis!r}.")
        value_range(torch.zeros(1, 1, 1), intensity_range)  # refuses a range that is none
        if "clusters" in self.parts:
            self.heads = ClusterHead(
                encoder.feature_channels[level],
                num_clusters,
                num_heads=num_heads,
                head_type=head_type,
                hidden_channels=hidden_channels,
                temperature=cluster_temperature,
                spatial_dims=encoder.spatial_dims,
            )
        if "contrast" in self.parts:
            width = {"hidden_channels": projection_hidden, "out_channels": projection}
            self.projector = ProjectionHead(encoder.feature_channels[-1], **width)
        self.level, self.num_clusters, self.num_heads, self.head_type = level, num_clusters, num_heads, head_type
        self.information = {"alpha": alpha if "regularised" in self.parts else 0.0, "marginal_weight": marginal_weight}
        head_information(torch.full((1, 2, 2), 0.25), **self.information)  # refuses an alpha that does not exist
        self.edges = {"window": window, "power": power, "spacing": spacing, "boundary": boundary}
        self.weights = {"mutual information": mi_weight, "boundary": boundary_weight, "contrast": contrast_weight}
        self.mask_outside, self.partitions, self.slab_axis = mask_outside, partitions, slab_axis
        self.temperature, self.hidden = temperature, [hidden_channels, projection_hidden, projection]
        self.cluster_temperature = cluster_temperature
        self.movement = {
            "scale": tuple(scale),
            "rotation_degrees": rotation_degrees,
            "translation": translation,
            "flip_probability": flip_probability,
            "flip_axes": flip_axes,
        }
        self.grey_values = {"gamma": tuple(gamma), "brightness": brightness, "contrast": contrast}
        self.intensity_range = None if intensity_range is None else tuple(map(float, intensity_range))
        self.register_buffer("batch_size", torch.tensor(0))  # of all processes; the trivial contrast depends on it
        self._health: dict[str, float] = {}

    def views(self, volumes: Tensor, generator: torch.Generator, where: Tensor) -> Views:
        """Two recoloured copies of each crop, one of them moved, the move, and the part of the scan.

        Returns:
            "a" = T(g(x'')) and "b" = x', (B, C, *S); "theta" (B, d, d + 1); "part" (B,) whole numbers.
        """
        theta = random_affine(
            len(volumes),
            volumes.shape[2:],
            **self.movement,
            spacing=self.edges["spacing"],
            generator=generator,
            device=volumes.device,
        )
        low, width = value_range(volumes, self.intensity_range)
        unit = ((volumes - low) / width).clamp(0, 1)
        b = self._jittered(unit, generator)
        a = random_gamma(self._jittered(unit, generator), gamma=self.grey_values["gamma"], generator=generator)
        a = apply_affine(a, theta)
        heights = where[:, self.slab_axis].tolist()
        parts = [axial_partition(min(int(h * _FINE), _FINE - 1), _FINE, self.partitions or 1) for h in heights]
        part = torch.tensor(parts, device=volumes.device)
        return {"a": low + width * a, "b": low + width * b, "theta": theta, "part": part}

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Total, and of "mutual information", "boundary" and "contrast" those that are on, unweighted."""
        maps = self.encoder.feature_maps(torch.cat([views["a"], views["b"]]))  # together: they share batch norm
        terms, self._health = {}, {}
        if "clusters" in self.parts:
            terms |= self._cluster_terms(maps[self.level], views)
        if "contrast" in self.parts:
            terms["contrast"] = self._contrast(maps[-1], views["part"])
        return {"total": sum(self.weights[name] * term for name, term in terms.items()), **terms}

    def _cluster_terms(self, features: Tensor, views: Views) -> dict[str, Tensor]:
        theta, size = views["theta"], len(views["theta"])
        a, b = features.chunk(2)
        probs = self.heads(torch.cat([a, apply_affine(b, theta).to(a.dtype)]))
        probs_a, probs_b = [p[:size] for p in probs], [p[size:] for p in probs]
        mask = None
        if self.mask_outside:
            mask = apply_affine(torch.ones_like(a[:, :1], dtype=torch.float32), theta)
        joints = self._pooled(head_joints(probs_a, probs_b, mask=mask), mask)
        terms = {"mutual information": head_information(joints, **self.information)}
        if "boundary" in self.parts:
            edges = head_boundaries(probs_a, probs_b, views["a"], mask=mask, **self.edges)
            terms["boundary"] = edges if mask is None else pooled_mean(edges, mask.sum())
        self._watch(joints.detach().double())
        return terms

    def _pooled(self, joints: Tensor, mask: Tensor | None) -> Tensor:
        """Joints (S, K, K) of the batches of all processes: the loss is no mean over samples, the joint is."""
        weight = joints.new_ones(1) if mask is None else mask.sum().to(joints).view(1)
        weights = gather(weight)
        return (gather(joints[None]) * weights.view(-1, 1, 1, 1)).sum(0) / weights.sum()

    def _contrast(self, deepest: Tensor, part: Tensor) -> Tensor:
        a, b = (gather(half.contiguous()) for half in self.projector(deepest).chunk(2))
        self.batch_size.fill_(len(a))
        labels = gather(part.contiguous()) if self.partitions else None
        unit = torch.cat([a, b]).detach()
        self._health["embedding spread"] = float((unit - unit.mean(0)).square().sum(1).mean())
        return info_nce_loss(a, b, labels, temperature=self.temperature)

    def _watch(self, joints: Tensor) -> None:
        used = torch.special.entr(joints.sum(2)).sum(1).exp()  # a symmetric joint: its margins are the usage
        self._health |= {
            "clusters used": float(used.mean()),
            "information (nats)": float(mutual_information(joints).mean()),
            "same cluster": float(joints.diagonal(dim1=1, dim2=2).sum(1).mean()),
        }

    def _jittered(self, unit: Tensor, generator: torch.Generator) -> Tensor:
        jitter = {name: self.grey_values[name] for name in ("brightness", "contrast")}
        return jitter_intensity(unit, **jitter, generator=generator).clamp(0, 1)

    @torch.no_grad()
    def cluster_probabilities(self, volumes: Tensor, head: int = 0) -> Tensor:
        """Clusters of volumes (B, C, *S) by one head: (B, K, *S'), S' the grid of the clustered feature map.

        Raises:
            ValueError: the task has no clusters, or not that many heads.
        """
        if "clusters" not in self.parts:
            raise ValueError(f"a task with the parts {sorted(self.parts)} has no clusters.")
        if not 0 <= head < self.num_heads:
            raise ValueError(f"head counts from 0 to {self.num_heads - 1}, got {head!r}.")
        return self.heads(self.encoder.feature_maps(volumes)[self.level])[head]

    def health(self) -> dict[str, float]:
        """Of the last step, means over heads: "clusters used", exp of the entropy of their usage, 1 to K; "information
        (nats)", at most ln K; "same cluster", the share of the joint on its diagonal; "embedding spread", the mean
        squared distance of the contrasted unit vectors from their mean.
        """
        return dict(self._health)

    @property
    def trivial_losses(self) -> dict[str, float]:
        found = {}
        if "clusters" in self.parts:
            found["mutual information"] = 2 * math.log(self.num_clusters) * (1 - self.information["marginal_weight"])
        if "contrast" in self.parts and self.batch_size:
            found["contrast"] = math.log(2 * int(self.batch_size) - 1)
        return found

    def settings(self) -> dict:
        return {
            "parts": sorted(self.parts),
            "heads": [self.num_clusters, self.num_heads, self.head_type, self.level, *self.hidden],
            "mask_outside": self.mask_outside,
            "slabs": [self.partitions, self.slab_axis],
            "temperature": self.temperature,
            "cluster_temperature": self.cluster_temperature,
            "weights": self.weights,
            "intensity_range": self.intensity_range and list(self.intensity_range),
            **self.information,
            **{k: list(v) if isinstance(v, tuple) else v for k, v in {**self.edges, **self.movement}.items()},
            **{k: list(v) if isinstance(v, tuple) else v for k, v in self.grey_values.items()},
        }


def _checked_parts(parts: Sequence[str]) -> frozenset[str]:
    unknown = sorted(set(parts) - set(PARTS))
    if unknown or not parts or isinstance(parts, str):
        raise ValueError(f"parts are some of {', '.join(PARTS)}; got {parts!r}.")
    lost = sorted({"regularised", "boundary"} & set(parts))
    if lost and "clusters" not in parts:
        raise ValueError(f'part "{lost[0]}" speaks of clusters: parts must have "clusters" too, got {tuple(parts)}.')
    return frozenset(parts)
