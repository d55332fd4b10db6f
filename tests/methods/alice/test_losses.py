"""Distillation across and within volumes, reconstruction, centres: reference numbers, by hand, laws, messages."""

import math
import multiprocessing
import os
from datetime import timedelta

import pytest
import torch

from medssl_nb.methods.alice import (
    CASA,
    AliceHead,
    AliceLoss,
    cross_view_loss,
    distillation_loss,
    reconstruction_loss,
    same_view_loss,
    teacher_distribution,
    update_center,
)

HALVES = [torch.float16, torch.bfloat16]
VIEW_LOSSES = [cross_view_loss, same_view_loss]


def seeded(number=0):
    return torch.Generator().manual_seed(number)


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


def close(found, expected, **tolerance):
    torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(expected), check_dtype=False, **tolerance)


def token_loss(teacher, student, center, teacher_temperature, student_temperature):
    """Cross-entropy per token, straight from its definition."""
    targets = ((teacher - center) / teacher_temperature).softmax(-1)
    return -(targets * (student / student_temperature).log_softmax(-1)).sum(-1)


# ------------------------------------------------------------ one distribution


def test_a_small_gap_is_sharpened_by_hand(dtype):
    logits = torch.tensor([[0.25, 0.20, -1.0]], dtype=dtype)
    found = teacher_distribution(logits, torch.zeros(1, 3, dtype=dtype), 0.01)
    assert float(found[0, 0] / found[0, 1]) == pytest.approx(math.exp(5), rel=1e-4)
    centred = teacher_distribution(logits, logits, 0.01)
    close(centred, torch.full((1, 3), 1 / 3, dtype=dtype))
    assert found.dtype == dtype


def test_teacher_laws(dtype):
    logits, center = noise(2, 3, 5, dtype=dtype), noise(1, 1, 5, seed=1, dtype=dtype)
    found = teacher_distribution(logits, center, 0.1)
    assert found.shape == logits.shape
    close(found.sum(-1), torch.ones(2, 3, dtype=dtype))
    close(teacher_distribution(logits + 3, center, 0.1), found, rtol=1e-4, atol=1e-6)
    close(teacher_distribution(logits + 3, center + 3, 0.1), found, rtol=1e-4, atol=1e-6)
    close(teacher_distribution(2 * logits, 2 * center, 0.2), found)
    sharp = [
        float(-(p * p.clamp(min=1e-30).log()).sum())
        for p in (teacher_distribution(logits, center, t) for t in (1, 0.1, 0.01))
    ]
    assert sharp[0] > sharp[1] > sharp[2]


def test_teachers_are_detached_and_computed_in_single_precision():
    logits, center = noise(2, 5).float().requires_grad_(), torch.zeros(1, 5)
    found = teacher_distribution(logits, center, 0.01)
    assert not found.requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(teacher_distribution(logits, center, 0.01), found)
    for half in HALVES:
        narrow = teacher_distribution(logits.to(half), center, 0.01)
        assert narrow.dtype == torch.float32
        close(narrow, teacher_distribution(logits.to(half).float(), center, 0.01))
    broken = logits.detach().clone()
    broken[0, 1] = math.nan
    found = teacher_distribution(broken, center, 0.01)
    assert found[0].isnan().all() and found[1].isfinite().all()


def test_distillation_by_hand(dtype):
    student = torch.tensor([[0.0, 0.0], [0.1 * math.log(3), 0.0]], dtype=dtype)
    teacher = torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=dtype)
    expected = (math.log(2) - 0.5 * (math.log(3 / 4) + math.log(1 / 4))) / 2
    found = distillation_loss(student, teacher)
    assert found.shape == () and found.dtype == dtype and float(found) == pytest.approx(expected, rel=1e-5)
    even = distillation_loss(torch.zeros(2, 3, 7, dtype=dtype), noise(2, 3, 7, dtype=dtype).softmax(-1), 0.3)
    assert float(even) == pytest.approx(math.log(7), rel=1e-5)


