"""Four methods, plain opponents and no pre-training at all, side by side: one protocol on three cohorts, over seeds.

    python studies/four_methods.py --seeds 0 1

Each method runs as its demo recipe says, for as many steps as its own lessons take, on the network it was made for; so
beside each stands the same network untrained. Judged are frozen features (a linear probe with 1 to 8 labelled cases,
k-means clusters against the drawn labels, landmarks and lesions where a cohort has them), fine-tuning, collapse meters
that need no method, and what the run costs. Nothing is chosen here: no setting was tried on these cohorts' test cases.

Every finished piece is kept under --runs: started again, it goes on. Results: results/four_methods_COHORT.json.
"""

import argparse
import hashlib
import itertools
import json
import resource
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch import nn

from medssl_nb.commands.common import cohort_facts, run_folder
from medssl_nb.data.files import write_atomically
from medssl_nb.evaluation import (
    finetune,
    landmark_transfer,
    linear_probe,
    made_with,
    organ_information,
    save_result,
    success_rate,
    whole_volume_features,
)
from medssl_nb.recipes import load_recipe
from medssl_nb.training import pretrain, progress_bar, read_history

ARMS = {  # name -> recipe, and the arm that is the same network untrained
    "masked autoencoding": ("masked_autoencoding", "untrained U-Net"),
    "view contrast": ("view_contrast", "untrained U-Net"),
    "boundary infomax": ("boundary_infomax", "untrained U-Net"),
    "local discrimination": ("local_discrimination", "untrained U-Net"),
    "adaptive masking": ("adaptive_masking", "untrained transformer"),
    "anatomical embedding": ("anatomical_embedding", "untrained pyramid"),
    "alice": ("alice", "untrained backbone"),
    "untrained U-Net": ("random", None),
    "untrained transformer": ("adaptive_masking", None),
    "untrained pyramid": ("anatomical_embedding", None),
    "untrained backbone": ("alice", None),
}
BRAIN = (
    *('cohort.sequence="FLAIR"', "cohort.lesion_share=1.0", 'cohort.label="anatomy"'),
    *("cohort.shape=[48, 48, 48]", "cohort.spacing_mm=4.0"),
)
COHORTS = {  # changes of every recipe; voxel size in mm; the volume that a transformer takes as a whole
    "phantom": ((), 6.0, [48, 48, 48]),
    "brain": (BRAIN, 4.0, [48, 48, 48]),
    "hippocampus": ((), 1.0, [32, 40, 32]),
}
LABELLED = (1, 2, 4, 8)
FINETUNED = (1, 4)
DRAWS = 3
RADII_MM = (15.0, 25.0)
CLUSTERS = 12
PIECES = ("probe", "clusters", "landmarks", "lesions", "meters", "finetuned", "cost")


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohorts", nargs="+", default=list(COHORTS), choices=COHORTS)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--pieces", nargs="+", default=list(PIECES), choices=PIECES)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--cost-of-one", action="store_true", help="only print the cost of one arm, seed and cohort")
    options = parser.parse_args(words)
    if options.cost_of_one:
        print(json.dumps(cost_here(options.arms[0], options.cohorts[0], options.seeds[0], options)))
        return
    for name in options.cohorts:
        for seed in options.seeds:
            for arm in options.arms:
                judge(name, arm, seed, options)
        print(save_result(result_of(name, options), options.results, f"four_methods_{name}.json"), flush=True)


