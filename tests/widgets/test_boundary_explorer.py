"""The border between two clusters against the edges of an image: maps and loss are the library's."""

import base64
import math

import numpy as np
import pytest
import torch

from medssl_nb.methods.boundary_infomax import (
    boundary_loss,
    cluster_entropy,
    edge_target,
    local_cross_correlation,
    min_max_normalize,
)
from medssl_nb.viz.matrices import map_codes
from medssl_nb.viz.planes import axial_view
from medssl_nb.widgets import BoundaryExplorer
from medssl_nb.widgets.boundary_explorer import signed_distance, window_holds_border
from medssl_nb.widgets.image_row import ImageRow

X, Y = np.meshgrid(np.arange(24), np.arange(20), indexing="ij")
DISC = (X - 12) ** 2 + (Y - 9) ** 2 < 36
IMAGE = DISC + 0.3 * (Y > 15) + 0.05 * np.sin(X)
STACK = np.stack([np.zeros_like(DISC), DISC & (X < 12), DISC, np.zeros_like(DISC), np.ones_like(DISC)], axis=2)
STEP = np.arange(32)[:, None].repeat(32, 1) >= 16


def explorer(image=IMAGE, mask=DISC, **options) -> BoundaryExplorer:
    return BoundaryExplorer(image, mask, **options)


# ---------------------------------------------------------------- where the border is
def test_distance_counts_from_the_outline():
    row = signed_distance(np.array([[False, False, True, True, True, False]]))
    np.testing.assert_array_equal(row, [[1.5, 0.5, -0.5, -1.5, -0.5, 0.5]])
    np.testing.assert_array_equal(signed_distance(STEP)[:, 3], 15.5 - np.arange(32))


def test_windows_that_hold_a_border():
    inside = np.arange(7) >= 3
    found = window_holds_border(np.stack([inside] * 7), 3)
    np.testing.assert_array_equal(found[3], [False, False, True, True, False, False, False])


@pytest.mark.parametrize(("offset", "width"), [(0, 1), (2.5, 0.3), (-4, 2)])
def test_the_clusters_are_a_logistic_step_at_the_moved_outline(offset, width):
    widget = explorer(offset=offset, width=width)
    expected = torch.sigmoid(torch.tensor((offset - signed_distance(DISC)) / width))
    torch.testing.assert_close(widget.probs[0, 1], expected)
    torch.testing.assert_close(widget.probs.sum(dim=1), torch.ones(1, 24, 20))


# ---------------------------------------------------------------- what the loss sees
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"offset": 2, "width": 0.4, "window": 3},
        {"power": 1.5, "window": 11, "offset": -1.5},
        {"noise": 0.1, "window": 7},
        {"spacing_mm": (1, 2)},
    ],
)
def test_maps_and_loss_are_the_librarys(options):
    widget = explorer(**options)
    assert widget.probs.shape == (1, 2, 24, 20) and widget.image.shape == (1, 1, 24, 20)
    window, power, spacing = options.get("window", 5), options.get("power", 0.75), options.get("spacing_mm")
    entropy = min_max_normalize(cluster_entropy(widget.probs)[:, None])
    edges = edge_target(widget.image, power=power, spacing=spacing)
    assert torch.equal(widget.maps["entropy"], entropy[0, 0]) and torch.equal(widget.maps["edges"], edges[0, 0])
    cc = local_cross_correlation(entropy, edges, window=window)
    assert torch.equal(widget.maps["correlation"], cc[0, 0])
    whole = boundary_loss(widget.probs, widget.image, window=window, power=power, spacing=spacing)
    assert widget.loss == pytest.approx(float(whole), abs=1e-6)


def test_the_image_is_the_given_one_and_noise_is_a_share_of_its_range():
    widget = explorer(7 * IMAGE)
    torch.testing.assert_close(widget.image[0, 0], torch.tensor(7 * IMAGE, dtype=torch.float32))
    widget.noise = 0.1
    noise = widget.image[0, 0].numpy() - 7 * IMAGE
    assert noise.std() == pytest.approx(0.1 * np.ptp(7 * IMAGE), rel=0.1)
    again = explorer(7 * IMAGE, noise=0.1)
    assert torch.equal(again.image, widget.image)


def test_a_clean_step_as_in_the_specification():
    widget = explorer(STEP.astype(float), STEP, width=0.05)
    assert widget.loss == pytest.approx(-0.89, abs=0.005)
    widget.offset = 8
    assert widget.loss == pytest.approx(-0.66, abs=0.005)
    assert widget.edge_cc < 0.01 < 0.6 < widget.flat_share
    widget.width, widget.offset = 1, 0
    near = widget.loss
    widget.offset = -8
    assert near == pytest.approx(-0.39, abs=0.005) and widget.loss < near - 0.04  # far away, and yet no worse
    widget.noise = 0.05
    assert -0.15 < widget.loss < -0.03 and widget.flat_share < 0.01


