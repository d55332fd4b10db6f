"""Does the cluster that is called lesion hold the lesions? Lift, recall and size, by data set and preset.

    python studies/lesion_patches.py

Generated patients need no download; the real cohorts take part where MEDSSL_DATA has them, and the result says which
were left out. Each case is clustered by itself, once per seed of k-means; a run of the result is one case under one
preset, its scores averaged over the seeds. A minute or two on one core. Results: results/lesion_patches.json.
"""

import argparse
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import torch

from medssl_nb.data import load_cohort
from medssl_nb.data.locations import find_dataset
from medssl_nb.evaluation.patches import lesion_patches, selection_scores
from medssl_nb.evaluation.results import made_with, save_result
from medssl_nb.methods.adaptive_masking import foreground_patches, kmeans, lesion_category, patch_features

# Name -> features, clusters, which cluster is called lesion.
PRESETS = {
    "statistics, 2, smallest": ("statistics", 2, "smallest"),  # the literal reading of the abstract
    "statistics, 2, brightest": ("statistics", 2, "brightest"),
    "peak, 2, brightest": ("peak", 2, "brightest"),
    "peak, 4, brightest": ("peak", 4, "brightest"),
    "peak, 8, brightest": ("peak", 8, "brightest"),
}
GENERATED = {
    "phantom CT": {"name": "phantom", "shape": (64, 64, 64), "spacing_mm": (4.5, 4.5, 5.5)},
    "brain T1": {"name": "brain", "sequence": "T1", "shape": (32, 40, 32), "spacing_mm": 4.4},
    "brain FLAIR": {"name": "brain", "sequence": "FLAIR", "shape": (32, 40, 32), "spacing_mm": 4.4},
    # The same people; `normalise` cuts off what is brighter than 99.5 % of the box, small lesions among it.
    "brain FLAIR, not clipped": {"name": "brain", "sequence": "FLAIR", "shape": (32, 40, 32), "spacing_mm": 4.4},
}
REAL = {"MS FLAIR": "ms_lesions", "head-neck CT": "headneck_ct"}
PATCH = {
    **dict.fromkeys(GENERATED, (4, 4, 4)),
    "MS FLAIR": (9, 9, 3),  # cubes of 9 mm
    "head-neck CT": (4, 4, 6),  # about 19 x 19 x 18 mm
}
AIR_CT_HU, AIR_MR = -500, -0.3  # tissue lies above: raw CT, normalised MR of the generated brains
AIR_FLAIR = 0.15  # the same for raw intensities of the generated FLAIR brains
TISSUE = 0.9  # share of tissue in a patch that takes part
MARKED = 0.1  # share of marked voxels above which a patch is truly lesion


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=list(PATCH), choices=list(PATCH))
    parser.add_argument("--cases", type=int, default=24, help="most cases of a data set (24)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of k-means (0 1 2)")
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args(words)
    absent = [name for name in options.data if name in REAL and find_dataset(REAL[name]) is None]
    runs = []
    for name in options.data:
        if name in absent:
            continue
        for case, volume, truth, core in volumes(name, options.cases):
            found = scores(volume, truth, core, PATCH[name], options.seeds)
            runs += [{"data": name, "case": case, **one} for one in found]
            print(name, case, *(f"{one['preset']}: lift {one['lift']}" for one in found), sep=" | ", flush=True)
    settings = {"presets": PRESETS, "patch": PATCH, "generated": GENERATED, "tissue": TISSUE, "marked": MARKED}
    result = {
        "kind": "selection",
        "recipe": "lesion_patches",
        "method": "adaptive_masking",
        "cohort": {"name": "several", "options": {}, "train": 0, "validation": options.cases, "test": 0},
        "settings": {**settings, "data": options.data, "not_here": absent},
        "seeds": options.seeds,
        "runs": runs,
        "made_with": made_with(),
        "date": date.today().isoformat(),
    }
    print(save_result(result, options.results, "lesion_patches.json"))


