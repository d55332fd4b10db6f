import json
import re
from pathlib import Path

import pytest

from medssl_nb.__main__ import main
from medssl_nb.commands import report
from medssl_nb.commands.report import BEGIN, END, short_table, write_report
from medssl_nb.evaluation.results import save_result

PROJECT = Path(__file__).parents[2]
MADE = {"medssl_nb": "0.1.0", "commit": "0123456789abcdef", "python": "3.11.7", "torch": "2.13.0", "monai": "1.6.1"}


def save(folder, kind, runs, recipe="mae.demo", settings=None, cohort="phantom", **more):
    about = {"name": cohort, "options": {}, "train": 8, "validation": 2, "test": 4}
    result = {
        "kind": kind,
        "recipe": recipe,
        "method": "mae",
        "cohort": about,
        "settings": settings or {},
        "seeds": [0],
    }
    made = {**MADE, "device": "cpu", "cpu": "Some CPU", "processes": 1, "precision": "32-true"}
    return save_result({**result, "runs": runs, "made_with": made, "date": "2026-01-31", **more}, folder)


def transfer(start, dice, labelled=1, seed=0):
    cases = {"c": {"dice": {"liver": dice}, "hd95_mm": {"liver": 9.0}}}
    test = {"dice": {"liver": dice}, "hd95_mm": {"liver": 9.0}, "mean_dice": dice, "mean_hd95_mm": 9.0, "cases": cases}
    run = {"start": start, "labelled": labelled, "draw": 0, "seed": seed, "steps": 60}
    return {**run, "curve": [[15, 0.25], [60, 0.5]], "chosen_step": 60, "test": test, "seconds": 1.0}


def probe(start, dice):
    return {"start": start, "labelled": 1, "draw": 0, "seed": 0, "mean_dice": dice}


def fill(folder):
    """One of everything."""
    random = [transfer("random", 0.5, labelled) for labelled in (1, "all")]
    save(folder, "transfer", [*random, transfer("mae", 0.6)])
    save(folder, "transfer", [*random, transfer("view_contrast", 0.7)], "contrast.demo")
    save(folder, "probe", [probe("random", 0.2), probe("mae", 0.3)], settings={"voxels": 500, "crop": (8, 8), "a": {}})
    marks = {"start": "mae", "template": "t", "seed": 0, "mean_mm": 10.0, "copy_mm": 20.0}
    save(folder, "landmarks", [marks])
    steps = [{"step": i, "losses": {"pull": 4.0 / i, "total": 4.0 / i}, "health": {}} for i in (1, 2)]
    save(folder, "pretraining", [{"seed": 0, "history": steps, "trivial_losses": {"pull": 3.0}}, {"seed": 1}])
    save(folder, "speed", [{"ms": 1}])
    (folder / "some latency.json").write_text('{"what": "milliseconds to the picture"}')
    (folder / "plain.json").write_text("[1]")


def run(*words) -> int:
    return main(["report", *map(str, words)])


