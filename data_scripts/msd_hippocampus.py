"""Medical Segmentation Decathlon Task04: T1 MRI; anterior and posterior hippocampus."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("msd_hippocampus"))
