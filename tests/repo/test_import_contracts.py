"""Who may import whom: the contracts hold, and each can be broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter over a tree."""
    environment = {**os.environ, "PYTHONPATH": f"{root}/src:{root}/generated"}
    command = [str(BIN / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("assetwatchd/changefeed/hub.py", "import assetwatchd.rpc.watch", "An arrow points down"),
        ("assetwatchd/adapters/pieces.py", "import assetwatchd.adapters.oracle_sbc", "No adapter imports another"),
        (
            "assetwatchd/rpc/service.py",
            "import assetwatchd.changefeed.store.memory",
            "app alone names adapters and stores",
        ),
        ("assetwatchd/app.py", "import assetwatch_sandbox", "The command line alone starts the sandbox"),
        ("assetwatch_sandbox/scenario.py", "import assetwatchd.model.values", "The sandbox imports nothing"),
        ("assetwatch_sandbox/scenario.py", "import grpc", "The sandbox imports nothing of the service"),
        (
            "assetwatchd/changefeed/pipeline.py",
            "import google.protobuf.message",
            "Only rpc and the command line see protobuf",
        ),
        ("assetwatchd/app.py", "import assetwatch.v1.source_pb2", "app passes protobuf on"),
    ],
)
def test_a_forbidden_import_is_caught(tmp_path: Path, file: str, line: str, contract: str) -> None:
    """An import that the drawing in ARCHITECTURE.md has no arrow for fails the contract that says so."""
    for name in ("src", "generated"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / "src" / file
    path.write_text(f"{path.read_text()}\n{line}\n")
    ended = lint_imports(tmp_path)
    assert ended.returncode != 0
    assert any(found.startswith(contract) and " BROKEN" in found for found in ended.stdout.splitlines())


def test_the_contracts_hold() -> None:
    """No module imports what it may not."""
    ended = lint_imports(ROOT)
    assert ended.returncode == 0, ended.stdout
