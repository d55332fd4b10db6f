"""TotalSegmentator CT v2, whole set: 117 structures."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("totalsegmentator"))
