"""etcd for tests: members that are killed, paused and restored, and what an operator does to them."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
from contextlib import asynccontextmanager, contextmanager
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, TypeVar

from assetwatch_sandbox.etcd import Cluster, Member, find
from assetwatchd.etcd.client import EtcdClient
from assetwatchd.etcd.connection import Access
from assetwatchd.etcd.errors import EtcdError, OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

PATIENCE_S = 30.0
T = TypeVar("T")


@contextmanager
def running(folder: Path, size: int = 1, *flags: str) -> Iterator[Cluster]:
    """Run a cluster; flags: for each member."""
    cluster = Cluster(folder, size, flags=flags)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()


@asynccontextmanager
async def client_of(*endpoints: str, **access: Any) -> AsyncIterator[EtcdClient]:
    """Open a client."""
    client = EtcdClient(Access(endpoints, **access))
    try:
        yield client
    finally:
        await client.close()


def post(member: Member, path: str, body: object, *, token: str = "") -> list[Any]:
    """Ask by etcd's HTTP what our client never does; return every answer of the stream."""
    host = HTTPConnection(member.endpoint.partition("://")[2], timeout=PATIENCE_S)
    host.request("POST", path, json.dumps(body), {"Authorization": token} if token else {})
    answer = host.getresponse()
    said = answer.read().decode()
    host.close()
    assert answer.status == 200, said
    return [json.loads(line) for line in said.splitlines()]


def save(member: Member, file: Path) -> Path:
    """Save a snapshot of all that a member has, as etcdctl snapshot save does."""
    parts = post(member, "/v3/maintenance/snapshot", {})
    file.write_bytes(b"".join(base64.b64decode(part["result"].get("blob", "")) for part in parts))
    return file


def restore(cluster: Cluster, file: Path, *flags: str) -> None:
    """Put a snapshot back, as etcdutl snapshot restore does: all end, and begin again from it."""
    cluster.end()
    for member in cluster.members:
        shutil.rmtree(member.data)
        subprocess.run(
            [find("etcdutl"), "snapshot", "restore", file, *member.identity(), *flags], check=True, capture_output=True
        )
    cluster.start()


async def eventually(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until there is an answer: while members elect a leader, or are started again, there is none."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await ask()
            except OutcomeUnknown:
                await asyncio.sleep(0.02)


async def ended_with(ask: Awaitable[object]) -> EtcdError | None:
    """Return what a call ended with; None when it was well."""
    try:
        await ask
    except EtcdError as error:
        return error
    return None
