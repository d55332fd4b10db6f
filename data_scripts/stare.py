"""STARE: 2D fundus, vessels drawn by two people."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("stare"))
