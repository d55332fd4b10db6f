"""Centre-sensitive embeddings and one-shot landmarks: reference numbers, a literal search, laws, edges, messages."""

import itertools
import math

import numpy as np
import pytest
import torch

from medssl_nb.methods.local_discrimination import (
    LandmarkResult,
    center_sensitive_embeddings,
    center_weights,
    landmark_error,
    locate_landmark,
    similarity_map,
    success_rate,
)

HALVES = [torch.float16, torch.bfloat16]


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def unit(*shape, seed=0, dtype=torch.float64):
    return torch.nn.functional.normalize(noise(*shape, seed=seed)).to(dtype)


def windows_of(reference, name):
    return [tuple(w) for w in reference.number(name)]


# ------------------------------------------------------------ weighted neighbourhoods


def test_neighbourhoods_match_the_reference(reference, dtype, device):
    query = reference("land_query", dtype, device)
    window, sigma = tuple(reference.number("land_window")), reference.number("land_sigma")
    found = center_sensitive_embeddings(query, window, sigma=sigma)
    assert found.dtype == dtype and found.device.type == device
    reference.check(found, "land_center_embeddings")


@pytest.mark.parametrize(("size", "window"), [((5, 6), (3, 5)), ((4, 5, 3), (3, 1, 5)), ((3, 2), (9, 7))])
@pytest.mark.parametrize("sigma", [0.5, 1.0, math.inf])
def test_neighbourhoods_are_their_equation(size, window, sigma):
    z = unit(2, 3, *size)
    found = center_sensitive_embeddings(z, window, sigma=sigma)
    assert found.shape == z.shape
    weights = center_weights(window, sigma, dtype=torch.float64)
    expected = torch.zeros_like(z)
    for u in itertools.product(*map(range, size)):
        for i in itertools.product(*map(range, window)):
            v = tuple(a + b - s // 2 for a, b, s in zip(u, i, window, strict=True))
            if all(0 <= c < s for c, s in zip(v, size, strict=True)):  # zero outside
                expected[(..., *u)] += weights[i] * z[(..., *v)]
    expected /= expected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found, expected)


def test_window_1_is_the_voxel_itself():
    z = unit(2, 4, 5, 6)
    torch.testing.assert_close(center_sensitive_embeddings(3 * z, 1), z)
    torch.testing.assert_close(center_sensitive_embeddings(z, 3), center_sensitive_embeddings(z, (3, 3)))
    narrow = center_sensitive_embeddings(z, 5, sigma=0.05)
    torch.testing.assert_close(narrow, z)


