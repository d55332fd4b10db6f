"""Commands of `python -m medssl_nb`: each module has `configure(parser)`, which adds its words and sets `run`."""
