"""Several processes of the product over one etcd, for the measurements."""

from __future__ import annotations

import contextlib
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from children import pid_used_s
from report import Missing
from rig import SERVER_CORE, etcd_program

from assetwatch_sandbox.etcd import Cluster, NoEtcd

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from children import Child, Result
    from rig import Rig

FLUSHED = "--unsafe-no-fsync=false"
"""Each write is on the disk before it is acknowledged, as where it matters; the demo and the tests do without."""


ASSETS = 1000
SIZES = ((1, 0), (1, 1), (3, 3))
"""Processes, and members of etcd; none: over SQLite."""


class Serving(NamedTuple):
    """A process that serves the made-up source."""

    child: Child
    address: str

    def told(self, **order: object) -> Result:
        """Tell it something; return its answer."""
        self.child.tell(**order)
        return self.child.said()


@dataclass(frozen=True)
class Group:
    """An etcd, and what replicas over it are told. It runs on the core of the rig, the load's."""

    rig: Rig
    cluster: Cluster
    secret: Path

    def store(self, name: str) -> dict[str, Any]:
        """Return the settings of the store of one of them."""
        return {
            "kind": "etcd",
            "endpoints": list(self.cluster.endpoints),
            "replica": name,
            "peer_listen": "127.0.0.1:0",
            "peer_token_file": str(self.secret),
        }

    def used_s(self) -> float:
        """Return the processor time that all members have had."""
        return sum(pid_used_s(member.pid) for member in self.cluster.members)

    @contextlib.contextmanager
    def serving(self, count: int, *, assets: int, cores: Sequence[int] = (SERVER_CORE,)) -> Iterator[list[Serving]]:
        """Run so many replicas; the first owns the source, and has made its assets known. cores: taken in turns."""
        with contextlib.ExitStack() as stack:
            replicas: list[Serving] = []
            for number in range(count):
                store, core = self.store(f"replica-{number}"), cores[number % len(cores)]
                replicas.append(stack.enter_context(serving(self.rig, store, assets=assets, core=core)))
                if not number:
                    replicas[0].told(own=True)
                    replicas[0].told(fill=True)
            yield replicas


@contextlib.contextmanager
def group(rig: Rig, members: int = 1) -> Iterator[Group]:
    """Run an etcd until the block ends. Raises: Missing."""
    secret = rig.fresh("peers")
    secret.write_text(secrets.token_hex(32))
    program = etcd_program()
    try:
        cluster = Cluster(rig.fresh("etcd"), members, flags=[FLUSHED], program=program)
        try:
            cluster.start()
            yield Group(rig, cluster, secret)
        finally:
            for member in cluster.members:
                member.kill()  # its data is thrown away
    except NoEtcd as error:
        raise Missing(str(error)) from None


@contextlib.contextmanager
def serving(rig: Rig, store: Mapping[str, object], *, assets: int, core: int = SERVER_CORE) -> Iterator[Serving]:
    """Run one process over any store until the block ends."""
    with rig.python("replica_server.py", "--store", json.dumps(dict(store)), "--assets", assets, core=core) as child:
        yield Serving(child, child.said()["address"])


@contextlib.contextmanager
def servers(rig: Rig, count: int, members: int, cores: Sequence[int] = (SERVER_CORE,)) -> Iterator[list[Serving]]:
    """Run so many replicas over so many members of etcd, or without those one process over SQLite."""
    if members:
        with group(rig, members) as replicas, replicas.serving(count, assets=ASSETS, cores=cores) as several:
            yield several
        return
    with serving(rig, {"kind": "sqlite", "path": str(rig.fresh("store.sqlite"))}, assets=ASSETS) as alone:
        alone.told(fill=True)
        yield [alone]


def named(count: int, members: int) -> str:
    """Say what `servers` runs."""
    if not members:
        return "one process over SQLite"
    return f"{count} replica{'s' * (count > 1)} over {members} etcd"
