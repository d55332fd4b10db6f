"""OpenKBP head-and-neck planning CT: 5 to 7 organs, radiotherapy targets, landmarks."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("openkbp"))
