"""Lets a script find the package from a checkout, or says what to do first."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
try:
    from medssl_nb.data.fetch import main
except ModuleNotFoundError as error:
    raise SystemExit(
        f"{error.name} is not installed for {sys.executable}: run `make setup` in the top folder of the project once, "
        "then use .venv/bin/python."
    ) from None

__all__ = ["main"]
