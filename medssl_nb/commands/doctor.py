"""`python -m medssl_nb doctor`: what this machine has, what is missing, and how to mend it.

Every check is a function that returns rows of the table; it imports what it looks at itself, so that the doctor also
works where half of the packages are missing.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from itertools import zip_longest
from pathlib import Path

OK, PROBLEM, OPTIONAL = "OK", "problem", "optional"  # "optional" can be better and stops nothing
MEMORY_GB = 4
DISK_GB = 5
REINSTALL = "run `make setup` (conda: `pip install -c constraints.txt -e .`)"


@dataclass(frozen=True)
class Check:
    """One row: what was looked at, what was found, OK, problem or optional, and how to mend it ("": all is well)."""

    name: str
    found: str
    status: str = OK
    mend: str = ""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's words to `parser`: it has none."""
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the table. Returns 0 when nothing is a problem, else 1."""
    checks = examine(CHECKS)
    print(table(checks, shutil.get_terminal_size(fallback=(120, 40)).columns))
    problems = sum(check.status == PROBLEM for check in checks)
    print(f"\n{problems} problem{'s' * (problems != 1)} found." if problems else "\nAll is well.")
    return int(problems > 0)


def examine(examinations: Iterable[Callable[[], list[Check]]]) -> list[Check]:
    """Rows of all examinations; one that fails itself becomes a row that says so."""
    checks = []
    for examination in examinations:
        try:
            checks += examination()
        except Exception as error:  # whatever is broken here, the rest of the table is still wanted
            name = examination.__name__.replace("_", " ")
            checks.append(Check(name, f"{type(error).__name__}: {error}", PROBLEM, REINSTALL))
    return checks


def table(checks: list[Check], width: int) -> str:
    """The rows as text, at most `width` characters wide (at least 72); long cells go on below."""
    rest = max(width, 72) - 18 - 10 - 3
    widths = (18, rest * 2 // 5, 10, rest - rest * 2 // 5)
    rows = [("check", "found", "", "how to mend"), *((c.name, c.found, c.status, c.mend) for c in checks)]
    lines = []
    for row in rows:
        cells = [_wrap(cell, size) for cell, size in zip(row, widths, strict=True)]
        for parts in zip_longest(*cells, fillvalue=""):
            line = " ".join(part.ljust(size) for part, size in zip(parts, widths, strict=True))
            lines.append(line.rstrip())
    lines.insert(1, "-" * (sum(widths) + 3))
    return "\n".join(lines)


def _wrap(text: str, width: int) -> list[str]:
    """Lines of `text`; words stay whole, so that commands and paths can be copied."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


# ---------------------------------------------------------------- Python and packages
def python_version(version: tuple[int, ...] = sys.version_info) -> list[Check]:
    """Python is 3.11 or newer."""
    found = f"{version[0]}.{version[1]}.{version[2]}, {platform.system()} {platform.machine()}"
    if version[:2] < (3, 11):
        return [Check("Python", found, PROBLEM, "install Python 3.11 or newer, then run `make setup`")]
    return [Check("Python", found)]


def packages(requirements: Iterable[str] | None = None) -> list[Check]:
    """Everything that the project requires is installed, in a version inside the tested range."""
    from packaging.requirements import Requirement

    wrong, count = [], 0
    for requirement in map(Requirement, metadata.requires("medssl_nb") if requirements is None else requirements):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        count += 1
        version = installed_version(requirement.name)
        if version is None:
            wrong.append(f"{requirement.name} is missing")
        elif not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, tested is {requirement.specifier}")
    if wrong:
        return [Check("packages", "; ".join(wrong), PROBLEM, REINSTALL)]
    return [Check("packages", f"all {count} in their tested ranges")]


def installed_version(name: str) -> str | None:
    """Version of an installed package, None if there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def torch_build() -> list[Check]:
    """torch loads, and is the version that the project pins."""
    import torch

    found = f"{torch.__version__}, {f'CUDA {torch.version.cuda}' if torch.version.cuda else 'without CUDA'}"
    wanted = pinned_versions().get("torch")
    if wanted and torch.__version__.split("+")[0] != wanted:
        return [Check("torch", found, OPTIONAL, f"the lessons ran with {wanted}; numbers may differ: {REINSTALL}")]
    return [Check("torch", found)]


def pinned_versions(file: Path | None = None) -> dict[str, str]:
    """{package: version} of constraints.txt; {} where there is no checkout."""
    file = file or Path(__file__).resolve().parents[2] / "constraints.txt"
    if not file.is_file():
        return {}
    lines = (line.partition("==") for line in file.read_text(encoding="utf-8").splitlines())
    return {name.strip(): version.strip() for name, _, version in lines if version}


def device() -> list[Check]:
    """Where training runs: an NVIDIA GPU, a Mac's, or the processor."""
    import torch

    if torch.cuda.is_available():
        gigabytes = torch.cuda.get_device_properties(0).total_memory / 1e9
        more = f", {torch.cuda.device_count()} of them" if torch.cuda.device_count() > 1 else ""
        return [Check("device", f"{torch.cuda.get_device_name(0)}, {gigabytes:.0f} GB{more}")]
    if torch.backends.mps.is_available():
        return [Check("device", "Apple GPU (MPS)")]
    found = f"processor, {torch.get_num_threads()} of {os.cpu_count()} threads"
    if shutil.which("nvidia-smi") is None:
        return [Check("device", found)]
    if torch.version.cuda is None:
        mend = "an NVIDIA driver is installed; to use the GPU: `make setup TORCH=cuda`"
    else:
        mend = "torch sees no GPU: run `nvidia-smi`; if it lists one, its driver is too old for this torch, update it"
    return [Check("device", found, OPTIONAL, mend)]


