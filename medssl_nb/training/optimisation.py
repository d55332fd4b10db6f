"""What stands between the gradients and the optimiser: clipping and parameter groups."""

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_


def clip_gradients_per_parameter(module: nn.Module, max_norm: float) -> list[float]:
    """Limit the norm of every gradient tensor by itself, in place: g <- g * min(1, max_norm / (|g| + 1e-6)).

    Unlike one limit for all parameters together, a layer with an outsized gradient does not shrink the others' steps.

    Args:
        module: parameters without a gradient are left out.
        max_norm: largest L2 norm, above 0.

    Returns:
        Norms before clipping, in the order of `module.parameters()`. A norm that is not finite says that the gradient
        was not; clipping does not mend it.

    Raises:
        ValueError: `max_norm` is not above 0.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm must be above 0, got {max_norm}; to train without clipping, do not call this.")
    norms = [clip_grad_norm_(parameter, max_norm) for parameter in module.parameters() if parameter.grad is not None]
    return torch.stack(norms).tolist() if norms else []  # one wait for the device, not one per parameter


def parameter_groups(*modules: nn.Module) -> list[dict]:
    """Parameters for an optimiser: [with weight decay, without]; the second group has weight_decay 0.

    Biases and tensors of at most one dimension (norm scales, temperatures) do not decay. Frozen parameters
    (`requires_grad` False) are left out; one that several modules share is taken once.

    Returns:
        Two dicts with "params", in the order of the modules; the first takes the optimiser's own weight decay.

    Raises:
        ValueError: no parameter is left to train.
    """
    decay, no_decay, seen = [], [], set()
    for name, parameter in (pair for module in modules for pair in module.named_parameters()):
        if not parameter.requires_grad or parameter in seen:
            continue
        seen.add(parameter)
        is_bias = name.rpartition(".")[2] == "bias"
        (no_decay if is_bias or parameter.ndim <= 1 else decay).append(parameter)
    if not seen:
        raise ValueError(
            f"none of the {len(modules)} modules has a parameter that requires a gradient; there is nothing to train. "
            "Pass the student, not the frozen teacher."
        )
    return [{"params": decay}, {"params": no_decay, "weight_decay": 0.0}]
