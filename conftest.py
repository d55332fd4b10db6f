"""What every test and every notebook runs under."""

import os
from pathlib import Path

# Set before anything is imported; kernels inherit it. Several threads beside another busy process are far slower, and
# the last digits of a training depend on their number.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The project's own cache, made again at any time: tests neither read nor fill the user's.
os.environ.setdefault("MEDSSL_CACHE", str(Path(__file__).parent / ".cache"))
