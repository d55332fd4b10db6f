"""What the student learns from: the teacher's view of the other patient, its answers, and the hidden voxels.

Formulas and constants follow the released code (github.com/alibaba-damo-academy/alice); the paper's body was not at
hand, so which of its numbers they are is not known.
"""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from medssl_nb.methods.alice.checks import check_share, check_temperature
from medssl_nb.precision import at_least_float32
from medssl_nb.training.schedules import teacher_temperature_schedule


def teacher_distribution(logits: Tensor, center: Tensor, temperature: float) -> Tensor:
    """P = softmax((z - c) / temperature) over the last axis, without gradient: centred and sharpened.

    Args:
        logits: z, (..., D).
        center: c, broadcast to the logits.

    Returns:
        (..., D), float32 (float64 for float64).

    Raises:
        ValueError: a temperature that is not above 0, a centre of another D.
    """
    check_temperature("temperature", temperature)
    if center.shape[-1] != logits.shape[-1]:
        raise ValueError(
            f"center has {center.shape[-1]} values and the logits {logits.shape[-1]}: one is needed for each output."
        )
    with torch.no_grad(), torch.autocast(logits.device.type, enabled=False):
        return ((at_least_float32(logits) - at_least_float32(center)) / temperature).softmax(dim=-1)


def distillation_loss(student_logits: Tensor, teacher_probabilities: Tensor, temperature: float = 0.1) -> Tensor:
    """Mean cross-entropy of the student's softmax(z / temperature) with the teacher's distribution.

    l = -sum_k P_k log p_k; its gradient with respect to z is (p - P) / temperature. Never below the entropy of P.

    Args:
        student_logits, teacher_probabilities: (..., D), alike.

    Returns:
        Scalar, mean over all but the last axis.

    Raises:
        ValueError: shapes that differ, a temperature that is not above 0.
    """
    check_temperature("temperature", temperature)
    if student_logits.shape != teacher_probabilities.shape or student_logits.ndim == 0:
        raise ValueError(
            f"student and teacher must speak of the same outputs, got {tuple(student_logits.shape)} and "
            f"{tuple(teacher_probabilities.shape)}."
        )
    with torch.autocast(student_logits.device.type, enabled=False):
        log_p = (at_least_float32(student_logits) / temperature).log_softmax(dim=-1)
        return -(at_least_float32(teacher_probabilities).detach() * log_p).sum(dim=-1).mean()


def cross_view_loss(
    student: Tensor,
    teacher: Tensor,
    center: Tensor,
    *,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.01,
) -> Tensor:
    """Across volumes: the student's query predicts the teacher's key and the other way round, half of each.

    Args:
        student, teacher: logits (2B, ..., D), the queries and then the keys.
        center: broadcast to the teacher's logits.

    Raises:
        ValueError: an odd first dimension, shapes that differ, a temperature that is not above 0.
    """
    (query, key), (target_query, target_key) = _halves(student, teacher, center, teacher_temperature)
    return 0.5 * (
        distillation_loss(key, target_query, student_temperature)
        + distillation_loss(query, target_key, student_temperature)
    )


def same_view_loss(
    student: Tensor,
    teacher: Tensor,
    center: Tensor,
    *,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.01,
) -> Tensor:
    """Within a volume: each half of the student predicts the same half of the teacher; see `cross_view_loss`."""
    (query, key), (target_query, target_key) = _halves(student, teacher, center, teacher_temperature)
    return 0.5 * (
        distillation_loss(query, target_query, student_temperature)
        + distillation_loss(key, target_key, student_temperature)
    )


def reconstruction_loss(
    prediction: Tensor, target: Tensor, mask: Tensor | None = None, *, region: Literal["all", "masked"] = "all"
) -> Tensor:
    """Half the mean squared error, over all voxels or over the hidden ones.

    The half stands in the released code beside a mean that covers both views already.

    Args:
        prediction, target: (N, C, *S), alike; no gradient reaches the target.
        mask: bool, True = hidden, broadcast to the prediction; needed for region "masked".
        region: "all", as in the released code, or "masked", as in masked autoencoders.

    Returns:
        Scalar; 0 for "masked" with nothing hidden.

    Raises:
        ValueError: shapes that differ, an unknown region, "masked" without a mask.
    """
    if region not in ("all", "masked"):
        raise ValueError(f'region is "all" or "masked", got {region!r}.')
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction and target must be alike, got {tuple(prediction.shape)} and {tuple(target.shape)}."
        )
    with torch.autocast(prediction.device.type, enabled=False):
        squared = (at_least_float32(prediction) - at_least_float32(target).detach()).square()
        if region == "all":
            return 0.5 * squared.mean()
        if mask is None or mask.dtype != torch.bool:
            raise ValueError(
                f'region "masked" needs a bool mask, True = hidden; got {None if mask is None else mask.dtype}.'
            )
        hidden = _expanded(mask, squared)
        return 0.5 * torch.where(hidden, squared, 0.0).sum() / hidden.sum().clamp(min=1)


