"""Weights of hard patches, their order, and the two opinions: reference numbers, hand values, laws, edges, messages."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from medssl_nb.methods.adaptive_masking import (
    adaptive_masking_loss,
    category_consistency_loss,
    hard_patches,
    masked_reconstruction_loss,
    patchify,
    reconstruction_error,
    relative_ranking_loss,
    relative_reconstruction_loss,
    relative_weights,
)

REFERENCE = np.load(Path(__file__).parents[2] / "reference" / "adaptive_masking.npz", allow_pickle=False)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
PRECISION = [(torch.float64, 1e-8, 1e-8), (torch.float32, 1e-5, 1e-4)]  # values; gradients and weights
HALF = [torch.float16, torch.bfloat16]
KINDS = ["relative", "attention"]


def stored(name, dtype=None, device="cpu"):
    value = torch.from_numpy(np.asarray(REFERENCE[f"losses__basic__{name}"])).to(device)
    return value.to(dtype) if dtype and value.is_floating_point() else value


def basic(dtype=torch.float64, device="cpu"):
    """Inputs of all losses: errors (B, N) = (2, 16), mask, lesion, targets, tokens, scores."""
    names = ("prediction", "target", "mask", "lesion", "valid", "tokens", "scores", "soft_targets")
    inputs = {name: stored(name, dtype, device) for name in names}
    inputs["errors"] = reconstruction_error(inputs["prediction"], inputs["target"])
    return inputs


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def chance(*shape, seed=0, share=0.5):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < share


def close(found, expected, tolerance):
    torch.testing.assert_close(found.cpu(), expected, rtol=tolerance, atol=tolerance)


# --- the plain loss: what its own tests leave open ---


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-8), (torch.float32, 1e-5)])
@pytest.mark.parametrize("name", ["l2", "l2_normalized"])
def test_errors_of_image_patches_match_the_reference(name, dtype, tolerance):
    prefix = "masked_reconstruction_loss__image__"
    image, prediction, expected, loss = (
        torch.from_numpy(np.asarray(REFERENCE[prefix + key])).to(dtype)
        for key in ("image", "prediction", f"{name}_errors", name)
    )
    mask = torch.from_numpy(REFERENCE[prefix + "mask"]).bool()
    errors = reconstruction_error(prediction, patchify(image, 4), "l2", name != "l2")
    close(torch.where(mask, errors, 0), expected, tolerance)
    close(masked_reconstruction_loss(errors, mask), loss, tolerance)


@pytest.mark.parametrize("kind", ["l2", "l1"])
@pytest.mark.parametrize("normalize", [True, False])
def test_error_gradients_are_right_and_reach_the_prediction_only(kind, normalize):
    prediction, target = noise(2, 3, 4).requires_grad_(), noise(2, 3, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: reconstruction_error(p, target.detach(), kind, normalize), prediction)
    reconstruction_error(prediction, target, kind, normalize).sum().backward()
    assert target.grad is None
    assert prediction.grad.abs().min() > 0


def test_a_normalized_target_has_mean_0_and_unbiased_variance_1():
    target = torch.tensor([[[1.0, 3.0], [5.0, 5.0]]], dtype=torch.float64)
    errors = reconstruction_error(torch.zeros_like(target), target, normalize_target=True)
    assert errors[0].tolist() == [pytest.approx(1 / (2 + 1e-6)), 0.0]  # variance 2, not 1; a constant patch is zeros


# --- weights ---


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype, value, fine", PRECISION)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_losses_match_the_reference(kind, dtype, value, fine, device):
    given = basic(dtype, device)
    for s, strength in enumerate(stored(f"strengths_{kind}").tolist()):
        weights = relative_weights(given["errors"], given["mask"], kind, strength)
        loss = relative_reconstruction_loss(given["errors"], given["mask"], kind, strength)
        assert weights.dtype == loss.dtype == dtype
        assert weights.device == loss.device == given["mask"].device
        close(weights, stored(f"weights_{kind}", dtype)[s], fine)
        close(loss, stored(f"loss_{kind}", dtype)[s], value)


@pytest.mark.parametrize("dtype, value, fine", PRECISION)
def test_the_gradient_matches_the_reference(dtype, value, fine):
    given = basic(dtype)
    prediction = given["prediction"].requires_grad_()
    relative_reconstruction_loss(reconstruction_error(prediction, given["target"]), given["mask"]).backward()
    close(prediction.grad, stored("loss_relative_strength1_grad_prediction", dtype), fine)


def test_weights_by_hand():
    errors = torch.tensor([[1.0, 3.0, 8.0, 100.0], [2.0, 50.0, 2.0, 2.0]], dtype=torch.float64)
    mask = torch.tensor([[True, True, True, False], [True, False, True, False]])
    close(relative_weights(errors, mask), torch.tensor([[0.25, 0.75, 2.0, 0], [1, 0, 1, 0]]).double(), 1e-12)
    squares = torch.tensor([3 * 1 / 74, 3 * 9 / 74, 3 * 64 / 74, 0], dtype=torch.float64)
    close(relative_weights(errors, mask, strength=2)[0], squares, 1e-12)
    softmax = 3 * torch.tensor([0.25, 0.75, 2.0], dtype=torch.float64).softmax(0)
    close(relative_weights(errors, mask, "attention")[0, :3], softmax, 1e-12)
    # sums are pooled: (1/4 + 9/4 + 16 + 2 + 2) / 5 hidden patches
    assert float(relative_reconstruction_loss(errors, mask)) == pytest.approx(22.5 / 5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, 4.0])
def test_weights_average_1_in_each_volume_and_carry_no_gradient(kind, strength):
    errors, mask = noise(5, 30).square().requires_grad_(), chance(5, 30, share=0.4)
    weights = relative_weights(errors, mask, kind, strength)
    assert not weights.requires_grad
    assert (weights[~mask] == 0).all()
    assert (weights >= 0).all()
    close(weights.sum(1) / mask.sum(1), torch.ones(5, dtype=torch.float64), 1e-12)
    in_order = errors.detach()[0][mask[0]].argsort()
    assert (weights[0][mask[0]][in_order].diff() >= -1e-12).all()  # harder never weighs less


@pytest.mark.parametrize("kind", KINDS)
def test_strength_0_is_the_plain_loss(kind):
    errors, mask = noise(3, 20).square(), chance(3, 20)
    errors[0, :5] = 0  # 0 to the power of 0 is 1 here
    assert torch.equal(relative_weights(errors, mask, kind, 0.0), mask.double())
    plain = masked_reconstruction_loss(errors, mask)
    close(relative_reconstruction_loss(errors, mask, kind, 0.0), plain, 1e-12)


def test_with_strength_1_the_loss_is_the_mean_square_over_the_mean():
    for seed in range(5):
        errors, mask = noise(1, 20, seed=seed).square(), chance(1, 20, seed=seed)
        hidden = errors[mask]
        loss = relative_reconstruction_loss(errors, mask)
        close(loss, hidden.square().mean() / hidden.mean(), 1e-12)
        assert loss > masked_reconstruction_loss(errors, mask)
    even = torch.full((1, 20), 3.0, dtype=torch.float64)
    close(relative_reconstruction_loss(even, mask), torch.tensor(3.0, dtype=torch.float64), 1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [1e-12, 0.01, 500.0, 1e12])
def test_the_size_of_the_errors_does_not_change_the_weights(kind, factor):
    errors, mask = noise(4, 25, dtype=torch.float32).square(), chance(4, 25)
    expected = relative_weights(errors, mask, kind, 1.5)
    close(relative_weights(factor * errors, mask, kind, 1.5), expected, 1e-4)
    each = torch.tensor([[1.0], [factor], [2.0], [1.0]])  # each volume has its own ruler
    close(relative_weights(each * errors, mask, kind, 1.5), expected, 1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strength", [0.5, 1.0, 3.0])
def test_the_gradient_is_the_plain_gradient_times_the_weight(kind, strength):
    prediction, target, mask = noise(2, 10, 4).requires_grad_(), noise(2, 10, 4, seed=1), chance(2, 10)
    errors = reconstruction_error(prediction, target)
    weights = relative_weights(errors, mask, kind, strength)
    (plain,) = torch.autograd.grad(masked_reconstruction_loss(errors, mask), prediction, retain_graph=True)
    (weighted,) = torch.autograd.grad(relative_reconstruction_loss(errors, mask, kind, strength), prediction)
    close(weighted, weights[..., None] * plain, 1e-12)
    assert (weighted[~mask] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("strength", [60.0, 500.0])
def test_great_strength_leaves_finite_weights_that_average_1(kind, dtype, strength):
    errors = torch.tensor([[0.0, 1e-3, 1.0, 100.0] + [0.1] * 60], dtype=dtype).requires_grad_()
    mask = torch.ones(1, 64, dtype=torch.bool)
    weights = relative_weights(errors, mask, kind, strength)
    assert float(weights.sum()) == pytest.approx(64, rel=1e-5)
    assert float(weights[0, 3]) == pytest.approx(64, rel=1e-5)  # all on the hardest patch
    relative_reconstruction_loss(errors, mask, kind, strength).backward()
    assert errors.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_visible_errors_move_nothing(kind):
    errors, mask = noise(2, 12).square(), chance(2, 12)
    weights = relative_weights(errors, mask, kind)
    loss = relative_reconstruction_loss(errors, mask, kind)
    for value in (1e9, math.inf):
        changed = torch.where(mask, errors, value)
        assert torch.equal(relative_weights(changed, mask, kind), weights)
        assert torch.equal(relative_reconstruction_loss(changed, mask, kind), loss)
        assert torch.equal(hard_patches(changed, mask), hard_patches(errors, mask))


# --- hard patches ---


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_hard_patches_match_the_reference(dtype, device):
    given = basic(dtype, device)
    for t, threshold in enumerate(stored("thresholds").tolist()):
        found = hard_patches(given["errors"], given["mask"], threshold)
        assert (found.dtype, found.device) == (torch.bool, given["mask"].device)
        assert torch.equal(found.cpu(), stored("hard")[t])


def test_hard_patches_by_hand():
    errors = torch.tensor([[1.0, 2.0, 6.0, 99.0], [99.0, 98.0, 3.0, 97.0]])
    mask = torch.tensor([[True, True, True, False], [True, True, False, True]])
    # mean 3, deviation sqrt(14 / 3) = 2.16; mean 98, deviation 0.82
    assert hard_patches(errors, mask).tolist() == [[False, False, True, False], [True, False, False, False]]
    assert hard_patches(errors, mask, 1.3).tolist() == [[False, False, True, False], [False] * 4]
    assert hard_patches(errors, mask, 1.39).tolist() == [[False] * 4] * 2  # population, not sample deviation: 1.388
    assert hard_patches(errors, mask, -0.4).tolist() == [[False, False, True, False], [True, True, False, False]]
    assert hard_patches(errors, mask, -5).tolist() == mask.tolist()


@pytest.mark.parametrize("threshold", [-0.5, 0.0, 1.0])
def test_hardness_is_measured_within_the_volume(threshold):
    errors, mask = noise(4, 40).square(), chance(4, 40)
    found = hard_patches(errors, mask, threshold)
    for e, m, hard in zip(errors, mask, found, strict=True):
        limit = e[m].mean() + threshold * e[m].std(correction=0)
        assert torch.equal(hard, m & (e > limit))
    factors = torch.tensor([[1.0], [1e-6], [30.0], [1e8]]).double()
    assert torch.equal(hard_patches(factors * errors, mask, threshold), found)


# --- ranking ---


def ranking_by_hand(scores, errors, mask, epsilon=1e-6):
    """One ordered pair at a time."""
    terms = []
    for s, e, m in zip(scores.tolist(), errors.tolist(), mask.tolist(), strict=True):
        hidden = [i for i in range(len(m)) if m[i]]
        for i in hidden:
            for j in hidden:
                right = 1 / (1 + math.exp(s[i] - s[j]))
                if e[j] > e[i]:
                    terms.append(-math.log(right + epsilon))
                if e[j] < e[i]:
                    terms.append(-math.log(1 - right + epsilon))
    return sum(terms) / max(1, len(terms))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype, value, fine", PRECISION)
def test_ranking_matches_the_reference(dtype, value, fine, device):
    given = basic(dtype, device)
    scores = given["scores"].requires_grad_()
    loss = relative_ranking_loss(scores, given["errors"], given["mask"])
    assert (loss.dtype, loss.device) == (dtype, scores.device)
    close(loss, stored("ranking", dtype), value)
    loss.backward()
    close(scores.grad, stored("ranking_grad_scores", dtype), fine)


def test_ranking_by_hand():
    scores, errors = torch.tensor([[0.0, 1.0, 9.0]]), torch.tensor([[1.0, 2.0, 1.5]])
    mask = torch.tensor([[True, True, False]])
    in_order = -math.log(1 / (1 + math.exp(-1)) + 1e-6)  # both ordered pairs say the same
    assert float(relative_ranking_loss(scores, errors, mask)) == pytest.approx(in_order, rel=1e-6)
    out_of_order = -math.log(1 / (1 + math.exp(1)) + 1e-6)
    assert float(relative_ranking_loss(-scores, errors, mask)) == pytest.approx(out_of_order, rel=1e-6)
    assert float(relative_ranking_loss(0 * scores, errors, mask)) == pytest.approx(math.log(2), rel=1e-5)
    with_epsilon = -math.log(1 / (1 + math.exp(1)) + 0.1)
    assert float(relative_ranking_loss(-scores, errors, mask, 0.1)) == pytest.approx(with_epsilon, rel=1e-6)


def test_pairs_are_pooled_over_the_batch_and_equal_errors_make_no_pair():
    scores, errors, mask = noise(4, 12), noise(4, 12, seed=1).abs().mul(3).round(), chance(4, 12, seed=2)
    mask[3] = False
    assert float(relative_ranking_loss(scores, errors, mask)) == pytest.approx(ranking_by_hand(scores, errors, mask))


def test_only_the_order_of_the_errors_counts():
    scores, errors, mask = noise(3, 15), noise(3, 15, seed=1).square(), chance(3, 15, seed=2)
    expected = relative_ranking_loss(scores, errors, mask)
    close(relative_ranking_loss(scores, errors.sqrt() * 50 + 3, mask), expected, 1e-12)
    close(relative_ranking_loss(scores + 7, errors, mask), expected, 1e-12)  # and only differences of scores
    assert relative_ranking_loss(100 * errors, errors, mask) < expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_far_apart_cost_at_most_the_logarithm_of_epsilon(dtype):
    scores = torch.tensor([[0.0, 1e4]], dtype=dtype).requires_grad_()
    mask = torch.ones(1, 2, dtype=torch.bool)
    wrong = relative_ranking_loss(scores, torch.tensor([[2.0, 1.0]], dtype=dtype), mask)
    assert float(wrong.detach()) == pytest.approx(-math.log(1e-6), rel=1e-5)
    right = relative_ranking_loss(scores, torch.tensor([[1.0, 2.0]], dtype=dtype), mask)
    assert float(right.detach()) == pytest.approx(0, abs=2e-6)
    (wrong + right).backward()
    assert scores.grad.isfinite().all()


def test_small_chances_are_not_rounded_away():
    # sigmoid(-17) = 4.1e-8 is lost beside 1 in float32, not beside epsilon 1e-9
    scores, mask = torch.tensor([[0.0, 17.0]]), torch.ones(1, 2, dtype=torch.bool)
    wrong = relative_ranking_loss(scores, torch.tensor([[2.0, 1.0]]), mask, 1e-9)
    assert float(wrong) == pytest.approx(-math.log(1 / (1 + math.exp(17)) + 1e-9), rel=1e-6)


def test_ranking_gradient_reaches_the_scores_of_hidden_patches_only():
    scores, errors, mask = noise(2, 8).requires_grad_(), noise(2, 8, seed=1).square().requires_grad_(), chance(2, 8)
    relative_ranking_loss(scores, errors, mask).backward()
    assert errors.grad is None
    assert (scores.grad[~mask] == 0).all()
    assert (scores.grad[mask] != 0).any()
    assert torch.autograd.gradcheck(lambda s: relative_ranking_loss(s, errors.detach(), mask), scores)


# --- consistency ---


def consistency_by_hand(tokens, lesion, targets, mask, temperature=0.1, valid=None):
    """One volume at a time, the formulas of the method."""
    valid = torch.ones_like(mask) if valid is None else valid
    total, count = tokens.new_zeros(()), 0
    for z, c, h, m, v in zip(tokens, lesion, targets.to(tokens.dtype), mask, valid, strict=True):
        if not (c & v).any() or not (~c & v).any():
            continue
        z = z / z.norm(dim=1, keepdim=True).clamp(min=1e-12)
        prototypes = torch.stack([z[v & ~c].sum(0), z[v & c].sum(0)]).detach()
        prototypes = prototypes / prototypes.norm(dim=1, keepdim=True)
        log_q = (z @ prototypes.T / temperature).log_softmax(1)
        total = total - (h * log_q[:, 1] + (1 - h) * log_q[:, 0])[m & v].sum()
        count += int((m & v).sum())
    return total / max(1, count)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype, value, fine", PRECISION)
@pytest.mark.parametrize("case", ["hard 0", "hard 1", "valid", "soft"])
def test_consistency_matches_the_reference(case, dtype, value, fine, device):
    given = basic(dtype, device)
    tokens = given["tokens"].requires_grad_()
    targets, temperature, valid = hard_patches(given["errors"], given["mask"]), 0.1, None
    kind, *which = case.split()
    expected, gradient = stored(f"consistency_{kind}", dtype), stored(f"consistency_{kind}_grad_tokens", dtype)
    if which:
        t = int(which[0])
        expected, gradient, temperature = expected[t], gradient[t], float(stored("temperatures")[t])
    if kind == "valid":
        valid = given["valid"]
    if kind == "soft":
        targets = given["soft_targets"]
    loss = category_consistency_loss(tokens, given["lesion"], targets, given["mask"], temperature, valid)
    assert (loss.dtype, loss.device) == (dtype, tokens.device)
    close(loss, expected, value)
    loss.backward()
    close(tokens.grad, gradient, fine)


def test_consistency_by_hand():
    right, up = [3.0, 0.0], [0.0, 0.5]
    tokens = torch.tensor([[right, right, up, up]], dtype=torch.float64)
    lesion = torch.tensor([[True, True, False, False]])
    one = torch.tensor([[True, False, False, False]])
    # the token lies on the lesion prototype, at a right angle to the other: softmax of (0, 1)
    agrees = category_consistency_loss(tokens, lesion, lesion, one, temperature=1.0)
    assert float(agrees) == pytest.approx(math.log(1 + math.exp(-1)))
    differs = category_consistency_loss(tokens, lesion, ~lesion, one, temperature=1.0)
    assert float(differs) == pytest.approx(math.log(1 + math.e))
    half = category_consistency_loss(tokens, lesion, torch.full((1, 4), 0.5), one, temperature=0.5)
    assert float(half) == pytest.approx((math.log(1 + math.exp(-2)) + math.log(1 + math.exp(2))) / 2)


@pytest.mark.parametrize("with_valid", [True, False])
def test_consistency_does_what_the_formulas_say(with_valid):
    tokens, lesion, mask = noise(6, 10, 3).requires_grad_(), chance(6, 10, share=0.3), chance(6, 10, seed=1)
    lesion[1], lesion[2] = False, True  # two volumes that lack a category
    valid = chance(6, 10, seed=2, share=0.7) if with_valid else None
    if with_valid:
        valid[3] = ~lesion[3]  # a third one: no valid lesion patch
    targets = chance(6, 10, seed=3).double() * 0.8 + 0.1
    found = category_consistency_loss(tokens, lesion, targets, mask, 0.2, valid)
    expected = consistency_by_hand(tokens, lesion, targets, mask, 0.2, valid)
    close(found, expected, 1e-10)
    (gradient,) = torch.autograd.grad(found, tokens)
    close(gradient, torch.autograd.grad(expected, tokens)[0], 1e-10)
    moved = gradient.abs().amax(2) > 0
    used = mask if valid is None else mask & valid
    used[[1, 2, 3] if with_valid else [1, 2]] = False
    assert torch.equal(moved, used)


def test_consistency_gradient_reaches_tokens_only():
    tokens, targets = noise(2, 8, 3).requires_grad_(), torch.full((2, 8), 0.3, dtype=torch.float64).requires_grad_()
    lesion, mask = torch.arange(8).expand(2, 8) < 3, chance(2, 8)
    category_consistency_loss(tokens, lesion, targets, mask).backward()
    assert targets.grad is None
    assert tokens.grad[mask].abs().max() > 0
    assert (tokens.grad[~mask] == 0).all()


def test_hard_patches_go_to_the_lesion_prototype_and_easy_ones_to_the_background():
    tokens = noise(1, 12, 4).requires_grad_()
    lesion, mask = torch.arange(12)[None] < 4, torch.ones(1, 12, dtype=torch.bool)
    hard = torch.arange(12)[None] % 2 == 0
    category_consistency_loss(tokens, lesion, hard, mask).backward()
    with torch.no_grad():
        z = torch.nn.functional.normalize(tokens[0], dim=1)
        prototypes = torch.nn.functional.normalize(torch.stack([z[:4].sum(0), z[4:].sum(0)]), dim=1)
        towards = prototypes[0] - prototypes[1]
        step = -(tokens.grad[0] @ towards)
    assert (step[hard[0]] > 0).all()
    assert (step[~hard[0]] < 0).all()


def test_lengths_of_tokens_and_swapped_names_do_not_matter():
    given = basic()
    tokens, lesion, mask, targets = (given[name] for name in ("tokens", "lesion", "mask", "soft_targets"))
    loss = category_consistency_loss(tokens, lesion, targets, mask)
    lengths = noise(2, 16, 1, seed=1).exp()
    close(category_consistency_loss(lengths * tokens, lesion, targets, mask), loss, 1e-10)
    close(category_consistency_loss(tokens, ~lesion, 1 - targets, mask), loss, 1e-10)
    hard = targets > 0.5
    as_numbers = category_consistency_loss(tokens, lesion, hard.double(), mask)
    assert torch.equal(category_consistency_loss(tokens, lesion, hard, mask), as_numbers)


# --- edges that all losses share ---


def all_losses(given, mask):
    """Every loss of `given`, from leaves that ask for a gradient: ({name: loss}, leaves)."""
    prediction, tokens, scores = (given[n].clone().requires_grad_() for n in ("prediction", "tokens", "scores"))
    errors = reconstruction_error(prediction, given["target"])
    both = {"tokens": tokens, "lesion": given["lesion"]}
    losses = {
        "plain": masked_reconstruction_loss(errors, mask),
        "relative": relative_reconstruction_loss(errors, mask),
        "attention": relative_reconstruction_loss(errors, mask, "attention"),
        "ranking": relative_ranking_loss(scores, errors, mask),
        "consistency": category_consistency_loss(tokens, given["lesion"], hard_patches(errors, mask), mask),
        "total": adaptive_masking_loss(prediction, given["target"], mask, **both)["total"],
    }
    return losses, (prediction, tokens, scores)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_empty_mask_gives_0_and_gradients_of_0(dtype):
    given = basic(dtype)
    losses, leaves = all_losses(given, torch.zeros_like(given["mask"]))
    assert {name: float(loss.detach()) for name, loss in losses.items()} == dict.fromkeys(losses, 0.0)
    assert {loss.shape for loss in losses.values()} == {torch.Size()}
    for name, loss in losses.items():
        assert loss.requires_grad, name
        gradients = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True)
        assert any(g is not None for g in gradients), name
        assert all((g == 0).all() for g in gradients if g is not None), name
    assert not relative_weights(given["errors"], torch.zeros_like(given["mask"])).any()
    assert not hard_patches(given["errors"], torch.zeros_like(given["mask"]), -9).any()


def test_a_volume_without_hidden_patches_adds_nothing():
    given = basic()
    mask = given["mask"].clone()
    mask[1] = False
    together, leaves = all_losses(given, mask)
    first = {name: value[:1] for name, value in given.items()}
    alone, _ = all_losses(first, mask[:1])
    for name, loss in together.items():
        close(loss, alone[name].detach(), 1e-10)
    gradients = torch.autograd.grad(sum(together.values()), leaves)
    assert all((g[1] == 0).all() and g.isfinite().all() for g in gradients)


def test_one_hidden_patch_weighs_1_is_not_hard_and_makes_no_pair():
    given = basic()
    mask = torch.zeros_like(given["mask"])
    mask[0, 3] = mask[1, 7] = True
    for kind in KINDS:
        assert torch.equal(relative_weights(given["errors"], mask, kind, 2.0), mask.double())
    for threshold in (-1.0, 0.0, 1.0):
        assert not hard_patches(given["errors"], mask, threshold).any()
    scores = given["scores"].requires_grad_()
    loss = relative_ranking_loss(scores, given["errors"], mask)
    loss.backward()
    assert float(loss.detach()) == 0
    assert (scores.grad == 0).all()


@pytest.mark.parametrize("value", [0.0, 1e-9, 0.1, 1 / 3, 7.7, 12345.678])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_errors_weigh_1_and_none_is_hard(value, dtype):
    errors = torch.full((40, 40), value, dtype=dtype).requires_grad_()
    mask = torch.arange(40) <= torch.arange(40)[:, None]  # 1 to 40 hidden patches: means of many round off
    for kind in KINDS:
        close(relative_weights(errors, mask, kind), mask.to(dtype), 1e-5)
        (gradient,) = torch.autograd.grad(relative_reconstruction_loss(errors, mask, kind), errors)
        close(gradient, mask.to(dtype) / mask.sum(), 1e-5)
    for threshold in (-0.5, 0.0, 1.0):
        assert not hard_patches(errors, mask, threshold).any()
    scores = noise(40, 40, dtype=dtype).requires_grad_()
    assert float(relative_ranking_loss(scores, errors, mask).detach()) == 0


def test_a_perfect_prediction_gives_finite_gradients():
    given = basic()
    given["prediction"] = given["target"].clone()
    losses, leaves = all_losses(given, given["mask"])
    assert [float(losses[name].detach()) for name in ("plain", "relative", "attention", "ranking")] == [0.0] * 4
    gradients = torch.autograd.grad(sum(losses.values()), leaves)
    assert all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tokens_of_length_zero_and_tokens_that_cancel_out(dtype):
    lesion, mask = torch.arange(8)[None] < 4, torch.ones(1, 8, dtype=torch.bool)
    one = noise(1, 8, 3, dtype=dtype)
    one[0, 1] = 0
    lesions = one.clone()
    lesions[0, :4] = 0  # no direction to average
    cancel = one.clone()
    cancel[0, :4] = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 2, 0], [0, -2, 0]])
    for tokens in (one, lesions, cancel, torch.zeros_like(one)):
        tokens.requires_grad_()
        loss = category_consistency_loss(tokens, lesion, ~lesion, mask)
        loss.backward()
        assert loss.isfinite()
        assert tokens.grad.isfinite().all()
    assert float(loss.detach()) == pytest.approx(math.log(2))  # no direction is like either prototype


@pytest.mark.parametrize("dtype", HALF)
def test_half_types_are_computed_in_float32(dtype):
    given = {name: value.to(dtype) if value.is_floating_point() else value for name, value in basic().items()}
    wide = {name: value.float() if value.is_floating_point() else value for name, value in given.items()}
    for name, loss in all_losses(given, given["mask"])[0].items():
        assert loss.dtype == torch.float32, name
        close(loss, all_losses(wide, given["mask"])[0][name].detach(), 1e-6)
    for kind in KINDS:
        weights = relative_weights(given["errors"], given["mask"], kind)
        assert weights.dtype == torch.float32
        assert torch.equal(weights, relative_weights(wide["errors"], given["mask"], kind))
    assert torch.equal(hard_patches(given["errors"], given["mask"]), hard_patches(wide["errors"], given["mask"]))
    losses = adaptive_masking_loss(given["prediction"], given["target"], given["mask"])
    assert losses["errors"].dtype == torch.float32


def test_errors_beyond_the_range_of_float16():
    errors = torch.tensor([[32000.0, 64000.0, 48000.0]], dtype=torch.float16)
    mask = torch.ones(1, 3, dtype=torch.bool)
    close(relative_weights(errors, mask), torch.tensor([[2 / 3, 4 / 3, 1.0]]), 1e-5)
    assert hard_patches(errors, mask).tolist() == [[False, True, False]]
    assert float(relative_reconstruction_loss(errors, mask)) == pytest.approx((32**2 + 64**2 + 48**2) / 3 / 48 * 1000)


def test_autocast_changes_nothing():
    given = basic(torch.float32)
    expected, _ = all_losses(given, given["mask"])
    weights = relative_weights(given["errors"], given["mask"], "attention")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, leaves = all_losses(given, given["mask"])
        assert torch.equal(relative_weights(given["errors"], given["mask"], "attention"), weights)
        half = {name: value.bfloat16() if value.is_floating_point() else value for name, value in given.items()}
        of_half, _ = all_losses(half, half["mask"])
    for name, loss in found.items():
        assert loss.dtype == of_half[name].dtype == torch.float32
        assert torch.equal(loss, expected[name]), name
        close(of_half[name], all_losses(half, half["mask"])[0][name].detach(), 1e-6)
    gradients = torch.autograd.grad(sum(found.values()), leaves)
    assert {g.dtype for g in gradients} == {torch.float32}


def test_inputs_are_left_as_they_were():
    given = basic()
    before = {name: value.clone() for name, value in given.items()}
    errors, mask, lesion, tokens = (given[name] for name in ("errors", "mask", "lesion", "tokens"))
    for kind in KINDS:
        relative_weights(errors, mask, kind, 2.0)
        relative_reconstruction_loss(errors, mask, kind, 2.0)
    hard_patches(errors, mask)
    relative_ranking_loss(given["scores"], errors, mask)
    category_consistency_loss(tokens, lesion, given["soft_targets"], mask, valid=given["valid"])
    adaptive_masking_loss(
        given["prediction"], given["target"], mask, tokens=tokens, lesion=lesion, valid=given["valid"]
    )
    assert all(torch.equal(value, before[name]) for name, value in given.items())


# --- the total ---


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype, value, fine", PRECISION)
def test_totals_match_the_reference(dtype, value, fine, device):
    given = basic(dtype, device)
    inputs = [given[name] for name in ("prediction", "target", "mask")]
    both = {"tokens": given["tokens"], "lesion": given["lesion"]}
    variant = {
        **{"valid": given["valid"], "error": "l1", "weighting": "attention", "strength": 2, "hard_threshold": 0.5},
        **{"temperature": 0.2, "reconstruction_weight": 0, "relative_weight": 1, "consistency_weight": 0.5},
    }
    for name, options in (("total_default", {}), ("total_variant", variant)):
        losses = adaptive_masking_loss(*inputs, **both, **options)
        assert list(losses) == ["total", "reconstruction", "relative", "consistency", "errors", "hard"]
        four = torch.stack([losses[n] for n in ("total", "reconstruction", "relative", "consistency")])
        assert (four.dtype, four.device) == (dtype, given["mask"].device)
        close(four, stored(name, dtype), value)


@pytest.mark.parametrize("normalize", [True, False])
def test_the_total_is_the_weighted_sum_of_the_parts(normalize):
    given = basic()
    inputs = [given[name] for name in ("prediction", "target", "mask")]
    tokens, lesion, valid = (given[name] for name in ("tokens", "lesion", "valid"))
    losses = adaptive_masking_loss(
        *inputs,
        **{"tokens": tokens, "lesion": lesion, "valid": valid, "error": "l1", "normalize_target": normalize},
        **{"strength": 0.5, "hard_threshold": -0.2, "temperature": 0.3},
        **{"reconstruction_weight": 3.0, "relative_weight": 0.25, "consistency_weight": 2.0},
    )
    errors = reconstruction_error(*inputs[:2], "l1", normalize)
    hard = hard_patches(errors, given["mask"], -0.2)
    plain = masked_reconstruction_loss(errors, given["mask"])
    relative = relative_reconstruction_loss(errors, given["mask"], strength=0.5)
    consistency = category_consistency_loss(tokens, lesion, hard, given["mask"], 0.3, valid)
    for name, expected in (
        *{"reconstruction": plain, "relative": relative, "consistency": consistency}.items(),
        *{"total": 3 * plain + 0.25 * relative + 2 * consistency, "errors": errors}.items(),
    ):
        close(losses[name], expected, 1e-12)
    assert torch.equal(losses["hard"], hard)


def test_what_of_the_total_carries_a_gradient():
    given = basic()
    prediction, tokens = given["prediction"].requires_grad_(), given["tokens"].requires_grad_()
    target = given["target"].requires_grad_()
    losses = adaptive_masking_loss(prediction, target, given["mask"], tokens=tokens, lesion=given["lesion"])
    assert all(losses[name].requires_grad for name in ("total", "reconstruction", "relative", "consistency"))
    assert not losses["errors"].requires_grad
    assert losses["hard"].dtype == torch.bool
    (through_hardness,) = torch.autograd.grad(losses["consistency"], prediction, retain_graph=True, allow_unused=True)
    assert through_hardness is None or (through_hardness == 0).all()
    losses["total"].backward()
    assert target.grad is None
    assert (prediction.grad[~given["mask"]] == 0).all()
    assert (tokens.grad[~given["mask"]] == 0).all()
    assert prediction.grad[given["mask"]].abs().min() > 0
    assert tokens.grad.abs().max() > 0


def test_without_tokens_there_is_no_consistency():
    given = basic()
    inputs = [given[name] for name in ("prediction", "target", "mask")]
    inputs[0].requires_grad_()
    losses = adaptive_masking_loss(*inputs)
    assert float(losses["consistency"].detach()) == 0
    assert losses["consistency"].shape == ()
    close(losses["total"], (losses["reconstruction"] + losses["relative"]).detach(), 1e-12)
    losses["total"].backward()
    for missing in ({"tokens": given["tokens"]}, {"lesion": given["lesion"]}):
        with pytest.raises(ValueError, match=r"tokens.*lesion|lesion.*tokens"):
            adaptive_masking_loss(*inputs, **missing)


def test_valid_goes_to_the_consistency_alone():
    given = basic()
    inputs = [given[name] for name in ("prediction", "target", "mask")]
    both = {"tokens": given["tokens"], "lesion": given["lesion"]}
    without = adaptive_masking_loss(*inputs, **both)
    found = adaptive_masking_loss(*inputs, **both, valid=given["valid"])
    for name in ("reconstruction", "relative", "errors", "hard"):
        assert torch.equal(found[name], without[name])
    assert found["consistency"] != without["consistency"]
    nowhere = adaptive_masking_loss(*inputs, **both, valid=torch.zeros_like(given["mask"]))
    assert float(nowhere["consistency"]) == 0


@pytest.mark.parametrize("off", ["reconstruction", "relative", "consistency"])
def test_a_weight_of_0_switches_a_term_off(off):
    given = basic()
    prediction, tokens = given["prediction"].requires_grad_(), given["tokens"].requires_grad_()
    both = {"tokens": tokens, "lesion": given["lesion"]}
    losses = adaptive_masking_loss(prediction, given["target"], given["mask"], **both, **{f"{off}_weight": 0.0})
    weights = {"reconstruction": 1.0, "relative": 1.0, "consistency": 0.1} | {off: 0.0}
    close(losses["total"], sum(w * losses[name].detach() for name, w in weights.items()), 1e-12)
    (gradient,) = torch.autograd.grad(losses["total"], tokens, allow_unused=True)
    if off == "consistency":
        assert gradient is None or (gradient == 0).all()
    else:
        assert gradient.abs().max() > 0


# --- refusals ---

FULL = torch.ones(1, 4, dtype=torch.bool)


@pytest.mark.parametrize("loss", [relative_weights, relative_reconstruction_loss], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"kind": "softmax"}, "kind.*softmax"),
        ({"strength": -1}, "strength.*-1"),
        ({"strength": float("nan")}, "strength.*nan"),
        ({"errors": torch.ones(4)}, r"errors.*\(4,\)"),
        ({"errors": torch.ones(1, 5)}, r"errors.*mask.*\(1, 5\)|mask.*\(1, 4\).*\(1, 5\)|mask.*\(1, 5\).*\(1, 4\)"),
        ({"mask": FULL.float()}, "mask.*float32"),
        ({"mask": FULL.long()}, "mask.*int64"),
        ({"mask": FULL[0]}, r"mask.*\(4,\)"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_weights_refuse(loss, arguments, message):
    with pytest.raises(ValueError, match=message):
        loss(**({"errors": torch.ones(1, 4), "mask": FULL} | arguments))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"errors": torch.ones(4)}, r"errors.*\(4,\)"),
        ({"mask": FULL[:, :3]}, r"mask.*\(1, 3\)"),
        ({"mask": FULL.float()}, "mask.*float32"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_hardness_and_ranking_refuse(arguments, message):
    given = {"errors": torch.ones(1, 4), "mask": FULL} | arguments
    with pytest.raises(ValueError, match=message):
        hard_patches(**given)
    with pytest.raises(ValueError, match=message):
        relative_ranking_loss(scores=torch.ones(1, 4), **given)
    with pytest.raises(ValueError, match=r"scores.*\(1, 3\)"):
        relative_ranking_loss(torch.ones(1, 3), torch.ones(1, 4), FULL)
    with pytest.raises(ValueError, match=r"scores.*\(1, 4, 1\)"):
        relative_ranking_loss(torch.ones(1, 4, 1), torch.ones(1, 4), FULL)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"tokens": torch.ones(1, 4)}, r"tokens.*\(1, 4\)"),
        ({"tokens": torch.ones(1, 5, 3)}, r"\(1, 5\).*\(1, 4\)"),
        ({"lesion": FULL.float()}, "lesion.*float32"),
        ({"lesion": FULL[:, :3]}, r"lesion.*\(1, 3\)"),
        ({"mask": FULL.float()}, "mask.*float32"),
        ({"mask": FULL[:, :3]}, r"mask.*\(1, 3\)"),
        ({"valid": FULL.float()}, "valid.*float32"),
        ({"valid": FULL[0]}, r"valid.*\(4,\)"),
        ({"targets": torch.ones(1, 3)}, r"targets.*\(1, 3\)"),
        ({"targets": torch.full((1, 4), 1.5)}, r"targets.*1\.5"),
        ({"targets": torch.full((1, 4), -0.5)}, r"targets.*-0\.5"),
        ({"temperature": 0}, "temperature.*0"),
        ({"temperature": -0.1}, r"temperature.*-0\.1"),
        ({"temperature": float("nan")}, "temperature.*nan"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_consistency_refuses(arguments, message):
    given = {"tokens": torch.ones(1, 4, 3), "lesion": FULL, "targets": FULL, "mask": FULL}
    with pytest.raises(ValueError, match=message):
        category_consistency_loss(**(given | arguments))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"prediction": torch.ones(1, 4)}, r"prediction.*\(1, 4\)"),
        ({"target": torch.ones(1, 4, 3)}, r"target.*\(1, 4, 3\)"),
        ({"mask": FULL.float()}, "mask.*float32"),
        ({"mask": FULL[:, :3]}, r"mask.*\(1, 3\)"),
        ({"error": "huber"}, "error.*huber"),
        ({"weighting": "softmax"}, "weighting.*softmax"),
        ({"strength": -1}, "strength.*-1"),
        ({"tokens": torch.ones(1, 3, 5), "lesion": FULL}, r"\(1, 3\).*\(1, 4\)"),
        ({"tokens": torch.ones(1, 4, 5), "lesion": FULL.float()}, "lesion.*float32"),
        ({"tokens": torch.ones(1, 4, 5), "lesion": FULL, "valid": FULL.float()}, "valid.*float32"),
        ({"tokens": torch.ones(1, 4, 5), "lesion": FULL, "temperature": 0}, "temperature.*0"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_total_refuses(arguments, message):
    given = {"prediction": torch.ones(1, 4, 2), "target": torch.zeros(1, 4, 2), "mask": FULL}
    with pytest.raises(ValueError, match=message):
        adaptive_masking_loss(**(given | arguments))
