"""MM-WHS: whole heart, 7 structures, CT and MR."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("mmwhs"))
