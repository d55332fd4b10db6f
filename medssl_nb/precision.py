"""In which precision numbers are computed."""

from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """`x` itself if it is float32 or float64, else in float32: sums of half-precision or whole numbers lose digits."""
    return x if x.is_floating_point() and x.element_size() >= 4 else x.float()
