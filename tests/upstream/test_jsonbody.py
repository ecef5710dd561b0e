"""Strict JSON decoding and members read without trust."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from assetwatchd.model.errors import BadAnswer
from assetwatchd.upstream.bodies.jsonbody import bounded, decode, list_of, object_of, text_of
from assetwatchd.upstream.http.transport import Reply

if TYPE_CHECKING:
    from pydantic import JsonValue


pytestmark = pytest.mark.unit

UNREADABLE = {
    "empty": b"",
    "text": b"secret",
    "cut": b'{"secret":',
    "two_values": b"{} {}",
    "deep_list": b"[" * 200_000,
    "deep_object": b'{"a":' * 200_000,
    "deep_and_closed": b"[" * 100_000 + b"]" * 100_000,
}


def reply(body: bytes, content_type: str = "application/json") -> Reply:
    return Reply(200, {"Content-Type": content_type}, body)


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_json_is_a_bad_answer(body: bytes) -> None:
    """Whatever cannot be decoded, or could not be sent on, is refused without a word of its content."""
    with pytest.raises(BadAnswer) as caught:
        decode(reply(body))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("content_type", ["text/html", "text/html; charset=utf-8", "Application/XHTML+XML"])
def test_an_html_page_is_told_as_one(content_type: str) -> None:
    """An HTML page is a gateway's word; JSON that is sent as HTML is JSON."""
    with pytest.raises(BadAnswer, match="HTTP 200: an HTML page"):
        decode(reply(b"<html>secret</html>", content_type))
    assert decode(reply(b'{"a":1}', content_type)) == {"a": 1}


@pytest.mark.parametrize("content_type", ["application/json", "application/json+compact", "text/plain", ""])
def test_other_types_are_read(content_type: str) -> None:
    """Any other content type says little, so the body decides."""
    assert decode(reply(b'{"a":[1,2.5,null,true,"\\ud83d\\ude00"]}', content_type)) == {"a": [1, 2.5, None, True, "😀"]}


def test_members_of_the_wrong_type_are_named() -> None:
    """The error names the member and both types, never the value."""
    with pytest.raises(BadAnswer, match="plugins should be an object and is a list"):
        object_of(["secret"], "plugins")
    with pytest.raises(BadAnswer, match="tids should be a list and is text"):
        list_of("secret", "tids")
    with pytest.raises(BadAnswer, match="tids should be a list and is null"):
        list_of(None, "tids")


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (None, ""), (7, "7"), (1.5, "1.5"), (True, "true"), (["a"], ""), ({"a": 1}, ""), ("", "")],
)
def test_scalars_as_text(value: JsonValue, text: str) -> None:
    """A scalar is text as JSON writes it; what is none is empty."""
    assert text_of(value) == text


def test_bounded_text_is_one_short_line() -> None:
    """A quoted text cannot forge lines of a log, nor fill it."""
    assert bounded("a\r\nb\x1b[31m\u2028c") == "a b [31m c"
    assert bounded("x" * 1_000, 10) == "x" * 9 + "…"


@pytest.mark.parametrize("body", [b"", b" \n", b"\r\n\r\n"])
def test_nothing_is_told_as_that(body: bytes) -> None:
    """A place in a document that is none helps nobody."""
    with pytest.raises(BadAnswer, match=r"^the answer is empty$"):
        decode(reply(body))
