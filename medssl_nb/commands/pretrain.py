"""`python -m medssl_nb pretrain RECIPE`: pre-train an encoder, or go on where a run stopped."""

import argparse
import os
from dataclasses import replace
from pathlib import Path

from medssl_nb.commands.common import add_device_words, add_recipe_words, recipe_of, run_folder
from medssl_nb.lessons import PROFILES
from medssl_nb.recipes import Recipe, load_recipe


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's words to `parser`."""
    parser.add_argument("recipe", help="a recipe (python -m medssl_nb recipes) or the path of your own")
    add_recipe_words(parser)
    parser.add_argument("--seed", type=int, help="seed of weights and data order (default: the recipe's)")
    add_device_words(parser)
    parser.add_argument("--devices", type=int, default=1, help="processes on this machine, one per GPU (1)")
    parser.add_argument("--dry-run", action="store_true", help="say what would run: sizes, memory, steps")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Pre-train, resume, or load. Returns 0."""
    changes = options.set + ([] if options.seed is None else [f"pretraining.seed={options.seed}"])
    recipe = recipe_of(argparse.Namespace(**{**vars(options), "set": changes}), options.recipe)
    if recipe.pretraining is None:
        raise ValueError(f"recipe {recipe.title} has no pre-training; it is a start for `transfer`.")
    folder = run_folder(options.runs, recipe, recipe.pretraining.seed)
    if options.dry_run:
        print(plan(recipe, folder, options.devices))
        return 0
    task = trained(recipe, options.runs, accelerator=options.accelerator, devices=options.devices)
    if first_process():
        trivial = ", ".join(f"{name} {value:.4g}" for name, value in task.trivial_losses.items())
        print(f"The thoughtless model scores {trivial}." if trivial else "", end="\n" if trivial else "")
        print(f"Encoder: {folder / 'encoder.safetensors'}")
    return 0


def trained(recipe: Recipe, runs: Path, *, accelerator: str = "auto", devices: int = 1):
    """The task of a recipe, trained in its folder under `runs`, or loaded from there; first that of `recipe.after`."""
    from medssl_nb.training import pretrain, progress_bar, read_checkpoint

    seed = recipe.pretraining.seed
    embedding = None
    if recipe.after is not None:
        embedding = trained(recipe_before(recipe), runs, accelerator=accelerator, devices=devices).encoder
    task, folder = recipe.make_task(seed, embedding), run_folder(runs, recipe, seed)
    before = read_checkpoint(folder)
    if before and first_process():
        print(
            f"{folder}: {before['step']} of {recipe.pretraining.steps} steps are done; going on from there.", flush=True
        )
    records = pretrain(
        task,
        recipe.open_cohort(),
        recipe.pretraining,
        folder=folder,
        about={"recipe": recipe.title},
        accelerator=accelerator,
        devices=devices,
    )
    for _ in progress_bar(records) if first_process() else records:
        pass
    return task


def recipe_before(recipe: Recipe) -> Recipe:
    """The recipe that `recipe` stands on, for the same data and seed."""
    profile = recipe.profile if recipe.profile in PROFILES else None
    before = load_recipe(recipe.after, profile, [f"pretraining.seed={recipe.pretraining.seed}"])
    return replace(before, cohort=recipe.cohort)


def first_process() -> bool:
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


def plan(recipe: Recipe, folder: Path, processes: int) -> str:
    """What a run would be, in a few lines."""
    import torch

    from medssl_nb.training import estimate_memory, read_checkpoint
    from medssl_nb.training.memory import free_device_bytes

    profile, cohort, task = recipe.pretraining, recipe.open_cohort(), recipe.make_task()
    channels = cohort.unlabelled[0].image().shape[0]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    estimate = estimate_memory(task, profile, in_channels=channels, processes=processes, device=str(device))
    epochs = profile.steps * profile.batch_size / len(cohort.unlabelled)
    free = free_device_bytes(device) / 1e9
    stored = read_checkpoint(folder)
    lines = {
        "recipe": f"{recipe.title}: {recipe.about}",
        **({"first": recipe_before(recipe).title} if recipe.after else {}),
        "cohort": f"{cohort.name}, {len(cohort.unlabelled)} unlabelled images",
        "encoder": f"{recipe.encoder['network']}, {sum(p.numel() for p in task.encoder.parameters()):,} weights",
        "task": f"{sum(p.numel() for p in task.parameters() if p.requires_grad):,} trained weights in all",
        "crops": f"{' x '.join(map(str, profile.crop))} voxels, {channels} channel(s), {profile.batch_size} per step",
        "shared by": f"{processes} process(es) x {profile.accumulate} part(s), {estimate.volumes} volume(s) at once",
        "steps": f"{profile.steps:,} (each image about {epochs:.0f} times), {profile.precision}",
        "memory": f"{estimate}",
        "free": f"{free:.1f} GB on {device}{'' if estimate.total <= free * 1e9 else ': not enough'}",
        "folder": f"{folder}, {stored['step'] if stored else 0} steps done",
    }
    return "\n".join(f"{name:10} {text}" for name, text in lines.items())
