"""What tests of studies share: the study that a test module is named after, and the words of a run of seconds."""

import importlib
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "studies"))  # as it is when they are run: they import `common`


@pytest.fixture(scope="module")
def study(request):
    return importlib.import_module(request.path.stem.removeprefix("test_"))


@pytest.fixture(scope="module")
def words(request):
    """Function of a folder and more words: all words of a run with the changes TINY of the test module."""

    def words(folder: Path, *more: str) -> list[str]:
        sets = [word for change in request.module.TINY for word in ("--set", change)]
        return [*more, *sets, "--runs", str(folder / "runs"), "--results", str(folder)]

    return words
