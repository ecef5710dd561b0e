"""Explains in words why a call got no answer: translates what aiohttp and the system raise, and says what to do.

No text has anything in it that an upstream or a proxy wrote, which may be a secret that it was sent.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError

from assetwatchd.model.errors import BadAnswer, Refused, Unreachable, UpstreamError
from assetwatchd.upstream.http import tls_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yarl import URL

    from assetwatchd.upstream.http.proxies import Proxy
    from assetwatchd.upstream.http.tls import Tls

Found = TypeVar("Found", bound=BaseException)
PLAIN_TO_TLS = "plain HTTP was spoken to a TLS port; base_url should begin with https://"
TLS_RECORD = r"b'\x15\x03"
"""How what is no HTTP is quoted when it is an alert of TLS (RFC 8446, 5.1)."""
SECURE = frozenset({"https", "wss"})
CLOSED = "the server closed the connection without an answer"
BROKE_OFF = "the answer broke off"
PHRASES: Mapping[bytes, str] = MappingProxyType(
    {
        b"plain HTTP request was sent to HTTPS port": PLAIN_TO_TLS,  # nginx
        b"Client sent an HTTP request to an HTTPS server": PLAIN_TO_TLS,  # Go
        b"speaking plain HTTP to an SSL-enabled server port": PLAIN_TO_TLS,  # Apache
        b"This combination of host and port requires TLS": PLAIN_TO_TLS,  # Tomcat
        b"No required SSL certificate was sent": tls_errors.WANTED,  # nginx
        b"The SSL certificate error": tls_errors.NOT_TAKEN,  # nginx
    }
)
"""What servers say in a 400 about the connection, not about the request."""
PHRASE_WITHIN = 4096
"""They are on short pages; a long body is not looked through here."""
LIMITS: Mapping[str, str] = MappingProxyType(
    {"Got more than": "; raise header_bytes_max", "Too many headers": "; raise headers_max"}
)
"""What to do about what aiohttp says, by how it begins."""
CODINGS = frozenset({"br", "compress", "deflate", "gzip", "lz4", "lzma", "x-compress", "x-gzip", "xz", "zstd"})
"""Names of Content-Encoding that make of a text something else. Other names stand before plain text too, as utf-8."""
UNDECODED = "Can not decode content-encoding"
"""What aiohttp says of encodings, where it says more than a name."""
ENCODED = "; let the server, or what stands before it, send what is asked for: gzip, deflate or nothing"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call: where it went, by which proxy, and whether that server had ever answered before."""

    url: URL
    tls: Tls
    proxy: Proxy | None = None
    answered: bool = False

    @property
    def where(self) -> str:
        """The server, as host and port."""
        return f"{self.url.host_subcomponent}:{self.url.port}"

    @property
    def secure(self) -> bool:
        """Tell whether there is TLS on the way, be it with the proxy alone."""
        return bool(SECURE & {self.url.scheme, self.proxy.url.scheme if self.proxy else ""})

    @property
    def way(self) -> str:
        """Return what to add to an error about the proxy; empty without one."""
        return f" (through the proxy {self.proxy})" if self.proxy else ""

    @property
    def perhaps(self) -> str:
        """Return what to add about a proxy that reads the call (http://), and so may have answered by itself."""
        read = self.proxy and self.url.scheme == "http"
        return f" (through the proxy {self.proxy}, which may have answered by itself)" if read else ""


def explain(error: Exception, attempt: Attempt) -> UpstreamError:
    """Return the error that says why a call came to no answer."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return not_connected(error.status, attempt)
    unreadable = _unreadable(error)
    if unreadable is not None:
        return type(unreadable)(f"{unreadable}{attempt.way}")
    return Unreachable(f"{_text(error, attempt)}{attempt.way}")


def not_connected(status: int, attempt: Attempt) -> UpstreamError:
    """Return what a proxy's answer means that is no way to the server."""
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        known = attempt.proxy is not None and attempt.proxy.credentials
        what = "does not take our credentials" if known else "wants credentials"
        return Refused(f"the proxy {attempt.proxy} {what} (HTTP 407); see username and password of `proxy`")
    redirect = "; a redirect is not followed" if 300 <= status < 400 else ""  # noqa: PLR2004 - the status says itself
    said = f"HTTP {status}{_phrase(status)}{redirect}"
    return Unreachable(f"the proxy {attempt.proxy} does not connect to {attempt.where}: {said}")


def check_answer(status: int, body: bytes, attempt: Attempt) -> None:
    """Raise for an answer that is of the connection: of a proxy, or of a server that was spoken to in a wrong way."""
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED and attempt.perhaps:
        raise not_connected(status, attempt)
    if status == HTTPStatus.BAD_REQUEST:
        for phrase, text in PHRASES.items():
            if phrase in body[:PHRASE_WITHIN]:
                raise Unreachable(f"{text}{attempt.way}")