def test_shares_are_counted_by_hand():
    widget = explorer(width=0.5)
    cc, border = widget.maps["correlation"].numpy(), window_holds_border(DISC, 5)
    assert widget.flat_share == pytest.approx(((cc > 0.99) & ~border).mean())
    assert widget.edge_cc == pytest.approx(cc[border].mean())


def test_a_match_at_the_border_is_not_called_flat():
    widget = explorer(STEP.astype(float), STEP, width=0.05, offset=-0.5)  # on the first voxel behind the step
    assert widget.loss == pytest.approx(-1, abs=1e-3) and widget.edge_cc == pytest.approx(1, abs=1e-3)
    assert widget.flat_share == 28 / 32  # windows of 5 around voxels 14 to 17 hold the border


def test_the_line_in_words():
    widget = explorer(STEP.astype(float), STEP)
    assert widget.line.value == (
        "loss −0.393: flat against flat gives 31 % of the voxels cc > 0.99; edge windows: mean cc 0.27; largest "
        "entropy 0.66 of 0.69"
    )
    small = DISC & (abs(X - 12) < 2) & (abs(Y - 9) < 2)
    assert explorer(mask=small, offset=-8).line.value.endswith("; no border is left in the picture")


# ---------------------------------------------------------------- moving it
def test_a_drag_takes_the_border_along():
    widget = explorer()
    inside = [23.5 - 17, 19.5 - 9]  # column and row of voxel (17, 9), half a voxel inside the outline
    widget.row.set_state({"drag": [1, *inside, 23.5 - 20, 19.5 - 9]})  # as from the browser: 3 voxels outwards
    assert widget.offset == 3
    widget.row.set_state({"drag": [1, *inside, 23.5 - 16, 19.5 - 9]})  # the same drag goes on, from where it began
    assert widget.offset == -1
    widget.row.set_state({"drag": [2, *inside, 23.5 - 18, 19.5 - 9]})  # the next one begins at -1
    assert widget.offset == 0
    widget.row.set_state({"drag": [3, *inside, 0.2, 0.2]})
    assert 6 < widget.offset <= 12
    widget.row.set_state({"drag": [4, 0.2, 0.2, *inside]})
    widget.row.set_state({"drag": [5, 0.2, 0.2, *inside]})
    widget.row.set_state({"drag": [6, 0.2, 0.2, *inside]})
    assert widget.offset == -12  # where the slider ends


def test_a_drag_between_voxels_moves_in_halves():
    widget = explorer(STEP.astype(float), STEP)
    widget.row.set_state({"drag": [1, 15.5, 3.5, 16.3, 3.5]})  # the region is on the left of the picture
    assert widget.offset == 1
    widget.row.set_state({"drag": [1, 15.5, 3.5, 16.1, 9.5]})
    assert widget.offset == 0.5


def test_arrow_keys_move_by_half_a_voxel():
    widget = explorer(offset=1)
    widget.row.set_state({"nudges": 3})
    assert widget.offset == 2.5
    widget.row.set_state({"nudges": 2})
    assert widget.offset == 2 and widget.row.line_text == "border moved by 2.00 voxels"


@pytest.mark.parametrize(
    ("name", "value"), [("offset", 3.5), ("width", 0.3), ("window", 9), ("power", 1.25), ("noise", 0.04)]
)
def test_settings_move_their_controls_and_redraw(name, value):
    widget, given = explorer(), explorer(**{name: value})
    before = widget.row.code_bytes
    setattr(widget, name, value)
    assert widget.controls[name].value == value == getattr(widget, name)
    assert widget.row.code_bytes == given.row.code_bytes != before
    assert widget.loss == given.loss and widget.line.value == given.line.value


def test_the_browser_gets_maps_line_and_outline():
    widget = explorer(offset=2)
    row = widget.row
    codes = np.frombuffer(row.code_bytes, np.uint8).reshape(4, 20, 24)
    for k, name in enumerate(("entropy", "edges", "correlation"), 1):
        shown = axial_view(widget.maps[name].numpy()[..., None], 0)
        np.testing.assert_array_equal(codes[k], np.round(255 * shown).astype(np.uint8))
    assert [picture["name"] for picture in row.pictures] == ["image", "entropy", "edge target", "local correlation"]
    assert [picture["lined"] for picture in row.pictures] == [True, False, True, True]
    assert row.shape == [20, 24] and row.aspect == 24 / 20 and row.box == 5 and len(row.palettes) == 4 * 768
    assert row.line.count("M") == 1 and row.outline.count("M") > 20
    points = np.array([part.split() for part in row.line[1:].split("L")], float)
    middle = np.array([23.5 - 12, 19.5 - 9])  # of the disc, in the picture
    away = np.hypot(*(points - middle).T)
    assert away.min() > 7 and away.max() < 8.6  # radius 6 less a little, two voxels outwards
    image = widget._pictures()[0]
    np.testing.assert_array_equal(codes[0], map_codes(image))


