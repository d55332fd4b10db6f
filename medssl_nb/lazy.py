"""Packages that import their modules when a name of them is first used."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module


def lazy_exports(package: str, exports: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], object], list[str]]:
    """`__getattr__` and `__all__` of a package (PEP 562).

    Args:
        package: its `__name__`.
        exports: module of the package -> names that come from it.
    """
    module_of = {name: module for module, names in exports.items() for name in names}

    def find(name: str):
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{module_of[name]}"), name)

    return find, sorted(module_of)
