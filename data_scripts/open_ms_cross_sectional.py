"""Open MS data, University of Ljubljana: FLAIR with lesions drawn by consensus."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("open_ms_cross_sectional"))
