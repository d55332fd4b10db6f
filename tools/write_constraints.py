"""Write constraints.txt: the exact version of every package that the project needs, as installed here.

Run it in a fresh .venv after a change of the ranges in pyproject.toml, when all tests have passed:
`.venv/bin/python tools/write_constraints.py`.
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Path(__file__).resolve().parents[1]
CUDA_PACKAGES = ("nvidia-", "cuda-", "triton")  # come with one build of torch only, which pins them itself

HEADER = """\
# The exact versions that the tests ran with. Written by tools/write_constraints.py; the ranges are in pyproject.toml.
"""


def installed_closure(project: str = "medssl_nb", extras: tuple[str, ...] = ("dev",)) -> dict[str, str]:
    """Everything that `project` needs here, directly or not: {name: public version}, without `project` itself.

    A package that is required but not installed is left out; `pip check` is there to find it.
    """
    found: dict[str, str] = {}
    waiting = [(project, extras)]
    seen = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            continue
        found[canonicalize_name(name)] = Version(installed.version).public
        for requirement in map(Requirement, installed.requires or ()):
            if any(not requirement.marker or requirement.marker.evaluate({"extra": e}) for e in ("", *wanted)):
                waiting.append((canonicalize_name(requirement.name), tuple(sorted(requirement.extras))))
    del found[canonicalize_name(project)]
    return {name: found[name] for name in sorted(found) if not name.startswith(CUDA_PACKAGES)}


def constraints_text() -> str:
    """Content of constraints.txt for the packages installed here."""
    return HEADER + "".join(f"{name}=={version}\n" for name, version in installed_closure().items())


if __name__ == "__main__":
    (PROJECT / "constraints.txt").write_text(constraints_text(), encoding="utf-8")
    print(f"constraints.txt: {len(installed_closure())} packages")
