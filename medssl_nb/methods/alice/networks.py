"""Student, teacher, and the head that turns their features into cosines with learnt directions."""

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl_nb.methods.alice.checks import check_counts
from medssl_nb.methods.alice.masking import mask_volume
from medssl_nb.networks.backbones import BackboneOutput, ConvBackbone, SwinBackbone
from medssl_nb.precision import at_least_float32

__all__ = [
    "AliceHead",
    "AliceNetwork",
    "AliceOutput",
    "BackboneOutput",
    "ConvBackbone",
    "SwinBackbone",
    "UnitNormLinear",
    "make_teacher",
]


class UnitNormLinear(nn.Module):
    """A linear layer without bias whose rows have length `scale`: y = x (s W / |W_k|)^T.

    Args:
        in_features, out_features: of the layer.
        learn_scale: train the lengths; else they stay 1, and unit vectors x give cosines.
    """

    def __init__(self, in_features: int, out_features: int, learn_scale: bool = False):
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise ValueError(f"features count from 1, got in_features={in_features}, out_features={out_features}.")
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.scale = nn.Parameter(torch.ones(out_features, 1), requires_grad=learn_scale)
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        return F.linear(x, self.scale * F.normalize(self.weight, dim=1, eps=1e-12))


class AliceHead(nn.Module):
    """One MLP for global and local tokens, then cosines with learnt directions: z = W h / |h|, |W_k| = 1.

    Local tokens pass a linear layer to the width of the global one first; the MLP is linear, GELU, linear, GELU, linear
    to the bottleneck. The last layers are computed in float32: divided by a temperature of 0.01, the rounding of half
    precision would be larger than the differences it is about.

    Args:
        global_dim, encoder_dim, decoder_dim: channels of the three inputs.
        out_dim, patch_out_dim: directions for the global and the local tokens.
        hidden_dim, bottleneck_dim: of the MLP.
        norm_last_layer: keep the length of every direction at 1.
        shared_last_layer: one last layer for global and local tokens.

    Raises:
        ValueError: a shared last layer with two sizes; in use: maps or channels that do not fit.
    """

    def __init__(
        self,
        global_dim: int = 384,
        encoder_dim: int = 384,
        decoder_dim: int = 192,
        out_dim: int = 512,
        patch_out_dim: int = 512,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        norm_last_layer: bool = True,
        shared_last_layer: bool = False,
    ):
        super().__init__()
        if shared_last_layer and out_dim != patch_out_dim:
            raise ValueError(
                f"a shared last layer has one size, got out_dim {out_dim} and patch_out_dim {patch_out_dim}."
            )
        sizes = {"global_dim": global_dim, "encoder_dim": encoder_dim, "decoder_dim": decoder_dim, "out_dim": out_dim}
        sizes |= {"patch_out_dim": patch_out_dim, "hidden_dim": hidden_dim, "bottleneck_dim": bottleneck_dim}
        check_counts(1, **sizes)
        self.dims = {"global_token": global_dim, "encoder_map": encoder_dim, "decoder_map": decoder_dim}
        self.encoder_proj = nn.Linear(encoder_dim, global_dim)
        self.decoder_proj = nn.Linear(decoder_dim, global_dim)
        self.mlp = nn.Sequential(
            nn.Linear(global_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, bottleneck_dim),
        )
        self.last_layer = UnitNormLinear(bottleneck_dim, out_dim, not norm_last_layer)
        if shared_last_layer:
            self.patch_last_layer = self.last_layer
        else:
            self.patch_last_layer = UnitNormLinear(bottleneck_dim, patch_out_dim, not norm_last_layer)
        self.reset_parameters()

    def reset_parameters(self, std: float | None = 0.02) -> None:
        """Draw new weights, but for the last layers, whose scale has no effect; biases are 0.

        Args:
            std: of all weights, as released; None: 1 / sqrt(inputs) of each layer. At the released width of 2,048 the
                two are alike. In a narrow head 0.02 shrinks tokens hundreds of times on their way to the bottleneck,
                until they differ by little more than rounding and their directions tell nothing.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=std or module.in_features**-0.5)
                nn.init.zeros_(module.bias)

    def forward(self, global_token: Tensor, encoder_map: Tensor, decoder_map: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cosines of the global token and of every position of the two maps, float32.

        Args:
            global_token: (N, C_g).
            encoder_map, decoder_map: (N, C, *S) with one or more axes; positions are taken in memory order.

        Returns:
            cls (N, D), encoder tokens (N, N_e, D'), decoder tokens (N, N_d, D'), each number between -1 and 1.
        """
        self._check(global_token=global_token, encoder_map=encoder_map, decoder_map=decoder_map)
        tokens = (
            global_token,
            self.encoder_proj(encoder_map.flatten(2).transpose(1, 2)),
            self.decoder_proj(decoder_map.flatten(2).transpose(1, 2)),
        )
        layers = (self.last_layer, self.patch_last_layer, self.patch_last_layer)
        return tuple(self._cosines(self.mlp(x), last) for x, last in zip(tokens, layers, strict=True))

    @staticmethod
    def _cosines(hidden: Tensor, last: UnitNormLinear) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            unit = F.normalize(at_least_float32(hidden), dim=-1, eps=1e-12)
            return last(unit.to(torch.promote_types(unit.dtype, last.weight.dtype)))

    def _check(self, **inputs: Tensor) -> None:
        for name, x in inputs.items():
            axes_fit = x.ndim == 2 if name == "global_token" else x.ndim >= 3
            if not axes_fit or x.shape[1] != self.dims[name] or len(x) != len(inputs["global_token"]):
                wanted = f"(N, {self.dims[name]}{'' if name == 'global_token' else ', *S'})"
                raise ValueError(f"{name} must be {wanted} with one N for all, got {tuple(x.shape)}.")


class AliceOutput(NamedTuple):
    """What a student or teacher says of views: cosines (see `AliceHead`) and the reconstructed views."""

    cls: Tensor
    encoder_tokens: Tensor
    decoder_tokens: Tensor
    reconstruction: Tensor


class AliceNetwork(nn.Module):
    """A backbone and a head.

    Args:
        backbone: returns a `BackboneOutput`, such as `ConvBackbone` or `SwinBackbone`.
        head: an `AliceHead` of the backbone's widths.
    """

    def __init__(self, backbone: nn.Module, head: AliceHead):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, views: Tensor, mask: Tensor | None = None) -> AliceOutput:
        """Say what `views` (2B, C, *S) are, with 0 where `mask` (2B, 1, *S), bool, is True."""
        found = self.backbone(views if mask is None else mask_volume(views, mask))
        return AliceOutput(*self.head(found.global_token, found.encoder_map, found.decoder_map), found.reconstruction)


def make_teacher(student: AliceNetwork, *, share_last_layer: bool = True) -> AliceNetwork:
    """A copy of the student that no gradient changes, in evaluation mode.

    Args:
        share_last_layer: the teacher's local tokens take its global last layer, as in the released code.

    Raises:
        ValueError: last layers of different sizes cannot be shared.
    """
    teacher = copy.deepcopy(student)
    if share_last_layer:
        shapes = [tuple(layer.weight.shape) for layer in (teacher.head.last_layer, teacher.head.patch_last_layer)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"the teacher cannot share last layers of {shapes[0][0]} and {shapes[1][0]} outputs; give out_dim and "
                "patch_out_dim one size, or share_last_layer=False."
            )
        teacher.head.patch_last_layer = teacher.head.last_layer
    return teacher.requires_grad_(False).eval()
