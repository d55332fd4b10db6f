"""A cohort and networks small enough that a training takes a second."""

import pytest
import torch

from medssl_nb.networks import build_encoder

TINY = {"network": "FeatureUNet", "channels": [4, 8], "norm": "instance"}


@pytest.fixture(scope="session")
def tiny_cohort():
    from medssl_nb.data import load_cohort

    return load_cohort("phantom", train=6, validation=1, test=1, shape=(20, 20, 20), spacing_mm=(14, 14, 17))


@pytest.fixture
def tiny_encoder():
    torch.manual_seed(0)
    return build_encoder(TINY)
