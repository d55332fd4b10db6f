"""Turn the unpacked files of a data set into the folder that `load_cohort` or a reader expects.

Arrangers get a folder they own, may move files out of it, and fill a new one; the caller checks the result and gives
it its final name. None of them was tried on the owners' archives while it was written: the layouts come from the
sources the catalogue names, and the tests use small folders of those layouts.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from medssl_nb.data.catalogue import DataSet, Pairs
from medssl_nb.data.errors import FetchError
from medssl_nb.data.verify import case_pairs, matches


def arrange(data_set: DataSet, root: Path, target: Path) -> None:
    """Fill the new folder `target` from `root`, the folder in which the set's layout was found.

    Raises:
        FetchError: the files are not what the layout promises.
    """
    arranger = _ARRANGERS.get(data_set.arrangement)
    if arranger is None:
        root.rename(target)
        return
    target.mkdir()
    arranger(data_set, root, target)


def link_tree(source: Path, target: Path) -> None:
    """Give a user's files a second name below `target`: hard links, or copies on another disk. Hidden files stay out.

    Nothing below `source` is moved or changed, and it can be removed afterwards without loss. Folders that are links
    are followed, each once.
    """
    seen = set()
    for place, folders, files in os.walk(source, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()  # a link that leads back up
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(place, name)
            if path.is_file() and not name.startswith("."):
                link_file(path, target / path.relative_to(source))


def link_file(source: Path, target: Path) -> None:
    """Hard link where the file system can, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source = source.resolve()
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)


def write_description(
    target: Path, data_set: DataSet, modality: str, labels: tuple[str, ...], entries: list[dict], **more
) -> None:
    """Write the `dataset.json` of the Decathlon layout."""
    content = {
        "name": data_set.folder,
        "description": data_set.title,
        "reference": data_set.citation or data_set.page,
        "licence": data_set.licence or "not recorded",
        "tensorImageSize": "3D",
        "modality": {"0": modality},
        "labels": {str(number): name for number, name in enumerate(labels)},
        "numTraining": len(entries),
        "numTest": 0,
        "training": entries,
        "test": [],
        **more,
    }
    (target / "dataset.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _arrange_pairs(data_set: DataSet, root: Path, target: Path) -> None:
    """Put labelled images in Decathlon layout; keep everything else in `other/`; keep persons within one part."""
    found = case_pairs(root, data_set)
    if not found:
        raise FetchError(
            f"{data_set.name}: no image with its label map was found below {root.name}; see {data_set.page}."
        )
    entries = []
    for case, subject, image, label, _ in found:
        for path, kind in ((image, "imagesTr"), (label, "labelsTr")):
            place = target / kind / f"{case}.nii.gz"
            place.parent.mkdir(exist_ok=True)
            path.rename(place)
        entries.append({"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz", "subject": subject})
    write_description(target, data_set, data_set.pairs.modality, data_set.pairs.labels, entries)
    _write_split(target, data_set.pairs, found)
    if any(matches(root, "**/*")):
        root.rename(target / "other")


def _write_split(target: Path, pairs: Pairs, found: list[tuple[str, str, Path, Path, bool]]) -> None:
    """Fix a split where scans of one person must stay together or the owner has a labelled test part."""
    from medssl_nb.data.splits import draw_split

    subjects = {case: subject for case, subject, *_ in found}
    test = [case for case, *_, official_test in found if official_test]
    if not test and all(case == subject for case, subject in subjects.items()):
        return  # load_cohort draws the same split itself
    drawn = draw_split({case: subject for case, subject in subjects.items() if case not in set(test)})
    train = sorted((*drawn.train, *(drawn.test if test else ())))
    parts = {"train": train, "validation": list(drawn.validation), "test": test or list(drawn.test)}
    note = "drawn by person" + (f"; test is the owner's own test part ({pairs.official_test})" if test else "")
    (target / "splits.json").write_text(json.dumps({"note": note, **parts}, indent=1) + "\n", encoding="utf-8")


def _arrange_openkbp(data_set: DataSet, root: Path, target: Path) -> None:
    from medssl_nb.data.convert_openkbp import convert

    convert(data_set, root, target)


def _arrange_open_ms(data_set: DataSet, root: Path, target: Path) -> None:
    from medssl_nb.data.convert_open_ms import convert

    convert(root, target)


def _arrange_totalsegmentator(data_set: DataSet, root: Path, target: Path) -> None:
    from medssl_nb.data.convert_totalsegmentator import convert

    convert(root, target)


_ARRANGERS: dict[str, Callable[[DataSet, Path, Path], None]] = {
    "pairs": _arrange_pairs,
    "openkbp": _arrange_openkbp,
    "open_ms": _arrange_open_ms,
    "totalsegmentator_samples": _arrange_totalsegmentator,
}
