"""Where do the borders of clusters fit the edges of an image? Two clusters whose border is moved by hand."""

from html import escape

import ipywidgets
import numpy as np

from medssl_nb.viz.matrices import MapPicture
from medssl_nb.viz.planes import PLANES, oriented
from medssl_nb.viz.windows import window_range
from medssl_nb.widgets.image_row import ImageRow
from medssl_nb.widgets.picture import WithPicture
from medssl_nb.widgets.setting import Setting

WINDOWS = (3, 5, 7, 9, 11)  # a window of one voxel is always flat
FARTHEST = 12  # voxels that the border may be moved
_STEP = 0.5
_FITS = 0.99
_KEY = (
    "White: border of the two clusters. Cyan: outline of the true region. Drag the border in any picture, or press "
    "the arrow keys there."
)


class BoundaryExplorer(WithPicture, ipywidgets.VBox):
    """Two clusters, the border between them, and how it correlates with the edges of the image, window by window.

    The border is the outline of the true region, moved outwards by `offset` (inwards below 0): it goes where it is
    dragged. The loss is minus the mean of the last picture. Without a browser: set `.offset`, `.window`, `.power`,
    `.width`, `.noise` or `.z`; read
        loss: as `boundary_loss(.probs, .image, ...)`.
        flat_share: share of the voxels with cc > 0.99 whose window holds no piece of the true border.
        edge_cc: mean cc where the window holds one.
        maps: "entropy", "edges", "correlation", each (X, Y).
        line.value: these in words.

    Edges are backward differences: on a step they lie half a voxel behind it along x and y, and so does the best fit.

    >>> explorer = BoundaryExplorer(image, liver, z=20)
    >>> explorer.offset = 3
    >>> explorer.loss

    Args:
        image: (X, Y), (X, Y, Z) or (1, X, Y, Z), as a network gets it (CT: cut to a window).
        mask: bool of the same shape, the true region.
        z: axial slice to start with; None is that with most of the region. Slices without a border are left out.
        window: side of the window of the local correlation in voxels: 3, 5, 7, 9 or 11.
        power: of `edge_target`, 0.25 to 2.
        offset: of the border in voxels, -12 to 12.
        width: of the logistic step from one cluster into the other in voxels, 0.05 to 4.
        noise: standard deviation of noise on the image, as share of its range, 0 to 0.2; always the same draw.
        title: a line above.
        spacing_mm: mm per voxel along x, y (and z); the edges are then differences per mm.

    Raises:
        ValueError: shapes that do not agree, a mask that is not bool or has no border, values outside their range.
    """

    window = Setting("the side of the window in voxels")
    power = Setting("the power of the edges")
    offset = Setting("how far the border is moved outwards, in voxels")
    width = Setting("the width of the step between the clusters, in voxels")
    noise = Setting("the noise, as share of the image's range")

    def __init__(
        self,
        image,
        mask,
        *,
        z: int | None = None,
        spacing_mm=None,
        window: int = 5,
        power: float = 0.75,
        offset: float = 0.0,
        width: float = 1.0,
        noise: float = 0.0,
        title: str = "",
    ):
        self._image = _volume(image, "image").astype(np.float32)
        self._mask = _volume(mask, "mask")
        _check_mask(self._mask, self._image)
        self._flat, self.title = np.ndim(image) == 2, title
        self._spacing = _plane_spacing(spacing_mm)
        self._grey = window_range(self._image)
        self.slices = [k for k in range(self._mask.shape[2]) if 0 < self._mask[..., k].mean() < 1]
        if not self.slices:
            raise ValueError(
                "mask has no border: each slice lies wholly inside or outside of it; choose another region."
            )
        self.controls = _controls(self.slices)
        area = self._mask.sum(axis=(0, 1))
        self._set_z(max(self.slices, key=lambda k: area[k]) if z is None else z)
        self.window, self.power, self.offset, self.width, self.noise = window, power, offset, width, noise
        self.line = ipywidgets.HTML()
        self._draw_noise()
        self._cut()
        self._count()
        letters = () if self._flat else PLANES["axial"].letters
        self.row = ImageRow(self._pictures(), pixel=self._spacing or (1.0, 1.0), letters=letters)
        self._show()
        self._grabbed = (None, 0.0)  # number of the drag, offset when it began
        self.controls["z"].observe(self._change_slice, names="value")
        for name in ("window", "power", "offset", "width", "noise"):
            self.controls[name].observe(self._update, names="value")
        self.row.observe(self._follow_drag, names="drag")
        self.row.observe(self._nudge, names="nudges")
        super().__init__(children=self._arranged())

    # ---- what is chosen and what comes out ----

    @property
    def z(self) -> int | None:
        """Axial slice, None of an image (X, Y)."""
        return None if self._flat else self.controls["z"].value

    @z.setter
    def z(self, z: int) -> None:
        self._set_z(z)

    def _set_z(self, z) -> None:
        if z not in self.slices:
            raise ValueError(
                f"z is an axial slice where the mask has a border, here from {self.slices[0]} to {self.slices[-1]}; "
                f"got {z!r}."
            )
        self.controls["z"].value = z

    # ---- what follows what ----

    def _draw_noise(self) -> None:
        import torch

        draw = torch.randn(self._image.shape[:2], generator=torch.Generator().manual_seed(0))
        self._noise = draw * float(np.ptp(self._image))

    def _cut(self) -> None:
        """Slice of the image and the mask, and for each voxel how far outside the true region it is."""
        index = self.controls["z"].value
        self._slice, self._inside = self._image[..., index], self._mask[..., index]
        self._distance = signed_distance(self._inside)

    def _change_slice(self, change=None) -> None:
        self._cut()
        self._update()

    def _update(self, change=None) -> None:
        self._count()
        self._show()

    def _count(self) -> None:
        """Clusters, maps and numbers of what is chosen."""
        from medssl_nb.methods.boundary_infomax import cluster_entropy

        self.probs = self._clusters()
        self.image = _batch(self._slice) + self.noise * self._noise
        self._entropy = cluster_entropy(self.probs)[:, None]  # (1, 1, X, Y)
        self.maps = self._correlate()
        cc = self.maps["correlation"]
        border = window_holds_border(self._inside, self.window)
        self.loss = -float(cc.mean())
        self.flat_share = float(((cc > _FITS).numpy() & ~border).mean())
        self.edge_cc = float(cc.numpy()[border].mean())

    def _show(self) -> None:
        lines = self._border()
        self.line.value = self._words() + ("" if lines else "; no border is left in the picture")
        with self.row.hold_sync():
            self.row.show(self._pictures(), lines, _view(self._inside))
            self.row.box, self.row.line_text = self.window, f"border moved by {_number(self.offset, 2)} voxels"

    def _clusters(self):
        """(1, 2, X, Y): outside and inside, a logistic step at the border."""
        import torch

        inner = (self.offset - torch.from_numpy(self._distance)) / self.width
        return torch.stack([(-inner).sigmoid(), inner.sigmoid()])[None]

    def _correlate(self) -> dict:
        """Maps (X, Y): entropy and edges from 0 to 1 as the loss takes them, and their local correlation."""
        from medssl_nb.methods.boundary_infomax import edge_target, local_cross_correlation, min_max_normalize

        entropy = min_max_normalize(self._entropy)
        edges = edge_target(self.image, power=self.power, spacing=self._spacing)
        cc = local_cross_correlation(entropy, edges, window=self.window)
        return {"entropy": entropy[0, 0], "edges": edges[0, 0], "correlation": cc[0, 0]}

    def _follow_drag(self, change=None) -> None:
        """The border follows the pointer: it moves by as much as the pointer went outwards."""
        number, *places = self.row.drag
        if number != self._grabbed[0]:
            self._grabbed = (number, self.offset)
        start, here = (self._distance_at(*place) for place in (places[:2], places[2:]))
        self._move_to(self._grabbed[1] + here - start)

    def _nudge(self, change) -> None:
        self._move_to(self.offset + _STEP * (change["new"] - change["old"]))

    def _move_to(self, offset: float) -> None:
        self.offset = min(max(round(offset / _STEP) * _STEP, -FARTHEST), FARTHEST)

    def _distance_at(self, column: float, row: float) -> float:
        """Signed distance at a place of the picture, between voxels too."""
        from scipy.ndimage import map_coordinates

        return float(map_coordinates(_view(self._distance), [[row - 0.5], [column - 0.5]], order=1, mode="nearest")[0])

    # ---- pictures and words ----

    def _pictures(self) -> list[MapPicture]:
        noisy = self.image[0, 0].numpy()
        return [
            MapPicture("image", _view(noisy), self._grey, grey=True),
            MapPicture("entropy", _view(self.maps["entropy"].numpy()), (0, 1), lined=False),  # it is the border
            MapPicture("edge target", _view(self.maps["edges"].numpy()), (0, 1)),
            MapPicture("local correlation", _view(self.maps["correlation"].numpy()), (0, 1)),
        ]

    def _border(self) -> list[np.ndarray]:
        """Lines of (column, row) where both clusters are equally likely."""
        from contourpy import contour_generator

        lines = contour_generator(z=_view(self._distance)).lines(self.offset)
        return [line + 0.5 for line in lines]  # the first voxel's centre lies at 0.5

    def _words(self) -> str:
        return (
            f"loss {_number(self.loss)}: flat against flat gives {100 * self.flat_share:.0f} % of the voxels cc > "
            f"{_FITS:g}; edge windows: mean cc {_number(self.edge_cc, 2)}; largest entropy "
            f"{max(float(self._entropy.max()), 0.0):.2f} of {np.log(2):.2f}"
        )

    def _arranged(self) -> list:
        shown = [control for name, control in self.controls.items() if name != "z" or not self._flat]
        above = ipywidgets.HBox(shown, layout={"flex_flow": "row wrap"})
        titles = [ipywidgets.HTML(f"<b>{escape(self.title)}</b>")] if self.title else []
        return [*titles, above, self.line, self.row, ipywidgets.HTML(_KEY)]

    def _static_png(self) -> bytes:
        values = {"offset": self.offset, "width": self.width, "power": self.power, "noise": self.noise}
        settings = ", ".join(f"{name} {_number(value, 2)}" for name, value in values.items())
        where = "" if self._flat else f"z = {self.z}, "
        lines = [self.title, f"{where}window {self.window} × {self.window}, {settings}", self.line.value]
        return self.row.picture("\n".join(line for line in lines if line))


