"""Texts of an upstream freed of secrets, values and errors, however a secret is written in them."""

from __future__ import annotations

import html
import json
import pickle
import string
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from assetwatchd.model.details import OmnDetail, UsdSearchAttempt, UsdSearchDetail, UsdSearchPlugin
from assetwatchd.model.errors import AnswerTooLarge, BadAnswer, Refused, Throttled, UpstreamError, VersionUnsupported
from assetwatchd.model.values import Facet, Failure, FailureKind, Observation, State
from assetwatchd.upstream.answers import Unchanged, Unreadable
from assetwatchd.upstream.bodies.jsonbody import bounded
from assetwatchd.upstream.port import Listed, listed
from assetwatchd.upstream.redaction import LATEST, LONG, MASK, SHORT, Secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.unit

SECRETS = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x2FF, categories=["L", "N", "P", "S"]), min_size=SHORT
)
WAYS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "JSON": lambda secret: json.dumps(secret)[1:-1],
    "JSON of PHP": lambda secret: json.dumps(secret)[1:-1].replace("/", "\\/"),
    "a URL": lambda secret: quote(secret, safe=""),
    "a form": quote_plus,
    "XML": escape,
    "HTML": html.escape,
    "bearer": lambda secret: f"Bearer {secret}",
    "in words": lambda secret: f"the password '{secret}' of admin",
    "between letters": lambda secret: f"x{secret}y",
}
OURS = [
    AnswerTooLarge(8),
    BadAnswer("HTTP 200: not as published; correct base_url"),
    Refused("HTTP 401: our credentials are refused or lack a right"),
    Throttled("HTTP 429: too many calls", retry_after_s=7.0),
    VersionUnsupported("it is too old"),
]


def written(secret: str, way: str) -> str:
    return WAYS[way](secret)


def observation(text: str) -> Observation:
    """An observation with a text wherever an upstream can put one."""
    attempt = UsdSearchAttempt("failed", text, text, text)
    return Observation(
        "s3://bucket/file",
        State.FAILED,
        facets=(Facet(text, State.FAILED, text, text),),
        failure=Failure(FailureKind.RETRYABLE, text, text),
        detail=UsdSearchDetail("ok", text, (UsdSearchPlugin(text, text, text, (attempt,)),), {text: [{"a": text}]}),
        answer=b"digest",
    )


