"""`make setup`: work once, go on after an interruption, one sentence for each thing that can be missing.

A script that notes its words plays the Python of .venv, so nothing is installed; where pip's own words matter, the
real pip talks to a port that is closed.
"""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import venv_install

PROJECT = Path(__file__).parents[1]
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="shell scripts play the programs")

PLAYED_PYTHON = """#!/bin/sh
echo "$*" >> "$(dirname "$0")/../log.txt"
case "$*" in
    *list*) echo '[{"name": "nvidia-cublas"}, {"name": "numpy"}, {"name": "triton"}]' ;;
    *"${FAIL_ON:-nothing fails}"*) echo "$FAIL_TEXT"; exit 1 ;;
esac
"""


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def give_venv(project: Path) -> None:
    script(project / ".venv" / "bin" / "python", PLAYED_PYTHON)
    (project / ".venv" / "pyvenv.cfg").write_text(f"home = somewhere\nversion = {HERE}.1\n")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project with an environment in which nothing is installed yet."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "p"\n[build-system]\nrequires = []\n[tool.x]\na = 1\n')
    (tmp_path / "constraints.txt").write_text("numpy==2.0\ntorch==2.13.0\n")
    give_venv(tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    return tmp_path


def asked(project: Path) -> list[str]:
    """What was installed since the last question: the words after pip's own options."""
    log = project / ".venv" / "log.txt"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return [line.partition("--progress-bar off ")[2] for line in lines if " install " in line]


def fail(monkeypatch, on: str, text: str) -> None:
    monkeypatch.setenv("FAIL_ON", on)
    monkeypatch.setenv("FAIL_TEXT", text)


# ---------------------------------------------------------------- what is installed
def test_first_run_installs_torch_then_the_rest_with_the_pins_and_the_second_nothing(project, capsys):
    assert venv_install.main([], project) == 0
    assert asked(project) == [
        "--retries 1 torch==2.13.0+cpu",
        f"-c {project / 'constraints.txt'} -e {project}[dev]",
    ]
    assert "Ready after" in capsys.readouterr().out
    assert venv_install.main([], project) == 0
    assert not (project / ".venv" / "log.txt").exists()
    assert capsys.readouterr().out == ""


def test_pytorchs_own_index_is_asked_only_when_the_users_has_no_build_without_cuda(project, monkeypatch):
    fail(monkeypatch, "--retries 1", "ERROR: No matching distribution found for torch==2.13.0+cpu")
    assert venv_install.main([], project) == 0
    assert asked(project)[1] == "--extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu"


def test_outside_linux_there_is_one_build(project, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    venv_install.main([], project)
    assert asked(project)[0] == "torch==2.13.0"
    with pytest.raises(SystemExit, match="leave the word away"):
        venv_install.main(["--torch", "cuda"], project)
    assert asked(project) == []


def test_cuda_by_one_word_stays_until_the_other_word(project):
    venv_install.main(["--torch", "cuda"], project)
    assert asked(project)[0] == "torch===2.13.0"
    venv_install.main([], project)
    assert asked(project) == []
    (project / "constraints.txt").write_text("numpy==2.1\ntorch==2.13.1\n")
    venv_install.main(["--torch", ""], project)
    assert asked(project)[0] == "torch===2.13.1"
    venv_install.main(["--torch", "cpu"], project)
    log = (project / ".venv" / "log.txt").read_text()
    assert "torch==2.13.1+cpu" in log
    assert "uninstall -q -y nvidia-cublas triton\n" in log


def test_changed_packages_are_work_and_changed_tool_settings_are_not(project):
    venv_install.main([], project)
    asked(project)
    settings = project / "pyproject.toml"
    settings.write_text(settings.read_text().replace("a = 1", "a = 2"))
    venv_install.main([], project)
    assert asked(project) == []
    settings.write_text(settings.read_text().replace('"p"', '"p"\ndependencies = ["tqdm"]'))
    venv_install.main([], project)
    assert len(asked(project)) == 2


def test_torch_must_be_pinned(project):
    (project / "constraints.txt").write_text("numpy==2.0\n")
    with pytest.raises(ValueError, match="does not pin torch"):
        venv_install.main([], project)


# ---------------------------------------------------------------- environments that are broken
@pytest.fixture
def made_anew(monkeypatch):
    """Environments that were created, without waiting for real ones."""
    created = []

    def create(venv):
        created.append(venv)
        give_venv(venv.parent)

    monkeypatch.setattr(venv_install, "create", create)
    return created


def test_interrupted_run_goes_on(project, monkeypatch, capsys, made_anew):
    def interrupt(project):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(venv_install, "install_rest", interrupt)
        assert venv_install.main([], project) == 130
    assert "Run the same command again" in capsys.readouterr().err
    assert venv_install.read_stamp(project / ".venv") == {}
    assert venv_install.main([], project) == 0
    assert made_anew == []
    assert venv_install.read_stamp(project / ".venv")["torch"] == "cpu"


def test_failed_switch_is_not_taken_for_a_finished_one(project, monkeypatch):
    venv_install.main([], project)
    with monkeypatch.context() as patch:
        fail(patch, "-c ", "ERROR: something")
        with pytest.raises(SystemExit):
            venv_install.main(["--torch", "cuda"], project)
    asked(project)
    venv_install.main([], project)
    assert asked(project)[0] == "--retries 1 torch==2.13.0+cpu"


def test_environment_made_by_another_tool_is_kept(project, made_anew):
    (project / ".venv" / "pyvenv.cfg").write_text(f"home = somewhere\nversion_info = {HERE}.1.final.0\n")
    assert venv_install.main([], project) == 0
    assert made_anew == []


@pytest.mark.parametrize("harm", ["python is gone", "another version", "moved", "made by another tool"])
def test_environment_that_cannot_be_mended_is_made_anew(project, harm, made_anew, capsys):
    venv_install.main([], project)
    venv = project / ".venv"
    if harm == "python is gone":
        (venv / "bin" / "python").unlink()
        (venv / "bin" / "python").symlink_to("/nowhere/python3")
    elif harm == "moved":
        stamp = venv_install.read_stamp(venv) | {"folder": "/elsewhere"}
        venv_install.write_stamp(venv, stamp)
    else:
        key = "version" if harm == "another version" else "version_info"
        (venv / "pyvenv.cfg").write_text(f"{key} = 3.9.18.final.0\n")
        venv_install.write_stamp(venv, venv_install.read_stamp(venv) | {"python": "3.9"})
    (venv / "old").touch()
    capsys.readouterr()
    assert venv_install.main([], project) == 0
    assert made_anew == [venv]
    assert not (venv / "old").exists()
    assert capsys.readouterr().out.startswith("Making .venv anew: ")


def test_half_made_environment_is_completed(project, made_anew):
    (project / ".venv" / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")  # pip does not start
    assert venv_install.main([], project) == 0
    assert made_anew == [project / ".venv"]


def test_a_folder_that_is_no_environment_is_left_alone(project):
    shutil.rmtree(project / ".venv")
    (project / ".venv").mkdir()
    (project / ".venv" / "thesis.tex").touch()
    with pytest.raises(SystemExit, match="is in the way and is not a Python environment"):
        venv_install.main([], project)
    assert (project / ".venv" / "thesis.tex").exists()


def test_records_of_half_installed_packages_are_forgotten(project):
    place = project / ".venv" / "lib" / f"python{HERE}" / "site-packages"
    for name in ("whole", "half"):
        (place / f"{name}-1.0.dist-info").mkdir(parents=True)
    (place / "whole-1.0.dist-info" / "RECORD").touch()
    venv_install.main([], project)
    assert [p.name for p in place.iterdir()] == ["whole-1.0.dist-info"]


def test_packages_that_do_not_load_are_told_and_not_stamped(project, monkeypatch):
    fail(monkeypatch, "import torch", "x")
    with pytest.raises(SystemExit, match="installed but do not load"):
        venv_install.main([], project)
    assert venv_install.read_stamp(project / ".venv") == {}


# ---------------------------------------------------------------- what may be missing
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Failed to establish a new connection: [Errno 111]", "network is missing or blocked"),
        ("NameResolutionError: Failed to resolve 'pypi.org'", "network is missing or blocked"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: No matching distribution found for torch", f"no package for Python {HERE}"),
        ("ERROR: the wheel is wet", "pip failed, and the lines above say why"),
    ],
)
def test_each_failure_of_pip_has_its_sentence(project, monkeypatch, text, sentence):
    fail(monkeypatch, "-c ", text)
    with pytest.raises(SystemExit) as stopped:
        venv_install.main([], project)
    lines = stopped.value.code.splitlines()
    assert lines[0] == text
    assert sentence in lines[-1]
    assert lines[-1].endswith("run the same command again; what is already installed is kept.")


def test_real_pip_without_a_network(project, monkeypatch):
    script(project / ".venv" / "bin" / "python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens there
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    target = str(project / "target")
    with pytest.raises(SystemExit, match="network is missing or blocked"):
        venv_install.pip_or_exit(project, "--retries", "1", "--target", target, "no-such-thing-anywhere==1.0")


def test_too_little_space_for_a_new_environment(project, monkeypatch, made_anew):
    shutil.rmtree(project / ".venv")
    monkeypatch.setattr(venv_install.shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(0, 0, 1_500_000_000))
    with pytest.raises(SystemExit, match=r"1\.5 GB of free space, about 3 GB are needed"):
        venv_install.main([], project)
    assert made_anew == []


def test_python_that_cannot_create_environments(project, monkeypatch):
    monkeypatch.setattr(venv_install.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=f"apt install python{HERE}-venv"):
        venv_install.create(project / ".venv")


# ---------------------------------------------------------------- finding a Python
def test_the_door_is_understood_by_every_python():
    text = (PROJECT / "tools" / "setup_venv.py").read_text(
        encoding="ascii"
    )  # without a coding line, Python 2 wants ASCII
    tree = ast.parse(text, feature_version=(3, 4))
    assert not any(isinstance(node, ast.JoinedStr | ast.AnnAssign) for node in ast.walk(tree))


def test_an_old_python_says_what_to_do():
    code = "import runpy, sys; sys.version_info = (3, 8, 18); runpy.run_path('tools/setup_venv.py')"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("medssl_nb needs Python 3.11 or newer, and this is 3.8 (")
    assert done.stderr.count("\n") == 1


def find_python(folder: Path, **environment: str) -> subprocess.CompletedProcess:
    shell = shutil.which("sh")
    command = [shell, str(PROJECT / "tools" / "find_python.sh"), "the words"]
    return subprocess.run(command, cwd=folder, env={"PATH": str(folder), **environment}, capture_output=True, text=True)


PLAYED = '#!/bin/sh\ncase "$*" in *version_info*) exit {new};; "-c ") exit {starts};; esac\necho {name} got "$1"\n'


@pytest.mark.parametrize(
    ("commands", "chosen"),
    [
        ({"python3.13": (0, 0), "python3.11": (0, 0)}, "python3.13"),
        ({"python3.13": (127, 127), "python3.12": (0, 0)}, "python3.12"),  # a version manager's command that fails
        ({"python3": (1, 0), "python3.11": (0, 0)}, "python3.11"),
        ({".venv/bin/python": (0, 0), "python3.13": (0, 0)}, ".venv/bin/python"),
        ({".venv/bin/python": (1, 0), "python3": (0, 0)}, "python3"),  # an environment made with an old one
        ({"python3": (1, 0)}, "python3"),  # only an old one: it says itself what to do
    ],
)
def test_the_newest_python_that_starts_is_used(tmp_path, commands, chosen):
    for name, (new, starts) in commands.items():
        script(tmp_path / name, PLAYED.format(new=new, starts=starts, name=name))
    assert find_python(tmp_path).stdout == f"{chosen} got the words\n"


def test_a_named_python_is_the_only_candidate(tmp_path):
    script(tmp_path / "python3.13", PLAYED.format(new=0, starts=0, name="python3.13"))
    script(tmp_path / "mine", PLAYED.format(new=0, starts=0, name="mine"))
    assert find_python(tmp_path, PYTHON=str(tmp_path / "mine")).stdout == "mine got the words\n"
    done = find_python(tmp_path, PYTHON="nowhere/python")
    assert done.returncode == 1
    assert done.stderr.startswith("nowhere/python was not found or does not start: install Python 3.11 or newer")


def test_no_python_at_all(tmp_path):
    done = find_python(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("Python was not found or does not start")
    assert done.stderr.count("\n") == 1


def test_make_alone_lists_every_target():
    plain = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    listed = subprocess.run(["make"], cwd=PROJECT, env=plain, capture_output=True, text=True, check=True).stdout
    phony = next(line for line in (PROJECT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:"))
    assert [line.split()[1] for line in listed.splitlines()] == phony.split()[1:]