def signed_distance(inside: np.ndarray) -> np.ndarray:
    """Distance of each voxel of (X, Y) to the outline of a region, in voxels, below 0 inside; float32."""
    from scipy.ndimage import distance_transform_edt

    outwards, inwards = distance_transform_edt(~inside), distance_transform_edt(inside)
    return (outwards - inwards - 0.5 * np.where(inside, -1, 1)).astype(np.float32)  # the outline lies between voxels


def window_holds_border(inside: np.ndarray, window: int) -> np.ndarray:
    """Voxels of (X, Y) whose window holds both inside and outside."""
    from scipy.ndimage import maximum_filter, minimum_filter

    return maximum_filter(inside, window) & ~minimum_filter(inside, window)


def _controls(slices: list[int]) -> dict:
    look = {"style": {"description_width": "8em"}, "layout": {"width": "28em", "max_width": "100%"}}
    offset = {"min": -FARTHEST, "max": FARTHEST, "step": _STEP, "readout_format": ".1f"}
    noise = {"min": 0, "max": 0.2, "step": 0.01, "readout_format": ".0%"}
    return {
        "z": ipywidgets.SelectionSlider(options=slices, description="z", **look),
        "offset": ipywidgets.FloatSlider(0, description="offset", **offset, **look),
        "width": ipywidgets.FloatSlider(1, min=0.05, max=4, step=0.05, description="width", **look),
        "window": ipywidgets.SelectionSlider(options=WINDOWS, value=5, description="window", **look),
        "power": ipywidgets.FloatSlider(0.75, min=0.25, max=2, step=0.05, description="power", **look),
        "noise": ipywidgets.FloatSlider(0, description="noise", **noise, **look),
    }


