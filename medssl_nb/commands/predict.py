"""`python -m medssl_nb predict SEGMENTER SCANS --to FOLDER`: segment new scans, label maps in the scans' own space."""

import argparse
import json
from pathlib import Path

from medssl_nb.commands.common import add_device_words, torch_device
from medssl_nb.data.files import write_atomically
from medssl_nb.data.folders import layout_of, scan_files


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's words to `parser`."""
    parser.add_argument("segmenter", type=Path, help="segmenter.safetensors, as finetune writes it")
    parser.add_argument("scans", nargs="+", type=Path, metavar="SCAN|FOLDER", help="NIfTI files, or folders of them")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="where the label maps go")
    parser.add_argument("--force", action="store_true", help="write label maps again that are there already")
    parser.add_argument("--overlap", type=float, default=0.25, help="overlap of neighbouring windows, 0 to 1 (0.25)")
    add_device_words(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Segment every scan. Returns 0, or 1 if some could not be."""
    from medssl_nb.evaluation import predict_scan
    from medssl_nb.networks import load_segmenter

    segmenter, card = load_segmenter(options.segmenter)
    device = torch_device(options.accelerator)
    scans = scans_of(options.scans)
    targets = {scan: options.to / f"{name}.nii.gz" for name, scan in scans.items()}
    check_apart(scans.values(), options.to)
    write_labels(options.to, card, force=options.force)
    failed = 0
    for scan, target in targets.items():
        if target.exists() and not options.force:
            print(f"{target} is there already; --force writes it again.", flush=True)
            continue
        try:
            found = predict_scan(
                segmenter, scan, target, card, overlap=options.overlap, device=device, force=options.force
            )
        except (ValueError, FileNotFoundError) as error:
            failed += 1
            print(f"NOT DONE: {error}", flush=True)
            continue
        print(f"{target} ({organs_found(found)})", *(f"CAREFUL: {note}." for note in found["notes"]), flush=True)
    print(f"{len(scans) - failed} of {len(scans)} scan(s) have a label map in {options.to}.")
    return 1 if failed else 0


def organs_found(facts: dict) -> str:
    """The first organs of a label map, with their volumes."""
    seen = [f"{name} {ml:.1f} ml" for name, ml in facts["volume_ml"].items() if facts["voxels"][name]]
    more = [f"{len(seen) - 6} more"] if len(seen) > 6 else []
    return ", ".join([*seen[:6], *more]) or "nothing found"


def scans_of(places: list[Path]) -> dict[str, Path]:
    """Name -> file of all scans named, those of folders with them.

    Raises:
        ValueError: a folder without scans, two scans of one name.
    """
    found: dict[str, Path] = {}
    for place in places:
        if place.is_dir():
            layout = layout_of(place)
            files = [f for part in (layout.images, layout.unlabelled) for fs in scan_files(part).values() for f in fs]
            if not files:
                raise ValueError(f"{place} holds no .nii or .nii.gz files.")
        else:
            files = [place]
        for file in files:
            other = found.setdefault(file.name.removesuffix(".gz").removesuffix(".nii"), file)
            if other != file:
                raise ValueError(f"{other} and {file} have one name, and so would their label maps; rename one.")
    return found


def check_apart(scans, folder: Path) -> None:
    """Raise ValueError if label maps would lie among the scans."""
    for scan in scans:
        if scan.parent.resolve() == folder.resolve():
            raise ValueError(
                f"--to {folder} is where {scan.name} lies; label maps bear the scans' names, so say another."
            )


def write_labels(folder: Path, card: dict, *, force: bool) -> None:
    """`labels.json`: what the numbers mean, and which network drew them. One folder holds maps of one network."""
    file = folder / "labels.json"
    content = {
        "labels": {str(number): name for number, name in card["label_names"].items()},
        "network_sha256": card["weights_sha256"],
    }
    text = json.dumps(content, indent=1) + "\n"
    if file.exists() and file.read_text(encoding="utf-8") != text and not force:
        raise ValueError(f"{folder} holds label maps of another network; give another --to, or --force to replace all.")
    write_atomically(file, lambda draft: draft.write_text(text, encoding="utf-8"))
