"""Know where one Pieces OS is, for all who call it: checked before the first call, looked for again after each break.

The module owns the address, whether it was checked, and the silence that the server asked for. There is no loop here:
whoever calls has pauses that grow, and each try is another look. It does not know what is asked for.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Literal

from yarl import URL

from assetwatchd.model.errors import Unreachable, UpstreamError
from assetwatchd.pieces.client.discovery import PROBING, check, discover
from assetwatchd.runtime.descriptors import BESIDE
from assetwatchd.runtime.logs import Seldom
from assetwatchd.upstream.bodies.reading import Reading
from assetwatchd.upstream.http.transport import Transport, raise_for_status
from assetwatchd.upstream.rate import Pacer
from assetwatchd.upstream.redaction import Secrets

if TYPE_CHECKING:
    import io
    from collections.abc import AsyncIterator, Hashable, Iterator, Mapping

    import aiohttp

    from assetwatchd.pieces.client.discovery import Ask, Probing
    from assetwatchd.settings.schema import PiecesSource
    from assetwatchd.upstream.http.transport import Reply


APPLICATION_HEADER = "X-Application-ID"
"""What newer clients send with every asset operation; servers seem to accept calls without [assumed]."""
LINE_EVERY_S = 600.0
"""Of one kind of odd texts of one stream so many seconds have one line of the log: each new connection may begin so."""
LINES_KINDS_MAX = 20
"""Kinds are words of ours, a handful for each of the three streams."""

log = logging.getLogger(__name__)


class ServerLocator:
    """Find the server of a source. url: where it is, as far as is known. reading: how all of its answers are read.

    silence: what it asked for when it refused a stream. pacer: one budget of requests for all who call it.
    seldom: which lines about odd things of it are logged.
    """

    def __init__(self, settings: PiecesSource, probing: Probing = PROBING) -> None:
        self.url = self._configured = URL(str(settings.base_url).rstrip("/"))
        self.reading = Reading(Secrets.of(settings))
        self.silence = Silence()
        self.pacer = Pacer(settings.rate_per_s)
        self.seldom = Seldom(LINE_EVERY_S, LINES_KINDS_MAX)
        self._settings = settings
        self._probing = probing
        self._checked = False
        self._checking = asyncio.Lock()
        self._look_at = 0.0
        self._nowhere = ""

    def lost(self) -> None:
        """Forget that the server was checked, as it did not answer: the next call finds out what is there now."""
        self._checked = False

    async def reach(self, ask: Ask) -> None:
        """Return once the server is known: found, healthy and of a version we can talk to; callers share the check.

        Raises: UpstreamError, VersionUnsupported among them.
        """
        if self._checked:
            return
        async with self._checking:
            if not self._checked:  # who held the lock before may have found it
                await self._find(ask)

    async def probe(self, ask: Ask) -> None:
        """Check the server that is known anew, or find one. Raises: as reach."""
        if not self._checked:
            return await self.reach(ask)
        try:
            await check(ask, self.url, self._probing.supported)
        except UpstreamError:
            self.lost()
            raise

    async def _find(self, ask: Ask) -> None:
        url = self.url
        if self._settings.discover and self._due():
            try:
                url = await discover(self._settings, self.pacer, self._probing)
                self._nowhere = ""
            except Unreachable as error:
                # Still asked: a server that is only slow misses the probe's 100 ms, and is found all the same.
                url, self._nowhere = self._configured, str(error)
        try:
            await check(ask, url, self._probing.supported)
        except Unreachable as error:
            if not self._nowhere:
                raise
            # Also for whoever comes before the next look: else it would depend on who is first what a source says.
            raise Unreachable(self._nowhere, retry_after_s=error.retry_after_s) from None
        self.url, self._checked, self._nowhere = url, True, ""

    def _due(self) -> bool:
        """Return whether ports may be tried, and take note that they are: once a first pause, whoever calls."""
        now = asyncio.get_running_loop().time()
        due = now >= self._look_at
        if due:
            self._look_at = now + self._settings.backoff_first_s
        return due


class Silence:
    """Keep everybody from opening streams for as long as a server that refused one has asked for that."""

    def __init__(self) -> None:
        self._until = 0.0
        self._refusal: tuple[type[UpstreamError], str] = (UpstreamError, "")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Raise the refusal again while it lasts; note another that is raised inside."""
        left_s = self._until - asyncio.get_running_loop().time()
        if left_s > 0:
            error, text = self._refusal
            raise error(text, retry_after_s=left_s)
        try:
            yield
        except UpstreamError as error:
            if error.retry_after_s is not None:
                self._until = asyncio.get_running_loop().time() + error.retry_after_s
                self._refusal = type(error), str(error)
            raise


class PiecesTransport(Transport):
    """Call wherever the server is, by HTTP and WebSocket. Raises: as Transport does, and as ServerLocator.reach.

    reading: how large answers are read. seldom: which lines of `warn` are logged. source: its name.
    """

    def __init__(self, source: str, settings: PiecesSource, locator: ServerLocator, *, beside: int = BESIDE) -> None:
        super().__init__(source, settings, locator.pacer, beside=beside)
        self.source = source
        self.reading = locator.reading
        self.seldom = locator.seldom
        self._locator = locator
        self._headers = {APPLICATION_HEADER: settings.application_id} if settings.application_id else {}

    def warn(self, kind: Hashable, text: str) -> None:
        """Log something odd of the source, unless there was such a line a while ago, on whichever connection."""
        if (more := self.seldom.more(kind)) is not None:
            again = f" (and {more} more such since the last line)" if more else ""
            log.warning("source %s: %s%s", self.source, text, again)

    async def probe(self) -> None:
        """Check the server's health and version now."""
        await self._locator.probe(self._ask)

    async def raw(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | io.BytesIO | None = None,
        origin: URL | None = None,
        idempotent: bool = False,
    ) -> Reply:
        """Make one call, as Transport does."""
        async with self._there():
            sent = self._with_ours(headers)
            return await super().raw(method, path, headers=sent, body=body, origin=origin, idempotent=idempotent)

    @asynccontextmanager
    async def parts(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[tuple[Reply, AsyncIterator[bytes]]]:
        """Make one call, its answer read in parts, as Transport does."""
        async with self._there(), super().parts(method, path, headers=self._with_ours(headers)) as answer:
            yield answer

    @asynccontextmanager
    async def websocket(
        self, path: str, *, headers: Mapping[str, str] | None = None, heartbeat_s: float
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse[Literal[False]]]:
        """Open a WebSocket, as Transport does."""
        async with self._there():
            with self._locator.silence.kept():
                sent = self._with_ours(headers)
                async with super().websocket(path, headers=sent, heartbeat_s=heartbeat_s) as socket:
                    yield socket

    def _with_ours(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        """Add what every operation on assets sends; probes, which may go to another program's port, do not."""
        return {**self._headers, **(headers or {})}

    @asynccontextmanager
    async def _there(self) -> AsyncIterator[None]:
        await self._locator.reach(self._ask)
        # Set for this call: Transport reads it before it first waits, so no other call comes in between.
        self.base = self._locator.url
        try:
            yield
        except Unreachable:
            self._locator.lost()
            raise

    async def _ask(self, url: URL, path: str) -> Reply:
        """Make a GET of a check, which must not wait for the check that it is part of. Raises: UpstreamError."""
        self.base = url
        reply = await super().raw("GET", path)
        raise_for_status(reply)
        return reply
