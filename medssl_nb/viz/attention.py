"""Pictures of attention: where one question looks in the student's map and in the teacher's.

A token is a cube of the volume, and tokens are numbered row-major over their grid. `show_...` draws into a notebook,
`..._png` gives PNG bytes: the same input gives the same bytes.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from medssl_nb.viz.arrays import as_volume
from medssl_nb.viz.figures import png, show
from medssl_nb.viz.layers import Layers, extent_mm, stack_layers
from medssl_nb.viz.patches import patch_centre, patch_map
from medssl_nb.viz.planes import plane_of
from medssl_nb.viz.slices import draw_slice
from medssl_nb.viz.windows import short_number, window_range

SCALE_NAME = "attention"
_INCHES, _LEAST_INCHES, _MOST_INCHES = 2.3, 1.7, 4.0  # longer side of a picture, least across, most
_SOFT_INK = "#595959"
_EVEN = 1e-6  # what varies by less than this share of its mean is even, but for rounding


class Attention(NamedTuple):
    """Attention of H heads, Nq questions each, over the tokens of a grid."""

    values: np.ndarray  # (H, Nq, Nc), rows of sum 1
    grid: tuple[int, ...]  # tokens along x, y, z, product Nc

    def of_head(self, head: int) -> np.ndarray:
        """(Nq, Nc) of head 1 to H, or the mean of all for 0."""
        return self.values.mean(axis=0) if head == 0 else self.values[head - 1]


def show_attention(volume, student_attention, teacher_attention, **options) -> None:
    """Show where one question looks: the student's attention over what it saw, the teacher's over the whole volume.

    Colours count in even shares: 1 where a token gets what it would get if all got alike; less is not drawn. Both have
    one scale.

    Args:
        volume: (X, Y, Z) or (1, X, Y, Z), sides multiples of all grids.
        student_attention, teacher_attention: (H, Nq, Nc) of one sample, rows of sum 1.
        **options:
            query_grid: tokens along x, y, z that ask, product Nq. `student_grid`: that are looked at, product Nc.
            teacher_grid: of the teacher's context; None is that of the student.
            token: (x, y, z) of the question, its cube is outlined; None is the middle of the grid.
            head: 1 to H, 0 for the mean of all heads.
            masked: the volume as the student saw it.
            centre: voxel that the planes go through; None is the middle of the question's cube.
            planes, spacing_mm, window, opacity, title: as in `show_planes`.

    Raises:
        ValueError: attention that is none, grids that do not fit, no such token or head.
    """
    draw, size = _attention_picture(volume, student_attention, teacher_attention, **options)
    show(draw, size)


def attention_png(volume, student_attention, teacher_attention, *, dpi: int = 90, **options) -> bytes:
    """The picture of `show_attention` as PNG bytes."""
    draw, size = _attention_picture(volume, student_attention, teacher_attention, **options)
    return png(draw, size, dpi)


# ---------------------------------------------------------------- checks
def as_attention(attention, query_grid: Sequence[int], grid: Sequence[int], name: str) -> Attention:
    """Attention (H, Nq, Nc) float64 over a grid, from an array or tensor.

    Raises:
        ValueError: another shape than the grids ask for, or rows that do not sum to 1 (by more than 1e-3).
    """
    tensor = hasattr(attention, "detach")
    values = np.asarray(attention.detach().cpu().double() if tensor else attention, np.float64)
    questions, context = math.prod(query_grid), math.prod(grid)
    if values.ndim != 3 or len(values) == 0 or values.shape[1:] != (questions, context):
        raise ValueError(
            f"{name} must be (heads, {questions}, {context}): query grid {tuple(query_grid)} by grid {tuple(grid)}; "
            f"got shape {values.shape}. Of a batch take one sample: attention[0]."
        )
    sums = values.sum(axis=2)
    if not (values.min() >= 0 and (np.abs(sums - 1) <= 1e-3).all()):
        raise ValueError(
            f"{name} must be from 0 and sum to 1 in each row, found a smallest of {values.min():.4g} and sums from "
            f"{sums.min():.4g} to {sums.max():.4g}; take the attention after the softmax and before the dropout."
        )
    return Attention(values, tuple(int(n) for n in grid))


def cell_sides(shape: Sequence[int], grid: Sequence[int], name: str) -> tuple[int, ...]:
    """Voxels of one token along x, y, z.

    Raises:
        ValueError: no three whole numbers from 1, or sides of the volume that are no multiples of them.
    """
    numbers = np.asarray(grid)
    if numbers.shape != (3,) or numbers.dtype.kind not in "iu" or numbers.min() < 1:
        raise ValueError(f"{name} is three whole numbers from 1, the tokens along x, y and z; got {grid}.")
    if any(side % count for side, count in zip(shape, numbers, strict=True)):
        raise ValueError(f"the volume's sides {tuple(shape)} must be multiples of {name} {tuple(numbers.tolist())}.")
    return tuple(int(side // count) for side, count in zip(shape, numbers, strict=True))


def checked_token(token: Sequence[int], grid: Sequence[int]) -> tuple[int, int, int]:
    """(x, y, z) of a token of the grid.

    Raises:
        ValueError: no three whole numbers, or outside the grid.
    """
    numbers = np.asarray(token)
    if numbers.shape != (3,) or numbers.dtype.kind not in "iu" or (numbers < 0).any() or (numbers >= grid).any():
        raise ValueError(f"token is (x, y, z), whole numbers from 0 below {tuple(grid)}; got {token}.")
    return tuple(int(n) for n in numbers)


# ---------------------------------------------------------------- numbers and maps
def token_number(token: Sequence[int], grid: Sequence[int]) -> int:
    """Number of token (x, y, z), row-major."""
    return int(np.ravel_multi_index(tuple(token), tuple(grid)))


def even_shares(attention: Attention, head: int, number: int, shape: Sequence[int]) -> np.ndarray:
    """(X, Y, Z) attention of one question, laid on the voxels: 1 is what each token would get if all got alike."""
    row = attention.of_head(head)[number] * math.prod(attention.grid)
    return patch_map(row, attention.grid, cell_sides(shape, attention.grid, "grid"))


def token_cube(token: Sequence[int], grid: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """(X, Y, Z) bool: voxels of one token."""
    inside = np.zeros(tuple(shape), bool)
    sides = cell_sides(shape, grid, "grid")
    inside[tuple(slice(k * side, (k + 1) * side) for k, side in zip(token, sides, strict=True))] = True
    return inside


def agreements(student: Attention, teacher: Attention, head: int) -> np.ndarray:
    """(Nq,) correlation of the student's and the teacher's map of each question; NaN where one of them is even.

    Maps of different grids are compared on the finest grid that both fit into.
    """
    grid = tuple(np.lcm(student.grid, teacher.grid))
    first, second = (_on_grid(one.of_head(head), one.grid, grid) for one in (student, teacher))
    even = [np.ptp(rows, axis=1) <= _EVEN * rows.mean(axis=1) for rows in (first, second)]
    first, second = (rows - rows.mean(axis=1, keepdims=True) for rows in (first, second))
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    known = ~(even[0] | even[1])
    found = np.full(len(first), np.nan)
    found[known] = (first * second).sum(axis=1)[known] / lengths[known]
    return found


def _on_grid(rows: np.ndarray, grid: Sequence[int], fine: Sequence[int]) -> np.ndarray:
    """(Nq, product of fine): rows (Nq, product of grid) with each token repeated."""
    spread = rows.reshape(-1, *grid)
    for axis, (count, more) in enumerate(zip(grid, fine, strict=True), start=1):
        spread = np.repeat(spread, more // count, axis)
    return spread.reshape(len(rows), -1)


def colour_ends(*maps: np.ndarray) -> tuple[float, float]:
    """Even shares at the ends of the colours: 1, and the largest of all maps, 2 at least."""
    return 1.0, max(2.0, *(float(one.max()) for one in maps))


def above_even(shares: np.ndarray) -> np.ndarray:
    """Even shares with NaN, which is not drawn, below 1: the image shows where the question does not look."""
    return np.where(shares >= 1 - _EVEN, shares, np.nan)


def picture_names(masked: bool) -> tuple[str, str]:
    """What stands above the student's and the teacher's picture."""
    return ("student, on what it saw", "teacher, on the whole volume") if masked else ("student", "teacher")


# ---------------------------------------------------------------- drawing
def _attention_picture(
    volume,
    student_attention,
    teacher_attention,
    *,
    query_grid: Sequence[int],
    student_grid: Sequence[int],
    teacher_grid: Sequence[int] | None = None,
    token: Sequence[int] | None = None,
    head: int = 0,
    masked=None,
    centre: Sequence[int] | None = None,
    planes: Sequence[str] = ("axial", "coronal"),
    spacing_mm: Sequence[float] | None = None,
    window=None,
    opacity: float = 0.5,
    title: str | None = None,
) -> tuple[Callable, tuple[float, float]]:
    whole = as_volume(volume)
    teacher_grid = student_grid if teacher_grid is None else teacher_grid
    sides = cell_sides(whole.shape, query_grid, "query_grid")
    token = tuple(n // 2 for n in query_grid) if token is None else checked_token(token, query_grid)
    number = token_number(token, query_grid)
    drawn = []
    for name, given, grid in (
        ("student", student_attention, student_grid),
        ("teacher", teacher_attention, teacher_grid),
    ):
        cell_sides(whole.shape, grid, f"{name}_grid")
        attention = as_attention(given, query_grid, grid, f"{name}_attention")
        if head not in range(len(attention.values) + 1):
            raise ValueError(f"head is 1 to {len(attention.values)}, or 0 for their mean; got {head!r}.")
        drawn.append(even_shares(attention, head, number, whole.shape))
    ends, cube = colour_ends(*drawn), token_cube(token, query_grid, whole.shape)
    window = window_range(whole, window) if masked is not None and not isinstance(window, str) else window
    look = {"spacing_mm": spacing_mm, "window": window, "heat_range": ends, "contour": cube, "opacity": opacity}
    seen = volume if masked is None else masked
    images = zip((seen, volume), drawn, strict=True)
    pair = [stack_layers(image, heat=above_even(heat), **look) for image, heat in images]
    centre = patch_centre(number, query_grid, sides) if centre is None else centre

    room, size = _room(pair[0], planes, title)

    def draw(figure) -> None:
        axes = figure.subplots(1, 2 * len(planes), squeeze=False, width_ratios=room * 2)[0]
        for number, ax in enumerate(axes):
            which, place = divmod(number, len(planes))
            name = picture_names(masked is not None)[which] if place == 0 else " "
            draw_slice(ax, pair[which], planes[place], int(centre[plane_of(planes[place]).fixed]), title=name)
        _draw_scale(figure, axes, pair[0])
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=10)

    return draw, size


def _room(layers: Layers, planes: Sequence[str], title: str | None) -> tuple[list[float], tuple[float, float]]:
    """Inches across for each plane, if it can be enough for the words above it, and the size of the figure."""
    sizes = [extent_mm(layers, plane) for plane in planes]
    longest, narrowest = max(max(size) for size in sizes), min(width for width, _ in sizes)
    scale = min(max(_INCHES / longest, _LEAST_INCHES / narrowest), _MOST_INCHES / longest)  # one for all planes
    lines = 0 if not title else title.count("\n") + 1
    room = [max(width * scale, _LEAST_INCHES) + 0.45 for width, _ in sizes]
    return room, (2 * sum(room) + 1.0, max(height for _, height in sizes) * scale + 1.1 + 0.2 * lines)


def _draw_scale(figure, axes, layers: Layers) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    low, high = layers.heat.range
    scale = ScalarMappable(Normalize(low, high), ListedColormap(layers.heat.palette / 255))
    bar = figure.colorbar(scale, ax=list(axes), shrink=0.8, aspect=20, pad=0.02, panchor=False)
    ticks = (low, (low + high) / 2, high)
    bar.set_ticks(ticks, labels=[short_number(v) for v in ticks])
    bar.set_label("attention, times even share", fontsize=8.5, color=_SOFT_INK)
    bar.ax.tick_params(length=2, labelsize=8, colors=_SOFT_INK)
    bar.outline.set_visible(False)
