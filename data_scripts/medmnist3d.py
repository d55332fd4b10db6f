"""MedMNIST v2, 3D part: small crops for classification."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("medmnist3d"))