def check_encoding(response: aiohttp.ClientResponse) -> None:
    """Raise BadAnswer for a body that is compressed in a way that was not asked for, and which aiohttp leaves as is."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if not encoding or encoding in response.request_info.headers.get("Accept-Encoding", "").split(", "):
        return
    if found := CODINGS.intersection(re.split(r"[\s,]+", encoding)):
        raise BadAnswer(f"the answer is encoded as {', '.join(sorted(found))}, unasked{ENCODED}")


def _phrase(status: int) -> str:
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""


def _unreadable(error: Exception) -> UpstreamError | None:
    """Return what is wrong with an answer that came; None when the error is another."""
    cause = _find(error, HttpProcessingError)
    if cause is None:
        return Unreachable(BROKE_OFF) if isinstance(error, aiohttp.ClientPayloadError) else None
    words = _words(cause.message)
    if _find(error, ContentEncodingError) or words.startswith(UNDECODED):
        return BadAnswer(f"{UNDECODED}: {words.removeprefix(UNDECODED).lstrip(': ')}{ENCODED}")
    if isinstance(error, aiohttp.ClientPayloadError):
        return Unreachable(BROKE_OFF)
    if TLS_RECORD in cause.message:
        return Unreachable(PLAIN_TO_TLS)
    advice = next((advice for start, advice in LIMITS.items() if words.startswith(start)), None)
    if advice:
        return BadAnswer(f"the answer's headers are beyond limits: {words}{advice}")
    return Unreachable(f"the answer is not HTTP: {words or 'it cannot be read'}")


def _words(message: str) -> str:
    """Return what aiohttp says on one line, without what it quotes of the answer, and what it would have installed."""
    told = re.sub(r"b?(['\"]).*\1|Please install.*|\^", " ", message, flags=re.DOTALL)
    return re.sub(r"[\s:.]+$", "", " ".join(told.split()))


def _text(error: Exception, attempt: Attempt) -> str:
    if handshake := _find(error, ssl.SSLError):
        host, port = _place(error, attempt)
        return f"TLS with {host}:{port}: {tls_errors.explain(handshake, host, attempt.tls)}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return _not_found(error, attempt)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _not_reached(error, attempt)
    if isinstance(error, ConnectionError | aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
        return _lost(error, attempt)
    if isinstance(error, aiohttp.ClientError) and str(error):
        return f"the call failed: {error}"
    return BROKE_OFF


def _find(error: BaseException | None, kind: type[Found]) -> Found | None:
    """Return the first of that kind among what an error came from, below aiohttp's own, which pass for any."""
    while error is not None and (isinstance(error, aiohttp.ClientError) or not isinstance(error, kind)):
        error = error.__cause__
    return error


def _place(error: Exception, attempt: Attempt) -> tuple[str, int | None]:
    """Return whom a connection was tried to, which may be the proxy."""
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientConnectorCertificateError):
        return error.host, error.port
    return attempt.url.host or "", attempt.url.port


def _not_found(error: aiohttp.ClientConnectorDNSError, attempt: Attempt) -> str:
    of_proxy = attempt.proxy is not None and error.host == attempt.proxy.url.raw_host
    later = error.os_error.errno == socket.EAI_AGAIN
    what = "cannot be looked up now" if later else "is not found"
    return f"the name {'of the proxy ' if of_proxy else ''}{error.host} {what} ({_why(error.os_error)})"


def _not_reached(error: aiohttp.ClientConnectorError, attempt: Attempt) -> str:
    host, port = _place(error, attempt)
    to_proxy = isinstance(error, aiohttp.ClientProxyConnectionError)
    secure = attempt.proxy.url.scheme == "https" if attempt.proxy and to_proxy else attempt.url.scheme in SECURE
    if secure and isinstance(error.os_error, ConnectionResetError | ConnectionAbortedError | BrokenPipeError):
        return f"TLS with {host}:{port}: {tls_errors.broken_off(attempt.tls)}"
    return f"cannot connect to {'the proxy ' if to_proxy else ''}{host}:{port}: {_why(error.os_error)}"


def _lost(error: Exception, attempt: Attempt) -> str:
    """Say how a connection ended that there was; before the first answer there may be more to say."""
    reset = isinstance(error, aiohttp.ClientOSError) and not isinstance(error, aiohttp.ServerDisconnectedError)
    ended = "the connection was reset" if reset else CLOSED
    if attempt.answered:
        return ended
    if attempt.url.scheme not in SECURE:
        return f"{ended}; perhaps {PLAIN_TO_TLS}"
    return tls_errors.broken_off(attempt.tls) if attempt.tls.certificate_wanted else ended


def _why(error: OSError) -> str:
    """Return what the system says of an error; of several addresses that were tried it is in the text alone."""
    if error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    return error.strerror or str(error) or "the connection was reset"
