"""What the studies of this folder share: the words they take, the training of an arm, probes, and what is stored."""

import argparse
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from pathlib import Path

import torch

from medssl_nb.commands.common import cohort_facts, run_folder
from medssl_nb.evaluation import linear_probe, made_with
from medssl_nb.recipes import load_recipe
from medssl_nb.training import pretrain, progress_bar


def parser_of(doc: str, arms: Mapping, seeds: Sequence[int]) -> argparse.ArgumentParser:
    """Words of a study: --seeds and --arms, all of them unless told; its help begins as its docstring does."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument("--arms", nargs="+", default=list(arms), choices=arms)
    return parser


def add_places(parser: argparse.ArgumentParser, name: str | None = None) -> None:
    """Add --set, --runs and --results; with the name of the result's file also --on and --name."""
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE")
    if name:
        parser.add_argument("--on", choices=["validation", "test"], default="test", help="cases that are judged")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    if name:
        parser.add_argument("--name", default=name)


def train(task, cohort, recipe, runs: Path, seed: int) -> Path:
    """Train a task, or load it if it was trained before, in its folder below `runs`, which is returned."""
    folder = run_folder(runs, recipe, seed)
    for _ in progress_bar(pretrain(task, cohort, recipe.pretraining, folder=folder)):
        pass
    return folder


def trained_parts(name: str, parts: Collection[str] | None, every: Collection[str], seed: int, cohort, options):
    """The task of a demo recipe with some of its parts, trained; None of them: as it begins."""
    changes = [*options.set, f"pretraining.seed={seed}"]
    if parts:
        changes.append(f"task.parts={json.dumps(parts)}")
    recipe = load_recipe(name, "demo", changes)
    task = recipe.make_task(seed)
    if parts:
        whole = set(parts) == set(every)  # the recipe itself: its runs lie where `transfer` looks for them
        train(task, cohort, recipe, options.runs if whole else options.runs / "parts" / "-".join(parts), seed)
    return task.eval()


def result_of(kind: str, recipe, cohort, runs: list[dict], options, settings: Mapping) -> dict:
    """A result for `save_result`; `settings` are added to those of the recipe."""
    own = {"task": recipe.task, "encoder": recipe.encoder, "profile": recipe.pretraining.identity()}
    return {
        "kind": kind,
        "recipe": recipe.title,
        "method": recipe.method,
        "cohort": cohort_facts(cohort, recipe),
        "settings": {**own, **settings},
        "seeds": options.seeds,
        "runs": runs,
        "made_with": made_with(),
        "date": date.today().isoformat(),
    }


def probes(encoder, cases, cohort, recipe, labelled: Sequence[int] = (1, 4)) -> dict[str, float]:
    """Mean Dice of the organs by a linear probe on frozen features, learnt from the first `labelled` cases."""
    names = {n: name for n, name in cohort.label_names.items() if name in recipe.transfer.organs}
    return {f"probe_{n}": linear_probe(encoder, cohort.train[:n], cases, names)["mean_dice"] for n in labelled}


def errors_mm(found: Mapping) -> torch.Tensor:
    """All errors of landmarks in what `landmark_transfer` or `score_landmarks` returns, one after the other."""
    return torch.tensor([mm for of_case in found["errors_mm"].values() for mm in of_case.values()])
