"""What other replicas' clients watch, at the owner of a source."""

from __future__ import annotations

from typing import Any, cast

import pytest

from assetwatchd.model.errors import TooManyAssets
from assetwatchd.polling.interest import Interest
from assetwatchd.replicas.named import encode
from assetwatchd.replicas.owned import Owned

pytestmark = pytest.mark.unit


class Asked:
    """What a scheduler is asked to keep up to date; ids have no blanks."""

    def __init__(self) -> None:
        self.names: list[list[str]] = []
        self.room = 1000

    def check(self, asset_id: str) -> str | None:
        """Say what is wrong with an id."""
        return "a blank" if " " in asset_id else None

    def interest(self, names: list[str], *, whole: bool) -> Interest:
        """Note it."""
        assert not whole
        if sum(map(len, self.names)) + len(names) > self.room:
            raise TooManyAssets("src", self.room)
        self.names.append(names)
        return Interest(lambda: self.names.remove(names))


@pytest.mark.parametrize("value", [b"nonsense", encode(["a b"])])
def test_no_more_is_asked_for_than_a_client_could_watch(value: bytes) -> None:
    """Whoever can write to etcd has the upstream asked for nothing that is no id of it; and what was watched goes."""
    asked = Asked()
    owned = Owned(cast("Any", asked), 1, *[cast("Any", None)] * 3)
    owned.hold(("other", "1"), encode(["a", "b"]))
    assert asked.names == [["a", "b"]]
    owned.hold(("other", "1"), value)
    assert not any(asked.names)


async def test_what_found_no_room_is_held_once_there_is_some() -> None:
    """A bucket that was refused has watchers, and they go on watching."""
    asked = Asked()
    asked.room = 2
    owned = Owned(cast("Any", asked), 1, *[cast("Any", None)] * 3)
    told = {("other", "1"): encode(["a", "b"]), ("other", "2"): encode(["c"])}
    await owned.hold_all(told)
    assert asked.names == [["a", "b"]]
    asked.room = 3
    await owned.hold_all(told)
    assert asked.names == [["a", "b"], ["c"]]
    await owned.hold_all(told)
    assert asked.names == [["a", "b"], ["c"]]
