from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from assetwatchd.settings.schema import AnySource, BearerAuth, ServerSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.unit

SECRET = "hunter2-must-not-be-seen"
SOURCE = TypeAdapter[AnySource](AnySource)


def source(kind: str, **fields: object) -> AnySource:
    return SOURCE.validate_python({"kind": kind, "base_url": "http://127.0.0.1:1", **fields})


def test_defaults_of_a_server() -> None:
    """A server listens on loopback only, and its limits are what the documents promise."""
    server = Settings().server
    assert server.listen == "127.0.0.1:50051"
    assert (server.heartbeat_s, server.stream_age_s, server.slow_consumer_s) == (5, 1800, 60)
    assert (server.tls_cert_file, server.tls_key_file) == (None, None)


@pytest.mark.parametrize(
    ("kind", "needed", "rate_per_s", "settled_interval_s"),
    [
        ("usd_search", {}, 10, 60),
        ("omn", {"auth": {"kind": "bearer", "token": "t"}}, 20, 60),
        ("pieces", {}, 200, 60),
        ("media_intelligence", {"access_key": "a", "secret_key": "s"}, 10, 60),
        ("oracle_sbc", {"username": "u", "password": "p"}, 2, 15),
    ],
)
def test_defaults_of_each_kind(
    kind: str, needed: dict[str, object], rate_per_s: float, settled_interval_s: float
) -> None:
    """Each kind can be configured with what it cannot do without, and is asked no faster than is polite."""
    settings = source(kind, **needed)
    assert (settings.kind, settings.rate_per_s) == (kind, rate_per_s)
    assert (settings.busy_interval_s, settings.settled_interval_s) == (2, settled_interval_s)
    assert settings.trace_context is False
    assert settings.tls_verify is True


def test_media_intelligence_knows_its_address() -> None:
    """Its published address is the default; the other kinds have none."""
    settings = SOURCE.validate_python({"kind": "media_intelligence", "access_key": "a", "secret_key": "s"})
    assert str(settings.base_url) == "https://mi.apigw.ntruss.com/"
    with pytest.raises(ValidationError, match="base_url"):
        SOURCE.validate_python({"kind": "pieces"})


@pytest.mark.parametrize("given", [{}, {"token": "t", "token_file": "/t"}])
def test_a_bearer_has_a_token_or_a_file(given: dict[str, str]) -> None:
    """Neither or both is refused."""
    with pytest.raises(ValidationError, match="give either token or token_file"):
        BearerAuth.model_validate({"kind": "bearer", **given})


@pytest.mark.parametrize(
    "given",
    [{"tls_cert_file": "/c"}, {"tls_key_file": "/k"}, {"tls_client_ca_file": "/a"}],
)
def test_half_a_tls_configuration_is_refused(given: dict[str, str]) -> None:
    """A certificate without key, a key without certificate, and clients' certificates without TLS are refused."""
    with pytest.raises(ValidationError, match="tls_"):
        ServerSettings.model_validate(given)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("pieces", {"rate_per_s": 0}),
        ("pieces", {"concurrency": 0}),
        ("pieces", {"timeout_s": -1}),
        ("pieces", {"body_bytes_max": 10}),
        ("pieces", {"unknown": 1}),
        ("omn", {"auth": {"kind": "basic", "username": "u", "password": "p"}}),
        ("omn", {"auth": {"kind": "bearer", "token": "t"}, "batch_size": 1001}),
        ("oracle_sbc", {"username": "u", "password": "p", "version": "1.2"}),
        ("media_intelligence", {"access_key": "a", "secret_key": "s", "page_size": 1001}),
        ("ftp", {}),
    ],
)
def test_what_a_source_cannot_be_told(kind: str, wrong: dict[str, object]) -> None:
    """Values out of range, unknown names and unknown kinds are refused."""
    with pytest.raises(ValidationError):
        source(kind, **wrong)


