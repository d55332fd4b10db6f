"""Views of a batch: maps that are what they say, sampling that equals the reference numbers, and refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch

from medssl_nb.data.augment import apply_affine, jitter_intensity, random_affine, random_gamma

NEUTRAL = {"scale": (1, 1), "rotation_degrees": 0.0, "translation": 0.0, "flip_probability": 0.0}


@pytest.fixture(scope="module")
def reference():
    with np.load(Path(__file__).parents[1] / "reference" / "boundary_infomax.npz", allow_pickle=False) as numbers:
        return {key: torch.from_numpy(numbers[key]) for key in numbers.files if key.startswith("affine")}


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def noise(*shape: int, dtype=torch.float32) -> torch.Tensor:
    return torch.rand(*shape, generator=seeded(7), dtype=dtype)


def in_voxels(theta: torch.Tensor, shape: tuple[int, ...], spacing=None) -> torch.Tensor:
    """The linear part of theta (B, d, d + 1) in voxels (or mm) along the axes of the array, in their order."""
    half = torch.tensor(shape, dtype=theta.dtype) * torch.tensor(spacing or [1.0] * len(shape), dtype=theta.dtype) / 2
    return theta[:, :, :-1].flip(1, 2) * half[None, :, None] / half[None, None]


# ------------------------------------------------------------ sampling


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("case", ["affine2d", "affine3d"])
def test_sampling_equals_the_reference(reference, case, mode):
    x, theta, wanted = (reference[f"{case}__{item}"] for item in ("input", "theta", mode))
    torch.testing.assert_close(apply_affine(x, theta, mode=mode), wanted, rtol=1e-7, atol=1e-10)
    tolerance = 1e-5 if mode == "bilinear" else 2e-6  # as stated beside the numbers
    single = apply_affine(x.float(), theta.float(), mode=mode)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, wanted.float(), rtol=2e-4, atol=tolerance)


@pytest.mark.parametrize("shape", [(7,), (6, 7), (5, 6, 7)], ids=["1D", "2D", "3D"])
def test_neutral_ranges_are_the_identity(shape):
    theta = random_affine(2, shape, **NEUTRAL)
    assert torch.equal(theta, torch.eye(len(shape), len(shape) + 1).repeat(2, 1, 1))
    x = noise(2, 3, *shape)
    assert torch.equal(apply_affine(x, theta), x)
    torch.testing.assert_close(apply_affine(x, theta, mode="bilinear"), x)


def test_a_shift_by_hand():
    # Four voxels make a side that is 2 long, so 0.5 in theta is one voxel: each place looks one voxel further.
    theta = torch.tensor([[[1.0, 0.5]]])
    line = torch.tensor([[[1.0, 2, 3, 4]]])
    assert apply_affine(line, theta).tolist() == [[[2, 3, 4, 0]]]
    assert apply_affine(line, theta, padding_mode="border").tolist() == [[[2, 3, 4, 4]]]
    half = torch.tensor([[[1.0, 0.25]]])
    assert apply_affine(line, half, mode="bilinear").flatten().tolist() == [1.5, 2.5, 3.5, 2.0]


def test_the_last_axis_comes_first_in_theta():
    picture = torch.zeros(1, 1, 4, 6)
    picture[0, 0, 1, 2] = 1
    along_last = torch.tensor([[[1.0, 0, 2 / 6], [0, 1, 0]]])  # one voxel of six
    assert apply_affine(picture, along_last)[0, 0].nonzero().tolist() == [[1, 1]]


def test_labels_keep_their_numbers_and_type():
    theta = random_affine(1, (6, 6, 6), generator=seeded(3))
    label = torch.randint(0, 2, (1, 1, 6, 6, 6), generator=seeded(), dtype=torch.int32) * 2_000_000_011
    seen = apply_affine(label, theta)
    assert seen.dtype == torch.int32
    assert seen.unique().tolist() == [0, 2_000_000_011]
    for dtype in (torch.uint8, torch.bool):
        narrow = label.bool().to(dtype)
        assert torch.equal(apply_affine(narrow, theta), apply_affine(narrow.float(), theta).to(dtype))


def test_one_map_keeps_image_features_and_label_together():
    theta = random_affine(2, (8, 9), generator=seeded(1))
    label = torch.randint(0, 5, (2, 1, 8, 9), generator=seeded(2))
    assert torch.equal(apply_affine(label, theta).float(), apply_affine(label.float(), theta))


def test_gradients_reach_the_input():
    theta = random_affine(2, (4, 5), generator=seeded(5), dtype=torch.float64)
    x = noise(2, 1, 4, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: apply_affine(x, theta, mode="bilinear"), (x,))
    frame = apply_affine(torch.ones_like(x), theta)  # nearest: the gradient counts how often a voxel is seen
    apply_affine(x, theta).sum().backward()
    assert x.grad.sum() == frame.sum()


def test_half_precision_is_sampled_in_float32_even_under_autocast():
    theta = random_affine(1, (16, 16), generator=seeded(4))
    x = noise(1, 2, 16, 16)
    wanted = apply_affine(x, theta, mode="bilinear")
    assert apply_affine(x.half(), theta, mode="bilinear").dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(apply_affine(x, theta, mode="bilinear"), wanted)


class Placed(torch.Tensor):
    """Stands for a MetaTensor: a tensor of another class, which arithmetic keeps."""


def test_a_metatensor_comes_back_plain():
    x = noise(1, 1, 5, 5, 5).as_subclass(Placed)
    assert type(x + 1) is Placed
    assert type(apply_affine(x, random_affine(1, (5, 5, 5), generator=seeded()))) is torch.Tensor


@pytest.mark.parametrize(
    ("x", "theta", "options", "message"),
    [
        (torch.zeros(1, 4), torch.zeros(1, 1, 2), {}, r"1 to 3 spatial axes.*\(1, 4\)"),
        (torch.zeros(0, 1, 4), torch.zeros(0, 1, 2), {}, "none empty"),
        (torch.zeros(2, 1, 4, 4), torch.zeros(1, 2, 3), {}, r"\(2, 2, 3\) for x of shape"),
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 3, 4), {}, r"random_affine\(1, \(4, 4\)\)"),
        (torch.zeros(1, 1, 4), torch.zeros(1, 1, 2).long(), {}, "floating-point"),
        (torch.zeros(1, 1, 4), torch.zeros(1, 1, 2), {"mode": "cubic"}, "'cubic'"),
        (torch.zeros(1, 1, 4), torch.zeros(1, 1, 2), {"padding_mode": "wrap"}, "'wrap'"),
        (torch.zeros(1, 1, 4).int(), torch.zeros(1, 1, 2), {"mode": "bilinear"}, "between two labels lies no third"),
    ],
)
def test_what_apply_affine_refuses(x, theta, options, message):
    with pytest.raises(ValueError, match=message):
        apply_affine(x, theta, **options)


# ------------------------------------------------------------ random maps


def test_linear_part_is_rotation_times_mirror_over_scale():
    shape, spacing = (20, 30, 10), [1.0, 1.0, 3.0]
    theta = random_affine(40, shape, scale=(1.5, 1.5), spacing=spacing, generator=seeded(), dtype=torch.float64)
    matrix = 1.5 * in_voxels(theta, shape, spacing)
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3, dtype=torch.float64).repeat(40, 1, 1))
    assert {round(d) for d in torch.linalg.det(matrix).tolist()} == {-1, 1}  # with and without a mirror image
    torch.testing.assert_close(torch.linalg.det(theta[:, :, :3]).abs(), torch.full((40,), 1.5**-3, dtype=torch.float64))


def test_scales_fill_their_range():
    theta = random_affine(300, (6, 6, 6), scale=(0.5, 2.0), generator=seeded())
    scales = torch.linalg.det(theta[:, :, :3]).abs() ** (-1 / 3)
    assert 0.5 <= scales.min() < 0.52 and 1.98 < scales.max() <= 2.001
    assert scales.mean().item() == pytest.approx(1.25, abs=0.06)


def test_scale_above_one_magnifies():
    small = torch.zeros(1, 1, 9, 9)
    small[..., 3:6, 3:6] = 1
    theta = random_affine(1, (9, 9), **{**NEUTRAL, "scale": (2, 2)})
    assert apply_affine(small, theta).sum() > 2 * small.sum()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_three_angles_turn_about_the_axes_in_their_order(axis):
    degrees = [0.0, 0.0, 0.0]
    degrees[axis] = 30.0
    theta = random_affine(
        50, (8, 12, 6), **{**NEUTRAL, "rotation_degrees": degrees}, generator=seeded(), dtype=torch.float64
    )
    matrix = in_voxels(theta, (8, 12, 6))
    unmoved = torch.eye(3, dtype=torch.float64)[axis]
    torch.testing.assert_close(matrix @ unmoved, unmoved.expand(50, 3))
    angles = torch.rad2deg(torch.acos((matrix.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2))
    assert 25 < angles.max() <= 30 and angles.min() < 5


def test_rotation_in_mm_does_not_shear_thick_slices():
    # A quarter turn about the last axis swaps the first two; with voxels of 2 x 1 mm it maps 1 voxel onto 2.
    box = torch.zeros(1, 1, 8, 16)
    box[..., 2:6, 4:12] = 1  # 8 x 8 mm
    theta = random_affine(
        1, (8, 16), **{**NEUTRAL, "rotation_degrees": 90.0}, spacing=(2.0, 1.0), generator=seeded(), dtype=torch.float64
    )
    matrix = in_voxels(theta, (8, 16), [2.0, 1.0])
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(2, dtype=torch.float64)[None])
    assert apply_affine(box, theta.float()).sum() == pytest.approx(32, abs=4)


def test_shifts_are_shares_of_the_side():
    theta = random_affine(500, (10, 40), **{**NEUTRAL, "translation": 0.1}, generator=seeded())
    shift = theta[:, :, 2]
    assert shift.abs().max() <= 0.2 and shift.max() > 0.19 and shift.min() < -0.19  # a side is 2 long
    assert abs(shift.mean()) < 0.02


def test_only_the_named_axes_are_mirrored():
    certain = {**NEUTRAL, "flip_probability": 1.0}
    x = noise(1, 1, 4, 5, 6)
    for axes, flipped in ((None, (2, 3, 4)), ((0,), (2,)), ((-1, 1), (4, 3)), ((), ())):
        theta = random_affine(1, (4, 5, 6), **certain, flip_axes=axes)
        assert torch.equal(apply_affine(x, theta), x.flip(flipped))
    half = random_affine(400, (4,), **{**NEUTRAL, "flip_probability": 0.5}, generator=seeded())
    assert 0.4 < (half[:, 0, 0] < 0).float().mean() < 0.6


def test_same_state_same_maps_whatever_the_dtype_and_the_other_ranges():
    first, second = (random_affine(3, (8, 8, 8), generator=seeded(2)) for _ in range(2))
    assert torch.equal(first, second)
    double = random_affine(3, (8, 8, 8), generator=seeded(2), dtype=torch.float64)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), first)
    unflipped = random_affine(3, (8, 8, 8), flip_axes=(), generator=seeded(2))
    torch.testing.assert_close(unflipped[:, :, 3], first[:, :, 3])
    assert not torch.equal(random_affine(3, (8, 8, 8), generator=seeded(1)), first)
    state = torch.get_rng_state()
    random_affine(3, (8, 8, 8), generator=seeded(2))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((8, 0), {}, r"one to three sides of at least 1, got \(8, 0\)"),
        ((8, 8, 8, 8), {}, "one to three sides"),
        ((8, 8), {"batch_size": 0}, "batch_size is at least 1, got 0"),
        ((8, 8), {"scale": (0, 1)}, r"scale needs two numbers, 0 < lowest <= highest, got \(0, 1\)"),
        ((8, 8), {"scale": (1.2, 0.8)}, "0 < lowest <= highest"),
        ((8, 8), {"rotation_degrees": -5}, "both ways; got -5"),
        ((8, 8), {"rotation_degrees": (5, 5, 5)}, "in 2D"),
        ((8, 8, 8), {"rotation_degrees": (5, 5)}, "three in 3D"),
        ((8, 8), {"translation": -0.1}, "translation .* got -0.1"),
        ((8, 8), {"flip_probability": 1.5}, r"in \[0, 1\], got 1.5"),
        ((8, 8), {"flip_axes": (2,)}, r"from -2 to 1, got \[2\]"),
        ((8, 8), {"flip_axes": (0, -2)}, "different spatial axes"),
        ((8, 8), {"spacing": (1, 1, 1)}, r"spacing needs 2 numbers above 0"),
        ((8, 8), {"spacing": (1, 0)}, "above 0"),
        ((8, 8), {"dtype": torch.int64}, "floating-point type, got torch.int64"),
    ],
)
def test_what_random_affine_refuses(shape, options, message):
    with pytest.raises(ValueError, match=message):
        random_affine(**{"batch_size": 1, **options}, spatial_shape=shape)


# ------------------------------------------------------------ grey values


def test_gamma_is_one_power_for_each_sample():
    image = noise(3, 2, 4, 4)
    seen = random_gamma(image, gamma=(0.5, 2.0), generator=seeded())
    powers = (seen.log() / image.log()).flatten(1)
    torch.testing.assert_close(powers, powers[:, :1].expand_as(powers), rtol=1e-3, atol=1e-3)
    assert len({round(p, 3) for p in powers[:, 0].tolist()}) == 3
    assert powers.min() >= 0.499 and powers.max() <= 2.001
    assert torch.equal(random_gamma(image, gamma=(1, 1)), image)
    assert random_gamma(torch.tensor([[[0.0, 1.0]]]), generator=seeded()).tolist() == [[[0.0, 1.0]]]
    assert random_gamma(image.half(), generator=seeded()).dtype == torch.float32


@pytest.mark.parametrize(
    ("image", "gamma", "message"),
    [
        (torch.full((1, 1, 4), 1.5), (0.5, 2), r"\[0, 1\], found 1.5 to 1.5"),
        (torch.full((1, 1, 4), -0.1), (0.5, 2), r"found -0.1"),
        (torch.full((1, 1, 4), torch.nan), (0.5, 2), "found nan"),
        (torch.ones(1, 1, 4).int(), (0.5, 2), "floating-point"),
        (torch.ones(4, 4), (0.5, 2), r"\(B, C, \*S\).*\(4, 4\)"),
        (torch.ones(1, 1, 4), (0, 2), "gamma needs two numbers"),
        (torch.ones(1, 1, 4), (2, 0.5), "gamma needs two numbers"),
    ],
)
def test_what_random_gamma_refuses(image, gamma, message):
    with pytest.raises(ValueError, match=message):
        random_gamma(image, gamma=gamma)


def test_jitter_is_a_factor_about_zero_and_one_about_the_mean():
    images = noise(4, 2, 5, 5, dtype=torch.float64) + 1
    seen = jitter_intensity(images, brightness=0.3, contrast=0.2, generator=seeded())
    mean, seen_mean = (x.mean((1, 2, 3), keepdim=True) for x in (images, seen))
    bright = seen_mean / mean  # contrast leaves the mean where it is
    assert bright.min() >= 0.7 and bright.max() <= 1.3 and len(bright.unique()) == 4
    contrast = ((seen - seen_mean) / (bright * (images - mean))).flatten(1)
    torch.testing.assert_close(contrast, contrast[:, :1].expand_as(contrast))
    assert contrast.min() >= 0.8 and contrast.max() <= 1.2 and seen.dtype == torch.float64


def test_jitter_factors_lie_on_both_sides_of_one():
    images = torch.arange(400.0).view(400, 1, 1) + torch.tensor([-1.0, 1.0])  # every sample has its own mean
    seen = jitter_intensity(images, brightness=0, contrast=0.5, generator=seeded())
    torch.testing.assert_close(seen.mean((1, 2)), torch.arange(400.0), rtol=1e-4, atol=1e-4)
    half_width = (seen[:, 0, 1] - seen[:, 0, 0]) / 2
    assert 0.5 <= half_width.min() < 0.52 and 1.48 < half_width.max() <= 1.501
    factor = jitter_intensity(torch.ones(400, 1, 1), brightness=0.5, generator=seeded())
    assert 0.5 <= factor.min() < 0.52 and 1.48 < factor.max() <= 1.5


def test_jitter_noise_has_its_size_and_strength_zero_changes_nothing():
    images = noise(2, 1, 20, 20, 20)
    assert torch.equal(jitter_intensity(images, brightness=0, contrast=0), images)
    grain = jitter_intensity(images, brightness=0, contrast=0, noise_std=0.3, generator=seeded()) - images
    assert grain.std().item() == pytest.approx(0.3, rel=0.03)
    assert jitter_intensity(images.half(), generator=seeded()).dtype == torch.float32
    again = [jitter_intensity(images, noise_std=0.1, generator=seeded(5)) for _ in range(2)]
    assert torch.equal(*again)


@pytest.mark.parametrize("name", ["brightness", "contrast", "noise_std"])
def test_jitter_refuses_negative_strength(name):
    with pytest.raises(ValueError, match=f"{name} is a strength from 0, got -0.1"):
        jitter_intensity(torch.ones(1, 1, 4), **{name: -0.1})


def test_jitter_refuses_labels():
    with pytest.raises(ValueError, match="images must be a floating-point"):
        jitter_intensity(torch.ones(1, 1, 4).int())


def test_labels_and_features_take_the_same_voxels_even_at_ties():
    theta = random_affine(1, (20, 20, 20), scale=(0.85, 0.85), rotation_degrees=0, translation=0, flip_probability=0)
    label = torch.randint(9, (1, 1, 20, 20, 20), generator=torch.Generator().manual_seed(0))
    for kind in (torch.int64, torch.int32, torch.uint8):
        assert torch.equal(apply_affine(label.to(kind), theta).float(), apply_affine(label.float(), theta))
    huge = label + 2**24 + 1
    assert set(apply_affine(huge, theta).unique().tolist()) <= {0, *huge.unique().tolist()}
