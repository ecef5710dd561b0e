"""The demo with replicas: the sandbox, an etcd, and servers over it: processes that come back when they are killed."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import tempfile
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from assetwatch_sandbox.etcd import Cluster, NoEtcd
from assetwatch_sandbox.etcd.cluster import free_port
from assetwatchd.cli.children import Guard, Program
from assetwatchd.cli.demo import DRAIN_S
from assetwatchd.cli.hints import fitting, to_prepare, to_try
from assetwatchd.cli.sandboxed import live, sources_of, started
from assetwatchd.cli.terminal import ReaderGone, can_be_drawn_on, safe, tell
from assetwatchd.model.errors import ConfigError
from assetwatchd.settings.addresses import is_socket
from assetwatchd.settings.schema import PORT_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from assetwatch_client import Servers
    from assetwatch_sandbox import Sandbox

LEASE_S = 3
"""Others take over what a killed replica had after this: long enough to be seen, and no more."""
AWAY_S = 10.0
"""A replica that ended is started again after this: others have its sources by then, and the table says so."""
ETCD_AWAY_S = 3.0
"""The same of etcd: meanwhile nothing can be kept."""
LOOK_S = 0.2


class Child(Protocol):
    """A process that can be started again."""

    @property
    def pid(self) -> int:
        """Its number; 0 when there is none."""

    async def start(self) -> None:
        """Start it, and wait until it serves. Raises: ConfigError when it does not."""

    async def ended(self) -> None:
        """Wait for its end."""

    async def end(self) -> None:
        """End it."""


class Etcd:
    """One member of etcd."""

    def __init__(self, program: Path, folder: Path, guard: Guard) -> None:
        self._cluster, self._guard = Cluster(folder, program=program), guard
        (self.endpoint,) = self._cluster.endpoints

    @property
    def pid(self) -> int:
        """Its process; 0 when there is none."""
        return self._cluster.members[0].pid

    async def start(self) -> None:
        """Start it, and wait until it serves. Raises: ConfigError."""
        (member,) = self._cluster.members
        member.start()
        self._guard.hold(self.pid)
        try:
            await asyncio.to_thread(member.wait)
        except NoEtcd as error:
            raise ConfigError(str(error)) from None

    async def ended(self) -> None:
        """Wait for its end."""
        pid = self.pid
        while self.pid:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(LOOK_S)
        self._guard.forget(pid)

    async def end(self) -> None:
        """End it."""
        await asyncio.to_thread(self._cluster.end)


@dataclass
class Part:
    """What can be killed, and when it is started again, of time.monotonic(); 0: it runs, or is about to."""

    name: str
    address: str
    child: Child
    away_s: float
    back_at: float = 0.0

    async def kept_up(self, say: Callable[[str], None]) -> None:
        """Start it again whenever it has ended, for ever."""
        while True:
            await self.child.ended()
            self.back_at = time.monotonic() + self.away_s
            say(f"{self.name} has ended, and comes back in {self.away_s:.0f} s")
            await asyncio.sleep(self.away_s)
            try:
                await self.child.start()
            except ConfigError as error:  # a replica that finds no etcd, say
                say(f"{self.name} did not come back: {error}")
            else:
                self.back_at = 0.0
                say(f"{self.name} is back: {self.line}")

    @property
    def line(self) -> str:
        """How to kill it, and what it is."""
        what = f"kill -9 {self.child.pid}" if self.child.pid else "starts"
        if self.back_at and not self.child.pid:
            what = f"back in {max(0.0, self.back_at - time.monotonic()):.0f} s"
        return f"{what:<16} {self.name:<10} {self.address}"


async def run_replicated(
    etcd: Path,
    replicas: int,
    *,
    listen: str,
    table: bool,
    control_port: int,
    seed: int,
    speed: float,
    assets: int,
) -> None:
    """Serve what the sandbox holds by several replicas until cancelled; table: say what to try, show what changes.

    listen: of the first of them; the others are at the ports after it.
    """
    addresses = addresses_from(listen, replicas)
    async with (
        started(host="127.0.0.1", control_port=control_port, seed=seed, assets=assets) as sandbox,
        _parts(etcd, addresses, sandbox) as parts,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(live(sandbox, seed=seed, speed=speed))
        for part in parts:
            tasks.create_task(part.kept_up(_silent if table and can_be_drawn_on() else _say))
        hints = Hints(sandbox, parts, addresses)
        if table:
            await _watch(addresses, list(sandbox.standins), hints)
        for line in (f"assetwatch is ready on {','.join(addresses)}", *(part.line for part in parts)):
            tell(safe(line))
        await asyncio.Event().wait()


def addresses_from(listen: str, count: int) -> list[str]:
    """Return so many addresses, of ports one after the other; free ones for port 0. Raises: ConfigError."""
    host, _, port = listen.rpartition(":")
    if is_socket(listen) or int(port) + count - 1 > PORT_MAX:
        raise ConfigError(f"server.listen: {count} replicas need HOST:PORT, and {count - 1} ports after that")
    return [f"{host}:{int(port) + number if int(port) else free_port()}" for number in range(count)]


@asynccontextmanager
async def _parts(etcd: Path, addresses: Sequence[str], sandbox: Sandbox) -> AsyncIterator[list[Part]]:
    """Run an etcd, and a replica at each address, in a folder that only this user can read, and that goes with them."""
    with tempfile.TemporaryDirectory(prefix="assetwatch-demo-") as name, Guard() as guard:
        folder = Path(name)
        engine = Etcd(etcd, folder, guard)
        replicas = [_replica(f"replica-{number}", at, folder, guard) for number, at in enumerate(addresses, 1)]
        _configure(folder, engine.endpoint, sandbox)
        try:
            await engine.start()
            await asyncio.gather(*(replica.child.start() for replica in replicas))
            yield [*replicas, Part("etcd", engine.endpoint, engine, ETCD_AWAY_S)]
        finally:
            await asyncio.gather(*(replica.child.end() for replica in replicas))
            await engine.end()


def _replica(name: str, address: str, folder: Path, guard: Guard) -> Part:
    config = str(folder / "assetwatch.yaml")
    command = [sys.executable, "-m", "assetwatchd", "serve", "--config", config, "--listen", address]
    # What the user's shell says of a server is not for these.
    given = {key: value for key, value in os.environ.items() if not key.startswith("ASSETWATCH")}
    program = Program(command, given | {"ASSETWATCH__STORE__REPLICA": name}, folder / f"{name}.log", guard)
    return Part(name, address, program, AWAY_S)


def _configure(folder: Path, endpoint: str, sandbox: Sandbox) -> None:
    import yaml  # noqa: PLC0415 - help does not pay for it

    token = folder / "peer-token"
    token.write_text(secrets.token_urlsafe())
    store = {"kind": "etcd", "endpoints": [endpoint], "lease_s": LEASE_S, "peer_token_file": str(token)}
    settings = {
        "server": {"drain_s": DRAIN_S},
        "store": {**store, "peer_listen": "127.0.0.1:0"},
        "telemetry": {"log_level": "warning"},
        "sources": sources_of(sandbox.standins),
    }
    (folder / "assetwatch.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True))


def _say(text: str) -> None:
    with suppress(ReaderGone):  # whoever runs this hears of it, too
        tell(safe(text))


def _silent(_text: str) -> None:
    """The table says it."""


class Hints:
    """The lines above the table: whom to kill, and what to try. servers: those of the table, once it is shown."""

    def __init__(self, sandbox: Sandbox, parts: Sequence[Part], addresses: Sequence[str]) -> None:
        self._sandbox, self._parts, self._addresses = sandbox, parts, addresses
        self.servers: Servers | None = None

    def __call__(self, width: int, room: int) -> list[str]:
        """Return those that there is room for."""
        first = [
            f"{len(self._addresses)} replicas over one etcd. Kill any, in another terminal, and this table goes on:",
            *(f"  {part.line}{self._mark(number)}" for number, part in enumerate(self._parts)),
            f"Others have its sources within {LEASE_S + 2} s: see OWNER. Try, in another terminal:",
        ]
        commands = [
            *to_prepare(",".join(self._addresses)),
            *to_try(self._sandbox.standins, self._addresses[0], self._sandbox.control_url),
        ]
        return [*first, *fitting(commands, width, room - len(first) - 1), ""]

    def _mark(self, number: int) -> str:
        return "  <- this table" if self.servers and self.servers.turn == number else ""


async def _watch(addresses: Sequence[str], sources: list[str], hints: Hints) -> None:
    from assetwatch_client import connect_any  # noqa: PLC0415 - only with a table
    from assetwatchd.cli.live import Interest, show_under  # noqa: PLC0415 - same

    async with connect_any(addresses) as hints.servers:
        await show_under(hints, hints.servers, Interest(sources))
