"""Install the project with its pinned packages into .venv, from the standard library alone.

Work that is already done is not done again: a stamp in .venv records what was installed, and a run that finds its stamp
returns at once. A run that was interrupted leaves no stamp, so the next one goes on where it stopped.
"""

import argparse
import collections
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
GB_NEEDED = {"cpu": 3, "cuda": 12}  # the packages, and room to unpack them
CUDA_PACKAGES = ("nvidia-", "cuda-", "triton")

NO_NETWORK = (
    "Failed to establish a new connection",
    "NameResolutionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "Read timed out",
    "ProxyError",
    "SSLError",
    "Connection reset by peer",
    "Network is unreachable",
    "IncompleteRead",
)


def main(argv: list[str] | None = None, project: Path = PROJECT) -> int:
    """Bring `project/.venv` up to date. Returns 0, or 130 when stopped by Ctrl-C; failures leave by SystemExit."""
    parser = argparse.ArgumentParser(description="Install the project with its pinned packages into .venv.")
    parser.add_argument(
        "--torch", choices=("cpu", "cuda", ""), default="", help='build of torch; "": keep what is there'
    )
    build = parser.parse_args(argv).torch
    try:
        bring_up_to_date(project, build)
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to go on where it stopped.", file=sys.stderr)
        return 130
    return 0


def bring_up_to_date(project: Path, build: str) -> None:
    """Create, mend or update `project/.venv`, and stamp it. Nothing happens when the stamp is the wanted one."""
    venv = project / ".venv"
    stamp = read_stamp(venv)
    build = build or stamp.get("torch", "cpu")
    wanted = wanted_stamp(project, build)
    if stamp == wanted and venv_python(venv).exists():
        return
    if build == "cuda" and sys.platform != "linux":
        sys.exit(
            "TORCH=cuda is for Linux with an NVIDIA GPU; leave the word away here (Macs use their GPU without it)."
        )
    started = time.monotonic()
    remove_unusable(venv, stamp)
    if not has_pip(venv):
        check_space(project, GB_NEEDED[build])
        say("1/3 creating .venv")
        create(venv)
    stamp_file(venv).unlink(missing_ok=True)  # from here until the end, .venv is in between
    forget_half_installed(venv)
    say(f"2/3 torch, {'without CUDA (about 200 MB)' if build == 'cpu' else 'with CUDA (several GB)'}")
    install_torch(project, build)
    say("3/3 the other packages (about 300 MB)")
    install_rest(project)
    if build == "cpu":
        remove_cuda_packages(project)
    check_imports(project)
    write_stamp(venv, wanted)
    say(f"Ready after {time.monotonic() - started:.0f} s. Start with `make lab`.")


# ---------------------------------------------------------------- the stamp
def wanted_stamp(project: Path, build: str) -> dict[str, str]:
    """What a finished .venv is made of; any difference means work. It cannot be moved, so its place counts too."""
    metadata = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    asked = json.dumps([metadata["project"], metadata["build-system"]], sort_keys=True)
    pinned = (project / "constraints.txt").read_text(encoding="utf-8")
    return {
        "packages": hashlib.sha256((asked + pinned).encode()).hexdigest(),
        "torch": build,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "folder": str(project),
    }


def stamp_file(venv: Path) -> Path:
    return venv / "medssl_nb.json"


