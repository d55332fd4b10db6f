"""Onto the sphere, onto the simplex."""

import torch
from torch import Tensor

from medssl_nb.precision import at_least_float32


def l2_normalize(x: Tensor, dim: int = 1, eps: float = 1e-10) -> Tensor:
    """x / (||x|| + eps) along `dim`: unit vectors; a zero vector stays zero, and its gradient finite.

    Half precision is raised to float32 (in float16 eps would be 0).
    """
    x = at_least_float32(x)
    return x / (torch.linalg.vector_norm(x, dim=dim, keepdim=True) + eps)


def l1_normalize(x: Tensor, dim: int = 1, eps: float = 1e-9) -> Tensor:
    """(x + eps) / sum(x + eps) along `dim`, for x >= 0: shares; all zeros become uniform."""
    x = at_least_float32(x) + eps
    return x / x.sum(dim=dim, keepdim=True)
