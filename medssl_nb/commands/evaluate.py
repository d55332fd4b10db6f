"""`python -m medssl_nb evaluate STARTS`: what frozen features know, by probes with a few labels and by landmarks."""

import argparse
from pathlib import Path

from medssl_nb.commands.common import add_device_words, add_recipe_words, recipe_of, torch_device
from medssl_nb.commands.transfer import (
    chosen_seeds,
    count_or_all,
    encoder_source,
    how_it_started,
    result_of,
)
from medssl_nb.recipes import Recipe

PROBES = ("linear", "nearest")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's words to `parser`."""
    parser.add_argument("starts", nargs="+", help='recipes whose encoders are probed; "random" is no pre-training')
    add_recipe_words(parser)
    parser.add_argument("--labelled", nargs="+", type=count_or_all, metavar="N", help="labelled cases of the probes")
    parser.add_argument("--draws", type=int, help="choices of the labelled cases, and of the landmarks' patient")
    parser.add_argument("--seeds", nargs="+", type=int, help="seeds of the encoders and of the voxels drawn")
    parser.add_argument("--probes", nargs="+", choices=PROBES, default=["linear"], help="which probes (linear)")
    parser.add_argument("--part", choices=("validation", "test"), default="test", help="cases to score (test)")
    add_device_words(parser)
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="FOLDER", help="where results go")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Probe every start and write the result files. Returns 0."""
    from medssl_nb.evaluation.results import save_result
    from medssl_nb.evaluation.tables import dice_table, landmark_table

    device = torch_device(options.accelerator)
    recipes = [recipe_of(options, name) for name in options.starts]
    sources = [encoder_source(recipe, options, name) for recipe, name in zip(recipes, options.starts, strict=True)]
    tables: dict[str, list[dict]] = {}
    for recipe, (encoder, pretrained_with) in zip(recipes, sources, strict=True):
        cohort = recipe.open_cohort()
        facts = {"pretraining": how_it_started(recipe, pretrained_with), "part": options.part}
        seeds = chosen_seeds(options, recipe)
        measured = {
            f"probe_{name}": probe_runs(name, recipe, cohort, encoder, options, device) for name in options.probes
        }
        measured["landmarks"] = landmark_runs(recipe, cohort, encoder, options, device)
        for name, runs in measured.items():
            if not runs:
                print(f"{cohort.name}: no case has landmarks, so none are looked for.")
                continue
            kind, _, probe = name.partition("_")
            settings = {**facts, "organs": recipe.transfer.organs, "probe": probe} if probe else facts
            result = result_of(kind, recipe, cohort, settings, seeds, runs, device)
            part = "" if options.part == "test" else f"_{options.part}"
            file = f"{name}_{recipe.title}_{Path(cohort.name).name}{part}.json"
            print(f"Written: {save_result(result, options.results, file)}")
            tables.setdefault(name, []).append(result)
    for name, results in tables.items():
        print(f"\n{(landmark_table if name == 'landmarks' else dice_table)(results)}")
    return 0


def probe_runs(name: str, recipe: Recipe, cohort, encoder_of, options: argparse.Namespace, device: str) -> list[dict]:
    """One record for each number of labels, draw and seed."""
    from medssl_nb.evaluation.probes import linear_probe, nearest_voxel_probe

    probe = linear_probe if name == "linear" else nearest_voxel_probe
    wanted = recipe.transfer.organs
    names = {number: organ for number, organ in cohort.label_names.items() if wanted is None or organ in wanted}
    runs = []
    for seed in chosen_seeds(options, recipe):
        encoder = encoder_of(seed)
        for labelled in options.labelled or recipe.labelled:
            for draw in range(1 if labelled == "all" else options.draws or recipe.draws):
                cases = cohort.train if labelled == "all" else cohort.few_shot(labelled, draw)
                scores = probe(encoder, cases, getattr(cohort, options.part), names, seed=seed, device=device)
                runs.append({**scores, "start": recipe.name, "labelled": labelled, "draw": draw, "seed": seed})
                where = f"{labelled} labelled, draw {draw}, seed {seed}"
                print(f"{recipe.name}, {name} probe, {where}: Dice {scores['mean_dice']:.3f}", flush=True)
    return runs


def landmark_runs(recipe: Recipe, cohort, encoder_of, options: argparse.Namespace, device: str) -> list[dict]:
    """One record for each template patient and seed; none if the cohort has no landmarks."""
    from medssl_nb.evaluation.landmarks import landmark_transfer

    cases, runs = getattr(cohort, options.part), []
    if not (cohort.train and cohort.train[0].landmarks_mm):
        return []
    for seed in chosen_seeds(options, recipe):
        encoder = encoder_of(seed)
        for draw in range(options.draws or recipe.draws):
            template = cohort.few_shot(1, draw)[0]
            found = landmark_transfer(encoder, template, cases, device=device)
            runs.append({**found, "start": recipe.name, "template": template.name, "seed": seed})
            print(f"{recipe.name}, landmarks of {template.name}, seed {seed}: {found['mean_mm']:.1f} mm", flush=True)
    return runs
