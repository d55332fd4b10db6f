"""BUSI: breast ultrasound, 2D; benign, malignant, normal."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("busi"))
