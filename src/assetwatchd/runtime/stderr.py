"""Turns what C code writes on standard error, above all gRPC, into lines of the log.

C code writes to descriptor 2, so that is a pipe meanwhile, which a thread reads. What Python writes, the log included,
goes to the standard error that there was, and so do the stacks of a crash, by faulthandler. A message that C code
writes in the very moment in which it ends the process may not get out, the stacks do.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import re
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from assetwatchd.runtime.logs import Seldom

if TYPE_CHECKING:
    from collections.abc import Iterator

OPERATORS = ("GRPC_VERBOSITY", "GRPC_TRACE")
"""Who sets one of these looks into gRPC, and gets its lines as they are, at once: then nothing is caught."""
GRPC_LINE = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ([^\s\]]+:\d+)\] (.*)")
LEVELS = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}
PREAMBLE = "WARNING: All log messages before absl::InitializeLog()"
"""Says where gRPC's lines go, and that is here."""
LINE_BYTES_MAX = 8192
EVERY_S = 10.0
"""gRPC writes a line for each client that speaks no TLS, or is no client: one in so long of each place in its code."""
PLACES_MAX = 100
LAST_LINES_S = 0.5
"""A process that was started meanwhile may hold the pipe open for longer than this."""

grpc_log = logging.getLogger("grpc.core")
log = logging.getLogger(__name__)


@contextmanager
def caught() -> Iterator[None]:
    """Until the block ends, log what is written to descriptor 2; logs are to be configured inside."""
    if sys.stderr is None or any(os.environ.get(name) for name in OPERATORS):  # None: descriptor 2 is not open
        yield
        return
    # In this order: Python's own output and faulthandler move to a copy of the real descriptor 2 before the pipe takes
    # its place. Otherwise the log would be read by our own thread, and logged again, without an end.
    real, before = os.dup(2), sys.stderr
    sys.stderr = os.fdopen(real, "w", buffering=1, errors="backslashreplace", closefd=False)
    faulthandler.enable(real)
    reading = threading.Thread(target=_read, args=(_pipe(),), name="stderr", daemon=True)
    reading.start()
    try:
        yield
    finally:
        os.dup2(real, 2)  # closes the last writer of the pipe, so the thread comes to its end and can be joined
        reading.join(LAST_LINES_S)
        sys.stderr = before


def _pipe() -> int:
    """Put a pipe in the place of descriptor 2; return where it is read.

    Who writes never waits: a call that holds the interpreter would wait for the thread that reads for ever.
    """
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    os.dup2(sender, 2)
    os.close(sender)
    return receiver


def _read(receiver: int) -> None:
    seldom = Seldom(EVERY_S, PLACES_MAX)
    with os.fdopen(receiver, "rb") as written:
        while line := written.readline(LINE_BYTES_MAX):
            _tell(line.decode(errors="backslashreplace").rstrip(), seldom)


def _tell(text: str, seldom: Seldom) -> None:
    if (found := GRPC_LINE.fullmatch(text)) is None:
        if text and not text.startswith(PREAMBLE):
            log.warning("%s", text)
        return
    level, place, message = found.groups()
    if (more := seldom.more(place)) is not None:
        left_out = f", and {more} more since the last one" if more else ""
        grpc_log.log(LEVELS[level], "%s (%s%s)", message, place, left_out)
