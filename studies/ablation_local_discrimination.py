"""What each term of local discrimination does to landmarks, clusters and frozen features, over seeds.

    python studies/ablation_local_discrimination.py --seeds 0 1 2

Every arm sees the same crops from the same weights of the encoder. With seed s, landmarks are marked in training case s
and looked for in the judged cases: by the embeddings of single voxels and of windows, by all features of the encoder,
by grey values (normalised cross-correlation, no learning) and by copying the place. Finished runs are kept: started
again, it goes on. Results: results/ablation_local_discrimination.json.
"""

import torch
from common import add_places, errors_mm, parser_of, probes, result_of, trained_parts

from medssl_nb.evaluation import (
    clusters_used,
    find_by_features,
    landmark_transfer,
    match_grey_values,
    organ_information,
    save_result,
    score_landmarks,
    success_rate,
)
from medssl_nb.methods.local_discrimination import center_sensitive_embeddings
from medssl_nb.methods.local_discrimination.task import PARTS
from medssl_nb.recipes import load_recipe

ARMS = {
    "untrained": None,
    "patch": ("patch",),
    "+ mixup": ("patch", "mixup"),
    "+ region": ("patch", "mixup", "region"),
    "+ entropy": ("patch", "mixup", "region", "entropy"),
}
WINDOWS = (1, 5, 9)  # voxels around which embeddings are averaged
GREY_WINDOWS = (5, 9)  # cubes that are matched
RADII_MM = (15.0, 25.0)


def main(words: list[str] | None = None) -> None:
    parser = parser_of(__doc__, ARMS, seeds=[0, 1, 2])
    add_places(parser, "ablation_local_discrimination.json")
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
            task = trained_parts("local_discrimination", ARMS[arm], PARTS, seed, cohort, options)
            clusters = cluster_scores(task, judged, cohort, recipe) if "region" in task.parts else {}
            landmarks = landmark_scores(task, template, judged)
            runs.append(
                {"arm": arm, "seed": seed, **landmarks, **clusters, **probes(task.encoder, judged, cohort, recipe)}
            )
            print(runs[-1], flush=True)
    arms = {arm: ARMS[arm] and list(ARMS[arm]) for arm in options.arms}
    settings = {"arms": arms, "radii_mm": list(RADII_MM), "judged": len(judged)}
    result = result_of("ablation", recipe, cohort, runs, options, settings)
    print(save_result({**result, "baselines": baselines}, options.results, options.name))


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
    errors = errors_mm(found)
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


if __name__ == "__main__":
    main()
