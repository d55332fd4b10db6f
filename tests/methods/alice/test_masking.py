"""Column and patch masks: reference numbers, exact counts, laws, edges, messages."""

import math

import pytest
import torch

from medssl_nb.methods.alice import expand_patch_mask, mask_volume, random_patch_mask

HALVES = [torch.float16, torch.bfloat16]


def seeded(number=0):
    return torch.Generator().manual_seed(number)


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


def cells_of(mask, patch):
    """One value per cell, read off a voxel mask that must be constant in each."""
    for axis in range(mask.ndim):
        mask = mask.unfold(axis, patch, patch)
    cells = mask.flatten(mask.ndim // 2)
    assert torch.equal(cells.any(-1), cells.all(-1))
    return cells[..., 0]


@pytest.mark.parametrize("case", ["a", "b"])
def test_masks_match_the_reference(reference, case, dtype, device):
    size = tuple(reference.number(f"mask/{case}/size"))
    patches = reference(f"mask/{case}/patch_mask", torch.bool, device)
    voxels = expand_patch_mask(patches, size)
    assert voxels.dtype == torch.bool and torch.equal(voxels, reference(f"mask/{case}/voxel_mask", torch.bool, device))
    volume = reference(f"mask/{case}/volume", dtype, device)
    found = mask_volume(volume, voxels)
    assert found.dtype == dtype and torch.equal(found, reference(f"mask/{case}/masked_volume", dtype, device))
    patch = reference.number(f"mask/{case}/patch_size")
    drawn = random_patch_mask(size, patch, reference.number(f"mask/{case}/ratio"), generator=seeded(), device=device)
    assert drawn.device.type == device
    assert int(cells_of(drawn.cpu(), patch)[..., 0].sum()) == reference.number(f"mask/{case}/count")


# ------------------------------------------------------------ drawing


@pytest.mark.parametrize(
    ("size", "patch", "mode", "grid"),
    [
        ((12, 20, 8), 4, "column", (3, 5)),
        ((12, 20, 8), 4, "patch", (3, 5, 2)),
        ((8, 20), 2, "patch", (4, 10)),
        ((4, 4, 4), 4, "patch", (1, 1, 1)),
    ],
)
@pytest.mark.parametrize("ratio", [0, 0.01, 1 / 3, 0.5, 0.55, 0.75, 0.999, 1])
def test_the_hidden_count_is_exact(size, patch, mode, grid, ratio, steady):
    mask = random_patch_mask(size, patch, ratio, mode=mode, generator=seeded())
    assert mask.shape == size and mask.dtype == torch.bool
    cells = cells_of(mask, patch)
    if mode == "column":
        assert torch.equal(cells, cells[..., :1].expand_as(cells))  # unbroken along the last axis
        cells = cells[..., 0]
    assert cells.shape == grid and int(cells.sum()) == math.ceil(math.prod(grid) * ratio)


def test_five_sixths_are_hidden_where_three_quarters_were_asked_for():
    column = random_patch_mask((32, 48, 32), generator=seeded())
    assert float(column.float().mean()) == pytest.approx(5 / 6)  # ceil(6 * 0.75) = 5 of 6 columns
    patch = random_patch_mask((32, 48, 32), mode="patch", generator=seeded())
    assert float(patch.float().mean()) == pytest.approx(3 / 4)
    assert torch.equal(column, random_patch_mask((32, 48, 32), 16, 0.75, mode="column", generator=seeded()))


@pytest.mark.parametrize(("size", "mode"), [((12, 8, 4), "column"), ((8, 12), "patch"), ((8, 8, 8), "patch")])
def test_every_cell_is_hidden_equally_often(size, mode, steady):
    generator = seeded()
    drawn = torch.stack(
        [cells_of(random_patch_mask(size, 4, 0.25, mode=mode, generator=generator), 4) for _ in range(300)]
    )
    share = drawn.float().mean(0)
    assert share.mean() == pytest.approx(math.ceil(share.numel() * 0.25) / share.numel(), abs=0.09)
    assert (share > 0.2).all() and (share < 0.45).all()
    flat = drawn.flatten(1).float()
    if flat.shape[1] == 6:  # two of six cells: each pair turns up
        assert len({tuple(row.nonzero().flatten().tolist()) for row in flat}) == 15


def test_masks_repeat_with_their_generator(steady):
    one, again, other = (random_patch_mask((16, 16, 4), 2, 0.5, generator=seeded(n)) for n in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
    generator = seeded(1)
    first, second = (random_patch_mask((16, 16, 4), 2, 0.5, generator=generator) for _ in range(2))
    assert torch.equal(first, one) and not torch.equal(second, one)


def test_without_a_generator_the_global_one_is_drawn_from():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        one = random_patch_mask((16, 16, 4), 2, 0.5)
        torch.manual_seed(5)
        assert torch.equal(random_patch_mask((16, 16, 4), 2, 0.5), one)


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        ((16, 16), {"patch_size": 4}, r"(?s)column.*patch|patch.*column"),  # says what to use instead
        ((16, 18, 16), {"patch_size": 4}, r"(?s)18.*4"),
        ((16, 16, 18), {"patch_size": 4}, r"(?s)18.*4"),
        ((16, 18), {"patch_size": 4, "mode": "patch"}, r"(?s)18.*4"),
        ((16, 16, 16), {"patch_size": 0}, r"patch_size.*0"),
        ((16, 16, 16), {"patch_size": 4, "ratio": -0.1}, r"ratio.*-0\.1"),
        ((16, 16, 16), {"patch_size": 4, "ratio": 75}, r"ratio.*75"),
        ((16, 16, 16), {"patch_size": 4, "ratio": math.nan}, r"ratio.*nan"),
        ((16, 16, 16), {"patch_size": 4, "mode": "columns"}, r"mode.*columns"),
    ],
)
def test_masks_that_are_refused(size, options, message):
    with pytest.raises(ValueError, match=message):
        random_patch_mask(size, **options, generator=seeded())


