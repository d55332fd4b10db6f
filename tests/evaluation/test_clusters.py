"""Numbers for cluster maps: by hand, at their ends, and what they refuse."""

import math

import pytest
import torch

from medssl_nb.evaluation import agreement_scores, border_scores, clusters_used, label_borders, organ_information


def halves(at, size=(6, 4, 3)):
    """1 from plane `at` of the first axis on, 0 before."""
    label = torch.zeros(size, dtype=torch.int64)
    label[at:] = 1
    return label


def test_clusters_used_by_hand():
    assert clusters_used(torch.tensor([1.0, 0, 0])) == 1
    assert clusters_used(torch.full((8,), 0.125)) == pytest.approx(8)
    assert clusters_used(torch.tensor([2, 2, 0])) == pytest.approx(2)  # counts do too
    assert clusters_used(torch.tensor([0.5, 0.25, 0.25])) == pytest.approx(2**1.5)


@pytest.mark.parametrize("usage", [torch.zeros(3), torch.tensor([0.5, -0.1]), torch.ones(2, 2)])
def test_clusters_used_refuses_what_is_no_usage(usage):
    with pytest.raises(ValueError, match="shares from 0 and not all 0"):
        clusters_used(usage)


def test_agreement_counts_names_and_kappa_takes_chance_away():
    first = torch.tensor([0, 0, 1, 1])
    assert agreement_scores(first, first) == {"agreement": 1.0, "kappa": 1.0}
    assert agreement_scores(first, 1 - first) == {"agreement": 0.0, "kappa": -1.0}
    assert agreement_scores(first, torch.tensor([0, 1, 0, 1])) == {"agreement": 0.5, "kappa": 0.0}
    assert agreement_scores(torch.zeros(4).int(), torch.zeros(4).int()) == {"agreement": 1.0, "kappa": 0.0}
    from sklearn.metrics import cohen_kappa_score

    a, b = torch.randint(5, (2, 4, 6), generator=torch.Generator().manual_seed(0))
    assert agreement_scores(a, b)["kappa"] == pytest.approx(cohen_kappa_score(a.flatten(), b.flatten()))


def test_organ_information_at_its_ends():
    organ = torch.tensor([0, 0, 1, 1, 2, 2, 2, 2])
    entropy = 0.5 * math.log(4) + 0.5 * math.log(2)
    finer = torch.tensor([5, 3, 1, 1, 0, 2, 0, 2])  # names do not matter, and a finer map loses nothing
    assert organ_information(finer, organ) == {"information": pytest.approx(entropy), "share": pytest.approx(1)}
    assert organ_information(torch.zeros_like(organ), organ)["share"] == pytest.approx(0, abs=1e-12)
    halved = organ_information(organ.clamp(max=1), organ)  # 0 against 1 and 2 together
    assert halved["information"] == pytest.approx(0.25 * math.log(4) + 0.75 * math.log(4 / 3))
    assert organ_information(finer, torch.full_like(organ, 2)) == {"information": pytest.approx(0), "share": 1.0}


def test_organ_information_among_some_labels():
    organ = torch.tensor([0, 0, 0, 0, 1, 2])
    clusters = torch.tensor([0, 1, 2, 3, 4, 4])  # tells background voxels apart, not the organs
    assert organ_information(clusters, organ)["share"] > 0.5
    assert organ_information(clusters, organ, [1, 2])["information"] == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match=r"no voxel has one of the labels \[7\]; there are \[0, 1, 2\]"):
        organ_information(clusters, organ, [7])


def test_borders_lie_on_both_sides():
    assert label_borders(halves(2)).nonzero()[:, 0].unique().tolist() == [1, 2]
    assert not label_borders(torch.ones(3, 1, 4, dtype=torch.int64)).any()
    picture = torch.tensor([[0, 0, 1], [0, 0, 0]])
    assert label_borders(picture).tolist() == [[False, True, True], [False, False, True]]


def test_border_scores_by_hand():
    spacing = (2.0, 3.0, 5.0)
    assert border_scores(halves(3), halves(3), spacing, 0) == {"precision": 1.0, "recall": 1.0, "f": 1.0}
    beside = border_scores(halves(2), halves(3), spacing, 0)  # planes 1, 2 against 2, 3
    assert beside == {"precision": 0.5, "recall": 0.5, "f": 0.5}
    assert border_scores(halves(2), halves(3), spacing, 1.99)["f"] == 0.5
    assert border_scores(halves(2), halves(3), spacing, 2.0)["f"] == 1.0
    both = halves(3).clone()
    both[5:] = 2  # one border more: planes 4, 5
    assert border_scores(both, halves(3), spacing, 0) == {"precision": 0.5, "recall": 1.0, "f": pytest.approx(2 / 3)}
    assert border_scores(halves(3), both, spacing, 0) == {"precision": 1.0, "recall": 0.5, "f": pytest.approx(2 / 3)}


def test_distances_are_in_mm_along_each_axis():
    assert border_scores(halves(1, (5, 5)), halves(4, (5, 5)), (2, 9), 6.0)["precision"] == 1.0
    assert border_scores(halves(1, (5, 5)).T, halves(4, (5, 5)).T, (2, 9), 6.0)["precision"] == 0.0


def test_maps_without_a_border():
    flat = torch.zeros(6, 4, 3, dtype=torch.int64)
    assert border_scores(flat, halves(3), (1, 1, 1), 1) == {"precision": 0.0, "recall": 0.0, "f": 0.0}
    assert set(border_scores(halves(3), flat, (1, 1, 1), 1).values()) == {None}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: border_scores(m, m[1:], (1, 1, 1), 1), r"one shape, not empty; got \(6, 4, 3\) and \(5, 4, 3\)"),
        (lambda m: border_scores(m, m, (1, 1), 1), "one length for each of 3 axes"),
        (lambda m: border_scores(m, m, (1, 1, 0), 1), "one length for each of 3 axes"),
        (lambda m: border_scores(m, m, (1, 1, 1), -1), "a distance from 0, got -1"),
        (lambda m: agreement_scores(m.float(), m), "first must hold whole numbers from 0, got torch.float32"),
        (lambda m: agreement_scores(m, m - 1), "second must hold whole numbers from 0"),
        (lambda m: organ_information(m[:0], m[:0]), "not empty"),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call(halves(3))
