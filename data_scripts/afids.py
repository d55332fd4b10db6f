"""AFIDs (LHSCPD, SNSX): brain MRI, 32 landmarks each."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("afids"))