def read_stamp(venv: Path) -> dict[str, str]:
    """The stamp of the last finished run, or {}: none, or one that was damaged."""
    try:
        return json.loads(stamp_file(venv).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write_stamp(venv: Path, stamp: dict[str, str]) -> None:
    draft = stamp_file(venv).with_suffix(".draft")
    draft.write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
    os.replace(draft, stamp_file(venv))


# ---------------------------------------------------------------- the environment itself
def venv_python(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def has_pip(venv: Path) -> bool:
    """Whether pip starts in `venv`; False for a missing, broken or half-made environment."""
    if not venv_python(venv).exists():
        return False
    return subprocess.run([venv_python(venv), "-m", "pip", "--version"], capture_output=True).returncode == 0


def remove_unusable(venv: Path, stamp: dict[str, str]) -> None:
    """Remove an environment that cannot be mended: its Python is gone, is another version, or it was moved."""
    if not os.path.lexists(venv):
        return
    if not (venv / "pyvenv.cfg").is_file():
        if venv.is_dir() and not any(venv.iterdir()):
            return
        sys.exit(f"{venv} is in the way and is not a Python environment: move it elsewhere, then run this again.")
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not venv_python(venv).exists():
        why = "its Python is gone"
    elif (found := venv_version(venv)) != here:
        why = f"it holds Python {found}, now {here} is used"
    elif stamp and stamp.get("folder") != str(venv.parent):
        why = "it was moved"
    else:
        return
    say(f"Making .venv anew: {why}.")
    shutil.rmtree(venv)


def venv_version(venv: Path) -> str:
    """Version of the Python in `venv`, such as "3.11", or "unknown"."""
    for line in (venv / "pyvenv.cfg").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition("=")
        if key.strip() in ("version", "version_info"):  # as venv writes it, as virtualenv and uv do
            return ".".join(value.strip().split(".")[:2])
    return "unknown"


def create(venv: Path) -> None:
    """Create `venv`, or complete a half-made one, with the Python that runs this."""
    base = getattr(sys, "_base_executable", None) or sys.executable  # this may be the Python of the environment itself
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        sys.exit(
            f"{base} cannot create environments: on Debian or Ubuntu `sudo apt install python{version}-venv` mends "
            "that, elsewhere a Python from https://www.python.org/downloads/; then run this again."
        )
    made = subprocess.run([base, "-m", "venv", str(venv)], capture_output=True, text=True)
    if made.returncode:
        sys.exit(explain((made.stdout + made.stderr).splitlines(), "python -m venv", venv.parent))


def forget_half_installed(venv: Path) -> None:
    """Remove the records of packages whose installation was cut: pip would take them for whole ones."""
    for record in venv.glob("**/site-packages/*.dist-info"):
        if not (record / "RECORD").is_file():
            shutil.rmtree(record)


def check_space(project: Path, needed: int) -> None:
    free = shutil.disk_usage(project).free / 1e9
    if free < needed:
        sys.exit(
            f"{project} has {free:.1f} GB of free space, about {needed} GB are needed: free some, then run this again."
        )


# ---------------------------------------------------------------- packages
def install_torch(project: Path, build: str) -> None:
    """Install the pinned torch: without CUDA on Linux unless asked otherwise, the only build there is elsewhere.

    "+cpu" names the build without CUDA, so the large one is not even looked at. The index that the user has set is
    asked first (it may hold that build, and PyTorch's own may be out of reach), then PyTorch's. `===` takes the
    spelling literally: without it, an installed "+cpu" would count as the CUDA build.
    """
    version = pinned(project, "torch")
    if build == "cuda":
        pip_or_exit(project, f"torch==={version}")
    elif sys.platform != "linux":
        pip_or_exit(project, f"torch=={version}")
    elif pip(project, "--retries", "1", f"torch=={version}+cpu")[0]:
        pip_or_exit(project, "--extra-index-url", CPU_INDEX, f"torch=={version}+cpu")


def install_rest(project: Path) -> None:
    pip_or_exit(project, "-c", str(project / "constraints.txt"), "-e", f"{project}[dev]")


def pinned(project: Path, name: str) -> str:
    """Version of `name` in constraints.txt."""
    for line in (project / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}=="):
            return line.partition("==")[2].strip()
    raise ValueError(f"constraints.txt does not pin {name}; write it again with tools/write_constraints.py.")


def remove_cuda_packages(project: Path) -> None:
    """Remove what an earlier build with CUDA brought along: several GB that nothing uses any more."""
    python = venv_python(project / ".venv")
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True)
    names = [entry["name"] for entry in json.loads(listed.stdout) if entry["name"].startswith(CUDA_PACKAGES)]
    if names:
        subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", *names], check=True)


def check_imports(project: Path) -> None:
    """Import what everything stands on: a package can be installed and still not load."""
    python = venv_python(project / ".venv")
    tried = subprocess.run([python, "-c", "import torch, jupyterlab, medssl_nb"], capture_output=True, text=True)
    if tried.returncode:
        sys.exit(
            f"{tried.stderr}\nThe packages are installed but do not load; the lines above say why. "
            "`rm -r .venv` and the same command again makes everything anew."
        )


def pip(project: Path, *arguments: str) -> tuple[int, list[str]]:
    """Run `pip install`; on a terminal one line shows where it is. Returns its exit code and what it printed."""
    command = [str(venv_python(project / ".venv")), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    environment = {**os.environ, "PIP_USER": "0", "PYTHONUNBUFFERED": "1"}
    lines: collections.deque[str] = collections.deque(maxlen=400)
    with subprocess.Popen(
        [*command, "--retries", "3", "--progress-bar", "off", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    ) as process:
        for line in process.stdout:
            lines.append(line.rstrip())
            show_status(line.strip())
    show_status("")
    return process.returncode, list(lines)


def pip_or_exit(project: Path, *arguments: str) -> None:
    code, lines = pip(project, *arguments)
    if code:
        sys.exit(explain(lines, "pip", project))


def explain(lines: list[str], program: str, project: Path) -> str:
    """The last lines of a failed program, and one sentence that says what to do."""
    tail = "\n".join(line[:300] for line in [x for x in lines if not re.search(r"Retry\(total=[^0]", x)][-8:])
    text = "\n".join(lines)
    if "No space left on device" in text or "Disk quota exceeded" in text:
        free = shutil.disk_usage(project).free / 1e9
        advice = f"The disk is full ({free:.1f} GB free in {project}, and pip also needs TMPDIR): free some space"
    elif any(sign in text for sign in NO_NETWORK):
        advice = (
            f"The network is missing or blocked (pypi.org and {CPU_INDEX.split('/')[2]} are needed once): connect, or "
            "name your proxy in HTTPS_PROXY or your mirror in PIP_INDEX_URL"
        )
    elif "No matching distribution found" in text:
        advice = (
            f"There is no package for Python {sys.version_info.major}.{sys.version_info.minor} on this machine: name "
            "another Python, as in `make setup PYTHON=/path/to/python3.12`"
        )
    else:
        advice = f"{program} failed, and the lines above say why: mend that"
    return f"{tail}\n\n{advice}, then run the same command again; what is already installed is kept."


# ---------------------------------------------------------------- words on the terminal
def say(text: str) -> None:
    print(text, flush=True)


def show_status(text: str) -> None:
    """Replace the last line of the terminal by `text`; files and CI logs get nothing."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 4
        print(f"\r\033[K  {text[:width]}" if text else "\r\033[K", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
