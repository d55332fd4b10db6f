import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "data_scripts"


def run(script, *arguments, cwd, options=(), **environment):
    command = [sys.executable, *options, str(SCRIPTS / script), *map(str, arguments)]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "", **environment}
    return subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, timeout=120)


def test_a_script_explains_itself(tmp_path):
    told = run("msd_hippocampus.py", "--help", cwd=tmp_path)
    assert told.returncode == 0 and told.stderr == ""
    assert all(option in told.stdout for option in ("--to", "--from", "--keep-archive", "--check"))


def test_a_set_behind_an_account_ends_with_1_and_no_traceback(tmp_path):
    told = run("hecktor.py", cwd=tmp_path, MEDSSL_CACHE=str(tmp_path / "cache"))
    assert told.returncode == 1 and "register at https://hecktor.grand-challenge.org" in told.stderr
    assert "Traceback" not in told.stderr and not (tmp_path / "cache").exists()


def test_a_missing_dependency_says_what_to_do(tmp_path):
    """Without site-packages nothing is installed."""
    told = run("acdc.py", cwd=tmp_path, options=["-S", "-E"])
    assert told.returncode == 1 and "make setup" in told.stderr and "Traceback" not in told.stderr


@pytest.mark.parametrize("script", sorted(p.name for p in SCRIPTS.glob("[!_]*.py")))
def test_a_script_names_its_own_set(script):
    assert f'main("{Path(script).stem}")' in (SCRIPTS / script).read_text(encoding="utf-8")
