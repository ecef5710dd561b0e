"""HTTP and WebSocket calls to one upstream: limits on every call, and failures turned into UpstreamErrors, once.

Owns the session, the pace and the time limit of one source. Retries nothing (but a GET on a connection that was gone),
and knows nothing of what an answer means beyond HTTP.
"""

from __future__ import annotations

import asyncio
import email.utils
import io
import logging
import re
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from assetwatchd.model.errors import AnswerTooLarge, BadAnswer, Refused, Throttled, Unreachable, UpstreamError
from assetwatchd.model.texts import counted, cut
from assetwatchd.runtime import telemetry
from assetwatchd.runtime.descriptors import BESIDE, missed
from assetwatchd.runtime.logs import Seldom
from assetwatchd.runtime.timelimit import TimeLimit
from assetwatchd.upstream import logins
from assetwatchd.upstream.answers import digest
from assetwatchd.upstream.http import connection_errors
from assetwatchd.upstream.http.connection_errors import Attempt, check_answer, check_encoding
from assetwatchd.upstream.http.connector import SWITCHING_PROTOCOLS, Connector, Request
from assetwatchd.upstream.http.proxies import Proxies
from assetwatchd.upstream.http.tls import Tls
from assetwatchd.upstream.rate import Pacer
from assetwatchd.upstream.redaction import Secrets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from assetwatchd.settings.schema import SourceSettings

OK = 200
CHUNK_BYTES = 16 * 1024
"""So much of a body is taken at a time; it may have come in as many pieces."""
FREE_BYTES = 16 * 1024
"""So much of a body is taken without a wait. Beyond, a source has LARGE_AT_ONCE under way, so its calls do not come to
concurrency times as much work, and as much memory, at the same time."""
LARGE_AT_ONCE = 2
WHOLE_BYTES_MAX = 512 * 1024
"""A larger body is sent in parts, so that it does not hold up everybody else."""
GOODBYE = aiohttp.WSCloseCode.OK.to_bytes(2)
GOODBYE_S = 1.0
"""How long the end of a WebSocket may take to be sent, to a peer that does not read."""
UNTIMED = aiohttp.ClientTimeout()
"""Where TimeLimit keeps the time; aiohttp sets a timer for each call."""
READ_HEADERS = ("Content-Type", "Date", "Retry-After")
"""The headers of an answer that anything here looks at, beside LOCATION where that leads to another path; the others,
of whatever number and length, are let go."""
LOCATION = "Location"
HEADER_LENGTH_MAX = 256
"""Characters of each that are kept; a date or a media type takes a tenth of it."""
CREDENTIALS = frozenset({401, 403, 419, 440, 498})
"""Of these the latter three are in no standard, and all that frameworks and gateways mean by them is a session's or a
token's end."""
LINE_EVERY_S = 600.0
LINES_KINDS_MAX = 20
"""Of headers that cannot be read, with answers of one status, a line of the log each is written so often."""
RETRY_AFTER_SHOWN_MAX = 80
"""Characters of one that cannot be read, in the log."""
RETRY_AFTER_S_MAX = 3600.0
"""A Retry-After beyond this is taken as this: an upstream shall not switch us off for a day by one header."""
SECONDS_FORM = re.compile(r"([0-9]{1,30}(?:\.[0-9]{0,9})?) ?(?:(ms)|s(?:ec(?:onds?)?)?)?(?:,.*)?")
"""Of a Retry-After; a fraction, a unit, and several that a proxy joined are not in the standard, and can mean nothing
else."""
MOMENT_FROM_S = 1e9
"""So many seconds are no wait but a moment, since 1970: of 2001, and as a wait 31 years."""
BUSY = frozenset({408, 425})
"""The server had no time for the call, or will not take it yet."""
THROTTLED = frozenset({420, 429})
"""Of these the former is in no standard; services that limit calls have it."""
HUNG_UP = (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)
"""The connection ended before an answer began; aiohttp sends a GET once more then."""
log = logging.getLogger(__name__)
FAILURES = (TimeoutError, aiohttp.ClientError, ConnectionError, asyncio.IncompleteReadError)
"""What a call may fail with that is no defect."""


