"""OMN: every documented state and error, batches, lists and JSON forms. Its tokens have a file of their own."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import TypeAdapter

from assetwatch_sandbox.omn import Omn as Standin
from assetwatchd.adapters.omn import Omn
from assetwatchd.adapters.omn.adapter import PROBE_TID, Asset, assets_of, combine, facets, ids_of, normalise, request
from assetwatchd.model.details import OmnDetail
from assetwatchd.model.errors import BadAnswer, Throttled
from assetwatchd.model.values import FailureKind, Observation, State
from assetwatchd.settings.schema import OmnSource
from assetwatchd.upstream.answers import Unreadable
from assetwatchd.upstream.http.transport import Reply
from assetwatchd.upstream.port import Listed
from support import golden
from support.observed import all_observed, observed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from assetwatchd.upstream.answers import Answer

STATUS = "/dam/assets/status"
TIDS = tuple(f"tid:0D2F9E1B-3A77-4E21-A5C0-91B4C6D8E7{n:02}" for n in range(8))
NOBODY = tuple(f"tid:nobody-{n}" for n in range(8))


def read(recorded: golden.Golden) -> Sequence[Answer]:
    form = "json" if "json" in recorded.reply.content_type else "xml"
    return normalise(recorded.asked, assets_of(recorded.reply, form=form) or [])


def settings(base_url: str = "http://127.0.0.1:9", **more: Any) -> OmnSource:
    auth = {"kind": "bearer", "token": "sandbox-omn-token"}
    return TypeAdapter(OmnSource).validate_python({"kind": "omn", "base_url": base_url, "auth": auth, **more})


@pytest.fixture
async def standin() -> AsyncIterator[Standin]:
    standin = Standin()
    await standin.start()
    for tid in TIDS:
        standin.put(tid, {})
    yield standin
    await standin.stop()


@pytest.fixture
async def omn(standin: Standin) -> AsyncIterator[Omn]:
    upstream = Omn("dam", settings(standin.url))
    yield upstream
    await upstream.close()


async def states(upstream: Omn, *asset_ids: str) -> list[State]:
    return [observation.state for observation in all_observed(await upstream.observe(asset_ids))]


@pytest.mark.parametrize("name", golden.names("omn"))
def test_golden(name: str) -> None:
    """A recorded reply is read as the expectation beside it says."""
    recorded = golden.load("omn", name)
    assert golden.outcome(lambda: read(recorded)) == golden.expectation(recorded)


IMPORTS = ("pending", "running", "available", "incomplete")
OBJECTS = ("import incomplete", "available", "locked", "marked for deletion")
COMBINED = {
    "pending": (State.PENDING, State.PENDING, State.PENDING, State.DELETING),
    "running": (State.PROCESSING, State.PROCESSING, State.PROCESSING, State.DELETING),
    "available": (State.PROCESSING, State.AVAILABLE, State.AVAILABLE, State.DELETING),
    "incomplete": (State.FAILED, State.FAILED, State.FAILED, State.DELETING),
}


@pytest.mark.parametrize(("imported", "held"), list(itertools.product(IMPORTS, OBJECTS)))
def test_combining_rule(imported: str, held: str) -> None:
    """Every pair of published states rolls up as the policy says."""
    assert combine(imported, held) is COMBINED[imported][OBJECTS.index(held)]


@pytest.mark.parametrize(
    ("imported", "held", "state"),
    [
        ("archived", "available", State.UNKNOWN),
        ("available", "frozen", State.UNKNOWN),
        ("Available", "available", State.UNKNOWN),
        ("available", "marked_for_deletion", State.UNKNOWN),
        ("", "", State.UNKNOWN),
        ("archived", "marked for deletion", State.DELETING),
        ("incomplete", "frozen", State.FAILED),
        ("running", "frozen", State.PROCESSING),
    ],
)
def test_unlisted_states(imported: str, held: str, state: State) -> None:
    """A state that is not listed is UNKNOWN, unless the other one decides alone; its text is kept."""
    assert combine(imported, held) is state
    assert [each.native for each in facets(imported, held)] == [imported, held]


def test_both_meanings_of_available_are_kept() -> None:
    """The word occurs in both states and means different things: two facets, two native values, by key not by place."""
    [asked] = all_observed(
        normalise(["tid:a"], [Asset("a", "1", {"ObjectState": "locked", "ImportState": "available"})])
    )
    assert [(each.name, each.native, each.state) for each in asked.facets] == [
        ("import", "available", State.AVAILABLE),
        ("object", "locked", State.AVAILABLE),
    ]
    assert asked.locked
    assert asked.state is State.AVAILABLE


def test_incomplete_import_is_usable_in_part() -> None:
    """An incomplete import has failed, yet its file can usually be used; the unfinished check-in has failed with it."""
    [asked] = all_observed(
        normalise(["id:1"], [Asset("a", "1", {"ImportState": "incomplete", "ObjectState": "import incomplete"})])
    )
    assert asked.failure is not None
    assert (asked.failure.kind, asked.failure.code) == (FailureKind.DEGRADED, "incomplete")
    assert [each.state for each in asked.facets] == [State.FAILED, State.FAILED]


def test_other_items_are_kept() -> None:
    """What else the answer holds for the asset is in the detail, by key."""
    [_, second] = read(golden.load("omn", "other_order_and_keys"))
    assert observed(second).detail == OmnDetail("b", "2", "available", "locked", {"Flag": "x & y"})


def test_request_never_mixes() -> None:
    """Ids are sent as text, and never beside tids, where they would be ignored."""
    assert request("tid", ["a"]) == b'{"tids": ["a"]}'
    assert request("id", ["70412"]) == b'{"ids": ["70412"]}'


@pytest.mark.parametrize(
    "asset_id", [TIDS[0], "tid:a", "tid:with spaces: and colons", "id:0", "id:70412", "id:9223372036854775807"]
)
def test_ids_that_can_be(asset_id: str) -> None:
    """A tid is opaque text, an id a number."""
    assert Omn("dam", settings()).check(asset_id) is None


@pytest.mark.parametrize(
    "asset_id",
    [
        "",
        "tid:",
        "id:",
        "tid: ",
        "tid:a\n",
        "id:07",
        "id:-1",
        "id:x",
        "id:\u0661",
        "id:7\n",
        "70412",
        "TID:a",
        " tid:a",
    ],
)
def test_ids_that_cannot_be(asset_id: str) -> None:
    """Whatever else is told the two forms."""
    assert "tid:" in (Omn("dam", settings()).check(asset_id) or "")


def test_batch_size_is_a_setting() -> None:
    """No limit is published, so ours can be set."""
    assert Omn("dam", settings(batch_size=7)).capabilities.batch_max == 7


async def test_one_call_for_many(standin: Standin, omn: Omn) -> None:
    """Many assets cost one call, and the answers are put back into the order asked, whatever the reply's."""
    standin.put(TIDS[3], {"ImportState": "running"})
    observations = all_observed(await omn.observe([*TIDS, NOBODY[0]]))
    assert [each.asset_id for each in observations] == [*TIDS, NOBODY[0]]
    assert [each.asset_id for each in observations if each.state is State.PROCESSING] == [TIDS[3]]
    assert observations[-1].state is State.MISSING
    assert standin.requests.count(STATUS) == 1