# ------------------------------------------------------------ expanding


@pytest.mark.parametrize("grid", [(2, 3), (2, 3, 4), (1, 1)])
def test_each_cell_becomes_a_block(grid):
    patches = noise(*grid) > 0
    voxels = expand_patch_mask(patches, tuple(4 * g for g in grid))
    assert voxels.dtype == torch.bool and torch.equal(cells_of(voxels, 4), patches)
    mixed = expand_patch_mask(patches, tuple((k + 2) * g for k, g in enumerate(grid)))  # another cell per axis
    expected = patches
    for axis in range(len(grid)):
        expected = expected.repeat_interleave(axis + 2, axis)
    assert torch.equal(mixed, expected)


def test_a_missing_last_axis_is_repeated():
    patches = torch.tensor([[True, False], [False, True], [True, True]])
    voxels = expand_patch_mask(patches, (6, 4, 5))
    assert torch.equal(voxels, expand_patch_mask(patches, (6, 4))[..., None].expand(6, 4, 5))
    line = expand_patch_mask(torch.tensor([True, False]), (4, 3))
    assert line.tolist() == [[True] * 3] * 2 + [[False] * 3] * 2


@pytest.mark.parametrize(("grid", "size"), [((2,), (4, 4, 4)), ((2, 2, 2), (4, 4)), ((2, 2), (4, 4, 4, 4))])
def test_grids_that_cannot_be_expanded(grid, size):
    with pytest.raises(ValueError, match="(?s)" + ".*".join(str(g) for g in grid)):
        expand_patch_mask(torch.ones(grid, dtype=torch.bool), size)


# ------------------------------------------------------------ hiding voxels


@pytest.mark.parametrize("fill", [0.0, -1.5])
def test_hidden_voxels_take_the_fill_value(fill, dtype):
    volume = noise(2, 3, 4, 5, dtype=dtype)
    copy = volume.clone()
    for mask in (noise(4, 5) > 0, noise(2, 1, 4, 5, seed=1) > 0):
        found = mask_volume(volume, mask, fill)
        wide = mask.expand(2, 3, 4, 5)
        assert found.shape == volume.shape and found.dtype == dtype
        assert (found[wide] == fill).all() and torch.equal(found[~wide], volume[~wide])
    assert torch.equal(volume, copy)
    assert torch.equal(mask_volume(volume, torch.zeros(4, 5, dtype=torch.bool), fill), volume)
    assert (mask_volume(volume, torch.ones(4, 5, dtype=torch.bool), fill) == fill).all()


def test_masking_keeps_types_and_stops_gradients_of_hidden_voxels():
    mask = torch.tensor([[True, False, False], [False, True, False]])
    volume = noise(1, 2, 3).requires_grad_()
    mask_volume(volume, mask).sum().backward()
    assert torch.equal(volume.grad[0], (~mask).double())
    for half in HALVES:
        single = noise(2, 3).to(half)
        found = mask_volume(single, mask)
        assert found.dtype == half and torch.equal(found[~mask], single[~mask])
    visible = noise(2, 3)
    visible[0, 1] = math.nan
    assert mask_volume(visible, mask)[0, 1].isnan()


@pytest.mark.parametrize(("volume", "mask"), [((1, 4, 5), (4, 4)), ((2, 1, 4, 5), (3, 1, 4, 5)), ((4, 5), (2, 2))])
def test_masks_of_another_shape_are_refused(volume, mask):
    with pytest.raises(ValueError, match="(?s)mask.*" + ", ".join(map(str, mask))):
        mask_volume(torch.zeros(volume), torch.ones(mask, dtype=torch.bool))
