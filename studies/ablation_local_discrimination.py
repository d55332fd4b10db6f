"""What each term of local discrimination does to landmarks, clusters and frozen features, over seeds.

    python studies/ablation_local_discrimination.py --seeds 0 1 2

Every arm sees the same crops from the same weights of the encoder. With seed s, landmarks are marked in training case s
and looked for in the judged cases: by the embeddings of single voxels and of windows, by all features of the encoder,
by grey values (normalised cross-correlation, no learning) and by copying the place. Finished runs are kept: started
again, it goes on. Results: results/ablation_local_discrimination.json.
"""

import argparse
import json
from datetime import date
from pathlib import Path

import torch

from medssl_nb.commands.common import cohort_facts, run_folder
from medssl_nb.evaluation import (
    clusters_used,
    find_by_features,
    landmark_transfer,
    linear_probe,
    made_with,
    match_grey_values,
    organ_information,
    save_result,
    score_landmarks,
    success_rate,
)
from medssl_nb.methods.local_discrimination import center_sensitive_embeddings
from medssl_nb.methods.local_discrimination.task import PARTS
from medssl_nb.recipes import load_recipe
from medssl_nb.training import pretrain, progress_bar

ARMS = {
    "untrained": None,
    "patch": ("patch",),
    "+ mixup": ("patch", "mixup"),
    "+ region": ("patch", "mixup", "region"),
    "+ entropy": ("patch", "mixup", "region", "entropy"),
}
LABELLED = (1, 4)  # cases that the probe learns from
WINDOWS = (1, 5, 9)  # voxels around which embeddings are averaged
GREY_WINDOWS = (5, 9)  # cubes that are matched
RADII_MM = (15.0, 25.0)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE")
    parser.add_argument("--on", choices=["validation", "test"], default="test", help="cases that are judged")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--name", default="ablation_local_discrimination.json")
    options = parser.parse_args(words)
    runs, recipe = [], load_recipe("local_discrimination", "demo", options.set)
    cohort = recipe.open_cohort()
    judged = getattr(cohort, options.on)
    baselines = []
    for seed in options.seeds:
        template = cohort.train[seed]
        baselines.append({"seed": seed, **without_learning(template, judged)})
        print(baselines[-1], flush=True)
        for arm in options.arms:
            task = trained(arm, seed, cohort, options)
            clusters = cluster_scores(task, judged, cohort, recipe) if "region" in task.parts else {}
            landmarks = landmark_scores(task, template, judged)
            runs.append(
                {"arm": arm, "seed": seed, **landmarks, **clusters, **probes(task.encoder, judged, cohort, recipe)}
            )
            print(runs[-1], flush=True)
    arms = {arm: ARMS[arm] and list(ARMS[arm]) for arm in options.arms}
    settings = {"task": recipe.task, "encoder": recipe.encoder, "profile": recipe.pretraining.identity()}
    result = {
        "kind": "ablation",
        "recipe": recipe.title,
        "method": recipe.method,
        "cohort": cohort_facts(cohort, recipe),
        "settings": {**settings, "arms": arms, "radii_mm": list(RADII_MM), "judged": len(judged)},
        "seeds": options.seeds,
        "baselines": baselines,
        "runs": runs,
        "made_with": made_with(),
        "date": date.today().isoformat(),
    }
    print(save_result(result, options.results, options.name))


def trained(arm: str, seed: int, cohort, options):
    """The task with one arm's parts, trained, or loaded if it was trained before."""
    changes = [*options.set, f"pretraining.seed={seed}"]
    if ARMS[arm]:
        changes.append(f"task.parts={json.dumps(ARMS[arm])}")
    recipe = load_recipe("local_discrimination", "demo", changes)
    task = recipe.make_task(seed)
    if ARMS[arm]:
        whole = set(ARMS[arm]) == set(PARTS)  # the recipe itself: its runs lie where `transfer` looks for them
        folder = run_folder(options.runs if whole else options.runs / "parts" / "-".join(ARMS[arm]), recipe, seed)
        for _ in progress_bar(pretrain(task, cohort, recipe.pretraining, folder=folder)):
            pass
    return task.eval()


def landmark_scores(task, template, cases) -> dict[str, float]:
    """Mean error in mm and share within each radius: embeddings averaged over windows, and all encoder features."""
    scores = {}
    for window in WINDOWS:

        def features(volume, window=window):
            return center_sensitive_embeddings(task.embeddings(volume.as_tensor()[None]), window)[0]

        scores |= summary(f"window {window}", score_landmarks(find_by_features(features), template, cases))
    return scores | summary("features", landmark_transfer(task.encoder, template, cases))


def without_learning(template, cases) -> dict[str, float]:
    """The same for grey values and for copying the place."""
    scores = {}
    for window in GREY_WINDOWS:

        def find(known, points, query, window=window):
            return match_grey_values(known[0], points, query[0], window=window)

        found = score_landmarks(find, template, cases)
        scores |= summary(f"grey {window}", found)
    return scores | summary("copying", {"errors_mm": found["copy_errors_mm"]})


def summary(name: str, found: dict) -> dict[str, float]:
    errors = torch.tensor([mm for of_case in found["errors_mm"].values() for mm in of_case.values()])
    rates = {f"{name}, within {radius:g} mm": float(success_rate(errors, radius)) for radius in RADII_MM}
    return {f"{name}, mm": float(errors.mean()), **rates}


@torch.no_grad()
def cluster_scores(task, cases, cohort, recipe) -> dict[str, float]:
    """How many clusters are used on whole volumes, and what they say of the organs and of all labels."""
    organs = [n for n, name in cohort.label_names.items() if name in recipe.transfer.organs]
    usage, clusters, labels = 0, [], []
    for case in cases:
        assignments = task.assignments(case.normalised().as_tensor()[None])
        usage = usage + assignments.sum((0, 2, 3, 4))
        clusters.append(assignments.argmax(1)[0])
        labels.append(torch.as_tensor(case.label().as_tensor())[0].long())
    clusters, labels = torch.stack(clusters), torch.stack(labels)
    hard = torch.bincount(clusters.flatten(), minlength=len(usage))
    said = organ_information(clusters, labels, organs)
    everywhere = organ_information(clusters, labels)
    return {
        "used": clusters_used(hard),
        "used_soft": clusters_used(usage),
        **{f"organ_{name}": value for name, value in said.items()},
        **{f"label_{name}": value for name, value in everywhere.items()},
    }


def probes(encoder, cases, cohort, recipe) -> dict[str, float]:
    """Mean Dice of the organs by a linear probe on frozen features, learnt from the first cases."""
    names = {n: name for n, name in cohort.label_names.items() if name in recipe.transfer.organs}
    return {f"probe_{n}": linear_probe(encoder, cohort.train[:n], cases, names)["mean_dice"] for n in LABELLED}


if __name__ == "__main__":
    main()
