"""Pairs of views as tiles, and a threshold that refuses some."""

import base64
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medssl_nb.widgets import ViewPairGallery

G = torch.Generator().manual_seed(0)
SCORES = [0.95, 0.60, 0.81, 0.70, 0.88]
ERRORS = [2.0, 20.0, None, 9.0, 4.0]


def pair(score: float = 0.5, shape=(1, 6, 5, 4)) -> SimpleNamespace:
    views = {side: torch.rand(shape, generator=G) for side in ("query", "key")}
    return SimpleNamespace(**views, query_point=(0, 0, 0), key_point=(0, 0, 0), score=score, tries=1)


PAIRS = [pair(score) for score in SCORES]
RANDOM = [pair(float("nan")) for _ in range(3)]


def gallery(**options) -> ViewPairGallery:
    return ViewPairGallery(PAIRS, **{"errors_mm": ERRORS, "size": 2, **options})


def captions(widget) -> list[str]:
    return [" ".join(part.strip() for part in re.split("<[^>]*>", one) if part) for one in _captions(widget.grid.value)]


def _captions(page: str) -> list[str]:
    return re.findall(r"<figcaption[^>]*>(.*?)</figcaption>", page)


# ---------------------------------------------------------------- numbers
def test_pairs_above_the_threshold_are_kept():
    widget = gallery()
    assert widget.threshold == 0.7 and widget.kept == 3  # 0.70 does not exceed it
    for threshold, kept in ((0.6, 4), (0.69, 4), (0.88, 1), (0.95, 0)):
        widget.threshold = threshold
        assert widget.kept == kept
    widget.controls["threshold"].value = 0.6 + 0.01 + 0.09  # as sliders add
    assert widget.kept == 3


def test_the_slider_runs_over_the_scores_that_occur():
    slider = gallery().controls["threshold"]
    assert (slider.min, slider.max) == (pytest.approx(0.59), pytest.approx(0.96))
    assert ViewPairGallery([pair(0.9)]).threshold == pytest.approx(0.89)
    assert ViewPairGallery([pair(-0.2), pair(0.3)]).threshold == pytest.approx(0.31)


def test_tiles_are_sorted_and_paged():
    widget = gallery(size=3)
    assert widget.shown == (0, 4, 2)
    widget.first = 3
    assert widget.shown == (3, 1)
    widget.controls["order"].value = "error"
    assert widget.first == 0 and widget.shown == (0, 4, 3)
    widget.first = 3
    assert widget.shown == (1, 2)  # the unknown error comes last
    widget.order = "score"
    assert widget.shown == (0, 4, 2)


def test_random_pairs_have_no_scores():
    widget = gallery(random_pairs=RANDOM, random_errors_mm=[30, 10, 20], names=list("abcde"))
    widget.first = 4
    widget.controls["source"].value = "random"
    assert widget.first == 0 and widget.shown == (0, 1) and widget.controls["threshold"].disabled
    assert captions(widget) == ["30.0 mm off", "10.0 mm off"] and widget.curves.value == ""
    assert widget.kept == 3  # of the mined ones
    widget.first = 2
    assert widget.shown == (2,)
    widget.order = "error"
    assert widget.shown == (1, 2)
    widget.source = "mined"
    assert widget.shown == (0, 4) and widget.curves.value and not widget.controls["threshold"].disabled


def test_a_single_page_has_nothing_to_turn():
    widget = gallery(size=9, random_pairs=[pair() for _ in range(10)])
    assert widget.controls["first"].layout.display == "none" and len(widget.shown) == 5
    widget.source = "random"
    assert widget.controls["first"].layout.display is None
    widget.first = 9
    assert widget.shown == (9,)


def test_there_is_no_choice_where_there_is_nothing_to_choose():
    widget = ViewPairGallery(PAIRS)
    shown = widget.children[0].children
    assert widget.controls["order"] not in shown and widget.controls["source"] not in shown
    assert "mean error" not in widget.line.value + widget.curves.value


# ---------------------------------------------------------------- words and pictures
def test_words_by_hand():
    widget = gallery()
    assert widget.line.value == "3 of 5 pairs pass 0.70; their mean error is 3.0 mm, of the refused 14.5 mm"
    assert widget.where.value == "shown: 1 to 2 of 5, best score first"
    widget.threshold = 0.95
    widget.first, widget.order = 4, "error"
    assert widget.line.value == "0 of 5 pairs pass 0.95; mean error of the refused 8.8 mm"
    assert widget.where.value == "shown: 1 to 2 of 5, smallest error first"
    widget.threshold = 0.59
    assert widget.line.value == "5 of 5 pairs pass 0.59; their mean error is 8.8 mm"
    assert ViewPairGallery(PAIRS).line.value == "3 of 5 pairs pass 0.70"
    contrast = gallery(random_pairs=RANDOM, random_errors_mm=[30, None, 20])
    contrast.source = "random"
    assert contrast.line.value == "3 random pairs, which nothing refuses; their mean error is 25.0 mm"
    assert contrast.where.value == "shown: 1 to 2 of 3"
    contrast.order = "error"
    assert contrast.where.value == "shown: 1 to 2 of 3, smallest error first"


