"""Write bodies of requests as JSON in parts, and put them together a piece at a time; knows no operation."""

from __future__ import annotations

import asyncio
import io
import json
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import JsonValue

Body: TypeAlias = io.BytesIO
"""A body as it is sent: one of 20 MB would be copied in one go otherwise, which takes 10 ms."""

TOGETHER = 1000
"""So many plain values of a list are written at a time: content that is bytes is a list of millions, which as one text,
and its bytes beside it, would take several times the memory."""
PIECE_BYTES = 32 * 1024
"""Bodies are handed over, and put together, so many bytes at a time."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_CONTAINERS = {dict, list}


def encode(body: JsonValue) -> bytes:
    """Write plain values, lists and objects as JSON. Raises: ValueError (NaN, an infinity); RecursionError."""
    parts: list[bytes] = []
    _append(body, parts)
    return b"".join(parts)


def pieces(body: JsonValue) -> list[bytes]:
    """Write the same, cut into pieces. Raises: as encode."""
    whole = encode(body)
    return [whole[begin : begin + PIECE_BYTES] for begin in range(0, len(whole), PIECE_BYTES)]


async def joined(parts: Sequence[bytes]) -> Body:
    """Put a body together, others having a turn after each piece."""
    body = io.BytesIO()
    for part in parts:
        body.write(part)
        await asyncio.sleep(0)
    body.seek(0)
    return body


def _write(value: JsonValue) -> bytes:
    return _ENCODER.encode(value).encode()


def _append(value: JsonValue, parts: list[bytes]) -> None:
    if isinstance(value, dict):
        before = b"{"
        for key, item in value.items():
            parts.append(before + _write(key) + b": ")
            _append(item, parts)
            before = b", "
        parts.append(b"}" if value else b"{}")
    elif isinstance(value, list):
        parts.append(b"[")
        for begin in range(0, len(value), TOGETHER):
            _append_some(value[begin : begin + TOGETHER], parts, first=not begin)
        parts.append(b"]")
    else:
        parts.append(_write(value))


def _append_some(items: list[JsonValue], parts: list[bytes], *, first: bool) -> None:
    """Write items of a list: all at once where none of them holds others."""
    if _CONTAINERS.isdisjoint(map(type, items)):
        parts.append((b"" if first else b", ") + _write(items)[1:-1])
        return
    for item in items:
        if not first:
            parts.append(b", ")
        first = False
        _append(item, parts)
