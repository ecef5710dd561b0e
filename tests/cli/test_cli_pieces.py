from __future__ import annotations

import asyncio
import json
import signal
import socket
from functools import partial
from typing import TYPE_CHECKING

import grpc
import pytest
import yaml
from assetwatch.pieces.v1 import pieces_assets_service_pb2 as pb
from assetwatch.pieces.v1 import seed_pb2

from assetwatch_sandbox.pieces import PiecesStandin
from assetwatchd.cli.failures import explain
from assetwatchd.pieces.client.api import READ_BACK_BYTES
from assetwatchd.rpc.pieces import convert
from support.command_line import COMMAND, environment
from support.fake_service import serving
from support.pieces_rig import NOTE, ONE, OTHER_KIND, SOURCE, TWO, UNKNOWN, pieces_rig, seed_document, shelve
from support.ports import free_port
from support.problems import problem_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from support.command_line import Run, Spawn
    from support.pieces_rig import PiecesRig

    Pieces = Callable[..., Awaitable[tuple[int, bytes, str]]]

DEADLINE_S = 30
PIXELS = bytes(range(256))
LINE = b'"quoted\\", a tab:\t, and a new line\x01\r\n' * 8


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PiecesRig]:
    monkeypatch.chdir(tmp_path)
    roomy = 64 * 1024 * 1024
    async with pieces_rig(source={"body_bytes_max": roomy}, server={"message_bytes_max": roomy}) as running:
        shelve(running.standin)
        yield running


@pytest.fixture
async def usual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PiecesRig]:
    """A server with the limits it has when nothing is configured."""
    monkeypatch.chdir(tmp_path)
    async with pieces_rig() as running:
        yield running


@pytest.fixture
def pieces(rig: PiecesRig) -> Pieces:
    """Run `assetwatch pieces` against the rig."""
    return partial(run_pieces, address=rig.address)


async def run_pieces(*arguments: str, address: str, given: bytes = b"") -> tuple[int, bytes, str]:
    """Run `assetwatch pieces` with bytes for standard input; return the exit code and what it wrote."""
    pipe = asyncio.subprocess.PIPE
    env = environment(ASSETWATCH_SERVER=address)
    running = await asyncio.create_subprocess_exec(
        *COMMAND, "pieces", *arguments, stdin=pipe, stdout=pipe, stderr=pipe, env=env
    )
    out, err = await asyncio.wait_for(running.communicate(given), DEADLINE_S)
    assert running.returncode is not None
    assert b"Traceback" not in err
    return running.returncode, out, err.decode()


def first_words(out: bytes) -> list[str]:
    """The first cell of each line under the header."""
    return [line.split()[0] for line in out.decode().splitlines()[1:]]


async def test_ls_lists_without_content_unless_asked(pieces: Pieces) -> None:
    """`ls` prints a line an asset, leaves out raw content and assets not saved, and takes --raw and --pseudo."""
    code, out, err = await pieces("ls")
    assert (code, err) == (0, "")
    assert set(first_words(out)) == {ONE, TWO}
    assert b"retry loop" in out
    assert b"CODE/py" in out
    lines = [json.loads(line) for line in (await pieces("ls", "-o", "ndjson"))[1].splitlines()]
    assert {line["id"] for line in lines} == {ONE, TWO}
    assert b"for i in range" not in (await pieces("ls", "-o", "json"))[1]
    assert b"for i in range" in (await pieces("ls", "--raw", "-o", "json"))[1]
    _, out, _ = await pieces("ls", "--pseudo", "-o", "yaml")
    assert {asset["id"] for asset in yaml.safe_load(out)["iterable"]} == {ONE, TWO, NOTE}


async def test_ls_of_ids(pieces: Pieces) -> None:
    """--ids and --only-pseudo print an id a line and nothing else."""
    assert set((await pieces("ls", "--ids"))[1].decode().split()) == {ONE, TWO}
    assert set((await pieces("ls", "--ids", "--pseudo"))[1].decode().split()) == {ONE, TWO, NOTE}
    assert (await pieces("ls", "--only-pseudo"))[1].decode().split() == [NOTE]