def test_refused_tiles_are_dimmed_and_say_so():
    widget = gallery(size=5, names=["a", "b", "c", "<d>", "e"])
    assert captions(widget) == [
        "a 0.95 ✓ · 2.0 mm off",
        "e 0.88 ✓ · 4.0 mm off",
        "c 0.81 ✓",
        "&lt;d&gt; 0.70 ✗ refused · 9.0 mm off",
        "b 0.60 ✗ refused · 20.0 mm off",
    ]
    assert widget.grid.value.count("opacity:0.3") == 2
    widget.threshold = 0.59
    assert "opacity:0.3" not in widget.grid.value
    assert re.findall(r"aria-label='([^']*)'", widget.grid.value) == captions(widget)


def test_tiles_show_the_middle_slices():
    from io import BytesIO

    from matplotlib.image import imread

    widget = gallery(window=(0, 1), size=1)
    codes = re.findall(r"base64,([^']*)'", widget.grid.value)
    for code, side in zip(codes, ("query", "key"), strict=True):
        picture = np.round(255 * imread(BytesIO(base64.b64decode(code)), format="png")[..., 0])
        slice_ = getattr(PAIRS[0], side)[0, :, :, 2].numpy()  # z = 4 // 2, seen from the feet
        np.testing.assert_array_equal(picture, np.round(255 * slice_.T[::-1, ::-1]))


def test_the_curves_mark_the_threshold():
    widget = gallery()
    assert "aria-label='pairs that pass: 60%'" in widget.curves.value
    assert "aria-label='mean error of those: 3.0 mm'" in widget.curves.value
    assert "M89.2 0V" in widget.curves.value  # 0.70 of 0.59 to 0.96 on 300
    widget.threshold = 0.95
    assert "pass: 0%" in widget.curves.value and "of those: none" in widget.curves.value


def test_the_picture_beside_the_widget_follows_and_is_pure():
    widget = gallery(title="a try", random_pairs=RANDOM)
    bundle, _ = widget._repr_mimebundle_()
    assert bundle["text/plain"] == "<ViewPairGallery>"
    first = base64.b64decode(bundle["image/png"])
    assert first == widget._static_png() == gallery(title="a try", random_pairs=RANDOM)._static_png()
    seen = {first}
    for name, value in (("threshold", 0.9), ("first", 2), ("order", "error"), ("source", "random")):
        setattr(widget, name, value)
        seen.add(widget._static_png())
    assert len(seen) == 5


# ---------------------------------------------------------------- wrong arguments
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": []}, "pairs is empty: there is nothing to show"),
        ({"pairs": [pair(), pair(shape=(1, 6, 6, 4))]}, r"must have one size; found \(6, 5, 4\) and \(6, 6, 4\)"),
        ({"pairs": [pair(shape=(2, 6, 5, 4))]}, r"query of pair 0 must be \(X, Y, Z\) or \(1, X, Y, Z\)"),
        ({"pairs": [pair(float("nan"))]}, "pair 0 has the score nan; pairs without scores go into random_pairs"),
        ({"errors_mm": [1]}, "errors_mm has 1 entries for 5 pairs"),
        ({"names": ["a"]}, "names has 1 entries for 5 pairs"),
        ({"random_errors_mm": [1]}, "random_errors_mm belongs to random_pairs, which are missing"),
        ({"size": 0}, "size is the number of tiles on a page, 1 or more; got 0"),
        ({"threshold": 0.5}, "threshold is the score that a pair must exceed, from 0.59 to 0.96; got 0.5"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ViewPairGallery(**{"pairs": PAIRS, **changes})


def test_wrong_settings_change_nothing():
    widget = gallery()
    before = widget.line.value, widget.grid.value
    settings = (("first", 3, "0 to 4 in steps of 2; got 3"), ("first", 6, "got 6"), ("order", "size", "one of 'score'"))
    for name, value, message in (*settings, ("source", "random", "one of 'mined'; got 'random'")):
        with pytest.raises(ValueError, match=message):
            setattr(widget, name, value)
    assert (widget.line.value, widget.grid.value) == before


def test_tiles_that_nothing_is_known_of_are_not_called_sorted():
    some = [pair(0.2), pair(0.4), pair(0.6)]
    widget = ViewPairGallery(some, random_pairs=some, errors_mm=[1.0, 2.0, 3.0], size=2)
    widget.order, widget.source = "error", "random"
    assert widget.where.value == "shown: 1 to 2 of 3"
