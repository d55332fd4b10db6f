"""`python -m medssl_nb report`."""
