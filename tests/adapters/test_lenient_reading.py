"""What is not the state never hides it: over every golden answer, whatever one of its members is made of."""

from __future__ import annotations

import copy
import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.adapters import media_intelligence, oracle_sbc, pieces, usd_search
from assetwatchd.adapters.media_intelligence import AssetPath
from assetwatchd.adapters.omn import adapter as omn
from assetwatchd.model.errors import BadAnswer
from assetwatchd.model.values import Observation, State
from assetwatchd.pieces.client import frames
from assetwatchd.pieces.client.streams import Stream
from assetwatchd.upstream.answers import Unreadable
from assetwatchd.upstream.http.transport import Reply
from assetwatchd.upstream.paging import Page
from support import golden

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from assetwatchd.upstream.answers import Answer

pytestmark = pytest.mark.unit

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
IDS = st.lists(st.integers(1, 10**6), min_size=2, max_size=8, unique=True)


def _read_media(reply: Reply, asked: Sequence[str]) -> Sequence[Answer]:
    path = AssetPath.parse(asked[0])
    assert path is not None
    observation = media_intelligence.read(reply, path)
    return [] if observation is None else [observation]


def _read_usd(reply: Reply, asked: Sequence[str]) -> Sequence[Answer]:
    return [usd_search.normalise(asked[0], usd_search.answer_of(reply), zone=ZoneInfo("UTC"))]


def _read_omn(reply: Reply, asked: Sequence[str]) -> Sequence[Answer]:
    return omn.read(reply, "json" if "json" in reply.content_type else "xml", asked, {}) or []


class Kind(NamedTuple):
    """How a kind is read. state: the places in its answer that the state depends on. free: where anything is kept."""

    read: Callable[[Reply, Sequence[str]], Sequence[Answer]]
    state: str = ""
    free: str = "-"


HISTORY = r"plugin_status_history(\.0(\.(status|hash_value))?)?"
KINDS = {
    "media_intelligence": Kind(_read_media, r"code|result(\.(assetId|videoId|uploadStatus))?"),
    "usd_search": Kind(
        _read_usd,
        rf"plugins_statuses(\.[^.]+(\.indexing_status|\.{HISTORY})?)?"
        r"|storage_backend_info(\.(asset_status|storage_asset_hash))?",
        free=r"storage_backend_info\.metadata(\..*)?",
    ),
    "pieces": Kind(lambda reply, asked: [pieces.read(reply, asset_id=asked[0])], r"id|deleted(\.value)?|mechanism"),
    "omn": Kind(_read_omn),
    "oracle_sbc": Kind(lambda reply, _: [oracle_sbc.normalise(oracle_sbc.decode_operation(reply))]),
}


@cache
def recorded(*kinds: str, form: str = "") -> list[golden.Golden]:
    """Load every golden answer of some kinds, in a form, that is read as observations."""
    found = [golden.load(kind, name) for kind in kinds for name in golden.names(kind)]
    return [each for each in found if form in each.reply.content_type and _is_observed(each)]


def _is_observed(each: golden.Golden) -> bool:
    return each.reply.status == golden.OK and bool(each.expected.get("observations"))


