"""What frozen features already know: each voxel is named from its features alone, by a linear map or by its neighbours.

A probe trains no network and takes seconds. Both probes here learn from the same kind of sample: from each labelled
case equally many voxels of each organ (background counts as one), so that small organs are seen. Taken as it is, such a
sample says that the pancreas is as common as the background; so each class is weighed with its share of all voxels of
the labelled cases over its share of the sample (Bayes' rule) before the likeliest is named.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl_nb.data.cohorts import Case
from medssl_nb.data.geometry import spacing_mm
from medssl_nb.evaluation.segmentation import segmentation_scores, summarise_scores
from medssl_nb.networks.build import size_multiple
from medssl_nb.networks.segmenter import voxel_features


@torch.no_grad()
def whole_volume_features(encoder: nn.Module, volume: Tensor) -> Tensor:
    """Features of every voxel of a volume of any size.

    The encoder sees the volume padded at its far ends, with its smallest value, to sides that its strides divide. An
    encoder of one fixed size (it has `volume_size`, like `MaskedPatchTransformer`) slides over the volume in windows
    that overlap by half, and each voxel gets the mean over its windows. Dropout and batch statistics are off meanwhile.

    Memory: 4 bytes for each feature and voxel: 53 MB for 120 features of 48 x 48 x 48 voxels.

    Args:
        encoder: a module with the encoder face (see `medssl_nb.networks`).
        volume: (C, *S), values scaled as in pre-training (`case.normalised()`).

    Returns:
        (sum of `feature_channels`, *S) on the encoder's device, without gradient.

    Raises:
        ValueError: axes that do not fit the encoder, features that are not finite.
    """
    volume = torch.as_tensor(volume).as_subclass(Tensor)  # a MetaTensor would carry its affine through every layer
    if volume.ndim != encoder.spatial_dims + 1 or volume.shape[0] != encoder.in_channels:
        raise ValueError(
            f"this encoder takes volumes of {encoder.in_channels} channel(s) and then {encoder.spatial_dims} axes, "
            f"got shape {tuple(volume.shape)}."
        )
    training = [module for module in encoder.modules() if module.training]
    encoder.eval()
    try:
        features = _features_of_any_size(encoder, volume.to(next(encoder.parameters(), volume)))
    finally:
        for module in training:
            module.training = True
    if not features.isfinite().all():
        raise ValueError("the encoder's features hold NaN or infinity: its training diverged, or the volume holds NaN.")
    return features


def linear_probe(
    encoder: nn.Module,
    labelled_cases: Sequence[Case],
    test_cases: Sequence[Case],
    label_names: Mapping[int, str],
    *,
    voxels_per_case: int = 4000,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> dict:
    """Segment the test cases by logistic regression (scikit-learn, its default penalty) on frozen voxel features.

    Measured on one core with 120 features and 8 organs: fit 0.1 s with one labelled case, 0.7 s with four; 0.6 s for a
    test case of 48 x 48 x 48 voxels, 0.4 s of it for a small U-Net's features.

    Args:
        encoder: a module with the encoder face; its weights stay as they are.
        labelled_cases: cases with labels to learn from. An organ without a voxel in any of them cannot be predicted: it
            stands in "unseen", and scores Dice 0 where a test case has it. One that is there but was not drawn in a
            case teaches that it is background.
        test_cases: cases with labels to be scored on, none of them labelled cases.
        label_names: number -> organ. 0, and numbers not named, are background.
        voxels_per_case: how many voxels of each labelled case to learn from, shared equally among the classes it has;
            a class with fewer gives all it has.
        seed: of the voxels drawn.
        device: where the encoder is moved to and runs; None: where it is.

    Returns:
        What `summarise_scores` says of the test cases, and "probe", "labelled_cases" (names), "unseen" (organs),
        "voxels" (how many were learnt from), "voxel_seed".

    Raises:
        ValueError: no labelled or test case, a case in both, too few voxels, labelled cases that show one class only,
            features that are not finite.
    """
    from sklearn.linear_model import LogisticRegression

    classifier = LogisticRegression(max_iter=1000)  # 30 to 280 iterations were enough in all trials
    sample = _sample(encoder, labelled_cases, test_cases, label_names, voxels_per_case, seed, device)
    return {"probe": "linear", **_probe(classifier, sample, encoder, test_cases, label_names), "voxel_seed": seed}


def nearest_voxel_probe(
    encoder: nn.Module,
    labelled_cases: Sequence[Case],
    test_cases: Sequence[Case],
    label_names: Mapping[int, str],
    *,
    neighbours: int = 5,
    voxels_per_case: int = 1000,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> dict:
    """Segment the test cases by a vote of the nearest labelled voxels in feature space (scikit-learn).

    It asks less than `linear_probe`: like must lie near like as the features stand, nothing is fitted. Time grows with
    labelled voxels times test voxels. Measured on one core with 120 features: 1.4 s for a test case of
    48 x 48 x 48 voxels with one labelled case, 3.2 s with four.

    Args:
        neighbours: how many of the nearest labelled voxels vote.
        Others: as in `linear_probe`.

    Returns:
        As `linear_probe`, and "neighbours".

    Raises:
        ValueError: as `linear_probe`; fewer labelled voxels than neighbours.
    """
    from sklearn.neighbors import KNeighborsClassifier

    sample = _sample(encoder, labelled_cases, test_cases, label_names, voxels_per_case, seed, device)
    if not 1 <= neighbours <= len(sample.classes):
        raise ValueError(f"neighbours counts from 1 to the {len(sample.classes)} labelled voxels, got {neighbours}.")
    classifier = KNeighborsClassifier(neighbours, algorithm="brute")
    summary = _probe(classifier, sample, encoder, test_cases, label_names)
    return {"probe": "nearest voxels", **summary, "voxel_seed": seed, "neighbours": neighbours}


class _Sample(NamedTuple):
    """What a probe learns from.

    Attributes:
        features: (N, F) float32, scaled.
        classes: (N,) int64, label numbers, 0 for background.
        share: label number -> its share of all voxels of the labelled cases.
        scale: mean and standard deviation of each feature over all those voxels, (F, 1) each.
        cases: the labelled cases.
    """

    features: np.ndarray
    classes: np.ndarray
    share: dict[int, float]
    scale: tuple[Tensor, Tensor]
    cases: Sequence[Case]


def _features_of_any_size(encoder: nn.Module, volume: Tensor) -> Tensor:
    """`voxel_features` of (C, *S), padded or in windows as the encoder needs: (F, *S)."""
    from monai.inferers import sliding_window_inference

    size, lowest = volume.shape[1:], float(volume.min())
    if hasattr(encoder, "volume_size"):
        window, one_by_one, overlap = tuple(encoder.volume_size), 1, 0.5
        return sliding_window_inference(
            volume[None], window, one_by_one, lambda part: voxel_features(encoder, part), overlap, cval=lowest
        )[0]
    missing = [-side % multiple for side, multiple in zip(size, size_multiple(encoder), strict=True)]
    ends = [end for m in reversed(missing) for end in (0, m)]  # F.pad counts from the last axis
    features = voxel_features(encoder, F.pad(volume, ends, value=lowest)[None])[0]
    return features[(slice(None), *(slice(side) for side in size))]


def _sample(encoder, labelled_cases, test_cases, label_names, voxels_per_case, seed, device) -> _Sample:
    """Balanced voxels of the labelled cases, and how the classes and features of all their voxels are spread."""
    _check_cases(labelled_cases, test_cases)
    if device is not None:
        encoder.to(device)
    generator = torch.Generator().manual_seed(seed)
    features, classes, moments, found = [], [], [], Counter()
    for case in labelled_cases:
        raw = whole_volume_features(encoder, case.normalised()).flatten(1)  # (F, voxels)
        truth = _classes(case, label_names).flatten()
        index = _balanced(truth, voxels_per_case, generator)
        features.append(raw[:, index.to(raw.device)])
        classes.append(truth[index])
        moments.append(torch.stack([raw.sum(1, dtype=torch.float64), raw.double().square().sum(1)]))
        found.update(dict(zip(*(v.tolist() for v in truth.unique(return_counts=True)), strict=True)))
    if len(found) < 2:
        raise ValueError(
            f"the labelled cases ({', '.join(case.name for case in labelled_cases)}) show one class only, number "
            f"{next(iter(found))}; a probe needs an organ and background, or two organs, to tell apart."
        )
    first, second = sum(moments) / found.total()  # means of the features and of their squares
    sd = (second - first.square()).clamp(min=0).sqrt()
    sd = torch.where(sd > 1e-6 * first.abs(), sd, 1.0)  # a constant feature tells nothing; it becomes 0 everywhere
    scale = first.float()[:, None], sd.float()[:, None]
    share = {number: count / found.total() for number, count in found.items()}
    return _Sample(_rows(torch.cat(features, 1), scale), torch.cat(classes).numpy(), share, scale, labelled_cases)


def _probe(classifier, sample: _Sample, encoder: nn.Module, test_cases, label_names) -> dict:
    """Fit a scikit-learn classifier to the sample and score it on the test cases."""
    classifier.fit(sample.features, sample.classes)
    numbers, drawn = np.unique(sample.classes, return_counts=True)
    weight = np.array([sample.share[n] for n in numbers.tolist()]) / (drawn / drawn.sum())
    scores = {}
    for case in test_cases:
        volume, truth = case.normalised(), _classes(case, label_names)
        rows = _rows(whole_volume_features(encoder, volume), sample.scale)
        likeliest = (classifier.predict_proba(rows) * weight).argmax(1)  # (voxels, classes) -> (voxels,)
        prediction = torch.from_numpy(numbers[likeliest]).view(truth.shape)
        scores[case.name] = segmentation_scores(prediction, truth, label_names, spacing_mm(volume.affine))
    return {
        **summarise_scores(scores),
        "labelled_cases": [case.name for case in sample.cases],
        "unseen": [name for number, name in label_names.items() if number != 0 and number not in sample.share],
        "voxels": len(sample.classes),
    }


def _rows(features: Tensor, scale: tuple[Tensor, Tensor]) -> np.ndarray:
    """Raw features (F, ...) as scaled rows (voxels, F)."""
    mean, sd = scale
    return ((features.flatten(1) - mean) / sd).T.contiguous().cpu().numpy()


def _classes(case: Case, label_names: Mapping[int, str]) -> Tensor:
    """Label map (X, Y, Z) int64 in which numbers that are not named are background, 0."""
    label = torch.as_tensor(case.label()).as_subclass(Tensor)[0].long()
    return torch.where(torch.isin(label, torch.tensor(list(label_names))), label, 0)


def _balanced(classes: Tensor, voxels: int, generator: torch.Generator) -> Tensor:
    """Indices of about `voxels` entries of `classes` (N,): equally many of each class, all of those with fewer."""
    present = classes.unique()
    each = voxels // len(present)
    if each < 1:
        raise ValueError(
            f"voxels_per_case={voxels} is less than one voxel for each of the {len(present)} classes of a case."
        )
    places = [(classes == number).nonzero()[:, 0] for number in present]
    return torch.cat([place[torch.randperm(len(place), generator=generator)[:each]] for place in places])


def _check_cases(labelled_cases: Sequence[Case], test_cases: Sequence[Case]) -> None:
    if not labelled_cases or not test_cases:
        raise ValueError(
            f"a probe needs labelled and test cases, got {len(labelled_cases)} labelled and {len(test_cases)} to test."
        )
    both = {case.name for case in labelled_cases} & {case.name for case in test_cases}
    if both:
        raise ValueError(f"{', '.join(sorted(both))} is both labelled and tested; a probe must not see its test cases.")