def test_distillation_pulls_towards_the_teacher():
    student, teacher = noise(2, 3, 5).requires_grad_(), (3 * noise(2, 3, 5, seed=1)).softmax(-1)
    distillation_loss(student, teacher, 0.2).backward()
    close(student.grad, ((student / 0.2).softmax(-1) - teacher).detach() / 0.2 / 6)
    assert torch.autograd.gradcheck(lambda s: distillation_loss(s, teacher, 0.2), student.detach().requires_grad_())
    floor = -(teacher * teacher.log()).sum(-1).mean()  # the teacher's own entropy
    close(distillation_loss(0.2 * teacher.log(), teacher, 0.2), floor)
    assert float(distillation_loss(student, teacher, 0.2).detach()) > float(floor)


def test_distillation_types_and_nan():
    student, teacher = noise(2, 3, 5).float(), noise(2, 3, 5, seed=1).float().softmax(-1)
    exact = distillation_loss(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(distillation_loss(student, teacher), exact)
    for half in HALVES:
        narrow = distillation_loss(student.to(half), teacher)
        assert narrow.dtype == torch.float32
        close(narrow, distillation_loss(student.to(half).float(), teacher))
    large = distillation_loss(torch.tensor([[6e4, 0.0]], dtype=torch.float16), torch.tensor([[1.0, 0.0]]))
    assert float(large) == 0  # 6e4 / 0.1 does not fit a half
    student[1, 2, 0] = math.nan
    assert distillation_loss(student, teacher).isnan()


@pytest.mark.parametrize("temperature", [0.0, -0.1])
def test_temperatures_must_be_above_zero(temperature):
    x, center = torch.zeros(2, 3), torch.zeros(1, 3)
    number = str(temperature).replace(".", r"\.")
    with pytest.raises(ValueError, match=rf"temperature.*{number}"):
        teacher_distribution(x, center, temperature)
    with pytest.raises(ValueError, match=rf"temperature.*{number}"):
        distillation_loss(x, x, temperature)
    for loss in VIEW_LOSSES:
        for name in ("student_temperature", "teacher_temperature"):
            with pytest.raises(ValueError, match=rf"temperature.*{number}"):
                loss(x, x, center, **{name: temperature})


@pytest.mark.parametrize(
    ("one", "two"), [((2, 3), (2, 4)), ((2, 3), (3, 3)), ((2, 5, 3), (2, 4, 3)), ((2, 5, 3), (2, 3))]
)
def test_student_and_teacher_must_have_one_shape(one, two):
    message = "(?s)" + ", ".join(map(str, one)) + ".*" + ", ".join(map(str, two))
    with pytest.raises(ValueError, match=message):
        distillation_loss(torch.zeros(one), torch.zeros(two))
    for loss in VIEW_LOSSES:
        with pytest.raises(ValueError, match=message):
            loss(torch.zeros(one), torch.zeros(two), torch.zeros(1, two[-1]))


def test_a_centre_of_another_width_is_refused():
    with pytest.raises(ValueError, match=r"(?s)center.*4"):
        teacher_distribution(torch.zeros(2, 3), torch.zeros(1, 4), 0.1)
    for loss in VIEW_LOSSES:
        with pytest.raises(ValueError, match=r"(?s)center.*4"):
            loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(1, 4))


# ------------------------------------------------------------ two views


@pytest.mark.parametrize("shape", [(4, 6), (6, 3, 6), (2, 6), (2, 1, 6)])
def test_pairs_are_crossed_between_volumes_and_straight_within(shape, dtype):
    student, teacher, center = (
        noise(*shape, dtype=dtype),
        noise(*shape, seed=1, dtype=dtype),
        noise(6, seed=2, dtype=dtype),
    )
    center = center.reshape((1,) * (len(shape) - 1) + (6,))
    (sq, sk), (tq, tk) = student.chunk(2), teacher.chunk(2)
    for loss, partners in ((cross_view_loss, ((tq, sk), (tk, sq))), (same_view_loss, ((tq, sq), (tk, sk)))):
        found = loss(student, teacher, center, student_temperature=0.2, teacher_temperature=0.3)
        expected = sum(token_loss(t, s, center, 0.3, 0.2).mean() for t, s in partners) / 2
        assert found.shape == () and found.dtype == dtype
        close(found, expected)
        usual = sum(token_loss(t, s, center, 0.01, 0.1).mean() for t, s in partners) / 2
        close(loss(student, teacher, center), usual, rtol=1e-4, atol=1e-5)
        swapped = loss(torch.cat([sk, sq]), torch.cat([tk, tq]), center)
        close(swapped, usual, rtol=1e-4, atol=1e-5)
    close(cross_view_loss(student, teacher, center), same_view_loss(student, torch.cat([tk, tq]), center))


