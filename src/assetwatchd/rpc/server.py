"""The grpc.aio server: options, handlers, credentials and address. Knows nothing of what the servicers do."""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from assetwatchd.model.errors import ConfigError
from assetwatchd.rpc import certificates, reflection, unix_sockets
from assetwatchd.rpc.handlers import handlers
from assetwatchd.rpc.names import ASSET_STATUS, HEALTH, PIECES_ASSETS, REPLICA_KEY, SERVER, SOURCE
from assetwatchd.rpc.receiving import Receiving
from assetwatchd.rpc.requests import Requests
from assetwatchd.rpc.telemetry import Tracing
from assetwatchd.settings.addresses import FORMS, is_socket

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from assetwatchd.rpc.health import Health
    from assetwatchd.rpc.pieces.service import PiecesAssetsService
    from assetwatchd.rpc.server_service import ServerService
    from assetwatchd.rpc.service import AssetStatusService, SourceService
    from assetwatchd.settings.schema import ServerSettings

FOR_EVER_MS = 2**31 - 1
"""gRPC takes no larger number, and this one for ever."""
KEEPALIVE_S = 20
PING_TIMEOUT_S = 10
"""How long a peer may take to answer a ping. keepalive_timeout alone does not bound it: ping_timeout does."""
CLIENT_PING_MIN_S = 5
"""Clients may ping this often; a client that asks for 10 s must never be cut off."""

CONNECTION_GRACE_S = 3900
"""Calls may go on for this long on a connection that has reached its age: longer than any wait or watch by itself. Only
streams whose client takes nothing more, not even their status, are cut by it."""


CONNECTION_IDLE_S = 300
"""A connection without a call for so long is closed; a client connects anew, unasked, when it has something to say."""
HANDSHAKE_S = 10
"""A client that has not spoken TLS and HTTP/2, and acknowledged our settings, by then is disconnected."""
METADATA_WIRE_BYTES_MAX = 128 * 1024
"""Beyond this gRPC itself ends a call while its headers come in. Clients are told, and some send no larger ones and say
INTERNAL by themselves; so it is well above METADATA_BYTES_MAX, for which there is an error of ours."""
UNREAD_BYTES_MAX = 16 * 1024
"""What a client may send of a request before it is read, and what it may send on a stream after that: it is never read.
gRPC has 4 MiB a stream. A larger request takes one more trip to the client and back."""
CALLS_BESIDE_STREAMS = 100
"""Calls on one connection beside as many watches as its address may have. Clients know the sum and wait in silence
beyond it; a watch too many shall end with TOO_MANY_STREAMS. A call reset by its client counts until it is gone."""
CONNECTIONS_BESIDE_STREAMS = 1000
"""Connections beside those of as many watches as there may be, each with its own. More are closed at once."""


def options(settings: ServerSettings, connections_max: int | None = None) -> list[tuple[str, int]]:
    """Return the arguments of gRPC core; without so_reuseport a second server on the port fails at its start.

    connections_max: no more than these, though there may be as many as there may be watches and some more.
    """
    connections = settings.streams_max + CONNECTIONS_BESIDE_STREAMS
    return [
        # gRPC's default lets a second server bind the same port, without an error, and take part of the connections.
        ("grpc.so_reuseport", 0),
        # All three: with keepalive alone the ping to a frozen peer is given up after 60 s, whatever the timeout says.
        ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
        ("grpc.keepalive_timeout_ms", PING_TIMEOUT_S * 1000),
        ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_S * 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", CLIENT_PING_MIN_S * 1000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", CLIENT_PING_MIN_S * 1000),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_S * 1000),
        ("grpc.http2.settings_timeout", HANDSHAKE_S * 1000),
        ("grpc.max_connection_idle_ms", CONNECTION_IDLE_S * 1000),
        ("grpc.max_connection_age_ms", _ms(settings.stream_age_s)),
        ("grpc.max_connection_age_grace_ms", _ms(max(CONNECTION_GRACE_S, 2 * settings.stream_age_s))),
        ("grpc.max_allowed_incoming_connections", min(connections, connections_max or connections)),
        ("grpc.max_concurrent_streams", settings.streams_per_peer_max + CALLS_BESIDE_STREAMS),
        ("grpc.server.max_pending_requests", settings.streams_max + 1000),
        ("grpc.server.max_pending_requests_hard_limit", settings.streams_max + 2000),
        ("grpc.max_metadata_size", METADATA_WIRE_BYTES_MAX),  # from here on refused at random,
        ("grpc.absolute_max_metadata_size", METADATA_WIRE_BYTES_MAX),  # and from here on for certain
        ("grpc.http2.lookahead_bytes", UNREAD_BYTES_MAX),
        ("grpc.http2.bdp_probe", 0),  # else the line above is only what it begins with
        ("grpc.max_receive_message_length", settings.message_bytes_max),
    ]


