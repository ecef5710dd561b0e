"""The Node examples, installed from their lock file and run by Node itself against a server and its stand-in."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.node_example import DEADLINE_S, INSTALL_S, installed, started
from support.pieces_rig import ONE, SOURCE, TWO, pieces_rig, shelve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.pieces_rig import PiecesRig

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(INSTALL_S + DEADLINE_S)  # the first test installs the packages


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(tmp_path_factory.mktemp("repository"))


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PiecesRig]:
    monkeypatch.chdir(tmp_path)
    async with pieces_rig() as running:
        shelve(running.standin)
        yield running


async def ended(running: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
    """Wait for a script to end by itself; return what it wrote, as output and as errors."""
    try:
        return await asyncio.wait_for(running.communicate(), DEADLINE_S)
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


async def test_node_lists_creates_searches_streams_and_deletes(example: Path, rig: PiecesRig) -> None:
    """pieces.mjs does all five; what it made is in its stream and its search, and gone from both sides afterwards."""
    running = await started(example, "pieces.mjs", rig.address, SOURCE)
    out, err = await ended(running)
    assert (running.returncode, err.decode()) == (0, "")
    said = out.decode()
    assert set(re.findall(r"^listed: (\S+)", said, re.MULTILINE)) == {ONE, TWO}
    assert "stream: synced, 2 assets" in said
    [made] = re.findall(r"^created: (\S+) at revision [1-9]", said, re.MULTILINE)
    assert re.findall(r"^found: (\S+) CONTENT$", said, re.MULTILINE)[0] == made
    assert "content: console.log('hello from Node')" in said
    assert said.index(f"stream: + {made}") < said.index(f"stream: - {made}")
    assert f"deleted: {made}" in said
    assert said.endswith("gone: NOT_FOUND\n")
    assert made not in rig.standin.asset_ids()


async def test_node_watches(example: Path, rig: PiecesRig) -> None:
    """watch.mjs prints what is, then what changes."""
    running = await started(example, "watch.mjs", rig.address, SOURCE)
    assert running.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_S):
            said = ""
            while "= synced, 2 assets" not in said:
                said += (await running.stdout.readline()).decode() or pytest.fail(said)
            rig.standin.remove(ONE)
            while f"{SOURCE} {ONE} ASSET_STATE_DELETED" not in said:
                said += (await running.stdout.readline()).decode() or pytest.fail(said)
    finally:
        running.kill()
        await running.communicate()
    assert f"+ {SOURCE} {TWO} ASSET_STATE_AVAILABLE" in said


WRONG = """
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const definition = loader.loadSync("assetwatch/v1/asset_status_service.proto", { includeDirs: ["../../proto"] });
const { assetwatch } = grpc.loadPackageDefinition(definition);
const [server, source] = process.argv.slice(2);
const client = new assetwatch.v1.AssetStatusService(server, grpc.credentials.createInsecure());
const assets = Array.from({ length: 1000 }, (_, number) => ({ source, assetId: `${number} is no id` }));
const stream = client.WatchStatus({ sources: [source] });
stream.on("error", (error) => console.log("stream:", error.code));
stream.once("data", () => client.WatchStatus({ assets }).on("data", () => {}).on("error", (error) => {
  console.log("told:", grpc.status[error.code], error.details.slice(-17));
  process.exit();
}));
"""
"""A watch of wrong ids on the connection of one that goes on."""


async def test_node_hears_what_is_wrong_with_many_ids(example: Path, rig: PiecesRig) -> None:
    """Its headers have room for the error, which it would drop otherwise; the other stream goes on."""
    (example / "wrong.mjs").write_text(WRONG)
    running = await started(example, "wrong.mjs", rig.address, SOURCE)
    out, err = await ended(running)
    assert (out.decode(), err.decode()) == ("told: INVALID_ARGUMENT at least 497 more\n", "")
