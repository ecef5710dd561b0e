"""Servers that speak TLS or do not: a blocking one, which says why it ends a handshake, and asyncio's."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypedDict

import trustme

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HOST = "127.0.0.1"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Pair(TypedDict):
    """A certificate and its key, as the settings of a source name them."""

    tls_cert_file: Path
    tls_key_file: Path


class Authority:
    """A certificate authority whose files are in a directory."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self.ca = trustme.CA()
        self._directory = directory
        self.file = self.write(f"{name}.pem", self.ca.cert_pem.bytes())

    def write(self, name: str, content: bytes) -> Path:
        """Write a file."""
        path = self._directory / name
        path.write_bytes(content)
        return path

    def pair(self, name: str, *identities: str) -> Pair:
        """Issue a certificate; return what a source is told of it."""
        issued = self.ca.issue_cert(*identities or ("client@example.org",))
        chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
        key = self.write(f"{name}.key", issued.private_key_pem.bytes())
        return {"tls_cert_file": self.write(f"{name}.pem", chain), "tls_key_file": key}


def serving(issued: trustme.LeafCert, *, client_ca: trustme.CA | None = None, **set_to: object) -> ssl.SSLContext:
    """Return a server's context; set_to: attributes of it. client_ca: who calls must show a certificate of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    if client_ca is not None:
        client_ca.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    for name, value in set_to.items():
        setattr(context, name, value)
    return context


@asynccontextmanager
async def blocking(context: ssl.SSLContext | None, answer: bytes = OK) -> AsyncIterator[int]:
    """Serve as most servers do: OpenSSL on a socket, one connection after the other; yield the port."""
    listening = socket.create_server((HOST, 0))
    thread = threading.Thread(target=_serve, args=(listening, context, answer))
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        await asyncio.to_thread(thread.join)


def _serve(listening: socket.socket, context: ssl.SSLContext | None, answer: bytes) -> None:
    while True:
        try:
            accepted, _ = listening.accept()
        except OSError:
            return
        accepted.settimeout(5)
        with suppress(OSError), _wrapped(accepted, context) as connection:
            if connection.recv(65536):
                connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):  # so that no reset overtakes what was said
                pass


def _wrapped(accepted: socket.socket, context: ssl.SSLContext | None) -> socket.socket:
    if context is None:
        return accepted
    try:
        return context.wrap_socket(accepted, server_side=True)
    except OSError:
        accepted.close()
        raise


@asynccontextmanager
async def asynchronous(context: ssl.SSLContext | None, answer: bytes = OK) -> AsyncIterator[int]:
    """Serve by asyncio, which ends a connection without a word when a handshake fails; yield the port."""
    writers = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answer)

    server = await asyncio.start_server(serve, HOST, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()
