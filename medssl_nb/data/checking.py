"""A reader's own folder looked at before anything is trained on it: every file, every problem, and how to mend it."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medssl_nb.data.cohorts import Cohort, load_cohort
from medssl_nb.data.folders import (
    channel_of,
    folder_name,
    label_names_of,
    layout_of,
    modality_of,
    read_description,
    scan_files,
)
from medssl_nb.data.geometry import orientation, spacing_mm
from medssl_nb.data.intensity import modality_family
from medssl_nb.data.volumes import read_label_map, read_volume
from medssl_nb.data.working_grid import stored_grid

DEMO_VOXELS = 48**3  # what the demo profiles learn from
_HU_OF_SOFT_TISSUE = -200  # a CT in HU goes below it wherever there is air or lung
_OTHER_FORMATS = (".dcm", ".ima", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".img", ".hdr", ".nii.zip", ".nii.bz2")


class Problem(NamedTuple):
    """Why a file cannot be trained on as it is.

    Attributes:
        path: the file, from the folder on.
        what: what was found in it.
        mend: what to do.
        case: the case that is left out for it, None if it concerns the folder.
    """

    path: str
    what: str
    mend: str
    case: str | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.what}. {self.mend[:1].upper()}{self.mend[1:]}"


@dataclass(frozen=True)
class ScanFacts:
    """One scan as it is stored; None for what cannot be read.

    Attributes:
        case: its name.
        path, label_path: its files; no label map: None.
        shape, spacing_mm, orientation: voxels, mm and letters ("LPS") of the stored axes.
        channels: 1, or as many as the 4th axis has.
        intensity: smallest, median and largest grey value.
        labels: number -> voxels, background left out.
        problems: those of this scan.
    """

    case: str
    path: Path
    label_path: Path | None = None
    shape: tuple[int, ...] | None = None
    spacing_mm: tuple[float, ...] | None = None
    orientation: str | None = None
    channels: int | None = None
    intensity: tuple[float, float, float] | None = None
    labels: Mapping[int, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    @property
    def ras(self) -> tuple[np.ndarray, np.ndarray]:
        """Shape and spacing along the axes right-left, back-front, feet-head, (3,) each."""
        order = [next(i for i, c in enumerate(self.orientation) if c in pair) for pair in ("LR", "PA", "IS")]
        return np.array(self.shape)[order], np.array(self.spacing_mm)[order]


@dataclass(frozen=True)
class FolderReport:
    """What `check_folder` found.

    Attributes:
        folder, layout: which, and how it is laid out: "decathlon", "images and labels" or "flat".
        modality: "CT", "MR", "PET", or None where nobody said.
        label_names: number -> name, of dataset.json; without it "label 1", ... for the numbers found.
        scans: every scan, sorted by name.
        problems: of all scans and of the folder.
        notes: what is no problem, but should be known.
        names_in_file: whether the names come from dataset.json.
    """

    folder: Path
    layout: str
    modality: str | None
    label_names: Mapping[int, str]
    scans: tuple[ScanFacts, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    names_in_file: bool = False

    @property
    def name(self) -> str:
        """What the cohort of the folder is called."""
        return folder_name(self.folder)

    @property
    def ok(self) -> tuple[str, ...]:
        """Names of the cases that can be used."""
        return tuple(scan.case for scan in self.scans if not scan.problems)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of the cases that cannot, those of labels without an image with them."""
        bad = {problem.case for problem in self.problems if problem.case is not None}
        return tuple(sorted(bad))

    def suggested_spacing_mm(self, voxels: int = DEMO_VOXELS) -> tuple[float, float, float]:
        """A working grid on which the median usable scan has at most about `voxels` voxels.

        The same spacing along all axes, where the scans are fine enough; never finer than they are.

        Returns:
            Spacing in mm from right to left, back to front and feet to head, to one tenth.

        Raises:
            ValueError: no usable scan.
        """
        shape, native = (np.median([scan.ras[part] for scan in self._usable()], axis=0) for part in (0, 1))
        extent, low, high = shape * native, float(native.min()), float((shape * native).max())
        for _ in range(50):  # fewer voxels the larger the side; thick slices keep their thickness
            side = (low + high) / 2
            low, high = (low, side) if np.prod(extent / np.maximum(native, side)) <= voxels else (side, high)
        spacing = native if np.prod(shape) <= voxels else np.maximum(native, high)
        return tuple(float(np.ceil(side * 10 - 1e-3) / 10) for side in spacing)

    def median_shape(self, spacing: tuple[float, float, float]) -> list[int]:
        """Voxels of the median usable scan on a working grid, from right to left, back to front and feet to head."""
        extent = [(scan.ras[0] - 1) * scan.ras[1] for scan in self._usable()]
        return [int(n) + 1 for n in np.round(np.median(extent, axis=0) / spacing)]

    def cohort(self, spacing_mm=None, **options) -> Cohort:
        """The cohort of the usable cases; see `load_cohort`."""
        given = {"modality": self.modality, "label_names": self.label_names, "skip": self.left_out}
        return load_cohort(self.folder, spacing_mm=spacing_mm, **{**given, **options})

    def as_dict(self) -> dict:
        """Plain values, for JSON; paths from the folder on."""
        scans = []
        for scan in self.scans:
            facts = asdict(scan)
            facts["path"] = _inside(self.folder, scan.path)
            facts["label_path"] = None if scan.label_path is None else _inside(self.folder, scan.label_path)
            scans.append({**facts, "problems": [str(problem) for problem in scan.problems]})
        return {
            "folder": self.name,
            "layout": self.layout,
            "modality": self.modality,
            "label_names": dict(self.label_names),
            "ok": list(self.ok),
            "left_out": list(self.left_out),
            "scans": scans,
            "problems": [problem._asdict() for problem in self.problems],
            "notes": list(self.notes),
        }

    def table(self, rows: int | None = None) -> str:
        """A line for each scan, of `rows` scans at most."""
        lines = [("case", "shape", "spacing mm", "axes", "grey values", "labels", "")]
        for scan in self.scans[:rows]:
            shape = " x ".join(map(str, scan.shape)) if scan.shape else "?"
            shape += f", {scan.channels} channels" if (scan.channels or 1) > 1 else ""
            spacing = " x ".join(f"{side:.3g}" for side in scan.spacing_mm) if scan.spacing_mm else "?"
            grey = "{:.4g} ({:.4g}) {:.4g}".format(*(scan.intensity[i] for i in (0, 1, 2))) if scan.intensity else "?"
            labels = (
                ""
                if scan.label_path is None
                else " ".join(map(str, scan.labels)) or ("?" if scan.problems else "empty")
            )
            mark = "PROBLEM" if scan.problems else ""
            lines.append((scan.case, shape, spacing, scan.orientation or "?", grey, _short(labels, 24), mark))
        widths = [max(len(line[column]) for line in lines) for column in range(7)]
        text = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        hidden = len(self.scans) - len(lines) + 1
        return "\n".join([*text, f"... and {hidden} more"] if hidden else text)

    def __str__(self) -> str:
        labelled = sum(scan.label_path is not None for scan in self.scans)
        head = (
            f"{self.name}: {len(self.scans)} scan(s) ({self.modality or 'modality not known'}), {labelled} with "
            f"labels, layout: {self.layout}. {len(self.ok)} can be used."
        )
        parts = [head, self.table(20)] if self.scans else [head]
        if self.problems:
            parts.append("\n".join([f"Problems ({len(self.problems)}):", *(f"- {p}" for p in self.problems)]))
        if self.notes:
            parts.append("\n".join(["Good to know:", *(f"- {note}" for note in self.notes)]))
        return "\n\n".join(parts)

    def _usable(self) -> list[ScanFacts]:
        usable = [scan for scan in self.scans if not scan.problems]
        if not usable:
            raise ValueError(f"{self.folder} holds no scan that can be used; mend the problems first.")
        return usable


