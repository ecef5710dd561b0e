"""Counts what reading an answer costs, in steps and not in seconds: lines of Python, elements, bytes that C writes."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from lxml import etree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

PARSER = etree.XMLParser
BYTES_A_STEP = 10
"""So many bytes that were written count as a step."""


class Steps:
    """How many there were. Raises: AssertionError, where they are counted, beyond the most there may be."""

    def __init__(self, most: int) -> None:
        self.count = 0
        self._most = most

    def add(self, count: int) -> None:
        """Count so many."""
        self.count += count
        assert self.count <= self._most, f"more than {self._most} steps"

    def trace(self, _frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        """Count a line, or a function that is called."""
        self.add(event in ("line", "call"))
        return self.trace

    def visited(self, elements: Iterator[Any]) -> Iterator[Any]:
        """Count what an iterator of C gives to C."""
        for element in elements:
            self.add(1)
            yield element


@contextmanager
def counted(most: int) -> Iterator[Steps]:
    """Count the steps of what is done inside, in this thread; as Steps."""
    steps = Steps(most)
    before = sys.gettrace()
    with patch.object(etree, "XMLParser", partial(_parser, steps)), patch.object(etree, "tostring", _writer(steps)):
        sys.settrace(steps.trace)
        try:
            yield steps
        finally:
            sys.settrace(before)


def _parser(steps: Steps, **settings: Any) -> Any:
    """Make a parser whose elements count where they are gone through."""

    class Counting(etree.ElementBase):
        def itertext(self, *wanted: Any, **how: Any) -> Iterator[Any]:
            for text in super().itertext(*wanted, **how):
                steps.add(1 + len(text) // BYTES_A_STEP)
                yield text

        def iter(self, *wanted: Any, **how: Any) -> Iterator[Any]:
            return steps.visited(super().iter(*wanted, **how))

    parser = PARSER(**settings)
    parser.set_element_class_lookup(etree.ElementDefaultClassLookup(element=Counting))
    return parser


def _writer(steps: Steps) -> Callable[..., Any]:
    write = etree.tostring

    def written(*what: Any, **how: Any) -> Any:
        text = write(*what, **how)
        steps.add(len(text) // BYTES_A_STEP)
        return text

    return written
