"""What both kinds of generated patient share: the voxel grid, streams of chance, lesions, and the finished case."""

import itertools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from medssl_nb.data.deformation import PatientMap, SplineField, bounded_normal, random_field

# One stream of random numbers for each purpose: leaving lesions out or changing the grid changes nothing else.
_STREAMS = ("map", "contrast", "contents", "lesions", "noise")
_LARGEST_VARIATION = 1.5
_SLAB_VOXELS = 50_000  # a slab's coordinates stay in the processor's cache
_EDGE_MM = 3.0  # width over which a lesion fades into its surroundings
_TRIES = 30


@dataclass(frozen=True, eq=False)
class GeneratedCase:
    """One generated patient.

    Attributes:
        image: (X, Y, Z); phantom: int16 in HU, brain: float32, air near 0 and white matter below about 1.5.
        label: (X, Y, Z) uint8, what the template holds at the place where each voxel's centre comes from.
        lesion: (X, Y, Z) bool, voxels that are at least half lesion. Labels under a lesion stay as they are.
        affine: (4, 4) voxel to RAS+ mm; the middle of the grid is 0 mm.
        patient_map: the exact way to the template and back.
        facts: what chance decided, plain numbers and words; lesions with centre and radius in mm, also those that lie
            outside the field of view.
    """

    image: np.ndarray
    label: np.ndarray
    lesion: np.ndarray
    affine: np.ndarray
    patient_map: PatientMap
    facts: dict


@dataclass(frozen=True)
class VoxelGrid:
    """A grid of `shape` voxels of `spacing_mm`, its middle at 0 mm, its axes along RAS+."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    @property
    def affine(self) -> np.ndarray:
        affine = np.diag([*self.spacing_mm, 1.0])
        affine[:3, 3] = [axis[0] for axis in self.axes()]
        return affine

    def axes(self, offset: Sequence[float] = (0, 0, 0)) -> list[np.ndarray]:
        """Places of the voxel centres along x, y and z in mm, moved by `offset` (3,) voxels."""
        return [
            (np.arange(n) - (n - 1) / 2 + o) * mm for n, mm, o in zip(self.shape, self.spacing_mm, offset, strict=True)
        ]

    def slabs(self) -> Iterator[tuple[slice, slice, slice]]:
        """Boxes that fill the grid, thin enough along x to be worked on quickly and in little memory."""
        whole = slice(None)
        thickness = max(1, _SLAB_VOXELS // (self.shape[1] * self.shape[2]))
        for start in range(0, self.shape[0], thickness):
            yield slice(start, min(start + thickness, self.shape[0])), whole, whole

    def box_around(self, centre_mm: np.ndarray, reach_mm: np.ndarray) -> tuple[slice, slice, slice]:
        """The voxels that touch the box within `reach_mm` (3,) of a centre; empty slices when it lies outside."""
        box = []
        for axis, centre, reach, mm in zip(self.axes(), centre_mm, reach_mm, self.spacing_mm, strict=True):
            box.append(slice(*np.searchsorted(axis, (centre - reach - mm, centre + reach + mm)).tolist()))
        return tuple(box)

    def sub_voxels(self, box: tuple[slice, slice, slice]) -> Iterator[list[np.ndarray]]:
        """Axes of a box of voxels, eight times: each time at the middle of another eighth of every voxel."""
        for corner in itertools.product((-0.25, 0.25), repeat=3):
            yield [axis[part] for axis, part in zip(self.axes(corner), box, strict=True)]

    def centres(self, box: tuple[slice, slice, slice]) -> list[np.ndarray]:
        """Axes of the voxel centres of a box."""
        return [axis[part] for axis, part in zip(self.axes(), box, strict=True)]


def checked_grid(shape, spacing_mm) -> VoxelGrid:
    """The grid, or ValueError: shape is three whole numbers of at least 8, spacing one or three numbers above 0."""
    try:
        size = tuple(operator.index(n) for n in shape)
    except TypeError:
        size = ()
    if len(size) != 3 or min(size) < 8:
        raise ValueError(f"shape is three whole numbers (X, Y, Z) of at least 8 voxels each, got {shape!r}.")
    try:
        spacing = np.broadcast_to(np.asarray(spacing_mm, np.float64), (3,))
    except (TypeError, ValueError):
        spacing = np.zeros(3)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise ValueError(f"spacing_mm is one number or three (X, Y, Z), in mm and above 0, got {spacing_mm!r}.")
    return VoxelGrid(size, tuple(spacing.tolist()))


def checked_seed(seed) -> int:
    """The seed as int, or ValueError: a whole number from 0."""
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if number < 0 or isinstance(seed, bool):
        raise ValueError(f"seed is a whole number from 0, got {seed!r}.")
    return number


def checked_number(name: str, value, low: float, high: float, meaning: str) -> float:
    """The value as float, or ValueError with its meaning when it is no number from `low` to `high`."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not low <= number <= high:
        raise ValueError(f"{name} is {meaning}, from {low:g} to {high:g}; got {value!r}.")
    return number


