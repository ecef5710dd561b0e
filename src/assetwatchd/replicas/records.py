"""The values of the keys that processes tell each other by: who owns a source, who is there, how a source is doing.

JSON, so that a person can read them with etcdctl. Replicas of two versions read each other's: a member keeps its name
and meaning, and one that is not known is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping  # noqa: TC003 - a field of a tuple is made of it
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from assetwatchd.model.values import Concern, ConcernCondition, Condition, ConditionState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from assetwatchd.etcd.values import KeyValue


WATCHERS_MAX = 10_000_000
"""More than a process has streams: so large a number was not written by one."""
TIME_MAX = 253_402_300_799.0
"""The end of the year 9999, the last that clients can be told."""


class Me(NamedTuple):
    """This process. id: of it alone; name: of the replica, the same after a restart; at: HOST:PORT that others call."""

    id: str
    name: str
    at: str


class Owner(NamedTuple):
    """Who asks a source. term: since which revision of etcd, which no other owner of it had. lease: its session's."""

    id: str
    name: str
    at: str
    term: int
    lease: int


class Presence(NamedTuple):
    """A process that is there. watchers: open streams by source."""

    id: str
    name: str
    at: str
    version: str
    watchers: Mapping[str, int] = MappingProxyType({})


def write_owner(me: Me) -> bytes:
    """Write o/SOURCE."""
    return _json(me._asdict())


def read_owner(key: KeyValue) -> Owner:
    """Read o/SOURCE."""
    said = _object(key.value)
    return Owner(_text(said, "id"), _text(said, "name"), _text(said, "at"), key.created, key.lease)


def write_presence(presence: Presence) -> bytes:
    """Write r/REPLICA."""
    return _json({**presence._asdict(), "watchers": dict(presence.watchers)})


def read_presence(key: KeyValue) -> Presence:
    """Read r/REPLICA."""
    said = _object(key.value)
    watchers = said.get("watchers")
    counts = watchers if isinstance(watchers, dict) else {}
    return Presence(
        _text(said, "id"),
        _text(said, "name"),
        _text(said, "at"),
        _text(said, "version"),
        {name: count for name, count in counts.items() if isinstance(count, int) and 0 <= count <= WATCHERS_MAX},
    )


def write_condition(condition: Condition) -> bytes:
    """Write c/SOURCE."""
    return _json({**_condition(condition), "concerns": [_concern(each) for each in condition.concerns]})


def _condition(each: Condition | ConcernCondition) -> dict[str, object]:
    return {
        "state": int(each.state),
        "message": each.message,
        "since": each.since,
        "last_success_at": each.last_success_at,
        "next_try_at": each.next_try_at,
    }


def _concern(each: ConcernCondition) -> dict[str, object]:
    return {"concern": int(each.concern), **_condition(each)}


def read_condition(key: KeyValue) -> Condition:
    """Read c/SOURCE. Raises: ValueError for what no replica wrote."""
    said = _object(key.value)
    try:
        return Condition(*_told(said), concerns=tuple(_concerns(said.get("concerns", []))))
    except (KeyError, TypeError) as error:
        raise ValueError("no condition of a source") from error


def _concerns(told: Iterable[Mapping[str, Any]]) -> Iterator[ConcernCondition]:
    for each in told:
        if each["concern"] in _CONCERNS and each["state"] in _STATES:
            yield ConcernCondition(Concern(each["concern"]), *_told(each))


_STATES = frozenset(map(int, ConditionState))
_CONCERNS = frozenset(map(int, Concern))


def _told(said: Mapping[str, Any]) -> tuple[ConditionState, str, float, float | None, float | None]:
    return (
        ConditionState(said["state"]),
        str(said["message"]),
        _time(said["since"]),
        _time_or_none(said.get("last_success_at")),
        _time_or_none(said.get("next_try_at")),
    )


def _time(said: float) -> float:
    if not 0 <= said <= TIME_MAX:
        raise ValueError("no time")
    return float(said)


def _time_or_none(said: float | None) -> float | None:
    return None if said is None else _time(said)


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _object(value: bytes) -> dict[str, Any]:
    try:
        said = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _text(said: Mapping[str, object], name: str) -> str:
    return str(said.get(name, ""))
