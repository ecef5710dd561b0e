"""The one slot of a device: the last asynchronous operation of anybody, without id, time or history."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from assetwatch_sandbox.oracle_sbc.switches import OracleSbcSwitches
from assetwatch_sandbox.oracle_sbc.triple import slot_data, triple

State = dict[str, object]

ASSET_ID = "last-operation"
SUCCESS = "success"
FIELDS: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {"operation": (str,), "status": (str,), "message": (str,), "additionalInfo": (dict, str)}
)


class Ending(NamedTuple):
    """The moment, in epoch seconds, and the state in which a running operation ends."""

    at_s: float
    state: State


class Slot:
    """The last operation of one node; one that runs settles by the clock, as soon as anyone looks."""

    def __init__(self, clock: Callable[[], float], changed: Callable[[State | None], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._state: State | None = None
        self._ending: Ending | None = None

    @property
    def state(self) -> State | None:
        """Return what a status call would tell now; None when nothing ran since boot."""
        if self._ending is not None and self._ending.at_s <= self._clock():
            self.overwrite(self._ending.state)
        return self._state

    @property
    def is_running(self) -> bool:
        """Return whether an operation started here has yet to end."""
        return self.state is not None and self._ending is not None

    def overwrite(self, state: State | None) -> None:
        """Put something else into the slot; what ran there is never heard of again."""
        # First: `state` overwrites what has ended, and must not find that operation once more.
        self._ending = None
        if state != self._state:
            self._state = state
            self._changed(state)

    def start(self, running: State, ended: State, *, duration_s: float) -> None:
        """Show an operation as running, and as ended after duration_s of the clock."""
        self.overwrite(running)
        self._ending = Ending(self._clock() + duration_s, ended)

    def finish(self) -> None:
        """End what is running now."""
        if self._ending is not None:
            self.overwrite(self._ending.state)


def checked(native: Mapping[str, object]) -> State:
    """Return a slot's native fields without those that are null.

    Raises: ValueError for an unknown field, one of the wrong type, or text and names that XML cannot hold.
    """
    state = {name: value for name, value in native.items() if value is not None}
    for name, value in state.items():
        if name not in FIELDS or not isinstance(value, FIELDS[name]):
            raise ValueError(f"{name} is not a field of the slot, or not of its type; fields: {', '.join(FIELDS)}")
    triple(slot_data(state, OracleSbcSwitches()))
    return state


def outcome(operation: str, status: str, *, message: str | None = None, info: object = None) -> State:
    """Return the state of an operation."""
    return checked({"operation": operation, "status": status, "message": message, "additionalInfo": info})
