import io
import json
import multiprocessing
import re
import shutil
import tarfile
import zipfile
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from medssl_nb.data import download as download_module
from medssl_nb.data.catalogue import ByHand, Count, Direct, GitHub, Zenodo, find
from medssl_nb.data.checksums import LEDGER, folder_digest
from medssl_nb.data.download import RemoteFile
from medssl_nb.data.errors import FetchError
from medssl_nb.data.fetch import _lay_out, fetch, main, run, zenodo_files


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(download_module, "WAITS_S", (0, 0))


def nifti_bytes(array):
    return nibabel.Nifti1Image(array, np.eye(4)).to_bytes()


def decathlon_files(task="Task04_Hippocampus", cases=3, values=(0, 1, 2)):
    """Archive name -> content, as a Decathlon archive holds it, with macOS leftovers."""
    import gzip

    files, entries = {}, []
    for n in range(1, cases + 1):
        image = np.random.default_rng(n).integers(0, 1000, (6, 5, 4)).astype(np.int16)
        for kind, array in (("imagesTr", image), ("labelsTr", np.resize(np.array(values, np.uint8), (6, 5, 4)))):
            files[f"{task}/{kind}/hippocampus_{n:03d}.nii.gz"] = gzip.compress(nifti_bytes(array), mtime=0)
            files[f"{task}/{kind}/._hippocampus_{n:03d}.nii.gz"] = b"mac"
        pair = f"Tr/hippocampus_{n:03d}.nii.gz"
        entries.append({"image": f"./images{pair}", "label": f"./labels{pair}"})
    files[f"{task}/imagesTs/hippocampus_900.nii.gz"] = files[f"{task}/imagesTr/hippocampus_001.nii.gz"]
    labels = {"0": "background", "1": "Anterior", "2": "Posterior"}
    description = {"modality": {"0": "MRI"}, "labels": labels, "training": entries, "test": []}
    files[f"{task}/dataset.json"] = json.dumps(description).encode()
    return files


def tar(files, mode="w", order=sorted):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        for name in order(files):
            info = tarfile.TarInfo(name)
            info.size = len(files[name])
            archive.addfile(info, io.BytesIO(files[name]))
    return packed.getvalue()


