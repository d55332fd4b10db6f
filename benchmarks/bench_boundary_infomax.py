"""Time and memory of the two terms of Boundary-aware InfoMax against straightforward versions of them.

    python benchmarks/bench_boundary_infomax.py            # prints
    python benchmarks/bench_boundary_infomax.py --write    # and stores results/boundary_infomax_speed.json

The joint matrix of two cluster maps (2 samples, 96³ voxels, 40 clusters): one matrix product, against a convolution of
one map with the other (how published code does it) and against a sum over the voxels of all their 40 x 40 products,
which fits only into a small grid. The windowed correlation of two maps: sums one axis after the other, against one
convolution with a window of ones. Every way runs in a process of its own, forward and backward, on one thread, from the
same numbers; its memory is the largest that the process held, less what it held when its input lay ready.
"""

import ways
from ways import OURS, compared, measured  # noqa: F401  (tests compare)

RESULT = "boundary_infomax_speed.json"
JOINTS, WINDOWS = (OURS, "convolution", "all products"), (OURS, "convolution")
PLANS = [
    *(
        {"what": "joint", "way": way, "side": side, "clusters": 40}
        for side, some in ((32, JOINTS), (96, JOINTS[:2]))
        for way in some
    ),
    *({"what": "correlation", "way": way, "side": 96, "window": w} for w in (5, 9) for way in WINDOWS),
]


# ---------------------------------------------------------------- the ways
def joint_by_convolution(a, b):
    """Every channel of one map as the kernel for every channel of the other."""
    import torch.nn.functional as F

    joint = F.conv3d(a.transpose(0, 1), b.transpose(0, 1))[..., 0, 0, 0]
    joint = joint / (a.numel() // a.shape[1])
    return (joint + joint.T) / 2


def joint_of_all_products(a, b):
    """N x K x K numbers, then their mean."""
    a, b = (x.flatten(2).transpose(1, 2).flatten(0, 1) for x in (a, b))  # (N, K)
    joint = (a[:, :, None] * b[:, None, :]).mean(dim=0)
    return (joint + joint.T) / 2


def correlation_by_convolution(first, second, *, window: int, eps: float = 1e-5):
    import torch
    import torch.nn.functional as F

    ones = torch.ones(1, 1, *(window,) * 3)

    def total(x):
        return F.conv3d(x, ones, padding=window // 2)

    i, j, n = total(first), total(second), window**3
    cross = (total(first * second) - i * j / n).clamp(min=eps)
    one = (total(first * first) - i * i / n).clamp(min=eps)
    other = (total(second * second) - j * j / n).clamp(min=eps)
    return cross**2 / (one * other)


# ---------------------------------------------------------------- measuring
def measure(plan: dict, runs: int) -> dict:
    """Seconds and memory of one way, forward and backward, in this process; see `ways.measured`."""
    import torch

    from medssl_nb.methods.boundary_infomax import iic_loss, joint_probability, local_cross_correlation

    generator, side = torch.Generator().manual_seed(0), (plan["side"],) * 3
    if plan["what"] == "joint":
        a, b = (torch.randn(2, plan["clusters"], *side, generator=generator).softmax(1) for _ in range(2))
        made = {OURS: joint_probability, "convolution": joint_by_convolution, "all products": joint_of_all_products}
        inputs = [a.requires_grad_(), b.requires_grad_()]
        return measured(lambda: iic_loss(made[plan["way"]](a, b)), inputs, runs)
    a, b = (torch.rand(2, 1, *side, generator=generator) for _ in range(2))
    made = {OURS: local_cross_correlation, "convolution": correlation_by_convolution}
    a.requires_grad_()  # the second map is the edge target, a constant
    return measured(lambda: -made[plan["way"]](a, b, window=plan["window"]).mean(), [a], runs)


if __name__ == "__main__":
    ways.main(__file__, __doc__, measure, PLANS, RESULT)