@pytest.mark.parametrize("loss", VIEW_LOSSES)
def test_only_the_student_learns(loss):
    student, teacher = noise(4, 3, 6).requires_grad_(), noise(4, 3, 6, seed=1).requires_grad_()
    center = torch.zeros(1, 1, 6, dtype=torch.float64, requires_grad=True)
    loss(student, teacher, center).backward()
    assert (student.grad != 0).any(-1).all() and teacher.grad is None and center.grad is None


@pytest.mark.parametrize("loss", VIEW_LOSSES)
@pytest.mark.parametrize("size", [1, 3])
def test_an_odd_stack_is_refused(loss, size):
    with pytest.raises(ValueError, match=rf"(?s)\b{size}\b"):
        loss(torch.zeros(size, 4), torch.zeros(size, 4), torch.zeros(1, 4))


@pytest.mark.parametrize("loss", VIEW_LOSSES)
def test_view_loss_types(loss):
    student, teacher, center = noise(4, 3, 6).float(), noise(4, 3, 6, seed=1).float(), torch.zeros(1, 1, 6)
    exact = loss(student, teacher, center)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(student, teacher, center), exact)
    for half in HALVES:
        narrow = loss(student.to(half), teacher.to(half), center)
        assert narrow.dtype == torch.float32
        close(narrow, loss(student.to(half).float(), teacher.to(half).float(), center))


# ------------------------------------------------------------ reconstruction


def test_reconstruction_is_half_the_mean_squared_error(dtype):
    prediction, target = noise(4, 2, 3, 5, dtype=dtype), noise(4, 2, 3, 5, seed=1, dtype=dtype)
    mask = noise(4, 1, 3, 5, seed=2) > 0.3
    whole = reconstruction_loss(prediction, target)
    assert whole.shape == () and whole.dtype == dtype
    close(whole, (prediction - target).square().mean() / 2)
    close(reconstruction_loss(prediction, target, mask), whole)  # a mask given, and not asked for
    hidden = reconstruction_loss(prediction, target, mask, region="masked")
    wide = mask.expand(4, 2, 3, 5)
    close(hidden, (prediction - target)[wide].square().mean() / 2)
    close(reconstruction_loss(prediction, target, torch.ones(3, 5, dtype=torch.bool), region="masked"), whole)
    seen = target.clone()
    seen[wide] = prediction[wide]
    assert float(reconstruction_loss(prediction, seen, mask, region="masked")) == 0


def test_an_empty_mask_asks_for_nothing(dtype):
    prediction, target = noise(2, 1, 4, 4, dtype=dtype).requires_grad_(), noise(2, 1, 4, 4, seed=1, dtype=dtype)
    found = reconstruction_loss(prediction, target, torch.zeros(2, 1, 4, 4, dtype=torch.bool), region="masked")
    found.backward()
    assert float(found.detach()) == 0 and (prediction.grad == 0).all()


