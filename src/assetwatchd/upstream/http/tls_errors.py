"""Explains in words why TLS failed: what OpenSSL says of a certificate or a handshake, and what to do about it."""

from __future__ import annotations

import re
import ssl
import time
from types import MappingProxyType
from typing import TYPE_CHECKING

from assetwatchd.runtime.pem import TOO_WEAK, day
from assetwatchd.upstream.http.tls import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from assetwatchd.upstream.http.tls import Tls

    Certificate = Mapping[str, Any]

GIVE_ONE = "give tls_cert_file and tls_key_file"
WANTED = f"the server wants a client certificate; {GIVE_ONE}"
WANTED_PERHAPS = (
    f"the server wants a client certificate, it seems: it asked for one, and closed the connection; {GIVE_ONE}"
)
NOT_TAKEN = "the server does not take our certificate of tls_cert_file"
NO_TLS = "TLS was spoken to a port that answers without TLS; base_url should begin with http://, or have another port"
BROKEN_OFF = "the server closed the connection during the TLS handshake"
OLD_PERHAPS = "; if it is an old one, which knows no version of TLS that is offered, tls_legacy: true helps"
OLD = "no TLS version or cipher in common; tls_legacy: true takes older ones"
WEAK = "is too weak for TLS today; tls_legacy: true takes it"

REASONS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "HTTPS_PROXY_REQUEST",
                "HTTP_REQUEST",
                "PACKET_LENGTH_TOO_LONG",
                "RECORD_LAYER_FAILURE",
                "UNKNOWN_PROTOCOL",
                "WRONG_VERSION_NUMBER",
            ),
            NO_TLS,
        ),
        **dict.fromkeys(
            (
                "NO_CIPHERS_AVAILABLE",
                "NO_PROTOCOLS_AVAILABLE",
                "NO_SHARED_CIPHER",
                "SSLV3_ALERT_HANDSHAKE_FAILURE",
                "TLSV1_ALERT_INSUFFICIENT_SECURITY",
                "TLSV1_ALERT_PROTOCOL_VERSION",
                "UNSUPPORTED_PROTOCOL",
                "VERSION_TOO_LOW",
                "WRONG_SSL_VERSION",
            ),
            OLD,
        ),
        **dict.fromkeys(TOO_WEAK, f"the certificate {WEAK}"),
        "DH_KEY_TOO_SMALL": f"the server's Diffie-Hellman key {WEAK}",
        "LEGACY_SIGALG_DISALLOWED_OR_UNSUPPORTED": f"the server's signature {WEAK}",
        "WRONG_SIGNATURE_TYPE": f"the server's signature {WEAK}",
        "UNSAFE_LEGACY_RENEGOTIATION_DISABLED": f"the server's way to renegotiate {WEAK}",
        "TLSV1_ALERT_UNRECOGNIZED_NAME": "the server knows no host of that name; correct base_url",
        "TLSV1_UNRECOGNIZED_NAME": "the server knows no host of that name; correct base_url",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED": WANTED,
        "TLSV1_ALERT_CERTIFICATE_REQUIRED": WANTED,
    }
)
"""What OpenSSL's names for an end of a handshake mean; one that is not here is told as it is."""
OF_OUR_CERTIFICATE = frozenset(
    {
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "TLSV1_ALERT_ACCESS_DENIED",
        "TLSV1_ALERT_CERTIFICATE_REQUIRED",
        "TLSV1_ALERT_DECRYPT_ERROR",
        "TLSV1_ALERT_UNKNOWN_CA",
    }
)
"""Alerts of a server that asked for a certificate: it got none, or does not take the one it got."""
NAMES_MAX, NAME_LENGTH_MAX = 5, 80
"""Of the names in a certificate that an error tells; it may have thousands, and be anybody's."""


