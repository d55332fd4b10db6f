"""Points marked on slices."""

import numpy as np
import pytest

from medssl_nb.viz import planes_png
from medssl_nb.viz.marks import MARK_STYLES, as_marks, nearest_voxel

SHAPE = (8, 6, 4)
VOLUME = np.random.default_rng(0).normal(size=SHAPE)


def test_marks_have_a_colour_and_a_shape_each():
    marks = as_marks({"found": (1, 2, 3), "true": np.array([0.5, 2.25, 3.4])}, SHAPE)
    assert [(mark.name, mark.voxel) for mark in marks] == [("found", (1, 2, 3)), ("true", (0.5, 2.25, 3.4))]
    assert [(mark.colour, mark.shape) for mark in marks] == list(MARK_STYLES[:2])
    assert len(set(MARK_STYLES)) == len({shape for _, shape in MARK_STYLES}) == 3
    assert as_marks(None, SHAPE) == as_marks({}, SHAPE) == ()


def test_the_voxel_that_a_point_lies_in():
    assert nearest_voxel((0.49, 0.5, -0.5)) == (0, 1, 0)
    assert nearest_voxel((2.5, 3.5, 1)) == (3, 4, 1)  # both up, where round() would go to even numbers


def test_where_a_mark_is_drawn(monkeypatch):
    """In mm of the picture: columns and rows run against their axes; off the slice the name says where the point is."""
    import matplotlib.pyplot as plt

    from medssl_nb.viz import show_slice

    seen = []

    def keep():
        ax = plt.gcf().axes[0]
        drawn = [c for c in ax.collections if len(c.get_offsets())]
        texts = [text.get_text() for text in ax.texts if text.get_text()[:1] in "pq" and text.get_text() != ""]
        seen.append(([tuple(c.get_offsets()[0]) for c in drawn[::2]], texts, drawn[1].get_linestyle()))

    monkeypatch.setattr(plt, "show", keep)
    look = {"spacing_mm": (2, 3, 5), "marks": {"p": (1, 2, 3), "q": (0.5, 2.5, 0)}}
    show_slice(VOLUME, "axial", 3, **look)
    show_slice(VOLUME, "axial", 0, **look)
    (places, texts, solid), (_, other_texts, dashed) = seen
    np.testing.assert_allclose(places, [(2 * (8 - 1.5), 3 * (6 - 2.5)), (2 * 7.0, 3 * 3.0)])
    assert texts == ["p", "q, z = 0"] and other_texts == ["p, z = 3", "q"]
    assert solid != dashed


def test_marks_change_the_picture_and_nothing_else_does():
    marked = planes_png(VOLUME, marks={"found": (1, 2, 3)})
    assert marked == planes_png(VOLUME, marks={"found": (1, 2, 3)})
    assert len({marked, planes_png(VOLUME), planes_png(VOLUME, marks={"found": (1, 2.5, 3)})}) == 3


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ({"a": (1, 2)}, r"mark 'a' is a point, three numbers \(x, y, z\) in voxels; got \(1, 2\)"),
        ({"a": (1, 2, np.nan)}, "mark 'a' is a point"),
        ({"a": (1, 2, 3.5)}, r"mark 'a' \[1.0, 2.0, 3.5\] lies outside the volume of shape \(8, 6, 4\).*mm_to_voxel"),
        ({"a": (-0.6, 2, 3)}, "lies outside"),
        (dict.fromkeys("abcd", (1, 2, 3)), "at most 3 marks can be told apart, got 4: a, b, c, d"),
    ],
)
def test_what_cannot_be_marked(marks, message):
    with pytest.raises(ValueError, match=message):
        as_marks(marks, SHAPE)
