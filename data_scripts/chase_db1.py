"""CHASE_DB1: 2D fundus of children, vessels."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("chase_db1"))
