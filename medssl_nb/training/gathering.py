"""Bring the samples of all processes together for losses that compare samples with each other."""

import torch
import torch.distributed as dist
from torch import Tensor


def gather(samples: Tensor) -> Tensor:
    """Samples of all processes, in their order; with one process, `samples` itself.

    A mean over samples may be computed by each process alone: averaging the gradients gives the mean's gradient. A
    contrast against negatives, a joint distribution, a covariance may not: there each process needs all samples. When
    every process computes the same loss from gathered samples, the gradient of the averaged processes equals that of
    one process with the whole batch (the backward pass sums over processes, the average divides by their number).

    Args:
        samples: (n, ...), the same shape in every process.

    Returns:
        (processes * n, ...), with gradient to `samples`.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return samples
    if not samples.requires_grad:
        parts = [torch.empty_like(samples) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, samples.contiguous())
        return torch.cat(parts)
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(samples))
