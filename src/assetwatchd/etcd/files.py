"""The files that a store of kind etcd names, looked at before anybody is called."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from assetwatchd.runtime.pem import authorities_problem, out_of_date, pair_problems, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from assetwatchd.settings.schema import EtcdStoreSettings


SHARED = r"[!-~]{16,}"
SHARED_WORDS = "one line of 16 visible characters at least, such as `openssl rand -hex 32` writes"
"""A shorter secret of replicas may be found by trying."""


def problems(settings: EtcdStoreSettings) -> Iterator[str]:
    """Yield what keeps these files from being used, a line each."""
    if settings.tls_ca_file and (problem := authorities_problem(settings.tls_ca_file)):
        yield f"store.tls_ca_file: {problem}"
    if settings.tls_cert_file and settings.tls_key_file:
        for which, problem in pair_problems(settings.tls_cert_file, settings.tls_key_file):
            yield f"store.tls_{which}_file: {problem}"
    if settings.password_file and (problem := _secret_problem(settings.password_file, r"(?s).+", "a password")):
        yield f"store.password_file: {problem}"
    if settings.peer_token_file and (problem := _secret_problem(settings.peer_token_file, SHARED, SHARED_WORDS)):
        yield f"store.peer_token_file: {problem}"


def warnings(settings: EtcdStoreSettings) -> Iterator[str]:
    """Yield what a start says of files that it takes."""
    if settings.tls_cert_file and (amiss := out_of_date(settings.tls_cert_file)):
        yield f"store.tls_cert_file: {amiss}"


def _secret_problem(path: Path, pattern: str, wanted: str) -> str | None:
    """Say why a file does not hold what is wanted; None when it does."""
    if why := unreadable(path):
        return why
    found = re.fullmatch(pattern, path.read_text("utf-8", "replace").strip())
    return None if found else f"{path} should hold {wanted}"
