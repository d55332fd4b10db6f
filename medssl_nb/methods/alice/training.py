"""One step of pre-training, and the schedules around it."""

import math
from typing import Literal

import torch
from torch import Tensor

from medssl_nb.methods.alice.casa import CASA
from medssl_nb.methods.alice.checks import check_share
from medssl_nb.methods.alice.losses import AliceLoss, teacher_distribution
from medssl_nb.methods.alice.networks import AliceNetwork, AliceOutput
from medssl_nb.training.averages import ema_update
from medssl_nb.training.optimisation import clip_gradients_per_parameter, parameter_groups
from medssl_nb.training.schedules import cosine_schedule, teacher_temperature_schedule

__all__ = [
    "clip_gradients_per_parameter",
    "cosine_schedule",
    "ema_update",
    "parameter_groups",
    "pretrain_step",
    "teacher_temperature_schedule",
    "teacher_tokens",
]


def pretrain_step(
    student: AliceNetwork,
    teacher: AliceNetwork,
    casa: CASA,
    criterion: AliceLoss,
    optimizer: torch.optim.Optimizer,
    views: Tensor,
    mask: Tensor,
    *,
    epoch: int,
    momentum: float,
    max_grad_norm: float = 3.0,
    freeze_last_layer: bool = False,
    teacher_context: Literal["decoder", "encoder"] = "decoder",
) -> dict[str, float]:
    """Teacher, student, CASA, loss, backward, clipping, optimiser, moving average: one step of Alice.

    The caller sets learning rate and weight decay before, and the student's and CASA's mode.

    Args:
        student, teacher: see `make_teacher`; the teacher is put into evaluation mode.
        optimizer: over the student and CASA.
        views: (2B, C, *S), the queries and then the keys; also the target of the reconstruction.
        mask: bool (2B, 1, *S), True = hidden from the student.
        epoch: of the temperatures, see `AliceLoss`.
        momentum: of the teacher, and of CASA's copy if it has one.
        max_grad_norm: limit for the gradient of each of the student's parameters by itself.
        freeze_last_layer: leave the last layers of the head as they are.
        teacher_context: which of the teacher's tokens CASA reads: "decoder", as in the released code, or "encoder", as
            the paper's figure draws it.

    Returns:
        "global", "patch", "reconstruction" (weighted), "total", and "teacher_entropy": mean entropy in nats of the
        teacher's global distribution.

    Raises:
        RuntimeError: a loss that is not finite; nothing was changed.
        ValueError: an unknown `teacher_context`, a momentum outside [0, 1], and what the parts refuse.
    """
    check_share("momentum", momentum)
    teacher.eval()
    with torch.no_grad():
        target = teacher(views)
    found = student(views, mask)
    context = teacher_tokens(target, teacher_context)
    online, aligned = casa(found.encoder_tokens, found.decoder_tokens, context)
    losses = criterion(
        found.cls, target.cls, online, aligned, found.reconstruction, views, epoch, mask=mask, update_centers=False
    )
    values = {name: float(value.detach()) for name, value in losses.items()}
    if not all(map(math.isfinite, values.values())):
        terms = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        raise RuntimeError(f"a loss is not finite ({terms}); look at the views, or lower the learning rate.")
    told = entropy(
        teacher_distribution(target.cls, criterion.global_center, float(criterion.temperature_schedule[epoch]))
    )
    criterion.update_centers(target.cls, aligned)
    optimizer.zero_grad()
    losses["total"].backward()
    clip_gradients_per_parameter(student, max_grad_norm)
    if freeze_last_layer:
        for name, parameter in student.named_parameters():
            if "last_layer" in name:
                parameter.grad = None
    optimizer.step()
    ema_update(teacher, student, momentum)
    casa.update_target(momentum)
    return {**values, "teacher_entropy": float(told.mean())}


def teacher_tokens(output: AliceOutput, context: Literal["decoder", "encoder"]) -> Tensor:
    """The tokens of the teacher that CASA reads.

    Raises:
        ValueError: an unknown context.
    """
    if context not in ("decoder", "encoder"):
        raise ValueError(f'teacher_context is "decoder" or "encoder", got {context!r}.')
    return output.decoder_tokens if context == "decoder" else output.encoder_tokens


def entropy(distribution: Tensor) -> Tensor:
    """-sum p ln p over the last axis, in nats: 0 for one winner, ln D for all alike."""
    return torch.special.entr(distribution).sum(dim=-1)
