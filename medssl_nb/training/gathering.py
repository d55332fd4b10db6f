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
    return _Gather.apply(samples)


def pooled_mean(mean: Tensor, count: Tensor) -> Tensor:
    """This process's part of a mean over the samples of all processes; with one process, `mean` itself.

    Where processes count different numbers of samples (hidden patches, say), the average of their means is not the mean
    of all. Averaged over the processes, what this returns is: mean * count * processes / total count.

    Args:
        mean: of this process's samples.
        count: how many there were.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return mean
    count = count.to(torch.float64)
    total = count.clone()
    dist.all_reduce(total)
    return mean * (count * dist.get_world_size() / total.clamp(min=1)).to(mean.dtype)


class _Gather(torch.autograd.Function):
    """Samples of all processes forward; backward, the sum over processes of the gradients of our own samples."""

    @staticmethod
    def forward(ctx, samples: Tensor) -> Tensor:
        parts = [torch.empty_like(samples, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, samples.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        summed = gradient.contiguous().clone()
        dist.all_reduce(summed)
        return summed.chunk(dist.get_world_size())[dist.get_rank()]
