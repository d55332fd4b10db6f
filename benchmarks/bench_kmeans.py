"""How fast k-means clusters the patches of a batch: `kmeans` of the library, all volumes at once, against a loop.

    python benchmarks/bench_kmeans.py            # prints
    python benchmarks/bench_kmeans.py --write    # and stores results/kmeans_speed.json

The loop calls scikit-learn's `KMeans` once per volume, with as many restarts from k-means++ and as many iterations as
ours at most. Patches are those of generated FLAIR brains, by mean and standard deviation, all of them valid. Both are
called in turn, on one thread. A faster search is no gain if it finds worse clusters: the inertia of both, summed over
the volumes, stands beside the times.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy starts its threads

import argparse
import json
import platform
from pathlib import Path

from measuring import markdown, short, timed_in_turn

RESULT = Path(__file__).parents[1] / "results" / "kmeans_speed.json"
# Volumes, voxels, mm per voxel; a patch has 4³ voxels, so these are 216 patches (as many as 96³ voxels in patches of
# 16³, the full-size recipe), 640 (the demo recipe) and 1728.
BATCHES = ((16, (24, 24, 24), 6.0), (16, (32, 40, 32), 4.4), (4, (48, 48, 48), 3.6))
CLUSTERS = (2, 8)
RESTARTS, ITERATIONS = 4, 50


def features(volumes: int, shape: tuple[int, int, int], spacing_mm: float):
    """Standardised mean and standard deviation of the patches of generated brains, (volumes, patches, 2)."""
    import torch

    from medssl_nb.data import load_cohort
    from medssl_nb.methods.adaptive_masking import patch_features

    options = {"sequence": "FLAIR", "lesion_share": 1.0, "shape": shape, "spacing_mm": spacing_mm}
    cohort = load_cohort("brain", train=volumes, validation=0, test=0, **options)
    return patch_features(torch.stack([case.normalised().as_tensor() for case in cohort.train]), 4)


def measure(batch, clusters: int, runs: int) -> dict:
    """Seconds and inertia of both on a batch (B, N, F)."""
    import torch
    from sklearn.cluster import KMeans

    from medssl_nb.methods.adaptive_masking import kmeans

    each = list(batch.numpy())
    settings = {"n_clusters": clusters, "init": "k-means++", "n_init": RESTARTS, "max_iter": ITERATIONS}

    def ours(seed: int = 0) -> float:
        generator = torch.Generator().manual_seed(seed)
        found = kmeans(batch, clusters, restarts=RESTARTS, iterations=ITERATIONS, generator=generator)
        return float(found.inertia.sum())

    def loop(seed: int = 0) -> float:
        return float(sum(KMeans(**settings, random_state=seed).fit(one).inertia_ for one in each))

    times = timed_in_turn({"ours": ours, "loop": loop}, runs)
    inertia = {name: sum(work(seed) for seed in range(5)) / 5 for name, work in (("ours", ours), ("loop", loop))}
    return {
        "volumes": len(batch),
        "patches": batch.shape[1],
        "clusters": clusters,
        "ours": {**times["ours"], "inertia": inertia["ours"]},
        "loop": {**times["loop"], "inertia": inertia["loop"]},
        "times_faster_cpu": times["loop"]["cpu_s"] / times["ours"]["cpu_s"],
        "times_faster": times["loop"]["wall_s"] / times["ours"]["wall_s"],
    }


def table(measurements: list[dict]) -> str:
    heads = ["volumes × patches", "clusters", "ours: CPU ms", "loop: CPU ms", "times faster", "inertia, ours / loop"]
    rows = [
        [
            f"{one['volumes']} × {one['patches']}",
            str(one["clusters"]),
            *(short(1000 * one[name]["cpu_s"]) for name in ("ours", "loop")),
            short(one["times_faster_cpu"]),
            f"{one['ours']['inertia'] / one['loop']['inertia']:.4f}",
        ]
        for one in measurements
    ]
    return markdown(heads, rows)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20, help="calls of each (20)")
    parser.add_argument("--write", action="store_true", help=f"store results/{RESULT.name}")
    options = parser.parse_args(words)
    import psutil
    import torch

    torch.set_num_threads(1)
    busy = psutil.cpu_percent(interval=2.0)
    batches = [features(*batch) for batch in BATCHES]
    measurements = [measure(batch, clusters, options.runs) for batch in batches for clusters in CLUSTERS]
    print(table(measurements))
    if options.write:
        from sklearn import __version__ as sklearn_version

        from medssl_nb.evaluation.results import made_with

        result = {
            "what": "k-means of patches, all volumes of a batch at once, against a loop over scikit-learn's KMeans",
            "command": "python benchmarks/bench_kmeans.py --write",
            "machine": f"{os.cpu_count()} CPU cores, {platform.system()} {platform.machine()}",
            "others_busy_percent": busy,
            "settings": {"restarts": RESTARTS, "iterations": ITERATIONS, "features": "statistics"},
            "measurements": measurements,
            "made_with": {**made_with(), "scikit-learn": sklearn_version},
        }
        RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(f"written: results/{RESULT.name}")


if __name__ == "__main__":
    main()
