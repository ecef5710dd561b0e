"""The words of assetwatch as frozen values: assets, states, observations, entries, conditions. No I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from assetwatchd.model.details import Detail

REJECTED = "rejected"
"""The code of the failure of an asset that its upstream will not speak about."""
UNREADABLE = "unreadable"
"""The code of the failure of an asset whose reads fail again and again, though its source answers."""


class AssetKey(NamedTuple):
    """Names one asset: the configured source and the opaque id in it."""

    source: str
    asset_id: str


class State(enum.IntEnum):
    """The roll-up of an asset's facets; numbers as in the schema."""

    PENDING = 1
    PROCESSING = 2
    AVAILABLE = 3
    OUT_OF_SYNC = 4
    FAILED = 5
    DELETING = 6
    DELETED = 7
    MISSING = 8
    UNSUPPORTED = 9
    UNKNOWN = 10


SETTLED = frozenset({State.AVAILABLE, State.FAILED, State.DELETED, State.MISSING, State.UNSUPPORTED})
"""States in which nothing more is expected to happen by itself."""

GONE = frozenset({State.DELETED, State.MISSING})
"""States of an asset that its source does not have."""


class Freshness(enum.IntEnum):
    """The degree to which our copy can be trusted; numbers as in the schema."""

    FRESH = 1
    STALE = 2
    UNREACHABLE = 3


class View(enum.IntEnum):
    """The amount of a status that is told; numbers as in the schema."""

    BASIC = 1
    FULL = 2


class FailureKind(enum.IntEnum):
    """The reaction that a failure asks for; numbers as in the schema."""

    RETRYABLE = 1
    PERMANENT = 2
    DEGRADED = 3


class SourceKind(enum.IntEnum):
    """The kinds of upstream; numbers as in the schema."""

    USD_SEARCH = 1
    OMN = 2
    PIECES = 3
    MEDIA_INTELLIGENCE = 4
    ORACLE_SBC = 5


class ConditionState(enum.IntEnum):
    """The state of a source itself; numbers as in the schema."""

    UNKNOWN = 1
    HEALTHY = 2
    DEGRADED = 3
    UNREACHABLE = 4
    REFUSED = 5

    @property
    def is_readable(self) -> bool:
        """Tell whether the source can be read now."""
        return self in (ConditionState.HEALTHY, ConditionState.DEGRADED)

    @property
    def is_amiss(self) -> bool:
        """Tell whether something is known to be wrong; a source that nothing was heard of yet is not."""
        return self not in (ConditionState.UNKNOWN, ConditionState.HEALTHY)


class Concern(enum.IntEnum):
    """One duty of a source towards us, each of which can fail by itself; numbers as in the schema."""

    READS = 1
    LIST = 2
    PUSH = 3
    CREDENTIALS = 4
    STORE = 5


@dataclass(frozen=True, slots=True)
class Facet:
    """One dimension of a status, as the upstream sees it."""

    name: str
    state: State
    native: str
    message: str = ""
    change_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why an asset failed, or is usable only in part; code and message are the upstream's own."""

    kind: FailureKind
    code: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """One asset as an adapter read it, normalised. Whoever reads adds the source and the moment.

    cut: the upstream said more than is kept (`bounds`); only facets, failure and detail lack some of it.
    answer: digest of all that it was made of, so that the same answer need not be read again; empty when it is no help.
    """

    asset_id: str
    state: State
    facets: tuple[Facet, ...] = ()
    failure: Failure | None = None
    locked: bool = False
    change_time: datetime | None = None
    detail: Detail | None = None
    cut: bool = False
    answer: bytes = field(default=b"", compare=False, repr=False)

    @property
    def proves_nothing(self) -> bool:
        """Tell whether it is no evidence of an asset: it is missing, its upstream rejects it, or its reads fail."""
        untold = self.failure is not None and self.failure.code in (REJECTED, UNREADABLE)
        return self.state is State.MISSING or (self.state is State.UNKNOWN and untold)


def forgotten(entry: Entry) -> bool:
    """Whether an entry is gone only because nobody asked for it for long."""
    return entry.gone and entry.state not in GONE


def unreadable(asset_id: str, why: str) -> Observation:
    """Return what is known of an asset that was never read, as its reads fail."""
    return Observation(asset_id, State.UNKNOWN, failure=Failure(FailureKind.RETRYABLE, UNREADABLE, why))


@dataclass(slots=True)
class Entry:
    """The latest committed content of one asset, encoded once. Nothing of it changes but basic, which is filled once.

    revision: the number it got when it was committed.
    gone: the source does not have the asset; whoever watches the whole source is told REMOVED.
    digest: of the content, so that a read that found the same can be told from a change.
    upsert: the change as bytes of WatchStatusResponse.changes, an UPSERT.
    found_at: when what it says was found (a read: when that began), seconds since 1970. Freshness counts from here.
    committed_at: when it got its revision, seconds since 1970. How late it is told, and how long a removal is kept,
        count from here: what is found while the store fails may be committed an hour later.
    traceparent: W3C trace context of the read or notice that found it; empty when it was not traced.
    basic: the same change in the view BASIC, once somebody wanted it (`encoding.form_of`); empty before.
    """

    # Final and not frozen: to make a frozen one takes seven times as long, and many are made before a server is there.
    key: Final[AssetKey]
    revision: Final[int]
    state: Final[State]
    gone: Final[bool]
    freshness: Final[Freshness]
    digest: Final[bytes]
    upsert: Final[bytes]
    found_at: Final[float]
    committed_at: Final[float]
    traceparent: Final[str] = ""
    basic: bytes = field(default=b"", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ConcernCondition:
    """The condition of one concern of a source. Times: seconds since 1970; next_try_at: None when none is planned."""

    concern: Concern
    state: ConditionState
    message: str
    since: float
    last_success_at: float | None = None
    next_try_at: float | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """The condition of a source: that of each concern of which anything was heard, and what they come to together.

    Times are seconds since 1970; next_try_at: when what fails is tried next, None when nothing does or none is planned.
    """

    state: ConditionState
    message: str
    since: float
    last_success_at: float | None = None
    next_try_at: float | None = None
    concerns: tuple[ConcernCondition, ...] = ()

    @property
    def readable(self) -> bool:
        """Tell whether the source can be read now."""
        return self.state.is_readable