class Reply(NamedTuple):
    """One whole answer: its status, the headers that are read (READ_HEADERS), and body, at most body_bytes_max long.

    way: what to add to an error about a proxy that may have given the answer by itself.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    way: str = ""

    @property
    def content_type(self) -> str:
        """The media type without parameters, lower case."""
        return self.headers.get("Content-Type", "").split(";")[0].strip().lower()

    @property
    def digest(self) -> bytes:
        """Return the digest of all that is read of this answer: status, media type with its charset, and body."""
        media_type = self.headers.get("Content-Type", "").replace("\0", "")
        return digest(b"%d" % self.status, media_type.encode(errors="replace"), self.body)


class Transport:
    """One aiohttp session to one upstream. Redirects are never followed, so credentials go nowhere else.

    pacer: what lets its requests start, shared where several go to one upstream; else one of its own.
    beside: connections that it may have beside those of concurrency.
    secrets: of its settings; whoever has or makes more of them adds them. No error of a call shows one.
    """

    def __init__(
        self, source: str, settings: SourceSettings, pacer: Pacer | None = None, *, beside: int = BESIDE
    ) -> None:
        self.base = URL(str(settings.base_url).rstrip("/"))
        self.secrets = Secrets.of(settings)
        self._source = source
        self._settings = settings
        self._limit = TimeLimit(settings.timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._connector: Connector | None = None
        self._pacer = pacer or Pacer(settings.rate_per_s)
        self._connections_max = settings.concurrency + beside
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._tls = Tls(settings)
        self._proxies = Proxies(settings.proxy)
        self._answered = False
        self._seldom = Seldom(LINE_EVERY_S, LINES_KINDS_MAX)

    async def close(self) -> None:
        """Give back connections."""
        if self._session is not None:
            await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | io.BytesIO | None = None,
        origin: URL | None = None,
    ) -> Reply:
        """Make one call; path (with its query) is sent exactly as given, origin replaces the configured host.

        Raises: Unreachable (no answer, 5xx), Refused (CREDENTIALS, a redirect to a login page), Throttled (429),
        BadAnswer (another redirect, too large).
        Any other status is returned: what it means belongs to the kind.
        """
        reply = await self.raw(method, path, headers=headers, body=body, origin=origin)
        raise_for_status(reply)
        return reply

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
        """Make one call and return whatever status it had; for kinds that must read refusals themselves.

        idempotent: a POST that changes nothing. As a GET it is sent once more when its connection turns out to be gone,
        as one that was kept alive may be; other POSTs never are, since they may have been carried out.
        """
        url = _url(origin or self.base, path)
        await self._start()
        attempt = self._attempt(url)
        with telemetry.upstream_call(self._source, method, url) as span, self._failures(attempt), self._limit.block():
            sent = self._sent(attempt, headers)
            # A server may close a kept-alive connection just as a request goes out. aiohttp repeats a GET then, and no
            # POST, which may have been carried out; one that changes nothing is repeated here.
            try:
                reply = await self._answer(method, attempt, sent, body)
            except HUNG_UP as exc:
                if not idempotent or isinstance(exc, aiohttp.ClientConnectorError):
                    raise
                reply = await self._answer(method, attempt, sent, body)
            telemetry.upstream_answered(span, reply.status)
            check_answer(reply.status, reply.body, attempt)
        self._answered = True
        self._say_unread(reply)
        return reply

    async def _answer(
        self, method: str, attempt: Attempt, sent: dict[str, Any], body: bytes | io.BytesIO | None
    ) -> Reply:
        async with self._client().request(
            method, attempt.url, **sent, data=_payload(body), allow_redirects=False, timeout=UNTIMED
        ) as response:
            check_encoding(response)
            headers = _kept(response.headers, attempt.url)
            return Reply(response.status, headers, await self._body(response), attempt.perhaps)

    @asynccontextmanager
    async def parts(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[tuple[Reply, AsyncIterator[bytes]]]:
        """Make one call whose answer may be long: read it in parts while it comes, of any length altogether.

        The Reply has a body, and there are no parts, when the status is not 200. timeout_s is the longest silence.
        """
        url = _url(self.base, path)
        await self._start()
        silence = aiohttp.ClientTimeout(sock_connect=self._settings.timeout_s, sock_read=self._settings.timeout_s)
        attempt = self._attempt(url)
        with telemetry.upstream_call(self._source, method, url) as span, self._failures(attempt):
            async with self._client().request(
                method, url, **self._sent(attempt, headers), allow_redirects=False, timeout=silence
            ) as response:
                check_encoding(response)
                whole = response.status != OK
                body = await self._body(response) if whole else b""
                telemetry.upstream_answered(span, response.status)
                check_answer(response.status, body, attempt)
                self._answered = True
                reply = Reply(response.status, _kept(response.headers, url), body, attempt.perhaps)
                self._say_unread(reply)
                yield reply, response.content.iter_chunked(CHUNK_BYTES)

    @asynccontextmanager
    async def websocket(
        self, path: str, *, headers: Mapping[str, str] | None = None, heartbeat_s: float
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse[Literal[False]]]:
        """Open a WebSocket, whose texts come as bytes; a peer that answers no ping within half of heartbeat_s ends it.

        Its pings and its end are the caller's to see: aiohttp would answer pings for as long as any come, and let
        nobody else run.
        """
        url = _url(self.base, path)
        url = url.with_scheme("wss" if url.scheme == "https" else "ws")
        await self._start()
        attempt = self._attempt(url)
        with self._failures(attempt):
            with telemetry.upstream_call(self._source, "GET", url) as call:
                upgraded = await self._client().ws_connect(
                    url,
                    **self._sent(attempt, headers),
                    heartbeat=heartbeat_s,
                    max_msg_size=self._settings.body_bytes_max,
                    autoping=False,
                    autoclose=False,
                    decode_text=False,
                )
                telemetry.upstream_answered(call, SWITCHING_PROTOCOLS)
                self._answered = True
            try:
                yield upgraded
            finally:
                await _hang_up(upgraded)

    def _attempt(self, url: URL) -> Attempt:
        return Attempt(url, self._tls, self._proxies.of(url), self._answered)

    def _sent(self, attempt: Attempt, headers: Mapping[str, str] | None) -> dict[str, Any]:
        """Return what aiohttp is told of a call's headers, of its proxy, and of whom to trust."""
        trust = {"ssl": self._tls.context} if attempt.secure else {}
        sent = {**(headers or {}), **self._context()}
        if attempt.proxy is None:
            return {"headers": sent, **trust}
        return {"headers": {**sent, **attempt.proxy.headers(attempt.url.scheme)}, **attempt.proxy.options, **trust}

    def _context(self) -> dict[str, str]:
        return telemetry.outgoing_context() if self._settings.trace_context else {}

    async def _start(self) -> None:
        """Wait so that requests start at most rate_per_s a second, though one read may need several."""
        await self._pacer.slot()
        if self._connector is not None:
            await self._connector.rest.over()

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = self._connector = Connector(limit=self._connections_max)
            timeout = aiohttp.ClientTimeout(total=self._settings.timeout_s)
            self._session = session(
                connector,
                timeout=timeout,
                read_bufsize=FREE_BYTES,
                max_line_size=self._settings.header_bytes_max,
                max_field_size=self._settings.header_bytes_max,
                max_headers=self._settings.headers_max,
            )
        return self._session

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        """Return the whole body; beyond FREE_BYTES it waits in line, and what was not taken waits upstream."""
        free = min(FREE_BYTES, self._settings.body_bytes_max)
        # A length that is declared and small needs no counting; of a compressed body it says nothing about its size.
        if "Content-Encoding" not in response.headers and (response.content_length or free + 1) <= free:
            return await response.read()
        body = bytearray()
        while len(body) <= free and (part := await self._part(response)):
            body += part
        if len(body) > free:
            async with self._large:
                await self._remainder(response, body)
        return bytes(body)

    async def _remainder(self, response: aiohttp.ClientResponse, body: bytearray) -> None:
        limit = self._settings.body_bytes_max
        while len(body) <= limit:
            if not (part := await self._part(response)):
                return
            body += part
        response.close()  # not released: its connection holds the rest of a body that nobody reads
        raise AnswerTooLarge(limit)

    async def _part(self, response: aiohttp.ClientResponse) -> bytes:
        """Return what is there of a body, up to CHUNK_BYTES; nothing at its end. Taking it together may be costly."""
        # One byte is awaited first, so that taking the rest, which may be many pieces, is measured without the wait.
        first = await response.content.read(1)
        if not first or self._connector is None:
            return first
        with self._connector.rest.counted():
            more = response.content.read_nowait(CHUNK_BYTES)
        await self._connector.rest.over()
        return first + more

    @contextmanager
    def _failures(self, attempt: Attempt) -> Iterator[None]:
        """Turn failures inside into errors in words, without secrets."""
        # One generator for all of it: a few nested ones around each call cost 2 % of it.
        try:
            with missed():
                yield
        except UpstreamError:
            with self.secrets.redacting_errors():
                raise
        except FAILURES as exc:
            with self.secrets.redacting_errors():
                raise self._in_words(exc, attempt) from exc

    def _say_unread(self, reply: Reply) -> None:
        """Log, now and then, that an answer asks for a pause in a way that cannot be read, so that it is not obeyed."""
        asked = reply.headers.get("Retry-After")
        if asked is None or reply.status == OK or retry_after_s(reply) is not None:
            return
        if (more := self._seldom.more(reply.status)) is not None:
            text = self.secrets.cleaner.text(cut(asked, RETRY_AFTER_SHOWN_MAX))
            log.warning(
                "source %s: its Retry-After %a, with HTTP %d, is neither seconds nor a date: pauses are as without%s",
                self._source,
                text,
                reply.status,
                f"; {counted(more, 'other')} left out since the last line" if more else "",
            )

    def _in_words(self, exc: Exception, attempt: Attempt) -> UpstreamError:
        if isinstance(exc, TimeoutError):
            return Unreachable(f"no answer within {self._settings.timeout_s:g} s{attempt.way}")
        if isinstance(exc, aiohttp.WSServerHandshakeError):
            reply = Reply(exc.status, _kept(exc.headers or {}, exc.request_info.url), b"")
            self._say_unread(reply)
            return _not_upgraded(reply)
        return connection_errors.explain(exc, attempt)


