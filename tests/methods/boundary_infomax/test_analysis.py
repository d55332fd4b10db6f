"""Names for clusters and how much each is used: reference numbers, hand values, laws, edges, messages."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from medssl_nb.methods.boundary_infomax import cluster_usage, joint_probability, match_clusters

REFERENCE = np.load(Path(__file__).parents[2] / "reference" / "boundary_infomax.npz", allow_pickle=False)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def stored(name, device="cpu"):
    return torch.from_numpy(np.asarray(REFERENCE[name])).to(device)


def labels(count, *shape, seed=0):
    return torch.randint(count, shape, generator=torch.Generator().manual_seed(seed))


def overlaps(assignment, reference, clusters, references):
    table = torch.zeros(clusters, references, dtype=torch.long)
    for k, r in zip(assignment.flatten().tolist(), reference.flatten().tolist(), strict=True):
        table[k, r] += 1
    return table


# ------------------------------------------------------------ matching


@pytest.mark.parametrize("device", DEVICES)
def test_matching_equals_the_reference(device):
    clusters, references = REFERENCE["matching__counts"].tolist()
    found = match_clusters(
        stored("matching__assignment", device),
        stored("matching__reference", device),
        num_clusters=clusters,
        num_references=references,
    )
    assert found.dtype == torch.int64 and found.device.type == device
    assert found.tolist() == REFERENCE["matching__many_to_one"].tolist()
    assert clusters - 1 not in REFERENCE["matching__assignment"] and found[-1] == 0  # never used: the lowest id
    found = match_clusters(
        stored("matching_permuted__assignment", device),
        stored("matching_permuted__reference", device),
        num_clusters=5,
        num_references=5,
        mode="one_to_one",
    )
    assert found.dtype == torch.int64 and found.device.type == device
    assert found.tolist() == REFERENCE["matching_permuted__one_to_one"].tolist()


def test_matching_by_hand():
    assignment = torch.tensor([0, 0, 0, 1, 1, 1, 1, 3, 3])
    reference = torch.tensor([2, 2, 1, 2, 2, 2, 1, 1, 2])
    many = match_clusters(assignment, reference, num_clusters=5, num_references=3)
    assert many.tolist() == [2, 2, 0, 1, 0]  # a tie of 1 and 2: the lower; clusters 2 and 4 are unused
    # overlaps: 0: (0, 1, 2), 1: (0, 1, 3), 3: (0, 1, 1). Best with each name once: 1 -> 2, then 0 or 3 -> 1.
    one = match_clusters(assignment, reference, num_clusters=5, num_references=3, mode="one_to_one")
    assert one[1] == 2
    assert sorted(one.tolist()) == [-1, -1, 0, 1, 2]
    assert 1 in (one[0], one[3])


def test_one_to_one_is_the_best_total_not_the_greedy_one():
    # overlaps [[5, 4], [4, 0]]: greedy takes 5 + 0, the best is 4 + 4
    assignment = torch.tensor([0] * 9 + [1] * 4)
    reference = torch.tensor([0] * 5 + [1] * 4 + [0] * 4)
    options = {"num_clusters": 2, "num_references": 2}
    assert match_clusters(assignment, reference, **options, mode="one_to_one").tolist() == [1, 0]
    assert match_clusters(assignment, reference, **options).tolist() == [0, 0]


@pytest.mark.parametrize("grid", [(30,), (2, 6, 5), (2, 4, 3, 5), (1, 3, 4, 2, 3)])
@pytest.mark.parametrize(("clusters", "references"), [(4, 4), (5, 3), (3, 5)])
def test_matching_laws(grid, clusters, references):
    assignment, reference = labels(clusters, *grid), labels(references, *grid, seed=1)
    copies = assignment.clone(), reference.clone()
    table = overlaps(assignment, reference, clusters, references)
    counts = {"num_clusters": clusters, "num_references": references}
    many = match_clusters(assignment, reference, **counts)
    assert many.shape == (clusters,)
    for k in range(clusters):
        assert many[k] == min(r for r in range(references) if table[k, r] == table[k].max())
    one = match_clusters(assignment, reference, **counts, mode="one_to_one")
    named = [r for r in one.tolist() if r >= 0]
    assert len(named) == len(set(named)) == min(clusters, references)
    assert (one >= -1).all()
    total = sum(int(table[k, r]) for k, r in enumerate(one.tolist()) if r >= 0)
    if clusters <= references:
        options = (zip(range(clusters), p, strict=True) for p in itertools.permutations(range(references), clusters))
    else:
        options = (zip(p, range(references), strict=True) for p in itertools.permutations(range(clusters), references))
    assert total == max(sum(int(table[k, r]) for k, r in pairs) for pairs in options)
    assert torch.equal(assignment, copies[0]) and torch.equal(reference, copies[1])


def test_one_to_one_keeps_colours_between_epochs():
    before = labels(6, 2, 8, 8)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    after = order[before]  # cluster k is now called order[k]
    found = match_clusters(after, before, num_clusters=6, num_references=6, mode="one_to_one")
    assert torch.equal(found[after], before)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_any_integer_type_will_do(dtype):
    assignment, reference = labels(200, 4000).to(dtype) % 20, labels(4, 4000, seed=1).to(dtype)
    found = match_clusters(assignment, reference.long(), num_clusters=20, num_references=4)
    wide = match_clusters(assignment.long(), reference.long(), num_clusters=20, num_references=4)
    assert torch.equal(found, wide) and found.dtype == torch.int64
    many = torch.full((600,), 199, dtype=torch.uint8)  # 199 * 4 + 3 does not fit into uint8
    high = match_clusters(many, torch.full((600,), 3, dtype=torch.uint8), num_clusters=200, num_references=4)
    assert high[199] == 3 and high[:199].sum() == 0


MAP = torch.tensor([[0, 1], [1, 2]])


@pytest.mark.parametrize("mode", ["many_to_one", "one_to_one"])
@pytest.mark.parametrize(
    ("assignment", "reference", "counts", "message"),
    [
        (MAP, MAP[:1], (3, 3), r"(?s)assignment.*reference.*\(2, 2\).*\(1, 2\)"),
        (MAP, MAP.flatten(), (3, 3), r"(?s)assignment.*reference.*\(2, 2\).*\(4,\)"),
        (MAP, MAP, (2, 3), "assignment.*2"),
        (MAP, MAP, (3, 2), "reference.*2"),
        (MAP - 1, MAP, (3, 3), "assignment.*-1"),
        (MAP, MAP - 1, (3, 3), "reference.*-1"),
        (MAP.float(), MAP, (3, 3), "assignment.*float32"),
        (MAP, MAP.double(), (3, 3), "reference.*float64"),
    ],
)
def test_maps_that_are_refused(assignment, reference, counts, message, mode):
    with pytest.raises(ValueError, match=message):
        match_clusters(assignment, reference, num_clusters=counts[0], num_references=counts[1], mode=mode)


def test_unknown_modes_are_refused():
    with pytest.raises(ValueError, match=r"mode.*'greedy'"):
        match_clusters(MAP, MAP, num_clusters=3, num_references=3, mode="greedy")


# ------------------------------------------------------------ usage


@pytest.mark.parametrize("grid", [(7,), (4, 3), (2, 3, 4)])
def test_usage_is_the_mean_over_batch_and_grid(grid):
    probs = torch.randn(2, 5, *grid, generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(1)
    found = cluster_usage(probs)
    assert found.shape == (5,) and found.dtype == torch.float64
    torch.testing.assert_close(found, torch.stack([probs[:, k].mean() for k in range(5)]))
    torch.testing.assert_close(found, joint_probability(probs, probs.roll(1, 0), symmetric=False).sum(1))
    assert float(found.sum()) == pytest.approx(1)


def test_usage_by_hand_and_in_half_types():
    probs = torch.zeros(1, 3, 4096)
    probs[:, 0, :1024], probs[:, 1, 1024:] = 1, 1
    copy = probs.clone()
    assert cluster_usage(probs).tolist() == [0.25, 0.75, 0]
    assert torch.equal(probs, copy)
    for half in (torch.float16, torch.bfloat16):
        found = cluster_usage(probs.to(half))
        assert found.dtype == torch.float32
        assert found.tolist() == [0.25, 0.75, 0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert cluster_usage(probs).dtype == torch.float32


def test_usage_carries_gradient():
    probs = torch.full((2, 3, 4), 1 / 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(cluster_usage, probs)


def test_usage_needs_a_grid():
    with pytest.raises(ValueError, match=r"probs.*\(2, 3\)"):
        cluster_usage(torch.full((2, 3), 1 / 3))
