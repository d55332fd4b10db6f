"""Encoders from a description that fits into a recipe, a checkpoint and a model card."""

from collections.abc import Mapping

from torch import nn

from medssl_nb import networks

ENCODERS = (
    "FeatureUNet",
    "MaskedPatchTransformer",
    "ConvBackbone",
    "SwinBackbone",
    "PixelUNet",
    "AnatomicalEmbeddingNet",
)


def build_encoder(description: Mapping) -> nn.Module:
    """The encoder that `description` names, with weights drawn from PyTorch's default generator.

    Args:
        description: {"network": one of `ENCODERS`, **arguments of its constructor}, plain values only.

    Returns:
        The module; `module.description` is the description, so that whoever saves it can say how to build it again.

    Raises:
        ValueError: an unknown network, or arguments that it does not take.
    """
    options = dict(description)
    name = options.pop("network", None)
    if name not in ENCODERS:
        raise ValueError(f"an encoder's description names its network, one of {', '.join(ENCODERS)}; got {name!r}.")
    try:
        encoder = getattr(networks, name)(**{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()})
    except TypeError as error:
        raise ValueError(f"{name} does not take these arguments: {error}. Given were {options}.") from None
    encoder.description = {"network": name, **options}
    return encoder


def size_multiple(encoder: nn.Module) -> tuple[int, ...]:
    """What every side of a volume must be a multiple of, per axis: the coarsest stride."""
    return tuple(max(strides) for strides in zip(*encoder.feature_strides, strict=True))
