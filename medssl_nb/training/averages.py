"""Teachers that are moving averages of their student."""

from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


def ema_update(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher towards the student, in place: teacher <- momentum * teacher + (1 - momentum) * student.

    Parameters are paired by name; buffers (running statistics, centres) stay as they are. No gradient is recorded. A
    parameter that the teacher has under several names follows the student's parameter of the first of them.

    Args:
        teacher, student: modules whose parameters have the same names and shapes.
        momentum: 0 copies the student, 1 keeps the teacher.

    Raises:
        ValueError: `momentum` outside [0, 1], other names or shapes; the teacher is then unchanged.
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum is the share of the teacher that stays, 0 to 1, got {momentum}.")
    old, new = (dict(m.named_parameters(remove_duplicate=False)) for m in (teacher, student))
    if old.keys() != new.keys():
        only_teacher, only_student = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
        raise ValueError(
            f"teacher and student must have the same parameters; only the teacher has {_few(only_teacher)}, only the "
            f"student {_few(only_student)}. Build the teacher as copy.deepcopy(student), or pass the parts they share."
        )
    for name, parameter in old.items():
        if parameter.shape != new[name].shape:
            raise ValueError(
                f"parameter {name} has shape {tuple(parameter.shape)} in the teacher and {tuple(new[name].shape)} in "
                "the student; an average needs one shape. Build both with the same widths."
            )
    unique = dict(teacher.named_parameters())
    if unique:
        target = [new[name].detach().to(p) for name, p in unique.items()]  # device and type of the teacher
        get_ema_multi_avg_fn(float(momentum))(list(unique.values()), target, None)


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "none"
