"""The abdomen that all phantom patients come from: tissues with their CT numbers, and where each lies.

The anatomy is painted in RAS mm on voxels of 2 mm, from outside to inside: skin, fat and muscle, spine, diaphragm,
organs, vessels, bowel; what is painted later covers what was there, unless it is told to spare it. Shapes are
ellipsoids with blunter corners (superellipsoids), tubes, and slow waves that take away their perfection. All decisions
are made in float64 far from rounding, so every machine paints the same template.

x grows to the patient's right, as RAS+ affines have it: the liver lies at x > 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

PHASES = ("non-contrast", "arterial", "portal venous", "delayed")

ORGANS = {
    0: "background",
    1: "body",
    2: "bone",
    3: "lung",
    4: "liver",
    5: "spleen",
    6: "right kidney",
    7: "left kidney",
    8: "aorta",
    9: "vena cava",
    10: "stomach",
    11: "pancreas",
    12: "gallbladder",
    13: "colon",
    14: "heart",
    15: "muscle",
}


@dataclass(frozen=True)
class Tissue:
    """One material: its organ label, its CT number in each of `PHASES`, and how uneven it is (a standard deviation)."""

    name: str
    organ: str
    hu: tuple[float, float, float, float]
    texture_hu: float = 0.0


def _same(hu: float) -> tuple[float, float, float, float]:
    """One CT number in all phases: tissue that takes up no contrast agent."""
    return (hu, hu, hu, hu)


TISSUES = (
    Tissue("air", "background", _same(-1000)),
    Tissue("skin", "body", (20, 25, 30, 28), 3.5),
    Tissue("subcutaneous fat", "body", _same(-105), 5),
    Tissue("muscle", "muscle", (55, 58, 65, 62), 6),
    Tissue("visceral fat", "body", _same(-100), 6),
    Tissue("mesentery", "body", (-60, -55, -50, -55), 19),
    Tissue("small bowel", "body", (35, 60, 75, 65), 18),
    Tissue("spongy bone", "bone", (170, 180, 190, 185), 24),
    Tissue("cortical bone", "bone", (520, 520, 530, 530), 41),
    Tissue("disc", "body", (80, 82, 85, 85), 4),
    Tissue("spinal canal", "body", (25, 27, 30, 30), 3),
    Tissue("lung", "lung", _same(-830), 24),
    Tissue("lung vessel", "lung", (-150, -60, -80, -110), 41),
    Tissue("liver", "liver", (56, 70, 110, 98), 4),
    Tissue("liver vein", "liver", (42, 80, 160, 125), 3.5),
    Tissue("spleen", "spleen", (48, 118, 122, 102), 4),
    Tissue("right renal cortex", "right kidney", (34, 185, 190, 170), 5.5),
    Tissue("right renal medulla", "right kidney", (30, 65, 165, 175), 5.5),
    Tissue("right renal pelvis", "right kidney", (0, 0, 5, 220), 5.5),
    Tissue("left renal cortex", "left kidney", (34, 185, 190, 170), 5.5),
    Tissue("left renal medulla", "left kidney", (30, 65, 165, 175), 5.5),
    Tissue("left renal pelvis", "left kidney", (0, 0, 5, 220), 5.5),
    Tissue("aorta", "aorta", (40, 310, 155, 120), 3.5),
    Tissue("vena cava", "vena cava", (40, 95, 150, 120), 4),
    Tissue("stomach wall", "stomach", (40, 75, 85, 70), 5.5),
    Tissue("stomach content", "stomach", _same(15), 10),
    Tissue("stomach gas", "stomach", _same(-950)),
    Tissue("pancreas", "pancreas", (42, 100, 95, 80), 10),
    Tissue("gallbladder", "gallbladder", (8, 8, 9, 10), 3),
    Tissue("colon wall", "colon", (38, 65, 80, 70), 5.5),
    Tissue("colon content", "colon", _same(10), 41),
    Tissue("colon gas", "colon", _same(-900)),
    Tissue("heart cavity", "heart", (42, 180, 145, 120), 5.5),
    Tissue("heart muscle", "heart", (50, 90, 110, 100), 5.5),
)
TISSUE_ID = {tissue.name: number for number, tissue in enumerate(TISSUES)}

# Tissue number -> organ number.
ORGAN_OF_TISSUE = np.array([list(ORGANS.values()).index(tissue.organ) for tissue in TISSUES], np.uint8)

VOXEL_MM = 2.0
LOW_MM = np.array([-190.0, -140.0, -190.0])  # outer faces of the template
HIGH_MM = -LOW_MM

# Named places in RAS mm that any reader of abdominal CT could point at, each inside the structure it names.
LANDMARKS = {
    "liver dome": (70.0, -5.0, 68.0),
    "vena cava at the hepatic veins": (26.0, -7.0, 74.0),
    "portal vein fork": (82.0, -5.0, 22.0),
    "gallbladder centre": (52.0, 42.0, -28.0),
    "liver lower tip": (98.0, -10.0, -50.0),
    "spleen centre": (-113.0, -32.0, 36.0),
    "right kidney upper pole": (52.0, -45.0, 0.0),
    "right kidney lower pole": (64.0, -31.0, -94.0),
    "left kidney upper pole": (-54.0, -43.0, 16.0),
    "left kidney lower pole": (-66.0, -29.0, -76.0),
    "superior mesenteric artery origin": (-13.0, -15.0, 13.0),
    "vena cava at the renal veins": (22.0, -19.0, -18.0),
    "aorta at the diaphragm": (-17.0, -27.0, 90.0),
    "stomach body": (-76.0, 10.0, 40.0),
    "pancreas head": (32.0, 2.0, -30.0),
    "pancreas tail": (-78.0, -18.0, 26.0),
    "hepatic flexure of the colon": (92.0, 15.0, -72.0),
    "splenic flexure of the colon": (-104.0, -18.0, -38.0),
    "heart centre": (-28.0, 30.0, 118.0),
    "spinal canal at the kidneys": (0.0, -73.0, -48.0),
}


@lru_cache(maxsize=1)
def tissue_template() -> np.ndarray:
    """Tissue numbers (190, 140, 190) uint8 on voxels of `VOXEL_MM` between `LOW_MM` and `HIGH_MM`; do not write to it.

    Painted once per machine (a second or two), then read from the cache folder.
    """
    from medssl_nb.data.template_cache import cached_arrays, source_version

    version = source_version(__file__)
    template = cached_arrays("phantom", version, lambda: {"tissue": paint_template()})["tissue"]
    template.setflags(write=False)
    return template


def template_index(places_mm: np.ndarray) -> np.ndarray:
    """Number of the template voxel (in C order) at each place: (3, ...) RAS mm -> (...) int64.

    Beyond the faces the nearest voxel counts. A place on the border of two voxels belongs to the upper one; the
    allowance for rounding keeps the last digits of different processors from deciding.
    """
    size = _template_shape()
    flat = None
    for axis in range(3):
        index = (places_mm[axis] - (LOW_MM[axis] - 1e-6)) * (1 / VOXEL_MM)
        index = np.clip(index, 0, size[axis] - 1).astype(np.int64)
        flat = index if flat is None else flat * size[axis] + index
    return flat


def _template_shape() -> tuple[int, int, int]:
    return tuple(((HIGH_MM - LOW_MM) / VOXEL_MM).round().astype(int).tolist())


class _Canvas:
    """A box of the template: its tissue numbers, and the x, y, z of its voxel centres ready to broadcast."""

    def __init__(self, tissue: np.ndarray, axes: Sequence[np.ndarray], place: tuple[slice, ...]):
        self.tissue = tissue
        self.axes = axes
        self.x, self.y, self.z = axes[0][:, None, None], axes[1][:, None], axes[2]
        self.place = place

    @classmethod
    def empty(cls) -> "_Canvas":
        """The whole template, filled with air."""
        shape = _template_shape()
        axes = [low + VOXEL_MM * (np.arange(n) + 0.5) for low, n in zip(LOW_MM, shape, strict=True)]
        return cls(np.zeros(shape, np.uint8), axes, (slice(None),) * 3)

    def box(self, low_mm: Sequence[float], high_mm: Sequence[float]) -> "_Canvas":
        """The part of the whole template between two corners; painting on it paints on the whole."""
        place = tuple(
            slice(*np.searchsorted(axis, (low, high)))
            for axis, low, high in zip(self.axes, low_mm, high_mm, strict=True)
        )
        return _Canvas(self.tissue[place], [a[p] for a, p in zip(self.axes, place, strict=True)], place)

    def around(self, centre: Sequence[float], reach_mm: Sequence[float]) -> "_Canvas":
        """The part within `reach_mm` (3,) of a centre."""
        return self.box(np.subtract(centre, reach_mm), np.add(centre, reach_mm))

    def part(self, whole: np.ndarray) -> np.ndarray:
        """The piece of an array over the whole template that lies in this box."""
        return whole[tuple(slice(None) if n == 1 else p for n, p in zip(whole.shape, self.place, strict=True))]

    def has(self, *names: str) -> np.ndarray:
        """Where one of the named tissues is painted now, bool (X, Y, Z)."""
        wanted = np.zeros(len(TISSUES), bool)
        wanted[[TISSUE_ID[name] for name in names]] = True
        return wanted[self.tissue]

    def paint(self, where: np.ndarray, name: str, only: Sequence[str] = ()) -> None:
        """Paint the tissue `name` where `where` (broadcastable bool) is True, `only` over the named ones if given."""
        if only:
            where = where & self.has(*only)
        np.copyto(self.tissue, np.uint8(TISSUE_ID[name]), where=where)

    def bulk(self, centre, radii, exponent, lean=(0.0, 0.0)) -> np.ndarray:
        """Superellipsoid as a number per voxel: 0 at the centre, 1 on the surface (before the root of `depth`).

        Args:
            centre: (3,) mm.
            radii: (3,) mm; 0 for z makes a column without ends.
            exponent: 2 is an ellipsoid, more is boxier.
            lean: how far the centre moves in x and y for each mm up.
        """
        up = self.z - centre[2]
        reach_x = np.abs((self.x - centre[0] - lean[0] * up) / radii[0]) ** exponent
        reach_y = np.abs((self.y - centre[1] - lean[1] * up) / radii[1]) ** exponent
        reach_z = np.abs(up / radii[2]) ** exponent if radii[2] else 0.0
        if not any(lean) and not radii[2]:
            return reach_x[..., :1] + reach_y[..., :1]  # the same at all heights: (X, Y, 1)
        return reach_x + (reach_y + reach_z)

    def inside(self, centre, radii, exponent=2.0, lean=(0.0, 0.0), margin_mm=0.0) -> np.ndarray:
        """Where a superellipsoid is more than `margin_mm` deep."""
        thinnest = min(r for r in radii if r)
        return self.bulk(centre, radii, exponent, lean) < (1 - margin_mm / thinnest) ** exponent

    def depth(self, centre, radii, exponent=2.0, lean=(0.0, 0.0)) -> np.ndarray:
        """About how many mm a voxel lies inside a superellipsoid; below 0 outside."""
        thinnest = min(r for r in radii if r)
        return (1 - self.bulk(centre, radii, exponent, lean) ** (1 / exponent)) * thinnest

    def waves(self, vectors: np.ndarray, phases: np.ndarray) -> np.ndarray:
        """Sum of plane waves sin(vector · place + phase), (X, Y, Z); vectors (n, 3) in radians per mm."""
        total = np.zeros(self.tissue.shape)
        for (kx, ky, kz), phase in zip(vectors, phases, strict=True):
            across, along = kx * self.x, ky * self.y + kz * self.z + phase  # sin(a + b) from small arrays is cheap
            total += np.sin(across) * np.cos(along) + np.cos(across) * np.sin(along)
        return total

    def wobble(self, seed: int, amplitude_mm: float, length_mm: float) -> np.ndarray:
        """Slow random waves, about ± `amplitude_mm`, to be added to a depth: no organ is a perfect ellipsoid."""
        rng = np.random.default_rng(seed)
        vectors, phases = rng.normal(size=(4, 3)) / length_mm, rng.uniform(0, 2 * np.pi, 4)
        return 0.5 * amplitude_mm * self.waves(vectors, phases)

    def tube(self, start, end, radius_start, radius_end, name, only=()) -> None:
        """Paint a tube with round ends between two points (3,), its radius changing evenly along the way."""
        start, end = np.array(start, float), np.array(end, float)
        reach = max(radius_start, radius_end) + VOXEL_MM
        box = self.box(np.minimum(start, end) - reach, np.maximum(start, end) + reach)
        way = end - start
        offset = [axis - at for axis, at in zip((box.x, box.y, box.z), start, strict=True)]
        share = np.clip(sum(o * w for o, w in zip(offset, way, strict=True)) / (way @ way), 0, 1)
        apart = sum((o - share * w) ** 2 for o, w in zip(offset, way, strict=True))
        box.paint(apart < (radius_start + (radius_end - radius_start) * share) ** 2, name, only)


@dataclass(frozen=True)
class _Walls:
    """Depths that several organs need, over the whole template, in mm.

    Attributes:
        wall: inside the muscular wall (X, Y, Z).
        cavity: inside the wall's inner face, where organs lie (X, Y, Z).
        diaphragm: height of the diaphragm above each place, (X, Y, 1).
    """

    wall: np.ndarray
    cavity: np.ndarray
    diaphragm: np.ndarray


_SOFT = ("visceral fat", "mesentery", "small bowel")


def paint_template() -> np.ndarray:
    """Paint the whole anatomy: tissue numbers (190, 140, 190) uint8."""
    canvas = _Canvas.empty()
    walls = _paint_walls(canvas)
    _paint_small_bowel(canvas, walls)
    _paint_back_muscles(canvas)
    _paint_spine(canvas)
    _paint_stomach(canvas, walls)
    _paint_spleen(canvas, walls)
    _paint_liver(canvas, walls)
    _paint_chest(canvas, walls)
    _paint_ribs(canvas, walls)
    _paint_kidney(canvas, walls, "right", (58, -38, -48), lean=(-0.12, -0.14), seed=6)
    _paint_kidney(canvas, walls, "left", (-60, -36, -30), lean=(0.12, -0.14), seed=8)
    _paint_great_vessels(canvas)
    _paint_liver_veins(canvas)
    _paint_pancreas(canvas)
    _paint_gallbladder(canvas, walls)
    _paint_colon(canvas)
    return canvas.tissue


def _paint_walls(canvas: _Canvas) -> _Walls:
    """Skin, fat, the muscular wall with its planes of fat, and the fat inside."""
    body = canvas.depth((0, 0, 0), (166, 112, 0), 2.5) + canvas.wobble(1, 3, 60)
    wall = canvas.depth((0, -2, 0), (146, 93, 0), 2.3)
    cavity = canvas.depth((0, 1, 0), (131, 79, 0), 2.3)
    wobble = canvas.wobble(2, 3, 45)  # one for both faces: the wall keeps its thickness
    wall, cavity = wall + wobble, cavity + wobble
    canvas.paint(body > 0, "skin")
    canvas.paint(body > 2.5, "subcutaneous fat")
    canvas.paint(wall > 0, "muscle")
    flank = (np.abs(canvas.x) > 70) & (canvas.z < 30)
    canvas.paint((np.abs(wall - 7) < 1.1) & flank, "subcutaneous fat")
    canvas.paint(cavity > 0, "visceral fat")
    midline = (np.abs(canvas.x) < 3) & (canvas.y > 60)  # between the two straight muscles of the belly
    canvas.paint((body > 12) & (cavity < 0) & midline, "subcutaneous fat")
    return _Walls(wall, cavity, _diaphragm(canvas))


def _diaphragm(canvas: _Canvas) -> np.ndarray:
    """Height (X, Y, 1) of the diaphragm: a dome on each side, the right one higher, falling off towards the back."""
    x, y = canvas.x, canvas.y
    bow = ((y + 5) / 75) ** 2 * 30
    right = 78 - ((x - 72) / 62) ** 2 * 26 - bow
    left = 66 - ((x + 72) / 60) ** 2 * 24 - bow
    return np.where(x > 0, right, left) - np.clip((-y - 35) / 45, 0, 1) * 38


def _paint_small_bowel(canvas: _Canvas, walls: _Walls) -> None:
    """The mesentery and, where many waves add up, loops of small bowel in it."""
    box = canvas.box((-140, -25, -190), (140, 100, 0))
    cavity = np.where(box.z < -15 + box.wobble(9, 8, 25), box.part(walls.cavity), -1)  # below the stomach only
    box.paint(cavity > 8, "mesentery")
    rng = np.random.default_rng(5)
    directions = rng.normal(size=(16, 3))
    lengths = np.linalg.norm(directions, axis=1, keepdims=True) * rng.uniform(5.5, 8, (16, 1))
    vectors, phases = directions / lengths, rng.uniform(0, 2 * np.pi, 16)
    loops = box.waves(vectors, phases) > 1.5
    box.paint(loops & (cavity > 14) & (np.abs(box.x) < 95), "small bowel")


def _paint_back_muscles(canvas: _Canvas) -> None:
    """Muscles beside the spine, psoas, the square muscle of the loin, and the legs of the diaphragm."""
    back = canvas.box((-80, -110, -190), (80, -20, 190))
    for side in (-1, 1):
        back.paint(back.inside((side * 36, -80, 0), (33, 21, 0), 2.4), "muscle")
        back.paint(back.inside((side * 42, -44, -105), (19, 21, 90), 2.2, lean=(-side * 0.10, 0)), "muscle")
        loin = canvas.around((side * 74, -60, -95), (20, 9, 75))
        loin.paint(loin.inside((side * 74, -60, -95), (20, 9, 75), 2.2), "muscle")
        canvas.tube((side * 22, -22, 90), (side * 24, -20, 0), 7, 4, "muscle")


def _paint_spine(canvas: _Canvas) -> None:
    """Vertebrae and discs, one pair every 36 mm, with arches, processes and the canal."""
    spine = canvas.box((-42, -108, -190), (42, -30, 190))
    x, y, in_step = spine.x, spine.y, np.mod(spine.z + 150, 36.0)
    round_body = spine.depth((0, -50, 0), (23, 18, 0), 2.6)
    body = round_body - 1.8 + 1.8 * np.cos((in_step - 3.5) * 2 * np.pi / 36)  # vertebrae have a waist
    disc = in_step < 7.5
    spine.paint((round_body > 0) & disc, "disc")
    spine.paint((body > 0) & ~disc, "cortical bone")
    spine.paint((body > 2.6) & ~disc, "spongy bone")
    arch = spine.inside((0, -74, 0), (15, 13, 0))
    spine.paint(arch & (in_step > 8) & (in_step < 32), "cortical bone")
    spinous = (np.abs(x) < 3.6) & (y > -106) & (y < -84)
    spine.paint(spinous & (in_step > 6) & (in_step < 26), "cortical bone")
    transverse = (np.abs(y + 70 + 0.10 * np.abs(x)) < 3.8) & (np.abs(x) > 10) & (np.abs(x) < 40)
    spine.paint(transverse & (np.abs(in_step - 22) < 5), "cortical bone")
    spine.paint(spine.inside((0, -73, 0), (9.5, 8.5, 0)), "spinal canal")


def _paint_stomach(canvas: _Canvas, walls: _Walls) -> None:
    """Fundus and body on the left, antrum across the midline; a wall of about 4.5 mm around its content."""
    box = canvas.box((-125, -40, -50), (45, 95, 100))
    fundus = box.depth((-62, 22, 45), (46, 46, 40), 2.1, lean=(0.1, -0.1))
    antrum = box.depth((-25, 52, -5), (52, 24, 22), 2.0)
    stomach = np.maximum(fundus, antrum) + box.wobble(4, 2, 22)
    room = (box.part(walls.cavity) > 3) & (box.z < box.part(walls.diaphragm) - 3)
    box.paint((stomach > 0) & room, "stomach wall")
    box.paint((stomach > 4.5) & room, "stomach content")


def _paint_spleen(canvas: _Canvas, walls: _Walls) -> None:
    """A bean against the left wall, hollowed where the stomach lies."""
    box = canvas.box((-160, -100, -45), (-40, 40, 115))
    spleen = box.depth((-99, -32, 36), (38, 54, 64), 2.3, lean=(0.12, -0.1)) + box.wobble(6, 2, 20)
    room = (box.part(walls.cavity) > 1) & (box.z < box.part(walls.diaphragm) - 3)
    hollow = box.inside((-60, -4, 45), (46, 46, 64))
    box.paint((spleen > 0) & room & ~hollow, "spleen")


def _paint_liver(canvas: _Canvas, walls: _Walls) -> None:
    """Right and left lobe melted into one, under the diaphragm, with the beds of spine, kidney and gallbladder."""
    box = canvas.box((-95, -100, -90), (150, 100, 120))
    right = box.depth((76, 0, 18), (60, 80, 86), 2.3, lean=(0.05, -0.05))
    left = box.depth((0, 42, 42), (82, 36, 34), 2.0, lean=(-0.1, 0))
    melt = 10.0  # mm over which the lobes flow into each other
    liver = melt * np.logaddexp(right / melt, left / melt) + box.wobble(3, 4, 28)
    room = (box.part(walls.cavity) > 1.5) & (box.z < box.part(walls.diaphragm) - 3)
    spine_bed = box.inside((0, -45, 0), (52, 48, 0))
    kidney_bed = box.inside((50, -42, -45), (34, 34, 66))
    hilum = box.inside((35, 25, -40), (40, 46, 52))
    box.paint((liver > 0) & room & ~spine_bed & ~kidney_bed & ~hilum, "liver")


def _paint_chest(canvas: _Canvas, walls: _Walls) -> None:
    """Heart and lungs above the diaphragm, with vessels that run to the lungs' roots."""
    chest = canvas.box((-140, -95, -60), (140, 95, 190))
    inside = chest.part(walls.cavity) > 0
    above = chest.z - chest.part(walls.diaphragm)
    heart = chest.depth((-28, 30, 118), (62, 50, 52), 2.2)
    chest.paint((heart > 0) & (above > 2) & inside, "heart muscle")
    chest.paint((heart > 11) & (above > 6) & inside, "heart cavity")
    middle = chest.inside((0, -30, 120), (40, 75, 0), 2.3)
    chest.paint((above > 0) & inside & ~middle & (heart <= 0), "lung")
    rng = np.random.default_rng(11)
    for side in (1, -1):
        for _ in range(26):
            start = np.array([side * rng.uniform(55, 120), -rng.uniform(-60, 65), rng.uniform(60, 185)])
            root = np.array([side * 40, -rng.uniform(-5, 25), 150])
            end = start + (root - start) * rng.uniform(0.25, 0.5)
            canvas.tube(start, end, 0.9, 2.2, "lung vessel", only=("lung",))


