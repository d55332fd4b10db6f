"""PROMISE12: T2 prostate MRI, whole gland."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("promise12"))
