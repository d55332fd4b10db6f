"""Benchmarks that compare ways of computing compare ways that compute the same."""

import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SMALL = {"side": 10, "clusters": 5, "window": 3, "rows": 16, "points": 4, "dimensions": 6, "grid": [8, 6, 4]}
METHODS = ("boundary_infomax", "local_discrimination", "alice")


@pytest.fixture(scope="module")
def benches():
    sys.path.insert(0, str(FOLDER))
    found = {}
    for method in METHODS:
        spec = importlib.util.spec_from_file_location(f"bench_{method}", FOLDER / f"bench_{method}.py")
        found[method] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found[method])
    yield found
    sys.path.remove(str(FOLDER))


@pytest.mark.parametrize("method", METHODS)
def test_all_ways_find_the_same_loss_and_gradient(benches, method):
    bench = benches[method]
    plans = [{name: SMALL.get(name, value) for name, value in plan.items()} for plan in bench.PLANS]
    plans = [plan for place, plan in enumerate(plans) if plan not in plans[:place]]
    found = [bench.measure(plan, 1) for plan in plans]
    for one in found:
        one["extra_gb"] = 1.0  # too small to be seen
    rows = bench.compared(found, plans)  # refuses numbers that differ by more than 1 %
    assert [row["way"] for row in rows] == [plan["way"] for plan in plans if plan["way"] != bench.OURS]
    assert all(row["slower"] > 0 for row in rows)
    assert all(one["loss"] != 0 for one in found)


def test_a_way_that_computes_something_else_is_no_comparison(benches):
    bench = benches["boundary_infomax"]
    plans = [{"what": "correlation", "way": way, "window": 3} for way in (bench.OURS, "convolution")]
    found = [{"loss": loss, "gradient": 1.0, "cpu_s": 1.0, "extra_gb": 1.0} for loss in (-0.5, -0.4)]
    with pytest.raises(ValueError, match=r"correlation, convolution: loss -0\.4, ours -0\.5"):
        bench.compared(found, plans)
