"""CPU seconds on one thread for generated patients: the templates once, then each map and each case.

python benchmarks/bench_phantom.py [cases]
"""

import os
import sys
import tempfile
import time

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy starts its threads


def cpu_seconds(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def each(function, cases: int, **options) -> str:
    """Median and largest CPU seconds of `function(seed)` over seeds 0 to `cases` - 1, after one to warm up."""
    function(cases, **options)
    seconds = sorted(cpu_seconds(lambda seed=seed: function(seed, **options)) for seed in range(cases))
    return f"{seconds[cases // 2]:.3f} s, at most {seconds[-1]:.3f} s"


def main(cases: int) -> None:
    from medssl_nb.data import brain, phantom, phantom_anatomy

    with tempfile.TemporaryDirectory() as folder:
        os.environ["MEDSSL_CACHE"] = folder
        print(f"phantom template, first time: {cpu_seconds(phantom_anatomy.tissue_template):.2f} s")
        phantom_anatomy.tissue_template.cache_clear()
        print(f"phantom template, from the cache: {cpu_seconds(phantom_anatomy.tissue_template):.2f} s")
        print(f"brain template, first time: {cpu_seconds(lambda: brain.tissue_at([[0, 0, 0]])):.2f} s")
        print(f"phantom map: {each(phantom.phantom_map, cases)}")
        for side, spacing in ((48, (6.0, 6.0, 7.3)), (64, (4.5, 4.5, 5.5)), (96, (3.0, 3.0, 3.7))):
            seconds = each(phantom.generate_phantom, cases, shape=(side,) * 3, spacing_mm=spacing)
            print(f"phantom case {side}³: {seconds}")
        print(f"brain case 64 x 72 x 56: {each(brain.generate_brain, cases)}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