def check_folder(
    folder: str | os.PathLike,
    *,
    modality: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> FolderReport:
    """Look at every file of a folder of scans, and say of each what would go wrong in training.

    Every voxel is read once; nothing is written. What is found in one file does not stop the look at the next.

    Args:
        folder: `imagesTr/`, `labelsTr/`, `imagesTs/` (Decathlon), `images/` and `labels/`, or NIfTI files alone.
        modality: "CT", "MR" or "PET" where `dataset.json` does not say.
        progress: called after each scan with (scans done, scans in all).

    Raises:
        FileNotFoundError: no such folder.
        ValueError: an unknown modality.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; give the one that holds your scans.")
    if modality is not None:
        modality_family(modality)  # a word that is not known is the caller's mistake, not the folder's
    folder_problems: list[Problem] = []
    description = _tried(folder, folder_problems, lambda: read_description(folder)) or {}
    names = _tried(folder, folder_problems, lambda: label_names_of(description)) or {}
    said = modality or description.get("modality") or description.get("channel_names")
    family = _tried(folder, folder_problems, lambda: modality_of(description, modality, folder)) if said else None
    scans = _pairs(folder, folder_problems)
    seen: dict[str, str] = {}
    for number, scan in enumerate(scans):
        scans[number] = _looked_at(folder, scan, family, names, seen)
        if progress is not None:
            progress(number + 1, len(scans))
    scans = _of_one_kind(folder, scans)
    if not scans:
        folder_problems.append(_nothing_there(folder))
    elif not said:
        folder_problems.append(Problem("dataset.json", "nothing says what kind of images these are", _guess(scans)))
    notes = _notes(scans, names)
    problems = [*folder_problems, *(problem for scan in scans for problem in scan.problems)]
    report = FolderReport(
        folder,
        layout_of(folder).kind,
        family,
        names or _numbered(scans),
        tuple(scans),
        tuple(problems),
        tuple(notes),
        names_in_file=bool(names),
    )
    return _with_split(report)


def _tried(folder: Path, problems: list[Problem], look: Callable, path: str = "dataset.json", case: str | None = None):
    """What `look` returns; None and one problem more if it raises ValueError."""
    try:
        return look()
    except ValueError as error:
        message = str(error).replace(f"{folder}{os.sep}", "").removeprefix(f"{folder}: ").removeprefix(path)
        problems.append(_told(message, path, case))
        return None


def _told(message: str, path: str, case: str | None = None) -> Problem:
    """A problem from an error message, "what was found; how to mend it." or "What. How."."""
    what, _, mend = message.partition("; " if "; " in message else ". ")
    return Problem(path, what.strip(" :."), mend or "mend it, or leave it out.", case)


# ------------------------------------------------------------------------------------------------ which files


def _pairs(folder: Path, problems: list[Problem]) -> list[ScanFacts]:
    """Image and label map of each case; what belongs to no case becomes a problem of the folder."""
    layout = layout_of(folder)
    images, labels = scan_files(layout.images), scan_files(layout.labels)
    found: dict[str, list[Path]] = defaultdict(list)
    for stem, files in images.items():
        short, channel = channel_of(stem)
        found[short if short in labels and channel is not None else stem] += files
    for stem, files in scan_files(layout.unlabelled).items():
        found[stem] += files
    for stem in sorted(set(labels) - set(found)):
        path = _inside(folder, labels[stem][0])
        problems.append(Problem(path, "there is no image of this name", "add the image, or remove the label.", stem))
    for part in sorted({folder, *layout[1:]}):
        problems += _other_files(folder, part)
    return [_pair(folder, case, sorted(files), labels.get(case, [])) for case, files in sorted(found.items())]


def _pair(folder: Path, case: str, images: list[Path], labels: list[Path]) -> ScanFacts:
    problems = []
    for files, what in ((images, "image"), (labels, "label map")):
        if len(files) > 1:
            others = " and ".join(_inside(folder, file) for file in files[1:])
            mend = "keep one; several channels of a scan come in one 4D file here (numpy.stack along the last axis)."
            problems.append(Problem(_inside(folder, files[0]), f"{others} is the same case's {what} too", mend, case))
    return ScanFacts(case, images[0], labels[0] if labels else None, problems=tuple(problems))


def _other_files(folder: Path, part: Path) -> list[Problem]:
    """Scans in other formats than NIfTI, which would be passed over in silence; one problem for each ending."""
    files = [file for file in part.glob("*") if file.is_file()] if part.is_dir() else []
    kinds = Counter(ending for file in files if (ending := _other_format(file)))
    first = {ending: next(f for f in files if _other_format(f) == ending) for ending in kinds}
    return [
        Problem(
            _inside(folder, first[ending]), f"{count} file(s) of this kind ({ending}) are not NIfTI", _convert(ending)
        )
        for ending, count in sorted(kinds.items())
    ]


def _other_format(file: Path) -> str | None:
    ending = next((e for e in _OTHER_FORMATS if file.name.lower().endswith(e)), None)
    if ending is None and not file.suffix and not file.name.startswith(".") and file.stat().st_size > 132:
        with file.open("rb") as stream:
            ending = ".dcm" if stream.read(132)[128:] == b"DICM" else None
    return ending


def _convert(ending: str) -> str:
    if ending in (".dcm", ".ima"):
        return "convert each DICOM series to one file with dcm2niix (dcm2niix -z y -o OUT IN)."
    return "convert them to .nii.gz, for example with SimpleITK or nibabel, and keep spacing and orientation."


def _nothing_there(folder: Path) -> Problem:
    deeper = next((file for file in sorted(folder.glob("*/**/*.nii*")) if not file.name.startswith(".")), None)
    if deeper is not None:
        what = f"no scans at the top, but some in folders below, such as {_inside(folder, deeper)}"
        return Problem(folder.name, what, "put or link them into one folder, images/, one file for each case.")
    mend = "put .nii.gz files into images/ (and label maps of the same names into labels/)."
    return Problem(folder.name, "no NIfTI files were found", mend)


# ------------------------------------------------------------------------------------------------ one scan


def _looked_at(folder: Path, scan: ScanFacts, family: str | None, names: Mapping, seen: dict[str, str]) -> ScanFacts:
    """The scan with its facts and all its problems; `seen` holds the voxels (hash) of the scans before it."""
    problems, path = list(scan.problems), _inside(folder, scan.path)
    facts: dict = _tried(folder, [], lambda: _stored_facts(scan.path)) or {}
    image = _tried(folder, problems, lambda: read_volume(scan.path), path, scan.case)
    if image is not None:
        values = image.as_tensor().numpy()
        facts["intensity"] = tuple(float(n) for n in (values.min(), np.median(values), values.max()))
        what, mend = _wrong_values(facts, family)
        other = seen.setdefault(hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest(), scan.case)
        if not what and other != scan.case:
            what, mend = f"its voxels are those of {other}", "keep one: a copy in the test set flatters every score."
        if what:
            problems.append(Problem(path, what, mend, scan.case))
    if scan.label_path is not None:
        facts["labels"], found = _looked_at_label(folder, scan, image, names)
        problems += found
    return replace(scan, **facts, problems=tuple(problems))


def _stored_facts(path: Path) -> dict:
    """Shape, spacing, orientation and channels from the header, axes as they are stored."""
    import nibabel

    grid, stored = stored_grid(path), nibabel.load(path)
    return {
        "shape": grid.shape,
        "spacing_mm": spacing_mm(grid.affine),
        "orientation": orientation(grid.affine),
        "channels": stored.shape[3] if len(stored.shape) > 3 else 1,
    }


def _wrong_values(facts: Mapping, family: str | None) -> tuple[str, str]:
    """What is wrong with the grey values, and how to mend it; two empty texts if nothing is."""
    low, _, high = facts["intensity"]
    doubt = grey_value_doubt(low, high, family)
    if low == high:
        return doubt, "export the scan again; there is nothing to learn in it."
    if min(facts["shape"]) == 1:
        return "it is a single slice", "use scans with several slices; the methods here learn from volumes."
    if doubt:
        mend = "subtract the offset (often 1024) or export it again, so that air is -1000 and water 0; if it is no CT, "
        return doubt, mend + "put it into another folder."
    return "", ""


def grey_value_doubt(low: float, high: float, modality: str | None) -> str:
    """Why a scan of these values cannot be what its modality says, "" if it may be; only CT has a unit that tells."""
    if low == high:
        return f"every voxel is {low:g}"
    if modality == "CT" and low > _HU_OF_SOFT_TISSUE:
        return f"its grey values, {low:g} to {high:g}, are no Hounsfield units"
    return ""


def _looked_at_label(folder: Path, scan: ScanFacts, image, names: Mapping) -> tuple[dict[int, int], list[Problem]]:
    """Voxels of each label, and what is wrong with the label map."""
    problems, path = [], _inside(folder, scan.label_path)
    label = _tried(folder, problems, lambda: read_label_map(scan.label_path, like=image), path, scan.case)
    if label is None:
        return {}, problems
    numbers, counts = np.unique(label.as_tensor().numpy(), return_counts=True)
    labels = {int(n): int(count) for n, count in zip(numbers, counts, strict=True) if n != 0}
    strangers = [n for n in labels if names and n not in names]
    if strangers:
        what = f"it holds {_listed(strangers)}, which dataset.json does not name"
        problems.append(Problem(path, what, 'complete "labels" in dataset.json, or renumber the map.', scan.case))
    return labels, problems


# ------------------------------------------------------------------------------------------------ all scans


def _of_one_kind(folder: Path, scans: list[ScanFacts]) -> list[ScanFacts]:
    """Scans with a problem more where they have other channels than most."""
    counts = Counter(scan.channels for scan in scans if scan.channels is not None)
    if len(counts) < 2:
        return scans
    usual = counts.most_common(1)[0][0]

    def checked(scan: ScanFacts) -> ScanFacts:
        if scan.channels in (usual, None):
            return scan
        what = f"it has {scan.channels} channel(s), most scans here have {usual}"
        mend = "one network takes one number of channels: choose channels, or put it into another folder."
        return replace(scan, problems=(*scan.problems, Problem(_inside(folder, scan.path), what, mend, scan.case)))

    return [checked(scan) for scan in scans]


def _numbered(scans: list[ScanFacts]) -> dict[int, str]:
    """Names for labels that have none; {} if there are no labels."""
    numbers = sorted({number for scan in scans for number in scan.labels})
    return {0: "background", **{number: f"label {number}" for number in numbers}} if numbers else {}


def _guess(scans: list[ScanFacts]) -> str:
    lows = [scan.intensity[0] for scan in scans if scan.intensity]
    like_ct = bool(lows) and np.median(lows) <= -500
    return (
        ("they look like CT in Hounsfield units: " if like_ct else "")
        + f'say modality="{"CT" if like_ct else "MR"}" (--modality {"CT" if like_ct else "MR"}), or what they are; it '
        "decides how grey values are scaled. dataset.json may say it too."
    )


def _notes(scans: list[ScanFacts], names: Mapping[int, str]) -> list[str]:
    """What is no problem, but should be known, of the scans without problems."""
    usable = [scan for scan in scans if not scan.problems]
    labelled = [scan for scan in usable if scan.label_path is not None]
    notes = []
    axes = Counter(scan.orientation for scan in usable)
    if len(axes) > 1:
        found = ", ".join(f"{letters} ({count})" for letters, count in axes.most_common())
        notes.append(f"Axes are stored in several orders: {found}. Every scan is turned to RAS+ when it is read.")
    for what, index in (("voxels", 1), ("field of view", 0)):
        values = {scan.case: scan.ras[1] * (scan.ras[0] if index == 0 else 1) for scan in usable}
        far = _far_from_the_others(values)
        if far:
            mend = (
                "A working grid (spacing_mm) makes them alike." if index else "Look whether they show the same region."
            )
            notes.append(f"{_listed(far)}: {what} less than half or more than twice the median, in mm. {mend}")
    if empty := [scan.case for scan in labelled if not scan.labels]:
        notes.append(f"{_listed(empty)}: the label map is empty. It counts as a scan with nothing drawn.")
    counts = Counter(number for scan in labelled for number in scan.labels)
    if rare := {names.get(n, f"label {n}"): count for n, count in sorted(counts.items()) if count < len(labelled)}:
        found = _listed(f"{name} ({count})" for name, count in rare.items())
        notes.append(
            f"Drawn in some of the {len(labelled)} label maps only: {found}. Where one is missing it counts as not "
            "known; if it is truly absent, say --set transfer.undrawn=background. Does a number mean the same in each?"
        )
    first = {short for short, channel in map(channel_of, (scan.case for scan in usable)) if channel == 0}
    if several := [scan.case for scan in usable if channel_of(scan.case)[1] and channel_of(scan.case)[0] in first]:
        notes.append(f"{_listed(several)}: a further channel of a scan? It is taken for a scan of its own.")
    return notes


def _far_from_the_others(values: Mapping[str, np.ndarray]) -> list[str]:
    """Names whose values (3,) differ from the median by a factor above 2 along some axis."""
    middle = np.median(list(values.values()), axis=0) if values else 1
    return [name for name, value in values.items() if (np.abs(np.log2(value / middle)) > 1).any()]


def _with_split(report: FolderReport) -> FolderReport:
    """The report, with how the cases would be divided, or why they cannot be."""
    if not report.ok or report.modality is None or any(p.path == "dataset.json" for p in report.problems):
        return report
    problems: list[Problem] = []
    where = "splits.json" if (report.folder / "splits.json").exists() else report.name
    cohort = _tried(report.folder, problems, report.cohort, where)
    if cohort is None:
        return replace(report, problems=(*report.problems, *problems))
    parts = ", ".join(f"{len(getattr(cohort, part))} {part}" for part in ("train", "validation", "test"))
    note = f"To learn from without labels: {len(cohort.unlabelled)} scan(s). With labels: {parts}."
    if cohort.train and not cohort.test:
        note += " Three labelled patients are the least with which a network can be fine-tuned, chosen and tested."
    where = "as splits.json says" if (report.folder / "splits.json").exists() else "by name; splits.json may say it"
    note += f" Divided {where}; each scan counts as a patient of its own unless splits.json keeps them together."
    return replace(report, notes=(*report.notes, note))


# ------------------------------------------------------------------------------------------------ words


def _inside(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _listed(names, shown: int = 6) -> str:
    names = [str(name) for name in names]
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
