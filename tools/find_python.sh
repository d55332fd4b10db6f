#!/bin/sh
# Runs its arguments with a Python that is new enough: the one that PYTHON names, else the project's own, else the newest.
# Every candidate is tried, not only looked up: version managers leave commands on the path that do not start.
old=""

start_if_new() {
    if "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        exec "$@"
    fi
    if [ -z "$old" ] && "$1" -c '' >/dev/null 2>&1; then
        old=$1
    fi
}

if [ -n "$PYTHON" ]; then
    start_if_new "$PYTHON" "$@"
else
    for python in .venv/bin/python python3.13 python3.12 python3.11 python3 python; do
        start_if_new "$python" "$@"
    done
fi
if [ -n "$old" ]; then
    exec "$old" "$@" # the script itself says which version it met and what to do
fi
echo "${PYTHON:-Python} was not found or does not start: install Python 3.11 or newer (https://www.python.org/downloads/)" \
    "or name one, as in \`make setup PYTHON=/path/to/python3.12\`." >&2
exit 1