def _ms(seconds: float) -> int:
    return min(int(seconds * 1000), FOR_EVER_MS)


class Servicers(NamedTuple):
    """What serves the calls, one a service."""

    asset_status: AssetStatusService
    sources: SourceService
    server: ServerService
    pieces_assets: PiecesAssetsService
    health: Health


def build(
    settings: ServerSettings, servicers: Servicers, *, replica: str, connections_max: int
) -> tuple[grpc.aio.Server, str]:
    """Return a server that is bound but not started, and the address it is bound to.

    replica: each call ends with it. connections_max: so many there are files for.
    Raises: ConfigError when the address cannot be had or a certificate cannot be read.
    """
    interceptors = [Receiving(settings.request_s, ((REPLICA_KEY, replica),)), Tracing()]
    server = grpc.aio.server(interceptors=interceptors, options=options(settings, connections_max))
    calm_pollers()  # after the server is made, which starts the polling thread
    quieten()
    names: Sequence[Any] = (ASSET_STATUS, SOURCE, SERVER, PIECES_ASSETS, HEALTH)  # the published types are two
    services = dict(zip(names, servicers, strict=True))
    requests = Requests()
    server.add_generic_rpc_handlers([handlers(service, servicer, requests) for service, servicer in services.items()])
    reflection.add(server, [service.full_name for service in services], requests)
    return server, _bind(server, settings)


def quieten() -> None:
    """Have gRPC not log, as an error with its stack, that a client was gone before it could be answered."""
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_of_ours)


def _is_of_ours(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], grpc.aio.InternalError))


def pollers() -> list[int]:
    """Return the ids of gRPC's polling threads, of which the first server or channel begins one."""
    threads = (thread for thread in threading.enumerate() if "_poll_wrapper" in thread.name)
    return [thread.native_id for thread in threads if thread.native_id is not None]


def calm_pollers() -> None:
    """Let gRPC's polling thread run when the thread that serves waits, not in between for each message it has sent.

    On one core that is a switch to and fro for nearly every message, a tenth of what it costs. Linux alone has the
    policy; where there is none, it may not be set, or another was chosen, all stays as it is.
    """
    if sys.platform == "linux":
        for poller in pollers():
            with suppress(OSError):
                if os.sched_getscheduler(poller) == os.SCHED_OTHER:
                    os.sched_setscheduler(poller, os.SCHED_BATCH, os.sched_param(0))


def problems(settings: ServerSettings) -> Iterator[str]:
    """Yield what keeps a server from being built with these settings, now or in a moment when the address is free."""
    yield from certificates.problems(settings)
    try:
        _try_out(settings, taken=True)
    except ConfigError as error:
        yield str(error)


def _bind(server: grpc.aio.Server, settings: ServerSettings) -> str:
    _try_out(settings)
    credentials = certificates.credentials(settings) if settings.tls_cert_file else None
    try:
        port = (
            server.add_secure_port(settings.listen, credentials)
            if credentials
            else server.add_insecure_port(settings.listen)
        )
    except RuntimeError as error:
        raise _cannot_listen(settings, "gRPC does not say why") from error
    if is_socket(settings.listen):
        unix_sockets.open_to_group(settings.listen)
        return settings.listen
    return f"{settings.listen.rpartition(':')[0]}:{port}"


def _try_out(settings: ServerSettings, *, taken: bool = False) -> None:
    """See that an address can be had; gRPC would write a line of its own, and not say why. taken: it may be in use.

    Raises: ConfigError.
    """
    if not is_socket(settings.listen):
        host, _, port = settings.listen.rpartition(":")
        _try_port(settings, host, int(port), taken=taken)
    elif (why := next(unix_sockets.wrong(settings.listen, taken=taken), None)) is not None:
        raise _cannot_listen(settings, why)


def _try_port(settings: ServerSettings, host: str, port: int, *, taken: bool) -> None:
    """Bind a port and let it go again."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise _cannot_listen(settings, getattr(error, "strerror", None) or "no such host") from error
    failures = [failure for family, *_, address in found if (failure := _unbindable(family, address)) is not None]
    if taken:
        failures = [failure for failure in failures if failure.errno != errno.EADDRINUSE]
    if len(failures) == len(found):
        raise _cannot_listen(settings, failures[0].strerror) from failures[0]


def _unbindable(family: socket.AddressFamily, address: str | tuple[object, ...]) -> OSError | None:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does: a port just left is free
            trial.bind(address)
            trial.listen()
    except OSError as error:
        return error
    return None


def _cannot_listen(settings: ServerSettings, why: str | None) -> ConfigError:
    remedy = f"another path ({FORMS})" if is_socket(settings.listen) else "a HOST:PORT of this machine that is free"
    return ConfigError(f"server.listen: cannot listen on {settings.listen}: {why}; give {remedy}")
