"""The reference numbers are whole and hold nothing but numbers."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent / "reference"
SUMS = dict(reversed(line.split()) for line in (FOLDER / "SHA256SUMS").read_text().splitlines())


def test_every_method_has_its_numbers():
    assert sorted(SUMS) == [
        f"{m}.npz" for m in ("adaptive_masking", "alice", "boundary_infomax", "local_discrimination")
    ]


@pytest.mark.parametrize("name", SUMS)
def test_numbers_are_the_ones_on_record_and_need_no_pickle(name):
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == SUMS[name]
    with np.load(FOLDER / name, allow_pickle=False) as numbers:
        assert len(numbers.files) > 50
        assert all(numbers[key].dtype.kind in "fiub" for key in numbers.files)
