"""Logs on standard error, as text or as JSON lines, each with the trace and span it belongs to.

A record that is about a source, a peer or a reason of the schema says so in its message. As fields of a JSON line they
are given to the logger as `extra`; a message that begins with ABOUT_SOURCE needs none.

The text of an exception that is not ours may hold a credential or a whole body, so it is never logged: where one is
reported, by us or by a library, its class and its stack are. Texts of callers and upstreams are in records too: what
would act on a terminal is escaped in both forms.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from opentelemetry import trace

from assetwatchd.model.errors import AssetwatchError
from assetwatchd.model.texts import harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
    from types import TracebackType

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


FIELDS = ("source", "peer", "reason")
"""What a record may carry besides its message."""
STACK_EVERY_S = 600.0
"""The stack of a defect at one place is logged so often."""
STACKS_KINDS_MAX = 20
"""Places and kinds of defects that are told apart."""
ABOUT_SOURCE = "source %s"
CHATTY = ("grpc._cython.cygrpc",)
"""Loggers of libraries whose debug lines, one a call and wakeup, hide what is told at debug."""

log = logging.getLogger(__name__)


class Seldom:
    """Limits log lines that every call would write: one of a kind per every_s seconds, the others are counted.

    Of more than kinds_max kinds at a time, as addresses may be, the rest are one kind together. Unlike `Lines` of
    polling/troubles.py, which delays lines about single assets and loses none, it drops them for good.
    """

    def __init__(self, every_s: float, kinds_max: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._kinds_max = kinds_max
        self._clock = clock
        self._written: dict[Hashable, tuple[float, int]] = {}
        self._swept_at = -math.inf

    def more(self, kind: Hashable) -> int | None:
        """Return how many of a kind were left out since the last one, if one is to be written now; else None."""
        now = self._clock()
        self._sweep(now)
        # Callers choose some kinds (addresses): without the bound they would choose how much memory this takes.
        kind = kind if kind in self._written or len(self._written) < self._kinds_max else None
        at, left_out = self._written.get(kind, (-math.inf, 0))
        if now - at < self._every_s:
            self._written[kind] = at, left_out + 1
            return None
        self._written[kind] = now, 0
        return left_out

    def _sweep(self, now: float) -> None:
        """Forget, now and then, the kinds that were written last a while ago."""
        if now - self._swept_at >= self._every_s:
            self._swept_at = now
            self._written = {kind: held for kind, held in self._written.items() if now - held[0] < 2 * self._every_s}


class Defects:
    """Logs what nobody foresaw in an adapter: with its stack now and then, else in a line, as it may be at each try."""

    def __init__(self, source: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._seldom = Seldom(STACK_EVERY_S, STACKS_KINDS_MAX, clock)

    def log(self, error: BaseException) -> None:
        """Write one; where it was raised tells it from others."""
        frames = traceback.extract_tb(error.__traceback__, limit=-1)
        where = f"{Path(frames[0].filename).name}:{frames[0].lineno}" if frames else "nowhere"
        if self._seldom.more((type(error), where)) is not None:
            log.error("source %s: the adapter failed", self._source, exc_info=error)
        else:
            told = type(error).__name__, where
            log.error("source %s: the adapter failed again: %s at %s; its stack is above", self._source, *told)


def configure(level: Literal["debug", "info", "warning", "error"], format: Literal["text", "json"]) -> None:  # noqa: A002 - the setting's name
    """Send the logs of the whole process to standard error, in place of wherever they went before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    # force: any handler that is there already would write exceptions with their texts.
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLevelName(level.upper())))


def describe(exc: BaseException) -> str:
    """Say what went wrong without saying more than is safe: our own errors with their text, others by class alone."""
    kind = type(exc)
    if isinstance(exc, BaseExceptionGroup):
        return f"{kind.__name__}: {'; '.join(map(describe, exc.exceptions))}"
    if isinstance(exc, AssetwatchError):
        return f"{kind.__name__}: {exc}"
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


class SafeFormatter(logging.Formatter):
    """Writes exceptions as stack and description, causes and the members of a group first."""

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 - the name is logging's
        """Format one exception and its causes without the texts of foreign ones."""
        _, exc, _ = ei
        return "\n".join(_stacks(exc)) if exc is not None else ""


def _stacks(exc: BaseException) -> Iterator[str]:
    if cause := exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__):
        yield from _stacks(cause)
    for member in exc.exceptions if isinstance(exc, BaseExceptionGroup) else ():
        yield from _stacks(member)
    for line in "".join(traceback.format_tb(exc.__traceback__)).splitlines():
        yield harmless(line)
    yield harmless(describe(exc))


class TextFormatter(SafeFormatter):
    """One line a record: time, level, logger, message, trace and span; a stack follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; line breaks in its message are escaped too, so that no text can pass for a record."""
        message = harmless(record.getMessage())
        ids = "".join(f" {name}={value}" for name, value in _ids().items())
        line = f"{_time(record)} {record.levelname:<7} {record.name}: {message}{ids}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(SafeFormatter):
    """One JSON object a record, in ASCII: time, level, logger, message; if any FIELDS, trace_id, span_id, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        fields: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_about(record),
            **_ids(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields).replace("\x7f", "\\u007f")  # the one control that JSON lets stand


def _about(record: logging.LogRecord) -> dict[str, str]:
    held = {name: str(value) for name in FIELDS if (value := getattr(record, name, None))}
    if "source" not in held and str(record.msg).startswith(ABOUT_SOURCE) and isinstance(record.args, tuple):
        held["source"] = str(record.args[0])
    return held


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _ids() -> dict[str, str]:
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}