async def test_tids_and_ids_need_two_calls(standin: Standin, omn: Omn) -> None:
    """A batch that holds both is asked in two calls, for ids beside tids are ignored."""
    standin.put("id:99", {"ImportState": "pending"})
    assert await states(omn, "id:99", TIDS[0], "id:98") == [State.PENDING, State.AVAILABLE, State.MISSING]
    assert standin.requests.count(STATUS) == 2


async def test_one_asset_by_both_names(standin: Standin, omn: Omn) -> None:
    """One asset asked for by tid and by id is answered under both."""
    number = standin.put(TIDS[0], {})["id"]
    by_tid, by_id = all_observed(await omn.observe([TIDS[0], f"id:{number}"]))
    assert (by_tid.asset_id, by_id.asset_id) == (TIDS[0], f"id:{number}")
    assert by_tid.detail == by_id.detail


async def test_none_known_is_missing(standin: Standin, omn: Omn) -> None:
    """When no asset is known the answer is 404: all of them are MISSING."""
    assert await states(omn, *NOBODY) == [State.MISSING] * len(NOBODY)
    standin.switch({"none_known": "answer"})
    assert await states(omn, *NOBODY) == [State.MISSING] * len(NOBODY)


async def test_one_unknown_does_not_hide_the_others(standin: Standin, omn: Omn) -> None:
    """Where one unknown id fails the whole call with 404, the known ones are found all the same."""
    standin.switch({"unknown_ids": "refuse"})
    asked = [*TIDS[:5], NOBODY[0], *TIDS[5:]]
    assert await states(omn, *asked) == [State.MISSING if each == NOBODY[0] else State.AVAILABLE for each in asked]


