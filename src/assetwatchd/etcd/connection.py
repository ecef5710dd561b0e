"""One channel to one member, and how calls on it end: with an answer, or as an EtcdError."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import grpc

from assetwatchd.etcd.errors import EtcdError, EtcdRefused, OutcomeUnknown, translate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from assetwatchd.etcd.methods import Answer, Method, Request
    from assetwatchd.settings.schema import EtcdStoreSettings

Metadata = tuple[tuple[str, str], ...]

PING_S = 10.0
"""Between pings while a call is open. etcd answers those below 5 s with GOAWAY (--grpc-keepalive-min-time), and pings
on an idle connection too. Calls that time out find a dead member sooner: this ends what such a member left behind."""
PING_ANSWER_S = 5.0
CONNECT_S = 2.0
"""An attempt to connect may take this long, TLS with it."""
RECONNECT_S = 0.5
"""Between two attempts, at most."""
OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.keepalive_time_ms", int(PING_S * 1000)),
    ("grpc.keepalive_timeout_ms", int(PING_ANSWER_S * 1000)),
    ("grpc.http2.max_pings_without_data", 0),  # a quiet watch is pinged all the same
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", int(CONNECT_S * 1000)),
    ("grpc.max_reconnect_backoff_ms", int(RECONNECT_S * 1000)),
    ("grpc.max_receive_message_length", -1),  # a page, or what a watch missed, is as large as it is
    ("grpc.max_send_message_length", -1),  # etcd says what is too large
    ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection
    ("grpc.enable_retries", 0),  # whether something is done twice is decided here
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
)


class Access(NamedTuple):
    """Where etcd is, and what opens it. endpoints: http(s)://HOST:PORT, all of one scheme."""

    endpoints: Sequence[str]
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    username: str = ""
    password_file: Path | None = None


def access_of(settings: EtcdStoreSettings) -> Access:
    """Return what settings say of it."""
    return Access(
        settings.endpoints,
        settings.tls_ca_file,
        settings.tls_cert_file,
        settings.tls_key_file,
        settings.username,
        settings.password_file,
    )


class Connection:
    """A channel to one endpoint; its files are read now. Closing it ends what goes on there.

    Raises: EtcdRefused when a file cannot be read.
    """

    def __init__(self, endpoint: str, access: Access) -> None:
        self.endpoint = endpoint
        self._channel = _channel(endpoint, access)

    async def close(self) -> None:
        """End every call and give the channel back."""
        await self._channel.close()

    async def call(
        self, method: Method[Request, Answer], request: Request, metadata: Metadata, within_s: float
    ) -> Answer:
        """Make a call. Raises: EtcdError."""
        stub = self._channel.unary_unary(method.path, method.request.SerializeToString, method.answer.FromString)
        with self.errors():
            return await stub(request, timeout=within_s, metadata=metadata)

    def stream(
        self, method: Method[Request, Answer], metadata: Metadata, within_s: float | None = None
    ) -> grpc.aio.StreamStreamCall[Request, Answer]:
        """Begin a call that goes both ways; use it inside of errors()."""
        stub: grpc.aio.StreamStreamMultiCallable[Request, Answer] = self._channel.stream_stream(
            method.path, method.request.SerializeToString, method.answer.FromString
        )
        return stub(timeout=within_s, metadata=metadata)

    async def exchange(
        self, method: Method[Request, Answer], request: Request, metadata: Metadata, within_s: float
    ) -> Answer:
        """Send one message and take one, of a method that would take more. Raises: EtcdError."""
        call = self.stream(method, metadata, within_s)
        try:
            with self.errors():
                await send(call, request)
                answer = await call.read()
        finally:
            call.cancel()
        if not isinstance(answer, method.answer):
            raise self._ended()
        return answer

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise what goes wrong with a call on this connection as an EtcdError."""
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise translate(error, endpoint=self.endpoint) from None
        except (asyncio.InvalidStateError, grpc.aio.UsageError):  # it is over, or the channel is closed
            raise self._ended() from None
        except asyncio.CancelledError:
            # gRPC says it so when a call is cancelled under whoever waits for it, as by a channel that is closed.
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            raise self._ended() from None

    def _ended(self) -> EtcdError:
        return OutcomeUnknown("the connection to etcd was given up", detail=self.endpoint)


async def send(call: grpc.aio.StreamStreamCall[Request, Answer], request: Request) -> None:
    """Send a message, or raise what the call ended with."""
    # By write alone: an iterator of requests is a task that outlives the call.
    try:
        await call.write(request)
    except asyncio.InvalidStateError:
        await call.read()


def _channel(endpoint: str, access: Access) -> grpc.aio.Channel:
    scheme, _, target = endpoint.partition("://")
    if scheme == "http":
        return grpc.aio.insecure_channel(target, options=OPTIONS)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=_read(access.ca_file),
        private_key=_read(access.key_file),
        certificate_chain=_read(access.cert_file),
    )
    return grpc.aio.secure_channel(target, credentials, options=OPTIONS)


def _read(path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path else None
    except OSError as error:
        raise EtcdRefused("a file of TLS for etcd cannot be read", detail=f"{path}: {error.strerror}") from None
