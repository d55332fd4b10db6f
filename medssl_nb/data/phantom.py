"""Abdominal CT of invented patients: organs, contrast phases, gas, liver lesions, and exact correspondence.

Each patient is the painted template of `phantom_anatomy` under a map of its own (`deformation`), with CT numbers of
its own. Chance comes from numpy generators, one per patient and purpose, coordinates are worked out in float64 and the
image ends in whole HU: the same seed gives the same patient on every machine, and the anatomy stays when grid, noise
or lesions change.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from medssl_nb.data.deformation import (
    NodeGrid,
    PatientMap,
    SplineField,
    bounded_normal,
    checked_points,
    flow,
    random_field,
    random_pose,
)
from medssl_nb.data.phantom_anatomy import (
    LANDMARKS,
    LOW_MM,
    ORGAN_OF_TISSUE,
    ORGANS,
    PHASES,
    TISSUE_ID,
    TISSUES,
    VOXEL_MM,
    template_index,
    tissue_template,
)
from medssl_nb.data.rendering import (
    GeneratedCase,
    LesionShape,
    VoxelGrid,
    checked_grid,
    checked_number,
    checked_seed,
    checked_variation,
    random_lesions,
    random_stream,
    smoothed_noise,
)

__all__ = ["LANDMARKS", "ORGANS", "PHASES", "generate_phantom", "organ_at", "phantom_map"]

_KIND = 0  # keeps the random numbers of phantom and brain apart
_NODES = NodeGrid((-208, -160, -208), (208, 160, 208), 16.0)

# Organs that vary in size and place on their own: centre in the template and how far the change reaches, in mm, and
# how much of the common spread they show (the spine moves less than what hangs before it).
_FREE_ORGANS = {
    "liver": ((70, 5, 20), 75, 1.0),
    "spleen": ((-100, -34, 38), 45, 1.0),
    "right kidney": ((58, -38, -48), 45, 1.0),
    "left kidney": ((-60, -36, -30), 45, 1.0),
    "stomach": ((-60, 25, 40), 55, 1.0),
    "gallbladder": ((52, 42, -28), 25, 1.0),
    "spine": ((0, -50, 0), 40, 0.3),
}
_ORGAN_SIZE_SD = 0.16
_ORGAN_SHIFT_SD_MM = np.array([5.0, 5.0, 9.0])

_LESION_KINDS = ("hypodense", "cyst", "rim-enhancing")
_CYST_HU = 8.0
_LARGEST_PHASE = float(len(PHASES) - 1)


def generate_phantom(
    seed: int,
    shape=(64, 64, 64),
    spacing_mm=(4.5, 4.5, 5.5),
    variation: float = 1.0,
    lesion_share: float = 0.6,
    noise_hu: float = 8.0,
    phase: float | None = None,
    texture: float = 1.0,
) -> GeneratedCase:
    """Make one patient: CT in HU, organ labels, liver lesions.

    Args:
        seed: the patient, a whole number from 0.
        shape: voxels along x, y and z, each at least 8.
        spacing_mm: voxel size, one number or three; the grid's middle is the scanner's.
        variation: how much patients differ, 0 (all are the template) to 1.5; 1 looks like a hospital's mix.
        lesion_share: probability that the patient has one to four liver lesions, 0 to 1.
        noise_hu: standard deviation of the noise inside the body for the typical scan, 0 to 200 HU; scans vary.
        phase: contrast phase, 0 non-contrast, 1 arterial, 2 portal venous, 3 delayed, or between; None draws one.
        texture: how uneven tissues are, 0 to 5; 1 as designed.

    Returns:
        The case: image int16 HU from -1024 to 3071, each voxel the mean of eight points in it; label uint8, numbers
        of `ORGANS`, the organ at the voxel's centre; lesion bool; facts with phase and lesions.

    Raises:
        ValueError: an argument outside its range.
    """
    seed, grid = checked_seed(seed), checked_grid(shape, spacing_mm)
    lesion_share = checked_number("lesion_share", lesion_share, 0, 1, "the share of patients with lesions")
    noise_hu = checked_number("noise_hu", noise_hu, 0, 200, "the noise's standard deviation in HU")
    texture = checked_number("texture", texture, 0, 5, "how uneven tissues are (1: as designed)")
    if phase is not None:
        phase = checked_number("phase", phase, 0, _LARGEST_PHASE, f"a contrast phase, {', '.join(PHASES)}")
    patient_map = phantom_map(seed, variation)
    contrast = _random_contrast(random_stream(_KIND, seed, "contrast"), phase)
    gas = _random_gas(random_stream(_KIND, seed, "contents"), patient_map)
    image, tissue = _render(grid, patient_map, contrast.hu, gas)
    lesion, lesion_facts = _add_lesions(image, grid, patient_map, contrast.hu, seed, lesion_share)
    _add_texture_and_noise(image, tissue, random_stream(_KIND, seed, "noise"), texture, noise_hu)
    facts = {"seed": seed, "phase": contrast.phase, "fatty_liver_hu": contrast.fatty_liver_hu, "lesions": lesion_facts}
    image = np.clip(np.rint(image), -1024, 3071).astype(np.int16)
    return GeneratedCase(image, ORGAN_OF_TISSUE[tissue], lesion, grid.affine, patient_map, facts)


def phantom_map(seed: int, variation: float = 1.0) -> PatientMap:
    """The map between patient `seed` and the template, without an image; it depends on nothing else.

    It is one to one: in 1500 patients at the largest variation, 1.5, the smallest Jacobian determinant in the body was
    0.07, at variation 1 it was 0.16 (at 0 or below a map folds).

    Raises:
        ValueError: a seed below 0, a variation outside 0 to 1.5.
    """
    seed, variation = checked_seed(seed), checked_variation(variation)
    rng = random_stream(_KIND, seed, "map")
    pose = random_pose(
        rng,
        variation,
        stretch_sd=(0.06, 0.07, 0.05),
        size_sd=0.05,
        turn_degrees_sd=3.0,
        shift_sd_mm=(8, 8, 18),
    )
    velocity = _NODES.noise(rng, (6, 5, 6), rms=4.4) + _NODES.noise(rng, (10, 8, 10), rms=1.8)
    velocity += _organ_velocity(rng, pose.rotation)
    displacement = flow(-variation * velocity, _NODES.step_mm)
    return PatientMap(_NODES.field(displacement), pose, np.zeros(3))


def organ_at(points_mm: np.ndarray) -> np.ndarray:
    """Organ numbers (N,) uint8 at template points (N, 3) in RAS mm; beyond the template its nearest voxel counts."""
    index = template_index(checked_points(points_mm).T)
    return ORGAN_OF_TISSUE[tissue_template().ravel()[index]]


def _organ_velocity(rng: np.random.Generator, rotation: np.ndarray) -> np.ndarray:
    """Growth and shift of single organs, fading with distance from each: (3, I, J, K) in mm."""
    x, y, z = np.meshgrid(*_NODES.axes(), indexing="ij")
    velocity = np.zeros((3, *x.shape))
    for centre, reach, freedom in _FREE_ORGANS.values():
        growth = freedom * _ORGAN_SIZE_SD * bounded_normal(rng)
        shift = freedom * _ORGAN_SHIFT_SD_MM * bounded_normal(rng, 3)
        offset = np.stack([a - c for a, c in zip((x, y, z), np.array(centre) @ rotation, strict=True)])
        near = np.exp(-(offset**2).sum(0) / (2 * reach**2))
        velocity += (growth * offset + shift[:, None, None, None]) * near
    return velocity


@dataclass(frozen=True, eq=False)
class _Contrast:
    """CT number of each tissue in one patient (T,) float32, the phase it was scanned in, fat in the liver in HU."""

    hu: np.ndarray
    phase: float
    fatty_liver_hu: float


def _random_contrast(rng: np.random.Generator, phase: float | None) -> _Contrast:
    """Draw phase, uptake, each tissue's own deviation, fatty liver and what the stomach holds."""
    drawn = rng.uniform(0, _LARGEST_PHASE)
    phase = drawn if phase is None else phase
    table = np.array([tissue.hu for tissue in TISSUES])  # (T, phases)
    before = min(int(phase), len(PHASES) - 2)
    hu = table[:, before] + (phase - before) * (table[:, before + 1] - table[:, before])
    spread = 2 + 0.36 * np.array([tissue.texture_hu for tissue in TISSUES])
    spread[[TISSUE_ID["air"], TISSUE_ID["stomach gas"], TISSUE_ID["colon gas"]]] = 0
    hu = hu + spread * bounded_normal(rng, len(TISSUES))
    uptake = 1 + 0.12 * bounded_normal(rng)[0]
    soft = table[:, 0] > -50
    hu[soft] = table[soft, 0] + uptake * (hu[soft] - table[soft, 0])
    fatty_liver_hu = float(rng.uniform(15, 40)) if rng.random() < 0.25 else 0.0
    hu[TISSUE_ID["liver"]] -= fatty_liver_hu
    water, drunk_contrast = rng.uniform(-5, 55), rng.uniform(150, 300)
    hu[TISSUE_ID["stomach content"]] = water if rng.random() < 0.75 else drunk_contrast
    for part in ("cortex", "medulla", "pelvis"):  # both kidneys see the same blood
        hu[TISSUE_ID[f"left renal {part}"]] = hu[TISSUE_ID[f"right renal {part}"]]
    return _Contrast(hu.astype(np.float32), float(phase), fatty_liver_hu)


