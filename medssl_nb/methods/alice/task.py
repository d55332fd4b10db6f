"""The method as two pretext tasks: first an address for every voxel, then pairs of patients found by it."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from medssl_nb.methods.alice.casa import CASA
from medssl_nb.methods.alice.checks import check_share, per_axis
from medssl_nb.methods.alice.embedding import anatomical_embedding_loss, sample_overlapping_views
from medssl_nb.methods.alice.losses import AliceLoss, teacher_distribution
from medssl_nb.methods.alice.masking import random_patch_mask
from medssl_nb.methods.alice.networks import AliceHead, AliceNetwork, make_teacher
from medssl_nb.methods.alice.stored import StoredEmbeddings, fingerprint
from medssl_nb.methods.alice.training import ema_update, entropy, teacher_tokens
from medssl_nb.methods.alice.views import mine_view_pair, sample_foreground_point
from medssl_nb.networks.anatomical import AnatomicalEmbeddingNet
from medssl_nb.training.task import Aim, PretextTask, Views

PARTS = ("reconstruction", "global", "patch")


class AnatomicalEmbeddingTask(PretextTask):
    """SAM: two overlapping crops of a volume, whose voxels with equal coordinates are the same place.

    Negatives come from the volumes of one process, as in the released code; more processes are not one larger batch.

    Args:
        encoder: an `AnatomicalEmbeddingNet`.
        view_size: voxels of a view, below the crop of the run (by the largest of `scale_range`).
        spacing_mm: of the volumes; all radii are in mm.
        foreground: voxels of a view above this value ask; None: all do.
        scale_range, overlap_probability, noise_std: see `sample_overlapping_views`.
        fine, coarse: arguments of `fine_contrastive_loss` and `coarse_contrastive_loss`. The body axis of this
            package's volumes is Z, so `axial_axis` is 2 unless `coarse` says otherwise.

    `trivial_losses`: all vectors alike.
    """

    name = "anatomical_embedding"

    def __init__(
        self,
        encoder: AnatomicalEmbeddingNet,
        *,
        view_size: Sequence[int] = (96, 96, 32),
        spacing_mm: float | Sequence[float] = 2.0,
        foreground: float | None = None,
        scale_range: Sequence[float] = (0.8, 1.2),
        overlap_probability: float = 0.8,
        noise_std: float = 0.03,
        fine: Mapping | None = None,
        coarse: Mapping | None = None,
    ):
        if not isinstance(encoder, AnatomicalEmbeddingNet):
            raise ValueError(f"the encoder must be an AnatomicalEmbeddingNet, got {type(encoder).__name__}.")
        super().__init__(encoder)
        self.spacing_mm = per_axis("spacing_mm", spacing_mm, encoder.spatial_dims).tolist()
        self.view_size, self.foreground = tuple(view_size), foreground
        self.sampling = {"scale_range": tuple(scale_range), "overlap_probability": overlap_probability}
        self.sampling |= {"noise_std": noise_std}
        self.options = {
            "fine_options": dict(fine or {}),
            "coarse_options": {"axial_axis": encoder.spatial_dims - 1, **dict(coarse or {})},
        }
        self._health: dict[str, float] = {}

    def views(self, volumes: Tensor, generator: torch.Generator) -> Views:
        """Two views of one volume.

        Args:
            volumes: (1, C, *S).

        Returns:
            "images" (1, 2, C, *view_size), "coordinates" (1, 2, n, *view_size) in mm, and "valid" bool
            (1, 2, 1, *view_size), the voxels that may ask.
        """
        images, coordinates = sample_overlapping_views(
            volumes[0], self.view_size, spacing=self.spacing_mm, generator=generator, **self.sampling
        )
        valid = torch.ones_like(images[:, :1], dtype=torch.bool)
        if self.foreground is not None:
            valid = (images > self.foreground).any(1, keepdim=True)
            valid |= ~valid.flatten(1).any(1).view(-1, *[1] * (valid.ndim - 1))  # a view of air only: all may ask
        return {"images": images[None], "coordinates": coordinates[None], "valid": valid[None]}

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Total, "fine" and "coarse"."""
        embedding = self.encoder(views["images"].flatten(0, 1))
        losses = anatomical_embedding_loss(embedding, views["coordinates"], views["valid"], **self.options)
        with torch.no_grad():
            for name, x in embedding._asdict().items():
                mean = x.movedim(1, -1).flatten(0, -2).mean(0)
                self._health[f"{name} spread"] = float(1 - mean.square().sum())
        return {"total": losses["total"], "fine": losses["fine"], "coarse": losses["coarse"]}

    def health(self) -> dict[str, float]:
        """Of the last step: mean squared distance of the fine and coarse vectors from their mean, 0 = all alike."""
        return dict(self._health)

    @property
    def trivial_losses(self) -> dict[str, float]:
        return {"fine": math.log(1 + self.options["fine_options"].get("sampled_negatives", 500))}

    def settings(self) -> dict:
        sampling = {name: list(v) if isinstance(v, tuple) else v for name, v in self.sampling.items()}
        return {
            "view_size": list(self.view_size),
            "spacing_mm": self.spacing_mm,
            "foreground": self.foreground,
            **sampling,
            **self.options,
        }


