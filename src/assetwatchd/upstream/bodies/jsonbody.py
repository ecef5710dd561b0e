"""Decodes JSON of upstreams, strictly first, and checks the types of members. Knows no member but those of errors."""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import TYPE_CHECKING, NoReturn

from assetwatchd.model.errors import BadAnswer
from assetwatchd.model.texts import CUT, cut
from assetwatchd.upstream.bodies import lenient, oddtext
from assetwatchd.upstream.logins import HTML_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import JsonValue

    from assetwatchd.upstream.http.transport import Reply

ERROR_MEMBERS = (
    "error",
    "errors",
    "fault",
    "errorCode",
    "error_description",
    "errorMessage",
    "error_message",
    "message",
    "msg",
    "title",
    "reason",
    "detail",
    "details",
    "description",
    "text",
)
"""What gateways and frameworks call what went wrong: OAuth, Spring, FastAPI, RFC 9457 and the like."""
STATUS_MEMBERS = ("status", "statusCode", "code")
REASON_DEPTH_MAX = 4
"""How deep in others an error may be told: in the first of a list, or a member that is an object."""
EMPTY = "the answer is empty"
DIGITS_MAX = 300
"""A longer integer fits no number of ours, not even a float."""


def decode(reply: Reply) -> JsonValue:
    """Decode the body as JSON, strictly or, where it is not quite JSON, as it was obviously meant (`_leniently`).

    The content type is only told of when the body is not JSON and it says HTML: gateways answer so in the upstream's
    place. Raises: BadAnswer, which never quotes the body.
    """
    # Strictly first: the lenient reading guesses, and must change nothing about an answer that is right.
    try:
        return strictly(reply.body)
    except BadAnswer as error:
        why = error
    try:
        return _leniently(reply)
    except (ValueError, RecursionError):
        if reply.content_type in HTML_TYPES:
            raise BadAnswer(f"HTTP {reply.status}: an HTML page where JSON should be", doubts_token=True) from None
        raise why from None  # what was wrong at first: the lenient reading has other words for the same place


def strictly(body: bytes) -> JsonValue:
    """Decode JSON (RFC 8259): UTF-8, every number finite, every text encodable again.

    Raises: BadAnswer, which never quotes the body.
    """
    if not body.strip():
        raise BadAnswer(EMPTY)
    try:
        value: JsonValue = json.loads(
            body.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite, parse_int=_integer
        )
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # half a surrogate pair can be escaped, not sent on
    except UnicodeError:
        raise BadAnswer("the JSON is not valid UTF-8") from None
    except RecursionError:
        raise BadAnswer("the JSON is nested too deeply") from None
    except json.JSONDecodeError as exc:
        raise BadAnswer(f"not JSON (line {exc.lineno}, column {exc.colno})") from None
    except ValueError:
        raise BadAnswer("not JSON: a number out of range") from None
    return value


def _leniently(reply: Reply) -> JsonValue:
    """Decode what is not quite JSON: of another encoding, with a byte-order mark, or with bytes that are no text.

    What is NaN, infinite or longer than any number of ours is the text it is written as; a control character in a text
    is one; half a surrogate pair is U+FFFD. Raises: ValueError, RecursionError.
    """
    text = oddtext.decoded(reply.body, oddtext.charset_in(reply.headers.get("Content-Type", "")))
    value: JsonValue = json.loads(
        text, strict=False, parse_constant=str, parse_float=_float_or_text, parse_int=_integer_or_text
    )
    whole = json.dumps(value, ensure_ascii=False)
    if (read := oddtext.without_halves(whole)) != whole:
        value = json.loads(read)
    return value


def object_of(value: JsonValue, what: str) -> dict[str, JsonValue]:
    """Return value if it is an object. Raises: BadAnswer, naming `what` and the type that came instead."""
    if isinstance(value, dict):
        return value
    raise BadAnswer(f"{what} should be an object and is {_type_name(value)}")


def object_in(reply: Reply, what: str = "the answer") -> dict[str, JsonValue]:
    """Decode the object that is an answer's body. Raises: BadAnswer."""
    return object_of(decode(reply), what)


def list_of(value: JsonValue, what: str) -> list[JsonValue]:
    """Return value if it is a list. Raises: BadAnswer, naming `what` and the type that came instead."""
    if isinstance(value, list):
        return value
    raise BadAnswer(f"{what} should be a list and is {_type_name(value)}")


def state_of(members: Mapping[str, JsonValue], name: str) -> str:
    """Return the member that is the state, a text. Raises: BadAnswer, naming it and what came instead."""
    value = members.get(name)
    if isinstance(value, str):
        return value
    raise BadAnswer(f"{name} should be text and is {_type_name(value) if name in members else 'missing'}")


def text_of(value: JsonValue) -> str:
    """Return a scalar as text: null is empty, numbers and booleans are as in JSON; lists and objects are empty."""
    return lenient.text(value) or ""


def bounded(text: str, length_max: int = 300) -> str:
    """Return text on one line without control characters, cut to length_max characters: fit for an error."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * length_max]).split())
    return cut(line, length_max) if len(text) <= 4 * length_max else line[: length_max - 1] + CUT


def reason_in(document: JsonValue) -> str:
    """Return the words of an error document in no published form; empty for anything that tells of no error."""
    return bounded(": ".join(filter(None, _reasons(document, REASON_DEPTH_MAX))))


def _reasons(told: JsonValue, depth: int) -> Iterator[str]:
    """Yield a text, or those in an object, or in the first item of a list."""
    if isinstance(told, str):
        yield told
    elif isinstance(told, list) and told and depth:
        yield from _reasons(told[0], depth - 1)
    elif isinstance(told, dict) and depth:
        yield next(filter(None, (_status_in(told.get(name)) for name in STATUS_MEMBERS)), "")
        for name in ERROR_MEMBERS:
            yield from _reasons(told.get(name), depth - 1)


def _status_in(value: JsonValue) -> str:
    """Return a status of HTTP that tells an error, in words; a document may tell it in place of the status line."""
    try:
        status = HTTPStatus(int(value)) if isinstance(value, (int, str)) else HTTPStatus.OK
    except ValueError:
        return ""
    return f"{status.value} {status.phrase}" if status >= HTTPStatus.BAD_REQUEST else ""


def _no_constant(_: str) -> NoReturn:
    raise ValueError


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


def _integer(text: str) -> int:
    if len(text) > DIGITS_MAX:
        raise ValueError
    return int(text)


def _float_or_text(text: str) -> float | str:
    return number if math.isfinite(number := float(text)) else text


def _integer_or_text(text: str) -> int | str:
    return text if len(text) > DIGITS_MAX else int(text)


def _type_name(value: JsonValue) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
