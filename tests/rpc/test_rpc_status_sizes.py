"""Every error fits into what any client takes: 4 KB of trailers, measured at a real call, whatever texts are in it."""

from __future__ import annotations

import base64
import inspect
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_status import rpc_status

from assetwatchd.model import errors
from assetwatchd.rpc.names import REPLICA_KEY
from assetwatchd.rpc.status import STATUS_BYTES_MAX, TABLE, ErrorsAsStatus, status_of, wire_bytes
from assetwatchd.runtime.replica import NAME_CHARS_MAX
from support.problems import problem_of
from support.raw_calls import one_to_one

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TRAILERS_BYTES_MAX = 4096
HOSTILE = {
    "long": "x" * 100_000,
    "emoji": "\U0001f600" * 2048,
    "percent": "%" * 5000,
    "controls": "\x00\r\n\x1b\u202e" * 500,
    "half a pair": "\ud800" * 3000,
    "an id": "s3://" + "ü" * 1021,
    "a source": "\U0001f600" * 63,
    "empty": "",
}
"""Texts of upstreams, names and ids: longer than any that are let through, and those that grow most on the wire."""


def made(cls: type[errors.CallError], text: str) -> errors.CallError:
    """Make an error with a text wherever one goes, and fifty of them where there can be any number."""
    fills = {"str": text, "int": 2**63 - 1, "float": 1e9, "list[str]": [text] * 1000, "bool": True}
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for parameter in list(inspect.signature(cls).parameters.values()):
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional += [(text, text)] * 50
        elif parameter.kind is parameter.VAR_KEYWORD:
            named |= {f"member_{n}": text for n in range(4)}
        elif parameter.kind is parameter.KEYWORD_ONLY:
            named[parameter.name] = fills[parameter.annotation]
        else:
            positional.append(fills[parameter.annotation])
    return cls(*positional, **named)


@asynccontextmanager
async def raising(wanted: dict[str, errors.CallError]) -> AsyncIterator[grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]]:
    """Run a server whose one method fails with the error that its request names; yield what calls it."""

    async def fail(request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata(((REPLICA_KEY, "x" * NAME_CHARS_MAX),))
        async with ErrorsAsStatus(context):
            raise wanted[request.decode()]

    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(fail)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Failing", {"Fail": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    # The client's own limit is a hard one: what is beyond it never gets to the caller.
    options = [("grpc.max_metadata_size", TRAILERS_BYTES_MAX), ("grpc.absolute_max_metadata_size", TRAILERS_BYTES_MAX)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield one_to_one(channel, "/test.Failing/Fail")
    await server.stop(0)


@pytest.mark.parametrize("cls", TABLE, ids=lambda cls: cls.__name__)
async def test_trailers_of_every_error_stay_small(cls: type[errors.CallError]) -> None:
    """Code, reason and details come whole, with each kind of hostile text; what was cut says so by its dots."""
    wanted = {name: made(cls, text) for name, text in HOSTILE.items()}
    async with raising(wanted) as call:
        for name, error in wanted.items():
            told = await problem_of(call(name.encode()))
            assert (told.code, told.reason) == TABLE[cls], name
            assert len(told.metadata) == len(error.metadata)
            assert bool(told.violations) == bool(error.violations)
            assert (told.retry_after_s is not None) == hasattr(error, "retry_after_s")


@pytest.mark.parametrize("cls", TABLE, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("name", HOSTILE)
def test_the_size_is_that_of_the_wire(cls: type[errors.CallError], name: str) -> None:
    """Percent-encoding triples what is not ASCII, base64 adds a third; both are counted."""
    status = status_of(made(cls, HOSTILE[name]))
    message = "".join(chr(b) if 0x20 <= b <= 0x7E and b != 0x25 else f"%{b:02X}" for b in status.message.encode())
    [(key, details)] = rpc_status.to_status(status).trailing_metadata
    assert key == "grpc-status-details-bin"
    assert isinstance(details, bytes)
    assert wire_bytes(status) == len(message) + len(base64.b64encode(details)) <= STATUS_BYTES_MAX


def test_texts_that_fit_are_not_cut() -> None:
    """Ten violations as they come: each under its whole path, with its whole text."""
    texts = [
        (f"assets[{n}].asset_id", "should be tid: and a technical id, or id: and a number; see the schema")
        for n in range(10)
    ]
    status = status_of(errors.InvalidRequest(*texts))
    assert [field for field, _ in errors.InvalidRequest(*texts).violations] == [field for field, _ in texts]
    assert status.message == str(errors.InvalidRequest(*texts))
    assert "..." not in status.message


def test_the_sources_there_are_are_named_up_to_a_number() -> None:
    """Twenty, and how many more."""
    told = str(errors.SourceNotFound("x", [f"s{n}" for n in range(1000)]))
    assert told.endswith("s18, s19 and 980 more")
    assert str(errors.SourceNotFound("x", ["a", "b"])).endswith("there are: a, b")