class Alice(PretextTask):
    """Two patients cropped around the same place: hidden voxels redrawn, global and local meaning made to agree.

    Crops come in pairs of neighbours in the order of the cases. The loop clips gradients as the profile says; with
    `clip_each_parameter` that is the released rule, except that CASA's gradients are clipped too.

    Args:
        encoder: `ConvBackbone` or `SwinBackbone`.
        embedding: the frozen `AnatomicalEmbeddingNet` that finds places; needed by pairs="mined".
        parts: which terms are trained, of "reconstruction", "global" (teacher of the other patient) and "patch" (CASA).
        pairs: "mined": both crops around one place, found by `embedding`; "random": each around a random place.
        foreground: places are above this value in the query; crops are normalised grey values, air is -1 in CT.
        margin: voxels that places keep from the faces of the query.
        min_score, max_tries: see `mine_view_pair`.
        mask_mode, mask_size, mask_ratio: see `random_patch_mask`; "column" as released, "patch" as in the figure.
        out_dim, hidden_dim, bottleneck_dim: of the head, for global and local tokens alike.
        head_init: weights of the head at the start: "released", standard deviation 0.02, made for its width of 2,048;
            "by width", 1 / sqrt(inputs), what narrow heads need; see `AliceHead.reset_parameters`.
        share_last_layer: the teacher's local tokens take its global last layer, as released.
        casa_hidden_dim, casa_heads, casa_head_dim, casa_dropout: of CASA.
        target_weights: "shared" as released, "ema" as in the figure; see `CASA`.
        teacher_context: "decoder" as released, "encoder" as in the figure; see `pretrain_step`.
        student_temperature, teacher_temperature, center_momentum: of both distillations, see `AliceLoss`. The teacher's
            temperature moves from its first to its second value over `temperature_warmup`, a share of the run.
        momentum: of the teacher at the start; goes to 1 by half a cosine.
        freeze_last_layer: share of the run in which the head's last layers stay as they are.
        global_weight, patch_weight, reconstruction_weight: of the terms.
        reconstruction_region: "all" as released, or "masked".

    `trivial_losses`: outputs all alike.
    """

    name = "alice"
    group_size = 2

    def __init__(
        self,
        encoder: nn.Module,
        *,
        embedding: AnatomicalEmbeddingNet | None = None,
        parts: Sequence[str] = PARTS,
        pairs: Literal["mined", "random"] = "mined",
        foreground: float = -0.8,
        margin: int = 10,
        min_score: float = 0.7,
        max_tries: int = 101,
        mask_mode: Literal["column", "patch"] = "column",
        mask_size: int = 16,
        mask_ratio: float = 0.75,
        out_dim: int = 512,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        head_init: Literal["released", "by width"] = "released",
        share_last_layer: bool = True,
        casa_hidden_dim: int = 2048,
        casa_heads: int = 8,
        casa_head_dim: int = 64,
        casa_dropout: float = 0.1,
        target_weights: Literal["shared", "ema"] = "shared",
        teacher_context: Literal["decoder", "encoder"] = "decoder",
        student_temperature: float = 0.1,
        teacher_temperature: Sequence[float] = (0.008, 0.01),
        temperature_warmup: float = 0.03,
        center_momentum: float = 0.9,
        momentum: float = 0.996,
        freeze_last_layer: float = 0.001,
        global_weight: float = 1.0,
        patch_weight: float = 1.0,
        reconstruction_weight: float = 10.0,
        reconstruction_region: Literal["all", "masked"] = "all",
    ):
        super().__init__(encoder)
        if not hasattr(encoder, "decoder_channels"):
            raise ValueError(f"the encoder must be a ConvBackbone or SwinBackbone, got {type(encoder).__name__}.")
        self.parts = _checked_parts(parts)
        if head_init not in ("released", "by width"):
            raise ValueError(f'head_init is "released" or "by width", got {head_init!r}.')
        if pairs not in ("mined", "random"):
            raise ValueError(f'pairs is "mined" or "random", got {pairs!r}.')
        for name, share in (("momentum", momentum), ("freeze_last_layer", freeze_last_layer)):
            check_share(name, share)
        check_share("temperature_warmup", temperature_warmup)
        if teacher_context not in ("decoder", "encoder"):
            raise ValueError(f'teacher_context is "decoder" or "encoder", got {teacher_context!r}.')
        self.pairs, self.embedding = pairs, [embedding]  # in a list: frozen, and no part of the state
        self.places = {"foreground": foreground, "margin": margin, "min_score": min_score, "max_tries": max_tries}
        self.masks = {"patch_size": mask_size, "ratio": mask_ratio, "mode": mask_mode}
        sides = [mask_size] * encoder.spatial_dims
        random_patch_mask(sides, **self.masks, generator=torch.Generator())  # refuses what is none
        self.teacher_context, self.momentum, self.frozen = teacher_context, momentum, freeze_last_layer
        self.criterion = AliceLoss(
            out_dim,
            out_dim,
            epochs=_EPOCHS,
            warmup_epochs=round(temperature_warmup * _EPOCHS),
            student_temperature=student_temperature,
            teacher_temperature=tuple(teacher_temperature),
            patch_teacher_temperature=tuple(teacher_temperature),
            center_momentum=center_momentum,
            patch_center_momentum=center_momentum,
            global_weight=global_weight,
            patch_weight=patch_weight,
            reconstruction_weight=reconstruction_weight,
            reconstruction_region=reconstruction_region,
        )
        self.heads = {"out_dim": out_dim, "hidden_dim": hidden_dim, "bottleneck_dim": bottleneck_dim}
        self.heads |= {"head_init": head_init, "share_last_layer": share_last_layer}
        self.alignment = {"hidden_dim": casa_hidden_dim, "num_heads": casa_heads, "head_dim": casa_head_dim}
        self.alignment |= {"dropout": casa_dropout, "target_weights": target_weights}
        if self.distils:
            widths = (encoder.encoder_channels, encoder.encoder_channels, encoder.decoder_channels)
            self.head = AliceHead(*widths, out_dim, out_dim, hidden_dim, bottleneck_dim)
            if head_init == "by width":
                self.head.reset_parameters(std=None)
            self.teacher = make_teacher(self.student, share_last_layer=share_last_layer)
            self._thawed = False
            for layer in (self.head.last_layer, self.head.patch_last_layer):
                layer.weight.register_hook(lambda gradient: gradient if self._thawed else torch.zeros_like(gradient))
        if "patch" in self.parts:
            self.casa = CASA(out_dim, **self.alignment)
        self._health: dict[str, float] = {}

    @property
    def distils(self) -> bool:
        """Whether there is a teacher."""
        return bool({"global", "patch"} & self.parts)

    @property
    def student(self) -> AliceNetwork:
        return AliceNetwork(self.encoder, self.head)

    def train(self, mode: bool = True):
        """Training mode, for all but the teacher."""
        super().train(mode)
        if self.distils:
            self.teacher.eval()
        return self

    def aim(self, volume: Callable[[int], Tensor], count: int) -> Aim:
        """Both crops of a pair around one place, or each around its own; see `pairs`.

        Raises:
            ValueError: pairs="mined" without an embedding.
        """
        if self.pairs == "random":
            return _RandomPlaces(volume, self.places["foreground"], self.places["margin"])
        if self.embedding[0] is None:
            raise ValueError(
                'pairs="mined" needs embedding=, a trained AnatomicalEmbeddingNet (python -m medssl_nb pretrain does '
                'this for recipes with an "after" line); or take pairs="random".'
            )
        stored = StoredEmbeddings(self.embedding[0].eval(), volume, count)
        stored.fill()
        return _MinedPlaces(volume, stored, self.places, self.embedding[0].strides[0])

    def views(self, volumes: Tensor, generator: torch.Generator) -> Views:
        """One pair with a mask for each.

        Args:
            volumes: (2, C, *S), query and key.

        Returns:
            "images" (1, 2, C, *S) and "mask" bool (1, 2, 1, *S), True = hidden from the student.
        """
        masks = [
            random_patch_mask(volumes.shape[2:], **self.masks, generator=generator, device=volumes.device)
            for _ in volumes
        ]
        return {"images": volumes[None], "mask": torch.stack(masks)[None, :, None]}

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Total, and the terms of `parts`, unweighted."""
        images, mask = (views[name].transpose(0, 1).flatten(0, 1) for name in ("images", "mask"))  # [queries; keys]
        epoch, criterion, terms = int(progress * _EPOCHS), self.criterion, {}
        if not self.distils:
            found = self.encoder(images.masked_fill(mask, 0.0))
        else:
            self._thawed = progress >= self.frozen
            with torch.no_grad():
                target = self.teacher(images)
            found = self.student(images, mask)
        if "global" in self.parts:
            terms["global"] = criterion.global_term(found.cls, target.cls, epoch)
        aligned = None
        if "patch" in self.parts:
            context = teacher_tokens(target, self.teacher_context)
            online, aligned = self.casa(found.encoder_tokens, found.decoder_tokens, context)
            terms["patch"] = criterion.patch_term(online, aligned, epoch)
        if "reconstruction" in self.parts:
            terms["reconstruction"] = criterion.reconstruction_term(found.reconstruction, images, mask)
        if self.distils:
            self._read_meters(target.cls, aligned, epoch)
            criterion.update_centers(target.cls, None if aligned is None else aligned.detach())
        return {"total": criterion.weighted(terms)["total"], **terms}

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Move the teacher, and CASA's copy if it has one."""
        if not self.distils:
            return
        momentum = 1 - (1 - self.momentum) * (1 + math.cos(math.pi * progress)) / 2
        ema_update(self.teacher, self.student, momentum)
        if "patch" in self.parts:
            self.casa.update_target(momentum)

    @torch.no_grad()
    def _read_meters(self, cls: Tensor, aligned: Tensor | None, epoch: int) -> None:
        told = {"teacher": (cls, self.criterion.global_center, self.criterion.temperature_schedule)}
        if aligned is not None:
            told["answer"] = (aligned, self.criterion.patch_center, self.criterion.patch_temperature_schedule)
        for name, (logits, centre, schedule) in told.items():
            chosen = teacher_distribution(logits, centre, float(schedule[epoch])).flatten(0, -2)
            self._health[f"{name} entropy"] = float(entropy(chosen).mean())
            self._health[f"{name} outputs used"] = float(entropy(chosen.mean(0)).exp())

    def health(self) -> dict[str, float]:
        """Of the last step, for the teacher's global tokens, and for the answers to CASA's questions: "entropy", mean
        of the single distributions in nats (0: one winner each; ln D: all alike, uniform collapse), and "outputs used",
        exp of the entropy of their mean (1: one winner for all, the other collapse; at most D).
        """
        return dict(self._health)

    @property
    def trivial_losses(self) -> dict[str, float]:
        return {name: math.log(self.heads["out_dim"]) for name in ("global", "patch") if name in self.parts}

    def settings(self) -> dict:
        criterion = self.criterion
        mined = self.pairs == "mined" and self.embedding[0] is not None
        return {
            "parts": sorted(self.parts),
            "pairs": self.pairs,
            "embedding": fingerprint(self.embedding[0]) if mined else None,
            **self.places,
            "mask": self.masks,
            "head": self.heads,
            "casa": self.alignment,
            "teacher_context": self.teacher_context,
            "temperatures": [criterion.student_temperature, *criterion.temperature_schedule[[0, -1]].tolist()],
            "temperature_warmup": int((criterion.temperature_schedule < criterion.temperature_schedule[-1]).sum()),
            "center_momentum": criterion.center_momentum,
            "momentum": self.momentum,
            "freeze_last_layer": self.frozen,
            "weights": criterion.weights,
            "reconstruction_region": criterion.reconstruction_region,
        }


