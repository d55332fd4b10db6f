"""What benchmarks share that set our way of computing something against straightforward ones."""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before torch starts its threads

import argparse
import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from measuring import markdown, memory_gb, peak_memory_gb, short

OURS = "ours"
RESULTS = Path(__file__).parents[1] / "results"


def measured(loss: Callable[[], object], inputs: Sequence, runs: int, backward: bool = True) -> dict:
    """Seconds and memory of `loss`, in this process; the fastest of `runs` calls counts.

    Args:
        loss: makes a scalar tensor of `inputs`.
        inputs: tensors; those with gradient are given it, and its memory is not counted (it is the same for all ways).
        runs: how many calls.
        backward: False measures forward only.
    """
    before, seconds = memory_gb(), []
    for _ in range(runs):
        for x in inputs:
            x.grad = None
        began = time.process_time()
        value = loss()
        if backward:
            value.backward()
        seconds.append(time.process_time() - began)
    given = [x.grad for x in inputs if x.grad is not None]
    return {
        "cpu_s": min(seconds),
        "runs": runs,
        "extra_gb": peak_memory_gb() - before - sum(g.numel() * g.element_size() for g in given) / 1e9,
        "loss": float(value.detach()),
        **({"gradient": float(given[0].norm())} if given else {}),
    }


def in_own_process(file: str, plan: dict, runs: int) -> dict:
    """What the benchmark `file` measures of one plan, in a process of its own."""
    words = ["--one", json.dumps(plan), "--runs", str(runs)]
    told = subprocess.run([sys.executable, file, *words], capture_output=True, text=True, check=False)
    if told.returncode:
        raise RuntimeError(f"{plan}: {told.stderr.splitlines()[-1]}")
    return {**plan, **json.loads(told.stdout.splitlines()[-1])}


def compared(measurements: list[dict], plans: list[dict]) -> list[dict]:
    """How many times the time and memory of ours each of the others takes; they must have found the same numbers."""
    rows = []
    for one, plan in zip(measurements, plans, strict=True):
        size = {name: value for name, value in plan.items() if name != "way"}
        ours = next(m for m, p in zip(measurements, plans, strict=True) if p == {**size, "way": OURS})
        for name in {"loss", "gradient"} & set(one):
            if not math.isclose(one[name], ours[name], rel_tol=1e-2, abs_tol=1e-6):
                raise ValueError(f"{plan['what']}, {plan['way']}: {name} {one[name]}, ours {ours[name]}.")
        if one is not ours:
            ratios = {"slower": one["cpu_s"] / ours["cpu_s"], "memory": one["extra_gb"] / ours["extra_gb"]}
            rows.append({**size, "way": plan["way"], **ratios})
    return rows


def main(
    file: str,
    doc: str,
    measure: Callable[[dict, int], dict],
    plans: list[dict],
    result: str,
    words: list[str] | None = None,
) -> None:
    """Command line of a benchmark: measure all plans, print the table, store it if asked to."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="calls of each; the fastest counts (5)")
    parser.add_argument("--write", action="store_true", help=f"store results/{result}")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.one:
        import torch

        torch.set_num_threads(1)
        print(json.dumps(measure(json.loads(options.one), options.runs)))
        return
    import psutil

    busy = psutil.cpu_percent(interval=2.0)
    measurements = [in_own_process(file, plan, options.runs) for plan in plans]
    heads = ["what", "way", "CPU s", "memory beside input and gradients, GB"]
    rows = [
        [
            ", ".join([p["what"], *(f"{name} {value}" for name, value in p.items() if name not in ("what", "way"))]),
            p["way"],
            short(m["cpu_s"]),
            short(m["extra_gb"]),
        ]
        for p, m in zip(plans, measurements, strict=True)
    ]
    print(markdown(heads, rows))
    ratios = compared(measurements, plans)
    for row in ratios:
        print(row)
    if options.write:
        from medssl_nb.evaluation.results import made_with

        stored = {
            "what": doc.splitlines()[0],
            "command": f"python benchmarks/{Path(file).name} --write",
            "machine": f"{os.cpu_count()} CPU cores, {platform.system()} {platform.machine()}",
            "others_busy_percent": busy,
            "measurements": measurements,
            "compared_with_ours": ratios,
            "made_with": made_with(),
        }
        (RESULTS / result).write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
        print(f"written: results/{result}")