def as_zip(files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def md5(content):
    import hashlib

    return hashlib.md5(content).hexdigest()


LAYOUT = (
    Count("dataset.json", 1),
    Count("imagesTr/*.nii.gz", 3),
    Count("labelsTr/*.nii.gz", 3),
    Count("imagesTs/*", 7, False),
)


def small_decathlon(server, content, **changes):
    file = RemoteFile(f"{server.address}/Task04.tar", "Task04.tar", **{"md5": md5(content), **changes})
    return replace(find("msd_hippocampus"), access=Direct((file,), "a test"), layout=LAYOUT)


def visible(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


def test_from_nothing_to_a_cohort(server, tmp_path, capsys, monkeypatch):
    content = tar(decathlon_files())
    server.serve("/Task04.tar", content, cuts=[1000])
    assert run(small_decathlon(server, content), ["--to", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "licence: CC BY-SA 4.0" in told and "address: read in a test; not tried by us" in told
    assert "1 files imagesTs/*, expected 7 (a number from memory)" in told
    assert 'load_cohort("hippocampus")' in told and f"MEDSSL_DATA={tmp_path}" in told
    assert sorted(p.name for p in (tmp_path / "hippocampus" / "imagesTr").iterdir()) == [
        "hippocampus_001.nii.gz", "hippocampus_002.nii.gz", "hippocampus_003.nii.gz",
    ]  # fmt: skip
    assert visible(tmp_path) == ["downloads", "hippocampus"] and visible(tmp_path / "downloads") == []
    assert not (tmp_path / LEDGER).exists(), "its checksum is in the catalogue"

    from medssl_nb.data.folders import folder_cohort
    from medssl_nb.data.splits import Split

    cohort = folder_cohort(tmp_path / "hippocampus", split=Split(("hippocampus_001",), (), (), (("hippocampus_001",),)))
    assert cohort.cases["hippocampus_001"].label().max() == 2 and cohort.extra


def test_a_second_run_downloads_nothing(server, tmp_path, capsys):
    content = tar(decathlon_files())
    served = server.serve("/Task04.tar", content)
    data_set = small_decathlon(server, content)
    run(data_set, ["--to", str(tmp_path)])
    assert run(data_set, ["--to", str(tmp_path)]) == 0
    assert "is there already and passes the check, 3 labelled and 1 further scans" in capsys.readouterr().out
    assert len(served.asked) == 1


def test_the_archive_is_kept_on_request(server, tmp_path):
    content = tar(decathlon_files())
    server.serve("/Task04.tar", content)
    fetch(small_decathlon(server, content), tmp_path, keep_archive=True, bar=False)
    assert (tmp_path / "downloads" / "msd_hippocampus" / "Task04.tar").read_bytes() == content


def test_check_tells_good_from_bad(server, tmp_path, capsys):
    content = tar(decathlon_files())
    server.serve("/Task04.tar", content)
    data_set = small_decathlon(server, content)
    check = ["--check", "--to", str(tmp_path)]
    assert run(data_set, check) == 1 and "there is nothing at" in capsys.readouterr().err
    fetch(data_set, tmp_path, bar=False)
    assert run(data_set, check) == 0 and "whole, 3 labelled" in capsys.readouterr().out
    (tmp_path / "hippocampus" / "imagesTr" / "hippocampus_002.nii.gz").unlink()
    assert run(data_set, check) == 1
    assert "missing: imagesTr/hippocampus_002.nii.gz" in capsys.readouterr().err


def test_check_looks_in_all_data_folders(server, tmp_path, monkeypatch, capsys):
    content = tar(decathlon_files())
    server.serve("/Task04.tar", content)
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDSSL_DATA", str(tmp_path / "elsewhere"))
    data_set = small_decathlon(server, content)
    assert run(data_set, ["--check"]) == 1
    assert "python data_scripts/msd_hippocampus.py" in capsys.readouterr().err
    fetch(data_set, tmp_path / "elsewhere", bar=False)
    assert run(data_set, ["--check"]) == 0


def test_the_default_place_is_the_cache(server, tmp_path, monkeypatch, capsys):
    content = tar(decathlon_files())
    server.serve("/Task04.tar", content)
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path))
    assert run(small_decathlon(server, content), []) == 0
    assert (tmp_path / "data" / "hippocampus" / "dataset.json").is_file()
    assert "MEDSSL_DATA" not in capsys.readouterr().out


def test_an_incomplete_folder_that_is_there_is_not_touched(server, tmp_path, capsys):
    content = tar(decathlon_files())
    served = server.serve("/Task04.tar", content)
    (tmp_path / "hippocampus").mkdir()
    (tmp_path / "hippocampus" / "mine").write_text("mine")
    assert run(small_decathlon(server, content), ["--to", str(tmp_path)]) == 1
    assert "exists but is not whole" in capsys.readouterr().err
    assert visible(tmp_path / "hippocampus") == ["mine"] and served.asked == []


# ---------------------------------------------------------------- what goes wrong, and that nothing is put in place
def hostile():
    return tar({**decathlon_files(), "../evil": b"evil"})


BAD_CONTENT = {
    "hostile archive": (hostile(), r"member '\.\./evil' leads out of the folder"),
    "truncated archive": (tar(decathlon_files())[:5000], "cut short or damaged"),
    "too few scans": (tar(decathlon_files(cases=2)), r"2 files imagesTr/\*\.nii\.gz, expected 3"),
    "strange labels": (tar(decathlon_files(values=(0, 9))), r"label values \[9\]"),
    "something else": (tar({"other/readme.txt": b"hello"}), "not the data set this script knows"),
    "a web page": (b"<!doctype html><title>moved</title>", "web page, not an archive"),
}


@pytest.mark.parametrize(("content", "message"), BAD_CONTENT.values(), ids=BAD_CONTENT)
def test_bad_content_is_never_put_in_place(server, tmp_path, capsys, content, message):
    server.serve("/Task04.tar", content)
    assert run(small_decathlon(server, content), ["--to", str(tmp_path / "data")]) == 1
    told = capsys.readouterr().err
    assert re.search(message, told) and "Traceback" not in told and "Owner's page: http://medicaldecathlon.com" in told
    assert visible(tmp_path / "data") == ["downloads"] and visible(tmp_path) == ["data"]
    assert [p for p in (tmp_path / "data").iterdir() if p.name.startswith(".hippocampus")] == []


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"status": 404}, "the address has moved"),
        ({"cuts": [0] * 9}, "broke off again and again"),
        ({"kind": "text/html"}, "web page instead of Task04.tar"),
    ],
)
def test_a_failed_download_ends_in_one_sentence(server, tmp_path, capsys, how, message):
    content = tar(decathlon_files())
    server.serve("/Task04.tar", content, **how)
    assert run(small_decathlon(server, content), ["--to", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "hippocampus").exists()


def test_a_wrong_checksum(server, tmp_path, capsys):
    server.serve("/Task04.tar", tar(decathlon_files()))
    assert run(small_decathlon(server, b"other"), ["--to", str(tmp_path)]) == 1
    assert f"recorded is {md5(b'other')}" in capsys.readouterr().err
    assert list((tmp_path / "downloads" / "msd_hippocampus").glob("Task04*")) == []


def test_a_disk_that_fills_up_while_unpacking(server, tmp_path, capsys, monkeypatch):
    content = tar(decathlon_files())
    server.serve("/Task04.tar", content)

    def full(*args):
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    assert run(small_decathlon(server, content), ["--to", str(tmp_path)]) == 1
    assert "the disk is full (somewhere); mend that" in capsys.readouterr().err
    assert visible(tmp_path) == ["downloads"]
    monkeypatch.undo()
    assert run(small_decathlon(server, content), ["--to", str(tmp_path)]) == 0


def test_a_file_in_the_place_of_the_data_folder(server, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert run(small_decathlon(server, b""), ["--to", str(tmp_path / "file")]) == 1
    assert "is a file; name a folder with --to" in capsys.readouterr().err


def test_an_interruption_is_told_and_resumed(server, tmp_path, capsys, monkeypatch):
    content = tar(decathlon_files())
    served = server.serve("/Task04.tar", content, cuts=[3000])

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(download_module, "_give_up_or_wait", interrupt)
        assert run(small_decathlon(server, content), ["--to", str(tmp_path)]) == 130
    assert "Run this again to go on" in capsys.readouterr().err
    assert run(small_decathlon(server, content), ["--to", str(tmp_path)]) == 0
    assert served.asked == [None, "bytes=3000-"]


def test_leftovers_of_a_killed_run_are_cleared(server, tmp_path):
    content = tar(decathlon_files())
    server.serve("/Task04.tar", content)
    (tmp_path / ".hippocampus-abc" / "tree").mkdir(parents=True)
    fetch(small_decathlon(server, content), tmp_path, bar=False)
    assert not (tmp_path / ".hippocampus-abc").exists()


def test_a_defect_keeps_its_traceback(server, tmp_path, monkeypatch):
    monkeypatch.setattr("medssl_nb.data.fetch.arrange", lambda *args: 1 / 0)
    content = tar(decathlon_files())
    server.serve("/Task04.tar", content)
    with pytest.raises(ZeroDivisionError):
        run(small_decathlon(server, content), ["--to", str(tmp_path)])
    assert not (tmp_path / "hippocampus").exists()


def _run_in_process(data_set, folder):
    raise SystemExit(run(data_set, ["--to", str(folder)]))


def test_two_scripts_at_once(server, tmp_path):
    content = tar(decathlon_files())
    served = server.serve("/Task04.tar", content, cuts=[2000] * 3)
    data_set = small_decathlon(server, content)
    context = multiprocessing.get_context("fork")
    pair = [context.Process(target=_run_in_process, args=(data_set, tmp_path)) for _ in "ab"]
    for process in pair:
        process.start()
    for process in pair:
        process.join(60)
    assert [process.exitcode for process in pair] == [0, 0] and len(served.asked) == 4
    assert visible(tmp_path) == ["downloads", "hippocampus"]


# ---------------------------------------------------------------- trust on first use
def busi(server, **changes):
    file = RemoteFile(f"{server.address}/busi.zip", "busi.zip", **changes)
    layout = (Count("benign/*.png", 2), Count("normal/*.png"))
    return replace(find("busi"), access=Direct((file,), "a test"), layout=layout)


BUSI = {"Dataset_BUSI_with_GT/benign/benign (1).png": b"1", "Dataset_BUSI_with_GT/benign/benign (1)_mask.png": b"2",
        "Dataset_BUSI_with_GT/normal/normal (1).png": b"3"}  # fmt: skip


def test_the_first_checksum_is_recorded_and_held_against_later_ones(server, tmp_path, capsys):
    served = server.serve("/busi.zip", as_zip(BUSI))
    assert run(busi(server), ["--to", str(tmp_path)]) == 0
    assert "seen for the first time" in capsys.readouterr().out
    assert (tmp_path / "busi" / "benign" / "benign (1).png").read_bytes() == b"1"
    entry = json.loads((tmp_path / LEDGER).read_text())["busi/busi.zip"]
    assert entry["of"] == "file" and len(entry["sha256"]) == 64

    shutil.rmtree(tmp_path / "busi")
    assert run(busi(server), ["--to", str(tmp_path)]) == 0
    assert "the same as before" in capsys.readouterr().out

    shutil.rmtree(tmp_path / "busi")
    served.content = as_zip({**BUSI, "Dataset_BUSI_with_GT/new": b"4"})
    assert run(busi(server), ["--to", str(tmp_path)]) == 1
    assert "is not what it was on 2" in capsys.readouterr().err
    assert not (tmp_path / "busi").exists()
    assert json.loads((tmp_path / LEDGER).read_text())["busi/busi.zip"] == entry


def test_a_failed_check_records_nothing(server, tmp_path):
    server.serve("/busi.zip", as_zip({"a/readme": b"1"}))
    assert run(busi(server), ["--to", str(tmp_path)]) == 1
    assert not (tmp_path / LEDGER).exists()


@pytest.mark.parametrize("damage", ["{", "[]", '{"a": 1}'])
def test_a_damaged_record_is_not_overwritten(server, tmp_path, capsys, damage):
    server.serve("/busi.zip", as_zip(BUSI))
    (tmp_path / LEDGER).write_text(damage)
    assert run(busi(server), ["--to", str(tmp_path)]) == 1
    assert "sha256.json" in capsys.readouterr().err and (tmp_path / LEDGER).read_text() == damage


# ---------------------------------------------------------------- GitHub: packed anew at each request
def masks(server):
    access = GitHub("owner/repo", "f" * 40, ("data/prior knowledge",), "a test", server.address)
    return replace(find("retinal_vessel_masks"), access=access, layout=(Count("*/*_Label.png", 2),))


REPOSITORY = {
    "repo-ffff/data/prior knowledge/DSA/1_Label.png": b"1",
    "repo-ffff/data/prior knowledge/OCTA/1_Label.png": b"2",
    "repo-ffff/code/train.py": b"raise SystemExit",
}


def test_only_the_wanted_folder_of_a_repository_is_unpacked(server, tmp_path):
    server.serve(f"/owner/repo/tar.gz/{'f' * 40}", tar(REPOSITORY, "w:gz"), chunked=True, etag=None)
    folder = fetch(masks(server), tmp_path, bar=False)
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.*")) == [
        "DSA/1_Label.png",
        "OCTA/1_Label.png",
    ]


def test_the_rest_of_a_repository_never_reaches_the_disk(server, tmp_path):
    (tmp_path / "repo.tar.gz").write_bytes(tar(REPOSITORY, "w:gz"))
    _lay_out(masks(server), [tmp_path / "repo.tar.gz"], tmp_path / "tree", bar=False)
    assert list((tmp_path / "tree").rglob("*.py")) == [] and len(list((tmp_path / "tree").rglob("*.png"))) == 2


def test_other_bytes_with_the_same_content_are_the_same_set(server, tmp_path, capsys):
    served = server.serve(f"/owner/repo/tar.gz/{'f' * 40}", tar(REPOSITORY, "w:gz"))
    assert run(masks(server), ["--to", str(tmp_path)]) == 0
    repacked = tar(REPOSITORY, "w:gz", order=lambda names: sorted(names, reverse=True))
    assert repacked != served.content
    served.content = repacked
    shutil.rmtree(tmp_path / "retinal_vessel_masks")
    assert run(masks(server), ["--to", str(tmp_path)]) == 0
    assert "retinal_vessel_masks/contents: the same as before" in capsys.readouterr().out
    served.content = tar({**REPOSITORY, "repo-ffff/data/prior knowledge/DSA/1_Label.png": b"changed"}, "w:gz")
    shutil.rmtree(tmp_path / "retinal_vessel_masks")
    assert run(masks(server), ["--to", str(tmp_path)]) == 1
    assert "SHA-256 of the contents" in capsys.readouterr().err


def test_an_archive_fetched_with_a_browser_has_the_same_contents(server, tmp_path, capsys):
    server.serve(f"/owner/repo/tar.gz/{'f' * 40}", tar(REPOSITORY, "w:gz"))
    assert run(masks(server), ["--to", str(tmp_path / "data")]) == 0
    shutil.rmtree(tmp_path / "data" / "retinal_vessel_masks")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "repo-main.zip").write_bytes(as_zip(REPOSITORY))
    (tmp_path / "mine" / "holiday.zip").write_bytes(b"not for us")
    assert run(masks(server), ["--to", str(tmp_path / "data"), "--from", str(tmp_path / "mine")]) == 0
    assert "contents: the same as before" in capsys.readouterr().out
    assert visible(tmp_path / "mine") == ["holiday.zip", "repo-main.zip"]


