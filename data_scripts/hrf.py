"""HRF: 2D fundus in high resolution, vessels."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("hrf"))
