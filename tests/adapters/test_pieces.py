"""The Pieces OS adapter: golden replies, and its stand-in over real sockets."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from assetwatch_sandbox.pieces import PiecesStandin
from assetwatchd.adapters import pieces
from assetwatchd.adapters.pieces import FORMATS_MAX, Pieces
from assetwatchd.model.details import PiecesDetail
from assetwatchd.model.errors import BadAnswer, Refused, Unreachable
from assetwatchd.model.values import Observation, State
from assetwatchd.settings.schema import PiecesSource
from assetwatchd.upstream.http.transport import Reply, raise_for_status
from assetwatchd.upstream.port import Listed, Notice, Removed, Touched
from support import golden
from support.observed import observed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

ONE = "6b1f0c6e-4f1a-4a53-9a0b-3c7d52a1e001"
TWO = "f2a9d7b4-77c2-4f0e-8b61-0d9e4c5ab002"
NOW_S = 1_772_617_500.0
DELETED_AT = datetime.fromtimestamp(NOW_S, UTC) + timedelta(milliseconds=1)
"""The stand-in lets a change happen at least a millisecond after the one before."""
IDENTIFIERS = "/assets/stream/identifiers"


@pytest.fixture
async def standin() -> AsyncIterator[PiecesStandin]:
    standin = PiecesStandin(clock=lambda: NOW_S)
    await standin.start()
    yield standin
    standin.faults.clear()
    await standin.stop()


@asynccontextmanager
async def adapter(standin: PiecesStandin, **settings: Any) -> AsyncIterator[Pieces]:
    values = {"kind": "pieces", "base_url": standin.url, "rate_per_s": 10_000, **settings}
    upstream = Pieces("pieces", PiecesSource.model_validate(values))
    try:
        yield upstream
    finally:
        await upstream.close()


@asynccontextmanager
async def stream(standin: PiecesStandin, **settings: Any) -> AsyncIterator[AsyncGenerator[Notice, None]]:
    async with adapter(standin, **settings) as upstream, aclosing(upstream.notices()) as notices:
        yield notices


async def push(standin: PiecesStandin, frame: str) -> None:
    assert await standin.commands["send_frame"]({"text": frame, "stream": "identifiers"}) == {"connections": 1}


@pytest.mark.parametrize("name", golden.names("pieces"))
def test_golden(name: str) -> None:
    """A recorded reply is read as the observation, or the error, on file."""
    recorded = golden.load("pieces", name)

    def read() -> list[Observation]:
        raise_for_status(recorded.reply)
        return [pieces.read(recorded.reply, asset_id=recorded.asked[0])]

    assert golden.outcome(read) == golden.expectation(recorded)


def test_more_formats_than_are_kept_are_cut() -> None:
    """Of an asset with a million formats the first are kept, and it says that it was cut."""
    body = f'{{"id":"{ONE}","formats":{{"iterable":[{",".join(["{}"] * 5000)}]}}}}'
    observation = pieces.answer(Reply(200, {}, body.encode()), ONE, {})
    assert isinstance(observation, Observation)
    assert isinstance(observation.detail, PiecesDetail)
    assert observation.cut
    assert 0 < len(observation.detail.formats) < FORMATS_MAX


@pytest.fixture
def far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


def test_times_without_zone_are_utc_anywhere(far_from_utc: None) -> None:
    """A time without a zone is UTC, wherever this machine thinks it is."""
    test_golden("times_without_zone")


@pytest.mark.parametrize("asset_id", [ONE[:-1], ONE + "0", ONE.replace("-", "_"), ONE + "\n", f"{{{ONE}}}", "x" * 36])
async def test_check_wants_a_uuid(standin: PiecesStandin, asset_id: str) -> None:
    """What is not a UUID of 36 characters is told so before the server is asked."""
    async with adapter(standin) as upstream:
        assert "UUID" in (upstream.check(asset_id) or "")
        assert upstream.check(ONE) is None
        assert f"in lower case alone: {ONE}" in (upstream.check(ONE.upper()) or "")


async def test_content_is_not_fetched(standin: PiecesStandin) -> None:
    """An asset is read without its content, which may be large."""
    standin.put(ONE, {"content": "x" * 100_000, "ext": "txt"})
    async with adapter(standin, body_bytes_max=10_000) as upstream:
        [observation] = await upstream.observe([ONE])
    assert observed(observation).state is State.AVAILABLE
    paths = [logged.path_qs for logged in standin.requests.all() if "/.well-known/" not in logged.path_qs]
    assert paths == [f"/assets/{ONE}?transferables=false"]


async def test_id_in_other_case_keeps_its_spelling(standin: PiecesStandin) -> None:
    """A server that takes a UUID in any case is answered under the id that was asked."""
    standin.put(ONE, {"name": "retry loop"})
    standin.faults.add(path=ONE.upper(), body=f'{{"id":"{ONE}"}}', content_type="application/json")
    async with adapter(standin) as upstream:
        [observation] = await upstream.observe([ONE.upper()])
    assert (observation.asset_id, observed(observation).state) == (ONE.upper(), State.AVAILABLE)


async def test_deleted_asset(standin: PiecesStandin) -> None:
    """An asset deleted earlier is DELETED where the server keeps a tombstone, MISSING where it says 410."""
    standin.put(ONE, {"name": "retry loop"})
    standin.remove(ONE)
    async with adapter(standin) as upstream:
        [gone] = await upstream.observe([ONE])
        standin.switch({"deleted_get": "tombstone"})
        [tombstone] = await upstream.observe([ONE])
    assert (observed(gone).state, observed(gone).detail) == (State.MISSING, None)
    assert observed(tombstone).state is State.DELETED
    assert observed(tombstone).change_time == DELETED_AT


@pytest.mark.parametrize(("pseudo", "listed"), [(False, {ONE}), (True, {ONE, TWO})])
async def test_enumerate_pseudo(standin: PiecesStandin, pseudo: bool, listed: set[str]) -> None:  # noqa: FBT001 - a parameter of the case
    """Assets that the user did not save are listed only when the configuration says so."""
    standin.put(ONE, {"name": "saved"})
    standin.put(TWO, {"name": "not saved", "pseudo": True})
    async with adapter(standin, pseudo=pseudo) as upstream:
        assert await upstream.enumerate() == Listed(frozenset(listed))


async def test_enumerate_nothing(standin: PiecesStandin) -> None:
    """An account without assets is an empty list; an iterable that is left out, as the model allows, too."""
    async with adapter(standin) as upstream:
        assert await upstream.enumerate() == Listed(frozenset())
        standin.faults.add(path="/assets/identifiers", body="{}", content_type="application/json")
        assert await upstream.enumerate() == Listed(frozenset())


@pytest.mark.parametrize(
    "body", ["[]", "null", '{"iterable":{}}', '{"iterable":[{}]}', '{"iterable":["x"]}', '{"indices":{"a":0}}']
)
async def test_enumerate_unreadable(standin: PiecesStandin, body: str) -> None:
    """A list in another form is a BadAnswer, never an empty list."""
    async with adapter(standin) as upstream:
        standin.faults.add(path="/assets/identifiers", body=body, content_type="application/json")
        with pytest.raises(BadAnswer):
            await upstream.enumerate()


async def test_enumerate_other_status(standin: PiecesStandin) -> None:
    """A status that no document mentions is a BadAnswer."""
    async with adapter(standin) as upstream:
        standin.faults.add(path="/assets/identifiers", status=404, body="{}")
        with pytest.raises(BadAnswer, match="HTTP 404"):
            await upstream.enumerate()


async def test_application_id_is_sent(standin: PiecesStandin) -> None:
    """A server that wants an application id gets the configured one with each asset call; without it we are refused."""
    standin.switch({"application_required": True})
    standin.put(ONE, {"name": "retry loop"})
    async with adapter(standin, application_id=standin.credentials["application_id"]) as upstream:
        [observation] = await upstream.observe([ONE])
        assert await upstream.enumerate() == Listed(frozenset({observation.asset_id}))
    async with adapter(standin) as upstream:
        with pytest.raises(Refused):
            await upstream.observe([ONE])
        with pytest.raises(Refused):
            await upstream.enumerate()


@pytest.mark.parametrize("version", ["12.3.5", "12.0.0-beta"])
async def test_probe_passes(standin: PiecesStandin, version: str) -> None:
    """The probe asks for health, in either case and with or without an id, and for a readable version."""
    standin.switch({"version": version, "health_with_id": False})
    async with adapter(standin) as upstream:
        await upstream.probe()
        standin.faults.add(path="health", body="OK:1234", content_type="text/plain")
        await upstream.probe()
    assert standin.requests.count("/.well-known/version") == 2


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("health", {"body": "starting"}),
        ("health", {"status": 404}),
        ("version", {"body": "<html>hello</html>"}),
        ("version", {"body": "12"}),
    ],
)
async def test_probe_of_something_else(standin: PiecesStandin, path: str, fault: dict[str, Any]) -> None:
    """What listens there and is not a healthy Pieces OS is a BadAnswer that points at base_url."""
    standin.faults.add(path=path, **fault)
    async with adapter(standin) as upstream:
        with pytest.raises(BadAnswer, match="base_url"):
            await upstream.probe()


async def test_first_frame_lists_all(standin: PiecesStandin) -> None:
    """The first notice of a connection is the list of all ids; with none, an empty one."""
    async with stream(standin) as notices:
        assert await anext(notices) == Listed(frozenset())
    standin.put(ONE, {"name": "one"})
    standin.put(TWO, {"name": "two"})
    async with stream(standin) as notices:
        assert await anext(notices) == Listed(frozenset({ONE, TWO}))


async def test_an_empty_first_frame_is_confirmed(standin: PiecesStandin) -> None:
    """A server may begin before it has read its assets: what its list has then is there."""
    standin.put(ONE, {"name": "one"})
    standin.switch({"first_frame_forgets": True})
    async with stream(standin) as notices:
        assert await anext(notices) == Listed(frozenset({ONE}))


async def test_changes_are_touches(standin: PiecesStandin) -> None:
    """Making and changing an asset look the same: Touched, with or without the time."""
    async with stream(standin) as notices:
        await anext(notices)
        standin.put(ONE, {"name": "one"})
        assert await anext(notices) == Touched((ONE,))
        standin.switch({"frame_updated": "never"})
        standin.put(ONE, {"name": "another name"})
        assert await anext(notices) == Touched((ONE,))


async def test_tombstone_flag(standin: PiecesStandin) -> None:
    """A tombstone that is a flag is Removed with DELETED, and no time is invented."""
    standin.put(ONE, {"name": "one"})
    async with stream(standin) as notices:
        await anext(notices)
        standin.remove(ONE)
        removed = await anext(notices)
    assert isinstance(removed, Removed)
    observation = removed.observation
    assert (observation.asset_id, observation.state, observation.change_time) == (ONE, State.DELETED, None)
    assert [(facet.name, facet.native) for facet in observation.facets] == [("local", "deleted")]


async def test_tombstone_timestamp(standin: PiecesStandin) -> None:
    """A tombstone that is a timestamp, as in an asset, is Removed with that time."""
    standin.switch({"tombstone": "timestamp"})
    standin.put(ONE, {"name": "one"})
    async with stream(standin) as notices:
        await anext(notices)
        standin.remove(ONE)
        removed = await anext(notices)
    assert isinstance(removed, Removed)
    assert removed.observation.change_time == DELETED_AT


@pytest.mark.parametrize("nothing", ["{}", '{"value":null}', '{"readable":"never"}'])
async def test_a_deletion_without_a_time_is_none(standin: PiecesStandin, nothing: str) -> None:
    """No time and no flag say that an asset was deleted: what the frame tells of it is read, and that is told."""
    standin.put(ONE, {"name": "one"})
    async with stream(standin) as notices:
        await anext(notices)
        await push(standin, f'{{"iterable":[{{"asset":{{"id":"{ONE}"}},"deleted":{nothing}}}]}}')
        assert await anext(notices) == Touched((ONE,))
    body = f'{{"id":"{ONE}","name":"one","deleted":{nothing}}}'
    read = pieces.read(Reply(200, {}, body.encode()), asset_id=ONE)
    assert isinstance(read.detail, PiecesDetail)
    assert (read.state, read.detail.unreadable) == (State.AVAILABLE, ("deleted",))


@pytest.mark.parametrize("none", ["-1", '{"value":-1}', '{"value":"0001-01-01T00:00:00Z"}'])
def test_a_deletion_before_there_was_anything_is_none(none: str) -> None:
    """Some programs write such a time for none: nobody can tell, unless the mechanism does."""
    with pytest.raises(BadAnswer, match="deleted should be a timestamp"):
        pieces.read(Reply(200, {}, f'{{"id":"{ONE}","deleted":{none}}}'.encode()), asset_id=ONE)
    body = f'{{"id":"{ONE}","mechanism":"DELETED","deleted":{none}}}'
    read = pieces.read(Reply(200, {}, body.encode()), asset_id=ONE)
    assert isinstance(read.detail, PiecesDetail)
    assert (read.state, read.detail.delete_time, read.detail.unreadable) == (State.DELETED, None, ("deleted",))


@pytest.mark.parametrize(("flag", "state"), [("true", State.DELETED), ("0", State.AVAILABLE)])
def test_a_flag_is_no_time(flag: str, state: State) -> None:
    """Wherever it stands, and in whatever form: 0 is not 1970."""
    for deleted in (flag, f'{{"value":{flag}}}', f'{{"value":"{flag}"}}'):
        read = pieces.read(Reply(200, {}, f'{{"id":"{ONE}","deleted":{deleted}}}'.encode()), asset_id=ONE)
        assert isinstance(read.detail, PiecesDetail)
        assert (read.state, read.detail.delete_time) == (state, None)


@pytest.mark.parametrize("deleted", ['{"value":"yesterday"}', '{"value":""}', '{"value":{}}', "[]"])
def test_what_may_be_a_tombstone_is_no_state(deleted: str) -> None:
    """Nobody can tell whether it was deleted, which is what is told."""
    reply = Reply(200, {}, f'{{"id":"{ONE}","deleted":{deleted}}}'.encode())
    with pytest.raises(BadAnswer, match="deleted should be a timestamp"):
        pieces.read(reply, asset_id=ONE)
    gone = Reply(200, {}, f'{{"id":"{ONE}","deleted":{deleted},"mechanism":"DELETED"}}'.encode())
    assert pieces.read(gone, asset_id=ONE).state is State.DELETED, "the mechanism says it"


async def test_tombstone_wins_within_a_frame(standin: PiecesStandin) -> None:
    """In one frame, repeated ids are told once, and a deleted one as Removed alone, in whatever order they stand."""
    frame = (
        f'{{"iterable":[{{"asset":{{"id":"{ONE}"}},"deleted":true}},{{"asset":{{"id":"{ONE}"}}}},'
        f'{{"asset":{{"id":"{TWO}"}},"deleted":false}},{{"asset":{{"id":"{TWO}"}},"deleted":null}}]}}'
    )
    async with stream(standin) as notices:
        await anext(notices)
        await push(standin, frame)
        removed, touched = await anext(notices), await anext(notices)
    assert isinstance(removed, Removed)
    assert removed.observation.asset_id == ONE
    assert touched == Touched((TWO,))


async def test_dead_in_the_first_frame(standin: PiecesStandin) -> None:
    """An asset that the first frame shows as deleted is not listed."""
    body = f'{{"iterable":[{{"asset":{{"id":"{ONE}"}},"deleted":true}},{{"asset":{{"id":"{TWO}"}}}}]}}'
    standin.faults.add(path=IDENTIFIERS, on="frame", times=1, body=body)
    async with stream(standin) as notices:
        assert await anext(notices) == Listed(frozenset({TWO}))


async def test_items_about_other_things(standin: PiecesStandin) -> None:
    """An item about a conversation or a tag is no notice, and ends nothing."""
    async with stream(standin) as notices:
        await anext(notices)
        await push(standin, f'{{"iterable":[{{"conversation":{{"id":"{ONE}"}},"deleted":true}},{{"tag":{{}}}}]}}')
        await push(standin, '{"iterable":[]}')
        standin.put(TWO, {"name": "two"})
        assert await anext(notices) == Touched((TWO,))


@pytest.mark.parametrize("frame", ["{", '{"ite', '{"iterable":{}}'])
async def test_malformed_frame(standin: PiecesStandin, frame: str) -> None:
    """A frame that is damaged is a BadAnswer, first or later: it may have held a deletion."""
    async with stream(standin) as notices:
        await anext(notices)
        await push(standin, frame)
        with pytest.raises(BadAnswer):
            await anext(notices)


@pytest.mark.parametrize("item", ["7", "null", '{"asset":{}}', '{"asset":{"id":7}}', '{"asset":{"id":null}}'])
async def test_an_item_that_names_nothing_costs_no_other(standin: PiecesStandin, item: str) -> None:
    """The others of its frame are told; as it may be news of any asset, all are listed anew; the stream goes on."""
    frame = f'{{"iterable":[{item},{{"asset":{{"id":"{TWO}"}},"deleted":true}},{{"asset":{{"id":"{ONE}"}}}}]}}'
    standin.put(ONE, {"name": "one"})
    async with stream(standin) as notices:
        await anext(notices)
        await push(standin, frame)
        removed, touched, listed = [await anext(notices) for _ in range(3)]
        standin.put(TWO, {"name": "two"})
        assert await anext(notices) == Touched((TWO,))
    assert isinstance(removed, Removed)
    assert (removed.observation.asset_id, touched, listed) == (TWO, Touched((ONE,)), Listed(frozenset({ONE})))


async def test_many_items_that_name_nothing_cost_few_lists(standin: PiecesStandin) -> None:
    """Not one a frame; what is read beside them is told all the same."""
    standin.put(ONE, {"name": "one"})
    async with stream(standin) as notices:
        await anext(notices)
        for _ in range(50):
            await push(standin, '{"iterable":[null]}')
        standin.put(TWO, {"name": "two"})
        while await anext(notices) != Touched((TWO,)):
            pass
    assert 1 <= standin.requests.count("/assets/identifiers") <= 5


async def test_an_item_that_names_nothing_in_the_first_frame(standin: PiecesStandin) -> None:
    """The others are listed, and the list says that it is not complete; with no others it is a BadAnswer."""
    body = f'{{"iterable":[{{"asset":{{}}}},{{"asset":{{"id":"{TWO}"}}}}]}}'
    standin.faults.add(path=IDENTIFIERS, on="frame", times=1, body=body)
    standin.faults.add(path=IDENTIFIERS, on="frame", times=1, body='{"iterable":[{"asset":{}}]}')
    async with stream(standin) as notices:
        listed = await anext(notices)
    assert isinstance(listed, Listed)
    assert (listed.asset_ids, listed.unreadable) == (frozenset({TWO}), 1)
    async with stream(standin) as notices:
        with pytest.raises(BadAnswer, match="name no asset"):
            await anext(notices)


@pytest.mark.parametrize("effect", [{"charset_garbage": True}, {"huge_bytes": 5000}, {"truncate_bytes": 5}])
async def test_broken_frame(standin: PiecesStandin, effect: dict[str, Any]) -> None:
    """A frame that is not UTF-8, or larger than body_bytes_max, or cut short is a BadAnswer."""
    standin.faults.add(path=IDENTIFIERS, on="frame", times=1, **effect)
    async with stream(standin, body_bytes_max=4096) as notices:
        with pytest.raises(BadAnswer):
            await anext(notices)


@pytest.mark.parametrize("how", ["abort", "close"])
async def test_closed_stream(standin: PiecesStandin, how: str) -> None:
    """A connection that ends, politely or not, is Unreachable; a new one starts with all there is."""
    async with stream(standin) as notices:
        await anext(notices)
        await standin.commands["drop_streams"]({"how": how})
        with pytest.raises(Unreachable):
            await anext(notices)
    async with stream(standin) as notices:
        assert isinstance(await anext(notices), Listed)


async def test_no_first_frame(standin: PiecesStandin) -> None:
    """A stream that stays silent at first is Unreachable after first_frame_timeout_s."""
    standin.faults.add(path=IDENTIFIERS, on="frame", hang=True)
    async with stream(standin, first_frame_timeout_s=0.05) as notices:
        with pytest.raises(Unreachable, match=r"no first frame within 0\.05 s"):
            await anext(notices)


async def test_half_open_stream(standin: PiecesStandin) -> None:
    """A peer that answers no ping is Unreachable, though nothing was closed."""
    async with stream(standin, ping_interval_s=0.05) as notices:
        await anext(notices)
        await standin.commands["mute_streams"]({})
        with pytest.raises(Unreachable):
            await anext(notices)


async def test_stream_of_nobody(standin: PiecesStandin) -> None:
    """Nobody listening is Unreachable for the stream too."""
    async with stream(standin) as notices:
        await standin.stop()
        with pytest.raises(Unreachable):
            await anext(notices)


async def test_closing_the_iterator_disconnects(standin: PiecesStandin) -> None:
    """A consumer that closes the iterator, or is cancelled while waiting, leaves no connection behind."""
    async with stream(standin) as notices:
        await anext(notices)
        assert standin.streams["identifiers"].connected == 1
        waiting = asyncio.ensure_future(anext(notices))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with asyncio.timeout(5):
        while standin.streams["identifiers"].connected:  # noqa: ASYNC110 - the stand-in rings no bell
            await asyncio.sleep(0)


@pytest.mark.parametrize("content_type", ["text/html", "text/plain"])
def test_a_page_of_what_stands_before_it_is_no_news_of_an_asset(content_type: str) -> None:
    """Its own 410 is text; a page with that status says nothing of what was deleted."""
    body = b"<!DOCTYPE html><html><body>This site is gone</body></html>"
    with pytest.raises(BadAnswer, match="HTTP 410: an HTML page in place of an answer"):
        pieces.read(Reply(410, {"Content-Type": content_type}, body), asset_id=ONE)
    gone = pieces.read(Reply(410, {"Content-Type": "text/plain"}, b"asset is gone"), asset_id=ONE)
    assert gone == Observation(ONE, State.MISSING)
