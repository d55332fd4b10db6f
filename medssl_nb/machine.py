"""What this machine has left."""

from pathlib import Path


def memory_left_in_container(folder: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes that a container's limit leaves (Docker, JupyterHub), infinity without a limit."""
    limit, used = folder / "memory.max", folder / "memory.current"
    if not (limit.is_file() and used.is_file()) or limit.read_text().strip() == "max":
        return float("inf")
    return int(limit.read_text()) - int(used.read_text())


def free_memory_bytes() -> float:
    """Memory that a new process may use without pushing others out."""
    import psutil

    return min(psutil.virtual_memory().available, memory_left_in_container())
