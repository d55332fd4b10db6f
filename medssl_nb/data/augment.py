"""Random views of a batch: an affine map that images, features and labels can share, gamma, intensity jitter.

Arrays are (B, C, *S) with one to three spatial axes S; volumes of this project are (X, Y, Z). Chance comes from a
`torch.Generator` on the CPU, so every device sees the same views. (`medssl_nb.data.geometry.random_affine` is another
thing: it moves one body in mm.)
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl_nb.precision import at_least_float32


def random_affine(
    batch_size: int,
    spatial_shape: Sequence[int],
    *,
    scale: tuple[float, float] = (0.8, 1.3),
    rotation_degrees: float | Sequence[float] = 45.0,
    translation: float = 0.1,
    flip_probability: float = 0.5,
    flip_axes: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """One random map for each sample: mirror, scale, rotation, shift, about the middle of the grid.

    The map takes output places to input places (`torch.nn.functional.affine_grid`, `align_corners=False`): in
    coordinates of the voxels, in = rotation @ mirror / scale @ out + shift. It is then written in coordinates that
    count every side from -1 to 1, last axis first; rotating in voxels (or mm) first keeps boxes unsheared.

    Args:
        batch_size: number of maps, B.
        spatial_shape: voxels along each of the d = 1, 2 or 3 spatial axes.
        scale: lowest and highest magnification; 2 shows everything twice as large.
        rotation_degrees: angles are uniform in ±; in 3D one number for all or three, for the rotations about the
            first, second and third spatial axis. In 1D nothing turns.
        translation: shifts are uniform in ± this share of the side, each axis by itself.
        flip_probability: chance of a mirror image, each axis of `flip_axes` by itself.
        flip_axes: spatial axes that may be mirrored (0 is the first, -1 the last); None: all. Leave the left-right
            axis out where left and right organs have names of their own.
        spacing: voxel size along each spatial axis, for grids whose voxels are not cubes. Default: cubes.
        generator: a generator on the CPU; the same state gives the same maps on every device.

    Returns:
        theta (B, d, d + 1). The determinant of its linear part is ± scale ** -d.

    Raises:
        ValueError: an argument outside its range or of a wrong length.
    """
    half_sides = _half_sides(batch_size, spatial_shape, spacing)
    d = len(half_sides)
    low, high = _range(scale, "scale")
    angles = _angles(rotation_degrees, d)
    _check_share(translation, flip_probability)
    if not dtype.is_floating_point:
        raise ValueError(f"random_affine: dtype must be a floating-point type, got {dtype}.")
    # Always the same number of draws, in float64: views change neither with the ranges of others nor with dtype.
    draws = torch.rand(batch_size, 1 + len(angles) + 2 * d, generator=_on_cpu(generator), dtype=torch.float64)
    to_size, to_angle, to_shift, to_flip = draws.split([1, len(angles), d, d], dim=1)
    magnification = low + (high - low) * to_size
    mirror = torch.ones(batch_size, d, dtype=torch.float64)
    axes = _axes(flip_axes, d)
    mirror[:, axes] = torch.where(to_flip[:, axes] < flip_probability, -1.0, 1.0).double()
    rotation = _rotations(torch.deg2rad(angles * (2 * to_angle - 1)), d)
    linear = rotation * mirror[:, None] / magnification[:, :, None]
    linear = linear * half_sides[None, None] / half_sides[None, :, None]
    shift = 2 * translation * (2 * to_shift - 1)  # a side is 2 long in normalised coordinates
    theta = torch.cat([linear.flip(1, 2), shift.flip(1)[:, :, None]], dim=2)
    return theta.to(device=device, dtype=dtype)


def apply_affine(
    x: Tensor,
    theta: Tensor,
    *,
    mode: Literal["nearest", "bilinear"] = "nearest",
    padding_mode: Literal["zeros", "border"] = "zeros",
) -> Tensor:
    """Sample each array of a batch at the places its map names; gradients flow to `x`.

    Args:
        x: (B, C, *S), one to three spatial axes. Whole numbers and bool (labels, masks) need mode="nearest" and come
            back in their own type; half precision comes back as float32.
        theta: (B, d, d + 1) as `random_affine` returns it; the same map for an image, its features and its labels.
        mode: "bilinear" means trilinear in 3D.
        padding_mode: what comes in from outside the frame: zeros, or the nearest voxel. Transform an array of ones
            to learn which voxels those are.

    Returns:
        The same shape as `x`, as a plain tensor (the affine of a MetaTensor would no longer be true).

    Raises:
        ValueError: shapes that do not fit, an unknown mode, labels to be blended.
    """
    _check_sampling(x, theta, mode, padding_mode)
    plain = x.as_subclass(Tensor)
    # Labels are sampled as floats are, or "nearest" would choose other voxels at ties; only huge numbers need float64.
    exact = x.dtype == torch.float64 or (x.dtype in (torch.int32, torch.int64) and bool((x.abs() > 2**24).any()))
    values, theta = (t.to(x.device, torch.float64 if exact else torch.float32) for t in (plain, theta))
    if x.ndim == 3:  # torch samples from two axes on: a line is a picture one voxel wide
        values, theta = values[:, :, None], _as_two_dimensional(theta)
    with torch.autocast(x.device.type, enabled=False):  # places in half precision would be off by whole voxels
        grid = F.affine_grid(theta, list(values.shape), align_corners=False)
        seen = F.grid_sample(values, grid, mode=mode, padding_mode=padding_mode, align_corners=False).reshape(x.shape)
    return seen if x.is_floating_point() else seen.to(x.dtype)


def random_gamma(
    image: Tensor, *, gamma: tuple[float, float] = (0.5, 2.0), generator: torch.Generator | None = None
) -> Tensor:
    """Raise grey values in [0, 1] to a power drawn for each sample: below 1 lightens, above 1 darkens.

    Args:
        image: (B, C, *S), floating point, in [0, 1].
        gamma: lowest and highest exponent, above 0; uniform between them.
        generator: a generator on the CPU.

    Returns:
        The same shape, in [0, 1]; half precision comes back as float32.

    Raises:
        ValueError: values outside [0, 1] (a power of a negative number is NaN), exponents out of order.
    """
    low, high = _range(gamma, "gamma")
    _check_images(image, "image")
    if not (image.min() >= 0 and image.max() <= 1):
        raise ValueError(
            f"random_gamma: image must lie in [0, 1], found {float(image.min()):g} to {float(image.max()):g}. "
            "Scale it first, for example (x - x.min()) / (x.max() - x.min())."
        )
    exponent = _uniform(image, low, high, generator)
    return at_least_float32(image) ** exponent


def jitter_intensity(
    images: Tensor,
    *,
    brightness: float = 0.4,
    contrast: float = 0.4,
    noise_std: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Change grey values as another scanner might, each sample by itself.

    First all values are multiplied by a factor in 1 ± `brightness`, then the distance to the sample's mean by a factor
    in 1 ± `contrast`, then Gaussian noise is added. Nothing is clipped.

    Args:
        images: (B, C, *S), floating point.
        brightness, contrast: strengths, from 0.
        noise_std: standard deviation of the noise, from 0, in the unit of the images.
        generator: a generator on the CPU.

    Returns:
        The same shape; half precision comes back as float32.

    Raises:
        ValueError: a negative strength, whole numbers instead of grey values.
    """
    _check_images(images, "images")
    for name, strength in (("brightness", brightness), ("contrast", contrast), ("noise_std", noise_std)):
        if not (0 <= strength < math.inf):
            raise ValueError(f"jitter_intensity: {name} is a strength from 0, got {strength}.")
    bright = at_least_float32(images) * _uniform(images, 1 - brightness, 1 + brightness, generator)
    mean = bright.mean(dim=tuple(range(1, images.ndim)), keepdim=True)
    jittered = bright + (bright - mean) * _uniform(images, -contrast, contrast, generator)  # strength 0: exactly as is
    if noise_std == 0:
        return jittered
    noise = torch.randn(images.shape, generator=_on_cpu(generator), dtype=jittered.dtype)
    return jittered + noise_std * noise.to(images.device)


