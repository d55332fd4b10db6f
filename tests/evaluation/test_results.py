import json
import platform
import subprocess

import numpy as np
import pytest
import torch

from medssl_nb.evaluation import results
from medssl_nb.evaluation.results import commit_of, load_results, made_with, result_files, save_result


def probe_result(**changes):
    result = {
        "kind": "probe",
        "recipe": "masked_autoencoding.demo",
        "method": "masked_autoencoding",
        "cohort": {"name": "phantom", "options": {"shape": (24, 24, 24)}, "train": 8, "validation": 2, "test": 4},
        "settings": {"voxels_per_case": 500},
        "seeds": [0],
        "runs": [{"start": "random", "labelled": 1, "draw": 0, "seed": 0, "mean_dice": 0.123456789}],
        "made_with": {"medssl_nb": "0.1.0", "commit": None},
        "date": "2026-01-31",
    }
    return {**result, **changes}


def transfer_run(**changes):
    test = {"dice": {"liver": 0.7}, "hd95_mm": {"liver": None}, "mean_dice": 0.7, "mean_hd95_mm": None, "cases": {}}
    run = {"start": "random", "labelled": "all", "draw": 0, "seed": 0, "steps": 60}
    return {**run, "curve": [[15, 0.5]], "chosen_step": 15, "test": test, "seconds": 12.3, **changes}


# ---------------------------------------------------------------- saving and loading
def test_saved_is_loaded(tmp_path):
    path = save_result(probe_result(), tmp_path / "new")
    assert path == tmp_path / "new" / "probe_masked_autoencoding.demo_phantom.json"
    (loaded,) = load_results(tmp_path / "new")
    expected = probe_result()
    expected["cohort"]["options"]["shape"] = [24, 24, 24]
    expected["runs"][0]["mean_dice"] = 0.123457
    assert loaded == expected


def test_text_is_stable_whatever_the_order_and_the_kind_of_numbers(tmp_path):
    run = {"seed": np.int64(0), "mean_dice": np.float64(0.1234567891), "draw": 0, "labelled": 1, "start": "random"}
    first = save_result(probe_result(), tmp_path, "a")
    second = save_result(dict(reversed(probe_result(runs=[run]).items())), tmp_path, "b.json")
    assert first.name == "a.json" and second.name == "b.json"
    assert first.read_bytes() == second.read_bytes()
    text = first.read_text(encoding="utf-8")
    assert text.endswith("}\n") and '\n "cohort": {\n  "name": "phantom",' in text


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (123456.789, 123457.0),
        (0.000012345678, 0.0000123457),
        (-2e-3, -0.002),
        (np.float32(0.1), 0.1),
        (7, 7),
        (True, True),
        (None, None),
        ("±", "±"),
    ],
)
def test_floats_keep_six_digits_and_the_rest_is_as_it_was(tmp_path, value, kept):
    path = save_result(probe_result(settings={"x": value}), tmp_path)
    found = json.loads(path.read_text(encoding="utf-8"))["settings"]["x"]
    assert found == kept and type(found) is type(kept)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan")])
