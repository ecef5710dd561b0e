"""How replicas know each other: by certificates, shown both ways, and by a secret where one is given."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, NamedTuple

import grpc

from assetwatchd.model.errors import ConfigError
from assetwatchd.runtime.pem import unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from assetwatchd.settings.schema import EtcdStoreSettings

Metadata = tuple[tuple[str, str | bytes], ...]
HEADER = "authorization"
TOKEN_BYTES_MIN = 16
"""A shorter secret may be found by trying."""


class Access(NamedTuple):
    """What is shown to other replicas, and asked of them; the files are read when this is made."""

    server: grpc.ServerCredentials | None
    channel: grpc.ChannelCredentials | None
    token: str

    @property
    def metadata(self) -> Metadata:
        """What goes with each call."""
        return ((HEADER, f"Bearer {self.token}"),) if self.token else ()

    def admits(self, metadata: Iterable[tuple[str, str | bytes]]) -> bool:
        """Whether who calls knows the secret, if there is one; certificates were looked at before."""
        if not self.token:
            return True
        given = next((value for name, value in metadata if name == HEADER), "")
        said = given if isinstance(given, bytes) else given.encode(errors="replace")
        return hmac.compare_digest(said, f"Bearer {self.token}".encode())


def access(settings: EtcdStoreSettings) -> Access:
    """Read the files. Raises: ConfigError."""
    token = "" if settings.peer_token_file is None else _token(settings.peer_token_file)
    if not settings.tls:
        return Access(None, None, token)
    authority = _content("tls_ca_file", settings.tls_ca_file)
    certificate = _content("tls_cert_file", settings.tls_cert_file)
    key = _content("tls_key_file", settings.tls_key_file)
    server = grpc.ssl_server_credentials([(key, certificate)], root_certificates=authority, require_client_auth=True)
    return Access(server, grpc.ssl_channel_credentials(authority, key, certificate), token)


def _token(path: Path) -> str:
    token = _content("peer_token_file", path).decode("ascii", "replace").strip()
    if len(token) < TOKEN_BYTES_MIN or not (token.isascii() and token.isprintable()):
        raise ConfigError(
            f"store.peer_token_file: {path} should hold one line of {TOKEN_BYTES_MIN} visible characters at least,"
            " such as `openssl rand -hex 32` writes"
        )
    return token


def _content(name: str, path: Path | None) -> bytes:
    if path is None:
        raise ConfigError(f"store.{name} is missing")
    if (why := unreadable(path)) is not None:
        raise ConfigError(f"store.{name}: {why}")
    return path.read_bytes()
