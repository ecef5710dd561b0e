"""A server as a real process: started, killed, stopped, continued and started again on its port."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

LAUNCHER = Path(__file__).resolve().parents[1] / "launcher.py"
ROOT = LAUNCHER.parents[2]
START_S = 20.0
EXIT_S = 15.0


class Server:
    """One server on one port. settings: as in the configuration file; spans: what the launcher shortens.

    ready_at: when each start took calls, monotonic seconds.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        directory: Path,
        *,
        spans: Mapping[str, float] | None = None,
        mutant: str = "",
    ) -> None:
        self.settings: dict[str, Any] = dict(settings)
        self.journal = directory / "journal.jsonl"
        self.stderr = directory / "stderr.txt"
        self.port = 0
        self.started_at: list[float] = []
        self.ready_at: list[float] = []
        self.codes: list[int] = []
        self._config = directory / "config.json"
        self._spans = dict(spans or {})
        self._mutant = mutant or os.environ.get("ASSETWATCH_MUTANT", "")
        self._process: asyncio.subprocess.Process | None = None
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._reading: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs now. Raises: RuntimeError when none does."""
        if self._process is None:
            raise RuntimeError("the server does not run")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start, on the port of last time; return once calls are taken. Raises: RuntimeError when they are not."""
        server = {**self.settings.get("server", {}), "listen": f"127.0.0.1:{self.port}"}
        config = {"settings": {**self.settings, "server": server}, "spans": self._spans}
        self._config.write_text(json.dumps(config))
        paths = os.pathsep.join(str(ROOT / name) for name in ("src", "generated", "tests"))
        self.started_at.append(time.monotonic())
        with self.stderr.open("ab") as stderr:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(LAUNCHER),
                str(self._config),
                str(self.journal),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, "PYTHONPATH": paths, "ASSETWATCH_MUTANT": self._mutant},
            )
        self._reading = asyncio.create_task(self._read(self._process))
        try:
            answer = await asyncio.wait_for(self._answers.get(), START_S)
            self.port = int(answer["ready"].rpartition(":")[2])
        except (TimeoutError, KeyError) as error:
            code = await self.kill()
            raise RuntimeError(f"the server did not start, {code}: {self.stderr.read_text()[-2000:]}") from error
        self.ready_at.append(time.monotonic())

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            self._answers.put_nowait(json.loads(line))
        self._answers.put_nowait({})

    async def ask(self, **command: object) -> dict[str, Any]:
        """Send a command to the launcher's console and return its answer."""
        self.tell(**command)
        return await asyncio.wait_for(self._answers.get(), EXIT_S)

    def tell(self, **command: object) -> None:
        """Send a command that has no answer."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it lives."""
        if self.running:
            os.kill(self.pid, number)

    def stopped(self) -> bool:
        """Whether the process is there and stands still."""
        return self.running and Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    async def kill(self) -> int:
        """Kill -9 and take the process away; return its exit code."""
        self.signal(signal.SIGKILL)
        return await self.exited()

    async def stop(self) -> int:
        """SIGTERM, and kill -9 when it does not end; return its exit code."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.exited(), EXIT_S)
        except TimeoutError:
            return await self.kill()

    async def exited(self) -> int:
        """Return the exit code once the process has ended."""
        if self._process is None:
            return 0
        code = await self._process.wait()
        if self._reading is not None:
            await self._reading
        if self._process.stdin is not None:
            self._process.stdin.close()
            with contextlib.suppress(OSError):
                await self._process.stdin.wait_closed()
        self._process = None
        while not self._answers.empty():
            self._answers.get_nowait()
        self.codes.append(code)
        return code

    def rss_bytes(self) -> int:
        """Return the memory the process holds now."""
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines())
        return int(fields["VmRSS"].split()[0]) * 1024
