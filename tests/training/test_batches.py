"""Which volumes a step sees, and where they are cut: the same for any number of processes and workers."""

from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from medssl_nb.training import Profile
from medssl_nb.training.batches import CropDataset, StepSampler, batches, case_order, prepare
from medssl_nb.training.randomness import generator_of, seed_of


@dataclass
class Case:
    """A volume whose every voxel tells case and place: 1e6 * case + 1e4 * x + 1e2 * y + z."""

    name: str
    number: int
    shape: tuple = (12, 10, 8)
    read: int = 0

    def normalised(self):
        self.read += 1
        x, y, z = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in self.shape), indexing="ij")
        volume = (1e6 * self.number + 1e4 * x + 1e2 * y + z)[None]
        return SimpleNamespace(as_tensor=lambda: volume)


def cases(count, **options):
    return [Case(f"case {i}", i, **options) for i in range(count)]


def settings(**changes):
    return Profile(**{"steps": 6, "batch_size": 4, "crop": (4, 4, 4), **changes})


def all_crops(dataset, sampler):
    return [crop for batch in batches(dataset, sampler) for crop in batch.volume]


def case_of(crop):
    return int(crop.min() // 1e6)


def keys(profile, process=0, processes=1, first_step=0):
    return list(StepSampler(profile, first_step, process, processes))


# ---------------------------------------------------------------- which cases
@pytest.mark.parametrize("batch_size, steps", [(5, 6), (4, 15), (3, 10), (7, 10), (1, 20)])
def test_every_case_comes_once_in_every_epoch(batch_size, steps):
    profile = settings(batch_size=batch_size, steps=steps)
    seen = [case_of(crop) for crop in all_crops(CropDataset(cases(5), profile), StepSampler(profile, 0))]
    assert len(seen) == steps * batch_size
    for start in range(0, len(seen), 5):  # epochs begin anywhere in a step
        epoch = seen[start : start + 5]
        assert len(set(epoch)) == len(epoch)


def test_one_case_alone_is_seen_over_and_over_elsewhere():
    profile = settings()
    crops = all_crops(CropDataset(cases(1), profile), StepSampler(profile, 0))
    assert {case_of(crop) for crop in crops} == {0}
    assert len({float(crop.min()) for crop in crops}) > len(crops) / 2


def test_the_order_changes_with_the_epoch_and_the_seed():
    orders = [case_order(seed, epoch, 8) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert len(set(orders)) == 6
    assert case_order(1, 2, 8) == case_order(1, 2, 8)


def test_all_orders_are_equally_likely():
    found = Counter(case_order(0, epoch, 3) for epoch in range(1200))
    assert len(found) == 6 and all(140 < n < 260 for n in found.values())  # 200 each, standard deviation 13


# ---------------------------------------------------------------- who takes which
@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("processes", [2, 3])
def test_processes_and_parts_divide_the_places_of_one(accumulate, processes):
    profile = settings(batch_size=36, accumulate=accumulate, steps=3)
    parts = [keys(profile, process, processes) for process in range(processes)]
    assert all(len(p) == len(StepSampler(profile, 0, 0, processes)) == 3 * accumulate for p in parts)
    for number in range(3 * accumulate):
        together = [key for p in parts for key in p[number]]  # in the order in which `gather` joins them
        step, part = divmod(number, accumulate)
        size = 36 // accumulate
        assert together == [(step, place) for place in range(part * size, (part + 1) * size)]


def test_processes_see_the_very_crops_of_one():
    profile, dataset = settings(steps=2), CropDataset(cases(3), settings(steps=2))
    one = all_crops(dataset, StepSampler(profile, 0))
    first, second = (list(batches(dataset, StepSampler(profile, 0, process, 2))) for process in (0, 1))
    two = [crop for halves in zip(first, second, strict=True) for half in halves for crop in half.volume]
    assert len(one) == len(two) == 8
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_going_on_is_the_rest_of_the_whole():
    profile = settings(accumulate=2)
    whole = keys(profile)
    assert keys(profile, first_step=4) == whole[8:]
    assert len(StepSampler(profile, 4)) == 4
    assert keys(profile, first_step=6) == []


@pytest.mark.parametrize("batch_size, processes, accumulate, multiple", [(3, 2, 1, 2), (4, 3, 1, 3), (6, 2, 2, 4)])
def test_a_batch_that_does_not_divide_is_refused(batch_size, processes, accumulate, multiple):
    profile = settings(batch_size=batch_size, accumulate=accumulate)
    with pytest.raises(ValueError, match=f"batch_size {batch_size} must divide .* take a multiple of {multiple}"):
        StepSampler(profile, 0, 0, processes)
    assert StepSampler(settings(batch_size=multiple, accumulate=accumulate), 0, 0, processes).size == 1


# ---------------------------------------------------------------- where they are cut
def test_a_crop_follows_from_seed_step_and_place_alone():
    dataset = CropDataset(cases(3), settings())
    there = {key: dataset[key].volume for key in [(0, 0), (5, 3), (2, 1)]}
    again = CropDataset(cases(3), settings(steps=100, workers=2, accumulate=2, checkpoint_every=1))
    assert all(torch.equal(again[key].volume, crop) for key, crop in reversed(there.items()))
    other = CropDataset(cases(3), settings(seed=1))
    assert not all(torch.equal(other[key].volume, crop) for key, crop in there.items())


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers):
    plain, profile = settings(steps=3), settings(steps=3, workers=workers)
    expected = list(batches(CropDataset(cases(3), plain), StepSampler(plain, 0)))
    found = list(batches(CropDataset(cases(3), profile), StepSampler(profile, 0)))
    pairs = [pair for a, b in zip(expected, found, strict=True) for pair in zip(a, b, strict=True)]
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_crop_is_a_box_of_its_volume_and_every_place_is_reached():
    dataset = CropDataset(cases(1, shape=(6, 5, 4)), settings(crop=(4, 4, 4)))
    whole = dataset.volume(0)
    starts = Counter()
    for step in range(200):
        crop, place = dataset[step, 0]
        x, y, z = (int(n) for n in (crop.min() // 1e4, crop.min() % 1e4 // 1e2, crop.min() % 1e2))
        assert torch.equal(crop, whole[:, x : x + 4, y : y + 4, z : z + 4])
        torch.testing.assert_close(place, torch.tensor([x / 2, float(y), 0.5]))
        starts[x, y, z] += 1
    assert sorted(starts) == [(x, y, 0) for x in range(3) for y in range(2)]
    assert min(starts.values()) > 15  # 33 each, standard deviation 5


def test_crops_are_float32_finite_and_own_their_memory():
    dataset = CropDataset(cases(2), settings(crop=(12, 10, 8)))  # the whole volume
    crop = dataset[0, 0].volume
    assert crop.dtype == torch.float32 and crop.is_contiguous() and type(crop) is torch.Tensor
    kept = dataset.volume(case_of(crop)).clone()
    crop.zero_()
    assert torch.equal(dataset.volume(case_of(kept)), kept)  # the cache stays as it is


def test_volumes_smaller_than_the_crop_are_padded_with_their_minimum():
    dataset = CropDataset(cases(2, shape=(3, 10, 2)), settings(crop=(5, 4, 6)))
    crop = dataset[0, 0].volume
    assert crop.shape == (1, 5, 4, 6) and torch.isfinite(crop).all()
    inside, least = crop[:, 1:4, :, 2:4], dataset.volume(case_of(crop)).min()
    assert (crop == least).sum() >= crop.numel() - inside.numel()
    assert (inside.diff(dim=1) == 1e4).all() and (inside.diff(dim=3) == 1).all()


def test_flat_crops_are_slices_from_anywhere():
    profile = settings(crop=(6, 5), steps=20)
    dataset = CropDataset(cases(2), profile)
    crops = all_crops(dataset, StepSampler(profile, 0))
    assert {tuple(crop.shape) for crop in crops} == {(1, 6, 5)}
    assert {int(crop.min() % 1e2) for crop in crops} == set(range(8))  # every slice
    crop, place = dataset[3, 0]
    x, y, z = (int(n) for n in (crop.min() % 1e6 // 1e4, crop.min() % 1e4 // 1e2, crop.min() % 1e2))
    torch.testing.assert_close(place, torch.tensor([x / 6, y / 5, z / 7]))
    assert all((crop.diff(dim=1) == 1e4).all() and (crop.diff(dim=2) == 1e2).all() for crop in crops)


# ---------------------------------------------------------------- what is kept
@pytest.mark.parametrize("cache_gb, kept", [(0.0, 0), (2.5 * 12 * 10 * 8 * 4 / 1e9, 2), (1.0, 3)])
def test_the_cache_holds_what_fits_and_changes_no_crop(cache_gb, kept):
    ours, profile = cases(3), settings(cache_gb=cache_gb)
    found = all_crops(CropDataset(ours, profile), StepSampler(profile, 0))
    expected = all_crops(CropDataset(cases(3), settings()), StepSampler(profile, 0))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert sorted(case.read for case in ours) == sorted([1] * kept + [8] * (3 - kept))  # 24 crops of 3 cases


def test_a_cohort_without_images_is_refused():
    with pytest.raises(ValueError, match="pre-training needs images, and this cohort has none outside validation"):
        CropDataset([], settings())


def test_cases_of_a_cohort_are_scaled_and_resampled(tiny_cohort):
    case = tiny_cohort.unlabelled[0]
    plain, finer = prepare(case, None), prepare(case, (7.0, 14.0, 17.0))
    assert type(plain) is type(finer) is torch.Tensor and plain.dtype == finer.dtype == torch.float32
    assert plain.shape == (1, 20, 20, 20) and finer.shape == (1, 39, 20, 20)
    assert torch.isfinite(finer).all()
    torch.testing.assert_close(finer.mean(), plain.mean(), rtol=0, atol=0.05)
    torch.testing.assert_close(plain, case.normalised().as_tensor(), rtol=0, atol=0)
    crop = CropDataset([case], settings(crop=(16, 16, 16), spacing_mm=(7.0, 14.0, 17.0)))[0, 0].volume
    assert crop.shape == (1, 16, 16, 16) and torch.isfinite(crop).all()


# ---------------------------------------------------------------- random numbers
def test_seeds_are_the_same_everywhere_and_differ_for_all_that_differs():
    assert seed_of(0, "crop", 3, 1) == 5178763103043177278
    parts = [(s, w, a, b) for s in range(3) for w in ("crop", "views") for a in range(12) for b in range(12)]
    assert len({seed_of(*p) for p in parts}) == len(parts)
    assert seed_of(1, 23) != seed_of(12, 3) and seed_of("1") != seed_of(1)
    assert all(0 <= seed_of(*p) < 2**63 for p in parts)
    first, second = (torch.rand(3, generator=generator_of(0, "crop", 1)) for _ in range(2))
    assert torch.equal(first, second)


def test_the_loader_takes_no_random_number_of_the_caller():
    before = torch.get_rng_state()
    for workers in (0, 1):
        profile = settings(steps=2, workers=workers)
        all_crops(CropDataset(cases(2), profile), StepSampler(profile, 0))
    assert torch.equal(torch.get_rng_state(), before)
