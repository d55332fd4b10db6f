"""The doctor sees each kind of trouble once, says how to mend it, and its exit code tells."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from medssl_nb import machine
from medssl_nb.__main__ import main
from medssl_nb.commands import doctor
from medssl_nb.commands.doctor import OK, OPTIONAL, PROBLEM, Check


def only(checks: list[Check]) -> Check:
    assert len(checks) == 1
    return checks[0]


def test_this_machine_is_examined_and_the_exit_code_tells(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MEDSSL_PROFILE", "demo")
    monkeypatch.delenv("MEDSSL_DATA", raising=False)
    monkeypatch.setattr(doctor, "MEMORY_GB", 0)
    monkeypatch.setattr(doctor, "DISK_GB", 0)
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for name in (
        "Python",
        "packages",
        "torch",
        "device",
        "JupyterLab",
        "widgets",
        "memory",
        "cache folder",
        "data torso",
    ):
        assert f"\n{name} " in printed
    assert printed.endswith("All is well.\n")
    monkeypatch.setenv("MEDSSL_PROFILE", "huge")
    monkeypatch.setenv("MEDSSL_DATA", str(tmp_path / "nowhere"))
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.endswith("2 problems found.\n")


def test_python_too_old():
    assert only(doctor.python_version((3, 11, 0))).status == OK
    check = only(doctor.python_version((3, 10, 4)))
    assert (check.status, check.found[:6]) == (PROBLEM, "3.10.4")
    assert "3.11 or newer" in check.mend


def test_packages_missing_or_outside_their_ranges():
    asked = ["numpy>=1", "no-such-thing>=2", "psutil<1", "optional-thing; extra == 'dev'"]
    check = only(doctor.packages(asked))
    assert check.status == PROBLEM
    assert check.found.startswith("no-such-thing is missing; psutil is ")
    assert check.found.endswith("tested is <1")
    assert only(doctor.packages(asked[:1])) == Check("packages", "all 1 in their tested ranges")


def test_torch_of_another_version_is_told(monkeypatch):
    assert only(doctor.torch_build()).status == OK
    monkeypatch.setattr(doctor, "pinned_versions", lambda: {"torch": "1.0.0"})
    check = only(doctor.torch_build())
    assert check.status == OPTIONAL
    assert "1.0.0" in check.mend


def test_pins_are_read(tmp_path):
    (tmp_path / "constraints.txt").write_text("# head\ntorch==2.1.0\nnumpy==2.0\n")
    assert doctor.pinned_versions(tmp_path / "constraints.txt") == {"torch": "2.1.0", "numpy": "2.0"}
    assert doctor.pinned_versions(tmp_path / "none.txt") == {}


@pytest.fixture
def torch_without_gpu(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    return torch


def test_device_is_the_processor(torch_without_gpu):
    check = only(doctor.device())
    assert check.status == OK
    assert check.found.startswith("processor, ")


@pytest.mark.parametrize(("cuda", "words"), [(None, "make setup TORCH=cuda"), ("13.0", "driver is too old")])
def test_a_gpu_that_is_not_used_is_told(torch_without_gpu, monkeypatch, cuda, words):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "nvidia-smi")
    monkeypatch.setattr(torch_without_gpu.version, "cuda", cuda)
    check = only(doctor.device())
    assert check.status == OPTIONAL
    assert words in check.mend


def test_devices_other_than_the_processor(torch_without_gpu, monkeypatch):
    torch = torch_without_gpu
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert only(doctor.device()).found == "Apple GPU (MPS)"

    class Card:
        total_memory = 24e9

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Card)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Some Card")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert only(doctor.device()).found == "Some Card, 24 GB, 2 of them"


def test_jupyterlab_missing(monkeypatch):
    monkeypatch.setattr(doctor, "installed_version", lambda name: None)
    assert only(doctor.jupyterlab()).status == PROBLEM


def test_kernel_of_another_python(monkeypatch, tmp_path):
    assert only(doctor.notebook_kernel()).status == OK
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    elsewhere = tmp_path / "bin" / "python"
    elsewhere.parent.mkdir()
    elsewhere.touch()
    kernel = {"argv": [str(elsewhere), "-f", "{connection_file}"], "display_name": "Other", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(kernel))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    check = only(doctor.notebook_kernel())
    assert check.status == PROBLEM
    assert str(elsewhere) in check.found


def front_end(folder, manager="5.0.0", anywidget=None):
    from importlib.metadata import version

    for name, found in (
        ("@jupyter-widgets/jupyterlab-manager", manager),
        ("anywidget", anywidget or version("anywidget")),
    ):
        (folder / name).mkdir(parents=True)
        (folder / name / "package.json").write_text(json.dumps({"version": found}))


def test_browser_part_of_widgets_missing_or_of_another_version(tmp_path, monkeypatch):
    front_end(tmp_path / "good")
    assert [c.status for c in doctor.widget_front_end([tmp_path / "none", tmp_path / "good"])] == [OK, OK]
    assert [c.status for c in doctor.widget_front_end([tmp_path / "none"])] == [PROBLEM, PROBLEM]
    front_end(tmp_path / "old", anywidget="0.1.0")
    assert [c.status for c in doctor.widget_front_end([tmp_path / "old"])] == [OK, PROBLEM]
    monkeypatch.setattr(doctor, "installed_version", lambda name: "1.0.0")
    assert [c.status for c in doctor.widget_front_end([tmp_path / "good"])] == [PROBLEM, PROBLEM]


def test_too_little_memory():
    assert only(doctor.free_memory(8_000_000_000)) == Check("memory", "8.0 GB free")
    check = only(doctor.free_memory(1_500_000_000))
    assert (check.found, check.status) == ("1.5 GB free", PROBLEM)


def test_limits_of_a_container_count(tmp_path):
    assert machine.memory_left_in_container(tmp_path) == float("inf")
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.memory_left_in_container(tmp_path) == float("inf")
    (tmp_path / "memory.max").write_text("5000\n")
    assert machine.memory_left_in_container(tmp_path) == 4000
    (tmp_path / "memory.stat").write_text("anon 10\ninactive_file 300\nactive_file 7\n")  # a cache of files gives way
    assert machine.memory_left_in_container(tmp_path) == 4300


def test_cache_folder_full_or_not_writable(tmp_path):
    new = tmp_path / "not" / "yet"
    assert only(doctor.cache_room(new, free_bytes=90_000_000_000)) == Check("cache folder", f"{new}, 90 GB free")
    assert not new.exists()
    assert only(doctor.cache_room(tmp_path, free_bytes=1_000_000_000)).status == PROBLEM
    (tmp_path / "file").touch()
    check = only(doctor.cache_room(tmp_path / "file", free_bytes=90_000_000_000))
    assert check.status == PROBLEM
    assert "MEDSSL_CACHE" in check.mend


def test_data_sets_found_and_not_found(tmp_path, monkeypatch):
    (tmp_path / "torso").mkdir()
    monkeypatch.setenv("MEDSSL_DATA", str(tmp_path))
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path / "cache"))
    checks = {check.name: check for check in doctor.data_sets()}
    assert checks["data torso"] == Check("data torso", str(tmp_path / "torso"))
    assert checks["data headneck_ct"].status == OPTIONAL
    assert checks["data headneck_ct"].mend == "`python data_scripts/openkbp.py`"


def test_named_folder_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.delenv("MEDSSL_DATA", raising=False)
    assert doctor.named_folders() == []
    monkeypatch.setenv("MEDSSL_DATA", str(tmp_path))
    assert only(doctor.named_folders()).status == OK
    monkeypatch.setenv("MEDSSL_DATA", f"{tmp_path}{doctor.os.pathsep}{tmp_path / 'gone'}")
    check = only(doctor.named_folders())
    assert (check.status, check.found) == (PROBLEM, f"no folder {tmp_path / 'gone'}")


def test_profile_that_does_not_exist(monkeypatch):
    monkeypatch.setenv("MEDSSL_PROFILE", "huge")
    check = only(doctor.profile())
    assert (check.status, check.found) == (PROBLEM, "huge")
    assert "unset it" in check.mend


def test_an_examination_that_fails_is_a_row_and_the_rest_goes_on():
    def broken_thing():
        raise OSError("libgomp.so.1 not found")

    first, second = doctor.examine([broken_thing, lambda: [Check("b", "fine")]])
    assert (first.name, first.found, first.status) == ("broken thing", "OSError: libgomp.so.1 not found", PROBLEM)
    assert second.status == OK


def test_table_keeps_words_whole_and_its_width():
    mend = "run `python data_scripts/totalsegmentator_samples.py` in the top folder"
    checks = [Check("data torso", "not here " * 9, OPTIONAL, mend), Check("device", "processor")]
    wide = doctor.table(checks, width=120).splitlines()
    assert max(map(len, wide)) <= 120
    assert wide[2].index("optional") == wide[-1].index("OK")
    narrow = doctor.table(checks, width=20).splitlines()
    assert len(narrow) > len(wide) > 4
    assert sum("data_scripts/totalsegmentator_samples.py`" in line for line in narrow) == 1  # can be copied
    assert len(max((line for line in narrow if "data_scripts" not in line), key=len)) <= 72


def test_doctor_works_where_packages_are_missing(tmp_path):
    hide = "import sys\nfor name in ('torch', 'jupyter_client', 'jupyter_core', 'psutil'): sys.modules[name] = None\n"
    code = hide + "from medssl_nb.__main__ import main\nsys.exit(main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 1
    assert done.stderr == ""
    assert "ModuleNotFoundError" in done.stdout
    assert "cache folder" in done.stdout
