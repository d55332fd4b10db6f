"""Schedules, averages and one whole step: reference numbers, the order of things, edges, messages."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn

from medssl_nb.methods.alice import (
    CASA,
    AliceHead,
    AliceLoss,
    AliceNetwork,
    ConvBackbone,
    clip_gradients_per_parameter,
    cosine_schedule,
    ema_update,
    make_teacher,
    parameter_groups,
    pretrain_step,
    random_patch_mask,
    teacher_distribution,
    teacher_temperature_schedule,
)

SIZES = {2: (32, 32), 3: (16, 16, 16)}
LAST = {"head.last_layer.weight", "head.patch_last_layer.weight"}


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def close(found, expected, **tolerance):
    torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(expected), check_dtype=False, **tolerance)


# ------------------------------------------------------------ what other methods share


@pytest.mark.parametrize("case", [0, 1, 2])
def test_cosine_matches_the_reference(reference, case):
    base, final, epochs, steps, warmup, start = reference.number(f"schedule/{case}/config")
    found = cosine_schedule(base, final, int(epochs), int(steps), warmup_epochs=int(warmup), start=start)
    assert found.dtype == torch.float64
    reference.check(found, f"schedule/{case}/expected")


def test_temperatures_match_the_reference(reference):
    *_, epochs, warmup, delay = reference.number("loss/config")
    for name, wait in (("teacher_temperature", 0), ("patch_teacher_temperature", delay)):
        found = teacher_temperature_schedule(*reference.number(f"loss/{name}"), warmup, epochs, wait)
        reference.check(found, f"loss/{name.replace('teacher_', '')}_schedule")


def test_clipping_matches_the_reference(reference, dtype):
    grads = [reference(f"clip/grad{i}", dtype) for i in range(3)]
    module = nn.ParameterList([nn.Parameter(torch.zeros_like(g)) for g in grads])
    for parameter, grad in zip(module, grads, strict=True):
        parameter.grad = grad.clone()
    close(clip_gradients_per_parameter(module, reference.number("clip/max_norm")), reference.number("clip/norms"))
    for i, parameter in enumerate(module):
        close(parameter.grad, reference(f"clip/expected{i}", dtype), rtol=1e-6, atol=1e-7)


def test_the_average_matches_the_reference(reference, dtype):
    teacher, student = (nn.ParameterList([nn.Parameter(reference(f"ema/{n}", dtype))]) for n in ("teacher", "student"))
    ema_update(teacher, student, reference.number("ema/momentum"))
    close(teacher[0].detach(), reference("ema/expected", dtype), rtol=1e-6, atol=1e-7)


# ------------------------------------------------------------ one step


class Case:
    """A tiny student, its teacher and everything a step needs, always from the same first values."""

    def __init__(
        self, dims=2, pairs=1, *, dtype=torch.float64, target_weights="shared", share=True, dropout=0.0, **loss
    ):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            backbone = ConvBackbone(dims, widths=(8, 8, 16, 16))
            self.student = AliceNetwork(backbone, AliceHead(16, 16, 16, 12, 12, 16, 8)).to(dtype).train()
            self.casa = CASA(12, 16, 2, 6, dropout=dropout, target_weights=target_weights).to(dtype)
            self.teacher = make_teacher(self.student, share_last_layer=share)
            with torch.no_grad():  # a teacher that has gone its own way
                for parameter in self.teacher.parameters():
                    parameter.add_(0.02 * torch.randn(parameter.shape, dtype=dtype))
        self.criterion = AliceLoss(12, 12, epochs=4, warmup_epochs=2, **loss).to(dtype)
        self.optimizer = torch.optim.SGD(parameter_groups(self.student, self.casa), lr=0.01)
        self.views = noise(2 * pairs, 1, *SIZES[dims], dtype=dtype)
        masks = [
            random_patch_mask(SIZES[dims], 4, 0.75, mode="patch", generator=torch.Generator().manual_seed(n))
            for n in range(2 * pairs)
        ]
        self.mask = torch.stack(masks)[:, None]

    def step(self, **options):
        options = {"epoch": 1, "momentum": 0.9, **options}
        return pretrain_step(
            self.student, self.teacher, self.casa, self.criterion, self.optimizer, self.views, self.mask, **options
        )


def values(module):
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def moved(before, module):
    return {name for name, p in module.named_parameters() if not torch.equal(p, before[name])}


def losses_by_hand(case, epoch=1, teacher_context="decoder"):
    """The terms of a step, composed from the parts."""
    with torch.no_grad():
        target = case.teacher.eval()(case.views)
    seen = case.student(case.views, case.mask)
    context = target.decoder_tokens if teacher_context == "decoder" else target.encoder_tokens
    aligned = case.casa(seen.encoder_tokens, seen.decoder_tokens, context)
    return target.cls, case.criterion(
        seen.cls, target.cls, *aligned, seen.reconstruction, case.views, epoch, mask=case.mask
    )


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("pairs", [1, 2])
@pytest.mark.parametrize("context", ["decoder", "encoder"])
def test_a_step_reports_the_losses_of_its_parts(dims, pairs, context, steady):
    case, twin = Case(dims, pairs), Case(dims, pairs)
    for epoch in (0, 3):
        center = twin.criterion.global_center.clone()
        temperature = float(twin.criterion.temperature_schedule[epoch])
        with torch.random.fork_rng(devices=[]):
            cls, expected = losses_by_hand(twin, epoch, context)
        p = teacher_distribution(cls, center, temperature)
        with torch.random.fork_rng(devices=[]):
            found = case.step(epoch=epoch, teacher_context=context, momentum=1.0)
        assert set(found) == {"global", "patch", "reconstruction", "total", "teacher_entropy"}
        assert all(type(value) is float and math.isfinite(value) for value in found.values())
        for name, value in expected.items():
            assert found[name] == pytest.approx(float(value.detach()), rel=1e-6)
        entropy = float(-(p * p.clamp(min=1e-300).log()).sum(-1).mean())
        assert found["teacher_entropy"] == pytest.approx(entropy, rel=1e-6, abs=1e-9)  # the centre before the update
        close(case.criterion.global_center, twin.criterion.global_center)
        close(case.criterion.patch_center, twin.criterion.patch_center)
        assert (case.criterion.patch_center != 0).any()
        for mine, other in ((twin.student, case.student), (twin.casa, case.casa)):
            mine.load_state_dict(other.state_dict())
        twin.teacher.load_state_dict(case.teacher.state_dict())


def test_the_two_contexts_differ():
    found = [Case().step(teacher_context=context)["patch"] for context in ("decoder", "encoder")]
    assert found[0] != pytest.approx(found[1], rel=1e-3)


@pytest.mark.parametrize("momentum", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("share", [True, False])
def test_the_teacher_follows_the_student_after_its_step(momentum, share):
    case = Case(share=share)
    before, student = values(case.teacher), values(case.student)
    case.step(momentum=momentum)
    after, own = values(case.student), values(case.teacher)
    assert {"backbone.norm.weight", "head.mlp.0.weight"} <= moved(student, case.student)
    for name, parameter in own.items():
        close(parameter, momentum * before[name] + (1 - momentum) * after[name])
    if share:
        assert case.teacher.head.patch_last_layer is case.teacher.head.last_layer
    assert not any(p.requires_grad or p.grad is not None for p in case.teacher.parameters())


def test_a_step_is_the_optimisers(steady):
    """Gradients of the total loss, clipped per tensor for the student only, then one step of the optimiser."""
    case, twin = Case(), Case()
    for group, rate in zip(case.optimizer.param_groups, (0.02, 0.01), strict=True):
        group["lr"], group["weight_decay"] = rate, 0.3
    before = {**values(case.student), **{f"casa.{n}": p for n, p in values(case.casa).items()}}
    losses_by_hand(twin)[1]["total"].backward()
    limit = 0.05
    case.step(max_grad_norm=limit)
    rates = {id(p): g["lr"] for g in case.optimizer.param_groups for p in g["params"]}
    parts = itertools.chain(
        ((n, p, q, True) for (n, p), q in zip(case.student.named_parameters(), twin.student.parameters(), strict=True)),
        (
            (f"casa.{n}", p, q, False)
            for (n, p), q in zip(case.casa.named_parameters(), twin.casa.parameters(), strict=True)
        ),
    )
    clipped = 0
    for name, parameter, copied, student in parts:
        if not parameter.requires_grad:
            continue
        gradient = copied.grad
        if student:
            norm = gradient.norm()
            clipped += bool(norm > limit)
            gradient = gradient * (limit / (norm + 1e-6)).clamp(max=1)
        rate = rates[id(parameter)]
        close(parameter, before[name] - rate * (gradient + 0.3 * before[name]), rtol=1e-6, atol=1e-9)
    assert clipped > 3
    assert [(g["lr"], g["weight_decay"]) for g in case.optimizer.param_groups] == [(0.02, 0.3), (0.01, 0.3)]


def test_the_usual_limit_is_three():
    tight, usual, three = Case(), Case(), Case()
    for case in (tight, usual, three):
        case.views = 400 * case.views
    tight.step(max_grad_norm=1.0)
    usual.step()
    three.step(max_grad_norm=3.0)
    assert all(torch.equal(p, q) for p, q in zip(usual.student.parameters(), three.student.parameters(), strict=True))
    assert not all(
        torch.equal(p, q) for p, q in zip(usual.student.parameters(), tight.student.parameters(), strict=True)
    )


def test_old_gradients_do_not_count():
    case, twin = Case(), Case()
    for parameter in (*case.student.parameters(), *case.casa.parameters()):
        if parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, 7.0)
    case.step()
    twin.step()
    for mine, other in ((case.student, twin.student), (case.casa, twin.casa)):
        for p, q in zip(mine.parameters(), other.parameters(), strict=True):
            close(p, q)


@pytest.mark.parametrize("share", [True, False])
def test_the_last_layers_rest_when_frozen(share):
    case = Case(share=share)
    case.optimizer = torch.optim.AdamW(parameter_groups(case.student, case.casa), lr=0.01, weight_decay=0.1)
    before = values(case.student)
    case.step(freeze_last_layer=True, epoch=0)
    changed = moved(before, case.student)
    assert not changed & LAST and {"head.mlp.4.weight", "head.encoder_proj.weight"} <= changed
    case.step(freeze_last_layer=False)
    assert moved(before, case.student) >= LAST


def test_modes():
    case = Case()
    case.teacher.train()
    case.student.train()
    case.step()
    assert not any(module.training for module in case.teacher.modules())
    assert case.student.training and case.casa.training


def test_only_the_student_sees_the_mask():
    case, open_case = Case(), Case()
    open_case.mask = torch.zeros_like(open_case.mask)
    hidden, seen = case.step(momentum=1.0), open_case.step(momentum=1.0)
    assert hidden["teacher_entropy"] == seen["teacher_entropy"]
    close(case.criterion.global_center, open_case.criterion.global_center)
    assert hidden["reconstruction"] != seen["reconstruction"]


def test_the_hidden_region_alone_can_be_asked_for():
    case, twin = Case(reconstruction_region="masked"), Case(reconstruction_region="masked")
    expected = losses_by_hand(twin)[1]["reconstruction"]
    assert case.step()["reconstruction"] == pytest.approx(float(expected.detach()), rel=1e-6)
    assert Case().step()["reconstruction"] != pytest.approx(float(expected.detach()), rel=1e-3)


def test_the_copy_in_the_alignment_follows_too():
    case = Case(target_weights="ema")
    before = values(case.casa)
    case.step(momentum=0.6)
    after = values(case.casa)
    copied = {name for name in after if name.startswith("target.")}
    assert copied and any(not torch.equal(before[name], after[name]) for name in copied)
    for name in copied:
        close(after[name], 0.6 * before[name] + 0.4 * after[name.removeprefix("target.")])


def test_inputs_stay_as_they_were():
    case = Case()
    views, mask = case.views.clone(), case.mask.clone()
    case.step()
    assert torch.equal(case.views, views) and torch.equal(case.mask, mask)


def test_a_loss_that_is_no_number_stops_the_step():
    case = Case()
    case.views[0, 0, 3, 4] = math.nan
    case.mask[:] = False
    student, teacher, casa = values(case.student), values(case.teacher), values(case.casa)
    with pytest.raises(RuntimeError, match=r"(?i)nan|finite"):
        case.step()
    assert not moved(student, case.student) and not moved(teacher, case.teacher) and not moved(casa, case.casa)
    assert all(
        p.grad is None for p in (*case.student.parameters(), *case.casa.parameters())
    )  # before the backward pass


@pytest.mark.parametrize("dims", [2, 3])
def test_steps_in_single_precision_learn(dims):
    case = Case(dims, 2, dtype=torch.float32, dropout=0.1)
    case.optimizer = torch.optim.AdamW(parameter_groups(case.student, case.casa), lr=3e-3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        history = [case.step(momentum=0.996) for _ in range(8)]
    assert all(math.isfinite(value) for record in history for value in record.values())
    assert history[-1]["reconstruction"] < history[0]["reconstruction"]
    assert 0 <= history[-1]["teacher_entropy"] <= math.log(12) + 1e-5


def test_mixed_precision_agrees():
    case, mixed = Case(dtype=torch.float32), Case(dtype=torch.float32)
    found = case.step()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        other = mixed.step()
    assert other["reconstruction"] == pytest.approx(found["reconstruction"], rel=2e-2)
    assert all(math.isfinite(value) for value in other.values())
    assert mixed.criterion.global_center.dtype == torch.float32
    assert all(p.isfinite().all() for p in mixed.student.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher_context": "target"}, r"teacher_context.*target"),
        ({"epoch": 4}, r"epoch.*4"),
        ({"max_grad_norm": 0.0}, r"max_grad_norm.*0|max_norm.*0"),
    ],
)
def test_steps_that_are_refused_change_nothing(options, message):
    case = Case()
    before = copy.deepcopy((values(case.student), values(case.teacher), values(case.casa)))
    with pytest.raises(ValueError, match=message):
        case.step(**options)
    for known, module in zip(before, (case.student, case.teacher, case.casa), strict=True):
        assert not moved(known, module)


def test_momenta_outside_their_range_are_refused():
    with pytest.raises(ValueError, match=r"momentum.*1\.5"):
        Case().step(momentum=1.5)


def test_an_odd_stack_is_refused():
    case = Case(pairs=2)
    case.views, case.mask = case.views[:3], case.mask[:3]
    with pytest.raises(ValueError, match=r"\b3\b"):
        case.step()
