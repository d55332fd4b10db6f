"""AMOS22: abdominal CT and MR, 15 organs."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("amos22"))
