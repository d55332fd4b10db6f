"""Brain MRI of invented people, T1-weighted or FLAIR: three tissues, optional lesions, and exact correspondence.

Each person is the MNI152 template (ICBM 2009a, nonlinear, symmetric; the copy that nilearn carries, no download) under
a map of its own (`deformation`), with contrast, a bias field and noise of its own. As in the phantom, the same seed
gives the same person on every machine, and the anatomy stays when grid, sequence, noise, contrast or lesions change.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version

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
)
from medssl_nb.data.template_cache import cached_arrays, source_version

__all__ = ["LANDMARKS", "TISSUES", "brain_map", "generate_brain", "tissue_at"]

TISSUES = {0: "background", 1: "grey matter", 2: "white matter", 3: "CSF"}

# Named places in MNI mm (RAS), each well inside the structure it names.
LANDMARKS = {
    "genu of the corpus callosum": (0.0, 28.0, 6.0),
    "body of the corpus callosum": (0.0, 0.0, 26.0),
    "splenium of the corpus callosum": (0.0, -38.0, 12.0),
    "right internal capsule": (18.0, -6.0, 10.0),
    "left internal capsule": (-18.0, -6.0, 10.0),
    "right caudate": (13.0, 10.0, 14.0),
    "left caudate": (-13.0, 10.0, 14.0),
    "right amygdala": (23.0, -4.0, -18.0),
    "left amygdala": (-23.0, -4.0, -18.0),
    "right hippocampus": (28.0, -22.0, -14.0),
    "left hippocampus": (-28.0, -22.0, -14.0),
    "right ventricle, atrium": (27.0, -44.0, 12.0),
    "left ventricle, atrium": (-27.0, -44.0, 12.0),
    "fourth ventricle": (0.0, -44.0, -30.0),
    "right frontal white matter": (22.0, 34.0, 20.0),
    "left frontal white matter": (-22.0, 34.0, 20.0),
}

_KIND = 1  # keeps the random numbers of phantom and brain apart
_CENTRE_MM = np.array([0.0, -17.0, 6.0])  # middle of the brain in MNI mm: what the field of view looks at
_NODES = NodeGrid((-100, -120, -100), (100, 120, 100), 10.0)
_VOXEL_MM = 2.0
_MAPS = ("grey", "white", "csf", "t1")
_STEPS_PER_UNIT = 4096  # intensities are multiples of this fraction: coarser than what processors disagree about


@dataclass(frozen=True)
class _Sequence:
    """How an MR sequence shows tissues and lesions.

    Attributes:
        contrast: usual intensity of grey matter, white matter and CSF.
        contrast_sd: how much each differs from scan to scan.
        tissue, template: weights in the image of the tissues and of the template's own T1 image.
        core, core_sd: usual intensity of a lesion, and how much lesions differ.
        plain: word in the facts for a lesion that is alike inside.
        ring: what is added to the intensity in the middle of a ring lesion, and in its rim.
    """

    contrast: tuple[float, float, float]
    contrast_sd: float
    tissue: float
    template: float
    core: float
    core_sd: float
    plain: str
    ring: tuple[float, float]


_SEQUENCES = {
    # A quarter of the template's T1 image keeps what tissues do not say, such as how bright the deep nuclei are.
    "T1": _Sequence((0.55, 0.82, 0.22), 0.05, 0.75, 0.225, 0.28, 0.1, "dark", (0.0, 0.65)),
    # None of it here: it would bring T1 contrast. Grey matter is a little brighter than white in every scan, hence the
    # smaller deviation.
    "FLAIR": _Sequence((0.62, 0.50, 0.10), 0.015, 1.0, 0.0, 0.95, 0.08, "bright", (-0.5, 0.0)),
}


def generate_brain(
    seed: int,
    shape=(64, 72, 56),
    spacing_mm=2.6,
    variation: float = 1.0,
    lesion_share: float = 0.6,
    noise: float = 0.03,
    vary_contrast: bool = True,
    sequence: str = "T1",
) -> GeneratedCase:
    """Make one person: image without skull, tissue labels, lesions.

    Args:
        seed: the person, a whole number from 0.
        shape: voxels along x, y and z, each at least 8.
        spacing_mm: voxel size, one number or three.
        variation: how much people differ in shape, 0 (all are the template) to 1.5.
        lesion_share: probability that the person has one to three lesions in white matter, 0 to 1.
        noise: typical standard deviation of the (Rician) noise, 0 to 1, where white matter is about 0.8 (FLAIR: 0.5).
        vary_contrast: whether tissue intensities and their curve (gamma) differ from scan to scan.
        sequence: "T1" (white matter bright, lesions dark) or "FLAIR" (grey matter a little brighter than white, CSF
            nearly black, lesions bright). The same seed is the same person in both, lesions at the same places.

    Returns:
        The case: image float32, air near 0; label uint8, numbers of `TISSUES`, the likeliest tissue at the voxel's
        centre, under lesions too; lesion bool; facts with contrast and lesions.

    Raises:
        ValueError: an argument outside its range.
    """
    seed, grid, seen = checked_seed(seed), checked_grid(shape, spacing_mm), _checked_sequence(sequence)
    lesion_share = checked_number("lesion_share", lesion_share, 0, 1, "the share of people with lesions")
    noise = checked_number("noise", noise, 0, 1, "the noise's standard deviation (white matter is about 0.8)")
    patient_map = brain_map(seed, variation)
    scan = _random_scan(random_stream(_KIND, seed, "contrast"), seen, bool(vary_contrast))
    image, label, brain = _render(grid, patient_map, seen, scan.contrast)
    lesion, lesion_facts = _add_lesions(image, brain, grid, patient_map, seen, seed, lesion_share)
    image = np.clip(image, 0, None) ** scan.gamma * np.exp(scan.bias.on_axes(*grid.axes())[0])
    image = _with_noise(image, random_stream(_KIND, seed, "noise"), noise)
    image = (np.rint(image * _STEPS_PER_UNIT) / _STEPS_PER_UNIT).astype(np.float32)
    contrast = dict(zip(("grey matter", "white matter", "CSF"), scan.contrast.tolist(), strict=True))
    facts = {"seed": seed, "contrast": contrast, "gamma": scan.gamma, "lesions": lesion_facts}
    return GeneratedCase(image, label, lesion, grid.affine, patient_map, facts)


def brain_map(seed: int, variation: float = 1.0) -> PatientMap:
    """The map between person `seed` and MNI space, without an image; it depends on nothing else.

    Raises:
        ValueError: a seed below 0, a variation outside 0 to 1.5.
    """
    seed, variation = checked_seed(seed), checked_variation(variation)
    rng = random_stream(_KIND, seed, "map")
    pose = random_pose(
        rng, variation, stretch_sd=(0.06, 0.06, 0.06), size_sd=0.0, turn_degrees_sd=3.0, shift_sd_mm=(3, 3, 3)
    )
    velocity = _NODES.noise(rng, (5, 5, 5), rms=2.5) + _NODES.noise(rng, (9, 10, 9), rms=1.4)
    displacement = flow(-variation * velocity, _NODES.step_mm)
    return PatientMap(_NODES.field(displacement), pose, _CENTRE_MM)


def _checked_sequence(name) -> _Sequence:
    if not (isinstance(name, str) and name in _SEQUENCES):
        raise ValueError(f'sequence is "T1" or "FLAIR", got {name!r}.')
    return _SEQUENCES[name]


def tissue_at(points_mm: np.ndarray) -> np.ndarray:
    """The likeliest of `TISSUES` (N,) uint8 at template points (N, 3) in MNI mm."""
    return _likeliest(_template_at(checked_points(points_mm).T)[:3])


@lru_cache(maxsize=1)
def _template() -> tuple[np.ndarray, np.ndarray]:
    """Grey matter, white matter, CSF and T1 (4, 98, 116, 94) in [0, 1], and the first voxel's centre (3,) in MNI mm.

    Made from nilearn's 1 mm maps once per machine (some seconds), then read from the cache folder.
    """
    made_from = source_version(__file__, f"nilearn {version('nilearn')}")
    arrays = cached_arrays("brain", made_from, _mni_maps)
    return np.stack([arrays[name] for name in _MAPS]) / 255, arrays["first_mm"]


def _mni_maps() -> dict[str, np.ndarray]:
    """nilearn's maps as 8-bit levels, averaged over blocks of 2 x 2 x 2 mm."""
    from nilearn import datasets

    t1 = datasets.load_mni152_template(resolution=1)
    grey, white = datasets.load_mni152_gm_template(resolution=1), datasets.load_mni152_wm_template(resolution=1)
    levels = {name: _levels(image) for name, image in (("grey", grey), ("white", white), ("t1", t1))}
    brain = 255 * (levels["t1"] > 25)
    levels["csf"] = np.clip(brain - levels["grey"] - levels["white"], 0, None)  # what is neither grey nor white
    first = t1.affine[:3, 3] + 0.5  # between the first two voxels of 1 mm
    return {"first_mm": first, **{name: _halved(levels[name]) for name in _MAPS}}


