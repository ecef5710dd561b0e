"""How long a stream waits for a client that takes nothing.

Owns the moment at which a write began. It sets no timer for a message, as that would cost more than all else that is
done for one: a stream has one timer, which looks at that moment now and then.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from assetwatchd.model.errors import SlowConsumer

if TYPE_CHECKING:
    from types import TracebackType

    from assetwatchd.rpc.signatures import BytesContext


class WriteDeadline:
    """Writes the messages of one stream; as a context manager it raises SlowConsumer when one was not taken in time.

    Its one timer looks when the write under way, if there is one, would be too old, and is then set again. What the
    client can do then is said in the error.
    """

    __slots__ = ("_began", "_limit", "_limit_s", "_loop", "_then", "_timer", "_write")

    def __init__(
        self,
        context: BytesContext,
        limit_s: float,
        then: str = "watch again with the last token",
    ) -> None:
        self._write = context.write
        self._limit_s = limit_s
        self._then = then
        self._loop = asyncio.get_running_loop()
        self._began: float | None = None
        self._limit = asyncio.timeout(None)

    async def write(self, message: bytes) -> None:
        """Write one message; the stream ends if its client does not take it within the limit."""
        self._began = self._loop.time()
        await self._write(message)
        self._began = None

    async def __aenter__(self) -> Self:
        """Begin to look."""
        await self._limit.__aenter__()
        self._timer = self._loop.call_later(self._limit_s, self._look)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop to look. Raises: SlowConsumer."""
        self._timer.cancel()
        try:
            await self._limit.__aexit__(kind, error, trace)
        except TimeoutError:
            raise SlowConsumer(f"no message was taken for {self._limit_s:g} s; {self._then}") from None

    def _look(self) -> None:
        now = self._loop.time()
        began = now if self._began is None else self._began
        if now - began >= self._limit_s:
            self._limit.reschedule(now)
        else:
            self._timer = self._loop.call_at(began + self._limit_s, self._look)
