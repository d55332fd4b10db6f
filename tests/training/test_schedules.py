import math
from pathlib import Path

import numpy as np
import pytest
import torch

from medssl_nb.training.schedules import cosine_schedule, teacher_temperature_schedule, warmup_cosine_lr

REFERENCE = Path(__file__).parents[1] / "reference"


@pytest.fixture(scope="module")
def alice():
    with np.load(REFERENCE / "alice.npz", allow_pickle=False) as numbers:
        return dict(numbers)


@pytest.fixture(scope="module")
def boundary():
    with np.load(REFERENCE / "boundary_infomax.npz", allow_pickle=False) as numbers:
        return dict(numbers)


# ---------------------------------------------------------------- cosine_schedule


@pytest.mark.parametrize("case", [0, 1, 2])
def test_cosine_agrees_with_the_reference(alice, case):
    base, final, epochs, steps, warmup, start = alice[f"schedule/{case}/config"].tolist()
    found = cosine_schedule(base, final, int(epochs), int(steps), int(warmup), start)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), alice[f"schedule/{case}/expected"], rtol=1e-7, atol=1e-9)


def test_cosine_by_hand():
    # Four steps from 2 towards 0: 1 + cos of 0, 45, 90 and 135 degrees; the end itself is not reached.
    half = math.sqrt(0.5)
    assert cosine_schedule(2.0, 0.0, 4, 1).tolist() == pytest.approx([2, 1 + half, 1, 1 - half])
    # The warm-up of three steps holds both ends, so that the base comes twice.
    assert cosine_schedule(2.0, 0.0, 4, 1, 3, start=1.0).tolist() == pytest.approx([1, 1.5, 2, 2])


def test_a_training_may_be_all_warm_up():
    assert cosine_schedule(1.0, 0.0, 2, 2, warmup_epochs=2).tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_momentum_rises_all_the_way_and_stays_below_its_end():
    momentum = cosine_schedule(0.996, 1.0, 10, 7)
    assert (momentum.diff() > 0).all() and momentum[0] == 0.996 and momentum[-1] < 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((1.0, 0.0, 5, 2, 6), "warmup_epochs 6 is more than epochs 5"),
        ((1.0, 0.0, 0, 2), "epochs must be a whole number of at least 1, got 0"),
        ((1.0, 0.0, 5, 2.5), r"steps_per_epoch must be a whole number of at least 1, got 2\.5"),
        ((1.0, 0.0, 5, 2, -1), "warmup_epochs must be a whole number of at least 0, got -1"),
        ((math.nan, 0.0, 5, 2), "base must be a finite number, got nan"),
        ((1.0, math.inf, 5, 2), "final must be a finite number, got inf"),
    ],
)
def test_cosine_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        cosine_schedule(*arguments)


# ---------------------------------------------------------------- teacher_temperature_schedule


@pytest.mark.parametrize("term, option", [("", "teacher_temperature"), ("patch_", "patch_teacher_temperature")])
def test_temperatures_agree_with_the_reference(alice, term, option):
    *_, epochs, warmup, patch_delay = (int(v) for v in alice["loss/config"])
    start, end = alice[f"loss/{option}"].tolist()
    found = teacher_temperature_schedule(start, end, warmup, epochs, patch_delay if term else 0)
    np.testing.assert_allclose(found.numpy(), alice[f"loss/{term}temperature_schedule"], rtol=1e-7, atol=1e-9)


def test_temperatures_by_hand():
    assert teacher_temperature_schedule(0.04, 0.07, 4, 6).tolist() == pytest.approx(
        [0.04, 0.05, 0.06, 0.07, 0.07, 0.07]
    )
    delayed = teacher_temperature_schedule(0.1, 0.3, 3, 6, delay_epochs=2)
    assert delayed.tolist() == pytest.approx([0.1, 0.1, 0.1, 0.2, 0.3, 0.3]) and delayed.dtype == torch.float64
    assert teacher_temperature_schedule(0.1, 0.3, 0, 2).tolist() == pytest.approx([0.3, 0.3])
    assert len(teacher_temperature_schedule(0.1, 0.3, 3, 5, delay_epochs=2)) == 5


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0.1, 0.2, 30, 10), r"warmup_epochs 30 \+ delay_epochs 0 are more than epochs 10"),
        ((0.1, 0.2, 8, 10, 3), r"warmup_epochs 8 \+ delay_epochs 3 are more than epochs 10"),
        ((0.0, 0.2, 1, 10), r"start is a temperature, a finite number above 0, got 0\.0"),
        ((0.1, math.nan, 1, 10), "end is a temperature"),
        ((0.1, 0.2, 0, 0), "epochs must be a whole number of at least 1, got 0"),
        ((0.1, 0.2, 1, 10, -1), "delay_epochs must be a whole number of at least 0, got -1"),
    ],
)
def test_temperatures_refuse(arguments, message):
    with pytest.raises(ValueError, match=message):
        teacher_temperature_schedule(*arguments)


# ---------------------------------------------------------------- warmup_cosine_lr


def test_learning_rate_agrees_with_the_reference(boundary):
    base, multiplier, warmup, epochs, minimum = boundary["schedule__settings"].tolist()
    options = {"base_lr": base, "multiplier": multiplier, "warmup_epochs": int(warmup), "min_lr": minimum}
    found = [warmup_cosine_lr(e, max_epochs=int(epochs), **options) for e in range(int(epochs))]
    np.testing.assert_allclose(found, boundary["schedule__learning_rate"], rtol=5e-3)  # its recursion drifts


def test_learning_rate_by_hand():
    rates = [
        warmup_cosine_lr(e, base_lr=1.0, multiplier=5, warmup_epochs=2, max_epochs=6, min_lr=1.0) for e in range(8)
    ]
    # 1 -> 5 in two epochs, the peak twice, then 1 + 2 * (1 + cos) over four epochs.
    half = math.sqrt(0.5)
    assert rates == pytest.approx([1, 3, 5, 5, 3 + 2 * half, 3, 3 - 2 * half, 1])


def test_learning_rate_without_warm_up_starts_at_the_peak():
    assert warmup_cosine_lr(0, base_lr=0.1, multiplier=2, warmup_epochs=0, max_epochs=5) == pytest.approx(0.2)
    assert warmup_cosine_lr(1, base_lr=0.1, multiplier=2, warmup_epochs=0, max_epochs=5) == pytest.approx(0.2)


def test_learning_rate_of_a_training_that_is_all_warm_up_ends_at_the_peak():
    assert warmup_cosine_lr(5, base_lr=0.1, multiplier=2, warmup_epochs=5, max_epochs=5) == pytest.approx(0.2)


@pytest.mark.parametrize(
    "epoch, change, message",
    [
        (-1, {}, "epoch lies between 0 and max_epochs \\+ 1 = 21, got -1"),
        (22, {}, "got 22"),
        (0, {"max_epochs": 5}, "warmup_epochs 10 is more than max_epochs 5"),
        (0, {"base_lr": 0.0}, r"base_lr must be finite and above 0, got 0\.0"),
        (0, {"multiplier": 0.5}, r"multiplier is the peak over base_lr, at least 1, got 0\.5"),
        (0, {"min_lr": 1.0}, r"min_lr lies between 0 and the peak base_lr \* multiplier = 0\.2, got 1\.0"),
        (math.nan, {}, "epoch lies between"),
    ],
)
def test_learning_rate_refuses(epoch, change, message):
    with pytest.raises(ValueError, match=message):
        warmup_cosine_lr(epoch, **{"base_lr": 0.1, "multiplier": 2.0, "max_epochs": 20, **change})
