"""Time and memory of the two terms of Boundary-aware InfoMax against straightforward versions of them.

    python benchmarks/bench_boundary_infomax.py            # prints
    python benchmarks/bench_boundary_infomax.py --write    # and stores results/boundary_infomax_speed.json

The joint matrix of two cluster maps (2 samples, 96³ voxels, 40 clusters): one matrix product, against a convolution of
one map with the other (how published code does it) and against a sum over the voxels of all their 40 x 40 products,
which fits only into a small grid. The windowed correlation of two maps: sums one axis after the other, against one
convolution with a window of ones. Every way runs in a process of its own, forward and backward, on one thread, from the
same numbers; its memory is the largest that the process held, less what it held when its input lay ready.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before torch starts its threads

import argparse
import json
import math
import platform
import subprocess
import sys
import time
from pathlib import Path

from measuring import markdown, memory_gb, peak_memory_gb, short

RESULT = Path(__file__).parents[1] / "results" / "boundary_infomax_speed.json"
OURS = "ours"
JOINTS, WINDOWS = (OURS, "convolution", "all products"), (OURS, "convolution")
PLANS = [
    *(("joint", way, side, 40) for side, ways in ((32, JOINTS), (96, JOINTS[:2])) for way in ways),
    *(("correlation", way, 96, window) for window in (5, 9) for way in WINDOWS),
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
def measure(what: str, way: str, side: int, number: int, runs: int) -> dict:
    """Seconds and memory of one way, in this process. `number` is clusters or window."""
    import torch

    from medssl_nb.methods.boundary_infomax import iic_loss, joint_probability, local_cross_correlation

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    if what == "joint":
        a, b = (torch.randn(2, number, side, side, side, generator=generator).softmax(1) for _ in range(2))
        made = {OURS: joint_probability, "convolution": joint_by_convolution, "all products": joint_of_all_products}

        def loss():
            return iic_loss(made[way](a, b))
    else:
        a, b = (torch.rand(2, 1, side, side, side, generator=generator) for _ in range(2))
        made = {OURS: local_cross_correlation, "convolution": correlation_by_convolution}

        def loss():
            return -made[way](a, b, window=number).mean()

    for x in (a, b) if what == "joint" else (a,):  # the second map of the correlation is the edge target, a constant
        x.requires_grad_()
    before, seconds = memory_gb(), []
    for _ in range(runs):
        a.grad = b.grad = None
        began = time.process_time()
        value = loss()
        value.backward()
        seconds.append(time.process_time() - began)
    gradients = sum(x.grad.numel() * 4 for x in (a, b) if x.grad is not None) / 1e9
    return {
        "cpu_s": min(seconds),
        "runs": runs,
        "extra_gb": peak_memory_gb() - before - gradients,  # the gradients of the input are the same for all ways
        "loss": float(value.detach()),
        "gradient": float(a.grad.norm()),
    }


def in_own_process(what: str, way: str, side: int, number: int, runs: int) -> dict:
    words = ["--one", what, way, str(side), str(number), "--runs", str(runs)]
    told = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=False)
    if told.returncode:
        raise RuntimeError(f"{what}, {way}, {side}³: {told.stderr.splitlines()[-1]}")
    found = json.loads(told.stdout.splitlines()[-1])
    return {"what": what, "way": way, "side": side, "clusters" if what == "joint" else "window": number, **found}


def compared(measurements: list[dict]) -> list[dict]:
    """How many times the time and memory of ours each of the others takes; they must have found the same numbers."""
    rows = []
    for one in measurements:
        size = {name: one[name] for name in ("what", "side", "clusters", "window") if name in one}
        ours = next(m for m in measurements if m["way"] == OURS and {**m, **size} == m)
        for name in ("loss", "gradient"):
            if not math.isclose(one[name], ours[name], rel_tol=1e-2, abs_tol=1e-6):
                raise ValueError(f"{one['what']}, {one['way']}: {name} {one[name]}, ours {ours[name]}.")
        if one is not ours:
            ratios = {"slower": one["cpu_s"] / ours["cpu_s"], "memory": one["extra_gb"] / ours["extra_gb"]}
            rows.append({**size, "way": one["way"], **ratios})
    return rows


def table(measurements: list[dict]) -> str:
    heads = ["what", "grid", "way", "CPU s, forward and backward", "memory beside input and gradients, GB"]
    rows = [
        [
            f"joint, {m['clusters']} clusters" if m["what"] == "joint" else f"correlation, window {m['window']}",
            f"2 × {m['side']}³",
            m["way"],
            short(m["cpu_s"]),
            short(m["extra_gb"]),
        ]
        for m in measurements
    ]
    return markdown(heads, rows)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="calls of each; the fastest counts (5)")
    parser.add_argument("--side", type=int, help="measure grids of this side only")
    parser.add_argument("--write", action="store_true", help=f"store results/{RESULT.name}")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.one:
        what, way, side, number = options.one
        print(json.dumps(measure(what, way, int(side), int(number), options.runs)))
        return
    import psutil

    busy = psutil.cpu_percent(interval=2.0)
    plans = PLANS if options.side is None else [plan for plan in PLANS if plan[2] == options.side]
    measurements = [in_own_process(*plan, options.runs) for plan in plans]
    print(table(measurements))
    for row in compared(measurements):
        print(row)
    if options.write:
        from medssl_nb.evaluation.results import made_with

        result = {
            "what": "joint matrix and windowed correlation, forward and backward, against straightforward versions",
            "command": "python benchmarks/bench_boundary_infomax.py --write",
            "machine": f"{os.cpu_count()} CPU cores, {platform.system()} {platform.machine()}",
            "others_busy_percent": busy,
            "measurements": measurements,
            "compared_with_ours": compared(measurements),
            "made_with": made_with(),
        }
        RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(f"written: results/{RESULT.name}")


if __name__ == "__main__":
    main()