def value_range(volumes: Tensor, given: Sequence[float] | None = None) -> tuple[Tensor, Tensor]:
    """Lowest grey value and width of the range, for counting grey values from 0 to 1 while they are changed.

    Args:
        volumes: (B, C, *S).
        given: a lower and a higher value for all; None: each sample's own (MRI has no unit), width 1 if it is constant.

    Returns:
        low and width, (B, 1, ...), or (1, ...) if `given`.

    Raises:
        ValueError: not two finite values, the lower first.
    """
    if given is not None:
        if len(given) != 2 or not -math.inf < given[0] < given[1] < math.inf:
            raise ValueError(f"intensity_range is a lower and a higher grey value, or None; got {given!r}.")
        low, high = (volumes.new_full((1,) * volumes.ndim, float(end)) for end in given)
        return low, high - low
    low, high = (end.view(-1, *[1] * (volumes.ndim - 1)) for end in volumes.flatten(1).aminmax(dim=1))
    return low, torch.where(high > low, high - low, 1.0)


def _rotations(angles: Tensor, d: int) -> Tensor:
    """Rotation matrices (B, d, d) from angles (B, number of planes) in radians: about the first axis, then the next."""
    rotation = torch.eye(d, dtype=angles.dtype).expand(len(angles), d, d)
    planes = {1: (), 2: ((0, 1),), 3: ((1, 2), (2, 0), (0, 1))}[d]
    for angle, (p, q) in zip(angles.T, planes, strict=True):
        turn = torch.eye(d, dtype=angles.dtype).repeat(len(angles), 1, 1)
        turn[:, p, p] = turn[:, q, q] = angle.cos()
        turn[:, p, q], turn[:, q, p] = -angle.sin(), angle.sin()
        rotation = turn @ rotation
    return rotation


