"""Lines of the log, at level debug, about streams: one when it was opened and one when it ended, and why."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from assetwatchd.model.errors import ASSET_ID_SHOWN_MAX
from assetwatchd.model.texts import counted, cut
from assetwatchd.rpc.status import told

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from assetwatchd.changefeed.filters import Filter

SOURCES_NAMED_MAX = 10

log = logging.getLogger(__name__)
_UNLOGGED = nullcontext()
"""One for all streams: where these lines are not wanted, they cost none of them anything."""


def logged(what: str, peer: str, source: str = "") -> AbstractContextManager[None]:
    """Write when a stream begins, and how it ends. source: the one that it is about, if there is one alone."""
    return _logged(what, peer, source) if log.isEnabledFor(logging.DEBUG) else _UNLOGGED


@contextmanager
def _logged(what: str, peer: str, source: str) -> Iterator[None]:
    about = {"peer": peer, "source": source}
    log.debug("%s opened by %s", what, peer, extra=about)
    began, why = time.monotonic(), "OK"
    try:
        yield
    except BaseException as end:
        why = _why(end)
        raise
    finally:
        took_s = time.monotonic() - began
        log.debug("%s of %s ended after %.1f s: %s", what, peer, took_s, why, extra={**about, "reason": why})


def _why(end: BaseException) -> str:
    return told(end) or ("CANCELLED" if isinstance(end, asyncio.CancelledError) else type(end).__name__)


def described(what: Filter) -> str:
    """Say what a watch is of, in short."""
    names = sorted(what.sources)
    more = len(names) - SOURCES_NAMED_MAX
    sources = ", ".join(names[:SOURCES_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
    ids = f" (ids that begin with {cut(what.prefix, ASSET_ID_SHOWN_MAX)!a})" if what.prefix else ""
    parts = [counted(len(what.keys), "asset") if what.keys else "", f"the sources {sources}{ids}" if names else ""]
    return "watch of " + " and ".join(filter(None, parts))


def only_source(what: Filter) -> str:
    """Return the source that a watch is about, if it is about one."""
    names = {*what.sources, *(key.source for key in what.keys)} if log.isEnabledFor(logging.DEBUG) else set()
    return names.pop() if len(names) == 1 else ""
