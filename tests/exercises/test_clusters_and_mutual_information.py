"""The checks of lesson 31 pass right answers, and name the fault of each typical wrong one."""

import pytest
import torch

from medssl_nb.exercises import clusters_and_mutual_information as exercises


def count_joint(in_a, in_b, num_clusters):
    counts = torch.bincount((in_a * num_clusters + in_b).flatten(), minlength=num_clusters**2)
    return counts.view(num_clusters, num_clusters) / in_a.numel()


def count_joint_by_largest(in_a, in_b, num_clusters):
    K = int(max(in_a.max(), in_b.max())) + 1
    return torch.bincount((in_a * K + in_b).flatten(), minlength=K * K).view(K, K) / in_a.numel()


def count_joint_first_axis(in_a, in_b, num_clusters):
    return count_joint(in_a, in_b, num_clusters) * in_a.numel() / len(in_a)


def count_joint_in_place(in_a, in_b, num_clusters):
    right = count_joint(in_a, in_b, num_clusters)
    in_a *= num_clusters
    return right


def symmetric(in_a, in_b, num_clusters):
    joint = count_joint(in_a, in_b, num_clusters)
    return (joint + joint.T) / 2


def swapped(num_clusters):
    in_a = torch.arange(num_clusters)
    return in_a, in_a ^ 1


def ring(num_clusters):
    in_a = torch.arange(num_clusters)
    return in_a, (in_a + 1) % num_clusters


def H(q):
    return torch.special.entr(q).sum()


def keep_above(P, i, j):
    M = P.clone()
    M[i] += M[j]
    M[j] = 0
    M[:, i] += M[:, j]
    M[:, j] = 0
    marginals = [H(Q.sum(0)) + H(Q.sum(1)) for Q in (P, M)]
    return (H(P) - H(M)) / (marginals[0] - marginals[1])


def keep_above_rows_only(P, i, j):
    M = P.clone()
    M[i] += M[j]
    M[j] = 0
    marginals = [H(Q.sum(0)) + H(Q.sum(1)) for Q in (P, M)]
    return (H(P) - H(M)) / (marginals[0] - marginals[1])


def keep_above_in_place(P, i, j):
    right = keep_above(P, i, j)
    P[i] += P[j]
    return right


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (exercises.check_count_joint, count_joint),
        (exercises.check_two_maps, swapped),
        (exercises.check_two_maps, lambda K: [torch.stack([one.flip(0)] * 3) for one in swapped(K)]),
        (exercises.check_keep_above, keep_above),
    ],
)
def test_right_answers_pass_and_say_so(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.endswith("cases right.\n")


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (exercises.check_count_joint, lambda *a: None, "eight voxels: your function returned nothing"),
        (
            exercises.check_count_joint,
            lambda a, b, K: count_joint(b, a, K),
            r"eight voxels: expected 0\.125 at \(0, 1\)",
        ),
        (exercises.check_count_joint, symmetric, "eight voxels: expected"),
        (
            exercises.check_count_joint,
            lambda a, b, K: count_joint(a, b, K) * a.numel(),
            "eight voxels: expected 0.375.*found 3",
        ),
        (exercises.check_count_joint, count_joint_by_largest, r"nobody uses: expected shape \(5, 5\), found \(4, 4\)"),
        (exercises.check_count_joint, count_joint_first_axis, "a slice: expected"),
        (exercises.check_count_joint, count_joint_in_place, "changed its input"),
        (exercises.check_two_maps, lambda K: None, "2 clusters: return two maps"),
        (
            exercises.check_two_maps,
            lambda K: (torch.arange(K), torch.arange(K + 1)),
            r"one shape, found \(2,\) and \(3,\)",
        ),
        (exercises.check_two_maps, lambda K: (torch.arange(K), torch.arange(K) + 1), "the second map must hold"),
        (exercises.check_two_maps, lambda K: (torch.rand(K), torch.arange(K)), "the first map must hold"),
        (exercises.check_two_maps, lambda K: (torch.arange(K),) * 2, "2 of 2 voxels have equal numbers"),
        (
            exercises.check_two_maps,
            lambda K: (torch.zeros(4).long(), torch.ones(4).long()),
            "2 clusters, MI: .*found 0",
        ),
        (exercises.check_two_maps, ring, "4 clusters, made symmetric, MI: expected 1.38629, found 0.693147"),
        (exercises.check_keep_above, lambda P, i, j: None, "returned nothing"),
        (exercises.check_keep_above, lambda P, i, j: 0.5, "nothing in common: expected 1, found 0.5"),
        (exercises.check_keep_above, lambda P, i, j: 1 / keep_above(P, i, j), "agreement: expected 0.5, found 2"),
        (exercises.check_keep_above, keep_above_rows_only, "perfect agreement: expected 0.5"),
        (exercises.check_keep_above, keep_above_in_place, "changed its input"),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(check, answer, words):
    with pytest.raises(AssertionError, match=words):
        check(answer)
