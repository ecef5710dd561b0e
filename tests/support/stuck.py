"""A server whose event loop stands still once it serves, in the way that the command line names."""

from __future__ import annotations

import asyncio
import re
import sys
import time

from assetwatchd import app
from assetwatchd.cli.running import until_stopped
from assetwatchd.runtime import watchdog
from assetwatchd.settings.schema import Settings


def python() -> None:
    """Turn in circles."""
    while True:
        pass


def sleep() -> None:
    """Wait in the kernel."""
    time.sleep(1000)


def regex() -> None:
    """Hold the interpreter, and look for signals now and then."""
    re.match(r"(a+)+$", "a" * 40 + "b")


def held() -> None:
    """Hold the interpreter, and never look for signals."""
    sum(range(10**13))


def log() -> None:
    """Wait for somebody to read standard error."""
    while True:
        sys.stderr.write("x" * 65536)


def main(kind: str) -> None:
    """Serve, and stand still a moment later."""
    vars(app).update(CLOSING_S=0.5)
    watchdog.HELD_CPU_S = 3.0

    def ready(_address: str) -> None:
        asyncio.get_running_loop().call_later(0.1, stand_still)

    def stand_still() -> None:
        sys.stdout.write("standing still\n")
        sys.stdout.flush()
        globals()[kind]()

    settings = {"server": {"listen": "127.0.0.1:0", "drain_s": 0.1}, "store": {"kind": "memory"}}
    until_stopped(app.serve(Settings.model_validate(settings), on_ready=ready, whole=True))


if __name__ == "__main__":
    main(sys.argv[1])
