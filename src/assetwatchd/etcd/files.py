"""The files of TLS that a store of kind etcd names, looked at before anybody is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assetwatchd.runtime.pem import authorities_problem, out_of_date, pair_problems

if TYPE_CHECKING:
    from collections.abc import Iterator

    from assetwatchd.settings.schema import EtcdStoreSettings


def problems(settings: EtcdStoreSettings) -> Iterator[str]:
    """Yield what keeps these files from being used, a line each."""
    if settings.tls_ca_file and (problem := authorities_problem(settings.tls_ca_file)):
        yield f"store.tls_ca_file: {problem}"
    if settings.tls_cert_file and settings.tls_key_file:
        for which, problem in pair_problems(settings.tls_cert_file, settings.tls_key_file):
            yield f"store.tls_{which}_file: {problem}"
    for name in ("password_file", "peer_token_file"):
        if (path := getattr(settings, name)) and not path.read_bytes().strip():
            yield f"store.{name}: {path} is empty"


def warnings(settings: EtcdStoreSettings) -> Iterator[str]:
    """Yield what a start says of files that it takes."""
    if settings.tls_cert_file and (amiss := out_of_date(settings.tls_cert_file)):
        yield f"store.tls_cert_file: {amiss}"
