"""What the reads of one asset found, and how they fail. Owns the facts of `Knowledge` and `Trouble`; no clock, no I/O.

Must not know when the asset is read next (plan.py, which asks intervals.py with what is known here), nor who is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assetwatchd.model.values import Entry, Observation, State


class Trouble:
    """How the reads of an asset fail; there is one only while they do, as of most assets they do not.

    failures: reads in a row that failed though the source is well. why: of the last one, whoever is to blame.
    complained: the log has a line about it.
    """

    __slots__ = ("complained", "failures", "why")

    def __init__(self) -> None:
        self.failures = 0
        self.why = ""
        self.complained = False


class Knowledge:
    """What is known of one asset by its reads and notices; changed by these methods alone.

    observed_at: when the read began, or the notice came, that found what the store has (s since 1970); None: never.
    outdated: that is not so any more, or is to be looked at again, and no read of it is agreed on: it is read at once
    for whoever wants it next.
    unchanged_reads: reads in a row that found nothing new.
    state, gone: of the store's entry, so that planning need not look there; None and False without one.
    answer: digest of the answer that the store's entry is made of; empty while something else may be on its way there.
    negative_result: what the last read said of an asset that is not there and never was: told to who asks, not kept.
    trouble: how its reads fail; None if the last one ended well, or there was none.
    """

    __slots__ = ("answer", "gone", "negative_result", "observed_at", "outdated", "state", "trouble", "unchanged_reads")

    def __init__(self) -> None:
        self.observed_at: float | None = None
        self.outdated = False
        self.unchanged_reads = 0
        self.state: State | None = None
        self.gone = False
        self.answer = b""
        self.negative_result: Observation | None = None
        self.trouble: Trouble | None = None

    # Reading it ------------------------------------------------------------------------------------------------------

    @property
    def current_at(self) -> float | None:
        """When that was found which can be relied on; None: nothing can, and a read is due at once if it is wanted."""
        return None if self.outdated else self.observed_at

    @property
    def failures(self) -> int:
        """Reads in a row that failed though the source is well."""
        return 0 if self.trouble is None else self.trouble.failures

    @property
    def why_unread(self) -> str:
        """Why the last read failed; empty if it did not."""
        return "" if self.trouble is None else self.trouble.why

    @property
    def is_unread(self) -> bool:
        """Whether its first read is still to come: nothing can be relied on, and no reads of it fail."""
        return (self.outdated or self.observed_at is None) and not self.failures

    # What is found ---------------------------------------------------------------------------------------------------

    def restore(self, found_at: float, unchanged_reads: int) -> None:
        """Know again what the store has kept over a restart."""
        self.observed_at, self.unchanged_reads = found_at, unchanged_reads

    def mirror(self, entry: Entry | None, negative_result: Observation | None) -> None:
        """Take over what planning needs of the store's entry, or what was said of an asset that has none."""
        self.state, self.gone = (None, False) if entry is None else (entry.state, entry.gone)
        self.negative_result = negative_result

    def observe(self, at: float) -> None:
        """Note when that was found which the store has now."""
        self.observed_at, self.outdated = at, False

    def forget(self) -> None:
        """Know nothing of it any more: the store has it as forgotten."""
        self.observed_at, self.outdated = None, False

    def outdate(self) -> None:
        """Rely no more on what is known."""
        self.outdated = True

    def count_read(self, *, changed: bool) -> None:
        """Count how long it has been the same; changed: the store has another entry by what was seen."""
        self.unchanged_reads = 0 if changed else self.unchanged_reads + 1

    def confirm(self, at: float) -> None:
        """Note that a read which began then found what the store has."""
        self.observed_at, self.outdated = at, False
        self.unchanged_reads += 1

    def send(self, answer: bytes = b"") -> None:
        """Note that something goes to the store; answer: digest of the answer it is made of, if it is of one."""
        self.answer = answer

    # How it fails ----------------------------------------------------------------------------------------------------

    def count_failure(self) -> None:
        """Count a failed read against the asset."""
        self._troubled().failures += 1

    def take_back_failures(self, failures: int) -> None:
        """Count as many failed reads as before: it was the source that failed."""
        self._troubled().failures = failures

    def fail(self, why: str) -> None:
        """Keep why the last read failed, whoever is to blame."""
        self._troubled().why = why

    def complain(self) -> None:
        """Note that the log has a line about its reads."""
        self._troubled().complained = True

    def recover(self) -> bool:
        """Forget how its reads failed, as one ended well; return whether the log has a line about it."""
        trouble, self.trouble = self.trouble, None
        return trouble is not None and trouble.complained

    def _troubled(self) -> Trouble:
        if self.trouble is None:
            self.trouble = Trouble()
        return self.trouble