def _not_upgraded(reply: Reply) -> UpstreamError:
    try:
        raise_for_status(reply)
    except UpstreamError as told:
        return told
    page = " with an HTML page, which may be a login page" if "html" in reply.content_type else ""
    return BadAnswer(f"no WebSocket: HTTP {reply.status}{page}", retry_after_s=retry_after_s(reply))


async def _hang_up(upgraded: aiohttp.ClientWebSocketResponse[Literal[False]]) -> None:
    """Say goodbye, and wait for no answer: before one aiohttp takes in whatever comes, and lets nobody else run."""
    with suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
        async with asyncio.timeout(GOODBYE_S):
            await upgraded.send_frame(GOODBYE, aiohttp.WSMsgType.CLOSE)
    upgraded._response.close()  # noqa: SLF001 - what close() ends with, at once
    await upgraded.close()
    if (kept := upgraded.exception()) is not None:  # with it, the socket would keep its caller's frames, and they it
        kept.__context__ = kept.__traceback__ = None


def session(connector: Connector, **options: Any) -> aiohttp.ClientSession:
    """Make a session that keeps no cookies, reads no proxy from the environment and follows no redirect.

    Every one has connections that are held to limits: aiohttp's own take informational answers without an end.

    aiohttp follows redirects where it is not told otherwise, and cannot be told so for a WebSocket: there it takes
    every header of ours along to wherever the answer points.
    """
    guard = aiohttp.TraceConfig()
    guard.on_request_redirect.append(_refuse_redirect)
    return aiohttp.ClientSession(
        connector=connector,
        request_class=Request,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        trace_configs=[guard],
        **options,
    )


