"""HECKTOR 2022: head-and-neck FDG-PET/CT; primary tumour, nodes."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("hecktor"))
