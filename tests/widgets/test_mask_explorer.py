"""The mask explorer shows the library's masks and counts them."""

import base64
import gzip

import numpy as np
import pytest
import torch

from medssl_nb.methods.adaptive_masking import select_masked_patches
from medssl_nb.viz import patch_map
from medssl_nb.widgets import MaskExplorer

GRID, PATCH = (3, 4, 2), (4, 3, 2)
SHAPE = (12, 12, 4)
LESION = np.isin(np.arange(24), [3, 5, 6, 20])
VALID = np.arange(24) != 7
VOLUME = np.random.default_rng(0).random(SHAPE).astype(np.float32)
TRUTH = patch_map(np.isin(np.arange(24), [5, 6, 8]), GRID, PATCH)


def explorer(**options) -> MaskExplorer:
    return MaskExplorer(VOLUME, LESION, PATCH, **{"truth": TRUTH, "valid": VALID, **options})


def expected(ratio, share, seed) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    lesion, valid = torch.from_numpy(LESION)[None], torch.from_numpy(VALID)[None]
    return select_masked_patches(lesion, ratio, lesion_share=share, valid=valid, generator=generator)[0]


def painted(canvas) -> np.ndarray:
    """Label ids on the voxels as the browser gets them."""
    codes = np.frombuffer(gzip.decompress(canvas.label_bytes), np.uint8).reshape(canvas.shape)
    return np.array([0, *(row["id"] for row in canvas.label_table)])[codes]


def test_masks_are_those_of_the_library():
    widget = explorer(ratio=0.3, seed=4)
    assert torch.equal(widget.mask, expected(0.3, 1.0, 4))
    widget.strategy.value = "random"
    assert torch.equal(widget.mask, expected(0.3, 0.0, 4))
    widget.strategy.value = "share"
    widget.share.value = 0.2
    assert torch.equal(widget.mask, expected(0.3, 0.2, 4))
    widget.ratio.value = 0.55
    assert torch.equal(widget.mask, expected(0.55, 0.2, 4))
    widget.seed.value = 5
    assert torch.equal(widget.mask, expected(0.55, 0.2, 5))


def test_the_lesion_share_is_that_of_the_strategy():
    widget = explorer(lesion_share=0.4, strategy="share")
    shares = {}
    for strategy in ("random", "lesions first", "share"):
        widget.strategy.value = strategy
        shares[strategy] = (widget.lesion_share, widget.share.disabled)
    assert shares == {"random": (0, True), "lesions first": (1, True), "share": (0.4, False)}


def test_the_button_draws_again_and_the_same_seed_comes_back():
    widget = explorer(strategy="random")
    first = widget.mask
    widget.redraw.click()
    assert widget.seed.value == 1
    assert torch.equal(widget.mask, expected(0.5, 0, 1)) and not torch.equal(widget.mask, first)
    widget.seed.value = 0
    assert torch.equal(widget.mask, first)


def test_counts_in_words():
    widget = explorer(ratio=0.5)  # 23 valid: 12 hidden, all four called lesion among them
    hidden = widget.mask.numpy()
    truly = hidden[[5, 6, 8]].sum()
    assert widget.line.value == (f"hidden 12 of 23 · called lesion: 4 of 4 hidden · truly lesion: {truly} of 3 hidden")
    widget.ratio.value = 0.1
    assert widget.line.value.startswith("hidden 2 of 23 · called lesion: 2 of 4 hidden")
    plain = MaskExplorer(VOLUME, LESION, PATCH)
    assert plain.line.value == "hidden 12 of 24 · called lesion: 4 of 4 hidden"


def test_patches_are_painted_by_kind():
    widget = explorer(ratio=0.1)
    hidden = widget.mask.numpy()
    codes = np.select([hidden & LESION, hidden, LESION], [1, 2, 3], 0)
    np.testing.assert_array_equal(painted(widget.canvas), patch_map(codes, GRID, PATCH))
    widget.strategy.value = "random"
    names = {row["id"]: (row["name"], row["colour"]) for row in widget.canvas.label_table}
    assert names[2] == ("hidden, other", "#004afa") and names[3][0] == "visible, called lesion"


def test_what_is_unticked_in_the_legend_stays_so():
    widget = explorer(ratio=0.1, strategy="random")
    widget.canvas.visible_labels = [3]
    widget.seed.value = 3
    widget.ratio.value = 0.95  # nothing that is called lesion is visible any more
    assert 2 not in widget.canvas.visible_labels
    widget.ratio.value = 0.1
    assert widget.canvas.visible_labels == (3,)


def test_what_the_network_sees_is_grey_where_hidden():
    widget = explorer(ratio=0.3, window=(0, 1), spacing_mm=(1, 2, 3))
    widget.network_view.value = True
    hidden = patch_map(widget.mask, GRID, PATCH)
    np.testing.assert_array_equal(widget.canvas._volume, np.where(hidden, np.float32(0.5), VOLUME))
    assert widget.canvas.label_style == "outline"
    assert widget.canvas.window == (0, 1) and widget.canvas.spacing == [1, 2, 3]
    widget.network_view.value = False
    np.testing.assert_array_equal(widget.canvas._volume, VOLUME)
    assert widget.canvas.label_style == "both"


def test_the_crosshair_starts_in_the_lesion():
    assert TRUTH[explorer().canvas.crosshair]
    assert patch_map(LESION, GRID, PATCH)[explorer(truth=None).canvas.crosshair]


def test_the_volume_in_the_caller_s_hands_is_not_changed():
    before = VOLUME.copy()
    explorer().network_view.value = True
    np.testing.assert_array_equal(VOLUME, before)


def test_the_picture_beside_the_widget_follows_and_is_pure():
    widget = explorer()
    bundle, _ = widget._repr_mimebundle_()
    assert bundle["text/plain"] == "<MaskExplorer>"
    first = base64.b64decode(bundle["image/png"])
    assert first == widget._static_png() == explorer()._static_png()
    widget.ratio.value = 0.25
    assert widget._static_png() != first
    widget.ratio.value = 0.5
    assert widget._static_png() == first


def test_tensors_and_batches_of_one_are_taken():
    widget = MaskExplorer(
        torch.from_numpy(VOLUME)[None], torch.from_numpy(LESION)[None], PATCH, valid=torch.from_numpy(VALID)
    )
    assert torch.equal(widget.mask, expected(0.5, 1, 0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "first"}, "strategy is one of 'random', 'lesions first', 'share', got 'first'"),
        ({"ratio": 75}, "ratio is the hidden share, 0.05 to 0.95 on this slider, got 75; 75 % is 0.75"),
        ({"lesion_share": 1.5}, "lesion_share is the share .* got 1.5"),
        ({"seed": -1}, "seed is a whole number from 0"),
        ({"seed": 0.5}, "seed is a whole number from 0"),
        ({"valid": VALID[:-1]}, r"valid holds one value for each of 24 patches.*got shape \(23,\)"),
        ({"valid": VALID.astype(int)}, "valid says True or False of each patch, got int64; compare first: valid > 0"),
        ({"truth": TRUTH[1:]}, "truth has shape"),
        ({"spacing_mm": (1, 0, 1)}, "spacing_mm is three numbers above 0"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        explorer(**options)


def test_sides_must_fit_the_patches():
    with pytest.raises(ValueError, match="multiple of its patch_size"):
        MaskExplorer(VOLUME, LESION, 5)
    with pytest.raises(ValueError, match="patch_size is one whole number"):
        MaskExplorer(VOLUME, LESION, (4, 3))
