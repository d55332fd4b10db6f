"""Fetch one data set: download or take what the user placed, check, unpack, arrange, check again, give it its name.

The scripts in `data_scripts/` call `main` with the name of their set. Everything happens in hidden folders beside the
goal; the folder that `load_cohort` looks for appears in one step, at the end, when all checks have passed.
"""

import argparse
import errno
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from medssl_nb.data.archives import ENDINGS, is_archive, unpack
from medssl_nb.data.arrange import arrange, link_file, link_tree
from medssl_nb.data.catalogue import ByHand, DataSet, Direct, GitHub, Zenodo, find
from medssl_nb.data.checksums import check_digests, compare_with_ledger, file_digests, folder_digest, write_ledger
from medssl_nb.data.download import RemoteFile, download, one_at_a_time, read_json, readable_size
from medssl_nb.data.errors import FetchError
from medssl_nb.data.locations import cache_folder, find_dataset
from medssl_nb.data.verify import Findings, check_arranged, check_layout, locate

_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your disk quota is used up",
    errno.EACCES: "this folder may not be written or read",
    errno.EPERM: "this is not permitted",
    errno.EROFS: "the disk is read-only",
}


def main(name: str, argv: Sequence[str] | None = None) -> int:
    """Command line of one data set. Returns the exit code: 0 done, 1 not done (the reason is printed), 130 stopped."""
    return run(find(name), argv)


