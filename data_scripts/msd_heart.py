"""Medical Segmentation Decathlon Task02: cardiac MRI; left atrium."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("msd_heart"))