async def _refuse_redirect(_session: object, _context: object, told: aiohttp.TraceRequestRedirectParams) -> None:
    told.response.close()
    raise_for_status(Reply(told.response.status, _kept(told.response.headers, told.response.url), b""))


def raise_for_status(reply: Reply) -> None:
    """Raise for statuses that mean the same with every kind; return for all others."""
    try:
        _raise_for_status(reply)
    except UpstreamError as exc:
        exc.args = (f"{exc}{reply.way}",)
        raise


def _raise_for_status(reply: Reply) -> None:
    status = reply.status
    if status in CREDENTIALS:
        raise Refused(f"HTTP {status}: our credentials are refused or lack a right", retry_after_s=retry_after_s(reply))
    if status in THROTTLED:
        raise Throttled(f"HTTP {status}: too many calls", retry_after_s=retry_after_s(reply))
    if status == HTTPStatus.NETWORK_AUTHENTICATION_REQUIRED:
        text = f"HTTP {status}: the network on the way wants a login first"
        raise Unreachable(text, retry_after_s=retry_after_s(reply))
    if status in BUSY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Unreachable(f"HTTP {status}", retry_after_s=retry_after_s(reply))
    if status == HTTPStatus.NOT_MODIFIED:
        raise BadAnswer(f"HTTP {status} without an answer, as for a cache, though there is none here")
    if 300 <= status < 400:  # noqa: PLR2004 - the status says itself
        raise logins.redirect(status, reply.headers.get(LOCATION, ""), retry_after_s=retry_after_s(reply))


