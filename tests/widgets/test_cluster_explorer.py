"""Cluster maps over training: stable numbers, bars, organs, and words that say the same as the pictures."""

import base64
import gzip
import math

import numpy as np
import pytest
import torch

from medssl_nb.methods.boundary_infomax import cluster_usage, match_clusters
from medssl_nb.viz import cluster_colours
from medssl_nb.widgets import ClusterExplorer, stable_clusters, standalone_fragment
from medssl_nb.widgets.usage_bars import UsageBars

RNG = np.random.default_rng(0)
VOLUME = RNG.normal(0, 1, (8, 6, 4))
# Cluster 0: x < 2; 1: 2 <= x < 5; 2: the rest. In step 0 the border of 0 lay further left and numbers were others.
LAST = np.zeros((8, 6, 4), int)
LAST[2:], LAST[5:] = 1, 2
EARLY = np.array([2, 0, 1])[LAST]
EARLY[1] = 0
LABEL = np.zeros((8, 6, 4), np.uint8)
LABEL[3:5, :3] = 4  # liver, all in cluster 1
LABEL[6:, :2, 0] = 9  # vena cava, in cluster 2, slice z = 0 only
NAMES = {0: "background", 4: "liver", 9: "vena cava", 7: "not here"}
STEPS = [{"step": 0, "clusters": EARLY}, {"step": 60, "clusters": torch.from_numpy(LAST)}]


def explorer(steps=STEPS, **options) -> ClusterExplorer:
    return ClusterExplorer(VOLUME, steps, **{"label": LABEL, "label_names": NAMES, **options})


def codes(widget, layer="label") -> np.ndarray:
    packed = getattr(widget.canvas, f"{layer}_bytes")
    return np.frombuffer(gzip.decompress(packed), np.uint8).reshape(VOLUME.shape)


# ---------------------------------------------------------------- numbers that stay
def test_numbers_are_those_of_the_last_step():
    stable = stable_clusters([EARLY, LAST], 3)
    torch.testing.assert_close(stable.maps[1], torch.from_numpy(LAST))
    assert [names.tolist() for names in stable.names] == [[1, 2, 0], [0, 1, 2]]
    moved = LAST.copy()
    moved[1] = 1
    torch.testing.assert_close(stable.maps[0], torch.from_numpy(moved))


def test_steps_are_matched_with_their_neighbour_not_with_the_last():
    """A cluster that wanders keeps its number, though in the end it lies where the other one was."""
    lines = torch.zeros(4, 12, dtype=torch.int64)
    for turn, line in enumerate(lines):
        line[2 * turn : 2 * turn + 6] = 1
    stable = stable_clusters([lines[0], 1 - lines[1], lines[2], lines[3]], 2)
    assert [names.tolist() for names in stable.names] == [[0, 1], [1, 0], [0, 1], [0, 1]]
    assert torch.equal(torch.stack(stable.maps), lines)
    assert stable_clusters([lines[0], lines[3]], 2).names[0].tolist() == [1, 0]


def test_each_step_is_a_renaming_by_the_librarys_matching():
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randint(0, 7, (6, 6, 6), generator=generator) for _ in range(4)]
    stable = stable_clusters(maps, 7)
    for before, after, names in zip(maps, stable.maps, stable.names, strict=True):
        assert sorted(names.tolist()) == list(range(7))
        assert torch.equal(names[before], after)
    found = match_clusters(maps[2], stable.maps[3], num_clusters=7, num_references=7, mode="one_to_one")
    assert torch.equal(found, stable.names[2])


def test_no_maps_are_refused():
    with pytest.raises(ValueError, match="got no maps; give at least one"):
        stable_clusters([], 3)


# ---------------------------------------------------------------- steps
def test_the_slider_moves_voxels_and_bars():
    widget = explorer()
    assert widget.step == 60 and widget.step_slider.options == (0, 60)
    np.testing.assert_array_equal(codes(widget), LAST + 1)
    np.testing.assert_allclose(widget.bars.shares, [2 / 8, 3 / 8, 3 / 8], atol=1e-6)
    table = widget.canvas.label_table
    widget.step_slider.value = 0
    stable = stable_clusters([EARLY, LAST], 3).maps[0].numpy()
    np.testing.assert_array_equal(codes(widget), stable + 1)
    np.testing.assert_array_equal(widget.clusters, stable)
    np.testing.assert_allclose(widget.bars.shares, [1 / 8, 4 / 8, 3 / 8], atol=1e-6)
    assert widget.canvas.label_table == table and widget.bars.upper == 0.5
    widget.step = 60
    assert widget.step_slider.value == 60


def test_names_and_colours_of_clusters():
    table = explorer(num_clusters=5).canvas.label_table
    assert [(row["id"], row["name"]) for row in table] == [(k + 1, f"cluster {k}") for k in range(5)]
    assert [row["colour"] for row in table] == list(cluster_colours(5)) == explorer(num_clusters=5).bars.colours