def _paint_ribs(canvas: _Canvas, walls: _Walls) -> None:
    """Bands in the wall that fall from back to front, one every 30 mm, down to the arch of the ribs."""
    x, y, z = canvas.x, canvas.y, canvas.z
    around = (1 + (y / 93) / np.hypot(y / 93, x / 146)) / 2  # (X, Y, 1): 0 at the back, 1 at the front
    along_band = np.abs(np.mod(z + 75 * around + 150, 30.0) - 15)
    rib = np.minimum(5.2 - along_band, 4.6 - np.abs(walls.wall - 9))
    lowest = -60 + 117 * np.clip(around - 0.15, 0, 1)
    room = (z > lowest) & (around < 0.93) & (np.abs(x) > 28)
    canvas.paint((rib > 0) & room, "cortical bone")
    canvas.paint((rib > 2) & room, "spongy bone")


def _paint_kidney(canvas: _Canvas, walls: _Walls, side: str, centre, lean, seed: int) -> None:
    """Cortex, pyramids of medulla, the pelvis in its fat, and the fat around the kidney."""
    inwards = -np.sign(centre[0])
    box = canvas.around(centre, (50, 50, 75))
    kidney = box.depth(centre, (29, 26, 54), 2.1, lean) + box.wobble(seed, 1.2, 18)
    capsule = (kidney > -9) & (box.part(walls.cavity) > 0) & (np.abs(box.x) > 38)
    box.paint(capsule, "visceral fat", only=("mesentery", "small bowel", "muscle"))
    hilum = box.inside(np.add(centre, (26 * inwards, 8, 0)), (20, 15, 20))
    box.paint((kidney > 0) & ~hilum, f"{side} renal cortex")
    rng = np.random.default_rng(13 + seed)
    vectors, phases = rng.normal(size=(5, 3)) / 8.5, rng.uniform(0, 2 * np.pi, 5)
    pyramids = box.waves(vectors, phases) > -0.5
    box.paint((kidney > 6.5) & ~hilum & pyramids, f"{side} renal medulla")
    pelvis = box.depth(np.add(centre, (12 * inwards, 4, 0)), (10, 8, 20))
    box.paint((pelvis > 0) & (kidney > 3), "visceral fat")
    box.paint(pelvis > 3.5, f"{side} renal pelvis")


