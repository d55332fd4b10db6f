"""Sunnybrook cardiac data: cine MRI, left ventricle."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("sunnybrook"))