def test_reconstruction_gradient_types_and_nan():
    prediction, target = noise(2, 1, 4, 4), noise(2, 1, 4, 4, seed=1)
    mask = noise(2, 1, 4, 4, seed=2) > 0
    for region in ("all", "masked"):
        pulled = prediction.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda p, r=region: reconstruction_loss(p, target, mask, region=r), pulled)
        reconstruction_loss(pulled, target, mask, region=region).backward()
        assert torch.equal(pulled.grad != 0, mask if region == "masked" else torch.ones_like(mask))
        single = [t.float() for t in (prediction, target)]
        exact = reconstruction_loss(*single, mask, region=region)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(reconstruction_loss(*single, mask, region=region), exact)
        for half in HALVES:
            narrow = [t.to(half) for t in single]
            found = reconstruction_loss(*narrow, mask, region=region)
            assert found.dtype == torch.float32
            close(found, reconstruction_loss(*(t.float() for t in narrow), mask, region=region))
    large = torch.full((2, 1, 4, 4), 300.0, dtype=torch.float16)
    assert float(reconstruction_loss(large, -large)) == 180_000  # a square that does not fit a half
    broken = prediction.clone()
    broken[0, 0, 0, 0] = math.nan
    assert reconstruction_loss(broken, target).isnan()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"region": "hidden"}, r"region.*hidden"),
        ({"region": "masked", "mask": None}, r"mask"),
        ({"target": torch.zeros(2, 1, 4, 5)}, r"(?s)4, 4.*4, 5"),
        ({"target": torch.zeros(1, 1, 4, 4)}, r"(?s)2, 1, 4, 4.*1, 1, 4, 4"),
        ({"region": "masked", "mask": torch.ones(2, 1, 4, 3, dtype=torch.bool)}, r"(?s)mask.*4, 3"),
    ],
    ids=["region", "no mask", "size", "batch", "mask"],
)
def test_reconstructions_that_are_refused(changes, message):
    inputs = {"prediction": torch.zeros(2, 1, 4, 4), "target": torch.zeros(2, 1, 4, 4), "mask": None, **changes}
    with pytest.raises(ValueError, match=message):
        reconstruction_loss(**inputs)


# ------------------------------------------------------------ centres


def test_a_centre_follows_the_mean(dtype):
    center, logits = noise(1, 5, dtype=dtype), noise(4, 5, seed=1, dtype=dtype).requires_grad_()
    copy = center.clone()
    found = update_center(center, logits)
    assert found.shape == (1, 5) and found.dtype == dtype and not found.requires_grad
    close(found, 0.9 * center + 0.1 * logits.mean(0, keepdim=True).detach())
    assert torch.equal(center, copy)
    tokens, patch = noise(4, 3, 5, seed=2, dtype=dtype), noise(1, 1, 5, seed=3, dtype=dtype)
    found = update_center(patch, tokens, 0.25)
    assert found.shape == (1, 1, 5)
    close(found, 0.25 * patch + 0.75 * tokens.mean((0, 1), keepdim=True))
    assert torch.equal(update_center(patch, tokens, 1), patch)
    close(update_center(patch, tokens, 0), tokens.mean((0, 1), keepdim=True))


def test_centres_keep_single_precision():
    center = torch.zeros(1, 3)
    for half in HALVES:
        logits = noise(2000, 3).to(half) + 100
        found = update_center(center, logits, 0.5)
        assert found.dtype == torch.float32
        close(found, 0.5 * logits.float().mean(0, keepdim=True), rtol=1e-5, atol=0)
    logits = noise(4, 3).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = update_center(center, logits)
    assert torch.equal(mixed, update_center(center, logits))


@pytest.mark.parametrize(
    ("center", "logits", "momentum", "message"),
    [
        ((1, 3), (4, 3), 1.1, r"momentum.*1\.1"),
        ((1, 3), (4, 3), -0.1, r"momentum.*-0\.1"),
        ((1, 4), (4, 3), 0.9, r"(?s)4.*3"),
    ],
)
def test_centres_that_are_refused(center, logits, momentum, message):
    with pytest.raises(ValueError, match=message):
        update_center(torch.zeros(center), torch.zeros(logits), momentum)


# ------------------------------------------------------------ all terms


def stored_loss(reference):
    """`AliceLoss` with the stored settings."""
    _, out_dim, patch_out_dim, _, epochs, warmup, delay = reference.number("loss/config")
    weights = dict(
        zip(("global_weight", "patch_weight", "reconstruction_weight"), reference.number("loss/weights"), strict=True)
    )
    momenta = dict(
        zip(("center_momentum", "patch_center_momentum"), reference.number("loss/center_momentum"), strict=True)
    )
    return AliceLoss(
        out_dim,
        patch_out_dim,
        epochs=epochs,
        warmup_epochs=warmup,
        student_temperature=reference.number("loss/student_temperature"),
        teacher_temperature=tuple(reference.number("loss/teacher_temperature")),
        patch_teacher_temperature=tuple(reference.number("loss/patch_teacher_temperature")),
        patch_delay_epochs=delay,
        **weights,
        **momenta,
    )