def test_one_step_needs_no_slider():
    widget = explorer(STEPS[1:])
    assert widget.step == 60
    assert widget.step_slider not in widget.children[0].children
    widget = explorer()
    assert widget.step_slider in widget.children[0].children


def test_usage_comes_as_it_is_given():
    probs = torch.rand(3, 8, 6, 4, generator=torch.Generator().manual_seed(0)).softmax(0)
    usage = cluster_usage(probs[None])
    by_probs = explorer([{**STEPS[0], "probs": probs}, {**STEPS[1], "probs": probs}])
    by_usage = explorer([{**STEPS[0], "usage": usage}, {**STEPS[1], "usage": usage}])
    for widget in (by_probs, by_usage):
        np.testing.assert_allclose(widget.usage, usage, rtol=1e-6)
        widget.step = 0
        names = stable_clusters([EARLY, LAST], 3).names[0]
        np.testing.assert_allclose(widget.usage[names], usage, rtol=1e-6)
        assert widget.bars.what == "mean probability"
    assert explorer().bars.what == "share of voxels"


def test_clusters_used_by_hand():
    even = explorer([{"step": 0, "clusters": LAST, "usage": [0.25] * 4}])
    assert even.clusters_used == pytest.approx(4)
    one = explorer([{"step": 0, "clusters": 0 * LAST, "usage": [1.0, 0, 0]}])
    assert one.clusters_used == pytest.approx(1)
    shares = np.array([2, 3, 3]) / 8
    assert explorer().clusters_used == pytest.approx(math.exp(-(shares * np.log(shares)).sum()))


# ---------------------------------------------------------------- picks
def test_a_picked_cluster_stays_and_the_others_fade():
    widget = explorer()
    assert widget.picked == () and widget.canvas.visible_labels == (1, 2, 3)
    widget.bars.set_state({"picked": [2, 1]})  # as from the browser
    assert widget.picked == (1, 2) and widget.canvas.visible_labels == (2, 3)
    widget.picked = [0]
    assert widget.bars.picked == (0,) and widget.canvas.visible_labels == (1,)
    widget.step = 0
    assert widget.picked == (0,) and widget.canvas.visible_labels == (1,)
    widget.all_button.click()
    assert widget.picked == () and widget.canvas.visible_labels == (1, 2, 3)


def test_the_crosshair_moves_only_if_what_is_picked_is_out_of_sight():
    widget = explorer(planes=["sagittal"])
    widget.canvas.crosshair = (4, 5, 3)
    widget.picked = (1,)
    assert widget.canvas.crosshair == (4, 5, 3)
    widget.picked = (0,)
    assert widget.canvas.crosshair[0] in (0, 1)
    widget.organ = "vena cava"
    assert LABEL[widget.canvas.crosshair] == 9


def test_an_empty_cluster_can_be_picked():
    widget = explorer(num_clusters=4, picked=(3,))
    assert widget.line.value.endswith("; cluster 3: no voxel")
    widget.organ = "liver"
    assert widget.line.value.endswith("; cluster 3: no voxel")
    assert widget.canvas.visible_labels == (4,)
    assert widget._static_png().startswith(b"\x89PNG")


# ---------------------------------------------------------------- organs
def test_organs_are_outlined():
    widget = explorer()
    assert widget.organ == "none" and widget.canvas.contour_bytes == b""
    assert widget.organ_choice.options == ("none", "all", "liver", "vena cava")
    widget.organ_choice.value = "liver"
    np.testing.assert_array_equal(codes(widget, "contour"), LABEL == 4)
    assert [row["name"] for row in widget.canvas.contour_table] == ["liver"]
    widget.organ = "all"
    np.testing.assert_array_equal(codes(widget, "contour"), (LABEL == 4) + 2 * (LABEL == 9))
    assert [row["name"] for row in widget.canvas.contour_table] == ["liver", "vena cava"]
    widget.organ = "none"
    assert widget.canvas.contour_bytes == b""


def test_without_a_label_map_there_is_nothing_to_outline():
    widget = explorer(label=None)
    assert widget.organ_choice not in widget.children[0].children
    with pytest.raises(ValueError, match=r"no such organ: 'liver'; there are none\. Give label=\.\.\."):
        widget.organ = "liver"


def test_organs_without_names():
    assert explorer(label_names=None).organ_choice.options == ("none", "all", "label 4", "label 9")


# ---------------------------------------------------------------- words
def test_words_by_hand():
    widget = explorer()
    used = "step 60: 3.0 of 3 clusters used (exp of the usage entropy)"
    assert widget.line.value == used
    widget.picked = (1,)
    # 24 of the 72 voxels of cluster 1 are liver
    assert widget.line.value == f"{used}; cluster 1: 38 % of voxels, 67 % of it background"
    widget.picked = (0, 1)
    assert widget.line.value == f"{used}; clusters 0, 1: 62 % of voxels, 80 % of them background"
    widget.organ = "liver"
    assert widget.line.value.endswith("80 % of them background; 100 % of liver is in them")
    widget.picked = (2,)
    assert widget.line.value.endswith("; 0.0 % of liver is in it")
    widget.picked = ()
    assert widget.line.value == f"{used}; liver: 100 % in cluster 1"
    assert "background" not in explorer(label=None, picked=(1,)).line.value


