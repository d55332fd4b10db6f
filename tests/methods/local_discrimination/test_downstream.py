"""Segmentation on a pre-trained encoder and its measures: reference numbers, by hand, laws, edges, messages."""

import itertools
import math

import pytest
import torch
from torch.nn.utils import vector_to_parameters

from medssl_nb.methods.local_discrimination import (
    PixelEncoder,
    SegmentationNet,
    dice_score,
    segment_target,
    soft_dice_loss,
)

HALVES = [torch.float16, torch.bfloat16]


def seeded(number=0):
    return torch.Generator().manual_seed(number)


def share(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


def build(dims=2, channels=1, base=2, out_channels=1, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SegmentationNet(PixelEncoder(dims, channels, base), out_channels)


# ------------------------------------------------------------ network


def test_segmentation_matches_the_reference(reference, dtype):
    net = SegmentationNet(PixelEncoder(2, reference.number("net_in_channels"), reference.number("net_base_channels")))
    net = net.to(dtype).eval()
    inside = sum(p.numel() for p in net.encoder.parameters())
    vector_to_parameters(reference("net_parameters", dtype)[:inside], net.encoder.parameters())
    rest = [*net.decoder.parameters(), *net.head.parameters()]
    assert sum(p.numel() for p in rest) == reference("seg_decoder_parameters").numel()
    vector_to_parameters(reference("seg_decoder_parameters", dtype), rest)
    with torch.no_grad():
        logits = net(reference("net_images", dtype)[:2])
    assert logits.dtype == dtype
    reference.check(logits.sigmoid(), "seg_probabilities")


@pytest.mark.parametrize(("dims", "size"), [(2, (32, 48)), (3, (16, 32, 16))])
@pytest.mark.parametrize("out_channels", [1, 3])
def test_segmentation_layers(dims, size, out_channels):
    c = 2
    net = build(dims, 2, c, out_channels)
    logits = net(share(2, 2, *size, dtype=torch.float32))
    assert logits.shape == (2, out_channels, *size) and logits.min() < 0 < logits.max()
    kernel = (3,) * dims
    expected = []
    for inside, middle, outside in ((16, 8, 4), (8, 4, 2), (4, 2, 1), (2, 1, 1)):
        for i, o in ((inside, middle), (middle, outside)):
            expected += [(o * c, i * c, *kernel), (o * c,), (o * c,), (o * c,)]
    assert [tuple(p.shape) for p in net.decoder.parameters()] == expected
    assert [tuple(p.shape) for p in net.head.parameters()] == [(out_channels, c, *kernel), (out_channels,)]
    parts = itertools.chain(net.encoder.parameters(), net.decoder.parameters(), net.head.parameters())
    assert all(p is q for p, q in zip(net.parameters(), parts, strict=True))
    logits.mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_the_encoder_is_the_given_one_and_can_be_frozen():
    encoder = PixelEncoder(2, 1, 2)
    net = SegmentationNet(encoder)
    assert net.encoder is encoder
    encoder.requires_grad_(False)
    net(share(2, 1, 32, 32, dtype=torch.float32)).mean().backward()
    assert all(p.grad is None for p in encoder.parameters())
    assert all(p.grad is not None for p in (*net.decoder.parameters(), *net.head.parameters()))


def test_sizes_that_are_refused():
    with pytest.raises(ValueError, match="24"):
        build()(torch.zeros(1, 1, 32, 24))


# ------------------------------------------------------------ soft Dice


def literal(p, y, smooth=1.0):
    if y.max() == 0:
        p, y = 1 - p, 1 - y
    return -2 * (p * y).sum() / (p.sum() + y.sum() + smooth)


def test_soft_dice_matches_the_reference(reference, dtype, device):
    p, y = reference("dice_pred", dtype, device), reference("dice_target", dtype, device)
    for target, name in ((y, "dice_loss"), (torch.zeros_like(y), "dice_empty_loss")):
        loss = soft_dice_loss(p, target)
        assert loss.dtype == dtype and loss.shape == () and loss.device.type == device
        reference.check(loss, name)


@pytest.mark.parametrize("grid", [(4, 5), (3, 4, 2)])
@pytest.mark.parametrize("smooth", [1.0, 0.1])
def test_soft_dice_is_its_equation(grid, smooth):
    p, y = share(2, 1, *grid).requires_grad_(), (share(2, 1, *grid, seed=1) > 0.7).double()
    found = soft_dice_loss(p, y, smooth=smooth)
    torch.testing.assert_close(found, literal(p, y, smooth))
    assert -1 < found <= 0
    one = y.clone()
    one[1] = 0  # foreground in one image only: the batch is one set
    torch.testing.assert_close(soft_dice_loss(p, one, smooth=smooth), literal(p, one, smooth))
    none = torch.zeros_like(y)
    torch.testing.assert_close(soft_dice_loss(p, none, smooth=smooth), literal(p, none, smooth))
    assert torch.autograd.gradcheck(lambda x: soft_dice_loss(x, y), p)
    assert torch.autograd.gradcheck(lambda x: soft_dice_loss(x, none), p)


def test_soft_dice_by_hand(dtype):
    y = torch.tensor([[1.0, 1.0, 0.0, 0.0]], dtype=dtype)
    assert float(soft_dice_loss(y, y)) == pytest.approx(-4 / 5)
    assert float(soft_dice_loss(1 - y, y)) == 0
    zero = torch.zeros_like(y)
    assert float(soft_dice_loss(zero, zero)) == pytest.approx(-8 / 9)  # rightly empty
    assert float(soft_dice_loss(zero + 1, zero)) == 0
    assert float(soft_dice_loss(y, zero)) == pytest.approx(-4 / 7)
    assert float(soft_dice_loss(y, y.bool())) == pytest.approx(-4 / 5)  # masks are read from bool too


def test_soft_dice_types_and_nan():
    p, y = share(2, 1, 30, 30).float(), (share(2, 1, 30, 30, seed=1) > 0.5).float()
    found = soft_dice_loss(p, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(soft_dice_loss(p, y), found)
    for half in HALVES:
        narrow = soft_dice_loss(p.to(half), y.to(half))
        assert narrow.dtype == torch.float32
        torch.testing.assert_close(narrow, soft_dice_loss(p.to(half).float(), y))
    p[0, 0, 0, 0] = math.nan
    assert soft_dice_loss(p, y).isnan()


@pytest.mark.parametrize("other", [(2, 4, 5), (1, 1, 4, 5), (2, 1, 4, 4)])
def test_dice_needs_one_shape(other):
    message = f"(?s)2, 1, 4, 5.*{', '.join(map(str, other))}"
    with pytest.raises(ValueError, match=message):
        soft_dice_loss(torch.ones(2, 1, 4, 5), torch.ones(other))
    with pytest.raises(ValueError, match=message):
        dice_score(torch.ones(2, 1, 4, 5, dtype=torch.bool), torch.ones(other, dtype=torch.bool))


# ------------------------------------------------------------ Dice


def test_dice_matches_the_reference(reference):
    z, a = reference("target_embeddings"), reference("target_assignments")
    label = reference("target_label", torch.bool)
    maps = segment_target(z, a, mask=reference("target_mask", torch.bool)[None])
    for part in ("assignment", "similarity"):
        found = dice_score(getattr(maps, part)[0] > 0.5, label)
        assert float(found) == pytest.approx(reference.number(f"target_dice_{part}"), rel=1e-6)


def test_dice_by_hand(device):
    a = torch.tensor([True, True, True, False, False], device=device)
    b = torch.tensor([False, True, True, True, False], device=device)
    none = torch.zeros(5, dtype=torch.bool, device=device)
    assert float(dice_score(a, b)) == float(dice_score(b, a)) == pytest.approx(2 / 3)
    assert float(dice_score(a, a)) == 1 and float(dice_score(a, ~a)) == 0
    assert float(dice_score(none, none)) == 1
    assert float(dice_score(a, none)) == float(dice_score(none, a)) == 0
    volume = torch.zeros(2, 3, 4, dtype=torch.bool)
    volume[0, 0, 0] = True
    assert float(dice_score(volume, torch.ones_like(volume))) == pytest.approx(2 / 25)
