"""Matching points between scans and mining pairs of views: reference numbers, by hand, laws, edges, messages."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate, normalize

from medssl_nb.methods.alice import (
    AnatomicalEmbedding,
    ViewPair,
    crop_around_point,
    match_points,
    mine_view_pair,
    sample_foreground_point,
    similarity_map,
)

HALVES = [torch.float16, torch.bfloat16]


def seeded(number=0):
    return torch.Generator().manual_seed(number)


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


def embedding(fine, coarse, dim=6, seed=0, dtype=torch.float64):
    """Unit vectors on the two grids."""
    maps = (noise(dim, *size, seed=seed + k) for k, size in enumerate((fine, coarse)))
    return AnatomicalEmbedding(*(normalize(m, dim=0).to(dtype) for m in maps))


def one_hot(*size, order=None):
    """Fine vectors that all differ, coarse ones that are all alike: every match is known."""
    cells = math.prod(size)
    order = torch.arange(cells) if order is None else order
    coarse = torch.zeros(cells, *(1 for _ in size))
    coarse[0] = 1
    return AnatomicalEmbedding(torch.eye(cells)[:, order].reshape(cells, *size), coarse)


def flat(*size):
    """Every vector equal."""
    return AnatomicalEmbedding(
        *(torch.zeros(4, *s).index_fill_(0, torch.tensor(2), 1.0) for s in (size, [1] * len(size)))
    )


def close(found, expected, **tolerance):
    torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(expected), check_dtype=False, **tolerance)


def stored(reference, dtype=torch.float64, device="cpu"):
    return [
        AnatomicalEmbedding(*(reference(f"match/{side}_{part}", dtype, device) for part in ("fine", "coarse")))
        for side in ("query", "key")
    ]


# ------------------------------------------------------------ similarity


def similarity_by_hand(query, key, index):
    """Mean of the fine and the coarse cosine, voxel by voxel."""
    maps = []
    for fine, coarse in (query, key):
        mode = {2: "bilinear", 3: "trilinear"}[fine.ndim - 1]
        coarse = interpolate(coarse[None], fine.shape[1:], mode=mode, align_corners=False)[0]
        maps.append((fine, normalize(coarse, dim=0)))
    result = torch.empty(len(index), *key.fine.shape[1:], dtype=torch.float64)
    for row, place in enumerate(index.tolist()):
        for v in itertools.product(*(range(s) for s in key.fine.shape[1:])):
            cosines = [q[(slice(None), *place)] @ k[(slice(None), *v)] for q, k in zip(*maps, strict=True)]
            result[(row, *v)] = sum(cosines) / 2
    return result


@pytest.mark.parametrize(
    ("query", "key"), [(((4, 5), (2, 2)), ((3, 6), (2, 3))), (((3, 2, 4), (1, 1, 2)), ((2, 4, 3), (2, 2, 2)))]
)
def test_similarity_is_the_mean_of_two_cosines(query, key, dtype):
    q, k = embedding(*query), embedding(*key, seed=5)
    corner = torch.tensor([s - 1 for s in query[0]])
    index = torch.stack([corner * 0, corner, corner // 2])
    expected = similarity_by_hand(q, k, index)
    q, k = (AnatomicalEmbedding(*(part.to(dtype) for part in e)) for e in (q, k))
    found = similarity_map(q, k, index)
    assert found.shape == (3, *key[0]) and found.dtype == dtype
    close(found, expected.to(dtype), rtol=1e-5, atol=1e-6)
    assert (found.abs() <= 1 + 1e-6).all()


def test_similarity_peaks_at_home():
    q = embedding((4, 5, 3), (2, 2, 2))
    index = torch.tensor([[0, 0, 0], [3, 4, 2], [1, 2, 1]])
    found = similarity_map(q, q, index)
    for row, place in zip(found, index.tolist(), strict=True):
        assert float(row[tuple(place)]) == pytest.approx(1)
        assert int(row.argmax()) == np.ravel_multi_index(place, (4, 5, 3))


def test_similarity_types_and_autocast():
    q, k = (embedding((4, 5), (2, 2), seed=n, dtype=torch.float32) for n in (0, 5))
    index = torch.tensor([[1, 2], [3, 4]])
    exact = similarity_map(q, k, index)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = similarity_map(q, k, index)
    assert mixed.dtype == torch.float32
    close(mixed, exact, rtol=0, atol=1e-2)
    for half in HALVES:
        narrow = similarity_map(*(AnatomicalEmbedding(*(p.to(half) for p in e)) for e in (q, k)), index)
        assert narrow.dtype == torch.float32
        close(narrow, exact, rtol=0, atol=1e-2)
    zero = AnatomicalEmbedding(*(torch.zeros_like(part) for part in k))
    assert (similarity_map(q, zero, index) == 0).all()  # a vector without length resembles nothing


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_embeddings_that_are_not_finite_are_refused(side, part, value):
    pair = [embedding((4, 5), (2, 2)), embedding((3, 6), (2, 3), seed=5)]
    pair[side][part][0, 1, 1] = value
    with pytest.raises(ValueError, match=r"(?i)finite|nan|inf"):
        similarity_map(*pair, torch.tensor([[0, 0]]))
    with pytest.raises(ValueError, match=r"(?i)finite|nan|inf"):
        match_points(*pair, torch.tensor([[0, 0]]), key_shape=(6, 12))


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([[0, 5]], r"(?s)index.*5"),
        ([[4, 0]], r"(?s)index.*4"),
        ([[0, -1]], r"(?s)index.*-1"),
        ([[0, 0, 0]], r"(?s)index.*3"),
        ([0, 0], r"(?s)index.*2"),
    ],
)
def test_places_outside_the_grid_are_refused(index, message):
    with pytest.raises(ValueError, match=message):
        similarity_map(embedding((4, 5), (2, 2)), embedding((3, 6), (2, 3)), torch.tensor(index))


@pytest.mark.parametrize(
    "key", [embedding((3, 6), (2, 3), dim=5), embedding((3, 6, 2), (2, 3, 1))], ids=["width", "axes"]
)
def test_embeddings_of_two_kinds_are_refused(key):
    with pytest.raises(ValueError, match=r"(?s)key|query"):
        similarity_map(embedding((4, 5), (2, 2)), key, torch.tensor([[0, 0]]))


# ------------------------------------------------------------ matching


def test_matches_agree_with_the_reference(reference, dtype, device, steady):
    query, key = stored(reference, dtype, device)
    points = reference("match/points", torch.long, device)
    copy = points.clone()
    found, score = match_points(
        query,
        key,
        points,
        key_shape=tuple(reference.number("match/key_shape")),
        query_scale=reference.number("match/query_scale"),
        key_scale=reference.number("match/key_scale"),
        stride=reference.number("match/stride"),
    )
    assert found.dtype == torch.long and torch.equal(found.cpu(), reference("match/matched", torch.long))
    reference.check(score, "match/score")
    assert torch.equal(points, copy)


def test_a_scan_matches_itself_up_to_the_stride():
    points = torch.tensor(list(itertools.product(range(6), range(8))))
    found, score = match_points(one_hot(3, 4), one_hot(3, 4), points, key_shape=(6, 8))
    assert torch.equal(found, points // 2 * 2)
    close(score, torch.ones(48))
    assert found.shape == (48, 2) and score.shape == (48,)


def test_matches_follow_a_shuffle():
    order = torch.randperm(12, generator=seeded(1))
    points = torch.tensor(list(itertools.product(range(0, 6, 2), range(0, 8, 2))))
    found, score = match_points(one_hot(3, 4), one_hot(3, 4, order=order), points, key_shape=(6, 8))
    for n, place in enumerate(found.tolist()):
        home = order.argsort()[n]
        assert place == [2 * int(home // 4), 2 * int(home % 4)]
    close(score, torch.ones(12))


def test_scales_enter_as_stated():
    query, key = one_hot(4, 5), one_hot(4, 5)
    scales = {"query_scale": (0.5, 0.8), "key_scale": (0.75, 1.1)}
    points = torch.tensor([[7, 9], [3, 0], [15, 11], [8, 5]])
    found, _ = match_points(query, key, points, key_shape=(40, 40), **scales)
    for p, place in zip(points.tolist(), found.tolist(), strict=True):
        cells = [min(math.floor(x * r / 2), side - 1) for x, r, side in zip(p, (0.5, 0.8), (4, 5), strict=True)]
        assert place == [math.floor((2 * m + 0.5) / r) for m, r in zip(cells, (0.75, 1.1), strict=True)]
    one, _ = match_points(query, key, points, key_shape=(40, 40), query_scale=0.5, key_scale=0.75)
    same, _ = match_points(query, key, points, key_shape=(40, 40), query_scale=(0.5, 0.5), key_scale=(0.75, 0.75))
    assert torch.equal(one, same)


def test_places_are_clamped_to_their_grids():
    query, key = one_hot(3, 4), one_hot(3, 4)
    found, _ = match_points(query, key, torch.tensor([[6, 8], [999, 999]]), key_shape=(6, 8))
    assert found.tolist() == [[4, 6], [4, 6]]
    found, _ = match_points(query, key, torch.tensor([[5, 7]]), key_shape=(4, 5), key_scale=0.5)
    assert found.tolist() == [[3, 4]]


def test_places_are_computed_in_double_precision():
    """(2 * 8 + 0.5) / 1.1 is a little below 15 and (2 * 2 + 0.5) / 0.3 is 15; single precision says 15 and 14."""
    grid = one_hot(3, 9)
    found, _ = match_points(grid, grid, torch.tensor([[4, 16]]), key_shape=(50, 50), key_scale=(0.3, 1.1))
    assert found.tolist() == [[15, 14]]


@pytest.mark.parametrize("size", [(3, 4), (2, 3, 2)])
def test_equal_scores_take_the_first_voxel(size):
    """A constant image: the best score there is, and no match at all."""
    points = torch.tensor([[s for s in size], [0] * len(size)])
    found, score = match_points(flat(*size), flat(*size), points, key_shape=[2 * s for s in size])
    assert (found == 0).all()
    close(score, torch.ones(2))
    copies = one_hot(*size)
    twice = copies.fine.clone().flatten(1)
    twice[:, -1] = twice[:, 1]  # two voxels match alike; the first in row-major order counts
    twice = AnatomicalEmbedding(twice.reshape(copies.fine.shape), copies.coarse)
    second = [0] * (len(size) - 1) + [2]
    found, _ = match_points(copies, twice, torch.tensor([second]), key_shape=[2 * s for s in size])
    assert found.tolist() == [second]


def test_scores_are_the_maxima_of_the_similarity(reference):
    query, key = stored(reference)
    points = torch.tensor([[0, 3, 9], [8, 1, 2]])
    found, score = match_points(query, key, points, key_shape=(12, 10, 8))
    maps = similarity_map(query, key, points // 2)
    close(score, maps.flatten(1).amax(1))
    assert found.tolist() == [[2 * i for i in np.unravel_index(int(m.argmax()), m.shape)] for m in maps]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query_scale": 0.0}, r"query_scale.*0"),
        ({"query_scale": (1.0, -0.5)}, r"query_scale.*-0\.5"),
        ({"key_scale": -1.0}, r"key_scale.*-1"),
        ({"key_scale": (1.0, 1.0, 1.0)}, r"key_scale.*1\.0, 1\.0, 1\.0"),
        ({"stride": 0}, r"stride.*0"),
        ({"key_shape": (6, 8, 2)}, r"key_shape.*6, 8, 2"),
        ({"key_shape": (6, 0)}, r"key_shape.*6, 0"),
        ({"points": torch.zeros(2, 3, dtype=torch.long)}, r"(?s)points.*3"),
        ({"points": torch.zeros(2, dtype=torch.long)}, r"(?s)points.*2"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_matches_that_are_refused(changes, message):
    inputs = {"points": torch.tensor([[0, 0]]), "key_shape": (6, 8), **changes}
    with pytest.raises(ValueError, match=message):
        match_points(one_hot(3, 4), one_hot(3, 4), **inputs)


# ------------------------------------------------------------ a point on foreground


def box(size, margin):
    return set(itertools.product(*(range(margin, s - margin) for s in size)))


@pytest.mark.parametrize(("size", "margin"), [((7, 6), 2), ((5, 4, 6), 1), ((3, 3), 0)])
def test_every_inner_voxel_is_found_equally_often(size, margin, steady):
    volume, generator = torch.ones(size), seeded()
    cells = box(size, margin)
    drawn = [sample_foreground_point(volume, margin=margin, generator=generator) for _ in range(40 * len(cells))]
    assert drawn[0].dtype == torch.long and drawn[0].shape == (len(size),)
    drawn = [tuple(p.tolist()) for p in drawn]
    assert set(drawn) == cells
    assert all(15 < drawn.count(cell) < 75 for cell in cells)


def test_only_foreground_is_drawn(steady):
    volume = noise(12, 12).float()
    volume[3, 4], volume[6, 7] = 0.5, math.nan
    generator = seeded()
    for threshold in (0.0, 0.5, 1.0):
        wanted = {p for p in box((12, 12), 2) if float(volume[p]) > threshold}
        drawn = {
            tuple(sample_foreground_point(volume, threshold=threshold, margin=2, generator=generator).tolist())
            for _ in range(25 * len(wanted))
        }
        assert drawn == wanted
    assert (3, 4) not in wanted and (6, 7) not in wanted


def test_foreground_is_strictly_above_the_threshold(steady):
    volume = torch.zeros(8, 8)
    volume[4, 3] = 1e-6
    for seed in range(5):
        assert sample_foreground_point(volume, margin=1, generator=seeded(seed)).tolist() == [4, 3]


def test_without_foreground_any_inner_voxel_will_do(steady):
    volume, generator = torch.zeros(7, 6), seeded()
    volume[0] = 1.0  # only outside the margin
    drawn = [
        tuple(sample_foreground_point(volume, margin=2, max_tries=3, generator=generator).tolist()) for _ in range(240)
    ]
    assert set(drawn) == box((7, 6), 2)
    assert all(15 < drawn.count(cell) < 75 for cell in box((7, 6), 2))


def test_the_usual_margin_is_ten(steady):
    volume, generator = torch.ones(22, 21), seeded()
    drawn = {tuple(sample_foreground_point(volume, generator=generator).tolist()) for _ in range(40)}
    assert drawn == {(10, 10), (11, 10)}


def test_points_repeat_with_their_generator(steady):
    volume = torch.ones(30, 30, 30)
    one, again, other = (sample_foreground_point(volume, generator=seeded(n)) for n in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        ((20, 30), {}, r"(?s)margin.*10.*20|20.*margin"),
        ((8, 5), {"margin": 3}, r"(?s)margin.*3"),
        ((8, 8), {"margin": -1}, r"margin.*-1"),
    ],
)
def test_points_that_are_refused(size, options, message):
    with pytest.raises(ValueError, match=message):
        sample_foreground_point(torch.ones(size), generator=seeded(), **options)


# ------------------------------------------------------------ crops


def test_crops_match_the_reference(reference, dtype, device):
    volume, size = reference("crop/volume", dtype, device), tuple(reference.number("crop/size"))
    for center, expected in zip(
        reference("crop/centers", torch.long, device), reference("crop/expected", dtype, device), strict=True
    ):
        found = crop_around_point(volume, center, size)
        assert found.dtype == dtype and torch.equal(found, expected)


@pytest.mark.parametrize(
    ("shape", "size"), [((7,), (3,)), ((6, 5), (4, 3)), ((2, 5, 6), (8, 3)), ((1, 2, 4, 3, 5), (3, 9, 2))]
)
@pytest.mark.parametrize("pad", [0.0, -3.5])
def test_crops_equal_a_padded_volume(shape, size, pad):
    volume = noise(*shape)
    copy = volume.clone()
    n = len(size)
    wide = np.pad(volume, [(0, 0)] * (len(shape) - n) + [(20, 20)] * n, constant_values=pad)
    for center in itertools.product(*({0, 1, s // 2, s} for s in shape[-n:])):
        where = tuple(slice(20 + c - k // 2, 20 + c - k // 2 + k) for c, k in zip(center, size, strict=True))
        found = crop_around_point(volume, torch.tensor(center), size, pad)
        assert found.shape == (*shape[:-n], *size)
        assert torch.equal(found, torch.from_numpy(wide[(..., *where)].copy()))
    assert torch.equal(volume, copy)


def test_crops_keep_type_and_gradient():
    labels = torch.arange(12).reshape(3, 4)
    found = crop_around_point(labels, torch.tensor([0, 0]), (2, 2))
    assert found.dtype == torch.long and found.tolist() == [[0, 0], [0, 0]]
    assert crop_around_point(labels, torch.tensor([3, 4]), (2, 2)).tolist() == [[11, 0], [0, 0]]
    for half in HALVES:
        assert crop_around_point(torch.ones(3, 4, dtype=half), torch.tensor([1, 1]), (2, 2)).dtype == half
    volume = noise(1, 4, 5).requires_grad_()
    crop_around_point(volume, torch.tensor([0, 2]), (4, 2)).sum().backward()
    expected = torch.zeros(1, 4, 5)
    expected[:, :2, 1:3] = 1
    close(volume.grad, expected)


@pytest.mark.parametrize(
    ("center", "size", "message"),
    [
        ((-1, 2), (2, 2), r"(?s)center.*-1"),
        ((5, 2), (2, 2), r"(?s)center.*5"),
        ((2, 6), (2, 2), r"(?s)center.*6"),
        ((2,), (2, 2), r"(?s)center.*2"),
        ((2, 2), (2, 0), r"(?s)size.*0"),
    ],
)
def test_crops_that_are_refused(center, size, message):
    with pytest.raises(ValueError, match=message):
        crop_around_point(torch.zeros(4, 5), torch.tensor(center), size)


# ------------------------------------------------------------ mining


def mining_case(dims=2, seed=0):
    size = (24, 26, 22)[:dims]
    fine, coarse = ([s // k for s in size] for k in (2, 11))
    volumes = [noise(1, *size, seed=seed + n).float() for n in (0, 1)]
    return volumes, [embedding(fine, coarse, seed=seed + n, dtype=torch.float32) for n in (5, 9)]


def draws(volume, tries, seed):
    generator = seeded(seed)
    return torch.stack([sample_foreground_point(volume[0], generator=generator) for _ in range(tries)])


@pytest.mark.parametrize("dims", [2, 3])
def test_the_first_good_draw_wins(dims, steady):
    (query, key), (one, two) = mining_case(dims)
    points = draws(query, 40, 3)
    matched, scores = match_points(one, two, points, key_shape=key.shape[1:])
    levels = scores.unique()
    for threshold in levels[[2, len(levels) // 2, -2]].tolist():
        expected = int((scores > threshold).nonzero()[0])
        found = mine_view_pair(
            query, key, one, two, (6, 8, 4)[:dims], min_score=threshold, max_tries=40, generator=seeded(3)
        )
        assert isinstance(found, ViewPair) and found.tries == expected + 1
        assert torch.equal(found.query_point, points[expected])
        assert torch.equal(found.key_point, matched[expected])
        assert found.score == pytest.approx(float(scores[expected]), rel=1e-5) and found.score > threshold


def test_the_best_draw_wins_when_none_is_good(steady):
    (query, key), (one, two) = mining_case()
    points = draws(query, 15, 4)
    matched, scores = match_points(one, two, points, key_shape=key.shape[1:])
    best = int(scores.argmax())
    assert 0 < best < 14
    found = mine_view_pair(query, key, one, two, (6, 8), min_score=2.0, max_tries=15, generator=seeded(4))
    assert found.tries == 15 and found.score == pytest.approx(float(scores[best]), rel=1e-5)
    assert torch.equal(found.query_point, points[best]) and torch.equal(found.key_point, matched[best])
    assert type(found.score) is float and type(found.tries) is int


def test_the_score_must_exceed_the_threshold_and_the_earliest_wins(steady):
    volume, same = torch.ones(1, 24, 26), flat(12, 13)
    highest = float(match_points(same, same, torch.tensor([[0, 0]]), key_shape=(24, 26))[1])
    for seed in range(3):
        found = mine_view_pair(
            volume, volume, same, same, (4, 4), min_score=highest, max_tries=7, generator=seeded(seed)
        )
        assert found.tries == 7 and found.score == highest  # not above it
        assert torch.equal(found.query_point, draws(volume, 1, seed)[0])  # of equals, the earliest
        assert found.key_point.tolist() == [0, 0]
        found = mine_view_pair(volume, volume, same, same, (4, 4), generator=seeded(seed))
        assert found.tries == 1  # 0.7 by default


def test_the_usual_number_of_draws_is_101(steady):
    volume, same = torch.ones(1, 24, 26), flat(12, 13)
    assert mine_view_pair(volume, volume, same, same, (4, 4), min_score=1.5, generator=seeded()).tries == 101


@pytest.mark.parametrize("channel", [False, True])
def test_both_crops_lie_around_their_points(channel, steady):
    (query, key), (one, two) = mining_case(seed=20)
    query, key = query[0], key[0, :20, :23]  # scans differ in size
    images = [volume[None] if channel else volume for volume in (query, key)]
    copies = [image.clone() for image in images]
    scales = {"query_scale": (0.9, 1.0), "key_scale": (1.1, 0.8)}
    found = mine_view_pair(
        *images, one, two, (10, 7), threshold=0.3, margin=4, max_tries=5, min_score=2.0, **scales, generator=seeded(1)
    )
    assert float(query[tuple(found.query_point)]) > 0.3
    assert all(4 <= p < s - 4 for p, s in zip(found.query_point.tolist(), query.shape, strict=True))
    matched, score = match_points(one, two, found.query_point[None], key_shape=key.shape, **scales)
    assert torch.equal(found.key_point, matched[0]) and found.score == pytest.approx(float(score[0]), rel=1e-5)
    for crop, image, point in zip(found[:2], images, found[2:4], strict=True):
        assert torch.equal(crop, crop_around_point(image, point, (10, 7)))
        assert crop.shape == (*image.shape[:-2], 10, 7)
    assert all(torch.equal(image, copy) for image, copy in zip(images, copies, strict=True))


def test_mining_passes_the_stride_on():
    (query, key), _ = mining_case()
    one, two = (embedding((6, 7), (2, 2), seed=n, dtype=torch.float32) for n in (1, 2))
    found = mine_view_pair(query, key, one, two, (4, 4), stride=4, generator=seeded())
    expected, _ = match_points(one, two, found.query_point[None], key_shape=key.shape[1:], stride=4)
    assert torch.equal(found.key_point, expected[0])


def test_pairs_repeat_with_their_generator(steady):
    (query, key), (one, two) = mining_case()
    first, again, other = (
        mine_view_pair(query, key, one, two, (6, 6), max_tries=3, generator=seeded(n)) for n in (1, 1, 2)
    )
    assert torch.equal(first.query, again.query) and torch.equal(first.key, again.key)
    assert first.score == again.score and not torch.equal(first.query_point, other.query_point)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_tries": 0}, r"max_tries.*0"),
        ({"margin": 12}, r"(?s)margin.*12"),
        ({"crop_size": (4, 4, 4)}, r"(?s)size.*4, 4, 4"),
        ({"crop_size": (4, 0)}, r"(?s)size.*0"),
        ({"query_scale": 0.0}, r"query_scale.*0"),
        ({"key_scale": -1.0}, r"key_scale.*-1"),
        ({"query_volume": torch.zeros(1, 24, 26, 22)}, r"(?s)24, 26, 22"),
        ({"key_volume": torch.zeros(24)}, r"(?s)key.*24"),
        (
            {"key_embedding": AnatomicalEmbedding(torch.full((6, 12, 13), math.nan), torch.ones(6, 2, 2))},
            r"(?i)finite|nan",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_mining_refusals(changes, message):
    (query, key), (one, two) = mining_case()
    names = ("query_volume", "key_volume", "query_embedding", "key_embedding", "crop_size")
    inputs = {**dict(zip(names, (query, key, one, two, (6, 6)), strict=True)), **changes}
    with pytest.raises(ValueError, match=message):
        mine_view_pair(**inputs, generator=seeded())