NAMES = ("student_cls", "teacher_cls", "aligned_online", "aligned_target", "reconstruction_input", "images")


def test_consecutive_steps_match_the_reference(reference, dtype, device):
    criterion = stored_loss(reference).to(device, dtype)
    for step, epoch in enumerate(reference.number("loss/epochs_used")):
        inputs = [reference(f"loss/step{step}/{n}", dtype, device).requires_grad_() for n in NAMES]
        found = criterion(*inputs, epoch)
        assert set(found) == {"global", "patch", "reconstruction", "total"}
        for name, value in found.items():
            assert value.shape == () and value.dtype == dtype
            reference.check(value, f"loss/step{step}/{name}")
        found["total"].backward()
        student, teacher, online, target, drawn, _ = inputs
        reference.check(student.grad, f"loss/step{step}/grad_student_cls")
        reference.check(online.grad, f"loss/step{step}/grad_aligned_online")
        reference.check(drawn.grad, f"loss/step{step}/grad_reconstruction")
        assert teacher.grad is None and target.grad is None
        reference.check(criterion.global_center, f"loss/step{step}/global_center_after")
        reference.check(criterion.patch_center, f"loss/step{step}/patch_center_after")


def test_temperatures_match_the_reference(reference):
    criterion = stored_loss(reference)
    for name in ("temperature_schedule", "patch_temperature_schedule"):
        found = getattr(criterion, name)
        assert found.dtype == torch.float64
        reference.check(found, f"loss/{name}")
    assert set(criterion.state_dict()) == {"global_center", "patch_center"}  # schedules are plain attributes
    assert not list(criterion.parameters())
    assert criterion.float().temperature_schedule.dtype == torch.float64


@pytest.mark.parametrize("recorded", [True, False], ids=["teacher recorded", "teacher not recorded"])
def test_head_alignment_and_loss_together_match_the_reference(reference, dtype, device, recorded):
    config = reference.number("head/config")
    head = AliceHead(*config[:7], shared_last_layer=bool(config[7])).to(device, dtype).eval()
    head.load_state_dict(reference.parameters("head/param/", dtype, device), strict=False)
    casa = CASA(*reference.number("casa/config")).to(device, dtype).eval()
    casa.load_state_dict(reference.parameters("casa/param/", dtype, device))
    epochs, warmup = reference.number("pipeline/epochs_warmup")
    criterion = AliceLoss(config[3], config[4], epochs=epochs, warmup_epochs=warmup).to(device, dtype)

    def maps(side):
        names = ("global_token", "encoder_map", "decoder_map")
        return [reference(f"pipeline/{side}_{name}", dtype, device) for name in names]

    cls, questions, decoder = head(*maps("student"))
    with torch.set_grad_enabled(recorded):
        teacher_cls, _, teacher_decoder = head(*maps("teacher"))
    images, drawn = (reference(f"pipeline/{n}", dtype, device) for n in ("images", "reconstruction_input"))
    found = criterion(
        cls, teacher_cls, *casa(questions, decoder, teacher_decoder), drawn, images, reference.number("pipeline/epoch")
    )
    for name, value in found.items():
        reference.check(value, f"pipeline/{name}")
    found["total"].backward()
    for module, part in (("casa", casa), ("head", head)):
        parameters = dict(part.named_parameters())
        for name in reference.parameters(f"pipeline/grad/{module}."):
            reference.check(parameters[name].grad, f"pipeline/grad/{module}.{name}")


def loss_case(tokens=3, dim=6, patch_dim=5, seed=0, dtype=torch.float64):
    shapes = ((4, dim), (4, dim), (4, tokens, patch_dim), (4, tokens, patch_dim), (4, 1, 4, 4), (4, 1, 4, 4))
    return [noise(*shape, seed=seed + k, dtype=dtype) for k, shape in enumerate(shapes)]


