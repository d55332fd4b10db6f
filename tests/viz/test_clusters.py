"""Colours that can be told apart, bars that show the shares."""

import numpy as np
import pytest
import torch

from medssl_nb.viz import CLUSTER_COLOURS, cluster_colours, show_usage, usage_png
from medssl_nb.viz.clusters import MOST_CLUSTERS, as_shares
from medssl_nb.viz.colours import CONTOUR_COLOUR, MASK_COLOUR, rgb

SHARES = [0.6, 0.1, 0.25, 0.05, 0.0]


def oklab(colour: str) -> np.ndarray:
    """Lightness, green-red and blue-yellow of a colour: equal distances look alike."""
    parts = rgb(colour) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return lab @ np.cbrt(cones @ linear)


def closest(colours) -> float:
    places = np.array([oklab(colour) for colour in colours])
    apart = np.linalg.norm((places[:, None] - places[None]) * [0.8, 1.4, 1.4], axis=-1)
    return apart[~np.eye(len(places), dtype=bool)].min()


def test_forty_colours_are_as_far_apart_as_the_first_twelve():
    assert MOST_CLUSTERS == 40
    assert closest(cluster_colours(40)) > 0.95 * closest(CLUSTER_COLOURS) > 0.1
    assert closest([*cluster_colours(40)[12:], CONTOUR_COLOUR, MASK_COLOUR]) > 0.12  # lines and lesions keep theirs


def test_the_first_colours_do_not_depend_on_the_number_of_clusters():
    assert cluster_colours(5) == CLUSTER_COLOURS[:5] == cluster_colours(40)[:5]
    assert len(set(cluster_colours(40))) == 40


@pytest.mark.parametrize("count", [0, 41])
def test_too_few_and_too_many_clusters_are_refused(count):
    with pytest.raises(ValueError, match=f"num_clusters must be 1 to 40, got {count}: .* merge the rest"):
        cluster_colours(count)


def test_bars_reach_their_shares(monkeypatch):
    import matplotlib.pyplot as plt

    drawn = []
    monkeypatch.setattr(plt, "show", lambda: drawn.append(plt.gcf()))
    assert show_usage(torch.tensor(SHARES, dtype=torch.float64), picked=[2], title="after 40 steps") is None
    (ax,) = drawn[0].axes
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], 100 * np.array(SHARES))
    assert [bar.get_alpha() == 1 for bar in ax.patches] == [False, False, True, False, False]
    assert [round(line.get_ydata()[0], 9) for line in ax.lines] == [20]
    assert ax.get_title(loc="left") == "after 40 steps" and ax.get_ylim() == (0, 63)


def test_the_same_shares_give_the_same_picture():
    first = usage_png(SHARES)
    assert first == usage_png(np.array(SHARES)) and first.startswith(b"\x89PNG")
    others = [usage_png(SHARES, picked=[1]), usage_png(SHARES, upper=1.0), usage_png(SHARES, what="mean probability")]
    assert len({first, *others}) == 4
    assert usage_png(np.full(40, 1 / 40)).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ([[0.5, 0.5]], r"one number for each cluster, \(K,\), got shape \(1, 2\)"),
        ([], r"got shape \(0,\)"),
        ([1.5, -0.5], "shares must lie from 0 to 1, got -0.5 to 1.5"),
        ([np.nan, 1], "from 0 to 1, got nan"),
    ],
)
def test_what_are_no_shares(shares, message):
    with pytest.raises(ValueError, match=message):
        as_shares(shares)


def test_only_clusters_that_exist_can_be_picked():
    with pytest.raises(ValueError, match=r"no such cluster: \[5, -1\]; there are 0 to 4"):
        usage_png(SHARES, picked=[0, 5, -1])
