"""What is known of an asset: what can be relied on, and how its reads fail."""

from __future__ import annotations

import pytest

from assetwatchd.polling.knowledge import Knowledge

pytestmark = pytest.mark.unit


def test_what_can_be_relied_on() -> None:
    """What was found last, until it is outdated or forgotten; a read, or a notice, makes it current again."""
    known = Knowledge()
    assert (known.current_at, known.is_unread) == (None, True)
    known.observe(5.0)
    assert (known.current_at, known.is_unread) == (5.0, False)
    known.outdate()
    assert (known.current_at, known.observed_at, known.is_unread) == (None, 5.0, True)
    known.confirm(7.0)
    assert (known.current_at, known.unchanged_reads) == (7.0, 1)
    known.forget()
    assert (known.current_at, known.observed_at) == (None, None)


def test_how_long_it_is_the_same() -> None:
    """Reads that find nothing new are counted, up to the first that does."""
    known = Knowledge()
    known.restore(1.0, 1)
    known.count_read(changed=False)
    known.confirm(2.0)
    assert known.unchanged_reads == 3
    known.count_read(changed=True)
    assert known.unchanged_reads == 0


def test_how_its_reads_fail() -> None:
    """The reason is there whoever is to blame, the count only if it was the asset; a read that ends well ends both."""
    known = Knowledge()
    assert (known.failures, known.why_unread, known.trouble) == (0, "", None)
    known.fail("no answer")
    assert (known.failures, known.why_unread, known.is_unread) == (0, "no answer", True)
    known.count_failure()
    known.count_failure()
    assert (known.failures, known.is_unread) == (2, False)
    known.take_back_failures(0)
    assert (known.failures, known.why_unread) == (0, "no answer")
    assert not known.recover()
    assert (known.trouble, known.why_unread) == (None, "")


def test_whether_the_log_complains() -> None:
    """Who ends the trouble learns whether there is a line about it to take back, once."""
    known = Knowledge()
    known.fail("no answer")
    known.complain()
    assert known.recover()
    assert not known.recover()
