"""`python -m medssl_nb check FOLDER`: look at a folder of scans, say what is wrong with it and what to run next."""

import argparse
import json
import math
import os
import shlex
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path

from medssl_nb.data.files import write_atomically

SMALL = 0.005  # of the scan; the generated abdomens' organs fill more in the median, head-and-neck organs 0.1 %


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's words to `parser`."""
    parser.add_argument("folder", type=Path, help="imagesTr/ and labelsTr/, or images/ and labels/, or NIfTI files")
    parser.add_argument("--modality", help="CT, MR or PET, where dataset.json does not say")
    parser.add_argument("--recipe", default="masked_autoencoding", help="what to run next (masked_autoencoding)")
    parser.add_argument("--profile", choices=("demo", "full"), help="its size (default: MEDSSL_PROFILE, or demo)")
    parser.add_argument("--write", type=Path, metavar="FILE.toml", help="write that recipe, fitted to the scans")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the report and what to run next. Returns 0 if there is no problem, else 1."""
    from medssl_nb.data import check_folder
    from medssl_nb.recipes import recipe_contents

    contents = recipe_contents(options.recipe, options.profile)  # a wrong name is said before the long look
    report = check_folder(options.folder, modality=options.modality, progress=say_progress)
    print(report)
    if options.json:
        write_text(options.json, json.dumps(report.as_dict(), indent=1) + "\n")
    if report.ok and report.modality:
        fitted = fitted_recipe(contents, report)
        if options.write:
            write_text(options.write, toml_text(fitted))
        print(f"\n{next_steps(options, report, contents, fitted)}")
    return 1 if report.problems else 0


def say_progress(done: int, total: int) -> None:
    """One moving line, where somebody watches."""
    if sys.stderr.isatty():
        print(f"\r{done} of {total} scans", end="\n" if done == total else "", file=sys.stderr, flush=True)


def fitted_recipe(contents: Mapping, report) -> dict:
    """The recipe for the scans of a report: its cohort, and a working grid, crops and radii that fit them.

    The grid has as many voxels for each crop as the demo has; where the network sees whole volumes of one size, as many
    as that. Crops are no larger than the median scan on that grid, rounded to what the network's strides divide. Radii
    in mm (`anatomical_embedding`) keep their size in voxels. Small organs get weight and time: on head-and-neck CT with
    4 labels the demo's 60 steps found none of them (Dice 0.00), 200 steps 0.15, 200 steps with the weight 0.51.
    """
    whole = "volume_size" in contents["encoder"]
    spacing = report.suggested_spacing_mm(int(math.prod(contents["transfer"]["crop"]) * (1 if whole else 1.5**3)))
    shape = report.median_shape(spacing)
    fitted = {section: dict(part) if isinstance(part, Mapping) else part for section, part in contents.items()}
    fitted["cohort"] = {"name": own_name(report.folder), "spacing_mm": list(spacing), "modality": report.modality}
    if report.label_names:
        fitted["cohort"]["label_names"] = {str(number): name for number, name in report.label_names.items()}
    if report.left_out:
        fitted["cohort"]["skip"] = list(report.left_out)
    if cases := len(report.cohort().train):
        fitted["transfer"]["labelled"] = [n for n in contents["transfer"]["labelled"] if n == "all" or n <= cases] or [
            cases
        ]
    if (channels := next(scan.channels for scan in report.scans if not scan.problems)) > 1:
        fitted["encoder"]["in_channels"] = channels
    for section in ("pretraining", "transfer"):
        if "crop" in fitted.get(section, {}):
            fitted[section]["crop"] = fitting_crop(fitted[section]["crop"], shape, contents)
    if organ_share(report) < SMALL and fitted["transfer"]["steps"] < 200:
        fitted["transfer"] |= {"steps": 200, "evaluate_at": [60, 120, 200], "class_balance": 0.5}
    fitted.get("pretraining", {}).pop("spacing_mm", None)  # the working grid takes its place
    if whole:
        fitted["encoder"]["volume_size"] = fitted["transfer"]["crop"]
    task = fitted.get("task", {})
    if "view_size" in task:  # views are cut out of the crop, which stays larger than they are
        views = task["view_size"]
        task["view_size"] = fitting_crop(task["view_size"], shape, contents)
        crops = zip(contents["pretraining"]["crop"], task["view_size"], views, strict=True)
        fitted["pretraining"]["crop"] = [crop * new // old for crop, new, old in crops]
    if "spacing_mm" in task:
        fitted["task"] = scaled_radii(task, spacing)
    return fitted


def organ_share(report) -> float:
    """Share of its scan that the median organ fills; 1 without labels."""
    shares = [
        voxels / math.prod(scan.shape) for scan in report.scans if not scan.problems for voxels in scan.labels.values()
    ]
    return statistics.median(shares) if shares else 1.0


def fitting_crop(crop: list[int], shape: list[int], contents: Mapping) -> list[int]:
    """`crop`, shortened where the median scan is shorter, to what strides and patches divide (twice at least)."""
    from medssl_nb.networks import build_encoder, size_multiple

    patches = [contents.get("task", {}).get(name, 1) for name in ("patch_size", "mask_size", "grid")]
    multiple = [math.lcm(stride, *patches) for stride in size_multiple(build_encoder(contents["encoder"]))]
    return [min(c, max(s // m, 2) * m) for c, s, m in zip(crop, shape, multiple, strict=True)]


def scaled_radii(task: Mapping, spacing: tuple[float, ...]) -> dict:
    """A task with another spacing, and all its radii as many voxels as before."""
    old = task["spacing_mm"] if isinstance(task["spacing_mm"], list) else [task["spacing_mm"]] * 3
    factor = (math.prod(spacing) / math.prod(old)) ** (1 / 3)

    def scaled(part: Mapping) -> dict:
        return {n: round(v * factor, 1) if n.endswith("_radius") else v for n, v in part.items()}

    parts = {name: scaled(part) if isinstance(part, Mapping) else part for name, part in scaled(task).items()}
    return {**parts, "spacing_mm": list(spacing)}


def next_steps(options: argparse.Namespace, report, contents: Mapping, fitted: Mapping) -> str:
    """The commands to run next, as they are typed."""
    from medssl_nb.recipes import load_recipe

    title = load_recipe(options.recipe, options.profile).title
    if options.write:
        title = options.write.stem if "." in options.write.stem else f"{options.write.stem}.own"
        words = shlex.quote(str(options.write))
    else:
        words = " ".join([title, "--cohort", shlex.quote(own_name(options.folder)), *changes(contents, fitted, report)])
    run_of = f"runs/{title}/{report.name}/seed0"
    lines = ["Run next:", f"  python -m medssl_nb pretrain {words}"]
    if fitted["method"] == "none":
        lines.pop()
    labelled = sum(bool(scan.labels) and not scan.problems for scan in report.scans)
    if labelled >= 3:
        lines.append(f"  python -m medssl_nb finetune {words}")
        lines.append(f"  python -m medssl_nb predict {run_of}/finetuned-all/segmenter.safetensors SCANS --to FOLDER")
    else:
        lines.append(f"The encoder will be {run_of}/encoder.safetensors. Three labelled patients are needed for more.")
    if not options.write:
        lines.append(
            f"Or keep all that in a recipe of your own: check {shlex.quote(str(options.folder))} --write my.toml"
        )
    return "\n".join(lines)


def changes(contents: Mapping, fitted: Mapping, report) -> list[str]:
    """--set words for what the fitted recipe has otherwise."""
    words = []
    for section, part in fitted.items():
        before = {} if section == "cohort" else contents.get(section)
        for name, value in part.items() if isinstance(part, Mapping) else ():
            said = section == "cohort" and (name == "name" or (name == "label_names" and report.names_in_file))
            if said or value == before.get(name):
                continue
            inner = value.items() if isinstance(value, Mapping) else [(None, value)]
            words += [f"{section}.{name}{'' if key is None else f'.{key}'}={plain(v)}" for key, v in inner]
    return [word for text in words for word in ("--set", shlex.quote(text))]


def plain(value: object) -> str:
    """A value as TOML and as `--set` take it."""
    return value if isinstance(value, str) and value.isalpha() else json.dumps(value, ensure_ascii=False)


def own_name(folder: Path) -> str:
    """A folder's path, which no cohort's name can be mistaken for."""
    return str(folder) if os.sep in str(folder) else f".{os.sep}{folder}"


def toml_text(contents: Mapping) -> str:
    """A recipe as TOML: values, then tables, then tables in tables."""
    lines = ["# Written by `python -m medssl_nb check`; change what you like."]

    def write(part: Mapping, name: str) -> None:
        tables = {key: value for key, value in part.items() if isinstance(value, Mapping)}
        values = {key: value for key, value in part.items() if key not in tables}
        lines.extend(["", f"[{name}]"] if name else [])
        lines.extend(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items())
        for key, value in tables.items():
            write(value, f"{name}.{key}" if name else key)

    write(contents, "")
    return "\n".join(lines) + "\n"


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda draft: draft.write_text(text, encoding="utf-8"))
