"""Drishti-GS1: 2D fundus; optic disc and cup."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("drishti_gs"))
