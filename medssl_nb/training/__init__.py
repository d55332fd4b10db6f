"""One pre-training loop for every method: schedules, moving averages, checkpoints, several processes."""

from importlib import import_module

_EXPORTS = {
    "averages": ("ema_update",),
    "checkpoints": ("read_checkpoint", "read_history"),
    "gathering": ("gather",),
    "loop": ("NonFiniteLoss", "StepRecord", "pretrain"),
    "losses": ("info_nce_loss", "masked_reconstruction_loss", "reconstruction_error"),
    "memory": ("MemoryEstimate", "estimate_memory"),
    "optimisation": ("clip_gradients_per_parameter", "parameter_groups"),
    "profile": ("Profile",),
    "progress": ("progress_bar",),
    "schedules": ("cosine_schedule", "teacher_temperature_schedule", "warmup_cosine_lr"),
    "task": ("PretextTask", "Views"),
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