def _as_two_dimensional(theta: Tensor) -> Tensor:
    """Maps (B, 1, 2) of a line as maps (B, 2, 3) of a picture with one row."""
    flat = torch.zeros(len(theta), 2, 3, dtype=theta.dtype, device=theta.device)
    flat[:, 0, 0], flat[:, 0, 2], flat[:, 1, 1] = theta[:, 0, 0], theta[:, 0, 1], 1
    return flat


def _half_sides(batch_size: int, spatial_shape: Sequence[int], spacing: Sequence[float] | None) -> Tensor:
    """Half the length of each side (d,) float64, in units of `spacing`."""
    shape = tuple(int(n) for n in spatial_shape)
    if batch_size < 1:
        raise ValueError(f"random_affine: batch_size is at least 1, got {batch_size}.")
    if not (1 <= len(shape) <= 3 and min(shape) >= 1):
        raise ValueError(f"random_affine: spatial_shape needs one to three sides of at least 1, got {shape}.")
    steps = (1.0,) * len(shape) if spacing is None else tuple(float(s) for s in spacing)
    if len(steps) != len(shape) or not all(0 < s < math.inf for s in steps):
        raise ValueError(f"random_affine: spacing needs {len(shape)} numbers above 0 for {shape}, got {steps}.")
    return torch.tensor(shape, dtype=torch.float64) * torch.tensor(steps, dtype=torch.float64) / 2


