import base64
import gzip
import json

import numpy as np
import pytest
import torch

from medssl_nb.widgets import SliceCanvas, VolumeExplorer
from medssl_nb.widgets.slice_canvas import CONTROLS

SHAPE = (12, 14, 10)
AFFINE = np.array([[2.0, 0, 0, -10], [0, 3, 0, 5], [0, 0, 4, 100], [0, 0, 0, 1]])


@pytest.fixture
def ct() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)


@pytest.fixture
def organs() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[:4, :, :], labels[8:, 3:6, 2:7] = 5, 52
    return labels


NAMES = {5: "liver", 52: "aorta"}


@pytest.fixture
def explorer(ct, organs) -> VolumeExplorer:
    return VolumeExplorer(ct, organs, label_names=NAMES, affine=AFFINE, window="soft tissue", title="Belly")


def picture(widget) -> bytes:
    return base64.b64decode(widget._repr_mimebundle_()[0]["image/png"])


def test_the_browser_gets_the_volume(explorer, ct):
    codes = np.frombuffer(gzip.decompress(explorer.volume_bytes), np.uint8).reshape(SHAPE)
    shown = np.array(explorer.levels)[codes]
    inside = (ct > -160) & (ct < 240)
    assert abs(shown - ct)[inside].max() <= explorer.grey_steps[0] / 2
    assert explorer.shape == list(SHAPE)
    assert explorer.spacing == [2, 3, 4]


def test_the_browser_gets_names_colours_and_a_place_of_each_label(explorer, organs):
    codes = np.frombuffer(gzip.decompress(explorer.label_bytes), np.uint8).reshape(SHAPE)
    np.testing.assert_array_equal(np.array([0, 5, 52])[codes], organs)
    assert [(row["id"], row["name"], row["colour"]) for row in explorer.label_table] == [
        (5, "liver", "#a7600c"),
        (52, "aorta", "#aa0d12"),
    ]
    for row in explorer.label_table:
        assert organs[tuple(row["centre"])] == row["id"]


def test_all_that_is_sent_is_json_or_bytes(explorer):
    state = explorer.get_state()
    bytes_of = {name for name, value in state.items() if isinstance(value, bytes)}
    assert bytes_of == {"volume_bytes", "label_bytes", "contour_bytes", "heat_bytes", "heat_palette", "colour_bytes"}
    json.dumps({k: v for k, v in state.items() if k not in bytes_of and k != "layout"}, allow_nan=False)
    assert "DecompressionStream" in state["_esm"]
    assert ".slice-canvas" in state["_css"]


def test_reading_a_voxel(explorer, ct):
    explorer.crosshair = (9, 4, 3)
    assert explorer.crosshair == (9, 4, 3)
    assert explorer.crosshair_mm == (8, 17, 112)
    assert explorer.value_at_crosshair == (ct[9, 4, 3], "aorta", None)
    explorer.crosshair = [6, 0, 0]
    assert explorer.value_at_crosshair.label == "background"


def test_clicks_are_reported_in_voxels_and_mm(explorer):
    assert explorer.clicked == () and explorer.clicked_mm is None
    seen = []
    explorer.observe(lambda change: seen.append(change["new"]), "clicked")
    explorer.set_state({"clicked": [1, 2, 3], "clicks": 1})  # as a message from the browser
    assert seen == [(1, 2, 3)]
    assert explorer.clicked_mm == (-8, 11, 112)
    assert explorer.clicks == 1


def test_mm_that_are_not_known_are_not_invented(ct):
    canvas = SliceCanvas(ct)
    assert canvas.affine == []
    with pytest.raises(ValueError, match="mm are not known"):
        canvas.crosshair_mm  # noqa: B018
    assert SliceCanvas(ct, spacing_mm=(1, 2, 3), crosshair=(1, 1, 1)).crosshair_mm == (1, 2, 3)


