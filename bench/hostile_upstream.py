"""Be a hostile upstream of one kind: answer what is read with bodies of a shape, and the rest as it should.

Prints a line of JSON with its address and its shapes. Reads lines of JSON, a shape and its size in bytes, and prints a
line when the next answers are of that shape.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import TYPE_CHECKING

from say import say

from support.hostile import RAW, SHAPES

if TYPE_CHECKING:
    from collections.abc import Mapping

WRITTEN_BYTES = 256 * 1024
RAW_KIND = "usd_search"
"""HTTP is the same for all: one kind stands for them where an answer is hostile before its body begins."""
GOOD: Mapping[str, tuple[str, bytes]] = {
    "/auth/token": ("application/xml", b"<response><data><accessToken>abc</accessToken></data></response>"),
    "/.well-known/health": ("text/plain", b"ok:7d1c1c1e-5b1f-4d3b-9d0b-2f6f0c6e1a11"),
    "/.well-known/version": ("text/plain", b"11.0.0"),
}
"""What must be right before anything else is asked, by the end of the path."""


class Hostile:
    """What is answered now."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.answer = _answer(200, "text/plain", b"")

    def tell(self, shape: str, size: int) -> None:
        """Answer so from now on."""
        if shape in RAW:
            self.answer = RAW[shape](size)
            return
        [found] = [each for each in SHAPES if (each.kind, each.name) == (self._kind, shape)]
        self.answer = _answer(found.status, found.content_type, found.make(size))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until it ends."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode().partition("?")[0]
                length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0].strip()
                await reader.readexactly(int(length or 0))
                good = next((answer for end, answer in GOOD.items() if path.endswith(end)), None)
                answer = self.answer if good is None else _answer(200, *good)
                for begin in range(0, len(answer), WRITTEN_BYTES):
                    writer.write(answer[begin : begin + WRITTEN_BYTES])
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def _answer(status: int, content_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def main(kind: str) -> None:
    """Serve until standard input ends."""
    hostile = Hostile(kind)
    server = await asyncio.start_server(hostile.serve, "127.0.0.1", 0)
    shapes = [shape.name for shape in SHAPES if shape.kind == kind] + (list(RAW) if kind == RAW_KIND else [])
    say(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", shapes=shapes)
    while line := await asyncio.to_thread(sys.stdin.readline):
        hostile.tell(**json.loads(line))
        say(ready=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind")
    asyncio.run(main(parser.parse_args().kind))