def test_folder_digest_depends_on_names_and_contents_only(tmp_path):
    for place, name, content in (("a", "x", "1"), ("b", "x", "1"), ("c", "y", "1"), ("d", "x", "2")):
        (tmp_path / place).mkdir()
        (tmp_path / place / name).write_text(content)
    digests = [folder_digest(tmp_path / place) for place in "abcd"]
    assert digests[0] == digests[1] and len(set(digests)) == 3


# ---------------------------------------------------------------- Zenodo
def zenodo(server, content, name="amos22.zip", **changes):
    entry = {"key": name, "size": len(content), "checksum": f"md5:{md5(content)}",
             "links": {"self": f"{server.address}/api/records/7/files/{name}/content"}}  # fmt: skip
    server.serve("/api/records/7", json.dumps({"files": [{**entry, **changes}]}).encode(), kind="application/json")
    server.serve(f"/api/records/7/files/{name}/content", content)
    layout = (Count("dataset.json", 1), Count("imagesTr/*.nii.gz", 3))
    return replace(find("amos22"), access=Zenodo(7, ("amos22.zip",), "a test", server.address), layout=layout)


def test_zenodo_is_asked_for_size_checksum_and_address(server, tmp_path):
    content = as_zip(decathlon_files("amos22"))
    data_set = zenodo(server, content)
    assert zenodo_files(data_set.access)[0].size == len(content)
    assert (fetch(data_set, tmp_path, bar=False) / "dataset.json").is_file()
    assert "amos22/amos22.zip" in json.loads((tmp_path / LEDGER).read_text())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checksum": "md5:" + "0" * 32}, "recorded is 0000"),
        ({"size": 5}, "5 are recorded"),
        ({"key": "other.zip"}, "has no file amos22.zip \\(it has other.zip\\)"),
        ({"links": {}}, "does not list its files as it used to"),
        ({"checksum": None}, "does not list its files as it used to"),
        ({"links": {"self": "file:///etc/passwd"}}, "not a web address"),
    ],
)
def test_a_zenodo_record_that_does_not_fit(server, tmp_path, changes, message):
    data_set = zenodo(server, as_zip(decathlon_files("amos22")), **changes)
    with pytest.raises(FetchError, match=message):
        fetch(data_set, tmp_path, bar=False)
    assert not (tmp_path / "amos22").exists()


