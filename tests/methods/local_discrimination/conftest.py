"""Reference numbers of Local Discrimination, read and compared within the tolerances stated beside them."""

from pathlib import Path

import numpy as np
import pytest
import torch

FILE = Path(__file__).parents[2] / "reference" / "local_discrimination.npz"


class Reference:
    """`reference(name)` is a stored array; `reference.check(found, name)` compares a result with it."""

    def __init__(self):
        with np.load(FILE, allow_pickle=False) as numbers:
            self.arrays = {name: numbers[name] for name in numbers.files}

    def __call__(self, name, dtype=torch.float64, device="cpu"):
        return torch.from_numpy(np.array(self.arrays[name])).to(device, dtype)

    def number(self, name):
        """An integer, a float, or a list of them."""
        return self.arrays[name].tolist()

    def check(self, found, name, *, gradient=False):
        expected = self(name)
        assert found.shape == expected.shape, name
        if found.dtype == torch.float64:
            rtol, atol = (1e-4, 1e-6) if gradient else (1e-5, 1e-8)
        else:
            assert found.dtype == torch.float32, name
            rtol, atol = 1e-4, max(1e-6, 1e-5 * float(expected.abs().max()))
        found = found.detach().cpu().double()
        torch.testing.assert_close(found, expected, rtol=rtol, atol=atol, msg=lambda m: f"{name}: {m}")


@pytest.fixture(scope="session")
def reference():
    return Reference()
