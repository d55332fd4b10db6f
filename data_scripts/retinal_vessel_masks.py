"""OCTA and DSA vessel masks: 2D binary masks, the shape prior of Local Discrimination."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("retinal_vessel_masks"))
