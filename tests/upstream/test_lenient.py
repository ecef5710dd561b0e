"""Members read leniently: what obviously means one of the type is taken, all else is named."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.upstream.bodies import lenient
from assetwatchd.upstream.bodies.lenient import LOST_MAX, PLACE_LENGTH_MAX, Members

pytestmark = pytest.mark.unit

AT = datetime(2026, 3, 4, 10, 15, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, 0),
        (60058, 60058),
        (60058.333, 60058),
        (41.5, 42),
        ("61250", 61250),
        (" 61250.6 ", 61251),
        ("+7", 7),
        (2**63 - 1, 2**63 - 1),
        (str(2**63 - 1), 2**63 - 1),
        (2**63, None),
        (10**400, None),
        (-1, None),
        ("-1", None),
        ("12 MB", None),
        ("1_000", None),
        ("\u0661", None),
        ("9" * 100, None),
        ("1e3", None),
        ("NaN", None),
        ("", None),
        (float("inf"), None),
        (float("nan"), None),
        (True, None),
        (None, None),
        ([7], None),
        ({}, None),
    ],
)
def test_numbers(value: Any, number: int | None) -> None:
    """Numbers as text and fractions are taken; a unit, a sign or a flag are not guessed at."""
    assert lenient.number(value) == number


@pytest.mark.parametrize(
    ("value", "number"), [(7, 7), (7.0, 7), ("7", 7), (7.5, None), ("7.0", None), (True, None), (None, None)]
)
def test_numbers_that_name_something(value: Any, number: int | None) -> None:
    """A number that names something is not rounded."""
    assert lenient.whole_number(value) == number


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ("2026-03-04T10:15:00.000Z", AT),
        ("2026-03-04T11:15:00+01:00", AT),
        ("2026-03-04 10:15:00", AT),
        ("20260304T101500Z", AT),
        ("20260304", AT.replace(hour=0, minute=0)),
        (1772619300, AT),
        (1772619300.0, AT),
        (1772619300000, AT),
        ("1772619300", AT),
        ("1772619300000", AT),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        ("yesterday", None),
        ("", None),
        (10**18, None),
        (10**400, None),
        (float("nan"), None),
        (True, None),
        (None, None),
        ({}, None),
        ("0001-01-01T00:00:00+14:00", None),
    ],
)
def test_times(value: Any, at: datetime | None) -> None:
    """ISO 8601, and seconds and milliseconds since 1970, as number or text, are taken."""
    assert lenient.time(value) == at


def test_a_time_without_zone_is_of_the_zone_given() -> None:
    """Where a time names no zone, that of its server counts; seconds since 1970 have none."""
    berlin = ZoneInfo("Europe/Berlin")
    assert lenient.time("2026-03-04 11:15:00.000", berlin) == AT
    assert lenient.time(1772619300, berlin) == AT


@pytest.mark.parametrize(
    ("value", "flag"),
    [(True, True), (False, False), (1, True), (0, False), ("true", True), ("False", False), ("yes", None), (2, None)],
)
def test_flags(value: Any, flag: bool | None) -> None:  # noqa: FBT001 - what is expected
    """0, 1 and the words of JSON are truth values."""
    assert lenient.flag(value) is flag


@given(JSON)
def test_any_value_is_taken_or_named(value: Any) -> None:
    """Whatever stands there, each reader returns one of its type, and names what it could not read alone."""
    members = Members({"a": {"b": value}}).object("a")
    readers = {str: members.text, int: members.number, bool: members.flag}
    for kind, read in readers.items():
        members.lost.clear()
        assert type(read("b")) is kind
        expected = value is not None and getattr(lenient, read.__name__)(value) is None
        assert members.lost == (["a.b"] if expected else [])
    members.time("b")
    members.message("b")
    assert set(members.lost) <= {"a.b"}


def test_what_is_absent_or_null_is_not_lost() -> None:
    """Optional members may be absent, null, or, of a moment, empty."""
    for given_ in ({}, {"a": None}):
        members = Members(given_)
        assert (members.text("a"), members.number("a"), members.flag("a"), members.time("a")) == ("", 0, False, None)
        assert members.object("a").text("b") == ""
        assert list(members.objects("a")) == []
        assert members.lost == []
    assert Members({"a": ""}).time("a") is None


def test_places_name_all_that_a_member_is_in() -> None:
    """A lost member is named by its place in the answer, a bad item of a list by its own."""
    members = Members({"formats": {"iterable": [{"bytes": {"value": "12 MB"}}, 7]}, "metaData": "x"})
    for item in members.object("formats").objects("iterable"):
        item.object("bytes").number("value")
    members.object("metaData").text("format")
    assert members.lost == ["formats.iterable.0.bytes.value", "formats.iterable.1", "metaData"]


def test_a_message_that_is_no_text_is_said_as_json() -> None:
    """What an upstream tells people is not kept from them for its form, though it is named."""
    members = Members({"exception": {"type": "RenderError", "reason": "é"}})
    assert members.message("exception") == '{"type": "RenderError", "reason": "é"}'
    assert members.lost == ["exception"]
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert Members({"exception": deep}).message("exception") == ""


def test_a_million_lost_members_are_named_in_part() -> None:
    """Of what is lost the first are named, and no name is longer than its limit."""
    members = Members({"items": [7] * 1000, "x" * 1000: []})
    assert list(members.objects("items")) == []
    assert len(members.lost) == LOST_MAX
    members.lost.clear()
    members.text("x" * 1000)
    assert [len(name) for name in members.lost] == [PLACE_LENGTH_MAX]