def recipe_of(arm: str, cohort: str, seed: int, options):
    """The demo recipe of an arm with what this cohort needs: its voxel size where a method counts in mm."""
    name, (changes, voxel, whole) = ARMS[arm][0], COHORTS[cohort]
    own = [f"pretraining.seed={seed}"] if name != "random" else []
    if name == "adaptive_masking":
        own += [f"{place}={whole}" for place in ("encoder.volume_size", "pretraining.crop", "transfer.crop")]
        own += ["transfer.class_balance=0.0", "transfer.steps=60", "transfer.evaluate_at=[15, 30, 60]"]
        own += ['transfer.undrawn="unknown"']
        own += ["task.foreground=-0.9"] if cohort == "phantom" else []  # grey values: air is -1 in CT
    if name == "anatomical_embedding" and cohort != "phantom":
        own += [f"task.spacing_mm={voxel}", *radii(voxel)]
    if name == "adaptive_masking" and cohort == "phantom":
        phantom = load_recipe("random", "demo")
        own += [f"cohort.{key}={json.dumps(value)}" for key, value in phantom.cohort.items() if key != "name"]
        own += [f"transfer.organs={json.dumps(list(phantom.transfer.organs))}"]
    return load_recipe(name, "demo", [*changes, *own, *options.set], cohort=cohort)


def radii(voxel: float) -> list[str]:
    """SAM's radii of the demo recipe, in voxels, as mm for voxels of this size."""
    fine = {"positive_radius": 1.5, "ignore_radius": 3}
    coarse = {"positive_radius": 12, "ignore_radius": 3, "axial_radius": 6}
    tables = (("fine", fine), ("coarse", coarse))
    return [f"task.{table}.{name}={n * voxel}" for table, values in tables for name, n in values.items()]


def encoder_of(arm: str, cohort: str, seed: int, options) -> nn.Module:
    """The encoder of one arm: as it was drawn, or trained (or loaded, if it was trained before)."""
    recipe = recipe_of(arm, cohort, seed, options)
    if ARMS[arm][1] is None:
        return recipe.make_encoder(seed)
    embedding = encoder_of("anatomical embedding", cohort, seed, options) if recipe.after else None
    task = recipe.make_task(seed, embedding)
    for _ in progress_bar(
        pretrain(task, recipe.open_cohort(), recipe.pretraining, folder=folder_of(arm, cohort, seed, options))
    ):
        pass
    return task.encoder


def folder_of(arm: str, cohort: str, seed: int, options) -> Path:
    return run_folder(options.runs, recipe_of(arm, cohort, seed, options), seed)


# ---------------------------------------------------------------- judging
def judge(name: str, arm: str, seed: int, options) -> None:
    """Measure the pieces of one arm that are not in its file yet, and write each when it is done."""
    file = store_of(name, arm, seed, options)
    done = json.loads(file.read_text()) if file.exists() else {}
    wanted = [piece for piece in options.pieces if piece not in done]
    if not wanted:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    recipe = recipe_of(arm, name, seed, options)
    cohort = recipe.open_cohort()
    encoder = encoder_of(arm, name, seed, options).eval()
    frozen = Remembered(encoder)
    for piece in wanted:
        began = time.process_time()
        if piece == "cost":
            done[piece] = cost(arm, name, seed, options)
        elif piece == "meters":
            done[piece] = meters(frozen, cohort) | last_health(arm, name, seed, options)
        elif piece == "finetuned":
            done[piece] = finetuned(encoder, cohort, recipe, seed)
        else:
            done[piece] = {"probe": probe, "clusters": clusters, "landmarks": landmarks, "lesions": lesions}[piece](
                frozen, cohort, label_names(cohort, recipe), seed
            )
        contents = json.dumps(done)
        write_atomically(file, lambda part, contents=contents: part.write_text(contents))
        took = time.process_time() - began
        print(f"{name}, {arm}, seed {seed}, {piece}: {brief(done[piece])} ({took:.0f} s)", flush=True)


def store_of(name: str, arm: str, seed: int, options) -> Path:
    return options.runs / "four_methods" / name / arm.replace(" ", "-") / f"seed{seed}.json"


def label_names(cohort, recipe) -> dict[int, str]:
    wanted = recipe.transfer.organs
    return {n: name for n, name in cohort.label_names.items() if n and (wanted is None or name in wanted)}


