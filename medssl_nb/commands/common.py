"""Words that several commands share."""

import argparse
from pathlib import Path

from medssl_nb.data.folders import folder_name
from medssl_nb.recipes import Recipe, load_recipe


def add_recipe_words(parser: argparse.ArgumentParser) -> None:
    """--profile, --cohort, --like, --set, --runs."""
    parser.add_argument("--profile", choices=("demo", "full"), help="size (default: MEDSSL_PROFILE, or demo)")
    parser.add_argument("--cohort", metavar="NAME|FOLDER", help="other data than the recipe's, such as hippocampus")
    parser.add_argument(
        "--like", metavar="RECIPE", help="take cohort, encoder, pre-training and transfer from this recipe"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="change a setting of the recipe"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="where runs are kept (runs)")


def add_device_words(parser: argparse.ArgumentParser) -> None:
    """--accelerator."""
    parser.add_argument(
        "--accelerator", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="where to compute (auto)"
    )


def recipe_of(options: argparse.Namespace, name: str) -> Recipe:
    """The recipe that the words ask for."""
    return load_recipe(name, options.profile, options.set, options.cohort, options.like)


def run_folder(runs: Path, recipe: Recipe, seed: int) -> Path:
    """Where pre-training of `recipe` with `seed` is kept: RUNS/NAME.PROFILE/COHORT/seedN."""
    return runs / recipe.title / folder_name(recipe.cohort["name"]) / f"seed{seed}"


def torch_device(accelerator: str) -> str:
    """The device that `--accelerator` means here."""
    import torch

    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise ValueError("--accelerator cuda: this torch sees no NVIDIA GPU; `python -m medssl_nb doctor` says why.")
    if accelerator == "mps" and not torch.backends.mps.is_available():
        raise ValueError("--accelerator mps: there is no Apple GPU here.")
    return accelerator


def cohort_facts(cohort, recipe: Recipe) -> dict:
    """What a result says of its data: no path, the name of a folder only."""
    options = {k: v for k, v in recipe.cohort.items() if k != "name"}
    sizes = {part: len(getattr(cohort, part)) for part in ("train", "validation", "test")}
    return {"name": Path(cohort.name).name, "options": options, **sizes}
