"""The process that reads large answers for `reading`, one after the other, within limits; it ends with its parent.

Knows the pipe to its parent, and of a job only that it can be called: all else is pickled.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import resource
import signal
import struct
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from assetwatchd.model.errors import AssetwatchError, BadAnswer

if TYPE_CHECKING:
    from collections.abc import Callable

    Maker = Callable[[list[Any]], Any]
    """Makes a result of its items. Of what type they are, only those who ask for it know: all of it is pickled."""

HEADER = struct.Struct("!QQ")
"""Before a job: the lengths of what is called with what, and of the answer. Before a result: its length without its
parts, which come after it one by one, and whether the process ends with it."""
STATM = Path("/proc/self/statm")
"""Where Linux tells the memory of a process, in pages; the sixth number is the one that RLIMIT_DATA limits."""
READ_S_MAX = 5
"""Seconds of computing that reading one answer may take; the largest that a vendor's own server makes takes one."""
MEMORY_BYTES = 128 * 1024 * 1024
"""What a process may take in any case: what is imported is half of it. One that has more after an answer is ended."""
MEMORY_TIMES = 16
"""And so many times the length of its answer: statuses and lists take up to 10, JSON of nothing but brackets 30."""
RESULT_BYTES_MAX = 32 * 1024 * 1024
"""Of what was made of one answer, pickled: a million ids, or observations at their bounds, are within it."""
PART_ITEMS = 100
"""A list or a set comes back in parts of so many items, between which the event loop sees to others."""
NICENESS = 5
"""It gives way to the event loop where there are too few cores for both."""


@runtime_checkable
class Apart(Protocol):
    """A result that may be long, and comes back in parts."""

    def apart(self) -> tuple[Maker, list[Any]]:
        """Return what makes it of its items again, which can be pickled, and these."""
        ...


class Result(NamedTuple):
    """The outcome of a job: the error that was raised, or the result, pickled; a list, a set or an Apart in parts.

    kind: what makes the result of the items in all parts; None when it is in one. lengths: of the parts, in bytes.
    """

    error: Exception | None
    kind: Maker | None
    lengths: list[int]


def main() -> None:
    """Do jobs until there are no more: the parent closes the pipe, or has ended."""
    jobs, results = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # Jobs and results go over copies of descriptors 0 and 1, and 1 becomes standard error: what a library prints would
    # otherwise stand among the results and be read as one.
    os.dup2(2, 1)
    # libxml2 without memory reports an error for each attribute: 17 MB of tracebacks in the log for one answer.
    sys.excepthook = sys.unraisablehook = _unsaid
    for number in (signal.SIGINT, signal.SIGHUP):  # Ctrl-C in a terminal, and its end, are meant for the parent
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the answer, and perhaps a credential
    os.nice(NICENESS)
    with contextlib.suppress(BrokenPipeError):
        while header := jobs.read(HEADER.size):
            job_bytes, body_bytes = HEADER.unpack(header)
            _limit(body_bytes)
            result, parts = _result(jobs.read(job_bytes), jobs.read(body_bytes))
            # Python gives freed memory back late or never: a process that has grown is replaced rather than kept.
            is_last = _memory_bytes() > MEMORY_BYTES
            head = pickle.dumps(result)
            results.writelines([HEADER.pack(len(head), is_last), head, *parts])
            results.flush()


def _unsaid(*_: object) -> None:
    """Say nothing of what a library cannot raise: libxml2 has an error for each of a million attributes."""


def _limit(body_bytes: int) -> None:
    """Hold the next job to its limits; the kernel ends one that computes for too long."""
    # RLIMIT_CPU counts from the start of the process, so the next job's share is put on top of what was used. The hard
    # limit stays infinite: a process that has lowered it could not raise it for the next job.
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = math.ceil(usage.ru_utime + usage.ru_stime) + READ_S_MAX
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
    memory = MEMORY_BYTES + MEMORY_TIMES * body_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (memory, resource.RLIM_INFINITY))


def _memory_bytes() -> int:
    """Return what the kernel holds against RLIMIT_DATA; 0 where it does not tell."""
    try:
        return int(STATM.read_text().split()[5]) * resource.getpagesize()
    except OSError:
        return 0


def _result(job: bytes, body: bytes) -> tuple[Result, list[bytes]]:
    """Do one job; return what came of it, and its parts."""
    try:
        read, reply, given = pickle.loads(job)  # noqa: S301 - written by our parent
        kind, parts = _returned(read(reply._replace(body=body), *given))
    except MemoryError:
        return _raised(BadAnswer("reading the answer takes too much memory for its length"))
    except Exception as error:  # noqa: BLE001 - it is raised again where the answer was asked for
        return _raised(error)
    result = Result(None, kind, [len(part) for part in parts])
    if sum(result.lengths) > RESULT_BYTES_MAX:
        return _raised(BadAnswer(f"the answer comes to more than {RESULT_BYTES_MAX} bytes"))
    return result, parts


def _returned(value: Any) -> tuple[Maker | None, list[bytes]]:  # noqa: ANN401 - as told at Maker
    if isinstance(value, Apart):
        kind, items = value.apart()
    elif type(value) in (list, frozenset):
        kind, items = type(value), list(value)
    else:
        return None, [pickle.dumps(value)]
    return kind, [pickle.dumps(items[begin : begin + PART_ITEMS]) for begin in range(0, len(items), PART_ITEMS)]


def _raised(error: Exception) -> tuple[Result, list[bytes]]:
    """Tell an error; a defect's traceback would be lost on the way and goes into a note."""
    if not isinstance(error, AssetwatchError):
        error.add_note(traceback.format_exc())
    return Result(error, None, []), []
