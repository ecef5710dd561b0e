"""Scripted faults: replace, spoil or delay the real answers of a stand-in. Knows no kind of upstream."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, field_validator

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CHUNK_BYTES = 64 * 1024
DRIP_INTERVAL_S = 0.1
INVALID_UTF8 = b"\xff\xfe\xc3\x28"


class Fault(BaseModel):
    """One scripted fault; several effects may be combined and happen in the order they are listed here.

    A fault of `on` = "frame" waits for WebSocket frames sent by the stand-in and leaves the upgrade request alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    path: str = Field(default=".*", description="regular expression searched for in the path with its query")
    method: str | None = Field(default=None, description="only requests of this HTTP method; absent: any")
    on: Literal["request", "frame"] = "request"
    times: int | None = Field(default=None, ge=1, description="how often it strikes; absent: until cleared")
    delay_s: float | None = Field(default=None, ge=0, description="wait before answering")
    hang: bool = Field(default=False, description="do not answer until the faults are cleared")
    disconnect: bool = Field(default=False, description="abort the TCP connection instead of answering")
    redirect_to: str | None = Field(default=None, description="answer 302 with this Location")
    status: int | None = Field(default=None, ge=200, le=599, description="answer this instead of the real answer")
    body: str | None = Field(default=None, description="body of that answer; alone it means status 200")
    content_type: str | None = Field(
        default=None, description="Content-Type of the answer, real or not, sent exactly so"
    )
    headers: dict[str, str] = Field(default_factory=dict, description="headers added to the answer, real or not")
    charset_garbage: bool = Field(default=False, description="put bytes that are not UTF-8 into the body")
    huge_bytes: int | None = Field(default=None, ge=1, description="stream a body of this many bytes")
    truncate_bytes: int | None = Field(default=None, ge=0, description="cut the connection after so much of the body")
    drip_bytes_per_s: float | None = Field(default=None, gt=0, description="send the body this slowly")

    @field_validator("path")
    @classmethod
    def _compiles(cls, path: str) -> str:
        try:
            re.compile(path)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return path

    def matches(self, method: str, path_qs: str) -> bool:
        """Tell whether a request of this method and path is one this fault waits for."""
        return (self.method is None or self.method == method) and re.search(self.path, path_qs) is not None


class _Armed:
    """A fault with what is left of its `times`."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.left = fault.times

    def strike(self) -> bool:
        """Use the fault once; tell whether it is used up."""
        if self.left is not None:
            self.left -= 1
        return self.left == 0


class Faults:
    """The faults armed on one stand-in; the oldest that matches strikes. struck: requests and frames so far."""

    def __init__(self) -> None:
        self.struck = 0
        self._armed: list[_Armed] = []
        self._cleared = asyncio.Event()

    def add(self, fault: Fault | None = None, /, **fields: object) -> Fault:
        """Arm a fault, given ready or by its fields; an unknown field is a pydantic ValidationError."""
        fault = Fault.model_validate(fields) if fault is None else fault
        self._armed.append(_Armed(fault))
        return fault

    def clear(self) -> None:
        """Disarm everything and let go of what hangs."""
        # The event is set for those that hang now, and replaced, so that faults armed later hang until the next clear.
        self._armed.clear()
        self._cleared.set()
        self._cleared = asyncio.Event()

    @property
    def active(self) -> list[Fault]:
        """The armed faults, oldest first, `times` being what is left."""
        return [armed.fault.model_copy(update={"times": armed.left}) for armed in self._armed]

    def take(self, method: str, path_qs: str, on: Literal["request", "frame"] = "request") -> Fault | None:
        """Return the fault that strikes this request or frame, if any, and count it."""
        for armed in self._armed:
            if armed.fault.on == on and armed.fault.matches(method, path_qs):
                self.struck += 1
                if armed.strike():
                    self._armed.remove(armed)
                return armed.fault
        return None

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request as the fault that strikes it says, or leave it alone."""
        fault = self.take(request.method, request.path_qs)
        if fault is None:
            return await handler(request)
        await self._hold(fault)
        if fault.disconnect:
            return _abort(request)
        answer = await _answer(fault, request, handler)
        answer.headers.update(fault.headers)
        if not isinstance(answer, web.Response) or answer.prepared:
            return answer
        return await _spoil(fault, request, answer)

    async def send_text(self, request: web.Request, socket: web.WebSocketResponse, text: str) -> None:
        """Send one WebSocket text frame, unless a fault of `on` = "frame" has it otherwise.

        body replaces the text, truncate_bytes cuts it, charset_garbage makes the frame invalid UTF-8, huge_bytes makes
        it this long, disconnect aborts the connection instead of sending it.
        Raises: ConnectionError when the peer is gone.
        """
        fault = self.take(request.method, request.path_qs, "frame")
        if fault is None:
            await socket.send_str(text)
            return
        await self._hold(fault)
        if fault.disconnect:
            _abort(request)
            return
        payload = (text if fault.body is None else fault.body).encode()
        if fault.huge_bytes is not None:
            payload = b" " * fault.huge_bytes
        if fault.truncate_bytes is not None:
            payload = payload[: fault.truncate_bytes]
        if fault.charset_garbage:
            payload = INVALID_UTF8 + payload
        await socket.send_frame(payload, web.WSMsgType.TEXT)

    async def _hold(self, fault: Fault) -> None:
        cleared = self._cleared  # before the delay: a clear during it lets go of this one, too
        if fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        if fault.hang:
            await cleared.wait()


