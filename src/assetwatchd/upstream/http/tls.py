"""TLS: files of certificates and keys, checked; the context of calls to one upstream, and what its handshakes showed.

Names that begin with _ are of Python's inside: what they tell is left out of an error where they are gone.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from assetwatchd.model.errors import ConfigError
from assetwatchd.runtime.pem import LEGACY_CIPHERS, authorities_problem, out_of_date, pair_problems

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from assetwatchd.settings.schema import SourceSettings

LEGACY_SERVER_CONNECT = getattr(ssl, "OP_LEGACY_SERVER_CONNECT", 0x4)
"""Take servers that renegotiate as before RFC 5746; Python 3.11 has no name for it."""
HANDSHAKE, SERVER_HELLO, CERTIFICATE_REQUEST = 22, 2, 13
"""A type of content and two of messages in it: RFC 8446, 5.1 and 4."""


class Tls:
    """The TLS side of one upstream. Raises: ConfigError when files that the settings name cannot be used.

    certificate_wanted: the server has asked for a certificate of ours. It may do without, and may not.
    greeted: it has once answered that it speaks a version of TLS that we do.
    """

    def __init__(self, settings: SourceSettings) -> None:
        self.settings = settings
        self.certificate_wanted = False
        self.greeted = False
        if settings.base_url.scheme == "https" or settings.ca_file or settings.tls_cert_file:
            _ = self.context  # at the start, where 20 ms hold up nobody, and files that are of no use are told

    @cached_property
    def context(self) -> ssl.SSLContext:
        """Return the context of all connections; with the system's certificates it takes 20 ms to make, and 1 MB."""
        for problem in problems(self.settings):
            raise ConfigError(problem)
        context = _context(self.settings)
        # Python's errors lack the certificates that a failed handshake has shown. And a server that wants one of ours
        # may just close the connection, as asyncio's do, so its request for one is listened for.
        context.sslobject_class = _Handshake
        with suppress(AttributeError):
            _listen(context, self._heard)
        return context

    def _heard(self, _: object, direction: str, _version: int, content: int, message: int, _data: bytes) -> None:
        if content == HANDSHAKE and direction == "read":
            self.greeted = self.greeted or message == SERVER_HELLO
            self.certificate_wanted = self.certificate_wanted or message == CERTIFICATE_REQUEST


class _Handshake(ssl.SSLObject):
    """One side of a handshake; the error that ends it is given the certificates that the server had shown by then."""

    def do_handshake(self) -> None:
        """Go on with it."""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            vars(error)["shown"] = _shown(self)
            raise


def shown(error: ssl.SSLError) -> list[dict[str, object]]:
    """Return the certificates that a server had shown when a handshake failed, its own first; unverified."""
    found: list[dict[str, object]] = vars(error).get("shown", [])
    return found


def _shown(handshake: ssl.SSLObject) -> list[dict[str, object]]:
    with suppress(AttributeError, ValueError, ssl.SSLError):
        return [certificate.get_info() for certificate in handshake._sslobj.get_unverified_chain() or ()]  # type: ignore[attr-defined]  # noqa: SLF001 - public from 3.13, as bytes alone
    return []


def _listen(context: ssl.SSLContext, heard: object) -> None:
    """Have every message of TLS told, below what Python makes of it: it names each part of each record first."""
    ssl._ssl._SSLContext._msg_callback.__set__(context, heard)  # type: ignore[attr-defined]  # noqa: SLF001 - see above


def _context(settings: SourceSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.ca_file)
    context.set_alpn_protocols(("http/1.1",))
    if settings.tls_legacy:
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.set_ciphers(LEGACY_CIPHERS)
        context.options |= LEGACY_SERVER_CONNECT
    if not settings.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.tls_cert_file:
        # An empty password: without one OpenSSL would ask for that of a locked key at the terminal, and wait.
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file, password="")
    return context


def source_problems(sources: Mapping[str, SourceSettings]) -> Iterator[str]:
    """Say of every file of certificates or keys of these sources that cannot be used why, a line each."""
    for name, source in sources.items():
        yield from (f"sources.{name}.{problem}" for problem in problems(source))


def check(sources: Mapping[str, SourceSettings]) -> None:
    """Raise ConfigError for all of source_problems."""
    if found := list(source_problems(sources)):
        raise ConfigError("\n".join(found))


def warnings(sources: Mapping[str, SourceSettings]) -> Iterator[str]:
    """Say which sources are called with less than TLS promises today."""
    for name, source in sources.items():
        if source.tls_legacy:
            yield f"source {name}: tls_legacy is on: old TLS versions, ciphers and weak certificates are taken"
        if not source.tls_verify:
            yield f"source {name}: tls_verify is off: any certificate is taken, whoever shows it"
        if source.tls_cert_file and (amiss := out_of_date(source.tls_cert_file)):
            yield f"source {name}: tls_cert_file: {amiss}"


def problems(source: SourceSettings) -> Iterator[str]:
    """Say of each file of a source what is wrong with it: the name of the setting, and what to do."""
    if source.ca_file and (problem := authorities_problem(source.ca_file)):
        yield f"ca_file: {problem}"
    if source.tls_cert_file and source.tls_key_file:
        pair = source.tls_cert_file, source.tls_key_file
        for setting, problem in pair_problems(*pair, legacy=source.tls_legacy):
            yield f"tls_{setting}_file: {problem}"
