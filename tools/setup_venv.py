"""Make or update .venv: `python tools/setup_venv.py [--torch cpu|cuda]`. The Makefile calls it before every command.

This door keeps to words that every Python understands, so that an old one can say what to do instead of failing to
read the file; the work is done in venv_install.py.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the reason why this file exists
    sys.exit(
        "medssl_nb needs Python 3.11 or newer, and this is %d.%d (%s): install a newer one "  # noqa: UP031
        "(https://www.python.org/downloads/) or name it, as in `make setup PYTHON=/path/to/python3.12`."
        % (sys.version_info[0], sys.version_info[1], sys.executable)
    )

if __name__ == "__main__":
    from venv_install import main

    sys.exit(main())
