"""Runs the command line: python -m assetwatchd."""

from __future__ import annotations

from assetwatchd.cli import main

main()
