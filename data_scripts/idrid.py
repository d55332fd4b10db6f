"""IDRiD: 2D fundus; lesions, optic disc, disc and fovea centres."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("idrid"))
