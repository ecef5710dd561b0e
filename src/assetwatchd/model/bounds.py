"""Bounds an observation: what an upstream says beyond the limits is cut, and the observation is marked as cut.

So keeping, encoding, hashing and sending one asset has a fixed upper cost, whatever its upstream answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from assetwatchd.model.texts import cut

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from assetwatchd.model.values import Observation

T = TypeVar("T")

TEXT_LENGTH_MAX = 32 * 1024
"""Characters of one text; the longest of a real answer, a traceback or a list in XML, has some thousands."""
TEXTS_LENGTH_MAX = 128 * 1024
"""Characters of all texts of an observation. As UTF-8 they are half a megabyte at most; clients take four."""
VALUES_MAX = 2000
"""Texts, numbers and whatever holds some of them: encoding so many takes 5 ms. A real answer has dozens."""


def within(observation: Observation) -> Observation:
    """Return an observation cut to the bounds: its facets get room first, then its failure, then its detail.

    The first of a list are kept, and of a text the beginning. The state is that of all that was said.
    """
    room = _Room()
    kept = {name: room.take(getattr(observation, name)) for name in ("facets", "failure", "detail")}
    return replace(observation, **kept, cut=room.short) if room.short else observation


class _Room:
    """The room that is left for texts and values. short: it was not enough."""

    def __init__(self) -> None:
        self.short = False
        self._length = TEXTS_LENGTH_MAX
        self._values = VALUES_MAX

    def take(self, value: object) -> Any:  # noqa: ANN401 - of the same type as value
        """Return as much of a value as there is room for."""
        self._values -= 1
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, (tuple, list)):
            return type(value)([self.take(item) for item in self._fitting(value)])
        if isinstance(value, Mapping):
            return {self.take(name): self.take(member) for name, member in self._fitting(value.items())}
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{name: self.take(getattr(value, name)) for name in _members(type(value))})
        return value

    def _fitting(self, items: Iterable[T]) -> Iterator[T]:
        """Yield items as long as there is room for another; the last is taken whole."""
        for item in items:
            if min(self._values, self._length) <= 0:
                self.short = True
                break
            yield item

    def _text(self, text: str) -> str:
        room = max(0, min(TEXT_LENGTH_MAX, self._length))
        self._length -= len(text)
        self.short |= len(text) > room
        return cut(text, room)


@cache
def _members(kind: type[Any]) -> tuple[str, ...]:
    return tuple(member.name for member in fields(kind))
