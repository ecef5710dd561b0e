"""Hardened XML parsing."""

from __future__ import annotations

import time

import pytest

from assetwatchd.model.errors import BadAnswer
from assetwatchd.upstream.bodies import xml

pytestmark = pytest.mark.unit

LOL = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
HOSTILE = {
    "empty": b"",
    "blank": b" \n",
    "cut": b"<a><b>",
    "two_roots": b"<a/><b/>",
    "deep": b"<a>" * 100_000,
    "deep_and_closed": b"<a>" * 5_000 + b"</a>" * 5_000,
    "huge_text": b"<a>" + b"x" * 11_000_000 + b"</a>",
    "doctype": b"<!DOCTYPE a><a/>",
    "doctype_utf16": "<!DOCTYPE a><a/>".encode("utf-16"),
    "external_dtd": b'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><a/>',
    "external_entity": b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a>&x;</a>',
    "parameter_entity": b'<!DOCTYPE a [<!ENTITY % x SYSTEM "file:///etc/hostname"> %x;]><a/>',
    "internal_entity": b'<!DOCTYPE a [<!ENTITY x "boo">]><a>&x;</a>',
    "default_attribute": b'<!DOCTYPE a [<!ATTLIST a b CDATA "boo">]><a/>',
    "entity_bomb": f'<!DOCTYPE a [<!ENTITY l0 "lol">{LOL}]><a>&l11;</a>'.encode(),
    "entity_bomb_in_attribute": f'<!DOCTYPE a [<!ENTITY l0 "lol">{LOL}]><a b="&l11;"/>'.encode(),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_unreadable_document_is_a_bad_answer(body: bytes) -> None:
    """Anything not well-formed, or with a DOCTYPE, is refused soon and without a word of its content."""
    began = time.process_time()
    with pytest.raises(BadAnswer) as caught:
        xml.parse(body)
    assert time.process_time() - began < 2
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_declared_encodings_are_read(encoding: str) -> None:
    """The encoding that a document declares is the one it is read in."""
    root = xml.parse(f'<?xml version="1.0" encoding="{encoding}"?><a>é</a>'.encode(encoding))
    assert root.text == "é"


def test_comments_and_instructions_are_left_out() -> None:
    """Comments and processing instructions neither show up as children nor split a text."""
    root = xml.parse(b"<?x y?><!-- a --><a>one<!-- b --> two<?z?></a>")
    assert (root.text, len(root)) == ("one two", 0)


def test_predefined_entities_and_character_references_are_read() -> None:
    """What XML itself defines needs no DTD."""
    assert xml.parse(b"<a>&lt;&amp;&#233;</a>").text == "<&é"


def test_the_word_doctype_in_a_text_is_no_doctype() -> None:
    """A text may speak of a DOCTYPE."""
    assert xml.parse(b"<a><![CDATA[<!DOCTYPE a>]]></a>").text == "<!DOCTYPE a>"


@pytest.mark.parametrize("body", [b"", b" \n", b"\r\n\r\n"])
def test_nothing_is_told_as_that(body: bytes) -> None:
    """A place in a document that is none helps nobody."""
    with pytest.raises(BadAnswer, match=r"^the answer is empty$"):
        xml.parse(body)
