"""All terms together, as the released code weighs them."""

from dataclasses import dataclass

from torch import Tensor

from medssl_nb.methods.local_discrimination.patches import patch_losses
from medssl_nb.methods.local_discrimination.regions import assignment_entropy, region_discrimination_loss
from medssl_nb.methods.local_discrimination.shape_prior import shape_generator_loss
from medssl_nb.methods.local_discrimination.views import DiscriminationBatch


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; the defaults are those of the released code."""

    patch: float = 1.0
    mixup: float = 1.0
    region: float = 10.0
    entropy: float = 0.1
    shape: float = 1.0


_RELEASED = LossWeights()


def local_discrimination_loss(
    patches: Tensor,
    batch: DiscriminationBatch,
    *,
    regions: Tensor | None = None,
    assignments: Tensor | None = None,
    fake_logits: Tensor | None = None,
    weights: LossWeights = _RELEASED,
    patch_temperature: float = 0.1,
    region_temperature: float = 0.2,
) -> dict[str, Tensor]:
    """L = L_patch + L_mixup + 10 L_region + 0.1 L_entropy (+ L_shape), each term only if its input is there.

    Args:
        patches: (5B, D, *grid), see `patch_losses`.
        batch: what was looked at.
        regions: (at least 4B, K, D); those of the 4B unmixed images count.
        assignments: (at least 4B, K, *S), likewise.
        fake_logits: what the discriminator says of cluster 0 of the unmixed images.
        weights: of the terms.
        patch_temperature, region_temperature: above 0.

    Returns:
        "patch", "mixup" and, where given, "region", "entropy", "shape": unweighted; "total": weighted.

    Raises:
        ValueError: fewer than 4B regions or assignments, and as the losses.
    """
    unmixed = 4 * len(batch.mix_weights)
    for name, given in (("regions", regions), ("assignments", assignments)):
        if given is not None and len(given) < unmixed:
            raise ValueError(f"{name} must hold the 4B = {unmixed} unmixed images, got {len(given)}.")
    patch, mixup = patch_losses(patches, batch, temperature=patch_temperature)
    terms = {"patch": patch, "mixup": mixup}
    if regions is not None:
        terms["region"] = region_discrimination_loss(regions[:unmixed], temperature=region_temperature)
    if assignments is not None:
        terms["entropy"] = assignment_entropy(assignments[:unmixed])
    if fake_logits is not None:
        terms["shape"] = shape_generator_loss(fake_logits)
    return {**terms, "total": sum(getattr(weights, name) * term for name, term in terms.items())}
