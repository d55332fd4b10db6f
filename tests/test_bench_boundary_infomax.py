"""The benchmark compares ways that compute the same."""

import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location("bench_boundary_infomax", FOLDER / "bench_boundary_infomax.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(FOLDER))


@pytest.mark.parametrize(("what", "ways", "number"), [("joint", "JOINTS", 5), ("correlation", "WINDOWS", 3)])
def test_all_ways_find_the_same_loss_and_gradient(bench, what, ways, number):
    size = {"clusters" if what == "joint" else "window": number}
    found = [
        {"what": what, "way": way, "side": 10, **size, **bench.measure(what, way, 10, number, 1)}
        for way in getattr(bench, ways)
    ]
    for one in found:
        one["extra_gb"] = 1.0  # too small to be seen
        assert one["loss"] == pytest.approx(found[0]["loss"], rel=1e-3)
        assert one["gradient"] == pytest.approx(found[0]["gradient"], rel=1e-3)
    rows = bench.compared(found)
    assert [row["way"] for row in rows] == [way for way in getattr(bench, ways) if way != bench.OURS]
    assert all(row["slower"] > 0 for row in rows)


def test_a_way_that_computes_something_else_is_no_comparison(bench):
    one = {"what": "correlation", "way": bench.OURS, "side": 4, "window": 3, "loss": -0.5, "gradient": 1.0}
    with pytest.raises(ValueError, match=r"correlation, convolution: loss -0\.4, ours -0\.5"):
        bench.compared([one, {**one, "way": "convolution", "loss": -0.4}])
