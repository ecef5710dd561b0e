"""An etcd that shows a certificate and asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from assetwatchd.etcd.endpoints import FAILURES_MAX
from assetwatchd.etcd.errors import OutcomeUnknown
from assetwatchd.etcd.operations import put
from support.etcd import client_of, ended_with, eventually, running
from support.secure import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from assetwatch_sandbox.etcd import Cluster


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs certificates of members and clients."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secured(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An etcd that takes clients of this authority alone."""
    pair = authority.pair("member", "127.0.0.1")
    flags = (
        f"--cert-file={pair['tls_cert_file']}",
        f"--key-file={pair['tls_key_file']}",
        f"--trusted-ca-file={authority.file}",
        "--client-cert-auth",
    )
    with running(tmp_path_factory.mktemp("secured"), 1, *flags) as cluster:
        yield cluster


def access(authority: Authority, name: str) -> dict[str, Any]:
    """Issue what a client needs."""
    pair = authority.pair(name, f"{name}@example.org")
    return {"ca_file": authority.file, "cert_file": pair["tls_cert_file"], "key_file": pair["tls_key_file"]}


async def test_both_show_a_certificate(secured: Cluster, authority: Authority) -> None:
    """Calls and watches are well."""
    async with client_of(*secured.endpoints, **access(authority, "replica")) as client:
        now = (await client.txn((), [put(b"/x/a", b"1")])).revision
        async with client.watch(b"/x/", from_revision=now) as watch:
            assert (await watch.read()).revision == now


async def test_a_stranger_on_either_side(secured: Cluster, authority: Authority, tmp_path: Path) -> None:
    """A server that is not trusted gets nothing; a client without a certificate, or with another's, gets nothing."""
    stranger = Authority(tmp_path, "stranger")
    ours, theirs = access(authority, "known"), access(stranger, "unknown")
    for wrong in (
        {**ours, "ca_file": stranger.file},
        {"ca_file": authority.file},
        {**theirs, "ca_file": authority.file},
    ):
        async with client_of(*secured.endpoints, **wrong) as client:
            assert isinstance(await ended_with(client.txn((), [put(b"/x/a", b"2")])), OutcomeUnknown)
    async with client_of(*secured.endpoints, **ours) as client:
        found = (await client.get(b"/x/a")).first
        assert found is None or found.value != b"2"


async def test_files_that_are_renewed(secured: Cluster, authority: Authority, tmp_path: Path) -> None:
    """They are read for each connection, which is made anew once calls fail."""
    given = access(Authority(tmp_path, "stranger"), "renewed")
    async with client_of(*secured.endpoints, **{**given, "ca_file": authority.file}) as client:
        for _ in range(FAILURES_MAX):
            assert isinstance(await ended_with(client.get(b"/x/a")), OutcomeUnknown)
        for name, file in access(authority, "renewed").items():
            given[name].write_bytes(file.read_bytes())
        assert (await eventually(lambda: client.get(b"/x/a"))).revision > 0