def written(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_everything_measured_is_reported(tmp_path, capsys):
    fill(tmp_path)
    assert run(tmp_path) == 0
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [
        "# Results",
        "## Few-label transfer",
        "### Cohort phantom",
        "#### Dice after fine-tuning",
        "#### Paired difference to random",
        "#### 95 % Hausdorff distance after fine-tuning, mm",
        "#### Dice while fine-tuning",
        "## Probes of frozen features",
        "### Cohort phantom",
        "#### Dice of a probe on frozen features",
        "#### Paired difference to random",
        "## Landmarks",
        "### Cohort phantom",
        "#### Landmarks found by their features",
        "## Pre-training",
        "### mae.demo, cohort phantom",
        "## Other results",
        "## Other measurements",
    ]
    for part in (
        "| view contrast | 0.700 (1)",
        "| view contrast | +0.200 (1)",
        "2 runs found more than once, with the same scores, counted once.",
        "Settings: a (), crop [8, 8], voxels 500.",
        "Settings: none stored.",
        "mae.demo, run 1: total 2, pull 2 (trivial 3) in step 2.",
        "mae.demo, run 2: no steps are stored.",
        "- [speed_mae.demo_phantom.json](speed_mae.demo_phantom.json): speed, mae.demo, cohort phantom, 1 run\n",
        "- [plain.json](plain.json)\n- [some latency.json](some%20latency.json): milliseconds to the picture\n",
    ):
        assert part in text
    assert "Nothing has been compared" not in text
    printed = capsys.readouterr().out
    assert "| view contrast | 0.700 (1)" in printed and "![" not in printed
    assert printed.endswith(f"\nWritten: {tmp_path / 'README.md'}\n")


def test_every_result_file_and_picture_is_linked_and_there(tmp_path):
    fill(tmp_path)
    text = write_report(tmp_path)
    linked = set(re.findall(r"\]\(([^)]+)\)", text))
    assert {name for name in linked if name.endswith(".json")} == {
        path.name.replace(" ", "%20") for path in tmp_path.glob("*.json")
    }
    pictures = {name for name in linked if name.endswith(".png")}
    assert pictures == {f"figures/{path.name}" for path in (tmp_path / "figures").iterdir()}
    assert len(pictures) == 3
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    assert all(len(alt) > 30 for alt in re.findall(r"!\[([^]]*)\]", text))


def test_twice_gives_the_same_bytes(tmp_path):
    fill(tmp_path)
    run(tmp_path)
    first = written(tmp_path)
    run(tmp_path)
    assert written(tmp_path) == first


def test_another_file_links_back_to_the_results(tmp_path):
    save(tmp_path / "results", "transfer", [transfer("random", 0.5)])
    target = tmp_path / "docs" / "page.md"
    assert run(tmp_path / "results", "--to", target) == 0
    text = target.read_text(encoding="utf-8")
    (name,) = {path.name for path in (tmp_path / "results").iterdir()}
    assert f"[{name}](../results/{name})" in text
    assert sorted(path.name for path in (tmp_path / "docs" / "figures").iterdir()) == [
        "transfer_1_labels.png",
        "transfer_1_steps.png",
    ]


def test_results_that_cannot_share_a_table_get_their_own(tmp_path):
    save(tmp_path, "transfer", [transfer("random", 0.5)], "a.demo")
    save(tmp_path, "transfer", [transfer("random", 0.6)], "b.demo")
    save(tmp_path, "transfer", [transfer("random", 0.7)], "c.demo", {"steps": 90})
    save(tmp_path, "transfer", [transfer("random", 0.8)], "d.demo", cohort="brain")
    text = write_report(tmp_path)
    assert re.findall("^### .*", text, re.MULTILINE) == [
        "### Cohort phantom",
        "### Cohort phantom, measurement 2",
        "### Cohort phantom, measurement 3",
        "### Cohort brain",
    ]
    kept = "measurement 2\n\nKept apart: it repeats runs of a measurement above under the same settings"
    assert kept in text and text.count("Kept apart") == 1
    assert len(list((tmp_path / "figures").iterdir())) == 8


def test_runs_without_scores_or_curves_have_no_pictures(tmp_path):
    run = {**transfer("random", 0.5), "curve": []}
    run["test"] = {**run["test"], "mean_dice": None, "mean_hd95_mm": None}
    save(tmp_path, "transfer", [run])
    save(tmp_path, "probe", [])
    text = write_report(tmp_path)
    assert "not defined (1)" in text and "![" not in text and "There are no runs in it." in text
    assert not (tmp_path / "figures").exists()


def test_pretraining_of_plain_step_records(tmp_path):
    steps = [{"step": i, "losses": {"total": float(i)}} for i in range(1, 101)]
    save(tmp_path, "pretraining", steps, settings={"trivial_losses": {"total": 2.0}})
    text = write_report(tmp_path)
    assert "mae.demo, run 1: total 98 (trivial 2) in steps 96 to 100." in text
    assert len(list((tmp_path / "figures").iterdir())) == 1


def test_only_other_measurements(tmp_path, capsys):
    (tmp_path / "latency.json").write_text(json.dumps({"what": "ms"}))
    assert run(tmp_path) == 0
    assert f"Nothing has been compared yet: {report.HOW_TO_MEASURE}." in capsys.readouterr().out


def test_nothing_there(tmp_path, capsys):
    assert run(tmp_path) == 1
    assert f"There are no result files in {tmp_path}: {report.HOW_TO_MEASURE}." in capsys.readouterr().err
    assert run(tmp_path / "none") == 1
    assert f"There is no folder {tmp_path / 'none'}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_broken_file_leaves_the_old_report(tmp_path, capsys):
    fill(tmp_path)
    run(tmp_path)
    before = written(tmp_path)
    (tmp_path / "broken.json").write_text('{"kind": "transfer"')
    assert run(tmp_path) == 1
    assert capsys.readouterr().err.startswith("report: broken.json cannot be read as JSON")
    (tmp_path / "broken.json").unlink()
    assert written(tmp_path) == before


@pytest.mark.parametrize("words", [[], ["elsewhere"]])
def test_words(words, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / (words or ["results"])[0]
    save(folder, "speed", [])
    assert run(*words) == 0
    assert (folder / "README.md").exists()
    assert capsys.readouterr().out.startswith("# Results\n")


# ---------------------------------------------------------------- the short table of a README
def side_by_side(folder, dice: float) -> None:
    probe = [{"labelled": 1, "draw": 0, "mean_dice": dice}]
    runs = [{"arm": "mae", "untrained": None, "seed": 0, "probe": probe}]
    runs += [{**runs[0], "arm": "alice", "untrained": "mae"}]
    for run in runs:
        run |= {"clusters": {"share": 0.5}, "meters": {"effective_rank": 2.0}}
    save(
        folder,
        "side by side",
        runs,
        settings={"labelled": [1], "finetuned": [], "draws": 1, "clusters": 12, "tasks": {}},
    )


def test_the_short_table_goes_between_the_markers(tmp_path):
    side_by_side(tmp_path, 0.5)
    page = tmp_path / "page.md"
    page.write_text(f"# Mine\n\n{BEGIN}\nold\n{END}\nafter\n")
    assert run(tmp_path, "--into", page) == 0
    assert page.read_text() == f"# Mine\n\n{BEGIN}\n\n{short_table(tmp_path)}\n\n{END}\nafter\n"
    assert "| alice  | 0.500 (+0.000) |" in page.read_text()
    report = (tmp_path / "README.md").read_text()
    assert "## All methods under one protocol" in report and "### Cohort phantom" in report
    assert "| mae   | 0.500" in report and "tasks" not in report


def test_a_page_without_markers_is_left_alone(tmp_path, capsys):
    side_by_side(tmp_path, 0.5)
    page = tmp_path / "page.md"
    page.write_text(f"# Mine\n{BEGIN}\n")
    assert run(tmp_path, "--into", page) == 1
    assert page.read_text() == f"# Mine\n{BEGIN}\n" and "has no lines" in capsys.readouterr().err


def test_the_projects_readme_shows_what_was_measured():
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    shown = text.partition(BEGIN)[2].partition(END)[0].strip()
    assert shown == short_table(PROJECT / "results"), "python -m medssl_nb report --into README.md"