async def test_get_prints_an_asset_or_writes_its_content(pieces: Pieces, tmp_path: Path) -> None:
    """`get` prints the asset; with --content it writes the content, byte for byte, to a file or standard output."""
    _, out, _ = await pieces("get", ONE, "-o", "json")
    assert json.loads(out)["name"] == "retry loop"
    assert b"for i in range" not in out
    assert await pieces("get", ONE, "--content") == (0, b"for i in range(3): pass", "")
    assert await pieces("get", ONE, "--content", "-o", "-") == (0, b"for i in range(3): pass", "")
    assert await pieces("get", ONE, "--content", "-o", str(tmp_path / "loop.py")) == (0, b"", "")
    assert (tmp_path / "loop.py").read_bytes() == b"for i in range(3): pass"


async def test_text_and_bytes_go_in_and_come_out_the_same(pieces: Pieces, rig: PiecesRig, tmp_path: Path) -> None:
    """A text file becomes a fragment named after it, other bytes a file; their content comes back unchanged."""
    (tmp_path / "größe.py").write_text("s = 'größe'\r\n")
    (tmp_path / "dots.png").write_bytes(PIXELS)
    for file, form in (("größe.py", "fragment"), ("dots.png", "file")):
        code, out, err = await pieces("create", str(tmp_path / file), "--tag", "http", "-o", "json")
        assert (code, err) == (0, "")
        made = json.loads(out)
        assert int(made["revision"]) > 0
        held = rig.held(made["asset"]["id"])
        assert (held["name"], held["form"], held["ext"]) == (file, form, file.rpartition(".")[2])
        assert held["tags"] == ["http"]
        _, content, _ = await pieces("get", made["asset"]["id"], "--content")
        assert content == (tmp_path / file).read_bytes()


async def test_create_from_standard_input(pieces: Pieces, rig: PiecesRig) -> None:
    """FILE - is standard input; --name and --ext say what it is; the table names the new asset."""
    code, out, _ = await pieces("create", "-", "--name", "note", "--ext", "md", given=b"# hi")
    [asset_id] = first_words(out)
    held = rig.held(asset_id)
    assert (code, held["name"], held["ext"], held["content"]) == (0, "note", "md", "# hi")


