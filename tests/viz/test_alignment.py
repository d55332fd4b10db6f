"""Pictures of matches and of pairs of views."""

from types import SimpleNamespace

import numpy as np
import pytest

from medssl_nb.viz import alignment_png, show_alignment, show_view_pairs, view_pairs_png
from medssl_nb.viz.alignment import (
    mean_error,
    pair_tiles,
    passing,
    place_marks,
    thresholds_of,
    tile_order,
    tile_words,
    within,
    yield_curve,
)

RANDOM = np.random.default_rng(0)
QUERY, KEY = RANDOM.random((6, 5, 4)), RANDOM.random((5, 6, 7))
SCORES, ERRORS = [0.9, 0.5, 0.7], [2.0, np.nan, 4.0]


def pair(score: float = 0.5, shape=(1, 6, 5, 4)) -> SimpleNamespace:
    return SimpleNamespace(query=RANDOM.random(shape), key=RANDOM.random(shape), score=score)


PAIRS = [pair(score) for score in SCORES]


def drawn(monkeypatch, function, *given, **options):
    """The figure that a function shows."""
    import matplotlib.pyplot as plt

    figures = []
    monkeypatch.setattr(plt, "show", lambda: figures.append(plt.gcf()))
    assert function(*given, **options) is None
    assert len(figures) == 1 and not plt.get_fignums()
    return figures[0]


def texts(figure) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


# ---------------------------------------------------------------- one place in two patients
def test_marks_have_a_sign_by_name():
    marks = place_marks({"back": (1, 2, 3), "match": (0, 0, 0)}, QUERY.shape)
    assert [(mark.name, mark.shape) for mark in marks] == [("back", "diamond"), ("match", "ring")]
    assert place_marks(None, QUERY.shape) == ()


def test_within_a_volume():
    assert within((-0.5, 0, 3.4), (4, 4, 4)) and not within((0, 0, 3.5), (4, 4, 4))
    assert not within((-0.6, 0, 0), (4, 4, 4)) and not within((0, np.nan, 0), (4, 4, 4))


def test_both_patients_are_drawn_through_their_places(monkeypatch):
    look = {"spacing_mm": (1, 2, 3), "names": ("Ann", "Ben"), "title": "a match", "returned": (2, 2, 2)}
    figure = drawn(monkeypatch, show_alignment, QUERY, KEY, (1, 2, 3), (4, 3, 2), heat=KEY, truth=(4, 3, 2.4), **look)
    found = texts(figure)
    for wanted in ("Ann", "Ben", "a match", "match", "true place", "back, z = 2"):
        assert wanted in found
    places = [text for text in found if text.split(",")[0] in ("axial", "coronal", "sagittal")]
    assert places[:3] == ["axial, z = 3", "coronal, y = 2", "sagittal, x = 1"]
    assert places[3:] == ["axial, z = 2", "coronal, y = 3", "sagittal, x = 4"]


def test_a_true_place_beyond_the_volume_is_left_out(monkeypatch):
    figure = drawn(monkeypatch, show_alignment, QUERY, KEY, (1, 2, 3), (4, 3, 2), truth=(-3, 0, 0), planes=["axial"])
    assert "match" in texts(figure) and "true place" not in texts(figure)


def test_the_same_match_gives_the_same_bytes():
    given, look = (QUERY, KEY, (1, 2, 3), (4, 3, 2)), {"planes": ["axial"], "dpi": 40}
    first = alignment_png(*given, **look)
    assert first == alignment_png(*given, **look) and first.startswith(b"\x89PNG")
    assert (
        len({first, *(alignment_png(*given, **look, **more) for more in ({"heat": KEY}, {"returned": (0, 0, 0)}))}) == 3
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"found": (5, 0, 0)}, "mark 'match' .* lies outside the volume of shape"),
        ({"returned": (0, 0, 9)}, "mark 'back' .* lies outside"),
        ({"point": (0, 0, 4)}, "lies outside the volume of shape"),
        ({"heat": QUERY}, "heat has shape"),
    ],
)
def test_places_and_heat_must_fit(changes, message):
    given = {"point": (1, 2, 3), "found": (4, 3, 2), **changes}
    with pytest.raises(ValueError, match=message):
        alignment_png(QUERY, KEY, **given)


# ---------------------------------------------------------------- pairs of views
def test_tiles_are_the_middle_slices():
    tiles = pair_tiles(PAIRS, window=(0, 1), plane="coronal", spacing_mm=(2, 1, 3), names="abc")
    expected = PAIRS[1].key[0, :, 2].T[::-1, ::-1]  # y = 5 // 2; rows S to I, columns R to L
    np.testing.assert_array_equal(tiles[1].views[1], np.round(255 * expected.astype(np.float32)))
    assert tiles[1].size == (12, 12) and [tile.name for tile in tiles] == ["a", "b", "c"]
    assert [tile.score for tile in tiles] == SCORES
    assert {tile.score for tile in pair_tiles(PAIRS, scored=False)} == {None}


