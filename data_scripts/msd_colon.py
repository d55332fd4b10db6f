"""Medical Segmentation Decathlon Task10: CT; tumour."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("msd_colon"))
