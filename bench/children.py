"""Programs under measurement: each on one core, ended by its id, its memory told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

END_S = 10.0
WHY_CHARACTERS = 1000
"""What is shown of what a program wrote before it failed."""

Result = dict[str, Any]


class Child:
    """A program of ours on one core, in a session of its own: a Ctrl-C ends it through us, in order."""

    def __init__(self, command: Sequence[object], core: int | None, *, env: dict[str, str] | None = None) -> None:
        self._command = pinned(core, command)
        self._complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed when it ends
        self.process = subprocess.Popen(  # noqa: S603 - commands made here
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )

    @property
    def pid(self) -> int:
        """Its process id; pinning replaces itself by the program, so it is the program's."""
        return self.process.pid

    def said(self) -> Result:
        """Wait for the next line of JSON that it prints. Raises: RuntimeError when it ends instead."""
        said: Result = json.loads(self.line())
        return said

    def tell(self, **what: object) -> None:
        """Give it a line of JSON to read."""
        assert self.process.stdin is not None  # noqa: S101 - piped above
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def line(self) -> str:
        """Wait for the next line that it prints. Raises: RuntimeError when it ends instead."""
        assert self.process.stdout is not None  # noqa: S101 - piped above
        text = self.process.stdout.readline()
        if not text:
            ended = self.process.wait()
            self._complaints.seek(0)
            why = self._complaints.read()[-WHY_CHARACTERS:]
            raise RuntimeError(f"{' '.join(self._command)} ended with {ended}:\n{why}")
        return text

    def end(self, *, how: int = signal.SIGTERM) -> None:
        """End it by its id, at the latest after END_S."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._complaints):
            assert stream is not None  # noqa: S101 - piped above
            stream.close()


def pinned(core: int | None, command: Sequence[object]) -> list[str]:
    """Return the command such that it runs on one core, or on all, where there is more than one and a way to say so."""
    bare = [str(part) for part in command]
    taskset = shutil.which("taskset")
    cores = f"0-{(os.cpu_count() or 1) - 1}" if core is None else str(core)
    return [taskset, "-c", cores, *bare] if taskset and (os.cpu_count() or 1) > 1 else bare


def pid_used_s(pid: int) -> float:
    """Return the processor time that a process has had, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pid_rss_mb(pid: int) -> float:
    """Return the resident memory of a process, in 10^6 bytes."""
    return _status_mb(pid, "VmRSS:")


def pid_peak_mb(pid: int) -> float:
    """Return the most resident memory that a process has had, in 10^6 bytes."""
    return _status_mb(pid, "VmHWM:")


def _status_mb(pid: int, line: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return float(status.partition(line)[2].split()[0]) * 1024 / 1e6  # the kB of /proc are 1,024 bytes
