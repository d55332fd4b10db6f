"""DRIVE: 2D fundus, vessels."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("drive"))
