"""Medical Segmentation Decathlon Task03: CT; liver, tumour."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("msd_liver"))
