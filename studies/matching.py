"""Where is the same place in another patient? Points matched by SAM's embeddings, over seeds and three kinds of scans.

    python studies/matching.py --seeds 0 1 2

On generated abdomens and brains the true partner of every voxel is known, so points are drawn in the organs; on
head-and-neck CT there are landmarks, and the organ a match falls into. With seed s, template s is asked. Beside the
trained network stand the untrained one, copying the coordinates and, for landmarks, grey values. Finished runs are
kept: started again, it goes on. Results: results/matching_COHORT.json.
"""

import argparse
from datetime import date
from pathlib import Path

import numpy as np
import torch

from medssl_nb.commands.common import cohort_facts, run_folder
from medssl_nb.data.geometry import mm_to_voxel, resample, voxel_to_mm
from medssl_nb.data.intensity import normalise
from medssl_nb.evaluation import made_with, save_result
from medssl_nb.evaluation.landmarks import match_grey_values, success_rate
from medssl_nb.methods.alice import AnatomicalEmbedding, embed_volume, match_points
from medssl_nb.recipes import load_recipe
from medssl_nb.training import pretrain, progress_bar

RADII_MM = (15.0, 25.0)
POINTS_PER_ORGAN = 20
WAYS = ("both", "fine", "coarse")


def radii(voxel: float) -> list[str]:
    """The radii of the demo recipe, in mm for voxels of this size."""
    fine = {"positive_radius": 1.5, "ignore_radius": 3}
    coarse = {"positive_radius": 12, "ignore_radius": 3, "axial_radius": 6}
    return [
        f"task.{part}.{name}={n * voxel}"
        for part, values in (("fine", fine), ("coarse", coarse))
        for name, n in values.items()
    ]


COHORTS = {  # changes of the demo recipe
    "phantom": [],
    "brain": ["cohort.shape=[48, 48, 48]", "cohort.spacing_mm=4.0", "task.spacing_mm=4.0", *radii(4.0)],
    "headneck_ct": ["pretraining.spacing_mm=[6.0, 6.0, 6.0]", "task.spacing_mm=6.0", *radii(6.0)],
}


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohorts", nargs="+", default=list(COHORTS), choices=COHORTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE")
    parser.add_argument("--on", choices=["validation", "test"], default="test", help="cases that are judged")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args(words)
    for name in options.cohorts:
        recipe, runs = recipe_of(name, 0, options), []
        cohort = recipe.open_cohort()
        for seed in options.seeds:
            for trained in (False, True):
                found = judged(name, seed, trained, cohort, options)
                print(*found, sep="\n", flush=True)
                runs += found
        print(save_result(result_of(recipe, cohort, runs, options), options.results, f"matching_{name}.json"))


def result_of(recipe, cohort, runs: list[dict], options) -> dict:
    return {
        "kind": "matching study",
        "recipe": recipe.title,
        "method": recipe.method,
        "cohort": cohort_facts(cohort, recipe),
        "settings": {
            "task": recipe.task,
            "profile": recipe.pretraining.identity(),
            "encoder": recipe.encoder,
            "radii_mm": list(RADII_MM),
            "points_per_organ": POINTS_PER_ORGAN,
            "on": options.on,
        },
        "seeds": options.seeds,
        "runs": runs,
        "made_with": made_with(),
        "date": date.today().isoformat(),
    }


def recipe_of(cohort: str, seed: int, options):
    own = cohort if cohort == "headneck_ct" else "phantom"
    changes = [*COHORTS[cohort], *options.set, f"pretraining.seed={seed}"]
    if cohort == "brain":
        changes.append('cohort.name="brain"')
    return load_recipe("anatomical_embedding", "demo", changes, cohort=own)


def judged(name: str, seed: int, trained: bool, cohort, options) -> list[dict]:
    """One record for each way to match the template of this seed with all judged cases."""
    recipe = recipe_of(name, seed, options)
    task = recipe.make_task(seed)
    if trained:
        for _ in progress_bar(
            pretrain(task, cohort, recipe.pretraining, folder=run_folder(options.runs, recipe, seed))
        ):
            pass
    network, spacing = task.encoder.eval(), recipe.pretraining.spacing_mm
    template, cases = cohort.train[seed], getattr(cohort, options.on)
    one = Patient(template, spacing, network)
    others = [Patient(case, spacing, network) for case in cases]
    points, organs = drawn_points(one, seed)
    marks = {mark: one.voxel(mm) for mark, mm in template.landmarks_mm.items()}
    truth = known_partners(cohort, one, others, points)
    found = []
    for way in WAYS:
        matches = [other.match(one, torch.cat([points, rows(marks)]), way) for other in others]
        arm = f"{'trained' if trained else 'untrained'}, {way}"
        scores = [score for _, score in matches]
        found.append(record(arm, seed, one, others, [m for m, _ in matches], points, organs, marks, truth))
        found[-1]["score"] = float(torch.cat(scores).mean())
    if not trained:  # what needs no network, once for each seed
        copied = [other.copied(one, torch.cat([points, rows(marks)])) for other in others]
        found.append(record("copying", seed, one, others, copied, points, organs, marks, truth))
        grey = [match_grey_values(one.volume[0], rows(marks), other.volume[0]) for other in others]
        found.append(record("grey values", seed, one, others, grey, points[:0], organs[:0], marks, None))
    return found


