"""check, pretrain, finetune, predict: a reader's own folder from the first look to label maps, on scans of seconds."""

import json
import re
import shlex
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from medssl_nb.__main__ import main
from medssl_nb.commands.check import fitted_recipe, organ_share
from medssl_nb.data import check_folder, load_cohort
from medssl_nb.evaluation import finetune
from medssl_nb.networks import load_encoder, load_segmenter
from medssl_nb.recipes import load_recipe, recipe_contents

OWN = """\
about = "Seconds only."
method = "masked_autoencoding"

[cohort]
name = "phantom"

[encoder]
network = "FeatureUNet"
channels = [4, 8]
norm = "instance"

[task]
patch_size = 4

[pretraining]
steps = 2
batch_size = 2
crop = [16, 16, 16]
checkpoint_every = 2

[transfer]
labelled = [1, 2, 4]
steps = 2
crop = [16, 16, 16]
evaluate_at = [1, 2]
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder to work in, with "scans/": six CT of 20 x 18 x 6 voxels of 6 x 6 x 15 mm, five with labels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny.toml").write_text(OWN)
    for part in ("images", "labels"):
        (tmp_path / "scans" / part).mkdir(parents=True)
    for i, axes in enumerate(["RAS", "LPS", "SPL", "RAS", "PIR", "LPS"]):
        values = np.full((20, 18, 6), -1000, np.int16)
        values[2:18, 2:16] = np.random.default_rng(i).integers(-120, 0, (16, 14, 6))
        values[5 : 9 + i, 6:12, 2:5] = 150
        save(tmp_path / "scans" / "images" / f"p{i}.nii.gz", values, axes)
        if i < 5:
            save(tmp_path / "scans" / "labels" / f"p{i}.nii.gz", (values == 150).astype(np.uint8) * 4, axes)
    return tmp_path


def save(path, values, axes):
    image = nibabel.Nifti1Image(values, np.diag([6.0, 6, 15, 1]))
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(axes)
    )
    nibabel.save(image.as_reoriented(turn), path)


def test_from_a_folder_of_scans_to_label_maps_in_their_own_space(home, capsys):
    (home / "scans" / "images" / "p9.nii.gz").write_bytes(b"half")
    words = ["check", "scans", "--modality", "CT", "--recipe", "tiny.toml", "--write", "mine.toml", "--json", "r.json"]
    assert main(words) == 1  # one file is no scan
    out = capsys.readouterr().out
    assert "images/p9.nii.gz: is not a readable NIfTI file" in out
    assert "python -m medssl_nb pretrain mine.toml" in out
    assert json.loads((home / "r.json").read_text())["left_out"] == ["p9"]
    recipe = load_recipe("mine.toml")
    assert recipe.cohort["skip"] == ["p9"] and recipe.cohort["label_names"] == {"0": "background", "4": "label 4"}
    assert recipe.cohort["spacing_mm"] == [6, 6, 15]  # the scans are coarse already
    assert recipe.transfer.crop == (16, 16, 8)  # two patches of 4 for 6 slices
    assert recipe.labelled == (1, 2)  # three are for training

    assert main(["pretrain", "mine.toml"]) == 0
    assert main(["finetune", "mine.toml", "--labelled", "2"]) == 0
    out = capsys.readouterr().out
    segmenter = home / "runs/mine.own/scans/seed0/finetuned-2-draw0/segmenter.safetensors"
    assert f"predict {segmenter.relative_to(home)} SCANS --to FOLDER" in out
    _, card = load_segmenter(segmenter)
    assert card["label_names"] == {0: "background", 4: "label 4"} and card["spacing_mm"] == [6, 6, 15]
    told = segmenter.with_suffix(".md").read_text()  # cards travel: no folders, no names of cases
    assert card["data"]["options"]["skip"] == 1
    assert str(home) not in told and not any(f"p{i}" in told for i in range(10))

    cohort = recipe.open_cohort()
    encoder = load_encoder(home / "runs/mine.own/scans/seed0/encoder.safetensors")
    record = finetune(encoder, cohort.few_shot(2), cohort.validation, cohort.test, cohort.label_names, recipe.transfer)
    scores = json.loads((segmenter.parent / "scores.json").read_text())
    assert scores["curve"] == record["curve"] and scores["test"] == record["test"]

    assert main(["predict", str(segmenter), "scans", "--to", "out"]) == 1  # p9
    out = capsys.readouterr().out
    assert "NOT DONE: scans/images/p9.nii.gz is not a readable NIfTI file" in out and "6 of 7 scan(s)" in out
    assert sorted(p.name for p in (home / "out").iterdir()) == ["labels.json", *(f"p{i}.nii.gz" for i in range(6))]
    assert json.loads((home / "out/labels.json").read_text())["labels"] == {"0": "background", "4": "label 4"}
    for i in range(6):
        scan, found = (nibabel.load(home / folder / f"p{i}.nii.gz") for folder in ("scans/images", "out"))
        assert scan.shape == found.shape
        np.testing.assert_allclose(scan.affine, found.affine, atol=1e-4)
        assert set(np.unique(found.dataobj)) <= {0, 4}


def test_the_way_that_the_readme_shows(home, capsys):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    lines = re.findall(
        r"^python -m medssl_nb ((?:check|finetune|predict) .*|pretrain own\.toml.*)$", readme, re.MULTILINE
    )
    assert [line.split()[0] for line in lines] == ["check", "pretrain", "finetune", "predict"]
    places = {"/my/scans": "scans", "/new/scans": "scans"}
    places["SEGMENTER.safetensors"] = "runs/own.own/scans/seed0/finetuned-all/segmenter.safetensors"
    small = ["encoder.channels=[4, 8]", "pretraining.steps=1", "transfer.steps=1", "transfer.evaluate_at=[1]"]
    for line in lines:
        words = [places.get(word, word) for word in shlex.split(line.split("#")[0])]
        if words[0] in ("pretrain", "finetune"):
            words += [word for change in small for word in ("--set", change)]
        assert main(words) == 0, f"{line}: {capsys.readouterr().err}"
    assert len(list((home / "predictions").glob("p*.nii.gz"))) == 6


def test_prediction_goes_on_where_it_stopped_and_never_mixes_networks(home, capsys):
    words = ["finetune", "bare.toml", "--cohort", "./scans", "--set", "cohort.modality=CT"]
    words += ["--set", "cohort.label_names.4=liver", "--set", "cohort.spacing_mm=9"]
    (home / "bare.toml").write_text(OWN.replace("masked_autoencoding", "none"))
    assert main(words) == 0
    segmenter = "runs/bare.own/scans/seed0/finetuned-all/segmenter.safetensors"
    assert main(["predict", segmenter, "scans/images/p0.nii.gz", "--to", "out"]) == 0
    first = (home / "out/p0.nii.gz").stat().st_mtime_ns
    capsys.readouterr()
    assert main(["predict", segmenter, "scans/images/p0.nii.gz", "scans/images/p1.nii.gz", "--to", "out"]) == 0
    out = capsys.readouterr().out
    assert "out/p0.nii.gz is there already" in out and "out/p1.nii.gz (" in out
    assert (home / "out/p0.nii.gz").stat().st_mtime_ns == first
    assert main(["predict", segmenter, "scans/images/p0.nii.gz", "--to", "out", "--force"]) == 0
    assert (home / "out/p0.nii.gz").stat().st_mtime_ns > first
    assert main([*words, "--seed", "1"]) == 0
    other = segmenter.replace("seed0", "seed1")
    for wrong, told in {
        (other, "scans", "--to", "out"): "holds label maps of another network",
        (segmenter, "scans", "--to", "scans/images"): "is where p0.nii.gz lies",
        (segmenter, "scans/images/p0.nii.gz", "scans/labels/p0.nii.gz", "--to", "x"): "have one name",
        (segmenter, "cache", "--to", "x"): "holds no .nii",
        ("tiny.toml", "scans", "--to", "x"): "not a whole safetensors file",
        (segmenter, "scans", "--to", "tiny.toml"): "tiny.toml",
    }.items():
        capsys.readouterr()
        assert main(["predict", *wrong]) == 1
        assert told in capsys.readouterr().err


def test_without_enough_labels_the_way_ends_at_the_encoder(home, capsys):
    for i in (1, 2, 3, 4):
        (home / f"scans/labels/p{i}.nii.gz").unlink()
    assert main(["check", "scans", "--modality", "CT"]) == 0
    out = capsys.readouterr().out
    assert "Three labelled patients are needed" in out and "finetune" not in out.split("Run next")[1]
    assert len(load_cohort("scans", modality="CT").unlabelled) == 6
    (home / "bare.toml").write_text(OWN.replace("masked_autoencoding", "none"))
    assert main(["finetune", "bare.toml", "--cohort", "scans", "--set", "cohort.modality=CT"]) == 1
    assert "1 train, 0 validation, 0 test case(s) with labels" in capsys.readouterr().err
    assert main(["finetune", "bare.toml", "--cohort", "scans", "--set", "cohort.colour=red"]) == 1
    assert "section [cohort]: " in (err := capsys.readouterr().err) and "'colour'" in err


def test_small_organs_get_weight_and_time(home):
    for i, axes in enumerate(["RAS", "LPS", "SPL", "RAS", "PIR"]):
        values = np.zeros((20, 18, 6), np.uint8)
        values[5:7, 6:8, 2] = 4
        save(home / "scans" / "labels" / f"p{i}.nii.gz", values, axes)
    report = check_folder("scans", modality="CT")
    assert organ_share(report) == 4 / (20 * 18 * 6)
    transfer = fitted_recipe(recipe_contents("tiny.toml"), report)["transfer"]
    assert (transfer["steps"], transfer["evaluate_at"][-1], transfer["class_balance"]) == (200, 200, 0.5)
    assert recipe_contents("tiny.toml")["transfer"]["steps"] == 2


def test_the_full_size_is_fitted_too(home):
    assert main(["check", "scans", "--modality", "CT", "--profile", "full", "--write", "large.toml"]) == 0
    recipe = load_recipe("large.toml")
    assert recipe.labelled[-1] == "all" and recipe.pretraining.steps > 1000
    assert recipe.cohort["spacing_mm"] == [6, 6, 15]  # never finer than the scans


def test_what_check_prints_can_be_typed(home, capsys):
    description = {"modality": {"0": "CT"}, "labels": {"background": 0, "liver": 4}}
    (home / "scans" / "dataset.json").write_text(json.dumps(description))
    assert main(["check", "scans", "--recipe", "anatomical_embedding"]) == 0
    typed = [line.strip() for line in capsys.readouterr().out.splitlines() if "medssl_nb pretrain" in line]
    words = shlex.split(typed[0])[3:]
    assert main([*words, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "6 unlabelled" in out or "4 unlabelled" in out
    recipe = load_recipe(words[1], changes=words[5::2], cohort="./scans")
    assert recipe.task["spacing_mm"] == [6, 6, 15]
    factor = (6 * 6 * 15 / (6 * 6 * 7.3)) ** (1 / 3)
    assert recipe.task["fine"]["positive_radius"] == pytest.approx(9 * factor, abs=0.1)
    assert torch.is_tensor(recipe.open_cohort().unlabelled[0].normalised())
