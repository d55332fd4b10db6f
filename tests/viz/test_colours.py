import itertools

import numpy as np
import pytest

from medssl_nb.viz import CLUSTER_COLOURS, ORGAN_COLOURS, label_colour
from medssl_nb.viz.colours import heat_palette, heat_range_of, rgb

ABDOMEN = ["body", "bone", "lung", "liver", "spleen", "kidney_r", "kidney_l", "aorta", "ivc", "stomach", "pancreas"]
ABDOMEN += ["gallbladder", "colon", "heart", "muscle"]
BRAIN = ["grey matter", "white matter", "csf", "lesion"]
HIPPOCAMPUS = ["anterior", "posterior"]
HEAD_NECK = ["brainstem", "spinal cord", "right parotid", "left parotid", "mandible", "larynx", "esophagus", "lesion"]

# Linear RGB as people see it who lack one kind of cone (Machado, Oliveira and Fernandes 2009, severity 1).
SIGHT = {
    "normal": np.eye(3),
    "red-blind": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "green-blind": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "blue-blind": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def as_seen(colours, matrix) -> np.ndarray:
    """CIELAB (N, 3) of colours under a kind of sight."""
    from skimage.color import rgb2lab

    shares = np.array([rgb(colour) for colour in colours]) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4) @ np.array(matrix).T
    linear = np.clip(linear, 0, 1)
    seen = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return rgb2lab(seen[None])[0]


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("names", [ABDOMEN, BRAIN, HIPPOCAMPUS, HEAD_NECK], ids=lambda names: names[0])
def test_organs_of_one_set_stay_apart(names, sight):
    from skimage.color import deltaE_ciede2000

    lab = as_seen([ORGAN_COLOURS[name] for name in names], SIGHT[sight])
    for (a, first), (b, second) in itertools.combinations(zip(names, lab, strict=True), 2):
        assert deltaE_ciede2000(first, second) >= 9, (a, b)


@pytest.mark.parametrize("sight", SIGHT)
def test_clusters_stay_apart(sight):
    from skimage.color import deltaE_ciede2000

    lab = as_seen(CLUSTER_COLOURS, SIGHT[sight])
    assert min(deltaE_ciede2000(a, b) for a, b in itertools.combinations(lab, 2)) >= 9


def test_clusters_and_organs_share_no_colour():
    assert not set(CLUSTER_COLOURS) & set(ORGAN_COLOURS.values())


def test_one_organ_has_one_colour_whatever_it_is_called():
    assert label_colour("kidney_r") == label_colour("kidney_right") == label_colour("Right kidney")
    assert label_colour("kidney_r") != label_colour("kidney_l")
    assert label_colour("RightParotid") == label_colour("right parotid")
    assert label_colour("inferior_vena_cava") == ORGAN_COLOURS["ivc"]
    assert label_colour("oesophagus") == ORGAN_COLOURS["esophagus"]


def test_unknown_names_get_a_colour_that_stays():
    assert label_colour("duodenum") == "#6530a6"
    assert label_colour("rib_left_7") == label_colour("left rib 7") != label_colour("rib_right_7")


def test_numbers_are_clusters():
    assert label_colour(0) == "#000000"
    assert label_colour(1) == CLUSTER_COLOURS[0]
    assert label_colour(np.int64(len(CLUSTER_COLOURS) + 1)) == CLUSTER_COLOURS[0]


def test_score_palette_gets_brighter_step_by_step():
    light = as_seen(["#" + bytes(colour).hex() for colour in heat_palette("score")], np.eye(3))[:, 0]
    assert (np.diff(light) > -0.5).all()
    assert light[-1] - light[0] > 80


def test_difference_palette_is_darkest_at_zero():
    palette = heat_palette("difference").astype(int)
    assert palette.sum(axis=1).argmin() in (127, 128)
    assert palette[0, 2] > palette[0, 0] and palette[-1, 0] > palette[-1, 2], "blue below zero, orange above"


def test_heat_ranges():
    heat = np.array([[[-1.0, np.nan, 3.0]]])
    assert heat_range_of(heat) == (-1, 3)
    assert heat_range_of(heat, "difference") == (-3, 3)
    assert heat_range_of(heat, given=(0, 1)) == (0, 1)
    assert heat_range_of(np.full((1, 1, 1), 2.0)) == (1.5, 2.5)
    with pytest.raises(ValueError, match="low < high"):
        heat_range_of(heat, given=(1, 1))
    with pytest.raises(ValueError, match="'jet'"):
        heat_palette("jet")
