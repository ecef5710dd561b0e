"""How replicas know each other: by certificates, shown both ways, and by a secret where one is given."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, NamedTuple

import grpc

from assetwatchd.etcd.files import problems
from assetwatchd.model.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from assetwatchd.settings.schema import EtcdStoreSettings

Metadata = tuple[tuple[str, str | bytes], ...]
HEADER = "authorization"


class Access(NamedTuple):
    """What is shown to other replicas, and asked of them; the files are read when this is made."""

    server: grpc.ServerCredentials | None
    channel: grpc.ChannelCredentials | None
    token: str

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Access(tls={self.channel is not None})"

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
    """Read the files. Raises: ConfigError with every problem, a line each."""
    if wrong := list(problems(settings)):
        raise ConfigError("\n".join(wrong))
    token = "" if settings.peer_token_file is None else settings.peer_token_file.read_text("utf-8").strip()
    if not settings.tls:
        return Access(None, None, token)
    authority, certificate, key = map(_content, (settings.tls_ca_file, settings.tls_cert_file, settings.tls_key_file))
    server = grpc.ssl_server_credentials([(key, certificate)], root_certificates=authority, require_client_auth=True)
    return Access(server, grpc.ssl_channel_credentials(authority, key, certificate), token)


def _content(path: Path | None) -> bytes:
    return path.read_bytes() if path else b""
