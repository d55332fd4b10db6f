"""Embeddings as colours, and how far off landmarks were found."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from medssl_nb.viz import embedding_colours, landmark_errors_png, show_landmark_errors

RNG = np.random.default_rng(0)
FIRST, SECOND = RNG.normal(size=(6, 5, 4, 3)), RNG.normal(size=(6, 2, 3, 4))


def test_colours_are_the_principal_components_of_all_volumes_together():
    rows = np.concatenate([one.reshape(6, -1).T for one in (FIRST, SECOND)]).astype(np.float32)
    found = PCA(3).fit(rows)
    axes = found.components_ * np.sign(
        found.components_[np.arange(3), np.abs(found.components_).argmax(axis=1)][:, None]
    )
    values = (rows - found.mean_) @ axes.T
    low, high = np.percentile(values, [1, 99], axis=0)
    expected = 255 * np.clip((values - low) / (high - low), 0, 1)
    first, second = embedding_colours([FIRST, SECOND])
    assert first.shape == (5, 4, 3, 3) and second.shape == (2, 3, 4, 3) and first.dtype == np.uint8
    np.testing.assert_allclose(np.concatenate([first.reshape(-1, 3), second.reshape(-1, 3)]), expected, atol=0.51)


def test_one_vector_has_one_colour_in_all_volumes():
    here, there = FIRST.copy(), SECOND.copy()
    here[:, 2, 1, 0] = there[:, 1, 1, 3] = FIRST[:, 0, 0, 0]
    first, second = embedding_colours([here, there])
    np.testing.assert_array_equal(first[2, 1, 0], first[0, 0, 0])
    np.testing.assert_array_equal(second[1, 1, 3], first[0, 0, 0])
    assert not np.array_equal(embedding_colours([here])[0], first)


def test_tensors_and_half_precision_are_taken():
    tensor = torch.from_numpy(FIRST)
    (expected,) = embedding_colours([FIRST])
    np.testing.assert_array_equal(embedding_colours([tensor[None].requires_grad_()])[0], expected)
    np.testing.assert_allclose(embedding_colours([tensor.half()])[0].astype(int), expected.astype(int), atol=1)


def test_few_channels_and_a_collapsed_network_leave_middle_values():
    (two,) = embedding_colours([FIRST[:2]])
    assert (two[..., 2] == 128).all() and np.ptp(two[..., :2]) == 255
    alike = np.broadcast_to(np.full((6, 1, 1, 1), 6**-0.5), FIRST.shape)
    (grey,) = embedding_colours([alike + 1e-8 * FIRST])
    assert (grey == 128).all()


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        ([], "got no embeddings; give a list"),
        ([FIRST, FIRST[:4]], r"same number of channels, got \[6, 4\]"),
        ([FIRST[0]], r"must be \(D, X, Y, Z\).*got shape \(5, 4, 3\)"),
        ([np.where(FIRST > 2, np.nan, FIRST)], "NaN or infinity, which have no colour"),
    ],
)
def test_what_has_no_colours(embeddings, message):
    with pytest.raises(ValueError, match=message):
        embedding_colours(embeddings)


def test_errors_as_bars():
    errors = {"A": 3.0, "B": 21.0, "C": None}
    picture = landmark_errors_png(errors, radius=15)
    assert picture.startswith(b"\x89PNG") and picture == landmark_errors_png(errors, radius=15)
    others = [{"errors": {**errors, "B": 14.0}}, {"radius": 25}, {"radius": None}, {"unit": "voxels"}, {"title": "x"}]
    seen = {landmark_errors_png(**{"errors": errors, "radius": 15, **other}) for other in others}
    assert len(seen | {picture}) == 6


def test_bars_far_off_are_hatched(monkeypatch):
    import matplotlib.pyplot as plt

    hatches = []
    monkeypatch.setattr(plt, "show", lambda: hatches.extend(bar.get_hatch() for bar in plt.gcf().axes[0].patches))
    show_landmark_errors({"A": 15.0, "B": 15.1, "C": None}, radius=15)
    assert hatches == [None, "//", None]


def test_no_errors():
    with pytest.raises(ValueError, match="errors is empty: give"):
        landmark_errors_png({})