def _angles(rotation_degrees: float | Sequence[float], d: int) -> Tensor:
    """Largest angle of each rotation in degrees, float64: none in 1D, one in 2D, three in 3D."""
    turns = {1: 0, 2: 1, 3: 3}[d]
    given = torch.as_tensor(rotation_degrees, dtype=torch.float64)
    if not (given.ndim == 0 or (d == 3 and given.shape == (3,))):
        wanted = "one number, or three in 3D (one for each axis to turn about)"
        raise ValueError(f"random_affine: rotation_degrees is {wanted}; got {rotation_degrees} in {d}D.")
    if not bool(((given >= 0) & given.isfinite()).all()):
        raise ValueError(f"random_affine: rotation_degrees counts from 0, both ways; got {rotation_degrees}.")
    return given.expand(turns)


def _axes(flip_axes: Sequence[int] | None, d: int) -> list[int]:
    axes = list(range(d)) if flip_axes is None else [int(a) for a in flip_axes]
    counted = [a % d for a in axes]
    if any(not -d <= a < d for a in axes) or len(set(counted)) < len(counted):
        raise ValueError(f"random_affine: flip_axes names different spatial axes from {-d} to {d - 1}, got {axes}.")
    return counted


def _check_share(translation: float, flip_probability: float) -> None:
    if not (0 <= translation < math.inf):
        raise ValueError(f"random_affine: translation is a share of the side from 0, got {translation}.")
    if not (0 <= flip_probability <= 1):
        raise ValueError(f"random_affine: flip_probability lies in [0, 1], got {flip_probability}.")


def _range(ends: tuple[float, float], name: str) -> tuple[float, float]:
    if len(ends) != 2 or not (0 < ends[0] <= ends[1] < math.inf):
        raise ValueError(f"{name} needs two numbers, 0 < lowest <= highest, got {tuple(ends)}.")
    return float(ends[0]), float(ends[1])


def _check_sampling(x: Tensor, theta: Tensor, mode: str, padding_mode: str) -> None:
    if mode not in ("nearest", "bilinear"):
        raise ValueError(f'apply_affine: mode is "nearest" or "bilinear", got {mode!r}.')
    if padding_mode not in ("zeros", "border"):
        raise ValueError(f'apply_affine: padding_mode is "zeros" or "border", got {padding_mode!r}.')
    if not 3 <= x.ndim <= 5 or 0 in x.shape:
        raise ValueError(f"apply_affine: x is (B, C, *S) with 1 to 3 spatial axes, none empty, got {tuple(x.shape)}.")
    wanted = (x.shape[0], x.ndim - 2, x.ndim - 1)
    if tuple(theta.shape) != wanted or not theta.is_floating_point():
        raise ValueError(
            f"apply_affine: theta must be a floating-point {wanted} for x of shape {tuple(x.shape)}, "
            f"got {theta.dtype} {tuple(theta.shape)}; make it by random_affine({x.shape[0]}, {tuple(x.shape[2:])})."
        )
    if mode == "bilinear" and not x.is_floating_point():
        raise ValueError(
            f"apply_affine: {x.dtype} holds labels or a mask, and between two labels lies no third; "
            'use mode="nearest", or convert an image to float first.'
        )


def _check_images(images: Tensor, name: str) -> None:
    if not images.is_floating_point() or images.ndim < 3 or 0 in images.shape:
        raise ValueError(
            f"{name} must be a floating-point (B, C, *S), no axis empty, got {images.dtype} {tuple(images.shape)}."
        )


def _uniform(images: Tensor, low: float, high: float, generator: torch.Generator | None) -> Tensor:
    """One number in [low, high) for each sample, (B, 1, ...), like `images` but at least float32."""
    draws = torch.rand(len(images), generator=_on_cpu(generator), dtype=torch.float64)
    shaped = (low + (high - low) * draws).view(-1, *[1] * (images.ndim - 1))
    return shaped.to(images.device, torch.float64 if images.dtype == torch.float64 else torch.float32)


def _on_cpu(generator: torch.Generator | None) -> torch.Generator | None:
    if generator is not None and generator.device.type != "cpu":
        raise ValueError(
            f"generator lives on {generator.device}; give one on the CPU, torch.Generator(), so that every device "
            "draws the same."
        )
    return generator