async def test_404_is_not_asked_again_once_the_server_is_known(standin: Standin, omn: Omn) -> None:
    """A server seen to leave out what it lacks is believed when it says 404: one call, not one an asset."""
    await omn.observe([TIDS[0], NOBODY[0]])
    standin.requests.clear()
    assert await states(omn, *NOBODY) == [State.MISSING] * len(NOBODY)
    assert standin.requests.count(STATUS) == 1


async def test_404_of_a_proxy_is_no_deletion(standin: Standin, omn: Omn) -> None:
    """A 404 that is not OMN's own document tells nothing of the assets."""
    for body, content_type in (("<html>404</html>", "text/html"), ("default backend - 404", "text/plain"), ("", "")):
        standin.faults.add(times=1, status=404, body=body, content_type=content_type)
        with pytest.raises(BadAnswer, match="base_url"):
            await omn.observe(TIDS)


@pytest.mark.parametrize("form", ["xml", "json", "json_compact"])
async def test_document_that_is_said_to_be_html(standin: Standin, form: str) -> None:
    """An answer that calls itself HTML is OMN's all the same when it is OMN's document."""
    upstream = Omn("dam", settings(standin.url, answer=form))
    as_it_should_be = await upstream.observe(TIDS)
    standin.faults.add(content_type="text/html")
    assert await upstream.observe(TIDS) == as_it_should_be
    await upstream.close()


@pytest.mark.parametrize(
    "page", ["<html>It works</html>", "<?xml version='1.0'?><html/>", "<!DOCTYPE html><html/>", ""]
)
async def test_a_page_is_no_document(standin: Standin, omn: Omn, page: str) -> None:
    """An HTML page is told as one."""
    standin.faults.add(body=page, content_type="text/html")
    with pytest.raises(BadAnswer, match="an HTML page"):
        await omn.observe(TIDS)


async def test_throttled_inside_the_halves(standin: Standin, omn: Omn) -> None:
    """A failure while a 404 is asked again in halves is raised: no asset is MISSING for want of an answer."""
    standin.switch({"unknown_ids": "refuse"})
    standin.faults.add(times=1, status=404, body=golden.load("omn", "error_404").reply.body.decode())
    standin.faults.add(status=429, headers={"Retry-After": "5"})
    with pytest.raises(Throttled):
        await omn.observe(TIDS)


@pytest.mark.parametrize("form", ["json", "json_compact"])
async def test_json_forms(standin: Standin, form: str) -> None:
    """Both JSON forms are read like XML, and XML is read where the server answers it all the same."""
    upstream = Omn("dam", settings(standin.url, answer=form))
    standin.put(TIDS[0], {"ObjectState": "locked", "meta": {"Flag": "x"}})
    as_xml = await upstream.observe([TIDS[0], NOBODY[0]])
    standin.switch({"json_forms": True})
    as_json = all_observed(await upstream.observe([TIDS[0], NOBODY[0]]))
    await upstream.close()
    assert as_json == as_xml
    assert as_json[0].locked
    assert isinstance(as_json[0].detail, OmnDetail)
    assert as_json[0].detail.meta == {"Flag": "x"}


async def test_list_by_query(standin: Standin) -> None:
    """The list is what the configured criteria find."""
    standin.put("tid:autumn", {"path": "/MAM/campaign/autumn"})
    upstream = Omn("dam", settings(standin.url, query={"directory": {"path": "/MAM/campaign/autumn"}}))
    assert await upstream.enumerate() == Listed(frozenset({"tid:autumn"}))
    await upstream.close()


