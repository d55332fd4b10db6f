import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from medssl_nb.training.optimisation import clip_gradients_per_parameter, parameter_groups


@pytest.fixture(scope="module")
def numbers():
    with np.load(Path(__file__).parents[1] / "reference" / "alice.npz", allow_pickle=False) as stored:
        return {key: torch.from_numpy(stored[key]) for key in stored.files if key.startswith("clip/")}


def with_gradients(*gradients):
    module = nn.ParameterList([nn.Parameter(torch.zeros_like(g)) for g in gradients])
    for parameter, gradient in zip(module, gradients, strict=True):
        parameter.grad = gradient.clone()
    return module


@pytest.mark.parametrize("dtype, rtol, atol", [(torch.float64, 2e-7, 5e-7), (torch.float32, 1e-4, 1e-5)])
def test_clipping_agrees_with_the_reference(numbers, dtype, rtol, atol):
    module = with_gradients(*(numbers[f"clip/grad{i}"].to(dtype) for i in range(3)))
    norms = clip_gradients_per_parameter(module, float(numbers["clip/max_norm"]))
    np.testing.assert_allclose(norms, numbers["clip/norms"], rtol=rtol)
    for i, parameter in enumerate(module):
        torch.testing.assert_close(parameter.grad, numbers[f"clip/expected{i}"].to(dtype), rtol=rtol, atol=atol)


def test_each_tensor_is_clipped_by_itself():
    module = with_gradients(torch.tensor([3.0, 4.0]), torch.tensor([0.3, 0.4]))
    norms = clip_gradients_per_parameter(module, 1.0)
    assert norms == pytest.approx([5.0, 0.5])
    assert module[0].grad.tolist() == pytest.approx([0.6, 0.8], rel=1e-6)
    assert module[1].grad.tolist() == pytest.approx([0.3, 0.4])  # one common norm would have shrunk it to a tenth


def test_parameters_without_gradient_are_left_out():
    module = with_gradients(torch.tensor([3.0, 4.0]))
    module.append(nn.Parameter(torch.zeros(2)))
    assert clip_gradients_per_parameter(module, 10.0) == pytest.approx([5.0])
    assert module[1].grad is None
    assert clip_gradients_per_parameter(nn.Linear(2, 2), 1.0) == []


def test_zero_gradients_stay_zero_and_a_bad_one_is_reported():
    module = with_gradients(torch.zeros(3), torch.tensor([math.nan, 1.0]))
    norms = clip_gradients_per_parameter(module, 1.0)
    assert norms[0] == 0 and (module[0].grad == 0).all() and math.isnan(norms[1])


@pytest.mark.parametrize("max_norm", [0.0, -3.0, math.nan])
def test_a_limit_that_is_none_is_refused(max_norm):
    with pytest.raises(ValueError, match=f"max_norm must be above 0, got {max_norm}"):
        clip_gradients_per_parameter(nn.Linear(2, 2), max_norm)


def test_weights_decay_biases_and_scales_do_not():
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2), nn.Linear(2, 3))
    network.relative_bias = nn.Parameter(torch.zeros(4, 2))  # a table, only its name resembles a bias
    network.bias = nn.Parameter(torch.zeros(1, 2))  # a bias whatever its shape
    network.temperature = nn.Parameter(torch.tensor(1.0))
    decay, rest = parameter_groups(network)
    expected = [network.relative_bias, network[0].weight, network[2].weight]
    assert {id(p) for p in decay["params"]} == {id(p) for p in expected}
    assert len(decay["params"]) + len(rest["params"]) == len(list(network.parameters()))
    assert rest["weight_decay"] == 0.0 and "weight_decay" not in decay
    optimiser = torch.optim.AdamW([decay, rest], lr=1e-3, weight_decay=0.04)
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.04, 0.0]


def test_frozen_parameters_are_left_out_and_shared_ones_taken_once():
    student, head, frozen = nn.Linear(2, 2), nn.Linear(2, 2, bias=False), nn.Linear(2, 2).requires_grad_(False)
    head.weight = student.weight
    decay, rest = parameter_groups(student, frozen, head)
    assert decay["params"] == [student.weight] and rest["params"] == [student.bias]


def test_groups_keep_the_order_of_the_modules():
    first, second = nn.Linear(2, 3), nn.Linear(3, 4)
    decay, rest = parameter_groups(second, first)
    assert [tuple(p.shape) for p in decay["params"]] == [(4, 3), (3, 2)]
    assert [tuple(p.shape) for p in rest["params"]] == [(4,), (3,)]


def test_a_group_may_be_empty_but_not_all():
    decay, rest = parameter_groups(nn.LayerNorm(3))
    assert decay["params"] == [] and len(rest["params"]) == 2
    torch.optim.AdamW([decay, rest])
    with pytest.raises(ValueError, match="none of the 1 modules has a parameter that requires a gradient"):
        parameter_groups(nn.Linear(2, 2).requires_grad_(False))
