"""The method as a pretext task: cluster, hide, guess, weigh, agree; with every part to be switched on and off."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from medssl_nb.methods.adaptive_masking.losses import (
    adaptive_masking_loss,
    reconstruction_error,
    relative_ranking_loss,
)
from medssl_nb.methods.adaptive_masking.patches import foreground_patches, patch_features, patchify
from medssl_nb.methods.adaptive_masking.selection import (
    kmeans,
    lesion_category,
    masking_ratio,
    select_masked_patches,
)
from medssl_nb.networks.patch_transformer import MaskedPatchTransformer
from medssl_nb.training.gathering import pooled_mean
from medssl_nb.training.losses import masked_reconstruction_loss
from medssl_nb.training.task import PretextTask, Views

PARTS = ("mps", "amr", "rrl", "ccl")
ABOVE_MINIMUM = "above minimum"


class AdaptiveMasking(PretextTask):
    """Adaptive masking of lesion patches (AMLP), our reading of arXiv 2309.04312.

    Args:
        encoder: a `MaskedPatchTransformer`; with `weighting="ranking"` it needs its `difficulty_head`.
        parts: which of the method's parts are on. Without any it is plain masked image modelling: random masks of the
            fixed ratio `end_ratio`, mean error.
            "mps": patches that clustering calls lesion are hidden first; "amr": the ratio goes from `start_ratio` to
            `end_ratio` (without: `end_ratio` always); "rrl": hard patches weigh more; "ccl": category consistency,
            which costs a second pass through the encoder.
        features: what clustering compares, see `patch_features`: "statistics", "peak" or "voxels".
        clusters: K of k-means.
        rule: which cluster is called lesion: "smallest" (lesions are rare), or "brightest" by the 95th percentile of
            `lesion_channel` in each patch (FLAIR, PET).
        lesion_channel: see `rule`.
        foreground: what is tissue in the crops (normalised, see `medssl_nb.data.normalise`): voxels above this
            intensity; "above minimum": above the crop's smallest (MRI without skull, CT clipped at air); None: all.
        start_ratio, end_ratio, schedule: see `masking_ratio`.
        lesion_share: see `select_masked_patches`.
        weighting, strength: see `relative_weights`; "ranking" takes `relative_ranking_loss` in the place of RRL.
        hard_threshold, temperature: see `hard_patches` and `category_consistency_loss`.
        reconstruction_weight, relative_weight, consistency_weight: of the terms in the total.
        error, normalize_target: see `reconstruction_error`.
        flip_axes: axes along which crops are mirrored at random (0 is left-right).

    `trivial_losses`: running error of the thoughtless model, which fills the hidden patches with the mean of the
    visible tissue. `health`: see there.
    """

    name = "adaptive_masking"

    def __init__(
        self,
        encoder: MaskedPatchTransformer,
        *,
        parts: Sequence[str] = PARTS,
        features: Literal["statistics", "peak", "voxels"] = "statistics",
        clusters: int = 2,
        rule: Literal["smallest", "brightest"] = "smallest",
        lesion_channel: int = 0,
        foreground: float | Literal["above minimum"] | None = None,
        start_ratio: float = 0.25,
        end_ratio: float = 0.75,
        schedule: Literal["linear", "cosine", "geometric"] = "linear",
        lesion_share: float = 1.0,
        weighting: Literal["relative", "attention", "ranking"] = "relative",
        strength: float = 1.0,
        hard_threshold: float = 0.0,
        temperature: float = 0.1,
        reconstruction_weight: float = 1.0,
        relative_weight: float = 1.0,
        consistency_weight: float = 0.1,
        error: Literal["l2", "l1"] = "l2",
        normalize_target: bool = False,
        flip_axes: Sequence[int] = (0,),
    ):
        super().__init__(encoder)
        if not isinstance(encoder, MaskedPatchTransformer):
            raise ValueError(f"the encoder must be a MaskedPatchTransformer, got {type(encoder).__name__}.")
        unknown = sorted(set(parts) - set(PARTS))
        if unknown:
            raise ValueError(f"parts are among {', '.join(PARTS)}; got {unknown[0]!r}.")
        if rule not in ("smallest", "brightest"):
            raise ValueError(f'rule is "smallest" or "brightest", got {rule!r}.')
        if not 0 <= lesion_channel < encoder.in_channels:
            raise ValueError(f"lesion_channel counts from 0 to {encoder.in_channels - 1}, got {lesion_channel!r}.")
        if weighting not in ("relative", "attention", "ranking"):
            raise ValueError(f'weighting is "relative", "attention" or "ranking", got {weighting!r}.')
        if weighting == "ranking" and encoder.difficulty_head is None:
            raise ValueError('weighting="ranking" needs scores: build the encoder with difficulty_head=True.')
        if isinstance(foreground, str) and foreground != ABOVE_MINIMUM:
            raise ValueError(f'foreground is an intensity, "{ABOVE_MINIMUM}" or None, got {foreground!r}.')
        if any(axis not in range(encoder.spatial_dims) for axis in flip_axes):
            raise ValueError(f"flip_axes count from 0 to {encoder.spatial_dims - 1}, got {tuple(flip_axes)}.")
        self.parts = frozenset(parts)
        self.features, self.clusters, self.rule, self.lesion_channel = features, clusters, rule, lesion_channel
        self.foreground, self.lesion_share, self.flip_axes = foreground, lesion_share, tuple(flip_axes)
        self.ratios = {"start": start_ratio, "end": end_ratio, "schedule": schedule}
        self.weighting = weighting
        self.loss_settings = {
            "error": error,
            "normalize_target": normalize_target,
            "strength": strength,
            "hard_threshold": hard_threshold,
            "temperature": temperature,
            "reconstruction_weight": reconstruction_weight,
            "relative_weight": relative_weight if "rrl" in self.parts else 0.0,
            "consistency_weight": consistency_weight if "ccl" in self.parts else 0.0,
        }
        self.ratio(0.0)  # refuses ratios and schedules that do not exist before anything is trained
        self.register_buffer("trivial_error", torch.tensor(0.0))
        self.register_buffer("trivial_count", torch.tensor(0.0))
        self._health: dict[str, float] = {}

    def views(self, volumes: Tensor, generator: torch.Generator) -> Views:
        """Mirrored crops, what clustering makes of them, and the noise from which `losses` draws the mask.

        Returns:
            "volume" (B, C, *S); bool (B, N): "lesion", "tissue" (may be hidden), "core" (takes part in clustering and
            CCL); "noise" (B, N).
        """
        volumes = self._mirrored(volumes, generator)
        tissue, core = self._tissue(volumes, 0.1), self._tissue(volumes, 0.9)
        lesion = self.call_lesions(volumes, core, generator) if self.parts & {"mps", "ccl"} else torch.zeros_like(core)
        noise = torch.rand(core.shape, generator=generator).to(volumes.device)
        return {"volume": volumes, "lesion": lesion, "tissue": tissue, "core": core, "noise": noise}

    def call_lesions(self, volumes: Tensor, core: Tensor, generator: torch.Generator | None) -> Tensor:
        """Patches (B, N) that clustering calls lesion: MPS steps 1 and 2."""
        patch = self.encoder.patch_size
        features = patch_features(volumes, patch, self.features, valid=core)
        labels = kmeans(features, self.clusters, valid=core, generator=generator).labels
        scores = None
        if self.rule == "brightest":
            channel = volumes[:, self.lesion_channel : self.lesion_channel + 1]
            scores = patch_features(channel, patch, "peak", standardize=False)[..., 0]
        return lesion_category(labels, self.clusters, scores=scores)

    def ratio(self, progress: float) -> float:
        """Share of the tissue patches that is hidden when `progress` (0 to 1) of the run is done."""
        return masking_ratio(progress if "amr" in self.parts else 1.0, 2, **self.ratios)

    def mask(self, views: Views, progress: float) -> Tensor:
        """Hidden patches, bool (B, N): MPS step 3 at the ratio of AMR."""
        share = self.lesion_share if "mps" in self.parts else 0.0
        return select_masked_patches(
            views["lesion"], self.ratio(progress), lesion_share=share, valid=views["tissue"], noise=views["noise"]
        )

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Total, and of "reconstruction", "relative" (or "ranking") and "consistency" those that are on, unweighted."""
        volume, mask = views["volume"], self.mask(views, progress)
        target = patchify(volume, self.encoder.patch_size)
        output = self.encoder(volume, mask)
        agreement = {}
        if "ccl" in self.parts:
            agreement = {"tokens": self.encoder.encode(volume), "lesion": views["lesion"], "valid": views["core"]}
        settings = {**self.loss_settings, "weighting": "relative" if self.weighting == "ranking" else self.weighting}
        found = adaptive_masking_loss(output["prediction"], target, mask, **agreement, **settings)
        errors, hard = found.pop("errors"), found.pop("hard")
        self._watch(target, mask, errors, hard, views)
        return self._pooled(found, output, errors, mask, views)

    def _pooled(self, found: dict, output: dict, errors: Tensor, mask: Tensor, views: Views) -> dict[str, Tensor]:
        """The terms as parts of a mean over the patches of all processes, and their weighted sum."""
        weight, hidden = self.loss_settings, mask.sum(dim=1)
        terms = {"reconstruction": pooled_mean(found["reconstruction"], hidden.sum())}
        total = weight["reconstruction_weight"] * terms["reconstruction"]
        if "rrl" in self.parts:
            if self.weighting == "ranking":
                pairs = (hidden * (hidden - 1)).sum()  # ties are too rare to count
                terms["ranking"] = pooled_mean(relative_ranking_loss(output["scores"], errors, mask), pairs)
            else:
                terms["relative"] = pooled_mean(found["relative"], hidden.sum())
            total = total + weight["relative_weight"] * terms.get("ranking", terms.get("relative"))
        if "ccl" in self.parts:
            core, lesion = views["core"], views["lesion"]
            both = (core & lesion).any(dim=1) & (core & ~lesion).any(dim=1)
            terms["consistency"] = pooled_mean(found["consistency"], (mask & core)[both].sum())
            total = total + weight["consistency_weight"] * terms["consistency"]
        return {"total": total, **terms}

    def _tissue(self, volumes: Tensor, min_fraction: float) -> Tensor:
        """Patches (B, N) with enough tissue."""
        threshold = -math.inf if self.foreground is None else self.foreground
        if threshold == ABOVE_MINIMUM:
            volumes, threshold = volumes - volumes.flatten(2).amin(-1)[(..., *[None] * (volumes.ndim - 2))], 0.0
        return foreground_patches(volumes, self.encoder.patch_size, threshold, min_fraction)

    def _mirrored(self, volumes: Tensor, generator: torch.Generator) -> Tensor:
        """Each volume with each of `flip_axes` reversed or not, with even chances."""
        for axis in self.flip_axes:
            flip = torch.rand(len(volumes), generator=generator).to(volumes.device) < 0.5
            flip = flip.view(-1, *[1] * (volumes.ndim - 1))
            volumes = torch.where(flip, volumes.flip(axis + 2), volumes)
        return volumes

    @torch.no_grad()
    def _watch(self, target: Tensor, mask: Tensor, errors: Tensor, hard: Tensor, views: Views) -> None:
        """Running error of the thoughtless model, and the numbers of `health`."""
        lesion, tissue, core = views["lesion"], views["tissue"], views["core"]
        visible = (tissue & ~mask)[..., None]
        mean = torch.where(visible, target, 0).sum((1, 2)) / (visible.sum((1, 2)) * target.shape[-1]).clamp(min=1)
        kind = {name: self.loss_settings[name] for name in ("error", "normalize_target")}
        guess = reconstruction_error(mean[:, None, None].expand_as(target), target, *kind.values())
        if self.training:
            self.trivial_error += masked_reconstruction_loss(guess, mask)
            self.trivial_count += 1
        groups = {"error, called lesion": mask & lesion, "error, other": mask & ~lesion}
        self._health = {"hidden share": float(mask.sum() / tissue.sum().clamp(min=1))}
        self._health |= {name: float(errors[group].mean()) for name, group in groups.items() if group.any()}
        judged = mask & core
        if judged.any():
            self._health["agreement"] = float((lesion == hard)[judged].float().mean())

    def health(self) -> dict[str, float]:
        """Of the last step: "hidden share" of the tissue patches; mean error of hidden patches by what clustering calls
        them; "agreement", the share of hidden patches on which clustering and difficulty say the same.
        """
        return dict(self._health)

    @property
    def trivial_losses(self) -> dict[str, float]:
        return {"reconstruction": float(self.trivial_error / self.trivial_count)} if self.trivial_count else {}

    def settings(self) -> dict:
        return {
            "parts": sorted(self.parts),
            "clustering": [self.features, self.clusters, self.rule, self.lesion_channel, self.foreground],
            "ratios": self.ratios,
            "lesion_share": self.lesion_share,
            "weighting": self.weighting,
            "flip_axes": list(self.flip_axes),
            **self.loss_settings,
        }
