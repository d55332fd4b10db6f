"""Random numbers that follow from what they are for, so that nothing needs to be remembered.

Every generator of a run is seeded by the run's seed and by a few words and numbers (the step, the sample's place in
the batch). A stopped run therefore continues with the same numbers, and two processes that share a batch draw what one
would.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def seed_of(*parts: int | str) -> int:
    """A seed (0 to 2^63 - 1) that differs for every combination of `parts` and is the same on every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator_of(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded by `seed_of(*parts)`."""
    return torch.Generator().manual_seed(seed_of(*parts))


@contextmanager
def default_generators(device: torch.device, seed: int) -> Iterator[None]:
    """PyTorch's default generators of the CPU and of `device`, seeded (dropout draws from them), then as they were."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.random.default_generator.manual_seed(seed)  # torch.manual_seed would reseed GPUs that are not ours
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
