import io
import subprocess
import sys

import matplotlib
import numpy as np
import pytest

from medssl_nb import viz
from medssl_nb.viz.colours import MASK_COLOUR, rgb
from medssl_nb.viz.layers import stack_layers
from medssl_nb.viz.slices import layers_png

SHAPE = (20, 24, 16)


@pytest.fixture
def shown(monkeypatch):
    """Figures that plt.show() would have shown."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figures = []
    monkeypatch.setattr(plt, "show", lambda: figures.append(plt.gcf()))
    yield figures
    plt.close("all")


def texts(figure) -> list[str]:
    return titles(figure) + [text.get_text() for ax in figure.axes for text in ax.texts]


def titles(figure) -> list[str]:
    return [ax.get_title(loc="left") for ax in figure.axes]


def pixels(png: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_one_lit_voxel_is_where_a_radiologist_looks_for_it_in_the_png(plane):
    mask = np.zeros(SHAPE, bool)
    mask[17, 20, 13] = True  # right, anterior, superior: left of the middle and above it in every plane
    layers = stack_layers(np.zeros(SHAPE), window=(0, 1), mask=mask, opacity=1, spacing_mm=(2, 2, 3))
    image = pixels(layers_png(layers, (17, 20, 13), planes=[plane]))
    black = (image < 12).all(axis=2)
    columns = np.flatnonzero(black.sum(axis=0) > black.sum(axis=0).max() / 2)  # those of the picture, not of the text
    rows = np.flatnonzero(black.sum(axis=1) > black.sum(axis=1).max() / 2)
    lit = (abs(image - rgb(MASK_COLOUR)) < 12).all(axis=2)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    where = np.argwhere(lit).mean(axis=0) / lit.shape
    wide, high = {"axial": ("x", "y"), "coronal": ("x", "z"), "sagittal": ("y", "z")}[plane]
    centre = {"x": (19.5 - 17) / 20, "y": (23.5 - 20) / 24, "z": (15.5 - 13) / 16}
    np.testing.assert_allclose(where, [centre[high], centre[wide]], atol=0.02)


def test_same_input_same_bytes_whatever_the_notebook_has_set():
    volume = np.random.default_rng(0).normal(size=SHAPE)
    first = viz.planes_png(volume, labels=volume > 1, title="twice")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 20}):
        second = viz.planes_png(volume, labels=volume > 1, title="twice")
    assert first == second
    assert first.startswith(b"\x89PNG")
    assert b"Software" not in first and b"tIME" not in first
    assert first != viz.planes_png(volume, (3, 3, 3), labels=volume > 1, title="twice")


def test_show_slice_says_what_is_shown(shown):
    result = viz.show_slice(np.zeros(SHAPE), "coronal", 5, spacing_mm=(1, 1, 2), window="lung", title="Case 3")
    assert result is None
    (figure,) = shown
    assert {"R", "L", "S", "I", "Case 3", "coronal, y = 5 · −1350…150 HU"} <= set(texts(figure))
    (ax,) = figure.axes
    assert ax.get_xlabel() == "mm"
    assert ax.get_xlim() == (0, 20) and ax.get_ylim() == (32, 0), "true mm in both directions"
    assert ax.get_aspect() == 1


def test_axes_count_voxels_where_mm_are_not_known(shown):
    viz.show_slice(np.zeros(SHAPE))
    assert shown[0].axes[0].get_xlabel() == "voxels"
    assert "axial, z = 8" in texts(shown[0]), "the middle slice"


def test_legend_names_what_is_on_the_slice(shown):
    labels = np.zeros(SHAPE, int)
    labels[:5, :, 3], labels[9, 9, 3], labels[..., 9] = 4, 6, 8
    viz.show_slice(np.zeros(SHAPE), index=3, labels=labels, label_names={4: "liver", 6: "aorta", 8: "colon"})
    legend = shown[0].axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["liver", "aorta"]


def test_a_long_legend_is_cut_and_says_so(shown):
    labels = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 30
    viz.show_slice(np.zeros(SHAPE), index=3, labels=labels)
    names = [text.get_text() for text in shown[0].axes[0].get_legend().get_texts()]
    on_slice = len(np.unique(labels[..., 3])) - (0 in labels[..., 3])
    assert len(names) == 14
    assert names[-1] == f"and {on_slice - 13} more"


def test_draws_on_given_axes_without_showing(shown):
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    heat = np.zeros(SHAPE)
    heat[3:6] = 1
    viz.show_slice(np.zeros(SHAPE), "sagittal", 4, heat=heat, contour=heat > 0.5, ax=ax)
    assert shown == []
    assert ax.get_title(loc="left") == "sagittal, x = 4"


def test_show_planes_marks_one_voxel_in_three_planes(shown):
    viz.show_planes(np.zeros(SHAPE), (3, 4, 5), spacing_mm=(1, 1, 1), title="Head")
    assert titles(shown[0]) == ["axial, z = 5", "coronal, y = 4", "sagittal, x = 3"]
    for ax, at in zip(shown[0].axes, [(16.5, 19.5), (16.5, 10.5), (19.5, 10.5)], strict=True):
        across = [line for line in ax.lines if line.get_ydata()[0] == line.get_ydata()[1]]
        along = [line for line in ax.lines if line.get_xdata()[0] == line.get_xdata()[1]]
        assert {line.get_ydata()[0] for line in across} == {at[1]}
        assert {line.get_xdata()[0] for line in along} == {at[0]}


def test_one_scale_for_the_three_planes(shown):
    viz.show_planes(np.zeros((20, 40, 30)), spacing_mm=(1, 1, 2))
    figure = shown[0]
    figure.canvas.draw()
    per_mm = [np.diff(ax.transData.transform([(0, 0), (10, 0)])[:, 0])[0] for ax in figure.axes]
    np.testing.assert_allclose(per_mm, per_mm[0], rtol=0.02)


def test_a_volume_of_one_slice_is_one_picture(shown):
    viz.show_planes(np.zeros((8, 8, 1)))
    assert len(shown[0].axes) == 1


@pytest.mark.parametrize(
    ("centre", "message"),
    [((1, 2), "three whole numbers"), ((0, 0, 16), "outside"), ((-1, 0, 0), "outside"), ((0.5, 0, 0), "whole numbers")],
)
def test_a_centre_that_is_no_voxel_is_refused(centre, message):
    with pytest.raises(ValueError, match=message):
        viz.planes_png(np.zeros(SHAPE), centre)


def test_show_row_mixes_volumes_and_options(shown):
    volume = np.zeros(SHAPE)
    viz.show_row([volume, {"volume": volume, "index": 2, "window": "bone"}], titles=["a", "b"], index=7, title="Both")
    assert {"a", "axial, z = 7 · −0.5…0.5", "b", "axial, z = 2 · −450…1050 HU"} <= set(texts(shown[0]))
    assert shown[0].get_suptitle() == "Both"


def test_show_row_refuses_what_it_cannot_place():
    with pytest.raises(ValueError, match="no slices"):
        viz.show_row([])
    with pytest.raises(ValueError, match="2 slices and 1 titles"):
        viz.show_row([np.zeros(SHAPE)] * 2, titles=["one"])
    with pytest.raises(ValueError, match="needs a volume"):
        viz.show_row([{"index": 3}])


def test_wrong_option_names_are_refused():
    with pytest.raises(TypeError, match="opasity"):
        viz.show_slice(np.zeros(SHAPE), opasity=0.3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(1, 1, 1), (30, 2, 2), (2, 2, 200)])
def test_odd_shapes_are_drawn(shape):
    assert viz.planes_png(np.random.default_rng(0).normal(size=shape)).startswith(b"\x89PNG")


def test_import_is_cheap():
    code = (
        "import sys, medssl_nb.viz, medssl_nb.widgets; print([m for m in ('torch', 'monai', 'matplotlib', 'nibabel', "
    )
    code += "'skimage', 'nilearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_volume_that_is_not_ras_is_refused_whatever_spacing_is_given():
    import torch
    from monai.data import MetaTensor

    lps = MetaTensor(torch.rand(1, 6, 7, 8), affine=torch.diag(torch.tensor([-1.0, -1, 1, 1], dtype=torch.float64)))
    for options in ({}, {"spacing_mm": (1, 1, 1)}):
        with pytest.raises(ValueError, match="run to LPS, not to RAS"):
            viz.planes_png(lps, **options)


def test_heat_maps_of_a_row_share_one_scale(monkeypatch):
    import matplotlib.pyplot as plt

    from medssl_nb.viz import slices

    monkeypatch.setattr(plt, "show", lambda: None)
    drawn = []
    monkeypatch.setattr(slices, "draw_slice", lambda ax, layers, *a, **k: drawn.append(layers.heat.range))
    volume = np.random.default_rng(0).random((5, 6, 7))
    slices.show_row([{"volume": volume, "heat": volume}, {"volume": volume, "heat": 100 * volume}])
    plt.close("all")
    assert drawn[0] == drawn[1] == (pytest.approx(volume.min(), abs=1e-6), pytest.approx(100 * volume.max(), rel=1e-6))
