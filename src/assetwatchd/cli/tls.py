"""TLS of the command line: whom it trusts, what it shows, and in words why a server cannot be called.

gRPC says of most failed handshakes that a socket closed. So a call that found no server is followed by a handshake made
by the library of Python, which knows what was wrong; nothing but the handshake is sent.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

import grpc

from assetwatchd.cli.exit_codes import ExitCode, fail
from assetwatchd.settings.addresses import is_socket, path_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from assetwatchd.cli.target import Target

HANDSHAKE_S = 3.0
"""The command has failed already: why is worth no longer than this."""
NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG"})
"""How OpenSSL takes an answer that is no TLS."""
CERTIFICATE_WANTED = frozenset(
    {"TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_HANDSHAKE_FAILURE", "TLSV1_ALERT_CERTIFICATE_REQUIRED"}
)
"""How a server says that it wants a certificate; one of gRPC says nothing, and closes."""
PERHAPS = "; perhaps it wants a client certificate: --tls-cert and --tls-key"
WRONG_NAME = frozenset({62, 64})
EXPIRED = 10
NOT_YET_VALID = 9
"""X509_V_ERR_… of OpenSSL: of a host's name, of its address, and of the certificate's time."""


def credentials(target: Target) -> grpc.ChannelCredentials:
    """Return what a channel needs; files that cannot be used end the command."""
    _context(target)
    return grpc.ssl_channel_credentials(
        target.tls_ca.read_bytes() if target.tls_ca else system_roots(),
        target.tls_key.read_bytes() if target.tls_key else None,
        target.tls_cert.read_bytes() if target.tls_cert else None,
    )


def system_roots() -> bytes | None:
    """Return the authorities that this machine trusts; None, for those that came with gRPC, when there are none.

    Left to itself gRPC knows those alone. SSL_CERT_FILE names others.
    """
    found = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(map(ssl.DER_cert_to_PEM_cert, found)).encode() or None


def why_not(target: Target) -> str | None:
    """Say what stands between the command and a server that could not be called; None when it is not TLS."""
    try:
        return _of_a_handshake(target) if target.tls else _of_plaintext(target.server)
    except OSError:  # not there at all, or silent: gRPC's own words are as good
        return None


def _of_plaintext(server: str) -> str | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        _shake(context, server, _host(server))
    except ssl.SSLError as error:
        if error.reason in NOT_TLS or isinstance(error, ssl.SSLEOFError):
            return None
    return f"{server} speaks TLS, and was called in the clear: add --tls, or --tls-ca FILE for an authority of your own"


def _of_a_handshake(target: Target) -> str | None:
    shown = target.tls_cert is not None
    try:
        spoke = _shake(_context(target), target.server, _name(target))
    except ssl.SSLCertVerificationError as error:
        return _of_the_certificate(target, error)
    except ssl.SSLError as error:
        if error.reason in NOT_TLS:
            return f"{target.server} does not speak TLS: leave out the options --tls… and the variables ASSETWATCH_TLS…"
        if error.reason not in CERTIFICATE_WANTED or shown:
            return f"TLS with {target.server} failed: {_words(error)}{'' if shown else PERHAPS}"
        spoke = False
    if spoke:
        return None
    if shown:
        wants = "one of an authority it trusts, and not expired"
        return f"{target.server} does not take the certificate of --tls-cert: it wants {wants}"
    return f"{target.server} wants a client certificate: give --tls-cert and --tls-key"


def _of_the_certificate(target: Target, error: ssl.SSLCertVerificationError) -> str:
    its = f"the certificate of {target.server}"
    match error.verify_code:
        case code if code in WRONG_NAME:
            try:
                names = ", ".join(_names(target)) or "no name at all"
            except ssl.SSLCertVerificationError as worse:  # by any name: it has expired, or nobody here trusts it
                return _of_the_certificate(target, worse)
            if is_socket(target.server) and not target.tls_server_name:
                return f"{its} is for {names}, and a socket has no name: give --tls-server-name"
            return f"{its} is not for {_name(target)}, but for {names}: call it so, or give --tls-server-name"
        case code if code in {EXPIRED, NOT_YET_VALID}:
            return (
                f"{its} cannot be trusted: {error.verify_message}; it must be renewed there, unless this clock is wrong"
            )
        case _:
            trusted = f"those of {target.tls_ca}" if target.tls_ca else "those of this machine"
            return (
                f"{its} is of no authority trusted here ({trusted}): {error.verify_message}; give its own with --tls-ca"
            )


def _shake(context: ssl.SSLContext, server: str, name: str) -> bool:
    """Shake hands, and say whether the server spoke then, as one of HTTP/2 does first of all. Raises: OSError."""
    with (
        _connection(server) as connection,
        context.wrap_socket(connection, server_hostname=name) as shaken,
    ):
        # With TLS 1.3 a client's handshake is over before the server has looked at its certificate: only what comes
        # after it tells. A server of HTTP/2 sends its settings first (RFC 9113, 3.4), so a byte means that all is well.
        return shaken.recv(1) != b""


def _connection(server: str) -> socket.socket:
    """Connect to a server. Raises: OSError."""
    if not is_socket(server):
        return socket.create_connection((_host(server), int(server.rpartition(":")[2])), HANDSHAKE_S)
    if (path := path_of(server)) is None:
        raise OSError("it is none of the file system")
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(HANDSHAKE_S)
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def _names(target: Target) -> Iterator[str]:
    """Yield the names and addresses that the certificate is for."""
    context = _context(target)
    context.check_hostname = False
    with (
        _connection(target.server) as connection,
        context.wrap_socket(connection, server_hostname=_name(target)) as shaken,
    ):
        certificate = shaken.getpeercert() or {}
    yield from (str(name[1]) for name in certificate.get("subjectAltName", ()))


def _context(target: Target) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=target.tls_ca)
    except (ssl.SSLError, OSError):
        fail(ExitCode.USAGE, f"--tls-ca: {target.tls_ca} holds no certificates, as PEM")
    if target.tls_cert:
        try:
            context.load_cert_chain(target.tls_cert, target.tls_key, password="")  # not asked for one at a terminal
        except (ssl.SSLError, OSError, ValueError):
            fail(ExitCode.USAGE, "--tls-cert and --tls-key are no certificate and its key, as PEM, without a password")
    context.set_alpn_protocols(["h2"])
    return context


def _name(target: Target) -> str:
    return target.tls_server_name or _host(target.server)


def _host(server: str) -> str:
    return server.rpartition(":")[0].strip("[]")


def _words(error: ssl.SSLError) -> str:
    return (error.reason or "the connection was closed").replace("_", " ").lower()
