"""Volumes cut into patches, put together again, and hidden at random."""

from pathlib import Path

import numpy as np
import pytest
import torch

from medssl_nb.networks.patches import patchify, random_masks, unpatchify

REFERENCE = Path(__file__).parents[1] / "reference" / "adaptive_masking.npz"


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- patchify, unpatchify ---


def test_numbering_by_hand():
    image = torch.arange(24).reshape(1, 1, 4, 6)
    patches = patchify(image, 2)
    assert patches[0, 0].tolist() == [0, 1, 6, 7]
    assert patches[0, 1].tolist() == [2, 3, 8, 9]  # the last axis is the fastest
    assert patches[0, 3].tolist() == [12, 13, 18, 19]


def test_channel_comes_last_inside_a_patch():
    image = torch.stack([torch.arange(4), 10 + torch.arange(4)]).reshape(1, 2, 2, 2)
    assert patchify(image, 2)[0, 0].tolist() == [0, 10, 1, 11, 2, 12, 3, 13]


@pytest.mark.parametrize(
    "case, patch_size, grid, channels", [("2d", 4, (2, 2), 3), ("3d", (4, 3, 2), (2, 2, 2), 2)], ids=["2d", "3d"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reference_numbers_exactly(case, patch_size, grid, channels, dtype):
    with np.load(REFERENCE) as numbers:
        volume = torch.from_numpy(numbers[f"patchify__{case}__volume"]).to(dtype)
        expected = torch.from_numpy(numbers[f"patchify__{case}__patches"]).to(dtype)
    patches = patchify(volume, patch_size)
    assert patches.dtype == dtype
    assert torch.equal(patches, expected)
    assert torch.equal(unpatchify(expected, patch_size, grid, channels), volume)


def test_a_flat_volume_is_cut_like_an_image():
    volume = torch.rand(2, 3, 8, 6, 1, generator=generator())
    assert torch.equal(patchify(volume, (4, 3, 1)), patchify(volume[..., 0], (4, 3)))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.bfloat16])
def test_round_trip_of_other_types_with_unequal_axes(dtype):
    volume = torch.randint(0, 2, (2, 3, 4, 6, 10), generator=generator()).to(dtype)
    patches = patchify(volume, (2, 3, 5))
    assert patches.shape == (2, 8, 90)
    assert torch.equal(unpatchify(patches, (2, 3, 5), (2, 2, 2), 3), volume)


def test_patchify_refuses():
    with pytest.raises(ValueError, match=r"got \(4, 4\); volume\[None\] adds B"):
        patchify(torch.zeros(4, 4), 2)
    with pytest.raises(ValueError, match=r"multiple of its patch_size: got sides \(4, 5\)"):
        patchify(torch.zeros(1, 1, 4, 5), 2)
    with pytest.raises(ValueError, match=r"multiple of its patch_size: got sides \(4, 0\)"):
        patchify(torch.zeros(1, 1, 4, 0), 2)
    for wrong in (0, -2, 2.0, (2, 2), (2, 2, 2.5)):
        with pytest.raises(ValueError, match="one whole number >= 1 or one for each of 3 axes"):
            patchify(torch.zeros(1, 1, 4, 4, 4), wrong)
    assert patchify(torch.zeros(1, 1, 4, 4), np.array([2, 4])).shape == (1, 2, 8)


def test_unpatchify_refuses():
    with pytest.raises(ValueError, match=r"need patches \(B, 4, 8\), got \(1, 4, 4\)"):
        unpatchify(torch.zeros(1, 4, 4), 2, (2, 2), 2)
    with pytest.raises(ValueError, match=r"need patches \(B, 6, 4\), got \(1, 4, 4\)"):
        unpatchify(torch.zeros(1, 4, 4), 2, (2, 3))
    with pytest.raises(ValueError, match=r"2 or 3 numbers, one per axis, got \(4,\)"):
        unpatchify(torch.zeros(1, 4, 4), 2, (4,))


# --- random masks ---


@pytest.mark.parametrize(
    "num_patches, ratio, hidden", [(64, 0.75, 48), (27, 0.75, 20), (5, 0.5, 3), (8, 0.01, 1), (8, 0.99, 7), (2, 0.9, 1)]
)
def test_every_row_hides_the_same_number(num_patches, ratio, hidden):
    masks = random_masks(20, num_patches, ratio, generator())
    assert masks.dtype == torch.bool
    assert masks.shape == (20, num_patches)
    assert (masks.sum(dim=1) == hidden).all()


def test_masks_are_drawn_by_the_generator_alone():
    masks = random_masks(4, 64, 0.5, generator(3))
    assert torch.equal(masks, random_masks(4, 64, 0.5, generator(3)))
    assert not torch.equal(masks, random_masks(4, 64, 0.5, generator(4)))
    assert len({tuple(row) for row in masks.tolist()}) == 4
    torch.manual_seed(3)
    assert torch.equal(masks, random_masks(4, 64, 0.5))


def test_the_largest_numbers_drawn_are_hidden():
    noise = torch.rand(3, 10, generator=generator(1))
    threshold = noise.sort(dim=1).values[:, -4:-3]
    assert torch.equal(random_masks(3, 10, 0.4, generator(1)), noise >= threshold)


def test_every_patch_is_hidden_equally_often():
    share = random_masks(4000, 8, 0.25, generator()).float().mean(dim=0)
    assert (share - 0.25).abs().max() < 0.03  # 4 standard deviations of a share of 4000


def test_random_masks_refuse():
    for ratio in (0, 1, 75, float("nan")):
        with pytest.raises(ValueError, match=r"75 % is 0\.75"):
            random_masks(1, 8, ratio)
    with pytest.raises(ValueError, match=r"one hidden, one visible.*got 1 and 1"):
        random_masks(1, 1, 0.5)
    with pytest.raises(ValueError, match="got 0 and 8"):
        random_masks(0, 8, 0.5)
