"""Golden files: a recorded reply, and beside it what it must be read as.

tests/golden/KIND/NAME.EXT is the body; NAME.expected.json says how it came (`status`, `content_type`), what was asked
(`asked`) and either the `observations` or the `error` (class and text) that must come of it.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assetwatchd.model.errors import UpstreamError
from assetwatchd.upstream.http.transport import Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from assetwatchd.upstream.answers import Answer

ROOT = Path(__file__).parent.parent / "golden"
OK = 200
SUFFIX = ".expected.json"


@dataclass(frozen=True)
class Golden:
    """One recorded reply and its expectation."""

    name: str
    reply: Reply
    asked: tuple[str, ...]
    expected: dict[str, Any]


def load(kind: str, name: str) -> Golden:
    """Read one golden file by its name without any ending."""
    expected = json.loads((ROOT / kind / f"{name}{SUFFIX}").read_text())
    [body] = [path for path in (ROOT / kind).glob(f"{name}.*") if not path.name.endswith(SUFFIX)]
    headers = {"Content-Type": expected.get("content_type", "application/json")}
    reply = Reply(expected.get("status", 200), headers, body.read_bytes())
    return Golden(name, reply, tuple(expected["asked"]), expected)


def names(kind: str) -> list[str]:
    """List the golden files of a kind."""
    return sorted(path.name.removesuffix(SUFFIX) for path in (ROOT / kind).glob(f"*{SUFFIX}"))


def outcome(read: Callable[[], Sequence[Answer]]) -> dict[str, Any]:
    """Call a reader and return what came of it in the form of an expectation."""
    try:
        return {"observations": as_json(read())}
    except UpstreamError as exc:
        return {"error": type(exc).__name__, "text": str(exc)}


def expectation(golden: Golden) -> dict[str, Any]:
    """Return the part of the expectation that outcome() must equal."""
    return {name: golden.expected[name] for name in ("observations", "error", "text") if name in golden.expected}


def as_json(value: Any) -> Any:
    """Turn dataclasses into JSON: enums by name, times in ISO form, members that are None, empty or False left out.

    Members that do not count when two are compared are left out too.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        members = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.compare}
        return {name: as_json(item) for name, item in members.items() if item not in (None, "", (), False)}
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    return value