def test_a_metatensor_brings_its_affine(ct):
    from monai.data import MetaTensor

    volume = MetaTensor(torch.from_numpy(ct)[None], affine=torch.from_numpy(AFFINE))
    canvas = SliceCanvas(volume, crosshair=(0, 0, 0))
    assert canvas.crosshair_mm == (-10, 5, 100)


@pytest.mark.parametrize("axes", [np.diag([-1.0, 1, 1, 1]), AFFINE[[1, 0, 2, 3]]], ids=["LAS", "ARS"])
def test_other_orientations_are_refused(ct, axes):
    with pytest.raises(ValueError, match=r"run to (LAS|ARS), not to RAS.*read_volume"):
        SliceCanvas(ct, affine=axes)


def test_an_oblique_scan_is_taken(ct):
    turned = AFFINE.copy()
    turned[0, 1], turned[1, 0] = -0.3, 0.3
    assert SliceCanvas(ct, affine=turned).affine == turned.ravel().tolist()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("crosshair", (0, 0, 10), r"outside the volume of shape \(12, 14, 10\)"),
        ("crosshair", (-1, 0, 0), "outside"),
        ("crosshair", (1, 2), "three whole numbers"),
        ("crosshair", (0.5, 0, 0), "three whole numbers"),
        ("crosshair", "abc", "three whole numbers"),
        ("window", (3, 3), "low < high"),
        ("window", "lungs", "'lungs' is not known"),
        ("opacity", 1.5, "opacity runs from 0"),
        ("visible_labels", [5, 6], r"no such label: \[6\]"),
        ("planes", ["axial", "axial"], "different names"),
        ("planes", ["oblique"], "'oblique'"),
        ("planes", [], "one to three"),
        ("controls", ["windows"], "no such controls"),
    ],
)
def test_wrong_values_are_refused_and_change_nothing(explorer, name, value, message):
    before = getattr(explorer, name)
    with pytest.raises(ValueError, match=message):
        setattr(explorer, name, value)
    assert getattr(explorer, name) == before


def test_a_linked_canvas_of_another_size_stays_inside(explorer):
    explorer.set_state({"crosshair": [50, 2, -3]})
    assert explorer.crosshair == (11, 2, 0)


def test_windows_by_name_by_numbers_and_automatic(explorer, ct):
    explorer.window = "lung"
    assert explorer.window == (-1350, 150)
    explorer.window = [0, 10]
    assert explorer.window == (0, 10)
    explorer.window = None
    assert explorer.window == tuple(np.percentile(ct, [0.5, 99.5]))


def test_windows_to_choose_from(explorer, ct):
    names = [name for name, *_ in explorer.presets]
    assert {"soft tissue", "lung", "bone", "automatic", "all values"} <= set(names)
    assert explorer.unit == "HU"
    plain = SliceCanvas(ct, window=(0, 5))
    assert [name for name, *_ in plain.presets] == ["automatic", "all values", "as given"]
    assert plain.window_limits[0] <= 0 < 5 <= plain.window_limits[1]


