"""Medical Segmentation Decathlon Task08: CT; vessel, tumour."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("msd_hepatic_vessel"))
