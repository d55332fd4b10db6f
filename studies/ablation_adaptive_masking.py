"""What each part of AMLP does to the guess of lesion patches: pre-training with the parts added one by one, over seeds.

    python studies/ablation_adaptive_masking.py --seeds 0 1 2 3 4

Every arm sees the same crops from the same weights. All are judged under the same random masks (half of the tissue
hidden), on test patients, because losses under different masks cannot be compared. Finished runs are kept: started
again, it goes on. Results: results/ablation_adaptive_masking.json.
"""

import numpy as np
import torch
from common import add_places, parser_of, result_of, train

from medssl_nb.data.crops import random_crop
from medssl_nb.evaluation.patches import errors_by_category, lesion_patches, selection_scores
from medssl_nb.evaluation.results import save_result
from medssl_nb.methods.adaptive_masking import (
    foreground_patches,
    kmeans,
    lesion_category,
    patch_features,
    patchify,
    reconstruction_error,
    select_masked_patches,
)
from medssl_nb.recipes import load_recipe

ARMS = {
    "random mask": (),
    "+ MPS": ("mps",),
    "+ AMR": ("mps", "amr"),
    "+ RRL": ("mps", "amr", "rrl"),
    "+ CCL": ("mps", "amr", "rrl", "ccl"),
}
MASKS = 4  # random masks of each test crop
CLUSTERS = 8  # of the frozen tokens


def main(words: list[str] | None = None) -> None:
    parser = parser_of(__doc__, ARMS, seeds=[0, 1, 2, 3, 4])
    add_places(parser)
    options = parser.parse_args(words)
    runs, recipe = [], load_recipe("adaptive_masking", "demo", options.set)
    cohort = recipe.open_cohort()
    judged = test_crops(cohort, recipe)
    for seed in options.seeds:
        for arm in options.arms:
            task = trained(arm, seed, cohort, options)
            runs.append({"arm": arm, "seed": seed, **scores(task, judged)})
            print(runs[-1], flush=True)
    settings = {"arms": {arm: list(ARMS[arm]) for arm in options.arms}, "hidden": 0.5, "masks": MASKS}
    result = result_of("ablation", recipe, cohort, runs, options, settings)
    print(save_result(result, options.results, "ablation_adaptive_masking.json"))


def trained(arm: str, seed: int, cohort, options):
    """The task with one arm's parts, trained, or loaded if it was trained before.

    The first arm is the recipe simmim, the last is adaptive_masking; their runs lie where `transfer` looks for them.
    """
    parts = ", ".join(f'"{part}"' for part in ARMS[arm])
    changes = [*options.set, f"task.parts=[{parts}]", f"pretraining.seed={seed}"]
    recipe = load_recipe("adaptive_masking" if ARMS[arm] else "simmim", "demo", changes)
    task = recipe.make_task(seed)
    none, *_, every = ARMS
    between = arm not in (none, every)
    train(task, cohort, recipe, options.runs / "parts" / "-".join(ARMS[arm]) if between else options.runs, seed)
    return task.eval()


def test_crops(cohort, recipe) -> dict[str, torch.Tensor]:
    """Crops around the lesions of the test patients, what is tissue and what is lesion in them, and the masks."""
    generator = torch.Generator().manual_seed(0)
    volumes, truths = [], []
    patch, foreground = recipe.encoder["patch_size"], recipe.task["foreground"]
    for case in cohort.test:
        image, lesion = case.normalised().as_tensor(), case.read("lesion").as_tensor()
        places = lesion[0].nonzero()
        if not len(places):  # a small lesion may fall between the voxels
            continue
        around = places[len(places) // 2].tolist()
        image, lesion = random_crop([image, lesion.float()], recipe.pretraining.crop, generator, around=around)
        volumes.append(image)
        truths.append(lesion)
    volume = torch.stack(volumes)
    tissue, core = (foreground_patches(volume, patch, foreground, share) for share in (0.1, 0.9))
    masks = [
        select_masked_patches(torch.zeros_like(tissue), 0.5, lesion_share=0, valid=tissue, generator=generator)
        for _ in range(MASKS)
    ]
    truth = lesion_patches(torch.stack(truths), patch)
    return {"volume": volume, "truth": truth, "tissue": tissue, "core": core, "masks": torch.stack(masks)}


@torch.no_grad()
def scores(task, judged: dict[str, torch.Tensor]) -> dict[str, float]:
    """Mean error of hidden lesion and background patches; what clusters of the frozen tokens find."""
    volume, truth, core = judged["volume"], judged["truth"], judged["core"]
    target = patchify(volume, task.encoder.patch_size)
    by_mask = []
    for mask in judged["masks"]:
        errors = reconstruction_error(task.encoder(volume, mask)["prediction"], target)
        by_mask.append(errors_by_category(errors, mask, truth))
    tokens = torch.nn.functional.normalize(task.encoder.encode(volume), dim=-1)
    labels = kmeans(tokens, CLUSTERS, valid=core, generator=torch.Generator().manual_seed(0)).labels
    peak = patch_features(volume, task.encoder.patch_size, "peak", standardize=False)[..., 0]
    found = selection_scores(lesion_category(labels, CLUSTERS, scores=peak), truth, core)
    errors = {f"{name}_error": float(np.mean([one[name] for one in by_mask])) for name in ("lesion", "background")}
    return {**errors, "token_lift": found["lift"], "token_recall": found["recall"]}


if __name__ == "__main__":
    main()
