"""`python -m medssl_nb transfer STARTS`: fine-tune on a few labels, with and without pre-training, and test once."""

import argparse
import hashlib
import json
import shlex
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from pathlib import Path

from medssl_nb.commands.common import (
    add_device_words,
    add_recipe_words,
    cohort_facts,
    recipe_of,
    run_folder,
    torch_device,
)
from medssl_nb.recipes import Recipe


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's words to `parser`."""
    parser.add_argument("starts", nargs="+", help='recipes whose encoders start; "random" is no pre-training')
    add_recipe_words(parser)
    parser.add_argument("--labelled", nargs="+", type=count_or_all, metavar="N", help='labelled cases, or "all"')
    parser.add_argument("--draws", type=int, help="choices of the labelled cases")
    parser.add_argument(
        "--seeds", nargs="+", type=int, help="seeds of each draw; pre-training of the same seed is used"
    )
    add_device_words(parser)
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="FOLDER", help="where results go")
    parser.set_defaults(run=run)


def count_or_all(word: str) -> int | str:
    """A number of labelled cases from the command line."""
    return word if word == "all" else int(word)


def run(options: argparse.Namespace) -> int:
    """Run every start and write one result file for each. Returns 0."""
    from medssl_nb.evaluation.results import save_result
    from medssl_nb.evaluation.tables import dice_table, difference_table
    from medssl_nb.evaluation.transfer import few_label_transfer

    device = torch_device(options.accelerator)
    recipes = [recipe_of(options, name) for name in options.starts]
    sources = [encoder_source(recipe, options, name) for recipe, name in zip(recipes, options.starts, strict=True)]
    results = []
    for recipe, (encoder, pretrained_with) in zip(recipes, sources, strict=True):
        cohort = recipe.open_cohort()
        runs = {
            "labelled": tuple(options.labelled or recipe.labelled),
            "draws": options.draws or recipe.draws,
            "seeds": chosen_seeds(options, recipe),
        }
        store = run_folder(options.runs, recipe, 0).parent / f"transfer-{fingerprint(recipe)}.jsonl"
        store.parent.mkdir(parents=True, exist_ok=True)
        records = few_label_transfer(
            encoder,
            cohort,
            **runs,
            settings=recipe.transfer,
            start=recipe.name,
            device=device,
            progress=say,
            store=store,
        )
        settings = {**asdict(recipe.transfer), "pretraining": how_it_started(recipe, pretrained_with)}
        result = result_of("transfer", recipe, cohort, settings, runs["seeds"], records, device)
        print(f"Written: {save_result(result, options.results)}")
        results.append(result)
    print(f"\n{dice_table(results)}")
    if {"random"} < {recipe.name for recipe in recipes}:
        print(f"\n{difference_table(results)}")
    return 0


def chosen_seeds(options: argparse.Namespace, recipe: Recipe) -> tuple[int, ...]:
    return tuple(options.seeds or recipe.seeds)


def encoder_source(recipe: Recipe, options: argparse.Namespace, name: str) -> tuple[Callable, dict[str, int]]:
    """A function seed -> encoder, and which seed of pre-training each seed gets.

    Every seed takes the pre-training of its own seed. Where only one pre-training was made, all take that one, which is
    said and recorded: the spread over seeds is then that of fine-tuning alone.

    Args:
        recipe: what the words ask for.
        options: --runs, --seeds and what a command for missing pre-training must repeat.
        name: the recipe as it was called.

    Raises:
        ValueError: pre-training is missing; the message holds the commands that make it.
    """
    if recipe.method == "none":
        return recipe.make_encoder, {}
    from medssl_nb.networks import load_encoder
    from medssl_nb.training.checkpoints import ENCODER

    seeds = chosen_seeds(options, recipe)
    files = {seed: run_folder(options.runs, recipe, seed) / ENCODER for seed in {recipe.pretraining.seed, *seeds}}
    there = {seed: file for seed, file in files.items() if file.exists()}
    used = {seed: seed for seed in seeds}
    if len(there) == 1 and set(seeds) != set(there):
        used = dict.fromkeys(seeds, next(iter(there)))
        print(
            f"{recipe.title}: pre-trained with seed {next(iter(there))} only; every seed of fine-tuning starts from it."
        )
    missing = sorted(set(used.values()) - set(there))
    if missing:
        again = "".join(f" --{w} {getattr(options, w)}" for w in ("profile", "cohort", "like") if getattr(options, w))
        again += "".join(f" --set {shlex.quote(change)}" for change in options.set)
        commands = "".join(f"\n  python -m medssl_nb pretrain {name} --seed {seed}{again}" for seed in missing)
        raise ValueError(f"{recipe.title} is not pre-trained with these seeds in {options.runs}. Run first:{commands}")
    return (lambda seed: load_encoder(there[used[seed]])), {str(seed): source for seed, source in used.items()}


def how_it_started(recipe: Recipe, pretrained_with: dict[str, int]) -> dict:
    """What a result says of where its encoders came from."""
    start = {"encoder": recipe.encoder, "method": recipe.method}
    if recipe.pretraining is not None:
        start |= {"task": recipe.task, "profile": recipe.pretraining.identity(), "seed_of_each_seed": pretrained_with}
    return start


def fingerprint(recipe: Recipe) -> str:
    """Short hash of what decides the runs of a recipe, for the name of the file that keeps finished ones."""
    facts = [recipe.cohort, asdict(recipe.transfer), how_it_started(recipe, {})]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:8]


def say(done: int, planned: int, record: dict) -> None:
    """One line for each finished run."""
    dice = record["test"]["mean_dice"]
    print(
        f"{record['start']}, {record['labelled']} labelled, draw {record['draw']}, seed {record['seed']}: "
        f"test Dice {dice:.3f} after {record['chosen_step']} steps ({done}/{planned})",
        flush=True,
    )


def result_of(kind: str, recipe: Recipe, cohort, settings: dict, seeds, runs: list[dict], device: str) -> dict:
    """A result file's contents."""
    from medssl_nb.evaluation.results import made_with

    return {
        "kind": kind,
        "recipe": recipe.title,
        "method": recipe.name,
        "cohort": cohort_facts(cohort, recipe),
        "settings": settings,
        "seeds": list(seeds),
        "runs": runs,
        "made_with": made_with(device=device),
        "date": date.today().isoformat(),
    }
