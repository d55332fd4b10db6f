"""`python -m medssl_nb report`."""

from medssl_nb.report import configure as configure
