"""pretrain, transfer, evaluate, report, recipes: each command that the documents name, on a cohort of seconds."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from medssl_nb.__main__ import COMMANDS, main

PROJECT = Path(__file__).parents[2]
TINY = """\
about = "Seconds only."
method = "{method}"

[cohort]
name = "phantom"
train = 3
validation = 1
test = 2
shape = [20, 20, 20]
spacing_mm = [14, 14, 17]
organs = ["liver", "lung"]

[encoder]
network = "FeatureUNet"
channels = [4, 8]
norm = "instance"

[transfer]
labelled = [1, 2]
draws = 2
seeds = [0]
steps = 2
crop = [16, 16, 16]
evaluate_at = [1, 2]
"""
TASK = """
[task]
patch_size = 8

[pretraining]
steps = 4
batch_size = 2
crop = [16, 16, 16]
checkpoint_every = 2
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder to work in, with two recipes of one protocol."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "random.own.toml").write_text(TINY.format(method="none"))
    (tmp_path / "mae.own.toml").write_text(TINY.format(method="masked_autoencoding") + TASK)
    return tmp_path


def test_from_pre_training_to_the_report(own, capsys):
    assert main(["pretrain", "mae.own.toml"]) == 0
    run = own / "runs/mae.own/phantom/seed0"
    assert {p.name for p in run.iterdir() if p.name != ".lock"} == {
        *("checkpoint.pt", "history.jsonl", "encoder.safetensors", "encoder.md")
    }
    assert "step 4/4" in (out := capsys.readouterr().out)
    assert re.search(r"thoughtless model scores total 0\.\d+", out)

    assert main(["transfer", "random.own.toml", "mae.own.toml"]) == 0
    out = capsys.readouterr().out
    assert "mae.own: pre-trained with seed 0 only" not in out  # seed 0 is all that was asked for
    results = {p.name: json.loads(p.read_text()) for p in (own / "results").glob("*.json")}
    assert set(results) == {"transfer_random.own_phantom.json", "transfer_mae.own_phantom.json"}
    for result in results.values():
        assert [(r["labelled"], r["draw"], r["seed"]) for r in result["runs"]] == [
            (1, 0, 0),
            (1, 1, 0),
            (2, 0, 0),
            (2, 1, 0),
        ]
        assert result["cohort"]["test"] == 2
        assert str(own) not in json.dumps(result)
    assert "| random" in out and "1 labelled" in out
    assert "Gain in test mean Dice over random" in out

    assert main(["evaluate", "random.own.toml", "mae.own.toml", "--labelled", "1", "--draws", "1"]) == 0
    out = capsys.readouterr().out
    assert {p.name for p in (own / "results").glob("*.json")} == set(results) | {
        *("probe_linear_random.own_phantom.json", "probe_linear_mae.own_phantom.json"),
        *("landmarks_random.own_phantom.json", "landmarks_mae.own_phantom.json"),
    }
    assert "mm" in out

    assert main(["report"]) == 0
    report = (own / "results/README.md").read_text()
    assert "Dice after fine-tuning" in report and "mae" in report


def test_a_second_call_goes_on_and_a_third_has_nothing_to_do(own, capsys):
    words = ["pretrain", "mae.own.toml", "--set", "pretraining.checkpoint_every=1"]
    assert main(words) == 0
    first = (own / "runs/mae.own/phantom/seed0/encoder.safetensors").read_bytes()
    capsys.readouterr()
    assert main(words) == 0
    assert "4 of 4 steps are done" in capsys.readouterr().out
    assert (own / "runs/mae.own/phantom/seed0/encoder.safetensors").read_bytes() == first
    assert main(["pretrain", "mae.own.toml", "--set", "pretraining.learning_rate=0.5"]) == 1
    assert "profile.learning_rate was 0.002 and is now 0.5" in capsys.readouterr().err


