"""Hide random patches, guess their voxels: masked autoencoding, the first baseline."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medssl_nb.networks import MaskedPatchTransformer, Segmenter, patchify, random_masks
from medssl_nb.training.losses import masked_reconstruction_loss, reconstruction_error
from medssl_nb.training.task import PretextTask, Views


class MaskedAutoencoding(PretextTask):
    """Reconstruct randomly hidden patches (MAE, He et al. 2022; SimMIM, Xie et al. 2022).

    A `MaskedPatchTransformer` hides patches itself. Any other encoder gets the volume with one learned grey value in
    the hidden patches, and a light decoder draws the volume (`Segmenter`: for a U-Net a single 1x1x1 convolution).

    Args:
        encoder: any module with the encoder face.
        patch_size: voxels per side of a patch, one number or one per axis; a transformer brings its own.
        mask_ratio: share of the patches that is hidden.
        error: "l2" or "l1".
        normalize_target: scale each target patch to mean 0 and variance 1.

    The thoughtless model fills every hidden patch with the mean of the visible voxels: its running error is
    `trivial_losses`.
    """

    name = "masked_autoencoding"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        patch_size: int | Sequence[int] = 8,
        mask_ratio: float = 0.6,
        error: str = "l2",
        normalize_target: bool = False,
    ):
        super().__init__(encoder)
        if not 0 < mask_ratio < 1:
            raise ValueError(f"mask_ratio is the hidden share of the patches, between 0 and 1; got {mask_ratio!r}.")
        self.is_transformer = isinstance(encoder, MaskedPatchTransformer)
        if self.is_transformer:
            patch_size = encoder.patch_size
        else:
            self.decoder = Segmenter(encoder, encoder.in_channels)
            self.hidden_value = nn.Parameter(torch.zeros(encoder.in_channels))
        dims = encoder.spatial_dims
        self.patch_size = (patch_size,) * dims if isinstance(patch_size, int) else tuple(patch_size)
        self.mask_ratio, self.error, self.normalize_target = mask_ratio, error, normalize_target
        self.register_buffer("trivial_error", torch.tensor(0.0))
        self.register_buffer("trivial_count", torch.tensor(0.0))
        self._spread = math.nan

    def views(self, volumes: Tensor, generator: torch.Generator) -> Views:
        """The crops, and which patches are hidden: {"volume": (B, C, *S), "mask": bool (B, N)}."""
        patches = math.prod(side // p for side, p in zip(volumes.shape[2:], self.patch_size, strict=True))
        mask = random_masks(len(volumes), patches, self.mask_ratio, generator)
        return {"volume": volumes, "mask": mask.to(volumes.device)}

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Mean error over the hidden patches."""
        volume, mask = views["volume"], views["mask"]
        target = patchify(volume, self.patch_size)  # (B, N, V)
        prediction = self.reconstruct(volume, mask)
        errors = reconstruction_error(prediction, target, self.error, self.normalize_target)
        self._watch(prediction.detach(), target, mask)
        loss = masked_reconstruction_loss(errors, mask)
        return {"total": loss, "reconstruction": loss}

    def reconstruct(self, volume: Tensor, mask: Tensor) -> Tensor:
        """Predicted patches (B, N, V) of a volume whose patches `mask` (B, N) the network does not see."""
        if self.is_transformer:
            return self.encoder(volume, mask)["prediction"]
        hidden = self.hide(volume, mask)
        return patchify(self.decoder(hidden), self.patch_size)

    def hide(self, volume: Tensor, mask: Tensor) -> Tensor:
        """`volume` with the learned grey value in the hidden patches."""
        grid = [side // p for side, p in zip(volume.shape[2:], self.patch_size, strict=True)]
        where = mask.view(len(mask), 1, *grid)
        for axis, p in enumerate(self.patch_size, 2):
            where = where.repeat_interleave(p, dim=axis)  # (B, 1, *S)
        value = self.hidden_value.to(volume.dtype).view(1, -1, *(1,) * len(grid))
        return torch.where(where, value, volume)

    @torch.no_grad()
    def _watch(self, prediction: Tensor, target: Tensor, mask: Tensor) -> None:
        """Running error of the thoughtless model, and how much of the target's variation the prediction has."""
        visible = ~mask[..., None]
        mean = (target * visible).sum((1, 2)) / (visible.sum((1, 2)) * target.shape[-1]).clamp(min=1)
        guess = mean[:, None, None].expand_as(target)
        error = reconstruction_error(guess, target, self.error, self.normalize_target)
        if self.training:
            self.trivial_error += masked_reconstruction_loss(error, mask)
            self.trivial_count += 1
        shown, wanted = prediction.float()[mask], target.float()[mask]
        self._spread = float(shown.std() / wanted.std().clamp(min=1e-6))

    def health(self) -> dict[str, float]:
        """`prediction spread`: standard deviation of the guesses over that of the hidden voxels; 0 = one grey value."""
        return {"prediction spread": self._spread}

    @property
    def trivial_losses(self) -> dict[str, float]:
        return {"total": float(self.trivial_error / self.trivial_count)} if self.trivial_count else {}

    def settings(self) -> dict:
        return {
            "patch_size": list(self.patch_size),
            "mask_ratio": self.mask_ratio,
            "error": self.error,
            "normalize_target": self.normalize_target,
        }
