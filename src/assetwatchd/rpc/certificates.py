"""The server's certificates: reads them, tries them out, and says in words what is wrong with them.

gRPC says no more of bad ones than that it cannot listen, so Python's own TLS looks at them first. Python uses OpenSSL
and gRPC BoringSSL, which takes fewer keys, so a trial with gRPC comes last. What any PEM file may have wrong is in
`runtime/pem.py`.
"""

from __future__ import annotations

import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc

from assetwatchd.model.errors import ConfigError
from assetwatchd.runtime.pem import LOCKED, OTHER_KEY, is_locked, out_of_date, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from assetwatchd.settings.schema import ServerSettings

FILES = ("tls_cert_file", "tls_key_file", "tls_client_ca_file")


def credentials(settings: ServerSettings) -> grpc.ServerCredentials:
    """Return what gRPC serves with. Raises: ConfigError with every problem, a line each."""
    if wrong := list(problems(settings)):
        raise ConfigError("\n".join(wrong))
    return _credentials(settings)


def problems(settings: ServerSettings) -> Iterator[str]:
    """Yield what keeps these files from being served with; nothing where there are none."""
    if settings.tls_cert_file is None:
        return
    files = ((name, path) for name in FILES if (path := getattr(settings, name)) is not None)
    missing = [f"server.{name}: {why}" for name, path in files if (why := unreadable(path))]
    if missing:
        yield from missing
        return
    # gRPC is asked only where Python finds nothing wrong: of bad files it says no more than that it cannot listen.
    wrong = [*_wrong_pair(settings), *_wrong_authority(settings)]
    yield from wrong or _not_for_grpc(settings)


def warnings(settings: ServerSettings) -> Iterator[str]:
    """Say that the certificate is of no use today: gRPC serves with one of any date, and leaves it to each client."""
    if settings.tls_cert_file is not None and (amiss := out_of_date(settings.tls_cert_file)):
        yield f"server.tls_cert_file: {amiss}"


def _wrong_pair(settings: ServerSettings) -> Iterator[str]:
    trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        trial.load_cert_chain(str(settings.tls_cert_file), str(settings.tls_key_file), password="")
    except (ssl.SSLError, ValueError) as error:
        if getattr(error, "reason", None) in OTHER_KEY:
            yield "server: tls_key_file is not the key of the certificate in tls_cert_file"
        elif settings.tls_key_file is not None and is_locked(settings.tls_key_file):
            yield f"server.tls_key_file: {settings.tls_key_file} {LOCKED}"
        else:
            why = getattr(error, "reason", None) or "unreadable"
            yield f"server: tls_cert_file and tls_key_file are no certificate and its key, as PEM in the clear ({why})"


def _wrong_authority(settings: ServerSettings) -> Iterator[str]:
    if settings.tls_client_ca_file is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(settings.tls_client_ca_file)
    except (ssl.SSLError, ValueError):
        yield "server.tls_client_ca_file: holds no certificates, as PEM"


def _not_for_grpc(settings: ServerSettings) -> Iterator[str]:
    """Bind a port with them, and let it go again."""
    trial = grpc.server(ThreadPoolExecutor(1))
    try:
        trial.add_secure_port("127.0.0.1:0", _credentials(settings))
    except RuntimeError:
        yield "server: gRPC cannot serve with these TLS files; give an RSA key, or one of the curve P-256 or P-384"


def _credentials(settings: ServerSettings) -> grpc.ServerCredentials:
    authority = _content(settings.tls_client_ca_file) if settings.tls_client_ca_file else None
    pair = _content(settings.tls_key_file), _content(settings.tls_cert_file)
    return grpc.ssl_server_credentials([pair], root_certificates=authority, require_client_auth=authority is not None)


def _content(path: Path | None) -> bytes:
    return path.read_bytes() if path else b""
