"""Bodies of requests as JSON, written in parts: in a thread, the others get their turn between two of them."""

from __future__ import annotations

import json
from typing import Any

TOGETHER = 1000
"""So many plain values of a list are written at a time. The library writes a whole list in one go, however long:
content that is bytes is a list of millions, and nothing else would run meanwhile, in no thread."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_CONTAINERS = {dict, list}


def encode(body: Any) -> bytes:
    """Write plain values, lists and objects as JSON. Raises: ValueError (NaN, an infinity); RecursionError."""
    parts: list[bytes] = []
    _append(body, parts)
    return b"".join(parts)


def _write(value: Any) -> bytes:
    return _ENCODER.encode(value).encode()


def _append(value: Any, parts: list[bytes]) -> None:
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


def _append_some(items: list[Any], parts: list[bytes], *, first: bool) -> None:
    """Write items of a list: all at once where none of them holds others."""
    if _CONTAINERS.isdisjoint(map(type, items)):
        parts.append((b"" if first else b", ") + _write(items)[1:-1])
        return
    for item in items:
        if not first:
            parts.append(b", ")
        first = False
        _append(item, parts)
