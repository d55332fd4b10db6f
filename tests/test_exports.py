"""Packages export what they promise, and importing them stays cheap."""

import importlib
import subprocess
import sys

import pytest

PACKAGES = (
    "networks",
    "training",
    "evaluation",
    "methods.adaptive_masking",
    "methods.boundary_infomax",
    "methods.local_discrimination",
    "methods.alice",
)


@pytest.mark.parametrize("name", PACKAGES)
def test_every_exported_name_is_there(name):
    package = importlib.import_module(f"medssl_nb.{name}")
    assert package.__all__ == sorted(set(package.__all__))
    for export in package.__all__:
        assert getattr(package, export) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_heavy_libraries_are_imported_where_they_are_used():
    heavy = ("monai", "lightning_fabric", "sklearn", "scipy", "nilearn", "matplotlib", "plotly", "ipywidgets")
    code = (
        "import sys, importlib\n"
        f"for name in {PACKAGES!r}:\n"
        "    package = importlib.import_module(f'medssl_nb.{name}')\n"
        "    [getattr(package, export) for export in package.__all__]\n"
        "import medssl_nb.recipes, medssl_nb.methods.baselines\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_dependencies_point_one_way():
    """methods know no method, widget or picture; networks and training know no method; nothing low knows notebooks."""
    import ast
    from pathlib import Path

    root = Path(importlib.import_module("medssl_nb").__file__).parent
    forbidden = {
        "data": ("networks", "training", "methods", "evaluation", "widgets", "viz", "recipes", "commands"),
        "networks": ("training", "methods", "evaluation", "widgets", "viz", "recipes", "commands"),
        "training": ("methods", "evaluation", "widgets", "viz", "recipes", "commands"),
        "methods": ("evaluation", "widgets", "viz", "recipes", "commands"),  # scores.py may pass scores on
        "evaluation": ("methods", "training", "widgets", "viz", "recipes", "commands"),
        "viz": ("networks", "training", "methods", "widgets", "recipes", "commands"),
    }
    broken = []
    for layer, others in forbidden.items():
        for path in (root / layer).rglob("*.py"):
            if layer == "methods" and path.name == "scores.py":
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                broken += [
                    f"{path.relative_to(root)}: {n}"
                    for n in names
                    if n.split(".")[1:2] and n.split(".")[1] in others and n.startswith("medssl_nb.")
                ]
    assert broken == []
