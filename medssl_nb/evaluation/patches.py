"""How well patches chosen without labels find true lesions, and how well hidden patches are guessed."""

from collections.abc import Sequence

import torch
from torch import Tensor

from medssl_nb.networks.patches import patchify


def lesion_patches(mask: Tensor, patch_size: int | Sequence[int], min_share: float = 0.1) -> Tensor:
    """Patches of which more than `min_share` is lesion: the truth that a guess without labels is held against.

    Args:
        mask: (B, 1, *S), 0 outside the lesion.
        patch_size: side of a patch in voxels, one number or one per axis.
        min_share: share of a patch's voxels, 0 to below 1; 0 asks for one voxel.

    Returns:
        bool (B, N).
    """
    if not 0 <= min_share < 1:
        raise ValueError(f"min_share is a share of a patch's voxels, 0 to below 1; got {min_share!r}.")
    if mask.ndim not in (4, 5) or mask.shape[1] != 1:
        raise ValueError(f"mask is (B, 1, X, Y) or (B, 1, X, Y, Z), got {tuple(mask.shape)}; mask[None] adds B.")
    return patchify(mask != 0, patch_size).double().mean(-1) > min_share


def selection_scores(called: Tensor, truth: Tensor, valid: Tensor | None = None) -> dict[str, float | None]:
    """How well the patches that are called lesion are the true ones, in one volume or pooled over several.

    Args:
        called, truth: bool, any one shape.
        valid: bool, patches that count; None is all.

    Returns:
        "lift": precision over the share of true patches among all, 1 = chance; "recall": share of the true patches that
        are called; "precision"; "size": share of all patches that are called; "true": number of true patches. Lift and
        recall are None without a true patch; lift and precision are None if nothing is called.
    """
    if called.dtype != torch.bool or called.shape != truth.shape or truth.dtype != torch.bool:
        raise ValueError(
            f"called and truth are bool and alike, got {called.dtype} {tuple(called.shape)} and "
            f"{truth.dtype} {tuple(truth.shape)}."
        )
    if valid is not None:
        called, truth = called[valid], truth[valid]
    number, true, picked, both = called.numel(), int(truth.sum()), int(called.sum()), int((called & truth).sum())
    precision = both / picked if picked else None
    return {
        "lift": precision * number / true if picked and true else None,
        "recall": both / true if true else None,
        "precision": precision,
        "size": picked / number if number else None,
        "true": true,
    }


def errors_by_category(errors: Tensor, mask: Tensor, truth: Tensor) -> dict[str, float | None]:
    """Mean error of the hidden patches, the true lesions apart from the others.

    Args:
        errors: (B, N).
        mask: bool (B, N), True = hidden.
        truth: bool (B, N), True = lesion.

    Returns:
        "lesion" and "background"; None where no such patch is hidden.
    """
    if not errors.shape == mask.shape == truth.shape:
        raise ValueError(
            f"errors, mask and truth are alike, got {tuple(errors.shape)}, {tuple(mask.shape)}, {tuple(truth.shape)}."
        )
    groups = {"lesion": mask & truth, "background": mask & ~truth}
    return {name: float(errors[group].mean()) if group.any() else None for name, group in groups.items()}
