"""Download one file over HTTP: resumed after a cut, checked, and under its final name only when whole and right.

While a file is under way it is called `NAME.part`; `NAME.part.json` beside it says which version of which address the
bytes belong to. A later call goes on where the earlier one stopped, provided the server still serves that version.
"""

import contextlib
import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from medssl_nb.data.checksums import CHUNK, check_digests, file_digests
from medssl_nb.data.errors import FetchError
from medssl_nb.data.files import write_atomically

TIMEOUT_S = 60  # silence after which a connection counts as cut
WAITS_S = (1, 2, 5, 10, 30)  # pauses between attempts that bring nothing new
SPARE_BYTES = 50_000_000  # left free on the disk
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_CUT = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)


class _StartOver(ConnectionError):
    """The bytes in hand do not belong to what the server offers now."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to download.

    Attributes:
        address: http or https.
        name: file name to store it under.
        size: bytes; None where not recorded.
        md5, sha256: hexadecimal; None where not recorded.
    """

    address: str
    name: str
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None

    def expected(self) -> dict[str, str]:
        """Algorithm -> recorded digest."""
        return {k: v.lower() for k, v in (("md5", self.md5), ("sha256", self.sha256)) if v}


@dataclass
class _Part:
    """What is known of the bytes in `NAME.part`: address, size in bytes and what the server calls this version."""

    address: str
    size: int | None = None
    etag: str | None = None
    modified: str | None = None

    def version(self) -> str | None:
        """The mark that lets a server say whether the file is still the same; a weak ETag does not promise that."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


def download(
    file: RemoteFile, folder: Path, *, bar: bool = True, pause: Callable[[float], object] = time.sleep
) -> tuple[Path, str]:
    """Download `file` into `folder`; a file that is there already and matches its checksum is not fetched again.

    Args:
        file: what to fetch and what it must be.
        folder: made where missing. Several processes may download into it at once.
        bar: show progress with speed and time left on stderr.
        pause: called with seconds between attempts.

    Returns:
        The path and its SHA-256.

    Raises:
        FetchError: address not found, no network, disk full, wrong size or checksum. What arrived stays as `.part`
            and the next call goes on from there, except after a wrong checksum: then it is removed.
    """
    target = folder / _safe_name(file.name)
    folder.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder / f".{target.name}.lock"):
        if target.exists():
            return target, _check_whole(target, file, file_digests(target, {"sha256", *file.expected()}))
        part = target.with_name(target.name + ".part")
        digests = _fetch_whole(file, part, bar, pause)
        try:
            sha256 = _check_whole(part, file, digests)
        except FetchError:
            _forget(part)
            raise
        os.replace(part, target)
        _notes(part).unlink(missing_ok=True)
        return target, sha256


@contextlib.contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Hold a lock file; a second process waits here. The system releases it when the holder ends, however it ends."""
    from filelock import FileLock, Timeout

    lock.parent.mkdir(parents=True, exist_ok=True)
    holder = FileLock(lock)
    try:
        holder.acquire(timeout=0)
    except Timeout:
        print(f"another process works on {lock.name.strip('.').removesuffix('.lock')}; waiting for it", flush=True)
        holder.acquire()
    try:
        yield
    finally:
        holder.release()


def read_json(address: str, *, pause: Callable[[float], object] = time.sleep, limit: int = 20_000_000):
    """The JSON document at an address, with the retries and messages of `download`."""
    for wait in (*WAITS_S, None):
        try:
            with _open(address, {"Accept": "application/json"}) as response:
                text = response.read(limit)
            return json.loads(text)
        except ValueError as error:
            raise FetchError(
                f"{address} did not answer with JSON ({error}); the service has changed, fetch by hand."
            ) from error
        except _CUT as error:
            _give_up_or_wait(error, address, wait, "", pause)
    raise AssertionError("unreachable: the last round returns or raises")


