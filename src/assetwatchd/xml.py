"""XML from upstreams, parsed so that a hostile document costs no more than its own size."""

from __future__ import annotations

from lxml import etree

from assetwatchd.errors import BadAnswer


def parse(body: bytes) -> etree._Element:
    """Parse one whole document and return its root, without comments and processing instructions.

    No entity is expanded, nothing is loaded, and any DOCTYPE is refused: none of the published answers has one.
    Depth and text size stay within the limits of libxml2.
    Raises: BadAnswer, which tells where the document is wrong and never what it says.
    """
    try:
        root = etree.fromstring(body, _parser())
    except etree.XMLSyntaxError as exc:
        line, column = exc.position
        raise BadAnswer(f"not well-formed XML (line {line}, column {column})") from None
    except (ValueError, LookupError):
        raise BadAnswer("not well-formed XML") from None
    if root is None:
        raise BadAnswer("not well-formed XML: no root element")
    if root.getroottree().docinfo.internalDTD is not None:
        raise BadAnswer("XML with a DOCTYPE, which is refused")
    return root


def _parser() -> etree.XMLParser:
    return etree.XMLParser(
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        no_network=True,
        huge_tree=False,
        recover=False,
        remove_comments=True,
        remove_pis=True,
    )
