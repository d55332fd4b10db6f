"""Sample scans of the TotalSegmentator repository: one abdominal CT, one abdominal MR, many organs."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("totalsegmentator_samples"))