def test_nan_is_refused_with_its_place_and_the_old_file_stays(tmp_path, value):
    path = save_result(probe_result(), tmp_path)
    before = path.read_bytes()
    run = transfer_run()
    run["test"]["cases"] = {"phantom_test_000": {"dice": {"liver": value}}}
    with pytest.raises(ValueError, match=r"\['runs'\]\[1\]\['test'\]\['cases'\]\['phantom_test_000'\]\['dice'\]"):
        save_result(probe_result(kind="transfer", runs=[transfer_run(), run]), tmp_path, path.name)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_what_json_cannot_hold_is_refused_with_its_place(tmp_path):
    with pytest.raises(ValueError, match=r"result\['settings'\]\['crop'\]\[0\] is of type Tensor.*x.tolist\(\)"):
        save_result(probe_result(settings={"crop": [torch.zeros(1)]}), tmp_path)
    with pytest.raises(ValueError, match=r"\['names'\] has the key 1; keys in JSON are text: write '1'"):
        save_result(probe_result(settings={"names": {1: "liver"}}), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", results.RESULT_KEYS)
def test_every_key_is_needed_and_has_its_type(tmp_path, key):
    result = probe_result()
    del result[key]
    with pytest.raises(ValueError, match=f"the result lacks {key}; it has "):
        save_result(result, tmp_path)
    with pytest.raises(ValueError, match=rf"result\['{key}'\] must be of type .*, got 1"):
        save_result(probe_result(**{key: 1}), tmp_path)


def test_cohort_date_and_runs_are_checked(tmp_path):
    with pytest.raises(ValueError, match=r"result\['cohort'\] lacks options, train, validation, test"):
        save_result(probe_result(cohort={"name": "phantom"}), tmp_path)
    for wrong in ("31.1.2026", "2026-02-30", "20260131"):
        with pytest.raises(ValueError, match="YYYY-MM-DD"):
            save_result(probe_result(date=wrong), tmp_path)
    with pytest.raises(ValueError, match=r"result\['runs'\]\[0\] must be a dictionary, got list"):
        save_result(probe_result(runs=[[]]), tmp_path)
    with pytest.raises(ValueError, match=r"result\['runs'\]\[0\] lacks start, template"):
        save_result(probe_result(kind="landmarks", runs=[{"seed": 0}]), tmp_path)
    for wrong in (0, "1", 1.0):
        with pytest.raises(ValueError, match=r'"labelled"\] is a number of cases from 1, or "all"'):
            save_result(probe_result(kind="transfer", runs=[transfer_run(labelled=wrong)]), tmp_path)
    with pytest.raises(ValueError, match=r'\["test"\] lacks hd95_mm'):
        save_result(probe_result(kind="transfer", runs=[transfer_run(test={"dice": {}})]), tmp_path)
    with pytest.raises(ValueError, match=r'\["test"\] must be a dictionary, got None'):
        save_result(probe_result(kind="transfer", runs=[transfer_run(test=None)]), tmp_path)
    with pytest.raises(ValueError, match="a result is a dictionary, got list"):
        save_result([], tmp_path)


def test_kinds_without_a_schema_may_hold_any_runs(tmp_path):
    save_result(probe_result(kind="speed", runs=[{"ms": 3}]), tmp_path)
    save_result(probe_result(kind="transfer", runs=[transfer_run()]), tmp_path)
    assert [result["kind"] for result in load_results(tmp_path)] == ["speed", "transfer"]
    assert [result["kind"] for result in load_results(tmp_path, "transfer")] == ["transfer"]


def test_the_default_name_holds_no_folder(tmp_path):
    cohort = {**probe_result()["cohort"], "name": "/my/own scans"}
    assert save_result(probe_result(cohort=cohort), tmp_path).name == (
        "probe_masked_autoencoding.demo_-my-own-scans.json"
    )
    for wrong in ("../up", "a/b.json", ""):
        with pytest.raises(ValueError, match="file name without folders"):
            save_result(probe_result(), tmp_path, wrong)


def test_other_json_is_told_apart(tmp_path):
    save_result(probe_result(), tmp_path, "b")
    (tmp_path / "a.json").write_text('{"what": "milliseconds"}')
    (tmp_path / "c.json").write_text("[1]")
    (tmp_path / "notes.txt").write_text("{")
    found, others = result_files(tmp_path)
    assert list(found) == ["b.json"]
    assert others == {"a.json": {"what": "milliseconds"}, "c.json": [1]}


@pytest.mark.parametrize(
    ("contents", "why"),
    [
        (b'{"kind": "probe"', "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b'{"kind": NaN}', "it holds NaN"),
        (b'{"kind": "probe"}', "is no whole result: the result lacks recipe"),
    ],
)
def test_a_broken_file_is_named(tmp_path, contents, why):
    save_result(probe_result(), tmp_path, "a")
    (tmp_path / "broken.json").write_bytes(contents)
    with pytest.raises(ValueError, match=rf"^broken\.json .*{why}"):
        load_results(tmp_path)


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_results(tmp_path / "nowhere")


# ---------------------------------------------------------------- what it was made with
def test_made_with_names_versions_and_hardware_and_nobody():
    found = made_with(processes=2, precision="bf16-mixed", device="cpu")
    assert set(found) == {
        *("medssl_nb", "commit", "python", "torch", "monai", "device", "cpu", "threads", "processes", "precision")
    }
    assert (found["processes"], found["precision"], found["device"]) == (2, "bf16-mixed", "cpu")
    assert found["torch"] == torch.__version__ and found["python"] == platform.python_version()
    assert found["threads"] == torch.get_num_threads()
    assert found == {**made_with(device=torch.device("cpu")), "processes": 2, "precision": "bf16-mixed"}
    text = json.dumps(found)
    assert platform.node() not in text and "/" not in text


def test_device_names(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no device cuda:1: torch sees 0 GPUs"):
        made_with(device="cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Some Card at {device}")
    assert made_with(device="cuda:1")["device"] == "Some Card at cuda:1"
    with pytest.raises(ValueError, match="no device cuda:2: torch sees 2 GPUs"):
        made_with(device="cuda:2")
    assert made_with(device="mps")["device"] == "Apple GPU (MPS)"


def test_name_of_the_processor(tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Some CPU 3000 \nprocessor\t: 1\nmodel name\t: Some CPU 3000\n")
    assert results._cpu_name(info) == "Some CPU 3000"
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    info.write_text("processor\t: 0\nCPU implementer\t: 0x41\n")
    assert results._cpu_name(info) == results._cpu_name(tmp_path / "none") == "aarch64"


def git(folder, *words):
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("a = 1\n")
    (tmp_path / ".gitignore").write_text(".venv\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_commit_and_its_mark(checkout):
    commit = git(checkout, "rev-parse", "HEAD")
    assert commit_of(checkout / "package") == commit
    (checkout / "results").mkdir()
    (checkout / "results" / "new.json").write_text("{}")
    assert commit_of(checkout / "package") == commit, "results are what is being written"
    (checkout / "new.py").write_text("")
    assert commit_of(checkout / "package") == f"{commit}+changes", "a new file may change what runs"
    (checkout / "new.py").unlink()
    (checkout / "package" / "__init__.py").write_text("a = 2\n")
    assert commit_of(checkout / "package") == f"{commit}+changes"


def test_no_commit_outside_a_checkout(checkout, tmp_path_factory, monkeypatch):
    alone = tmp_path_factory.mktemp("alone")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(alone.parent))
    assert commit_of(alone) is None
    installed = checkout / ".venv" / "package"  # inside the checkout of something else
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert commit_of(installed) is None
    monkeypatch.setenv("PATH", "")
    assert commit_of(checkout / "package") is None, "git is not installed"
