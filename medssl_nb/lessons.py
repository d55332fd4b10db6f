"""The few lines that every lesson needs: what runs here, at which size, and numbers that must come out."""

import os
import platform

PROFILES = ("demo", "full")


def run_profile() -> str:
    """Size at which the lessons run: "demo" (minutes on a CPU) unless `MEDSSL_PROFILE=full` asks for the real thing."""
    profile = os.environ.get("MEDSSL_PROFILE", "demo")
    if profile not in PROFILES:
        raise ValueError(f'MEDSSL_PROFILE is "demo" or "full", found {profile!r}; unset it for "demo".')
    return profile


def print_setup() -> None:
    """Print versions, device and profile: the first thing to look at when a result differs."""
    from importlib.metadata import version

    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} thread(s)"
    versions = ", ".join(f"{name} {version(name)}" for name in ("medssl_nb", "torch", "monai"))
    print(f"Python {platform.python_version()}, {versions}")
    print(f"device: {device} | profile: {run_profile()}")


def check(name: str, value, expected: float, tolerance: float) -> None:
    """Compare a measured number with the one this lesson was written with, and print what was expected.

    Numbers that come out of training differ in late digits between machines; the printed line does not.

    Raises:
        AssertionError: `value` (anything `float` takes) is further than `tolerance` from `expected`, or NaN.
    """
    if not abs(float(value) - expected) <= tolerance:
        raise AssertionError(f"{name}: got {float(value):.6g}, expected {expected} ± {tolerance}")
    print(f"{name}: {expected} ± {tolerance} reached")
