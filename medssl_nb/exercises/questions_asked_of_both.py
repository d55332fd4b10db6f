"""Exercises of lesson 54."""

from collections.abc import Callable

import numpy as np

from medssl_nb.exercises.compare import expect, well_done


def check_answers(answers: Callable) -> None:
    """`answers(query, context, num_heads)` -> multi-head attention with identity matrices, (N_q, D)."""
    import torch

    plane = torch.tensor([[1.0, 0], [0, 1], [-1, 1]])
    cases = {
        "the question of the lesson": ([[2.0, 0]], plane, 1),
        "two heads of one number": ([[2.0, 0]], plane, 2),
        "one token": ([[2.0, 0], [-3, 1]], plane[1:2], 1),
        "two heads of three numbers": (_numbers(5, 6), _numbers(4, 6, seed=1), 2),
        "three heads of two numbers": (_numbers(5, 6), _numbers(4, 6, seed=1), 3),
        "large scores": ([[900.0, 0]], plane, 1),
    }
    for case, (query, context, heads) in cases.items():
        query = torch.as_tensor(query)
        expect(case, answers(query.clone(), context.clone(), heads), _answers(query, context, heads), tolerance=1e-4)
    well_done("answers", len(cases))


def check_casa_parameters(casa_parameters: Callable) -> None:
    """`casa_parameters(dim, hidden_dim, num_heads, head_dim)` -> parameters that take part, and the unused ones."""
    cases = {
        "the released sizes": (512, 2048, 8, 64),
        "this lesson's sizes": (64, 128, 4, 16),
        "six heads of 10, width 64": (64, 128, 6, 10),
        "the smallest": (1, 1, 1, 1),
    }
    for case, (dim, hidden, heads, head) in cases.items():
        found = casa_parameters(dim, hidden, heads, head)
        if not (isinstance(found, tuple | list) and len(found) == 2):
            raise AssertionError(f"{case}: return two numbers: `return used, unused`.")
        used = 4 * dim * heads * head + 2 * dim * hidden + hidden + dim + 4 * dim
        unused = 2 * (hidden**2 + hidden + dim**2 + dim)
        for name, value, right in zip(("used", "unused"), found, (used, unused), strict=True):
            expect(f"{case}, {name}", value, right, tolerance=0.5)
    well_done("casa_parameters", len(cases))


def check_one_token_answer(one_token_answer: Callable) -> None:
    """`one_token_answer(casa, query, token)` -> `casa.attend(query, token)`, without looking at scores."""
    import torch

    from medssl_nb.methods.alice import CASA

    sizes = {
        "the sizes of the lesson": (64, 128, 4, 16, 1, 8),
        "two samples": (64, 128, 4, 16, 2, 8),
        "heads times head size is not the width": (6, 8, 2, 5, 2, 3),
        "one question": (6, 8, 2, 3, 1, 1),
    }
    for seed, (case, (dim, hidden, heads, head, samples, questions)) in enumerate(sizes.items()):
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            casa = CASA(dim, hidden, heads, head).eval()
            for parameter in casa.parameters():  # gains and offsets of its norms count
                parameter += 0.1 * torch.randn_like(parameter)
        query, token = _numbers(samples, questions, dim), _numbers(samples, 1, dim, seed=1)
        with torch.no_grad():
            expected = casa.attend(query, token)
            torch.nn.init.constant_(casa.query_proj.weight, torch.nan)
            torch.nn.init.constant_(casa.key_proj.weight, torch.nan)
            found = one_token_answer(casa, query.clone(), token.clone())
        expect(case, found, expected, tolerance=1e-4)
    well_done("one_token_answer", len(sizes))


def check_patch_loss_of(patch_loss_of: Callable) -> None:
    """`patch_loss_of(student_answers, teacher_answers, center)` -> scalar; a gradient for the student only."""
    import torch

    random = _numbers(4, 3, 8), _numbers(4, 3, 8, seed=1), torch.zeros(1, 1, 8)
    cases = {
        "unrelated answers": random,
        "equal answers": (random[0], random[0], random[2]),
        "a centre that is not 0": (*random[:2], _numbers(1, 1, 8, seed=2)),
        "large answers": (30 * random[0], 30 * random[1], random[2]),
        "one position": (random[0][:2, :1], random[1][:2, :1], random[2]),
    }
    for case, (student, teacher, centre) in cases.items():
        S, T = (x.clone().requires_grad_() for x in (student, teacher))
        found = patch_loss_of(S, T, centre.clone())
        P, log_p = ((teacher - centre) / 0.01).softmax(-1), (student / 0.1).log_softmax(-1)
        detached = found.detach() if isinstance(found, torch.Tensor) else found
        expect(case, detached, -(P * log_p).sum(-1).mean(), tolerance=1e-3)
        if not (isinstance(found, torch.Tensor) and found.requires_grad):
            raise AssertionError(f"{case}: no gradient reaches the student's answers; return a tensor, undetached.")
        found.backward()
        if T.grad is not None:
            raise AssertionError(f"{case}: a gradient reached the teacher's answers. Use `.detach()`.")
        if S.grad is None:
            raise AssertionError(f"{case}: no gradient reached the student's answers; detach the teacher's only.")
        expect(f"{case}, gradient", S.grad, (log_p.exp() - P) / 0.1 / P[..., 0].numel(), tolerance=1e-4)
    well_done("patch_loss_of", len(cases))


def _numbers(*shape: int, seed: int = 0):
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _answers(query, context, heads: int) -> np.ndarray:
    q, c = (x.double().numpy() for x in (query, context))
    found = []
    for block in np.split(np.arange(q.shape[1]), heads):
        scores = q[:, block] @ c[:, block].T / np.sqrt(len(block))
        share = np.exp(scores - scores.max(axis=1, keepdims=True))
        found.append(share / share.sum(axis=1, keepdims=True) @ c[:, block])
    return np.concatenate(found, axis=1)
