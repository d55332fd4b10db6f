"""BraTS 2018: 4-contrast brain MRI; tumour parts."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("brats2018"))
