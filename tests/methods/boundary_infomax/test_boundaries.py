"""Entropy, edges, windowed correlation and the boundary loss: reference numbers, hand values, laws, edges, messages."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medssl_nb.methods.boundary_infomax import (
    boundary_loss,
    cluster_entropy,
    edge_target,
    gradient_magnitude,
    local_cross_correlation,
    min_max_normalize,
)

REFERENCE = np.load(Path(__file__).parents[2] / "reference" / "boundary_infomax.npz", allow_pickle=False)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
PRECISION = [(torch.float64, 1e-7, 1e-10), (torch.float32, 2e-4, 2e-6)]  # as stated beside the numbers
GRIDS = [(9,), (7, 6), (5, 6, 7)]


def stored(name, dtype=torch.float64, device="cpu"):
    return torch.from_numpy(np.asarray(REFERENCE[name])).to(device, dtype)


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def simplex(*shape, seed=0):
    return (3 * noise(*shape, seed=seed)).softmax(1)


def line(*values):
    return torch.tensor(values, dtype=torch.float64)[None, None]


def close(found, expected, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(found.cpu(), expected.cpu(), rtol=rtol, atol=atol)


# ------------------------------------------------------------ entropy


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "rtol", "atol"), PRECISION)
def test_entropy_matches_the_reference(dtype, rtol, atol, device):
    for case, source in (
        ("entropy2d__values", "joint2d__probs_a"),
        ("entropy3d__values", "joint3d__probs_a"),
        ("edge_one_hot__entropy", "edge_one_hot__probs"),
    ):
        found = cluster_entropy(stored(source, dtype, device))
        assert found.dtype == dtype and found.device.type == device
        close(found, stored(case, dtype), rtol, atol)


@pytest.mark.parametrize("grid", GRIDS)
def test_entropy_laws(grid):
    probs = simplex(2, 5, *grid)
    found = cluster_entropy(probs)
    assert found.shape == (2, *grid)
    close(found, -(probs * probs.log()).sum(1))
    assert ((found >= 0) & (found <= math.log(5))).all()
    close(cluster_entropy(probs[:, [3, 0, 4, 1, 2]]), found)
    close(cluster_entropy(torch.full((2, 5, *grid), 0.2).double()), torch.full((2, *grid), math.log(5)).double(), 1e-7)


def test_entropy_by_hand():
    probs = torch.tensor([[[1.0, 0.5, 0.25], [0.0, 0.5, 0.75]]], dtype=torch.float64)
    quarter = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    assert cluster_entropy(probs)[0].tolist() == pytest.approx([0, math.log(2), quarter], rel=1e-12)
    close(cluster_entropy(probs, eps=0.5)[0, 1], torch.tensor(0.0).double())  # log(0.5 + eps) is 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_entropy_gradients(dtype):
    z = noise(2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: cluster_entropy(z.softmax(1)), z)
    hard = stored("edge_one_hot__probs", dtype).requires_grad_()
    cluster_entropy(hard).sum().backward()
    assert hard.grad.isfinite().all()
    assert float(hard.grad.max()) == pytest.approx(-math.log(1e-16), rel=1e-5)  # of an unused cluster


# ------------------------------------------------------------ edges


@pytest.mark.parametrize(("dtype", "rtol", "atol"), PRECISION)
def test_edges_match_the_reference(dtype, rtol, atol):
    flat, solid, spacing = (
        stored("edges2d__image", dtype),
        stored("edges3d__image", dtype),
        REFERENCE["edges3d__spacing"],
    )
    found = {
        "edges2d__gradient_wrap": gradient_magnitude(flat, boundary="wrap"),
        "edges2d__gradient_replicate": gradient_magnitude(flat),
        "edges2d__normalized_wrap": min_max_normalize(gradient_magnitude(flat, boundary="wrap")),
        "edges3d__gradient_replicate": gradient_magnitude(solid),
        "edges3d__gradient_wrap": gradient_magnitude(solid, boundary="wrap"),
        "edges3d__gradient_replicate_spacing": gradient_magnitude(solid, spacing=spacing.tolist()),
    }
    for name, value in found.items():
        assert value.dtype == dtype
        close(value, stored(name, dtype), rtol, atol)
    coarse = atol if dtype == torch.float64 else 1e-3  # a power below 1 is steep at 0
    for power in ("0.5", "0.75", "1.5"):
        value = edge_target(flat, power=float(power), boundary="wrap")
        close(value, stored(f"edges2d__target_power{power}_wrap", dtype), rtol, coarse)
    close(edge_target(stored("boundary3d__image", dtype)), stored("boundary3d__target", dtype), rtol, coarse)


def test_gradient_by_hand():
    assert gradient_magnitude(line(1, 4, 2)).flatten().tolist() == [0, 3, 2]
    assert gradient_magnitude(line(1, 4, 2), boundary="wrap").flatten().tolist() == [1, 3, 2]
    assert gradient_magnitude(line(1, 4, 2), spacing=[2.0]).flatten().tolist() == [0, 1.5, 1]
    ramp = 3 * torch.arange(4.0)[:, None] + 4 * torch.arange(5.0)  # 3 down, 4 across
    inner = gradient_magnitude(ramp[None, None])[0, 0]
    assert inner.tolist() == [[0, 4, 4, 4, 4]] + 3 * [[3, 5, 5, 5, 5]]
    thick = gradient_magnitude(ramp[None, None], spacing=(0.25, 0.8))[0, 0]
    close(thick[1:, 1:], torch.full((3, 4), 13.0), 1e-6, 0)  # 12 and 5
    third = torch.arange(3.0)[:, None, None] * torch.tensor(2.0) + ramp[:2, :2] / torch.tensor([[3.0]])
    close(gradient_magnitude(third[None, None])[0, 0, 1, 1, 1], torch.tensor((4 + 1 + 16 / 9) ** 0.5), 1e-6, 0)


@pytest.mark.parametrize("boundary", ["replicate", "wrap"])
@pytest.mark.parametrize("grid", GRIDS)
def test_gradient_is_the_mean_over_channels(grid, boundary):
    image = noise(2, 3, *grid)
    found = gradient_magnitude(image, boundary=boundary)
    assert found.shape == (2, 1, *grid)
    alone = [gradient_magnitude(image[:, c : c + 1], boundary=boundary) for c in range(3)]
    close(found, torch.stack(alone).mean(0))
    close(gradient_magnitude(5 - 2 * image, boundary=boundary), 2 * found)  # of any range, rising or falling
    places = [image - image.roll(1, axis) for axis in range(2, image.dim())]
    if boundary == "replicate":
        for axis, step in enumerate(places, start=2):
            step.narrow(axis, 0, 1).zero_()
    close(found, torch.stack(places).square().sum(0).sqrt().mean(1, keepdim=True))


def test_gradient_derivative_is_right():
    image = noise(1, 2, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: gradient_magnitude(x, boundary="wrap", spacing=(1.0, 2.0)), image)


def test_whole_numbers_are_differenced_as_numbers():
    for dtype in (torch.uint8, torch.int16, torch.int64):  # in uint8 4 - 5 would be 255
        found = gradient_magnitude(torch.tensor([[[1, 5, 4]]], dtype=dtype))
        assert found.dtype == torch.float32
        assert found.flatten().tolist() == [0, 4, 1]


def test_flat_places_give_no_nan():
    image = torch.tensor([[[2.0, 2.0, 2.0, 5.0, 5.0]]]).requires_grad_()
    gradient_magnitude(image).sum().backward()
    assert image.grad.flatten().tolist() == [0, 0, -1, 1, 0]


def test_a_side_of_one_voxel_has_no_edge():
    assert gradient_magnitude(torch.ones(1, 1, 1, 1)).item() == 0
    flat = noise(1, 1, 1, 6)
    close(gradient_magnitude(flat)[:, :, 0], gradient_magnitude(flat[:, :, 0]))


def test_min_max_by_hand():
    x = torch.tensor([[[0.0, 5.0, 10.0]], [[-1.0, -1.0, 1.0]], [[7.0, 7.0, 7.0]]], dtype=torch.float64)
    tenth, half = 1 / (10 + 1e-6), 1 / (2 + 1e-6)
    by_hand = [[[0.0, 5 * tenth, 10 * tenth]], [[0.0, 0.0, 2 * half]], [[0.0, 0.0, 0.0]]]
    close(min_max_normalize(x), torch.tensor(by_hand, dtype=torch.float64))
    close(min_max_normalize(x, eps=10.0)[0], torch.tensor([[0, 0.25, 0.5]], dtype=torch.float64))


@pytest.mark.parametrize("grid", GRIDS)
def test_min_max_is_per_sample_with_detached_ends(grid):
    x = noise(3, 1, *grid).requires_grad_()
    found = min_max_normalize(x)
    alone = torch.cat([min_max_normalize(x[n : n + 1]) for n in range(3)])
    close(found.detach(), alone.detach())
    assert (found.detach() >= 0).all() and (found.detach() < 1).all()
    found.sum().backward()
    spread = x.detach().flatten(1).amax(1) - x.detach().flatten(1).amin(1)
    expected = (1 / (spread + 1e-6)).reshape(3, *(1,) * (x.dim() - 1)).expand_as(x)
    close(x.grad, expected)  # the extremes move like every other place


@pytest.mark.parametrize("power", [0.5, 0.75, 1.0, 1.5])
@pytest.mark.parametrize("boundary", ["replicate", "wrap"])
def test_edge_target_is_a_power_of_the_normalised_gradient(power, boundary):
    image = noise(2, 2, 6, 7).requires_grad_()
    target = edge_target(image, power=power, boundary=boundary, spacing=(2.0, 1.0))
    gradient = gradient_magnitude(image.detach(), boundary=boundary, spacing=(2.0, 1.0))
    close(target, min_max_normalize(gradient) ** power)
    assert not target.requires_grad
    assert target.shape == (2, 1, 6, 7)
    assert (target >= 0).all() and (target < 1).all()
    assert edge_target(torch.full((1, 1, 4, 4), 3.0), power=power).abs().max() == 0


def test_edge_target_defaults_to_power_three_quarters():
    image = noise(1, 1, 6, 7)
    assert torch.equal(edge_target(image), edge_target(image, power=0.75, spacing=None, boundary="replicate"))


def test_wrap_is_a_false_edge_where_the_faces_differ():
    image = torch.zeros(1, 1, 8, 8)
    image[..., 4:] = 1
    assert edge_target(image)[0, 0].max(0).values.nonzero().flatten().tolist() == [4]
    assert edge_target(image, boundary="wrap")[0, 0].max(0).values.nonzero().flatten().tolist() == [0, 4]


IMAGE = torch.ones(1, 1, 4, 4)


@pytest.mark.parametrize("function", [gradient_magnitude, edge_target])
@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (IMAGE, {"spacing": (1.0,)}, "spacing"),
        (IMAGE, {"spacing": (1.0, 1.0, 1.0)}, "spacing"),
        (IMAGE, {"spacing": (1.0, 0.0)}, r"spacing.*0\.0"),
        (IMAGE, {"spacing": (-1.0, 1.0)}, r"spacing.*-1\.0"),
        (IMAGE, {"spacing": (math.nan, 1.0)}, r"spacing.*nan"),
        (IMAGE, {"boundary": "reflect"}, "boundary.*'reflect'"),
        (torch.ones(4, 4), {}, r"image.*\(4, 4\)"),
        (torch.ones(1, 1, 2, 2, 2, 2), {}, r"image.*\(1, 1, 2, 2, 2, 2\)"),
    ],
)
def test_edges_that_are_refused(function, image, options, message):
    with pytest.raises(ValueError, match=message):
        function(image, **options)


@pytest.mark.parametrize("power", [0.0, -1.0, math.nan])
def test_powers_that_are_refused(power):
    with pytest.raises(ValueError, match=rf"power.*{power}"):
        edge_target(IMAGE, power=power)
    with pytest.raises(ValueError, match=rf"power.*{power}"):
        boundary_loss(torch.full((1, 2, 4, 4), 0.5), IMAGE, power=power)


# ------------------------------------------------------------ windowed correlation


def direct(first, second, window, eps=1e-5):
    """The equation with one w**d convolution for every sum."""
    d = first.dim() - 2
    box = torch.ones(1, 1, *window, dtype=first.dtype)
    n = box.numel()

    def total(x):
        return (F.conv1d, F.conv2d, F.conv3d)[d - 1](x, box, padding=tuple(w // 2 for w in window))

    def covariance(x, y):
        return (total(x * y) - total(x) * total(y) / n).clamp_min(eps)

    return covariance(first, second) ** 2 / (covariance(first, first) * covariance(second, second))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "rtol", "atol"), PRECISION)
@pytest.mark.parametrize("case", ["lcc2d__window5", "lcc2d__window3", "lcc3d"])
def test_correlation_matches_the_reference(case, dtype, rtol, atol, device):
    kind, _, window = case.partition("__window")
    window = int(window or REFERENCE["lcc3d__window"])
    first, second = (stored(f"{kind}__{n}", dtype, device).requires_grad_() for n in ("first", "second"))
    found = local_cross_correlation(first, second, window=window)
    loss = -found.mean()
    loss.backward()
    assert found.dtype == dtype and found.shape == first.shape
    close(found.detach(), stored(f"{case}__map", dtype), rtol, atol)
    close(loss.detach(), stored(f"{case}__loss", dtype), rtol, atol)
    fine = atol if dtype == torch.float64 else 1e-5  # gradients of the boundary loss
    close(first.grad, stored(f"{case}__grad_first", dtype), rtol, fine)
    if kind == "lcc2d":
        close(second.grad, stored(f"{case}__grad_second", dtype), rtol, fine)


@pytest.mark.parametrize(
    ("grid", "window"),
    [
        ((9,), (5,)),
        ((7, 6), (3, 3)),
        ((7, 6), (5, 1)),
        ((5, 6, 7), (3, 5, 5)),
        ((5, 4, 6), (3, 3, 3)),
        ((3,), (5,)),  # wider than the grid: zeros around it, still divided by the full window
        ((6, 2), (3, 7)),
        ((3, 2, 2), (5, 5, 5)),
        ((9, 9, 4), (5, 5, 5)),
    ],
)
@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_separable_windows_equal_one_convolution(grid, window, eps):
    first, second = noise(2, 1, *grid), noise(2, 1, *grid, seed=1)
    found = local_cross_correlation(first, second, window=window, eps=eps)
    close(found, direct(first, second, window, eps), 1e-9, 1e-12)
    close(local_cross_correlation(first, second, window=list(window), eps=eps), found)
    if len(set(window)) == 1:
        close(local_cross_correlation(first, second, window=window[0], eps=eps), found)
    assert ((found > 0) & (found <= 1)).all()
    close(local_cross_correlation(second, first, window=window, eps=eps), found)


def test_correlation_by_hand():
    first, second = line(0, 1, 2), line(1, 1, 3)
    found = local_cross_correlation(first, second, window=3).flatten()
    # windows {-, 0, 1}, {0, 1, 2}, {1, 2, -} of I and {-, 1, 1}, {1, 1, 3}, {1, 3, -} of J, always divided by three
    ends = [(1 - 1 * 2 / 3) ** 2 / ((1 - 1 / 3) * (2 - 4 / 3)), (7 - 3 * 4 / 3) ** 2 / ((5 - 9 / 3) * (10 - 16 / 3))]
    middle = (7 - 3 * 5 / 3) ** 2 / ((5 - 9 / 3) * (11 - 25 / 3))
    assert found.tolist() == pytest.approx([ends[0], middle, ends[1]], rel=1e-12)


@pytest.mark.parametrize("grid", GRIDS)
def test_scale_and_shift_do_not_matter_away_from_the_clamps(grid):
    first, second = noise(1, 1, *grid), noise(1, 1, *grid, seed=1)
    second = second + first
    found = local_cross_correlation(first, second, window=3, eps=1e-12)
    close(local_cross_correlation(3 * first, 0.2 * second, window=3, eps=1e-12), found, 1e-7, 1e-9)
    moved = local_cross_correlation(first + 0.7, 2 * second - 0.3, window=3, eps=1e-12)
    inside = (..., *(slice(1, -1),) * len(grid))  # at the rim the zero padding does not move along
    assert found[inside].max() > 0.1
    close(moved[inside], found[inside], 1e-7, 1e-9)


@pytest.mark.parametrize("grid", GRIDS)
def test_the_three_clamps(grid):
    flat, textured = torch.zeros(1, 1, *grid, dtype=torch.float64), noise(1, 1, *grid)
    ones = torch.ones_like(flat)
    assert torch.equal(local_cross_correlation(flat, flat), ones)
    close(local_cross_correlation(textured, textured), ones)
    close(local_cross_correlation(ones, ones), ones)
    mixed = local_cross_correlation(flat, textured)
    assert mixed.max() < 1e-3
    close(mixed, 100 * local_cross_correlation(flat, textured, eps=1e-7), 1e-6, 0)  # eps / v
    other = noise(1, 1, *grid, seed=1)
    close(local_cross_correlation(textured, other, window=1), ones)  # one voxel has no variance: flat against flat


def test_negative_correlation_earns_nothing_and_has_no_gradient():
    first = noise(1, 1, 12, 10).requires_grad_()
    second = 1 - first.detach()
    inside = (..., slice(2, -2), slice(2, -2))
    found = local_cross_correlation(first, second)[inside]
    assert found.max() < 1e-6
    found.mean().backward()
    assert first.grad.abs().max() < 1e-6
    rising = first.detach().clone().requires_grad_()
    local_cross_correlation(rising, second.neg() + noise(1, 1, 12, 10, seed=3))[inside].mean().backward()
    assert rising.grad.abs().max() > 1e-3


def test_correlation_gradient_is_right():
    first, second = noise(1, 1, 5, 4).requires_grad_(), noise(1, 1, 5, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: local_cross_correlation(x, y + 0.5 * x, window=3), (first, second))
    solid = noise(1, 1, 2, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: local_cross_correlation(x, x.square(), window=(1, 3, 3)), solid)


def test_the_map_stays_within_one_in_float32_too():
    for seed in range(5):
        x = noise(2, 1, 16, 16, seed=seed, dtype=torch.float32)
        y = (x + 0.001 * noise(2, 1, 16, 16, seed=seed + 50, dtype=torch.float32)).clamp(0, 1)
        for found in (local_cross_correlation(x, y), local_cross_correlation(x, x)):
            assert found.min() > 0
            assert found.max() <= 1 + 1e-5  # but for rounding


@pytest.mark.parametrize(
    ("first", "second", "window", "message"),
    [
        (IMAGE, IMAGE, 4, "window.*4"),
        (IMAGE, IMAGE, 0, "window.*0"),
        (IMAGE, IMAGE, -3, "window.*-3"),
        (IMAGE, IMAGE, (3, 4), "window.*4"),
        (IMAGE, IMAGE, (3,), "window.*3"),
        (IMAGE, IMAGE, (3, 3, 3), "window.*3"),
        (IMAGE, IMAGE[..., :3], 3, r"(?s)first.*second.*\(1, 1, 4, 4\).*\(1, 1, 4, 3\)"),
        (IMAGE, IMAGE.repeat(2, 1, 1, 1), 3, r"(?s)first.*second.*\(1, 1, 4, 4\).*\(2, 1, 4, 4\)"),
        (IMAGE.repeat(1, 2, 1, 1), IMAGE.repeat(1, 2, 1, 1), 3, r"first.*2"),
    ],
)
def test_correlations_that_are_refused(first, second, window, message):
    with pytest.raises(ValueError, match=message):
        local_cross_correlation(first, second, window=window)


# ------------------------------------------------------------ the boundary loss


def gradient_of(loss, x):
    return torch.autograd.grad(loss, x)[0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "rtol", "atol"), PRECISION)
def test_boundary_loss_matches_the_reference(dtype, rtol, atol, device):
    fine = atol if dtype == torch.float64 else 1e-5
    probs, image = (stored(f"boundary2d__{n}", dtype, device).requires_grad_() for n in ("probs", "image"))
    for window, power in ((5, "0.75"), (3, "1.5")):
        loss = boundary_loss(probs, image, window=window, power=float(power), boundary="wrap")
        assert loss.dtype == dtype and loss.shape == () and loss.device.type == device
        name = f"boundary2d__window{window}_power{power}__"
        close(loss.detach(), stored(name + "loss", dtype), rtol, atol)
        by_probs, by_image = torch.autograd.grad(loss, (probs, image), allow_unused=True)
        close(by_probs, stored(name + "grad_probs", dtype), rtol, fine)
        assert by_image is None
    loss = boundary_loss(probs.detach(), stored("boundary2d_resized__image", dtype, device), boundary="wrap")
    close(loss, stored("boundary2d_resized__loss", dtype), rtol, atol)
    probs, image = (
        stored("boundary3d__probs", dtype, device).requires_grad_(),
        stored("boundary3d__image", dtype, device),
    )
    loss = boundary_loss(probs, image)
    close(loss.detach(), stored("boundary3d__loss", dtype), rtol, atol)
    close(gradient_of(loss, probs), stored("boundary3d__grad_probs", dtype), rtol, fine)


@pytest.mark.parametrize(("dtype", "rtol", "atol"), PRECISION)
def test_boundary_loss_at_the_edges_matches_the_reference(dtype, rtol, atol):
    fine = atol if dtype == torch.float64 else 1e-5
    constant = stored("edge_constant_image__image", dtype)
    for boundary in ("wrap", "replicate"):
        probs = stored("edge_constant_image__probs", dtype).requires_grad_()
        loss = boundary_loss(probs, constant, boundary=boundary)
        close(loss.detach(), stored("edge_constant_image__loss", dtype), rtol, atol)
        close(gradient_of(loss, probs), stored("edge_constant_image__grad_probs", dtype), rtol, fine)
    uniform = stored("edge_uniform_probs__probs", dtype)
    loss = boundary_loss(uniform, stored("edge_uniform_probs__image", dtype), boundary="wrap")
    close(loss, stored("edge_uniform_probs__loss_wrap", dtype), rtol, atol)
    assert float(REFERENCE["edge_both_constant__loss"]) == float(boundary_loss(uniform, constant)) == -1


@pytest.mark.parametrize("grid", GRIDS)
def test_boundary_loss_is_its_parts(grid):
    probs, image = simplex(2, 4, *grid), noise(2, 3, *grid, seed=1)
    spacing = [1.0, 2.0, 0.5][: len(grid)]
    options = {"power": 1.5, "spacing": spacing, "boundary": "wrap"}
    window = [3, 5, 1][: len(grid)]
    entropy = min_max_normalize(cluster_entropy(probs)[:, None])
    found = local_cross_correlation(entropy, edge_target(image, **options), window=window, eps=1e-3)
    loss = boundary_loss(probs, image, window=window, eps=1e-3, **options)
    close(loss, -found.mean())
    assert -1 <= float(loss) < 0
    close(boundary_loss(probs, 50 - 20 * image, window=window, eps=1e-3, **options), loss, 1e-5, 1e-7)  # any range
    mask = noise(2, 1, *grid, seed=2)
    weighted = -(found * mask).sum() / mask.sum()
    close(boundary_loss(probs, image, window=window, eps=1e-3, mask=mask, **options), weighted)
    chosen = mask > 0.5
    picked = boundary_loss(probs, image, window=window, eps=1e-3, mask=chosen, **options)
    close(picked, -found[chosen].mean())
    close(boundary_loss(probs, image, mask=torch.ones_like(mask)), boundary_loss(probs, image))
    plain = local_cross_correlation(entropy, edge_target(image))
    close(boundary_loss(probs, image), -plain.mean())


@pytest.mark.parametrize(("grid", "other", "mode"), [
    ((6,), (12,), "linear"),
    ((6, 5), (12, 10), "bilinear"),
    ((6, 8), (5, 3), "bilinear"),
    ((5, 6, 5), (8, 9, 6), "trilinear"),
])  # fmt: skip
def test_the_image_is_resized_before_its_edges(grid, other, mode):
    probs, image = simplex(2, 3, *grid), noise(2, 2, *other, seed=1)
    resized = F.interpolate(image, size=grid, mode=mode, align_corners=False)
    close(boundary_loss(probs, image), boundary_loss(probs, resized))
    options = {"mask": noise(2, 1, *grid, seed=4), "spacing": [3.0, 1.0, 0.5][: len(grid)]}  # of the clusters' grid
    close(boundary_loss(probs, image, **options), boundary_loss(probs, resized, **options))


def test_boundary_gradient_is_right_and_reaches_the_probabilities_only():
    # Apart from the entropy's detached ends, which finite differences would see: keep both in a voxel that stays.
    z = noise(1, 3, 4, 4).requires_grad_()
    hard, even = torch.tensor([60.0, 0, 0]).double(), torch.zeros(3).double()
    image = noise(1, 1, 5, 4, seed=1).requires_grad_()
    ends = torch.stack([hard, hard, even, even], 1)[None, :, None]

    def loss(z):
        return boundary_loss(torch.cat([z, ends], 2).softmax(1), image, window=3)

    assert torch.autograd.gradcheck(loss, z)
    loss(z).backward()
    assert image.grad is None
    assert z.grad.abs().max() > 0


def step_edge(shift=0.0, width=1.0, noise_level=0.0):
    """A step between columns 15 and 16 of 32, and two clusters whose border lies `shift` columns beside it."""
    image = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    image[..., 16:] = 1
    image = image + noise_level * torch.randn(32, 32, generator=torch.Generator().manual_seed(0)).double()
    column = torch.arange(32, dtype=torch.float64)
    second = torch.sigmoid((column - 15.5 - shift) / width).expand(1, 32, 32)
    return float(boundary_loss(torch.stack([1 - second, second], 1), image))


def test_flat_background_counts_as_a_match():
    assert step_edge(0, 0.05) == pytest.approx(-0.89, abs=0.006)
    assert step_edge(8, 0.05) == pytest.approx(-0.66, abs=0.006)
    assert step_edge(0, 1) == pytest.approx(-0.39, abs=0.006)
    assert step_edge(8, 1) == pytest.approx(-0.45, abs=0.006)
    for shift, width in ((0, 0.05), (8, 0.05), (0, 1), (8, 1)):
        assert -0.1 < step_edge(shift, width, 0.05) < 0  # noise: no flat windows left


@pytest.mark.parametrize(
    ("probs", "image", "options", "message"),
    [
        (torch.full((1, 2, 4, 4), 0.6), IMAGE, {}, "probs"),
        (torch.full((1, 2, 4, 4), math.nan), IMAGE, {}, "probs"),
        (torch.tensor([1.2, -0.2]).reshape(1, 2, 1, 1).expand(1, 2, 4, 4), IMAGE, {}, "probs"),
        (torch.full((2, 2, 4, 4), 0.5), IMAGE, {}, r"(?s)image.*1"),
        (torch.full((1, 2, 4), 0.5), IMAGE, {}, r"(?s)image.*\(1, 1, 4, 4\)"),
        (torch.full((1, 2, 4, 4), 0.5), IMAGE, {"window": 2}, "window.*2"),
        (torch.full((1, 2, 4, 4), 0.5), IMAGE, {"spacing": (1.0,)}, "spacing"),
        (torch.full((1, 2, 4, 4), 0.5), IMAGE, {"boundary": "zeros"}, "boundary.*'zeros'"),
        (torch.full((1, 2, 4, 4), 0.5), IMAGE, {"mask": torch.ones(1, 4, 4)}, r"mask.*\(1, 4, 4\)"),
        (torch.full((1, 2, 4, 4), 0.5), IMAGE, {"mask": torch.ones(1, 2, 4, 4)}, r"mask.*\(1, 2, 4, 4\)"),
        (torch.full((1, 2, 4, 4), 0.5), IMAGE, {"mask": torch.zeros(1, 1, 4, 4)}, "mask"),
        (torch.full((1, 2, 4, 4), 0.5), IMAGE, {"mask": -torch.ones(1, 1, 4, 4)}, "mask"),
    ],
)
def test_what_the_boundary_loss_refuses(probs, image, options, message):
    with pytest.raises(ValueError, match=message):
        boundary_loss(probs, image, **options)


def test_entropy_needs_probabilities():
    for probs in (torch.full((1, 2, 3), 0.6), torch.full((1, 2, 3), math.inf), torch.ones(2, 3)):
        with pytest.raises(ValueError, match="probs"):
            cluster_entropy(probs)
    cluster_entropy(torch.full((1, 2, 3), 0.5025).half())  # half types: within 1e-2
    with pytest.raises(ValueError, match="probs"):
        cluster_entropy(torch.full((1, 2, 3), 0.5025))


# ------------------------------------------------------------ types, of all functions of this file


FUNCTIONS = {
    "entropy": lambda p, x: cluster_entropy(p),
    "gradient": lambda p, x: gradient_magnitude(x),
    "min_max": lambda p, x: min_max_normalize(x),
    "target": lambda p, x: edge_target(x),
    "correlation": lambda p, x: local_cross_correlation(p[:, :1], x),
    "boundary": boundary_loss,
    "masked": lambda p, x: boundary_loss(p, x, mask=torch.ones_like(x)),
    "resized": lambda p, x: boundary_loss(p, torch.cat([x, x], 2)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_types(name):
    function = FUNCTIONS[name]
    inputs = simplex(2, 3, 8, 10), noise(2, 1, 8, 10, seed=1)
    wide = function(*inputs)
    assert wide.dtype == torch.float64
    single = [x.float() for x in inputs]
    copies = [x.clone() for x in single]
    found = function(*single)
    assert found.dtype == torch.float32
    close(found, wide.float(), 1e-3, 1e-4)
    assert all(torch.equal(x, copy) for x, copy in zip(single, copies, strict=True))  # pure
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = function(*single)
    assert under.dtype == torch.float32
    assert torch.equal(under, found)
    for half in (torch.float16, torch.bfloat16):
        narrow = [x.to(half) for x in inputs]
        found = function(*narrow)
        assert found.dtype == torch.float32
        given = narrow[0].double() / narrow[0].double().sum(1, keepdim=True)  # rounded, then a simplex again
        close(found, function(given, narrow[1].double()).float(), 2e-2, 1e-2)


def test_large_half_images_keep_their_edges():
    image = 1000 * noise(1, 1, 6, 6)
    found = gradient_magnitude(image.half())
    close(found, gradient_magnitude(image.half().float()), 1e-6, 0)
    assert gradient_magnitude(300 * image.half().float()).isfinite().all()
    steep = torch.tensor([[[0.0, 60000.0, 0.0]]]).half()
    assert gradient_magnitude(steep).flatten().tolist() == [0, 60000 - 60000 % 32, 60000 - 60000 % 32]
