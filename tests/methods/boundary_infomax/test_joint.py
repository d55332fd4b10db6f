"""Joint matrices and what is measured on them: reference numbers, counting by hand, laws, edges, messages."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from medssl_nb.methods.boundary_infomax import (
    cluster_usage,
    displaced_joint_probability,
    iic_loss,
    joint_probability,
    mutual_information,
    regularized_mi_loss,
)

REFERENCE = np.load(Path(__file__).parents[2] / "reference" / "boundary_infomax.npz", allow_pickle=False)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
PRECISION = [(torch.float64, 1e-7, 1e-10), (torch.float32, 2e-4, 2e-6)]  # as stated beside the numbers
GRIDS = [(7,), (4, 3), (3, 2, 4)]
ALPHAS = [0.0, 0.25, 0.5, 1.0]


def stored(name, dtype=torch.float64, device="cpu"):
    return torch.from_numpy(np.asarray(REFERENCE[name])).to(device, dtype)


def simplex(*shape, seed=0, dtype=torch.float64, sharpness=1.0):
    z = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (sharpness * z).softmax(1).to(dtype)


def random_joint(k=4, *leading, seed=0):
    return simplex(math.prod(leading), k * k, seed=seed, sharpness=2.0).reshape(*leading, k, k)


def cyclic(k=4):
    return torch.eye(k, dtype=torch.float64).roll(1, 0) / k


def close(found, expected, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(found.cpu(), expected.cpu(), rtol=rtol, atol=atol)


# ------------------------------------------------------------ the joint matrix


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "rtol", "atol"), PRECISION)
def test_joint_matches_the_reference(dtype, rtol, atol, device):
    a, b, mask = (stored(f"joint2d__{n}", dtype, device) for n in ("probs_a", "probs_b", "mask"))
    found = {
        "joint2d__symmetric": joint_probability(a, b),
        "joint2d__asymmetric": joint_probability(a, b, symmetric=False),
        "joint2d__masked_symmetric": joint_probability(a, b, mask=mask),
        "joint3d__symmetric": joint_probability(
            stored("joint3d__probs_a", dtype, device), stored("joint3d__probs_b", dtype, device)
        ),
    }
    for name, joint in found.items():
        assert joint.dtype == dtype and joint.device.type == device
        close(joint, stored(name, dtype), rtol, atol)
    for case in ("joint2d", "joint3d"):
        close(mutual_information(found[f"{case}__symmetric"]), stored(f"{case}__mutual_information", dtype), rtol, atol)


def test_joint_of_one_hot_maps_counts_pairs():
    first = torch.tensor([[0, 0, 1, 2], [2, 2, 2, 0]])
    second = torch.tensor([[0, 1, 1, 2], [2, 0, 2, 1]])
    a, b = (torch.nn.functional.one_hot(m, 3).movedim(-1, 1).double() for m in (first, second))
    counts = torch.zeros(3, 3, dtype=torch.float64)
    for i, j in zip(first.flatten(), second.flatten(), strict=True):
        counts[i, j] += 1
    assert torch.equal(joint_probability(a, b, symmetric=False), counts / 8)
    assert torch.equal(joint_probability(a, b), (counts + counts.T) / 16)
    kept = torch.tensor([[True, True, False, False], [False, False, False, True]])[:, None]
    masked = joint_probability(a, b, symmetric=False, mask=kept)
    close(masked, torch.tensor([[1, 2, 0], [0, 0, 0], [0, 0, 0]]) / torch.tensor(3.0, dtype=torch.float64))


@pytest.mark.parametrize("grid", GRIDS)
def test_joint_laws(grid):
    a, b = simplex(3, 5, *grid), simplex(3, 5, *grid, seed=1)
    plain = joint_probability(a, b, symmetric=False)
    assert plain.shape == (5, 5)
    assert (plain >= 0).all()
    close(plain.sum(), torch.tensor(1.0, dtype=torch.float64))
    close(plain.sum(1), cluster_usage(a))  # rows: view A
    close(plain.sum(0), cluster_usage(b))
    close(joint_probability(b, a, symmetric=False), plain.T)
    close(joint_probability(a, b), (plain + plain.T) / 2)
    close(joint_probability(b, a), joint_probability(a, b))
    flat = joint_probability(a.flatten(2), b.flatten(2), symmetric=False)
    close(flat, plain)
    alone = [joint_probability(a[n : n + 1], b[n : n + 1], symmetric=False) for n in range(3)]
    close(torch.stack(alone).mean(0), plain)  # joints may be averaged over equal batches
    order = torch.tensor([3, 0, 4, 1, 2])
    close(joint_probability(a[:, order], b, symmetric=False), plain[order])
    close(joint_probability(a[:, order], b[:, order]), joint_probability(a, b)[order][:, order])


@pytest.mark.parametrize("grid", GRIDS)
def test_mask_is_a_weighted_mean(grid):
    a, b = simplex(2, 3, *grid), simplex(2, 3, *grid, seed=1)
    weights = torch.rand(2, 1, *grid, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    literal = torch.einsum("bkx,bjx,bx->kj", a.flatten(2), b.flatten(2), weights.flatten(1)) / weights.sum()
    close(joint_probability(a, b, symmetric=False, mask=weights), literal)
    close(joint_probability(a, b, mask=7 * weights), joint_probability(a, b, mask=weights))
    close(joint_probability(a, b, mask=torch.ones_like(weights)), joint_probability(a, b))
    chosen = weights > 0.5
    close(joint_probability(a, b, mask=chosen), joint_probability(a, b, mask=chosen.double()))
    close(joint_probability(a, b, mask=chosen).sum(), torch.tensor(1.0, dtype=torch.float64))


def test_one_voxel_and_an_unused_cluster_are_allowed():
    a = torch.tensor([[[0.25], [0.75], [0.0]]], dtype=torch.float64)
    b = torch.tensor([[[0.5], [0.5], [0.0]]], dtype=torch.float64)
    joint = joint_probability(a, b, symmetric=False)
    assert joint.tolist() == [[0.125, 0.125, 0], [0.375, 0.375, 0], [0, 0, 0]]
    for loss in (mutual_information(joint), iic_loss(joint), regularized_mi_loss(joint)):
        assert loss.isfinite()


def test_joint_gradient_is_right_and_reaches_both_views():
    a, b = (simplex(2, 3, 4, seed=s).log().requires_grad_() for s in range(2))
    mask = simplex(2, 3, 4, seed=2)[:, :1]
    for options in ({}, {"symmetric": False}, {"mask": mask}):
        assert torch.autograd.gradcheck(
            lambda x, y, options=options: joint_probability(x.softmax(1), y.softmax(1), **options), (a, b)
        )


# ------------------------------------------------------------ types, of all functions of this file


FROM_PROBABILITIES = {
    "joint": joint_probability,
    "masked": lambda a, b: joint_probability(a, b, mask=torch.ones_like(a[:, :1])),
    "displaced": lambda a, b: displaced_joint_probability(a, b, radius=1),
    "released": lambda a, b: displaced_joint_probability(a, b, radius=1, match_released_code=True),
}
FROM_JOINT = {"mi": mutual_information, "iic": iic_loss, "rmi": regularized_mi_loss}


def cases():
    a, b = simplex(2, 4, 16, 16, sharpness=2.0), simplex(2, 4, 16, 16, seed=1, sharpness=2.0)
    pairs = [(name, function, (a, b)) for name, function in FROM_PROBABILITIES.items()]
    return pairs + [(name, function, (random_joint(),)) for name, function in FROM_JOINT.items()]


@pytest.mark.parametrize(("name", "function", "inputs"), cases(), ids=lambda v: v if isinstance(v, str) else "")
def test_types(name, function, inputs):
    assert function(*inputs).dtype == torch.float64
    single = [x.float() for x in inputs]
    copies = [x.clone() for x in single]
    found = function(*single)
    assert found.dtype == torch.float32
    close(found, function(*inputs).float(), 2e-4, 2e-6)
    assert all(torch.equal(x, copy) for x, copy in zip(single, copies, strict=True))  # pure
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = function(*single)
    assert under.dtype == torch.float32
    assert torch.equal(under, found)
    for half in (torch.float16, torch.bfloat16):
        narrow = [x.to(half) for x in inputs]
        found = function(*narrow)
        assert found.dtype == torch.float32
        wide = function(*(x.double() / (x.double().sum(1, keepdim=True) if x.dim() > 2 else 1) for x in narrow))
        close(found, wide.float(), 2e-2, 5e-4)  # the sums of half types are off by that, the arithmetic is not


def test_half_types_are_multiplied_in_float32():
    a = torch.full((1, 64, 64, 64), 1 / 64)
    for half in (torch.float16, torch.bfloat16):
        joint = joint_probability(a.to(half), a.to(half))  # 4096 sums of 2**-12: a float16 sum would stop growing
        close(joint, torch.full((64, 64), 2.0**-12), 1e-6, 0)


def test_a_large_grid_still_sums_to_1_in_float32():
    probs = simplex(1, 2, 96, 96, 96, dtype=torch.float32)
    assert float(joint_probability(probs, probs).sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("function", [joint_probability, lambda a, b: displaced_joint_probability(a, b, radius=0)])
def test_simplex_tolerance_depends_on_the_type(function):
    a = torch.full((1, 2, 8), 0.5)
    function(1.0005 * a, a)
    function((1.005 * a).half(), a.half())
    function((1.005 * a).bfloat16(), a.bfloat16())
    with pytest.raises(ValueError, match="probs_a"):
        function(1.005 * a, a)
    with pytest.raises(ValueError, match="probs_b"):
        function(a.double(), 1.005 * a.double())
    with pytest.raises(ValueError, match="probs_a"):
        function((1.03 * a).half(), a.half())
    with pytest.raises(ValueError, match="probs_b"):
        function(a.bfloat16(), (1.03 * a).bfloat16())


# ------------------------------------------------------------ refusals


def with_entry(value, place=(0, 0, 0)):
    x = torch.full((2, 3, 4), 1 / 3)
    x[place] = value
    if math.isfinite(value):
        x[place[0], 1, place[2]] = 2 / 3 - value  # the sum stays 1
    return x


GOOD = torch.full((2, 3, 4), 1 / 3)
BAD_PAIRS = [
    (GOOD, GOOD[:, :, :3], r"(?s)probs_a.*probs_b.*\(2, 3, 4\).*\(2, 3, 3\)"),
    (GOOD, GOOD[:1], r"(?s)probs_a.*probs_b.*\(2, 3, 4\).*\(1, 3, 4\)"),
    (torch.ones(2, 1, 4), torch.ones(2, 1, 4), r"probs_a.*1"),
    (GOOD[:0], GOOD[:0], r"(?s)probs_a.*\(0, 3, 4\)"),
    (GOOD[:, :, :0], GOOD[:, :, :0], r"(?s)probs_a.*\(2, 3, 0\)"),
    (GOOD[:, :, 0], GOOD[:, :, 0], r"(?s)probs_a.*\(2, 3\)"),
    (2 * GOOD, GOOD, "probs_a"),
    (GOOD, 0.9 * GOOD, "probs_b"),
    (with_entry(-0.1), GOOD, "probs_a"),
    (GOOD, with_entry(-0.1, (1, 2, 3)), "probs_b"),
    (with_entry(math.nan, (1, 2, 3)), GOOD, "probs_a"),
    (GOOD, with_entry(math.nan), "probs_b"),
    (with_entry(math.inf), GOOD, "probs_a"),
    (GOOD, with_entry(-math.inf), "probs_b"),
]


@pytest.mark.parametrize(("a", "b", "message"), BAD_PAIRS)
def test_what_the_joints_refuse(a, b, message):
    with pytest.raises(ValueError, match=message):
        joint_probability(a, b)
    with pytest.raises(ValueError, match=message):
        displaced_joint_probability(a, b, radius=0)


@pytest.mark.parametrize(
    "mask",
    [
        torch.ones(2, 4),
        torch.ones(2, 3, 4),
        torch.ones(1, 1, 4),
        torch.ones(2, 1, 3),
        torch.zeros(2, 1, 4),
        torch.zeros(2, 1, 4, dtype=torch.bool),
        torch.tensor([1.0, -0.5, 1, 1]).expand(2, 1, 4),
        torch.full((2, 1, 4), math.nan),
        torch.full((2, 1, 4), math.inf),
    ],
)
def test_masks_that_are_refused(mask):
    with pytest.raises(ValueError, match="mask"):
        joint_probability(GOOD, GOOD, mask=mask)


# ------------------------------------------------------------ displaced pairs


@pytest.mark.parametrize(("dtype", "rtol", "atol"), PRECISION)
def test_displaced_joint_matches_the_reference(dtype, rtol, atol):
    for case, source in (("displaced2d", "joint2d"), ("displaced3d", "joint3d")):
        a, b = stored(f"{source}__probs_a", dtype), stored(f"{source}__probs_b", dtype)
        joint = displaced_joint_probability(a, b, radius=int(REFERENCE[f"{case}__radius"]))
        assert joint.dtype == dtype
        close(joint, stored(f"{case}__joint", dtype), rtol, atol)
        close(iic_loss(joint), stored(f"{case}__loss", dtype), rtol, atol)
    a, b = stored("joint2d__probs_a", dtype), stored("joint2d__probs_b", dtype)
    close(
        displaced_joint_probability(a, b, radius=1, symmetric=True),
        stored("displaced2d__joint_symmetric", dtype),
        rtol,
        atol,
    )
    for case, symmetric in (("displaced2d_released", False), ("displaced2d_released_symmetric", True)):
        joint = displaced_joint_probability(a, b, radius=1, symmetric=symmetric, match_released_code=True)
        close(joint, stored(f"{case}__joint", dtype), rtol, 1e-5 if dtype == torch.float32 else atol)


@pytest.mark.parametrize("symmetric", [False, True])
def test_released_displaced_loss_and_gradients_match_the_reference(symmetric):
    case = "displaced2d_released" + "_symmetric" * symmetric
    a, b = (stored(f"joint2d__probs_{v}").requires_grad_() for v in "ab")
    loss = iic_loss(displaced_joint_probability(a, b, radius=1, symmetric=symmetric, match_released_code=True))
    loss.backward()
    close(loss.detach(), stored(f"{case}__loss"), 1e-7, 1e-10)
    close(a.grad, stored(f"{case}__grad_a"), 1e-7, 1e-10)
    close(b.grad, stored(f"{case}__grad_b"), 1e-7, 1e-10)


@pytest.mark.parametrize(("grid", "radius"), [((6,), 2), ((3, 4), 1), ((4, 3), 2), ((2, 3, 2), 1)])
def test_displaced_joint_is_the_double_sum(grid, radius):
    a, b = simplex(2, 3, *grid), simplex(2, 3, *grid, seed=1)
    size = 2 * radius + 1
    found = displaced_joint_probability(a, b, radius=radius)
    assert found.shape == (size,) * len(grid) + (3, 3)
    for u in itertools.product(range(size), repeat=len(grid)):
        total = torch.zeros(3, 3, dtype=torch.float64)
        for x in itertools.product(*map(range, grid)):
            y = tuple(i + j - radius for i, j in zip(x, u, strict=True))
            if all(0 <= i < n for i, n in zip(y, grid, strict=True)):
                for n in range(2):
                    total += torch.outer(a[(n, slice(None), *y)], b[(n, slice(None), *x)])
        close(found[u], total / total.sum())
    mirrored = displaced_joint_probability(b, a, radius=radius).flip(tuple(range(len(grid)))).mT
    close(mirrored, found)
    symmetric = displaced_joint_probability(a, b, radius=radius, symmetric=True)
    close(symmetric, (found + found.mT) / 2)


@pytest.mark.parametrize("grid", GRIDS)
def test_radius_0_is_the_joint_in_place(grid):
    a, b = simplex(2, 4, *grid), simplex(2, 4, *grid, seed=1)
    found = displaced_joint_probability(a, b, radius=0)
    close(found[(0,) * len(grid)], joint_probability(a, b, symmetric=False))
    released = displaced_joint_probability(a, b, radius=0, match_released_code=True)
    close(released.sum(), torch.tensor(1.0, dtype=torch.float64))


@pytest.mark.parametrize(("grid", "sharpness"), [((6, 5), 1.0), ((6, 5), 4.0), ((4, 3, 5), 4.0), ((9,), 1.0)])
@pytest.mark.parametrize("symmetric", [False, True])
def test_released_scale(grid, sharpness, symmetric):
    """Each matrix sums to one over their number T**d, which gives iic_loss = [mean(-MI) - log T**d] / T**d."""
    a, b = simplex(2, 4, *grid, sharpness=sharpness), simplex(2, 4, *grid, seed=1, sharpness=sharpness)
    joint = displaced_joint_probability(a, b, radius=1, symmetric=symmetric, match_released_code=True)
    number = 3 ** len(grid)
    close(joint.sum((-2, -1)), torch.full((3,) * len(grid), 1 / number, dtype=torch.float64), 1e-8, 0)
    law = (-mutual_information(number * joint).mean() - math.log(number)) / number
    close(iic_loss(joint, eps=1e-30), law, 1e-7, 0)


def test_released_subtraction_by_hand():
    # Two voxels, hard clusters: pair counts are exact, the smallest is 0, so only the 1e-8 is added.
    a = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)
    joint = displaced_joint_probability(a, a, radius=0, match_released_code=True)[0]
    assert joint[0, 1] > 0  # the plain joint is 0 here
    close(displaced_joint_probability(a, a, radius=0)[0], torch.eye(2, dtype=torch.float64) / 2)
    close(joint, torch.eye(2, dtype=torch.float64) / 2, 0, 1e-7)
    # Near-uniform predictions: the subtraction blows small differences up.
    near = simplex(2, 4, 6, 6, sharpness=0.01)
    plain = displaced_joint_probability(near, near, radius=1)
    released = displaced_joint_probability(near, near, radius=1, match_released_code=True) * 9
    assert released.std() > 20 * plain.std()


@pytest.mark.parametrize("released", [False, True])
def test_displaced_gradient_is_right(released):
    a, b = (simplex(1, 2, 3, 2, seed=s).log().requires_grad_() for s in range(2))

    def joint(x, y):
        return displaced_joint_probability(x.softmax(1), y.softmax(1), radius=1, match_released_code=released)

    if not released:  # there the smallest entry is a detached constant, which finite differences cannot see
        assert torch.autograd.gradcheck(joint, (a, b))
    iic_loss(joint(a, b)).backward()
    assert a.grad.isfinite().all() and a.grad.abs().max() > 0
    assert b.grad.isfinite().all() and b.grad.abs().max() > 0


@pytest.mark.parametrize(("grid", "radius"), [((4,), -1), ((4,), 4), ((4, 3), 3), ((5, 4, 2), 2)])
def test_radii_that_are_refused(grid, radius):
    x = torch.full((1, 2, *grid), 0.5)
    with pytest.raises(ValueError, match=rf"radius.*{radius}"):
        displaced_joint_probability(x, x, radius=radius)


def test_the_largest_radius_leaves_one_voxel_pair():
    a, b = simplex(1, 3, 4), simplex(1, 3, 4, seed=1)
    joint = displaced_joint_probability(a, b, radius=3)
    close(joint[6], torch.outer(a[0, :, 3], b[0, :, 0]))


# ------------------------------------------------------------ mutual information


def test_closed_forms():
    for case in ("uniform", "diagonal", "permuted", "dead_cluster"):
        joint = stored(f"closed__{case}")
        close(mutual_information(joint), stored(f"closed__{case}__mutual_information"), 1e-7, 1e-10)
        for alpha in ("0", "0.5", "1"):
            found = regularized_mi_loss(joint, alpha=float(alpha))
            close(found, stored(f"closed__{case}__alpha{alpha}__loss"), 1e-7, 1e-10)
            single = regularized_mi_loss(joint.float(), alpha=float(alpha))
            close(single, stored(f"closed__{case}__alpha{alpha}__loss", torch.float32), 2e-4, 2e-6)
        close(iic_loss(joint), stored(f"closed__{case}__alpha0__loss"), 1e-7, 1e-10)


def test_mutual_information_by_hand_and_its_bounds():
    joint = torch.tensor([[0.5, 0.0], [0.25, 0.25]], dtype=torch.float64)
    by_hand = 0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3) + 0.25 * math.log(4 / 3 * 1.5)
    assert float(mutual_information(joint)) == pytest.approx(by_hand, rel=1e-12)
    joints = random_joint(4, 5, 3)
    found = mutual_information(joints)
    assert found.shape == (5, 3)

    def entropy(p, axes):
        return -(p * p.log()).sum(axes)

    literal = entropy(joints.sum(-1), -1) + entropy(joints.sum(-2), -1) - entropy(joints, (-2, -1))
    close(found, literal, 1e-9, 1e-12)
    assert ((found >= 0) & (found <= math.log(4))).all()
    order = torch.tensor([2, 0, 3, 1])
    close(mutual_information(joints[..., order]), found)  # names of clusters in one view do not matter
    close(mutual_information(joints.mT), found)
    one = torch.zeros(3, 3, dtype=torch.float64)
    one[1, 1] = 1
    assert float(mutual_information(one)) == 0
    assert mutual_information(joints[0, 0]).shape == ()


@pytest.mark.parametrize("joint", [torch.ones(2, 3) / 6, torch.ones(4) / 4])
def test_matrices_that_are_refused(joint):
    for function in (mutual_information, iic_loss, regularized_mi_loss):
        with pytest.raises(ValueError, match="joint"):
            function(joint)


# ------------------------------------------------------------ the two losses of a joint matrix


@pytest.mark.parametrize(("dtype", "rtol", "atol"), PRECISION)
@pytest.mark.parametrize("case", [k[:-6] for k in REFERENCE.files if k.startswith("regmi") and k.endswith("__loss")])
def test_regularized_loss_matches_the_reference(case, dtype, rtol, atol):
    kind, _, settings = case.partition("__")
    options = {}
    if settings:
        alpha, weight = settings.split("_")
        options = {"alpha": float(alpha.removeprefix("alpha")), "marginal_weight": float(weight[len("weight") :])}
    item = "logits" if kind == "regmi_logits" else "probs"
    a, b = (stored(f"{kind}__{item}_{v}", dtype).requires_grad_() for v in "ab")
    views = (a.softmax(1), b.softmax(1)) if item == "logits" else (a, b)
    loss = regularized_mi_loss(joint_probability(*views), **options)
    loss.backward()
    assert loss.dtype == dtype and loss.shape == ()
    close(loss.detach(), stored(f"{case}__loss", dtype), rtol, atol)
    close(a.grad, stored(f"{case}__grad_a", dtype), rtol, atol)
    close(b.grad, stored(f"{case}__grad_b", dtype), rtol, atol)


@pytest.mark.parametrize(("dtype", "rtol", "atol"), PRECISION)
@pytest.mark.parametrize("weight", [1, 2])
def test_iic_matches_the_reference(weight, dtype, rtol, atol):
    a, b = stored("joint2d__probs_a", dtype).requires_grad_(), stored("joint2d__probs_b", dtype)
    loss = iic_loss(joint_probability(a, b), marginal_weight=weight)
    loss.backward()
    close(loss.detach(), stored(f"iic__weight{weight}__loss", dtype), rtol, atol)
    close(a.grad, stored(f"iic__weight{weight}__grad_a", dtype), rtol, atol)


@pytest.mark.parametrize(("dtype", "rtol", "atol"), PRECISION)
def test_one_hot_clusters_match_the_reference(dtype, rtol, atol):
    a = stored("edge_one_hot__probs", dtype).requires_grad_()
    loss = regularized_mi_loss(joint_probability(a, a.detach().clone()))
    loss.backward()
    close(loss.detach(), stored("edge_one_hot__loss", dtype), rtol, atol)
    close(a.grad, stored("edge_one_hot__grad_a", dtype), rtol, atol)


@pytest.mark.parametrize("weight", [0.0, 1.0, 1.5])
@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_losses_are_their_equations(weight, eps):
    joint = random_joint(3)
    for alpha in ALPHAS:
        by_hand = 0.0
        for i, j in itertools.product(range(3), repeat=2):
            p, row, column = float(joint[i, j]), float(joint[i].sum()), float(joint[:, j].sum())
            target = alpha * (i == j) / 3 + (1 - alpha) * p
            by_hand -= target * math.log(p + eps)
            by_hand += weight * p * (math.log(row + eps) + math.log(column + eps))
        found = regularized_mi_loss(joint, alpha=alpha, marginal_weight=weight, eps=eps)
        assert float(found) == pytest.approx(by_hand, rel=1e-12)
        if alpha == 0:
            assert float(iic_loss(joint, marginal_weight=weight, eps=eps)) == pytest.approx(by_hand, rel=1e-12)


def test_iic_averages_over_leading_axes():
    joints = random_joint(4, 2, 3)
    alone = [iic_loss(j) for j in joints.flatten(0, 1)]
    close(iic_loss(joints), torch.stack(alone).mean())


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("weight", [0.5, 1.0, 2.0])
def test_loss_reads_as_weaker_information_plus_distance_to_the_diagonal(alpha, weight):
    joint, k = random_joint(5), 5

    def entropy(p):
        return -(p * p.log()).sum()

    divergence = -(joint.diagonal().log() + math.log(k)).mean()
    reading = (1 - alpha) * entropy(joint) - weight * (entropy(joint.sum(0)) + entropy(joint.sum(1)))
    reading = reading + alpha * (math.log(k) + divergence)
    close(regularized_mi_loss(joint, alpha=alpha, marginal_weight=weight, eps=1e-15), reading, 1e-9, 1e-11)
    if alpha == 0 and weight == 1:
        close(iic_loss(joint, eps=1e-15), -mutual_information(joint), 1e-9, 1e-12)


@pytest.mark.parametrize("k", [2, 4, 7])
def test_reference_points(k):
    """Equations with eps -> 0: uniform 0, I/K and its permutations -log K, all in one cluster 0."""
    diagonal = torch.eye(k, dtype=torch.float64) / k
    uniform = torch.full((k, k), 1 / k**2, dtype=torch.float64)
    collapsed = torch.zeros(k, k, dtype=torch.float64)
    collapsed[0, 0] = 1
    for alpha in ALPHAS:
        assert float(regularized_mi_loss(diagonal, alpha=alpha, eps=1e-12)) == pytest.approx(-math.log(k), abs=1e-9)
        assert float(regularized_mi_loss(uniform, alpha=alpha, eps=1e-12)) == pytest.approx(0, abs=1e-9)
    for joint, value in ((diagonal, -math.log(k)), (diagonal.roll(1, 0), -math.log(k)), (collapsed, 0), (uniform, 0)):
        assert float(iic_loss(joint, eps=1e-12)) == pytest.approx(value, abs=1e-9)
        assert float(mutual_information(joint)) == pytest.approx(-value, abs=1e-12)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_minimum_is_the_balanced_diagonal(alpha):
    k = 4
    best = torch.eye(k, dtype=torch.float64) / k
    lowest = float(regularized_mi_loss(best, alpha=alpha, eps=1e-12))
    for seed in range(10):
        for step in (1e-4, 1e-2, 0.3, 1.0):
            other = (1 - step) * best + step * random_joint(k, seed=seed)
            assert float(regularized_mi_loss(other, alpha=alpha, eps=1e-12)) > lowest
    permuted = float(regularized_mi_loss(cyclic(k), alpha=alpha, eps=1e-12))
    assert permuted == pytest.approx(lowest, abs=1e-9) if alpha == 0 else permuted > lowest + 1


def test_permuted_clusters_cost_what_the_method_says():
    values = [float(regularized_mi_loss(cyclic(), alpha=a)) for a in (0, 0.5, 1)]
    assert values == pytest.approx([-1.386, 3.677, 8.740], abs=1e-3)
    assert values[1] == pytest.approx((values[0] + values[2]) / 2)  # linear in alpha
    uniform = torch.full((4, 4), 1 / 16, dtype=torch.float64)
    crossing = (float(regularized_mi_loss(uniform)) - values[0]) / (values[2] - values[0])
    assert crossing == pytest.approx(0.137, abs=5e-4)


def test_cluster_names_in_one_view_matter_only_with_the_diagonal_term():
    a, b = simplex(2, 4, 6, 6, sharpness=3.0), simplex(2, 4, 6, 6, sharpness=3.0)
    order = torch.tensor([1, 2, 3, 0])
    plain, renamed = (joint_probability(a, x, symmetric=False) for x in (b, b[:, order]))
    close(regularized_mi_loss(renamed, alpha=0), regularized_mi_loss(plain, alpha=0))
    assert regularized_mi_loss(renamed, alpha=0.5) > regularized_mi_loss(plain, alpha=0.5) + 0.5
    both = joint_probability(a[:, order], b[:, order])
    close(regularized_mi_loss(both), regularized_mi_loss(joint_probability(a, b)))


def gradient_norm(sigma, alpha):
    z = torch.randn(2, 10, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits = (sigma * z).requires_grad_()
    probs = logits.softmax(1)
    regularized_mi_loss(joint_probability(probs, probs), alpha=alpha).backward()
    return float(logits.grad.norm())


@pytest.mark.parametrize(
    ("alpha", "slope", "table"),
    [
        (0.0, 3, (1.4e-9, 1.4e-6, 4.3e-5, 2.1e-3)),
        (0.5, 1, (6.7e-5, 6.8e-4, 2.2e-3, 7.7e-3)),
        (1.0, 1, (1.3e-4, 1.4e-3, 4.4e-3, 1.3e-2)),
    ],
)
def test_the_plateau_of_mutual_information(alpha, slope, table):
    norms = [gradient_norm(sigma, alpha) for sigma in (0.01, 0.1, 0.3, 1.0)]
    assert math.log10(norms[1] / norms[0]) == pytest.approx(slope, abs=0.05)
    assert norms == pytest.approx(table, rel=0.1)  # two digits, another draw


@pytest.mark.parametrize("alpha", ALPHAS)
def test_exactly_uniform_predictions_do_not_move(alpha):
    logits = torch.zeros(1, 4, 9, dtype=torch.float64, requires_grad=True)
    regularized_mi_loss(joint_probability(logits.softmax(1), logits.softmax(1)), alpha=alpha).backward()
    assert logits.grad.abs().max() < 1e-12


@pytest.mark.parametrize("alpha", ALPHAS)
def test_gradients_flow_through_the_target_too(alpha):
    joint = random_joint(3).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: regularized_mi_loss(p, alpha=alpha, marginal_weight=1.5), joint)
    assert torch.autograd.gradcheck(lambda p: iic_loss(p, marginal_weight=1.5), joint)


def test_dead_cluster_keeps_loss_and_gradient_finite():
    joint = stored("closed__dead_cluster").requires_grad_()
    loss = regularized_mi_loss(joint)
    loss.backward()
    assert loss.isfinite() and joint.grad.isfinite().all()
    alive = regularized_mi_loss(stored("closed__diagonal"))
    assert float(loss.detach() - alive) == pytest.approx(11.5 * 0.5 / 4, abs=0.3)  # about alpha * log(1 / eps) / K


@pytest.mark.parametrize(
    ("joint", "options", "message"),
    [
        (torch.eye(3) / 3, {"alpha": -0.01}, r"alpha.*-0\.01"),
        (torch.eye(3) / 3, {"alpha": 1.01}, r"alpha.*1\.01"),
        (torch.eye(3) / 3, {"alpha": math.nan}, r"alpha.*nan"),
        (torch.ones(2, 3) / 6, {}, r"joint.*\(2, 3\)"),
        (torch.ones(2, 3, 3) / 9, {}, r"joint.*\(2, 3, 3\)"),
        (torch.ones(1, 1), {}, r"joint.*\(1, 1\)"),
    ],
)
def test_what_the_regularized_loss_refuses(joint, options, message):
    with pytest.raises(ValueError, match=message):
        regularized_mi_loss(joint, **options)


def test_views_of_two_precisions_are_computed_in_the_finer():
    a, b = (torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(s)).softmax(1) for s in (0, 1))
    found = joint_probability(a, b.double())
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, joint_probability(a.double(), b.double()), rtol=0, atol=0)
    assert displaced_joint_probability(a.double(), b, radius=1).dtype == torch.float64