def run(data_set: DataSet, argv: Sequence[str] | None = None) -> int:
    """As `main`, for a row of the catalogue or one like it."""
    options = _parser(data_set).parse_args(argv)
    to = (options.to or cache_folder() / "data").expanduser()
    try:
        if options.check:
            return _report(data_set, to / data_set.folder if options.to else find_dataset(data_set.folder))
        given = options.given.expanduser() if options.given else None
        fetch(data_set, to, given=given, keep_archive=options.keep_archive)
    except FetchError as error:
        print(f"\n{data_set.name}: {error}\nOwner's page: {data_set.page}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in _DISK:
            raise
        where = f" ({error.filename})" if error.filename else ""
        print(
            f"\n{data_set.name}: {_DISK[error.errno]}{where}; mend that or choose --to FOLDER, then run this again.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(f"\n{data_set.name}: stopped. Run this again to go on where it stopped.", file=sys.stderr)
        return 130
    return 0


def fetch(
    data_set: DataSet, to: Path, *, given: Path | None = None, keep_archive: bool = False, bar: bool = True
) -> Path:
    """Bring a data set into the data folder `to`.

    Args:
        data_set: a row of the catalogue.
        to: data folder; the set goes to `to / data_set.folder`.
        given: folder with files that the user fetched; nothing is downloaded then, and nothing in it is changed.
        keep_archive: keep what was downloaded, in `to/downloads`.
        bar: show progress.

    Returns:
        The folder of the set.

    Raises:
        FetchError: what failed and what to do. Data that were there before are untouched.
    """
    target = to / data_set.folder
    _introduce(data_set)
    if isinstance(data_set.access, ByHand) and given is None and not target.exists():
        raise FetchError(_ask_for_files(data_set, data_set.access))
    if to.exists() and not to.is_dir():
        raise FetchError(f"{to} is a file; name a folder with --to.")
    to.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(to / "downloads" / f".{data_set.name}.lock"):
        if target.exists():
            return _already_there(data_set, target)
        for leftover in to.glob(f".{data_set.folder}-*"):  # of a run that was killed; the lock says none is alive
            shutil.rmtree(leftover)
        kept = to / "downloads" / data_set.name
        sources = _find_given(data_set, given) if given else _download_all(data_set, kept, bar)
        with tempfile.TemporaryDirectory(prefix=f".{data_set.folder}-", dir=to) as stage:
            ready, seen = _prepare(data_set, sources, Path(stage), to, bar)
            ready.rename(target)
        for name, sha256, of in seen:
            write_ledger(to, name, sha256, of)
        if not given and not keep_archive:
            shutil.rmtree(kept)
    print(f"{data_set.name}: in {target}.{_how_to_use(data_set, to)}")
    return target


def _prepare(
    data_set: DataSet, sources: list[Path], stage: Path, to: Path, bar: bool
) -> tuple[Path, list[tuple[str, str, str]]]:
    """From checked sources to a checked folder below `stage`. Returns it and what belongs in the ledger."""
    seen = [] if _packed_on_request(data_set) else _compare_files(data_set, sources, to)
    tree = stage / "tree"
    _lay_out(data_set, sources, tree, bar)
    root = locate(tree, data_set.layout)
    _stop_at_problems(
        data_set, check_layout(root, data_set.layout), "what arrived is not the data set this script knows"
    )
    if _packed_on_request(data_set) and all(is_archive(source) for source in sources):
        name, sha256 = f"{data_set.name}/contents", folder_digest(root)
        _say_whether_known(name, compare_with_ledger(to, name, sha256, "contents"), sha256)
        seen = [(name, sha256, "contents")]
    ready = stage / "ready"
    arrange(data_set, root, ready)
    found = check_arranged(data_set, ready)
    _stop_at_problems(data_set, found, "the arranged data do not pass the check")
    print(f"{data_set.name}: checked, {found.summary}")
    return ready, seen


# ---------------------------------------------------------------- where the files come from
def _download_all(data_set: DataSet, folder: Path, bar: bool) -> list[Path]:
    access = data_set.access
    print(f"address: read in {access.source}; not tried by us")
    paths = []
    for file in _remote_files(access):
        path, _ = download(file, folder, bar=bar)
        print(f"{data_set.name}: {path.name} is whole, {readable_size(path.stat().st_size)}")
        paths.append(path)
    return paths


def _remote_files(access: Direct | Zenodo | GitHub) -> list[RemoteFile]:
    if isinstance(access, Direct):
        return list(access.files)
    if isinstance(access, GitHub):
        return [access.file]
    listed = {file.name: file for file in zenodo_files(access)}
    missing = [name for name in access.names if name not in listed]
    if missing:
        raise FetchError(
            f"Zenodo record {access.record} has no file {missing[0]} (it has {', '.join(sorted(listed)) or 'none'}): "
            "the record has changed. Download what you need by hand and run this again with --from FOLDER."
        )
    return [listed[name] for name in access.names]


def zenodo_files(access: Zenodo) -> list[RemoteFile]:
    """Name, size, MD5 and address of every file of a Zenodo record, as Zenodo states them now."""
    address = f"{access.server}/api/records/{access.record}"
    record = read_json(address)
    try:
        files = []
        for entry in record["files"]:
            algorithm, _, digest = entry["checksum"].partition(":")
            md5 = digest if algorithm == "md5" else None
            files.append(RemoteFile(entry["links"]["self"], entry["key"], int(entry["size"]), md5=md5))
        return files
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FetchError(
            f"{address} does not list its files as it used to ({type(error).__name__}: {error}); download by hand and "
            "run this again with --from FOLDER."
        ) from error


def _expected_names(access) -> list[str]:
    if isinstance(access, Direct):
        return [file.name for file in access.files]
    return list(access.names) if isinstance(access, Zenodo) else []


def _find_given(data_set: DataSet, given: Path) -> list[Path]:
    """What to use of a user's folder: the files that would be downloaded, the unpacked data, or archives."""
    if not given.is_dir():
        raise FetchError(f"{given} is not a folder; give --from the folder that holds the files.")
    names = _expected_names(data_set.access)
    if names and all((given / name).is_file() for name in names):
        for file in data_set.access.files if isinstance(data_set.access, Direct) else ():
            check_digests(str(given / file.name), file.expected(), file_digests(given / file.name, file.expected()))
        return [given / name for name in names]
    root = locate(given, data_set.layout)
    lacking = check_layout(root, data_set.layout)
    if not lacking.problems:
        return [root]
    mine = data_set.access.repository.split("/")[1] if isinstance(data_set.access, GitHub) else ""
    archives = sorted(p for p in given.iterdir() if is_archive(p) and mine in p.name and p.name not in names)
    if archives and not names:
        return archives
    missing = [f"file {name}" for name in names if not (given / name).is_file()] or lacking.problems
    raise FetchError(
        f"{given} does not hold the whole set. Missing:\n  " + "\n  ".join(missing) + "\n"
        f"Put the packed or unpacked files of this set, and nothing else, into one folder and run `{data_set.command} "
        f"--from {given}` again."
    )


def _ask_for_files(data_set: DataSet, access: ByHand) -> str:
    first = "register at" if access.account else "open"
    kinds = "\n  ".join(f"{count.number or 'some'} x {count.pattern}" for count in data_set.layout)
    return (
        f"this set cannot be fetched by a script.\n1. {first} {data_set.page}\n2. download into a folder of its own: "
        f"{access.files}\n3. run `{data_set.command} --from THAT_FOLDER`\n"
        f"The folder, or the archives in it, must hold:\n  {kinds}"
    )


# ---------------------------------------------------------------- checks and messages
def _packed_on_request(data_set: DataSet) -> bool:
    access = data_set.access
    return isinstance(access, GitHub) or (isinstance(access, Direct) and access.packed_on_request)


def _compare_files(data_set: DataSet, sources: list[Path], to: Path) -> list[tuple[str, str, str]]:
    """Compare each file with the ledger; those whose checksum the catalogue records were compared with that."""
    recorded = {f.name for f in data_set.access.files if f.expected()} if isinstance(data_set.access, Direct) else set()
    seen = []
    for source in sources:
        if source.is_file() and source.name not in recorded:
            name, sha256 = f"{data_set.name}/{source.name}", file_digests(source)["sha256"]
            _say_whether_known(name, compare_with_ledger(to, name, sha256, "file"), sha256)
            seen.append((name, sha256, "file"))
    return seen


def _say_whether_known(name: str, state: str, sha256: str) -> None:
    text = "the same as before" if state == "known" else f"seen for the first time, SHA-256 {sha256} goes on record"
    print(f"{name}: {text}")


def _lay_out(data_set: DataSet, sources: list[Path], tree: Path, bar: bool) -> None:
    """Unpack or link all sources below `tree`; several archives each get a folder of their own name."""
    folders = data_set.access.folders if isinstance(data_set.access, GitHub) else ()

    def wanted(name: str) -> bool:
        return not folders or any(f"/{folder}/" in f"/{name}" for folder in folders)

    for source in sources:
        if source.is_dir():
            link_tree(source, tree)
        elif not is_archive(source):
            link_file(source, tree / source.name)
        else:
            stem = next(source.name[: -len(end)] for end in ENDINGS if source.name.lower().endswith(end))
            unpack(source, tree if len(sources) == 1 else tree / stem, wanted=wanted, bar=bar)


def _stop_at_problems(data_set: DataSet, found: Findings, what: str) -> None:
    for remark in found.remarks:
        print(f"{data_set.name}: note: {remark}")
    if found.problems:
        raise FetchError(
            f"{what}:\n  "
            + "\n  ".join(found.problems)
            + "\nNothing was put in place. If the owner's page announces a new "
            "version, this project needs a change; else fetch again."
        )


def _already_there(data_set: DataSet, target: Path) -> Path:
    found = check_arranged(data_set, target)
    if found.problems:
        raise FetchError(
            f"{target} exists but is not whole:\n  "
            + "\n  ".join(found.problems)
            + "\nNothing was changed. Move that folder "
            "away and run this again."
        )
    print(f"{data_set.name}: is there already and passes the check, {found.summary}: {target}")
    return target


def _report(data_set: DataSet, target: Path | None) -> int:
    if target is None or not target.is_dir():
        place = f" at {target}" if target else f" in a folder {data_set.folder} of the data folders"
        raise FetchError(f"there is nothing{place}; fetch it with `{data_set.command}`.")
    found = check_arranged(data_set, target)
    for remark in found.remarks:
        print(f"{data_set.name}: note: {remark}")
    if found.problems:
        raise FetchError(
            f"{target} is not whole:\n  " + "\n  ".join(found.problems) + "\nMove it away and fetch it again."
        )
    print(f"{data_set.name}: whole, {found.summary}: {target}")
    return 0


def _introduce(data_set: DataSet) -> None:
    print(data_set.title)
    print(f"licence: {data_set.licence or 'not recorded, see the page'}; cite: {data_set.citation or data_set.page}")
    if data_set.from_memory:
        print(f"from memory, compare with {data_set.page}: {', '.join(data_set.from_memory)}")
    if data_set.notes:
        print(f"note: {data_set.notes}")


def _how_to_use(data_set: DataSet, to: Path) -> str:
    told = "" if to == cache_folder() / "data" else f" Set MEDSSL_DATA={to} so that it is found."
    if data_set.arrangement == "as it is":
        return told
    cohorts = ("hippocampus", "headneck_ct", "torso", "ms_lesions")
    argument = data_set.folder if data_set.folder in cohorts else to / data_set.folder
    return f'{told if data_set.folder in cohorts else ""} Use it with load_cohort("{argument}").'


def _parser(data_set: DataSet) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=data_set.command.removeprefix("python "), description=data_set.title)
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="data folder (default: the user's cache)")
    parser.add_argument(
        "--from",
        type=Path,
        metavar="FOLDER",
        dest="given",
        help="use files you fetched; unpacked ones are hard-linked, so do not edit them in place",
    )
    parser.add_argument("--keep-archive", action="store_true", help="keep the downloaded archive in FOLDER/downloads")
    parser.add_argument("--check", action="store_true", help="only check what is there")
    return parser


__all__ = ["fetch", "main", "run", "zenodo_files"]
