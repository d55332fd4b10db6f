"""Checks that a learner runs on their own functions. Each says which case failed, what was expected and what came."""

from medssl_nb.exercises.measuring_transfer import check_bootstrap_interval, check_split_by_subject
from medssl_nb.exercises.start_here import check_hidden_error, check_hide_box
from medssl_nb.exercises.three_pretext_ideas import check_clusters_in_use, check_far_loss, check_leaks
from medssl_nb.exercises.volumes_and_views import check_come_back, check_organ_ml, check_window

__all__ = [
    "check_bootstrap_interval",
    "check_clusters_in_use",
    "check_come_back",
    "check_far_loss",
    "check_hidden_error",
    "check_hide_box",
    "check_leaks",
    "check_organ_ml",
    "check_split_by_subject",
    "check_window",
]
