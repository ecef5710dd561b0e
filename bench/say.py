"""What a program under measurement tells its caller."""

from __future__ import annotations

import json
import sys


def say(**what: object) -> None:
    """Print a line of JSON at once."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()
