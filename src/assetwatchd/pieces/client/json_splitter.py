"""Take a long list apart while it comes, so that only one of its elements is held at a time; pure."""

from __future__ import annotations

import re

from assetwatchd.model.errors import BadAnswer

NEXT = re.compile(rb'"[^"\\]*"|["\[\]{}]')
"""Outside of text: a whole text without escapes, the begin of any other, or a bracket."""
IN_TEXT = re.compile(rb'["\\]')
QUOTE, ESCAPE = b'"', b"\\"
LIST = b'"iterable"'
IN_OBJECT, IN_LIST = 1, 2
"""How many brackets are open: between the members of the answer, and between the elements of its list."""


class Splitter:
    """Take in a JSON object in parts and give out the objects in its list `iterable`, each as it stands there.

    Whether what it gives out is JSON is for others to see. An element larger than element_bytes_max is passed over, as
    are elements that are no objects, and everything beside the list.
    """

    def __init__(self, element_bytes_max: int) -> None:
        self._bytes_max = element_bytes_max
        self._depth = 0
        self._listing = False
        self._listed = False
        self._name = b""
        self._in_text = False
        self._escaped = False
        self._element: bytearray | None = None
        self._too_large = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take in the next part; return the elements that end in it. Raises: BadAnswer (no object)."""
        done: list[bytes] = []
        at = kept = 0
        while at < len(chunk):
            if self._in_text:
                at = self._through_text(chunk, at)
                continue
            token = NEXT.search(chunk, at)
            if token is None:
                break
            at = token.end()
            mark = token[0]
            if mark in (b"{", b"["):
                if self._open(mark):
                    kept = token.start()
            elif mark in (b"}", b"]"):
                if self._close():
                    done += self._finished(chunk[kept:at])
            else:
                self._in_text = mark == QUOTE
                self._name = mark if self._depth == IN_OBJECT else b""
        self._keep(chunk[kept:])
        return done

    def end(self) -> None:
        """Take note that the answer is over. Raises: BadAnswer when it is cut short, or had no such list."""
        if self._depth or self._in_text:
            raise BadAnswer("not JSON (it is cut short)")
        if not self._listed:
            raise BadAnswer("iterable should be a list and is none")

    def _open(self, mark: bytes) -> bool:
        """Go into an object or a list; return whether an element begins."""
        if not self._depth and mark != b"{":
            raise BadAnswer("the answer should be an object and is a list")
        if self._depth == IN_OBJECT and mark == b"[" and self._name == LIST:
            self._listing = self._listed = True
        begins = self._listing and self._depth == IN_LIST and mark == b"{"
        if begins:
            self._element = bytearray()
        self._depth += 1
        return begins

    def _close(self) -> bool:
        """Come out of an object or a list; return whether an element ends."""
        self._depth -= 1
        self._listing = self._listing and self._depth >= IN_LIST
        return self._element is not None and self._depth == IN_LIST

    def _through_text(self, chunk: bytes, at: int) -> int:
        """Go on to the end of a text or of an escape in it; return where that is."""
        if self._escaped:
            self._escaped = False
            return at + 1
        token = IN_TEXT.search(chunk, at)
        end = len(chunk) if token is None else token.end()
        if self._name and len(self._name) <= len(LIST):
            self._name += chunk[at:end]
        self._escaped = token is not None and token[0] == ESCAPE
        self._in_text = token is None or self._escaped
        return end

    def _keep(self, part: bytes) -> None:
        if self._element is None:
            return
        self._too_large = self._too_large or len(self._element) + len(part) > self._bytes_max
        if self._too_large:
            self._element.clear()
        else:
            self._element += part

    def _finished(self, part: bytes) -> list[bytes]:
        self._keep(part)
        element, self._element = self._element, None
        too_large, self._too_large = self._too_large, False
        return [] if element is None or too_large else [bytes(element)]