async def test_five_megabytes_go_in_and_come_out(pieces: Pieces) -> None:
    """Content beyond gRPC's default limit of 4 MiB passes the command in both directions."""
    large = b"0123456789abcdef" * (5 * 1024 * 1024 // 16)
    code, out, err = await pieces("create", "-", "--ext", "txt", given=large)
    assert (code, err) == (0, "")
    [asset_id] = first_words(out)
    code, out, err = await pieces("get", asset_id, "--content")
    assert (code, err) == (0, "")
    assert out == large


@pytest.mark.parametrize("ext", ["txt", "bin"])
async def test_whatever_was_created_can_be_read_back(usual: PiecesRig, ext: str) -> None:
    """With the usual limits, 3 MB and the most that CreateAsset takes come back as they were, text and bytes alike."""
    for size in (3_000_000, largest(ext)):
        content = (LINE if ext == "txt" else PIXELS) * (size // 256 + 1)
        made = await usual.call("CreateAsset", seed=seed_of(content[:size], ext), transferables=False)
        code, out, err = await run_pieces("get", made.asset.id, "--content", address=usual.address)
        assert (code, err) == (0, "")
        assert out == content[:size]


def seed_of(content: bytes, ext: str) -> seed_pb2.Seed:
    """A seed of text, or of bytes."""
    carrier = {"string": {"raw": content.decode()}} if ext == "txt" else {"bytes": {"raw": content}}
    seed = convert.message(seed_pb2.Seed, seed_document())
    seed.asset.format.CopyFrom(seed_pb2.SeededFormat(fragment={**carrier, "metadata": {"ext": ext}}))  # type: ignore[arg-type]  # a message as a dict
    return seed


def largest(ext: str) -> int:
    """How long content may be, in bytes, for a request just within the limit of what can be read back."""
    limit = 4 * 1024 * 1024 - READ_BACK_BYTES
    near = limit - 1000
    request = pb.CreateAssetRequest(source=SOURCE, seed=seed_of(b"x" * near, ext), transferables=False)
    return near + limit - request.ByteSize()


async def test_more_than_can_be_read_back_is_not_made(usual: PiecesRig) -> None:
    """One byte more than can be read back is refused by the field, with the setting's name, and nothing is made."""
    for ext in ("txt", "bin"):
        seed = seed_of(b"x" * (largest(ext) + 1), ext)
        problem = await problem_of(usual.call("CreateAsset", seed=seed, transferables=False))
        assert (problem.code, problem.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert "server.message_bytes_max leaves 4177920" in problem.violations["seed"]
    assert usual.standin.asset_ids() == []


async def test_more_json_than_can_be_read_back_is_not_made() -> None:
    """Bytes are numbers in JSON: where the source's own limit would keep them from coming back, they are refused."""
    async with pieces_rig(source={"body_bytes_max": 64 * 1024}) as rig:
        assert (await rig.call("CreateAsset", seed=seed_of(PIXELS * 30, "bin"))).asset.id
        problem = await problem_of(rig.call("CreateAsset", seed=seed_of(PIXELS * 60, "bin")))
        assert problem.reason == "INVALID_REQUEST"
        assert "body_bytes_max leaves 49152; raise it for source desk" in problem.violations["seed"]
        assert len(rig.standin.asset_ids()) == 1


async def test_more_than_the_server_takes_is_not_sent(usual: PiecesRig) -> None:
    """The command asks how large a request may be: one beyond it ends with 4, naming the setting, and is not sent."""
    for command in ("create", "draft"):
        code, out, err = await run_pieces(command, "-", address=usual.address, given=b"x" * (5 * 1024 * 1024))
        assert (code, out) == (4, b"")
        assert err.startswith("assetwatch: the request is 52")
        assert err.endswith("and the server takes 4194304: send less, or raise server.message_bytes_max there\n")
    with pytest.raises(grpc.aio.AioRpcError, match="larger than max") as caught:
        await usual.call("DraftAsset", seed=seed_of(b"x" * (5 * 1024 * 1024), "txt"))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    code, [line] = explain(caught.value, "nowhere")
    assert code == 4
    assert line.endswith("or raise server.message_bytes_max there [RESOURCE_EXHAUSTED]")


async def test_what_draft_prints_is_a_seed_for_create(pieces: Pieces, rig: PiecesRig) -> None:
    """`draft` says what could be made of it and makes nothing; its JSON goes into `create --seed -`."""
    before = rig.standin.asset_ids()
    _, table, _ = await pieces("draft", "-", "--name", "drafted", "--ext", "py", "-o", "table", given=b"x = 1")
    given = ("-", "--name", "drafted", "--ext", "py")
    assert b"CODE/py, TEXT/txt" in table
    assert rig.standin.asset_ids() == before
    for printed, taken in (((), ()), (("-o", "json"), ("--seed", "-")), (("-o", "ndjson", "--raw"), ("-", "--seed"))):
        code, drafted, _ = await pieces("draft", *given, *printed, given=b"x = 1")
        assert (code, rig.standin.asset_ids()) == (0, before)
        code, out, err = await pieces("create", *taken, given=drafted)
        assert (code, err) == (0, "")
        [asset_id] = first_words(out)
        assert rig.held(asset_id)["content"] == "x = 1"
        rig.standin.remove(asset_id)


async def test_bytes_go_through_a_draft(pieces: Pieces, rig: PiecesRig) -> None:
    """Content that is no text comes through draft and create unchanged, too."""
    _, drafted, _ = await pieces("draft", "-", "--ext", "png", given=PIXELS)
    code, out, err = await pieces("create", given=drafted)
    assert (code, err) == (0, "")
    [asset_id] = first_words(out)
    assert rig.held(asset_id)["content"].encode("latin-1") == PIXELS


async def test_rm_deletes_one_after_the_other(pieces: Pieces, rig: PiecesRig) -> None:
    """`rm` prints each id that is gone, and ends with 4 at the first that cannot be deleted."""
    code, out, err = await pieces("rm", ONE, UNKNOWN, TWO)
    assert (code, out.decode().split()) == (4, [ONE])
    assert "ASSET_GONE" in err or "PIECES_REFUSED" in err
    assert set(rig.standin.asset_ids()) == {TWO, NOTE}


async def test_search_by_text_tags_and_filters(pieces: Pieces) -> None:
    """`search` finds by text, by tag, and by filters from standard input; with nothing it is refused with 4."""
    assert first_words((await pieces("search", "retry"))[1])[0] == ONE
    assert set(first_words((await pieces("search", "--tag", "cli"))[1])) == {TWO}
    filters = json.dumps({"filters": {"iterable": [{"tags": ["cli"]}]}}).encode()
    code, out, _ = await pieces("search", "--filters", "-", "-o", "ndjson", given=filters)
    assert (code, [json.loads(line)["identifier"] for line in out.splitlines()]) == (0, [TWO])
    code, out, err = await pieces("search")
    assert (code, out) == (4, b"")
    assert "give query or searchable_tags" in err


async def test_formats(pieces: Pieces) -> None:
    """`formats` prints a line a format; with --raw, as JSON, its content."""
    _, out, _ = await pieces("formats", ONE)
    assert b"fragment" in out
    assert f" {len('for i in range(3): pass')} ".encode() in out
    assert b"for i in range" in (await pieces("formats", ONE, "--raw", "-o", "json"))[1]


async def test_related_and_recommended(pieces: Pieces, rig: PiecesRig) -> None:
    """`related` and `recommend` send whole assets and what the user did; what is like the one is the other."""
    assert first_words((await pieces("related", ONE))[1]) == [TWO]
    assert set(first_words((await pieces("recommend"))[1])) == {ONE, TWO}
    assert first_words((await pieces("recommend", "--touched", ONE))[1]) == [TWO]
    assert first_words((await pieces("recommend", "--scrolled", ONE))[1]) == [TWO]
    assert first_words((await pieces("recommend", TWO))[1]) == [ONE]
    assert (await pieces("recommend", UNKNOWN))[0] == 4


@pytest.mark.parametrize("kind", ["assets", "ids", "raw"])
async def test_stream_prints_everything_then_changes(spawn: Spawn, rig: PiecesRig, kind: str) -> None:
    """`stream` prints all, then each change as it happens; --raw brings the content; Ctrl-C ends it with 130."""
    flags = {"assets": (), "ids": ("--ids",), "raw": ("--raw",)}[kind]
    async with spawn("pieces", "stream", *flags, "--server", rig.address) as running:
        before = await until(running, '"synced"')
        rig.standin.remove(ONE)
        after = await until(running, "CHANGE_KIND_REMOVED")
        running.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(running.communicate(), DEADLINE_S)
    assert "MODE_SNAPSHOT" in before
    assert ONE in before
    assert ("for i in range" in before) is (kind == "raw")
    assert ONE in after
    assert (running.returncode, err) == (130, b"")


async def test_stream_goes_on_after_its_age_and_prints_lines(
    spawn: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that reaches its age is called again, and begins again with everything; -o table prints lines."""
    monkeypatch.chdir(tmp_path)
    async with pieces_rig(server={"stream_age_s": 0.5}) as rig:
        shelve(rig.standin)
        async with spawn("pieces", "stream", "-o", "table", "--server", rig.address) as running:
            first = await until(running, "synced: ")
            again = await until(running, "synced: ")
    for printed in (first, again):
        assert "snapshot: everything there is follows" in printed
        assert f"upsert {ONE} retry loop CODE/py" in printed


async def test_stream_goes_on_with_a_server_that_was_killed(spawn: Spawn, tmp_path: Path) -> None:
    """Killed and started again, the server is called again: all of it anew, and the break told once."""
    standin = PiecesStandin()
    await standin.start()
    shelve(standin)
    config = {"store": {"kind": "memory"}, "sources": {SOURCE: {"kind": "pieces", "base_url": standin.url}}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    serve = ("serve", "-c", str(tmp_path / "c.yaml"), "--listen", address)
    try:
        async with spawn(*serve) as first:
            await until(first, "is ready")
            async with spawn("pieces", "stream", "--server", address) as running:
                await until(running, '"synced"')
                first.kill()
                await first.wait()
                standin.remove(ONE)
                async with spawn(*serve) as second:
                    await until(second, "is ready")
                    again = await until(running, '"synced"')
                running.send_signal(signal.SIGINT)
                _, err = await asyncio.wait_for(running.communicate(), DEADLINE_S)
    finally:
        await standin.stop()
    assert TWO in again
    assert ONE not in again
    assert err.decode().splitlines()[0] == "assetwatch: the stream broke (UNAVAILABLE); calling again"
    assert running.returncode == 130


async def until(running: asyncio.subprocess.Process, text: str) -> str:
    """Read lines up to one with the text; return all of them."""
    assert running.stdout is not None
    read = ""
    while text not in read:
        line = await asyncio.wait_for(running.stdout.readline(), DEADLINE_S)
        assert line, "the stream ended"
        read += line.decode()
    return read


async def test_the_source_is_the_only_one_of_its_kind_or_named(pieces: Pieces, command: Run) -> None:
    """Without --source the only source of kind pieces is meant; with none the command ends with 2 and says so."""
    assert (await pieces("ls", "--source", SOURCE))[0] == 0
    code, _, err = await pieces("ls", "--source", OTHER_KIND)
    assert code == 4
    assert "SOURCE_KIND_MISMATCH" in err
    async with serving() as fake:
        done = await command("pieces", "ls", "--server", fake.address)
    assert done.code == 2
    assert done.err == "assetwatch: the server has no source of kind pieces; see `assetwatch sources`\n"


async def test_several_sources_are_named(spawn: Spawn, command: Run, tmp_path: Path) -> None:
    """With several sources of kind pieces and no --source the command ends with 2 and names them."""
    nobody = {"kind": "pieces", "base_url": "http://127.0.0.1:9"}
    config = {"store": {"kind": "memory"}, "sources": {"home": nobody, "work": nobody}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    async with spawn("serve", "-c", str(tmp_path / "c.yaml"), "--listen", "127.0.0.1:0") as running:
        address = (await until(running, "ready on ")).split()[-1]
        done = await command("pieces", "ls", "--server", address)
    assert done.code == 2
    assert done.err.endswith("name one with --source: home, work\n")


async def test_what_the_upstream_says_is_shown(pieces: Pieces, rig: PiecesRig) -> None:
    """A seed the upstream refuses ends with 4, its text shown; an asset that is not there is named as gone."""
    rig.standin.switch({"refused_seed_status": 400})
    code, _, err = await pieces("create", "--seed", "-", given=b'{"asset": {"format": {}}}')
    assert code == 4
    assert "[FAILED_PRECONDITION PIECES_REFUSED]" in err
    assert "  the upstream says: " in err
    code, _, err = await pieces("get", UNKNOWN)
    assert code == 4
    assert "[NOT_FOUND ASSET_GONE]: see `assetwatch pieces ls`" in err


async def test_a_creation_that_fails_may_have_happened(pieces: Pieces, rig: PiecesRig) -> None:
    """Where the upstream gives no answer to a creation, the command warns before it is tried again."""
    await rig.standin.stop()
    code, _, err = await pieces("create", "-", "--source", SOURCE, given=b"x")
    assert code == 4
    warning, refusal, *_ = err.splitlines()
    assert warning == "assetwatch: the asset may have been made: look before trying again"
    assert "SOURCE_UNREACHABLE" in refusal


async def test_nobody_there() -> None:
    """Where nothing listens, every way to call ends with 3 and names the address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for arguments in (("ls",), ("stream", "--source", SOURCE), ("get", ONE, "--content")):
            code, out, err = await run_pieces(*arguments, address=address)
            assert (code, out) == (3, b"")
            assert err.startswith(f"assetwatch: no server can be reached at {address}")


@pytest.mark.parametrize(
    "arguments",
    [
        ("ls", "--ids", "--raw"),
        ("ls", "--only-pseudo", "--pseudo"),
        ("get", ONE, "-o", "loop.py"),
        ("get", ONE, "--content", "-o", "json"),
        ("create", "/nonexistent/file"),
        ("create", "-", "--seed", "--name", "x"),
        ("create", "-", "--seed"),
        ("create",),
        ("create", "--name", "x"),
        ("search", "--filters", "-"),
        ("search", "--filters", "-", "--tag", "x"),
        ("stream", "--ids", "--raw"),
        ("related",),
    ],
)
async def test_usage_errors_of_pieces(arguments: tuple[str, ...]) -> None:
    """A wrong command line, a file that cannot be read, or one that is not the JSON wanted ends with 2 and says why."""
    code, out, err = await run_pieces(*arguments, given=b'{"nonsense": 1}', address="127.0.0.1:9")
    assert (code, out) == (2, b"")
    assert err.strip()


async def test_a_file_that_cannot_be_written(pieces: Pieces, tmp_path: Path) -> None:
    """Where the content cannot be written the command ends with 2 and says why."""
    code, _, err = await pieces("get", ONE, "--content", "-o", str(tmp_path))
    assert code == 2
    assert "cannot be written: Is a directory" in err