def _kept(headers: Mapping[str, str], url: URL) -> dict[str, str]:
    """Return what of the headers of an answer from there is read, their names written as in READ_HEADERS.

    A Location with the path that was asked for is left out: a server that only moved is no login page.
    """
    kept = {name: headers[name][:HEADER_LENGTH_MAX] for name in READ_HEADERS if name in headers}
    if (location := headers.get(LOCATION, "")[:HEADER_LENGTH_MAX]) and not _moved(location, url):
        kept[LOCATION] = location
    return kept


def _moved(location: str, url: URL) -> bool:
    """Return whether a redirect keeps the path that was asked for: to another host or scheme, or with a slash added."""
    path = urlsplit(location).path if location.isprintable() else ""
    return path.rstrip("/") == url.raw_path.rstrip("/")


def retry_after_s(reply: Reply) -> float | None:
    """Read Retry-After (RFC 9110, 10.2.3: seconds or a date), in seconds from now; None when absent or unreadable.

    A date may also be one of ISO 8601, or seconds since 1970.

    A date is one by the clock of who answers, which its Date tells; ours may be another.
    """
    text = reply.headers.get("Retry-After", "").strip()
    form = SECONDS_FORM.fullmatch(text)
    if form and form[2]:
        return min(float(form[1]) / 1000, RETRY_AFTER_S_MAX)
    seconds = float(form[1]) if form else None
    if seconds is not None and seconds < MOMENT_FROM_S:
        return min(seconds, RETRY_AFTER_S_MAX)
    if (at := _moment(text) if seconds is None else seconds) is None:
        return None
    # From the answer's own clock: with ours, a server that is an hour ahead would have us wait for an hour more.
    now = _moment(reply.headers.get("Date", ""))
    return min(max(at - (time.time() if now is None else now), 0.0), RETRY_AFTER_S_MAX)


def _moment(text: str) -> float | None:
    """Read an HTTP date, in seconds since 1970; one without a zone is UTC, as all of them are (RFC 9110, 5.6.7)."""
    try:
        at = datetime.fromisoformat(text) if text[:1].isdigit() else email.utils.parsedate_to_datetime(text)
        return (at.replace(tzinfo=UTC) if at.tzinfo is None else at).timestamp()
    except (ValueError, OverflowError):
        return None


def _url(base: URL, path: str) -> URL:
    """Put path and query after base without taking either apart or encoding anything."""
    where, _, query = path.partition("?")
    # encoded=True: yarl would normalise escapes, and a signature, or an id with a slash in it, would be another one.
    return URL.build(
        scheme=base.scheme,
        authority=base.raw_authority,
        path=base.raw_path.rstrip("/") + where,
        query_string=query,
        encoded=True,
    )


def _payload(body: bytes | io.BytesIO | None) -> bytes | io.BytesIO | None:
    return io.BytesIO(body) if isinstance(body, bytes) and len(body) > WHOLE_BYTES_MAX else body
