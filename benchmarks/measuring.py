"""What the benchmarks of the spine share: time and memory of one measurement, made in a process of its own."""

import argparse
import inspect
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable

UNET = {"network": "FeatureUNet", "channels": [8, 16, 32, 64], "norm": "instance"}
FIELD_OF_VIEW_MM = (288.0, 288.0, 350.0)


def timed(work: Callable[[], object], runs: int) -> dict[str, float]:
    """Seconds of `work()` over `runs` calls; see `timed_in_turn`."""
    return timed_in_turn({"work": work}, runs)["work"]


def timed_in_turn(works: dict[str, Callable[[], object]], runs: int) -> dict[str, dict[str, float]]:
    """Seconds of several pieces of work, called in turn `runs` times, so that a slow minute slows all of them.

    `torch.utils.benchmark` calls them, twice before to warm up, and sets one thread.

    Returns:
        For each: "wall_s", "cpu_s": medians of time passed and of processor time of this process (all threads, no
        children). Where others use the machine too, the first grows with what they do and the second much less.
        "wall_mean_s": mean, for rates; "wall_quartiles_s": how much single calls differ.
    """
    from torch.utils.benchmark import Timer

    wall, cpu = ({name: [] for name in works} for _ in range(2))

    def turn():
        for name, work in works.items():
            began = time.perf_counter(), time.process_time()
            work()
            wall[name].append(time.perf_counter() - began[0])
            cpu[name].append(time.process_time() - began[1])

    Timer("turn()", globals={"turn": turn}).timeit(runs)
    return {name: _summary(wall[name][-runs:], cpu[name][-runs:]) for name in works}


def _summary(wall: list[float], cpu: list[float]) -> dict[str, float]:
    quartiles = statistics.quantiles(wall, method="inclusive") if len(wall) > 1 else wall * 3
    return {
        "wall_s": statistics.median(wall),
        "cpu_s": statistics.median(cpu),
        "wall_mean_s": statistics.mean(wall),
        "wall_quartiles_s": [quartiles[0], quartiles[2]],
        "runs": len(wall),
    }


def memory_gb() -> float:
    """Memory that this process holds now, in GB."""
    import psutil

    return psutil.Process().memory_info().rss / 1e9


def peak_memory_gb() -> float:
    """The most memory that this process has held, in GB.

    Linux hands the peak of the process that started this one down to it: what starts a measurement must be small.
    """
    import psutil

    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def phantoms(side: int, **parts: int):
    """Cohort of generated patients of `side`³ voxels; all see the same part of the body."""
    from medssl_nb.data import load_cohort

    counts = {"train": 0, "validation": 0, "test": 0, **parts}
    return load_cohort("phantom", shape=(side,) * 3, spacing_mm=tuple(mm / side for mm in FIELD_OF_VIEW_MM), **counts)


def main(measure: Callable[..., dict | None]) -> None:
    """Call `measure` with options from the command line and print what it returns as one line of JSON."""
    parser = argparse.ArgumentParser(description=inspect.getdoc(measure))
    for name, parameter in inspect.signature(measure).parameters.items():
        kind = {"type": type(parameter.default)}
        if isinstance(parameter.default, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        parser.add_argument(f"--{name}", default=parameter.default, **kind)
    outcome = measure(**vars(parser.parse_args()))
    if outcome is not None:
        print(json.dumps(outcome))


def words(options: dict) -> list[str]:
    """Options as `main` reads them."""
    flags = {True: "--{}", False: "--no-{}"}
    return [
        word
        for name, value in options.items()
        for word in ([flags[value].format(name)] if isinstance(value, bool) else [f"--{name}", str(value)])
    ]


# ---------------------------------------------------------------- tables
def short(value: float) -> str:
    """Two digits that count: 0.15, 1.5, 15, 150."""
    return f"{float(f'{value:.2g}'):g}"


def span(values: Iterable[float]) -> str:
    """ "0.5 to 0.7", or one number where both are the same."""
    values = list(values)
    low, high = short(min(values)), short(max(values))
    return low if low == high else f"{low} to {high}"


def markdown(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ["--"] * len(heads), *rows))


def value_of(measurement: dict, *path: str) -> str:
    """A cell: what lies at `path` in the outcome, or why there is none."""
    if "failed" in measurement:
        return measurement["failed"]
    value = measurement["outcome"]
    for key in path:
        value = value[key]
    return short(value)


def cubed(side: int) -> str:
    return f"{side}³"
