"""Medical Segmentation Decathlon Task01: 4-channel brain MRI; oedema, non-enhancing and enhancing tumour."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("msd_brain_tumour"))
