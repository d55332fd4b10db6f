import errno
import hashlib
import json
import multiprocessing
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from medssl_nb.data import download as module
from medssl_nb.data.download import RemoteFile, download, read_json, readable_size
from medssl_nb.data.errors import FetchError

CONTENT = bytes(range(256)) * 4000  # 1 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def quick():
    """Keeps the pauses instead of sleeping them."""
    return []


def get(server, folder, pauses, **more):
    file = RemoteFile(f"{server.address}/scan.bin", "scan.bin", **{"sha256": SHA256, **more})
    return download(file, folder, bar=False, pause=pauses.append)


def leftovers(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock"))


def test_a_whole_file_gets_its_name_and_nothing_else_stays(server, tmp_path, quick):
    server.serve("/scan.bin", CONTENT)
    path, sha256 = get(server, tmp_path, quick, md5=MD5, size=len(CONTENT))
    assert path.read_bytes() == CONTENT and sha256 == SHA256
    assert leftovers(tmp_path) == ["scan.bin"]


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path, quick):
    served = server.serve("/scan.bin", CONTENT)
    get(server, tmp_path, quick)
    get(server, tmp_path, quick)
    assert len(served.asked) == 1


def test_a_damaged_file_that_is_there_is_refused_and_kept(server, tmp_path, quick):
    (tmp_path / "scan.bin").write_bytes(b"mine")
    with pytest.raises(FetchError, match="damaged or another file"):
        get(server, tmp_path, quick)
    assert (tmp_path / "scan.bin").read_bytes() == b"mine"


def test_a_cut_is_resumed_from_where_it_happened(server, tmp_path, quick):
    served = server.serve("/scan.bin", CONTENT, cuts=[300_000, 400_000])
    path, _ = get(server, tmp_path, quick)
    assert path.read_bytes() == CONTENT
    assert served.asked == [None, "bytes=300000-", "bytes=700000-"]


def test_cuts_that_bring_something_never_use_up_the_attempts(server, tmp_path, quick):
    server.serve("/scan.bin", CONTENT, cuts=[50_000] * 20)
    path, _ = get(server, tmp_path, quick)
    assert path.read_bytes() == CONTENT
    assert set(quick) == {module.WAITS_S[0]}


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server, tmp_path, quick):
    served = server.serve("/scan.bin", CONTENT, cuts=[600_000], failures=[])
    served.cuts += [0] * 10
    with pytest.raises(FetchError, match=r"600\.0 kB are kept"):
        get(server, tmp_path, quick)
    assert leftovers(tmp_path) == ["scan.bin.part", "scan.bin.part.json"]
    served.cuts.clear()
    path, _ = get(server, tmp_path, quick)
    assert path.read_bytes() == CONTENT and served.asked[-1] == "bytes=600000-"


def test_a_server_without_ranges_starts_over(server, tmp_path, quick):
    served = server.serve("/scan.bin", CONTENT, cuts=[300_000], ranges=False)
    path, _ = get(server, tmp_path, quick)
    assert path.read_bytes() == CONTENT
    assert served.asked == [None, "bytes=300000-"]


def test_a_server_that_names_no_version_is_not_trusted_to_resume(server, tmp_path, quick):
    served = server.serve("/scan.bin", CONTENT, cuts=[300_000], etag=None)
    path, _ = get(server, tmp_path, quick)
    assert path.read_bytes() == CONTENT and served.asked == [None, None]


