"""The ratio curve shows the library's ratios and masks, and when all lesion patches are hidden."""

import base64
import gzip
from itertools import pairwise

import numpy as np
import pytest
import torch

from medssl_nb.methods.adaptive_masking import masking_ratio, select_masked_patches
from medssl_nb.viz import patch_map, ratio_curve_png
from medssl_nb.widgets import RatioCurve
from medssl_nb.widgets.ratio_curve import hidden_patches

GRID, PATCH = (3, 4, 2), 4
VOLUME = np.random.default_rng(0).random((12, 16, 8)).astype(np.float32)
LESION = np.isin(np.arange(24), [1, 2, 3, 4, 5, 6, 7, 0])
VALID = np.arange(24) > 0
MASKS = {"volume": VOLUME, "lesion": LESION, "valid": VALID, "patch_size": PATCH}
COUNTS = {"lesion_patches": 40, "valid_patches": 100}


@pytest.mark.parametrize("schedule", ["linear", "cosine", "geometric"])
def test_ratios_and_counts_are_those_of_the_library(schedule):
    widget = RatioCurve(9, start=0.1, end=0.9, schedule=schedule, **COUNTS)
    nothing = torch.zeros(1, 100, dtype=torch.bool)
    for epoch in range(9):
        widget.epoch.value = epoch
        assert widget.ratio == masking_ratio(epoch, 9, 0.1, 0.9, schedule)
        assert widget.hidden == select_masked_patches(nothing, widget.ratio).sum()


@pytest.mark.parametrize("valid", [0, 1, 2, 3, 7, 24])
@pytest.mark.parametrize("ratio", [0.01, 0.25, 0.5, 0.625, 0.99])
def test_numbers_of_hidden_patches(ratio, valid):
    lesion = torch.zeros(1, 30, dtype=torch.bool)
    mask = select_masked_patches(lesion, ratio, valid=torch.arange(30)[None] < valid)
    assert hidden_patches(ratio, valid) == mask.sum()


def test_the_epoch_in_words():
    widget = RatioCurve(11, **COUNTS)  # 25, 30, 35, 40 ... of 100
    widget.epoch.value = 2
    assert widget.line.value == (
        "epoch 2: 35 % = 35 of 100 patches hidden; the 40 lesion patches are all hidden from epoch 3 on"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lesion_patches": 90}, "the 90 lesion patches are never all hidden"),
        ({"lesion_patches": 10}, "the 10 lesion patches are all hidden in every epoch"),
        ({"start": 0.75, "end": 0.25}, "the 40 lesion patches are all hidden up to epoch 7"),
        ({"lesion_patches": 1, "start": 0.002, "end": 0.5}, "the lesion patch is hidden in every epoch"),
        ({"lesion_patches": 0}, "no patch is called lesion"),
    ],
)
def test_when_the_lesion_vanishes_in_words(options, words):
    assert RatioCurve(11, **{**COUNTS, **options}).line.value.endswith("; " + words)


def test_the_curve_is_that_of_viz():
    widget = RatioCurve(11, epoch=4, title="Ratio", **COUNTS)
    ratios = [masking_ratio(t, 11) for t in range(11)]
    counts = [hidden_patches(ratio, 100) for ratio in ratios]
    assert widget.image.value == ratio_curve_png(ratios, counts, epoch=4, title="Ratio", **COUNTS)
    before = widget.image.value
    widget.schedule.value = "cosine"
    assert widget.image.value != before


def test_masks_grow_with_the_epoch():
    widget = RatioCurve(8, start=0.05, end=0.95, **MASKS)
    assert (widget.lesion_patches, widget.valid_patches) == (7, 23)  # patch 0 is lesion, and not valid
    masks = []
    for epoch in range(8):
        widget.epoch.value = epoch
        masks.append(widget.mask)
        assert widget.mask.sum() == widget.hidden
        codes = np.frombuffer(gzip.decompress(widget.canvas.label_bytes), np.uint8).reshape(VOLUME.shape)
        ids = np.array([0, *(row["id"] for row in widget.canvas.label_table)])
        np.testing.assert_array_equal(np.isin(ids[codes], [1, 2]), patch_map(widget.mask, GRID, PATCH))
    assert all((later | ~earlier).all() for earlier, later in pairwise(masks))
    assert masks[-1].sum() > masks[0].sum()


def test_the_mask_is_the_library_s():
    widget = RatioCurve(8, epoch=3, seed=2, **MASKS)
    lesion, valid = torch.from_numpy(LESION)[None], torch.from_numpy(VALID)[None]
    generator = torch.Generator().manual_seed(2)
    expected = select_masked_patches(lesion, masking_ratio(3, 8), valid=valid, generator=generator)
    assert torch.equal(widget.mask, expected[0])


def test_the_picture_beside_the_widget_follows_and_is_pure():
    for options in (COUNTS, MASKS):
        widget = RatioCurve(11, **options)
        bundle, _ = widget._repr_mimebundle_()
        assert bundle["text/plain"] == "<RatioCurve>"
        first = base64.b64decode(bundle["image/png"])
        assert first == widget._static_png() == RatioCurve(11, **options)._static_png()
        widget.epoch.value = 6
        assert widget._static_png() != first


def test_one_epoch():
    widget = RatioCurve(1, **COUNTS)
    assert widget.ratio == 0.75
    assert widget.line.value.endswith("hidden in every epoch")


@pytest.mark.parametrize(
    ("epochs", "options", "message"),
    [
        (0, COUNTS, "epochs is at least 1 and epoch from 0 to epochs - 1, got 0 and 0"),
        (5, {**COUNTS, "epoch": 5}, "got 5 and 5"),
        (5, {**COUNTS, "start": 25}, "start is a share of the patches"),
        (5, {**COUNTS, "schedule": "step"}, "schedule is one of 'linear', 'cosine', 'geometric', got 'step'"),
        (5, {"lesion_patches": 4}, "give lesion_patches and valid_patches, or a volume"),
        (5, {"lesion_patches": 4, "valid_patches": 3}, "from 0 to all of them lesion; got 3 and 4"),
        (5, {"lesion_patches": 0, "valid_patches": 1}, "at least 2 valid_patches"),
        (5, {"volume": VOLUME, "patch_size": 4}, "needs lesion="),
        (5, {**MASKS, "lesion_patches": 8}, "lesion_patches is 8, but the masks count 7; leave lesion_patches out"),
        (5, {**MASKS, "lesion": LESION[1:]}, "lesion holds one value for each of 24"),
    ],
)
def test_wrong_arguments_are_refused(epochs, options, message):
    with pytest.raises(ValueError, match=message):
        RatioCurve(epochs, **options)


def test_a_mask_needs_a_volume():
    with pytest.raises(ValueError, match="no mask without a volume"):
        RatioCurve(5, **COUNTS).mask  # noqa: B018
