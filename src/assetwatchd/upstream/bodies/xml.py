"""Parses XML of upstreams, so that a hostile document costs no more than its own size. Knows no element by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assetwatchd.model.errors import BadAnswer
from assetwatchd.upstream.bodies import oddtext

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

HARDENED: dict[str, Any] = {
    "resolve_entities": False,
    "load_dtd": False,
    "dtd_validation": False,
    "attribute_defaults": False,
    "no_network": True,
    "huge_tree": False,
    "recover": False,
    "remove_comments": True,
    "remove_pis": True,
}


def load() -> None:
    """Load what parses, before there may be no file left to open for it."""
    import lxml.etree  # noqa: F401, PLC0415 - 5 MB, which only a server that is answered in XML shall pay


def parse(body: bytes, content_type: str = "") -> Element:
    """Parse one whole document and return its root, without comments and processing instructions.

    What is not well-formed only because of its text (`oddtext.mended_xml`) is read as it was obviously meant. No entity
    is expanded, nothing is loaded, and any DOCTYPE is refused: none of the published answers has one. Depth and text
    size stay within the limits of libxml2.
    Raises: BadAnswer, which tells where the document is wrong and never what it says; MemoryError.
    """
    try:
        root = _root(body)
    except BadAnswer as why:
        # Mended only after a strict reading failed, as with JSON, so that a document that is right is never changed.
        mended = oddtext.mended_xml(body, content_type)
        if mended == body:
            raise
        try:
            root = _root(mended)
        except BadAnswer:
            raise why from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise BadAnswer("XML with a DOCTYPE, which is refused")
    return root


def _root(body: bytes) -> Element:
    """Parse a document strictly. Raises: as parse."""
    from lxml import etree  # noqa: PLC0415 - as in load

    if not body.strip():
        raise BadAnswer("the answer is empty")
    try:
        root: Element = etree.fromstring(body, etree.XMLParser(**HARDENED))
    except etree.XMLSyntaxError as exc:
        if exc.code == etree.ErrorTypes.ERR_NO_MEMORY:
            raise MemoryError from None
        line, column = exc.position
        raise BadAnswer(f"not well-formed XML (line {line}, column {column})") from None
    except (ValueError, LookupError):
        raise BadAnswer("not well-formed XML") from None
    if root is None:
        raise BadAnswer("not well-formed XML: no root element")
    return root


def name(element: Element) -> str:
    """Return the name of an element without its namespace."""
    return str(element.tag).rpartition("}")[2]


def content(element: Element) -> str:
    """Write what an element holds, markup included; with its own tag around it where that declares namespaces.

    Written in one go: child by child, each would declare all namespaces again.
    """
    from lxml import etree  # noqa: PLC0415 - as in load

    whole = str(etree.tostring(element, encoding="unicode", with_tail=False))
    if element.nsmap:
        return whole
    return whole[whole.index(">") + 1 : whole.rfind("</")].strip() if len(element) or element.text else ""
