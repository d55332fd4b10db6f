"""The checks of lesson 23 pass right answers, and name the fault of each typical wrong one."""

import pytest
import torch
import torch.nn.functional as F

from medssl_nb import exercises
from medssl_nb.methods.adaptive_masking import hard_patches as library_hard
from medssl_nb.methods.adaptive_masking import relative_weights as library_weights


def weights(errors, mask, strength):
    e = torch.where(mask, errors.detach(), 0)
    a = torch.where(mask, (e / e.max()) ** strength if e.max() > 0 else 1.0, 0.0)
    return a * mask.sum() / a.sum()


def weights_by_the_mean(errors, mask, strength):
    return library_weights(errors[None], mask[None], strength=strength)[0]


def weights_with_graph(errors, mask, strength):
    e = torch.where(mask, errors, 0)
    a = torch.where(mask, (e / e.max()) ** strength if e.max() > 0 else torch.ones_like(e), 0.0)
    return a * mask.sum() / a.sum()


def weights_that_sum_to_one(errors, mask, strength):
    return weights(errors, mask, strength) / mask.sum()


def weights_of_all_patches(errors, mask, strength):
    return weights(errors, torch.ones_like(mask), strength) * mask


def weights_of_bare_errors(errors, mask, strength):
    return torch.where(mask, errors**strength, 0)


def weights_without_care_for_zero(errors, mask, strength):
    a = torch.where(mask, errors.detach() ** strength, 0)
    return a * mask.sum() / a.sum()


def weights_in_place(errors, mask, strength):
    errors[~mask] = 0
    errors /= errors.max().clamp(min=1e-12)
    return weights(errors, mask, strength)


def hard(errors, mask, threshold):
    return library_hard(errors[None], mask[None], threshold)[0]


def hard_by_hand(errors, mask, threshold):
    e = errors[mask]
    return mask & (errors > e.mean() + threshold * e.std(correction=0)) & bool(e.max() > e.min())


def hard_among_all(errors, mask, threshold):
    return mask & (errors > errors.mean() + threshold * errors.std(correction=0)) & bool(errors.max() > errors.min())


def hard_or_equal(errors, mask, threshold):
    e = errors[mask]
    return mask & (errors >= e.mean() + threshold * e.std(correction=0)) & bool(e.max() > e.min())


def hard_by_the_sample_deviation(errors, mask, threshold):
    e = errors[mask]
    return mask & (errors > e.mean() + threshold * (e.std() if len(e) > 1 else 0.0)) & bool(e.max() > e.min())


def hard_where_visible(errors, mask, threshold):
    e = errors[mask]
    return (errors > e.mean() + threshold * e.std(correction=0)) & bool(e.max() > e.min())


def hard_without_care_for_equal(errors, mask, threshold):
    e = errors[mask]
    return mask & (errors > e.mean() + threshold * e.std(correction=0) - 1e-6 * (threshold < 0))


def consistency(z, background, lesion, h, temperature):
    z = F.normalize(z, dim=0)
    log_q = F.log_softmax(torch.stack([z @ background, z @ lesion]) / temperature, dim=0)
    return -(h * log_q[1] + (1 - h) * log_q[0])


def consistency_without_direction(z, background, lesion, h, temperature):
    log_q = F.log_softmax(torch.stack([z @ background, z @ lesion]) / temperature, dim=0)
    return -(h * log_q[1] + (1 - h) * log_q[0])


def consistency_that_overflows(z, background, lesion, h, temperature):
    z = F.normalize(z, dim=0)
    q = torch.exp(torch.stack([z @ background, z @ lesion]) / temperature)
    return -(h * torch.log(q[1] / q.sum()) + (1 - h) * torch.log(q[0] / q.sum()))


def consistency_with_rounded_target(z, background, lesion, h, temperature):
    return consistency(z, background, lesion, float(h > 0.5), temperature)


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (exercises.check_relative_weights, weights),
        (exercises.check_relative_weights, weights_by_the_mean),
        (exercises.check_hard_patches, hard),
        (exercises.check_hard_patches, hard_by_hand),
        (exercises.check_consistency, consistency),
    ],
)
def test_right_answers_pass_and_say_so(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.endswith("cases right.\n")


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (exercises.check_relative_weights, lambda *a: None, "four hidden patches: your function returned nothing"),
        (exercises.check_relative_weights, weights_of_bare_errors, "four hidden patches: expected"),
        (exercises.check_relative_weights, weights_that_sum_to_one, "four hidden patches: expected"),
        (exercises.check_relative_weights, lambda e, m, s: weights(e, m, 1.0), "strength 0: expected 1"),
        (exercises.check_relative_weights, weights_of_all_patches, "one patch visible: expected"),
        (exercises.check_relative_weights, weights_without_care_for_zero, "all errors 0: expected 1.*found nan"),
        (exercises.check_relative_weights, weights_in_place, "four hidden patches: your function changed its input"),
        (exercises.check_relative_weights, weights_with_graph, "carry a gradient"),
        (exercises.check_hard_patches, lambda *a: None, "harder than the mean: your function returned nothing"),
        (exercises.check_hard_patches, lambda e, m, t: hard(e, m, 0.0), "exactly on the line.*: expected 0"),
        (exercises.check_hard_patches, hard_or_equal, "exactly on the line"),
        (exercises.check_hard_patches, hard_by_the_sample_deviation, "the population deviation"),
        (exercises.check_hard_patches, lambda e, m, t: hard(e, m, abs(t)), "a line below the mean: expected 1"),
        (exercises.check_hard_patches, hard_where_visible, "the hardest patch is visible: expected 0"),
        (exercises.check_hard_patches, hard_among_all, "do not move the mean: expected 1"),
        (exercises.check_hard_patches, hard_without_care_for_equal, "all errors equal"),
        (exercises.check_consistency, lambda *a: None, "ln 2: your function returned nothing"),
        (
            exercises.check_consistency,
            lambda z, b, m, h, t: consistency(z, m, b, h, t),
            "hard, and on the lesion prototype: expected 0.313",
        ),
        (
            exercises.check_consistency,
            lambda z, b, m, h, t: consistency(z, b, m, h, 1.0),
            "hard, nearer to lesion: expected",
        ),
        (exercises.check_consistency, consistency_with_rounded_target, "half hard: expected"),
        (exercises.check_consistency, consistency_without_direction, "length 10 points the same way"),
        (exercises.check_consistency, consistency_that_overflows, "no overflow: expected 200, found"),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(check, answer, words):
    with pytest.raises(AssertionError, match=words):
        check(answer)
