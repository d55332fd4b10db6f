"""The learning rate of this method, shared with others."""

from medssl_nb.training.schedules import warmup_cosine_lr

__all__ = ["warmup_cosine_lr"]
