"""BTCV, Beyond the Cranial Vault: abdominal CT, 13 organs."""

from _start import main

if __name__ == "__main__":
    raise SystemExit(main("btcv"))
