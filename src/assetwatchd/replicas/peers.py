"""How replicas call each other: a server of its own for others alone, and a channel to each of them.

Knows what a call is and who may make one, not what is asked.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol, TypeVar

import grpc
from assetwatch.internal.v1 import peer_pb2 as pb
from google.protobuf.message import Message

from assetwatchd.model.errors import ConfigError
from assetwatchd.runtime.logs import Seldom
from assetwatchd.settings.schema import on_this_machine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from assetwatchd.replicas.access import Access

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)

SERVICE = pb.DESCRIPTOR.services_by_name["PeerService"].full_name
STOP_S = 0.2
"""Calls under way have so long when the server stops: whoever asked asks the next owner."""
MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""A watch may name 10,000 assets by ids of 2,048 characters, each of 3 bytes."""
SERVER_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 4000),
)
CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 5000),  # a vanished peer is known by it: a read may take as long as its owner needs
    ("grpc.http2.max_pings_without_data", 0),  # and nothing is sent meanwhile
    ("grpc.keepalive_timeout_ms", 2000),
    ("grpc.http2.ping_timeout_ms", 2000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),  # who is asked next is decided here
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
)
REFUSED_EVERY_S = 60.0
COMPLAINED_EVERY_S = 60.0
PEERS_MAX = 100
"""Of so many addresses it is known whether there was a line a moment ago."""

log = logging.getLogger(__name__)


class PeerLost(Exception):
    """A replica did not answer: whether it did what it was asked to is not known."""


class Served(Protocol):
    """What others may ask of this process."""

    async def ask(self, request: pb.AskRequest) -> pb.AskResponse:
        """Do what the owner of a source alone can."""
        ...

    def tell(self, request: pb.TellRequest) -> pb.TellResponse:
        """Take in what the owner of sources tells."""
        ...


class PeerServer:
    """Serves other replicas. Not reflected, and nothing is transcoded to it."""

    def __init__(self, access: Access, served: Served) -> None:
        self._access = access
        self._served = served
        self._server: grpc.aio.Server | None = None
        self._seldom = Seldom(REFUSED_EVERY_S, 1)

    async def start(self, listen: str) -> str:
        """Begin, and return the address. Raises: ConfigError when that cannot be had."""
        server = grpc.aio.server(options=SERVER_OPTIONS)
        handlers = {
            "Ask": _handler(self._ask, pb.AskRequest),
            "Tell": _handler(self._tell, pb.TellRequest),
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
        port = self._bind(server, listen)
        await server.start()
        self._server = server
        return f"{listen.rpartition(':')[0]}:{port}"

    def _bind(self, server: grpc.aio.Server, listen: str) -> int:
        credentials = self._access.server
        try:
            if credentials is None:
                return server.add_insecure_port(listen)
            return server.add_secure_port(listen, credentials)
        except RuntimeError:
            raise ConfigError(
                f"store.peer_listen: cannot listen on {listen}; give a HOST:PORT of this machine that is free, and TLS"
                " files that are a certificate and its key"
            ) from None

    async def stop(self) -> None:
        """Take no calls any more."""
        if self._server is not None:
            await self._server.stop(STOP_S)

    async def _ask(self, request: pb.AskRequest, context: grpc.aio.ServicerContext) -> pb.AskResponse:  # type: ignore[type-arg]  # of both
        await self._admit(context)
        return await self._served.ask(request)

    async def _tell(self, request: pb.TellRequest, context: grpc.aio.ServicerContext) -> pb.TellResponse:  # type: ignore[type-arg]  # same
        await self._admit(context)
        return self._served.tell(request)

    async def _admit(self, context: grpc.aio.ServicerContext) -> None:  # type: ignore[type-arg]  # same
        if self._access.admits(context.invocation_metadata() or ()):
            return
        if self._seldom.more("refused") is not None:
            log.warning("a call to store.peer_listen without the secret of store.peer_token_file was refused")
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "not a replica of this service")


def _handler(
    behaviour: Callable[[Request, grpc.aio.ServicerContext], Awaitable[Message]],  # type: ignore[type-arg]  # same
    request: type[Request],
) -> grpc.RpcMethodHandler:  # type: ignore[type-arg]  # same
    return grpc.unary_unary_rpc_method_handler(
        behaviour,
        request_deserializer=request.FromString,
        response_serializer=lambda answer: answer.SerializeToString(),
    )


class Peers:
    """Calls other replicas, each on a channel that is kept as long as it is there."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._seldom = Seldom(COMPLAINED_EVERY_S, PEERS_MAX)

    async def ask(self, at: str, request: pb.AskRequest, *, within_s: float | None = None) -> pb.AskResponse:
        """Have the replica at an address do something, as long as it takes, or within that. Raises: PeerLost."""
        return await self._call(at, "Ask", request, pb.AskResponse, within_s)

    async def tell(self, at: str, request: pb.TellRequest, *, within_s: float) -> pb.TellResponse:
        """Tell the replica at an address something. Raises: PeerLost."""
        return await self._call(at, "Tell", request, pb.TellResponse, within_s)

    async def _call(
        self, at: str, method: str, request: Message, answer: type[Answer], within_s: float | None
    ) -> Answer:
        call: grpc.aio.UnaryUnaryMultiCallable[Message, Answer] = self._channel(at).unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        try:
            return await call(request, timeout=within_s, metadata=self._access.metadata)
        except grpc.aio.AioRpcError as error:
            self._complain(at, error)
            raise PeerLost(f"{at}: {error.code().name}: {error.details()}") from None
        except asyncio.CancelledError:  # its channel was closed, as the replica is gone; or whoever calls is cancelled
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            raise PeerLost(f"{at}: gone") from None

    def _complain(self, at: str, error: grpc.aio.AioRpcError) -> None:
        """Log, now and then, that a replica which is there does not answer: its address may be wrong."""
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            why = "it has another secret in store.peer_token_file"
        else:
            why = f"{error.code().name.lower()}: {error.details()}"
        if self._seldom.more(at) is not None:
            log.warning("the replica at %s does not answer: %s", at, why)

    def _channel(self, at: str) -> grpc.aio.Channel:
        if (channel := self._channels.get(at)) is None:
            credentials = self._access.channel
            if credentials is None and not on_this_machine(at.rpartition(":")[0].strip("[]")):
                raise PeerLost(f"{at}: without TLS the secret of replicas goes nowhere but to this machine")
            channel = self._channels[at] = (
                grpc.aio.insecure_channel(at, options=CHANNEL_OPTIONS)
                if credentials is None
                else grpc.aio.secure_channel(at, credentials, options=CHANNEL_OPTIONS)
            )
        return channel

    async def keep(self, addresses: Collection[str]) -> None:
        """Close the channels to all others, which are gone."""
        for at in self._channels.keys() - set(addresses):
            await self._channels.pop(at).close()

    async def close(self) -> None:
        """Close all channels."""
        await self.keep(())
