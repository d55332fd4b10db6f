"""Write files so that a reader never meets half of one."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: str | os.PathLike, write: Callable[[Path], object]) -> Path:
    """Create or replace `path` in one step: readers see the old file or the whole new one, never a part.

    Args:
        path: the final name; missing parent folders are made.
        write: called with the name of a temporary neighbour that ends like `path` (writers such as nibabel
            choose the format by the ending); it fills that file.

    Returns:
        The final path.

    Raises:
        Whatever `write` raises; the temporary file is then gone and an older `path` is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A folder of its own on the same file system: os.replace is atomic there, and the writer keeps the full ending.
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=path.parent) as folder:
        draft = Path(folder) / path.name
        write(draft)
        with draft.open("rb+") as stream:
            os.fsync(stream.fileno())  # a power cut after the rename must not leave an empty file
        os.replace(draft, path)
    return path
