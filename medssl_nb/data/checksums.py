"""Is this still the file it was? Checksums of files and folders, and a ledger of those seen before."""

import datetime
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from medssl_nb.data.errors import FetchError
from medssl_nb.data.files import write_atomically

CHUNK = 1 << 20  # bytes read at a time
LEDGER = "sha256.json"


def file_digests(path: Path, algorithms: Iterable[str] = ("sha256",)) -> dict[str, str]:
    """Algorithm -> hexadecimal digest of one file, read once."""
    hashers = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            for hasher in hashers.values():
                hasher.update(chunk)
    return {name: hasher.hexdigest() for name, hasher in hashers.items()}


def check_digests(name: str, expected: dict[str, str], found: dict[str, str]) -> None:
    """Raise FetchError where a digest is not the recorded one; both map algorithm -> hexadecimal digest."""
    for algorithm, digest in expected.items():
        if found[algorithm] != digest:
            raise FetchError(
                f"{name} has {algorithm.upper()} {found[algorithm]}, recorded is {digest}: it is damaged or another "
                "file, and is not used. Remove it if it is still there and fetch it again; if that repeats, its owner "
                "has changed the file."
            )


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of all files below a folder, the same however they were packed.

    Some servers pack an archive anew for every request; its bytes may change while the files in it do not.
    """
    hasher = hashlib.sha256()
    files = sorted((p.relative_to(folder).as_posix(), p) for p in folder.rglob("*") if p.is_file())
    for name, path in files:
        hasher.update(f"{file_digests(path)['sha256']}  {name}\n".encode())
    return hasher.hexdigest()


def compare_with_ledger(data_folder: Path, name: str, sha256: str, of: str) -> str:
    """Compare with what this data folder saw before; raise where it differs.

    Args:
        data_folder: holds `sha256.json`, one entry per name.
        name: "SET/FILE".
        sha256: hexadecimal digest of what arrived now.
        of: what the digest was taken of: "file" or "contents".

    Returns:
        "known" where an equal digest is on record, "new" where there is none.

    Raises:
        FetchError: another digest is on record, or the ledger cannot be read.
    """
    entry = _read(data_folder / LEDGER).get(name)
    if entry is None or entry["of"] != of:
        return "new"
    if entry["sha256"] == sha256:
        return "known"
    raise FetchError(
        f"{name} is not what it was on {entry['first_seen']}: SHA-256 of the {of} was {entry['sha256']}, is now "
        f"{sha256}. "
        "Either its owner published another version or it was altered on the way. If the owner's page announces a new "
        f"version and you want it, remove the entry {name!r} from {data_folder / LEDGER} and run this again."
    )


def write_ledger(data_folder: Path, name: str, sha256: str, of: str) -> None:
    """Put a digest on record; an existing entry of the same digest keeps its date."""
    content = _read(data_folder / LEDGER)
    old = content.get(name, {})
    if (old.get("sha256"), old.get("of")) == (sha256, of):
        return
    content[name] = {"sha256": sha256, "of": of, "first_seen": datetime.date.today().isoformat()}
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    write_atomically(data_folder / LEDGER, lambda draft: draft.write_text(text))


def _read(ledger: Path) -> dict[str, dict[str, str]]:
    if not ledger.exists():
        return {}
    mend = "restore it, or remove it to start a new record"
    try:
        content = json.loads(ledger.read_text())
    except ValueError as error:
        raise FetchError(f"{ledger}, the record of checksums seen before, is damaged ({error}); {mend}.") from error
    entries = content.values() if isinstance(content, dict) else [None]
    if not all(isinstance(entry, dict) and {"sha256", "of", "first_seen"} <= set(entry) for entry in entries):
        raise FetchError(f"{ledger} is not a record of checksums; {mend}.")
    return content