class Remembered(nn.Module):
    """Whole-volume features of an encoder behind the encoder face, computed once for each volume."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder, self.known = encoder, {}
        self.spatial_dims, self.in_channels = encoder.spatial_dims, encoder.in_channels
        self.feature_channels = (sum(encoder.feature_channels),)
        self.feature_strides = ((1,) * encoder.spatial_dims,)

    def feature_maps(self, volume: torch.Tensor) -> list[torch.Tensor]:
        """(1, C, *S) to the one map (1, F, *S)."""
        key = hashlib.sha1(volume.contiguous().numpy().tobytes()).hexdigest()
        if key not in self.known:
            self.known[key] = whole_volume_features(self.encoder, volume[0])[None]
        return [self.known[key]]


def probe(frozen, cohort, names, seed: int) -> list[dict]:
    """Mean Dice of the test cases by a linear probe: one record for each number of labels and draw."""
    return [
        {"labelled": n, "draw": draw, "mean_dice": found["mean_dice"], "dice": found["dice"]}
        for n in LABELLED
        for draw in range(DRAWS)
        for found in [linear_probe(frozen, cohort.few_shot(n, draw), cohort.test, names, seed=seed)]
    ]


def clusters(frozen, cohort, names, seed: int) -> dict:
    """How much of the labels' entropy k-means clusters of the features explain, on test cases; fitted on training ones.

    Over the voxels of the organs; where only one thing is labelled, over all voxels.
    """
    from sklearn.cluster import KMeans

    fitted, scale = sampled_rows(frozen, cohort.train[:8], seed)
    kmeans = KMeans(CLUSTERS, n_init=5, random_state=seed).fit(fitted.numpy())
    which, truth = [], []
    for case in cohort.test:
        which.append(torch.from_numpy(kmeans.predict(scaled_rows(frozen, case, scale).numpy())).long())
        label = case.label().as_tensor()[0].flatten().long()
        truth.append(torch.where(torch.isin(label, torch.tensor(list(names))), label, 0))
    found = organ_information(torch.cat(which), torch.cat(truth), list(names) if len(names) > 1 else None)
    return {**found, "clusters": CLUSTERS, "of": "organs" if len(names) > 1 else "all voxels"}


def landmarks(frozen, cohort, names, seed: int) -> dict | None:
    """Distance in mm at which landmarks of training patients are found again, over draws of the template."""
    if not cohort.train[0].landmarks_mm:
        return None
    found = [landmark_transfer(frozen, cohort.few_shot(1, draw)[0], cohort.test) for draw in range(DRAWS)]
    errors = torch.tensor([mm for run in found for case in run["errors_mm"].values() for mm in case.values()])
    return {
        "mean_mm": statistics.mean(run["mean_mm"] for run in found),
        "median_mm": float(errors.median()),
        "of_each_template_mm": [run["mean_mm"] for run in found],
        "copy_mm": statistics.mean(run["copy_mm"] for run in found),
        **{f"within_{radius:g}": float(success_rate(errors, radius)) for radius in RADII_MM},
    }


def lesions(frozen, cohort, names, seed: int) -> list[dict] | None:
    """Average precision (0 to 1) at which a linear probe ranks the voxels of test brains by "lesion", a record a draw.

    Lesions fill few voxels, so a probe that must decide names none; a ranking needs no threshold. Chance is the share
    of lesion voxels, given beside it.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score

    if "lesion" not in cohort.test[0].available or cohort.name != "brain":
        return None
    truth = lesion_voxels(cohort.test)
    scale = sampled_rows(frozen, cohort.train[:8], seed)[1]
    found = []
    for draw in range(DRAWS):
        cases = cohort.few_shot(FINETUNED[-1], draw)
        marked = lesion_voxels(cases)
        rows = torch.cat([scaled_rows(frozen, case, scale) for case in cases])
        kept = marked | (torch.rand(len(marked), generator=torch.Generator().manual_seed(seed)) < 0.05)
        fitted = LogisticRegression(max_iter=1000, class_weight="balanced").fit(
            rows[kept].numpy(), marked[kept].numpy()
        )
        ranked = [fitted.decision_function(scaled_rows(frozen, case, scale).numpy()) for case in cohort.test]
        precision = average_precision_score(truth.numpy(), np.concatenate(ranked))
        found.append({"labelled": len(cases), "draw": draw, "average_precision": float(precision)})
    return [{**one, "chance": float(truth.double().mean())} for one in found]