# ---------------------------------------------------------------- Jupyter
def jupyterlab() -> list[Check]:
    """JupyterLab is installed."""
    version = installed_version("jupyterlab")
    return [Check("JupyterLab", version) if version else Check("JupyterLab", "not installed", PROBLEM, REINSTALL)]


def notebook_kernel() -> list[Check]:
    """The kernel "python3", which the notebooks name, is this Python: else they do not find the package."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        python = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return [Check("notebook kernel", "no kernel python3", PROBLEM, REINSTALL)]
    # A bare "python" is replaced by the Python that runs the server.
    if python in ("python", "python3") or os.path.samefile(Path(python).parent, Path(sys.executable).parent):
        return [Check("notebook kernel", "python3 is this Python")]
    mend = (
        "`python -m ipykernel install --sys-prefix` here, or remove the other with `jupyter kernelspec remove python3`"
    )
    return [Check("notebook kernel", f"python3 is {python}", PROBLEM, mend)]


def widget_front_end(places: Iterable[Path] | None = None) -> list[Check]:
    """The parts of ipywidgets and anywidget that run in the browser are where JupyterLab looks, and fit."""
    from jupyter_core.paths import jupyter_path

    places = [Path(p) for p in jupyter_path("labextensions")] if places is None else list(places)
    checks = []
    for name, package in (("@jupyter-widgets/jupyterlab-manager", "ipywidgets"), ("anywidget", "anywidget")):
        folder = next((place / name for place in places if (place / name / "package.json").is_file()), None)
        if folder is None:
            found = f"{package} has no part in JupyterLab"
            checks.append(Check("widgets", found, PROBLEM, f"{REINSTALL}, then reload the browser page"))
        else:
            checks.append(_fits(package, json.loads((folder / "package.json").read_text(encoding="utf-8"))["version"]))
    return checks


def _fits(package: str, front_end: str) -> Check:
    """Whether the browser part, version `front_end`, and the Python part of `package` belong together."""
    version = installed_version(package)
    found = f"{package} {version}, browser part {front_end}"
    if package == "ipywidgets":
        wrong = [c for c in packages(r for r in metadata.requires(package) if "jupyterlab" in r) if c.status != OK]
    else:
        wrong = version != front_end
    return Check("widgets", found, PROBLEM, f"the two do not fit: {REINSTALL}") if wrong else Check("widgets", found)


# ---------------------------------------------------------------- room to work
def free_memory(available_bytes: int | None = None) -> list[Check]:
    """At least 4 GB of memory are free."""
    if available_bytes is None:
        from medssl_nb.machine import free_memory_bytes

        available_bytes = free_memory_bytes()
    found = f"{available_bytes / 1e9:.1f} GB free"
    if available_bytes < MEMORY_GB * 1e9:
        return [Check("memory", found, PROBLEM, f"lessons use up to {MEMORY_GB} GB: close programs or other notebooks")]
    return [Check("memory", found)]


def cache_room(folder: Path | None = None, free_bytes: int | None = None) -> list[Check]:
    """The cache folder can be written and has at least 5 GB of space."""
    from medssl_nb.data.locations import cache_folder

    folder = folder or cache_folder()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        mend = "set MEDSSL_CACHE to a folder that you may write"
        return [Check("cache folder", f"{folder}: {error.strerror}", PROBLEM, mend)]
    gigabytes = (shutil.disk_usage(there).free if free_bytes is None else free_bytes) / 1e9
    found = f"{folder}, {gigabytes:.0f} GB free"
    if gigabytes < DISK_GB:
        mend = f"{DISK_GB} GB are wanted: free some, or set MEDSSL_CACHE to a folder on a larger disk"
        return [Check("cache folder", found, PROBLEM, mend)]
    return [Check("cache folder", found)]


# ---------------------------------------------------------------- data and settings
def data_sets() -> list[Check]:
    """Which real data sets are here. None is needed by the lessons at demo size."""
    from medssl_nb.data.catalogue import command_for
    from medssl_nb.data.cohorts import REAL
    from medssl_nb.data.locations import find_dataset

    checks = []
    for name in REAL:
        place = find_dataset(name)
        if place:
            checks.append(Check(f"data {name}", str(place)))
        else:
            checks.append(Check(f"data {name}", "not here, no lesson needs it", OPTIONAL, f"`{command_for(name)}`"))
    return checks


def named_folders() -> list[Check]:
    """Every folder that MEDSSL_DATA names is there."""
    value = os.environ.get("MEDSSL_DATA", "")
    if not value:
        return []
    missing = [part for part in value.split(os.pathsep) if part and not Path(part).expanduser().is_dir()]
    if missing:
        found = f"no folder {', '.join(missing)}"
        return [Check("MEDSSL_DATA", found, PROBLEM, f"correct or unset it (folders are separated by {os.pathsep!r})")]
    return [Check("MEDSSL_DATA", value)]


def profile() -> list[Check]:
    """MEDSSL_PROFILE is one that exists."""
    from medssl_nb.lessons import run_profile

    try:
        return [Check("profile", run_profile())]
    except ValueError as error:
        return [Check("profile", str(os.environ.get("MEDSSL_PROFILE")), PROBLEM, str(error))]


CHECKS = (
    *(python_version, packages, torch_build, device),
    *(jupyterlab, notebook_kernel, widget_front_end),
    *(free_memory, cache_room),
    *(data_sets, named_folders, profile),
)
