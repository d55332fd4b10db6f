"""What the clusters are: how many are used, which organ each lies in, which is which after some more training."""

from typing import Literal

import torch
from torch import Tensor

from medssl_nb.precision import at_least_float32


def match_clusters(
    assignment: Tensor,
    reference: Tensor,
    *,
    num_clusters: int,
    num_references: int,
    mode: Literal["many_to_one", "one_to_one"] = "many_to_one",
) -> Tensor:
    """A reference for each cluster, by the voxels they share.

    Args:
        assignment: whole numbers from 0 to num_clusters - 1, any shape.
        reference: whole numbers from 0 to num_references - 1, same shape.
        num_clusters, num_references: how many there are.
        mode: "many_to_one": each cluster goes to the reference it shares most voxels with (the lower of two equal ones;
            0 for a cluster that no voxel has): against organs. "one_to_one": no reference twice, most voxels shared in
            all (Hungarian method; -1 for clusters left over): between epochs, so that colours stay.

    Returns:
        int64 (num_clusters,).

    Raises:
        ValueError: shapes that differ, numbers outside their range, an unknown mode.
    """
    if mode not in ("many_to_one", "one_to_one"):
        raise ValueError(f'mode is "many_to_one" or "one_to_one", got {mode!r}.')
    if assignment.shape != reference.shape:
        raise ValueError(
            f"assignment and reference must have one shape, got {tuple(assignment.shape)} and {tuple(reference.shape)}."
        )
    for name, values, count in (("assignment", assignment, num_clusters), ("reference", reference, num_references)):
        if values.is_floating_point() or values.is_complex():
            raise ValueError(f"{name} must hold whole numbers, got {values.dtype}; from probabilities: argmax(1).")
        if values.numel() and not (values.min() >= 0 and values.max() < count):
            raise ValueError(f"{name} must lie from 0 to {count - 1}, got {int(values.min())} to {int(values.max())}.")
    pairs = assignment.flatten().long() * num_references + reference.flatten().long()
    shared = torch.bincount(pairs, minlength=num_clusters * num_references).view(num_clusters, num_references)
    if mode == "many_to_one":
        return shared.argmax(dim=1)
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(shared.cpu().numpy(), maximize=True)
    matched = torch.full((num_clusters,), -1, dtype=torch.int64)
    matched[torch.from_numpy(rows)] = torch.from_numpy(columns)
    return matched.to(assignment.device)


def cluster_usage(probs: Tensor) -> Tensor:
    """Share of each cluster: mean of probs (B, K, *S) over batch and grid, (K,)."""
    if probs.ndim < 3:
        raise ValueError(f"probs must be (B, K, *S), got {tuple(probs.shape)}.")
    return at_least_float32(probs).transpose(0, 1).flatten(1).mean(dim=1)
