"""k-means, the lesion cluster, the ratio and the mask: reference numbers, the sentences of the method taken literally,
laws, edges, messages."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from medssl_nb.methods.adaptive_masking import (
    KMeansResult,
    kmeans,
    lesion_category,
    masking_ratio,
    patch_features,
    select_masked_patches,
)

REFERENCE = np.load(Path(__file__).parents[2] / "reference" / "adaptive_masking.npz", allow_pickle=False)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
PRECISION = [(torch.float64, 1e-8), (torch.float32, 1e-4)]


def stored(name, dtype=None):
    value = torch.from_numpy(np.asarray(REFERENCE[name]))
    return value.to(dtype) if dtype and value.is_floating_point() else value


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def points(*values):
    """One volume with one feature: (1, N, 1)."""
    return torch.tensor(values, dtype=torch.float64)[None, :, None]


# --- k-means ---


def lloyd_by_hand(found, start, iterations):
    """One volume, valid patches only: the numbered sentences of the method, one patch at a time."""
    centroids, previous = start.copy(), None
    for _ in range(iterations):
        distances = ((found[:, None] - centroids) ** 2).sum(-1)
        labels, nearest = distances.argmin(1), distances.min(1)
        if previous is not None and (labels == previous).all():
            break
        previous, taken = labels.copy(), set()
        for k in range(len(centroids)):
            free = [i for i in range(len(found)) if i not in taken]
            if not (labels == k).any() and free:
                farthest = max(free, key=lambda i: (nearest[i], -i))
                if nearest[farthest] > 0:
                    labels[farthest] = k
                    taken.add(farthest)
        for k in range(len(centroids)):
            if (labels == k).any():
                centroids[k] = found[labels == k].mean(0)
    distances = ((found[:, None] - centroids) ** 2).sum(-1)
    return distances.argmin(1), centroids, distances.min(1).sum()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype, tolerance", PRECISION)
@pytest.mark.parametrize("case", ["two", "three_valid", "reseed", "one_iteration"])
def test_kmeans_matches_the_reference(case, dtype, tolerance, device):
    prefix = f"kmeans__{case}__"
    features, start = (stored(prefix + name, dtype).to(device) for name in ("features", "initial_centroids"))
    valid = stored(prefix + "valid").to(device) if case == "three_valid" else None
    options = {"iterations": 1} if case == "one_iteration" else {}
    found = kmeans(features, start.shape[1], initial_centroids=start, valid=valid, **options)
    assert {value.device for value in found} == {features.device}
    assert found.labels.dtype == torch.int64
    assert torch.equal(found.labels.cpu(), stored(prefix + "labels"))
    for name in ("centroids", "inertia"):
        value = getattr(found, name)
        assert value.dtype == dtype
        torch.testing.assert_close(value.cpu(), stored(prefix + name, dtype), rtol=tolerance, atol=tolerance)


def test_kmeans_by_hand():
    found = kmeans(points(0, 1, 10, 11), initial_centroids=points(0, 10))
    assert isinstance(found, KMeansResult)
    assert KMeansResult._fields == ("labels", "centroids", "inertia")
    assert found.labels.tolist() == [[0, 0, 1, 1]]
    assert found.centroids.tolist() == [[[0.5], [10.5]]]
    assert found.inertia.tolist() == [1.0]


def test_a_tie_goes_to_the_lower_cluster():
    found = kmeans(points(0, 5, 10), initial_centroids=points(10, 0), iterations=1)
    assert found.centroids.tolist() == [[[7.5], [0.0]]]  # 5 was as near to both
    assert kmeans(points(3, 3), initial_centroids=points(3, 3)).labels.tolist() == [[0, 0]]


def test_an_empty_cluster_takes_the_farthest_patch():
    found = kmeans(points(0, 1, 9), initial_centroids=points(0, 100), iterations=1)
    assert found.centroids.tolist() == [[[0.5], [9.0]]]
    # of two that are as far the first; and each cluster another one
    found = kmeans(points(-4, 0, 4, 0), 3, initial_centroids=points(0, 100, 200), iterations=1)
    assert found.centroids.tolist() == [[[0.0], [-4.0], [4.0]]]
    # nothing is away from its centroid: the cluster stays empty and where it was
    found = kmeans(points(2, 2, 2), initial_centroids=points(2, 50))
    assert found.labels.tolist() == [[0, 0, 0]]
    assert found.centroids.tolist() == [[[2.0], [50.0]]]
    assert found.inertia.tolist() == [0.0]


def test_labels_belong_to_the_centroids_returned():
    found = kmeans(points(0, 4, 5, 20), initial_centroids=points(0, 1), iterations=1)
    assert found.centroids[0].flatten().tolist() == [0.0, pytest.approx(29 / 3)]
    assert found.labels.tolist() == [[0, 0, 1, 1]]  # 4 changed sides when the means moved
    assert found.inertia.tolist() == [pytest.approx(16 + (5 - 29 / 3) ** 2 + (20 - 29 / 3) ** 2)]


@pytest.mark.parametrize("iterations", [1, 2, 3, 50])
@pytest.mark.parametrize("features", [1, 2])
def test_kmeans_does_what_the_sentences_say(features, iterations):
    # whole numbers on a small range: many ties, equal patches, empty clusters, few valid patches
    draw = np.random.default_rng(0)
    batch, patches, clusters = 60, 9, 4
    x = torch.from_numpy(draw.integers(0, 6, (batch, patches, features)).astype(float))
    start = torch.from_numpy(draw.integers(0, 12, (batch, clusters, features)).astype(float))
    valid = torch.from_numpy(draw.random((batch, patches)) < draw.random((batch, 1)))
    found = kmeans(x, clusters, initial_centroids=start, valid=valid, iterations=iterations)
    for b in range(batch):
        chosen = valid[b].numpy()
        assert (found.labels[b, ~valid[b]] == -1).all()
        if not chosen.any():
            continue
        labels, centroids, inertia = lloyd_by_hand(x[b].numpy()[chosen], start[b].numpy(), iterations)
        assert found.labels[b, valid[b]].tolist() == labels.tolist(), b
        torch.testing.assert_close(found.centroids[b], torch.from_numpy(centroids))
        torch.testing.assert_close(found.inertia[b], torch.tensor(inertia))


def test_kmeans_agrees_with_scikit_learn():
    from sklearn.cluster import KMeans

    for seed in range(3):
        x = noise(200, 3, seed=seed, dtype=torch.float64) + 3 * (torch.arange(200) % 4)[:, None]
        start = x[[0, 1, 2, 3]]
        theirs = KMeans(4, init=start.numpy(), n_init=1, max_iter=100, tol=0, algorithm="lloyd").fit(x.numpy())
        ours = kmeans(x[None], 4, initial_centroids=start[None], iterations=100)
        assert ours.labels[0].tolist() == theirs.labels_.tolist()
        torch.testing.assert_close(ours.centroids[0], torch.from_numpy(theirs.cluster_centers_))
        assert float(ours.inertia[0]) == pytest.approx(theirs.inertia_)


def test_inertia_never_rises():
    x, start = noise(3, 80, 2, dtype=torch.float64), noise(3, 6, 2, seed=1, dtype=torch.float64)
    start[:, 4:] += 100  # two clusters begin empty
    falling = torch.stack([kmeans(x, 6, initial_centroids=start, iterations=i).inertia for i in range(1, 12)])
    assert (falling.diff(dim=0) <= 1e-12).all()
    assert (falling[-1] < 0.9 * falling[0]).all()


def test_each_volume_is_clustered_by_itself():
    x, start, valid = noise(3, 30, 2), noise(3, 3, 2, seed=1), torch.rand(3, 30, generator=generator()) < 0.7
    x[1] = 100 * x[1] + 7
    together = kmeans(x, 3, initial_centroids=start, valid=valid)
    for b in range(3):
        alone = kmeans(x[b : b + 1], 3, initial_centroids=start[b : b + 1], valid=valid[b : b + 1])
        assert torch.equal(together.labels[b], alone.labels[0])
        torch.testing.assert_close(together.centroids[b], alone.centroids[0])
        # and a patch that is not valid is as good as absent
        without = kmeans(x[b : b + 1, valid[b]], 3, initial_centroids=start[b : b + 1])
        assert torch.equal(together.labels[b, valid[b]], without.labels[0])
        torch.testing.assert_close(together.inertia[b], without.inertia[0])


def test_small_differences_of_large_values_are_not_lost():
    x = torch.tensor([10000.0, 10000.25, 10001.0, 10001.25])[None, :, None]
    found = kmeans(x, initial_centroids=torch.tensor([[[10000.0], [10001.25]]]))
    assert found.labels.tolist() == [[0, 0, 1, 1]]
    assert found.inertia.tolist() == [4 * 0.125**2]


def test_same_generator_state_same_result():
    x = noise(2, 60, 2)
    first, again, other = (kmeans(x, 8, restarts=1, generator=generator(s)) for s in (3, 3, 4))
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.labels, other.labels)
    torch.manual_seed(5)
    by_default = kmeans(x, 8)
    torch.manual_seed(5)
    assert torch.equal(kmeans(x, 8).labels, by_default.labels)
    torch.manual_seed(6)
    assert not torch.equal(kmeans(x, 8, restarts=1).centroids, kmeans(x, 8, restarts=1).centroids)


def test_a_generator_leaves_the_default_one_alone_and_a_given_start_draws_nothing():
    x = noise(1, 20, 2)
    torch.manual_seed(0)
    state, mine = torch.get_rng_state(), generator(1)
    kmeans(x, 3, generator=mine)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(mine.get_state(), generator(1).get_state())
    mine = generator(1)
    found = kmeans(x, 3, initial_centroids=noise(1, 3, 2, seed=2), generator=mine, restarts=7)
    assert torch.equal(mine.get_state(), generator(1).get_state())
    assert torch.equal(found.labels, kmeans(x, 3, initial_centroids=noise(1, 3, 2, seed=2)).labels)
    kmeans(x, 3, initial_centroids=noise(1, 3, 2, seed=2))
    assert torch.equal(torch.get_rng_state(), state)


def test_kmeans_plus_plus_spreads_its_centres():
    # five tight heaps of unequal size: centres drawn evenly from all patches miss one nearly always
    heap = torch.tensor([0] * 60 + [1] * 20 + [2] * 4 + [3] * 3 + [4] * 2)
    x = 100.0 * torch.stack([heap % 2, heap // 2], dim=1) + 0.1 * noise(89, 2)
    for seed in range(10):
        found = kmeans(x[None], 5, restarts=1, generator=generator(seed)).labels[0]
        assert all(len(found[heap == h].unique()) == 1 for h in range(5))
        assert len(found.unique()) == 5


def test_the_first_centre_is_any_valid_patch_and_no_other():
    x, valid = noise(200, 5, 1), torch.tensor([True, True, False, True, True]).expand(200, 5)
    found = kmeans(x, 1, valid=valid, iterations=1, restarts=1, generator=generator())
    torch.testing.assert_close(found.centroids, x[:, [0, 1, 3, 4]].mean(1, keepdim=True))
    # two clusters on three patches, of which one is not valid: both valid ones become centres
    far = torch.tensor([0.0, 1.0, 1e6]).expand(200, 3)[..., None]
    found = kmeans(far, 2, valid=torch.tensor([True, True, False]).expand(200, 3), restarts=1, generator=generator())
    assert sorted(set(map(tuple, found.labels.tolist()))) == [(0, 1, -1), (1, 0, -1)]
    share = (found.labels[:, 0] == 0).double().mean()
    assert abs(share - 0.5) < 0.15  # four standard deviations of 200 draws


def test_the_next_centre_is_drawn_by_squared_distance():
    # Heaps at 0 (many), 1 and 3: from the heap at 0 the next centre lies in the heap at 3 with probability 9 / 10
    x = torch.tensor([0.0] * 998 + [1.0, 3.0]).expand(600, 1000)[..., None]
    found = kmeans(x, 2, iterations=1, restarts=1, generator=generator()).centroids[..., 0].sort(dim=1).values
    # centres 0 and 1: {0.., } and {1, 3}, mean 2; centres 0 and 3: {0.., 1} and {3}
    share = (found[:, 1] == 3).double().mean()
    assert abs(share - 0.9) < 0.05  # four standard deviations of 600 draws; by distance it would be 0.75


def test_the_best_of_the_restarts_is_kept_for_each_volume():
    x = noise(6, 40, 2)
    once = torch.stack([kmeans(x, 6, restarts=1, generator=generator(s)).inertia for s in range(12)])
    often = kmeans(x, 6, restarts=40, generator=generator(0))
    assert (often.inertia <= once.mean(0)).all()
    assert (often.inertia <= 1.02 * once.min(0).values).all()
    distances = (x[:, :, None] - often.centroids[:, None]).square().sum(-1)  # all three come from one restart
    assert torch.equal(often.labels, distances.argmin(-1))
    torch.testing.assert_close(often.inertia, distances.amin(-1).sum(-1))


# --- k-means: edges ---


def test_equal_patches_are_one_cluster():
    for found in (kmeans(torch.full((2, 6, 3), 7.5), 3), kmeans(torch.zeros(2, 6, 3), 3, generator=generator())):
        assert found.labels.tolist() == [[0] * 6] * 2
        assert found.inertia.tolist() == [0.0, 0.0]
        assert found.centroids.isfinite().all()


def test_a_constant_volume_has_no_lesion_and_a_random_mask():
    volume = torch.full((2, 1, 9, 9, 9), 0.1)
    result = kmeans(patch_features(volume, 3), generator=generator())
    lesion = lesion_category(result.labels)
    assert not lesion.any()
    u = torch.rand(2, 27, generator=generator())
    masks = [select_masked_patches(lesion, 0.5, lesion_share=share, noise=u) for share in (0.0, 1.0)]
    assert torch.equal(*masks)
    assert masks[0].sum(1).tolist() == [14, 14]


@pytest.mark.parametrize("given", [True, False])
def test_fewer_valid_patches_than_clusters(given):
    x, valid = noise(2, 6, 2), torch.tensor([[True, False, False, True, False, False], [False] * 5 + [True]])
    start = noise(2, 4, 2, seed=1) if given else None
    found = kmeans(x, 4, initial_centroids=start, valid=valid, generator=generator())
    assert (found.labels[~valid] == -1).all()
    assert len(set(found.labels[0, [0, 3]].tolist())) == 2
    torch.testing.assert_close(found.inertia, torch.zeros(2))
    assert found.centroids.isfinite().all()
    counts = [len(row[row >= 0].unique()) for row in found.labels]
    assert counts == [2, 1]  # the other clusters stay empty


@pytest.mark.parametrize("given", [True, False])
def test_no_valid_patch(given):
    x, valid = noise(2, 5, 2), torch.tensor([[False] * 5, [True] * 5])
    start = noise(2, 2, 2, seed=1) if given else None
    found = kmeans(x, initial_centroids=start, valid=valid, generator=generator())
    assert found.labels[0].tolist() == [-1] * 5
    assert found.inertia[0] == 0
    assert found.centroids.isfinite().all()
    assert set(found.labels[1].tolist()) == {0, 1}
    if given:
        assert torch.equal(found.centroids[0], start[0])
    assert not lesion_category(found.labels)[0].any()


def test_values_of_invalid_patches_do_not_spread():
    x, valid = noise(1, 6, 2), torch.tensor([[True, True, True, False, True, True]])
    x[0, 3] = torch.nan
    found = kmeans(x, 2, valid=valid, generator=generator())
    assert found.labels[0, 3] == -1
    assert found.centroids.isfinite().all()
    assert found.inertia.isfinite().all()


def test_kmeans_passes_no_gradient_and_leaves_its_input_alone():
    x, start = noise(1, 20, 2).requires_grad_(), noise(1, 3, 2, seed=1).requires_grad_()
    valid = torch.arange(20)[None] > 2
    before = [value.detach().clone() for value in (x, start, valid)]
    for found in (kmeans(x, 3, initial_centroids=start, valid=valid), kmeans(x, 3, valid=valid)):
        assert not any(value.requires_grad for value in found)
    for value, old in zip((x, start, valid), before, strict=True):
        assert torch.equal(value.detach(), old)
    same = kmeans(x, 3, initial_centroids=start, valid=torch.zeros_like(valid)).centroids
    assert same.data_ptr() != start.data_ptr()  # what comes back can be changed without harm


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_clustered_in_float32(dtype):
    x, start = (300 * noise(1, 40, 2)).to(dtype), (300 * noise(1, 3, 2, seed=1)).to(dtype)
    expected = kmeans(x.float(), 3, initial_centroids=start.float())
    found = kmeans(x, 3, initial_centroids=start)
    assert (found.centroids.dtype, found.inertia.dtype) == (torch.float32, torch.float32)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = kmeans(x.float(), 3, initial_centroids=start.float())
    for a, b in zip(inside, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_drawn_start_keeps_the_type(dtype):
    found = kmeans(noise(2, 20, 3, dtype=dtype), 3, generator=generator())
    assert (found.labels.shape, found.centroids.shape, found.inertia.shape) == ((2, 20), (2, 3, 3), (2,))
    assert (found.centroids.dtype, found.inertia.dtype) == (dtype, dtype)


@pytest.mark.parametrize("device", DEVICES)
def test_a_cpu_generator_serves_every_device(device):
    x = noise(2, 40, 2, dtype=torch.float64)
    expected = kmeans(x, 3, generator=generator(1))
    found = kmeans(x.to(device), 3, generator=generator(1))
    assert torch.equal(found.labels.cpu(), expected.labels)
    lesion = lesion_category(found.labels, 3)
    mask = select_masked_patches(lesion, 0.5, generator=generator(2))
    assert mask.device == lesion.device == found.labels.device
    assert torch.equal(mask.cpu(), select_masked_patches(lesion.cpu(), 0.5, generator=generator(2)))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"features": torch.zeros(6, 2)}, r"features.*\(6, 2\)"),
        ({"clusters": 0}, "clusters.*0"),
        ({"clusters": -1}, "clusters.*-1"),
        ({"iterations": 0}, "iterations.*0"),
        ({"restarts": 0}, "restarts.*0"),
        ({"initial_centroids": torch.zeros(1, 3, 2)}, r"initial_centroids.*\(1, 3, 2\)"),
        ({"initial_centroids": torch.zeros(1, 2, 3)}, r"initial_centroids.*\(1, 2, 3\)"),
        ({"initial_centroids": torch.zeros(2, 2, 2)}, r"initial_centroids.*\(2, 2, 2\)"),
        ({"initial_centroids": torch.zeros(2, 2)}, r"initial_centroids.*\(2, 2\)"),
        ({"valid": torch.ones(1, 5, dtype=torch.bool)}, r"valid.*\(1, 5\)"),
        ({"valid": torch.ones(6, dtype=torch.bool)}, r"valid.*\(6,\)"),
        ({"valid": torch.ones(1, 6)}, "valid.*float32"),
        ({"valid": torch.ones(1, 6, dtype=torch.long)}, "valid.*int64"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_kmeans_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        kmeans(**({"features": torch.zeros(1, 6, 2)} | arguments))


# --- the lesion cluster ---


@pytest.mark.parametrize("device", DEVICES)
def test_lesion_category_matches_the_reference(device):
    labels = stored("lesion_category__three__labels").to(device)
    smallest = lesion_category(labels, 3)
    assert (smallest.dtype, smallest.device) == (torch.bool, labels.device)
    assert torch.equal(smallest.cpu(), stored("lesion_category__three__smallest"))
    for dtype in (torch.float32, torch.float64):
        scores = stored("lesion_category__three__scores", dtype).to(device)
        found = lesion_category(labels, 3, scores=scores)
        assert torch.equal(found.cpu(), stored("lesion_category__three__by_scores"))


@pytest.mark.parametrize(
    "labels, lesion",
    [
        ([0, 0, 1, 0], [2]),
        ([1, 1, 0, 1, -1], [2]),
        ([0, 0, 1, 1], [0, 1]),  # a tie: the lower index
        ([1, 2, 2, 1, 2], [0, 3]),  # 0 is empty
        ([0, 2, 2, -1, -1], [0]),
        ([1, 1, 1, 1], []),  # one cluster is all there is
        ([1, 1, -1, 1], []),
        ([-1, -1, -1, -1], []),
    ],
)
def test_the_smallest_cluster_is_the_lesion(labels, lesion):
    expected = [i in lesion for i in range(len(labels))]
    assert lesion_category(torch.tensor([labels]), 3).tolist() == [expected]


def test_the_cluster_with_the_highest_mean_score_wins():
    labels = torch.tensor([[0, 0, 0, 2, 2, -1]])
    scores = torch.tensor([[-1.0, -1.0, -4.0, -3.0, -0.5, 50.0]])
    # means -2 and -1.75; cluster 1 is empty and does not win with 0; the patch that is not valid has no say
    assert lesion_category(labels, 3, scores=scores).tolist() == [[False, False, False, True, True, False]]
    assert lesion_category(labels, 3, scores=-scores).tolist() == [[True, True, True, False, False, False]]
    scores[0, 5] = torch.nan
    assert lesion_category(labels, 3, scores=scores).tolist() == [[False, False, False, True, True, False]]


def test_scores_cannot_name_the_only_cluster():
    assert not lesion_category(torch.tensor([[1, 1, -1]]), 2, scores=torch.tensor([[5.0, 5.0, 9.0]])).any()
    assert not lesion_category(torch.full((1, 3), -1), 2, scores=torch.ones(1, 3)).any()


def test_scores_in_half_precision_are_averaged_in_float32():
    labels = torch.tensor([[0] * 40 + [1] * 40])
    scores = torch.tensor([[60000.0] * 40 + [50000.0] * 40], dtype=torch.float16)  # either sum is beyond float16
    assert torch.equal(lesion_category(labels, scores=scores), labels == 0)
    assert torch.equal(lesion_category(labels, scores=scores.flip(1)), labels == 1)


def test_each_volume_has_its_own_lesion_cluster():
    labels = torch.tensor([[0, 1, 1], [0, 0, 1], [0, 0, 0]])
    assert lesion_category(labels).tolist() == [[True, False, False], [False, False, True], [False] * 3]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"labels": torch.tensor([[0, 1, 2]])}, "labels.*2"),
        ({"labels": torch.tensor([[0, 1, -2]])}, "labels.*-2"),
        ({"labels": torch.tensor([[0.0, 1.0, 1.0]])}, "labels.*float32"),
        ({"labels": torch.tensor([[0, 1, 1]], dtype=torch.int32)}, "labels.*int32"),
        ({"labels": torch.tensor([0, 1, 1])}, r"labels.*\(3,\)"),
        ({"scores": torch.zeros(1, 2)}, r"scores.*\(1, 2\)"),
        ({"scores": torch.zeros(3)}, r"scores.*\(3,\)"),
        ({"clusters": 0}, "clusters.*0"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_lesion_category_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        lesion_category(**({"labels": torch.tensor([[0, 1, 1]])} | arguments))


# --- the ratio ---


@pytest.mark.parametrize("schedule", ["linear", "cosine", "geometric"])
def test_masking_ratio_matches_the_reference(schedule):
    found = [masking_ratio(e, 11, 0.25, 0.75, schedule) for e in range(11)]
    np.testing.assert_allclose(found, REFERENCE[f"masking_ratio__{schedule}"], rtol=1e-12, atol=1e-12)
    assert all(type(ratio) is float for ratio in found)


def test_masking_ratio_by_hand():
    assert [masking_ratio(e, 3) for e in range(3)] == [0.25, 0.5, 0.75]
    assert masking_ratio(0.5, 3) == 0.375
    assert masking_ratio(1, 3, schedule="cosine") == pytest.approx(0.5)
    assert masking_ratio(1, 3, 0.1, 0.9, "geometric") == pytest.approx(0.3)
    assert masking_ratio(1, 5, 0.2, 0.6, "cosine") == pytest.approx(0.2 + 0.4 * (1 - math.sqrt(0.5)) / 2)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "geometric"])
@pytest.mark.parametrize("start, end", [(0.25, 0.75), (0.9, 0.1), (0.4, 0.4)])
def test_masking_ratio_goes_from_start_to_end(schedule, start, end):
    ratios = [masking_ratio(e / 4, 11, start, end, schedule) for e in range(41)]
    assert ratios[0] == pytest.approx(start, abs=1e-12)
    assert ratios[-1] == pytest.approx(end, abs=1e-12)
    steps = np.diff(ratios) * np.sign(end - start)
    assert (steps > 0).all() if start != end else np.allclose(ratios, start)
    assert masking_ratio(0, 1, start, end, schedule) == pytest.approx(end, abs=1e-12)  # one epoch is the last one


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"epoch": -1}, "epoch.*-1"),
        ({"epoch": 10}, "epoch.*10"),
        ({"epoch": 9.5}, r"epoch.*9\.5"),
        ({"epoch": float("nan")}, "epoch.*nan"),
        ({"epoch": 0, "epochs": 0}, "epochs.*0"),
        ({"start": 0.0}, r"start.*0\.0"),
        ({"start": 25}, "start.*25"),
        ({"end": 1.0}, r"end.*1\.0"),
        ({"end": -0.5}, r"end.*-0\.5"),
        ({"end": float("nan")}, "end.*nan"),
        ({"schedule": "step"}, "schedule.*step"),
    ],
    ids=str,
)
def test_masking_ratio_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        masking_ratio(**({"epoch": 0, "epochs": 10} | arguments))


# --- the mask ---


def mask_by_hand(lesion, ratio, share, valid, u):
    """One volume, lists: the sentences of the method, one patch at a time."""
    allowed = [i for i in range(len(u)) if valid[i]]
    if len(allowed) < 2:
        return [False] * len(u)
    total = min(max(math.floor(ratio * len(allowed) + 0.5), 1), len(allowed) - 1)
    ranked = sorted(allowed, key=lambda i: (-u[i], i))
    lesions = [i for i in ranked if lesion[i]]
    hidden = lesions[: min(len(lesions), math.floor(share * total + 0.5))]
    hidden = hidden + [i for i in ranked if i not in hidden][: total - len(hidden)]
    return [i in hidden for i in range(len(u))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_masks_match_the_reference(dtype, device):
    prefix = "select_masked_patches__grid__"
    lesion, valid = (stored(prefix + name).to(device) for name in ("lesion", "valid"))
    u = stored(prefix + "noise", dtype).to(device)
    for i, ratio in enumerate(stored(prefix + "ratios").tolist()):
        for j, share in enumerate(stored(prefix + "shares").tolist()):
            found = select_masked_patches(lesion, ratio, lesion_share=share, noise=u)
            assert (found.dtype, found.device) == (torch.bool, lesion.device)
            assert torch.equal(found.cpu(), stored(prefix + "masks")[i, j])
            found = select_masked_patches(lesion, ratio, lesion_share=share, noise=u, valid=valid)
            assert torch.equal(found.cpu(), stored(prefix + "masks_valid")[i, j])


def test_masks_do_what_the_sentences_say():
    draw = np.random.default_rng(0)
    for _ in range(150):
        patches = int(draw.integers(1, 14))
        lesion, valid = (torch.from_numpy(draw.random((4, patches)) < draw.random((4, 1))) for _ in range(2))
        u = torch.from_numpy(draw.integers(0, 6, (4, patches)) / 8)  # many ties
        ratio, share = round(float(draw.uniform(0.02, 0.98)), 2), float(draw.choice([0, 0.25, 0.5, 0.75, 1]))
        found = select_masked_patches(lesion, ratio, lesion_share=share, valid=valid, noise=u)
        expected = [mask_by_hand(*row) for row in zip(lesion, [ratio] * 4, [share] * 4, valid, u.tolist(), strict=True)]
        assert found.tolist() == expected, (ratio, share, patches)


def test_mask_by_hand():
    lesion = torch.tensor([[True, False, True, False, True, False, False, False]])
    u = torch.tensor([[0.1, 0.9, 0.3, 0.8, 0.2, 0.7, 0.6, 0.5]])

    def hidden(ratio, share, valid=None):
        mask = select_masked_patches(lesion, ratio, lesion_share=share, noise=u, valid=valid)
        return mask[0].nonzero()[:, 0].tolist()

    assert hidden(0.25, 1.0) == [2, 4]  # the two of three lesion patches with the largest u
    assert hidden(0.5, 1.0) == [0, 1, 2, 4]  # all three, and the first of the others
    assert hidden(0.5, 0.5) == [1, 2, 3, 4]
    assert hidden(0.5, 0.0) == [1, 3, 5, 6]
    assert hidden(0.75, 0.25) == [1, 2, 3, 4, 5, 6]  # floor(1.5 + 0.5) = 2 lesion patches
    assert hidden(0.5, 1.0, torch.tensor([[True, True, False, True, False, True, False, False]])) == [0, 1]


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_count_of_hidden_patches_is_exact(share):
    for n in (*range(1, 20), 27, 64, 125):
        valid = torch.zeros(1, 130, dtype=torch.bool)
        valid[0, torch.randperm(130, generator=generator(n))[:n]] = True
        lesion = torch.rand(1, 130, generator=generator(n + 1)) < 0.3
        for percent in range(5, 100, 5):
            ratio = percent / 100
            mask = select_masked_patches(lesion, ratio, lesion_share=share, valid=valid, generator=generator())
            expected = min(max(math.floor(ratio * n + 0.5), 1), n - 1) if n > 1 else 0
            assert int(mask.sum()) == expected, (n, ratio)
            assert not (mask & ~valid).any()


def test_the_count_is_exact_in_large_volumes():
    lesion, ratio = torch.zeros(1, 65537, dtype=torch.bool), 40001.4999 / 65537  # float32 would make it 40002
    assert int(select_masked_patches(lesion, ratio, generator=generator()).sum()) == 40001


def test_rows_have_their_own_counts():
    valid = torch.tensor([[True] * 8, [True] * 4 + [False] * 4, [True] + [False] * 7, [False] * 8])
    mask = select_masked_patches(torch.zeros(4, 8, dtype=torch.bool), 0.5, valid=valid)
    assert mask.sum(1).tolist() == [4, 2, 0, 0]
    assert not select_masked_patches(torch.ones(3, 1, dtype=torch.bool), 0.9).any()


def test_share_0_is_random_masking_whatever_the_lesion():
    u, valid = torch.rand(4, 30, generator=generator()), torch.rand(4, 30, generator=generator(1)) < 0.8
    for lesion in (torch.zeros(4, 30), torch.ones(4, 30), torch.rand(4, 30, generator=generator(2)).round()):
        found = select_masked_patches(lesion.bool(), 0.4, lesion_share=0.0, noise=u, valid=valid)
        for row, noise_row, valid_row in zip(found, u, valid, strict=True):
            assert noise_row[row].min() > noise_row[valid_row & ~row].max()
    from medssl_nb.networks import random_masks

    found = select_masked_patches(torch.ones(4, 30, dtype=torch.bool), 0.4, lesion_share=0.0, generator=generator(3))
    assert torch.equal(found, random_masks(4, 30, 0.4, generator(3)))  # the baseline, from the same draw


def test_share_1_hides_lesions_first():
    lesion = torch.rand(5, 40, generator=generator()) < 0.3
    for ratio in (0.1, 0.25, 0.5, 0.75):
        mask = select_masked_patches(lesion, ratio, generator=generator(1))
        for hidden, called in zip(mask, lesion, strict=True):
            assert int((hidden & called).sum()) == min(int(hidden.sum()), int(called.sum()))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_with_the_same_noise_masks_grow_with_the_ratio(share):
    lesion, u = torch.rand(3, 50, generator=generator()) < 0.2, torch.rand(3, 50, generator=generator(1))
    before = torch.zeros(3, 50, dtype=torch.bool)
    for percent in range(2, 99, 4):
        mask = select_masked_patches(lesion, percent / 100, lesion_share=share, noise=u)
        assert not (before & ~mask).any()
        before = mask


def test_every_patch_of_a_kind_is_hidden_equally_often():
    lesion = (torch.arange(12) < 4).expand(4000, 12)
    share = select_masked_patches(lesion, 0.5, lesion_share=0.5, generator=generator()).double().mean(0)
    # 3 of the 4 lesion patches and 3 of the rest; the fourth, with the least u of the four, is among these if
    # all four are among the first 6 of 12: chance C(6, 4) / C(12, 4) = 1 / 33
    assert (share[:4] - (3 + 1 / 33) / 4).abs().max() < 0.03
    assert (share[4:] - (3 - 1 / 33) / 8).abs().max() < 0.03  # four standard deviations of 4000 draws


def test_noise_by_hand_is_the_generator():
    lesion = torch.rand(3, 20, generator=generator(9)) < 0.3
    by_hand = select_masked_patches(lesion, 0.4, noise=torch.rand(3, 20, generator=generator(4)))
    assert torch.equal(select_masked_patches(lesion, 0.4, generator=generator(4)), by_hand)
    assert not torch.equal(select_masked_patches(lesion, 0.4, generator=generator(5)), by_hand)
    torch.manual_seed(4)
    assert torch.equal(select_masked_patches(lesion, 0.4), by_hand)
    state = torch.get_rng_state()
    select_masked_patches(lesion, 0.4, generator=generator(4))
    select_masked_patches(lesion, 0.4, noise=torch.rand(3, 20, generator=generator(4)))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_lower_index_wins_a_tie():
    lesion = torch.tensor([[False, True, False, True, True]])
    assert select_masked_patches(lesion, 0.4, noise=torch.zeros(1, 5)).tolist() == [[False, True, False, True, False]]
    found = select_masked_patches(lesion, 0.8, noise=torch.zeros(1, 5))
    assert found.tolist() == [[True, True, False, True, True]]
    wide = torch.zeros(1, 500, dtype=torch.bool)  # long rows are where an unstable sort shows
    assert select_masked_patches(wide, 0.3, noise=torch.zeros(1, 500))[0].nonzero()[:, 0].tolist() == list(range(150))


def test_selection_leaves_its_input_alone():
    lesion, valid = torch.rand(2, 9, generator=generator()) < 0.4, torch.rand(2, 9, generator=generator(1)) < 0.8
    u, labels, scores = torch.rand(2, 9), torch.tensor([[0, 1, 1, -1, 0, 1, 1, 1, 1]]), torch.rand(1, 9)
    before = [value.clone() for value in (lesion, valid, u, labels, scores)]
    select_masked_patches(lesion, 0.5, lesion_share=0.5, valid=valid, noise=u)
    lesion_category(labels, scores=scores)
    for value, old in zip((lesion, valid, u, labels, scores), before, strict=True):
        assert torch.equal(value, old)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"ratio": 0}, "ratio.*0"),
        ({"ratio": 1.0}, r"ratio.*1\.0"),
        ({"ratio": 75}, "ratio.*75"),
        ({"ratio": float("nan")}, "ratio.*nan"),
        ({"lesion_share": -0.1}, r"lesion_share.*-0\.1"),
        ({"lesion_share": 1.1}, r"lesion_share.*1\.1"),
        ({"lesion_share": float("nan")}, "lesion_share.*nan"),
        ({"lesion": torch.zeros(2, 6)}, "lesion.*float32"),
        ({"lesion": torch.zeros(2, 6, dtype=torch.long)}, "lesion.*int64"),
        ({"lesion": torch.zeros(6, dtype=torch.bool)}, r"lesion.*\(6,\)"),
        ({"valid": torch.ones(2, 5, dtype=torch.bool)}, r"valid.*\(2, 5\)"),
        ({"valid": torch.ones(2, 6)}, "valid.*float32"),
        ({"noise": torch.zeros(2, 5)}, r"noise.*\(2, 5\)"),
        ({"noise": torch.zeros(6)}, r"noise.*\(6,\)"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_select_masked_patches_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        select_masked_patches(**({"lesion": torch.zeros(2, 6, dtype=torch.bool), "ratio": 0.5} | arguments))
