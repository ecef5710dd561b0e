"""Runs a command in the foreground of the terminal, so that Ctrl-C reaches it and not make, which would fail of it.

Ends as the command does. Where there is no terminal, or this is not in its foreground, the command takes its place.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

TERMINAL = 0


def main(command: list[str]) -> int:
    """Run the command; return its exit code."""
    if not _in_foreground():
        os.execvp(command[0], command)  # noqa: S606 - what the Makefile says
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # who gives the terminal back is in the background by then
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.tcsetpgrp(TERMINAL, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.execvp(command[0], command)  # noqa: S606 - same
    with suppress(OSError):  # it has done so itself
        os.setpgid(child, child)
    try:
        return _wait(child)
    finally:
        with suppress(OSError):  # the terminal is gone
            os.tcsetpgrp(TERMINAL, os.getpgrp())


def _in_foreground() -> bool:
    try:
        return os.tcgetpgrp(TERMINAL) == os.getpgrp()
    except OSError:
        return False


def _wait(child: int) -> int:
    """Wait for the child's end. Where it is stopped (Ctrl-Z) stop whoever waits for it, too; both go on together."""
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        os.tcsetpgrp(TERMINAL, os.getpgrp())
        os.killpg(0, signal.SIGSTOP)
        os.tcsetpgrp(TERMINAL, child)
        os.killpg(child, signal.SIGCONT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
