from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import assetwatch.v1
import pytest

import assetwatch_client

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".mypy_cache" / "use"
"""Its own: with other options than the project's check, it would undo that one's."""
USE = """
from collections.abc import Mapping
from typing import assert_never, assert_type
from assetwatch.v1.asset_status_pb2 import AssetStatus
from assetwatch_client import ConditionChanged, Key, Removed, Synced, Upsert, Watch, connect

async def use() -> None:
    async with connect("127.0.0.1:1") as channel:
        watch = Watch(channel, assets=[("dam", "a")], sources=["mam"], resume_token="")
        assert_type(watch.statuses, Mapping[Key, AssetStatus])
        async for event in watch.events():
            match event:
                case Upsert(key, status) | Removed(key, status):
                    assert_type(key.asset_id, str)
                    assert_type(status, AssetStatus)
                case Synced(head, replaced):
                    assert_type((head, replaced), tuple[int, bool])
                case ConditionChanged():
                    pass
                case _:
                    assert_never(event)
"""
MISUSE = {
    "assets by id alone": "Watch(connect('x:1'), assets=['a'])",
    "a key of strings": "Watch(connect('x:1')).statuses['dam']",
    "a map that can be written": "Watch(connect('x:1')).statuses.clear()",
}


def mypy(program: str) -> subprocess.CompletedProcess[str]:
    """Check a program as somebody's who has the packages installed."""
    generated, library = (Path(package.__path__[0]) for package in (assetwatch.v1, assetwatch_client))
    paths = os.pathsep.join(str(path) for path in (generated.parents[1], library.parent))
    options = ["--strict", "--config-file=", f"--cache-dir={CACHE}"]
    options += ["--disable-error-code=import-untyped"]  # google.rpc has no published types
    command = [sys.executable, "-m", "mypy", *options, "-c", program]
    environment = {**os.environ, "MYPYPATH": paths}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_use_is_typed() -> None:
    """A strict mypy accepts a use of the library, knows every type in it, and that the four events are all."""
    checked = mypy(USE)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("line", MISUSE.values(), ids=MISUSE)
def test_misuse_is_found(line: str) -> None:
    """Mypy finds what cannot work."""
    checked = mypy(f"from assetwatch_client import Watch, connect\n{line}\n")
    assert "Found 1 error" in checked.stdout, checked.stdout
