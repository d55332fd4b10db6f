"""Sample scans of the TotalSegmentator repository as the cohort `torso`.

Two of the cohort's scans are built: `ct_abdomen_01` and `mr_abdomen_03`. The upper-abdomen CT is a DICOM series, which
this project cannot read, and the names of the chest CT's masks are not on record here. Grids are kept, axes turned to
RAS. Not tried on the real files while it was written.
"""

import ast
import json
from pathlib import Path

import numpy as np

from medssl_nb.data.errors import FetchError

# case -> image, label map, list of names in the repository's class map, description
CASES = {
    "ct_abdomen_01": ("example_ct.nii.gz", "example_seg.nii.gz", "total", "abdomen and pelvis CT, grid unchanged"),
    "mr_abdomen_03": ("example_mr_sm.nii.gz", "example_seg_mr.nii.gz", "total_mr", "abdominal MR slab, grid unchanged"),
}
SHARED_ORGANS = (
    "spleen", "kidney_right", "kidney_left", "gallbladder", "esophagus", "liver", "stomach", "aorta",
    "inferior_vena_cava", "portal_vein_and_splenic_vein", "pancreas", "adrenal_gland_right", "adrenal_gland_left",
    "duodenum", "colon", "small_bowel",
)  # fmt: skip
NOTE = (
    "Label values are those of TotalSegmentator (CT: task total, MR: task total_mr). They are the output of a network, "
    "kept in that project as reference results, not drawn by experts."
)


def convert(root: Path, target: Path) -> None:
    """Build `images/`, `labels/` and `labels.json` from the repository's files in `root`.

    Raises:
        FetchError: a file is missing or damaged, or the list of names cannot be found in `map_to_binary.py`.
    """
    names = read_class_map(root / "map_to_binary.py")
    cases, common = {}, {organ: {} for organ in SHARED_ORGANS}
    for case, (image, label, task, description) in CASES.items():
        present = _convert_case(root / image, root / label, case, target)
        labels = {str(value): names[task].get(value, f"structure {value}") for value in present}
        cases[case] = {"description": description, "labels": labels}
        for value, name in labels.items():
            if name in common:
                common[name][case] = int(value)
    content = {"note": NOTE, "cases": cases, "common": common}
    (target / "labels.json").write_text(json.dumps(content, indent=1) + "\n")


def read_class_map(source: Path) -> dict[str, dict[int, str]]:
    """The dictionary `class_map` of a Python file, read as data: the file is parsed, never run."""
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Assign) and any(
                isinstance(t, ast.Name) and t.id == "class_map" for t in node.targets
            ):
                class_map = ast.literal_eval(node.value)
                return {task: class_map[task] for task in ("total", "total_mr")}
    except (OSError, SyntaxError, ValueError, KeyError) as error:
        raise FetchError(f"totalsegmentator_samples: {source.name} does not list the label names ({error}).") from error
    raise FetchError(
        f"totalsegmentator_samples: {source.name} has no class_map; the repository has changed, see its page."
    )


def _convert_case(image: Path, label: Path, case: str, target: Path) -> list[int]:
    """Write one scan and its label map; returns the label values present, without 0."""
    from medssl_nb.data.volumes import read_label_map, read_volume, write_volume

    try:
        volume = read_volume(image)
        labels = read_label_map(label, like=volume)
    except (OSError, ValueError) as error:
        raise FetchError(f"totalsegmentator_samples: {error}") from error
    write_volume(target / "images" / f"{case}.nii.gz", volume)
    write_volume(target / "labels" / f"{case}.nii.gz", labels)
    return [int(value) for value in np.unique(labels.numpy()) if value]