@pytest.mark.parametrize(
    "change",
    [
        {"crosshair": (3, 3, 3)},
        {"window": (-500, 500)},
        {"opacity": 0.9},
        {"visible_labels": [52]},
        {"label_style": "outline"},
        {"planes": ["coronal"]},
        {"title": "Another"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_picture_follows_what_is_set_and_comes_back(explorer, change):
    ((name, value),) = change.items()
    before, old = picture(explorer), getattr(explorer, name)
    setattr(explorer, name, value)
    assert picture(explorer) != before
    setattr(explorer, name, old)
    assert picture(explorer) == before


def test_the_bundle_holds_widget_picture_and_a_fixed_text(explorer):
    data, _ = explorer._repr_mimebundle_()
    assert data["text/plain"] == "<VolumeExplorer>"
    assert "application/vnd.jupyter.widget-view+json" in data
    assert picture(explorer).startswith(b"\x89PNG")


def test_the_picture_is_that_of_viz(explorer, ct, organs):
    from medssl_nb.viz import planes_png

    same = planes_png(
        ct, (6, 7, 5), title="Belly", spacing_mm=(2, 3, 4), window="soft tissue", labels=organs, label_names=NAMES
    )
    assert picture(explorer) == same


def test_a_mask_is_a_label_called_mask(ct, organs):
    for mask in (organs > 0, torch.from_numpy(organs > 0)):
        canvas = SliceCanvas(ct, mask)
        assert [(row["id"], row["name"]) for row in canvas.label_table] == [(1, "mask")]


def test_heat_and_contour(ct, organs):
    heat = np.where(organs > 0, ct / 1000.0, np.nan)
    canvas = VolumeExplorer(ct, heat=heat, heat_style="difference", heat_name="change", contour=organs > 0)
    assert canvas.heat_range[0] == -canvas.heat_range[1]
    assert len(canvas.heat_palette) == 3 * 256
    assert canvas.contour_table[0]["name"] == "contour"
    canvas.crosshair = (1, 1, 1)
    assert canvas.value_at_crosshair.heat == pytest.approx(ct[1, 1, 1] / 1000)
    before = picture(canvas)
    canvas.set_heat(None)
    assert canvas.heat_bytes == b"" and canvas.value_at_crosshair.heat is None
    without_heat = picture(canvas)
    canvas.set_contour(None)
    assert len({before, without_heat, picture(canvas)}) == 3


def test_the_browser_is_told_where_the_colour_scale_ends_early(ct):
    heat = ct / 1000.0
    low, high = float(heat.min()), float(heat.max())
    canvas = SliceCanvas(ct, heat=heat)
    assert canvas.heat_clipped == [False, False]
    canvas.set_heat(heat, heat_range=(low, (low + high) / 2))
    assert canvas.heat_clipped == [False, True]
    canvas.set_heat(heat, heat_range=((low + high) / 2, high))
    assert canvas.heat_clipped == [True, False]


def test_labels_can_be_exchanged(explorer, organs):
    explorer.set_label(organs == 5)
    assert explorer.visible_labels == (1,)
    assert explorer.label_table[0]["name"] == "mask"
    explorer.set_label(None)
    assert explorer.label_bytes == b"" and explorer.visible_labels == ()
    assert explorer.value_at_crosshair.label is None


def test_a_volume_of_the_same_shape_keeps_labels_and_crosshair(explorer, ct):
    explorer.crosshair = (1, 2, 3)
    explorer.set_volume(-ct, window="soft tissue")
    assert explorer.crosshair == (1, 2, 3)
    assert explorer.value_at_crosshair == (-ct[1, 2, 3], "liver", None)


def test_a_volume_of_another_shape_starts_anew(explorer):
    explorer.crosshair = (11, 13, 9)
    explorer.set_volume(np.zeros((4, 4, 4)))
    assert explorer.crosshair == (2, 2, 2)
    assert explorer.label_table == [] and explorer.affine == []
    assert picture(explorer).startswith(b"\x89PNG")


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.float16, np.float64])
def test_every_number_type(dtype):
    volume = np.zeros((4, 5, 6), dtype)
    volume[1, 2, 3] = 1
    canvas = SliceCanvas(volume, crosshair=(1, 2, 3))
    assert canvas.value_at_crosshair.intensity == 1
    assert canvas.exact


def test_one_slice_and_constant_volumes():
    flat = SliceCanvas(np.zeros((4, 5, 1)))
    assert flat.planes == ("axial",)
    assert flat.window[0] < 0 < flat.window[1]
    assert picture(flat).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label": np.zeros((2, 2, 2), int)}, "label has shape"),
        ({"heat": np.zeros((2, 2, 2))}, "heat has shape"),
        ({"contour": np.full(SHAPE, 0.5)}, "contour holds fractions"),
        ({"affine": np.eye(3)}, r"an affine is \(4, 4\)"),
        ({"crosshair": (99, 0, 0)}, "outside"),
        ({"opasity": 0.3}, "no option"),
        ({"heat": np.zeros(SHAPE), "heat_style": "jet"}, "'jet'"),
    ],
)
def test_what_cannot_be_shown_is_refused(ct, arguments, message):
    with pytest.raises(ValueError, match=message):
        SliceCanvas(ct, **arguments)


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        SliceCanvas(np.full((2, 2, 2), np.nan))


