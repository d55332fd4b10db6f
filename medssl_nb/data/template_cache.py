"""Templates that take seconds to make are kept on disk, and never trusted blindly."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from medssl_nb.data.files import write_atomically
from medssl_nb.data.locations import cache_folder

_DIGEST_BYTES = hashlib.sha256().digest_size


def cached_arrays(
    name: str, version: str, build: Callable[[], dict[str, np.ndarray]], *, folder: str = "templates"
) -> dict[str, np.ndarray]:
    """The arrays that `build` makes, from the cache folder when an intact copy of this version lies there.

    The file begins with the SHA-256 of the rest. A copy that does not match it (cut short, changed, empty) is made
    again, as is a missing one. Several processes may ask at once: each sees no file or a whole one.

    Args:
        name: what the template is; the file is `<folder>/<name>-<version>.template` in the cache folder.
        version: changes whenever `build` would give something else; see `source_version`.
        build: returns arrays by name.
        folder: what is kept there.
    """
    file = cache_folder() / folder / f"{name}-{version}.template"
    content = file.read_bytes() if file.is_file() else b""
    digest, packed = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(packed).digest() == digest:
        with np.load(io.BytesIO(packed), allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    arrays = build()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    packed = buffer.getvalue()
    write_atomically(file, lambda draft: draft.write_bytes(hashlib.sha256(packed).digest() + packed))
    return arrays


def source_version(*parts: str) -> str:
    """Twelve letters that change with the content of the named source files, or with the text of other parts."""
    digest = hashlib.sha256()
    for part in parts:
        path = Path(part)
        digest.update(path.read_bytes() if path.is_file() else part.encode())
    return digest.hexdigest()[:12]
