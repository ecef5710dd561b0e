"""The channel and stubs of the commands that call a server, and how their calls run."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import typer
from assetwatch.v1 import asset_status_service_pb2_grpc, server_service_pb2_grpc, source_service_pb2_grpc

import assetwatch_client
from assetwatch_client import reason_of
from assetwatchd.cli.exit_codes import ExitCode, fail
from assetwatchd.cli.failures import explain
from assetwatchd.cli.terminal import while_read
from assetwatchd.rpc.names import REPLICA_KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from assetwatch.v1.asset_status_service_pb2_grpc import AssetStatusServiceAsyncStub
    from assetwatch.v1.server_service_pb2_grpc import ServerServiceAsyncStub
    from assetwatch.v1.source_service_pb2_grpc import SourceServiceAsyncStub

    from assetwatch_client import Servers
    from assetwatchd.cli.target import Target

CALL_TIMEOUT_S = 30.0
READY = grpc.ChannelConnectivity.READY
NO_LIMIT = ("grpc.max_receive_message_length", -1)
"""How large an answer may be is the server's to say (server.message_bytes_max), and the user asked for it."""


FINDING_S = 3.0
"""Of several servers one is to be found within this; else the first is called, and what is wrong with it is told."""


class Client(NamedTuple):
    """The services of one server, the channel they share, and all servers over its store, of which it is in use."""

    servers: Servers
    channel: grpc.aio.Channel
    statuses: AssetStatusServiceAsyncStub
    sources: SourceServiceAsyncStub
    server: ServerServiceAsyncStub


@asynccontextmanager
async def connect(target: Target) -> AsyncIterator[Client]:
    """Open a channel for as long as the context lasts. Raises: OSError when a certificate cannot be read."""
    async with _servers(target) as servers:
        if len(target.each) > 1:
            with suppress(TimeoutError):
                async with asyncio.timeout(FINDING_S):
                    await servers.ready()
        yield Client(
            servers,
            servers.channel,
            asset_status_service_pb2_grpc.AssetStatusServiceStub(servers.channel),
            source_service_pb2_grpc.SourceServiceStub(servers.channel),
            server_service_pb2_grpc.ServerServiceStub(servers.channel),
        )


def _servers(target: Target) -> Servers:
    addresses = [one.server for one in target.each]
    if not target.tls:
        return assetwatch_client.connect_any(addresses, options=[NO_LIMIT])
    from assetwatchd.cli.tls import credentials  # noqa: PLC0415 - who calls in the clear does not pay for it

    name = [("grpc.ssl_target_name_override", target.tls_server_name)] if target.tls_server_name else []
    return assetwatch_client.connect_any(addresses, credentials(target), options=[NO_LIMIT, *name])


async def is_there(channel: grpc.aio.Channel, within_s: float) -> bool:
    """Connect; say whether that went well. Raises: TimeoutError when that cannot be said in time."""
    # Not `channel_ready`, which waits on over failures: one that failed is an answer here.
    state = channel.get_state(try_to_connect=True)
    async with asyncio.timeout(within_s):
        while state not in {READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE}:
            await channel.wait_for_state_change(state)
            state = channel.get_state(try_to_connect=True)
    return state is READY


async def comes(servers: Servers, within_s: float) -> bool:
    """Wait for a server to be there; say whether one is by then."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await servers.ready()
            return True
    return False


async def replica_of(call: grpc.aio.UnaryUnaryCall[Any, Any]) -> str:
    """Return the name of the replica that answered a call; empty when it does not say."""
    told = dict(await call.trailing_metadata() or ())
    return str(told.get(REPLICA_KEY, ""))


def run(target: Target, command: Callable[[Client], Coroutine[object, object, ExitCode]]) -> None:
    """Run a command against a server and exit with its code; a failed call becomes one clear sentence."""

    async def whole() -> ExitCode:
        async with while_read(), connect(target) as client:
            return await command(client)

    if (target.tls_cert is None) != (target.tls_key is None):
        fail(ExitCode.USAGE, "--tls-cert and --tls-key go together")
    try:
        code = asyncio.run(whole())
    except (grpc.aio.AioRpcError, TimeoutError) as error:
        code, lines = explain(error, target.server)
        fail(code, *_better(target, error, lines))
    except UnicodeEncodeError:  # of a request: its texts are UTF-8, and those that are written are made safe before
        fail(ExitCode.USAGE, "an argument is not UTF-8, as names, ids and tokens of assetwatch are: write it in UTF-8")
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    raise typer.Exit(code)


def _better(target: Target, error: grpc.aio.AioRpcError | TimeoutError, lines: list[str]) -> list[str]:
    """Say why a server cannot be called over TLS, or without it, where that is why; one that is silent is not asked."""
    if isinstance(error, TimeoutError) or error.code() is not grpc.StatusCode.UNAVAILABLE or reason_of(error):
        return lines
    from assetwatchd.cli.tls import why_not  # noqa: PLC0415 - who is answered does not pay for it

    found = [why for one in target.each if (why := why_not(one)) is not None]
    return found or lines
