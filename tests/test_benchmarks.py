"""The benchmarks run and say what they measured; how long anything took is nobody's business here."""

import json
import mmap
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"


def run_all(*words):
    command = [sys.executable, str(FOLDER / "run_all.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Files of one smoke test, and what it printed."""
    folder = tmp_path_factory.mktemp("quick")
    shutil.copy(FOLDER / "README.md", folder)
    told = run_all("--quick", "--json", folder / "speed.json", "--readme", folder / "README.md")
    assert told.returncode == 0, told.stderr
    return folder, json.loads((folder / "speed.json").read_text(encoding="utf-8")), told.stdout


@pytest.fixture
def scripts(monkeypatch):
    """The modules of benchmarks/, importable as they are for each other."""
    monkeypatch.syspath_prepend(FOLDER)
    import bench_evaluation
    import bench_loader
    import bench_training_step
    import measuring
    import run_all

    return SimpleNamespace(
        step=bench_training_step, loader=bench_loader, evaluation=bench_evaluation, measuring=measuring, all=run_all
    )


# ---------------------------------------------------------------- a smoke test of everything
def test_each_benchmark_gives_an_outcome(quick):
    _, result, _ = quick
    assert [one["benchmark"] for one in result["measurements"]] == ["training_step", "loader", "evaluation"]
    for one in result["measurements"]:
        (times,) = (part for part in one["outcome"].values() if isinstance(part, dict) and "runs" in part)
        low, high = times["wall_quartiles_s"]
        assert 0 < low <= times["wall_s"] <= high and times["cpu_s"] > 0
        assert times["runs"] == one["options"]["runs"]
        assert 0 <= one["others_busy_percent"] <= 100


def test_a_step_is_taken_apart_and_its_memory_stands_beside_the_estimate(quick):
    step = quick[1]["measurements"][0]["outcome"]
    assert list(step["parts"]) == ["step", "crops", "views", "network", "optimizer", "checkpoint"]
    assert step["trained_numbers"] > 300_000  # the U-Net of the demo recipes
    memory = step["memory"]
    assert 0.1 < memory["before_gb"] < memory["peak_gb"] < 4
    assert memory["peak_over_estimate"] == pytest.approx(memory["peak_gb"] / memory["estimate_gb"], rel=1e-3)


def test_crops_per_second_are_the_batch_over_its_time(quick):
    loader = quick[1]["measurements"][1]["outcome"]
    assert loader["crops_per_s"] == pytest.approx(2 / loader["batch"]["wall_mean_s"], rel=1e-3)


def test_the_file_says_what_it_was_made_with_and_whether_others_used_the_machine(quick):
    result = quick[1]
    assert "kind" not in result and result["what"]  # the report lists it as another measurement
    assert result["made_with"]["threads"] == 1 and result["made_with"]["torch"]
    busy = statistics.median(one["others_busy_percent"] for one in result["measurements"])
    assert result["machine"]["others_busy_percent"]["median"] == pytest.approx(busy, rel=1e-3)
    assert result["machine"]["shared"] is (busy > 10)
    assert str(ROOT) not in json.dumps(result)


def test_tables_stand_between_the_markers_and_can_be_made_again(quick):
    folder, result, told = quick
    readme = (folder / "README.md").read_text(encoding="utf-8")
    before, _, rest = (FOLDER / "README.md").read_text(encoding="utf-8").partition("<!-- tables")
    after = rest.partition("<!-- end of tables -->")[2]
    assert readme.startswith(before) and readme.endswith(after)
    for title in ("### Training step", "### Loader", "### Evaluation of one case", "### What stands out"):
        assert title in readme and title in told
    assert f"| masked autoencoding | FeatureUNet | 2 × 16³ | 1 | {result_cell(result)} |" in readme
    again = run_all("--tables", "--json", folder / "speed.json", "--readme", folder / "README.md")
    assert again.returncode == 0 and (folder / "README.md").read_text(encoding="utf-8") == readme


def result_cell(result):
    """CPU seconds of the step with two digits, worked out here by rounding to a place."""
    seconds = result["measurements"][0]["outcome"]["step"]["cpu_s"]
    places = next(n for n in range(9) if seconds * 10**n >= 10)
    return f"{round(seconds, places):g}"


def test_the_readme_shows_the_numbers_of_the_result_file(tmp_path):
    if not (ROOT / "results" / "spine_speed.json").exists():
        pytest.skip("nothing was measured yet")
    shutil.copy(FOLDER / "README.md", tmp_path)
    told = run_all("--tables", "--readme", tmp_path / "README.md")
    assert (tmp_path / "README.md").read_bytes() == (FOLDER / "README.md").read_bytes(), told.stderr


# ---------------------------------------------------------------- fresh processes with a time limit
def test_a_measurement_over_its_limit_is_ended_with_all_it_started(scripts, monkeypatch, tmp_path):
    (tmp_path / "bench_slow.py").write_text(
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(tmp_path / 'draft')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        f"os.replace({str(tmp_path / 'draft')!r}, {str(tmp_path / 'pids')!r})\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setattr(scripts.all, "FOLDER", tmp_path)
    assert scripts.all.measured("slow", {}, limit=3)["failed"] == "> 3 s"
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ValueError('no such network')", "ValueError: no such network"),
        ("print('{}'); raise SystemExit(7)", "exit code 7"),
    ],
)
def test_a_failed_measurement_says_why(scripts, monkeypatch, tmp_path, source, reason):
    (tmp_path / "bench_broken.py").write_text(source)
    monkeypatch.setattr(scripts.all, "FOLDER", tmp_path)
    assert scripts.all.measured("broken", {}, limit=60) == {"failed": "failed", "reason": reason}


def test_two_processes_are_started_by_torchrun(scripts):
    one = scripts.all.command("training_step", {"side": 32})
    two = scripts.all.command("training_step", {"side": 32, "processes": 2})
    assert one == [sys.executable, str(FOLDER / "bench_training_step.py"), "--side", "32"]
    assert two[1:3] == ["-m", "torch.distributed.run"] and two[-3:] == one[-3:]
    assert two[two.index("--nproc-per-node") + 1] == "2"


def test_options_arrive_as_they_were_sent(scripts, monkeypatch, capsys):
    def measure(side: int = 32, cached: bool = True, work: str = "probe") -> dict:
        """Nothing."""
        return {"side": side, "cached": cached, "work": work}

    sent = {"side": 48, "cached": False, "work": "scores"}
    monkeypatch.setattr(sys, "argv", ["bench_x.py", *scripts.measuring.words(sent)])
    scripts.measuring.main(measure)
    assert json.loads(capsys.readouterr().out) == sent


@pytest.mark.parametrize("name", ["step", "loader", "evaluation"])
def test_plans_reach_all_sizes_and_fit_what_they_call(scripts, name):
    module = getattr(scripts, name)
    plan = module.plan(quick=False)
    assert {options["side"] for options in plan} == {32, 48, 64, 96}
    known = set(
        module.measure.__kwdefaults__ or module.measure.__code__.co_varnames[: module.measure.__code__.co_argcount]
    )
    assert all(set(options) - {"processes"} <= known for options in plan)
    assert {options.get("processes", 1) for options in plan} == ({1, 2} if name == "step" else {1})


# ---------------------------------------------------------------- numbers
def test_calls_to_warm_up_do_not_count(scripts, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    durations = iter([100.0, 100.0, 1.0, 2.0, 6.0])
    fake = SimpleNamespace(perf_counter=lambda: clock.now, process_time=lambda: clock.now / 2)
    monkeypatch.setattr(scripts.measuring, "time", fake)

    def work():
        clock.now += next(durations)

    assert scripts.measuring.timed(work, 3) == {
        "wall_s": 2.0,
        "cpu_s": 1.0,
        "wall_mean_s": 3.0,
        "wall_quartiles_s": [1.5, 4.0],
        "runs": 3,
    }


def test_peak_memory_remembers_what_was_given_back(scripts):
    with mmap.mmap(-1, 200_000_000) as block:  # not from the allocator, which may keep what it is given back
        block[::4096] = b"x" * len(range(0, len(block), 4096))  # a page counts when it was written
        with_block = scripts.measuring.memory_gb()
    assert scripts.measuring.memory_gb() < with_block - 0.15
    assert scripts.measuring.peak_memory_gb() > with_block - 0.01


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, "0.012"), (1.96, "2"), (12.3, "12"), (99.6, "100"), (1234.0, "1200"), (0, "0")]
)
def test_two_digits_count(scripts, value, text):
    assert scripts.measuring.short(value) == text


