"""Checks that a learner runs on their own functions. Each says which case failed, what was expected and what came."""

from medssl_nb.exercises.borders_where_the_image_has_edges import (
    check_basin,
    check_box_sum,
    check_edge_row,
    check_plain_correlation,
)
from medssl_nb.exercises.both_stages_and_transfer import check_bytes_of, check_wins
from medssl_nb.exercises.clusters_and_mutual_information import (
    check_count_joint,
    check_keep_above,
    check_two_maps,
)
from medssl_nb.exercises.embedding_for_every_voxel import (
    check_coarse_pairs,
    check_contrast,
    check_roles,
    check_view_coordinates,
)
from medssl_nb.exercises.four_methods import check_best_table_for, check_paired_gain, check_worth_the_time
from medssl_nb.exercises.hard_patches_and_categories import (
    check_consistency,
    check_hard_patches,
    check_relative_weights,
)
from medssl_nb.exercises.measuring_transfer import check_bootstrap_interval, check_split_by_subject
from medssl_nb.exercises.one_shot_landmarks import (
    check_coarse_to_fine,
    check_distance_mm,
    check_success_curve,
    check_window_of_three,
)
from medssl_nb.exercises.patches_and_masks import check_lesion_odds, check_patch_of, check_put_together
from medssl_nb.exercises.patches_on_a_sphere import (
    check_collapse_lines,
    check_loss_of_angles,
    check_target_angle,
    check_wrong_order_works,
)
from medssl_nb.exercises.pretrain_alice import check_collapse, check_momentum
from medssl_nb.exercises.pretrain_and_transfer import check_clusters_to_organs, check_slab_of
from medssl_nb.exercises.questions_asked_of_both import (
    check_answers,
    check_casa_parameters,
    check_one_token_answer,
    check_patch_loss_of,
)
from medssl_nb.exercises.ratio_pretrain_transfer import check_effect_of_part, check_vanishing_epoch
from medssl_nb.exercises.regions_and_prototypes import (
    check_even_bits,
    check_largest_share,
    check_renumber,
    check_right_angle_loss,
)
from medssl_nb.exercises.same_place_in_two_patients import (
    check_bookkeeping,
    check_calibrated_threshold,
    check_padded_crop,
    check_share_home,
)
from medssl_nb.exercises.shapes_from_another_modality import (
    check_bend,
    check_confidence,
    check_discriminator_loss,
    check_last_side,
)
from medssl_nb.exercises.start_here import check_hidden_error, check_hide_box
from medssl_nb.exercises.student_and_teacher import (
    check_half_life,
    check_hidden_share,
    check_learning_rate,
    check_lowest_entropy,
    check_student_gradient,
)
from medssl_nb.exercises.three_pretext_ideas import check_clusters_in_use, check_far_loss, check_leaks
from medssl_nb.exercises.two_views_and_balance import (
    check_local_minima,
    check_loss_parts,
    check_mirror_theta,
    check_same_share,
)
from medssl_nb.exercises.volumes_and_views import check_come_back, check_organ_ml, check_window
from medssl_nb.exercises.which_patches_are_lesions import check_budget, check_lift, check_lloyd_step
from medssl_nb.exercises.your_own_scans import check_onto_scan, check_same_place, check_verdict

__all__ = [
    "check_answers",
    "check_basin",
    "check_bend",
    "check_best_table_for",
    "check_bookkeeping",
    "check_bootstrap_interval",
    "check_box_sum",
    "check_budget",
    "check_bytes_of",
    "check_calibrated_threshold",
    "check_casa_parameters",
    "check_clusters_in_use",
    "check_clusters_to_organs",
    "check_coarse_pairs",
    "check_coarse_to_fine",
    "check_collapse",
    "check_collapse_lines",
    "check_come_back",
    "check_confidence",
    "check_consistency",
    "check_contrast",
    "check_count_joint",
    "check_discriminator_loss",
    "check_distance_mm",
    "check_edge_row",
    "check_effect_of_part",
    "check_even_bits",
    "check_far_loss",
    "check_half_life",
    "check_hard_patches",
    "check_hidden_error",
    "check_hidden_share",
    "check_hide_box",
    "check_keep_above",
    "check_largest_share",
    "check_last_side",
    "check_leaks",
    "check_learning_rate",
    "check_lesion_odds",
    "check_lift",
    "check_lloyd_step",
    "check_local_minima",
    "check_loss_of_angles",
    "check_loss_parts",
    "check_lowest_entropy",
    "check_mirror_theta",
    "check_momentum",
    "check_one_token_answer",
    "check_onto_scan",
    "check_organ_ml",
    "check_padded_crop",
    "check_paired_gain",
    "check_patch_loss_of",
    "check_patch_of",
    "check_plain_correlation",
    "check_put_together",
    "check_relative_weights",
    "check_renumber",
    "check_right_angle_loss",
    "check_roles",
    "check_same_place",
    "check_same_share",
    "check_share_home",
    "check_slab_of",
    "check_split_by_subject",
    "check_student_gradient",
    "check_success_curve",
    "check_target_angle",
    "check_two_maps",
    "check_vanishing_epoch",
    "check_verdict",
    "check_view_coordinates",
    "check_window",
    "check_window_of_three",
    "check_wins",
    "check_worth_the_time",
    "check_wrong_order_works",
]
