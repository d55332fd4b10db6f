"""The checks of lesson 33 pass right answers, and name the fault of each typical wrong one."""

import pytest
import torch
import torch.nn.functional as F

from medssl_nb.exercises import borders_where_the_image_has_edges as exercises


def edge_row(values, power, before=None):
    G = [abs(now - then) for then, now in zip([values[0] if before is None else before, *values], values, strict=False)]
    low, high = min(G), max(G)
    return [((g - low) / (high - low + 1e-6)) ** power for g in G]


def edge_row_wrapped(values, power):
    return edge_row(values, power, before=values[-1])


def edge_row_forward(values, power):
    return edge_row(values[::-1], power)[::-1]


def edge_row_without_power(values, power):
    return edge_row(values, 1)


def edge_row_signed(values, power):
    G = [now - then for then, now in zip([values[0], *values], values, strict=False)]
    low, high = min(G), max(G)
    return [((g - low) / (high - low + 1e-6)) ** power for g in G]


def edge_row_nan(values, power):
    G = torch.tensor(values).diff(prepend=torch.tensor(values[:1])).abs()
    return ((G - G.min()) / (G.max() - G.min())) ** power


def box_sum(x, w):
    for _ in range(2):
        padded = F.pad(x, (0, 0, w // 2, w // 2))
        x = sum(padded[k : k + len(x)] for k in range(w)).T
    return x


def box_sum_in_place(x, w):
    return x.copy_(box_sum(x, w))


def basin(losses, least=0.001):
    s = 0
    while s + 1 < len(losses) and losses[s + 1] - losses[s] > least:
        s += 1
    return s


def plain_correlation(E, J, window, eps=1e-5, padded=True):
    def sums(x):
        return F.avg_pool2d(x, window, stride=1, padding=window // 2, count_include_pad=padded) * n

    n = window**2
    cross = sums(E * J) - sums(E) * sums(J) / n
    v_E, v_J = (sums(x * x) - sums(x).square() / n for x in (E, J))
    return cross / (v_E.clamp(min=eps) * v_J.clamp(min=eps)).sqrt()


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (exercises.check_edge_row, edge_row),
        (exercises.check_box_sum, box_sum),
        (exercises.check_basin, basin),
        (exercises.check_plain_correlation, plain_correlation),
    ],
)
def test_right_answers_pass_and_say_so(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.endswith("cases right.\n")


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (exercises.check_edge_row, lambda v, p: None, "the row of the lesson: your function returned nothing"),
        (exercises.check_edge_row, edge_row_wrapped, "the row of the lesson: expected 0.*found 1"),
        (exercises.check_edge_row, edge_row_forward, r"the row of the lesson: expected 1 at \(3,\), found 0"),
        (exercises.check_edge_row, edge_row_without_power, "a power above 1: expected 0.5625.*found 0.75"),
        (exercises.check_edge_row, edge_row_signed, "downhill counts like uphill: expected"),
        (exercises.check_edge_row, edge_row_nan, "a constant row: expected 0.*found nan"),
        (exercises.check_box_sum, lambda x, w: None, "returned nothing"),
        (exercises.check_box_sum, lambda x, w: box_sum(x, w) / w**2, "a single 1.*expected 1"),
        (exercises.check_box_sum, lambda x, w: box_sum(x, w)[1:-1, 1:-1], r"expected shape \(5, 5\)"),
        (exercises.check_box_sum, lambda x, w: box_sum(x, w).T, r"all ones.*expected shape \(4, 6\)"),
        (exercises.check_box_sum, lambda x, w: box_sum(x, 3), "window 5: expected"),
        (exercises.check_box_sum, box_sum_in_place, "changed its input"),
        (exercises.check_basin, lambda losses, least=0.001: None, "returned nothing"),
        (exercises.check_basin, lambda losses, least=0.001: int(losses.argmax()), "second pit.*expected 1, found 4"),
        (exercises.check_basin, lambda losses, least=0.001: basin(losses, 0), "not quite flat: expected 1, found 3"),
        (exercises.check_basin, lambda losses, least=0.001: basin(losses), "least = 0.15: expected 1, found 2"),
        (exercises.check_plain_correlation, lambda E, J, w: None, "the same place.*returned nothing"),
        (exercises.check_plain_correlation, lambda E, J, w: plain_correlation(E, J, w) ** 2, "one voxel off.*-0.125"),
        (exercises.check_plain_correlation, lambda E, J, w: plain_correlation(E, J, w).abs(), "one voxel off.*-0.125"),
        (exercises.check_plain_correlation, lambda E, J, w: plain_correlation(E, J, w).clamp(0), "one voxel off"),
        (exercises.check_plain_correlation, lambda E, J, w: plain_correlation(E, J, w, eps=0), "flat against flat"),
        (
            exercises.check_plain_correlation,
            lambda E, J, w: plain_correlation(E, J, w, padded=False),
            "the corner.*expected 1",
        ),
        (
            exercises.check_plain_correlation,
            lambda E, J, w: plain_correlation(E, J, w).mean(0, keepdim=True),
            "expected shape",
        ),
    ],
)
def test_wrong_answers_are_told_what_is_wrong(check, answer, words):
    with pytest.raises(AssertionError, match=words):
        check(answer)
