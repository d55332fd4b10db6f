"""How many crops a second the loader of pre-training gives, from memory and from files, with and without a worker.

    python benchmarks/bench_loader.py --side 48 --no-cached --workers 1

Volumes are compressed NIfTI files (.nii.gz, 16-bit, side 1.5 x that of the crop) of generated patients. "Cached" keeps
them prepared in memory, as `Profile.cache_gb` does while there is room; otherwise each crop reads and scales its file
anew. The files lie in the system's file cache: a disk's own speed does not count.
"""

import tempfile
from pathlib import Path

from measuring import cubed, main, markdown, peak_memory_gb, phantoms, short, timed

BATCH = 2
PATIENTS = 4
WAYS = [(cached, workers) for cached in (True, False) for workers in (0, 1)]


def plan(quick: bool) -> list[dict]:
    """Options of all measurements."""
    if quick:
        return [{"side": 16, "cached": False, "workers": 0, "runs": 2}]
    return [
        {"side": side, "cached": cached, "workers": workers, "runs": 200 if cached else 20}
        for side in (32, 48, 64, 96)
        for cached, workers in WAYS
    ]


def measure(side: int = 32, cached: bool = True, workers: int = 0, batch: int = BATCH, runs: int = 50) -> dict:
    """Seconds of one batch of crops of `side`³ voxels."""
    from medssl_nb.data import load_cohort, write_volume
    from medssl_nb.training import Profile

    room = 2.0 if cached else 0.0
    profile = Profile(steps=10_000, batch_size=batch, crop=(side,) * 3, workers=workers, cache_gb=room)
    with tempfile.TemporaryDirectory() as folder:
        for case in phantoms(side * 3 // 2, train=PATIENTS).train:
            write_volume(Path(folder) / "imagesTs" / f"{case.name}.nii.gz", case.image())
        found = seconds_of_a_batch(load_cohort(folder, modality="CT").unlabelled, profile, runs)
    return {"batch": found, "crops_per_s": batch / found["wall_mean_s"], "peak_gb": peak_memory_gb()}


def seconds_of_a_batch(cases: list, profile, runs: int) -> dict[str, float]:
    """Time until the next batch is there, when every case was seen once."""
    from medssl_nb.training.batches import CropDataset, StepSampler, batches

    loader = iter(batches(CropDataset(cases, profile), StepSampler(profile, 0)))
    for _ in cases:
        next(loader)
    return timed(lambda: next(loader), runs)


# ---------------------------------------------------------------- what it says
def table(measurements: list[dict]) -> str:
    heads = [
        f"{'in memory' if cached else 'from files'}, {'one worker' if workers else 'no worker'}"
        for cached, workers in WAYS
    ]
    rows = [
        [cubed(side), cubed(side * 3 // 2), *(cell(measurements, side, *way) for way in WAYS)]
        for side in sides(measurements)
    ]
    return markdown(["crop", "volume", *(f"crops per s: {head}" for head in heads)], rows)


def sides(measurements: list[dict]) -> list[int]:
    return sorted({one["options"]["side"] for one in measurements})


def cell(measurements: list[dict], side: int, cached: bool, workers: int) -> str:
    """Crops per second and, without a worker, CPU milliseconds of a crop."""
    wanted = {"side": side, "cached": cached, "workers": workers}
    for one in measurements:
        if wanted.items() <= one["options"].items():
            return one["failed"] if "failed" in one else text(one)
    return ""


def text(measurement: dict) -> str:
    outcome = measurement["outcome"]
    if measurement["options"]["workers"]:  # a worker's CPU time is not this process's
        return short(outcome["crops_per_s"])
    return f"{short(outcome['crops_per_s'])} ({short(1000 * outcome['batch']['cpu_s'] / BATCH)} CPU ms each)"


def sentences(measurements: list[dict]) -> list[str]:
    """What stands out, from the numbers."""
    times = {}
    for one in measurements:
        if "outcome" in one and not one["options"]["workers"]:
            times[one["options"]["side"], one["options"]["cached"]] = one["outcome"]["batch"]["cpu_s"] / BATCH
    found = [
        f"{cubed(side)} from {cubed(side * 3 // 2)} {short(1000 * cost)} ms" + slower(times.get((side, True)), cost)
        for (side, cached), cost in times.items()
        if not cached
    ]
    return [f"A crop read from its file costs CPU time: {'; '.join(found)}."] if found else []


def slower(cached: float | None, uncached: float) -> str:
    return "" if cached is None else f" ({short(uncached / cached)} times one from memory)"


if __name__ == "__main__":
    main(measure)
