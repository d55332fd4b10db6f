"""Grey values a network can learn from: one rule for each modality, applied to each volume by itself."""

import numpy as np

CT_WINDOW_HU = (-175.0, 250.0)  # abdominal soft tissue, as the transfer papers use it

_FAMILY = {"CT": "CT", "MR": "MR", "MRI": "MR", "FLAIR": "MR", "ADC": "MR", "PET": "PET"}


def modality_family(modality: str) -> str:
    """ "CT", "MR" or "PET" for the names data sets use: "MRI", "FLAIR", "T1w", "t1gd", "T2", "ADC", ..."""
    name = modality.strip().upper()
    family = "MR" if name.startswith(("T1", "T2", "PD", "MR")) else _FAMILY.get(name)
    if family is None:
        raise ValueError(
            f'modality {modality!r} is not known; say "CT", "MR" or "PET" (it decides how grey values are scaled).'
        )
    return family


def normalise(volume, modality: str):
    """Scale grey values by modality, each volume and channel by itself.

    - CT is measured in Hounsfield units, the same on every scanner: the fixed window -175 ... 250 HU goes to -1 ... 1
      and what lies outside is clipped.
    - MR and PET have no unit (files of one cohort may differ by a factor of 10 000): values are clipped to the
      0.5 and 99.5 percentile (unless fewer voxels than that stand out at all), then shifted and divided so that the
      voxels above the minimum have mean 0 and standard deviation 1. The background keeps one value, the smallest.

    A constant channel becomes 0 everywhere: it holds nothing to scale. NaN or infinity is a ValueError.

    Args:
        volume: tensor (C, X, Y, Z); the affine of a MetaTensor stays.
        modality: one name for all channels, see `modality_family`.

    Returns:
        float32, same shape.
    """
    if not volume.isfinite().all():
        raise ValueError("the volume holds NaN or infinity; replace them first, for example by torch.nan_to_num.")
    if modality_family(modality) == "CT":
        from monai.transforms import ScaleIntensityRange

        low, high = CT_WINDOW_HU
        return ScaleIntensityRange(low, high, b_min=-1.0, b_max=1.0, clip=True)(volume.float())
    scaled = volume.float().clone()
    for channel in scaled:
        low, high = np.percentile(channel.cpu().numpy(), [0.5, 99.5])
        if low < high:  # else fewer than one voxel in 200 differs, and clipping would erase it
            channel.clamp_(float(low), float(high))
        body = channel[channel > channel.min()]
        if len(body) < 2 or body.std() == 0:
            channel.zero_() if len(body) == 0 else channel.sub_(body.mean())
        else:
            channel.sub_(body.mean()).div_(body.std())
    return scaled
