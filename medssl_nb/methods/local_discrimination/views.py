"""Views that can be undone exactly, blends of two images, and the batch they make.

Axes count the spatial ones: 0 is the first after the channels, -1 the last.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from medssl_nb.data.augment import jitter_intensity
from medssl_nb.methods.local_discrimination.checks import check_maps, checked_axes, checked_plane
from medssl_nb.precision import at_least_float32

__all__ = [
    "DiscriminationBatch",
    "ViewTransform",
    "apply_views",
    "jitter_intensity",
    "make_discrimination_batch",
    "mix_images",
    "sample_mix_weights",
    "sample_view_transform",
    "undo_views",
]


@dataclass(frozen=True)
class ViewTransform:
    """A mirror image and quarter turns: the moves of a grid that lose nothing.

    Attributes:
        flip_axes: spatial axes that are mirrored, first of all.
        rot90_k: quarter turns after that, 0 to 3.
        rot90_axes: they turn the first of these axes towards the second (`torch.rot90`).
    """

    flip_axes: tuple[int, ...] = ()
    rot90_k: int = 0
    rot90_axes: tuple[int, int] = (-2, -1)


class DiscriminationBatch(NamedTuple):
    """What one step looks at.

    Attributes:
        images: (5B, C, *S): a view 1 | b view 1 | a view 2 | b view 2 | mixed, B each.
        mix_weights: (B,), the share of a in the mixed image.
        transforms_a, transforms_b: what view 2 of each a, of each b, went through: B each.
    """

    images: Tensor
    mix_weights: Tensor
    transforms_a: list[ViewTransform]
    transforms_b: list[ViewTransform]


def sample_view_transform(
    spatial_dims: int = 3,
    *,
    flip_axes: Sequence[int] | None = None,
    rot90_axes: tuple[int, int] | None = None,
    joint_flip: bool = False,
    generator: torch.Generator | None = None,
) -> ViewTransform:
    """Draw one transform.

    Args:
        spatial_dims: number of spatial axes.
        flip_axes: candidates, each mirrored with probability 0.5; None: all axes, (): none. Leave left-right out where
            left and right organs are to stay different things.
        rot90_axes: plane of 0 to 3 quarter turns, all alike likely; None: no turns.
        joint_flip: all candidates together or none, as the released code does (in 2D that is a half turn).
        generator: on the CPU.

    Raises:
        ValueError: an axis out of range or named twice.
    """
    candidates = checked_axes(range(spatial_dims) if flip_axes is None else flip_axes, spatial_dims, "flip_axes")
    draws = torch.rand(spatial_dims + 1, generator=generator, dtype=torch.float64)  # as many for all settings
    flips = (draws[:1].expand(spatial_dims) if joint_flip else draws[:spatial_dims]) < 0.5
    chosen = tuple(axis for axis in candidates if flips[axis])
    if rot90_axes is None:
        return ViewTransform(chosen)
    plane = checked_plane(rot90_axes, spatial_dims)
    return ViewTransform(chosen, int(4 * draws[-1]), plane)


def apply_views(images: Tensor, transforms: Sequence[ViewTransform]) -> Tensor:
    """Each image through its transform: flips, then quarter turns.

    Args:
        images: (B, C, *S).
        transforms: B of them.

    Raises:
        ValueError: another number of transforms, an odd number of quarter turns in a plane of unequal sides, an axis
            out of range, equal `rot90_axes`.
    """
    return _moved(images, transforms, undo=False)


def undo_views(features: Tensor, transforms: Sequence[ViewTransform]) -> Tensor:
    """The inverse of `apply_views`, exact to the last bit: quarter turns back first, then the flips.

    Args:
        features: (B, C, *S), the moved images or any grid computed from them (feature maps, patches).
        transforms: those given to `apply_views`.

    Raises:
        ValueError: as `apply_views`.
    """
    return _moved(features, transforms, undo=True)


def sample_mix_weights(
    batch_size: int, *, low: float = 0.2, high: float = 0.8, generator: torch.Generator | None = None
) -> Tensor:
    """One lambda for each pair, uniform between `low` and `high`: (batch_size,) float32.

    Raises:
        ValueError: not 0 <= low <= high <= 1, a batch below 1.
    """
    if not 0 <= low <= high <= 1:
        raise ValueError(f"mix weights need 0 <= low <= high <= 1, got low {low!r} and high {high!r}.")
    if batch_size < 1:
        raise ValueError(f"batch_size counts from 1, got {batch_size!r}.")
    return low + (high - low) * torch.rand(batch_size, generator=generator)


def mix_images(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """lambda a + (1 - lambda) b for each pair.

    Args:
        a, b: (B, C, *S).
        weights: lambda, (B,).

    Raises:
        ValueError: shapes that differ, weights not (B,).
    """
    if a.shape != b.shape or a.ndim < 3:
        raise ValueError(f"a and b must be (B, C, *S) of one shape, got {tuple(a.shape)} and {tuple(b.shape)}.")
    if tuple(weights.shape) != (len(a),):
        raise ValueError(f"weights must be ({len(a)},), one for each pair; got {tuple(weights.shape)}.")
    a, b = at_least_float32(a), at_least_float32(b)
    shares = weights.to(a).view(-1, *[1] * (a.ndim - 1))
    return shares * a + (1 - shares) * b


def make_discrimination_batch(
    images_a: Tensor,
    images_b: Tensor,
    *,
    flip_axes: Sequence[int] | None = None,
    rot90_axes: tuple[int, int] | None = None,
    joint_flip: bool = False,
    brightness: float = 0.4,
    contrast: float = 0.4,
    noise_std: float = 0.0,
    mix_range: tuple[float, float] = (0.2, 0.8),
    generator: torch.Generator | None = None,
) -> DiscriminationBatch:
    """Two views of each image and a blend of each pair, 5B images for one forward pass.

    v1 = J1(x), v2 = T(J2(x)), mixed = lambda v1(a) + (1 - lambda) v1(b); J jitters grey values (each view by itself), T
    is a `ViewTransform`. Geometry that both views share is done before.

    Args:
        images_a, images_b: (B, C, *S); image i of a and of b are a pair.
        flip_axes, rot90_axes, joint_flip: see `sample_view_transform`.
        brightness, contrast, noise_std: see `jitter_intensity`.
        mix_range: lowest and highest lambda.
        generator: on the CPU.

    Raises:
        ValueError: shapes that differ, and as the functions named.
    """
    if images_a.shape != images_b.shape:
        raise ValueError(
            f"images_a and images_b must have one shape, got {tuple(images_a.shape)} and {tuple(images_b.shape)}."
        )
    check_maps("images_a", images_a)
    geometry = {"flip_axes": flip_axes, "rot90_axes": rot90_axes, "joint_flip": joint_flip, "generator": generator}
    grey = {"brightness": brightness, "contrast": contrast, "noise_std": noise_std, "generator": generator}
    count, dims = len(images_a), images_a.ndim - 2
    transforms = [[sample_view_transform(dims, **geometry) for _ in range(count)] for _ in range(2)]
    first = [jitter_intensity(images, **grey) for images in (images_a, images_b)]
    second = [
        apply_views(jitter_intensity(images, **grey), moves)
        for images, moves in zip((images_a, images_b), transforms, strict=True)
    ]
    weights = sample_mix_weights(count, low=mix_range[0], high=mix_range[1], generator=generator)
    weights = weights.to(images_a.device)
    mixed = mix_images(*first, weights)
    return DiscriminationBatch(torch.cat([*first, *second, mixed]), weights, *transforms)


def _moved(images: Tensor, transforms: Sequence[ViewTransform], undo: bool) -> Tensor:
    check_maps("features" if undo else "images", images)
    if len(transforms) != len(images):
        raise ValueError(f"transforms must be one for each of {len(images)} images, got {len(transforms)}.")
    return torch.stack([_one_moved(x, t, undo) for x, t in zip(images, transforms, strict=True)])


def _one_moved(image: Tensor, transform: ViewTransform, undo: bool) -> Tensor:
    """Image (C, *S) through the transform, or back."""
    dims = image.ndim - 1
    flips = [axis + 1 for axis in checked_axes(transform.flip_axes, dims, "flip_axes")]  # axis 0 are the channels
    p, q = (axis + 1 for axis in checked_plane(transform.rot90_axes, dims))
    k = transform.rot90_k % 4
    if k % 2 and image.shape[p] != image.shape[q]:
        raise ValueError(
            f"{transform.rot90_k} quarter turns need equal sides in the plane {transform.rot90_axes}, got "
            f"{image.shape[p]} and {image.shape[q]}; turn in another plane, or by 0 or 2."
        )
    if undo:
        return image.rot90(-k, (p, q)).flip(flips)
    return image.flip(flips).rot90(k, (p, q))