def texts_of(value: Any) -> Iterator[str]:
    """Every text in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from texts_of(item)
    elif isinstance(value, dict):
        yield from texts_of([*value, *value.values()])
    elif is_dataclass(value):
        yield from texts_of([getattr(value, each.name) for each in fields(value)])


@given(secret=SECRETS, way=st.sampled_from(sorted(WAYS)), before=st.text(), after=st.text())
def test_no_value_shows_a_secret(secret: str, way: str, before: str, after: str) -> None:
    """Wherever in an observation, in whatever form: what is kept does not have it."""
    freed = Secrets([secret]).cleaner.value(observation(before + written(secret, way) + after))
    for text in texts_of((freed.facets, freed.failure, freed.detail)):
        assert secret not in text
        assert WAYS[way](secret) not in text
    assert (freed.asset_id, freed.state, freed.answer) == ("s3://bucket/file", State.FAILED, b"digest")


@given(secret=SECRETS, way=st.sampled_from(sorted(WAYS)), before=st.text(), after=st.text())
def test_no_error_shows_a_secret(secret: str, way: str, before: str, after: str) -> None:
    """What an upstream said in an error is freed; class, seconds and our own words stay."""
    error = BadAnswer("HTTP 400", said=before + written(secret, way) + after, retry_after_s=3.0, doubts_token=True)
    freed = Secrets([secret]).cleaner.error(error)
    assert secret not in freed.said
    assert written(secret, way) not in freed.said
    assert (type(freed), freed.retry_after_s, freed.doubts_token) == (BadAnswer, 3.0, True)
    assert str(freed) == f"HTTP 400: {freed.said}"


@given(secret=st.text(string.ascii_letters + string.digits + "._-", min_size=24, max_size=2000), at=st.integers(0, 299))
def test_a_secret_that_was_cut(secret: str, at: int) -> None:
    """Of one that stands at the end of a text that was cut, no more is left than the beginning of any word."""
    said = bounded("," * at + secret + "." * 300)
    freed = Secrets([secret]).cleaner.error(BadAnswer("HTTP 400", said=said))
    assert secret[:SHORT] not in str(freed)


@pytest.mark.parametrize("error", OURS, ids=lambda error: type(error).__name__)
def test_a_secret_that_is_a_word_of_ours(error: UpstreamError) -> None:
    """A password that is a part of our own words breaks no error, and is not told by a gap in it."""
    for word in {*str(error).split(), "a", "HTTP", "8", *str(error)}:
        freed = Secrets([word]).cleaner.error(error)
        assert freed is error


@given(st.sampled_from(OURS), st.data())
def test_any_part_of_our_words_may_be_a_secret(error: UpstreamError, data: st.DataObject) -> None:
    """Whatever part of a text is a secret: the error is of the same class, and can be made again from its pickle."""
    text = str(error)
    begin = data.draw(st.integers(0, len(text) - 1))
    freed = Secrets([text[begin : data.draw(st.integers(begin + 1, len(text)))]]).cleaner.error(error)
    assert type(freed) is type(error)
    again = pickle.loads(pickle.dumps(freed))  # noqa: S301 - our own
    assert (str(again), again.retry_after_s, vars(again)) == (str(freed), error.retry_after_s, vars(freed))


def test_published_words_stay() -> None:
    """A text that is a published state stays, though a password is the same; a text with it does not."""
    secrets = Secrets(["available"], published=["available", "import"])
    told = Observation(
        "tid:1",
        State.AVAILABLE,
        facets=(Facet("import", State.AVAILABLE, "available", "your password is available"),),
        detail=OmnDetail("1", "1", "available", "available"),
    )
    freed = secrets.cleaner.value(told)
    assert freed.facets == (Facet("import", State.AVAILABLE, "available", f"your password is {MASK}"),)
    assert freed.detail == told.detail


@pytest.mark.parametrize("secret", ["a", "13", "HTTP", "test", "é"])
def test_a_short_secret_is_no_part_of_words(secret: str) -> None:
    """It is blotted out where it stands by itself, and leaves words and numbers that have it in them alone."""
    clean = Secrets([secret]).cleaner.text
    assert clean(f"password '{secret}' is wrong") == f"password '{MASK}' is wrong"
    assert clean(f"Basic%20{secret}%3A") == f"Basic%20{MASK}%3A"
    whole = f"x{secret}y {secret}0 0{secret}"
    assert clean(whole) == whole


def test_what_is_clean_is_not_made_anew() -> None:
    """It is the very same value, so that the hot path pays for a look alone."""
    cleaner = Secrets(["a secret of some length"]).cleaner
    lists = (frozenset({"tid:1"}), Listed(frozenset({"tid:1"}), 1, "no id"))
    answers = ([Unchanged("a")], [Unreadable("a", "no id")])
    for value in (observation("text"), *answers, *lists, {"a": 1}, None, 7, b"a", "text"):
        assert cleaner.value(value) is value


def test_an_answer_that_is_known_costs_no_look() -> None:
    """Unchanged has nothing of an upstream in it, though an id may be a secret."""
    assert Secrets(["tid:1-and-much-more"]).cleaner.value([Unchanged("tid:1-and-much-more")]) == [
        Unchanged("tid:1-and-much-more")
    ]


def test_ids_are_freed_only_of_what_is_none() -> None:
    """An id has to be what the upstream calls it; only of what is too long to be chance is it freed."""
    cleaner = Secrets(["project", "eyJhbGciOiJIUzUxMiJ9.e30.abc"]).cleaner
    ids = frozenset({"ws/project/1", "tid:eyJhbGciOiJIUzUxMiJ9.e30.abc", "tid:2"})
    assert cleaner.value(ids) == {"ws/project/1", f"tid:{MASK}", "tid:2"}
    assert cleaner.value(Listed(ids, 1, "no id")) == Listed(cleaner.value(ids), 1, "no id")


@given(secret=st.text(string.ascii_letters + string.digits + "._-", min_size=LONG), way=st.sampled_from(sorted(WAYS)))
def test_why_something_cannot_be_read_shows_no_token(secret: str, way: str) -> None:
    """Nor does the list, or the asset, of which it is said; the id is the one that was asked for."""
    text = written(secret, way)
    told = (Listed(frozenset({text, "tid:1"}), 2, text), Unreadable("tid:1", text))
    freed = Secrets([secret]).cleaner.value(told)
    assert secret not in repr(freed)
    assert (freed[0].asset_ids >= {"tid:1"}, freed[0].unreadable, freed[1].asset_id) == (True, 2, "tid:1")


def test_why_in_words_of_ours() -> None:
    """A password that is one of them, or the id that was asked for, is not told by a gap."""
    why = "the answer has no ObjectState that could be read"
    for told in (Unreadable("tid:1-and-much-more", why), listed(["tid:1", None], 10)):
        for word in {*told.why.split(), *told.why, "ObjectState", "tid:1-and-much-more"}:
            assert Secrets([word]).cleaner.value(told) == told


class Inner(BaseModel):
    """A part of settings."""

    token: SecretStr | None
    keys: tuple[SecretStr, ...]
    more: dict[str, Any]


class Outer(BaseModel):
    """Settings."""

    inner: Inner
    name: str


def test_secrets_are_found_wherever_they_stand_in_settings() -> None:
    """In a model in a model, in tuples and in mappings; what is no secret is none."""
    inner = {"token": "first-token", "keys": ("second-token",), "more": {"x": SecretStr("third-token")}}
    clean = Secrets.of(Outer.model_validate({"inner": inner, "name": "public-name"})).cleaner.text
    assert clean("first-token second-token third-token public-name") == f"{MASK} {MASK} {MASK} public-name"


def test_the_latest_tokens_are_known() -> None:
    """As many as there may be calls under way, and those of the settings and what is made of them for ever."""
    secrets = Secrets(["the-password"])
    secrets.keep("dXNlcjpwYXNzd29yZA==")
    for number in range(2 * LATEST):
        secrets.add(f"token-number-{number:03}")
        assert secrets.cleaner.text(f"token-number-{number:03}") == MASK
    assert secrets.cleaner.text("dXNlcjpwYXNzd29yZA") == MASK
    assert secrets.cleaner.text("the-password") == MASK
    assert secrets.cleaner.text("token-number-000") == "token-number-000"
    assert secrets.cleaner.text(f"token-number-{LATEST:03}") == MASK


def test_nothing_secret_shows_when_printed() -> None:
    """Neither what knows the secrets nor what was pickled for another process says them in words."""
    secrets = Secrets(["the-password"])
    assert "the-password" not in repr(secrets) + repr(secrets.cleaner) + str(secrets.cleaner)


def test_error_is_freed_where_it_passes() -> None:
    """kept() changes the text alone, cuts off the cause that would show it, and lets a clean error be the very same."""
    secrets = Secrets(["abcdefgh"])
    with pytest.raises(Throttled) as caught, secrets.redacting_errors():
        raise Throttled("no", said="abcdefgh", retry_after_s=3)
    assert (str(caught.value), caught.value.retry_after_s, caught.value.__cause__) == (f"no: {MASK}", 3, None)
    assert caught.value.__suppress_context__
    clean = Refused("no")
    with pytest.raises(Refused) as caught_too, secrets.redacting_errors():
        raise clean
    assert caught_too.value is clean


def test_what_a_call_is_made_with_is_known_until_its_answer_is_read() -> None:
    """A slow answer may echo a signature after which many others were made; two calls may be made with one."""
    secrets = Secrets()
    with secrets.sent("signature-of-this-call"):
        with secrets.sent("signature-of-this-call"):
            pass
        secrets.add(*(f"token-number-{number:03}" for number in range(2 * LATEST)))
        assert secrets.cleaner.text("signature-of-this-call") == MASK
    assert secrets.cleaner.text("signature-of-this-call") == MASK
    secrets.add(*(f"token-number-{number:04}" for number in range(LATEST)))
    assert secrets.cleaner.text("signature-of-this-call") != MASK
