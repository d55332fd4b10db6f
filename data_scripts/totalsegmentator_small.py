"""TotalSegmentator CT v2, small subset: 117 structures."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("totalsegmentator_small"))