def update_center(center: Tensor, teacher_logits: Tensor, momentum: float = 0.9) -> Tensor:
    """c <- momentum * c + (1 - momentum) * mean of the teacher's logits over all but the last axis; a new tensor.

    Raises:
        ValueError: `momentum` outside [0, 1], a centre of another D.
    """
    check_share("momentum", momentum)
    if center.shape[-1] != teacher_logits.shape[-1]:
        raise ValueError(
            f"center has {center.shape[-1]} values and the logits {teacher_logits.shape[-1]}: one for each output."
        )
    with torch.no_grad(), torch.autocast(center.device.type, enabled=False):
        mean = at_least_float32(teacher_logits).flatten(0, -2).mean(0)
        return (momentum * center + (1 - momentum) * mean.to(center)).view_as(center)


class AliceLoss(nn.Module):
    """The three terms, with the centres and temperatures that change during training.

    L = global_weight * L_cls + patch_weight * L_patch + reconstruction_weight * L_rec.

    The centres are buffers, `global_center` (1, D) and `patch_center` (1, 1, D'), and start at 0.
    `temperature_schedule` and `patch_temperature_schedule` hold the teacher's temperature for each epoch.

    Args:
        out_dim, patch_out_dim: D of the global tokens, D' of the answers.
        epochs: of the training.
        warmup_epochs: over which the teacher's temperature goes from the first to the second value.
        student_temperature: of both distillations.
        teacher_temperature, patch_teacher_temperature: first and last value.
        patch_delay_epochs: epochs that the patch temperature waits at its first value.
        center_momentum, patch_center_momentum: share of a centre that stays.
        global_weight, patch_weight, reconstruction_weight: of the terms.
        reconstruction_region: see `reconstruction_loss`.

    Raises:
        ValueError: numbers out of range, schedules longer than `epochs`.
    """

    def __init__(
        self,
        out_dim: int = 512,
        patch_out_dim: int = 512,
        *,
        epochs: int,
        warmup_epochs: int = 30,
        student_temperature: float = 0.1,
        teacher_temperature: tuple[float, float] = (0.008, 0.01),
        patch_teacher_temperature: tuple[float, float] = (0.008, 0.01),
        patch_delay_epochs: int = 0,
        center_momentum: float = 0.9,
        patch_center_momentum: float = 0.9,
        global_weight: float = 1.0,
        patch_weight: float = 1.0,
        reconstruction_weight: float = 10.0,
        reconstruction_region: Literal["all", "masked"] = "all",
    ):
        super().__init__()
        if out_dim < 1 or patch_out_dim < 1:
            raise ValueError(f"out_dim and patch_out_dim count from 1, got {out_dim} and {patch_out_dim}.")
        check_temperature("student_temperature", student_temperature)
        check_share("center_momentum", center_momentum)
        check_share("patch_center_momentum", patch_center_momentum)
        if reconstruction_region not in ("all", "masked"):
            raise ValueError(f'reconstruction_region is "all" or "masked", got {reconstruction_region!r}.')
        self.temperature_schedule = teacher_temperature_schedule(*teacher_temperature, warmup_epochs, epochs)
        self.patch_temperature_schedule = teacher_temperature_schedule(
            *patch_teacher_temperature, warmup_epochs, epochs, patch_delay_epochs
        )
        self.epochs, self.student_temperature = epochs, student_temperature
        self.center_momentum, self.patch_center_momentum = center_momentum, patch_center_momentum
        self.weights = {"global": global_weight, "patch": patch_weight, "reconstruction": reconstruction_weight}
        self.reconstruction_region = reconstruction_region
        self.register_buffer("global_center", torch.zeros(1, out_dim))
        self.register_buffer("patch_center", torch.zeros(1, 1, patch_out_dim))

    def forward(
        self,
        student_cls: Tensor,
        teacher_cls: Tensor,
        aligned_online: Tensor,
        aligned_target: Tensor,
        reconstruction: Tensor,
        images: Tensor,
        epoch: int,
        *,
        mask: Tensor | None = None,
        update_centers: bool = True,
    ) -> dict[str, Tensor]:
        """The weighted terms "global", "patch" and "reconstruction", and their sum "total".

        The centres of before the call enter the loss; then they move (unless `update_centers` is False). With several
        processes they follow the mean over all.

        Args:
            student_cls, teacher_cls: (2B, D).
            aligned_online, aligned_target: (2B, N_q, D'), the answers of the student's and of the teacher's map.
            reconstruction, images: (2B, C, *S); the images as they were before masking.
            epoch: 0 to epochs - 1.
            mask: bool, True = hidden; for reconstruction_region="masked".

        Raises:
            ValueError: an epoch outside the training, shapes that do not fit.
        """
        terms = {
            "global": self.global_term(student_cls, teacher_cls, epoch),
            "patch": self.patch_term(aligned_online, aligned_target, epoch),
            "reconstruction": self.reconstruction_term(reconstruction, images, mask),
        }
        if update_centers:
            self.update_centers(teacher_cls, aligned_target)
        return self.weighted(terms)

    def global_term(self, student_cls: Tensor, teacher_cls: Tensor, epoch: int) -> Tensor:
        """`cross_view_loss` with this epoch's temperature and the centre as it is, unweighted."""
        return cross_view_loss(
            student_cls,
            teacher_cls,
            self.global_center,
            student_temperature=self.student_temperature,
            teacher_temperature=self._of_epoch(self.temperature_schedule, epoch),
        )

    def patch_term(self, aligned_online: Tensor, aligned_target: Tensor, epoch: int) -> Tensor:
        """`same_view_loss` with this epoch's temperature and the centre as it is, unweighted."""
        return same_view_loss(
            aligned_online,
            aligned_target,
            self.patch_center,
            student_temperature=self.student_temperature,
            teacher_temperature=self._of_epoch(self.patch_temperature_schedule, epoch),
        )

    def reconstruction_term(self, reconstruction: Tensor, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """`reconstruction_loss` in this loss's region, unweighted."""
        return reconstruction_loss(reconstruction, images, mask, region=self.reconstruction_region)

    def weighted(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Some or all of the terms times their weights, and their sum "total"."""
        weighted = {name: self.weights[name] * term for name, term in terms.items()}
        return {**weighted, "total": sum(weighted.values())}

    @torch.no_grad()
    def update_centers(self, teacher_cls: Tensor, aligned_target: Tensor | None = None) -> None:
        """Move the centres towards the mean of what the teacher said, over all processes."""
        moved = update_center(self.global_center, _mean_of_processes(teacher_cls), self.center_momentum)
        self.global_center.copy_(moved)
        if aligned_target is not None:
            moved = update_center(self.patch_center, _mean_of_processes(aligned_target), self.patch_center_momentum)
            self.patch_center.copy_(moved)

    def _of_epoch(self, schedule: Tensor, epoch: int) -> float:
        if not 0 <= epoch < self.epochs:
            raise ValueError(f"epoch lies between 0 and {self.epochs - 1}, got {epoch}.")
        return float(schedule[epoch])


def _halves(student: Tensor, teacher: Tensor, center: Tensor, temperature: float):
    """Queries and keys of the student's logits and of the teacher's distribution."""
    if student.ndim < 2 or student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher are (2B, ..., D), alike; got {tuple(student.shape)} and {tuple(teacher.shape)}."
        )
    if not len(student) or len(student) % 2:
        raise ValueError(f"views are stacked as queries and then keys, an even number; got {len(student)}.")
    return student.chunk(2), teacher_distribution(teacher, center, temperature).chunk(2)


def _expanded(mask: Tensor, like: Tensor) -> Tensor:
    try:
        return mask.expand_as(like)
    except RuntimeError:
        raise ValueError(
            f"mask of shape {tuple(mask.shape)} does not broadcast to a prediction of {tuple(like.shape)}."
        ) from None


def _mean_of_processes(logits: Tensor) -> Tensor:
    """Mean (1, D) over all but the last axis, of all processes."""
    mean = at_least_float32(logits).flatten(0, -2).mean(0, keepdim=True)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(mean)
        mean = mean / dist.get_world_size()
    return mean