def _fetch_whole(file: RemoteFile, part: Path, bar: bool, pause: Callable[[float], object]) -> dict[str, str]:
    """Fill `part` to the last byte, over as many connections as it takes. Returns its digests."""
    furthest, waits = _length(part), iter(WAITS_S)
    while True:
        try:
            return _one_connection(file, part, bar)
        except _CUT as error:
            if isinstance(error, _StartOver):
                _forget(part)
            have = _length(part)
            if have > furthest:  # a cut after progress does not count as a failed attempt
                furthest, waits = have, iter(WAITS_S)
            kept = f" {readable_size(have)} are kept;" if have else ""
            _give_up_or_wait(error, file.address, next(waits, None), kept, pause)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise FetchError(
                f"the disk of {part.parent} is full after {readable_size(_length(part))} of {file.name}; free some "
                "space and run this again, it goes on from there. Another folder can be named with --to."
            ) from error


def _one_connection(file: RemoteFile, part: Path, bar: bool) -> dict[str, str]:
    """Ask for what is missing, write what comes. Raises one of `_CUT` when the connection ends early."""
    from tqdm import tqdm

    have, known = _resumable(file, part)
    ask = {"Range": f"bytes={have}-", "If-Range": known.version()} if have else {}
    with _open(file.address, ask) as response:
        if response.status == 416:
            raise _StartOver("the server refused to continue")
        have, served = _what_comes(file, response, have, known)
        _check_size(file, served.size)
        _check_space(part, served.size, have)
        if not have:
            part.unlink(missing_ok=True)  # before the notes: a kill in between must not give old bytes a new name
        _write_notes(part, served)
        hashers = {name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", *file.expected()}}
        _hash_kept_bytes(part, have, hashers)
        with (
            open(part, "r+b" if have else "wb") as stream,
            tqdm(
                total=served.size, initial=have, desc=file.name, unit="B", unit_scale=True, disable=not bar, leave=False
            ) as progress,
        ):
            stream.seek(have)
            while chunk := response.read(CHUNK):
                stream.write(chunk)
                for hasher in hashers.values():
                    hasher.update(chunk)
                have += len(chunk)
                progress.update(len(chunk))
            stream.flush()
            os.fsync(stream.fileno())
    if served.size is not None and have != served.size:
        raise ConnectionError(f"{have} of {served.size} bytes arrived")
    return {name: hasher.hexdigest() for name, hasher in hashers.items()}


def _open(address: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    """Open an address; statuses that need handling by the caller are 200, 206 and 416, all others raise."""
    scheme = urllib.parse.urlsplit(address).scheme
    if scheme not in ("http", "https"):  # urllib would also open file:
        raise FetchError(f"{address!r} is not a web address; it must start with https:// or http://.")
    request = urllib.request.Request(address, headers={"User-Agent": "medssl_nb", **headers})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return error
        error.close()
        if error.code in _TRY_AGAIN:
            raise ConnectionError(f"status {error.code}, {error.reason}") from error
        raise FetchError(_refused(address, error.code, error.reason)) from error
    if scheme == "https" and urllib.parse.urlsplit(response.url).scheme != "https":
        response.close()
        raise FetchError(
            f"{address} sends on to {response.url}, which is not encrypted, so the file could be altered on the way; "
            "look for its new address on the owner's page."
        )
    return response


def _refused(address: str, status: int, reason: str) -> str:
    why = {
        401: "it now asks for an account",
        403: "it does not allow the download",
        404: "the address has moved",
        410: "the file was withdrawn",
    }.get(status, "it does not serve the file")
    return (
        f"the server answered {status} ({reason}) for {address}: {why}. Look for the file on the owner's page, "
        "download it with a browser, and run this again with --from FOLDER."
    )


def _what_comes(file: RemoteFile, response, have: int, known: _Part) -> tuple[int, _Part]:
    """From which byte the answer starts, and which version of the file it belongs to."""
    kind = response.headers.get_content_type()
    if kind == "text/html" and not file.name.endswith((".html", ".htm")):
        raise FetchError(
            f"{file.address} answered with a web page instead of {file.name}: the address has moved, or wants a login. "
            "Download the file with a browser and run this again with --from FOLDER."
        )
    length = response.headers.get("Content-Length")
    size = int(length) if length is not None and length.isdigit() else None
    mark = {"etag": response.headers.get("ETag"), "modified": response.headers.get("Last-Modified")}
    if response.status != 206:
        return 0, _Part(file.address, size, **mark)  # all of it: no ranges here, or the file has changed
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", "").strip())
    if found is None or int(found[1]) != have or known.size not in (None, int(found[2])):
        raise _StartOver(f"asked to go on from byte {have}, got {response.headers.get('Content-Range')!r}")
    if known.etag and mark["etag"] not in (None, known.etag):  # a server that overlooks If-Range
        raise _StartOver("the file on the server has changed")
    return have, _Part(file.address, int(found[2]), known.etag, known.modified)


def _resumable(file: RemoteFile, part: Path) -> tuple[int, _Part]:
    """Bytes in `part` that can be kept, and what they belong to. (0, ...) where it is safer to start over."""
    nothing = _Part(file.address)
    try:
        known = _Part(**json.loads(_notes(part).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return 0, nothing
    have = _length(part)
    if known.address != file.address or known.version() is None or have > (known.size or have):
        return 0, nothing
    return (have - 1 if have and have == known.size else have), known  # an empty range cannot be asked for


def _hash_kept_bytes(part: Path, have: int, hashers: dict) -> None:
    if not have:
        return
    left = have
    with open(part, "rb") as stream:
        while left and (chunk := stream.read(min(CHUNK, left))):
            left -= len(chunk)
            for hasher in hashers.values():
                hasher.update(chunk)


def _check_size(file: RemoteFile, served: int | None) -> None:
    if file.size is not None and served is not None and served != file.size:
        raise FetchError(
            f"{file.address} serves {served} bytes, {file.size} are recorded for {file.name}: it is another file now. "
            "Compare with the owner's page before using it."
        )


def _check_space(part: Path, size: int | None, have: int) -> None:
    if size is None:
        return
    free = shutil.disk_usage(part.parent).free
    if size - have + SPARE_BYTES > free:
        raise FetchError(
            f"{part.name.removesuffix('.part')} needs {readable_size(size - have)} more on the disk of {part.parent}, "
            f"{readable_size(free)} are free. Free some space, or name another folder with --to."
        )


def _check_whole(path: Path, file: RemoteFile, found: dict[str, str]) -> str:
    """Compare digests and size with what is recorded; returns the SHA-256."""
    check_digests(path.name.removesuffix(".part"), file.expected(), found)
    if file.size is not None and path.stat().st_size != file.size:
        raise FetchError(
            f"{path} has {path.stat().st_size} bytes instead of {file.size}; remove it and run this again."
        )
    return found["sha256"]


def _give_up_or_wait(error: Exception, address: str, wait: float | None, kept: str, pause) -> None:
    if wait is not None:
        pause(wait)
        return
    reason = getattr(error, "reason", None) or error
    raise FetchError(
        f"{urllib.parse.urlsplit(address).netloc} could not be reached or broke off again and again ({reason}).{kept} "
        "check the network connection and run this again."
    ) from error


def _safe_name(name: str) -> str:
    """A plain file name; a listing from the network must not choose a folder."""
    if not name or name in (".", "..") or name.startswith(".") or re.search(r'[/\\:\x00-\x1f*?"<>|]', name):
        raise FetchError(f"{name!r} is not a plain file name; nothing was downloaded.")
    return name


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _notes(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _write_notes(part: Path, served: _Part) -> None:
    write_atomically(_notes(part), lambda draft: draft.write_text(json.dumps(asdict(served))))


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _notes(part).unlink(missing_ok=True)


def readable_size(size: float) -> str:
    """123456789 -> "123.5 MB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable: the last unit always returns")