def places(value: Any, *above: str) -> Iterator[tuple[str, ...]]:
    """Yield the place of every member and item of a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in items:
        yield (*above, str(name))
        yield from places(member, *above, str(name))


def at(document: Any, place: Sequence[str]) -> Any:
    """Return what is there."""
    for name in place:
        document = document[int(name)] if isinstance(document, list) else document[name]
    return document


def mutated(document: Any, place: Sequence[str], value: Any) -> Reply:
    """Make the answer that has that value there."""
    changed = copy.deepcopy(document)
    holder = at(changed, place[:-1])
    holder[int(place[-1]) if isinstance(holder, list) else place[-1]] = value
    return Reply(200, {"Content-Type": "application/json"}, json.dumps(changed).encode())


def beside_the_state(kind: Kind, document: Any) -> list[tuple[str, ...]]:
    """List the places that the state does not depend on."""
    return [place for place in places(document) if not re.fullmatch(kind.state, ".".join(place))]


def unlike(value: Any) -> list[Any]:
    """Return values that cannot be read in the place of this one."""
    if isinstance(value, dict):
        return [[1], "oops"]
    return [{"x": 1}, "oops"] if isinstance(value, list) else [{"x": 1}, [1]]


@pytest.mark.parametrize("kind", ["media_intelligence", "usd_search", "pieces"])
def test_any_one_member_that_is_not_the_state_may_be_broken(kind: str) -> None:
    """The state is read, and the member is named if it was of any use; one that is of none changes nothing."""
    for each in recorded(kind, form="json"):
        _break_each_member(kind, each)


def _break_each_member(kind: str, each: golden.Golden) -> None:
    read, document = KINDS[kind].read, json.loads(each.reply.body)
    [as_it_was] = read(each.reply, each.asked)
    assert isinstance(as_it_was, Observation)
    for place in beside_the_state(KINDS[kind], document):
        dotted = ".".join(place)
        for value in unlike(at(document, place)):
            [one] = read(mutated(document, place, value), each.asked)
            assert isinstance(one, Observation)
            assert one.state is as_it_was.state, dotted
            named = any(
                dotted.endswith(lost) or lost.startswith(dotted) for lost in getattr(one.detail, "unreadable", ())
            )
            assert named or one == as_it_was or re.fullmatch(KINDS[kind].free, dotted), dotted


def test_members_are_named_in_every_kind() -> None:
    """The test before cannot pass for want of members that are read."""
    for kind, member in (
        ("media_intelligence", "metaData.durationMs"),
        ("usd_search", "plugins_statuses.thumbnail_generation.plugin_status_history.1.exception"),
        ("pieces", "formats.iterable.0.bytes.value"),
    ):
        lost: set[str] = set()
        for each in recorded(kind, form="json"):
            document = json.loads(each.reply.body)
            for place in beside_the_state(KINDS[kind], document):
                [one] = KINDS[kind].read(mutated(document, place, {"x": 1}), each.asked)
                assert isinstance(one, Observation)
                lost.update(getattr(one.detail, "unreadable", ()))
        assert member in lost


@given(st.data())
def test_any_value_in_any_place_beside_the_state(data: st.DataObject) -> None:
    """Whatever JSON stands in the place of one member, the state is the same."""
    kind = data.draw(st.sampled_from(["media_intelligence", "usd_search", "pieces"]))
    each = data.draw(st.sampled_from(recorded(kind, form="json")))
    document = json.loads(each.reply.body)
    place = data.draw(st.sampled_from(beside_the_state(KINDS[kind], document) or [("more",)]))
    [as_it_was] = KINDS[kind].read(each.reply, each.asked)
    [one] = KINDS[kind].read(mutated(document, place, data.draw(JSON)), each.asked)
    assert isinstance(as_it_was, Observation)
    assert isinstance(one, Observation)
    assert one.state is as_it_was.state


@pytest.mark.parametrize(
    ("kind", "name", "place", "value", "read"),
    [
        ("media_intelligence", "completed", "result.metaData.durationMs", 60058.333, "duration_ms=60058"),
        ("media_intelligence", "completed", "result.metaData.durationMs", "61250", "duration_ms=61250"),
        ("media_intelligence", "completed", "result.metaData.format", 7, "format='7'"),
        ("media_intelligence", "completed", "result.assetId", "9021", "asset_id=9021"),
        ("pieces", "synced", "name", 12345, "name='12345'"),
        ("pieces", "synced", "formats.iterable.0.bytes.value", 41.6, "size_bytes=42"),
        ("pieces", "synced", "pseudo", "true", "pseudo=True"),
        ("pieces", "synced", "updated.value", 1772619300, "update_time=datetime.datetime(2026, 3, 4, 10, 15,"),
        ("pieces", "synced", "updated", 1772619300000, "update_time=datetime.datetime(2026, 3, 4, 10, 15,"),
        (
            "usd_search",
            "sample_gave_up",
            "plugins_statuses.rendering_to_embedding.plugin_status_history.0.exception",
            {"type": "E"},
            'exception=\'{"type": "E"}\'',
        ),
    ],
)
def test_what_is_obviously_meant_is_taken(kind: str, name: str, place: str, value: Any, read: str) -> None:
    """Numbers as text, text as numbers, fractions, and seconds or milliseconds since 1970 are read as such."""
    each = golden.load(kind, name)
    [one] = KINDS[kind].read(mutated(json.loads(each.reply.body), place.split("."), value), each.asked)
    assert isinstance(one, Observation)
    assert read in repr(one.detail)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("sample_file_not_found", "plugins_statuses"),
        ("sample_file_not_found", "plugins_statuses.image_to_embedding"),
        ("sample_file_not_found", "plugins_statuses.image_to_embedding.indexing_status"),
        ("never_processed", "plugins_statuses.*.plugin_status_history"),
        ("failed_indexing", "plugins_statuses.*.plugin_status_history"),
        ("failed_indexing", "plugins_statuses.*.plugin_status_history.0"),
        ("failed_indexing", "plugins_statuses.*.plugin_status_history.0.status"),
    ],
)
def test_what_does_not_decide_is_not_the_state(name: str, place: str) -> None:
    """Plugins do not decide of a file that is gone, nor attempts where the plugin says all: they may be broken too."""
    each = golden.load("usd_search", name)
    document = json.loads(each.reply.body)
    path = place.replace("*", next(iter(document["plugins_statuses"]))).split(".")
    [as_it_was] = _read_usd(each.reply, each.asked)
    [one] = _read_usd(mutated(document, path, 7), each.asked)
    assert isinstance(as_it_was, Observation)
    assert isinstance(one, Observation)
    assert one.state is as_it_was.state
    assert any(".".join(path).startswith(lost) for lost in getattr(one.detail, "unreadable", ()))


@pytest.mark.parametrize(
    ("kind", "name", "place"),
    [
        ("media_intelligence", "completed", "result.uploadStatus"),
        ("usd_search", "sample_available", "plugins_statuses.thumbnail_generation.indexing_status"),
        ("usd_search", "sample_available", "plugins_statuses.thumbnail_generation.plugin_status_history.0.status"),
        ("usd_search", "sample_available", "plugins_statuses.thumbnail_generation.plugin_status_history.0"),
        ("usd_search", "sample_available", "storage_backend_info.asset_status"),
        ("pieces", "synced", "id"),
        ("pieces", "deleted", "deleted"),
        ("pieces", "deleted", "deleted.value"),
    ],
)
def test_the_state_itself_is_read_strictly(kind: str, name: str, place: str) -> None:
    """What is the state is never guessed at: an answer that has it in another form is a BadAnswer."""
    each = golden.load(kind, name)
    for value in ([7], "" if place.startswith("deleted") else {"x": 1}):
        reply = mutated(json.loads(each.reply.body), place.split("."), value)
        with pytest.raises(BadAnswer):
            KINDS[kind].read(reply, each.asked)


# Lists ----------------------------------------------------------------------------------------------------------------

NO_ID: st.SearchStrategy[object] = (
    st.none() | st.booleans() | st.just("") | st.just([]) | st.fixed_dictionaries({}, optional={"x": JSON})
)


@given(IDS, st.data())
def test_any_one_bad_item_of_a_list_costs_one_item(numbers: list[int], data: st.DataObject) -> None:
    """Of each kind that can be listed, the others are listed, and one is counted as unreadable."""
    broken, junk = data.draw(st.integers(0, len(numbers) - 1)), data.draw(NO_ID)
    wanted = {number for place, number in enumerate(numbers) if place != broken}

    def answer(items: Sequence[Any], **more: Any) -> Reply:
        told: list[Any] = list(items)
        told[broken] = junk
        document = dict.fromkeys(("tids", "iterable"), told) | {"code": "0", "result": {"content": told, **more}}
        return Reply(200, {"Content-Type": "application/json"}, json.dumps(document).encode())

    tids = omn.ids_of(answer([f"{number}" for number in numbers]), 100)
    if junk is not False and junk is not True:
        assert (tids.asset_ids, tids.unreadable) == (frozenset(f"tid:{number}" for number in wanted), 1)
    listed = pieces.ids(answer([{"id": f"{number}"} for number in numbers]), 100)
    assert (listed.asset_ids, listed.unreadable) == (frozenset(f"{number}" for number in wanted), 1)
    page = media_intelligence.page_of(answer([{"assetId": number} for number in numbers]), 1, 10)
    assert page == Page(frozenset(wanted), 1, None, None, is_last=True)
    frame = frames.parse(answer([{"asset": {"id": f"{number}"}} for number in numbers]), Stream.IDENTIFIERS, 100)
    assert frame is not None
    assert {item.asset_id for item in frame.items} == {f"{number}" for number in wanted}


BREAKING = {
    "no ImportState": ({"ImportState": None}, "no ImportState"),
    "ImportState is an object": ({"ImportState": {"x": 1}}, "no ImportState"),
    "no tid": ({"tid": None}, "cannot be read"),
    "tid is absent": ({"tid": ...}, "cannot be read"),
    "tid is a list": ({"tid": ["x"]}, "cannot be read"),
    "all of it": (None, "cannot be read"),
    "meta is text": ({"meta": "available"}, "no ImportState and no ObjectState"),
}


@pytest.mark.parametrize(("change", "why"), BREAKING.values(), ids=BREAKING)
@given(IDS, st.data())
def test_one_bad_asset_of_a_batch_costs_one_asset(
    change: dict[str, Any] | None, why: str, numbers: list[int], data: st.DataObject
) -> None:
    """The others are read; the bad one is told as unreadable, and never as missing, since it may be in the answer."""
    states = {"ImportState": "available", "ObjectState": "available"}
    assets: list[Any] = [{"tid": f"t{number}", "id": f"{number}", "meta": dict(states)} for number in numbers]
    broken = data.draw(st.integers(0, len(numbers) - 1))
    if change is None:
        assets[broken] = data.draw(st.none() | st.integers() | st.text(max_size=5))
    else:
        for name, value in change.items():
            (assets[broken]["meta"] if name in states else assets[broken])[name] = value
            if value is ...:
                del assets[broken][name]
    body = json.dumps({"assets": data.draw(st.sampled_from([assets, {"asset": assets, "id": "all"}]))}).encode()
    asked = [f"tid:t{number}" for number in numbers]
    answers = omn.read(Reply(200, {"Content-Type": "application/json"}, body), "json", asked, {})
    assert answers is not None
    for place, answer in enumerate(answers):
        if place == broken:
            assert isinstance(answer, Unreadable)
            assert why in answer.why
        else:
            assert isinstance(answer, Observation)
            assert answer.state is State.AVAILABLE


@given(IDS, st.data(), st.sampled_from(["", "tid", "ImportState"]))
def test_one_bad_asset_of_a_batch_in_xml(numbers: list[int], data: st.DataObject, lacking: str) -> None:
    """The same where the answer is XML."""
    broken = data.draw(st.integers(0, len(numbers) - 1)) if lacking else -1

    def asset(place: int, number: int) -> str:
        tid = "" if place == broken and lacking == "tid" else f' tid="t{number}"'
        state = "" if place == broken and lacking == "ImportState" else '<itm key="ImportState">available</itm>'
        return f'<asset{tid} id="{number}"><meta>{state}<itm key="ObjectState">available</itm></meta></asset>'

    assets = "".join(asset(place, number) for place, number in enumerate(numbers))
    reply = Reply(200, {"Content-Type": "application/xml"}, f"<pim><assets>{assets}</assets></pim>".encode())
    answers = omn.read(reply, "xml", [f"tid:t{number}" for number in numbers], {})
    assert answers is not None
    assert [isinstance(answer, Unreadable) for answer in answers] == [n == broken for n in range(len(numbers))]


@pytest.mark.parametrize("form", ["json", "xml"])
def test_an_asset_whose_id_is_no_text_is_not_missing(form: str) -> None:
    """An id with bytes that are text in no encoding may be the one that was asked for; the others are read."""
    meta = '{"ImportState":"available","ObjectState":"available"}'
    items = '<meta><itm key="ImportState">available</itm><itm key="ObjectState">available</itm></meta>'
    told = {
        "json": f'{{"assets":[{{"tid":"caf\xe9","meta":{meta}}},{{"tid":"b","meta":{meta}}}]}}',
        "xml": f'<pim><assets><asset tid="caf\xe9">{items}</asset><asset tid="b">{items}</asset></assets></pim>',
    }
    reply = Reply(200, {"Content-Type": f"application/{form}"}, told[form].encode("latin-1"))
    answers = omn.read(reply, form, ["tid:café", "tid:b"], {})
    assert answers is not None
    assert [type(answer) for answer in answers] == [Unreadable, Observation]


# Texts ----------------------------------------------------------------------------------------------------------------

ODD_JSON: dict[str, Callable[[bytes], tuple[bytes, str]]] = {
    "byte_order_mark": lambda body: (b"\xef\xbb\xbf" + body, "application/json"),
    "utf16": lambda body: (body.decode().encode("utf-16"), "application/json"),
    "as_html": lambda body: (body, "text/html; charset=utf-8"),
    "half_a_pair": lambda body: (b'{"odd":"\\ud800",' + body.lstrip()[1:], "application/json"),
    "not_utf8": lambda body: (b'{"odd":"caf\xe9",' + body.lstrip()[1:], "application/json"),
    "latin1": lambda body: (b'{"odd":"caf\xe9",' + body.lstrip()[1:], "application/json;charset=ISO-8859-1"),
    "nan": lambda body: (b'{"odd":[NaN,-Infinity,1e999],' + body.lstrip()[1:], "application/json"),
    "control_character": lambda body: (b'{"odd":"\x01\n",' + body.lstrip()[1:], "application/json"),
}
ROOT_END = re.compile(rb"</(?:\w+:)?(?:pim|response)>\s*$")


def _with(odd: bytes) -> Callable[[bytes], tuple[bytes, str]]:
    return lambda body: (ROOT_END.sub(lambda end: b"<odd>" + odd + b"</odd>" + end[0], body), "application/xml")


def _labelled(body: bytes, label: bytes) -> bytes:
    return b'<?xml version="1.0" encoding="' + label + b'"?>' + re.sub(rb"^\s*<\?xml[^>]*\?>", b"", body)


ODD_XML: dict[str, Callable[[bytes], tuple[bytes, str]]] = {
    "control_character": _with(b"\x0b"),
    "control_by_number": _with(b"&#11;"),
    "entity_of_html": _with(b"&nbsp;"),
    "unknown_entity": _with(b"&secret;"),
    "ampersand": _with(b"AT&T"),
    "not_utf8": _with(b"caf\xe9"),
    "latin1_in_the_header": lambda body: (_with(b"caf\xe9")(body)[0], "application/xml; charset=ISO-8859-1"),
    "line_before": lambda body: (b"\n" + _labelled(body, b"UTF-8"), "application/xml"),
    "text_before": lambda body: (b"Warning: x\n" + _labelled(body, b"UTF-8"), "application/xml"),
    "utf16_on_utf8": lambda body: (_labelled(body, b"UTF-16"), "application/xml"),
    "as_html": lambda body: (body, "text/html"),
}


@pytest.mark.parametrize("odd", ODD_JSON)
@pytest.mark.parametrize("kind", ["media_intelligence", "usd_search", "pieces", "omn"])
def test_odd_json_is_read_as_if_it_were_not(kind: str, odd: str) -> None:
    """Text that is not quite text, anywhere in an answer, changes nothing of what is said elsewhere in it."""
    for each in recorded(kind, form="json"):
        body, content_type = ODD_JSON[odd](each.reply.body)
        as_it_was = KINDS[kind].read(each.reply, each.asked)
        assert KINDS[kind].read(Reply(200, {"Content-Type": content_type}, body), each.asked) == as_it_was


@pytest.mark.parametrize("odd", ODD_XML)
@pytest.mark.parametrize("kind", ["omn", "oracle_sbc"])
def test_odd_xml_is_read_as_if_it_were_not(kind: str, odd: str) -> None:
    """The same for XML."""
    for each in recorded(kind, form="xml"):
        body, content_type = ODD_XML[odd](each.reply.body)
        as_it_was = KINDS[kind].read(each.reply, each.asked)
        assert KINDS[kind].read(Reply(200, {"Content-Type": content_type}, body), each.asked) == as_it_was


@pytest.mark.parametrize("name", [b"x\\ud800y", b"x\xffy", b"x\x01y"])
def test_an_odd_name_is_a_name(name: bytes) -> None:
    """What is odd stands there as U+FFFD, or as the character it is, and can be sent on."""
    each = golden.load("pieces", "synced")
    [one] = KINDS["pieces"].read(each.reply._replace(body=each.reply.body.replace(b"retry loop", name)), each.asked)
    assert isinstance(one, Observation)
    assert getattr(one.detail, "name", "") in ("x\ufffdy", "x\x01y")
