"""What a step of pre-training sees: which volumes, cut where, which views of them; all of it from seed and step."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from medssl_nb.data.crops import crop_around_point, crop_at, pad_to, place_of, random_start
from medssl_nb.training.profile import Profile
from medssl_nb.training.randomness import generator_of
from medssl_nb.training.task import Aim, PretextTask, Views


class Crop(NamedTuple):
    """A box of a volume, or several stacked.

    Attributes:
        volume: (C, *crop), float32.
        place: (3,), where it lies among all places it could have in its volume: 0 (first) to 1 (last) along X, Y, Z. Of
            a crop that was aimed at, where its middle lies: 0 (first voxel) to 1 (last).
    """

    volume: Tensor
    place: Tensor


class CropDataset(torch.utils.data.Dataset):
    """Crops of unlabelled cases, by (step, place in the batch).

    Cases come in a new random order every epoch; an epoch ends when each was seen once, wherever that falls in a step.
    """

    def __init__(self, cases: Sequence, profile: Profile):
        if not cases:
            raise ValueError("pre-training needs images, and this cohort has none outside validation and test.")
        self.cases, self.profile = list(cases), profile
        self._kept: dict[int, Tensor] = {}
        self._room = profile.cache_gb * 1e9
        self._aim: Aim | None = None
        self._group = 1
        self._aimed = (-1, -1), []  # first sample of the last group that was aimed at, and where

    def take_aim(self, aim: Aim | None, group: int) -> None:
        """Let `aim` choose where the crops of every `group` samples lie, instead of chance; None: chance again."""
        if aim is not None and len(self.profile.crop) != 3:
            raise ValueError(f"crops are aimed at in volumes; a crop of {self.profile.crop} is a slice.")
        self._aim, self._group = aim, group

    def __getitem__(self, key: tuple[int, int]) -> Crop:
        """The crop of sample `key` = (step, place)."""
        step, place = key
        volume = self.volume(self._case(step, place))
        if self._aim is not None:
            centre = self._centre(step, place)
            return Crop(
                crop_around_point(volume, centre, self.profile.crop, float(volume.min())),
                torch.tensor([c / max(1, side - 1) for c, side in zip(centre, volume.shape[1:], strict=True)]),
            )
        generator = generator_of(self.profile.seed, "crop", step, place)
        size, height = self.profile.crop, []
        if len(size) == 2:  # slices: one of them, then a place in it
            slices = volume.shape[-1]
            z = int(torch.randint(slices, (), generator=generator))
            volume, height = volume[..., z], place_of([z], [1], [slices])
        grid = volume.shape[1:]
        start = random_start(grid, size, generator)
        box = crop_at(pad_to(volume, size), start, size).clone(memory_format=torch.contiguous_format)
        return Crop(box, torch.tensor([*place_of(start, size, grid), *height]))

    def _case(self, step: int, place: int) -> int:
        number = step * self.profile.batch_size + place
        return case_order(self.profile.seed, number // len(self.cases), len(self.cases))[number % len(self.cases)]

    def _centre(self, step: int, place: int) -> list[int]:
        """Middle of the crop of one sample; a group is aimed at once."""
        first = place - place % self._group
        if self._aimed[0] != (step, first):
            cases = [self._case(step, p) for p in range(first, first + self._group)]
            generator = generator_of(self.profile.seed, "aim", step, first)
            self._aimed = (step, first), [[int(c) for c in centre] for centre in self._aim(cases, generator)]
        return self._aimed[1][place - first]

    def volume(self, index: int) -> Tensor:
        """The whole prepared volume (C, X, Y, Z) of one case, kept in memory while there is room."""
        if index in self._kept:
            return self._kept[index]
        volume = prepare(self.cases[index], self.profile.spacing_mm)
        size = volume.numel() * volume.element_size()
        if size <= self._room:
            self._room -= size
            self._kept[index] = volume
        return volume


def prepare(case, spacing_mm: Sequence[float] | None) -> Tensor:
    """Normalised grey values of `case` as a plain float32 tensor (C, X, Y, Z), resampled to `spacing_mm` if given."""
    if spacing_mm is None:
        return torch.as_tensor(case.normalised().as_tensor())
    from medssl_nb.data.geometry import resample
    from medssl_nb.data.intensity import normalise

    return normalise(resample(case.image(), spacing_mm), case.modality).as_tensor()


@lru_cache(maxsize=8)
def case_order(seed: int, epoch: int, count: int) -> tuple[int, ...]:
    """Order of the cases in one epoch."""
    return tuple(torch.randperm(count, generator=generator_of(seed, "order", epoch)).tolist())


class StepSampler(torch.utils.data.Sampler):
    """Keys of the samples of one process, part by part, from `first_step` to the end of the run.

    Part a of process r holds the places (a * processes + r) * n to (a * processes + r + 1) * n of the step's batch.
    """

    def __init__(self, profile: Profile, first_step: int, process: int = 0, processes: int = 1):
        self.profile, self.first_step = profile, first_step
        self.process, self.processes = process, processes
        self.size = profile.per_process(processes)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.first_step, self.profile.steps):
            for part in range(self.profile.accumulate):
                yield [(step, place) for place in self.places(part)]

    def __len__(self) -> int:
        return (self.profile.steps - self.first_step) * self.profile.accumulate

    def places(self, part: int) -> range:
        start = (part * self.processes + self.process) * self.size
        return range(start, start + self.size)


def batches(dataset: CropDataset, sampler: StepSampler, pin_memory: bool = False) -> torch.utils.data.DataLoader:
    """Loader of stacked crops, one batch for each part of each step."""
    workers = dataset.profile.workers
    return torch.utils.data.DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # else the loader draws a number from the caller's
    )


@torch.no_grad()
def make_views(task: PretextTask, crops: Crop, seed: int, step: int, places: range) -> Views:
    """Views of the crops that stand at `places` of the step's batch, group by group, joined."""
    size = task.group_size or len(crops.volume)
    if len(crops.volume) % size:
        raise ValueError(
            f"{task.name} augments {size} volumes together, and a process has {len(crops.volume)} at a time; "
            f"choose batch_size, accumulate and processes so that this is a multiple of {size}."
        )
    groups = []
    for i in range(0, len(crops.volume), size):
        volumes, where = (part[i : i + size] for part in crops)
        where = {"where": where} if task.needs_places else {}
        groups.append(task.views(volumes, generator_of(seed, "views", step, places[i]), **where))
    return {name: torch.cat([group[name] for group in groups]) for name in groups[0]}
