"""Exercises of lesson 31."""

import math
from collections.abc import Callable

import numpy as np

from medssl_nb.exercises.compare import expect, expect_unchanged, well_done


def check_count_joint(count_joint: Callable) -> None:
    """`count_joint(in_a, in_b, num_clusters)` -> (K, K): share of voxels with each pair of cluster numbers."""
    import torch

    generator = torch.Generator().manual_seed(0)
    volume = torch.randint(5, (2, 4, 3, 4, 3), generator=generator)
    cases = {
        "eight voxels": ([0, 0, 0, 1, 1, 1, 2, 2], [0, 0, 1, 1, 1, 1, 2, 0], 3),
        "all in one cluster": ([1, 1, 1], [1, 1, 1], 2),
        "a cluster that nobody uses": ([0, 1, 3, 3], [1, 1, 3, 0], 5),
        "one voxel": ([2], [0], 3),
        "a slice": ([[0, 1, 1], [2, 0, 1]], [[1, 1, 1], [2, 0, 0]], 3),
        "two scans": (volume[0].tolist(), volume[1].tolist(), 5),
    }
    for case, (in_a, in_b, num_clusters) in cases.items():
        a, b = torch.tensor(in_a), torch.tensor(in_b)
        given = a.clone(), b.clone()
        found = count_joint(a, b, num_clusters)
        expect_unchanged(case, given[0], a)
        expect_unchanged(case, given[1], b)
        expected = np.zeros((num_clusters, num_clusters))
        for i, j in zip(given[0].flatten().tolist(), given[1].flatten().tolist(), strict=True):
            expected[i, j] += 1 / a.numel()
        expect(case, found, expected)
    well_done("count_joint", len(cases))


def check_two_maps(two_maps: Callable) -> None:
    """`two_maps(num_clusters)` -> maps without an equal number whose symmetric joint has all information, log K."""
    import torch

    sizes = (2, 4, 6, 10)
    for clusters in sizes:
        case = f"{clusters} clusters"
        found = two_maps(clusters)
        if not (isinstance(found, tuple | list) and len(found) == 2):
            raise AssertionError(f"{case}: return two maps: `return in_a, in_b`.")
        a, b = (torch.as_tensor(one) for one in found)
        if a.shape != b.shape or a.numel() == 0:
            raise AssertionError(f"{case}: the maps need one shape, found {tuple(a.shape)} and {tuple(b.shape)}.")
        for name, one in (("first", a), ("second", b)):
            if one.is_floating_point() or int(one.min()) < 0 or int(one.max()) >= clusters:
                raise AssertionError(f"{case}: the {name} map must hold whole numbers from 0 to {clusters - 1}.")
        if int((a == b).sum()):
            raise AssertionError(f"{case}: {int((a == b).sum())} of {a.numel()} voxels have equal numbers.")
        joint = np.zeros((clusters, clusters))
        np.add.at(joint, (a.flatten().numpy(), b.flatten().numpy()), 1 / a.numel())
        expect(f"{case}, MI", _information(joint), math.log(clusters))
        expect(f"{case}, made symmetric, MI", _information((joint + joint.T) / 2), math.log(clusters))
    well_done("two_maps", len(sizes))


def check_keep_above(keep_above: Callable) -> None:
    """`keep_above(P, i, j)` -> weight of the marginals above which clusters i and j are better kept apart."""
    import torch

    generator = torch.Generator().manual_seed(0)
    soft = torch.rand(5, 5, generator=generator, dtype=torch.float64)
    three = torch.tensor([[0.2, 0.05, 0.05], [0.02, 0.3, 0.08], [0.0, 0.1, 0.2]])
    ring = torch.tensor([[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1.0, 0, 0, 0]]) / 4
    cases = {
        "two clusters, perfect agreement": (torch.eye(2) / 2, 0, 1),
        "two uneven clusters, perfect agreement": (torch.diag(torch.tensor([0.9, 0.1])), 0, 1),
        "two clusters, nothing in common": (torch.full((2, 2), 0.25), 0, 1),
        "three clusters, not symmetric": (three, 1, 2),
        "not neighbours": (three, 0, 2),
        "the higher number first": (three, 2, 0),
        "five clusters": (soft / soft.sum(), 1, 3),
        "a ring: others tell the two apart": (ring, 0, 2),
    }
    for case, (P, i, j) in cases.items():
        given = P.clone()
        found = keep_above(P, i, j)
        expect_unchanged(case, given, P)
        full = given.double().numpy()
        merged = full.copy()
        merged[i] += merged[j]
        merged[:, i] += merged[:, j]
        merged = np.delete(np.delete(merged, j, 0), j, 1)
        joint, marginals = (np.subtract(x, y) for x, y in zip(_entropies(full), _entropies(merged), strict=True))
        expect(case, found, joint / marginals, tolerance=1e-4)
    well_done("keep_above", len(cases))


def _entropies(joint: np.ndarray) -> tuple[float, float]:
    """Entropy of a joint matrix, and the sum of those of its marginals."""
    return _entropy(joint), _entropy(joint.sum(0)) + _entropy(joint.sum(1))


def _entropy(q: np.ndarray) -> float:
    q = q[q > 0]
    return float(-(q * np.log(q)).sum())


def _information(joint: np.ndarray) -> float:
    together, apart = _entropies(joint)
    return apart - together
