"""RITE: 2D fundus, arteries and veins drawn on DRIVE."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("rite"))
