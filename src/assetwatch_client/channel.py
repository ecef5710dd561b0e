"""The channel for a watch: small windows, so that it shows the present, and a peer that is gone is noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CHANNEL_OPTIONS: Sequence[tuple[str, int]] = (
    # The probe would grow the window to megabytes: a slow reader would then read what is long past.
    ("grpc.http2.bdp_probe", 0),
    # A watch sends nothing, so without pings a peer that is gone, or a gateway that forgot it, is never noticed.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # The timeout above does not bound a ping to a frozen peer; this one does.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),  # else pings end after two without data, and a quiet watch has none
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),  # so a server that is back is found within about a second
)

LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}


def connect(
    target: str,
    credentials: grpc.ChannelCredentials | None = None,
    *,
    options: Iterable[tuple[str, int | str]] = (),
) -> grpc.aio.Channel:
    """Open a channel to HOST:PORT, or to a Unix socket as gRPC names it; without credentials in the clear.

    No proxy is asked for a host that is this one.

    options: channel arguments of gRPC besides CHANNEL_OPTIONS; one of the same name takes its place.
    """
    local = target.rpartition(":")[0] in LOOPBACK or target.startswith(("unix:", "unix-abstract:"))
    arguments = {**dict(CHANNEL_OPTIONS), "grpc.enable_http_proxy": int(not local), **dict(options)}
    given = list(arguments.items())
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=given)
    return grpc.aio.secure_channel(target, credentials, options=given)