def _paint_great_vessels(canvas: _Canvas) -> None:
    """Aorta with its first branches, vena cava with the renal veins."""
    canvas.tube((-13, -22, -190), (-13, -20, 20), 10, 11, "aorta")
    canvas.tube((-13, -20, 20), (-22, -36, 190), 11, 13, "aorta")
    canvas.tube((-13, -19, 15), (-14, 2, 5), 5, 4.5, "aorta", only=(*_SOFT, "muscle"))
    canvas.tube((-13, -19, 2), (-12, 12, -60), 4.5, 4, "aorta", only=_SOFT)
    for side in (1, -1):
        canvas.tube((-13, -20, -12), (side * 38, -30, -38 - 4 * side), 3.6, 3, "aorta", only=(*_SOFT, "muscle"))
    canvas.tube((22, -20, -190), (24, -18, 20), 11, 12, "vena cava")
    canvas.tube((24, -18, 20), (22, -8, 88), 12, 13, "vena cava")
    for side in (1, -1):
        canvas.tube((20, -16, -18), (side * 38, -26, -36 - 4 * side), 4.6, 4, "vena cava", only=_SOFT)


# Start, end, radius at both, in mm: the portal tree spreads from the hilum, the hepatic veins meet at the vena cava.
_LIVER_VEINS = (
    ((42, 8, 18), (82, -5, 22), 7, 4),
    ((82, -5, 22), (112, 10, 38), 4, 2),
    ((82, -5, 22), (108, -32, 0), 4, 2),
    ((82, -5, 22), (95, 38, 8), 4, 2),
    ((42, 8, 18), (22, 40, 40), 6, 4),
    ((22, 40, 40), (-32, 48, 48), 4, 1.8),
    ((22, 40, 40), (8, 60, 30), 3.4, 1.6),
    ((24, -8, 75), (92, -18, 52), 6, 2.6),
    ((24, -8, 75), (80, 38, 48), 6, 2.4),
    ((24, -8, 75), (10, 42, 58), 5, 2),
    ((92, -18, 52), (118, -8, 10), 2.6, 1.6),
    ((80, 38, 48), (100, 45, 0), 2.4, 1.6),
    ((92, -18, 52), (100, -50, 20), 2.6, 1.6),
)


