"""Text that is not quite text: read as it was meant, U+FFFD where nobody can tell, and never by a wrong guess."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.model.errors import BadAnswer
from assetwatchd.upstream.bodies import xml
from assetwatchd.upstream.bodies.jsonbody import decode, strictly
from assetwatchd.upstream.http.transport import Reply

pytestmark = pytest.mark.unit

DECLARED = "application/json; charset=ISO-8859-1"
ODD_JSON: dict[str, tuple[bytes, str, Any]] = {
    "byte_order_mark": (b'\xef\xbb\xbf{"a":1}', "", {"a": 1}),
    "utf16": ('{"a":"é"}'.encode("utf-16"), "", {"a": "é"}),
    "utf16_without_mark": ('{"a":"é"}'.encode("utf-16-le"), "", {"a": "é"}),
    "utf32": ('{"a":"é"}'.encode("utf-32"), "", {"a": "é"}),
    "not_utf8": (b'{"a":"caf\xe9"}', "", {"a": "caf\ufffd"}),
    "cut_character": (b'{"a":"caf\xc3"}', "", {"a": "caf\ufffd"}),
    "latin1_declared": (b'{"a":"caf\xe9 \x93x\x94"}', DECLARED, {"a": "café “x”"}),
    "quoted_charset": (b'{"a":"caf\xe9"}', 'text/plain; charset="latin1"', {"a": "café"}),
    "korean_declared": ('{"a":"영상"}'.encode("euc-kr"), "application/json;charset=EUC-KR", {"a": "영상"}),
    "utf8_declared_latin1": ('{"a":"é"}'.encode(), DECLARED, {"a": "é"}),
    "utf8_declared_utf16": ('{"a":"é"}'.encode(), "application/json; charset=utf-16", {"a": "é"}),
    "no_charset": (b'{"a":"caf\xe9"}', "application/json; charset=unicode_escape", {"a": "caf\ufffd"}),
    "half_a_pair": (b'{"a":"x\\ud800y"}', "", {"a": "x\ufffdy"}),
    "the_other_half": (b'{"a":"\\udc00\\ud83d\\ude00"}', "", {"a": "\ufffd😀"}),
    "half_a_pair_as_name": (b'{"\\uDC00":1}', "", {"\ufffd": 1}),
    "nan": (b'{"a":NaN,"b":[-Infinity,Infinity]}', "", {"a": "NaN", "b": ["-Infinity", "Infinity"]}),
    "overflow": (b"[1e999]", "", ["1e999"]),
    "endless_integer": (b"[" + b"9" * 5_000 + b"]", "", ["9" * 5_000]),
    "control_character": (b'{"a":"x\ty\nz\x01"}', "", {"a": "x\ty\nz\x01"}),
    "as_html": (b'{"a":1}', "text/html; charset=utf-8", {"a": 1}),
    "odd_as_html": (b'\xef\xbb\xbf{"a":"\\ud800"}', "text/html", {"a": "\ufffd"}),
}


@pytest.mark.parametrize(("body", "content_type", "value"), ODD_JSON.values(), ids=ODD_JSON)
def test_odd_json(body: bytes, content_type: str, value: Any) -> None:
    """JSON that is not quite JSON is read, into text that can be encoded again."""
    read = decode(Reply(200, {"Content-Type": content_type}, body))
    assert read == value
    json.dumps(read, ensure_ascii=False, allow_nan=False).encode()


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_json_is_read_as_it_is(value: dict[str, Any]) -> None:
    """What is JSON is read strictly, whatever its header declares; read leniently, it would be the same."""
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    assert decode(Reply(200, {"Content-Type": DECLARED}, body)) == strictly(body)
    assert decode(Reply(200, {}, b"\xef\xbb\xbf" + body)) == strictly(body)


@given(st.binary(max_size=60), st.sampled_from(["", DECLARED, "text/html", "x; charset=cp949", "charset="]))
def test_any_bytes_are_json_or_a_bad_answer(body: bytes, content_type: str) -> None:
    """Whatever comes in a text of JSON, nothing but BadAnswer is raised, and what is read can be encoded again."""
    for sent in (body, b'{"a":"' + body + b'"}', b'["' + body):
        try:
            value = decode(Reply(200, {"Content-Type": content_type}, sent))
        except BadAnswer:
            continue
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


ODD_XML: dict[str, tuple[bytes, str, str]] = {
    "nul": (b"<a>x\x00y</a>", "", "x\ufffdy"),
    "control_character": (b"<a>x\x0by</a>", "", "x\ufffdy"),
    "control_by_number": (b"<a>x&#11;y&#xB;z&#0;</a>", "", "x\ufffdy\ufffdz\ufffd"),
    "half_a_pair_by_number": (b"<a>&#xD800;&#x110000;&#xFFFF;</a>", "", "\ufffd\ufffd\ufffd"),
    "not_utf8": (b"<a>caf\xe9</a>", "", "caf\ufffd"),
    "latin1_in_the_header": (b"<a>caf\xe9</a>", "application/xml;charset=ISO-8859-1", "café"),
    "entity_of_html": (b"<a>x&nbsp;y&eacute;&LT;</a>", "", "x\xa0yé<"),
    "unknown_entity": (b"<a>x&secret;y</a>", "", "x&secret;y"),
    "ampersand": (b"<a>AT&T & co; &lt;&#38;</a>", "", "AT&T & co; <&"),
    "endless_number": (b"<a>&#99999999999;</a>", "", "&#99999999999;"),
    "line_before": (b'\n<?xml version="1.0"?>\n<a>x</a>', "", "x"),
    "text_before": (b'Warning: deprecated\n<?xml version="1.0"?><a>x</a>', "", "x"),
    "mark_and_line_before": (b'\xef\xbb\xbf\r\n<?xml version="1.0" encoding="UTF-8"?><a>x</a>', "", "x"),
    "utf16_on_utf8": ('<?xml version="1.0" encoding="UTF-16"?><a>é</a>'.encode(), "", "é"),
    "utf8_on_utf16": ('<?xml version="1.0" encoding="UTF-8"?><a>é</a>'.encode("utf-16"), "", "é"),
    "unknown_encoding": ('<?xml version="1.0" encoding="klingon"?><a>é</a>'.encode(), "", "é"),
    "declared_and_odd": (b'<?xml version="1.0" encoding="ISO-8859-1"?><a>\x0b\xe9</a>', "", "\ufffdé"),
    "in_cdata": (b"<a>\x0b<![CDATA[x & &nbsp; ] ]] <b>]]>&nbsp;</a>", "", "\ufffdx & &nbsp; ] ]] <b>\xa0"),
}


@pytest.mark.parametrize(("body", "content_type", "text"), ODD_XML.values(), ids=ODD_XML)
def test_odd_xml(body: bytes, content_type: str, text: str) -> None:
    """XML that is not well-formed for its text alone is read."""
    assert xml.parse(body, content_type).text == text


@pytest.mark.parametrize("odd", [b"\n", b"\x0b", b"&nbsp;", b"\xef\xbb\xbf \n"])
@pytest.mark.parametrize("before", [b"", b'<?xml version="1.0"?>'])
def test_nothing_odd_makes_a_doctype_welcome(odd: bytes, before: bytes) -> None:
    """A DOCTYPE is refused however the rest of its document is mended, and no entity of it is expanded."""
    for dtd in (b"<!DOCTYPE a>", b'<!DOCTYPE a [<!ENTITY x "boo">]>', b'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/">'):
        with pytest.raises(BadAnswer):
            xml.parse(odd + before + dtd + b"<a>\x0b&x;</a>")


@given(st.binary(max_size=60), st.sampled_from(["", DECLARED, "charset=utf-16"]))
def test_any_bytes_are_xml_or_a_bad_answer(body: bytes, content_type: str) -> None:
    """Whatever comes in a text of XML, nothing but BadAnswer is raised, and what is read can be encoded."""
    for sent in (body, b"<a>" + body + b"</a>", b"<a><![CDATA[" + body):
        try:
            root = xml.parse(sent, content_type)
        except BadAnswer:
            continue
        "".join(str(text) for text in root.itertext()).encode()