def test_a_zenodo_record_that_is_gone(server, tmp_path):
    access = Zenodo(8, ("amos22.zip",), "a test", server.address)
    with pytest.raises(FetchError, match="404"):
        fetch(replace(find("amos22"), access=access), tmp_path, bar=False)


# ---------------------------------------------------------------- files that the user fetched
def by_hand(**changes):
    layout = (Count("img/img*.nii.gz", 2), Count("label/label*.nii.gz", 2))
    return replace(find("btcv"), layout=layout, **changes)


def btcv_files(top="RawData/Training"):
    import gzip

    scan = gzip.compress(nifti_bytes(np.zeros((6, 5, 4), np.int16)), mtime=0)
    return {f"{top}/{kind}/{kind}{n:04d}.nii.gz": scan for n in (1, 21) for kind in ("img", "label")}


def write_files(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def test_tier_c_says_where_to_register_and_what_to_fetch(tmp_path, capsys):
    assert run(by_hand(), ["--to", str(tmp_path / "data")]) == 1
    told = capsys.readouterr().err
    assert "1. register at https://www.synapse.org" in told and "RawData.zip" in told
    assert "2 x img/img*.nii.gz" in told and "python data_scripts/btcv.py --from THAT_FOLDER" in told
    assert not (tmp_path / "data").exists()


def test_sets_without_account_say_open(tmp_path, capsys):
    assert run(by_hand(access=ByHand("all of it", account=False)), ["--to", str(tmp_path)]) == 1
    assert "1. open https://" in capsys.readouterr().err


@pytest.mark.parametrize("packed", [True, False])
def test_placed_files_are_verified_arranged_and_left_alone(tmp_path, capsys, packed):
    mine = tmp_path / "mine"
    mine.mkdir()
    if packed:
        (mine / "RawData.zip").write_bytes(as_zip(btcv_files()))
    else:
        write_files(mine, btcv_files())
    before = sorted(p.relative_to(mine).as_posix() for p in mine.rglob("*"))
    assert run(by_hand(), ["--from", str(mine), "--to", str(tmp_path / "data")]) == 0
    assert sorted(p.name for p in (tmp_path / "data" / "btcv" / "imagesTr").iterdir()) == [
        "btcv_0001.nii.gz",
        "btcv_0021.nii.gz",
    ]
    assert sorted(p.relative_to(mine).as_posix() for p in mine.rglob("*")) == before
    assert f'load_cohort("{tmp_path}/data/btcv")' in capsys.readouterr().out


def test_what_is_missing_is_listed(tmp_path, capsys):
    files = btcv_files()
    files.pop("RawData/Training/label/label0021.nii.gz")
    write_files(tmp_path / "mine", files)
    assert run(by_hand(), ["--from", str(tmp_path / "mine"), "--to", str(tmp_path / "data")]) == 1
    told = capsys.readouterr().err
    assert "1 files label/label*.nii.gz, expected 2" in told and "img/" not in told.split("Missing:")[1].split("Put")[0]
    assert not (tmp_path / "data" / "btcv").exists()


def test_a_folder_that_is_not_there(tmp_path, capsys):
    assert run(by_hand(), ["--from", str(tmp_path / "no"), "--to", str(tmp_path / "data")]) == 1
    assert "is not a folder" in capsys.readouterr().err


def test_an_open_set_can_be_taken_from_a_folder_without_network(server, tmp_path, capsys):
    content = tar(decathlon_files())
    data_set = small_decathlon(server, content)
    server.stop()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "Task04.tar").write_bytes(content)
    options = ["--from", str(tmp_path / "mine"), "--to", str(tmp_path / "data")]
    assert run(data_set, options) == 0
    assert (tmp_path / "mine" / "Task04.tar").is_file()
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "mine" / "Task04.tar").write_bytes(content[:-1] + b"!")
    assert run(data_set, options) == 1
    assert "it is damaged or another file" in capsys.readouterr().err


