"""One made-up call after the other: every method of every service, and whether its end is one that is documented."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
from assetwatch.v1.asset_status_pb2 import AssetRef
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection_pb2

from assetwatch_client import reason_of
from assetwatchd.rpc import names, reflection
from assetwatchd.rpc.status import TABLE
from fuzz.messages import Filler
from fuzz.mutations import mutate
from support.described import described
from support.raw_calls import many_to_many, one_to_many, one_to_one

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from fuzz.served import Served

MUTATED = 0.4
"""This share of the calls is changed on the wire."""
PATIENCE_S = 0.7
"""Waits and reads of an upstream may take longer: then the client ends them, as any may."""
ANSWER_S = 10.0
"""Within this anybody else's call is answered, on a machine that is as busy as may be."""
MESSAGES_MAX = 5
"""Of a stream, before the client goes."""
MESSAGE_BYTES_MAX = 4 * 1024 * 1024
TRAILERS_BYTES_MAX = 4096

DOCUMENTED = set(TABLE.values())
OWN_END = {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
OVER = "Internal error from Core"
"""What the client itself says of a write to a call that has ended meanwhile, as by its deadline; no server does."""
NO_SUCH_NAME = (grpc.StatusCode.NOT_FOUND, None)
"""What the health protocol says of a name it does not know, and no reason of ours."""


class Method(NamedTuple):
    """What is called: /SERVICE/METHOD, its request, whether it takes and gives many messages."""

    path: str
    request: type[Message]
    streams_in: bool = False
    streams_out: bool = False


def methods() -> list[Method]:
    """Return every method there is: ours, health, and reflection under both of its names."""
    found = [
        Method(
            f"/{service.full_name}/{each.name}",
            GetMessageClass(described(each.input_type)),
            streams_out=each.server_streaming,
        )
        for service in (*names.SERVICES, names.HEALTH)
        for each in service.methods
    ]
    told = reflection_pb2.ServerReflectionRequest
    paths = [f"/{version}/ServerReflectionInfo" for version in (reflection.V1, reflection.V1ALPHA)]
    return found + [Method(path, told, streams_in=True, streams_out=True) for path in paths]


@dataclass
class Findings:
    """What came of the calls. ends: how often each method ended how. wrong: undocumented ends, and what was sent."""

    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Caller:
    """Makes calls from a seed: the same one makes the same bytes."""

    def __init__(self, served: Served, seed: int, findings: Findings) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - it shall be made again from its seed
        self._known = {**KNOWN, **known_to(served)}
        self._fillers = {
            "": Filler(self._rng, self._known),
            names.PIECES_ASSETS.full_name: Filler(self._rng, {**self._known, "source": ["pieces"] * 9 + ["omn"]}),
        }
        self._methods = methods()
        self._findings = findings
        options = [
            ("grpc.absolute_max_metadata_size", TRAILERS_BYTES_MAX),
            ("grpc.max_metadata_size", TRAILERS_BYTES_MAX),
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self._channel = grpc.aio.insecure_channel(served.address, options=options)

    async def run(self) -> None:
        """Call for ever."""
        async with self._channel:
            while True:
                await self.call()

    async def call(self) -> None:
        """Make one call, and judge its end."""
        method = self._rng.choice(self._methods)
        sent = [self._bytes(method) for _ in range(self._rng.randint(1, 3) if method.streams_in else 1)]
        code, reason, text = await self._made(method, sent)
        self._findings.ends[method.path, f"{code.name} {reason or ''}".strip()] += 1
        if not (method.streams_in and text == OVER) and not self._documented(method, sent, code, reason):
            begun = [each[:400].hex() + (f"... {len(each)} bytes" if len(each) > 400 else "") for each in sent]
            self._findings.wrong.append(f"{method.path}: {code.name} {reason} {text!r} for {begun}")

    def _bytes(self, method: Method) -> bytes:
        filler = self._fillers.get(method.path.split("/")[1], self._fillers[""])
        given = filler.fill(method.request()).SerializeToString()
        return mutate(given, self._rng) if self._rng.random() < MUTATED else given

    async def _made(self, method: Method, sent: list[bytes]) -> tuple[grpc.StatusCode, str | None, str]:
        call = self._exchange(method, sent) if method.streams_in else self._read(method, sent[0])
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return error.code(), reason_of(error), error.details() or ""
        return grpc.StatusCode.OK, None, ""

    async def _read(self, method: Method, sent: bytes) -> None:
        call = one_to_many(self._channel, method.path)(sent, timeout=PATIENCE_S)
        try:
            for _ in range(MESSAGES_MAX if method.streams_out else 2):
                if await call.read() is grpc.aio.EOF:
                    return
        finally:
            call.cancel()

    async def _exchange(self, method: Method, sent: list[bytes]) -> None:
        call = many_to_many(self._channel, method.path)(timeout=PATIENCE_S)
        try:
            for each in sent:
                await call.write(each)
                if await call.read() is grpc.aio.EOF:
                    return
        finally:
            call.cancel()

    def _documented(self, method: Method, sent: list[bytes], code: grpc.StatusCode, reason: str | None) -> bool:
        if code is grpc.StatusCode.OK or (code, reason) in DOCUMENTED:
            return True
        if code in OWN_END and reason is None:
            return True
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and reason is None:
            return any(len(each) > MESSAGE_BYTES_MAX for each in sent)
        return "Health/Check" in method.path and (code, reason) == NO_SUCH_NAME


SPANS = ((0, 0), (0, 5), (1, 0), (60, 0), (3600, 0), (2**40, 0), (-1, 0), (1, -1), (1, 2**31 - 1))
KNOWN: dict[str, list[Any]] = {
    "google.protobuf.Duration": [Duration(seconds=s, nanos=n) for s, n in SPANS],
    "resume_token": ["", "", "", "AQ=="],
    "page_token": ["", "", "", "AQ=="],
    "value": ["1", "[1, 2]", '{"a": null}', '"text"', "9" * 30],  # of extra_json
    "sources": ["usd-search", "omn", "pieces", "media-intelligence", "oracle-sbc"],
    "service": ["", *(service.full_name for service in names.SERVICES), names.source_health("omn"), "nobody"],
    "file_containing_symbol": [service.full_name for service in names.SERVICES],
    "file_by_filename": ["assetwatch/v1/asset_status_service.proto", "google/protobuf/duration.proto"],
    "containing_type": ["google.protobuf.FieldOptions", "buf.validate.StringRules", "nothing"],
    "all_extension_numbers_of_type": ["google.protobuf.FieldOptions", "google.protobuf.Any"],
    "id": ["6b1f0c6e-4f1a-4a53-9a0b-3c7d52a1e001"],
}
"""Texts that mean something, by the names of fields, and messages by those of their types."""


def known_to(served: Served) -> dict[str, list[Any]]:
    """Return what means something to one server: its sources and assets."""
    ids = [key.asset_id for key in served.keys if key.source == "pieces"]
    refs = [AssetRef(source=key.source, asset_id=key.asset_id) for key in served.keys]
    return {"source": KNOWN["sources"], "asset_id": ids, "assetwatch.v1.AssetRef": refs}


async def fuzz(
    served: Served, *, for_s: float, seed: int, callers: int, each_s: float, look: Callable[[], None]
) -> Findings:
    """Let several callers call for so long; look is called now and then, and whether the server answers others."""
    findings = Findings()
    tasks = [asyncio.create_task(Caller(served, seed + n, findings).run()) for n in range(callers)]
    ends = asyncio.get_running_loop().time() + for_s
    try:
        while (left_s := ends - asyncio.get_running_loop().time()) > 0 and not findings.wrong:
            await asyncio.wait(tasks, timeout=min(each_s, left_s), return_when=asyncio.FIRST_COMPLETED)
            look()
            await _answers(served)
            for task in tasks:
                if task.done():
                    task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    return findings


async def _answers(served: Served) -> None:
    """Make a call that needs nobody; the server must answer, however busy it is. Raises: AioRpcError."""
    async with grpc.aio.insecure_channel(served.address) as channel:
        call = one_to_one(channel, f"/{names.SOURCE.full_name}/ListSources")
        await call(b"", timeout=ANSWER_S)
