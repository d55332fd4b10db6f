"""ACDC: cine cardiac MRI; right ventricle, myocardium, left ventricle."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("acdc"))
