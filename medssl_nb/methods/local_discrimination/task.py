"""The method as a pretext task: patches first, then patches and regions together."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from medssl_nb.data.augment import apply_affine, random_affine, value_range
from medssl_nb.methods.local_discrimination.checks import check_positive, checked_plane
from medssl_nb.methods.local_discrimination.joint import LossWeights
from medssl_nb.methods.local_discrimination.networks import ClusteringHead, EmbeddingHead
from medssl_nb.methods.local_discrimination.patches import (
    hypersphere_mixup_loss,
    patch_discrimination_loss,
    patch_embeddings,
)
from medssl_nb.methods.local_discrimination.regions import (
    assignment_entropy,
    region_discrimination_loss,
    region_embeddings,
)
from medssl_nb.methods.local_discrimination.views import (
    ViewTransform,
    make_discrimination_batch,
    sample_view_transform,
    undo_views,
)
from medssl_nb.training.gathering import gather
from medssl_nb.training.task import PretextTask, Views

PARTS = ("patch", "mixup", "region", "entropy")


class LocalDiscrimination(PretextTask):
    """Local discrimination: stage 1 tells patches apart, stage 2 also sorts voxels into clusters that images share.

    Both stages are one run, with one optimiser and one schedule. (The released code runs them one after the other: 20
    and 80 epochs, stage 2 from the last weights of stage 1 with a new optimiser.)

    Args:
        encoder: any module with the encoder face; the heads stand on its first, finest feature map.
        parts: which terms are trained. "patch": patch discrimination; "mixup": patches of blended images; "region":
            clusters whose regions agree across images; "entropy": decided assignments (needs "region").
        stage_two: share of the run after which "region" and "entropy" are switched on; 0: from the start.
        embedding_dim, num_clusters, assignment_mode, head_norm: of the heads. "batch" is the released code's; each
            process has statistics of its own.
        grid: patches along each axis of a crop, one number for all.
        weighting, sigma: see `patch_embeddings`; "center" prepares for landmarks.
        patch_temperature, region_temperature, detach_prototypes: of the losses.
        patch_weight, mixup_weight, region_weight, entropy_weight: of the terms.
        flip_axes: axes that the second view may be mirrored along; None: all, []: none. Mirroring left-right teaches
            that left and right organs are the same.
        rot90_axes: plane of quarter turns of the second view; equal sides and spacing there. None: none.
        joint_flip: all of `flip_axes` or none, as in the released code.
        scale, rotation_degrees: of the movement that both views share, see `random_affine`.
        brightness, contrast, noise_std: of each view's grey values, see `jitter_intensity`.
        mix_range: lowest and highest share of the first image in a blend.
        intensity_range: grey values lie between these two; they are counted from 0 to 1 while they are changed. None:
            the range of each pair of crops.

    `trivial_losses`: all patches alike; all regions alike.
    """

    name = "local_discrimination"
    group_size = 2

    def __init__(
        self,
        encoder: nn.Module,
        *,
        parts: Sequence[str] = PARTS,
        stage_two: float = 0.2,
        embedding_dim: int = 32,
        num_clusters: int = 16,
        assignment_mode: Literal["sigmoid_l1", "softmax"] = "sigmoid_l1",
        head_norm: Literal["batch", "instance"] = "batch",
        grid: int | Sequence[int] = 6,
        weighting: Literal["mean", "center"] = "mean",
        sigma: float = 0.5,
        patch_temperature: float = 0.1,
        region_temperature: float = 0.2,
        detach_prototypes: bool = False,
        patch_weight: float = 1.0,
        mixup_weight: float = 1.0,
        region_weight: float = 10.0,
        entropy_weight: float = 0.1,
        flip_axes: Sequence[int] | None = None,
        rot90_axes: Sequence[int] | None = None,
        joint_flip: bool = False,
        scale: Sequence[float] = (0.9, 1.1),
        rotation_degrees: float | Sequence[float] = 10.0,
        brightness: float = 0.4,
        contrast: float = 0.4,
        noise_std: float = 0.0,
        mix_range: Sequence[float] = (0.2, 0.8),
        intensity_range: Sequence[float] | None = None,
    ):
        super().__init__(encoder)
        self.parts = _checked_parts(parts)
        if not 0 <= stage_two < 1:
            raise ValueError(f"stage_two is a share of the run, 0 to below 1; got {stage_two!r}.")
        for name, temperature in (("patch", patch_temperature), ("region", region_temperature)):
            check_positive(f"{name}_temperature", temperature)
        value_range(torch.zeros(1, 1, 1), intensity_range)  # refuses a range that is none
        dims, width = encoder.spatial_dims, encoder.feature_channels[0]
        if rot90_axes is not None:
            checked_plane(rot90_axes, dims)
        sample_view_transform(dims, flip_axes=flip_axes, generator=torch.Generator())  # refuses axes that are none
        self.embedding_head = EmbeddingHead(width, embedding_dim, dims, head_norm)
        if "region" in self.parts:
            self.clustering_head = ClusteringHead(width, num_clusters, dims, assignment_mode, head_norm)
        self.stage_two, self.heads = stage_two, [embedding_dim, num_clusters, assignment_mode, head_norm]
        self.cells = {"grid_size": grid if isinstance(grid, int) else tuple(grid), "weighting": weighting}
        self.cells |= {"sigma": sigma}
        self.temperatures, self.detach_prototypes = (patch_temperature, region_temperature), detach_prototypes
        self.weights = LossWeights(patch_weight, mixup_weight, region_weight, entropy_weight)
        self.movement = {"scale": tuple(scale), "rotation_degrees": rotation_degrees}
        self.second = {"flip_axes": flip_axes, "rot90_axes": rot90_axes, "joint_flip": joint_flip}
        self.grey_values = {"brightness": brightness, "contrast": contrast, "noise_std": noise_std}
        self.grey_values |= {"mix_range": tuple(mix_range)}
        self.intensity_range = None if intensity_range is None else tuple(map(float, intensity_range))
        self.register_buffer("patch_count", torch.tensor(0))  # M of all processes; the trivial loss depends on it
        self._health: dict[str, float] = {}

    def views(self, volumes: Tensor, generator: torch.Generator) -> Views:
        """One pair: two views of each of its images and their blend.

        Args:
            volumes: (2, C, *S).

        Returns:
            "images" (1, 5, C, *S): a view 1, b view 1, a view 2, b view 2, mixed; "mix_weights" (1,); how the second
            views moved: "flips" (1, 2, d) bool and "turns" (1, 2), of a and of b.
        """
        move = random_affine(
            len(volumes),
            volumes.shape[2:],
            **self.movement,
            translation=0.0,
            flip_probability=0.0,
            generator=generator,
            device=volumes.device,
        )
        # One range for the pair: its blend must lie between its images.
        low, width = (end.flatten() for end in value_range(volumes.reshape(1, 1, -1), self.intensity_range))
        unit = apply_affine((volumes - low) / width, move, mode="bilinear", padding_mode="border")
        batch = make_discrimination_batch(unit[:1], unit[1:], **self.second, **self.grey_values, generator=generator)
        transforms = [batch.transforms_a[0], batch.transforms_b[0]]
        flips = [[axis in t.flip_axes for axis in range(volumes.ndim - 2)] for t in transforms]
        return {
            "images": (low + width * batch.images)[None],
            "mix_weights": batch.mix_weights,
            "flips": torch.tensor([flips], device=volumes.device),
            "turns": torch.tensor([[t.rot90_k for t in transforms]], device=volumes.device),
        }

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Total, and of "patch", "mixup", "region" and "entropy" those that are on in this stage, unweighted."""
        pairs = len(views["images"])
        features = self.encoder.feature_maps(views["images"].transpose(0, 1).flatten(0, 1))[0]  # (5B, C, *S)
        embeddings = self.embedding_head(features)
        terms = self._patch_terms(patch_embeddings(embeddings, **self.cells), views)
        if "region" in self.parts and progress >= self.stage_two:
            assignments = self.clustering_head(features)[: 4 * pairs]
            regions = gather(region_embeddings(embeddings[: 4 * pairs], assignments))
            terms["region"] = region_discrimination_loss(
                regions, temperature=self.temperatures[1], detach_prototypes=self.detach_prototypes
            )
            usage = assignments.detach().transpose(0, 1).flatten(1).mean(dim=1)
            self._health["clusters used"] = float(torch.special.entr(usage).sum().exp())
            if "entropy" in self.parts:
                terms["entropy"] = assignment_entropy(assignments)
        return {"total": sum(getattr(self.weights, name) * term for name, term in terms.items()), **terms}

    def _patch_terms(self, patches: Tensor, views: Views) -> dict[str, Tensor]:
        """Both contrasts over the patches of all processes."""
        a1, b1, a2, b2, mixed = patches.unflatten(0, (5, -1))
        a2, b2 = (undo_views(x, self._transforms(views, i)) for i, x in enumerate((a2, b2)))
        a1, b1, a2, b2 = (gather(x.contiguous()) for x in (a1, b1, a2, b2))
        first, second = torch.cat([a1, b1]), torch.cat([a2, b2])
        self.patch_count.fill_(first[:, 0].numel())
        with torch.no_grad():
            self._health = {"embedding spread": float(1 - first.movedim(1, -1).flatten(0, -2).mean(0).square().sum())}
        terms = {}
        if "patch" in self.parts:
            terms["patch"] = patch_discrimination_loss(first, second, temperature=self.temperatures[0])
        if "mixup" in self.parts:
            weights = gather(views["mix_weights"])
            terms["mixup"] = hypersphere_mixup_loss(
                gather(mixed.contiguous()), a1, b1, weights, temperature=self.temperatures[0]
            )
        return terms

    def _transforms(self, views: Views, which: int) -> list[ViewTransform]:
        plane = self.second["rot90_axes"] or (-2, -1)
        return [
            ViewTransform(tuple(axis for axis, flipped in enumerate(flips) if flipped), turns, tuple(plane))
            for flips, turns in zip(views["flips"][:, which].tolist(), views["turns"][:, which].tolist(), strict=True)
        ]

    @torch.no_grad()
    def embeddings(self, volumes: Tensor) -> Tensor:
        """Unit vectors (B, D, *S) of volumes (B, C, *S), in the mode (`eval()`) the caller chose."""
        return self.embedding_head(self.encoder.feature_maps(volumes)[0])

    @torch.no_grad()
    def assignments(self, volumes: Tensor) -> Tensor:
        """Soft clusters (B, K, *S) of volumes (B, C, *S).

        Raises:
            ValueError: the task has no regions.
        """
        if "region" not in self.parts:
            raise ValueError(f"a task with the parts {sorted(self.parts)} has no clusters.")
        return self.clustering_head(self.encoder.feature_maps(volumes)[0])

    def health(self) -> dict[str, float]:
        """Of the last step: "embedding spread", the mean squared distance of the patches from their mean, 0 = alike, 1
        = all around; in stage 2 "clusters used", exp of the entropy of their mean shares, 1 to K.
        """
        return dict(self._health)

    @property
    def trivial_losses(self) -> dict[str, float]:
        found = {"region": math.log(self.heads[1])} if "region" in self.parts else {}
        if self.patch_count:
            found |= {"patch": _collapsed(2 * int(self.patch_count)), "mixup": _collapsed(int(self.patch_count))}
        return {name: value for name, value in found.items() if name in self.parts}

    def settings(self) -> dict:
        return {
            "parts": sorted(self.parts),
            "stage_two": self.stage_two,
            "heads": self.heads,
            "temperatures": list(self.temperatures),
            "detach_prototypes": self.detach_prototypes,
            "weights": [getattr(self.weights, part) for part in PARTS],
            "intensity_range": self.intensity_range and list(self.intensity_range),
            **{
                name: list(value) if isinstance(value, tuple) else value
                for some in (self.cells, self.movement, self.second, self.grey_values)
                for name, value in some.items()
            },
        }


def _collapsed(rows: int) -> float:
    """Patch discrimination of N rows that are all alike."""
    return math.log(rows - 1) + (rows - 2) * math.log((rows - 1) / (rows - 2))


def _checked_parts(parts: Sequence[str]) -> frozenset[str]:
    unknown = sorted(set(parts) - set(PARTS))
    if unknown or not parts or isinstance(parts, str):
        raise ValueError(f"parts are some of {', '.join(PARTS)}; got {parts!r}.")
    if "entropy" in parts and "region" not in parts:
        raise ValueError(f'part "entropy" speaks of clusters: parts must have "region" too, got {tuple(parts)}.')
    if not {"patch", "mixup"} & set(parts) and "region" not in parts:
        raise ValueError(f"parts must have something to learn from, got {tuple(parts)}.")
    return frozenset(parts)