class _Silence(web.Response):
    """The response of a handler that has aborted its connection: nothing is sent, and the log keeps no status."""

    async def prepare(self, request: web.BaseRequest) -> None:
        """Begin no answer."""

    async def write_eof(self, data: bytes = b"") -> None:
        """End no answer."""


def _abort(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return _Silence()


async def _answer(fault: Fault, request: web.Request, handler: Handler) -> web.StreamResponse:
    if fault.redirect_to is not None:
        return web.Response(status=302, headers={"Location": fault.redirect_to})
    if fault.status is None and fault.body is None:
        return await _real(fault, request, handler)
    headers = {"Content-Type": fault.content_type or "text/plain; charset=utf-8"}
    return web.Response(status=fault.status or 200, body=(fault.body or "").encode(), headers=headers)


async def _real(fault: Fault, request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        answer = await handler(request)
    except web.HTTPException as refusal:
        answer = web.Response(status=refusal.status, body=refusal.body, headers=refusal.headers)
    if fault.content_type is not None:
        answer.headers["Content-Type"] = fault.content_type
    return answer


async def _spoil(fault: Fault, request: web.Request, answer: web.Response) -> web.StreamResponse:
    body = answer.body if isinstance(answer.body, bytes | bytearray) else b""
    if fault.charset_garbage:
        body = bytes(body[:1]) + INVALID_UTF8 + bytes(body[1:])
        answer.body = body
    if fault.huge_bytes is None and fault.truncate_bytes is None and fault.drip_bytes_per_s is None:
        return answer
    stream = web.StreamResponse(status=answer.status, reason=answer.reason, headers=answer.headers)
    stream.content_length = len(body) if fault.huge_bytes is None else fault.huge_bytes
    with suppress(ConnectionError):
        await stream.prepare(request)
        await _pour(fault, stream, body)
        if fault.truncate_bytes is not None and request.transport is not None:
            request.transport.close()
    return stream


async def _pour(fault: Fault, stream: web.StreamResponse, body: bytes | bytearray) -> None:
    """Write the body, or as much of one as the fault lets through, no faster than it allows."""
    total = len(body) if fault.huge_bytes is None else fault.huge_bytes
    total = total if fault.truncate_bytes is None else min(total, fault.truncate_bytes)
    drip = fault.drip_bytes_per_s
    step = CHUNK_BYTES if drip is None else max(1, int(drip * DRIP_INTERVAL_S))
    for start in range(0, total, step):
        size = min(step, total - start)
        await stream.write(b" " * size if fault.huge_bytes is not None else bytes(body[start : start + size]))
        if drip is not None:
            await asyncio.sleep(size / drip)