@dataclass(frozen=True, eq=False)
class _Gas:
    """Where gas takes the place of content: in the stomach in front of a level, in the colon where a field is high.

    Gas follows gravity and the hour, not anatomy: it lives in patient mm and is not part of the correspondence.
    """

    stomach_level_mm: float
    bubbles: SplineField

    def fill(self, tissue: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> None:
        """Change content to gas in tissue numbers (X, Y, Z) on the given axes, in place."""
        front = tissue[:, np.searchsorted(y, self.stomach_level_mm) :]
        front[front == TISSUE_ID["stomach content"]] = TISSUE_ID["stomach gas"]
        colon = tissue == TISSUE_ID["colon content"]
        if colon.any():
            tissue[colon & (self.bubbles.on_axes(x, y, z)[0] > 0.25)] = TISSUE_ID["colon gas"]


def _random_gas(rng: np.random.Generator, patient_map: PatientMap) -> _Gas:
    level = 38 + 14 * bounded_normal(rng)[0] + patient_map.pose.shift_mm[1]
    bubbles = random_field(rng, (-224, -192, -224), (224, 192, 224), (15, 13, 15), rms=0.55)
    return _Gas(float(level), bubbles)


def _render(grid: VoxelGrid, patient_map: PatientMap, hu: np.ndarray, gas: _Gas) -> tuple[np.ndarray, np.ndarray]:
    """Mean HU of each voxel, float32, and the tissue at its centre, uint8, both (X, Y, Z)."""
    image, tissue = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.uint8)
    for slab in grid.slabs():
        tissue[slab] = _tissue_on(patient_map, *grid.centres(slab))
        for axes in grid.sub_voxels(slab):
            part = _tissue_on(patient_map, *axes)
            gas.fill(part, *axes)
            image[slab] += hu[part]
    return image / np.float32(8), tissue


