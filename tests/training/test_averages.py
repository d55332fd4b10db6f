import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from medssl_nb.training.averages import ema_update


@pytest.fixture(scope="module")
def numbers():
    with np.load(Path(__file__).parents[1] / "reference" / "alice.npz", allow_pickle=False) as stored:
        return {key: torch.from_numpy(stored[key]) for key in stored.files if key.startswith("ema/")}


def one_parameter(value):
    module = nn.Module()
    module.weight = nn.Parameter(value.clone())
    return module


def pair():
    torch.manual_seed(0)
    student = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2))
    teacher = copy.deepcopy(student)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    student[1].running_mean.add_(5.0)
    return teacher, student


@pytest.mark.parametrize("dtype, rtol, atol", [(torch.float64, 2e-7, 5e-7), (torch.float32, 1e-4, 1e-5)])
def test_average_agrees_with_the_reference(numbers, dtype, rtol, atol):
    teacher, student = (one_parameter(numbers[f"ema/{name}"].to(dtype)) for name in ("teacher", "student"))
    ema_update(teacher, student, float(numbers["ema/momentum"]))
    torch.testing.assert_close(teacher.weight.data, numbers["ema/expected"].to(dtype), rtol=rtol, atol=atol)


def test_teacher_moves_by_its_share_of_the_difference_and_in_place():
    teacher, student = pair()
    before, storage = [p.clone() for p in teacher.parameters()], [p.data_ptr() for p in teacher.parameters()]
    kept = copy.deepcopy(student.state_dict())
    ema_update(teacher, student, 0.75)
    for old, new in zip(before, teacher.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.25)
    assert [p.data_ptr() for p in teacher.parameters()] == storage
    assert all(p.requires_grad and p.grad_fn is None for p in teacher.parameters())
    torch.testing.assert_close(student.state_dict(), kept, rtol=0, atol=0)


def test_buffers_stay():
    teacher, student = pair()
    ema_update(teacher, student, 0.0)
    assert (teacher[1].running_mean == 0).all() and (student[1].running_mean == 5).all()


def test_momentum_0_copies_and_1_keeps_exactly():
    teacher, student = pair()
    start = copy.deepcopy(list(teacher.parameters()))
    ema_update(teacher, student, 1)
    assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), start, strict=True))
    ema_update(teacher, student, 0)
    assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), student.parameters(), strict=True))


def test_momentum_may_be_an_entry_of_a_schedule_and_the_teacher_keeps_its_type():
    teacher, student = pair()
    start = teacher.double()[0].bias.detach().clone()
    ema_update(teacher, student, torch.tensor(0.5, dtype=torch.float64))
    assert teacher[0].bias.dtype == torch.float64
    torch.testing.assert_close(teacher[0].bias.detach(), start + 0.5)


def test_parameters_are_paired_by_name_not_by_order():
    teacher, student = nn.Module(), nn.Module()
    teacher.a, teacher.b = nn.Parameter(torch.tensor(0.0)), nn.Parameter(torch.tensor(0.0))
    student.b, student.a = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(1.0))
    ema_update(teacher, student, 0.0)
    assert (teacher.a.item(), teacher.b.item()) == (1.0, 2.0)


def test_modules_without_parameters_have_nothing_to_move():
    teacher = nn.BatchNorm1d(2, affine=False)
    ema_update(teacher, nn.BatchNorm1d(2, affine=False), 0.5)
    assert not list(teacher.parameters())


@pytest.mark.parametrize("momentum", [-0.1, 1.001, math.nan])
def test_momentum_out_of_range_is_refused(momentum):
    with pytest.raises(ValueError, match=f"momentum is the share of the teacher that stays, 0 to 1, got {momentum}"):
        ema_update(*pair(), momentum)


def test_other_names_are_refused_and_nothing_moves():
    teacher, student = pair()
    student.append(nn.Linear(2, 2))
    before = copy.deepcopy(teacher.state_dict())
    with pytest.raises(ValueError, match=r"only the teacher has none, only the student 2\.bias, 2\.weight"):
        ema_update(teacher, student, 0.5)
    torch.testing.assert_close(teacher.state_dict(), before, rtol=0, atol=0)


def test_other_shapes_are_refused_and_nothing_moves():
    teacher, student = one_parameter(torch.zeros(3)), one_parameter(torch.ones(1))  # would broadcast
    with pytest.raises(ValueError, match=r"weight has shape \(3,\) in the teacher and \(1,\) in the student"):
        ema_update(teacher, student, 0.5)
    assert (teacher.weight == 0).all()
