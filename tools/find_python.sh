#!/bin/sh
# Prints a Python that is 3.11 or newer, 3.11 first; says what to do when there is none.
for candidate in "$@" python3.11 python3 python; do
  if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
    command -v "$candidate"
    exit 0
  fi
done
echo "assetwatch needs Python 3.11 or newer, with venv and ensurepip; install it (Debian: python3 and python3-venv)," \
  "or name one: make PYTHON=/path/to/python3.11" >&2
exit 1
