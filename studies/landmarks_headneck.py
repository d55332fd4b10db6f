"""One-shot landmarks in head-and-neck CT: does flipping left and right in training mix up the parotid glands?

    python studies/landmarks_headneck.py --seeds 0 1 2

Stage 1 of local discrimination, trained without flips, with flips that keep the sides, and with left-right flips too.
One patient's organ centroids are looked for in the test patients; beside them stand copying, grey values and the
untrained network. Finished runs are kept: started again, it goes on. Results: results/landmarks_headneck.json.
"""

import re

import numpy as np
import torch
import torch.nn.functional as F
from common import add_places, parser_of, result_of, train

from medssl_nb.data.geometry import mm_to_voxel, resample, voxel_to_mm
from medssl_nb.data.intensity import normalise
from medssl_nb.evaluation import save_result
from medssl_nb.evaluation.landmarks import landmark_error, match_grey_values, success_rate
from medssl_nb.methods.local_discrimination import center_sensitive_embeddings
from medssl_nb.recipes import load_recipe

ARMS = {  # axes that the second view may be mirrored along: 0 left-right, 1 back-front, 2 down-up
    "untrained": None,
    "no flips": [],
    "sides kept": [1, 2],
    "sides flipped": [0, 1, 2],
}
BASELINES = ("copying", "grey values")
RADII_MM = (15.0, 25.0)
SIDES = {"Left": "Right", "Right": "Left", "left": "right", "right": "left"}
STAGE_ONE = ("task.parts=['patch', 'mixup']", "task.weighting='center'")
GRID = ("pretraining.spacing_mm=[6.0, 6.0, 6.0]",)


def main(words: list[str] | None = None) -> None:
    parser = parser_of(__doc__, ARMS, seeds=[0, 1, 2])
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 5, 9])
    parser.add_argument("--templates", type=int, default=3, help="patients whose landmarks are known, one at a time")
    parser.add_argument("--cohort", default="headneck_ct", help="a cohort with landmarks")
    add_places(parser, "landmarks_headneck.json")
    options = parser.parse_args(words)
    recipe, runs = recipe_of(None, 0, options), []
    cohort = recipe.open_cohort()
    spacing = recipe.pretraining.spacing_mm
    templates = [cohort.few_shot(1, draw)[0] for draw in range(options.templates)]
    scans = {case.name: on_grid(case, spacing) for case in [*templates, *getattr(cohort, options.on)]}
    pairs = [(template, case) for template in templates for case in getattr(cohort, options.on)]
    for name in BASELINES:
        runs.append({"arm": name, **scores([baseline(name, *pair, scans) for pair in pairs], pairs)})
        print(runs[-1], flush=True)
    for seed in options.seeds:
        for arm in options.arms:
            task = trained(arm, seed, cohort, options)
            embeddings = {name: embeddings_of(task, volume) for name, volume in scans.items()}
            for window in options.windows:
                averaged = {name: center_sensitive_embeddings(v, window)[0] for name, v in embeddings.items()}
                found = [search(averaged, *pair, scans) for pair in pairs]
                runs.append({"arm": arm, "seed": seed, "window": window, **scores(found, pairs)})
                print(runs[-1], flush=True)
    settings = {
        "arms": {arm: ARMS[arm] for arm in options.arms},
        "windows": options.windows,
        "templates": [case.name for case in templates],
        "judged": len(getattr(cohort, options.on)),
        "radii_mm": list(RADII_MM),
    }
    print(
        save_result(result_of("landmark study", recipe, cohort, runs, options, settings), options.results, options.name)
    )


def recipe_of(flip_axes: list[int] | None, seed: int, options):
    """Stage 1 of the demo recipe on the cohort asked for."""
    flips = [] if flip_axes is None else [f"task.flip_axes={flip_axes}"]
    changes = [*STAGE_ONE, *GRID, *options.set, *flips, f"pretraining.seed={seed}"]
    return load_recipe("local_discrimination", "demo", changes, cohort=options.cohort)


def trained(arm: str, seed: int, cohort, options):
    """The task with one arm's flips, trained, or loaded if it was trained before."""
    recipe = recipe_of(ARMS[arm], seed, options)
    task = recipe.make_task(seed)
    if ARMS[arm] is not None:
        train(task, cohort, recipe, options.runs / "landmarks" / arm.replace(" ", "-"), seed)
    else:
        settle(task, [on_grid(case, recipe.pretraining.spacing_mm) for case in cohort.unlabelled[:4]])
    return task.eval()


