"""Open MS data, University of Ljubljana: brain FLAIR at two times, change of lesions drawn."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("open_ms"))
