"""Members of an etcd cluster as processes of this machine: started together, each ended, paused and started again."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import time
from contextlib import closing, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

from assetwatch_sandbox.etcd.program import NoEtcd, find

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PORTS = range(20_000, 32_000)
"""Outside of what systems take for connections that go out (Linux 32768 to 60999, others from 49152): a client that
calls a port in there while nobody listens can be connected to itself, and keeps the port from the server."""
READY_S = 30.0
"""A member may take this long to be ready; it takes half a second."""
END_S = 10.0
LOOK_S = 0.02


class Member:
    """One member; what it says is in the file log of its folder."""

    def __init__(self, program: Path, name: str, folder: Path, peers: Mapping[str, str], flags: Sequence[str]) -> None:
        self.name, self.folder = name, folder
        self.endpoint = f"http{'s' * _has_certificate(flags)}://127.0.0.1:{free_port()}"
        self._health = free_port()
        self.flags = list(flags)
        self._program, self._peers = program, peers
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """The folder of what it keeps."""
        return self.folder / "data"

    @property
    def pid(self) -> int:
        """Its process; 0 when there is none."""
        return self._process.pid if self._process and self._process.poll() is None else 0

    def start(self) -> None:
        """Start it; it is ready later."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            # A group of its own: Ctrl-C is for whoever started it, who ends it when the others are done with it.
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log, process_group=0)  # noqa: S603 - a tool by its path

    def wait(self) -> None:
        """Wait until it serves. Raises: NoEtcd when it does not."""
        until = time.monotonic() + READY_S
        while not self._serves():
            if not self.pid or time.monotonic() > until:
                raise NoEtcd(f"etcd did not start: {self._last_word() or 'it said nothing'}")
            time.sleep(LOOK_S)

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Let it stand still, its connections open."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again."""
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """End it in good order, or else."""
        if self._process and self.pid:
            self.go_on()
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self._process and self.pid:
            self._process.send_signal(number)

    def identity(self) -> list[str]:
        """Return the flags that say who it is: what etcdutl needs to restore it."""
        flags = {
            "name": self.name,
            "data-dir": str(self.data),
            "initial-advertise-peer-urls": self._peers[self.name],
            "initial-cluster": ",".join(f"{name}={url}" for name, url in self._peers.items()),
        }
        return [f"--{name}={value}" for name, value in flags.items()]

    def _command(self) -> list[str]:
        flags = {
            "listen-client-urls": self.endpoint,
            "advertise-client-urls": self.endpoint,
            "listen-metrics-urls": f"http://127.0.0.1:{self._health}",  # says how it is in the clear, and to anybody
            "listen-peer-urls": self._peers[self.name],
            "log-level": "error",
            "auto-compaction-mode": "periodic",
            "auto-compaction-retention": "1h",
        }
        ours = [f"--{name}={value}" for name, value in flags.items()]
        # It outlives a killed process, and no loss of power, which a demo need not.
        return [str(self._program), *self.identity(), *ours, "--unsafe-no-fsync", *self.flags]

    def _serves(self) -> bool:
        with closing(HTTPConnection("127.0.0.1", self._health, timeout=1)) as health:
            try:
                health.request("GET", "/health")
                return health.getresponse().status == HTTPStatus.OK
            except (OSError, HTTPException):
                return False

    def _last_word(self) -> str:
        return (self.folder / "log").read_text(errors="replace").strip().rpartition("\n")[2][:300]


def _has_certificate(flags: Sequence[str]) -> bool:
    return any(flag.startswith("--cert-file=") for flag in flags)


class Cluster:
    """Members that keep one history. flags: for each, behind ours. Raises: NoEtcd."""

    def __init__(self, folder: Path, size: int = 1, *, flags: Sequence[str] = (), program: Path | None = None) -> None:
        program = program or find()
        peers = {f"etcd-{number}": f"http://127.0.0.1:{free_port()}" for number in range(1, size + 1)}
        self.members = [Member(program, name, folder / name, peers, flags) for name in peers]

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where its members are called."""
        return tuple(member.endpoint for member in self.members)

    def start(self) -> None:
        """Start all, and wait until they serve. Raises: NoEtcd."""
        for member in self.members:
            member.start()
        for member in self.members:
            member.wait()

    def end(self) -> None:
        """End all."""
        for member in self.members:
            member.end()


def free_port() -> int:
    """Return a port that nobody listens on and that no connection is given by itself."""
    for port in random.sample(PORTS, 200):
        with closing(socket.socket()) as trial, suppress(OSError):
            trial.bind(("127.0.0.1", port))
            return port
    raise NoEtcd(f"no port from {PORTS.start} to {PORTS.stop} is free")
