"""What each term of Boundary-aware InfoMax does to the clusters and to frozen features, over seeds.

    python studies/ablation_boundary_infomax.py --seeds 0 1 2 3 4

Every arm sees the same crops from the same weights of the encoder. Clusters are judged on whole test volumes, frozen
features by a linear probe. Finished runs are kept: started again, it goes on. Results:
results/ablation_boundary_infomax.json.
"""

from collections import defaultdict

import torch
from common import add_places, parser_of, probes, result_of, trained_parts

from medssl_nb.data.geometry import spacing_mm
from medssl_nb.evaluation import (
    agreement_scores,
    border_scores,
    clusters_used,
    organ_information,
    save_result,
)
from medssl_nb.methods.boundary_infomax import apply_affine, random_affine
from medssl_nb.methods.boundary_infomax.task import PARTS
from medssl_nb.recipes import load_recipe

ARMS = {
    "untrained": None,
    "IIC": ("clusters",),
    "+ regularised": ("clusters", "regularised"),
    "+ boundary": ("clusters", "regularised", "boundary"),
    "+ contrast": ("clusters", "regularised", "boundary", "contrast"),
    "contrast only": ("contrast",),
}
TOLERANCES_MM = (0.0, 7.3)  # the same voxel, or a neighbour


def main(words: list[str] | None = None) -> None:
    parser = parser_of(__doc__, ARMS, seeds=[0, 1, 2, 3, 4])
    add_places(parser, "ablation_boundary_infomax.json")
    options = parser.parse_args(words)
    runs, recipe = [], load_recipe("boundary_infomax", "demo", options.set)
    cohort = recipe.open_cohort()
    judged = getattr(cohort, options.on)
    for seed in options.seeds:
        for arm in options.arms:
            task = trained_parts("boundary_infomax", ARMS[arm], PARTS, seed, cohort, options)
            scores = cluster_scores(task, judged, cohort, recipe) if "clusters" in task.parts else {}
            runs.append({"arm": arm, "seed": seed, **scores, **probes(task.encoder, judged, cohort, recipe)})
            print(runs[-1], flush=True)
    arms = {arm: ARMS[arm] and list(ARMS[arm]) for arm in options.arms}
    settings = {"arms": arms, "tolerances_mm": list(TOLERANCES_MM), "judged": len(judged)}
    result = result_of("ablation", recipe, cohort, runs, options, settings)
    print(save_result(result, options.results, options.name))


@torch.no_grad()
def cluster_scores(task, cases, cohort, recipe) -> dict[str, float]:
    """What the first head's clusters of whole volumes are: means over cases; agreement under moves like those of T."""
    organs = [n for n, name in cohort.label_names.items() if name in recipe.transfer.organs]
    generator = torch.Generator().manual_seed(0)
    found, usage, stacked, labels = defaultdict(list), 0, [], []
    for case in cases:
        volume = case.normalised()
        label = torch.as_tensor(case.label().as_tensor())[0].long()
        spacing, volume = spacing_mm(volume.affine), volume.as_tensor()[None]
        move = random_affine(1, label.shape, **task.movement, generator=generator)
        probs = task.cluster_probabilities(volume)
        clusters, usage = probs.argmax(1), usage + probs.sum((0, 2, 3, 4))
        moved = task.cluster_probabilities(moved_volume(volume, move)).argmax(1)
        inside = apply_affine(torch.ones_like(volume), move)[:, 0] > 0
        for name, value in agreement_scores(apply_affine(clusters[:, None], move)[:, 0][inside], moved[inside]).items():
            found[name].append(value)
        for far in TOLERANCES_MM:
            for name, value in border_scores(clusters[0], label, spacing, far).items():
                found[f"border_{name}_{far:g}mm"].append(value)
        stacked.append(clusters[0])
        labels.append(label)
    means = {name: sum(values) / len(values) for name, values in found.items()}
    said = organ_information(torch.stack(stacked), torch.stack(labels), organs)
    return {"used": clusters_used(usage), **{f"organ_{name}": value for name, value in said.items()}, **means}


def moved_volume(volume: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """The moved volume; what comes from outside is as dark as its darkest voxel, as in training."""
    low = volume.min()
    return low + apply_affine(volume - low, theta)


if __name__ == "__main__":
    main()
