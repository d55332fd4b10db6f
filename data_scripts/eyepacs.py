"""Kaggle Diabetic Retinopathy (EyePACS): 2D fundus."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("eyepacs"))