@pytest.mark.parametrize(
    "body",
    [
        '{"tids":null}',
        '{"tids":null,"total":3}',
        '{"tids":[null,{}]}',
        '{"tids":[""]}',
        '{"tids":{"a":"b"}}',
        "{}",
        "[]",
        '{"tids":["a"',
        "<pim/>",
    ],
)
async def test_unreadable_list(standin: Standin, omn: Omn, body: str) -> None:
    """What is no list, or has items and not one tid, is a BadAnswer, never an empty list."""
    standin.faults.add(path="/dam/assets/query", body=body, content_type="application/json")
    with pytest.raises(BadAnswer):
        await omn.enumerate()


@pytest.mark.parametrize("body", ['{"tids":null,"total":0}', '{"totalCount":0}', '{"tids":[],"total":0}'])
def test_a_list_that_says_it_has_nothing(body: str) -> None:
    """Null, or no member at all, is an empty list where its total says that there is nothing."""
    assert ids_of(Reply(200, {}, body.encode()), 100) == Listed(frozenset())


async def test_one_bad_tid_costs_one_asset(standin: Standin, omn: Omn) -> None:
    """Of a list the tids are taken that can be read, a number as its text; it says how many cannot."""
    body = json.dumps({"tids": ["a", 7, None, {}, True, "", "x" * 3000, "a"]})
    standin.faults.add(path="/dam/assets/query", body=body, content_type="application/json")
    found = await omn.enumerate()
    assert (found.asset_ids, found.unreadable) == (frozenset({"tid:a", "tid:7"}), 5)
    assert found.lack == "5 of its items cannot be read: item 2 has no id"


def test_a_tid_that_is_no_text_is_not_made_one() -> None:
    """A tid with bytes that are text in no encoding is not listed under another name, beside those that are."""
    found = ids_of(Reply(200, {}, b'{"tids":["a","caf\xe9"]}'), 100)
    assert found.asset_ids == {"tid:a"}
    assert found.lack == "1 of its items cannot be read: item 1 has an id that is not text in any encoding"


@pytest.mark.parametrize(
    ("said", "lack"),
    [
        ({"total": 500}, "498 of its items cannot be read: it says that it has 500 assets, and holds 2"),
        ({"totalCount": "3"}, "1 of its items cannot be read: it says that it has 3 assets, and holds 2"),
        ({"hasMore": True, "total": 2}, "1 of its items cannot be read: it says that there is more"),
        ({"truncated": "true"}, "1 of its items cannot be read: it says that there is more"),
        ({"next": "/query?cursor=abc"}, "1 of its items cannot be read: it says that there is more"),
        ({"nextPageToken": "abc", "total": 2}, "1 of its items cannot be read: it says that there is more"),
        ({"page": 1, "totalPages": 2}, "1 of its items cannot be read: it says that there is more"),
        ({"total": 2, "hasMore": False, "more": None}, ""),
        ({"next": None, "nextCursor": "", "totalPages": 1, "pageCount": 0}, ""),
        ({"total": "many", "more": {"x": 1}}, ""),
    ],
)
def test_a_list_that_says_that_there_is_more_is_not_whole(said: dict[str, Any], lack: str) -> None:
    """What a list lacks is not taken as gone when the server cut it."""
    found = ids_of(Reply(200, {}, json.dumps({"tids": ["a", "b"], **said}).encode()), 100)
    assert (found.asset_ids, found.lack) == (frozenset({"tid:a", "tid:b"}), lack)


@pytest.mark.parametrize("written", ["a1", " A1", "{A1}", "B2"])
def test_an_answer_that_holds_another_asset_does_not_make_one_missing(written: str) -> None:
    """It may be the same one, its id written in another way, or the answer to another call out of a cache."""
    items = {"ImportState": "available", "ObjectState": "available"}
    [lost, there] = normalise(["tid:A1", "tid:C3"], [Asset(written, "7", items), Asset("C3", "8", items)])
    assert lost == Unreadable("tid:A1", "the answer leaves the asset out, but holds one that was not asked for")
    assert isinstance(there, Observation)
    [missing] = normalise(["tid:A1"], [])
    assert isinstance(missing, Observation)
    assert missing.state is State.MISSING