def scores(volume, truth, core, patch_size, seeds) -> list[dict]:
    """Lift, recall and size of the lesion cluster of one case under each preset, mean and spread over the seeds.

    Args:
        volume: (1, 1, X, Y, Z) normalised intensities.
        truth: (1, N) bool, patches that truly hold lesion.
        core: (1, N) bool, patches that take part.
        patch_size: of a patch, in voxels.
        seeds: of k-means.

    Returns:
        For each preset "lift", "recall", "size" and their standard deviation over seeds, "lift_sd" and so on (None for
        a single seed), the number of "true" patches and of "patches" that take part. Lift and recall are None without
        a true patch.
    """
    brightness = patch_features(volume, patch_size, "peak", standardize=False)[..., 0]
    rows = []
    for preset, (kind, clusters, rule) in PRESETS.items():
        features = patch_features(volume, patch_size, kind, valid=core)
        by_seed = []
        for seed in seeds:
            labels = kmeans(features, clusters, valid=core, generator=torch.Generator().manual_seed(seed)).labels
            called = lesion_category(labels, clusters, scores=brightness if rule == "brightest" else None)
            by_seed.append(selection_scores(called, truth, core))
        row = {"preset": preset, "true": by_seed[0]["true"], "patches": int(core.sum())}
        for name in ("lift", "recall", "size"):
            row[name], row[f"{name}_sd"] = mean_and_spread([one[name] for one in by_seed])
        rows.append(row)
    return rows


def mean_and_spread(values: list[float | None]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation of the values that are defined; None where there are too few."""
    values = [value for value in values if value is not None]
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return (float(np.mean(values)) if values else None), spread


# ---------------------------------------------------------------- the data sets
def volumes(name: str, cases: int) -> Iterator[tuple[str, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(case, volume (1, 1, X, Y, Z), truth (1, N), core (1, N)) of up to `cases` cases of a data set."""
    if name in GENERATED:
        counts = {"train": 0, "validation": cases, "test": 0}
        cohort = load_cohort(**GENERATED[name], label="lesion", lesion_share=1.0, **counts)
        chosen, marks = cohort.validation, "lesion"
    else:
        cohort = load_cohort(REAL[name])
        followups = [case for key, case in cohort.cases.items() if key.endswith("followup")]
        chosen, marks = (followups, "lesion") if name == "MS FLAIR" else (cohort.validation, "target")
    for case in chosen[:cases]:
        raw, marked = whole_patches(case.image(), PATCH[name]), whole_patches(case.read(marks), PATCH[name])
        if name == "MS FLAIR":
            brain = whole_patches(case.read("brain"), PATCH[name])
            volume = standardised(raw, brain > 0) * (brain > 0)
            core = foreground_patches(brain.float(), PATCH[name], 0.5, TISSUE)
        else:
            volume = whole_patches(case.normalised(), PATCH[name])
            ct = case.modality == "CT"
            core = foreground_patches(*((raw, PATCH[name], AIR_CT_HU) if ct else (volume, PATCH[name], AIR_MR)), TISSUE)
        if name == "brain FLAIR, not clipped":
            volume = standardised(raw, raw > AIR_FLAIR)
        yield case.name, volume, lesion_patches(marked, PATCH[name], MARKED), core


def standardised(raw: torch.Tensor, brain: torch.Tensor) -> torch.Tensor:
    """Intensities with mean 0 and deviation 1 inside the brain (bool), clipped to -4 ... 6."""
    inside = raw[brain].float()
    return ((raw.float() - inside.mean()) / inside.std()).clamp(-4, 6)


def whole_patches(volume, patch_size) -> torch.Tensor:
    """(1, X, Y, Z) as a batch of one, cut alike on both sides to a whole number of patches."""
    starts = [n % p // 2 for n, p in zip(volume.shape[1:], patch_size, strict=True)]
    sides = [slice(s, s + n // p * p) for s, n, p in zip(starts, volume.shape[1:], patch_size, strict=True)]
    return volume.as_tensor()[(None, slice(None), *sides)]


if __name__ == "__main__":
    main()
