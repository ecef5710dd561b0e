"""What gRPC reports of tests that are over, told from what a test itself did wrong.

Each test has an event loop of its own, and gRPC one queue for all of them. What ends after its loop was closed, an
operation of a call that was cancelled last, is handled by the loop of the next test: there gRPC fails to call the
closed one, and asyncio logs that as an error. A process that serves has one loop.
"""

from __future__ import annotations

import logging


def is_of_a_closed_loop(record: logging.LogRecord) -> bool:
    """Return whether gRPC could not tell a loop of an earlier test, which is closed, of the end of something."""
    error = record.exc_info[1] if record.exc_info else None
    of_grpc = record.getMessage().startswith("Exception in callback PollerCompletionQueue._handle_events(")
    return of_grpc and isinstance(error, RuntimeError) and str(error) == "Event loop is closed"


def pass_over() -> None:
    """Have no test told of it."""
    logging.getLogger("asyncio").addFilter(lambda record: not is_of_a_closed_loop(record))
