"""The checks of lesson 54 pass right answers, and name the fault of each typical wrong one."""

import math

import pytest
import torch
from torch.nn import functional as F

from medssl_nb.exercises import questions_asked_of_both as exercises


def answers(query, context, heads, scale=None, blocks=True):
    d = query.shape[1] // heads
    blocks = [slice(h * d, (h + 1) * d) if blocks else slice(h, None, heads) for h in range(heads)]
    parts = [(query[:, b] @ context[:, b].T / (scale or math.sqrt(d))).softmax(1) @ context[:, b] for b in blocks]
    return torch.cat(parts, dim=1)


def naive(query, context, heads):
    d = query.shape[1] // heads
    found = []
    for b in (slice(h * d, (h + 1) * d) for h in range(heads)):
        e = (query[:, b] @ context[:, b].T / math.sqrt(d)).exp()
        found.append(e / e.sum(1, keepdim=True) @ context[:, b])
    return torch.cat(found, dim=1)


def casa_parameters(dim, hidden, heads, head):
    used = 4 * dim * heads * head + (dim + 1) * hidden + (hidden + 1) * dim + 4 * dim
    return used, 2 * hidden * (hidden + 1) + 2 * dim * (dim + 1)


def one_token_answer(casa, query, token, residual=True):
    a = casa.out_proj(casa.value_proj(token))
    u = casa.attention_norm(query * residual + a)
    return casa.ffn_norm(u + casa.ffn_out(F.relu(casa.ffn_in(u))))


def patch_loss_of(S, T, center, *, student=0.1, teacher=0.01, detach=True):
    P = (((T.detach() if detach else T) - center) / teacher).softmax(-1)
    return -(P * (S / student).log_softmax(-1)).sum(-1).mean()


RIGHT = {
    exercises.check_answers: answers,
    exercises.check_casa_parameters: casa_parameters,
    exercises.check_one_token_answer: one_token_answer,
    exercises.check_patch_loss_of: patch_loss_of,
}
WRONG = [
    (exercises.check_answers, lambda q, c, h: None, "of the lesson: your function returned nothing"),
    (exercises.check_answers, lambda q, c, h: answers(q, c, h, scale=1), "of the lesson: expected 0.72"),
    (exercises.check_answers, lambda q, c, h: answers(q, c, 1), "two heads of one number: expected"),
    (exercises.check_answers, lambda q, c, h: answers(q, c, h, scale=q.shape[1] ** 0.5), "two heads of one number"),
    (exercises.check_answers, lambda q, c, h: answers(q, c, h, blocks=False), "two heads of three numbers"),
    (exercises.check_answers, naive, "large scores: expected 1.* found nan"),
    (exercises.check_casa_parameters, lambda *sizes: casa_parameters(*sizes)[0], "return two numbers"),
    (
        exercises.check_casa_parameters,
        lambda d, f, h, k: (casa_parameters(d, f, h, k)[0] + 4 * d, casa_parameters(d, f, h, k)[1]),
        "released sizes, used: expected 3.15034e\\+06, found 3.15238e\\+06",
    ),
    (
        exercises.check_casa_parameters,
        lambda d, f, h, k: casa_parameters(d, f, 1, d),
        "six heads of 10, width 64, used",
    ),
    (
        exercises.check_casa_parameters,
        lambda d, f, h, k: (casa_parameters(d, f, h, k)[0], 2 * f * f + 2 * d * d),
        "released sizes, unused: expected 8.91802e\\+06",
    ),
    (exercises.check_one_token_answer, lambda *given: None, "returned nothing"),
    (exercises.check_one_token_answer, lambda c, q, t: one_token_answer(c, q, t, residual=False), "sizes of the"),
    (exercises.check_one_token_answer, lambda c, q, t: c.attend(q, t), "found nan"),
    (exercises.check_one_token_answer, lambda c, q, t: one_token_answer(c, q, t[:1]), "two samples: expected"),
    (exercises.check_patch_loss_of, lambda S, T, c: None, "unrelated answers: your function returned nothing"),
    (exercises.check_patch_loss_of, lambda *a: patch_loss_of(*a, detach=False), "a gradient reached the teacher's"),
    (exercises.check_patch_loss_of, lambda S, T, c: patch_loss_of(S, T, 0 * c), "a centre that is not 0: expected"),
    (exercises.check_patch_loss_of, lambda *a: patch_loss_of(*a, student=1.0), "unrelated answers: expected"),
    (exercises.check_patch_loss_of, lambda *a: patch_loss_of(*a, teacher=0.1), "unrelated answers: expected"),
    (exercises.check_patch_loss_of, lambda *a: patch_loss_of(*a).item(), "no gradient reaches the student's"),
    (
        exercises.check_patch_loss_of,
        lambda S, T, c: patch_loss_of(S.detach(), T, c) + 0 * T.detach().requires_grad_().sum(),
        "no gradient reached the student's",
    ),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT.items())
def test_right_answers_pass_and_say_so(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.endswith("cases right.\n")


@pytest.mark.parametrize(("check", "answer", "words"), WRONG)
def test_wrong_answers_are_told_what_is_wrong(check, answer, words):
    with pytest.raises(AssertionError, match=words):
        check(answer)


def test_the_released_block_has_three_million_parameters_that_count():
    from medssl_nb.methods.alice import CASA

    used, unused = casa_parameters(512, 2048, 8, 64)
    assert used == sum(p.numel() for p in CASA().parameters())
    assert (round(unused / 1e6, 1), round((used + unused) / 1e6, 1)) == (8.9, 12.1)
