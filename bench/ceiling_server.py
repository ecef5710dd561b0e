"""A bare grpc.aio server that writes one encoded message to every stream as fast as it is taken: the ceiling.

Prints a line of JSON with the address; ends with SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from typing import TYPE_CHECKING

import grpc
from changes import message
from say import say

if TYPE_CHECKING:
    from grpc import HandlerCallDetails

STREAMS_MAX = 20_000


class Ceiling(grpc.GenericRpcHandler):
    """Any method is a stream of the same bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def service(self, _details: HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Return the handler."""
        return grpc.unary_stream_rpc_method_handler(self._write)

    async def _write(self, _request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        while True:
            await context.write(self._content)


async def main(args: argparse.Namespace) -> None:
    """Serve until told to stop."""
    options = [("grpc.so_reuseport", 0), ("grpc.max_concurrent_streams", STREAMS_MAX)]
    server = grpc.aio.server(handlers=[Ceiling(message(args.changes))], options=options)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: asyncio.ensure_future(server.stop(None)))
    say(address=f"127.0.0.1:{port}")
    await server.wait_for_termination()


def arguments() -> argparse.Namespace:
    """What the measurement varies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=1, help="in the message")
    return parser.parse_args()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(arguments()))