def test_the_clusters_that_hold_most_of_an_organ():
    label = np.zeros_like(LABEL)
    label[1:5, 0, 0] = 4  # one voxel in cluster 0, three in cluster 1
    words = explorer(label=label, organ="liver").line.value
    assert words.endswith("; liver: 75 % in cluster 1, 25 % in cluster 0")
    pure = np.where(LAST == 1, 4, 0)
    assert explorer(label=pure, picked=(1,)).line.value.endswith("cluster 1: 38 % of voxels, 100 % of it liver")


def test_names_are_shown_as_text():
    assert "&lt;b&gt;" in explorer(label_names={4: "<b>"}, organ="<b>").line.value


# ---------------------------------------------------------------- pictures
def test_the_picture_beside_the_widget_follows_and_is_pure():
    widget = explorer()
    bundle, _ = widget._repr_mimebundle_()
    assert bundle["text/plain"] == "<ClusterExplorer>"
    first = base64.b64decode(bundle["image/png"])
    assert first == widget._static_png() == explorer()._static_png()
    seen = {first}
    for name, value in (("picked", (1,)), ("organ", "liver"), ("organ", "all"), ("step", 0), ("picked", ())):
        setattr(widget, name, value)
        seen.add(widget._static_png())
    assert len(seen) == 6
    assert explorer(step=0, organ="all")._static_png() in seen


def test_what_is_drawn_beside_the_widget():
    widget = explorer(picked=(1,), organ="liver", title="a try")
    clusters, outline = widget.canvas._layers().overlays
    np.testing.assert_array_equal(clusters.labels, LAST + 1)
    assert clusters.colours == {2: cluster_colours(3)[1]} and clusters.names == {}
    assert outline.names == {1: "liver"} and not outline.fill
    np.testing.assert_array_equal(outline.labels, LABEL == 4)


def test_forty_clusters():
    many = np.arange(8 * 6 * 4).reshape(8, 6, 4) % 40
    widget = explorer([{"step": 0, "clusters": many}], picked=(39,))
    assert widget.num_clusters == 40
    np.testing.assert_array_equal(codes(widget), many + 1)
    assert widget._static_png().startswith(b"\x89PNG")


def test_the_bars_run_without_a_kernel():
    bars = UsageBars([0.5, 0.5], picked=[1])
    assert "usage-bars" in standalone_fragment(bars)
    assert bars._static_png() != UsageBars([0.5, 0.5])._static_png()


# ---------------------------------------------------------------- wrong arguments
def one(**changes) -> dict:
    return {"steps": [{"step": 0, "clusters": LAST, **changes}]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": []}, "steps is empty: give at least one dictionary"),
        ({"steps": [{"step": 3}]}, "a step lacks clusters; it has step"),
        ({"steps": STEPS[::-1]}, r"steps must rise from one to the next, got \[60, 0\]; sort"),
        (one(clusters=LAST[1:]), r"clusters has shape \(7, 6, 4\), the volume \(8, 6, 4\)"),
        (one(clusters=LAST / 2), "clusters holds fractions"),
        (one(clusters=LAST - 1), "clusters holds -1"),
        (one(clusters=LAST + 38), "num_clusters must be 1 to 40, got 41"),
        (one(usage=[0.5, 0.5]), "clusters must lie from 0 to 1, got 2: there are 2 clusters"),
        (one(usage=[0.5, 0.5, 0.5]), "usage must sum to 1, got 1.5 in step 0"),
        (
            one(probs=np.full((1, 3, 8, 6, 4), 1 / 3)),
            r"probs must be \(K, X, Y, Z\) on the grid \(8, 6, 4\), got \(1, 3",
        ),
        ({**one(usage=[0.4, 0.3, 0.3]), "num_clusters": 5}, r"do not agree: .* say \[3, 5\]"),
        ({"steps": [{**STEPS[0], "usage": [0.4, 0.3, 0.3]}, STEPS[1]]}, "some steps have usage or probs and some have"),
        ({"label": LABEL[1:]}, r"label has shape \(7, 6, 4\)"),
        ({"label_names": {4: "liver", 9: "liver"}}, "organs need different names"),
        ({"label_names": {4: "all"}}, 'other than "none" and "all"'),
        ({"step": 30}, r"no such step: 30; there are \[0, 60\]"),
        ({"picked": (3,)}, r"no such cluster: \[3\]; there are 0 to 2"),
        ({"organ": "spleen"}, "no such organ: 'spleen'; there are none, all, liver, vena cava"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        explorer(**options)


def test_a_wrong_pick_changes_nothing():
    widget = explorer(picked=(1,))
    with pytest.raises(ValueError, match="no such cluster"):
        widget.picked = (7,)
    assert widget.picked == (1,) and widget.canvas.visible_labels == (2,)
