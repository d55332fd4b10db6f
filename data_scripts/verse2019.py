"""VerSe 2019: spine CT, vertebra labels and centroids."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("verse2019"))
