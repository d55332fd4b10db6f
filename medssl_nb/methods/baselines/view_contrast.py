"""Recognise a crop in another view of it: plain contrast, the second baseline."""

import math

import torch
from torch import Tensor, nn

from medssl_nb.data.augment import apply_affine, jitter_intensity, random_affine
from medssl_nb.training.gathering import gather
from medssl_nb.training.losses import info_nce_loss
from medssl_nb.training.task import PretextTask, Views


class ViewContrast(PretextTask):
    """Two random views of a crop must be more alike than views of any other crop (SimCLR, Chen et al. 2020).

    Each view is moved (scale, rotation, shift) and its grey values changed. All feature maps of the encoder are
    averaged over space, joined, and projected to a unit vector; `info_nce_loss` compares the vectors of the whole
    batch, gathered from all processes.

    Args:
        encoder: any module with the encoder face.
        projection: length of the compared vectors.
        hidden: width of the projection's middle layer.
        temperature: of the loss.
        scale, rotation_degrees, translation: ranges of the movement, see `random_affine`.
        brightness, contrast, noise_std: strength of the grey-value changes, see `jitter_intensity`.

    A collapsed encoder maps everything to one vector and scores ln(2 x batch - 1): `trivial_losses`.
    """

    name = "view_contrast"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        projection: int = 32,
        hidden: int = 64,
        temperature: float = 0.1,
        scale: tuple[float, float] = (0.8, 1.25),
        rotation_degrees: float = 10.0,
        translation: float = 0.1,
        brightness: float = 0.3,
        contrast: float = 0.3,
        noise_std: float = 0.05,
    ):
        super().__init__(encoder)
        self.projector = nn.Sequential(
            nn.Linear(sum(encoder.feature_channels), hidden), nn.LeakyReLU(0.01), nn.Linear(hidden, projection)
        )
        self.temperature = temperature
        self.movement = {"scale": tuple(scale), "rotation_degrees": rotation_degrees, "translation": translation}
        self.jitter = {"brightness": brightness, "contrast": contrast, "noise_std": noise_std}
        self.register_buffer("batch_size", torch.tensor(0))  # of all processes; the trivial loss depends on it
        self._spread = math.nan

    def views(self, volumes: Tensor, generator: torch.Generator) -> Views:
        """Two views of each crop: {"a": (B, C, *S), "b": (B, C, *S)}."""
        return {name: self.view(volumes, generator) for name in ("a", "b")}

    def view(self, volumes: Tensor, generator: torch.Generator) -> Tensor:
        """One moved and recoloured copy of each crop; what comes from outside the crop takes the border's value."""
        move = random_affine(
            len(volumes),
            volumes.shape[2:],
            **self.movement,
            flip_probability=0.0,
            generator=generator,
            device=volumes.device,
        )
        moved = apply_affine(volumes, move, mode="bilinear", padding_mode="border")
        return jitter_intensity(moved, **self.jitter, generator=generator)

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """InfoNCE over the batches of all processes."""
        both = self.embed(torch.cat([views["a"], views["b"]]))
        a, b = (gather(part.contiguous()) for part in both.chunk(2))
        with torch.no_grad():
            unit = nn.functional.normalize(torch.cat([a, b]).float(), dim=1)
            self._spread = float((unit - unit.mean(0)).square().sum(1).mean())
            self.batch_size.fill_(len(a))
        loss = info_nce_loss(a, b, temperature=self.temperature)
        return {"total": loss, "contrast": loss}

    def embed(self, volumes: Tensor) -> Tensor:
        """One vector (B, projection) per volume (B, C, *S)."""
        means = [m.flatten(2).mean(-1) for m in self.encoder.feature_maps(volumes)]
        return self.projector(torch.cat(means, dim=1))

    def health(self) -> dict[str, float]:
        """`embedding spread`: mean squared distance of the unit vectors from their mean; 0 = alike, 1 = all around."""
        return {"embedding spread": self._spread}

    @property
    def trivial_losses(self) -> dict[str, float]:
        return {"total": math.log(2 * int(self.batch_size) - 1)} if self.batch_size else {}

    def settings(self) -> dict:
        layers = [self.projector[0].out_features, self.projector[-1].out_features]
        ranges = {k: list(v) if isinstance(v, tuple) else v for k, v in {**self.movement, **self.jitter}.items()}
        return {"projector": layers, "temperature": self.temperature, **ranges}
