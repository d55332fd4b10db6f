"""Medical Segmentation Decathlon Task07: CT; pancreas, tumour."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("msd_pancreas"))