@pytest.mark.parametrize("name", ["Upper", "under_score", "-first", "last-", "", "a" * 64, "a/b"])
def test_names_of_sources(name: str) -> None:
    """A name has lower case letters, digits and inner hyphens, at most 63 of them."""
    pieces = {"kind": "pieces", "base_url": "http://127.0.0.1:1"}
    assert Settings.model_validate({"sources": {"a-1": pieces, "a" * 63: pieces}}).sources
    with pytest.raises(ValidationError):
        Settings.model_validate({"sources": {name: pieces}})


def test_no_secret_in_a_repr_or_an_error() -> None:
    """Neither the text of the settings nor that of an error shows a secret."""
    settings = source("oracle_sbc", username="u", password=SECRET)
    assert SECRET not in f"{settings!r} {settings}"
    with pytest.raises(ValidationError) as caught:
        SOURCE.validate_python({"kind": "oracle_sbc", "username": "u", "password": SECRET})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


HEADERS = [
    ("omn", {"auth": {"kind": "bearer", "token": "@"}}),
    ("usd_search", {"auth": {"kind": "bearer", "token": "@"}}),
    ("usd_search", {"auth": {"kind": "api_key", "key": "@"}}),
    ("media_intelligence", {"access_key": "@", "secret_key": "s"}),
    ("pieces", {"application_id": "@"}),
]
"""Settings that are sent as they are, in a header of each call."""


@pytest.mark.parametrize(("kind", "told"), HEADERS)
@example(text="")
@example(text="abc\n")
@example(text="abc\r\nx-other: 1")
@example(text="to ken")
@example(text="t\u00f6ken")
@example(text="to\x00ken")
@given(text=st.text(max_size=8))
def test_what_goes_into_a_header_can(kind: str, told: dict[str, Any], text: str) -> None:
    """It is one line of visible ASCII, as a token from a file is; the error does not show what else there is."""
    settings = json.loads(json.dumps(told).replace('"@"', json.dumps(text)))
    if text and all("!" <= character <= "~" for character in text):
        source(kind, **settings)
        return
    with pytest.raises(ValidationError, match=r"visible ASCII|match pattern") as caught:
        source(kind, **settings)
    assert caught.value.error_count() == 1


def test_settings_do_not_change() -> None:
    """What was read at the start is what is in effect."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().server.listen = "x"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("listen", "127.0.0.1:65536"),
        ("listen", "nonsense"),
        ("stream_age_s", float("inf")),
        ("heartbeat_s", float("nan")),
        ("drain_s", 1e300),
    ],
)
def test_values_that_cannot_work_are_refused_by_the_check(place: str, value: object) -> None:
    """What would only fail when serving fails before."""
    with pytest.raises(ValidationError, match=place):
        ServerSettings.model_validate({place: value})


def numbers(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every setting that is a number, with what is said of it."""
    for model, said in schema["$defs"].items():
        for name, of_it in said.get("properties", {}).items():
            yield from ((f"{model}.{name}", one) for one in of_it.get("anyOf", [of_it]) if one.get("type") in NUMBERS)


NUMBERS = {"integer", "number"}


def test_every_number_ends_somewhere() -> None:
    """No number goes on to where the check says ok and the server, or a library of its, fails at its size."""
    found = dict(numbers(Settings.model_json_schema()))
    assert {"ServerSettings.streams_max", "OmnSource.body_bytes_max"} <= found.keys()
    endless = [name for name, said in found.items() if "maximum" not in said]
    floorless = [name for name, said in found.items() if not {"minimum", "exclusiveMinimum"} & said.keys()]
    assert (endless, floorless) == ([], [])


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:1/?key=value", "http://127.0.0.1:1/#there"])
def test_a_url_that_no_path_can_be_put_behind(base_url: str) -> None:
    """A query or a fragment would swallow the path."""
    with pytest.raises(ValidationError, match="query or a fragment"):
        SOURCE.validate_python({"kind": "pieces", "base_url": base_url})