SAM = """
[task]
view_size = [18, 18, 18]
scale_range = [0.9, 1.0]
spacing_mm = [14, 14, 17]

[pretraining]
steps = 2
batch_size = 2
crop = [20, 20, 20]
"""
ALICE = """
[task]
mask_size = 8
hidden_dim = 8
out_dim = 8
casa_hidden_dim = 8
margin = 3

[pretraining]
steps = 2
batch_size = 2
crop = [16, 16, 16]
"""


def test_a_recipe_that_stands_on_another_runs_it_first(own, capsys, monkeypatch):
    monkeypatch.setenv("MEDSSL_CACHE", str(own / "cache"))
    unet = 'network = "FeatureUNet"\nchannels = [4, 8]\nnorm = "instance"'
    sam = TINY.format(method="anatomical_embedding").replace(
        unet, 'network = "AnatomicalEmbeddingNet"\nwidths = [8, 8, 8, 8]\nembedding_dim = 4'
    )
    alice = TINY.format(method="alice").replace(unet, 'network = "ConvBackbone"\nwidths = [4, 4, 8, 8]')
    (own / "sam.own.toml").write_text(sam.replace("train = 3", "train = 5") + SAM)
    (own / "alice.own.toml").write_text('after = "sam.own.toml"\n' + alice + ALICE)

    assert main(["pretrain", "alice.own.toml", "--dry-run"]) == 0
    assert re.search(r"first +sam\.own", capsys.readouterr().out) and not (own / "runs").exists()
    assert main(["pretrain", "alice.own.toml", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert 0 <= out.index("coarse") < out.index("reconstruction")  # SAM's terms come before Alice's
    assert (own / "runs/sam.own/phantom/seed3/encoder.safetensors").exists()  # the same seed
    assert (own / "runs/alice.own/phantom/seed3/encoder.safetensors").exists()
    assert len(list((own / "cache/embeddings").rglob("*.safetensors"))) == 3  # Alice's cases, not the 5 of sam.own

    assert main(["pretrain", "alice.own.toml", "--seed", "3"]) == 0
    assert "step 1/2" not in capsys.readouterr().out  # both are there


def test_finished_transfer_runs_are_not_repeated(own, capsys, monkeypatch):
    words = ["transfer", "random.own.toml", "--labelled", "1"]
    assert main(words) == 0
    from medssl_nb.evaluation import transfer

    monkeypatch.setattr(transfer, "_trained", lambda *a, **k: pytest.fail("trained again"))
    assert main(words) == 0


def test_dry_run_prints_sizes_memory_and_steps_and_writes_nothing(own, capsys):
    assert main(["pretrain", "mae.own.toml", "--dry-run", "--seed", "5"]) == 0
    out = capsys.readouterr().out
    for word in ("3 unlabelled images", "16 x 16 x 16 voxels", "2 per step", "GB per process", "seed5", "0 steps done"):
        assert word in out
    assert re.search(r"steps +4 \(each image about 3 times\)", out)
    assert not (own / "runs").exists()


def test_transfer_says_which_pre_training_is_missing(own, capsys):
    assert main(["transfer", "mae.own.toml", "--seeds", "0", "1"]) == 1
    err = capsys.readouterr().err
    assert "python -m medssl_nb pretrain mae.own.toml --seed 0" in err
    assert "python -m medssl_nb pretrain mae.own.toml --seed 1" in err


def test_one_pre_training_serves_all_seeds_but_says_so(own, capsys):
    assert main(["pretrain", "mae.own.toml"]) == 0
    assert main(["transfer", "mae.own.toml", "--labelled", "1", "--draws", "1", "--seeds", "0", "1"]) == 0
    assert "pre-trained with seed 0 only" in capsys.readouterr().out
    result = json.loads((own / "results/transfer_mae.own_phantom.json").read_text())
    assert result["settings"]["pretraining"]["seed_of_each_seed"] == {"0": 0, "1": 0}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretrain", "nothing"], "no recipe nothing.demo"),
        (["pretrain", "random.own.toml"], "has no pre-training"),
        (["pretrain", "mae.own.toml", "--cohort", "hippocampuss"], "no cohort 'hippocampuss'"),
        (["transfer", "random.own.toml", "--labelled", "9"], "9"),
        (["report", "nowhere"], "no folder nowhere"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_no_traceback(own, capsys, words, message):
    assert main(words) == 1
    assert message in capsys.readouterr().err


def test_recipes_lists_and_prints(capsys):
    assert main(["recipes"]) == 0
    assert "masked_autoencoding.full" in capsys.readouterr().out
    assert main(["recipes", "random.demo"]) == 0
    assert capsys.readouterr().out == (PROJECT / "medssl_nb/recipes/random.demo.toml").read_text()


# ---------------------------------------------------------------- what the documents say
# Every run of the documents at a size of seconds, on a cohort that needs no download.
SMALL = [
    *("cohort.name=phantom", "cohort.train=3", "cohort.validation=1", "cohort.test=2", "cohort.shape=[20, 20, 20]"),
    *("cohort.spacing_mm=[14, 14, 17]", 'cohort.organs=["liver", "lung"]', "encoder.channels=[4, 8]"),
    *("pretraining.steps=2", "pretraining.batch_size=4", "pretraining.crop=[16, 16, 16]", "pretraining.workers=0"),
    *("pretraining.precision=32-true", "transfer.steps=2", "transfer.crop=[16, 16, 16]", "transfer.evaluate_at=[1, 2]"),
    *("transfer.labelled=[1]", "transfer.draws=1", "transfer.seeds=[0]"),
]
# The same for recipes of a masked transformer, whose volumes have one size.
SMALL_TRANSFORMER = [
    *("cohort.train=4", "cohort.validation=3", "cohort.test=3", "cohort.shape=[16, 20, 16]", "cohort.spacing_mm=8.8"),
    *("encoder.volume_size=[16, 20, 16]", "encoder.hidden_size=24", "encoder.layers=1", "encoder.heads=2"),
    *("pretraining.steps=2", "pretraining.batch_size=2", "pretraining.crop=[16, 20, 16]"),
    *("transfer.steps=2", "transfer.crop=[16, 20, 16]", "transfer.evaluate_at=[1, 2]"),
    *("transfer.labelled=[1]", "transfer.draws=1", "transfer.seeds=[0]"),
]
DOCUMENTS = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", PROJECT / "benchmarks/README.md"]


def documented(start: str) -> list[str]:
    """Command lines of the documents that begin with `start`, in their order; a line may go on in the next one."""
    found = []
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        inline = re.findall(r"`(" + start + r"[^`]*)`", text)
        block = re.findall(r"^(" + start + r"[^\n]*)", text, re.MULTILINE)
        found += [" ".join(line.split("#")[0].split()) for line in (*block, *inline)]
    return list(dict.fromkeys(found))


def test_every_documented_command_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = [line.removeprefix("python -m medssl_nb").strip() for line in documented("python -m medssl_nb")]
    assert {"pretrain", "transfer", "evaluate", "report", "recipes", "lab", "doctor"} <= {
        line.split()[0] for line in lines
    }
    for line in lines:
        words = shlex.split(line)
        assert words[0] in COMMANDS, line
        if words[0] in ("lab", "doctor", "check", "finetune", "predict") or "own.toml" in words:
            continue  # a server, a look at this machine, scans of one's own: tests of their own
        if words[0] in ("pretrain", "transfer", "evaluate"):
            small = SMALL_TRANSFORMER if {"simmim", "adaptive_masking"} & set(words) else SMALL
            words += [word for change in small for word in ("--set", change)]
        assert main(words) == 0, f"{line}: {capsys.readouterr().err}"


@pytest.mark.parametrize("line", documented("torchrun"))
def test_documented_launches_share_the_batch(line, tmp_path):
    words = shlex.split(line)
    words[words.index("--nproc-per-node") + 1] = "2"
    words += [word for change in SMALL for word in ("--set", change)]
    script = Path(sys.executable).with_name("torchrun")
    done = subprocess.run([str(script), *words[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("step 2/2") == 1  # one training, one log
    (history,) = tmp_path.glob("runs/*/*/seed0/history.jsonl")
    assert len(history.read_text().splitlines()) == 2


def test_there_is_a_documented_launch():
    assert documented("torchrun")