def _paint_liver_veins(canvas: _Canvas) -> None:
    """Portal vein from behind the pancreas to the liver, and the veins in it."""
    canvas.tube((5, 0, -15), (42, 8, 18), 7, 7, "liver vein", only=("liver", *_SOFT))
    for start, end, radius_start, radius_end in _LIVER_VEINS:
        canvas.tube(start, end, radius_start, radius_end, "liver vein", only=("liver",))


def _paint_pancreas(canvas: _Canvas) -> None:
    """Head, body and tail, with the splenic vein behind."""
    room = (*_SOFT, "stomach wall", "stomach content")
    canvas.tube((32, 2, -30), (14, 12, 0), 16, 13, "pancreas", only=room)
    canvas.tube((14, 12, 0), (-28, 6, 8), 12, 11, "pancreas", only=room)
    canvas.tube((-28, 6, 8), (-78, -18, 26), 11, 10, "pancreas", only=room)
    behind = ("visceral fat", "mesentery", "pancreas")
    canvas.tube((5, 0, -8), (-30, -4, 10), 4.2, 4, "liver vein", only=behind)
    canvas.tube((-30, -4, 10), (-80, -26, 28), 4, 3, "liver vein", only=behind)


def _paint_gallbladder(canvas: _Canvas, walls: _Walls) -> None:
    """An egg under the liver's right lobe."""
    box = canvas.around((52, 42, -28), (15, 24, 20))
    egg = box.inside((52, 42, -28), (15, 24, 20))
    box.paint(egg & (box.part(walls.cavity) > 2) & ~box.has("liver"), "gallbladder")


def _paint_colon(canvas: _Canvas) -> None:
    """Ascending, transverse and descending colon: tubes of wall, then of content 3 mm further in."""
    _paint_colon_part(canvas, [(98, -10, -190), (102, -5, -95), (92, 15, -72)], 24)
    _paint_colon_part(canvas, [(92, 15, -72), (40, 56, -92), (-30, 58, -88), (-85, 25, -50), (-104, -18, -25)], 19)
    _paint_colon_part(canvas, [(-104, -18, -25), (-108, -28, -90), (-104, -25, -190)], 16)


def _paint_colon_part(canvas: _Canvas, course: Sequence[tuple[float, float, float]], radius: float) -> None:
    bends = list(pairwise(course))
    for start, end in bends:
        canvas.tube(start, end, radius, radius, "colon wall", only=(*_SOFT, "colon content"))
    for start, end in bends:
        canvas.tube(start, end, radius - 3, radius - 3, "colon content", only=("colon wall",))
