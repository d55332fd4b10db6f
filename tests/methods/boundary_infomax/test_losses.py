"""The total loss, the contrast beside it and one training step: reference numbers, laws, edges, messages."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from medssl_nb.methods.boundary_infomax import (
    BoundaryInfoMaxTerms,
    ClusterHead,
    FeatureUNet,
    ProjectionHead,
    apply_affine,
    boundary_infomax_loss,
    boundary_loss,
    info_nce_loss,
    joint_probability,
    random_affine,
    random_gamma,
    regularized_mi_loss,
)

REFERENCE = np.load(Path(__file__).parents[2] / "reference" / "boundary_infomax.npz", allow_pickle=False)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
PRECISION = [(torch.float64, 1e-7, 1e-10), (torch.float32, 2e-4, 2e-6)]  # as stated beside the numbers


def stored(name, dtype=torch.float64, device="cpu"):
    return torch.from_numpy(np.asarray(REFERENCE[name])).to(device, dtype)


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def simplex(*shape, seed=0):
    return (3 * noise(*shape, seed=seed)).softmax(1)


def close(found, expected, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(found.cpu(), expected.cpu(), rtol=rtol, atol=atol)


def views(*shape, heads=2):
    return [simplex(*shape, seed=s) for s in range(heads)], [simplex(*shape, seed=s + 50) for s in range(heads)]


# ------------------------------------------------------------ the total


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "rtol", "atol"), PRECISION)
def test_total_matches_the_reference(dtype, rtol, atol, device):
    a, b = (stored(f"total__probs_{v}", dtype, device).requires_grad_() for v in "ab")
    image = stored("total__image", dtype, device).requires_grad_()
    mi_weight, boundary_weight, alpha = REFERENCE["total__weights"].tolist()
    terms = boundary_infomax_loss(
        list(a),
        list(b),
        image,
        mi_weight=mi_weight,
        boundary_weight=boundary_weight,
        alpha=alpha,
        boundary="wrap",
    )
    assert isinstance(terms, BoundaryInfoMaxTerms)
    assert terms._fields == ("total", "mutual_information", "boundary", "joints")
    for found, name in ((terms.total, "loss"), (terms.mutual_information, "mutual_information_term")):
        assert found.dtype == dtype and found.shape == () and found.device.type == device
        close(found.detach(), stored(f"total__{name}", dtype), rtol, atol)
    close(terms.boundary.detach(), stored("total__boundary_term", dtype), rtol, atol)
    terms.total.backward()
    fine = atol if dtype == torch.float64 else 1e-5
    close(a.grad, stored("total__grad_a", dtype), rtol, fine)
    close(b.grad, stored("total__grad_b", dtype), rtol, fine)
    assert image.grad is None


@pytest.mark.parametrize("grid", [(9,), (7, 8), (5, 6, 7)])
@pytest.mark.parametrize("masked", [False, True])
def test_total_is_its_parts(grid, masked):
    a, b = views(2, 4, *grid)
    image = noise(2, 1, *grid, seed=9)
    mask = noise(2, 1, *grid, seed=8) > 0.3 if masked else None
    edges = {"window": 3, "power": 1.5, "spacing": [2.0, 1.0, 0.5][: len(grid)], "boundary": "wrap", "mask": mask}
    terms = boundary_infomax_loss(
        a, b, image, mi_weight=0.7, boundary_weight=0.3, alpha=0.25, marginal_weight=1.5, symmetric=False, **edges
    )
    joints = [joint_probability(p, q, symmetric=False, mask=mask) for p, q in zip(a, b, strict=True)]
    close(terms.joints, torch.stack(joints))
    information = torch.stack([regularized_mi_loss(j, alpha=0.25, marginal_weight=1.5) for j in joints]).mean()
    borders = torch.stack([boundary_loss(p, image, **edges) for p in (*a, *b)]).mean()
    close(terms.mutual_information, information)  # unweighted means
    close(terms.boundary, borders)
    close(terms.total, 0.7 * information + 0.3 * borders)


def test_defaults():
    a, b = views(2, 4, 7, 8)
    image = noise(2, 1, 7, 8, seed=9)
    terms = boundary_infomax_loss(a, b, image)
    information = [regularized_mi_loss(joint_probability(p, q), alpha=0.5) for p, q in zip(a, b, strict=True)]
    borders = [boundary_loss(p, image, window=5, power=0.75) for p in (*a, *b)]
    close(terms.total, torch.stack(information).mean() + torch.stack(borders).mean())
    assert terms.joints.shape == (2, 4, 4)
    assert torch.equal(terms.joints, terms.joints.mT)
    alone = boundary_infomax_loss(a[:1], b[:1], image)
    other = boundary_infomax_loss(a[1:], b[1:], image)
    close(terms.total, (alone.total + other.total) / 2)
    as_tuples = boundary_infomax_loss(tuple(a), tuple(b), image)
    close(as_tuples.total, terms.total)


def test_an_image_of_another_size_is_resized():
    a, b = views(2, 4, 7, 8)
    image = noise(2, 1, 14, 16, seed=9)
    small = torch.nn.functional.interpolate(image, size=(7, 8), mode="bilinear", align_corners=False)
    close(boundary_infomax_loss(a, b, image).total, boundary_infomax_loss(a, b, small).total)


def test_boundary_weight_0_skips_the_boundary(monkeypatch):
    a, b = (simplex(2, 4, 6, 6, seed=s).requires_grad_() for s in range(2))
    image = noise(2, 1, 6, 6, seed=9)

    def never(*args, **kwargs):
        raise AssertionError("computed")

    for module in ("losses", "boundaries"):
        for name in ("local_cross_correlation", "cluster_entropy", "edge_target"):
            monkeypatch.setattr(f"medssl_nb.methods.boundary_infomax.{module}.{name}", never, raising=False)
    with pytest.raises(AssertionError, match="computed"):
        boundary_infomax_loss([a], [b], image)
    terms = boundary_infomax_loss([a], [b], image, boundary_weight=0)
    assert terms.boundary.dtype == torch.float64 and terms.boundary == 0
    close(terms.total, terms.mutual_information)
    (by_total,) = torch.autograd.grad(terms.total, a)
    (by_information,) = torch.autograd.grad(regularized_mi_loss(joint_probability(a, b)), a)
    close(by_total, by_information)


def test_total_gradient_is_right():
    # Hard and even voxels hold the ends of the min-max, which are detached.
    ends = torch.tensor([[60.0, 0, 0], [0, 0, 0]], dtype=torch.float64).T[None, :, None].repeat(1, 1, 1, 2)
    image = noise(1, 1, 4, 4, seed=1)
    z = [noise(1, 3, 3, 4, seed=s).requires_grad_() for s in range(2)]

    def total(first, second):
        a, b = (torch.cat([x, ends], 2).softmax(1) for x in (first, second))
        return boundary_infomax_loss([a], [b], image, window=3).total

    assert torch.autograd.gradcheck(total, z)


def test_types():
    a, b = views(2, 4, 8, 10)
    image = noise(2, 1, 8, 10, seed=9)
    wide = boundary_infomax_loss(a, b, image)
    assert all(term.dtype == torch.float64 for term in wide)
    single = [p.float() for p in a], [p.float() for p in b], image.float()
    copies = [p.clone() for p in (*single[0], *single[1], single[2])]
    found = boundary_infomax_loss(*single)
    assert all(term.dtype == torch.float32 for term in found)
    close(found.total, wide.total.float(), 1e-4, 1e-5)
    after = (*single[0], *single[1], single[2])
    assert all(torch.equal(x, copy) for x, copy in zip(after, copies, strict=True))  # pure
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = boundary_infomax_loss(*single)
    assert all(x.dtype == torch.float32 and torch.equal(x, y) for x, y in zip(under, found, strict=True))
    for half in (torch.float16, torch.bfloat16):
        narrow = boundary_infomax_loss([p.to(half) for p in a], [p.to(half) for p in b], image.to(half))
        assert all(term.dtype == torch.float32 for term in narrow)
        close(narrow.total, found.total, 2e-2, 2e-2)
        mixed = boundary_infomax_loss(*single[:2], image.to(half))  # heads give float32, the image may be half
        assert mixed.total.dtype == torch.float32
        close(mixed.total, found.total, 2e-2, 2e-2)
        none = boundary_infomax_loss([p.to(half) for p in a], [p.to(half) for p in b], image, boundary_weight=0)
        assert none.boundary.dtype == torch.float32


P, IMAGE = torch.full((1, 2, 4, 4), 0.5), torch.ones(1, 1, 4, 4)


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        ([], [], {}, "probs_a.*0"),
        ([P, P], [P], {}, r"(?s)probs_a.*probs_b.*2.*1"),
        ([P], [], {}, r"(?s)probs_a.*probs_b.*1.*0"),
        ([P, 1.1 * P], [P, P], {}, "probs_a"),
        ([P, P], [P, 1.1 * P], {}, "probs_b"),
        ([P], [P[..., :3]], {}, r"(?s)probs_a.*probs_b.*\(1, 2, 4, 4\).*\(1, 2, 4, 3\)"),
        ([P, torch.full((1, 3, 4, 4), 1 / 3)], [P, torch.full((1, 3, 4, 4), 1 / 3)], {}, "(?s)probs_a.*2.*3"),
        ([P], [P], {"alpha": 1.5}, r"alpha.*1\.5"),
        ([P], [P], {"window": 4}, "window.*4"),
        ([P], [P], {"power": 0.0}, r"power.*0\.0"),
        ([P], [P], {"spacing": (1.0,)}, "spacing"),
        ([P], [P], {"boundary": "zeros"}, "boundary.*'zeros'"),
        ([P], [P], {"mask": torch.zeros(1, 1, 4, 4)}, "mask"),
        ([P], [P], {"mask": torch.ones(1, 4, 4)}, r"mask.*\(1, 4, 4\)"),
    ],
)
def test_what_the_total_refuses(a, b, options, message):
    with pytest.raises(ValueError, match=message):
        boundary_infomax_loss(a, b, IMAGE, **options)


def test_the_image_belongs_to_the_views():
    for image in (torch.ones(2, 1, 4, 4), torch.ones(1, 1, 4), torch.ones(1, 1, 4, 4, 4)):
        with pytest.raises(ValueError, match="image"):
            boundary_infomax_loss([P], [P], image)


# ------------------------------------------------------------ contrast: what its own tests leave open


def test_contrast_is_the_shared_one():
    from medssl_nb.training import losses

    assert info_nce_loss is losses.info_nce_loss


@pytest.mark.parametrize("labelled", [False, True])
def test_contrast_is_its_equation(labelled):
    a, b = noise(4, 3) - 0.5, noise(4, 3, seed=1) - 0.5
    labels = [0, 1, 0, 2] if labelled else [0, 1, 2, 3]
    z = [x / x.norm() for x in (*a, *b)]
    labels_of = labels + labels
    total = 0.0
    for u in range(8):
        others = [w for w in range(8) if w != u]
        s = {w: float(z[u] @ z[w]) / 0.3 for w in others}
        denominator = math.log(sum(math.exp(v) for v in s.values()))
        positives = [w for w in others if labels_of[w] == labels_of[u]]
        total -= sum(s[v] - denominator for v in positives) / len(positives)
    found = info_nce_loss(a, b, torch.tensor(labels) if labelled else None, temperature=0.3)
    assert float(found) == pytest.approx(total / 8, rel=1e-10)


@pytest.mark.parametrize("labels", [None, torch.tensor([1, 0, 1]), torch.tensor([4, 4, 4], dtype=torch.int32)])
def test_contrast_gradient_is_right_and_reaches_both_views(labels):
    a, b = (noise(3, 4, seed=s).requires_grad_() for s in range(2))
    assert torch.autograd.gradcheck(lambda x, y: info_nce_loss(x, y, labels, temperature=0.5), (a, b))


def test_contrast_types():
    a, b = noise(4, 6).float() - 0.5, noise(4, 6, seed=1).float() - 0.5
    copies = a.clone(), b.clone()
    found = info_nce_loss(a, b)
    assert found.dtype == torch.float32 and found.shape == ()
    assert torch.equal(a, copies[0]) and torch.equal(b, copies[1])
    assert info_nce_loss(a.double(), b.double()).dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = info_nce_loss(a, b)
    assert under.dtype == torch.float32 and torch.equal(under, found)
    for half in (torch.float16, torch.bfloat16):
        narrow = info_nce_loss(a.to(half), b.to(half))
        assert narrow.dtype == torch.float32
        close(narrow, info_nce_loss(a.to(half).float(), b.to(half).float()), 1e-6, 1e-6)


@pytest.mark.parametrize(
    ("a", "b", "labels", "temperature", "message"),
    [
        (torch.ones(3, 4), torch.ones(3, 5), None, 0.07, "embeddings"),
        (torch.ones(1, 4), torch.ones(1, 4), None, 0.07, "embeddings"),
        (torch.ones(2, 4, 1), torch.ones(2, 4, 1), None, 0.07, "embeddings"),
        (torch.ones(2, 4), torch.ones(2, 4), torch.zeros(2, 1, dtype=torch.long), 0.07, "labels"),
        (torch.ones(2, 4), torch.ones(2, 4), None, -0.1, r"temperature.*-0\.1"),
    ],
)
def test_contrast_names_the_argument(a, b, labels, temperature, message):
    with pytest.raises(ValueError, match=message):
        info_nce_loss(a, b, labels, temperature=temperature)


# ------------------------------------------------------------ one step of pre-training


@pytest.mark.parametrize("dims", [2, 3])
def test_one_step_trains_encoder_decoder_and_heads(dims):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(2, 1, *(16,) * dims, generator=generator)
    unet = FeatureUNet(1, 2, spatial_dims=dims, channels=(4, 6, 8))
    head = ClusterHead(4, 5, num_heads=2, spatial_dims=dims)
    projector = ProjectionHead(8, hidden_channels=8, out_channels=4)
    theta = random_affine(2, x.shape[2:], generator=generator)
    view_a = apply_affine(random_gamma(x, generator=generator), theta)
    taps = unet.features(torch.cat([view_a, x]), ("encoder_3", "decoder_1"))
    f_a, f_b = taps["decoder_1"].chunk(2)
    f_b = apply_affine(f_b, theta)
    probs = head(torch.cat([f_a, f_b]))
    mask = apply_affine(torch.ones_like(x), theta)
    terms = boundary_infomax_loss([p[:2] for p in probs], [p[2:] for p in probs], view_a, mask=mask)
    loss = terms.total + info_nce_loss(*projector(taps["encoder_3"]).chunk(2), torch.tensor([0, 1]))
    loss.backward()
    unused = {"final_conv.weight", "final_conv.bias"}
    for module in (unet, head, projector):
        for name, parameter in module.named_parameters():
            if parameter.grad is None:
                assert module is unet and name in unused, name  # the last layer is not used
            else:
                assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name