def test_neighbourhood_edges_and_types():
    z = unit(2, 4, 5, 6)
    z[0] = 0
    z.requires_grad_()
    found = center_sensitive_embeddings(z, 3)
    assert (found[0] == 0).all()
    torch.testing.assert_close(found[1].norm(dim=0), torch.ones(5, 6, dtype=torch.float64))
    (found * noise(2, 4, 5, 6)).sum().backward()
    assert z.grad.isfinite().all() and z.grad[1].abs().max() > 0
    single = z.detach().float()
    wide = center_sensitive_embeddings(single, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = center_sensitive_embeddings(single, 3)
    assert under.dtype == torch.float32 and torch.equal(under, wide)
    for half in HALVES:
        narrow = center_sensitive_embeddings(single.to(half), 3)
        assert narrow.dtype == torch.float32
        torch.testing.assert_close(narrow, center_sensitive_embeddings(single.to(half).float(), 3))
    single[1, 0, 2, 3] = math.nan
    broken = center_sensitive_embeddings(single, 3)
    assert broken[1, :, 1:4, 2:5].isnan().all() and broken[0].isfinite().all()


@pytest.mark.parametrize(
    ("window", "sigma", "message"),
    [
        (4, 0.5, r"(?s)window.*4"),
        ((3, 2), 0.5, r"(?s)window.*2"),
        (0, 0.5, r"(?s)window.*0"),
        ((3, -1), 0.5, r"(?s)window.*-1"),
        ((3, 3, 3), 0.5, r"(?s)window.*3, 3, 3"),
        (3, 0.0, r"(?s)sigma.*0\.0"),
        (3, -1.0, r"(?s)sigma.*-1\.0"),
    ],
)
def test_windows_that_are_refused(window, sigma, message):
    z = torch.ones(1, 2, 5, 5)
    with pytest.raises(ValueError, match=message):
        center_sensitive_embeddings(z, window, sigma=sigma)
    with pytest.raises(ValueError, match=message):
        locate_landmark(z, z, (1, 1), window_sizes=[3, window], sigma=sigma)


# ------------------------------------------------------------ similarity


def test_similarity_matches_the_reference(reference, dtype, device):
    window, sigma = tuple(reference.number("land_window")), reference.number("land_sigma")
    support = center_sensitive_embeddings(reference("land_support", dtype, device), window, sigma=sigma)
    vector = support[(0, slice(None), *reference.number("land_point"))]
    query = reference("land_center_embeddings", dtype, device)
    for given in (vector, vector.expand(2, -1)):
        found = similarity_map(query, given)
        assert found.dtype == dtype and found.device.type == device
        reference.check(found, "land_map")


def test_similarity_by_hand():
    query = torch.tensor([[[1.0, 0.0, 3.0], [0.0, 2.0, 4.0]]]).repeat(2, 1, 1)
    found = similarity_map(query, torch.tensor([0.5, 1.0]))
    assert found.tolist() == [[0.5, 2.0, 5.5]] * 2  # a product, not a cosine
    found = similarity_map(query, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert found.tolist() == [[1.0, 0.0, 3.0], [0.0, 2.0, 4.0]]
    single = unit(2, 4, 3, 3, dtype=torch.float32)
    wide = similarity_map(single, single[0, :, 1, 1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = similarity_map(single, single[0, :, 1, 1])
    assert under.dtype == torch.float32 and torch.equal(under, wide)
    for half in HALVES:
        narrow = similarity_map(single.to(half), single[0, :, 1, 1].to(half))
        assert narrow.dtype == torch.float32
        torch.testing.assert_close(narrow, similarity_map(single.to(half).float(), single[0, :, 1, 1].to(half).float()))


@pytest.mark.parametrize("vector", [(3,), (2, 5), (3, 4), (1, 2, 4)])
def test_vectors_that_are_refused(vector):
    with pytest.raises(ValueError, match=f"(?s){', '.join(map(str, vector))}"):
        similarity_map(torch.ones(2, 4, 3, 3), torch.ones(vector))


# ------------------------------------------------------------ search


@pytest.mark.parametrize("search", ["land", "land2", "land3"])
def test_search_matches_the_reference(reference, search, dtype, device):
    support, query = (reference(f"land_{n}", dtype, device) for n in ("support", "query"))
    options = {
        "land": {"sigma": reference.number("land_sigma"), "window_sizes": [tuple(reference.number("land_window"))]},
        "land2": {"sigma": 0.5, "window_sizes": windows_of(reference, "land2_windows")},
        "land3": {
            "sigma": reference.number("land3_sigma"),
            "window_sizes": [tuple(reference.number("land3_window"))],
            "mask": reference("land3_mask", torch.bool, device),
        },
    }[search]
    found = locate_landmark(query, support, tuple(reference.number("land_point")), **options)
    assert isinstance(found, LandmarkResult)
    assert found.points.dtype == torch.int64 and found.points.tolist() == reference.number(f"{search}_points")
    assert found.similarity.dtype == found.maps.dtype == dtype
    assert found.similarity.device.type == found.maps.device.type == device
    reference.check(found.similarity, f"{search}_similarity")
    if search == "land":
        reference.check(found.maps, "land_map")


def literal_search(query, support, point, windows, sigma, mask):
    batch, size = len(query), query.shape[2:]
    allowed = [np.ones(size, bool) if mask is None else mask[n].numpy() for n in range(batch)]
    grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
    for window in windows:
        window = (window,) * len(size) if isinstance(window, int) else window
        vector = center_sensitive_embeddings(support, window, sigma=sigma)[(0, slice(None), *point)]
        maps = similarity_map(center_sensitive_embeddings(query, window, sigma=sigma), vector)
        points = []
        for n in range(batch):
            held = np.where(allowed[n], maps[n].numpy(), -np.inf)
            points.append(np.unravel_index(held.argmax(), size))
            allowed[n] = allowed[n] & (abs(grid - points[n]) <= np.array(window) // 2).all(-1)
    return points, maps


@pytest.mark.parametrize(("size", "seen"), [((7, 8), (6, 9)), ((5, 6, 4), (5, 4, 6))])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("windows", [[3], [5, 3], [7, 3, 1], [1, 3]])
@pytest.mark.parametrize("seed", range(3))
def test_search_is_its_description(size, seen, masked, windows, seed):
    query, support = unit(3, 4, *size, seed=seed), unit(1, 4, *seen, seed=seed + 10)
    mask = noise(3, *size, seed=seed) > 0.5 if masked else None
    windows = [(w, *(3,) * (len(size) - 1)) if i == 1 else w for i, w in enumerate(windows)]
    point = (2,) * len(size)
    found = locate_landmark(query, support, point, window_sizes=windows, sigma=0.7, mask=mask)
    points, maps = literal_search(query, support, point, windows, 0.7, mask)
    assert found.points.tolist() == np.array(points).tolist()
    torch.testing.assert_close(found.maps, maps)  # of the last window, not masked
    values = [maps[(n, *p)] for n, p in enumerate(points)]
    torch.testing.assert_close(found.similarity, torch.stack(values))
    if masked:
        assert all(mask[(n, *p)] for n, p in enumerate(points))


def test_later_windows_stay_near_the_first_answer():
    support = torch.zeros(1, 2, 1, 20, dtype=torch.float64)
    support[0, 1] = 1
    support[0, :, 0, 2:5] = torch.tensor([[0.6, 1.0, 0.6], [0.8, 0.0, 0.8]], dtype=torch.float64)
    query = support.flip(3).roll(-4, 3)  # the pattern, centred at 12
    query[0, :, 0, 2] = support[0, :, 0, 3]  # a lone voxel of the right kind, the best under window 1
    query[0, :, 0, 12] = torch.tensor([0.8, 0.6])
    alone = locate_landmark(query, support, (0, 3), window_sizes=[1])
    assert alone.points.tolist() == [[0, 2]]
    both = locate_landmark(query, support, (0, 3), window_sizes=[3, 1], sigma=2.0)
    assert both.points.tolist() == [[0, 12]]
    assert both.maps[0, 0, 2] > both.similarity[0]  # maps show the whole image


@pytest.mark.parametrize("size", [(6, 7), (4, 5, 6)])
@pytest.mark.parametrize("windows", [[1], [3], [5, 3]])
def test_the_support_image_finds_its_own_point(size, windows, dtype):
    z = unit(1, 8, *size, dtype=dtype)
    for point in [(0,) * len(size), (3,) * len(size), tuple(s - 1 for s in size)]:
        found = locate_landmark(z, z, point, window_sizes=windows)
        assert found.points.tolist() == [list(point)]
        assert float(found.similarity) == pytest.approx(1, abs=1e-5)


def test_ties_go_to_the_smallest_flat_index():
    z = torch.zeros(2, 2, 3, 4)
    z[:, 0] = 1
    assert locate_landmark(z, z[:1], (2, 2), window_sizes=[1]).points.tolist() == [[0, 0], [0, 0]]
    mask = torch.zeros(2, 3, 4, dtype=torch.bool)
    mask[0, 1, 3] = mask[0, 2, 0] = mask[1, 2, 2] = True
    found = locate_landmark(z, z[:1], (2, 2), window_sizes=[1], mask=mask)
    assert found.points.tolist() == [[1, 3], [2, 2]]


def test_search_types():
    query, support = unit(2, 6, 5, 6, dtype=torch.float32), unit(1, 6, 5, 6, seed=1, dtype=torch.float32)
    copies = query.clone(), support.clone()
    found = locate_landmark(query, support, (1, 2), window_sizes=(3,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = locate_landmark(query, support, (1, 2), window_sizes=(3,))
    assert all(torch.equal(x, y) and x.dtype == y.dtype for x, y in zip(found, under, strict=True))
    for half in HALVES:
        narrow = locate_landmark(query.to(half), support.to(half), (1, 2), window_sizes=(3,))
        assert narrow.similarity.dtype == narrow.maps.dtype == torch.float32 and narrow.points.dtype == torch.int64
    assert torch.equal(query, copies[0]) and torch.equal(support, copies[1])


@pytest.mark.parametrize(
    ("support", "point", "windows", "message"),
    [
        ((2, 4, 5, 5), (1, 1), [3], r"(?s)support.*2"),
        ((1, 3, 5, 5), (1, 1), [3], r"(?s)4.*3|3.*4"),
        ((1, 4, 5, 5), (1, 1), [], "window"),
        ((1, 4, 5, 5), (5, 1), [3], r"(?s)support_point.*5"),
        ((1, 4, 5, 5), (1, -1), [3], r"(?s)support_point.*-1"),
        ((1, 4, 5, 5), (1, 1, 1), [3], r"(?s)support_point.*1, 1, 1"),
        ((1, 4, 5, 5), (1,), [3], r"(?s)support_point.*1"),
        ((1, 4, 5, 4), (1, 4), [3], r"(?s)support_point.*4"),  # inside the query, outside the support
    ],
)
def test_searches_that_are_refused(support, point, windows, message):
    with pytest.raises(ValueError, match=message):
        locate_landmark(torch.ones(2, 4, 5, 5), torch.ones(support), point, window_sizes=windows)


def test_search_masks_are_checked():
    z = torch.ones(2, 4, 5, 5)
    mask = torch.ones(2, 5, 5, dtype=torch.bool)
    mask[1] = False
    with pytest.raises(ValueError, match=r"(?s)mask.*1"):
        locate_landmark(z, z[:1], (1, 1), window_sizes=[3], mask=mask)
    for shape in ((1, 5, 5), (2, 1, 5, 5), (2, 5, 4)):
        with pytest.raises(ValueError, match=f"(?s)mask.*{', '.join(map(str, shape))}"):
            locate_landmark(z, z[:1], (1, 1), window_sizes=[3], mask=torch.ones(shape, dtype=torch.bool))


# ------------------------------------------------------------ errors in mm


def test_errors_match_the_reference(reference, dtype, device):
    predicted, target = reference("err_predicted", dtype, device), reference("err_target", dtype, device)
    found = landmark_error(predicted, target, spacing=tuple(reference.number("err_spacing")))
    assert found.dtype == torch.float64 and found.shape == (6,) and found.device.type == device
    tolerance = 1e-5 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(found.cpu(), reference("err_mm"), rtol=tolerance, atol=1e-8)
    success = success_rate(found, reference.number("err_radius"))
    assert float(success) == pytest.approx(reference.number("err_success"))


def test_errors_by_hand():
    predicted, target = torch.tensor([[3, 4], [0, 0]]), torch.tensor([[0, 0], [0, 1]])
    found = landmark_error(predicted, target)
    assert found.dtype == torch.float64 and found.tolist() == [5.0, 1.0]
    assert landmark_error(predicted, target, spacing=2.0).tolist() == [10.0, 2.0]
    assert landmark_error(predicted, target, spacing=(1.0, 0.5)).tolist() == [math.sqrt(13), 0.5]
    many = landmark_error(predicted.expand(3, 2, 2), target.expand(3, 2, 2))
    assert many.shape == (3, 2)
    assert landmark_error(predicted[0], target[0]).shape == ()
    far = landmark_error(torch.tensor([16_777_217]), torch.tensor([16_777_216]))  # not in single precision
    assert float(far) == 1


def test_success_counts_the_radius():
    errors = torch.tensor([0.5, 2.0, 2.5, 7.0])
    assert float(success_rate(errors, 2.0)) == 0.5
    assert float(success_rate(errors, 0.1)) == 0
    assert float(success_rate(errors.reshape(2, 2), 7)) == 1
    with pytest.raises(ValueError, match="error"):
        success_rate(torch.ones(0), 2.0)