def step(cpu, wall, parts=True, **options):
    options = {"task": "view_contrast", "network": "FeatureUNet", "side": 32, "batch": 4, "runs": 2, **options}
    memory = {"before_gb": 0.5, "peak_gb": 1.5, "peak_over_estimate": 1.5}
    memory |= {"estimate_gb": 1.0, "added_gb": 1.0, "estimate_without_libraries_gb": 0.7}
    outcome = {"step": {"cpu_s": cpu, "wall_s": wall}, "memory": memory}
    if parts:
        shares = {"step": 1, "network": 0.8, "views": 0.1, "crops": 0.01}
        outcome["parts"] = {name: {"cpu_s": share * cpu} for name, share in shares.items()}
        outcome["parts"]["checkpoint"] = {"wall_s": 0.05}
    return {"options": options, "outcome": outcome}


def test_two_processes_are_compared_with_one_of_the_same_kind(scripts):
    alone, other = step(1.0, 2.0), step(9.0, 9.0, side=48)
    shared = step(0.6, 3.0, parts=False, processes=2)
    assert scripts.step.against_one_process(shared, [other, alone]) == [(1.5, 0.6)]
    assert scripts.step.against_one_process(alone, [other, alone]) == []
    last = scripts.step.sentences([alone, other, shared])[-1]
    assert "takes 1.5 times as long" in last and "spends 0.6 times its CPU time" in last