def test_the_window_of_all_views_is_shared():
    dark, bright = pair(), pair()
    bright.query, bright.key = dark.query + 1, dark.key + 1
    tiles = pair_tiles([dark, bright])
    assert max(tiles[0].views[0].max(), tiles[0].views[1].max()) <= min(
        tiles[1].views[0].min(), tiles[1].views[1].min()
    )


def test_views_in_2d():
    flat = pair(shape=(1, 6, 5))
    (tile,) = pair_tiles([flat], window=(0, 1))
    np.testing.assert_array_equal(tile.views[0], np.round(255 * flat.query[0].T[::-1, ::-1].astype(np.float32)))


def test_order_threshold_and_errors():
    tiles = pair_tiles(PAIRS, errors_mm=ERRORS)
    assert tile_order(tiles) == [0, 2, 1] and tile_order(tiles, "error") == [0, 2, 1]
    assert tile_order(pair_tiles(PAIRS, errors_mm=[3, None, 1]), "error") == [2, 0, 1]
    assert passing(tiles, 0.7) == [True, False, False]  # 0.7 does not exceed it
    assert passing(pair_tiles(PAIRS, scored=False), 0.7) == [True] * 3
    assert mean_error(tiles) == 3 and mean_error(tiles[1:2]) is None


def test_the_yield_by_hand():
    tiles = pair_tiles(PAIRS, errors_mm=ERRORS)
    curve = yield_curve(tiles, [0.4, 0.5, 0.7, 0.9])
    np.testing.assert_allclose(curve.kept, [1, 2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(curve.errors, [3, 3, 2, np.nan])
    np.testing.assert_allclose(thresholds_of(tiles), np.arange(49, 92) / 100)


def test_words_of_a_tile():
    tile = pair_tiles([pair(-0.25)], errors_mm=[3.14])[0]
    assert tile_words(tile, -0.3) == "−0.25 ✓ · 3.1 mm off"
    assert tile_words(tile, -0.25) == "−0.25 ✗ refused · 3.1 mm off"
    assert tile_words(tile, None) == "−0.25 · 3.1 mm off"
    assert tile_words(tile._replace(score=None, error=None), None) == ""


def test_pairs_are_drawn_best_first(monkeypatch):
    figure = drawn(monkeypatch, show_view_pairs, PAIRS, errors_mm=ERRORS, threshold=0.6, title="mined", size=2, first=1)
    found = texts(figure)
    for wanted in ("mined", "0.70 ✓ · 4.0 mm off", "0.50 ✗ refused", "pairs that pass (%)", "their mean error (mm)"):
        assert wanted in found
    assert not any(text.startswith("0.90") for text in found)
    pictures = [image for part in figure.subfigs for ax in part.axes for image in ax.images]
    assert [image.get_alpha() for image in pictures] == [1, 1, 0.3, 0.3]


def test_names_stand_above_and_are_cut(monkeypatch):
    found = texts(drawn(monkeypatch, show_view_pairs, PAIRS, names=["Ann", "", 50 * "x"]))
    assert found == ["Ann\n0.90", 41 * "x" + "…\n0.70", "0.50"]


def test_without_threshold_or_errors_less_is_drawn(monkeypatch):
    found = texts(drawn(monkeypatch, show_view_pairs, PAIRS, threshold=0.6))
    assert "pairs that pass (%)" in found and "their mean error (mm)" not in found
    found = texts(drawn(monkeypatch, show_view_pairs, PAIRS, scored=False, threshold=0.6))
    assert found == []
    found = texts(drawn(monkeypatch, show_view_pairs, PAIRS))
    assert found == ["0.90", "0.70", "0.50"]


def test_the_same_pairs_give_the_same_bytes():
    first = view_pairs_png(PAIRS, dpi=40)
    assert first == view_pairs_png(PAIRS, dpi=40) != view_pairs_png(PAIRS, dpi=40, threshold=0.6)


@pytest.mark.parametrize(
    ("pairs", "options", "message"),
    [
        ([], {}, "pairs is empty"),
        (PAIRS, {"errors_mm": [1, 2]}, "errors_mm has 2 entries for 3 pairs; give one for each"),
        (PAIRS, {"names": ["a"]}, "names has 1 entries for 3 pairs"),
        (PAIRS, {"order": "name"}, "order is 'score' or 'error', got 'name'"),
        (PAIRS, {"first": 3}, "first leaves out 3 of 3 pairs"),
        (PAIRS, {"plane": "oblique"}, "plane is"),
        ([pair(), pair(shape=(1, 4, 5, 6))], {}, "must have one size"),
        ([pair(np.inf)], {}, "pair 0 has the score inf"),
        ([pair(shape=(2, 6, 5, 4))], {}, "query of pair 0 must be"),
    ],
)
def test_what_cannot_be_drawn_is_refused(pairs, options, message):
    with pytest.raises(ValueError, match=message):
        view_pairs_png(pairs, **options)
