"""Learn and reproduce self-supervised learning for 3D medical images."""

__version__ = "0.1.0"
