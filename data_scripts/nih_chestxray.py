"""NIH ChestX-ray14: 2D chest X-ray."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("nih_chestxray"))
