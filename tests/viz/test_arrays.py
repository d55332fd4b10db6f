import numpy as np
import pytest
import torch

from medssl_nb.viz.arrays import as_heat, as_labels, as_volume, known_spacing, names_by_id


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float16, np.float32, np.float64, bool])
def test_every_number_type_is_taken(dtype):
    array = as_volume(np.arange(8).reshape(2, 2, 2).astype(dtype))
    np.testing.assert_array_equal(array.astype(float), np.arange(8).reshape(2, 2, 2).astype(dtype).astype(float))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int16, torch.bool])
def test_tensors_lose_their_channel_axis(dtype):
    tensor = torch.arange(8).reshape(1, 2, 2, 2).to(dtype)
    array = as_volume(tensor.requires_grad_() if dtype == torch.float32 else tensor)
    assert array.shape == (2, 2, 2)
    assert array[1, 1, 1] == float(tensor.detach()[0, 1, 1, 1])


def test_metatensor_brings_its_spacing():
    from monai.data import MetaTensor

    volume = MetaTensor(torch.zeros(1, 2, 3, 4), affine=torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0])))
    assert type(as_volume(volume)) is np.ndarray
    assert known_spacing(volume, None) == (2, 3, 4)
    assert known_spacing(volume, (1, 1, 5)) == (1, 1, 5), "what is given wins"
    assert known_spacing(np.zeros((2, 2, 2)), None) is None


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (np.zeros((4, 4)), r"got shape \(4, 4\).*image\[..., None\]"),
        (np.zeros((2, 4, 4, 4)), r"got shape \(2, 4, 4, 4\).*volume\[0\]"),
        (np.zeros((4, 0, 4)), "empty axis"),
        (np.zeros((2, 2, 2), complex), "real numbers, got complex128"),
        (np.array([[["a"]]]), "real numbers"),
        (np.full((2, 2, 2), np.nan), r"8 voxel\(s\) that are NaN or infinite"),
        (np.full((2, 2, 2), np.inf), "nan_to_num"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_reason(volume, message):
    with pytest.raises(ValueError, match=message):
        as_volume(volume)


def test_labels_may_be_floats_if_they_are_whole():
    labels = as_labels(np.array([[[0.0, 2.0, 300.0]]]))
    assert labels.dtype.kind == "i"
    assert labels.tolist() == [[[0, 2, 300]]]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([[[0, 0.5]]]), "fractions such as 0.5"),
        (np.array([[[0, -1]]]), "holds -1"),
        (np.zeros((1, 1, 3), int), r"labels has shape \(1, 1, 3\), the volume \(1, 1, 2\)"),
    ],
)
def test_what_is_no_label_map_is_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        as_labels(labels, np.zeros((1, 1, 2)))


def test_heat_may_have_gaps_but_not_only_gaps():
    heat = np.array([[[0.5, np.nan]]])
    assert np.isnan(as_heat(heat)[0, 0, 1])
    with pytest.raises(ValueError, match="NaN everywhere"):
        as_heat(heat[..., 1:])
    with pytest.raises(ValueError, match="infinity"):
        as_heat(np.array([[[np.inf]]]))
    with pytest.raises(ValueError, match="one grid"):
        as_heat(heat, np.zeros((2, 1, 2)))


def test_names_come_from_dictionaries_json_and_lists():
    assert names_by_id({5: "liver"}, [5, 9]) == {5: "liver", 9: "label 9"}
    assert names_by_id({"5": "liver"}, [5]) == {5: "liver"}
    assert names_by_id(["background", "anterior"], [1]) == {1: "anterior"}
    assert names_by_id(None, [3]) == {3: "label 3"}


@pytest.mark.parametrize("spacing", [(1, 1), (1, 0, 1), (1, -1, 1), (1, 1, float("nan"))])
def test_impossible_spacing_is_refused(spacing):
    with pytest.raises(ValueError, match="three numbers above 0"):
        known_spacing(None, spacing)
