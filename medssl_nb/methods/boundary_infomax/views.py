"""Two aligned views: one map T for images and features, grey-value changes, and where a slice lies in its scan."""

from medssl_nb.data.augment import apply_affine, random_affine, random_gamma

__all__ = ["apply_affine", "axial_partition", "random_affine", "random_gamma"]


def axial_partition(index: int, num_slices: int, num_partitions: int) -> int:
    """Part of the scan in which a slice lies: floor(i / (floor(L / Q) + 1)).

    Args:
        index: i, 0 to num_slices - 1.
        num_slices: L.
        num_partitions: Q, from 1.

    Returns:
        0 to at most num_partitions - 1; slices of different patients with the same number are taken for alike.
    """
    if num_partitions < 1:
        raise ValueError(f"num_partitions counts from 1, got {num_partitions!r}.")
    if not 0 <= index < num_slices:
        raise ValueError(f"index lies from 0 to num_slices - 1 = {num_slices - 1}, got {index!r}.")
    return index // (num_slices // num_partitions + 1)
