"""Medical Segmentation Decathlon Task06: CT; tumour."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("msd_lung"))