def test_missing_archives_of_an_open_set_are_listed_by_name(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "stare-images.tar").write_bytes(b"")
    assert main("stare", ["--from", str(tmp_path / "mine"), "--to", str(tmp_path / "data")]) == 1
    told = capsys.readouterr().err
    assert "file labels-ah.tar" in told and "file labels-vk.tar" in told and "file stare-images.tar" not in told


def test_several_archives_each_get_their_own_folder(server, tmp_path):
    files = []
    for name, member in (
        ("stare-images.tar", "im1.ppm.gz"),
        ("labels-ah.tar", "im1.ah.ppm.gz"),
        ("labels-vk.tar", "im1.vk.ppm.gz"),
    ):
        content = tar({member: name.encode()})
        server.serve(f"/{name}", content)
        files.append(RemoteFile(f"{server.address}/{name}", name))
    folder = fetch(replace(find("stare"), access=Direct(tuple(files), "a test")), tmp_path, bar=False)
    assert (folder / "labels-ah" / "im1.ah.ppm.gz").read_bytes() == b"labels-ah.tar"


def test_plain_files_need_no_unpacking(server, tmp_path):
    names = [f"{n}mnist3d.npz" for n in ("organ", "nodule", "adrenal", "fracture", "vessel", "synapse")]
    for name in names:
        server.serve(f"/{name}", b"PK npz looks like a zip")
    files = tuple(RemoteFile(f"{server.address}/{name}", name) for name in names)
    folder = fetch(replace(find("medmnist3d"), access=Direct(files, "a test")), tmp_path, bar=False)
    assert visible(folder) == sorted(names)