def test_sentences_by_hand(scripts):
    measurements = [step(4.0, 5.0), step(3.0, 3.0, batch=1), step(1.0, 1.0, side=48)]
    time, memory, lone = scripts.step.sentences(measurements)
    assert "pass take 80 % of" in time and "views at most 10 %" in time and "at most 1 %. Writing a checkpoint" in time
    assert "is 1.5 times the estimate" in memory and "held 0.5 GB before" in memory and "by 0.3 GB" in memory
    assert lone.endswith(" 3 times at 32³.")  # 3 s for one crop, 1 s each among four


def test_a_failure_stands_in_the_table_and_not_in_the_sentences(scripts):
    late = {"options": step(1, 1)["options"], "failed": "> 600 s", "reason": "stopped"}
    assert "| view contrast | FeatureUNet | 4 × 32³ | 1 | > 600 s |" in scripts.step.table([late])
    assert scripts.step.sentences([late]) == []
    late = {"options": {"side": 32, "cached": False, "workers": 0}, "failed": "> 600 s", "reason": "stopped"}
    assert "> 600 s" in scripts.loader.table([late]) and scripts.loader.sentences([late]) == []
    late = {"options": {"side": 32, "work": "probe"}, "failed": "> 600 s", "reason": "stopped"}
    assert "> 600 s" in scripts.evaluation.table([late]) and scripts.evaluation.sentences([late]) == []


def test_loader_table_by_hand(scripts):
    def loaded(cached, workers, crops, cpu):
        options = {"side": 32, "cached": cached, "workers": workers}
        return {"options": options, "outcome": {"crops_per_s": crops, "batch": {"cpu_s": cpu}}}

    found = [loaded(True, 0, 1000.0, 0.002), loaded(True, 1, 400.0, 0.0), loaded(False, 0, 20.0, 0.1)]
    row = scripts.loader.table(found).splitlines()[-1]
    assert row == "| 32³ | 48³ | 1000 (1 CPU ms each) | 400 | 20 (50 CPU ms each) |  |"
    assert scripts.loader.sentences(found) == [
        "A crop read from its file costs CPU time: 32³ from 48³ 50 ms (50 times one from memory)."
    ]


def test_a_file_without_markers_is_left_alone(scripts, tmp_path):
    (tmp_path / "README.md").write_text("# Mine\n")
    with pytest.raises(ValueError, match="has no lines"):
        scripts.all.write_tables(tmp_path / "README.md", "text")
    assert (tmp_path / "README.md").read_text() == "# Mine\n"
