"""Reference numbers of Alice, read and compared within the tolerances stated beside them."""

from pathlib import Path

import numpy as np
import pytest
import torch

FILE = Path(__file__).parents[2] / "reference" / "alice.npz"


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

    def parameters(self, prefix, dtype=torch.float64, device="cpu"):
        """The arrays under `prefix`, by the name that follows it."""
        names = [name for name in self.arrays if name.startswith(prefix)]
        return {name.removeprefix(prefix): self(name, dtype, device) for name in names}

    def check(self, found, name):
        expected = self(name)
        assert found.shape == expected.shape, name
        largest = float(expected.abs().max())
        if found.dtype == torch.float64:
            rounded = self.arrays[name].dtype == np.float32  # results that were stored with fewer digits
            rtol, atol = (0, 2e-7 * largest) if rounded else (1e-7, 1e-9)
        else:
            assert found.dtype == torch.float32, name
            rtol, atol = 1e-4, 1e-5 * largest
        found = found.detach().cpu().double()
        torch.testing.assert_close(found, expected, rtol=rtol, atol=atol, msg=lambda m: f"{name}: {m}")


@pytest.fixture(scope="session")
def reference():
    return Reference()