def explain(error: ssl.SSLError, host: str, tls: Tls) -> str:
    """Say why TLS with a host failed, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _of_certificate(error, host, tls)
    reason = error.reason or ""
    if reason in OF_OUR_CERTIFICATE and tls.certificate_wanted:
        return f"{NOT_TAKEN} ({_plain(reason)})" if tls.settings.tls_cert_file else WANTED
    if reason == "UNEXPECTED_EOF_WHILE_READING":
        return f"the server closed the connection in the middle of TLS{_old_perhaps(tls)}"
    if told := REASONS.get(reason):
        return told
    return f"TLS failed: {_plain(reason) or 'OpenSSL does not say why'}{_old_perhaps(tls)}"


def broken_off(tls: Tls) -> str:
    """Say why a server ended a connection over which it has never answered."""
    if not tls.certificate_wanted:
        return f"{BROKEN_OFF}{_old_perhaps(tls)}"
    return f"{NOT_TAKEN}, it seems: it closed the connection" if tls.settings.tls_cert_file else WANTED_PERHAPS


def _old_perhaps(tls: Tls) -> str:
    """Return what to add where a server ended a handshake that it had said nothing in, as old ones may."""
    return "" if tls.greeted or tls.settings.tls_legacy else OLD_PERHAPS


def _plain(reason: str) -> str:
    """Make a name of OpenSSL's readable: SSLV3_ALERT_BAD_CERTIFICATE is "alert bad certificate"."""
    return re.sub(r"^(SSLV3|TLSV1|TLSV13)_", "", reason).replace("_", " ").lower()


def _of_certificate(error: ssl.SSLCertVerificationError, host: str, tls: Tls) -> str:
    say = BY_CODE.get(error.verify_code)
    told = error.verify_message.rstrip(".").lower() or "it cannot be verified"
    return say(shown(error), host, tls) if say else f"the server's certificate is not taken: {told}"


def _expired(chain: Sequence[Certificate], _host: str, _tls: Tls) -> str:
    gone = [when for certificate in chain if (when := _time(certificate, "notAfter")) and when <= time.time()]
    return f"certificate expired{_on(gone)}; renew it at the server"


def _not_yet(chain: Sequence[Certificate], _host: str, _tls: Tls) -> str:
    coming = [when for certificate in chain if (when := _time(certificate, "notBefore")) and when > time.time()]
    return f"certificate is not valid before{_on(coming, '') or ' a time to come'}; compare the clocks"


def _other_host(chain: Sequence[Certificate], host: str, _tls: Tls) -> str:
    return f"host name does not match: the certificate is not for {host}, but for {', '.join(_names(chain)) or 'none'}"


def _self_signed(_chain: Sequence[Certificate], _host: str, tls: Tls) -> str:
    return f"certificate is self-signed, and {_trust(tls)}; give it as ca_file if it is the right one"


def _unknown(chain: Sequence[Certificate], _host: str, tls: Tls) -> str:
    issuer = _name(chain[-1].get("issuer", ())) if chain else ""
    return (
        f"certificate is of an unknown authority{f' ({issuer})' if issuer else ''}: {_trust(tls)}; give the "
        "authority's certificate as ca_file, and let the server send those in between"
    )


def _weak(_chain: Sequence[Certificate], _host: str, _tls: Tls) -> str:
    return f"the certificate {WEAK}"


BY_CODE: Mapping[int, Callable[[Sequence[Certificate], str, Tls], str]] = MappingProxyType(
    {
        2: _unknown,
        9: _not_yet,
        10: _expired,
        18: _self_signed,
        19: _unknown,
        20: _unknown,
        21: _unknown,
        62: _other_host,
        64: _other_host,
        66: _weak,
        67: _weak,
        68: _weak,
    }
)
"""What OpenSSL found wrong with a certificate: X509_V_ERR_* of its x509_vfy.h."""


def _trust(tls: Tls) -> str:
    return f"it is not in ca_file {tls.settings.ca_file}" if tls.settings.ca_file else "this machine does not trust it"


def _on(times: list[float], word: str = " on") -> str:
    return f"{word} {day(times[0])}" if times else ""


def _time(certificate: Certificate, name: str) -> float | None:
    try:
        return float(ssl.cert_time_to_seconds(certificate[name]))
    except (KeyError, ValueError):
        return None


def _names(chain: Sequence[Certificate]) -> Iterator[str]:
    """Yield what a certificate says it is for, as far as that is what names are made of."""
    names = [str(name) for _, name in (chain[0].get("subjectAltName", ()) if chain else ())]
    yield from [name[:NAME_LENGTH_MAX] for name in names if re.fullmatch(r"[\w.*:-]+", name)][:NAMES_MAX]
    if len(names) > NAMES_MAX:
        yield f"{len(names) - NAMES_MAX} more"


def _name(distinguished: Iterable[Iterable[tuple[str, object]]]) -> str:
    """Return the name of a subject or an issuer: the common one, else that of its organisation."""
    parts = {key: str(value) for group in distinguished for key, value in group}
    name = parts.get("commonName") or parts.get("organizationName") or ""
    return re.sub(r"[^\w .,:()&*@+-]", "?", name)[:NAME_LENGTH_MAX]
