"""What this machine has left, and which code runs on it."""

import subprocess
from pathlib import Path


def memory_left_in_container(folder: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes that a container's limit leaves (Docker, JupyterHub), infinity without a limit."""
    limit, used = folder / "memory.max", folder / "memory.current"
    if not (limit.is_file() and used.is_file()) or limit.read_text().strip() == "max":
        return float("inf")
    return int(limit.read_text()) - int(used.read_text()) + _file_cache(folder / "memory.stat")


def _file_cache(stat: Path) -> int:
    """Bytes of files kept in memory that nobody has used of late: the first to be given up when room is wanted."""
    lines = stat.read_text().split("\n") if stat.is_file() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))


def free_memory_bytes() -> float:
    """Memory that a new process may use without pushing others out."""
    import psutil

    return min(psutil.virtual_memory().available, memory_left_in_container())


def commit_of(package: Path) -> str | None:
    """Commit of the checkout that `package` is tracked in, "+changes" behind it if the tree differs; else None."""
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None  # no checkout, or one that happens to lie around an installed package
    commit = _git(package, "rev-parse", "HEAD")
    # Results are written one after the other: the first must not make the second look as if the code had changed.
    changes = _git(package, "status", "--porcelain", "--", ":(top)", ":(top,exclude)results")
    return f"{commit}+changes" if commit and changes else commit


def _git(folder: Path, *words: str) -> str | None:
    """What git prints, None if it fails or is not installed."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, encoding="utf-8")
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