def _levels(image) -> np.ndarray:
    """Values from 0 to 1 as whole numbers from 0 to 255: all that the files hold."""
    return np.rint(np.asarray(image.dataobj) * 255.0).astype(np.int32)


def _halved(levels: np.ndarray) -> np.ndarray:
    """Rounded means of 2 x 2 x 2 voxels, uint8; an odd last voxel is left out."""
    even = levels[tuple(slice(0, n // 2 * 2) for n in levels.shape)]
    sums = sum(even[i::2, j::2, k::2] for i in (0, 1) for j in (0, 1) for k in (0, 1))
    return ((sums + 4) // 8).astype(np.uint8)


def _template_at(places_mm: np.ndarray) -> np.ndarray:
    """Grey matter, white matter, CSF, T1 (4, ...) at places (3, ...) in MNI mm, linear between voxels, 0 outside."""
    from scipy.ndimage import map_coordinates

    maps, first = _template()
    voxels = (places_mm - first.reshape(3, *[1] * (places_mm.ndim - 1))) / _VOXEL_MM
    values = np.stack([map_coordinates(one, voxels, order=1, mode="constant", cval=0.0) for one in maps])
    return np.round(values, 9)  # so that the last digits of processors decide no tie between tissues


def _likeliest(shares: np.ndarray) -> np.ndarray:
    """Number of the largest of three tissue shares (3, ...), 0 where they fill less than half: (...) uint8."""
    return np.where(shares.sum(0) < 0.5, 0, shares.argmax(0) + 1).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class _Scan:
    """How one scanner sees: intensity of grey matter, white matter and CSF (3,), gamma, logarithm of the bias field."""

    contrast: np.ndarray
    gamma: float
    bias: SplineField


def _random_scan(rng: np.random.Generator, seen: _Sequence, vary_contrast: bool) -> _Scan:
    usual = np.array(seen.contrast)
    deviation, curve = seen.contrast_sd * bounded_normal(rng, 3), 0.25 * bounded_normal(rng)[0]
    bias = random_field(rng, (-110, -110, -110), (110, 110, 110), (3, 3, 3), rms=0.1)
    if not vary_contrast:
        return _Scan(usual, 1.0, bias)
    return _Scan(usual + deviation, float(np.exp(curve)), bias)


def _render(
    grid: VoxelGrid, patient_map: PatientMap, seen: _Sequence, contrast: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image before gamma, bias and noise, likeliest tissue, and share of brain in each voxel, all (X, Y, Z)."""
    image, brain = np.zeros(grid.shape), np.zeros(grid.shape)
    label = np.zeros(grid.shape, np.uint8)
    for slab in grid.slabs():
        *shares, t1 = _template_at(patient_map.on_axes(*grid.centres(slab)))
        label[slab], brain[slab] = _likeliest(np.stack(shares)), sum(shares)
        tissue = sum(share * intensity for share, intensity in zip(shares, contrast, strict=True))
        image[slab] = seen.tissue * tissue + seen.template * t1 * brain[slab]
    return image, label, brain


@lru_cache(maxsize=1)
def _white_places() -> np.ndarray:
    """Template points (M, 3) in MNI mm, every 4 mm deep in white matter, where a lesion may begin."""
    maps, first = _template()
    return first + _VOXEL_MM * 2 * np.argwhere(maps[1, ::2, ::2, ::2] > 0.8)


def _add_lesions(
    image, brain, grid: VoxelGrid, patient_map, seen: _Sequence, seed: int, share: float
) -> tuple[np.ndarray, list[dict]]:
    """Draw lesions into the image, in place; which voxels are at least half lesion, and each lesion's facts."""
    rng = random_stream(_KIND, seed, "lesions")
    shapes = random_lesions(
        rng,
        share,
        most=3,
        radius_mm=(4.0, 16.0),
        roughness=0.12,
        places_mm=_white_places(),
        patient_map=patient_map,
    )
    mask, facts = np.zeros(image.shape, bool), []
    for shape in shapes:
        kind = "ring" if rng.random() < 0.4 else seen.plain
        core = seen.core + seen.core_sd * bounded_normal(rng)[0]
        middle, rim = (core + more for more in (seen.ring if kind == "ring" else (0.0, 0.0)))
        box = grid.box_around(shape.centre_mm, shape.reach_mm)
        if image[box].size:
            cover, wanted = _lesion_in_box(grid, box, shape, middle, rim)
            cover *= brain[box]
            image[box] += cover * (wanted - image[box])
            mask[box] |= cover >= 0.5
        facts.append({"kind": kind, "centre_mm": shape.centre_mm.tolist(), "radius_mm": shape.radius_mm})
    return mask, facts


def _lesion_in_box(
    grid: VoxelGrid, box, shape: LesionShape, middle: float, rim: float
) -> tuple[np.ndarray, np.ndarray]:
    """Share of each voxel of a box that the lesion fills, and the intensity it has there."""
    cover, brightness = 0.0, 0.0
    for axes in grid.sub_voxels(box):
        radius = shape.relative_radius(*axes)
        cover = cover + shape.cover(radius)
        brightness = brightness + np.where(radius > 0.6, rim, middle)
    return cover / 8, brightness / 8


def _with_noise(image: np.ndarray, rng: np.random.Generator, noise: float) -> np.ndarray:
    """The length of a complex signal with noise in both parts, as MRI shows it (Rician)."""
    level = noise * np.exp(0.4 * bounded_normal(rng)[0])
    real, imaginary = level * rng.standard_normal((2, *image.shape))
    return np.hypot(image + real, imaginary)