_EPOCHS = 1000  # the schedules of the released code are made for as many epochs; here they are shares of the run


class _RandomPlaces:
    """Random foreground places, in each volume by itself."""

    def __init__(self, volume: Callable[[int], Tensor], foreground: float, margin: int):
        self.volume, self.foreground, self.margin = volume, foreground, margin

    def __call__(self, cases: Sequence[int], generator: torch.Generator) -> list[Tensor]:
        return [
            sample_foreground_point(
                self.volume(case).amax(0), threshold=self.foreground, margin=self.margin, generator=generator
            )
            for case in cases
        ]


class _MinedPlaces:
    """A random foreground place of the first volume, and what is taken for the same place in the second."""

    def __init__(self, volume: Callable[[int], Tensor], embeddings: StoredEmbeddings, places: Mapping, stride):
        self.volume, self.embeddings, self.places, self.stride = volume, embeddings, places, stride

    def __call__(self, cases: Sequence[int], generator: torch.Generator) -> list[Tensor]:
        query, key = cases
        pair = mine_view_pair(
            self.volume(query),
            self.volume(key),
            self.embeddings[query],
            self.embeddings[key],
            [1] * (self.volume(query).ndim - 1),  # only the places are wanted
            min_score=self.places["min_score"],
            max_tries=self.places["max_tries"],
            threshold=self.places["foreground"],
            margin=self.places["margin"],
            stride=self.stride,
            generator=generator,
        )
        return [pair.query_point, pair.key_point]


def _checked_parts(parts: Sequence[str]) -> frozenset[str]:
    unknown = sorted(set(parts) - set(PARTS))
    if unknown or not parts or isinstance(parts, str):
        raise ValueError(f"parts are some of {', '.join(PARTS)}; got {parts!r}.")
    return frozenset(parts)
