"""FLARE22, unlabelled part: abdominal CT."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("flare22_unlabelled"))