def test_terms_are_the_losses_times_their_weights():
    weights = {"global_weight": 2.0, "patch_weight": 0.5, "reconstruction_weight": 3.0}
    criterion = AliceLoss(
        6,
        5,
        epochs=8,
        warmup_epochs=4,
        student_temperature=0.3,
        teacher_temperature=(0.05, 0.2),
        patch_teacher_temperature=(0.1, 0.4),
        patch_delay_epochs=2,
        **weights,
    ).double()
    student, teacher, online, target, drawn, images = loss_case()
    for epoch, warm, patch in ((0, 0.05, 0.1), (2, 0.15, 0.1), (3, 0.2, 0.2), (7, 0.2, 0.4)):
        found = criterion(student, teacher, online, target, drawn, images, epoch, update_centers=False)
        zero = torch.zeros(1, dtype=torch.float64)
        crossed = cross_view_loss(
            student, teacher, zero.expand(1, 6), student_temperature=0.3, teacher_temperature=warm
        )
        local = same_view_loss(online, target, zero.expand(1, 1, 5), student_temperature=0.3, teacher_temperature=patch)
        close(found["global"], 2 * crossed)
        close(found["patch"], 0.5 * local)
        close(found["reconstruction"], 3 * reconstruction_loss(drawn, images))
        close(found["total"], found["global"] + found["patch"] + found["reconstruction"])
    assert (criterion.global_center == 0).all() and (criterion.patch_center == 0).all()


def test_centres_move_after_the_loss():
    criterion = AliceLoss(6, 5, epochs=2, warmup_epochs=0, center_momentum=0.5, patch_center_momentum=0.25).double()
    assert criterion.global_center.shape == (1, 6) and criterion.patch_center.shape == (1, 1, 5)
    inputs = loss_case()
    first = criterion(*inputs, 0)
    close(first["global"], cross_view_loss(*inputs[:2], torch.zeros(1, 6)))  # the centre before
    close(criterion.global_center, 0.5 * inputs[1].mean(0, keepdim=True))
    close(criterion.patch_center, 0.75 * inputs[3].mean((0, 1), keepdim=True))
    moved = [criterion.global_center.clone(), criterion.patch_center.clone()]
    second = criterion(*inputs, 0, update_centers=False)
    close(second["global"], cross_view_loss(*inputs[:2], moved[0]))
    close(second["patch"], same_view_loss(*inputs[2:4], moved[1]))
    assert torch.equal(criterion.global_center, moved[0]) and torch.equal(criterion.patch_center, moved[1])
    assert not criterion.global_center.requires_grad


def test_defaults_follow_the_paper_and_its_code():
    criterion = AliceLoss(6, 5, epochs=40)
    for name in ("temperature_schedule", "patch_temperature_schedule"):
        schedule = getattr(criterion, name)
        assert schedule.shape == (40,)
        close(schedule[:30], torch.linspace(0.008, 0.01, 30, dtype=torch.float64))
        assert (schedule[30:] == 0.01).all()
    inputs = loss_case(dtype=torch.float32)
    found = criterion(*inputs, 39)
    close(found["global"], cross_view_loss(*inputs[:2], torch.zeros(1, 6)))
    close(found["patch"], same_view_loss(*inputs[2:4], torch.zeros(1, 1, 5)))
    close(found["reconstruction"], 10 * reconstruction_loss(*inputs[4:]))
    close(criterion.global_center, 0.1 * inputs[1].mean(0, keepdim=True))
    close(criterion.patch_center, 0.1 * inputs[3].mean((0, 1), keepdim=True))


def test_the_region_is_passed_on():
    inputs, mask = loss_case(), noise(4, 1, 4, 4, seed=9) > 0
    criterion = AliceLoss(6, 5, epochs=1, warmup_epochs=0, reconstruction_region="masked").double()
    found = criterion(*inputs, 0, mask=mask)["reconstruction"]
    close(found, 10 * reconstruction_loss(*inputs[4:], mask, region="masked"))
    with pytest.raises(ValueError, match="mask"):
        criterion(*inputs, 0)
    everything = AliceLoss(6, 5, epochs=1, warmup_epochs=0).double()
    close(everything(*inputs, 0, mask=mask)["reconstruction"], 10 * reconstruction_loss(*inputs[4:]))


