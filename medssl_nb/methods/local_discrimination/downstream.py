"""The network of the released downstream runs: the pre-trained way down and a new way up."""

from torch import Tensor, nn

from medssl_nb.networks.pixel_unet import PixelDecoder, PixelEncoder


class SegmentationNet(nn.Module):
    """The encoder and a new decoder of four stages, then one convolution to the logits.

    The released runs train the decoder with the encoder fixed, then everything. (`medssl_nb.networks.Segmenter` and
    `medssl_nb.evaluation` transfer any encoder under one protocol.)

    Args:
        encoder: its weights are shared, not copied.
        out_channels: of the logits.
    """

    def __init__(self, encoder: PixelEncoder, out_channels: int = 1):
        super().__init__()
        if out_channels < 1:
            raise ValueError(f"out_channels counts from 1, got {out_channels!r}.")
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[encoder.spatial_dims]
        self.encoder = encoder
        self.decoder = PixelDecoder(encoder.channels, encoder.spatial_dims, last_stage=True)
        self.head = convolution(encoder.channels[0], out_channels, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, *S) to logits (B, out_channels, *S)."""
        return self.head(self.decoder(self.encoder(images))[0])