def checked_variation(value) -> float:
    """How much patients differ, 0 to 1.5, or ValueError."""
    return checked_number("variation", value, 0, _LARGEST_VARIATION, "how much patients differ (1: as designed)")


def random_stream(kind: int, seed: int, purpose: str) -> np.random.Generator:
    """The random numbers for one purpose of one patient. `kind` keeps the cohorts apart: 0 phantom, 1 brain."""
    return np.random.default_rng([kind, seed, _STREAMS.index(purpose)])


@dataclass(frozen=True, eq=False)
class LesionShape:
    """A bumpy ellipsoid with a soft edge.

    Attributes:
        centre_mm: (3,) in the patient.
        radius_mm: of the ball it was before it was squeezed.
        radii_mm: (3,) half its length along x, y and z.
        bumps: what is added to the relative radius, over the ball scaled to radius 1.
    """

    centre_mm: np.ndarray
    radius_mm: float
    radii_mm: np.ndarray
    bumps: SplineField

    @property
    def reach_mm(self) -> np.ndarray:
        """(3,) how far from its centre the lesion may change the image."""
        return 1.5 * self.radii_mm + _EDGE_MM

    def relative_radius(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """0 at the centre, 1 on the surface, on the grid of three axes in patient mm: (X, Y, Z)."""
        u, v, w = ((a - c) / r for a, c, r in zip((x, y, z), self.centre_mm, self.radii_mm, strict=True))
        ball = np.sqrt((u**2)[:, None, None] + (v**2)[:, None] + w**2)
        return ball + self.bumps.on_axes(u, v, w)[0]

    def cover(self, relative_radius: np.ndarray) -> np.ndarray:
        """Share of lesion at each place: 1 inside, 0.5 on the surface, 0 outside."""
        return np.clip((1 - relative_radius) * self.radius_mm / _EDGE_MM + 0.5, 0, 1)


def random_lesions(
    rng: np.random.Generator,
    share: float,
    *,
    most: int,
    radius_mm: tuple[float, float],
    roughness: float,
    places_mm: np.ndarray,
    patient_map: PatientMap,
) -> list[LesionShape]:
    """Lesions of one patient: none with probability 1 - `share`, else 1 to `most`, apart from each other.

    Args:
        rng: the lesion stream of the patient.
        share: share of patients with lesions, 0 to 1. A patient with lesions keeps them when the share grows.
        most: largest number of lesions.
        radius_mm: smallest and largest radius; small ones are as frequent per factor of two as large ones.
        roughness: typical bump (root mean square), as a share of the radius.
        places_mm: (M, 3) template points that can be a centre.
        patient_map: the patient.
    """
    affected, count = rng.random() < share, int(rng.integers(1, most + 1))
    lesions: list[LesionShape] = []
    for _ in range(_TRIES if affected else 0):
        lesion = _random_lesion(rng, radius_mm, roughness, places_mm, patient_map)
        if all(_apart(lesion, other) for other in lesions):
            lesions.append(lesion)
        if len(lesions) == count:
            break
    return lesions


def _random_lesion(rng, radius_mm, roughness, places_mm, patient_map) -> LesionShape:
    place = places_mm[rng.integers(len(places_mm))]
    smallest, largest = radius_mm
    radius = float(smallest * (largest / smallest) ** rng.random())
    squeeze = 1 + 0.25 * bounded_normal(rng, 3, limit=1.5)
    bumps = random_field(rng, (-1.6, -1.6, -1.6), (1.6, 1.6, 1.6), (5, 5, 5), roughness)
    return LesionShape(patient_map.to_patient(place[None])[0], radius, radius / squeeze, bumps)


def _apart(one: LesionShape, other: LesionShape) -> bool:
    distance = np.linalg.norm(one.centre_mm - other.centre_mm)
    return bool(distance > one.reach_mm.max() + other.reach_mm.max())


def smoothed_noise(rng: np.random.Generator, shape: Sequence[int], weight: float) -> np.ndarray:
    """Normal noise (X, Y, Z) float32 of standard deviation 1 in which neighbours agree.

    Each value is mixed with its two neighbours along each axis, `weight` (0 to 1/3) for each, 1 - 2 · `weight` for
    itself. Written with sums of whole arrays: additions in a fixed order end in the same last digit everywhere.
    """
    values = rng.standard_normal(tuple(shape), np.float32)
    kept = np.sqrt((1 - 2 * weight) ** 2 + 2 * weight**2)
    own, neighbour = np.float32((1 - 2 * weight) / kept), np.float32(weight / kept)
    for axis in range(3) if weight else ():
        line = np.moveaxis(values, axis, 0)
        before, after = np.concatenate([line[:1], line[:-1]]), np.concatenate([line[1:], line[-1:]])
        values = np.moveaxis((before + after) * neighbour + line * own, 0, axis)
    return values
