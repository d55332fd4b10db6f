"""The checks of lesson 32 pass right answers, and name the fault of each typical wrong one."""

import pytest
import torch

from medssl_nb.exercises import two_views_and_balance as exercises
from medssl_nb.methods.boundary_infomax import apply_affine, regularized_mi_loss


def mirror_theta(axis, dims):
    theta = torch.eye(dims, dims + 1)
    theta[dims - 1 - axis, dims - 1 - axis] = -1
    return theta


def mirror_theta_first_axis_first(axis, dims):
    theta = torch.eye(dims, dims + 1)
    theta[axis, axis] = -1
    return theta


def same_share(of_moved, of_image, theta):
    inside = apply_affine(torch.ones_like(of_image), theta) > 0
    return (of_moved == apply_affine(of_image, theta))[inside].float().mean()


def same_share_no_mask(of_moved, of_image, theta):
    return (of_moved == apply_affine(of_image, theta)).float().mean()


def same_share_without_the_map(of_moved, of_image, theta):
    return (of_moved == of_image).float().mean()


def same_share_moving_the_moved(of_moved, of_image, theta):
    return same_share(of_image, of_moved, theta)


def same_share_without_cluster_0(of_moved, of_image, theta):
    moved = apply_affine(of_image, theta)
    return (of_moved == moved)[moved > 0].float().mean()


def same_share_in_place(of_moved, of_image, theta):
    of_image.copy_(apply_affine(of_image, theta))
    return (of_moved == of_image).float().mean()


def entropy(p):
    return float(torch.special.entr(p).sum())


def loss_parts(P, alpha, lam):
    pull = -alpha * float(P.diagonal().log().mean()) if alpha else 0.0
    return (1 - alpha) * entropy(P), -lam * (entropy(P.sum(0)) + entropy(P.sum(1))), pull


def loss_parts_with_nan(P, alpha, lam):
    return *loss_parts(P, alpha, lam)[:2], -alpha * float(P.diagonal().log().mean())


def loss_parts_with_the_sum_over_clusters(P, alpha, lam):
    first, second, third = loss_parts(P, alpha, lam)
    return first, second, third * len(P)


def loss_parts_one_marginal_twice(P, alpha, lam):
    first, _, third = loss_parts(P, alpha, lam)
    return first, -2 * lam * entropy(P.sum(0)), third


def losses(alpha):
    s = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    matrices = torch.stack([s, 1 - s, 1 - s, s], dim=1).view(-1, 2, 2) / 2
    return s, torch.stack([regularized_mi_loss(P, alpha=alpha) for P in matrices])


def local_minima(alpha):
    s, found = losses(alpha)
    around = torch.nn.functional.pad(found, (1, 1), value=torch.inf)
    return s[(found < around[:-2]) & (found < around[2:])]


def local_minima_inside_only(alpha):
    s, found = losses(alpha)
    return s[1:-1][(found[1:-1] < found[:-2]) & (found[1:-1] < found[2:])]


def local_minima_lowest_only(alpha):
    s, found = losses(alpha)
    return s[found.argmin()][None]


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (exercises.check_mirror_theta, mirror_theta),
        (exercises.check_same_share, same_share),
        (exercises.check_loss_parts, loss_parts),
        (exercises.check_local_minima, local_minima),
    ],
)
def test_right_answers_pass_and_say_so(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.endswith("cases right.\n")


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (
            exercises.check_mirror_theta,
            lambda axis, dims: None,
            "a line, shape.*: your function returned nothing",
        ),
        (exercises.check_mirror_theta, lambda a, d: torch.eye(d), "a line, shape of theta: expected shape"),
        (exercises.check_mirror_theta, lambda a, d: torch.eye(d, d + 1), "a line: expected 5 at .*found 1"),
        (exercises.check_mirror_theta, mirror_theta_first_axis_first, "rows of a picture: axis 1 was mirrored, axis 0"),
        (exercises.check_same_share, lambda a, x, t: None, "three of four alike: your function returned nothing"),
        (
            exercises.check_same_share,
            same_share_no_mask,
            "out of the frame does not count: expected 1, found 0.75",
        ),
        (exercises.check_same_share, same_share_without_the_map, "a mirror, all alike: expected 1, found 0"),
        (exercises.check_same_share, same_share_moving_the_moved, "a shift.*expected 1, found 0"),
        (exercises.check_same_share, same_share_without_cluster_0, "three of four alike: expected 0.75, found 0.66"),
        (exercises.check_same_share, same_share_in_place, "a mirror, all alike: your function changed its input"),
        (exercises.check_loss_parts, lambda P, a, lam: 0.0, "I/4, alpha 0.5: return three numbers"),
        (exercises.check_loss_parts, lambda P, a, lam: None, "first part: your function returned nothing"),
        (exercises.check_loss_parts, loss_parts_with_nan, "swapped names, alpha 0, third part: expected 0, found nan"),
        (
            exercises.check_loss_parts,
            loss_parts_with_the_sum_over_clusters,
            "I/4, alpha 0.5, third part",
        ),
        (exercises.check_loss_parts, loss_parts_one_marginal_twice, "not symmetric, second part"),
        (exercises.check_loss_parts, lambda P, a, lam: loss_parts(P, a, 1.0), "lambda 2, second part"),
        (exercises.check_local_minima, lambda alpha: None, "alpha 0.0: your function returned nothing"),
        (exercises.check_local_minima, local_minima_inside_only, "alpha 0.0: expected shape .2,., found .0,."),
        (exercises.check_local_minima, local_minima_lowest_only, "alpha 0.*: expected shape .2,., found .1,."),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(check, answer, words):
    with pytest.raises(AssertionError, match=words):
        check(answer)
