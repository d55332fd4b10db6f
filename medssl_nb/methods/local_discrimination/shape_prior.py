"""Shapes from elsewhere: a discriminator that knows masks of another modality, and labels refined by their doubt."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl_nb.data.augment import apply_affine
from medssl_nb.methods.local_discrimination.checks import check_maps, checked_axes, checked_plane
from medssl_nb.precision import at_least_float32

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


class ShapeDiscriminator(nn.Module):
    """Does this map look like one of the reference masks? One logit for each map, above 0 for yes.

    For each width: convolution, leaky ReLU, max-pool 2; then two convolutions without padding, the mean over space, and
    two layers on it. No normalisation.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the map.
        channels: widths; n of them need sides of at least 5 * 2**n. The released code has 16, 32, 32, 32, 32.
        negative_slope: of the leaky ReLU. 1, as the released code has it (by accident), makes it the identity.

    Raises:
        ValueError: `spatial_dims` not 2 or 3, no width; in `forward`: maps of another kind or too small.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        *,
        channels: Sequence[int] = (16, 32, 32),
        negative_slope: float = 0.2,
    ):
        super().__init__()
        if spatial_dims not in _CONVOLUTION:
            raise ValueError(f"spatial_dims is 2 or 3, got {spatial_dims!r}.")
        if not channels or min(channels) < 1 or in_channels < 1:
            raise ValueError(f"channels names at least one width from 1, got {tuple(channels)} after {in_channels}.")
        self.spatial_dims, self.in_channels, self.halvings = spatial_dims, in_channels, len(channels)
        convolution, pool = _CONVOLUTION[spatial_dims], _POOL[spatial_dims]
        layers, before = [], in_channels
        for width in channels:
            layers += [convolution(before, width, 3, padding=1), nn.LeakyReLU(negative_slope), pool(2)]
            before = width
        for _ in range(2):
            layers += [convolution(before, before, 3), nn.LeakyReLU(negative_slope)]
        self.features = nn.Sequential(*layers)
        self.decision = nn.Sequential(nn.Linear(before, before), nn.LeakyReLU(negative_slope), nn.Linear(before, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (n, in_channels, *S), soft or 0/1, to logits (n,)."""
        if maps.ndim != self.spatial_dims + 2 or maps.shape[1] != self.in_channels:
            raise ValueError(
                f"maps must be (n, {self.in_channels}) and {self.spatial_dims} axes, got {tuple(maps.shape)}."
            )
        if min(maps.shape[2:]) // 2**self.halvings < 5:
            raise ValueError(
                f"{self.halvings} halvings must leave at least 5 voxels, so sides of at least {5 * 2**self.halvings}; "
                f"got {tuple(maps.shape[2:])}. Take fewer channels, or a larger crop."
            )
        return self.decision(self.features(maps).flatten(2).mean(dim=2))[:, 0]


def shape_generator_loss(fake_logits: Tensor) -> Tensor:
    """The clustering head's side: -mean log sigmoid(d(a_0)). ln 2 when the discriminator cannot tell.

    Raises:
        ValueError: no logit.
    """
    _check_logits("fake_logits", fake_logits)
    return F.softplus(-at_least_float32(fake_logits)).mean()


def shape_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The discriminator's side: -mean over all maps of log sigmoid(d(real)) and log(1 - sigmoid(d(fake))).

    One mean over real and fake together, not the mean of two means. Detach the fake maps before the discriminator.

    Raises:
        ValueError: no real or no fake logit.
    """
    _check_logits("real_logits", real_logits)
    _check_logits("fake_logits", fake_logits)
    real, fake = at_least_float32(real_logits).flatten(), at_least_float32(fake_logits).flatten()
    return torch.cat([F.softplus(-real), F.softplus(fake)]).mean()


def augment_shape_masks(
    masks: Tensor,
    *,
    flip_axes: Sequence[int] | None = None,
    rotation_axes: tuple[int, int] | None = (-2, -1),
    max_rotation: float = 180.0,
    max_crop: float = 0.1,
    threshold: float = 0.1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Many shapes from few masks: mirror, turn in one plane, crop each border and stretch back, all in one resampling.

    Args:
        masks: (n, 1, *S), 0 and 1 (any type).
        flip_axes: spatial axes, each mirrored with probability 0.5; None: all, (): none.
        rotation_axes: plane of the turn; None: none.
        max_rotation: angles are uniform in +- this, degrees; voxels are taken for cubes.
        max_crop: each of the borders loses a uniform share of the side, up to this, in [0, 0.5).
        threshold: after linear interpolation, what is above it is 1.
        generator: on the CPU.

    Returns:
        (n, 1, *S) float32, 0 or 1; outside the mask's frame 0. With nothing to do, the input.

    Raises:
        ValueError: more than one channel, `max_crop` outside [0, 0.5), axes out of range or named twice.
    """
    check_maps("masks", masks)
    if masks.shape[1] != 1:
        raise ValueError(f"masks must have one channel, (n, 1, *S); got {tuple(masks.shape)}.")
    if not 0 <= max_crop < 0.5:
        raise ValueError(f"max_crop is the share of a side cut from each border, in [0, 0.5); got {max_crop!r}.")
    if not 0 <= max_rotation < math.inf:
        raise ValueError(f"max_rotation counts degrees from 0, got {max_rotation!r}.")
    count, dims = len(masks), masks.ndim - 2
    axes = checked_axes(range(dims) if flip_axes is None else flip_axes, dims, "flip_axes")
    plane = None if rotation_axes is None else checked_plane(rotation_axes, dims, "rotation_axes")
    # As many draws whatever is switched on: one setting does not change the chance of another.
    draws = torch.rand(count, 1 + 3 * dims, generator=generator, dtype=torch.float64)
    to_turn, to_flip, cut = draws.split([1, dims, 2 * dims], dim=1)
    flips = [[axis + 1 for axis in axes if row[axis] < 0.5] for row in to_flip.tolist()]
    mirrored = torch.stack([mask.flip(flip) for mask, flip in zip(masks.float(), flips, strict=True)])
    angle = torch.deg2rad(max_rotation * (2 * to_turn[:, 0] - 1)) if plane else torch.zeros(count)
    if max_crop == 0 and not angle.any():
        return (mirrored > threshold).float()
    theta = _crop_and_turn(angle, plane, max_crop * cut, masks.shape[2:])
    return (apply_affine(mirrored, theta, mode="bilinear") > threshold).float()


def pseudo_labels(assignment: Tensor, similarity: Tensor) -> tuple[Tensor, Tensor]:
    """Soft label and doubt from the two readings of a cluster: y = (a + s) / 2, H2(y) in bits.

    The formulas are ours; of the paper's refinement stage only the picture is known.

    Args:
        assignment, similarity: one shape, in [0, 1]; see `segment_target`.

    Returns:
        label and uncertainty, of that shape, in [0, 1].

    Raises:
        ValueError: shapes that differ.
    """
    if assignment.shape != similarity.shape:
        raise ValueError(
            f"assignment and similarity must have one shape, got {tuple(assignment.shape)} and "
            f"{tuple(similarity.shape)}."
        )
    label = (at_least_float32(assignment) + at_least_float32(similarity)) / 2
    doubt = torch.special.entr(label) + torch.special.entr(1 - label)
    return label, doubt / math.log(2)


def uncertainty_weighted_bce(logits: Tensor, label: Tensor, uncertainty: Tensor, *, eps: float = 1e-6) -> Tensor:
    """Binary cross-entropy with soft labels, each voxel weighed with 1 - uncertainty: sum(w BCE) / (sum(w) + eps).

    Args:
        logits, label, uncertainty: one shape; see `pseudo_labels`.
        eps: keeps the quotient finite where nothing is certain.

    Raises:
        ValueError: shapes that differ.
    """
    for name, given in (("label", label), ("uncertainty", uncertainty)):
        if given.shape != logits.shape:
            raise ValueError(f"{name} must have the shape of logits {tuple(logits.shape)}, got {tuple(given.shape)}.")
    logits = at_least_float32(logits)
    weights = 1 - uncertainty.to(logits)
    errors = F.binary_cross_entropy_with_logits(logits, label.to(logits), reduction="none")
    return (weights * errors).sum() / (weights.sum() + eps)


def _crop_and_turn(angle: Tensor, plane: tuple[int, int] | None, cut: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (n, d, d + 1) for `apply_affine`: output places to input places, first into the crop, then turned."""
    dims = len(size)
    near, far = cut.split(dims, dim=1)  # shares cut off at the low and at the high end of each axis
    turn = torch.eye(dims, dtype=torch.float64).repeat(len(angle), 1, 1)
    if plane is not None:
        p, q = plane
        turn[:, p, p] = turn[:, q, q] = angle.cos().double()
        turn[:, p, q], turn[:, q, p] = -angle.sin().double(), angle.sin().double()
    half = torch.tensor(size, dtype=torch.float64) / 2
    turn = turn * half[None, None] / half[None, :, None]  # in coordinates that count each side from -1 to 1
    linear = turn * (1 - near - far)[:, None]
    shift = (turn @ (near - far)[:, :, None]).squeeze(-1)
    return torch.cat([linear.flip(1, 2), shift.flip(1)[:, :, None]], dim=2).float()  # last axis first


def _check_logits(name: str, logits: Tensor) -> None:
    if logits.numel() == 0:
        raise ValueError(f"{name} must hold at least one logit, got shape {tuple(logits.shape)}.")
