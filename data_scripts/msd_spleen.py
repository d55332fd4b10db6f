"""Medical Segmentation Decathlon Task09: CT; spleen."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("msd_spleen"))
