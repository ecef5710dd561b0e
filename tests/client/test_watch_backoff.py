from __future__ import annotations

from assetwatch_client import Backoff
from assetwatchd.model import errors
from support.scripted_watch import (
    HANG,
    Script,
    bookmark,
    started,
)
from support.watch_client import AGAIN, FIRST, FOUND, calling


async def test_draining_server_is_given_the_time_it_asks_for() -> None:
    """RetryInfo is honoured: the next stream is not asked for earlier, and not much later."""
    draining = errors.ServerDraining(retry_after_s=0.08)
    async with calling([*FIRST, draining], (*AGAIN, HANG)) as (server, client):
        await client.until_told(FOUND, "Synced", "Synced")
    assert server.asked_at[1] - server.ended_at[0] >= 0.08
    assert 0.08 <= client.backoff.noted[0] <= 0.08 + client.backoff.max_s
    assert server.tokens == ["", "t1"]


async def test_server_that_refuses_its_own_tokens_is_not_hammered() -> None:
    """Snapshot, break, refused token, snapshot...: pauses grow."""
    refusal = errors.ResumeEpochChanged("another store")
    around: list[Script] = [[*FIRST, errors.SlowConsumer("slow")], [refusal]] * 3
    async with calling(*around, (*FIRST, HANG)) as (_, client):
        await client.until_told(FOUND, *["Synced"] * 4)
    assert len(client.backoff.noted) == 6
    assert all(client.backoff.noted)


async def test_stream_that_reached_its_age_is_resumed_at_once() -> None:
    """An end that is OK costs no pause."""
    async with calling([*FIRST, bookmark("t7")], (*AGAIN, HANG)) as (server, client):
        await client.until_told(FOUND, "Synced", "Synced")
    assert (client.backoff.noted, client.breaks) == ([0.0], [None])
    assert server.tokens == ["", "t7"]


async def test_streams_that_keep_ending_are_paused_between() -> None:
    """A server, or a proxy, that ends every stream OK is not hammered."""
    async with calling(*[AGAIN] * 4, (*AGAIN, HANG), resume_token="t1") as (_, client):
        await client.until_told(*["Synced"] * 5)
    assert client.backoff.noted[0] == 0
    assert all(client.backoff.noted[1:])


def test_pauses_double_with_full_jitter_up_to_a_limit() -> None:
    """Each pause is anything between nothing and a ceiling, which doubles from first_s to max_s."""
    tries = [Backoff(first_s=1, max_s=10) for _ in range(300)]
    for ceiling in (1, 2, 4, 8, 10, 10):
        pauses = [backoff.pause_s() for backoff in tries]
        assert 0 <= min(pauses) < 0.1 * ceiling
        assert 0.9 * ceiling < max(pauses) <= ceiling


def test_pauses_are_short_again_after_a_stream_that_held() -> None:
    """Only a stream in sync for settled_s makes the next pause short."""
    backoff = Backoff(first_s=1, max_s=1000, settled_s=60)
    for _ in range(5):
        backoff.pause_s()
    backoff.held(59)
    assert backoff.failures == 5
    backoff.held(60)
    assert backoff.failures == 0
    assert backoff.pause_s(failed=False) == 0


async def test_stream_that_held_makes_the_next_pause_short() -> None:
    """The time in sync is what counts: after enough of it, an end that is OK is resumed at once, again."""
    held: Script = (*AGAIN, 0.05)
    async with calling(held, held, held, (*AGAIN, HANG), resume_token="t1") as (_, client):
        client.backoff.settled_s = 0.04
        await client.until_told(*["Synced"] * 4)
    assert client.backoff.noted == [0, 0, 0]


async def test_stream_that_never_was_in_sync_did_not_hold() -> None:
    """Time before the stream is in sync does not count: the pauses go on growing."""
    long: Script = (started(resumed=True), 0.05)
    async with calling(long, long, (*AGAIN, HANG), resume_token="t1") as (_, client):
        client.backoff.settled_s = 0.04
        await client.until_told("Synced")
    assert client.backoff.failures == 2


def test_pause_asked_for_is_the_least() -> None:
    """What the server asks for comes before our own jitter, so that those told the same do not come at once."""
    backoff = Backoff(first_s=1)
    pauses = {backoff.pause_s(5.0) for _ in range(5)}
    assert len(pauses) == 5
    assert min(pauses) > 5
