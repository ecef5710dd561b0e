"""Every command that a document prints is run as it stands there, against a demo; a reader can paste it."""

from __future__ import annotations

import re
import shlex
import sys
from typing import TYPE_CHECKING

import pytest

from support.demo import demo, run, statements, until
from support.documents import ROOT, blocks, pages, table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from support.demo import Demo

PRINTED = {name: text for name, text in pages().items() if not name.startswith("docs/reference/")}
"""Those of docs/reference are written by the program."""
ELSEWHERE = {
    r"make ": "repo/test_first_command.py::test_a_target_makes_its_layers_first",
    r"cd examples/node && npm ci && node watch\.mjs ": "node/test_node_pieces.py::test_node_watches",
    r"go (mod|run) ": "repo/test_generated_clients.py::test_go",
    r"cd clients/typescript && ": "repo/test_generated_clients.py::test_typescript",
    r"(mvn|java) ": "repo/test_generated_clients.py::test_java",
    r"node pieces\.mjs ": "node/test_node_pieces.py::test_node_lists_creates_searches_streams_and_deletes",
}
"""Commands that install something, by how they begin, and the test that holds each in its own way."""
BY_HAND = {
    r"cargo (init|add) ": "Rust comes from no registry that the tests ask; tried on the day that the page says",
}
"""Commands that no test runs, and why."""
ENDS_WITH = {
    """{"asset": {"source": "dam", "asset_id": "x"}}""": 64 + 5,
    "-max-time": 64 + 4,
}
"""The exit codes of lines that show an error: grpcurl's are 64 and the status."""
GOES_ON = {
    r"assetwatch serve": "serving on",
    r"assetwatch demo --replicas": "kill -9",
    r"assetwatch sandbox --write-config": "leads to them",
    r"assetwatch watch": "synced",
    r"grpcurl .*/Stream\w+$": "{",
}
"""Commands that end when they are interrupted alone, and what they have printed by then."""


def first_match(patterns: Mapping[str, object], statement: str) -> str | None:
    """Return the pattern that a statement begins with."""
    return next((pattern for pattern in patterns if re.match(pattern, statement)), None)


async def paste(statement: str, before: str, where: Demo) -> None:
    """Run one statement as its page means it."""
    script = f"{before}\n{where.localised(statement)}"
    if (pattern := first_match(GOES_ON, statement)) is not None:
        await until(script, where, GOES_ON[pattern])
        return
    code, told = await run(script, where)
    wanted = next((code for part, code in ENDS_WITH.items() if part in statement), 0)
    assert code == wanted, f"{statement}\n{told}"


def run_here(statement: str) -> bool:
    """Whether a statement is to be run by this test."""
    return first_match(ELSEWHERE | BY_HAND, statement) is None


PASTED = [name for name, text in PRINTED.items() if any(run_here(each) for each in statements(text))]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", PASTED)
async def test_what_is_printed_can_be_pasted(name: str, tmp_path: Path) -> None:
    """A page from its top to its end, in one folder; variables that it sets hold for what follows."""
    async with demo(tmp_path) as running:
        before = "set -o pipefail"
        for statement in filter(run_here, statements(PRINTED[name])):
            if re.match(r"[A-Z]+=", statement):
                before += f"\n{running.localised(statement)}"
            else:
                await paste(statement, before, running)


@pytest.mark.timeout(400)
async def test_the_calls_of_the_pieces_api(tmp_path: Path) -> None:
    """Each line of grpcurl in the table, with the variables that the page sets; the asset is found anew each time."""
    text = PRINTED["docs/pieces.md"]
    set_up = [each for each in statements(text) if re.match(r"[A-Z]+=", each)]
    calls = [row[3].strip("`") for row in table("Operation", text)]
    assert len(calls) == 15
    async with demo(tmp_path) as running:
        before = "\n".join(["set -o pipefail", *map(running.localised, set_up)])
        for call in calls:
            await paste(call, before, running)


PROGRAMS = [(name, number) for name, text in PRINTED.items() for number, _ in enumerate(blocks("python", text))]


@pytest.mark.parametrize(("name", "number"), PROGRAMS)
async def test_a_printed_program_runs(name: str, number: int, tmp_path: Path) -> None:
    """Each Python program prints something about an asset of its source."""
    async with demo(tmp_path) as running:
        (tmp_path / "program.py").write_text(running.localised(blocks("python", PRINTED[name])[number]))
        await until(f"{shlex.quote(sys.executable)} program.py", running, "tid:")


def test_what_is_not_run_here_is_held_elsewhere() -> None:
    """Each exception is of a command that is printed, and names a test that there is."""
    printed = [each for text in PRINTED.values() for each in statements(text)]
    for pattern in ELSEWHERE | BY_HAND:
        assert any(re.match(pattern, each) for each in printed), pattern
    for test in ELSEWHERE.values():
        file, _, function = test.partition("::")
        assert re.search(rf"^(async )?def {function}\(", (ROOT / "tests" / file).read_text(), flags=re.MULTILINE), test
