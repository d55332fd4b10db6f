"""Conditional alignment: reference numbers, brute force, laws, the moving copy, edges, messages."""

import math

import pytest
import torch
from torch.nn.functional import layer_norm

from medssl_nb.methods.alice import CASA

HALVES = [torch.float16, torch.bfloat16]
TARGET_PARTS = {"key_proj", "value_proj", "out_proj", "attention_norm", "ffn_in", "ffn_out", "ffn_norm"}
NAMES = {
    *(f"{part}_proj.weight" for part in ("query", "key", "value", "out")),
    *(f"{part}.{kind}" for part in ("attention_norm", "ffn_in", "ffn_out", "ffn_norm") for kind in ("weight", "bias")),
}


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def close(found, expected, **tolerance):
    torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(expected), check_dtype=False, **tolerance)


def block(dtype=torch.float64, **options):
    """A small block with large, reproducible weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        casa = CASA(**{"dim": 12, "hidden_dim": 16, "num_heads": 2, "head_dim": 6, **options})
        with torch.no_grad():
            for parameter in casa.parameters():
                parameter.copy_(0.4 * torch.randn(parameter.shape))
    return casa.to(dtype).eval()


def inputs(dtype=torch.float64, online=7, target=4):
    return (
        noise(2, 5, 12, dtype=dtype),
        noise(2, online, 12, seed=1, dtype=dtype),
        noise(2, target, 12, seed=2, dtype=dtype),
    )


# ------------------------------------------------------------ the block


def from_reference(reference, dtype, device, **options):
    casa = CASA(*reference.number("casa/config"), **options).to(device, dtype).eval()
    casa.load_state_dict(reference.parameters("casa/param/", dtype, device), strict="target_weights" not in options)
    return casa


def test_alignment_matches_the_reference(reference, dtype, device):
    casa = from_reference(reference, dtype, device)
    given = [reference(f"casa/{n}", dtype, device).requires_grad_() for n in ("query", "online", "target")]
    found = casa(*given)
    assert isinstance(found, tuple) and len(found) == 2
    total = 0
    for part, side in zip(found, ("online", "target"), strict=True):
        assert part.dtype == dtype and part.device.type == device
        reference.check(part, f"casa/aligned_{side}")
        total = total + (part * reference(f"casa/probe_{side}", dtype, device)).sum()
    total.backward()
    for tensor, name in zip(given, ("query", "online", "target"), strict=True):
        reference.check(tensor.grad, f"casa/grad_{name}")  # also the target's: only the loss detaches
    parameters = dict(casa.named_parameters())
    for name in reference.parameters("casa/grad/"):
        reference.check(parameters[name].grad, f"casa/grad/{name}")


def test_attention_matches_the_reference(reference, dtype, device):
    casa = from_reference(reference, dtype, device)
    query, online = (reference(f"casa/{n}", dtype, device) for n in ("query", "online"))
    found, attention = casa.attend(query, online, return_attention=True)
    reference.check(attention, "casa/attention_online")
    reference.check(found, "casa/aligned_online")
    assert torch.equal(casa.attend(query, online), found)


def by_hand(casa, query, context):
    """The block head by head, sample by sample, from its equations."""
    w = {name: p.detach() for name, p in casa.named_parameters()}
    size, results, attentions = 6, [], []
    for q, c in zip(query, context, strict=True):
        heads, weights = [], []
        for h in range(2):
            rows = slice(h * size, (h + 1) * size)  # heads are consecutive blocks
            asked, keys, values = (
                q @ w["query_proj.weight"][rows].T,
                *(c @ w[f"{n}_proj.weight"][rows].T for n in ("key", "value")),
            )
            attention = (asked @ keys.T / math.sqrt(size)).softmax(-1)
            heads.append(attention @ values)
            weights.append(attention)
        u = layer_norm(
            q + torch.cat(heads, -1) @ w["out_proj.weight"].T,
            (12,),
            w["attention_norm.weight"],
            w["attention_norm.bias"],
            eps=1e-6,
        )
        hidden = (u @ w["ffn_in.weight"].T + w["ffn_in.bias"]).relu()
        y = layer_norm(
            u + hidden @ w["ffn_out.weight"].T + w["ffn_out.bias"],
            (12,),
            w["ffn_norm.weight"],
            w["ffn_norm.bias"],
            eps=1e-6,
        )
        results.append(y)
        attentions.append(torch.stack(weights))
    return torch.stack(results), torch.stack(attentions)


def test_alignment_follows_its_equations():
    casa, (query, online, target) = block(), inputs()
    for found, context in zip(casa(query, online, target), (online, target), strict=True):
        expected, weights = by_hand(casa, query, context)
        close(found, expected)
        close(casa.attend(query, context, return_attention=True)[1], weights)


def test_parameters_have_their_names_and_shapes():
    casa = CASA(dim=10, hidden_dim=16, num_heads=3, head_dim=4)
    shapes = {name: tuple(p.shape) for name, p in casa.named_parameters()}
    assert set(shapes) == NAMES == set(casa.state_dict())
    assert shapes["query_proj.weight"] == shapes["key_proj.weight"] == shapes["value_proj.weight"] == (12, 10)
    assert shapes["out_proj.weight"] == (10, 12)
    assert shapes["ffn_in.weight"] == (16, 10) and shapes["ffn_out.weight"] == (10, 16)
    assert casa.attention_norm.eps == casa.ffn_norm.eps == 1e-6
    assert casa.attend(torch.zeros(1, 2, 10), torch.ones(1, 3, 10)).shape == (1, 2, 10)


def test_attention_laws(dtype):
    casa, (query, online, _) = block(dtype), inputs(dtype)
    found, attention = casa.attend(query, online, return_attention=True)
    assert attention.shape == (2, 2, 5, 7) and (attention >= 0).all()
    close(attention.sum(-1), torch.ones(2, 2, 5))
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    again, moved = casa.attend(query, online[:, order], return_attention=True)
    close(again, found, rtol=1e-5, atol=1e-5)  # the context is a set
    close(moved, attention[..., order], rtol=1e-5, atol=1e-6)
    asked = torch.tensor([4, 2, 0, 1, 3])
    close(
        casa.attend(query[:, asked], online), found[:, asked], rtol=1e-5, atol=1e-5
    )  # questions are answered one by one
    close(casa.attend(query[1:], online[1:]), found[1:], rtol=1e-5, atol=1e-5)
    twice = casa.attend(query, torch.cat([online, online], 1))
    close(twice, found, rtol=1e-5, atol=1e-5)


def test_a_single_token_is_all_there_is_to_see():
    casa, (query, online, _) = block(), inputs()
    found, attention = casa.attend(query, online[:, :1], return_attention=True)
    assert (attention == 1).all()
    assert (found[:, 0] - found[:, 1]).abs().max() > 0.1  # the questions still differ, by the residual
    assert casa.attend(query[:, :1], online).shape == (2, 1, 12)


def test_a_context_that_says_nothing_leaves_both_sides_equal():
    casa, (query, online, target) = block(), inputs()
    with torch.no_grad():
        casa.value_proj.weight.zero_()
    one, two = casa(query, online, target)
    close(one, two)


def test_dropout_only_while_training():
    casa, (query, online, _) = block(dropout=0.5), inputs()
    still = casa.attend(query, online, return_attention=True)
    assert torch.equal(casa.attend(query, online), still[0])
    casa.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        one, attention = casa.attend(query, online, return_attention=True)
        two = casa.attend(query, online)
    assert not torch.equal(one, still[0]) and not torch.equal(one, two)
    close(attention, still[1])  # shown before dropout
    never = block(dropout=0.0).train()
    close(never.attend(query, online), still[0])


def test_gradients_types_and_nan():
    casa, (query, online, target) = block(), inputs(online=3, target=2)
    given = [t[:1, :2].clone().requires_grad_() for t in (query, online, target)]
    assert torch.autograd.gradcheck(casa, tuple(given))
    single, given = block(torch.float32), inputs(torch.float32)
    exact = single(*given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = single(*given)
        weights = single.attend(*given[:2], return_attention=True)[1]
    close(weights.float().sum(-1), torch.ones(2, 2, 5), rtol=0, atol=1e-2)
    for one, other in zip(mixed, exact, strict=True):
        close(one.float(), other, rtol=0, atol=0.1)
        assert one.isfinite().all()
    broken = [t.clone() for t in given]
    broken[1][0, 0, 0] = math.nan
    aligned_online, aligned_target = single(*broken)
    assert aligned_online[0].isnan().all() and aligned_online[1].isfinite().all()
    assert aligned_target.isfinite().all()
    zeros = single(*(torch.zeros_like(t) for t in given))
    assert all(part.isfinite().all() for part in zeros)


# ------------------------------------------------------------ the target's weights


def test_shared_weights_need_no_update():
    casa, (query, online, target) = block(), inputs()
    before = {name: p.clone() for name, p in casa.state_dict().items()}
    casa.update_target(0.3)
    assert all(torch.equal(p, before[name]) for name, p in casa.state_dict().items())
    close(casa.attend(query, target, target=True), casa.attend(query, target))
    close(casa(query, online, target)[1], casa.attend(query, target))


def test_the_copy_starts_equal_and_is_not_trained(reference, dtype, device):
    casa = CASA(12, 16, 2, 6, target_weights="ema")
    own, copied = {}, {}
    for name, parameter in casa.named_parameters():
        (copied if name.startswith("target.") else own)[name.removeprefix("target.")] = parameter
    assert set(own) == NAMES
    assert set(copied) == {name for name in NAMES if name.partition(".")[0] in TARGET_PARTS}  # questions stay shared
    for name, parameter in copied.items():
        assert torch.equal(parameter, own[name]) and not parameter.requires_grad and own[name].requires_grad
        assert parameter.data_ptr() != own[name].data_ptr()
    assert set(casa.state_dict()) == NAMES | {f"target.{name}" for name in copied}
    follower = from_reference(reference, dtype, device, target_weights="ema")
    follower.update_target(0.0)
    given = [reference(f"casa/{n}", dtype, device) for n in ("query", "online", "target")]
    for part, side in zip(follower(*given), ("online", "target"), strict=True):
        reference.check(part, f"casa/aligned_{side}")


def test_the_copy_follows_slowly():
    casa, (query, online, target) = block(target_weights="ema"), inputs()
    casa.update_target(0.0)
    aligned = casa(query, online, target)
    close(aligned[1], casa.attend(query, target))
    with torch.no_grad():
        for name, parameter in casa.named_parameters():
            if not name.startswith("target."):
                parameter.add_(0.3 * noise(*parameter.shape, seed=7))
    moved = casa(query, online, target)
    assert (moved[0] - aligned[0]).abs().max() > 0.01
    assert (casa.attend(query, target) - casa.attend(query, target, target=True)).abs().max() > 0.01
    close(moved[1], casa.attend(query, target, target=True))
    before = {name: p.clone() for name, p in casa.named_parameters()}
    casa.update_target(0.8)
    for name, parameter in casa.named_parameters():
        expected = before[name]
        if name.startswith("target."):
            expected = 0.8 * expected + 0.2 * before[name.removeprefix("target.")]
        close(parameter, expected)
    kept = casa.target.ffn_in.weight.clone()
    casa.update_target(1.0)
    close(casa.target.ffn_in.weight, kept)
    casa.update_target(0.0)
    close(casa(query, online, target)[1], casa.attend(query, target))


def test_the_shared_question_is_used_on_both_sides():
    casa, (query, online, target) = block(target_weights="ema"), inputs()
    before = casa(query, online, target)
    with torch.no_grad():
        casa.query_proj.weight.mul_(-1)
    after = casa(query, online, target)
    assert all((one - two).abs().max() > 1e-3 for one, two in zip(before, after, strict=True))


def test_gradients_pass_the_copy_but_do_not_train_it():
    casa, given = block(target_weights="ema"), [t.requires_grad_() for t in inputs()]
    casa(*given)[1].sum().backward()
    casa.attend(given[0], given[2], target=True).square().sum().backward()
    assert given[0].grad.abs().sum() > 0 and given[2].grad.abs().sum() > 0 and given[1].grad is None
    gradients = {name: p.grad for name, p in casa.named_parameters()}
    assert all(g is None for name, g in gradients.items() if name.startswith("target."))
    assert gradients["query_proj.weight"].abs().sum() > 0
    assert gradients["key_proj.weight"] is None or (gradients["key_proj.weight"] == 0).all()


# ------------------------------------------------------------ messages


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_weights": "EMA"}, r"target_weights.*EMA"),
        ({"dim": 0}, r"dim.*0"),
        ({"hidden_dim": 0}, r"hidden_dim.*0"),
        ({"num_heads": 0}, r"num_heads.*0"),
        ({"head_dim": -1}, r"head_dim.*-1"),
        ({"dropout": 1.5}, r"dropout.*1\.5"),
    ],
)
def test_blocks_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CASA(**{"dim": 12, "hidden_dim": 16, "num_heads": 2, "head_dim": 6, **options})


@pytest.mark.parametrize(
    ("query", "context", "message"),
    [
        ((2, 5, 12), (2, 7, 11), r"(?s)12.*11|11.*12"),
        ((2, 5, 11), (2, 7, 11), r"(?s)11"),
        ((2, 5, 12), (3, 7, 12), r"(?s)\b2\b.*\b3\b"),
        ((2, 5, 12), (2, 0, 12), r"(?i)context.*empty"),
        ((5, 12), (7, 12), r"(?s)5, 12"),
    ],
)
def test_tokens_that_are_refused(query, context, message):
    casa, query, context = block(torch.float32), torch.zeros(query), torch.zeros(context)
    with pytest.raises(ValueError, match=message):
        casa.attend(query, context)
    for contexts in ((context, query), (query, context)):
        with pytest.raises(ValueError, match=message):
            casa(query, *contexts)


@pytest.mark.parametrize("momentum", [-0.1, 1.5])
def test_momenta_that_are_refused(momentum):
    with pytest.raises(ValueError, match=rf"momentum.*{momentum}"):
        block(target_weights="ema").update_target(momentum)
