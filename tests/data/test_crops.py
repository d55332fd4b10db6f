"""One random box, the same in all volumes."""

import pytest
import torch

from medssl_nb.data.crops import crop_at, pad_to, place_of, random_crop, random_start


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_image_and_label_are_cut_at_one_place():
    image = torch.arange(6 * 7 * 8, dtype=torch.float32).view(1, 6, 7, 8)
    label = image.long()
    a, b = random_crop([image, label], (3, 4, 5), generator())
    assert a.shape == b.shape == (1, 3, 4, 5)
    assert torch.equal(a.long(), b)
    assert torch.equal(a[0, :, 0, 0].diff(), torch.full((2,), 56.0))  # neighbours stay neighbours


def test_every_place_is_reached_and_none_outside():
    volume = torch.arange(5.0).view(1, 5)
    starts = {int(random_crop([volume], (3,), generator(seed))[0][0, 0]) for seed in range(60)}
    assert starts == {0, 1, 2}


def test_short_sides_are_padded_with_the_image_minimum_and_with_background():
    image, label = torch.full((1, 2, 2), -1.0), torch.full((1, 2, 2), 3)
    image[0, 0, 0] = -5
    a, b = random_crop([image, label], (4, 2), generator())
    assert a[0, [0, 3]].tolist() == [[-5, -5], [-5, -5]]
    assert b[0].tolist() == [[0, 0], [3, 3], [3, 3], [0, 0]]


def test_the_voxel_asked_for_lies_in_the_box():
    volume = torch.zeros(1, 20, 20, 6)
    volume[0, 13, 2, 5] = 1
    for seed in range(40):
        (box,) = random_crop([volume], (8, 8, 8), generator(seed), around=(13, 2, 5))
        assert box.sum() == 1


def test_same_generator_same_box():
    volume = torch.randn(1, 9, 9, 9)
    assert torch.equal(
        random_crop([volume], (4, 4, 4), generator(3))[0], random_crop([volume], (4, 4, 4), generator(3))[0]
    )


def test_pad_and_crop_by_hand():
    row = torch.tensor([[1.0, 2.0]])
    assert pad_to(row, (5,)).tolist() == [[1, 1, 2, 1, 1]]
    assert pad_to(row, (2,)) is row
    assert crop_at(torch.arange(6).view(1, 6), (2,), (3,)).tolist() == [[2, 3, 4]]


def test_messages():
    with pytest.raises(ValueError, match=r"one grid.*\(3, 3\)"):
        random_crop([torch.zeros(1, 3, 3), torch.zeros(1, 3, 4)], (2, 2), generator())
    with pytest.raises(ValueError, match=r"as many axes"):
        random_crop([torch.zeros(1, 3, 3)], (2, 2, 2), generator())


def test_the_start_and_the_place_of_a_box():
    grid, size = (20, 4), (8, 6)  # the second axis is padded by one voxel at each end
    volume = torch.arange(80).view(1, *grid)
    start = random_start(grid, size, generator(5))
    (box,) = random_crop([volume], size, generator(5))
    assert torch.equal(box, crop_at(pad_to(volume, size), start, size))
    assert start[1] == 0 and place_of(start, size, grid) == [start[0] / 12, 0.5]
    assert place_of([0, 6], (2, 2), (2, 8)) == [0.5, 1.0]
