"""Settings of a store of kind etcd: what is needed, what is refused, and that each problem says what to do."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from assetwatchd.model.errors import ConfigError
from assetwatchd.settings.load import load, plain
from assetwatchd.settings.schema import EtcdStoreSettings, Settings

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit

STORE = TypeAdapter[EtcdStoreSettings](EtcdStoreSettings)
LOCAL = {"kind": "etcd", "endpoints": ["http://127.0.0.1:2379"], "peer_token_file": "/token"}
TLS = {"tls_ca_file": "/ca", "tls_cert_file": "/cert", "tls_key_file": "/key"}
REMOTE = {
    "kind": "etcd",
    "endpoints": ["https://etcd-0.etcd:2379", "https://etcd-1.etcd:2379"],
    "peer_listen": "0.0.0.0:50052",
    "peer_address": "assetwatch-0.assetwatch:50052",
    **TLS,
}


def store(**given: object) -> EtcdStoreSettings:
    return STORE.validate_python(given)


def test_the_least_that_is_needed() -> None:
    """On one machine the endpoints and a secret of all replicas; on several, certificates and an address."""
    local = store(**LOCAL)
    assert (local.prefix, local.lease_s, local.cut_off_s, local.compact) == ("/assetwatch/", 5, 3, False)
    assert (local.replica, local.peer_listen, local.peer_address, local.tls) == (None, "127.0.0.1:50052", None, False)
    assert store(**REMOTE).tls
    with pytest.raises(ValidationError, match="endpoints"):
        store(kind="etcd")


@pytest.mark.parametrize(
    ("given", "wrong", "told"),
    [
        (LOCAL, {"endpoints": []}, "at least 1"),
        (LOCAL, {"endpoints": ["127.0.0.1:2379"]}, "endpoints.0"),
        (LOCAL, {"endpoints": ["http://127.0.0.1"]}, "endpoints.0"),
        (LOCAL, {"endpoints": ["http://user:secret@127.0.0.1:2379"]}, "endpoints.0"),
        (LOCAL, {"endpoints": ["http://127.0.0.1:99999"]}, "a port is a number up to 65535"),
        (LOCAL, {"endpoints": ["http://127.0.0.1:1", "https://127.0.0.1:2"]}, "all begin with https://, or all with"),
        (LOCAL, {"prefix": "assetwatch/"}, "prefix"),
        (LOCAL, {"prefix": "/assetwatch"}, "prefix"),
        (LOCAL, {"prefix": "/"}, "prefix"),
        (LOCAL, {"prefix": "/a//"}, "prefix"),
        (LOCAL, {"prefix": "/a b/"}, "prefix"),
        (LOCAL, {"username": "app"}, "both username and password_file"),
        (LOCAL, {"password_file": "/p"}, "both username and password_file"),
        (LOCAL, {"tls_cert_file": "/c"}, "both tls_cert_file and tls_key_file"),
        (LOCAL, {"peer_token_file": None}, "give peer_token_file"),
        (LOCAL, {"peer_listen": "10.0.0.1:50052"}, "replicas on several machines need tls_ca_file"),
        (LOCAL, {"peer_address": "other:50052"}, "replicas on several machines need tls_ca_file"),
        (LOCAL, {"peer_listen": "0.0.0.0:1", "peer_address": "127.0.0.1:1"}, "replicas on several machines need"),
        (REMOTE, {"peer_address": None}, "peer_address is missing"),
        (REMOTE, {"peer_listen": "[::]:1", "peer_address": None}, "peer_address is missing"),
        (REMOTE, {"tls_ca_file": None}, "replicas on several machines need tls_ca_file"),
        (
            REMOTE,
            {"endpoints": ["http://etcd:2379"], "username": "app", "password_file": "/p"},
            "a password needs endpoints that begin with https://",
        ),
        (LOCAL, {"replica": "-a"}, "replica"),
        (LOCAL, {"replica": "a/b"}, "replica"),
        (LOCAL, {"replica": "a" * 65}, "replica"),
        (LOCAL, {"lease_s": 1}, "lease_s"),
        (LOCAL, {"cut_off_s": 1}, "cut_off_s"),
    ],
)
def test_what_is_refused(given: dict[str, object], wrong: dict[str, object], told: str) -> None:
    """Each is told with what to do about it."""
    with pytest.raises(ValidationError, match=told):
        store(**{**given, **wrong})


def test_a_password_on_this_machine() -> None:
    """It stays on it, so it needs no TLS."""
    given = {**LOCAL, "username": "app", "password_file": "/p"}
    assert store(**given).username == "app"
    assert store(**{**given, "endpoints": ["http://[::1]:2379/", "http://localhost:2379"]}).endpoints == (
        "http://[::1]:2379",
        "http://localhost:2379",
    )


HOSTS = st.one_of(st.ip_addresses().map(str), st.sampled_from(["localhost", "etcd-0.etcd", "a.localhost"]))


@given(listen=HOSTS, called=st.none() | HOSTS, tls=st.booleans(), token=st.booleans())
def test_no_replica_is_called_in_the_clear_from_elsewhere(
    listen: str, called: str | None, *, tls: bool, token: bool
) -> None:
    """Whatever is set: without certificates all is on this machine, and a secret is needed."""
    given = {**LOCAL, "peer_listen": _address(listen), "peer_address": called and _address(called)}
    given |= {**(TLS if tls else {}), "peer_token_file": "/token" if token else None}
    try:
        settings = store(**given)
    except ValidationError:
        return
    assert tls or (token and all(_loopback(host) for host in (listen, called or listen)))
    assert settings.tls == tls


def _address(host: str) -> str:
    return f"[{host}]:1" if ":" in host else f"{host}:1"


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.endswith("localhost")


def test_a_source_that_looks_for_its_server() -> None:
    """Each machine would find another Pieces OS, so the source is named and refused; one by its address is not."""
    source = {"kind": "pieces", "base_url": "http://desk:39300"}
    assert Settings.model_validate({"store": LOCAL, "sources": {"desk": source}}).sources
    with pytest.raises(ValidationError, match="discover of desk should be false"):
        Settings.model_validate({"store": LOCAL, "sources": {"desk": {**source, "discover": True}}})


def test_from_a_file_and_variables(tmp_path: Path) -> None:
    """A replica has a file in common with the others, and its name from its surroundings; what is shown reads again."""
    (tmp_path / "token").write_text("made-up")
    file = tmp_path / "assetwatch.yaml"
    file.write_text(f"store: {{kind: etcd, endpoints: ['http://127.0.0.1:2379'], peer_token_file: {tmp_path}/token}}")
    env = {"ASSETWATCH__STORE__REPLICA": "one", "ASSETWATCH__STORE__ENDPOINTS": '["http://127.0.0.1:1"]'}
    found = load(file, env=env).store
    assert isinstance(found, EtcdStoreSettings)
    assert (found.replica, found.endpoints) == ("one", ("http://127.0.0.1:1",))
    shown: Any = plain(found)
    assert store(**shown) == found
    (tmp_path / "token").unlink()
    with pytest.raises(ConfigError, match=r"store.peer_token_file: there is no such file"):
        load(file, env=env)
