"""The study of matching: maps can be looked at alone, errors are true distances, the three cohorts get their radii."""

import json
from types import SimpleNamespace

import numpy as np
import torch

from medssl_nb.methods.alice import AnatomicalEmbedding, similarity_map

TINY = (
    *("cohort.train=3", "cohort.validation=1", "cohort.test=2", "cohort.shape=[24, 24, 24]", "cohort.spacing_mm=13.0"),
    *("encoder.widths=[8, 8, 8, 8]", "encoder.embedding_dim=4", "task.view_size=[18, 18, 18]", "task.spacing_mm=13.0"),
    *("task.fine.sampled_negatives=20", "task.fine.hard_negatives=40"),
    *("pretraining.steps=3", "pretraining.batch_size=2", "pretraining.crop=[24, 24, 24]"),
)


def test_a_small_run_writes_every_arm(study, tmp_path, words):
    study.main(words(tmp_path, "--cohorts", "phantom", "--seeds", "1"))
    result = json.loads((tmp_path / "matching_phantom.json").read_text())
    arms = [f"{state}, {way}" for state in ("untrained", "trained") for way in study.WAYS]
    assert [run["arm"] for run in result["runs"]] == [*arms[:3], "copying", "grey values", *arms[3:]]
    by_arm = {run["arm"]: run for run in result["runs"]}
    for run in result["runs"]:
        assert run["landmarks_mm"] > 0 and 0 <= run["landmarks_within_15"] <= run["landmarks_within_25"] <= 1
        assert ("points_mm" in run and "right_organ" in run) == (run["arm"] != "grey values")
        assert run["template"].endswith("train_001")
    assert by_arm["trained, both"]["landmarks_mm"] != by_arm["untrained, both"]["landmarks_mm"]
    assert (tmp_path / "runs" / "anatomical_embedding.demo" / "phantom" / "seed1" / "encoder.safetensors").exists()


def test_a_map_alone_decides_alone(study):
    generator = torch.Generator().manual_seed(0)

    def embedding():
        maps = [torch.randn(4, *(n,) * 3, generator=generator) for n in (6, 3)]
        return AnatomicalEmbedding(*(torch.nn.functional.normalize(x, dim=0) for x in maps))

    one, other = embedding(), embedding()
    index = torch.tensor([[1, 2, 3]])
    parts = [similarity_map(study.alone(one, way), study.alone(other, way), index) for way in ("fine", "coarse")]
    torch.testing.assert_close(sum(parts), similarity_map(one, other, index))
    expected = torch.einsum("c,cxyz->xyz", one.fine[:, 1, 2, 3], other.fine) / 2
    torch.testing.assert_close(parts[0][0], expected)


def test_errors_are_distances_in_mm_and_points_outside_do_not_count(study):
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    label = torch.zeros(10, 10, 10, dtype=torch.int64)
    label[5] = 7
    case = SimpleNamespace(landmarks_mm={"tip": (8.0, 12.0, 16.0)}, name="other")
    other = SimpleNamespace(case=case, affine=affine, label=label, shape=(10, 10, 10))
    one = SimpleNamespace(case=SimpleNamespace(name="template"))
    points, organs = torch.zeros(2, 3, dtype=torch.int64), torch.tensor([7, 7])
    found = torch.tensor([[5, 1, 1], [2, 2, 2], [4, 4, 5]])  # two drawn points, then the landmark
    truth = torch.tensor([[5.0, 2.0, 1.0], [12.0, 2.0, 2.0]])  # the second lies outside
    run = study.record("arm", 0, one, [other], [found], points, organs, {"tip": None}, [truth])
    assert run["points_mm"] == 3.0 and run["points_within_15"] == 1.0
    assert run["landmarks_mm"] == 4.0 and run["right_organ"] == 0.5


def test_radii_follow_the_voxels(study):
    options = SimpleNamespace(set=[])
    fine = {name: study.recipe_of(name, 0, options).task["fine"]["positive_radius"] for name in study.COHORTS}
    assert fine == {"phantom": 9.0, "brain": 6.0, "headneck_ct": 9.0}
    assert study.recipe_of("brain", 2, options).cohort["name"] == "brain"
    assert study.recipe_of("headneck_ct", 2, options).pretraining.seed == 2
