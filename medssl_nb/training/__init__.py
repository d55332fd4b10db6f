"""One pre-training loop for every method: schedules, moving averages, checkpoints, several processes."""

from medssl_nb.lazy import lazy_exports

_EXPORTS = {
    "averages": ("ema_update",),
    "checkpoints": ("read_checkpoint", "read_history"),
    "gathering": ("gather", "pooled_mean"),
    "loop": ("NonFiniteLoss", "StepRecord", "pretrain"),
    "losses": ("info_nce_loss", "masked_reconstruction_loss", "reconstruction_error"),
    "memory": ("MemoryEstimate", "estimate_memory"),
    "optimisation": ("clip_gradients_per_parameter", "parameter_groups"),
    "profile": ("Profile",),
    "progress": ("progress_bar",),
    "schedules": ("cosine_schedule", "teacher_temperature_schedule", "warmup_cosine_lr"),
    "task": ("PretextTask", "Views"),
}
__getattr__, __all__ = lazy_exports(__name__, _EXPORTS)