def _tissue_on(patient_map: PatientMap, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Tissue numbers (X, Y, Z) on axes in patient mm: the template's, at the place each point comes from."""
    return tissue_template().ravel()[template_index(patient_map.on_axes(x, y, z))]


@lru_cache(maxsize=1)
def _liver_places() -> np.ndarray:
    """Template points (M, 3) in mm, every 8 mm in liver tissue, where a lesion may begin."""
    liver = np.argwhere(tissue_template()[::4, ::4, ::4] == TISSUE_ID["liver"])
    return LOW_MM + VOXEL_MM * (4 * liver + 0.5)


def _add_lesions(image, grid, patient_map, hu, seed, share) -> tuple[np.ndarray, list[dict]]:
    """Draw lesions into the image, in place; which voxels are at least half lesion, and each lesion's facts."""
    rng = random_stream(_KIND, seed, "lesions")
    shapes = random_lesions(
        rng,
        share,
        most=4,
        radius_mm=(5.0, 22.0),
        roughness=0.065,
        places_mm=_liver_places(),
        patient_map=patient_map,
    )
    mask, facts = np.zeros(image.shape, bool), []
    for shape in shapes:
        kind = _LESION_KINDS[rng.integers(len(_LESION_KINDS))]
        change = -rng.uniform(30, 60) if kind == "hypodense" else rng.uniform(35, 55)
        box = grid.box_around(shape.centre_mm, shape.reach_mm)
        if image[box].size:
            difference, share_of_voxel = _lesion_in_box(grid, box, patient_map, hu, shape, kind, change)
            image[box] += difference
            mask[box] |= share_of_voxel >= 0.5
        facts.append({"kind": kind, "centre_mm": shape.centre_mm.tolist(), "radius_mm": shape.radius_mm})
    return mask, facts


def _lesion_in_box(grid, box, patient_map, hu, shape: LesionShape, kind: str, change: float):
    """What a lesion adds to the HU of each voxel of a box, float32, and the share of each voxel it fills."""
    liver = list(ORGANS.values()).index("liver")
    difference, filled = 0.0, 0.0
    for axes in grid.sub_voxels(box):
        tissue = _tissue_on(patient_map, *axes)
        radius = shape.relative_radius(*axes)
        cover = shape.cover(radius) * (ORGAN_OF_TISSUE[tissue] == liver)
        difference = difference + cover * _lesion_change(kind, change, radius, hu[tissue])
        filled = filled + cover
    return (difference / 8).astype(np.float32), filled / 8


def _lesion_change(kind: str, change: float, radius: np.ndarray, surroundings_hu: np.ndarray) -> np.ndarray:
    """HU added inside a lesion at a relative radius: dark with a paler rim, water, or a bright rim, dark within."""
    if kind == "cyst":
        return _CYST_HU - surroundings_hu.astype(np.float64)
    if kind == "hypodense":
        return np.where(radius > 0.75, 0.65 * change, change)
    return np.where(radius > 0.45, change, -20.0)


def _add_texture_and_noise(image, tissue_number, rng: np.random.Generator, texture: float, noise_hu: float) -> None:
    """Add each tissue's unevenness and the scanner's noise to the image, in place."""
    unevenness = texture * np.array([tissue.texture_hu for tissue in TISSUES], np.float32)
    grain = smoothed_noise(rng, image.shape, weight=1 / 8)
    level = noise_hu * np.exp(0.35 * bounded_normal(rng)[0])
    # A reconstruction kernel leaves fine and coarser grain; the two shares together have standard deviation 1.
    noise = np.float32(level) * (
        np.float32(0.53) * smoothed_noise(rng, image.shape, weight=1 / 3)
        + np.float32(0.85) * smoothed_noise(rng, image.shape, weight=0)
    )
    image += grain * unevenness[tissue_number]
    image += noise * np.where(image > -400, np.float32(1), np.float32(0.6))  # less in air and lung
