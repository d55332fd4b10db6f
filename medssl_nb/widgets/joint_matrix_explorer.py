"""What do the losses of two views' clusters see, and what not? Their joint matrix, broken on purpose and read aloud."""

import math
import textwrap
from html import escape

import ipywidgets
import numpy as np

from medssl_nb.viz.matrices import checked_cell, joint_matrix_png
from medssl_nb.viz.patches import join_pngs
from medssl_nb.viz.slices import layers_png
from medssl_nb.viz.windows import short_number
from medssl_nb.widgets.matrix_canvas import MatrixCanvas
from medssl_nb.widgets.packing import inner_voxels
from medssl_nb.widgets.picture import WithPicture
from medssl_nb.widgets.setting import Setting
from medssl_nb.widgets.slice_canvas import SliceCanvas

BROKEN = ("as it is", "names of view B permuted", "everything in one cluster", "uniform")
_NEARLY = 0.95  # of the largest heat: from there on a voxel counts as its highest place
_FAINT = 0.02  # heat below this share of its scale is left transparent
_LETTERS = {"matrix": 62, "slices": 110}  # in a line above either picture
_WIDE, _LONG = {"description_width": "8em"}, {"width": "28em", "max_width": "100%"}


class JointMatrixExplorer(WithPicture, ipywidgets.VBox):
    """The joint matrix P of the clusters of two views; break it, sharpen it, and see which loss notices.

    A click on a cell (or an arrow key there) lays a_i(x) b_j(x) over the slices and goes to where it is highest.
    Without a browser: set `.broken`, `.sharpness`, `.alpha`, `.marginal_weight` or `.cell`; read `.joint`, `.numbers`,
    `.line.value` and `.cell_line.value`.

    >>> explorer = JointMatrixExplorer(probs_a, probs_b, volume=image)
    >>> explorer.broken = "names of view B permuted"
    >>> explorer.numbers["trace"]

    P is not made symmetric, so that a cell counts voxels in cluster i of view A and j of view B, in this order.

    Args:
        probs_a, probs_b: (K, X, Y, Z) or (1, K, X, Y, Z), sums 1 over K: clusters of the same voxels in two views.
        volume: (X, Y, Z) or (1, X, Y, Z), shown below the heat of a cell; without it there are no slices.
        alpha: of `regularized_mi_loss`, 0 to 1.
        marginal_weight: lambda of both losses, 0 to 3.
        broken: "as it is"; "names of view B permuted" (k becomes K - 1 - k); "everything in one cluster" (number 0
            in both views); "uniform".
        sharpness: s of p^s / sum p^s, 0.1 to 4, of both views before anything is broken.
        cell: (i, j) to start with, None for none.
        title: a line above.
        spacing_mm, window, planes, size: as in `SliceCanvas`.

    Raises:
        ValueError: no probabilities, shapes that do not agree, values outside their range.
    """

    broken = Setting("what is done to the clusters")
    sharpness = Setting("the exponent of the probabilities")
    alpha = Setting("the pull towards the balanced diagonal")
    marginal_weight = Setting("lambda, the weight of balance")

    def __init__(
        self,
        probs_a,
        probs_b,
        *,
        volume=None,
        alpha: float = 0.5,
        marginal_weight: float = 1.0,
        broken: str = BROKEN[0],
        sharpness: float = 1.0,
        cell=None,
        title: str = "",
        spacing_mm=None,
        window=None,
        planes=("axial", "coronal"),
        size: int = 300,
    ):
        from medssl_nb.methods.boundary_infomax import joint_probability

        given = _same_precision(_one_sample("probs_a", probs_a), _one_sample("probs_b", probs_b))
        joint = joint_probability(*given, symmetric=False)  # refuses what are no probabilities
        self._given, self._logs, self.title = given, [probs.log() for probs in given], title
        self.canvas = None
        if volume is not None:
            look = {"spacing_mm": spacing_mm, "window": window, "planes": planes, "size": size, "opacity": 0.6}
            self.canvas = SliceCanvas(volume, controls=("slices", "overlay"), **look)
            if tuple(self.canvas.shape) != tuple(given[0].shape[2:]):
                raise ValueError(
                    f"volume has shape {tuple(self.canvas.shape)}, the probabilities {tuple(given[0].shape[2:])}; both "
                    "must lie on one grid."
                )
        self.matrix = MatrixCanvas(joint, layout={"flex": "0 1 440px", "min_width": "260px"})
        self.controls = _controls()
        self.broken, self.sharpness, self.alpha, self.marginal_weight = broken, sharpness, alpha, marginal_weight
        self.line, self.cell_line = ipywidgets.HTML(), ipywidgets.HTML()
        self._sharpen()
        self.matrix.cell = cell
        self._show_cell()
        self.controls["sharpness"].observe(self._sharpen, names="value")
        self.controls["broken"].observe(self._break, names="value")
        for name in ("alpha", "marginal_weight"):
            self.controls[name].observe(self._count, names="value")
        self.matrix.observe(self._show_cell, names="cell")
        super().__init__(children=self._arranged())

    # ---- what is chosen ----

    @property
    def cell(self) -> tuple[int, int] | None:
        """(cluster of view A, cluster of view B) that is chosen, None for none."""
        return tuple(self.matrix.cell) or None

    @cell.setter
    def cell(self, cell) -> None:
        self.matrix.cell = checked_cell(cell, len(self.joint)) or ()

    @property
    def heat(self) -> np.ndarray | None:
        """a_i(x) b_j(x) of the chosen cell, (X, Y, Z); its mean is P[i, j]. None without a cell."""
        if self.cell is None:
            return None
        a, b = self._views
        return (a[0, self.cell[0]] * b[0, self.cell[1]]).numpy()

    # ---- what follows what ----

    def _sharpen(self, change=None) -> None:
        as_given = math.isclose(self.sharpness, 1)  # the browser sends 1.0000000000000002 back
        self._sharp = self._given if as_given else [_sharpened(logs, self.sharpness) for logs in self._logs]
        self._break()

    def _break(self, change=None) -> None:
        from medssl_nb.methods.boundary_infomax import joint_probability

        self._views = _broken(self.broken, *self._sharp)
        self.joint = joint_probability(*self._views, symmetric=False)
        self.matrix.set_joint(self.joint)
        self._count()
        self._show_heat()

    def _count(self, change=None) -> None:
        from medssl_nb.methods.boundary_infomax import iic_loss, mutual_information, regularized_mi_loss

        weight = {"marginal_weight": self.marginal_weight}
        counted = {
            "mutual_information": mutual_information(self.joint),
            "iic_loss": iic_loss(self.joint, **weight),
            "regularized_mi_loss": regularized_mi_loss(self.joint, alpha=self.alpha, **weight),
            "trace": self.joint.trace(),
        }
        self.numbers = {name: float(value) for name, value in counted.items()}
        self.line.value = self._words()
        self.cell_line.value = self._cell_words()

    def _show_cell(self, change=None) -> None:
        self.cell_line.value = self._cell_words()
        self._show_heat(go_there=True)

    def _show_heat(self, go_there: bool = False) -> None:
        if self.canvas is None:
            return
        heat = self.heat
        if heat is None or heat.max() <= 0:
            self.canvas.set_heat(None)
            return
        top = max(float(heat.max()), 1 / len(self.joint))
        name = "a{}·b{}".format(*self.cell)
        shown = np.where(heat >= _FAINT * top, heat, np.nan)
        with self.canvas.hold_sync():
            seen = None if np.isnan(shown).all() else shown
            self.canvas.set_heat(seen, heat_range=(0, top), heat_name=name)
            if go_there and seen is not None:  # else there is no highest place to go to
                self.canvas.crosshair = inner_voxels((heat >= _NEARLY * heat.max()).astype(np.uint8), 1)[0]

    # ---- words ----

    def _words(self) -> str:
        clusters, found = len(self.joint), self.numbers
        words = [
            f"MI {_number(found['mutual_information'])} of at most {np.log(clusters):.3f} (log {clusters})",
            f"IIC loss {_number(found['iic_loss'])}",
            f"regularised loss {_number(found['regularized_mi_loss'])}",
            f"same cluster in both views: {_percent(found['trace'])} of voxels (trace of P)",
        ]
        return " · ".join(words)

    def _cell_words(self) -> str:
        if self.cell is None:
            return "no cell chosen"
        i, j = self.cell
        share = float(self.joint[i, j])
        where = f"in cluster {i} in view A and {j} in view B"
        nowhere = "" if share > 0 else "; nothing to show on the slices"
        return f"P[{i}, {j}] = {short_number(share)}: {_percent(share)} of voxels are {where}{nowhere}"

    # ---- arrangement ----

    def _arranged(self) -> list:
        row = {"flex_flow": "row wrap"}
        controls = self.controls
        above = [
            ipywidgets.HBox([controls["broken"], controls["sharpness"]], layout=row),
            ipywidgets.HBox([controls["alpha"], controls["marginal_weight"]], layout=row),
        ]
        titles = [ipywidgets.HTML(f"<b>{escape(self.title)}</b>")] if self.title else []
        if self.canvas is None:
            return [*titles, *above, self.line, self.cell_line, self.matrix]
        self.canvas.layout = {"flex": "1 1 420px", "min_width": "0"}
        both = ipywidgets.HBox([self.matrix, self.canvas], layout={**row, "align_items": "flex-start"})
        return [*titles, *above, self.line, self.cell_line, both]

    def _static_png(self) -> bytes:
        what = f"{self.broken}, sharpness {self.sharpness:g}, α {self.alpha:g}, λ {self.marginal_weight:g}"
        head = [line for line in (self.title, what, self.line.value) if line]
        matrix = joint_matrix_png(self.joint, cell=self.cell, title=_wrapped(head, _LETTERS["matrix"]))
        if self.canvas is None:
            return matrix
        title = _wrapped([self.cell_line.value], _LETTERS["slices"])
        slices = layers_png(self.canvas._layers(), self.canvas.crosshair, planes=self.canvas.planes, title=title)
        return join_pngs([matrix, slices], beside=True)