def _volume(array, name: str) -> np.ndarray:
    """(X, Y, Z) of an image (X, Y), (X, Y, Z) or (1, X, Y, Z); bool stays bool."""
    from medssl_nb.viz.arrays import as_volume

    array = array if hasattr(array, "detach") else np.asarray(array)
    volume = as_volume(array[..., None] if array.ndim == 2 else array, name)
    return volume.view(bool) if str(array.dtype).endswith("bool") else volume


def _check_mask(mask: np.ndarray, image: np.ndarray) -> None:
    if mask.dtype != bool:
        raise ValueError(f"mask says True or False of each voxel, got {mask.dtype}; compare first: labels == 5.")
    if mask.shape != image.shape:
        raise ValueError(f"mask has shape {mask.shape}, the image {image.shape}; both must lie on one grid.")


def _plane_spacing(spacing_mm) -> tuple[float, float] | None:
    if spacing_mm is None:
        return None
    spacing = tuple(float(step) for step in spacing_mm)
    if len(spacing) not in (2, 3) or not all(np.isfinite(step) and step > 0 for step in spacing):
        raise ValueError(f"spacing_mm is mm per voxel along x, y (and z), each above 0; got {spacing_mm}.")
    return spacing[:2]


def _batch(image: np.ndarray):
    import torch

    return torch.from_numpy(np.ascontiguousarray(image))[None, None]  # (1, 1, X, Y)


def _view(array: np.ndarray) -> np.ndarray:
    """(X, Y) as displayed: rows A to P, columns R to L."""
    return oriented(array[..., None], "axial", 0)


def _number(value: float, digits: int = 3) -> str:
    text = f"{value:.{digits}f}"
    return ("0" if float(text) == 0 else text).replace("-", "−")
