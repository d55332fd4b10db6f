"""SIIM-ACR pneumothorax: 2D chest X-ray, lesions."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("siim_pneumothorax"))