def lesion_voxels(cases) -> torch.Tensor:
    """Which voxels of all cases, one after the other, are lesion: bool (N,)."""
    return torch.cat([case.read("lesion").as_tensor().flatten() > 0 for case in cases])


def lesions_by_brightness(cohort) -> float | None:
    """What `lesions` gives if voxels are ranked by how bright they are, without any learning."""
    from sklearn.metrics import average_precision_score

    if cohort.name != "brain":
        return None
    grey = torch.cat([case.normalised().as_tensor().flatten() for case in cohort.test])
    return float(average_precision_score(lesion_voxels(cohort.test).numpy(), grey.numpy()))


def meters(frozen, cohort) -> dict:
    """Collapse meters of the features themselves, on training images.

    "effective_rank": exp of the entropy of the shares of variance along the principal axes of the scaled features, from
    1 (all vary together, collapse) to their number; "channels": that number; "constant": share that never changes.
    """
    rows, (_, sd) = sampled_rows(frozen, cohort.train[:8], 0)
    variances = torch.linalg.eigvalsh(torch.cov(rows.double().T)).clamp(min=0)
    share = variances / variances.sum()
    return {
        "effective_rank": float(torch.special.entr(share).sum().exp()),
        "channels": rows.shape[1],
        "constant": float((sd == 1).double().mean()),
    }


