"""FLARE22, labelled part: abdominal CT, 13 organs."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("flare22"))
