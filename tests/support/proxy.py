"""An HTTP proxy: tunnels for CONNECT, and requests in absolute form passed on; it alone knows where hosts are."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from yarl import URL

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

HOST = "127.0.0.1"
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass
class Proxy:
    """What it does, and has seen.

    hosts: ports of loopback by the name that is asked for; others are answered with 502. wants: the Proxy-Authorization
    without which it answers 407. connected: what it says to a CONNECT. answer: given, it says that to everybody.
    silent: it says nothing to anybody.
    heads: the head of each request, as it came.
    """

    hosts: dict[str, int] = field(default_factory=dict)
    wants: str = ""
    connected: bytes = CONNECTED
    answer: bytes | None = None
    silent: bool = False
    heads: list[str] = field(default_factory=list)
    url: str = ""
    opened: int = 0

    @property
    def lines(self) -> list[str]:
        """The first line of each request, without its version."""
        return [head.split(" HTTP/")[0] for head in self.heads]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.opened += 1
        tasks: list[asyncio.Task[None]] = []
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head.decode())
            if self.silent:
                await reader.read()
            if (said := self._refusal(head)) is not None:
                writer.write(said)
                await writer.drain()
                return
            await self._pass(head, reader, writer, tasks)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for task in tasks:
                task.cancel()
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _refusal(self, head: bytes) -> bytes | None:
        if self.answer is not None:
            return self.answer
        if self.wants and f"Proxy-Authorization: {self.wants}\r\n".encode() not in head:
            return b'HTTP/1.1 407 Who?\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'
        return b"HTTP/1.1 502 Where?\r\nContent-Length: 0\r\n\r\n" if self._port(head) is None else None

    def _port(self, head: bytes) -> int | None:
        method, target = head.decode().split()[:2]
        return self.hosts.get((URL(f"//{target}") if method == "CONNECT" else URL(target)).host or "")

    async def _pass(
        self,
        head: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        tasks: list[asyncio.Task[None]],
    ) -> None:
        there, back = await asyncio.open_connection(HOST, self._port(head))
        try:
            if head.startswith(b"CONNECT "):
                writer.write(self.connected)
            else:
                back.write(_in_origin_form(head))
            tasks += [asyncio.create_task(_pump(*way)) for way in ((reader, back), (there, writer))]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            back.transport.abort()


def _in_origin_form(head: bytes) -> bytes:
    """Pass a request on as a proxy does: the path alone, and nothing that was for the proxy. The server is to close."""
    line, *headers = head.decode().rstrip("\r\n").split("\r\n")
    method, target, version = line.split(" ")
    path = "/" + target.split("/", 3)[3]
    kept = [header for header in headers if not header.lower().startswith(("proxy-", "connection:"))]
    return "\r\n".join([f"{method} {path} {version}", *kept, "Connection: close", "", ""]).encode()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def proxy(context: ssl.SSLContext | None = None, **does: object) -> AsyncIterator[Proxy]:
    """Run one; with a context it is spoken to over TLS."""
    made = Proxy(**does)  # type: ignore[arg-type]  # fields by name
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        with suppress(asyncio.CancelledError):
            await made.serve(reader, writer)

    server = await asyncio.start_server(serve, HOST, 0, ssl=context)
    made.url = f"{'https' if context else 'http'}://{HOST}:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await server.wait_closed()