def last_health(arm: str, name: str, seed: int, options) -> dict:
    """What the method's own meters said last, its last losses, and what thoughtless models score."""
    if ARMS[arm][1] is None:
        return {}
    records = read_history(folder_of(arm, name, seed, options))
    last = records[-max(1, len(records) // 20) :]
    task = recipe_of(arm, name, seed, options).make_task(seed)
    return {
        "health": next((r["health"] for r in reversed(records) if r["health"]), {}),
        "losses": {term: statistics.mean(r["losses"][term] for r in last) for term in records[-1]["losses"]},
        "trivial_losses": task.trivial_losses,
        "steps": records[-1]["step"],
    }


def finetuned(encoder, cohort, recipe, seed: int) -> list[dict]:
    """Test Dice after fine-tuning; draw d with seed d, so that three draws see three orders."""
    found = []
    names, settings = cohort.label_names, recipe.transfer
    for n in FINETUNED:
        for draw in range(DRAWS):
            labelled = cohort.few_shot(n, draw)
            run = finetune(encoder, labelled, cohort.validation, cohort.test, names, settings, seed=draw)
            found.append({"labelled": n, "draw": draw, "mean_dice": run["test"]["mean_dice"], "curve": run["curve"]})
    return found


def cost(arm: str, name: str, seed: int, options) -> dict | None:
    """Processor seconds and peak memory of pre-training, from the first steps in a process of their own."""
    if ARMS[arm][1] is None:
        return None
    words = ["--cost-of-one", "--arms", arm, "--cohorts", name, "--seeds", str(seed), "--runs", str(options.runs)]
    words += [word for change in options.set for word in ("--set", change)]
    told = subprocess.run([sys.executable, __file__, *words], check=True, capture_output=True, text=True).stdout
    return json.loads(told.splitlines()[-1])


def cost_here(arm: str, name: str, seed: int, options, steps: int = 8) -> dict:
    """What `cost` says, measured in this process, which should be a new one."""
    torch.set_num_threads(1)
    recipe = recipe_of(arm, name, seed, options)
    embedding = encoder_of("anatomical embedding", name, seed, options) if recipe.after else None
    task, cohort = recipe.make_task(seed, embedding), recipe.open_cohort()
    times = [time.process_time()]
    for _ in pretrain(task, cohort, recipe.pretraining):
        times.append(time.process_time())
        if len(times) > steps:
            break
    each = statistics.median(after - before for before, after in itertools.pairwise(times[2:]))  # the first warm up
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kilobytes on Linux
    return {
        "seconds_per_step": each,
        "steps": recipe.pretraining.steps,
        "seconds": each * recipe.pretraining.steps,
        "peak_gb": peak / 1e9,
        "weights": sum(p.numel() for p in task.encoder.parameters()),
        "trained_weights": sum(p.numel() for p in task.parameters() if p.requires_grad),
    }


def features_of(frozen, case) -> torch.Tensor:
    return frozen.feature_maps(case.normalised().as_tensor()[None])[0][0]


def scaled_rows(frozen, case, scale: tuple) -> torch.Tensor:
    """Features of all voxels, (voxels, F), scaled by a mean and deviation."""
    return ((features_of(frozen, case).flatten(1).T - scale[0]) / scale[1]).contiguous()


def sampled_rows(frozen, cases, seed: int, per_case: int = 2000) -> tuple[torch.Tensor, tuple]:
    """Scaled features (N, F) of voxels above the image's lowest value, and their mean and deviation before."""
    generator, rows = torch.Generator().manual_seed(seed), []
    for case in cases:
        volume = case.normalised().as_tensor()
        inside = (volume.amax(0) > volume.min()).flatten().nonzero()[:, 0]
        chosen = inside[torch.randperm(len(inside), generator=generator)[:per_case]]
        rows.append(features_of(frozen, case).flatten(1)[:, chosen].T)
    found = torch.cat(rows)
    mean, sd = found.mean(0), found.std(0)
    sd = torch.where(sd > 1e-6 * mean.abs(), sd, torch.ones_like(sd))
    return (found - mean) / sd, (mean, sd)


def brief(found) -> str:
    """A few words of what was found, for the screen."""
    if not found:
        return "none"
    if isinstance(found, list):
        if "average_precision" in found[0]:
            return f"{statistics.mean(r['average_precision'] for r in found):.3f}, chance {found[0]['chance']:.4f}"
        by = {n: [r["mean_dice"] for r in found if r["labelled"] == n] for n in LABELLED}
        return ", ".join(f"{n}: {statistics.mean(v):.3f}" for n, v in by.items() if v)
    return ", ".join(f"{key} {value:.3g}" for key, value in found.items() if isinstance(value, (int, float)))


def result_of(name: str, options) -> dict:
    recipe = recipe_of("untrained U-Net", name, 0, options)
    cohort, runs = recipe.open_cohort(), []
    for arm in options.arms:
        for seed in options.seeds:
            found = json.loads(store_of(name, arm, seed, options).read_text())
            runs.append({"arm": arm, "untrained": ARMS[arm][1], "seed": seed, **found})
    trained = [arm for arm in options.arms if ARMS[arm][1]]
    return {
        "kind": "side by side",
        "recipe": "random.demo",
        "method": "four methods",
        "cohort": cohort_facts(cohort, recipe),
        "settings": {
            "labels": list(label_names(cohort, recipe).values()),
            "labelled": list(LABELLED),
            "finetuned": list(FINETUNED),
            "draws": DRAWS,
            "radii_mm": list(RADII_MM),
            "clusters": CLUSTERS,
            "lesions_by_brightness": lesions_by_brightness(cohort),
            "encoders": {arm: recipe_of(arm, name, 0, options).encoder for arm in options.arms},
            "tasks": {arm: recipe_of(arm, name, 0, options).task for arm in trained},
            "profiles": {arm: recipe_of(arm, name, 0, options).pretraining.identity() for arm in trained},
        },
        "seeds": options.seeds,
        "runs": runs,
        "made_with": made_with(),
        "date": date.today().isoformat(),
    }


if __name__ == "__main__":
    main()
