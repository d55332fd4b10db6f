"""A slice canvas with the embeddings of its volume: what the explorers of embeddings and landmarks have in common."""

import textwrap
from collections.abc import Sequence
from dataclasses import replace

import ipywidgets
import numpy as np

from medssl_nb.widgets.slice_canvas import SliceCanvas

COSINES = (0.0, 1.0)  # at the ends of the colours, the same in all pictures; cosines below 0 are drawn as 0
_UNIT = 1e-2  # how far from 1 the length of a unit vector may be: half precision keeps three digits
_LINE = 36  # letters above the picture of one plane


class SimilarityCanvas(SliceCanvas):
    """Planes of one volume, over them the cosine of each voxel's embedding with one vector.

    Args:
        volume: (X, Y, Z) or (1, X, Y, Z).
        **options: as in `SliceCanvas`.
    """

    def __init__(self, volume, **options):
        self._outline_name = ""
        controls = ("slices", "readout", "overlay")
        super().__init__(volume, **{"controls": controls, "opacity": 0.6, **options})

    def show_cosine(self, similarity: np.ndarray | None, least: float | None = None) -> None:
        """Lay cosines (X, Y, Z) over the image, outlining those of at least `least`; None takes both away."""
        with self.hold_sync():
            shown = None if similarity is None else similarity.clip(-1, 1)  # rounding leads beyond 1
            self.set_heat(shown, heat_range=COSINES, heat_name="cosine")
            outlined = similarity is not None and least is not None
            self.set_contour(similarity >= least if outlined else None)
            self._outline_name = f"cosine ≥ {least:.2f}" if outlined else ""

    def picture(self, *paragraphs: str) -> bytes:
        """PNG of what is shown, with text above; the same state gives the same bytes."""
        from medssl_nb.viz.slices import layers_png

        lines = [line for text in (*paragraphs, self.title) for line in textwrap.wrap(text, _LINE * len(self.planes))]
        return layers_png(self._layers(), self.crosshair, planes=self.planes, title="\n".join(lines) or None)

    def _layers(self):
        layers = super()._layers()
        named = [replace(one, names=dict.fromkeys(one.names, self._outline_name)) for one in layers.overlays]
        return replace(layers, overlays=tuple(named))


def unit_embeddings(embeddings, shape: Sequence[int], name: str = "embeddings"):
    """Embeddings (D, X, Y, Z) or (1, D, X, Y, Z) as a tensor (1, D, X, Y, Z), float32 or float64 on the CPU.

    Args:
        embeddings: tensor or array of any floating type; unit vectors, or zero where there is nothing.
        shape: of the volume they belong to.
        name: for messages.

    Raises:
        ValueError: another shape, vectors of another length, NaN.
    """
    import torch

    from medssl_nb.precision import at_least_float32

    tensor = torch.as_tensor(embeddings).detach().cpu()
    tensor = tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor
    tensor = tensor[None] if tensor.ndim == 4 else tensor
    if tensor.ndim != 5 or len(tensor) != 1 or tuple(tensor.shape[2:]) != tuple(shape) or tensor.shape[1] == 0:
        raise ValueError(
            f"{name} must be (D, X, Y, Z) on the grid of its volume {tuple(shape)}, got {tuple(tensor.shape)}; of a "
            "batch take one image: embeddings[0]."
        )
    if not tensor.is_floating_point():
        raise ValueError(f"{name} must be floating-point numbers, got {tensor.dtype}.")
    tensor = at_least_float32(tensor)
    length = torch.linalg.vector_norm(tensor, dim=1)
    wrong = ~((length - 1).abs() <= _UNIT) & (length != 0)  # NaN is wrong
    if wrong.any():
        raise ValueError(
            f"{name} must be unit vectors, so that a product is a cosine; found one of length {length[wrong][0]:.4g}. "
            "Write l2_normalize(embeddings, dim=0)."
        )
    return tensor


def beside(*canvases: SliceCanvas) -> ipywidgets.HBox:
    """Canvases next to each other where there is room, with one opacity."""
    for canvas in canvases:
        canvas.layout = {"flex": "1 1 380px", "min_width": "0"}
    for other in canvases[1:]:
        ipywidgets.jslink((canvases[0], "opacity"), (other, "opacity"))
    return ipywidgets.HBox(list(canvases), layout={"flex_flow": "row wrap", "align_items": "flex-start"})


def voxel_text(voxel: Sequence[int]) -> str:
    return f"({', '.join(map(str, voxel))})"