def test_steps_are_stated(ct, explorer):
    inside, anywhere = explorer.grey_steps
    assert 0 < inside <= 400 / 111 + 1e-9 < anywhere
    assert SliceCanvas((ct > 0).astype(float)).grey_steps == (0, 0)


def test_explorer_and_canvas_differ_in_their_controls(ct, explorer):
    assert explorer.controls == CONTROLS
    assert SliceCanvas(ct).controls == ("slices", "readout")
    assert VolumeExplorer(ct, controls=["readout"]).controls == ("readout",)


def test_jslink_joins_two_canvases(ct):
    import ipywidgets

    a, b = SliceCanvas(ct), SliceCanvas(-ct)
    link = ipywidgets.jslink((a, "crosshair"), (b, "crosshair"))
    assert link.source == (a, "crosshair") and link.target == (b, "crosshair")


def test_repr_has_no_address(explorer):
    assert repr(explorer) == "<VolumeExplorer of 12×14×10 voxels, crosshair (6, 7, 5)>"


# ---------------------------------------------------------------- colours and marks
def test_colours_and_marks_reach_the_browser_and_the_picture(explorer, ct):
    seen = {picture(explorer)}
    colours = np.random.default_rng(1).integers(0, 255, (*SHAPE, 3)).astype(np.uint8)
    explorer.set_colours(colours)
    sent = np.frombuffer(gzip.decompress(explorer.colour_bytes), np.uint8)
    np.testing.assert_array_equal(sent, colours.ravel())
    seen.add(picture(explorer))
    explorer.set_marks({"found": (1, 2, 3), "true": (1.5, 2, 3)})
    assert explorer.mark_table == [
        {"name": "found", "voxel": [1, 2, 3], "colour": "#ffe45c", "shape": "ring"},
        {"name": "true", "voxel": [1.5, 2, 3], "colour": "#5cf2ff", "shape": "square"},
    ]
    seen.add(picture(explorer))
    assert len(seen) == 3
    again = SliceCanvas(ct, colours=colours, marks={"found": (1, 2, 3)})
    assert (again.colour_bytes, again.mark_table) == (explorer.colour_bytes, explorer.mark_table[:1])


def test_colours_and_marks_go_with_a_volume_of_another_shape(explorer, ct):
    explorer.set_colours(np.zeros((*SHAPE, 3)))
    explorer.set_marks({"a": (11, 13, 9)})
    explorer.set_volume(-ct)
    assert explorer.colour_bytes != b"" and len(explorer.mark_table) == 1
    explorer.set_volume(np.zeros((4, 4, 4)))
    assert explorer.colour_bytes == b"" and explorer.mark_table == []
    explorer.set_marks({"a": (1, 1, 1)})
    explorer.set_marks(None)
    assert explorer.mark_table == []
    assert picture(explorer).startswith(b"\x89PNG")


def test_wrong_colours_and_marks_change_nothing(explorer):
    explorer.set_marks({"a": (1, 1, 1)})
    with pytest.raises(ValueError, match="lies outside"):
        explorer.set_marks({"a": (12, 1, 1)})
    with pytest.raises(ValueError, match="colours must be"):
        explorer.set_colours(np.zeros(SHAPE))
    assert explorer.mark_table[0]["voxel"] == [1, 1, 1] and explorer.colour_bytes == b""
