"""JSRT with SCR: 2D chest X-ray; lungs, heart, clavicles."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("jsrt"))
