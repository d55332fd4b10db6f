"""Measure the spine's speed and memory and write the tables of benchmarks/README.md.

    python benchmarks/run_all.py            # all: results/spine_speed.json, and the tables made from it
    python benchmarks/run_all.py --tables   # only the tables, from the file that is there
    python benchmarks/run_all.py --quick    # a smoke test: the smallest size, printed and not kept

Every measurement runs in a fresh process with a time limit, one after the other. Nothing else should run meanwhile; how
busy the processors were without us is measured before each, and kept.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # in every process started here

import argparse
import json
import platform
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path

import bench_evaluation
import bench_loader
import bench_training_step
import psutil
from measuring import words

from medssl_nb.data.files import write_atomically

FOLDER = Path(__file__).parent
RESULT = FOLDER.parent / "results" / "spine_speed.json"
BENCHMARKS = {
    "training_step": (bench_training_step, "Training step"),
    "loader": (bench_loader, "Loader"),
    "evaluation": (bench_evaluation, "Evaluation of one case"),
}
BEGIN, END = "<!-- tables: written by run_all.py -->", "<!-- end of tables -->"
BUSY = 10  # per cent of all processors that others may use before we call the machine shared


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smallest size only; keeps nothing unless files are named")
    parser.add_argument("--tables", action="store_true", help="measure nothing, write the tables again")
    parser.add_argument("--limit", type=float, default=600, metavar="S", help="seconds for each measurement (600)")
    parser.add_argument("--json", type=Path, help=f"where numbers go (results/{RESULT.name})")
    parser.add_argument("--readme", type=Path, help="Markdown file whose tables are replaced (benchmarks/README.md)")
    options = parser.parse_args()
    keep = not options.quick
    result_file = options.json or (RESULT if keep else None)
    readme = options.readme or (FOLDER / "README.md" if keep else None)
    if options.tables:
        result = json.loads((options.json or RESULT).read_text(encoding="utf-8"))
    else:
        result = rounded(run(options.quick, options.limit))  # what is shown is what is kept
        if result_file:
            text = json.dumps(result, indent=1) + "\n"
            write_atomically(result_file, lambda draft: draft.write_text(text, encoding="utf-8"))
    print(tables(result))
    if readme:
        write_tables(readme, tables(result))
    failed = [one for one in result["measurements"] if "failed" in one]
    for one in failed:
        print(f"{one['benchmark']} {one['options']}: {one['failed']}: {one['reason']}", file=sys.stderr)
    return 1 if failed else 0


# ---------------------------------------------------------------- measuring
def run(quick: bool, limit: float) -> dict:
    """All measurements, and what they were made with."""
    plans = [(name, options) for name, (module, _) in BENCHMARKS.items() for options in module.plan(quick)]
    measurements = []
    for number, (name, options) in enumerate(plans, 1):
        busy = psutil.cpu_percent(interval=0.2 if quick else 2.0)
        one = {"benchmark": name, "options": options, "others_busy_percent": busy, **measured(name, options, limit)}
        print(f"{number}/{len(plans)} {name} {options}: {json.dumps(rounded(one.get('outcome', one)))}", flush=True)
        measurements.append(one)
    busy = [one["others_busy_percent"] for one in measurements]
    from medssl_nb.evaluation.results import made_with  # imports torch: now, when nothing is started any more

    return {
        "what": "time and peak memory of a pre-training step, the loader and the evaluation, by voxels and processes",
        "command": "python benchmarks/run_all.py" + " --quick" * quick,
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "memory_gb": psutil.virtual_memory().total / 1e9,
            "others_busy_percent": {"median": statistics.median(busy), "largest": max(busy)},
            "shared": statistics.median(busy) > BUSY,
        },
        "limit_s": limit,
        "made_with": made_with(),
        "date": date.today().isoformat(),
        "measurements": measurements,
    }


def measured(name: str, options: dict, limit: float) -> dict:
    """{"outcome": ...} of one measurement in a process of its own, or {"failed": in short, "reason": ...}."""
    with subprocess.Popen(command(name, options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            told, problems = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            end(process)
            return {"failed": f"> {limit:g} s", "reason": "stopped at the time limit"}
    lines = told.splitlines()
    if process.returncode or not lines:
        said = [line for line in problems.splitlines() if "Error: " in line] or [f"exit code {process.returncode}"]
        return {"failed": "failed", "reason": said[0].strip()}  # torchrun's own errors come after
    return {"outcome": json.loads(lines[-1])}


def command(name: str, options: dict) -> list[str]:
    """What starts one measurement; several processes are started by torchrun."""
    own = {option: value for option, value in options.items() if option != "processes"}
    script = [str(FOLDER / f"bench_{name}.py"), *words(own)]
    if options.get("processes", 1) == 1:
        return [sys.executable, *script]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(options["processes"])]
    return [sys.executable, *torchrun, *script]


def end(process: subprocess.Popen) -> None:
    """Kill a process that we started and all that it started."""
    family = [*psutil.Process(process.pid).children(recursive=True), process]
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue  # it ended by itself meanwhile
    psutil.wait_procs(family, timeout=10)  # so that the next measurement finds the machine free of them


def rounded(value):
    """Floats with four digits that count."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


# ---------------------------------------------------------------- writing
def tables(result: dict) -> str:
    """What was measured on, a table for each benchmark, and what stands out."""
    parts, noted = [circumstances(result)], []
    for name, (module, title) in BENCHMARKS.items():
        own = [one for one in result["measurements"] if one["benchmark"] == name]
        parts.append(f"### {title}\n\n{module.table(own)}")
        noted += module.sentences(own)
    return "\n\n".join([*parts, "### What stands out", "\n".join(f"- {sentence}" for sentence in noted)])


def circumstances(result: dict) -> str:
    machine, made = result["machine"], result["made_with"]
    busy = machine["others_busy_percent"]
    shared = (
        f"The machine was shared: before the measurements others kept {busy['median']:.0f} % of it busy (median, up to "
        f"{busy['largest']:.0f} %), so trust CPU seconds more than seconds."
        if machine["shared"]
        else f"Others kept {busy['median']:.0f} % of the machine busy (median, up to {busy['largest']:.0f} %)."
    )
    return (
        f"Measured on {result['date']}: {made['cpu']}, {machine['cores']} cores, {machine['memory_gb']:.0f} GB, "
        f"{machine['system']}, Python {made['python']}, PyTorch {made['torch']}, MONAI {made['monai']}, "
        f"one thread per process, 32-bit floats. {shared}"
    )


def write_tables(readme: Path, text: str) -> None:
    """Replace what stands between the markers."""
    old = readme.read_text(encoding="utf-8")
    before, begin, rest = old.partition(BEGIN)
    _, stop, after = rest.partition(END)
    if not (begin and stop):
        raise ValueError(f"{readme} has no lines {BEGIN!r} and {END!r}; the tables go between them.")
    new = f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"
    write_atomically(readme, lambda draft: draft.write_text(new, encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
