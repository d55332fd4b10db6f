"""Is a data set on disk what the catalogue says: files, their pairs, their grids, their label values."""

import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medssl_nb.data.catalogue import Count, DataSet
from medssl_nb.data.errors import FetchError

READ_LABELS = 5  # label maps whose values are read, spread evenly over the set
LISTED = 5  # names given of what is missing


@dataclass
class Findings:
    """What a check found: `problems` stop the work, `remarks` are worth knowing, `summary` counts what is there."""

    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    summary: str = ""


def check_layout(folder: Path, layout: Iterable[Count]) -> Findings:
    """Compare the number of files of each kind with the catalogue."""
    found = Findings()
    for count in layout:
        number = sum(1 for _ in matches(folder, count.pattern))
        wanted = "at least 1" if count.number is None else str(count.number)
        if number == (count.number or max(number, 1)):
            continue
        text = f"{number} files {count.pattern}, expected {wanted}"
        if count.sure or number == 0:
            found.problems.append(text)
        else:
            found.remarks.append(f"{text} (a number from memory)")
    return found


def matches(folder: Path, pattern: str) -> Iterator[Path]:
    """Files below a folder that match, without hidden ones (`._*`, which macOS leaves in archives)."""
    for path in folder.glob(pattern):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def locate(tree: Path, layout: tuple[Count, ...], depth: int = 3) -> Path:
    """The folder at or below `tree` in which the layout is found; archives differ in how deep they wrap their files.

    Returns the folder with the fewest kinds of files missing, the outermost of equals.
    """

    def missing(folder: Path) -> int:
        return sum(next(matches(folder, count.pattern), None) is None for count in layout)

    best, least = tree, missing(tree)
    level = [tree]
    for _ in range(depth):
        level = [p for folder in level for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]
        for folder in level[:200]:  # a set of thousands of case folders is found further out
            if least == 0:
                return best
            if (count := missing(folder)) < least:
                best, least = folder, count
    return best


def check_arranged(data_set: DataSet, folder: Path) -> Findings:
    """Check a set in the data folder, as it stands after arranging."""
    if data_set.arrangement in ("decathlon", "pairs", "openkbp"):
        found = check_decathlon(folder, data_set.layout if data_set.arrangement == "decathlon" else ())
    elif data_set.arrangement in ("open_ms", "totalsegmentator_samples"):
        found = _check_images_and_labels(folder)
    else:
        found = check_layout(folder, data_set.layout)
        number = sum(1 for _ in matches(folder, "**/*"))
        found.summary = f"{number} files"
        if data_set.label_files and not found.problems:
            maps = sorted(matches(folder, data_set.label_files))
            found.problems += _check_values(maps, set(data_set.labels))
    return found


def check_decathlon(folder: Path, layout: Iterable[Count] = ()) -> Findings:
    """Check a folder in Decathlon layout: `dataset.json` against the files, one grid for image and label, values."""
    found = check_layout(folder, layout)
    try:
        description = json.loads((folder / "dataset.json").read_text())
        entries = [(folder / pair["image"], folder / pair["label"]) for pair in description["training"]]
        names = description["labels"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        found.problems.append(f"dataset.json cannot be used ({type(error).__name__}: {error})")
        return found
    found.problems += _missing(folder, [path for pair in entries for path in pair])
    listed = {label.name for _, label in entries}
    unlisted = [p.name for p in matches(folder, "labelsTr/*.nii.gz") if p.name not in listed]
    if unlisted:
        found.problems.append(f"{len(unlisted)} label maps that dataset.json does not name, such as {unlisted[0]}")
    if not found.problems:
        found.problems += [text for image, label in entries if (text := _grids_differ(image, label))]
    if not found.problems:
        keys = [key if str(key).isdigit() else value for key, value in names.items()]
        found.problems += _check_values([label for _, label in entries], {int(key) for key in keys})
    unlabelled = sum(1 for _ in matches(folder, "imagesTs/*.nii.gz"))
    found.summary = f"{len(entries)} labelled and {unlabelled} further scans"
    return found


def _check_images_and_labels(folder: Path) -> Findings:
    """The two layouts of our own making: `images/`, `labels/` and a JSON file that names the cases."""
    found = Findings()
    described = next((folder / name for name in ("cases.json", "labels.json") if (folder / name).exists()), None)
    if described is None:
        found.problems.append("neither cases.json nor labels.json")
        return found
    content = json.loads(described.read_text())
    cases = content if described.name == "cases.json" else content["cases"]
    images = [p for case in cases for p in matches(folder, f"images/{case}*.nii.gz")]
    labels = [p for case in cases for p in matches(folder, f"labels/{case}*.nii.gz")]
    for case in cases:
        grids = [p for p in (*images, *labels) if p.name.startswith(case)]
        if not any(p in images for p in grids) or not any(p in labels for p in grids):
            found.problems.append(f"case {case} lacks its image or its label map")
            continue
        found.problems += [text for other in grids[1:] if (text := _grids_differ(grids[0], other))]
    found.summary = f"{len(cases)} cases"
    return found


def _missing(folder: Path, paths: list[Path]) -> list[str]:
    gone = sorted({p.relative_to(folder).as_posix() for p in paths if not p.is_file()})
    if not gone:
        return []
    more = f" and {len(gone) - LISTED} more" if len(gone) > LISTED else ""
    return [f"{len(gone)} files that dataset.json names are missing: {', '.join(gone[:LISTED])}{more}"]


def _grids_differ(image: Path, label: Path) -> str | None:
    """What is wrong with two NIfTI headers, by the rules by which cohorts are read later; voxels are not read."""
    from medssl_nb.data.volumes import check_same_grid, read_grid

    try:
        check_same_grid(read_grid(image), read_grid(label), name_a=image.name, name_b=label.name)
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return None


def _header(path: Path):
    import nibabel

    try:
        return nibabel.load(path)
    except (nibabel.filebasedimages.ImageFileError, OSError, EOFError) as error:
        raise FetchError(f"{path.name} is not a readable NIfTI file ({error})") from error


def _check_values(maps: list[Path], allowed: set[int]) -> list[str]:
    """Read a few label maps; their values must be among those recorded."""
    import numpy as np

    if not allowed:
        return []
    chosen = [maps[i] for i in sorted({round(x) for x in np.linspace(0, len(maps) - 1, min(READ_LABELS, len(maps)))})]
    problems = []
    for path in chosen:
        try:
            values = set(np.unique(np.asarray(_header(path).dataobj)).tolist())
        except (FetchError, OSError, EOFError, ValueError, zlib.error) as error:
            problems.append(f"{path.name} is cut short or damaged ({error})")
            continue
        strange = sorted(values - allowed)
        if strange:
            problems.append(f"{path.name} holds label values {strange[:LISTED]}, expected some of {sorted(allowed)}")
    return problems


def case_pairs(root: Path, data_set: DataSet) -> list[tuple[str, str, Path, Path, bool]]:
    """(case, subject, image, label, in the owner's test part) for every labelled image of a set with `pairs`."""
    rule = data_set.pairs
    found = []
    for path in sorted(matches(root, "**/*")):
        name = path.relative_to(root).as_posix()
        match = re.fullmatch(rule.image, name)
        if match is None:
            continue
        groups = match.groupdict()
        label = root / rule.label.format(**groups)
        if label.is_file():
            case = rule.case.format(**groups)
            official_test = bool(rule.official_test and re.search(rule.official_test, name))
            found.append((case, groups.get("subject") or case, path, label, official_test))
    return found
