"""PDDCA 1.4.1: head-and-neck CT, 9 organs, landmarks in 33 cases."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("pddca"))
