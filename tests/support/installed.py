"""Environments outside the checkout: what uv and pip install there, and commands run there as their users run them."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from email import message_from_bytes
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

ROOT = Path(__file__).parents[2]
RUN_PINS = ROOT / "constraints/run.txt"
INSTALL_S = 240
"""A cold installation over a slow network."""
COMMAND_S = 60
NOT_THEIRS = ("PYTHON", "VIRTUAL_ENV", "ASSETWATCH", "PIP_FIND_LINKS")
"""What of our environment would change what is installed or imported there."""
INDEXES = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "cert": "SSL_CERT_FILE"}
"""uv does not read how pip reaches its registry."""


def environment() -> dict[str, str]:
    """Return the environment of a user of this machine, with uv told what pip is configured to use."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(NOT_THEIRS)}
    told = run(sys.executable, "-m", "pip", "config", "list", env=os.environ)
    configured = {
        key: ast.literal_eval(value) for key, value in re.findall(r"^\S*\.([\w-]+)=('.*')$", told, re.MULTILINE)
    }
    registry = {name: " ".join(configured[key].split()) for key, name in INDEXES.items() if key in configured}
    return {**registry, **inherited, "UV_PYTHON_DOWNLOADS": "never"}


def run(*command: str | Path, cwd: Path | None = None, env: os._Environ[str] | dict[str, str] | None = None) -> str:
    """Run a command that must succeed; return what it printed."""
    ended = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=INSTALL_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


class Installed:
    """An environment in a folder that has nothing of the checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "venv"
        self.env = environment()
        self.uv("venv", "--python", sys.executable, self.path)

    def uv(self, *arguments: str | Path) -> str:
        """Run uv here."""
        return run(uv(), "--quiet", *arguments, cwd=self.folder, env=self.env)

    def install(self, *arguments: str | Path) -> None:
        """Install from wheels alone."""
        python = self.path / "bin/python"
        self.uv("pip", "install", "--python", python, "--only-binary", ":all:", *arguments)

    def check(self) -> None:
        """Let pip find what is missing or does not fit."""
        run(sys.executable, "-m", "pip", "--python", self.path / "bin/python", "check", cwd=self.folder, env=self.env)

    def run(self, name: str, *arguments: str | Path, **extra: str) -> str:
        """Run a command of the environment to its end."""
        return run(self.path / "bin" / name, *arguments, cwd=self.folder, env={**self.env, **extra})

    @contextmanager
    def running(self, name: str, *arguments: str | Path) -> Iterator[Lines]:
        """Run a command of the environment for as long as the context lasts; it must not have failed by then."""
        log = self.folder / f"{name}-{arguments[0]}.log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [self.path / "bin" / name, *arguments],
                cwd=self.folder,
                env={**self.env, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        try:
            yield Lines(process, log)
        finally:
            process.terminate()
            process.communicate(timeout=COMMAND_S)


class Lines:
    """What a running command prints; pytest's own time limit ends a wait that is in vain."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def next(self, pattern: str) -> re.Match[str]:
        """Return the match of the next line that has the pattern."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"no line has {pattern}: {self._log.read_text()}")


def metadata(wheel: Path) -> Message:
    """Return what a wheel says of itself."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


def uv() -> Path:
    """Return the uv of the tests' environment."""
    found = shutil.which("uv", path=str(Path(sys.executable).parent))
    assert found, "uv is in the group dev"
    return Path(found)


def build(kind: str, source: Path, target: Path) -> Path:
    """Make a wheel or an sdist as anybody's build does: with what [build-system] declares, and no more."""
    pins = ("--build-constraints", RUN_PINS)
    run(uv(), "--quiet", "build", f"--{kind}", source, "--out-dir", target, *pins, cwd=target.parent, env=environment())
    made = [path for path in target.iterdir() if path.suffix in {".whl", ".gz"}]
    assert len(made) == 1, made
    return made[0]
