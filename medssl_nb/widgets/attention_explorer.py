"""Where does the student's question look, in its own map and in the teacher's?"""

import math
from collections.abc import Sequence
from dataclasses import replace
from html import escape, unescape

import ipywidgets
import numpy as np

from medssl_nb.viz.attention import (
    SCALE_NAME,
    Attention,
    above_even,
    agreements,
    as_attention,
    attention_png,
    cell_sides,
    checked_token,
    colour_ends,
    even_shares,
    picture_names,
    token_cube,
    token_number,
)
from medssl_nb.viz.distillation import entropy
from medssl_nb.viz.patches import patch_centre
from medssl_nb.widgets.picture import WithPicture
from medssl_nb.widgets.setting import Setting
from medssl_nb.widgets.similarity_canvas import beside, voxel_text
from medssl_nb.widgets.slice_canvas import SliceCanvas

_KEY = (
    "Attention is told in even shares: 1 is what a token gets if all get alike, and less is not drawn. "
    "Cyan: the token that asks."
)


class AttentionExplorer(WithPicture, ipywidgets.VBox):
    """Click anywhere: the student's token of that place asks, and both maps show what it looks at.

    At the left what the student saw with the student's attention, at the right the whole volume with the teacher's;
    the token that asks is outlined in both. Colours count in even shares: 1 is what a token would get if all got alike,
    and less is not drawn. Enter asks for the token under the crosshair. Without a browser: set `.token` or `.head`,
    read
        student_map, teacher_map: (X, Y, Z) attention in even shares.
        agreement: correlation of the two maps over their tokens, None where one of them is even.
        mean_agreement: mean of it over all questions that have one, with this head; None if none has.
        entropy: of the student's and the teacher's distribution, in nats, at most ln of the number of tokens.
        line.value: these in words.

    Args:
        volume: (X, Y, Z) or (1, X, Y, Z), sides multiples of all grids.
        student_attention, teacher_attention: (H, Nq, Nc) of one sample, rows of sum 1: before dropout.
        query_grid: tokens along x, y, z that ask, product Nq; tokens are numbered row-major.
        student_grid: tokens of the student's map, product Nc.
        teacher_grid: tokens of the teacher's; None is that of the student.
        masked: the volume as the student saw it; None shows the whole one.
        token: (x, y, z) of the question to start with; None is the middle of the grid.
        head: 1 to H, 0 for the mean of all heads.
        title: a line above.
        spacing_mm, window, planes, size: as in `SliceCanvas`.

    Raises:
        ValueError: attention that is none, grids that do not fit, no such token or head.
    """

    head = Setting("the head whose attention is shown, 0 for the mean of all")

    def __init__(
        self,
        volume,
        student_attention,
        teacher_attention,
        *,
        query_grid: Sequence[int],
        student_grid: Sequence[int],
        teacher_grid: Sequence[int] | None = None,
        masked=None,
        spacing_mm: Sequence[float] | None = None,
        window=None,
        token: Sequence[int] | None = None,
        head: int = 0,
        title: str = "",
        planes: Sequence[str] | None = ("axial", "coronal"),
        size: int = 200,
    ):
        teacher_grid = student_grid if teacher_grid is None else teacher_grid
        look = {"spacing_mm": spacing_mm, "planes": planes, "size": size}
        right = AttentionCanvas(volume, window=window, **look)
        shared = window if isinstance(window, str) else right.window  # what is hidden must not change the greys
        left = AttentionCanvas(volume if masked is None else masked, window=shared, **look)
        left.title, right.title = picture_names(masked is not None)
        self._masked = None if masked is None else left._volume
        if left.shape != right.shape:
            raise ValueError(f"masked has shape {tuple(left.shape)}, the volume {tuple(right.shape)}; give one grid.")
        self.canvases, self.title, self._shape = [left, right], title, tuple(right.shape)
        self._sides = cell_sides(self._shape, query_grid, "query_grid")
        self.query_grid = tuple(int(n) for n in query_grid)
        self._attentions = [
            self._checked(student_attention, student_grid, "student"),
            self._checked(teacher_attention, teacher_grid, "teacher"),
        ]
        heads = _same_heads(*self._attentions)
        names = [(f"mean of {heads} heads", 0), *((f"head {k}", k) for k in range(1, heads + 1))]
        self.controls = {"head": ipywidgets.Dropdown(options=names, description="head", layout={"width": "20em"})}
        self.head = head
        self.line = ipywidgets.HTML(layout={"min_height": "58px"})  # two lines, so that pictures stay where they are
        middle = tuple(n // 2 for n in self.query_grid)
        self._token = middle if token is None else checked_token(token, self.query_grid)
        self._go_to(self._centre())
        self._measure()
        self._show()
        for canvas in self.canvases:
            canvas.observe(self._take_click, names="clicks")
        self.controls["head"].observe(self._change_head, names="value")
        ipywidgets.jslink((left, "crosshair"), (right, "crosshair"))
        titles, key = [ipywidgets.HTML(f"<b>{escape(title)}</b>")] if title else [], ipywidgets.HTML(_KEY)
        super().__init__(children=[*titles, self.controls["head"], self.line, beside(*self.canvases), key])

    def _checked(self, attention, grid: Sequence[int], name: str) -> Attention:
        cell_sides(self._shape, grid, f"{name}_grid")
        return as_attention(attention, self.query_grid, grid, f"{name}_attention")

    # ---- what Python and the reader both set, and what comes of it ----

    @property
    def token(self) -> tuple[int, int, int]:
        """Place (x, y, z) of the question in its grid."""
        return self._token

    @token.setter
    def token(self, token: Sequence[int]) -> None:
        self._token = checked_token(token, self.query_grid)
        if self._token_at(self.canvases[0].crosshair) != self._token:
            self._go_to(self._centre())
        self._show()

    @property
    def student_map(self) -> np.ndarray:
        return self._map(0)

    @property
    def teacher_map(self) -> np.ndarray:
        return self._map(1)

    @property
    def agreement(self) -> float | None:
        found = float(self._agreements[self._number])
        return None if math.isnan(found) else found

    @property
    def mean_agreement(self) -> float | None:
        known = self._agreements[~np.isnan(self._agreements)]
        return float(known.mean()) if len(known) else None

    @property
    def entropy(self) -> tuple[float, float]:
        return tuple(float(entropy(one.of_head(self.head)[self._number])) for one in self._attentions)

    @property
    def _number(self) -> int:
        return token_number(self._token, self.query_grid)

    def _map(self, which: int) -> np.ndarray:
        return even_shares(self._attentions[which], self.head, self._number, self._shape)

    # ---- what follows what ----

    def _take_click(self, change) -> None:
        """A click in either canvas: both go to it, and the token there asks."""
        voxel = change["owner"].clicked
        self._go_to(voxel)
        self.token = self._token_at(voxel)

    def _change_head(self, change=None) -> None:
        self._measure()
        self._show()

    def _measure(self) -> None:
        self._agreements = agreements(*self._attentions, self.head)

    def _show(self) -> None:
        maps = [self.student_map, self.teacher_map]
        ends, cube = colour_ends(*maps), token_cube(self._token, self.query_grid, self._shape)
        for canvas, shown in zip(self.canvases, maps, strict=True):
            canvas.show(shown, ends, cube)
        self.line.value = escape(self._words())

    def _go_to(self, voxel: Sequence[int]) -> None:
        for canvas in self.canvases:
            canvas.crosshair = voxel

    def _centre(self) -> tuple[int, ...]:
        return patch_centre(self._number, self.query_grid, self._sides)

    def _token_at(self, voxel: Sequence[int]) -> tuple[int, ...]:
        return tuple(int(v) // side for v, side in zip(voxel, self._sides, strict=True))

    # ---- words and the picture ----

    def _words(self) -> str:
        head = f"head {self.head}" if self.head else "mean of heads"
        found = (
            "one of the two maps is even"
            if self.agreement is None
            else f"the two maps correlate {_signed(self.agreement)}"
        )
        words = f"token {voxel_text(self._token)}, {head}: {found}; entropy {self._entropy_words()}"
        if self.mean_agreement is None:
            return words
        return f"{words}; mean correlation of all {len(self._agreements)} tokens {_signed(self.mean_agreement)}"

    def _entropy_words(self) -> str:
        first, second = (f"{value:.2f}" for value in self.entropy)
        most = [f"ln {n} = {math.log(n):.2f}" for n in (one.values.shape[2] for one in self._attentions)]
        return (
            f"{first} and {second} of {most[0]}"
            if most[0] == most[1]
            else f"{first} of {most[0]}, {second} of {most[1]}"
        )

    def _static_png(self) -> bytes:
        left, right = self.canvases
        student, teacher = self._attentions
        words = unescape(self.line.value).replace("; mean", "\nmean")
        return attention_png(
            right._volume,
            student.values,
            teacher.values,
            query_grid=self.query_grid,
            student_grid=student.grid,
            teacher_grid=teacher.grid,
            token=self._token,
            head=self.head,
            masked=self._masked,
            centre=left.crosshair,
            planes=left.planes,
            spacing_mm=right.spacing if right.affine else None,
            window=right.window,
            opacity=left.opacity,
            title="\n".join([self.title, words] if self.title else [words]),
        )


class AttentionCanvas(SliceCanvas):
    """Planes of one volume, over them the attention of one question, whose cube is outlined."""

    def __init__(self, volume, **options):
        super().__init__(volume, controls=("slices", "readout", "overlay"), opacity=0.5, **options)

    def show(self, attention: np.ndarray, ends: tuple[float, float], cube: np.ndarray) -> None:
        """Lay attention (X, Y, Z) in even shares over the image, and outline the voxels of the cube."""
        with self.hold_sync():
            self.set_heat(above_even(attention), heat_range=ends, heat_name=SCALE_NAME)
            self.set_contour(cube)

    def _layers(self):
        layers = super()._layers()
        named = [replace(one, names=dict.fromkeys(one.names, "asks")) for one in layers.overlays]
        return replace(layers, overlays=tuple(named))


def _same_heads(student: Attention, teacher: Attention) -> int:
    heads = [len(one.values) for one in (student, teacher)]
    if heads[0] != heads[1]:
        raise ValueError(f"student_attention has {heads[0]} heads, teacher_attention {heads[1]}; both need the same.")
    return heads[0]


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