ERROR_ITEM = '<meta><itm key="errorMessage">database is down</itm></meta>'


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (f'<pim xmlns="http://www.apollon.de/omn">{ERROR_ITEM}<assets/></pim>', "application/xml"),
        ('{"meta":{"errorMessage":"database is down"},"assets":[]}', "application/json"),
        (
            '{"pim":{"meta":{"itms":[{"key":"errorMessage","value":"database is down"}]},"assets":{}}}',
            "application/json",
        ),
    ],
)
async def test_an_answer_of_an_error_and_no_assets_tells_of_none(
    omn: Omn, standin: Standin, body: str, content_type: str
) -> None:
    """Nobody is told that assets are gone which the server could not look up."""
    standin.faults.add(body=body, content_type=content_type)
    with pytest.raises(BadAnswer, match="error document: database is down"):
        await omn.observe(TIDS)


async def test_refused_query_tells_why(omn: Omn, standin: Standin) -> None:
    """The reason of a refused query is in the error, with the id that the vendor's support asks for."""
    upstream = Omn("dam", settings(standin.url, query={}))
    with pytest.raises(BadAnswer, match=r"HTTP 400: No search criteria given \(code 1000, support id [0-9a-f-]{36}\)"):
        await upstream.enumerate()
    await upstream.close()


async def test_probe_asks_for_nobody(standin: Standin, omn: Omn) -> None:
    """The probe is content with 404 and with an empty answer, and asks for an id of the published shape."""
    assert [len(group) for group in PROBE_TID.split("-")] == [8, 4, 4, 4, 11]
    await omn.probe()
    standin.switch({"none_known": "answer"})
    await omn.probe()


@pytest.mark.parametrize(
    ("body", "content_type", "told"),
    [
        ("[]", "application/json", "the answer should be an object and is a list"),
        ("[]", "application/xml", "the answer should be an object and is a list"),
        (" [1]", "text/plain", "the answer should be an object and is a list"),
        ('[{"tid": "1", "meta": {}, "title": "My film"}]', "application/json", "should be an object and is a list"),
        ('["maintenance"]', "application/json", "HTTP 200 with a list in place of an answer: maintenance"),
        ('"maintenance"', "application/json", "HTTP 200 with a text in place of an answer: maintenance"),
        ("5", "application/json", "the answer should be an object and is a number"),
        ("<rss/>", "application/xml", "not the published answer: the root of the document is: rss"),
        ("<s:Envelope xmlns:s='u'/>", "application/xml", "the root of the document is: Envelope"),
        (f"<{'x' * 900}/>", "application/xml", "the root of the document is: xxxxx"),
        ("<response/>", "application/xml", "HTTP 200 with an error document: no reason given"),
        ("<pim/>", "application/xml", "pim"),
    ],
)
async def test_what_is_no_answer_is_told_as_what_it_is(
    omn: Omn, standin: Standin, body: str, content_type: str, told: str
) -> None:
    """An error document is one of OMN's; of anything else it is said what came, of a status and of a list."""
    standin.faults.add(body=body, content_type=content_type)
    for call in (omn.observe(TIDS), omn.enumerate()):
        with pytest.raises(BadAnswer) as caught:
            await call
        assert told in str(caught.value)
        assert len(str(caught.value)) < 200
        assert ("error document" in str(caught.value)) == (body == "<response/>")


async def test_json_that_is_called_xml_is_read(omn: Omn, standin: Standin) -> None:
    """What begins as JSON can be nothing else."""
    tids = [tid.removeprefix("tid:") for tid in TIDS]
    items = {"ImportState": "available", "ObjectState": "available"}
    body = json.dumps({"assets": [{"tid": tid, "id": "1", "meta": items} for tid in tids], "tids": tids})
    standin.faults.add(body=f"\n {body}", content_type="application/xml")
    assert [answer.state for answer in await omn.observe(TIDS) if isinstance(answer, Observation)] == [
        State.AVAILABLE for _ in TIDS
    ]
    assert (await omn.enumerate()).asset_ids == set(TIDS)