def settle(task, volumes) -> None:
    """Let the batch norms of an untrained task see what is usual; weights stay as they are."""
    for module in task.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the mean of all that it sees
    task.train()
    for volume in volumes:
        embeddings_of(task, volume)


def on_grid(case, spacing):
    """Grey values as training sees them, MetaTensor (1, X, Y, Z)."""
    return normalise(case.image() if spacing is None else resample(case.image(), spacing), case.modality)


def embeddings_of(task, volume) -> torch.Tensor:
    """(1, D, X, Y, Z) of a volume of any size: padded at its far ends to sides that the strides divide."""
    plain = volume.as_tensor()[None]
    multiple = [max(stride) for stride in zip(*task.encoder.feature_strides, strict=True)]
    missing = [-side % m for side, m in zip(plain.shape[2:], multiple, strict=True)]
    padding = [n for side in reversed(missing) for n in (0, side)]
    found = task.embeddings(F.pad(plain, padding, value=float(plain.min())))
    return found[(..., *(slice(side) for side in plain.shape[2:]))]


def shared(template, case) -> list[str]:
    """Landmarks that both patients have."""
    return [name for name in template.landmarks_mm if name in case.landmarks_mm]


def marked_voxels(template, case, scans) -> torch.Tensor:
    """Landmarks of the template, the nearest voxels inside its grid: (P, 3)."""
    volume = scans[template.name]
    points = mm_to_voxel(volume.affine, [template.landmarks_mm[name] for name in shared(template, case)])
    return torch.from_numpy(np.clip(np.rint(points), 0, np.array(volume.shape[1:]) - 1)).long()


def baseline(name: str, template, case, scans) -> np.ndarray:
    """Where the landmarks are said to be, RAS mm (P, 3)."""
    if name == "copying":
        return np.array([template.landmarks_mm[landmark] for landmark in shared(template, case)])
    one, other = scans[template.name], scans[case.name]
    points = marked_voxels(template, case, scans)
    found = match_grey_values(one.as_tensor()[0], points, other.as_tensor()[0])
    return voxel_to_mm(other.affine, found)


def search(averaged, template, case, scans) -> np.ndarray:
    """Where the embeddings are most like those at the landmarks of the template, RAS mm (P, 3)."""
    support, query = averaged[template.name], averaged[case.name]  # (D, *S), (D, *S')
    x, y, z = marked_voxels(template, case, scans).T
    best = (support[:, x, y, z].T @ query.flatten(1)).argmax(dim=1)
    return voxel_to_mm(scans[case.name].affine, torch.stack(torch.unravel_index(best, query.shape[1:]), dim=1))


def scores(found: list[np.ndarray], pairs) -> dict:
    """Errors in mm, shares within the radii, and how many of those with a twin were found nearer to it."""
    errors, by_name, swapped = [], {}, []
    for points, (template, case) in zip(found, pairs, strict=True):
        for name, point in zip(shared(template, case), points, strict=True):
            error = distance(point, case.landmarks_mm[name])
            errors.append(error)
            by_name.setdefault(name, []).append(error)
            if (other := twin(name)) != name and other in case.landmarks_mm:
                swapped.append(distance(point, case.landmarks_mm[other]) < error)
    return {
        "mean_mm": float(np.mean(errors)),
        "median_mm": float(np.median(errors)),
        **{f"within_{radius:g}": float(success_rate(torch.tensor(errors), radius)) for radius in RADII_MM},
        "swapped": float(np.mean(swapped)) if swapped else None,
        "by_landmark_mm": {name: float(np.mean(values)) for name, values in sorted(by_name.items())},
        "landmarks": len(errors),
    }


def twin(name: str) -> str:
    """The same landmark of the other side: "LeftParotid" -> "RightParotid"; others as they are."""
    return re.sub("|".join(SIDES), lambda side: SIDES[side[0]], name)


def distance(one, other) -> float:
    return float(landmark_error(torch.tensor(np.array(one)), torch.tensor(np.array(other))))


if __name__ == "__main__":
    main()