def test_old_bytes_never_get_the_notes_of_a_new_version(server, tmp_path, quick, monkeypatch):
    """As if the process were killed right after it noted the new version."""
    served = server.serve("/scan.bin", CONTENT[::-1], cuts=[300_000, *[0] * 10])
    with pytest.raises(FetchError):
        get(server, tmp_path, quick)
    served.content, served.etag = CONTENT, '"two"'
    served.cuts.clear()
    with monkeypatch.context() as patched:
        patched.setattr(module, "_hash_kept_bytes", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            get(server, tmp_path, quick, sha256=None)
    assert get(server, tmp_path, quick, sha256=None)[0].read_bytes() == CONTENT


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_two_versions_are_never_spliced(server, tmp_path, quick, heeds_if_range):
    served = server.serve("/scan.bin", CONTENT[::-1], cuts=[300_000, *[0] * 10], heeds_if_range=heeds_if_range)
    with pytest.raises(FetchError):
        get(server, tmp_path, quick)
    served.content, served.etag = CONTENT, '"two"'
    served.cuts.clear()
    path, _ = get(server, tmp_path, quick)
    assert path.read_bytes() == CONTENT


def test_a_part_that_is_complete_but_was_never_renamed_is_used(server, tmp_path, quick):
    served = server.serve("/scan.bin", CONTENT)
    notes = {"address": f"{server.address}/scan.bin", "size": len(CONTENT), "etag": '"one"', "modified": None}
    (tmp_path / "scan.bin.part").write_bytes(CONTENT)
    (tmp_path / "scan.bin.part.json").write_text(json.dumps(notes))
    path, _ = get(server, tmp_path, quick)
    assert path.read_bytes() == CONTENT and served.asked == [f"bytes={len(CONTENT) - 1}-"]


@pytest.mark.parametrize("notes", ["", "[1]", '{"address": "elsewhere", "etag": "x"}', '{"strange": 1}'])
def test_a_part_of_unknown_origin_is_not_used(server, tmp_path, quick, notes):
    server.serve("/scan.bin", CONTENT)
    (tmp_path / "scan.bin.part").write_bytes(b"x" * 100)
    (tmp_path / "scan.bin.part.json").write_text(notes)
    assert get(server, tmp_path, quick)[0].read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(server, tmp_path, quick):
    server.serve("/scan.bin", CONTENT[:-1] + b"!")
    with pytest.raises(FetchError, match=f"recorded is {SHA256}"):
        get(server, tmp_path, quick)
    assert leftovers(tmp_path) == []


def test_another_size_than_recorded_is_refused_before_the_download(server, tmp_path, quick):
    server.serve("/scan.bin", CONTENT)
    with pytest.raises(FetchError, match="1024000 bytes, 7 are recorded"):
        get(server, tmp_path, quick, size=7)
    assert leftovers(tmp_path) == []


def test_a_body_without_length_is_taken_whole(server, tmp_path, quick):
    server.serve("/scan.bin", CONTENT, length=False)
    assert get(server, tmp_path, quick)[0].read_bytes() == CONTENT


def test_a_cut_in_a_body_of_unknown_length_is_noticed(server, tmp_path, quick):
    """As GitHub sends archives: in chunks, no total, no ranges."""
    served = server.serve("/scan.bin", CONTENT, chunked=True, ranges=False, etag='W/"weak"', cuts=[300_000])
    path, _ = get(server, tmp_path, quick, sha256=None)
    assert path.read_bytes() == CONTENT and served.asked == [None, None]


@pytest.mark.parametrize(
    ("status", "why"),
    [(404, "the address has moved"), (403, "does not allow"), (401, "asks for an account"), (410, "withdrawn")],
)
def test_a_refusal_says_what_to_do_and_is_not_repeated(server, tmp_path, quick, status, why):
    served = server.serve("/scan.bin", CONTENT, status=status)
    with pytest.raises(FetchError, match=f"{status}.*{why}.*--from FOLDER"):
        get(server, tmp_path, quick)
    assert len(served.asked) == 1 and leftovers(tmp_path) == []


def test_a_busy_server_is_asked_again(server, tmp_path, quick):
    served = server.serve("/scan.bin", CONTENT, failures=[503, 429])
    assert get(server, tmp_path, quick)[0].read_bytes() == CONTENT
    assert len(served.asked) == 3 and quick == list(module.WAITS_S[:2])


def test_a_web_page_instead_of_the_file_is_not_saved(server, tmp_path, quick):
    server.serve("/scan.bin", b"<html>please log in</html>", kind="text/html")
    with pytest.raises(FetchError, match=r"web page instead of scan\.bin"):
        get(server, tmp_path, quick)
    assert leftovers(tmp_path) == []


def test_no_network(server, tmp_path, quick):
    server.stop()
    with pytest.raises(FetchError, match=r"127\.0\.0\.1:\d+ could not be reached.*check the network"):
        get(server, tmp_path, quick)
    assert quick == list(module.WAITS_S)


def test_an_unknown_host(tmp_path, quick):
    file = RemoteFile("http://no-such-host.invalid/scan.bin", "scan.bin")
    with pytest.raises(FetchError, match="could not be reached"):
        download(file, tmp_path, bar=False, pause=quick.append)


def test_a_disk_too_small_is_refused_with_numbers_before_anything_is_written(server, tmp_path, quick, monkeypatch):
    server.serve("/scan.bin", CONTENT)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(FetchError, match=r"needs 1\.0 MB more .* 1\.0 kB are free"):
        get(server, tmp_path, quick)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_keeps_what_arrived(server, tmp_path, quick, monkeypatch, number):
    served = server.serve("/scan.bin", CONTENT * 3)
    monkeypatch.setattr(module, "open", lambda *args: FullAfter(*args, 1 << 20, number), raising=False)
    with pytest.raises(FetchError, match=r"disk of .* is full after 1\.0 MB of scan\.bin; free some space"):
        get(server, tmp_path, quick, sha256=None)
    monkeypatch.undo()
    path, _ = get(server, tmp_path, quick, sha256=None)
    assert path.read_bytes() == CONTENT * 3 and served.asked[-1] == "bytes=1048576-"


class FullAfter:
    """A file on a disk with room for so many bytes."""

    def __init__(self, path, mode, room, number):
        self.stream = Path(path).open(mode)  # noqa: SIM115  closed by __exit__
        self.room, self.number = room, number

    def write(self, chunk):
        if self.room < len(chunk):
            raise OSError(self.number, "no space")
        self.room -= len(chunk)
        return self.stream.write(chunk)

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def __enter__(self):
        return self

    def __exit__(self, *about):
        self.stream.close()


def test_another_error_of_the_disk_is_not_hidden(server, tmp_path, quick, monkeypatch):
    server.serve("/scan.bin", CONTENT)
    monkeypatch.setattr(module, "open", lambda *args: FullAfter(*args, 0, errno.EIO), raising=False)
    with pytest.raises(OSError, match="no space") as caught:
        get(server, tmp_path, quick)
    assert caught.value.errno == errno.EIO


def test_an_interruption_keeps_what_arrived(server, tmp_path, quick, monkeypatch):
    served = server.serve("/scan.bin", CONTENT, cuts=[200_000])

    def interrupt(seconds):
        raise KeyboardInterrupt

    file = RemoteFile(f"{server.address}/scan.bin", "scan.bin", sha256=SHA256)
    with pytest.raises(KeyboardInterrupt):
        download(file, tmp_path, bar=False, pause=interrupt)
    assert get(server, tmp_path, quick)[0].read_bytes() == CONTENT and served.asked[-1] == "bytes=200000-"


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/b", "", "..", ".hidden", "a\\b", "C:x", "a\0b"])
def test_a_listing_cannot_choose_where_to_write(tmp_path, name):
    with pytest.raises(FetchError, match="not a plain file name"):
        download(RemoteFile("http://127.0.0.1:9/x", name), tmp_path / "in", bar=False)
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/x", "scan.bin"])
def test_only_web_addresses_are_opened(tmp_path, address):
    with pytest.raises(FetchError, match="not a web address"):
        download(RemoteFile(address, "x"), tmp_path, bar=False)


def test_a_redirect_is_followed(server, tmp_path, quick):
    server.serve("/real.bin", CONTENT)
    server.serve("/scan.bin", b"", redirect=f"{server.address}/real.bin")
    assert get(server, tmp_path, quick)[0].read_bytes() == CONTENT


def test_a_redirect_to_an_unencrypted_address_is_refused(tmp_path, monkeypatch):
    class Answer:
        url, status = "http://elsewhere.example/scan.bin", 200

        def close(self):
            """Nothing to close."""

    monkeypatch.setattr(module.urllib.request, "urlopen", lambda request, timeout: Answer())
    with pytest.raises(FetchError, match="not encrypted"):
        download(RemoteFile("https://owner.example/scan.bin", "scan.bin"), tmp_path, bar=False)


def _download_in_process(address, folder):
    download(RemoteFile(address, "scan.bin", sha256=SHA256), folder, bar=False, pause=lambda seconds: None)


def test_two_processes_at_once_fetch_it_once_and_both_find_it(server, tmp_path):
    served = server.serve("/scan.bin", CONTENT, cuts=[10_000] * 5)
    context = multiprocessing.get_context("fork")
    pair = [context.Process(target=_download_in_process, args=(f"{server.address}/scan.bin", tmp_path)) for _ in "ab"]
    for process in pair:
        process.start()
    for process in pair:
        process.join(30)
    assert [process.exitcode for process in pair] == [0, 0]
    assert (tmp_path / "scan.bin").read_bytes() == CONTENT and len(served.asked) == 6


def test_the_bar_shows_size_and_speed(server, tmp_path, capsys):
    server.serve("/scan.bin", CONTENT)
    download(RemoteFile(f"{server.address}/scan.bin", "scan.bin"), tmp_path)
    shown = capsys.readouterr().err
    assert "scan.bin" in shown and "1.02M" in shown and "B/s" in shown


def test_read_json(server, quick):
    server.serve("/api", b'{"a": [1]}', kind="application/json", failures=[502])
    assert read_json(f"{server.address}/api", pause=quick.append) == {"a": [1]}
    server.serve("/page", b"<html>", kind="text/html")
    with pytest.raises(FetchError, match="did not answer with JSON"):
        read_json(f"{server.address}/page", pause=quick.append)
    server.stop()
    with pytest.raises(FetchError, match="could not be reached"):
        read_json(f"{server.address}/api", pause=quick.append)


def test_readable_size():
    assert [readable_size(n) for n in (0, 999, 1000, 28_400_000, 27e9, 5e13)] == [
        "0 bytes", "999 bytes", "1.0 kB", "28.4 MB", "27.0 GB", "50000.0 GB",
    ]  # fmt: skip
