"""What each part of Alice adds to frozen features and to learning from one label, over seeds, and whether it collapses.

    python studies/ablation_alice.py --seeds 0 1 2

Every arm starts from the same weights of the encoder. Crops around random places are the same for the arms that take
them, and so are mined ones, which SAM of the same seed finds. Judged are a linear probe on frozen features, landmarks
found by all features, fine-tuning with one labelled case, and how much of the deepest map tells crops apart (the rest
tells places within a crop apart). The collapse meters of each run are kept. Finished runs
are kept too: started again, it goes on. Results: results/ablation_alice.json.
"""

import json
from dataclasses import asdict

import torch
from common import add_places, errors_mm, parser_of, probes, result_of, train

from medssl_nb.commands.pretrain import recipe_before, trained
from medssl_nb.data.crops import crop_at, random_start
from medssl_nb.evaluation import finetune, landmark_transfer, save_result, success_rate
from medssl_nb.recipes import load_recipe
from medssl_nb.training import read_history

FIGURE = ("task.mask_mode=patch", "task.teacher_context=encoder", "task.target_weights=ema")
ARMS = {  # changes of the demo recipe
    "untrained": None,
    "reconstruction": ('task.parts=["reconstruction"]', "task.pairs=random"),
    "+ global, random crops": ('task.parts=["reconstruction", "global"]', "task.pairs=random"),
    "+ global, mined crops": ('task.parts=["reconstruction", "global"]', "task.pairs=mined"),
    "+ CASA": (),
    "as the figure": FIGURE,
    "a tenth of the weight": ("task.global_weight=0.1", "task.patch_weight=0.1"),
}
RADII_MM = (15.0, 25.0)


def main(words: list[str] | None = None) -> None:
    parser = parser_of(__doc__, ARMS, seeds=[0, 1, 2])
    add_places(parser, "ablation_alice.json")
    options = parser.parse_args(words)
    recipe = load_recipe("alice", "demo", options.set)
    cohort, runs = recipe.open_cohort(), []
    for seed in options.seeds:
        for arm in options.arms:
            encoder, meters = pretrained(arm, seed, cohort, options)
            runs.append({"arm": arm, "seed": seed, **scores(encoder, seed, cohort, recipe, options.on)})
            print(runs[-1], flush=True)
            runs[-1]["meters"] = meters
    settings = {
        "arms": {arm: ARMS[arm] and list(ARMS[arm]) for arm in options.arms},
        "embedding": recipe_before(recipe).title,
        "transfer": asdict(recipe.transfer),
        "radii_mm": list(RADII_MM),
        "on": options.on,
        "judged": len(getattr(cohort, options.on)),
    }
    result = result_of("ablation", recipe, cohort, runs, options, settings)
    print(save_result(json.loads(json.dumps(result, default=list)), options.results, options.name))


def pretrained(arm: str, seed: int, cohort, options):
    """The encoder of one arm, trained, or loaded if it was trained before, and its meters: step -> name -> value."""
    changes = [*options.set, f"pretraining.seed={seed}", *(ARMS[arm] or ())]
    recipe = load_recipe("alice", "demo", changes)
    if ARMS[arm] is None:
        return recipe.make_task(seed).encoder, []
    embedding = None
    if recipe.task.get("pairs", "mined") == "mined":
        embedding = trained(recipe_before(recipe), options.runs).encoder
    task = recipe.make_task(seed, embedding)
    # The recipe itself lies where `transfer` looks for it.
    runs = options.runs / "arms" / arm.replace(" ", "-").replace(",", "") if ARMS[arm] else options.runs
    told = [record for record in read_history(train(task, cohort, recipe, runs, seed)) if record["health"]]
    return task.encoder, [{"step": r["step"], "losses": r["losses"], "health": r["health"]} for r in told]


def scores(encoder, seed: int, cohort, recipe, on: str) -> dict[str, float]:
    """Mean Dice of the organs by probe and by fine-tuning, landmarks in mm."""
    cases = getattr(cohort, on)
    found = {"between_crops": between_crops(encoder, cases), **probes(encoder, cases, cohort, recipe)}
    marks = landmark_transfer(encoder, cohort.train[seed], cases)
    found |= {"landmarks_mm": marks["mean_mm"], "copying_mm": marks["copy_mm"]}
    found |= {f"landmarks_within_{radius:g}": float(success_rate(errors_mm(marks), radius)) for radius in RADII_MM}
    tuned = finetune(
        encoder, cohort.few_shot(1, seed), cohort.validation, cases, cohort.label_names, recipe.transfer, seed=seed
    )
    curve = {f"finetuned_step_{step}": dice for step, dice in tuned["curve"]}
    return {**found, **curve, "finetuned_1": tuned["test"]["mean_dice"]}


@torch.no_grad()
def between_crops(encoder, cases, size: int = 32, crops: int = 4) -> float:
    """Share of the variance of the deepest map that lies between crops, 0 to 1."""
    generator, found = torch.Generator().manual_seed(0), []
    for case in cases:
        volume = case.normalised().as_tensor()
        box = [min(size, side) // 16 * 16 for side in volume.shape[1:]]
        for _ in range(crops):
            start = random_start(volume.shape[1:], box, generator)
            found.append(encoder.eval().feature_maps(crop_at(volume, start, box)[None])[-1][0].flatten(1))
    maps = torch.stack(found)  # (crops, C, voxels)
    return float(maps.mean(2).var(0).sum() / maps.transpose(0, 1).flatten(1).var(1).sum())


if __name__ == "__main__":
    main()
