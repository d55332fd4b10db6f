"""A vision transformer that guesses hidden patches, thin over MONAI's `ViT`."""

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from medssl_nb.networks.patches import patch_grid, per_axis


class MaskedPatchTransformer(nn.Module):
    """ViT encoder, learnable mask token and a head that predicts the voxels of every patch.

    Two styles of hiding a patch (`masked_tokens`):

    - "encode" (as in SimMIM): the encoder sees all N tokens; hidden ones are replaced by `mask_token` before the
      position embeddings are added, so the full grid of tokens is there whatever the ratio.
    - "drop" (as in masked autoencoders): the encoder sees the visible tokens only, which is faster; a decoder of
      `decoder_layers` blocks gets the encoded tokens and mask tokens, with their positions, in the original order.

    A hidden patch leaves no trace in the output, in either style. `encoder` is a MONAI `ViT`, so
    `UNETR(...).vit.load_state_dict(model.encoder.state_dict())` works for patch 16, 12 layers and equal widths.

    As an encoder (see `medssl_nb.networks`) it has one map, the tokens of `encode` on their grid. The position
    embeddings belong to one size: every volume must have exactly `volume_size`.

    Args:
        volume_size: sides of the volumes in voxels, 2 or 3 numbers.
        patch_size: side of a patch in voxels, one number or one per axis; divides `volume_size`.
        in_channels: C.
        hidden_size: D, width of a token; divisible by `heads`.
        layers, heads: blocks of the encoder, attention heads of every block.
        mlp_size: hidden width of a block's perceptron; None is 4 * hidden_size.
        decoder_layers: blocks after the encoder, followed by a LayerNorm; "drop" needs at least one.
        masked_tokens: "encode" or "drop".
        position: "learnable" or "sincos" (fixed; D divisible by 6 in 3D and by 4 in 2D).
        difficulty_head: also predict one score per patch.
        dropout: probability, in every block and on the embedded tokens.

    Raises:
        ValueError: arguments that do not fit together; in use: volumes or masks of another shape or type.
    """

    def __init__(
        self,
        volume_size: Sequence[int],
        patch_size: int | Sequence[int],
        in_channels: int = 1,
        hidden_size: int = 192,
        layers: int = 6,
        heads: int = 6,
        mlp_size: int | None = None,
        decoder_layers: int = 0,
        masked_tokens: Literal["encode", "drop"] = "encode",
        position: Literal["learnable", "sincos"] = "learnable",
        difficulty_head: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.volume_size = tuple(volume_size)
        self.spatial_dims = len(self.volume_size)
        if self.spatial_dims not in (2, 3):
            raise ValueError(f"volume_size needs 2 or 3 numbers, one per axis, got {self.volume_size}.")
        self.patch_size = per_axis(patch_size, self.spatial_dims)
        self.grid_size = patch_grid(self.volume_size, self.patch_size)
        _check_options(self.spatial_dims, hidden_size, heads, decoder_layers, masked_tokens, position)
        self.in_channels, self.masked_tokens = in_channels, masked_tokens
        self.feature_channels, self.feature_strides = (hidden_size,), (self.patch_size,)

        mlp_size = 4 * hidden_size if mlp_size is None else mlp_size
        self.encoder = _vit(
            in_channels, self.volume_size, self.patch_size, hidden_size, mlp_size, layers, heads, position, dropout
        )
        self.mask_token = nn.Parameter(torch.empty(1, 1, hidden_size).normal_(std=0.02))
        self.decoder = _decoder(decoder_layers, hidden_size, mlp_size, heads, dropout)
        self.head = nn.Linear(hidden_size, in_channels * math.prod(self.patch_size))
        self.difficulty_head = nn.Linear(hidden_size, 1) if difficulty_head else None

    def forward(self, volume: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Guess every patch from the visible ones.

        Args:
            volume: (B, C, *volume_size).
            mask: bool (B, N) on the volume's device, True = hidden; "drop" needs the same number in every row.

        Returns:
            "prediction" (B, N, V) in the order of `patchify`; "tokens" (B, N, D), what the head reads; with
            `difficulty_head` also "scores" (B, N).
        """
        self._check_volume(volume)
        self._check_mask(mask, len(volume))
        fill = self._replace_hidden if self.masked_tokens == "encode" else self._drop_hidden
        tokens = self.decoder(fill(volume, mask))
        output = {"prediction": self.head(tokens), "tokens": tokens}
        if self.difficulty_head is not None:
            output["scores"] = self.difficulty_head(tokens).squeeze(-1)  # (B, N, 1) -> (B, N)
        return output

    def encode(self, volume: Tensor) -> Tensor:
        """Tokens (B, N, D) of the whole volume (B, C, *volume_size), nothing hidden, without the decoder."""
        self._check_volume(volume)
        return self.encoder(volume)[0]

    def feature_maps(self, volume: Tensor) -> list[Tensor]:
        """One map (B, D, *grid_size): the tokens of `encode` on their grid."""
        return [self.encode(volume).transpose(1, 2).unflatten(2, self.grid_size)]

    def _replace_hidden(self, volume: Tensor, mask: Tensor) -> Tensor:
        embedding = self.encoder.patch_embedding
        tokens = torch.where(mask[..., None], self.mask_token, self._embed(volume))
        return self._encode(embedding.dropout(tokens + embedding.position_embeddings))

    def _drop_hidden(self, volume: Tensor, mask: Tensor) -> Tensor:
        embedding = self.encoder.patch_embedding
        tokens = self._embed(volume) + embedding.position_embeddings
        visible = tokens[~mask].unflatten(0, (len(mask), -1))  # (B, visible, D), order kept
        encoded = self._encode(embedding.dropout(visible))
        everywhere = self.mask_token.expand(tokens.shape)
        return everywhere.masked_scatter(~mask[..., None], encoded) + embedding.position_embeddings

    def _embed(self, volume: Tensor) -> Tensor:
        return self.encoder.patch_embedding.patch_embeddings(volume).flatten(2).transpose(1, 2)  # (B, N, D)

    def _encode(self, tokens: Tensor) -> Tensor:
        for block in self.encoder.blocks:
            tokens = block(tokens)
        return self.encoder.norm(tokens)

    def _check_volume(self, volume: Tensor) -> None:
        expected = (self.in_channels, *self.volume_size)
        if volume.ndim != len(expected) + 1 or tuple(volume.shape[1:]) != expected:
            raise ValueError(
                f"this transformer was built for volumes (B, {', '.join(map(str, expected))}), got "
                f"{tuple(volume.shape)}: its position embeddings belong to one volume_size. Crop or pad the volume, "
                "or build the transformer for its size."
            )

    def _check_mask(self, mask: Tensor, batch_size: int) -> None:
        expected = (batch_size, math.prod(self.grid_size))
        if mask.dtype != torch.bool or tuple(mask.shape) != expected:
            raise ValueError(f"mask must be bool {expected}, True = hidden, got {mask.dtype} {tuple(mask.shape)}.")
        if self.masked_tokens == "drop":
            hidden = mask.sum(dim=1)
            if (hidden != hidden[0]).any() or hidden[0] == expected[1]:
                raise ValueError(
                    'masked_tokens="drop" needs the same number of hidden patches in every volume and at least one '
                    f'visible, got {hidden.tolist()} of {expected[1]}; masked_tokens="encode" takes any mask.'
                )


def _check_options(axes: int, hidden_size: int, heads: int, decoder_layers: int, style: str, position: str) -> None:
    if style not in ("encode", "drop"):
        raise ValueError(f'masked_tokens is "encode" or "drop", got {style!r}.')
    if style == "drop" and decoder_layers < 1:
        raise ValueError(
            'masked_tokens="drop" needs decoder_layers >= 1, because the encoder never sees the hidden patches; '
            f"got {decoder_layers}."
        )
    if position not in ("learnable", "sincos"):
        raise ValueError(f'position is "learnable" or "sincos", got {position!r}.')
    if hidden_size % heads:
        raise ValueError(f"hidden_size must be divisible by heads, got {hidden_size} and {heads}.")
    if position == "sincos" and hidden_size % (2 * axes):  # a sine and a cosine for each axis
        raise ValueError(
            f'position="sincos" needs a hidden_size divisible by {2 * axes} in {axes}D, got {hidden_size}.'
        )


def _vit(
    in_channels: int,
    volume_size: tuple[int, ...],
    patch_size: tuple[int, ...],
    hidden_size: int,
    mlp_size: int,
    layers: int,
    heads: int,
    position: str,
    dropout: float,
) -> nn.Module:
    from monai.networks.nets import ViT

    with warnings.catch_warnings():  # MONAI's sine table calls torch.meshgrid the old way
        warnings.filterwarnings("ignore", message="torch.meshgrid", category=UserWarning)
        vit = ViT(
            in_channels,
            volume_size,
            patch_size,
            hidden_size=hidden_size,
            mlp_dim=mlp_size,
            num_layers=layers,
            num_heads=heads,
            pos_embed_type=position,
            dropout_rate=dropout,
            spatial_dims=len(volume_size),
        )
    if not dropout:
        _fuse_attention(vit.blocks)
    _freeze_unused(vit)
    return vit


def _decoder(layers: int, hidden_size: int, mlp_size: int, heads: int, dropout: float) -> nn.Module:
    from monai.networks.blocks import TransformerBlock

    if layers == 0:
        return nn.Identity()
    blocks = [TransformerBlock(hidden_size, mlp_size, heads, dropout) for _ in range(layers)]
    if not dropout:
        _fuse_attention(blocks)
    decoder = nn.Sequential(*blocks, nn.LayerNorm(hidden_size))
    _freeze_unused(decoder)
    return decoder


def _fuse_attention(blocks: Iterable[nn.Module]) -> None:
    """PyTorch's fused attention: the same numbers in about half the time, without an N x N table in memory.

    MONAI's block has it as an option that its `ViT` does not pass on. Not for dropout, which it would not stop in
    `eval()`.
    """
    for block in blocks:
        block.attn.use_flash_attention = True


def _freeze_unused(module: nn.Module) -> None:
    """MONAI's blocks carry a norm for cross-attention that plain blocks never call; several processes that wait for
    its gradient would stop with an error. It stays in the state dict, so weights still travel."""
    for name, parameter in module.named_parameters():
        if "norm_cross_attn" in name:
            parameter.requires_grad_(False)
