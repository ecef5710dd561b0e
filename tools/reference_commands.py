"""The reference of the command line, by the tool of typer that documents a program of its."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HEAD = """# Commands

Every command with its arguments and options, as `--help` prints them. Written by `make reference`; exit codes, and
what is common to the commands, are in [Command line](../command-line.md).

"""


def page() -> str:
    """Return the page."""
    typer = Path(sys.executable).with_name("typer")
    command = [str(typer), "assetwatchd.cli", "utils", "docs", "--name", "assetwatch"]
    written = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    return HEAD + _below_one_title(_without_exit_codes(written)).strip() + "\n"


def _without_exit_codes(text: str) -> str:
    """Leave out the epilogue, which is laid out for a terminal; a table of command-line.md has it."""
    return re.sub(r"^Exit codes:\n(?: .*\n)+", "", text, flags=re.MULTILINE)


def _below_one_title(text: str) -> str:
    """Put every heading one level down, with the synopses as plain text: they are no lines to be pasted."""
    text = re.sub(r"^(#+ )", r"#\1", text, flags=re.MULTILINE)
    return re.sub(r"^```console\n\$ (.*)\n```$", r"```text\n\1\n```", text, flags=re.MULTILINE)
