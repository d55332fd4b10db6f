"""Medical Segmentation Decathlon Task05: T2 and ADC MRI; peripheral and transition zone."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("msd_prostate"))
