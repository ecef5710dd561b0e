"""The bytes of a request against the limits of its schema, before anything is made of them.

Decoding and checking cost what a request holds, and two bytes are enough for an item. So its fields are stepped
through first, as the wire format has them (https://protobuf.dev/programming-guides/encoding/), no further than the
first that is too many or too long, and with a pause after every few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assetwatchd.model.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from assetwatchd.rpc.sizes import Size, Sizes

FIELDS_MAX = 100_000
"""Fields and items of a request in all, what the schema does not know included: decoding them takes some 3 ms."""
SLICE = 1000
"""So many fields are stepped through at a time: half a millisecond."""
DEPTH_MAX = 128
"""Levels of messages that are entered: more than the 100 that decoders take."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_SKIPPED = {_FIXED64: 8, _FIXED32: 4}
_MORE = 0x80
_CONTINUED = bytes(range(_MORE, 256))
"""Every byte of a varint but its last is one of these."""


class _Level:
    """One message that is being stepped through: where it ends, and how many items of each field it had so far.

    within: the messages that it holds one of. Where one comes again decoders merge it with what came before, so it is
    counted on with that.
    """

    __slots__ = ("counts", "end", "path", "sizes", "within")

    def __init__(self, end: int, sizes: Sizes, path: str) -> None:
        self.end = end
        self.sizes = sizes
        self.path = path
        self.counts: dict[str, int] = {}
        self.within: dict[str, _Level] = {}

    def count(self, size: Size, items: int) -> None:
        """Count items of a field. Raises: InvalidRequest."""
        if size.items_max is not None:
            counted = self.counts[size.name] = self.counts.get(size.name, 0) + items
            if counted > size.items_max:
                raise InvalidRequest((self.path + size.name, f"must contain no more than {size.items_max} items"))


def measure(given: bytes, sizes: Sizes) -> Iterator[None]:
    """Step through a request, a slice each time it is asked on; it ends early where the bytes are no message.

    Raises: InvalidRequest, naming the field of which there is too much.
    """
    steps = _Steps(given, sizes)
    try:
        while steps.slice():
            yield
    except IndexError:  # it ends within a field, as decoding will find too
        return


class _Steps:
    """The position in a request that is being stepped through."""

    def __init__(self, given: bytes, sizes: Sizes) -> None:
        self._given = given
        self._at = 0
        self._seen = 0
        self._level = _Level(len(given), sizes, "")
        self._above: list[_Level] = []

    def slice(self) -> bool:
        """Step through the next SLICE fields, or to the end; return whether there are more."""
        upto = self._seen + SLICE
        while self._seen < upto and self._is_more():
            self._field()
        if self._seen > FIELDS_MAX:
            raise InvalidRequest(("", f"holds more than {FIELDS_MAX} fields and items; ask for less at a time"))
        return self._seen >= upto

    def _is_more(self) -> bool:
        """Leave the messages that end here; return whether any field follows."""
        while self._at >= self._level.end:
            if not self._above:
                return False
            self._level = self._above.pop()
        return True

    def _field(self) -> None:
        """Step over one field, or into it. What a group holds is counted where the group stands."""
        self._seen += 1
        tag = self._varint()
        kind, size = tag & 7, self._level.sizes.get(tag >> 3)
        if kind == _LENGTH:
            length = self._varint()
            if size is None:
                self._at += length
            elif size.inside is not None:
                self._enter(size, length)
            else:
                self._text_or_packed(size, length)
            return
        if kind == _VARINT:
            self._varint()
        else:
            self._at += _SKIPPED.get(kind, 0)
        if size is not None:
            self._level.count(size, 1)

    def _enter(self, size: Size, length: int) -> None:
        level = self._level
        level.count(size, 1)
        if size.inside is None or len(self._above) >= DEPTH_MAX:
            self._at += length
            return
        self._above.append(level)
        self._level = level.within.get(size.name) or _Level(0, size.inside, f"{level.path}{size.name}.")
        self._level.end = self._at + length
        # Decoders merge two occurrences of a message that is not repeated, so lists in it add up: split over many
        # occurrences they would else pass any limit.
        if size.items_max is None:
            level.within[size.name] = self._level

    def _text_or_packed(self, size: Size, length: int) -> None:
        begin, self._at = self._at, self._at + length
        if size.width is None:
            if length > size.bytes_max:
                text = f"must be no more than {size.bytes_max} bytes, and has {length}"
                raise InvalidRequest((self._level.path + size.name, text))
            self._level.count(size, 1)
            return
        # Of packed varints every last byte is below 0x80: counting those is one pass in C, with nothing decoded.
        items = length // size.width if size.width else len(self._given[begin : self._at].translate(None, _CONTINUED))
        self._seen += items
        self._level.count(size, items)

    def _varint(self) -> int:
        byte = self._given[self._at]
        self._at += 1
        if byte < _MORE:
            return byte
        value = byte & 0x7F
        for shift in range(7, 70, 7):
            byte = self._given[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            if byte < _MORE:
                return value
        raise IndexError  # no number has more than ten bytes