def _one_sample(name: str, probs):
    """(1, K, X, Y, Z) tensor of at least single precision on the CPU."""
    import torch

    from medssl_nb.precision import at_least_float32

    tensor = at_least_float32(torch.as_tensor(probs).detach().cpu())
    tensor = tensor[None] if tensor.ndim == 4 else tensor
    if tensor.ndim != 5 or len(tensor) != 1:
        raise ValueError(
            f"{name} must be the clusters of one volume, (K, X, Y, Z) or (1, K, X, Y, Z), got "
            f"{tuple(np.shape(probs))}. Of a batch take one: probs[:1]; of a slice (K, X, Y) write probs[..., None]."
        )
    return tensor


def _same_precision(a, b) -> list:
    import torch

    return [view.to(torch.promote_types(a.dtype, b.dtype)) for view in (a, b)]


def _sharpened(logs, sharpness: float):
    """p^s / sum p^s from log p (1, K, X, Y, Z); log 0 gives 0 again."""
    powers = (sharpness * logs).exp_()  # at least (1/K)^4 somewhere in each voxel: the sum is no 0
    return powers.div_(powers.sum(dim=1, keepdim=True))


def _broken(how: str, a, b) -> list:
    """Both views after something has been done to their clusters."""
    import torch

    if how == BROKEN[1]:
        return [a, b.flip(1)]  # what view B called k it now calls K - 1 - k
    if how == BROKEN[2]:
        one = torch.zeros_like(a)
        one[:, 0] = 1
        return [one, one]
    if how == BROKEN[3]:
        even = torch.full_like(a, 1 / a.shape[1])
        return [even, even]
    return [a, b]


def _controls() -> dict:
    look = {"style": _WIDE, "layout": _LONG}
    return {
        "broken": ipywidgets.Dropdown(options=BROKEN, description="break it", **look),
        "sharpness": ipywidgets.FloatSlider(1, min=0.1, max=4, step=0.1, description="sharpness", **look),
        "alpha": ipywidgets.FloatSlider(0.5, min=0, max=1, step=0.05, description="alpha", **look),
        "marginal_weight": ipywidgets.FloatSlider(1, min=0, max=3, step=0.1, description="lambda", **look),
    }


def _number(value: float) -> str:
    return f"{value + 0.0:.3f}".replace("-0.000", "0.000").replace("-", "−")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.2g} %"


def _wrapped(lines: list[str], letters: int) -> str:
    return "\n".join(part for line in lines for part in textwrap.wrap(line, letters))
