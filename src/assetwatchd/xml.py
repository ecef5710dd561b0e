"""XML from upstreams, parsed so that a hostile document costs no more than its own size.

Python's own parser, which is small, and shares its library with nothing: lxml would be 5 MB more for every server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError, TreeBuilder, XMLParser, tostring
from xml.sax.saxutils import escape

from assetwatchd.errors import BadAnswer

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

DEPTH_MAX = 256
TEXT_CHARACTERS_MAX = 10_000_000
"""Of one text. Both are as libxml2 has them, which many other readers of these answers are built on."""


def parse(body: bytes) -> Element:
    """Parse one whole document and return its root, without comments and processing instructions.

    Nothing is loaded, and any DOCTYPE is refused, so no entity is declared: none of the published answers has one.
    Raises: BadAnswer, which tells where the document is wrong and never what it says.
    """
    parser: XMLParser[Element] = XMLParser(target=_Tree())  # noqa: S314 - what is hostile is refused by _Tree
    try:
        parser.feed(body)
        return parser.close()
    except ParseError as exc:
        line, column = exc.position
        raise BadAnswer(f"not well-formed XML (line {line}, column {column + 1})") from None
    except (ValueError, LookupError):
        raise BadAnswer("not well-formed XML") from None


def name(element: Element) -> str:
    """Return the name of an element without its namespace."""
    return element.tag.rpartition("}")[2]


def content(element: Element) -> str:
    """Write what an element holds, markup included."""
    return (escape(element.text or "") + "".join(tostring(each, encoding="unicode") for each in element)).strip()


class _Tree(TreeBuilder):
    """Builds the elements, up to the limits. Raises: BadAnswer."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0
        self._text = 0

    def doctype(self, *_: str | None) -> None:
        raise BadAnswer("XML with a DOCTYPE, which is refused")

    def start(self, tag: str, attributes: dict[str, str], /) -> Element:
        self._depth += 1
        self._text = 0
        if self._depth > DEPTH_MAX:
            raise BadAnswer(f"XML nested more than {DEPTH_MAX} deep")
        return super().start(tag, attributes)

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        self._text = 0
        return super().end(tag)

    def data(self, text: str, /) -> None:
        self._text += len(text)
        if self._text > TEXT_CHARACTERS_MAX:
            raise BadAnswer(f"XML with a text of more than {TEXT_CHARACTERS_MAX:,} characters")
        super().data(text)
