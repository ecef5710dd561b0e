"""Each RPC has an example in the reference: a command that works as it stands there, and what it is answered with."""

from __future__ import annotations

import json
import re
import shlex
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from google.protobuf import json_format, message_factory

from support import grpcurl
from support.command_line import process, run
from support.documents import blocks, pages
from support.schema import methods

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from google.protobuf.descriptor import Descriptor, MethodDescriptor

METHODS = {method.full_name: method for method in methods()}
PAGES = {"assetwatch.v1": "docs/reference/api.md", "assetwatch.pieces.v1": "docs/reference/pieces-api.md"}
ADDRESS = "127.0.0.1:50051"
VARIES = re.compile(
    r"(_time|revision|_token|epoch|created\.value|poll_stats\.\w+|CreateAsset\.asset\.id|replica|version)$"
)
"""Values that are others in each run, by the end of their paths; all else is as the example says."""
KNOWN = 60
"""So many assets the demo has when it has read them all, or more."""


class Example(NamedTuple):
    """What the reference shows of an RPC. answers: one, or of a stream the first of its messages."""

    command: str
    answers: list[Any]

    @property
    def arguments(self) -> list[str]:
        """Return the words of the command, as a shell takes them apart."""
        return shlex.split(self.command.replace("\\\n", " "))

    @property
    def request(self) -> Any:
        """Return the request, as JSON."""
        words = self.arguments
        return json.loads(words[words.index("-d") + 1]) if "-d" in words else {}


def examples() -> Mapping[str, Example]:
    """Read the example of each RPC, by the RPC's full name."""
    found = {}
    for package, page in PAGES.items():
        for part in re.split(r"^## ", pages()[page], flags=re.MULTILINE)[1:]:
            service = part.partition("\n")[0]
            for section in re.split(r"^### ", part, flags=re.MULTILINE)[1:]:
                if shown := re.search(r"^#### Example\n(.*)", section, flags=re.MULTILINE | re.DOTALL):
                    name = f"{package}.{service}.{section.partition(chr(10))[0]}"
                    [command], [answers] = blocks("sh", shown[1]), blocks("json", shown[1])
                    found[name] = Example(command.strip(), grpcurl.documents_of(answers))
    return found


EXAMPLES = examples()


@asynccontextmanager
async def demo() -> AsyncIterator[str]:
    """Run the demo in which nothing changes by itself, and wait until all is read; return where it serves."""
    async with process("demo", "--no-table", "--speed", "0", "--grpc", "127.0.0.1:0") as running:
        assert running.stdout is not None
        address = (await running.stdout.readline()).decode().split()[-1]
        while True:
            listed = await run("list", "--all", "-o", "ndjson", ASSETWATCH_SERVER=address)
            if len(listed.out.splitlines()) >= KNOWN:
                break
        yield address


def parse(document: Any, into: Descriptor) -> None:
    """Read JSON strictly: a name that the message does not have, or a value of another type, raises."""
    json_format.Parse(json.dumps(document), message_factory.GetMessageClass(into)())


@pytest.mark.unit
def test_every_rpc_has_an_example() -> None:
    """In the page of its package, and none is of an RPC that there is not."""
    assert set(METHODS) == set(EXAMPLES), "write one into the comment of the RPC, under **Example**: make reference"


@pytest.mark.unit
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_of_the_schema(name: str) -> None:
    """The command calls this RPC; request and answers hold fields of its messages alone, of their types."""
    method, example = METHODS[name], EXAMPLES[name]
    assert example.arguments[:2] == ["grpcurl", "-plaintext"]
    assert example.arguments[-2:] == [ADDRESS, f"{method.containing_service.full_name}/{method.name}"]
    parse(example.request, method.input_type)
    assert example.answers
    assert len(example.answers) == 1 or method.server_streaming
    for answer in example.answers:
        parse(answer, method.output_type)


@pytest.mark.timeout(300)
async def test_every_example_is_answered_as_it_says() -> None:
    """Each command, against one demo in the order of the schema: what is shown is in the answer."""
    async with demo() as address:
        failed = {name: why for name in METHODS if (why := await _differs(METHODS[name], EXAMPLES[name], address))}
    assert failed == {}


async def _differs(method: MethodDescriptor, example: Example, address: str) -> str:
    """Make the call; return what of the example was not answered, empty if all was."""
    if method.server_streaming:
        return await _stream_differs(method, example, address)
    words = [word.replace(ADDRESS, address) for word in example.arguments]
    ran = await grpcurl.run(*words)
    [answer] = ran.documents or [None]
    return ran.err or difference(example.answers[0], answer, method.name)


async def _stream_differs(method: MethodDescriptor, example: Example, address: str) -> str:
    """Read on until each message that is shown has come after the one before it."""
    place = 0
    async with grpcurl.following(address, example.arguments[-1], example.request) as stream:
        for shown in example.answers:
            with suppress(TimeoutError, AssertionError):
                await stream.until(partial(_has, shown, place))
            if not _has(shown, place, stream.documents):
                return f"did not come: {shown}"
            place += [*map(partial(_is, shown), stream.documents[place:])].index(True) + 1
    return ""


def _has(shown: Any, place: int, told: list[Any]) -> bool:
    return any(_is(shown, each) for each in told[place:])


def _is(shown: Any, told: Any) -> bool:
    return not difference(shown, told, "")


def difference(shown: Any, told: Any, path: str) -> str:
    """Return the first place at which something is shown that was not told; what is left out is none."""
    if isinstance(shown, dict):
        if not isinstance(told, dict):
            return f"{path}: {told!r}"
        each = (difference(value, told.get(name), f"{path}.{name}") for name, value in shown.items())
        return next(filter(None, each), "")
    if isinstance(shown, list):
        lacking = (item for item in shown if all(difference(item, each, path) for each in told or ()))
        return next((f"{path}: no {item!r}" for item in lacking), "")
    if told is None or (shown != told and not VARIES.search(path)):
        return f"{path}: {shown!r}, not {told!r}"
    return ""


@pytest.mark.unit
@pytest.mark.parametrize(
    ("shown", "told", "found"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, ""),
        ({"a": 1}, {"a": 2}, "R.a: 1, not 2"),
        ({"a": 1}, {}, "R.a: 1, not None"),
        ({"a": {"b": 1}}, {"a": 1}, "R.a: 1"),
        ({"a": [{"b": 1}]}, {"a": [{"b": 0}, {"b": 1, "c": 2}]}, ""),
        ({"a": [{"b": 1}]}, {"a": [{"b": 0}]}, "R.a: no {'b': 1}"),
        ({"a": [1]}, {}, "R.a: no 1"),
        ({"observe_time": "x"}, {"observe_time": "y"}, ""),
        ({"observe_time": "x"}, {}, "R.observe_time: 'x', not None"),
    ],
)
def test_a_difference_is_found(shown: Any, told: Any, found: str) -> None:
    """What the test of the examples goes by."""
    assert difference(shown, told, "R") == found
