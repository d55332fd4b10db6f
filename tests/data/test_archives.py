import io
import shutil
import stat
import tarfile
import zipfile
from collections import namedtuple

import pytest

from medssl_nb.data import archives
from medssl_nb.data.archives import Member, is_archive, members, unpack
from medssl_nb.data.errors import FetchError

FILES = {"set/imagesTr/a.nii.gz": b"image" * 1000, "set/dataset.json": b"{}", "set/empty": b""}


def make_tar(path, files=FILES, mode="w:gz", extra=()):
    with tarfile.open(path, mode) as packed:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
        for info in extra:
            packed.addfile(info)
    return path


def make_zip(path, files=FILES, extra=()):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
        for info, content in extra:
            packed.writestr(info, content)
    return path


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zip_link(name, link):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info, link


def everything_in(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip"])
def test_contents_arrive_unchanged(tmp_path, ending):
    modes = {".tar": "w", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}
    path = tmp_path / f"set{ending}"
    make_zip(path) if ending == ".zip" else make_tar(path, mode=modes.get(ending, "w:gz"))
    assert is_archive(path)
    written = unpack(path, tmp_path / "out")
    assert {p.relative_to(tmp_path / "out").as_posix(): p.read_bytes() for p in written} == FILES
    assert {m.name: m.size for m in members(path)} == {name: len(content) for name, content in FILES.items()}


def test_other_endings_are_no_archives(tmp_path):
    assert not any(is_archive(tmp_path / name) for name in ("a.nii.gz", "a.npz", "a.gz", "a.rar", "tar"))


def test_macos_leftovers_stay_out_and_wanted_chooses(tmp_path):
    junk = {"set/._dataset.json": b"x", "__MACOSX/set/a": b"x", "set/.DS_Store": b"x", "set/labelsTr/._a.nii.gz": b"x"}
    path = make_tar(tmp_path / "set.tar.gz", {**FILES, **junk})
    unpack(path, tmp_path / "all")
    assert everything_in(tmp_path / "all") == [
        "set", "set/dataset.json", "set/empty", "set/imagesTr", "set/imagesTr/a.nii.gz",
    ]  # fmt: skip
    unpack(path, tmp_path / "some", wanted=lambda name: name.endswith(".json"))
    assert everything_in(tmp_path / "some") == ["set", "set/dataset.json"]


HOSTILE_NAMES = ["../evil", "set/../../evil", "/tmp/evil", "..\\evil", "\\evil", "C:\\evil", "C:evil"]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_a_name_that_leads_out_is_refused_before_anything_is_written(tmp_path, make, name):
    path = make(tmp_path / ("set.zip" if make is make_zip else "set.tar.gz"), {**FILES, name: b"evil"})
    with pytest.raises(FetchError, match=r"was not unpacked: its member .*evil"):
        unpack(path, tmp_path / "in" / "out")
    assert everything_in(tmp_path / "in") == [] and not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("info", "why"),
    [
        (special("set/link", tarfile.SYMTYPE, "/etc/passwd"), "is a link"),
        (special("set/link", tarfile.SYMTYPE, "dataset.json"), "is a link"),
        (special("set/hard", tarfile.LNKTYPE, "../../etc/passwd"), "is a link"),
        (special("set/device", tarfile.CHRTYPE), "neither a file nor a folder"),
        (special("set/pipe", tarfile.FIFOTYPE), "neither a file nor a folder"),
        (special("../folder", tarfile.DIRTYPE), "leads out"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, info, why):
    path = make_tar(tmp_path / "set.tar", mode="w", extra=[info])
    with pytest.raises(FetchError, match=why):
        unpack(path, tmp_path / "out")
    assert everything_in(tmp_path) == ["set.tar"]


def test_a_link_is_refused_even_where_it_is_not_wanted(tmp_path):
    path = make_tar(tmp_path / "set.tar", mode="w", extra=[special("other/link", tarfile.SYMTYPE, "/")])
    with pytest.raises(FetchError, match="is a link"):
        unpack(path, tmp_path / "out", wanted=lambda name: name.startswith("set/"))


@pytest.mark.parametrize("link", ["/etc/passwd", "dataset.json"])
def test_a_link_in_a_zip_is_refused(tmp_path, link):
    path = make_zip(tmp_path / "set.zip", extra=[zip_link("set/link", link)])
    with pytest.raises(FetchError, match="is a link"):
        unpack(path, tmp_path / "out")
    assert everything_in(tmp_path) == ["set.zip"]


def test_a_name_cut_by_a_nul_is_refused(tmp_path):
    path = make_zip(tmp_path / "set.zip", {"set/aXb": b"1"})
    path.write_bytes(path.read_bytes().replace(b"set/aXb", b"set/a\0b"))
    with pytest.raises(FetchError, match="no usable name"):
        unpack(path, tmp_path / "out")


def test_one_name_for_a_file_and_a_folder(tmp_path):
    path = make_tar(tmp_path / "set.tar", {"set/a": b"1", "set/a/b": b"2"}, mode="w")
    with pytest.raises(FetchError, match="one name for a file and a folder"):
        unpack(path, tmp_path / "out")
    assert everything_in(tmp_path) == ["set.tar"]


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.xz", ".zip"])
def test_a_truncated_archive_is_named_and_leaves_nothing(tmp_path, ending, keep):
    path = tmp_path / f"set{ending}"
    noise = {f"set/{n}": bytes((n * i * i) % 251 for i in range(9000)) for n in range(1, 4)}
    make_zip(path, noise) if ending == ".zip" else make_tar(path, noise, mode=f"w:{ending[5:]}")
    content = path.read_bytes().rstrip(b"\0") if ending == ".tar" else path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(FetchError, match=r"set\.\S+ is cut short or damaged"):
        unpack(path, tmp_path / "out")
    assert everything_in(tmp_path) == [path.name]


def test_a_changed_byte_in_a_zip_is_found(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:
        packed.writestr("set/a", b"0123456789")
    path.write_bytes(path.read_bytes().replace(b"0123456789", b"0123456780"))
    with pytest.raises(FetchError, match="cut short or damaged"):
        unpack(path, tmp_path / "out")
    assert everything_in(tmp_path) == ["set.zip"]


@pytest.mark.parametrize("ending", [".tar.gz", ".zip"])
def test_a_web_page_in_the_place_of_an_archive(tmp_path, ending):
    path = tmp_path / f"set{ending}"
    path.write_bytes(b"\n <!DOCTYPE html><html>log in</html>")
    with pytest.raises(FetchError, match="web page, not an archive"):
        unpack(path, tmp_path / "out")


def test_a_tar_that_ends_with_a_zip_is_read_as_tar(tmp_path):
    inner = make_zip(tmp_path / "inner.zip").read_bytes()
    path = make_tar(tmp_path / "set.tar", {"set/a": b"1", "set/inner.zip": inner}, mode="w")
    unpack(path, tmp_path / "out")
    assert everything_in(tmp_path / "out") == ["set", "set/a", "set/inner.zip"]


def test_a_bomb_is_met_before_it_is_written(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "set.zip", {"set/zeros": bytes(2_000_000)})
    assert path.stat().st_size < 10_000
    usage = namedtuple("usage", "total used free")
    free = archives.SPARE_BYTES + 1_000_000
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**12, 0, free))
    with pytest.raises(FetchError, match=r"more than 2\.0 MB; 1\.0 MB are free"):
        unpack(path, tmp_path / "out")
    assert everything_in(tmp_path) == ["set.zip"]


def test_an_existing_folder_is_not_touched(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(FetchError, match="exists already"):
        unpack(make_zip(tmp_path / "set.zip"), tmp_path / "out")
    assert everything_in(tmp_path / "out") == ["mine"]


def test_the_second_line_of_defence(tmp_path):
    with pytest.raises(FetchError, match="outside its folder"):
        archives._inside(tmp_path, "../evil")


def test_a_locked_zip(tmp_path):
    path = make_zip(tmp_path / "set.zip", {"set/a": b"1"})
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(FetchError, match="locked with a password"):
        unpack(path, tmp_path / "out")


def test_a_member_says_what_it_is(tmp_path):
    path = make_tar(tmp_path / "a.tar", {"x": b"12"}, mode="w", extra=[special("d", tarfile.DIRTYPE)])
    assert list(members(path)) == [Member("x", 2, "file"), Member("d", 0, "folder")]