def test_one_pair_one_token_and_mixed_precision():
    shapes = ((2, 6), (2, 6), (2, 1, 5), (2, 1, 5), (2, 1, 4, 4, 4), (2, 1, 4, 4, 4))
    inputs = [noise(*shape, seed=k, dtype=torch.float32) for k, shape in enumerate(shapes)]
    exact = AliceLoss(6, 5, epochs=1, warmup_epochs=0)(*inputs, 0)
    mixed = AliceLoss(6, 5, epochs=1, warmup_epochs=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = mixed(*inputs, 0)
    assert all(torch.equal(found[name], exact[name]) and value.isfinite() for name, value in exact.items())
    for half in HALVES:
        criterion = AliceLoss(6, 5, epochs=1, warmup_epochs=0)
        found = criterion(*(t.to(half) for t in inputs), 0)
        assert all(value.dtype == torch.float32 for value in found.values())
        assert criterion.global_center.dtype == criterion.patch_center.dtype == torch.float32
        close(criterion.global_center, 0.1 * inputs[1].to(half).float().mean(0, keepdim=True))
    broken = [t.clone() for t in inputs]
    broken[4][0, 0, 0, 0, 0] = math.nan
    found = AliceLoss(6, 5, epochs=1, warmup_epochs=0)(*broken, 0)
    assert found["total"].isnan() and found["global"].isfinite()


def test_centres_are_saved_and_restored():
    criterion = AliceLoss(6, 5, epochs=1, warmup_epochs=0)
    criterion(*loss_case(dtype=torch.float32), 0)
    other = AliceLoss(6, 5, epochs=1, warmup_epochs=0)
    other.load_state_dict(criterion.state_dict())
    assert torch.equal(other.global_center, criterion.global_center)
    assert torch.equal(other.patch_center, criterion.patch_center) and (other.patch_center != 0).any()


@pytest.mark.parametrize("epoch", [-1, 4, 100])
def test_epochs_outside_the_training_are_refused(epoch):
    with pytest.raises(ValueError, match=rf"(?s)epoch.*{epoch}"):
        AliceLoss(6, 5, epochs=4, warmup_epochs=0)(*loss_case(dtype=torch.float32), epoch)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reconstruction_region": "hidden"}, r"region.*hidden"),
        ({"warmup_epochs": 5}, r"(?s)5.*4"),
        ({"patch_delay_epochs": 3, "warmup_epochs": 2}, r"(?s)4"),
        ({"student_temperature": 0.0}, r"temperature.*0"),
        ({"teacher_temperature": (0.0, 0.1)}, r"0\.0"),
        ({"patch_teacher_temperature": (0.1, -0.2)}, r"-0\.2"),
        ({"center_momentum": 1.5}, r"momentum.*1\.5"),
        ({"patch_center_momentum": -0.5}, r"momentum.*-0\.5"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_settings_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AliceLoss(6, 5, **{"epochs": 4, "warmup_epochs": 1, **options})


def test_widths_other_than_promised_are_refused():
    inputs = loss_case(dim=7, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"(?s)6.*7|7.*6"):
        AliceLoss(6, 5, epochs=1, warmup_epochs=0)(*inputs, 0)
    inputs = loss_case(patch_dim=4, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"(?s)5.*4|4.*5"):
        AliceLoss(6, 5, epochs=1, warmup_epochs=0)(*inputs, 0)


# ------------------------------------------------------------ several processes


def one_process(rank, store, results):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    criterion = AliceLoss(6, 5, epochs=1, warmup_epochs=0)
    found = criterion(*loss_case(seed=50 * rank, dtype=torch.float32), 0)
    results.put((rank, *(t.tolist() for t in (criterion.global_center, criterion.patch_center, found["global"]))))
    torch.distributed.destroy_process_group()
    results.close()
    results.join_thread()
    os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork") or not torch.distributed.is_available(), reason="needs fork and gloo")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_centres_are_averaged_over_processes(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=one_process, args=(rank, tmp_path / "store", results)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    found = sorted(results.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join(30)
    cases = [loss_case(seed=50 * rank, dtype=torch.float32) for rank in (0, 1)]
    for rank, center, patch_center, crossed in found:
        close(torch.tensor(center), 0.1 * torch.cat([c[1] for c in cases]).mean(0, keepdim=True))
        close(torch.tensor(patch_center), 0.1 * torch.cat([c[3] for c in cases]).mean((0, 1), keepdim=True))
        close(crossed, float(cross_view_loss(*cases[rank][:2], torch.zeros(1, 6))))  # the loss is each one's own
