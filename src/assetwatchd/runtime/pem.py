"""PEM files of certificates and private keys: whether one can be read, is locked or out of date, in words.

Shared by the server's side of TLS (`rpc/certificates.py`) and those towards upstreams (`upstream/http/tls.py`) and
etcd (`etcd/files.py`), which know what the files are for. Knows no settings. Names that begin with _ are of Python's
inside: what they tell is left out where they are gone.
"""

from __future__ import annotations

import ssl
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OTHER_KEY = frozenset({"KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})
"""How OpenSSL says that a key is another certificate's; the second when it is of another sort, as RSA is."""
LEGACY_CIPHERS = "ALL:!aNULL:!eNULL:@SECLEVEL=0"
"""All that OpenSSL was built with, but for those without encryption or a server's certificate."""
TOO_WEAK = frozenset({"CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "EE_KEY_TOO_SMALL"})
"""What OpenSSL says of certificates that its security level does not take."""
LOCKED = "is locked with a passphrase, which cannot be given; give the key without one, as `openssl pkey` writes it"


def unreadable(path: Path) -> str | None:
    """Say why a file cannot be read; None when it can."""
    try:
        path.read_bytes()
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return None


def is_locked(key: Path) -> bool:
    """Return whether a key file says that its key is encrypted, in either of the forms of PEM. Raises: OSError."""
    return b"ENCRYPTED" in key.read_bytes()


def out_of_date(path: Path) -> str | None:
    """Say that a certificate in a file is not valid now, and until or from when; None when all are."""
    now = time.time()
    for certificate in _certificates(path):
        until, since = (ssl.cert_time_to_seconds(certificate[name]) for name in ("notAfter", "notBefore"))
        if until <= now:
            return f"the certificate expired on {day(until)}, so it is refused; renew it"
        if since > now:
            return f"the certificate is not valid before {day(since)}, so it is refused; compare the clocks"
    return None


def day(moment: float) -> str:
    """Write a time, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment))


def authorities_problem(path: Path) -> str | None:
    """Say why a file is of no use as certificates to trust; None when it is."""
    if problem := unreadable(path):
        return problem
    trial = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        trial.load_verify_locations(path)
    except ssl.SSLError:
        return f"{path} holds no certificates that can be read, as PEM"
    return None if trial.cert_store_stats()["x509"] else f"{path} holds no certificate"


def pair_problems(certificate: Path, key: Path, *, legacy: bool = False) -> Iterator[tuple[str, str]]:
    """Say why two files are no certificate and its key: ("cert" or "key", what is wrong with that file)."""
    if problem := authorities_problem(certificate):
        yield "cert", problem
    if why := unreadable(key):
        yield "key", why
    elif not problem and (unfit := _unfit(certificate, key, legacy=legacy)):
        yield unfit


def _unfit(certificate: Path, key: Path, *, legacy: bool) -> tuple[str, str] | None:
    trial = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if legacy:
        trial.set_ciphers(LEGACY_CIPHERS)
    try:
        trial.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None)
        if reason in OTHER_KEY:
            return "key", f"{key} is not the key of the certificate in {certificate}"
        if reason in TOO_WEAK:
            return "cert", f"{certificate} is too weak for TLS today ({reason}); have another one issued"
        why = LOCKED if is_locked(key) else "holds no private key, as PEM"
        return "key", f"{key} {why}"
    return None


def _certificates(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the first certificate of a file, and those of authorities in it, which alone Python tells of officially."""
    with suppress(AttributeError, OSError, ssl.SSLError):
        yield ssl._ssl._test_decode_cert(str(path))  # type: ignore[attr-defined]  # noqa: SLF001 - see above
    trial = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with suppress(OSError, ssl.SSLError):
        trial.load_verify_locations(path)
    yield from trial.get_ca_certs()
