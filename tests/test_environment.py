"""The lists of packages agree with each other and with what is installed; the papers of the project are in order."""

import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from write_constraints import constraints_text, installed_closure

PROJECT = Path(__file__).parents[1]
METADATA = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RANGES = [Requirement(r) for r in METADATA["dependencies"] + METADATA["optional-dependencies"]["dev"]]
LINES = [r for r in (PROJECT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not r.startswith("#")]
PINS = dict(line.split("==") for line in LINES)
CONDA = yaml.safe_load((PROJECT / "environment.yml").read_text(encoding="utf-8"))
CITATION = yaml.safe_load((PROJECT / "CITATION.cff").read_text(encoding="utf-8"))


def test_installed_packages_are_the_pinned_ones():
    installed = installed_closure()
    assert len(installed) > 100
    assert {name: version for name, version in installed.items() if PINS.get(name, version) != version} == {}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems need a few packages that the pins do not list")
def test_no_package_is_without_a_pin():
    assert installed_closure().keys() - PINS.keys() == set()


@pytest.mark.skipif(
    sys.platform != "linux" or sys.version_info[:2] != (3, 11), reason="pins are written on this Python"
)
def test_constraints_are_what_the_tool_writes():
    assert (PROJECT / "constraints.txt").read_text(encoding="utf-8") == constraints_text()


@pytest.mark.parametrize("requirement", RANGES, ids=lambda r: r.name)
def test_pins_lie_in_the_tested_ranges(requirement):
    assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])


def test_pins_hold_no_builds_addresses_or_paths():
    assert [line for line in LINES if not re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+", line)] == []
    assert [line for line in LINES if line.startswith(("nvidia-", "cuda-", "triton"))] == []


def test_fast_movers_have_upper_bounds():
    movers = {"torch", "monai", "lightning-fabric", "numpy", "jupyterlab", "ipywidgets", "anywidget", "plotly", "nbval"}
    bounded = {r.name for r in RANGES if any(s.operator in ("<", "<=", "~=") for s in r.specifier)}
    assert movers - bounded == set()


def test_conda_users_get_the_same():
    python, pip, packages = CONDA["dependencies"]
    assert pip == "pip"
    assert python.split(",")[0] == f"python{METADATA['requires-python']}"
    options = [line for line in packages["pip"] if line.startswith("-")]
    assert options == ["--extra-index-url https://download.pytorch.org/whl/cpu", "-c constraints.txt", "-e ."]
    listed = [Requirement(line) for line in packages["pip"] if not line.startswith("-")]
    assert {r.name: str(r.specifier) for r in listed} == {r.name: str(r.specifier) for r in RANGES}


def test_licence_and_citation_say_what_the_package_says():
    licence = (PROJECT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in licence and "END OF TERMS AND CONDITIONS" in licence
    assert METADATA["license"] == CITATION["license"] == "Apache-2.0"
    assert METADATA["version"] == CITATION["version"]
    assert CITATION["title"].startswith(METADATA["name"])
    assert CITATION["authors"] == [{"name": METADATA["authors"][0]["name"]}]


def test_citation_has_all_that_its_format_asks_for():
    assert {"cff-version", "message", "title", "authors", "type"} <= CITATION.keys()
    assert len(CITATION["references"]) >= 4
    for reference in CITATION["references"]:
        assert {"type", "title", "authors", "year"} <= reference.keys()
        assert all("family-names" in author for author in reference["authors"])
        assert reference.get("doi") or reference["url"].startswith("https://arxiv.org/abs/")
