"""Hand back what a large document says, read in a process beside, in parts that are each small enough to be taken in.

One pickle of all of it would hold up everybody for as long as it is opened; so the parts are opened one by one.
"""

from __future__ import annotations

import asyncio
import pickle
import zlib
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from assetwatchd.model.errors import BadAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

Rest = TypeVar("Rest")
M = TypeVar("M")

PART_BYTES = 128 * 1024
"""What the members of one part take in memory, about; more than that only where one alone does."""
DEPTH_MAX = 64
"""How deep a member may be nested; what is deeper than 100 cannot be sent on as protobuf, and vendors stay below 15."""
CONTAINER_BYTES, TEXT_BYTES, SCALAR_BYTES = 64, 56, 8
"""What Python takes for a list or an object beside its members, for a text beside its characters, for anything else."""


class Packed(NamedTuple, Generic[Rest, M]):
    """One document: what it says beside its members, and these in parts, each a compressed pickle of a list."""

    rest: Rest
    parts: Sequence[bytes]

    async def members(self) -> AsyncIterator[list[M]]:
        """Yield a part at a time, others having a turn before each."""
        for part in self.parts:
            await asyncio.sleep(0)
            members: list[M] = pickle.loads(zlib.decompress(part))  # noqa: S301 - packed by a process of our own
            yield members


def pack(rest: Rest, members: Iterable[M], weight: Callable[[M], int]) -> Packed[Rest, M]:
    """Pack a document; weight tells what a member takes in memory."""
    return Packed(rest, [zlib.compress(pickle.dumps(part), 1) for part in _parts(members, weight)])


def _parts(members: Iterable[M], weight: Callable[[M], int]) -> Iterator[list[M]]:
    part: list[M] = []
    taken = 0
    for member in members:
        taken += weight(member)
        part.append(member)
        if taken >= PART_BYTES:
            yield part
            part, taken = [], 0
    if part:
        yield part


def weight_of(value: object, depth: int = 0) -> int:
    """Return how many bytes of memory a piece of JSON takes, about. Raises: BadAnswer when it is nested too deeply."""
    if isinstance(value, str):
        return TEXT_BYTES + len(value)
    if not isinstance(value, dict | list):
        return SCALAR_BYTES
    if depth == DEPTH_MAX:
        raise BadAnswer(f"the JSON is nested too deeply: more than {DEPTH_MAX} levels")
    total = CONTAINER_BYTES
    if isinstance(value, dict):
        for name, member in value.items():
            total += 2 * SCALAR_BYTES + len(name) + weight_of(member, depth + 1)
    else:
        for member in value:
            total += SCALAR_BYTES + weight_of(member, depth + 1)
    return total
