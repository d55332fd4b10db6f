"""Unpack archives from strangers: nothing is written unless every member is harmless, and nothing appears until all is.

Only regular files are ever written, byte by byte, under names that were checked before: links, devices and file
permissions of an archive have nothing to act on.
"""

import contextlib
import lzma
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from medssl_nb.data.download import SPARE_BYTES, readable_size
from medssl_nb.data.errors import FetchError

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
# NotImplementedError: a zip compressed in a way Python does not know
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)
_CLASH = (NotADirectoryError, IsADirectoryError, FileExistsError)


@dataclass(frozen=True)
class Member:
    """One entry of an archive: name, size in bytes once unpacked, kind "file", "folder", "link" or "special"."""

    name: str
    size: int
    kind: str


def is_archive(path: Path) -> bool:
    """True by ending: tar (plain, gz, bz2, xz) or zip."""
    return path.name.lower().endswith(ENDINGS)


def unpack(
    archive: Path, target: Path, *, wanted: Callable[[str], bool] = lambda name: True, bar: bool = False
) -> list[Path]:
    """Unpack into a new folder `target`, which appears only when complete.

    Files whose name starts with `._`, `.DS_Store` and the folder `__MACOSX` are left out: macOS adds them.

    Args:
        archive: a file for which `is_archive` is True.
        target: must not exist yet.
        wanted: called with each member's name; only those for which it is True are written. All are checked.
        bar: show progress on stderr.

    Returns:
        The files written, sorted.

    Raises:
        FetchError: a member would land outside `target`, is a link or a device; more is declared than the disk can
            hold; the archive is cut short, damaged or no archive. Nothing is left behind then.
    """
    from tqdm import tqdm

    if target.exists():
        raise FetchError(f"{target} exists already; move it away before unpacking {archive.name} there.")
    target.parent.mkdir(parents=True, exist_ok=True)
    chosen = {m.name for m in _checked_members(archive, target.parent, wanted) if m.kind == "file"}
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=target.parent) as stage, _readable_or_explained(archive):
        root = Path(stage) / "root"
        root.mkdir()
        with tqdm(
            total=len(chosen), desc=f"unpacking {archive.name}", unit="file", disable=not bar, leave=False
        ) as progress:
            for member, stream in _open_members(archive):
                if member.name in chosen:
                    _write(stream, _inside(root, member.name), archive)
                    progress.update()
        root.replace(target)
    return sorted(p for p in target.rglob("*") if p.is_file())


def members(archive: Path) -> Iterator[Member]:
    """Every entry in the order of the archive, without unpacking."""
    with _readable_or_explained(archive):
        for member, _ in _open_members(archive):
            yield member


def _checked_members(archive: Path, disk: Path, wanted: Callable[[str], bool]) -> list[Member]:
    """Members to write, after a look at every member; sizes are summed as they come, so a bomb is met early."""
    free, total, kept = shutil.disk_usage(disk).free - SPARE_BYTES, 0, []
    for member in members(archive):
        _refuse_if_hostile(member, archive)
        if _from_macos(member.name) or not wanted(member.name):
            continue
        total += member.size
        if total > free:
            raise FetchError(
                f"{archive.name} unpacks to more than {readable_size(total)}; {readable_size(max(free, 0))} are free "
                f"on the disk of {disk}. Free some space, or name another folder with --to."
            )
        kept.append(member)
    return kept


def _refuse_if_hostile(member: Member, archive: Path) -> None:
    name = member.name.replace("\\", "/")
    refused = None
    if member.kind in ("link", "special"):
        refused = "is a link" if member.kind == "link" else "is neither a file nor a folder"
    elif name.startswith("/") or re.match(r"[A-Za-z]:", name):
        refused = "has an absolute path"
    elif ".." in name.split("/"):
        refused = "leads out of the folder"
    elif "\0" in name or (not name.strip("/.") and member.kind == "file"):
        refused = "has no usable name"
    if refused:
        raise FetchError(
            f"{archive.name} was not unpacked: its member {member.name!r} {refused}, which no data set needs. Remove "
            f"{archive} and fetch it from its owner again; if that repeats, tell the owner."
        )


def _from_macos(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part.startswith("._") or part in ("__MACOSX", ".DS_Store") for part in parts)


def _inside(root: Path, name: str) -> Path:
    """Where a member goes; the second line of defence behind `_refuse_if_hostile`."""
    path = (root / name.replace("\\", "/")).resolve()
    if root.resolve() not in path.parents:
        raise FetchError(f"member {name!r} would be written outside its folder; the archive was not unpacked.")
    return path


def _write(stream: BinaryIO, path: Path, archive: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as target:
            shutil.copyfileobj(stream, target, 1 << 20)
    except _CLASH as error:
        raise FetchError(
            f"{archive.name} uses one name for a file and a folder ({path.name}), so it is damaged; fetch it again."
        ) from error


def _open_members(archive: Path) -> Iterator[tuple[Member, BinaryIO | None]]:
    """Each member with a stream of its content (None unless a file), in archive order: one pass, no seeking back."""
    if archive.name.lower().endswith(".zip"):  # by name: a tar that ends with a zip looks like a zip from behind
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                member = _zip_member(info)
                if member.kind != "file":
                    yield member, None
                    continue
                if info.flag_bits & 1:
                    raise FetchError(
                        f"{archive.name} is locked with a password; unpack it yourself and use --from FOLDER."
                    )
                with packed.open(info) as stream:
                    yield member, stream
        return
    with tarfile.open(archive, "r:*") as packed:
        for info in packed:
            kind = "file" if info.isreg() else "folder" if info.isdir() else "special"
            kind = "link" if info.issym() or info.islnk() else kind
            yield Member(info.name, info.size, kind), packed.extractfile(info) if kind == "file" else None


def _zip_member(info: zipfile.ZipInfo) -> Member:
    unix_mode = info.external_attr >> 16
    kind_bits = unix_mode & 0o170000
    if kind_bits == 0o120000:
        kind = "link"
    elif info.is_dir():
        kind = "folder"
    else:
        kind = "file" if kind_bits in (0, 0o100000) else "special"
    # orig_filename: zipfile cuts the name at a NUL, and what it hides there must be seen
    return Member(info.orig_filename, info.file_size, kind)


@contextlib.contextmanager
def _readable_or_explained(archive: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        with archive.open("rb") as stream:
            start = stream.read(64).lstrip().lower()
        if start.startswith((b"<!doctype", b"<html")):
            raise FetchError(
                f"{archive.name} is a web page, not an archive: the address has moved, or wants a login. Remove it, "
                "download the file with a browser, and run this again with --from FOLDER."
            ) from error
        raise FetchError(
            f"{archive.name} is cut short or damaged ({error}); remove {archive} and fetch it again."
        ) from error
