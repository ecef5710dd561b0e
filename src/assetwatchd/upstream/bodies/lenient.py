"""Reads the members of an answer that are not the state, one by one: one that cannot be read costs no other.

Those that cannot be read are named. One function per type accepts the values that obviously mean one of it, else None.
The state itself is read strictly (`jsonbody`), since a wrong guess there would be a wrong status.
"""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import tzinfo

    from pydantic import JsonValue

T = TypeVar("T")

LOST_MAX = 20
"""So many members are named; who looks for the reason wants the first, and a list may have a million bad items."""
PLACE_LENGTH_MAX = 120
"""Characters of a name with the names of what it is in; an upstream may choose them."""
NUMBER_MAX = 2**63 - 1
NUMBER_FORM = re.compile(r"\s*\+?(\d{1,40})(\.\d{0,40})?\s*", re.ASCII)
EPOCH_FORM = re.compile(r"-?\d{9,16}(\.\d{1,9})?", re.ASCII)
"""Seconds or milliseconds since 1970 as text; fewer digits may be a date, 20260304."""
MILLISECONDS_FROM = 1e11
"""As seconds this is the year 5138, as milliseconds 1973: a larger number is taken as milliseconds."""
FLAGS = {"true": True, "1": True, "false": False, "0": False}


def text(value: JsonValue) -> str | None:
    """Read a text; a number or a truth value is written as in JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, (bool, int, float)) else None


def number(value: JsonValue) -> int | None:
    """Read a count, 0 to NUMBER_MAX; a fraction is rounded, and a text of digits is a number."""
    if isinstance(value, str):
        form = NUMBER_FORM.fullmatch(value)
        value = None if form is None else float(form[0]) if form[2] else int(form[1])
    if isinstance(value, float):
        value = round(value) if math.isfinite(value) else None
    return value if type(value) is int and 0 <= value <= NUMBER_MAX else None


def whole_number(value: JsonValue) -> int | None:
    """Read a number that names something, and so is not rounded."""
    read = number(value)
    return read if ("." not in value if isinstance(value, str) else value == read) else None


def time(value: JsonValue, zone: tzinfo = UTC) -> datetime | None:
    """Read a moment: ISO 8601, of that zone where it names none, or seconds or milliseconds since 1970."""
    try:
        if isinstance(value, str) and not EPOCH_FORM.fullmatch(value):
            at = datetime.fromisoformat(value)
            return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            return None
        seconds = float(value)
        return datetime.fromtimestamp(seconds / 1000 if abs(seconds) >= MILLISECONDS_FROM else seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def flag(value: JsonValue) -> bool | None:
    """Read a truth value; 0, 1, and the words of JSON as text are such."""
    if isinstance(value, bool):
        return value
    return FLAGS.get(str(value).lower()) if isinstance(value, (str, int)) else None


class Members:
    """The members of a JSON object, each read by its type; null is as good as absent, and what is absent is empty.

    lost: the names of those that could not be read, for the whole answer, the first LOST_MAX.
    """

    __slots__ = ("_name", "_parent", "given", "lost")

    def __init__(self, given: Mapping[str, JsonValue], name: str = "", parent: Members | None = None) -> None:
        self.given = given
        self.lost: list[str] = [] if parent is None else parent.lost
        self._name = name
        self._parent = parent

    def text(self, name: str) -> str:
        """Read a text."""
        value = self.given.get(name)
        if value is None or type(value) is str:
            return value or ""
        return self._read(name, text) or ""

    def message(self, name: str) -> str:
        """Read a text that is for people; what is none is lost as such, and said as JSON."""
        value = self.given.get(name)
        return self.text(name) or (_as_json(value) if isinstance(value, (dict, list)) else "")

    def number(self, name: str) -> int:
        """Read a count, 0 if there is none."""
        return self._read(name, number) or 0

    def whole_number(self, name: str) -> int | None:
        """Read a number that names something."""
        return self._read(name, whole_number)

    def time(self, name: str, zone: tzinfo = UTC) -> datetime | None:
        """Read a moment; an empty text is none."""
        return None if self.given.get(name) == "" else self._read(name, lambda value: time(value, zone))

    def flag(self, name: str) -> bool:
        """Read a truth value, false if there is none."""
        return self._read(name, flag) or False

    def object(self, name: str) -> Members:
        """Go into an object; into an empty one if there is none."""
        value = self.given.get(name)
        if isinstance(value, dict):
            return Members(value, name, self)
        self._miss(name, value)
        return Members({}, name, self)

    def objects(self, name: str) -> Iterator[Members]:
        """Go into each object of a list; what is no object among them is lost alone."""
        value = self.given.get(name)
        items = Members({}, name, self)
        if isinstance(value, list):
            for place, item in enumerate(value):
                if isinstance(item, dict):
                    yield Members(item, str(place), items)
                else:
                    items.lose(str(place))
        else:
            self._miss(name, value)

    def lose(self, name: str = "") -> None:
        """Note that a member, or all of this, could not be read."""
        if len(self.lost) < LOST_MAX:
            self.lost.append(".".join(filter(None, (self._place, name)))[:PLACE_LENGTH_MAX])

    @property
    def _place(self) -> str:
        """Its name, after the names of what it is in; made when something is lost, which is rare."""
        return ".".join(filter(None, ("" if self._parent is None else self._parent._place, self._name)))  # noqa: SLF001 - of its own kind

    def _read(self, name: str, read: Callable[[JsonValue], T | None]) -> T | None:
        value = self.given.get(name)
        found = None if value is None else read(value)
        if found is None:
            self._miss(name, value)
        return found

    def _miss(self, name: str, value: JsonValue) -> None:
        """Note that a member could not be read, unless it is null or absent."""
        if value is not None:
            self.lose(name)


def _as_json(value: JsonValue) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return ""
