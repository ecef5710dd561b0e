"""What lists and pushes say of an asset."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

from assetwatchd.polling import presence
from assetwatchd.polling.presence import ABSENCES_TO_BELIEVE, UNHEARD_OF, Presence

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.unit

CHANGES: dict[Callable[[Presence], Presence], dict[str, int]] = {
    presence.in_list: {"listed": True, "absences": 0, "back": False},
    presence.back_in_list: {"listed": True, "absences": 0, "back": True},
    presence.pushed: {"listed": True, "absences": 0},
    presence.unlisted: {"listed": False},
    presence.doubted: {"missing_unconfirmed": True},
    presence.confirmed: {"missing_unconfirmed": False},
    presence.told: {"back": False},
}
EVERY = [Presence(*what) for what in product((True, False), range(3), (True, False), (True, False))]


@pytest.mark.parametrize("before", EVERY)
def test_each_change_is_of_what_it_is_about(before: Presence) -> None:
    """Whatever was so before, a change sets what it says and leaves the rest; the old value stays as it was."""
    copy = Presence(*before)
    for change, sets in CHANGES.items():
        assert change(before)._asdict() == {**before._asdict(), **sets}
    lacked = presence.lacked(before)
    assert lacked == before._replace(absences=min(before.absences + 1, ABSENCES_TO_BELIEVE))
    assert before == copy


def test_there_are_few() -> None:
    """Whatever happens, however often, there are no more values than combinations, and all targets share them."""
    changes: list[Callable[[Presence], Presence]] = [*CHANGES, presence.lacked]
    seen = reached = {UNHEARD_OF}
    while reached:
        reached = {change(value) for value in reached for change in changes} - seen
        seen = seen | reached
    assert seen == set(EVERY)
    assert presence.in_list(UNHEARD_OF) is presence.in_list(Presence())
