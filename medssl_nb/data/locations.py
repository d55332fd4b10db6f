"""Where data sets are looked for, and where generated and downloaded ones are kept."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Folder of everything that can be made or fetched again: `MEDSSL_CACHE`, else the user's cache folder."""
    import platformdirs

    chosen = os.environ.get("MEDSSL_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("medssl_nb", appauthor=False))


def data_folders() -> list[Path]:
    """Folders searched for real data sets, in order: those of `MEDSSL_DATA`, then the cache.

    `MEDSSL_DATA` may name several folders, separated as in `PATH` (`:` on Linux and macOS, `;` on Windows).
    """
    named = [Path(part).expanduser() for part in os.environ.get("MEDSSL_DATA", "").split(os.pathsep) if part]
    return [*named, cache_folder() / "data"]


def find_dataset(name: str) -> Path | None:
    """First existing folder `name` among `data_folders()`, or None."""
    return next((folder / name for folder in data_folders() if (folder / name).is_dir()), None)