# ---------------------------------------------------------------- slices
def test_slices_without_a_border_are_left_out_and_the_largest_comes_first():
    widget = explorer(STACK.astype(np.float32), STACK)
    assert widget.slices == [1, 2] and widget.z == 2
    assert torch.equal(widget.probs, explorer(DISC.astype(float), DISC).probs)
    widget.z = 1
    assert torch.equal(widget.maps["entropy"], explorer(STACK[..., 1].astype(float), STACK[..., 1]).maps["entropy"])
    assert explorer(STACK.astype(float), STACK, z=1).row.code_bytes == widget.row.code_bytes
    assert widget.controls["z"] in widget.children[0].children
    assert widget.row.letters == ["R", "L", "A", "P"]


def test_an_image_has_no_slices():
    widget = explorer()
    assert widget.z is None and widget.controls["z"] not in widget.children[0].children
    assert widget.row.letters == []


def test_volumes_come_as_tensors_with_a_channel_too():
    given = torch.tensor(STACK)[None]
    widget = explorer(given.float(), given, spacing_mm=(2, 1, 5))
    assert widget.z == 2 and widget.row.aspect == 2 * 24 / 20


# ---------------------------------------------------------------- picture
def test_the_picture_beside_the_widget_follows_and_is_pure():
    widget = explorer(STACK.astype(float), STACK, title="disc")
    bundle, _ = widget._repr_mimebundle_()
    first = base64.b64decode(bundle["image/png"])
    assert bundle["text/plain"] == "<BoundaryExplorer>"
    assert first == widget._static_png() == explorer(STACK.astype(float), STACK, title="disc")._static_png()
    for name, value in (("offset", 2), ("width", 2), ("window", 3), ("power", 2), ("noise", 0.1), ("z", 1)):
        old = getattr(widget, name)
        setattr(widget, name, value)
        assert widget._static_png() != first, name
        setattr(widget, name, old)
    assert widget._static_png() == first
    assert widget.row._static_png().startswith(b"\x89PNG")


# ---------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    ("image", "mask", "options", "message"),
    [
        (IMAGE[0], DISC[0], {}, "image must be"),
        (IMAGE * np.nan, DISC, {}, "image has 480 voxel.s. that are NaN"),
        (IMAGE, DISC[1:], {}, r"mask has shape \(23, 20, 1\), the image \(24, 20, 1\)"),
        (IMAGE, DISC.astype(int), {}, "mask says True or False of each voxel, got int64; compare first"),
        (IMAGE, DISC | True, {}, "mask has no border"),
        (STACK.astype(float), STACK, {"z": 3}, "z is an axial slice where the mask has a border, here from 1 to 2"),
        (IMAGE, DISC, {"window": 4}, r"window is the side .* one of 3, 5, 7, 9, 11; got 4"),
        (IMAGE, DISC, {"power": 0}, "power is .* from 0.25 to 2; got 0"),
        (IMAGE, DISC, {"offset": 13}, "offset is .* from -12 to 12; got 13"),
        (IMAGE, DISC, {"width": 0}, "width is .* from 0.05 to 4; got 0"),
        (IMAGE, DISC, {"noise": math.nan}, "noise is .* from 0 to 0.2; got nan"),
        (IMAGE, DISC, {"spacing_mm": (1, 0)}, r"each above 0; got \(1, 0\)"),
        (IMAGE, DISC, {"spacing_mm": (1,)}, r"mm per voxel along x, y \(and z\)"),
    ],
)
def test_wrong_arguments_are_refused(image, mask, options, message):
    with pytest.raises(ValueError, match=message):
        explorer(image, mask, **options)


def test_a_wrong_setting_changes_nothing():
    widget = explorer(STACK.astype(float), STACK, offset=1)
    before = widget.row.code_bytes
    for name, value in (("offset", 40), ("window", 2), ("z", 0), ("z", 1.5)):
        with pytest.raises(ValueError, match=f"^{name} is "):
            setattr(widget, name, value)
    assert widget.row.code_bytes == before and widget.offset == 1


def test_a_row_reports_and_moves_nothing_itself():
    widget = explorer()
    row = ImageRow(widget._pictures(), letters="RLAP")
    row.set_state({"drag": [1, 2, 3, 4, 5], "nudges": 2})
    assert row.line == "" and row._static_png().startswith(b"\x89PNG")