class Patient:
    """A case on the grid of the run: grey values, labels, landmarks, embedding."""

    def __init__(self, case, spacing, network):
        image, label = case.image(), case.label() if case.label_names else None
        self.case = case
        volume = normalise(image if spacing is None else resample(image, spacing), case.modality)
        self.affine, self.volume = volume.affine, volume.as_tensor()
        if label is not None:
            label = label if spacing is None else resample(label, spacing, label=True)
            self.label = label.as_tensor()[0].long()
        self.embedding = embed_volume(network, self.volume)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.volume.shape[1:])

    def voxel(self, mm) -> torch.Tensor:
        """The voxel nearest to a place in mm, inside the volume: (3,)."""
        return self.inside(torch.as_tensor(mm_to_voxel(self.affine, [mm])[0]).round().long())

    def inside(self, points: torch.Tensor) -> torch.Tensor:
        return points.clamp(min=torch.zeros(3, dtype=torch.int64), max=torch.tensor(self.shape) - 1)

    def copied(self, one: "Patient", points: torch.Tensor) -> torch.Tensor:
        """The voxels at the same scanner coordinates."""
        return self.inside(torch.as_tensor(mm_to_voxel(self.affine, voxel_to_mm(one.affine, points))).round().long())

    def match(self, one: "Patient", points: torch.Tensor, way: str) -> tuple[torch.Tensor, torch.Tensor]:
        query, key = (alone(patient.embedding, way) for patient in (one, self))
        return match_points(query, key, points, key_shape=self.shape)


def alone(embedding: AnatomicalEmbedding, way: str) -> AnatomicalEmbedding:
    """Both maps, or one of them with the other at 0, which then adds nothing to any similarity."""
    fine, coarse = embedding
    if way == "fine":
        return AnatomicalEmbedding(fine, torch.zeros_like(coarse))
    return AnatomicalEmbedding(torch.zeros_like(fine), coarse) if way == "coarse" else embedding


def drawn_points(one: Patient, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Voxels (P, 3) of every organ, as many of each, and their labels (P,)."""
    generator, points, organs = torch.Generator().manual_seed(seed), [], []
    for label in one.label.unique().tolist():
        if label == 0:
            continue
        voxels = (one.label == label).nonzero()
        points.append(voxels[torch.randint(len(voxels), (POINTS_PER_ORGAN,), generator=generator)])
        organs.append(torch.full((POINTS_PER_ORGAN,), label))
    return torch.cat(points), torch.cat(organs)


def known_partners(cohort, one: Patient, others: list[Patient], points: torch.Tensor) -> list[torch.Tensor] | None:
    """Where the points truly lie in the others, voxels (P, 3); None for real patients."""
    if cohort.name not in ("phantom", "brain"):
        return None
    return [
        torch.as_tensor(np.asarray(cohort.correspondence(one.case, other.case, points.double().numpy(), space="voxel")))
        for other in others
    ]


def record(arm, seed, one, others, found, points, organs, marks, truth) -> dict:
    """Errors at landmarks and, where the truth is known, at all points; how often a match is in the right organ."""
    of_marks, of_points, right = [], [], []
    for i, (other, places) in enumerate(zip(others, found, strict=True)):
        names = [name for name in marks if name in other.case.landmarks_mm]
        which = [len(points) + list(marks).index(name) for name in names]
        wanted = torch.tensor([other.case.landmarks_mm[name] for name in names], dtype=torch.float64).reshape(-1, 3)
        of_marks.append((mm(other, places[which]) - wanted).norm(dim=1))
        if truth is not None:
            inside = ((truth[i] >= 0) & (truth[i] <= torch.tensor(other.shape) - 1)).all(dim=1)
            of_points.append((mm(other, places[: len(points)]) - mm(other, truth[i])).norm(dim=1)[inside])
        if len(points):
            right.append(other.label[tuple(places[: len(points)].T)] == organs)
    errors = {"landmarks": torch.cat(of_marks)} | ({"points": torch.cat(of_points)} if of_points else {})
    scores = {"right_organ": float(torch.cat(right).double().mean())} if right else {}
    for name, values in errors.items():
        scores |= {f"{name}_mm": float(values.mean()), f"{name}_median_mm": float(values.median())}
        scores |= {f"{name}_within_{radius:g}": float(success_rate(values, radius)) for radius in RADII_MM}
    return {"arm": arm, "seed": seed, "template": one.case.name, **scores}


def rows(marks: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(marks.values()))


def mm(patient: Patient, voxels: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(np.asarray(voxel_to_mm(patient.affine, voxels)), dtype=torch.float64)


if __name__ == "__main__":
    main()
